"""The dashboard says nothing to those who do not hold the run's token."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from distributed import Client, Security

from cah_dask.run.cluster.access import Access, dashboard, grant, write_private
from cah_dask.run.cluster.gate import cookie_of, gated_scheduler

PATHS = [
    "/status",
    "/info/main/workers.html",
    "/json/identity.json",
    "/json/counts.json",
    "/metrics",
    "/cah",
    "/cah.json",
    "/health",
    "/sitemap.json",
    "/statics/images/favicon.ico",
    "/api/v1/retire_workers",
    "/no-such-page",
]


def with_dashboard(tmp_path: Path, use: Callable[[str, Access], Awaitable[None]]) -> None:
    """Run `use` with the address and secrets of a live scheduler."""

    async def run() -> None:
        access = grant(tmp_path / "secrets")
        async with gated_scheduler(
            token=access.token,
            host="127.0.0.1",
            protocol="tls",
            security=access.security(),
            dashboard=True,
            dashboard_address="127.0.0.1:0",
        ) as scheduler:
            await use(f"http://127.0.0.1:{scheduler.http_server.port}", access)

    asyncio.run(run())


def test_everything_is_refused_without_the_token(tmp_path: Path):
    async def use(site: str, access: Access) -> None:
        wrong = {"Authorization": f"Bearer {access.token[:-1]}"}
        name, _ = cookie_of(access.token)
        cookies = {name: access.token}  # the token itself opens nothing as a cookie
        async with aiohttp.ClientSession() as session:
            tries: list[dict[str, Any]] = [{}, {"headers": wrong}, {"cookies": cookies}]
            for path in PATHS:
                for options in tries:
                    for url in (site + path, f"{site}{path}?token=x", f"{site}{path}?token="):
                        async with session.get(url, **options) as answer:
                            assert answer.status == 401, url
            async with session.post(site + "/api/v1/retire_workers") as answer:
                assert answer.status == 401

    with_dashboard(tmp_path, use)


def test_websockets_are_refused_without_the_token_and_opened_with_it(tmp_path: Path):
    async def use(site: str, access: Access) -> None:
        known = {"Authorization": f"Bearer {access.token}"}
        async with aiohttp.ClientSession() as session:
            for path in ("/status/ws", "/eventstream"):
                with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                    await session.ws_connect(site + path)
                assert refused.value.status == 401
            async with session.ws_connect(f"{site}/eventstream", headers=known) as socket:
                assert not socket.closed

    with_dashboard(tmp_path, use)


def test_a_client_without_the_certificate_of_the_run_is_refused(tmp_path: Path):
    async def run() -> None:
        access = grant(tmp_path / "secrets")
        options: dict[str, Any] = {
            "host": "127.0.0.1",
            "protocol": "tls",
            "dashboard_address": "127.0.0.1:0",
        }
        async with gated_scheduler(
            token=access.token, security=access.security(), **options
        ) as scheduler:
            own = {"security": access.security(), "asynchronous": True}
            async with Client(scheduler.address, **own) as client:
                assert client.status == "running"
            plain = scheduler.address.replace("tls://", "tcp://")
            other = {"security": Security.temporary(), "asynchronous": True}
            for address, options in ((scheduler.address, other), (plain, {"asynchronous": True})):
                with pytest.raises(OSError, match=r"Timed out|certificate|ConnectionResetError"):
                    await Client(address, timeout=1, **options)

    asyncio.run(run())


def test_the_link_lets_a_browser_in_and_hides_the_token(tmp_path: Path):
    async def use(site: str, access: Access) -> None:
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar) as session:
            port = int(site.rpartition(":")[2])
            async with session.get(dashboard(port, access, None).link) as answer:
                assert answer.status == 200
                assert str(answer.url) == f"{site}/status"
                assert "Dask" in await answer.text()
            async with session.get(f"{site}/metrics") as answer:
                assert answer.status == 200
        (cookie,) = jar
        assert cookie["httponly"]
        assert cookie["samesite"] == "Strict"
        assert access.token not in cookie.value
        assert cookie_of("another token") != (cookie.key, cookie.value)

    with_dashboard(tmp_path, use)


def test_a_link_cannot_lead_elsewhere(tmp_path: Path):
    async def use(site: str, access: Access) -> None:
        async with aiohttp.ClientSession() as session:
            url = f"{site}//elsewhere.example/?token={access.token}"
            async with session.get(url, allow_redirects=False) as answer:
                assert answer.headers["Location"] == "/elsewhere.example/"

    with_dashboard(tmp_path, use)


def test_secrets_are_for_the_owner_alone_and_new_for_each_driver(tmp_path: Path):
    folder = tmp_path / "secrets"
    first, second = grant(folder), grant(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert first.token != second.token == (folder / "token").read_text()
    assert len(first.token) >= 32


def test_the_way_to_the_dashboard_is_written_down_for_the_owner(tmp_path: Path):
    access = grant(tmp_path / "secrets")
    way = dashboard(40_000, access, "me@login.example.org")
    way.write(tmp_path / "dashboard.txt")
    text = (tmp_path / "dashboard.txt").read_text()
    assert (tmp_path / "dashboard.txt").stat().st_mode & 0o777 == 0o600
    assert "ssh -N -L 8787:127.0.0.1:40000 -J me@login.example.org " in text
    assert f"http://127.0.0.1:8787/status?token={access.token}" in text
    assert access.token not in way.tunnel


def test_a_private_file_is_replaced_whole(tmp_path: Path):
    path = write_private(tmp_path / "x", "one")
    write_private(path, "two")
    assert path.read_text() == "two"
    assert list(tmp_path.iterdir()) == [path]
