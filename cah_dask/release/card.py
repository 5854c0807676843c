"""The data card: what a release holds, how it was made, and how to read it."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from cah_dask.pairs.scores.describe import rules_in_words
from cah_dask.release.layout import FACES, Layout
from cah_dask.release.summary import (
    LANGUAGES_SHOWN,
    Summary,
    by_language,
    funnel,
    long_texts,
)
from cah_dask.schema import score_of, similarity_of
from cah_dask.storage import write_atomic

ARCHIVES_SHOWN = 50
"""Names of archives that the card holds; the others stand in the column."""

MEANINGS = {
    "row": "row of the pair in both arrays",
    "uid": "md5 (hex) of text and url",
    "url": "address of the image, as the page gives it, resolved; published ones as they are",
    "text": "alternative text of the image, cleaned; published ones as they are",
    "split": "`en`, `multi` (another language) or `nolang` (none was recognised)",
    "lang": "language (CLD3, BCP 47); wrong more often than not for texts of few words",
    "lang_confidence": "probability that CLD3 gives it, 0 to 1",
    "lang_is_reliable": "whether CLD3 calls it reliable",
    "text_is_filename": "whether the text looks like the name of a file",
    "license": "Creative Commons link of the page, which may or may not be about the image",
    "page_url": "address of the page",
    "archive": "name of the archive",
    "record_offset": "byte at which the record of the page begins in it; of a table, its row",
    "link_index": "which image link of the page it was, from 0",
    "final_url": "where the image came from, after redirects",
    "mime": "type of the image, from its bytes",
    "n_bytes": "bytes as received",
    "original_width": "pixels as received, upright",
    "original_height": "pixels as received, upright",
    "sha256": "of the bytes as received (hex)",
    "md5": "of the bytes as received (hex)",
    "similarity": "cosine of the two vectors by the encoder that decided, -1 to 1",
    "encoder": "the encoder that decided",
}
"""Of each column of `PAIRS`."""

# The first lines tell Hugging Face which files are the data set.
_TEXT = """\
---
configs:
- config_name: default
  data_files: pairs/*.parquet
tags:
- image-text pairs
---

# Data card

{rows:,} image-text {pair_word} from {archives:,} {archive_word}, made by cah_dask {version}
between {started} and {finished}.

| file | holds |
|---|---|
| `pairs/part-*.parquet` | one row per pair; read the parts in the order of their names |
| `embeddings.zarr` | by encoder, `image` and `text`: float16, ({rows}, dim), rows L2-normalised |
| `report.html` | funnel, rejects, download outcomes, similarities, samples |
| `layout.json` | what makes two releases equal |

Row i of every array is row i of the parquet parts, and the column `row` says i.

```python
import pyarrow.dataset, zarr
pairs = pyarrow.dataset.dataset("pairs").to_table().sort_by("row")
images = zarr.open_group("embeddings.zarr", mode="r")["{encoder}/image"]
```

`datasets.load_dataset(FOLDER)` opens the pairs,
`xarray.open_zarr("embeddings.zarr", group="{encoder}")` the vectors.

## Encoders

| encoder | dim | embeds | model | SHA-256 of its files |
|---|---|---|---|---|
{encoders}

Licence of the models: {licence}.

A pair is kept when the cosine of its two vectors by `{encoder}`, taken in float32 before they are
rounded for storage, is at or above the threshold of its split: {thresholds}.{rules}

## Languages

| split | language | scored | kept | share |
|---|---|---|---|---|
{languages}

{long_texts:,} texts were longer than the context of their tower, and were cut for it.

## Funnel

| stage | rows are | seen | kept | rejected |
|---|---|---|---|---|
{funnel}

## Columns

| column | type | is |
|---|---|---|
{columns}

Urls and texts come from the web as they were found; images are not part of the release and belong
to their owners.

Languages are told by CLD3 from the text alone, and alternative texts are short: of 2,691 ASCII
captions of a documentation web (median three words) 24 % were taken for another language (`multi`)
and 36 % for none (`nolang`); of those with six words 1 % and 15 %. Take `split` for what decided
the threshold, not for the language.

## Archives

{names}
"""


def write_card(path: Path, summary: Summary, layout: Layout) -> None:
    """Write the card as Markdown to `path`."""
    steps = (
        f"| {step.stage} | {step.unit} | {step.seen:,} | {step.kept:,} | "
        f"{', '.join(f'{reason} {count:,}' for reason, count in step.rejected.items())} |"
        for step in funnel(summary)
    )
    n_archives = summary.n_archives
    columns = meanings(layout)
    text = _TEXT.format(
        rows=layout.rows,
        pair_word="pair" if layout.rows == 1 else "pairs",
        archive_word="archive" if n_archives == 1 else "archives",
        started=_day(summary.started),
        finished=_day(summary.finished),
        names="\n".join(_names(summary.archives)),
        archives=n_archives,
        version=summary.versions.get("cah_dask", "unknown"),
        encoder=layout.encoder,
        encoders="\n".join(models(layout)),
        licence=summary.settings.get("embed.licence") or "not known to this tool",
        thresholds=", ".join(f"{split} {value}" for split, value in summary.thresholds.items()),
        rules=_rules(summary),
        languages="\n".join(
            f"| {row.split} | {row.lang} | {row.scored:,} | {row.kept:,} | "
            f"{row.kept / row.scored:.1%} |"
            for row in by_language(summary)[:LANGUAGES_SHOWN]
        ),
        long_texts=long_texts(summary),
        funnel="\n".join(steps),
        columns="\n".join(
            f"| `{field.name}` | {field.type} | {columns[field.name]} |" for field in layout.schema
        ),
    )
    write_atomic(path, text.encode())


def models(layout: Layout) -> Iterator[str]:
    """Yield a line of a table for each model: encoder, dim, what it embeds, name, files."""
    for encoder in layout.encoders:
        towers = {"images": encoder.image, **{f"{s} texts": m for s, m in encoder.texts.items()}}
        for what, model in towers.items():
            files = ", ".join(f"`{name}` {digest}" for name, digest in model.checksums.items())
            yield f"| `{encoder.name}` | {encoder.dim} | {what} | `{model.name}` | {files} |"


def _rules(summary: Summary) -> str:
    """Return the rules that dropped rows; nothing of it where there are none."""
    lines = [f"- {line}" for line in rules_in_words(summary.rules)]
    intro = "\n\nOf these, pairs are dropped of which all is true that one of the rules says:\n"
    return "\n".join([intro, *lines]) if lines else ""


def meanings(layout: Layout) -> dict[str, str]:
    """Return what each column of a release is, in words."""
    similarities = {
        similarity_of(name): f"cosine of the two vectors by the encoder `{name}`, -1 to 1"
        for name in layout.encoder_names
    }
    scores = {
        score_of(score.name): f"{score.what} (file with SHA-256 {score.sha256})"
        for score in layout.scores
    }
    joined = {each.name: "joined; null where its table says nothing" for each in layout.columns}
    if FACES in joined:
        joined[FACES] = "corners of each face (left, top, right, bottom), relative to the image"
    return MEANINGS | similarities | scores | joined


def _day(time: datetime | None) -> str:
    return "an unknown day" if time is None else f"{time:%Y-%m-%d}"


def _names(archives: Sequence[str]) -> Iterator[str]:
    for name in archives[:ARCHIVES_SHOWN]:
        yield f"- {name}"
    if len(archives) > ARCHIVES_SHOWN:
        yield f"- and {len(archives) - ARCHIVES_SHOWN:,} more, in the column `archive`"
