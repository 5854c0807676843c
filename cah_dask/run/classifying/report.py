"""What an output says of itself: one HTML page for people, and a data card.

The page is self-contained, and everything that came from archives is escaped.
"""

import base64
import contextlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from cah_dask.archives.responses import read_response
from cah_dask.classify.histogram import lower_end
from cah_dask.classify.hook_runner import HookRunner
from cah_dask.classify.identity import Digests
from cah_dask.classify.options import KeepOptions
from cah_dask.classify.rows import KEPT
from cah_dask.classify.scoring import HISTOGRAM, OF_MODEL
from cah_dask.classify.shown import is_picture
from cah_dask.counts import Counts
from cah_dask.errors import CahError
from cah_dask.release.bar_chart import BarChart, bar_chart
from cah_dask.release.report import as_yaml, template
from cah_dask.run.classifying import private_paths
from cah_dask.run.classifying.config import ClassifyConfig
from cah_dask.run.classifying.output import Layout
from cah_dask.run.task import versions
from cah_dask.schema import score_of
from cah_dask.storage import open_part, write_atomic
from cah_dask.words import counted

CARD = "README.md"
REPORT = "report.html"
ERRORS_SHOWN = 100
CHARTS_SHOWN, LINES_SHOWN, SCORES_SHOWN = 24, 40, 8
"""Charts of scores, lines of each list, and scores of each sample, the highest: a model may have
thousands, and the web thousands of media types."""

_PACKAGE = "cah_dask.run.classifying"
_PARTS_READ = 24


class Summary(msgspec.Struct, frozen=True):
    """What became of all records."""

    archives: int
    counts: dict[str, Counts]
    """By stage."""
    notes: dict[str, int]
    errors: tuple[str, ...]
    verdict: str


@dataclass(frozen=True, slots=True)
class Source:
    """What an output was made of."""

    run_dir: Path
    parts: Mapping[str, str]
    """Path of the part of each archive, by the archive's name."""
    places: Mapping[str, str]
    """Where each archive is."""
    config: ClassifyConfig
    hooks: Digests
    """What the files of the hooks hold."""


class Sample(msgspec.Struct, frozen=True):
    """One item as the report shows it: a picture as a data url, or a text."""

    archive: str
    offset: int
    url: str
    scores: dict[str, float]
    picture: str = ""
    text: str = ""


def write_documents(folder: Path, source: Source, layout: Layout, summary: Summary) -> None:
    """Write report and data card of an output into its folder."""
    errors = tuple(map(private_paths.in_text, summary.errors))
    summary = msgspec.structs.replace(summary, errors=errors)
    said = _first(_noted(summary.notes, f"{OF_MODEL}/"))
    page = template("report.html", _PACKAGE).render(
        summary=summary,
        layout=layout,
        settings=_settings(source),
        charts=list(_charts(summary.notes, source.config)),
        more_charts=max(0, len(layout.names) - CHARTS_SHOWN),
        mimes=_first(_noted(summary.notes, "mime/")),
        statuses=_first(_noted(summary.notes, "status/")),
        said=[(private_paths.in_text(name), n) for name, n in said],
        kept=samples(source, is_kept=True),
        others=samples(source, is_kept=False),
        versions=versions(),
    )
    write_atomic(folder / REPORT, page.encode())
    card = template("card.md", _PACKAGE).render(
        summary=summary,
        layout=layout,
        records=counted(layout.rows, "record"),
        archives=counted(summary.archives, "archive"),
        columns=[(field.name, field.type, _MEANINGS.get(field.name)) for field in layout.schema],
        scores={score_of(name): name for name in layout.names},
        settings=_settings(source),
        versions=versions(),
    )
    write_atomic(folder / CARD, card.encode())


_MEANINGS = {
    "row": "row of the vectors, if there are any",
    "url": "WARC-Target-URI",
    "date": "WARC-Date, as written",
    "archive": "name of the archive",
    "offset": "byte of the archive where the record begins",
    "digest": "WARC-Payload-Digest, as written",
    "mime": "media type",
    "status": "HTTP status, null where there is no HTTP message",
    "kept": "whether its scores are such that it is kept",
    "payload": "the item as bytes: a text in UTF-8, else the body",
}


