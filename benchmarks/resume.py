"""Measure what it costs to take up a large run, to ask for its status and to publish it.

    python benchmarks/resume.py [--units 200000 2400000] [--files 200000]

Writes the journal of a run whose units are all done but its release, by the shares of a crawl of
100,000 archives (2.4 million units: 12.4 fetch lists a bucket and wave, 60 bins of similarities a
list, 12 reasons of rejection). Its parts are not written; their names are made up where the folders
would be listed. Each measurement runs in a process of its own: CPU seconds and peak memory.

Last, it lists real files, with and without asking for their sizes and times.
"""

import argparse
import contextlib
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from cah_dask.counts import Counts
from cah_dask.run.folder import job_folder
from cah_dask.run.folder.job_folder import JOURNAL_FILE
from cah_dask.run.folder.journal import Commit, Journal
from cah_dask.run.folder.listing import files_under
from cah_dask.run.folder.lost import late_waves
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.plan import Plan
from cah_dask.run.settings.config import Config
from cah_dask.run.settings.identity import variants
from cah_dask.run.settings.loading import Loaded
from cah_dask.run.stages import DEDUP, DOWNLOAD, EMBED, EXTRACT, SELECT
from cah_dask.run.task import versions
from cah_dask.run.unit import Unit
from cah_dask.run.watch.from_files import FromFiles
from cah_dask.storage import Receipt, SideFile

BUCKETS = 256
PER_WAVE = 300
UNITS_PER_ARCHIVE = 24
LISTS = (12, 13, 12, 12, 13)
"""Fetch lists of one bucket after the other."""
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
FUNNEL = Counts(
    10_000,
    7_000,
    {f"reason_{number:02d}": 250 for number in range(12)},
    {"requests": 12_000, "bytes": 500_000_000},
)
SIMILAR = msgspec.structs.replace(
    FUNNEL,
    notes={
        f"similarity/{split}/{n}": 99 for split in ("en", "multi", "nolang") for n in range(50, 70)
    },
)


def config(folder: Path) -> Config:
    """Return the configuration of the run in a folder."""
    return msgspec.convert({"run_dir": str(folder), "inputs": ["wat.paths"]}, Config)


