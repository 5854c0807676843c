"""From selected parts to the release: deal rows to shards, check the result, show it at once."""

import shutil
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from cah_dask.errors import ConfigError, RunError
from cah_dask.pairs.options import EmbedOptions
from cah_dask.pairs.scores.describe import described
from cah_dask.pairs.select import SELECTION, SelectOptions
from cah_dask.release import verify
from cah_dask.release.card import write_card
from cah_dask.release.layout import (
    CARD,
    REPORT,
    Layout,
    ReleasedEncoder,
    ReleasedModel,
    ReleasedScore,
    Slice,
    deal,
    fingerprint,
    read_layout,
    rows_of,
)
from cah_dask.release.pack import create_release
from cah_dask.release.report import write_report
from cah_dask.release.summary import ReportOptions, Summary
from cah_dask.run.folder import failures
from cah_dask.run.folder.lost import read_late_waves
from cah_dask.run.folder.run_folder import LOST, RunFolder
from cah_dask.run.plan import Plan
from cah_dask.run.pools import pools
from cah_dask.run.settings.config import Config, PoolsOptions
from cah_dask.run.settings.identity import config_hash, run_hash, run_id, variants
from cah_dask.run.stages import EXTRACT, PACK, SELECT
from cah_dask.run.unit import Unit
from cah_dask.run.watch.figures import PUBLISHED
from cah_dask.run.watch.findings import are_pools_judged, stands_out
from cah_dask.run.watch.from_files import state_of
from cah_dask.run.watch.history import History
from cah_dask.run.watch.whole import Beside, whole_run
from cah_dask.storage import fsync


class Publisher:
    """Knows what the release of one run will hold, once every stage before it is done."""

    def __init__(self, config: Config, folder: RunFolder, plan: Plan) -> None:
        self._config = config
        self._folder = folder
        self._plan = plan
        self._dealt: list[list[Slice]] = []
        self.has_begun = False
        """Whether `create` was called."""

    @property
    def too_many_lost(self) -> str:
        """Why nothing may be published, as more archives are lost than the user allows; else ""."""
        n_lost = self._plan.counts[EXTRACT].notes.get(LOST, 0) - self._plan.n_late
        n_archives = self._plan.known[EXTRACT] - self._plan.n_late
        if n_lost <= self._config.max_lost_share * n_archives:
            return ""
        return (
            f"{n_lost} of {n_archives} archives were not to be had and nothing is published; run "
            f"again to ask for them, or allow it with max_lost_share={n_lost / n_archives:.2g}"
        )

    def may_begin(self) -> bool:
        """Whether all is selected that a release needs."""
        return PACK in self._plan.stages and self._plan.is_selected and not self.too_many_lost

    def is_published(self) -> bool:
        """Whether the release of exactly these pairs is already there, and whole."""
        if not self.may_begin():
            return False
        layout = self._layout()
        release = self._folder.release
        return read_layout(release) == layout and verify.is_whole(release, layout)

    def create(self) -> None:
        """Start the release, or go on with one that was begun; add its units to the plan."""
        self.has_begun = True
        self._require_all_rows()
        layout = self._layout()
        folder, published = self._folder.unfinished_release, self._folder.release
        if read_layout(folder) != layout:
            self._require_ours(folder)
            shutil.rmtree(folder, ignore_errors=True)
            if read_layout(published) == layout:  # but it has lost files
                published.replace(folder)
        create_release(folder, layout)
        verify.drop_unsound(folder, layout)
        self._plan.add_pack(layout.shards)

    def _require_ours(self, folder: Path) -> None:
        """Raise RunError rather than delete what is no unfinished release."""
        if folder.is_dir() and any(folder.iterdir()) and read_layout(folder) is None:
            raise RunError(f"{folder} is in the way and is no release; move it elsewhere")

    def slices(self, unit: Unit) -> tuple[Slice, ...]:
        """Return what one shard of the release is made of."""
        return tuple(self._dealt[unit.number])

    def publish(self) -> None:
        """Check the release, add its report and data card, and give it its name."""
        folder = self._folder.unfinished_release
        verify.verify_release(folder)
        describe(self._folder, folder)
        old = self._folder.old_release
        shutil.rmtree(old, ignore_errors=True)  # a driver died between the lines below
        if self._folder.release.exists():
            self._folder.release.replace(old)
        folder.replace(self._folder.release)
        fsync(self._folder.release.parent)
        shutil.rmtree(old, ignore_errors=True)

    def _require_all_rows(self) -> None:
        """Check that no row was lost between two stages, and that there was anything to read."""
        counts = self._plan.counts
        for later in counts:
            for earlier in counts:
                if later.sees == earlier.name and counts[earlier].kept != counts[later].seen:
                    raise RunError(
                        f"{earlier} kept {counts[earlier].kept} rows but {later} saw "
                        f"{counts[later].seen}; move {later.folder}/ out of the run and run again"
                    )
        n_archives = self._plan.known[EXTRACT]
        if not counts[EXTRACT].notes.get("records") and len(self._plan.lost) >= n_archives:
            raise RunError(f"no archive could be read: {self._plan.lost[0]}")

    @property
    def _selection(self) -> int:
        """What tells the selected rows of the whole run from others."""
        return self._plan.counts[SELECT].notes.get(SELECTION, 0)

    def _layout(self) -> Layout:
        config = self._config
        self._dealt = deal(self._plan.selected_parts(), config.pack.rows_per_shard)
        return msgspec.structs.replace(
            layout_of(config, config.select),
            rows=rows_of(self._dealt),
            config=config_hash(config),
            slices_sha256=fingerprint(self._dealt, self._selection),
            run=run_id(config, self._folder.archives()),
        )


