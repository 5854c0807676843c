"""What the parquet files of a finished run hold, to be compared with what is told of the run."""

import html
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds

from cah_dask.pairs.embed import HISTOGRAM_BINS
from cah_dask.run.folder.run_folder import RunFolder
from cah_dask.run.watch.figures import Figures
from cah_dask.schema import similarity_of


def table(run_dir: Path, folder: str, columns: list[str]) -> dict[str, list[Any]]:
    """Return columns of all parts of a stage."""
    files = sorted((run_dir / folder).rglob("*.parquet"))
    return ds.dataset(files).to_table(columns=columns).to_pydict()


class InFiles:
    """The rows of the parts and of the release of a run, counted."""

    def __init__(self, run_dir: Path) -> None:
        encoder = RunFolder(run_dir).summary().encoder
        similarity = similarity_of(encoder)
        self.outcomes = Counter(table(run_dir, "images", ["status"])["status"])
        scored = table(run_dir, "scored", ["split", similarity])
        self.scored = Counter(scored["split"])
        self.histograms = {
            split: _histogram(split, scored["split"], scored[similarity]) for split in self.scored
        }
        pairs = ds.dataset(run_dir / "release" / "pairs").to_table(columns=["split", "lang"])
        self.pairs = Counter(pairs["split"].to_pylist())
        self.languages = Counter(zip(*pairs.to_pydict().values(), strict=True))

    def agrees_with(self, figures: Figures) -> None:
        """Compare with figures of the end of the run."""
        stages = {stage.name: stage for stage in figures.stages}
        assert all(stage.done == stage.known > 0 for stage in figures.stages), stages
        download = stages["download"]
        assert {"ok": download.kept, **download.rejected} == self.outcomes
        assert download.seen == self.outcomes.total()
        over_time: Counter[str] = Counter()
        for moment in figures.moments:
            over_time.update(moment.outcomes)
        assert over_time == self.outcomes
        assert stages["embed"].kept == stages["select"].seen == self.scored.total()
        assert stages["select"].kept == stages["pack"].kept == self.pairs.total()
        assert {each.split: each.bins for each in figures.histograms} == self.histograms
        assert (figures.staged.n_bytes, figures.left_s) == (0, 0.0)

    def agrees_with_report(self, page: str) -> None:
        """Compare with the text of ``report.html``."""
        text = re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page)))
        n_urls, n_pairs = self.outcomes.total(), self.pairs.total()
        assert f" download urls {n_urls:,} {self.outcomes['ok']:,} " in text
        assert f" select scored samples {self.scored.total():,} {n_pairs:,} " in text
        assert text.count(f"{n_pairs:,} pairs") > 0
        for status, number in self.outcomes.items():
            assert f" {status} {number:,} {number / n_urls:.2%} " in text
        for split, number in self.scored.items():
            assert f" {split} {number:,} samples, threshold " in text
        shown = re.findall(r"(en|multi|nolang) (\w[\w-]*) ([\d,]+) ([\d,]+) [\d.]+% ", text)
        kept = {(split, lang): int(number.replace(",", "")) for split, lang, _, number in shown}
        assert {key: number for key, number in kept.items() if number} == self.languages


def _histogram(split: str, splits: list[str], similarities: list[float]) -> dict[int, int]:
    values = [value for of, value in zip(splits, similarities, strict=True) if of == split]
    counts, _ = np.histogram(np.array(values, np.float32), bins=HISTOGRAM_BINS, range=(-1, 1))
    return {number: int(count) for number, count in enumerate(counts) if count}