def archives(units: int) -> list[str]:
    """Return the names of the archives that make so many units."""
    return [
        f"crawl-data/CC-MAIN-2026-05/segments/1768220472562.64/wat/CC-MAIN-20260112115603-{n:05d}.warc.wat.gz"
        for n in range(units // UNITS_PER_ARCHIVE)
    ]


def done_units(names: list[str], variant: str) -> Iterator[tuple[Unit, Receipt]]:
    """Yield the units of a run in the order of a plausible commit, with their receipts."""
    for wave in range(-(-len(names) // PER_WAVE)):
        for name in names[wave * PER_WAVE : (wave + 1) * PER_WAVE]:
            yield finished(Unit(EXTRACT, wave, archive=name), FUNNEL, (name,))
        for bucket in range(BUCKETS):
            lists = LISTS[(wave + bucket) % len(LISTS)]
            counts = Counts(10_000, 10_000, {}, {"lists": lists, "late_lists": 0})
            sides = (
                f"seen/b{bucket:05d}/w{wave:05d}.npy",
                f"seen/b{bucket:05d}/w{wave:05d}.urls.npy",
            )
            unit = Unit(DEDUP, wave, bucket)
            yield finished(unit, counts, (f"candidates/w{wave:05d}",), sides)
            for number in range(lists):
                unit = Unit(DOWNLOAD, wave, bucket, number)
                shard = f"b{bucket:05d}-l{number:05d}-0123abcd.h5"
                fetch = (f"fetch/w{wave:05d}/b{bucket:05d}.parquet",)
                yield finished(unit, FUNNEL, fetch, (shard,))
                yield finished(Unit(EMBED, wave, bucket, number), SIMILAR, fetch)
            scored = tuple(Unit(EMBED, wave, bucket, number).part for number in range(lists))
            yield finished(Unit(SELECT, wave, bucket, variant=variant), FUNNEL, scored)


def finished(
    unit: Unit, counts: Counts, inputs: tuple[str, ...], sides: tuple[str, ...] = ()
) -> tuple[Unit, Receipt]:
    """Return a unit with a receipt as long as a real one."""
    return unit, Receipt(
        stage=unit.stage.name,
        unit=unit.name,
        config="0123456789abcdef",
        counts=counts,
        inputs=inputs,
        side=tuple(SideFile(name, 123_456_789, "0123456789abcdef" * 4) for name in sides),
        versions=versions(),
        seconds=123.456,
    )


def write_run(folder: Path, units: int) -> float:
    """Write configuration and journal of a run; return the MB of the journal."""
    run, names = RunFolder(folder), archives(units)
    with run.driving(Loaded(config(folder), {}), names):
        pass
    journal = Journal(folder / JOURNAL_FILE)
    for number, (unit, receipt) in enumerate(done_units(names, variants(config(folder))["select"])):
        at = BEGIN + timedelta(seconds=number)
        journal.record(Commit(at, unit.stage.name, unit.name, "node0123/cpu-12", 123.456, receipt))
    journal.close()
    return (folder / JOURNAL_FILE).stat().st_size / 1e6


def names_of(units: int, variant: str) -> Callable[[Path], Iterator[str]]:
    """Return what lists the folder of a stage without any file."""

    def names(folder: Path) -> Iterator[str]:
        n_waves = -(-units // UNITS_PER_ARCHIVE // PER_WAVE)
        if folder.name == EXTRACT.folder:
            for number, archive in enumerate(archives(units)):
                yield f"{Unit(EXTRACT, number // PER_WAVE, archive=archive).name}.parquet"
            return
        for wave in range(n_waves):
            for bucket in range(BUCKETS):
                stem = f"w{wave:05d}/b{bucket:05d}"
                if folder.name == DEDUP.folder:
                    yield f"{stem}.parquet"
                elif folder.name == SELECT.folder:
                    yield f"{variant}/{stem}.parquet"
                else:
                    for number in range(LISTS[(wave + bucket) % len(LISTS)]):
                        yield f"{stem}-l{number:05d}.parquet"
                        if folder.name == DOWNLOAD.folder:
                            yield f"{stem}-l{number:05d}-0123abcd.h5"

    return names


def resume(folder: Path, units: int) -> list[tuple[str, float, float]]:
    """Take up a run, then sum it up as it is done to publish it; return what each step takes."""
    run, options, names = RunFolder(folder), config(folder), archives(units)
    job_folder.files_under = names_of(units, variants(options)["select"])  # type: ignore[assignment,attr-defined]
    steps = []
    with run.driving(Loaded(options, {}), names):
        late = late_waves(run)
        existing = run.existing()
        steps.append(used("resume: journal and listing"))
        plan = Plan(
            run.archives(),
            archives_per_wave=PER_WAVE,
            buckets=BUCKETS,
            committed=existing,
            late=late,
            variants=variants(options),
        )
        if not plan.is_selected:
            raise SystemExit(f"the plan knows of {plan.done} only")
        steps.append(used("resume: and plan"))
        run.summary()
        steps.append(used("resume, then publish: and summary"))
    return steps


def status(folder: Path) -> list[tuple[str, float, float]]:
    """Make the figures of a run, as `cah status` does."""
    before = time.process_time()
    FromFiles(RunFolder(folder)).figures()
    return [used("status", before)]


def used(step: str, before: float = 0.0) -> tuple[str, float, float]:
    """Return CPU seconds and peak MB of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return step, time.process_time() - before, peak


def alone(function: Callable, *arguments: object) -> list[tuple[str, float, float]]:
    """Call a function in a new process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(function, *arguments).result()


def list_files(folder: Path, n_files: int) -> Iterator[tuple[str, float]]:
    """Yield the CPU seconds to list files, and to ask for their sizes and times as well."""
    for number in range(n_files):
        path = folder / f"w{number // 3000:05d}" / f"b{number:010d}-l00000.parquet"
        if not number % 3000:
            path.parent.mkdir(parents=True)
        path.touch()
    before = time.process_time()
    names = list(files_under(folder))
    yield "names", time.process_time() - before
    before = time.process_time()
    for name in names:
        (folder / name).stat()
    yield "sizes and times", time.process_time() - before


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--units", type=int, nargs="*", default=[200_000, 2_400_000])
    parser.add_argument("--files", type=int, default=200_000)
    parser.add_argument("--folder", type=Path, help="for what is written (3.5 GB), default: /tmp")
    given = parser.parse_args()
    print("| units | journal, MB | step | CPU s | peak MB |\n|---|---|---|---|---|")
    with contextlib.ExitStack() as stack:
        top = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=given.folder)))
        for units in given.units:
            folder = top / str(units)
            n_mb = write_run(folder, units)
            for step, seconds, peak in alone(resume, folder, units) + alone(status, folder):
                print(
                    f"| {units:,} | {n_mb:,.0f} | {step} | {seconds:.1f} | {peak:.0f} |", flush=True
                )
        for what, seconds in list_files(top / "files", given.files):
            print(f"{given.files:,} files, {what}: {seconds:.2f} CPU s")


if __name__ == "__main__":
    main()
