"""What people use from Python, as in a notebook: carry a run to its end, open what it published.

::

    from cah_dask.api import open_release, run

    finished = run("configs/mine.yaml", ["download.contact=you@your.org"])
    release = open_release(finished.release)
    release.pairs.to_table(columns=["url", "text", "similarity"]).to_pandas()
    release.vectors("image")[:10]
"""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.dataset as ds
import zarr
from rich.console import Console

from cah_dask.errors import InputError, RunError
from cah_dask.jobs_cli import carry_run
from cah_dask.release.layout import EMBEDDINGS, PAIRS_FOLDER, Layout, read_layout
from cah_dask.run.signals import StoppedByHand
from cah_dask.schema import MODALITIES, Modality

if TYPE_CHECKING:
    from cah_dask.release.samples import Sample
    from cah_dask.release.summary import FunnelStep
    from cah_dask.run.folder.run_folder import RunFolder

_LISTS = 400
"""Fetch lists that samples are drawn from, at most."""


@dataclass(frozen=True)
class Release:
    """A published release: row i of `vectors` belongs to the pair whose column ``row`` is i."""

    path: Path
    layout: Layout

    def __len__(self) -> int:
        return self.layout.rows

    @property
    def pairs(self) -> ds.Dataset:
        """The pairs, `schema.PAIRS`, in the order of their rows."""
        return ds.dataset(sorted((self.path / PAIRS_FOLDER).glob("part-*.parquet")))

    def vectors(self, modality: Modality, encoder: str = "") -> "zarr.Array[Any]":
        """Return the float16 unit vectors of images or texts, ``(rows, dim)``.

        Parameters
        ----------
        encoder
            By default the one that decided what was kept.

        Raises
        ------
        InputError
            If the release has no such vectors.
        """
        name = f"{encoder or self.layout.encoder}/{modality}"
        known = [f"{each}/{of}" for each in self.layout.encoder_names for of in MODALITIES]
        if name not in known:
            raise InputError(f"{self.path} has no vectors {name}; it has {', '.join(known)}")
        found = zarr.open_group(self.path / EMBEDDINGS, mode="r")[name]
        if not isinstance(found, zarr.Array):
            raise InputError(f"{self.path}: {name} is no array")
        return found


@dataclass(frozen=True)
class Run:
    """A run folder."""

    path: Path
    release: Path
    """The release that was made of it."""

    @property
    def funnel(self) -> "list[FunnelStep]":
        """Rows seen, kept and rejected by reason, stage by stage."""
        from cah_dask.release.summary import funnel

        return funnel(_folder(self.path).summary())

    def samples(self, number: int = 24, *, seed: int = 0, **wanted: Any) -> "list[Sample]":
        """Return samples for people to look at, drawn by a seed from the whole run.

        Parameters
        ----------
        wanted
            Which ones, as `release.samples.Wanted` has it: ``is_kept=True``, ``lang="de"``,
            ``low=0.28``, ``outcome="decode_error"``.
        """
        from cah_dask.release.samples import Wanted, choose

        folder = _folder(self.path)
        which = Wanted(**wanted)
        names = folder.lists(seed, _LISTS, which.host)
        return list(choose(self.path, folder.summary(), names, which, number, seed))


def open_release(path: str | Path) -> Release:
    """Open a release.

    Raises
    ------
    InputError
        If there is none.
    """
    layout = read_layout(Path(path))
    if layout is None:
        raise InputError(f"{path} is no release; it is the folder `release` of a finished run")
    return Release(Path(path), layout)


def run(config: str | Path, overrides: Sequence[str] = (), *, to: str | Path | None = None) -> Run:
    """Carry a run to its end, from wherever it stands, as `cah run` does; news are printed.

    It works in a thread, so that a loop of events may be at work in the caller's. An interrupt
    stops it: what is committed stays, and the same call goes on.

    Parameters
    ----------
    config
        YAML file.
    overrides
        ``key=value``, as for ``--set``.
    to
        Folder of the release, instead of `release` in the run folder.

    Raises
    ------
    ConfigError
        If anything is wrong with the configuration; nothing is written then.
    RunError
        If tasks were given up, or a person must look.
    """
    signals = StoppedByHand()
    place = None if to is None else Path(to)
    with ThreadPoolExecutor(1, "run") as threads:
        finished = threads.submit(_run, Path(config), overrides, place, signals)
        try:
            return finished.result()
        except KeyboardInterrupt:
            signals.stop()
            raise


def _run(config: Path, overrides: Sequence[str], to: Path | None, signals: StoppedByHand) -> Run:
    from cah_dask.run import pipeline
    from cah_dask.run.before import preflight
    from cah_dask.run.progress import Progress

    prepared = preflight.prepare(config, overrides)
    folder = _folder(Path(prepared.config.run_dir), to)
    console = Console(file=sys.stdout, force_terminal=False, force_jupyter=False, soft_wrap=True)
    ending = carry_run(prepared, folder, Progress(console), signals)
    if ending is not pipeline.Ending.PUBLISHED:
        raise RunError(f"the run is {ending.value}; {folder.log_file} says more, call again")
    return Run(folder.path, folder.release)


def _folder(path: Path, release: Path | None = None) -> "RunFolder":
    from cah_dask.run.folder.run_folder import RunFolder

    return RunFolder(path, release=release)
