"""The one import of dask_jobqueue, which has SIGINT end the process, with exit 0, from then on."""

import signal

_KINDS = (signal.SIGINT, signal.SIGTERM)
_handlers = {kind: signal.getsignal(kind) for kind in _KINDS}
signal.pthread_sigmask(signal.SIG_BLOCK, _KINDS)  # what comes meanwhile comes a moment later

from dask_jobqueue.slurm import SLURMJob  # noqa: E402

for _kind, _handler in _handlers.items():
    signal.signal(_kind, _handler)
signal.pthread_sigmask(signal.SIG_UNBLOCK, _KINDS)

__all__ = ["SLURMJob"]
