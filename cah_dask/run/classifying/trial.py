"""What the first items of an archive come to, before anything is written: `--dry-run`."""

import contextlib
from collections.abc import Iterator

from cah_dask.classify.loading import keep_of, model_of
from cah_dask.classify.reading import Reading
from cah_dask.classify.rows import KEPT
from cah_dask.classify.scoring import Scoring, with_arrays
from cah_dask.run.classifying.job import ClassifyJob
from cah_dask.run.pools import visible_gpus
from cah_dask.schema import score_of
from cah_dask.words import counted

_SHOWN = 5


def trial(job: ClassifyJob) -> Iterator[str]:
    """Yield lines: what is read of the beginning of the first archive, and scores of one batch.

    Raises
    ------
    CahError
        If the archive cannot be read, or hooks or model fail as a job would not take it.
    """
    options = job.config.options
    name, place = next(iter(job.places.items()))
    reading = Reading(place, name, options)
    with contextlib.closing(reading.groups()) as groups:
        table = next(groups, None)
    rejected = reading.counts.rejected.items()
    lost = "".join(f", {reason} {number:,}" for reason, number in rejected)
    n_items = 0 if table is None else len(table)
    yield f"{name}: the first {counted(n_items, 'item')} of {reading.counts.seen:,} records{lost}"
    yield from reading.errors
    yield from (f"{name}: printed: {line}" for line in reading.printed)
    if table is None or options.model is None:
        return
    device = job.config.device
    if device == "auto":
        device = "cuda" if visible_gpus() else "cpu"
    model = model_of(options, device=device, threads=job.config.pools.gpu.threads)
    scoring = Scoring(model, keep_of(options), options, name)
    (scored,) = scoring.groups(
        with_arrays([table.slice(0, options.batch_size)], options.batch_size)
    )
    for row in scored.slice(0, _SHOWN).to_pylist():
        scores = ", ".join(f"{each} {row[score_of(each)]:.4g}" for each in model.names)
        yield f"{row['url']}: {scores}; {'kept' if row[KEPT] else 'not kept'}"
    yield from scoring.messages
