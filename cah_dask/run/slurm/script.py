"""What a job script says: the text for `sbatch` and `srun`."""

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from cah_dask.run.slurm.options import JobOptions, option_of, slurm_names, walltime_s


def run_prefix(run_dir: Path) -> str:
    """Return what the names of all worker jobs of a run begin with."""
    return f"cah-{hashlib.sha256(str(run_dir.resolve()).encode()).hexdigest()[:8]}-"


def directives(options: JobOptions, log: str, exclude: Sequence[str] = ()) -> list[str]:
    """Return the `sbatch` options that dask-jobqueue does not write itself.

    Worker jobs are never requeued by Slurm: the driver replaces what is lost, once. Of several
    ``--exclude`` sbatch takes the last one, so a user's own is joined to ours.
    """
    own = [line for line in options.directives if option_of(line)[0] in ("--exclude", "-x")]
    nodes = [option_of(line)[1] for line in own] + [*exclude]
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
