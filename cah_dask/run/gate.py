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


def gated_scheduler(*, token: str, **options: Any) -> Scheduler:
    """Return a scheduler whose HTTP server answers nobody without the token.

    The server listens from its construction on, but answers only when the event loop runs again:
    the gate is shut before the first request.
    """
    scheduler = Scheduler(**options)
    close_gate(scheduler.http_application, token)
    return scheduler


def close_gate(application: Application, token: str) -> None:
    """Let only requests with the token pass; one in a link becomes a cookie."""
    find = application.find_handler
    cookie = cookie_name(token)

    def guarded(request: HTTPServerRequest, **details: Any) -> Any:
        if _is_known(request, token, cookie):
            return find(request, **details)
        if _same(_query_token(request), token):
            return application.get_handler_delegate(
                request, _Login, {"cookie": cookie, "token": token}
            )
        return application.get_handler_delegate(request, _Denied)

    application.find_handler = guarded  # type: ignore[method-assign]  # the one way in


def cookie_name(token: str) -> str:
    """Return a name of its own for each run: browsers share cookies between ports of a host."""
    return f"cah_{hashlib.sha256(token.encode()).hexdigest()[:8]}"


def _is_known(request: HTTPServerRequest, token: str, cookie: str) -> bool:
    sent = request.cookies.get(cookie)
    bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
    return _same(bearer, token) or (sent is not None and _same(sent.value, token))


def _query_token(request: HTTPServerRequest) -> str:
    return request.query_arguments.get("token", [b""])[-1].decode("utf-8", "replace")


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


class _Login(RequestHandler):
    """Keep the token as a cookie and show the same page without it in the address."""

    def initialize(self, cookie: str, token: str) -> None:
        self._cookie, self._token = cookie, token

    def prepare(self) -> None:
        self.set_cookie(self._cookie, self._token, httponly=True, samesite="Strict")
        self.redirect("/" + self.request.path.lstrip("/"))


class _Denied(RequestHandler):
    """Say nothing but that a token is needed."""

    def prepare(self) -> None:
        self.set_status(401)
        self.finish("401: open the link in dashboard.txt of the run folder\n")
