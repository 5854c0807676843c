"""Look at the nodes that a run would use: here, and by a job on a node of each pool."""

import asyncio
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from cah_dask.errors import ConfigError, RetryableError
from cah_dask.run import slurm
from cah_dask.run.checks import Finding, check_node
from cah_dask.run.cluster.access import Access
from cah_dask.run.cluster.jobs import PoolJob, call, job_options, submit
from cah_dask.run.cluster.settings import dask_settings
from cah_dask.run.config import Config
from cah_dask.run.pools import Pool, pools
from cah_dask.storage import write_atomic

JOB_TIME = "10"
"""Minutes that a checking job may run."""
LOOK_S = 1.0
"""Seconds between two looks for reports; Slurm is asked every `slurm.poll_s`."""


class Visit(msgspec.Struct, frozen=True):
    """What was found on one node."""

    where: str
    findings: list[Finding]


def examine(config: Config, command: Sequence[str], wait_s: float, url: str) -> Iterator[Visit]:
    """Check this machine, then a node of each Slurm pool.

    Parameters
    ----------
    command
        What `arguments` returns: the jobs call `cah doctor` with the same.
    wait_s
        Seconds that the jobs may wait for their start and take.
    """
    yield Visit("here", check_node(config, None, url))
    remote = [pool for pool in pools(config.pools, config.slurm.launch) if pool.job is not None]
    if not remote or config.slurm.launch == "srun":
        return
    run_dir = Path(config.run_dir).resolve()
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    # the run folder must stay as it is, and another doctor may be at work
    folder = Path(tempfile.mkdtemp(prefix=f"{run_dir.name}.doctor-", dir=run_dir.parent))
    (folder / "jobs").mkdir()
    try:
        yield from _Visits(config, remote, folder, command).collect(wait_s)
    finally:
        shutil.rmtree(folder)


def arguments(config: Path, overrides: Sequence[str], url: str) -> list[str]:
    """Return the arguments of `cah doctor` that say what is to be looked at."""
    changes = [word for override in overrides for word in ("--set", override)]
    return [str(config.resolve()), *changes, "--url", url]


def visit_here(config: Config, pool_name: str, url: str) -> Visit:
    """Check this node for the tasks of one pool.

    Raises
    ------
    ConfigError
        If there is no such pool.
    """
    found = {pool.name: pool for pool in pools(config.pools, config.slurm.launch)}
    if pool_name not in found:
        known = ", ".join(sorted(found))
        raise ConfigError(f"there is no pool {pool_name!r} in this config, but {known}")
    return Visit(f"pool {pool_name}", check_node(config, found[pool_name], url))


def write_report(visit: Visit, path: Path) -> None:
    """Leave for the waiting `examine` what a checking job found."""
    write_atomic(path, msgspec.json.encode(visit))


class _Visits:
    """A checking job in each pool, all at once."""

    def __init__(
        self, config: Config, remote: Sequence[Pool], folder: Path, command: Sequence[str]
    ) -> None:
        self._config = config
        self._folder = folder
        self._command = command
        self._waiting: dict[str, str] = {}
        self._refused: list[Visit] = []
        for pool in remote:
            self._submit(pool)

    def _submit(self, pool: Pool) -> None:
        script = self._folder / f"{pool.name}.sh"
        report = str(self._folder / f"{pool.name}.json")
        command = [*self._command, "--report", report]
        script.write_text(_script(self._config, pool, self._folder, command), encoding="utf-8")
        try:
            self._waiting[pool.name] = self._submitted(f"--time={JOB_TIME}", str(script))
        except RetryableError as error:
            finding = Finding("fail", f"Slurm did not take its job: {error}", "see pools.*")
            self._refused.append(Visit(f"pool {pool.name}", [finding]))

    def _submitted(self, *arguments: str) -> str:
        return asyncio.run(submit(*arguments, timeout_s=self._config.slurm.command_timeout_s))

    def _call(self, *command: str) -> str:
        return asyncio.run(call(*command, timeout_s=self._config.slurm.command_timeout_s))

    def collect(self, wait_s: float) -> Iterator[Visit]:
        """Yield what the jobs report, or why one does not."""
        yield from self._refused
        deadline = time.monotonic() + wait_s
        job_ids = list(self._waiting.values())
        try:
            states: dict[str, str] = {}
            asked_at = -self._config.slurm.poll_s
            while self._waiting and time.monotonic() < deadline:
                has_asked = time.monotonic() - asked_at >= self._config.slurm.poll_s
                if has_asked:
                    states, asked_at = self._states(), time.monotonic()
                yield from self._reported(states if has_asked else None)
                time.sleep(LOOK_S)
            for name, job_id in self._waiting.items():
                advice = "give it more time with --wait, or see why with squeue"
                text = f"no report in {wait_s:.0f} s; its job is {states.get(job_id, 'unknown')}"
                yield Visit(f"pool {name}", [Finding("warn", text, advice)])
        finally:
            if self._waiting:
                self._call("scancel", *job_ids)

    def _reported(self, states: Mapping[str, str] | None) -> Iterator[Visit]:
        """Yield the reports that are there, and if Slurm was asked, the jobs that left none."""
        for name, job_id in list(self._waiting.items()):
            report = self._folder / f"{name}.json"
            if report.exists():
                yield msgspec.json.decode(report.read_bytes(), type=Visit)
            elif states is not None and job_id not in states:
                text = f"its job ended without a report that can be read in {self._folder.parent}"
                yield Visit(f"pool {name}", [Finding("fail", text, self._log(name))])
            else:
                continue
            del self._waiting[name]

    def _states(self) -> dict[str, str]:
        ids = ",".join(self._waiting.values())
        command = ("squeue", "--noheader", f"--jobs={ids}", f"--format={slurm.SQUEUE_FORMAT}")
        try:
            found = slurm.parse_squeue(self._call(*command), "")
        except RetryableError as error:
            return dict.fromkeys(self._waiting.values(), str(error))
        return {job.job_id: f"{job.state} ({job.reason})" for job in found}

    def _log(self, name: str) -> str:
        logs = [path.read_text(errors="replace") for path in self._folder.glob(f"jobs/*-{name}-*")]
        said = " ".join("".join(logs).split())[-300:]
        return f"it said: {said}" if said else "maybe its node does not share this folder"


def _script(config: Config, pool: Pool, folder: Path, arguments: Sequence[str]) -> str:
    """Return the script of a worker job of the pool, with another command at its end."""
    access = Access(folder / "cert.pem", folder / "key.pem", "")
    with dask_settings():
        options = job_options(f"{pool.name}-0", pool, config.slurm, folder, access)
        job = PoolJob("", launcher=None, **options)
    python = options["python"] if pool.job and pool.job.container else f"exec {sys.executable}"
    words = " ".join(shlex.quote(word) for word in arguments)
    lines = [str(options["shebang"]), str(job.job_header), *options["job_script_prologue"]]
    return "\n".join([*lines, f"{python} -m cah_dask doctor --pool {pool.name} {words}", ""])
