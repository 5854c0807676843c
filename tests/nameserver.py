"""A name server on loopback that knows a few names, counts questions, and can keep silent."""

import socket
import struct
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Self

_NXDOMAIN, _SERVFAIL = 3, 2


class NameServer:
    """Runs in a thread of its own; a context manager. Names map to addresses, or to an rcode."""

    NXDOMAIN, SERVFAIL = _NXDOMAIN, _SERVFAIL

    def __init__(self, names: Mapping[str, str | int], delay_s: float = 0.0) -> None:
        self.names = names
        self._delay_s = delay_s
        self.questions: Counter[str] = Counter()
        self.answers = 0

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join(10)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            question, peer = self._socket.recvfrom(4096)
            if not question:
                return
            name, end = _name(question)
            self.questions[name] += 1
            threading.Event().wait(self._delay_s)
            self._socket.sendto(_answer(question, end, self.names.get(name, _NXDOMAIN)), peer)
            self.answers += 1


def _name(question: bytes) -> tuple[str, int]:
    labels, at = [], 12
    while question[at]:
        labels.append(question[at + 1 : at + 1 + question[at]].decode())
        at += 1 + question[at]
    return ".".join(labels).lower(), at + 5


def _answer(question: bytes, end: int, known: str | int) -> bytes:
    is_a = question[end - 4 : end - 2] == b"\0\1"
    rcode = known if isinstance(known, int) else 0
    records = 1 if isinstance(known, str) and is_a else 0
    head = question[:2] + struct.pack(">HHHHH", 0x8180 | rcode, 1, records, 0, 0)
    body = question[12:end]
    if records:
        body += b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(str(known))
    return head + body
