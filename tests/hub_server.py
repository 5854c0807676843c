"""A model hub on loopback: answers like the hub for files in ``root/ORG/NAME``."""

import contextlib
import hashlib
import threading
from collections.abc import Collection, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

COMMIT = "c" * 40


class _Handler(BaseHTTPRequestHandler):
    root: ClassVar[Path]
    asked: ClassVar[list[str]]
    withheld: ClassVar[set[str]]

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        self.asked.append(f"{self.command} {self.path}")
        repository, _, rest = self.path.lstrip("/").partition("/resolve/")
        path = self.root / repository / rest.partition("/")[2]
        if self.path.startswith("/api/"):  # what else a repository has
            self._refuse("EntryNotFound")
        elif rest.partition("/")[2] in self.withheld:
            self._refuse("", status=403)
        elif not (self.root / repository).is_dir():
            self._refuse("RepoNotFound")
        elif not path.is_file():
            self._refuse("EntryNotFound")
        else:
            data = path.read_bytes()
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if with_body:
                self.wfile.write(data)

    def _refuse(self, code: str, *, status: int = 404) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        pass


@contextlib.contextmanager
def serve_hub(root: Path, withheld: Collection[str] = ()) -> Iterator[tuple[str, list[str]]]:
    """Give the address of the hub, and the list of what was asked for, as `GET /path`.

    For files of `withheld`, by their names within a repository, it answers that they are not given.
    """
    asked: list[str] = []
    members = {"root": root, "asked": asked, "withheld": {*withheld}}
    handler = type("Handler", (_Handler,), members)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()
