"""How a driver goes on when the walltime of its own Slurm job ends: the job requeues itself.

`slurm/launch.sh` passes on the signal that Slurm sends 300 s before the end; the driver lets
running tasks commit and ends; then `go_on` asks Slurm to run the same job again, which resumes from
the run folder.
"""

import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from cah_dask.run.folder import JobFolder
from cah_dask.run.limits import MAY_PASS, RETRY_S, SUCCESSOR
from cah_dask.run.slurm import SlurmOptions, clean_environment

TIMEOUT_S = 20
"""Seconds that one command may take."""
PATIENCE_S = 60.0
"""Seconds that Slurm may be silent: about 100 are left when running tasks have had theirs."""


def go_on(
    folder: JobFolder,
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
        What `slurm/launch.sh` was called with.
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
    say(f"out of time: asking Slurm to run job {job} again")
    try:
        if _insist(["scontrol", "requeue", job], say) is None:
            asked = _insist(["squeue", "--noheader", f"--jobs={job}", f"--format={ASKED}"], say)
            _insist(successor(os.environ, asked or "", arguments), say)
    except TimeoutError:
        say("Slurm does not answer; submit the same command again to resume")


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
    forbidden = {word.lower() for word in options.no_chain}
    for kind in ("PARTITION", "QOS"):
        name = environment.get(f"SLURM_JOB_{kind}", "")
        if {name.lower(), *re.split(r"[^a-z]+", name.lower())} & forbidden:
            return f"sites forbid chains of jobs in {name} (slurm.no_chain)"
    if barren > options.barren_restarts:
        return f"the last {barren} attempts committed nothing (slurm.barren_restarts)"
    return None


ASKED = "%l|%b"
"""What `squeue` says of a job that its environment does not: time limit and generic resources."""


def successor(environment: Mapping[str, str], asked: str, arguments: Sequence[str]) -> list[str]:
    """Return the command that submits the same job again, to start when this one has ended.

    Parameters
    ----------
    asked
        The job's time limit and generic resources, in the format `ASKED`.
    """
    limit, _, gres = asked.strip().partition("|")
    same = {
        "account": environment.get("SLURM_JOB_ACCOUNT"),
        "partition": environment.get("SLURM_JOB_PARTITION"),
        "qos": environment.get("SLURM_JOB_QOS"),
        "nodes": environment.get("SLURM_JOB_NUM_NODES"),
        "cpus-per-task": environment.get("SLURM_CPUS_PER_TASK"),
        "mem": environment.get("SLURM_MEM_PER_NODE"),
        "time": limit if re.match(r"\d", limit) else None,
        "gres": re.sub(r"^gres[:/]", "", gres) if gres.startswith("gres") else None,
    }
    return [
        "sbatch",
        f"--dependency=afterany:{environment['SLURM_JOB_ID']}",
        *[f"--{option}={value}" for option, value in same.items() if value],
        environment.get("CAH_LAUNCH", "slurm/launch.sh"),
        *arguments,
    ]


def _insist(command: Sequence[str], say: Callable[[str], None]) -> str | None:
    """Run a command until Slurm answers; return its output, or None if it was refused.

    Raises
    ------
    TimeoutError
        If Slurm gave no answer for a while.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            done = subprocess.run(  # noqa: S603  # our own command
                command,
                env=clean_environment(os.environ) | {SUCCESSOR: "1"},
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            said = f"no answer in {TIMEOUT_S} s"
        else:
            if done.returncode == 0:
                return done.stdout
            said = " ".join(done.stderr.split())
        say(f"{' '.join(command)}: {said}")
        if not MAY_PASS.search(said):
            return None
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(RETRY_S)
