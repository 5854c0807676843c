"""The fetch lists that are being downloaded, by what each writes down of itself."""

import contextlib
import time
from collections import Counter

from cah_dask.images.list_progress import read_progress
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.watch.figures import ListsFigures

FORGOTTEN_S = 120.0
"""Age from which a file is that of a worker that died."""

HOSTS = 5
"""Hosts that are named, those with the most urls to go."""


def lists_at_work(folder: RunFolder) -> ListsFigures:
    """Add up how far the lists are that were written down lately."""
    n_lists, n_urls, done, again, n_bytes = 0, 0, 0, 0, 0
    rate = 0.0
    hosts: Counter[str] = Counter()
    for path in folder.progress_dir.glob("*.json"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > FORGOTTEN_S:
                continue
            if found := read_progress(path):
                n_lists += 1
                n_urls += found.urls
                done += found.done
                again += found.again
                n_bytes += found.n_bytes
                rate += found.n_bytes / max(found.seconds, 1.0)
                hosts.update(found.hosts)
    return ListsFigures(
        lists=n_lists,
        urls=n_urls,
        done=done,
        again=again,
        n_bytes=n_bytes,
        bytes_per_s=rate,
        hosts=dict(hosts.most_common(HOSTS)),
    )
