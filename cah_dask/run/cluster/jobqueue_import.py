"""The one import of dask_jobqueue, which would have SIGINT end this process, with exit 0.

It sets a handler when it is imported, and a signal that comes before ours is set again would be
taken for the end of all work. So it finds no way to set one.
"""

import signal
from unittest.mock import patch

with patch.object(signal, "signal"):
    from dask_jobqueue.slurm import SLURMJob

__all__ = ["SLURMJob"]
