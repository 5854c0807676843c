"""What one process leaves, the other takes: bytes of any length, in turn."""

import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.classify.mailbox import Mailbox


@pytest.fixture(scope="module")
def ends() -> Iterator[tuple[Mailbox, Mailbox]]:
    memory = os.memfd_create("mailbox")
    ours, theirs = socket.socketpair()
    pair = Mailbox(memory, ours.detach()), Mailbox(os.dup(memory), theirs.detach())
    yield pair
    for end in pair:
        end.close()


@given(st.lists(st.binary(max_size=2000), max_size=6))
def test_what_is_left_is_taken(ends: tuple[Mailbox, Mailbox], messages: list[bytes]):
    one, other = ends
    for message in messages:
        one.send(message)
        assert other.poll(1)
        assert other.receive() == message
        other.send(message[::-1])
        assert one.receive() == message[::-1]


def test_memory_that_was_needed_once_is_given_back(ends: tuple[Mailbox, Mailbox]):
    one, other = ends
    data = bytes(70 << 20)
    one.send(data)
    assert other.receive() == data
    one.send(b"short")
    assert other.receive() == b"short"


def test_the_end_of_the_other_is_noticed():
    ours, theirs = socket.socketpair()
    mailbox = Mailbox(os.memfd_create("mailbox"), ours.detach())
    theirs.close()
    assert mailbox.poll(1)
    with pytest.raises((EOFError, OSError)):
        mailbox.receive()
    with pytest.raises(OSError, match=r"Broken pipe|reset"):
        mailbox.send(b"for nobody")
    mailbox.close()
