"""A server at a forbidden address never hears of us, whatever leads there."""

import contextlib
import socket
import threading
from pathlib import Path
from typing import Self

import pytest

from cah_dask.images.download import download_list
from cah_dask.images.manners.hosts import HostOptions
from cah_dask.images.options import DownloadOptions
from cah_dask.images.picture.decode import DecodeOptions
from tests.nameserver import NameServer
from tests.webserver import WebServer

INNER = "127.0.0.2"
"""Loopback like 127.0.0.1, but only that one is allowed."""


class Listener:
    """Counts connections to a port of the forbidden address; a context manager."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_server((INNER, port))
        self._thread = threading.Thread(target=self._accept)
        self.connections = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._socket.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._socket.accept()[0].close()
                self.connections += 1


def ways_in(port: int) -> list[str]:
    """Return urls that lead to the forbidden address."""
    hosts = [
        INNER,
        "127.2",
        "2130706434",
        "0x7f000002",
        "0177.0.0.2",
        "127.0.0.2.",
        "%31%32%37.0.0.2",
        "\uff11\uff12\uff17.0.0.2",
        "[::ffff:127.0.0.2]",
        "[::ffff:7f00:2]",
        "[64:ff9b::7f00:2]",
        "[2002:7f00:2::]",
        "user:password@127.0.0.2",
        "inner.example",
    ]
    return [f"http://{host}:{port}/ok.jpg" for host in hosts]


@pytest.mark.parametrize("way", ["literal", "redirect", "robots", "two redirects"])
def test_no_way_leads_to_a_forbidden_address(tmp_path: Path, way: str):
    names = {"inner.example": INNER, "outer.example": "127.0.0.1"}
    with WebServer() as web, Listener(web.port) as inner, NameServer(names) as nameserver:
        targets = ways_in(web.port)
        outer = [web.url(f"/redirect.jpg?to={target}", "outer.example") for target in targets]
        match way:
            case "literal":
                urls = targets
            case "redirect":
                urls = outer
            case "two redirects":
                urls = [web.url(f"/redirect.jpg?to={url}", "outer.example") for url in outer]
            case "robots":
                urls = [web.url(f"/ok-{n}.jpg", f"r{n}.test") for n in range(len(targets))]
                web.moved = {f"r{n}.test": target for n, target in enumerate(targets)}
        options = DownloadOptions(
            contact="me@lab.example",
            resolve={"*.test": "127.0.0.1"},
            nameservers=(nameserver.address,),
            allow_addresses=("127.0.0.1/32",),
            allow_ports=(web.port,),
            hosts=HostOptions(spacing_s=0),
            retries=0,
            alarm_share=0,
            decoders=1,
        )
        made = download_list(urls, tmp_path / "a.h5", options, DecodeOptions())
        assert inner.connections == 0
        with socket.create_connection((INNER, web.port)):  # it would have been seen
            pass
    assert made.counts.kept == 0
    if way == "robots":
        assert set(made.counts.rejected) == {"robots_unreachable"}
    else:
        assert set(made.counts.rejected) <= {"blocked_address", "bad_url", "redirect_invalid"}
        assert made.counts.rejected["blocked_address"] >= len(urls) - 2
