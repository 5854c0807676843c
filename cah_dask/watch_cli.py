"""The command line that looks at a run by its folder alone: `cah logs | failures | samples | ...`.

No scheduler is needed, and a copy of the folder will do; the run may be alive or long over.
"""

import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cah_dask.errors import ConfigError
from cah_dask.jobs_cli import EXIT_CODES
from cah_dask.run.signals import Signals, Stopped
from cah_dask.terminal import answer, say, tell
from cah_dask.words import counted

if TYPE_CHECKING:
    from cah_dask.release.samples import Wanted
    from cah_dask.run.folder.run_folder import RunFolder

watch_app = typer.Typer()

RunPath = Annotated[Path, typer.Argument(help="Run folder.")]

_FOLLOW_S = 0.5
_BLOCK_BYTES = 1 << 16
_END_BYTES = 16 << 20
"""How much of the end of a log is looked at, however few lines that has."""
_BEAT_WAIT_S = 10.0
"""How long the driver on another machine is listened for."""
_GOES_ON = "the command that began the run (cah run CONFIG, sbatch slurm/launch.sh CONFIG) goes on"


def begun(folder: Path) -> "RunFolder":
    """Return a run folder.

    Raises
    ------
    ConfigError
        If no run was started there.
    """
    from cah_dask.run.folder.run_folder import RunFolder

    found = RunFolder(folder)
    if not found.has_begun:
        raise ConfigError(f"{folder} is no run folder; `cah runs {folder}` finds those below it")
    return found


@watch_app.command()
def logs(
    folder: RunPath,
    name: Annotated[
        str, typer.Argument(help="Of `driver` or of worker jobs, such as `cpu-3`; `list` lists.")
    ] = "driver",
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Last lines shown.")] = 40,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show what is added, too.")
    ] = False,
) -> None:
    """Print the log of the driver, or those of worker jobs."""
    run = begun(folder)
    if name == "list":
        for path in _logs(run):
            tell(f"{path.stem}: {counted(path.stat().st_size if path.exists() else 0, 'byte')}")
        return
    paths = _logs(run, name)
    if not paths:
        raise ConfigError(f"{folder} has no log of {name}; `cah logs {folder} list` names them")
    ends = {path: _print_end(path, lines, is_named=len(paths) > 1) for path in paths}
    with contextlib.suppress(Stopped), Signals():
        while follow:
            time.sleep(_FOLLOW_S)
            for path in _logs(run, name):
                if path not in ends:
                    tell(f"== {path.name}")
                ends[path] = _print_from(path, ends.get(path, 0))


def _logs(run: "RunFolder", name: str = "") -> list[Path]:
    """Return the logs that there are now, all or those of a name."""
    found = [run.log_file, *sorted((run.path / "jobs").glob("*.out"))]
    return [path for path in found if not name or f"-{name}-" in f"-{path.stem}-"]


def _print_end(path: Path, lines: int, *, is_named: bool) -> int:
    """Print the last lines of a log; return where it ends."""
    if is_named:
        tell(f"== {path.name}")
    if not path.exists():
        return 0
    with path.open("rb") as file:
        start = end = file.seek(0, 2)
        blocks: list[bytes] = []
        n_lines = 0
        while start and n_lines <= lines and end - start < _END_BYTES:
            before = max(0, start - _BLOCK_BYTES)
            file.seek(before)
            blocks.append(file.read(start - before))
            start, n_lines = before, n_lines + blocks[-1].count(b"\n")
    data = b"".join(reversed(blocks))
    for line in data.decode("utf-8", "replace").splitlines()[-lines:] if lines else ():
        tell(line)
    return end


