"""The data card of a derived release: what it was made from, by which rules, what was left out."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from cah_dask.release.card import meanings, models
from cah_dask.release.layout import Layout
from cah_dask.release.manifest import Manifest, Step
from cah_dask.storage import write_atomic
from cah_dask.words import counted

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

{pairs}, chosen from {source}.

| file | holds |
|---|---|
| `pairs/part-*.parquet` | one row per pair; read the parts in the order of their names |
| `embeddings.zarr` | by encoder, `image` and `text`: float16, ({rows}, dim), rows L2-normalised |
| `manifest.json` | what it was made from, the rules, and how many pairs each left out |
| `layout.json` | what makes two releases equal |

Row i of every array is row i of the parquet parts, and the column `row` says i.

```python
import pyarrow.dataset, zarr
pairs = pyarrow.dataset.dataset("pairs").to_table().sort_by("row")
images = zarr.open_group("embeddings.zarr", mode="r")["{encoder}/image"]
```

## How it was made

{steps}

## Encoders

| encoder | dim | embeds | model | SHA-256 of its files |
|---|---|---|---|---|
{encoders}

`similarity` is that of `{encoder}`.

## Columns

| column | type | is |
|---|---|---|
{columns}

Urls and texts come from the web as they were found; images are not part of the release and belong
to their owners.
"""


def write_derived_card(path: Path, manifest: Manifest, layout: Layout) -> None:
    """Write the card as Markdown to `path`; it depends on manifest and layout alone."""
    says = meanings(layout)
    of = {
        "run": "what a run has scored",
        "release": "the release of a run",
        "metadata": "metadata of DataComp",
    }
    text = _TEXT.format(
        pairs=counted(layout.rows, "image-text pair"),
        source=of[manifest.steps[0].of],
        rows=layout.rows,
        encoder=layout.encoder,
        steps="\n\n".join(_step(number, step) for number, step in enumerate(manifest.steps, 1)),
        encoders="\n".join(models(layout)),
        columns="\n".join(
            f"| `{field.name}` | {field.type} | {says[field.name]} |" for field in layout.schema
        ),
    )
    write_atomic(path, text.encode())


def _step(number: int, step: Step) -> str:
    return "\n".join(_lines(number, step))


def _lines(number: int, step: Step) -> Iterator[str]:
    source = f" with fingerprint `{step.fingerprint}`" if step.fingerprint else ""
    yield f"{number}. **{step.how}** of the {step.of}{source}: "
    kept = f"{step.counts.kept:,} of {counted(step.counts.seen, 'row')}"
    yield f"   {kept} were kept.\n"
    yield "   | left out as | rows |\n   |---|---|"
    yield from (f"   | {reason} | {n:,} |" for reason, n in step.counts.rejected.items())
    for limit in step.limits:
        yield f"\n   Of every pair, {limit}."
    if step.rule:
        rule = msgspec.json.format(msgspec.json.encode(step.rule)).decode()
        indented = rule.replace("\n", "\n   ")
        yield f"\n   ```json\n   {indented}\n   ```"
