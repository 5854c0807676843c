"""What we say to Slurm and what it says to us: text in, text out, no machine.

Options of jobs and their checks, the lines of a job script, the lines of ``squeue``.
"""

import hashlib
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
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
    """Worker processes of a job, one task each. Default: one for each GPU of `gres`, else
    cores / threads."""
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


def parse_job_id(text: str) -> str:
    """Return the id of a job out of what ``sbatch --parsable`` printed.

    Sites print more: banners before it, news behind it, or in words what the option left out.

    Raises
    ------
    ValueError
        With what was printed, if there is no id in it.
    """
    for form in (_SUBMITTED, _ID_AND_CLUSTER, _JOB_ID):
        found = form.findall(text)
        if found:
            return str(found[-1])
    shown = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    raise ValueError(f"sbatch printed no job id but {shown[-200:]!r}")


_ID_AND_CLUSTER = re.compile(r"^[ \t]*(\d+);[\w.-]+[ \t\r]*$", re.MULTILINE | re.ASCII)
_JOB_ID = re.compile(r"^[ \t]*(\d+)[ \t\r]*$", re.MULTILINE | re.ASCII)
_SUBMITTED = re.compile(r"submitted batch job (\d+)", re.IGNORECASE | re.ASCII)


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


def require_memory(memory: str | int) -> None:
    """Refuse an amount of memory without a unit, which Slurm would take for MB.

    Raises
    ------
    ValueError
        One line that says which forms are accepted.
    """
    if not re.fullmatch(r"[1-9]\d*[KMGT]", str(memory)):
        raise ValueError(f"memory {memory!r} is not understood; write {MEMORY_FORMS}")


def run_prefix(run_dir: Path) -> str:
    """Return what the names of all worker jobs of a run begin with."""
    return f"cah-{hashlib.sha256(str(run_dir.resolve()).encode()).hexdigest()[:8]}-"


def directives(options: JobOptions, log: str, exclude: Sequence[str] = ()) -> list[str]:
    """Return the `sbatch` options that dask-jobqueue does not write itself.

    Worker jobs are never requeued by Slurm: the driver replaces what is lost, once. Of several
    ``--exclude`` sbatch takes the last one, so a user's own is joined to ours.
    """
    own = [line for line in options.directives if _option(line)[0] in ("--exclude", "-x")]
    nodes = [_option(line)[1] for line in own] + [*exclude]
    named = {
        "qos": options.qos,
        "reservation": options.reservation,
        "constraint": options.constraint,
        "gres": options.gres,
    }
    lines = ["--no-requeue", "--nodes=1", f'--output="{log}"', "--open-mode=append"]
    lines += [f"--{name}={value}" for name, value in named.items() if value is not None]
    lines += [line for line in options.directives if line not in own]
    lines += [f"--exclude={','.join(nodes)}"] if nodes else []
    skipped = slurm_names(options.skip_directives)
    return [line for line in lines if not slurm_names([line]) <= skipped]


def slurm_names(lines: tuple[str, ...] | list[str]) -> set[str]:
    """Return the option names of directives, without their values."""
    return {_option(line)[0] for line in lines}


def _option(line: str) -> tuple[str, str]:
    """Return name and value of a directive: ``--name=value``, ``--name value``, ``-n1``."""
    if line.startswith("--"):
        name, *value = re.split(r"[= ]", line.strip(), maxsplit=1)
        return name, "".join(value).strip()
    return line[:2], line[2:].strip(" =")


def step_arguments(options: JobOptions, cores: int) -> list[str]:
    """Return the `srun` options of a step that takes its share of the driver's allocation.

    Without `--gres=none` a step takes every GPU of the allocation, without `--mem` all its memory,
    and the next step waits for it to end; `--mem=0` shares the memory.
    """
    lines = ["--nodes=1", "--ntasks=1", "--exact", f"--cpus-per-task={cores}"]
    lines += [f"--gres={options.gres or 'none'}", f"--mem={options.memory or 0}"]
    lines += [f"--constraint={options.constraint}"] if options.constraint else []
    skipped = slurm_names(options.skip_directives)
    return [line for line in (*lines, *options.directives) if not slurm_names([line]) <= skipped]