def layout_of(config: Config, select: SelectOptions) -> Layout:
    """Return the layout of a release of a run, but without rows.

    Parameters
    ----------
    select
        Says what scores the selection gives.
    """
    return Layout(
        rows=0,
        encoders=_released(config.embed),
        encoder=config.select.encoder or "",  # preflight names it
        config=run_hash(config),
        rows_per_shard=config.pack.rows_per_shard,
        rows_per_chunk=config.pack.rows_per_chunk,
        slices_sha256="",
        scores=tuple(
            ReleasedScore(name, what, sha256)
            for name, what, sha256 in described(config.embed, select)
        ),
    )


def _released(options: EmbedOptions) -> tuple[ReleasedEncoder, ...]:
    """Return the encoders of a run as its release names them: by no path of ours."""

    def model(name: str) -> ReleasedModel:
        return ReleasedModel(options.names[name], options.checksums[name])

    return tuple(
        ReleasedEncoder(
            name,
            each.dim or 0,  # filled in by then
            model(each.image),
            {split: model(text) for split, text in each.texts.items()},
        )
        for name, each in options.encoders.items()
    )


def describe_again(folder: RunFolder, release: Path, overrides: Sequence[str]) -> Path:
    """Write report and data card of a run anew, as `describe` does.

    Raises
    ------
    ConfigError
        If the release is not that of the settings that the run has now: the figures would be those
        of another one. If something else than ``report.*`` is overridden.
    """
    _check_overrides(overrides)
    config = folder.config(overrides)
    layout = read_layout(release)
    if layout is None and release != RunFolder(folder.path).release:
        raise ConfigError(f"{release} is no release; `cah run --to` says where it puts one")
    if layout is not None and layout.config != config_hash(config):
        raise ConfigError(
            f"{release} was made with other settings of select or pack than {folder.path} was last "
            "run with, so its report stays what it is; run that configuration again first, or name "
            "the release of the last run (--to)"
        )
    return describe(folder, release, config.report)


def _check_overrides(overrides: Sequence[str]) -> None:
    """Refuse to change what would change nothing in a report."""
    prices = [f"report.prices.{pool}" for pool in PoolsOptions.__struct_fields__]
    accepted = ("report.currency", "report.prices", *prices)
    for override in overrides:
        if override.partition("=")[0].strip() not in accepted:
            raise ConfigError(
                f"--set {override}: a report that is written anew takes {', '.join(accepted)}"
            )


def describe(folder: RunFolder, release: Path, options: ReportOptions | None = None) -> Path:
    """Write report and data card into `release`, or only the report while there is no release.

    Parameters
    ----------
    options
        What the report says beside the facts; by default as the run was told.
    """
    layout = read_layout(release)
    summary = _judged(folder, is_whole=layout is not None)
    if options is not None:
        summary = msgspec.structs.replace(summary, options=options)
    if layout is not None:
        write_card(release / CARD, summary, layout)
    report = (release if layout is not None else folder.path) / REPORT
    write_report(report, folder.path, summary)
    return report


def _judged(folder: RunFolder, *, is_whole: bool) -> Summary:
    """Return the summary of a run with what stands out in it.

    `is_whole` tells that all is done but for the name of the release.
    """
    history = History(folder.stages)
    summary = folder.summary(history.add)
    is_finished = is_whole or _is_packed(summary)
    config, hosts = folder.config(), history.hosts()
    beside = Beside(
        now=datetime.now(UTC),
        run=folder.name,
        state=PUBLISHED
        if is_whole
        else state_of(
            folder, config_hash(config), is_driven=folder.has_driver(), is_packed=is_finished
        ),
        hosts=[host for host in hosts if not folder.has_opted_out(host.host)],
        failed={} if is_whole else _failed(folder, config),
        lost=summary.counts(EXTRACT.name).notes.get(LOST, 0)
        - sum(map(len, read_late_waves(folder))),
    )
    run = whole_run(summary, pools(config.pools, config.slurm.launch, folder.stages), beside)
    return msgspec.structs.replace(
        summary,
        stands_out=stands_out(run),
        is_finished=is_finished,
        are_pools_judged=are_pools_judged(run),
        hosts={host.host: host.outcomes for host in hosts},
    )


def _is_packed(summary: Summary) -> bool:
    """Tell whether all that was selected is in shards, wherever they lie."""
    return summary.counts(PACK.name).kept == summary.counts(SELECT.name).kept > 0


def _failed(folder: RunFolder, config: Config) -> Counter[str]:
    """Return how many tasks of each stage were given up and are not done since."""
    known = failures.read(folder.failures_file)
    undone = failures.undone(known, folder.all_entries, variants(config))
    return Counter(failure.stage for failure in undone)
