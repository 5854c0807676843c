"""How a driver goes on when the walltime of its own Slurm job ends: the job requeues itself.

`slurm/launch.sh` passes on the signal that Slurm sends 300 s before the end; the driver lets
running tasks commit and ends; then `go_on` asks Slurm to run the same job again, which resumes from
the run folder.
"""

import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from cah_dask.run.manifest import RunFolder
from cah_dask.run.slurm import SlurmOptions, clean_environment

TIMEOUT_S = 60


def go_on(
    folder: RunFolder,
    options: SlurmOptions,
    since: datetime,
    arguments: Sequence[str],
    say: Callable[[str], None],
) -> None:
    """Requeue the Slurm job that this process runs in, or submit its successor, if that helps.

    Parameters
    ----------
    since
        When this attempt at the run began.
    arguments
        What `cah run` was called with.
    say
        Shows a line to a person; requeueing ends this process, so all is said before.
    """
    has_committed = any(commit.at >= since for commit in folder.commits())
    barren = folder.count_barren(has_committed=has_committed)
    reason = refusal(options, os.environ, barren)
    if reason is not None:
        say(f"not requeued: {reason}; run the same command again to resume")
        return
    job = os.environ["SLURM_JOB_ID"]
    say(f"out of time: job {job} goes on after a requeue")
    if not _call(["scontrol", "requeue", job], say):
        _call(successor(os.environ, arguments), say)


def refusal(options: SlurmOptions, environment: Mapping[str, str], barren: int) -> str | None:
    """Return why the driver's job must not run again, or None where it may.

    Parameters
    ----------
    barren
        Attempts in a row that committed nothing.
    """
    if "SLURM_JOB_ID" not in environment:
        return "this is no Slurm job"
    if options.restart == "no":
        return "slurm.restart is `no`"
    for kind in ("PARTITION", "QOS"):
        name = environment.get(f"SLURM_JOB_{kind}", "")
        if set(re.split(r"[^a-z]+", name.lower())) & set(options.no_chain):
            return f"sites forbid chains of jobs in {name} (slurm.no_chain)"
    if barren > options.barren_restarts:
        return f"the last {barren} attempts committed nothing (slurm.barren_restarts)"
    return None


def successor(environment: Mapping[str, str], arguments: Sequence[str]) -> list[str]:
    """Return the command that submits the same job again, to start when this one has ended."""
    names = {"account": "ACCOUNT", "partition": "PARTITION", "qos": "QOS"}
    same = [
        f"--{option}={environment[f'SLURM_JOB_{name}']}"
        for option, name in names.items()
        if environment.get(f"SLURM_JOB_{name}")
    ]
    script = environment.get("CAH_LAUNCH", "slurm/launch.sh")
    return [
        "sbatch",
        f"--dependency=afterany:{environment['SLURM_JOB_ID']}",
        *same,
        script,
        *arguments,
    ]


def _call(command: Sequence[str], say: Callable[[str], None]) -> bool:
    done = subprocess.run(  # noqa: S603  # our own command
        command,
        env=clean_environment(os.environ),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        say(f"{' '.join(command)}: {' '.join(done.stderr.split())}")
    return done.returncode == 0
