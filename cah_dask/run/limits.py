"""Ask Slurm whether it would take the jobs of a run, before any is submitted."""

import asyncio
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from cah_dask.errors import ConfigError, RetryableError
from cah_dask.run import slurm
from cah_dask.run.cluster.jobs import call
from cah_dask.run.config import Config
from cah_dask.run.pools import Pool, pools
from cah_dask.run.preview import job_script

logger = logging.getLogger(__name__)

PATIENCE_S = 6.0
"""Seconds of a person who waits for the answer."""
DRIVER_PATIENCE_S = 60.0
"""Seconds in a job, where nobody waits: slurmctld may be starting."""
RETRY_S = 2.0

FULL = re.compile(
    r"temporarily|no answer|(Assoc|QOS)\w*Submit\w*Limit"
    r"|^(?!.*(Assoc|QOS)\w+Limit).*job submit limit",  # all that older versions say
    re.IGNORECASE,
)
"""Refusals of a queue that is full or a Slurm that is slow now; the driver submits when it can."""
SUCCESSOR = "CAH_SUCCESSOR"
"""Set in the environment of a driver's job that goes on where another one ended."""
MAY_PASS = re.compile("node configuration|contact|connect|answer|timed out|respond", re.IGNORECASE)
"""What Slurm says also when it has just started and knows none of its nodes yet."""


def check_with_slurm(config: Config, only: str | None = None) -> None:
    """Refuse what Slurm would refuse: partition, time, memory, account, resources.

    A job that Slurm restarted was right when it began; what is wrong now will pass.

    Parameters
    ----------
    only
        Name of the one pool to look at; all by default.

    Raises
    ------
    ConfigError
        For the first thing that is wrong: what was found, what is accepted.
    """
    remote = [pool for pool in _remote_pools(config) if only in (None, pool.name)]
    goes_on = "SLURM_RESTART_COUNT" in os.environ or SUCCESSOR in os.environ
    if not remote or config.slurm.launch == "srun" or goes_on:
        return
    if shutil.which("sbatch") is None:
        raise ConfigError(
            f"pools.{remote[0].name}.partition is set, but there is no Slurm here (no sbatch); "
            "run this on a login node, or without partitions"
        )
    asyncio.run(_check(config, remote))


def check_allocation(config: Config, environment: Mapping[str, str]) -> None:
    """Refuse workers as steps where there is no allocation, or too small a one for all of them.

    A step that finds no processors waits for others to end, which would be for ever.

    Raises
    ------
    ConfigError
        With what there is and what would be needed.
    """
    if config.slurm.launch != "srun":
        return
    if "SLURM_JOB_ID" not in environment:
        raise ConfigError(
            "slurm.launch is srun, but this is no Slurm job; submit one that holds everything: "
            "sbatch --nodes=N --ntasks=N --cpus-per-task=C slurm/launch.sh CONFIG"
        )
    there = slurm.count_processors(environment.get("SLURM_JOB_CPUS_PER_NODE", ""))
    needed = {pool.name: pool.max_jobs * pool.cores for pool in _remote_pools(config)}
    if sum(needed.values()) > there:
        parts = ", ".join(f"{name} {count}" for name, count in needed.items())
        raise ConfigError(
            f"the steps of the pools need {sum(needed.values())} processors together (max_jobs x "
            f"cores: {parts}), this allocation has {there}; ask sbatch for more, or lower max_jobs"
        )


def _remote_pools(config: Config) -> list[Pool]:
    return [pool for pool in pools(config.pools, config.slurm.launch) if pool.job is not None]


def partitions_of(config: Config) -> dict[str, slurm.Partition]:
    """Return what Slurm says of the partitions that the pools name; empty without such pools.

    Raises
    ------
    ConfigError
        If Slurm does not answer.
    """
    named = {name for pool in _remote_pools(config) for name in _partitions(pool)}
    if not named:
        return {}
    found = asyncio.run(_ask_partitions(config))
    return {name: found[name] for name in named & set(found)}


async def _ask_partitions(config: Config) -> dict[str, slurm.Partition]:
    timeout_s = config.slurm.command_timeout_s
    command = ("sinfo", "--noheader", "--all", f"--format={slurm.SINFO_FORMAT}")
    try:
        said = await _patiently(lambda: call(*command, timeout_s=timeout_s))
    except RetryableError as error:
        raise ConfigError(f"Slurm does not answer: {error}; try again later") from error
    return slurm.parse_sinfo(said)


async def _check(config: Config, remote: list[Pool]) -> None:
    partitions = await _ask_partitions(config)
    for pool in remote:
        _check_partition(pool, partitions)
        await _check_job(pool, config)


def _partitions(pool: Pool) -> list[str]:
    named = pool.job.partition if pool.job is not None else None
    return named.split(",") if named else []


async def _patiently(ask: Callable[[], Awaitable[str]]) -> str:
    """Ask again, for a while, when what Slurm answers may pass."""
    patience = DRIVER_PATIENCE_S if "SLURM_JOB_ID" in os.environ else PATIENCE_S
    deadline = time.monotonic() + patience
    has_said = False
    while True:
        try:
            return await ask()
        except RetryableError as error:
            if not MAY_PASS.search(str(error)) or time.monotonic() + RETRY_S > deadline:
                raise
            if patience == DRIVER_PATIENCE_S and not has_said:
                has_said = True
                logger.warning("Slurm: %s; asking again for %.0f s", error, patience)
        await asyncio.sleep(RETRY_S)


def _check_partition(pool: Pool, partitions: dict[str, slurm.Partition]) -> None:
    job = pool.job or slurm.JobOptions()
    for name in _partitions(pool):
        found = partitions.get(name)
        if found is None:
            known = ", ".join(sorted(partitions))
            raise ConfigError(
                f"pools.{pool.name}.partition {name!r} is not known here; there are {known}"
            )
        wanted = slurm.walltime_s(job.time or "1")
        if found.limit_s is not None and wanted > found.limit_s:
            raise ConfigError(
                f"pools.{pool.name}.time {job.time!r} is more than partition {name} allows: "
                f"{found.limit}"
            )


async def _check_job(pool: Pool, config: Config) -> None:
    """Let sbatch judge the job's script without submitting it; a full queue is no fault."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.sh"  # a small local file
        path.write_text(job_script(pool, config), encoding="utf-8")
        command = ("sbatch", "--test-only", str(path))
        try:
            await _patiently(lambda: call(*command, timeout_s=config.slurm.command_timeout_s))
        except RetryableError as error:
            if FULL.search(str(error)):
                logger.warning("pool %s: %s; its jobs will have to wait", pool.name, error)
                return
            raise ConfigError(
                f"pools.{pool.name}: Slurm would refuse its jobs: {error}; "
                "compare the options with `scontrol show partition` and `sinfo`"
            ) from error
