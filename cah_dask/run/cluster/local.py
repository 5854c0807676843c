"""Workers on the driver's own machine: one process each, as many as their pools say, always."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dask
from distributed import Nanny

from cah_dask.run.cluster.access import Access
from cah_dask.run.folder.job_folder import SCRATCH_FOLDER
from cah_dask.run.pools import Pool


def local_workers(
    pools: Iterable[Pool], run_dir: Path, access: Access
) -> dict[str, dict[str, Any]]:
    """Return what ``SpecCluster`` wants to know of every worker of the pools without jobs."""
    return {
        f"{pool.name}-{number}": {
            "cls": Nanny,
            "options": _options(pool, number, run_dir / SCRATCH_FOLDER, access),
        }
        for pool in pools
        if pool.job is None
        for number in range(pool.workers)
    }


def _options(pool: Pool, number: int, scratch: Path, access: Access) -> dict[str, Any]:
    environment = {"OMP_NUM_THREADS": str(pool.threads), "MKL_NUM_THREADS": str(pool.threads)}
    if pool.name == "gpu" and pool.workers > 1:
        given = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(pool.workers)))
        devices = given.split(",")
        environment["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)]
    return {
        "host": "127.0.0.1",
        "protocol": "tls",
        "security": access.security(),
        "nthreads": pool.tasks_at_once,
        "resources": pool.offered,
        "memory_limit": 0,
        "dashboard": False,
        "local_directory": str(scratch),
        "preload": ["cah_dask.run.cluster.worker"],
        "env": environment,
        "config": dask.config.global_config,
    }
