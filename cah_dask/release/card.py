"""The data card: what a release holds, how it was made, and how to read it."""

from pathlib import Path

from cah_dask.pairs.store import Layout
from cah_dask.release.summary import Summary, funnel
from cah_dask.schema import PAIRS
from cah_dask.storage import write_atomic

_TEXT = """\
# Data card

{rows:,} image-text pairs from {archives:,} archives, made by cah_dask {version}.

| file | holds |
|---|---|
| `pairs/part-*.parquet` | one row per pair; read the parts in the order of their names |
| `embeddings.zarr` | `image` and `text`, float16, shape ({rows}, {dim}), rows L2-normalised |
| `report.html` | funnel, rejects, download outcomes, similarities, samples |
| `layout.json` | what makes two releases equal |

Row i of both arrays is row i of the parquet parts, and the column `row` says i.

```python
import pyarrow.dataset, zarr
pairs = pyarrow.dataset.dataset("pairs").to_table().sort_by("row")
images = zarr.open_group("embeddings.zarr", mode="r")["image"]
```

## Model

`{encoder}`, weights SHA-256 `{weights}`. A pair is kept when the cosine of its two vectors, taken
in float32 before they are rounded for storage, is at or above the threshold of its split:
{thresholds}.

## Funnel

| stage | rows are | seen | kept | rejected |
|---|---|---|---|---|
{funnel}

## Columns

{columns}

Urls and texts come from the web as they were found; images are not part of the release and belong
to their owners. `license` is a Creative Commons link of the page, which may or may not be about the
image.
"""


def write_card(path: Path, summary: Summary, layout: Layout) -> None:
    """Write the card as Markdown to `path`."""
    steps = (
        f"| {step.stage} | {step.unit} | {step.seen:,} | {step.kept:,} | "
        f"{', '.join(f'{reason} {count:,}' for reason, count in step.rejected.items())} |"
        for step in funnel(summary)
    )
    text = _TEXT.format(
        rows=layout.rows,
        dim=layout.dim,
        archives=summary.stages["extract"].tasks,
        version=summary.versions.get("cah_dask", "unknown"),
        encoder=layout.encoder,
        weights=layout.weights_sha256,
        thresholds=", ".join(f"{split} {value}" for split, value in summary.thresholds.items()),
        funnel="\n".join(steps),
        columns="\n".join(f"- `{field.name}`: {field.type}" for field in PAIRS),
    )
    write_atomic(path, text.encode())
