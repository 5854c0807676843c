"""Pools: which stages run on which kind of worker, and how many of them there may be.

A task asks for its pool by a Dask resource, so no GPU worker ever takes CPU work. Restricted tasks
are never queued by the scheduler: the driver keeps a bounded number of them in flight instead.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence

import msgspec

from cah_dask.errors import ConfigError
from cah_dask.run.settings.config import Config, PoolOptions, PoolsOptions
from cah_dask.run.slurm.options import JobOptions, SlurmOptions, memory_mb, walltime_s
from cah_dask.run.stages import RUN, Stage


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """Workers of one kind, and the stages they serve, the first one first.

    A pool without `job` has `workers` processes on this machine, always; one with `job` has up to
    ``max_jobs`` jobs of `processes` each, as many as there is work for.
    """

    name: str
    stages: tuple[Stage, ...]
    threads: int
    workers: int = 0
    processes: int = 1
    cores: int = 1
    gpus: int = 0
    """GPUs of a job, as far as its `gres` says; or those that the processes on this machine use."""
    job: JobOptions | None = None

    @property
    def tasks_at_once(self) -> int:
        """Tasks that a worker has at once.

        Where there are models they are at work on one, while another is read or written.
        """
        return 2 if self.name == "gpu" else 1

    @property
    def needed(self) -> dict[str, float]:
        """Resources that a task of this pool asks for."""
        return {self.name.upper(): 1}

    @property
    def offered(self) -> dict[str, float]:
        """Resources that a worker of this pool has."""
        return {name: amount * self.tasks_at_once for name, amount in self.needed.items()}

    def gpus_in_use(self, running: int) -> int:
        """Return the GPUs of so many jobs that run, or processes on this machine."""
        return self.gpus * running if self.job is not None else min(self.gpus, running)

    @property
    def process_mb(self) -> float | None:
        """Memory for each process, MB; None if the pool does not say."""
        if self.job is None or self.job.memory is None:
            return None
        return memory_mb(self.job.memory) / self.processes

    @property
    def max_jobs(self) -> int:
        """Jobs that the pool may have at once."""
        return self.job.max_jobs if self.job is not None else 0

    def jobs_for(self, n_tasks: int) -> int:
        """Return how many jobs so many tasks are worth."""
        return min(self.max_jobs, -(-n_tasks // (self.processes * self.tasks_at_once)))


def pools(
    options: PoolsOptions, launch: str = "sbatch", stages: Sequence[Stage] = RUN
) -> tuple[Pool, ...]:
    """Return the pools that do some stages; what comes last of the data comes first in each."""
    named = {"gpu": options.gpu, "io": options.io, "cpu": options.cpu}
    served: dict[str, list[Stage]] = {name: [] for name in named}
    for stage in reversed(stages):
        served[stage.pool if named[stage.pool] is not None else "cpu"].append(stage)
    return tuple(
        _pool(name, tuple(served[name]), chosen, is_remote=is_remote(chosen, launch))
        for name, chosen in named.items()
        if chosen is not None and served[name]
    )


def is_remote(options: PoolOptions, launch: str) -> bool:
    """Whether the workers of a pool are started by Slurm."""
    return options.partition is not None or launch == "srun"


def _pool(name: str, stages: tuple[Stage, ...], options: PoolOptions, *, is_remote: bool) -> Pool:
    if not is_remote:
        gpus = visible_gpus() if name == "gpu" else 0
        workers = options.workers or gpus or (1 if name == "gpu" else os.cpu_count() or 1)
        return Pool(
            name=name,
            stages=stages,
            threads=options.threads,
            workers=workers,
            gpus=min(gpus, workers),
        )
    per_cores = options.cores // options.threads if options.cores else 1
    processes = options.processes or options.n_gpus or max(1, per_cores)
    return Pool(
        name=name,
        stages=stages,
        threads=options.threads,
        processes=processes,
        cores=options.cores or processes * options.threads,
        gpus=options.n_gpus,
        job=options,
    )


def check_pools(config: Config) -> None:
    """Refuse pools that Slurm would refuse, or that would not do what their options say.

    Raises
    ------
    ConfigError
        For the first thing that is wrong: what was found, what is accepted.
    """
    options, slurm = config.pools, config.slurm
    for pool in pools(options, slurm.launch):
        chosen: PoolOptions = getattr(options, pool.name)
        key = f"pools.{pool.name}"
        if pool.job is None:
            _require_no_job_options(key, chosen)
            continue
        if chosen.time is None and slurm.launch == "sbatch":
            raise ConfigError(f'{key}.time is missing; say how long a job may run: "12:00:00"')
        if chosen.time is not None and walltime_s(chosen.time) <= slurm.drain_s:
            raise ConfigError(
                f"{key}.time {chosen.time!r} is no longer than slurm.drain_s "
                f"({slurm.drain_s:g} s), so its workers would never take a task"
            )
        if pool.cores < pool.processes * pool.threads:
            raise ConfigError(
                f"{key}.cores is {pool.cores}, but {pool.processes} processes of {pool.threads} "
                f"threads need {pool.processes * pool.threads}"
            )
        _require_account(key, chosen, slurm)


def _require_no_job_options(key: str, options: PoolOptions) -> None:
    for field in msgspec.structs.fields(JobOptions):
        if getattr(options, field.name) != field.default:
            raise ConfigError(
                f"{key}.{field.name} is for Slurm jobs; name their partition in {key}.partition"
            )


def _require_account(key: str, options: PoolOptions, slurm: SlurmOptions) -> None:
    submits = slurm.launch == "sbatch"
    if submits and slurm.needs_account and not (options.account or slurm.account):
        raise ConfigError(
            f"{key}.account is missing and this site needs one; set slurm.account to a project "
            "of yours (`sacctmgr show associations user=$USER format=account` lists them)"
        )


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