def prologue(options: JobOptions, environment: Mapping[str, str]) -> list[str]:
    """Return the shell lines of a job script before its workers start.

    ``CAH_JOB_END`` is when Slurm will end the job, in seconds since 1970: newer versions tell the
    job, older ones count from its start.
    """
    lines = [*options.prologue, "ulimit -c 0  # a core dump of torch takes gigabytes"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    if options.time is not None:
        end = f"$(($(date +%s) - SECONDS + {walltime_s(options.time)}))"
        lines.append(f'export CAH_JOB_END="${{SLURM_JOB_END_TIME:-{end}}}"')
    return lines


class Queued(msgspec.Struct, frozen=True):
    """One line of ``squeue``: a job that Slurm still knows."""

    job_id: str
    state: str
    left_s: float | None
    reason: str
    name: str

    @property
    def is_running(self) -> bool:
        """Whether its processes should be at work."""
        return self.state == "R"


SQUEUE_FORMAT = "%A|%t|%L|%r|%j"
LIVE = frozenset(["PD", "R", "CF", "S", "ST", "RQ", "RS", "RH", "SI", "SO", "RD"])
"""States of jobs that run, or will run or run again; all others are over."""


def parse_squeue(text: str, prefix: str) -> list[Queued]:
    """Return the live jobs whose names begin with `prefix`."""
    return [job for job in _jobs(text) if job.state in LIVE and job.name.startswith(prefix)]


def _jobs(text: str) -> Iterator[Queued]:
    for line in text.splitlines():
        fields = line.split("|", 4)
        if len(fields) == 5:
            job_id, state, left, reason, name = map(str.strip, fields)
            yield Queued(job_id, state, parse_left(left), reason, name)


def parse_left(text: str) -> float | None:
    """Return the seconds of ``squeue``'s time left; None where there is no end."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text.strip())
    if match is None:
        return None
    days, hours, minutes, seconds = (int(field or 0) for field in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


class Partition(msgspec.Struct, frozen=True):
    """What ``sinfo`` says of a partition; `limit_s` is None where there is no limit."""

    limit: str
    limit_s: float | None
    nodes: int


SINFO_FORMAT = "%R|%l|%D"


def parse_sinfo(text: str) -> dict[str, Partition]:
    """Return the partitions that there are, by name; the nodes of all their lines together."""
    found: dict[str, Partition] = {}
    for line in text.splitlines():
        if line.count("|") == 2:
            name, limit, nodes = line.split("|")
            before = found[name].nodes if name in found else 0
            found[name] = Partition(limit, parse_left(limit), before + int(nodes))
    return found


def count_processors(text: str) -> int:
    """Return the sum of ``SLURM_JOB_CPUS_PER_NODE``, such as ``72(x2),36``."""
    groups = re.findall(r"(\d+)(?:\(x(\d+)\))?", text)
    return sum(int(count) * int(times or 1) for count, times in groups)


INHERITED = re.compile(
    r"^((SBATCH|SQUEUE|SINFO|SCANCEL|SCONTROL)_.*|SLURM_EXPORT_ENV|SLURM_CLUSTERS"
    r"|SLURM_(MEM|CPUS|TRES|GPUS|NTASKS)_PER_.*|SLURM_(NTASKS|NPROCS|EXCLUSIVE|HINT))$"
)


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment to submit jobs from, without what the driver's own job was given.

    ``SBATCH_PARTITION`` would overrule our partition, ``SQUEUE_STATES`` hide our own jobs,
    ``SLURM_CLUSTERS`` send them elsewhere, and ``SLURM_MEM_PER_CPU`` beside ``--mem`` makes every
    ``srun`` in the new job fail. After ``sbatch --export=NONE``, ``SLURM_EXPORT_ENV`` would leave
    the steps without ``PATH``.
    """
    return {name: value for name, value in environment.items() if not INHERITED.match(name)}
