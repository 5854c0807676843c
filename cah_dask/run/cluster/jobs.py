"""Worker jobs and the commands that start, list and end them.

`Batch` submits jobs of their own; `Steps` starts steps in the driver's own allocation, for sites
where a job may not submit jobs. Both run the same script.
"""

import asyncio
import contextlib
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from distributed import Status

from cah_dask.errors import RetryableError
from cah_dask.run.cluster.access import Access
from cah_dask.run.cluster.private_parts import close_without_command, slurm_job_class
from cah_dask.run.pools import Pool
from cah_dask.run.slurm import answers
from cah_dask.run.slurm.answers import Queued
from cah_dask.run.slurm.options import JobOptions, SlurmOptions, slurm_names
from cah_dask.run.slurm.script import directives, prologue, run_prefix, step_arguments

STEP_TIMEOUT_S = 30.0
"""Seconds that a step may take to end."""

DEATH_TIMEOUT_S = 60
"""Seconds after which a worker that finds no scheduler ends its job."""


async def call(*command: str, timeout_s: float) -> str:
    """Run a Slurm command and return its output.

    Raises
    ------
    RetryableError
        If it fails or overstays. It is killed then: an sbatch that is left to wait on a full queue
        would submit, minutes later, a job that nobody knows.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=answers.clean_environment(os.environ),
        )
    except OSError as error:
        raise RetryableError(f"{command[0]} cannot be run: {error.strerror}") from error
    try:
        out, err = await asyncio.wait_for(process.communicate(), timeout_s)
    except TimeoutError as error:
        raise RetryableError(f"{command[0]} gave no answer in {timeout_s:g} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        said = " ".join(err.decode(errors="replace").split())
        raise RetryableError(said or f"{command[0]} failed with status {process.returncode}")
    return out.decode(errors="replace")


async def submit(*arguments: str, timeout_s: float) -> str:
    """Hand a job to Slurm; return its id. RetryableError where that failed."""
    out = await call("sbatch", "--parsable", *arguments, timeout_s=timeout_s)
    try:
        return answers.parse_job_id(out)
    except ValueError as error:
        raise RetryableError(str(error)) from error


class PoolJob(slurm_job_class()):  # type: ignore[misc]  # untyped library
    """A Slurm job whose worker processes serve one pool."""

    def __init__(
        self, scheduler: str, *, name: str, launcher: "Launcher | None",
        skip: frozenset[str] = frozenset(), **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(scheduler, name=name, **options)
        self._launcher = launcher
        self.job_header: str = without(skip, self.job_header)

    @property
    def worker_process_memory(self) -> str:
        """Slurm limits the memory; Dask shall not."""
        return "0"

    async def start(self) -> None:
        """Hand the job to Slurm."""
        if self._launcher is None:
            raise RuntimeError("this job is only to be looked at")
        try:
            self.job_id = await self._launcher.start(self.name, self.job_script())
        except BaseException:
            self.status = Status.failed
            raise
        self.status = Status.running

    async def close(self) -> None:
        """Forget the job; `Launcher.cancel` ends it, together with others."""
        await close_without_command(self)


def without(skipped: frozenset[str], header: str) -> str:
    """Return the header of a job script without some options, told by their exact names.

    Dask's own way skips every line that holds the text: `-n` also ``-p gpu-normal``.
    """
    lines = header.splitlines()
    names = [slurm_names([line.removeprefix("#SBATCH ")]) for line in lines]
    return "\n".join(line for line, name in zip(lines, names, strict=True) if not name & skipped)


def job_options(  # one fact of the run each
    name: str,
    pool: Pool,
    options: SlurmOptions,
    run_dir: Path,
    access: Access,
    exclude: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the arguments of one `PoolJob` (but for scheduler and launcher).

    It starts on none of the nodes in `exclude`.
    """
    job = pool.job
    if job is None:
        raise ValueError(f"pool {pool.name} has no Slurm jobs")
    python = job.python or ("python3" if job.container else sys.executable)
    environment = {
        "OMP_NUM_THREADS": str(pool.threads),
        "MKL_NUM_THREADS": str(pool.threads),
        "CAH_DRAIN_S": f"{options.drain_s:g}",
    }
    return {
        "name": name,
        "job_name": run_prefix(run_dir) + name,
        "queue": job.partition,
        "account": job.account or options.account,
        "walltime": str(job.time) if job.time is not None else None,
        "cores": pool.processes * pool.tasks_at_once,
        "processes": pool.processes,
        "job_cpu": pool.cores,
        "memory": "1GB",
        "job_mem": job.memory,
        "python": f"exec {job.container or ''} {python}".replace("  ", " "),
        "worker_command": "distributed.cli.dask_worker",
        "worker_extra_args": _worker_arguments(pool, access),
        "death_timeout": DEATH_TIMEOUT_S,
        "local_directory": '"${TMPDIR:-/tmp}"',
        "job_extra_directives": directives(job, f"{run_dir.resolve()}/jobs/%x-%j.out", exclude),
        "job_script_prologue": prologue(job, environment),
        "skip": slurm_names(job.skip_directives) | ({"--mem"} if not job.memory else set()),
        "shebang": "#!/usr/bin/env bash",
    }


