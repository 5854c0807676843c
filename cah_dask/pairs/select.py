"""Which scored samples a release holds: one list of them in, the rows of those that agree out.

Selecting needs neither images nor a model, so another selection of a run costs no crawl.
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cah_dask.counts import Counts, Reject
from cah_dask.errors import ConfigError
from cah_dask.pairs.catalogue import Preset, published_thresholds
from cah_dask.pairs.options import EmbedOptions, Name
from cah_dask.pairs.scores.judge import NO_JUDGE, Judge
from cah_dask.pairs.scores.options import HeadOptions, Rules, ScoreName, WordsOptions
from cah_dask.schema import SPLITS, Split, selected, similarity_of

SELECTION = "crc32"
"""The note that tells the rows of a selected part from others; summed over parts it tells a release
from others."""


SCORED_LANGUAGE, KEPT_LANGUAGE = "scored", "kept"
"""The notes, by split and language, of samples and of those of them that were kept."""


class SelectOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which scored pairs a release holds. A finished run may select again."""

    encoder: Name | None = None
    """The encoder whose similarities decide, as `embed.encoders` calls it. Default: the first."""
    thresholds: dict[Split, Annotated[float, msgspec.Meta(ge=-1, le=1)]] = {}
    """Cosine similarity per split (en, multi, nolang) at or above which a pair is kept. A threshold
    belongs to one encoder: published ones are known, any other must be given here."""
    top_fraction: dict[Split, Annotated[float, msgspec.Meta(gt=0, lt=1)]] = {}
    """Instead of a threshold: the share of a split's scored samples that is kept, ties included, as
    DataComp does. The threshold is known once all are scored; report and data card name it."""
    heads: dict[ScoreName, HeadOptions] = {}
    """Scores of stored image vectors by small networks, by name:
    `{punsafe: {file: FILE, kind: laion-nsfw}}`."""
    words: dict[ScoreName, WordsOptions] = {}
    """Scores of texts by how many listed words they hold, by name:
    `{young: {file: children-en}}`."""
    drop: Rules = {}
    """Rules by name: each drops the rows of which all its limits are true, counted as `rule_NAME`:
    `{explicit: {nsfw: {above: 0.7}}}`."""

    def is_settled_from(self, asked: "SelectOptions") -> bool:
        """Tell whether these are options that were asked for, with the thresholds then found."""
        given = {s: value for s, value in self.thresholds.items() if s not in self.top_fraction}
        return asked in (self, msgspec.structs.replace(self, thresholds=given))


def complete(
    options: SelectOptions,
    embed: EmbedOptions,
    preset: Preset | None = None,
    splits: Sequence[Split] = SPLITS,
) -> SelectOptions:
    """Return the options with an encoder, and a threshold for each split.

    Parameters
    ----------
    embed
        As `resolve` returned them.
    preset
        The one that they came from, if any.
    splits
        The splits that the run embeds.

    Raises
    ------
    ConfigError
        If there is no such encoder, or a split without a threshold or with two.
    """
    name = options.encoder or next(iter(embed.encoders))
    if name not in embed.encoders:
        raise ConfigError(
            f"select.encoder is {name}, which is no encoder of this run; "
            f"it has {', '.join(embed.encoders)}"
        )
    known = published_thresholds(embed.encoders[name])
    if preset is not None and name in preset.encoders:
        known |= preset.encoders[name].thresholds
    known |= options.thresholds
    if both := [split for split in options.top_fraction if split in options.thresholds]:
        raise ConfigError(
            f"select.thresholds and select.top_fraction are both given for {both[0]} texts; "
            "leave one of them out"
        )
    known = {split: known[split] for split in known if split not in options.top_fraction}
    missing = [split for split in splits if split not in {*known, *options.top_fraction}]
    if missing:
        raise ConfigError(
            f"no threshold is known for {', '.join(missing)} texts with encoder {name}; set "
            f"select.thresholds.{missing[0]} (a cosine in [-1, 1]) or select.top_fraction."
            f"{missing[0]} (a share, then `cah calibrate`), or leave such texts out with "
            "extract.splits"
        )
    in_order = {split: known[split] for split in SPLITS if split in known}
    return msgspec.structs.replace(options, encoder=name, thresholds=in_order)


def columns(encoder: str) -> list[str]:
    """Return the columns of scored samples that `select_list` looks at."""
    return ["uid", "split", "lang", similarity_of(encoder)]


def select_list(
    part: str,
    scored: pa.Table,
    encoder: str,
    thresholds: Mapping[Split, float],
    judge: Judge = NO_JUDGE,
) -> tuple[pa.Table, Counts]:
    """Select the pairs of one list that agree and that no rule drops.

    Parameters
    ----------
    part
        Path of the scored part, relative to the run folder.
    scored
        Its `columns`, and those of the judge.
    thresholds
        Similarity per split at or above which a pair is kept; decided in float32.
    judge
        Is asked for the rows that reach it only; what it drops is counted under its own reasons.

    Returns
    -------
    tuple
        The rows (`schema.selected`) in their order, and what became of all.
    """
    found = scored[similarity_of(encoder)].to_numpy()
    rows = np.flatnonzero(found >= _floor(scored["split"], thresholds)).astype(np.int32)
    n_below = len(scored) - len(rows)
    judgement = judge(scored.take(rows))
    rows = rows[judgement.is_kept]
    made = [pa.repeat(part, len(rows)), pa.array(rows), scored["uid"].take(rows)]
    made += [pa.array(score[judgement.is_kept]) for score in judgement.scores.values()]
    rejected = {Reject.BELOW_THRESHOLD.value: n_below} if n_below else {}
    counts = Counts(
        len(scored), len(rows), rejected | judgement.dropped, _by_language(scored, rows)
    )
    return pa.table(made, schema=selected(judge.names)), counts


def _by_language(scored: pa.Table, kept: npt.NDArray[np.int32]) -> dict[str, int]:
    """Count the samples and the kept ones of each language of each split."""
    return {
        f"{note}/{row['split']}/{row['lang']}": row["lang_count"]
        for note, rows in ((SCORED_LANGUAGE, scored), (KEPT_LANGUAGE, scored.take(kept)))
        for row in rows.group_by(["split", "lang"]).aggregate([("lang", "count")]).to_pylist()
    }


def checksum(selected: Sequence[pa.Table]) -> int:
    """Return the CRC-32 of uids and row numbers."""
    crc = 0
    for table in selected:
        crc = zlib.crc32(b"".join(table["uid"].to_pylist()), crc)
        crc = zlib.crc32(np.ascontiguousarray(table["row"].to_numpy(), "<i4").tobytes(), crc)
    return crc


def _floor(splits: pa.ChunkedArray, thresholds: Mapping[Split, float]) -> npt.NDArray[np.float32]:
    """Return the threshold of each row; NaN, which nothing reaches, for a split without one."""
    known = np.array([thresholds.get(split, np.nan) for split in SPLITS], np.float32)
    index: npt.NDArray[np.int32] = pc.index_in(splits, pa.array(SPLITS)).to_numpy()
    return known[index]
