"""A loopback server for one file, with the faults that servers of archives have."""

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """What is served and how badly; `requests` holds the Range header of each request."""

    content: bytes
    cut_after: int | None = None
    """Close the connection after so many bytes of each answer."""
    failures: list[int] = field(default_factory=list)
    """Statuses of the first answers."""
    retry_after: str = ""
    location: str = ""
    has_ranges: bool = True
    has_length: bool = True
    etags: list[str] = field(default_factory=lambda: ['"v1"'])
    """ETag of each answer in turn; the last one stays."""
    requests: list[str | None] = field(default_factory=list)
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests.append(handler.headers["Range"])
        if self.failures:
            handler.send_response(self.failures.pop(0))
            handler.send_header("Content-Length", "0")
            if self.retry_after:
                handler.send_header("Retry-After", self.retry_after)
            if self.location:
                handler.send_header("Location", self.location)
            handler.end_headers()
            return
        etag = self.etags.pop(0) if len(self.etags) > 1 else self.etags[0]
        start = self._start(handler, etag)
        if start >= len(self.content) > 0:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(self.content)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        handler.send_header("ETag", etag)
        if self.has_length:
            handler.send_header("Content-Length", str(len(self.content) - start))
        if start:
            last, size = len(self.content) - 1, len(self.content)
            handler.send_header("Content-Range", f"bytes {start}-{last}/{size}")
        handler.end_headers()
        stop = None if self.cut_after is None else start + self.cut_after
        handler.wfile.write(self.content[start:stop])

    def _start(self, handler: BaseHTTPRequestHandler, etag: str) -> int:
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers["Range"] or "")
        is_same = handler.headers["If-Range"] in (None, etag)
        return int(asked[1]) if asked and self.has_ranges and is_same else 0


@contextlib.contextmanager
def serve(server: FileServer, name: str = "x.warc.wat.gz") -> Iterator[FileServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            server.answer(self)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        server.url = f"http://127.0.0.1:{http.server_port}/{name}"
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