def _worker_arguments(pool: Pool, access: Access) -> list[str]:
    resource, amount = next(iter(pool.offered.items()))
    arguments = {
        "--tls-ca-file": access.certificate,
        "--tls-cert": access.certificate,
        "--tls-key": access.key,
        "--resources": f"{resource}={amount:g}",
        "--preload": "cah_dask.run.cluster.worker",
        "--dashboard-address": "127.0.0.1:0",
    }
    pairs = [(name, shlex.quote(str(value))) for name, value in arguments.items()]
    return [word for pair in pairs for word in pair] + ["--no-dashboard"]


class Launcher(Protocol):
    """Starts, lists and ends the jobs of one run."""

    async def start(self, name: str, script: str) -> str:
        """Start a job; return its id. RetryableError where that failed."""

    async def queue(self) -> list[Queued]:
        """Return the live jobs of this run. RetryableError where that failed."""

    async def cancel(self, job_ids: Sequence[str]) -> None:
        """End jobs; those that are over are no error."""

    def last_words(self, name: str, job_id: str) -> str:
        """Say what the last line of a job's log is."""


class Batch:
    """Jobs of their own, by ``sbatch``."""

    def __init__(self, run_dir: Path, options: SlurmOptions) -> None:
        self._prefix = run_prefix(run_dir)
        self._timeout = options.command_timeout_s
        self._jobs_dir = run_dir / "jobs"

    async def start(self, name: str, script: str) -> str:
        """Submit a job; return its id."""
        path = write_script(self._jobs_dir, name, script)
        return await submit(str(path), timeout_s=self._timeout)

    async def queue(self) -> list[Queued]:
        """Ask Slurm once for all jobs of this user, and return those of this run."""
        out = await call(
            "squeue", "--noheader", "--all", f"--user={os.getuid()}",
            f"--format={answers.SQUEUE_FORMAT}", timeout_s=self._timeout,
        )  # fmt: skip
        return answers.parse_squeue(out, self._prefix)

    async def cancel(self, job_ids: Sequence[str]) -> None:
        """Cancel jobs with one command."""
        if job_ids:
            with contextlib.suppress(RetryableError):  # the next look at the queue tells
                await call("scancel", *job_ids, timeout_s=self._timeout)

    def last_words(self, name: str, job_id: str) -> str:
        """Say what the last line of a job's log is."""
        return _last_line(self._jobs_dir, f"{self._prefix}{name}-{job_id}.out")


class Steps:
    """Steps inside the allocation that the driver runs in, by ``srun``."""

    def __init__(self, run_dir: Path, pools: Mapping[str, Pool]) -> None:
        self._jobs_dir = run_dir / "jobs"
        self._pools = pools
        self._steps: dict[str, asyncio.subprocess.Process] = {}

    async def start(self, name: str, script: str) -> str:
        """Start a step; return the process id of its ``srun``."""
        path = write_script(self._jobs_dir, name, script)
        pool = self._pools[name.partition("-")[0]]
        arguments = step_arguments(pool.job or JobOptions(), pool.cores)
        process = await asyncio.create_subprocess_exec(
            "srun", f"--job-name={name}", f"--output={self._jobs_dir}/{name}-%j.%s.out",
            *arguments, "bash", str(path),
            stdin=asyncio.subprocess.DEVNULL,
            env=answers.clean_environment(os.environ),
        )  # fmt: skip
        self._steps[name] = process
        return str(process.pid)

    async def queue(self) -> list[Queued]:
        """Return the steps that have not ended."""
        return [
            Queued(str(process.pid), "R", None, "", name)
            for name, process in self._steps.items()
            if process.returncode is None
        ]

    async def cancel(self, job_ids: Sequence[str]) -> None:
        """End steps; ``srun`` passes the signal on."""
        ended = [p for p in self._steps.values() if str(p.pid) in job_ids and p.returncode is None]
        for process in ended:
            process.terminate()
        for process in ended:
            try:
                await asyncio.wait_for(process.wait(), STEP_TIMEOUT_S)
            except TimeoutError:  # its node is lost
                process.kill()

    def last_words(self, name: str, job_id: str) -> str:
        """Say what the last line of a step's log is."""
        del job_id  # it is not Slurm's
        return _last_line(self._jobs_dir, f"{name}-{os.environ['SLURM_JOB_ID']}.*.out")


def _last_line(folder: Path, pattern: str) -> str:
    logs = list(folder.glob(pattern))
    if not logs:
        return "it left no log: was it cancelled, or does its node not see the run folder?"
    lines = [line for log in logs for line in log.read_text(errors="replace").splitlines()]
    said = [line.strip() for line in lines if line.strip()]
    return f"its log ends: {said[-1][-300:]}" if said else "its log is empty"


def write_script(folder: Path, name: str, script: str) -> Path:
    """Keep the job's script beside its log, for a person to read."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.sh"
    path.write_text(script, encoding="utf-8")
    return path
