"""Options of jobs and of Slurm, and how times and memory are written there."""

import re
from typing import Annotated, Literal

import msgspec

Count = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[\w.,:=*@&|()\[\]+-]+$")]


TIME_FORMS = '"minutes", "HH:MM:SS", "days-HH" or "days-HH:MM:SS", in quotes'
MEMORY_FORMS = "a number and its unit, such as 500M or 64G (powers of 1024)"


class JobOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the Slurm jobs of one pool ask for."""

    partition: Name | None = None
    """Slurm partition of the pool's jobs (several: `a,b`). Without one its workers run on the
    driver's own machine."""
    account: Name | None = None
    """Account to charge. Default: `slurm.account`."""
    qos: Name | None = None
    """Quality of service."""
    reservation: Name | None = None
    """Reservation to run in."""
    constraint: Name | None = None
    """Features that nodes must have."""
    time: str | int | None = None
    """Walltime of a job: "minutes", "HH:MM:SS", "days-HH" or "days-HH:MM:SS", in quotes because
    YAML reads 12:00:00 as a number. Needed with a partition: workers end before it does."""
    cores: Count | None = None
    """Processors of a job. Default: processes x threads."""
    memory: str | int | None = None
    """Memory of a job with its unit, such as 64G (powers of 1024). Default: the partition's."""
    gres: Name | None = None
    """Generic resources of a job, such as gpu:4."""
    processes: Count | None = None
    """Worker processes of a job, each as one of `workers`. Default: one for each GPU of `gres`,
    else cores / threads."""
    max_jobs: Count = 4
    """Jobs of this pool at most, running and pending together."""
    directives: tuple[str, ...] = ()
    """More `sbatch` options, such as ["--gpus-per-node=8", "--exclusive"]."""
    skip_directives: tuple[str, ...] = ()
    """Options of ours that the site refuses, such as ["--mem"]."""
    prologue: tuple[str, ...] = ()
    """Shell lines before the workers start, such as ["module load python", ". slurm/env.sh"]."""
    container: str | None = None
    """Command that python runs under, such as "apptainer exec --nv cah.sif"."""
    python: str | None = None
    """Python on the nodes. Default: the driver's; `python3` inside a container."""

    def __post_init__(self) -> None:
        """Refuse what YAML or a hurried hand got wrong; msgspec adds where it was."""
        if self.time is not None:
            walltime_s(self.time)
        if self.memory is not None:
            require_memory(self.memory)
        if slurm_names(self.directives) & {"-M", "--cluster", "--clusters"}:
            raise ValueError(
                "directives name another cluster (--clusters), whose jobs the driver cannot see; "
                "start it on a node of that cluster"
            )

    @property
    def n_gpus(self) -> int:
        """GPUs of a job, as far as `gres` says: those of all types together."""
        return sum(map(_n_gpus, _GRES_COMMA.split(self.gres or "")))


class SlurmOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the driver deals with Slurm; used only when a pool names a partition."""

    launch: Literal["sbatch", "srun"] = "sbatch"
    """`sbatch`: workers are jobs of their own. `srun`: workers are steps inside the driver's own
    allocation, for sites where a job may not submit jobs."""
    account: Name | None = None
    """Account of every pool that names none."""
    needs_account: bool = False
    """The site refuses jobs without an account."""
    max_jobs: Count = 100
    """Worker jobs at most, running and pending, of all pools together."""
    submits_per_minute: Count = 30
    """Jobs submitted in a minute at most."""
    poll_s: Annotated[float, msgspec.Meta(ge=0.2, le=600)] = 30.0
    """Seconds between two looks at the queue; one `squeue` serves all pools."""
    idle_s: Seconds = 300.0
    """Seconds that a job without work is kept before it is given back."""
    drain_s: Seconds = 120.0
    """Seconds before the end of its job at which a worker takes no new task; longer than a task."""
    no_show_s: Annotated[float, msgspec.Meta(ge=5, le=86_400)] = 300.0
    """Seconds that a running job may have no worker before it is replaced."""
    false_starts: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 8
    """Jobs of a pool in a row that may end before they have a worker; then the run stops."""
    command_timeout_s: Annotated[float, msgspec.Meta(ge=1, le=600)] = 30.0
    """Seconds that a Slurm command may take; a full queue lets sbatch wait for minutes."""
    interfaces: tuple[str, ...] = ()
    """Network interfaces for the scheduler, the first that exists is taken. Default: the way to
    the internet, which is often not the fast network."""
    login: str | None = None
    """Login node that ssh jumps through to reach the dashboard, such as user@login.site.org."""
    restart: Literal["requeue", "no"] = "requeue"
    """What the driver's job does at the end of its walltime: requeue itself (or submit its
    successor), or stop."""
    no_chain: tuple[str, ...] = ("debug", "dev", "devel", "interactive", "test")
    """Partitions and qualities of service with one of these names, or words in them, never requeue:
    sites forbid chains of jobs there."""
    barren_restarts: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 3
    """Restarts in a row that may commit nothing before the driver stops for good."""


_GRES_COMMA = re.compile(r",(?![^()]*\))")  # one that is not within (S:0,1)


def _n_gpus(gres: str) -> int:
    """Return the GPUs that one entry asks for: ``gpu``, ``gpu:N``, ``gpu:TYPE`` or ``gpu:TYPE:N``.

    A type may hold anything but a colon, also nothing but digits (``gpu:3090:2``).
    """
    kind, *rest = gres.partition("(")[0].split(":")
    if kind != "gpu":
        return 0
    return int(rest[-1]) if rest and rest[-1].isdecimal() else 1


def walltime_s(time: str | int) -> int:
    """Return the seconds of a Slurm time.

    Raises
    ------
    ValueError
        One line that says which forms are accepted.
    """
    if isinstance(time, int):
        raise ValueError(f"time is the number {time}, maybe by YAML; write {TIME_FORMS}")
    days, dash, rest = time.rpartition("-")
    form = r"\d+(:\d+){0,2}"
    if not re.fullmatch(form, rest) or (dash and not days.isdigit()):
        raise ValueError(f"time {time!r} is not understood; write {TIME_FORMS}")
    numbers = [int(number) for number in rest.split(":")]
    if dash:
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
    elif len(numbers) == 3:
        hours, minutes, seconds = numbers
    else:
        hours, (minutes, seconds) = 0, (*numbers, 0)[:2]
    total = ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
    if total < 60:
        raise ValueError(f"time {time!r} is less than a minute; write {TIME_FORMS}")
    return total


def memory_mb(memory: str | int) -> float:
    """Return an amount of memory as ``--mem`` takes it, such as 64G, in MB (1024 kB)."""
    number, unit = str(memory)[:-1], str(memory)[-1]
    return float(number) * 1024.0 ** ("KMGT".index(unit) - 1)


def require_memory(memory: str | int) -> None:
    """Refuse an amount of memory without a unit, which Slurm would take for MB.

    Raises
    ------
    ValueError
        One line that says which forms are accepted.
    """
    if not re.fullmatch(r"[1-9]\d*[KMGT]", str(memory)):
        raise ValueError(f"memory {memory!r} is not understood; write {MEMORY_FORMS}")


def slurm_names(lines: tuple[str, ...] | list[str]) -> set[str]:
    """Return the option names of directives, without their values."""
    return {option_of(line)[0] for line in lines}


def option_of(line: str) -> tuple[str, str]:
    """Return name and value of a directive: ``--name=value``, ``--name value``, ``-n1``."""
    if line.startswith("--"):
        name, *value = re.split(r"[= ]", line.strip(), maxsplit=1)
        return name, "".join(value).strip()
    return line[:2], line[2:].strip(" =")
