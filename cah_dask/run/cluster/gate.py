"""A token before everything that the scheduler's HTTP server has: pages, JSON, metrics, websockets.

Dask has no authentication of its own, and any user of a node can reach its loopback. The gate
wraps the router, so it holds for routes that are added later too. It rests on ``find_handler`` of
Tornado's Application, which a test holds down.
"""

import hashlib
import hmac
from typing import Any

from distributed import Scheduler
from tornado.httputil import HTTPServerRequest
from tornado.web import Application, RequestHandler

from cah_dask.run.cluster.private_parts import http_application


def gated_scheduler(*, token: str, **options: Any) -> Scheduler:
    """Return a scheduler whose HTTP server answers nobody without the token.

    The server listens from its construction on, but answers only when the event loop runs again:
    the gate is shut before the first request.
    """
    scheduler = Scheduler(**options)
    close_gate(http_application(scheduler), token)
    return scheduler


def close_gate(application: Application, token: str) -> None:
    """Let only requests with the token pass; one in a link becomes a cookie of another value.

    Cookies belong to a host, not to a port: who listens there next would be sent it.
    """
    find = application.find_handler
    name, value = cookie_of(token)

    def guarded(request: HTTPServerRequest, **details: Any) -> Any:
        if _is_known(request, token, name, value):
            return find(request, **details)
        if _same(_query_token(request), token):
            return application.get_handler_delegate(request, _Login, {"name": name, "value": value})
        return application.get_handler_delegate(request, _Denied)

    application.find_handler = guarded  # type: ignore[method-assign]  # the one way in


def cookie_of(token: str) -> tuple[str, str]:
    """Return name and value of the cookie, of its own for each driver."""
    made = hmac.new(token.encode(), b"cookie", hashlib.sha256).hexdigest()
    return f"cah_{hashlib.sha256(token.encode()).hexdigest()[:8]}", made


def _is_known(request: HTTPServerRequest, token: str, name: str, value: str) -> bool:
    sent = request.cookies.get(name)
    bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
    return _same(bearer, token) or (sent is not None and _same(sent.value, value))


def _query_token(request: HTTPServerRequest) -> str:
    return request.query_arguments.get("token", [b""])[-1].decode("utf-8", "replace")


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


class _Login(RequestHandler):
    """Set the cookie and show the same page without the token in the address."""

    def initialize(self, name: str, value: str) -> None:
        self._name, self._value = name, value

    def prepare(self) -> None:
        self.set_cookie(self._name, self._value, httponly=True, samesite="Strict")
        self.redirect("/" + self.request.path.lstrip("/"))


class _Denied(RequestHandler):
    """Say nothing but that a token is needed."""

    def prepare(self) -> None:
        self.set_status(401)
        self.finish("401: open the link in dashboard.txt of the run folder\n")