def _print_from(path: Path, start: int) -> int:
    """Print the whole lines that were added; return where they end."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        file.seek(start)
        data = file.read()
    whole, newline, _ = data.rpartition(b"\n")
    for line in whole.decode("utf-8", "replace").split("\n") if newline else ():
        tell(line)
    return start + len(whole) + len(newline)


@watch_app.command(epilog=EXIT_CODES)
def failures(
    folder: RunPath,
    trace: Annotated[bool, typer.Option("--trace", help="Print where each fault arose.")] = False,
    everything: Annotated[
        bool,
        typer.Option(
            "--all", help="Also those that another attempt made good, or of an earlier release."
        ),
    ] = False,
) -> None:
    """Print the tasks that were given up and the archives that were lost, and why.

    Ends with 6 if there are any. What could not be read of other archives is printed, too; no retry
    changes that.
    """
    from cah_dask.run.folder import failures
    from cah_dask.run.settings.identity import variants

    run = begun(folder)
    known = list(failures.read(run.failures_file))
    undone = failures.undone(known, run.all_entries, variants(run.config()))
    lost, damaged = _lost(run)
    for each in known if everything else undone:
        where = f" on {each.worker}" if each.worker else ""
        tell(
            f"{each.at:%Y-%m-%d %H:%M:%S} {each.stage} {each.unit}: {each.then} after attempt "
            f"{each.attempt}{where}: {_in_a_line(each.message)}"
        )
        for line in each.detail.splitlines() if trace else ():
            tell(f"    {line}")
    for word, lines in (("lost", lost), ("read in part", damaged)):
        for line in lines:
            tell(f"{word}: {_in_a_line(line)}")
    if not undone and not lost:
        tell("no task was given up, no archive was lost")
        return
    say(f"`cah retry {folder}` has them tried again")
    sys.exit(6)


def _lost(run: "RunFolder") -> tuple[list[str], list[str]]:
    """Return why archives are lost that are asked for again, and what others could not give."""
    from cah_dask.run.folder.faults import LOST_FOR_NOW

    is_there = run.extracted()
    asked_again = tuple(f"{name}: " for name in run.lost().values() if not is_there(name))
    faults = run.summary().lost
    lost = [line for line in faults if LOST_FOR_NOW in line and line.startswith(asked_again)]
    return lost, [line for line in faults if LOST_FOR_NOW not in line]


def _in_a_line(text: str) -> str:
    return " ".join(text.split("\n"))


@watch_app.command()
def retry(folder: RunPath) -> None:
    """Have the driver at work try again what it gave up, once it has done all else."""
    run = begun(folder)
    if run.has_driver(_BEAT_WAIT_S):
        run.retry_file.touch()
        tell("the driver tries again what it gave up, once it has done all else")
    elif _is_over(run):
        raise ConfigError(f"all of {folder} is done: there is nothing to try again")
    else:
        tell(f"no driver is at work: {_GOES_ON} with it, and tries again all that was given up")


def _is_over(run: "RunFolder") -> bool:
    """Tell whether the release is there, no driver is at work and none has anything to do.

    While there is no release a long journal is not read: a pause has to be quick.
    """
    from cah_dask.run.watch.figures import PUBLISHED
    from cah_dask.run.watch.from_files import FromFiles

    if not run.release.exists():
        return False
    return FromFiles(run).figures().state == PUBLISHED and not _lost(run)[0]


@watch_app.command()
def pause(folder: RunPath) -> None:
    """Stop downloads within seconds; what is downloaded is still worked on."""
    run = begun(folder)
    if run.config().download.source == "archives":
        raise ConfigError(f"pictures of {folder} come from archives: no site is asked")
    if _is_over(run):
        raise ConfigError(f"all of {folder} is done: there are no downloads to pause")
    run.pause_file.touch()
    tell(f"downloads are paused; `cah resume {folder}` has them go on")


@watch_app.command()
def resume(folder: RunPath) -> None:
    """Have downloads go on that were paused."""
    from cah_dask.run.watch.figures import NOT_DRIVEN
    from cah_dask.run.watch.from_files import FromFiles

    run = begun(folder)
    was_paused = run.pause_file.exists()
    run.pause_file.unlink(missing_ok=True)
    tell("downloads go on" if was_paused else "downloads were not paused")
    if FromFiles(run).figures(wait_s=_BEAT_WAIT_S).state == NOT_DRIVEN:
        tell(f"no driver is at work: {_GOES_ON} with it")


@watch_app.command()
def samples(
    folder: RunPath,
    to: Annotated[
        Path,
        typer.Option(help="FILE.html, or FILE.png, which has the letters of this machine's fonts."),
    ],
    outcome: Annotated[str, typer.Option(help="Of the download, such as decode_error.")] = "ok",
    split: Annotated[str, typer.Option(help="en, multi or nolang.")] = "",
    lang: Annotated[str, typer.Option(help="Language of the text, such as de.")] = "",
    host: Annotated[str, typer.Option(help="Of the image, with those below it.")] = "",
    similarity: Annotated[
        str, typer.Option(metavar="LOW:HIGH", help="Such as 0.28:0.3 or :0.1.")
    ] = ":",
    kept: Annotated[
        bool | None, typer.Option("--kept/--rejected", help="What a release holds, or the others.")
    ] = None,
    number: Annotated[int, typer.Option(min=1, max=2000, help="Samples shown.")] = 96,
    seed: Annotated[int, typer.Option(help="Another one shows others.")] = 0,
    lists: Annotated[int, typer.Option(min=1, help="Fetch lists looked at, at most.")] = 400,
) -> None:
    """Write a contact sheet: samples of the whole run, drawn by a seed.

    Where rules drop pairs, only kept ones are shown. A page has the letters of the machine that
    shows it; in a PNG those that no font of this machine has are boxes, and a line says so.
    """
    from cah_dask.release.samples import Wanted, choose, why_gone
    from cah_dask.release.sheet import Sheet, write_sheet

    if to.suffix not in (".html", ".png"):
        raise ConfigError(f"--to {to}: expected FILE.html or FILE.png")
    low, high = _range(similarity)
    wanted = Wanted(
        outcome=outcome, split=split, lang=lang, host=host, low=low, high=high, is_kept=kept
    )
    run = begun(folder)
    names = run.lists(seed, lists, wanted.host)
    summary = run.summary()
    found = list(choose(folder, summary, names, wanted, number, seed))
    about = _described(wanted, similarity)
    title = f"{counted(len(found), 'sample')} of {folder.resolve().name}"
    drawn = f"{about}; drawn by seed {seed} from {counted(len(names), 'fetch list')}"
    boxes = write_sheet(to, Sheet(title, drawn, found, why_gone(summary)))
    if boxes:
        say(
            f"{to}: no font of this machine has {counted(len(boxes), 'letter')} of the captions "
            f"({' '.join(boxes[:8])}): they are boxes; install fonts such as fonts-noto-cjk, or "
            f"ask for {to.stem}.html"
        )
    tell(f"{to}: {counted(len(found), 'sample')} ({about})")


def _range(text: str) -> tuple[float, float]:
    low, colon, high = text.partition(":")
    try:
        limits = float(low or "-inf"), float(high or "inf")
    except ValueError:
        limits = 1.0, 0.0
    if not colon or not limits[0] <= limits[1]:
        raise ConfigError(f"--similarity {text}: expected LOW:HIGH, such as 0.28:0.3 or :0.1")
    return limits


def _described(wanted: "Wanted", similarity: str) -> str:
    kept = {None: "", True: "kept", False: "rejected"}[wanted.is_kept]
    told = [wanted.outcome, wanted.split, wanted.lang, wanted.host, kept]
    told += [f"similarity {similarity}"] if similarity != ":" else []
    return ", ".join(filter(None, told))


@watch_app.command()
def runs(
    folder: Annotated[Path, typer.Argument(help="Folder that runs lie in, at any depth.")],
) -> None:
    """Print a table of the runs below a folder: how far each is, and who drives it."""
    from cah_dask.run.watch.runs import runs_table

    table = runs_table(folder)
    if not table.rows:
        raise ConfigError(f"{folder} has no run folder in it")
    answer.print(table)
