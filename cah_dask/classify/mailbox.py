"""Memory in which one of two processes leaves what the other takes, in turn.

A socket tells the other that there is something; through it alone a batch of pages would be copied
twice as often.
"""

import os
from multiprocessing.connection import Connection

_LENGTH_BYTES = 8
_KEPT_BYTES = 64 << 20


class Mailbox:
    """One end of the way between two processes.

    Parameters
    ----------
    memory
        Descriptor of memory that both have; it is closed with the mailbox.
    socket
        Descriptor of one end of a pair.
    """

    def __init__(self, memory: int, socket: int) -> None:
        self._memory = memory
        self._connection = Connection(socket)

    def send(self, data: bytes) -> None:
        """Leave something for the other, who has taken what was there; raise OSError if it died."""
        view, at = memoryview(data), 0
        while at < len(data):
            at += os.pwrite(self._memory, view[at:], at)
        self._connection.send_bytes(len(data).to_bytes(_LENGTH_BYTES))

    def poll(self, seconds: float) -> bool:
        """Wait until there is something, or the other is gone; tell whether it is so in time."""
        return self._connection.poll(seconds)

    def receive(self) -> bytes:
        """Take what the other left; raise EOFError or OSError if it is gone."""
        n_bytes = int.from_bytes(self._connection.recv_bytes(_LENGTH_BYTES))
        pieces, at = [], 0
        while at < n_bytes:
            piece = os.pread(self._memory, n_bytes - at, at)
            if not piece:
                raise EOFError
            pieces.append(piece)
            at += len(piece)
        if n_bytes > _KEPT_BYTES:
            os.ftruncate(self._memory, 0)
        return b"".join(pieces)

    def close(self) -> None:
        """Let go of both."""
        self._connection.close()
        os.close(self._memory)
