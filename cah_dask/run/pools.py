"""Pools of worker processes on this machine, behind one scheduler with TLS.

A task asks for its pool by a Dask resource, so no GPU worker ever takes CPU work. Restricted tasks
are never queued by the scheduler: the driver keeps a bounded number of them in flight instead.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dask
import msgspec
from distributed import Nanny, Scheduler, Security, SpecCluster

from cah_dask.run.config import PoolOptions, PoolsOptions
from cah_dask.run.plan import Stage


class Pool(msgspec.Struct, frozen=True):
    """Workers of one kind: how many tasks run at once, and which stages they serve, in order."""

    name: str
    slots: int
    threads: int
    stages: tuple[Stage, ...]

    @property
    def resources(self) -> dict[str, float]:
        """What a task of this pool asks for, and a worker of it offers once."""
        return {self.name.upper(): 1}

    @property
    def window(self) -> int:
        """Tasks that may be in flight: one for each slot and one waiting, so that none idles."""
        return self.slots + 1


def pools(options: PoolsOptions) -> tuple[Pool, ...]:
    """Return the pools of a run; what is nearest to the release comes first in each."""
    cpu_stages = (Stage.PACK, Stage.DOWNLOAD, Stage.DEDUP, Stage.EXTRACT)
    return (
        _pool("gpu", options.gpu, (Stage.EMBED,), default=max(1, visible_gpus())),
        _pool("cpu", options.cpu, cpu_stages, default=os.cpu_count() or 1),
    )


def _pool(name: str, options: PoolOptions, stages: tuple[Stage, ...], *, default: int) -> Pool:
    return Pool(name, options.workers or default, options.threads, stages)


def visible_gpus() -> int:
    """Return how many NVIDIA GPUs this process may use, without importing torch."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return len([device for device in listed.split(",") if device not in ("", "-1")])
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    answer = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False)  # noqa: S603
    return answer.stdout.count("UUID: GPU-") if answer.returncode == 0 else 0


DASK_SETTINGS: Mapping[str, Any] = {
    # A task is tried again elsewhere when its worker dies; the driver counts real attempts itself.
    "distributed.scheduler.allowed-failures": 20,
    # Data lie in files; nothing large is ever held by a worker between tasks.
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.scheduler.work-stealing": False,
    "distributed.comm.require-encryption": True,
}


def local_cluster(pools: tuple[Pool, ...], scratch: Path) -> SpecCluster:
    """Return a cluster of worker processes on this machine; use as an async context manager.

    Everything listens on loopback and speaks TLS with a certificate made for this cluster alone.
    Workers end by themselves when the driver's process does.
    """
    security = Security.temporary()
    workers = {
        f"{pool.name}-{number}": {"cls": Nanny, "options": _worker(pool, number, security, scratch)}
        for pool in pools
        for number in range(pool.slots)
    }
    return SpecCluster(
        workers=workers,
        scheduler={
            "cls": Scheduler,
            "options": {
                "host": "127.0.0.1",
                "protocol": "tls",
                "security": security,
                "dashboard": True,
                "dashboard_address": "127.0.0.1:0",
            },
        },
        security=security,
        asynchronous=True,
        silence_logs=False,
    )


def _worker(pool: Pool, number: int, security: Security, scratch: Path) -> dict[str, Any]:
    environment = {
        "OMP_NUM_THREADS": str(pool.threads),
        "MKL_NUM_THREADS": str(pool.threads),
        "DASK_LOGGING__DISTRIBUTED": "error",  # a worker's terminal is the driver's
    }
    if pool.name == "gpu" and pool.slots > 1:
        environment["CUDA_VISIBLE_DEVICES"] = str(number)
    return {
        "host": "127.0.0.1",
        "protocol": "tls",
        "security": security,
        "nthreads": 1,
        "resources": pool.resources,
        "memory_limit": 0,
        "dashboard": False,
        "local_directory": str(scratch),
        "preload": ["cah_dask.run.worker"],
        "env": environment,
        "config": dask.config.global_config,
    }
