"""What `sbatch`, `squeue` and `sinfo` print, read; sites add banners, warnings and suffixes."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[\w.,:=*@&|()\[\]+-]+$")]


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