def _settings(source: Source) -> dict[str, str]:
    """Return what decided the output, as it would stand in a file, without a path of ours."""
    found = source.config.known_by(source.hooks)
    for hook in found["hooks"].values():
        hook["arguments"] = private_paths.in_value(hook["arguments"])
    return {key: as_yaml(value) for key, value in found.items()}


def _noted(notes: Mapping[str, int], prefix: str) -> list[tuple[str, int]]:
    found = [(name.removeprefix(prefix), n) for name, n in notes.items() if name.startswith(prefix)]
    return sorted(found, key=lambda pair: (-pair[1], pair[0]))


def _first(counts: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return the lines that are shown, and what the others are together."""
    rest = sum(count for _, count in counts[LINES_SHOWN:])
    return counts[:LINES_SHOWN] + ([("others", rest)] if rest else [])


def _charts(notes: Mapping[str, int], config: ClassifyConfig) -> Iterator[BarChart]:
    scores: defaultdict[str, dict[int, int]] = defaultdict(dict)
    for note, count in notes.items():
        kind, _, rest = note.partition("/")
        if kind == HISTOGRAM:
            number, _, name = rest.partition("/")
            scores[name][int(number)] = count
    rule = config.keep if isinstance(config.keep, KeepOptions) else None
    deciding = "" if rule is None else rule.score
    for name in sorted(scores, key=lambda name: (name != deciding, name))[:CHARTS_SHOWN]:
        yield _chart(name, scores[name], rule if name == deciding else None)


def _chart(name: str, bins: Mapping[int, int], rule: KeepOptions | None) -> BarChart:
    def is_kept(low: float, high: float) -> bool:
        return rule is None or (
            (rule.at_least is None or low >= rule.at_least)
            and (rule.at_most is None or high <= rule.at_most)
        )

    return bar_chart(name, bins, (min(bins), max(bins) + 1), edge=lower_end, is_kept=is_kept)


def samples(source: Source, *, is_kept: bool) -> list[Sample]:
    """Take a few items of some archives spread over all, and read their records again."""
    wanted = source.config.samples
    names = list(source.parts)
    names = names[:: max(1, len(names) // _PARTS_READ)][:_PARTS_READ]
    each = -(-wanted // max(1, len(names)))
    found = [s for name in names for s in _chosen(source, name, each, is_kept=is_kept)][:wanted]
    return _with_content(source, found)


def _chosen(source: Source, name: str, most: int, *, is_kept: bool) -> Iterator[Sample]:
    with open_part(source.run_dir / source.parts[name]) as part:
        scores = [n for n in part.schema.names if n.startswith(score_of(""))]
        has_scores = KEPT in part.schema.names
        for group in range(part.n_row_groups):
            for row in part.read(
                [group], ["offset", "url", *([KEPT] if has_scores else []), *scores]
            ).to_pylist():
                if most and row.get(KEPT, True) == is_kept:
                    most -= 1
                    highest = sorted(scores, key=row.__getitem__, reverse=True)[:SCORES_SHOWN]
                    shown = [score for score in scores if score in highest]
                    of = {score.removeprefix(score_of("")): row[score] for score in shown}
                    yield Sample(name, row["offset"], row["url"], of)
            if not most:
                return


def _with_content(source: Source, chosen: Sequence[Sample]) -> list[Sample]:
    """Add pictures or texts where their records can be read again."""
    records = []
    for sample in chosen:
        with contextlib.suppress(CahError, OSError):
            place, limit = source.places[sample.archive], source.config.records.max_bytes
            records.append((sample, read_response(place, sample.offset, max_bytes=limit)))
    shown: dict[tuple[str, int], bytes] = {}
    with contextlib.suppress(CahError):
        if records:
            with HookRunner(source.config.options, shows=True) as runner:
                runner.send([record for _, record in records])
                for (sample, _), answer in zip(records, runner.receive(), strict=True):
                    shown[sample.archive, sample.offset] = answer.payload
    return [_with_shown(s, shown.get((s.archive, s.offset), b"")) for s in chosen]


def _with_shown(sample: Sample, shown: bytes) -> Sample:
    if is_picture(shown):
        url = f"data:image/jpeg;base64,{base64.b64encode(shown).decode()}"
        return msgspec.structs.replace(sample, picture=url)
    return msgspec.structs.replace(sample, text=shown.decode("utf-8", "replace"))
