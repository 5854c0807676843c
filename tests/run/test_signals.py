"""Signals that tell a run to stop, whenever they come."""

import os
import signal

import pytest

from cah_dask.run.signals import Signals, Stopped


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_that_nobody_listens_to_stops_at_once(kind: signal.Signals):
    before = signal.getsignal(kind)
    with Signals(), pytest.raises(Stopped) as stopped:
        os.kill(os.getpid(), kind)
    assert stopped.value.kind is kind
    assert signal.getsignal(kind) is before


def test_a_listener_hears_every_signal_while_it_listens():
    heard: list[signal.Signals] = []
    with Signals() as signals:
        with signals.heard_by(heard.append):
            os.kill(os.getpid(), signal.SIGUSR2)
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGTERM)
    assert heard == [signal.SIGUSR2, signal.SIGTERM]
