"""`cah models`: what encoders there are, and how they reach machines without internet."""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cah_dask.jobs_cli import news
from cah_dask.terminal import answer, fail, say, tell
from cah_dask.words import counted

if TYPE_CHECKING:
    from cah_dask.pairs.catalogue import PresetEncoder

_NONE_PUBLISHED = "none published: select.thresholds or select.top_fraction"

models_app = typer.Typer(no_args_is_help=True, help="Models: presets, and how to carry them.")


@models_app.command("list")
def list_presets() -> None:
    """Print the presets that `embed.model` takes: models, published thresholds, licence."""
    from cah_dask.pairs import catalogue

    for name, preset in catalogue.presets().items():
        default = ", the default" if name == catalogue.DEFAULT else ""
        answer.print(name, style="bold", end="")
        tell(f"{default}: {preset.what}")
        rows = [
            ("", encoder, *cells)
            for encoder, each in preset.encoders.items()
            for cells in _towers(each)
        ]
        for line in _aligned(rows):
            tell(line)
        for source in dict.fromkeys(each.source for each in preset.encoders.values()):
            tell(f"  thresholds: {source or _NONE_PUBLISHED}")
        tell(f"  licence: {preset.terms}")


def _towers(encoder: "PresetEncoder") -> Iterator[tuple[str, str, str]]:
    """Return of each model of an encoder what it embeds, its name and its thresholds."""
    from cah_dask.schema import SPLITS

    options, known = encoder.options, encoder.thresholds
    for model in options.models:
        splits = [split for split in SPLITS if options.text(split) == model]
        images = ["images"] if model == options.image else []
        thresholds = (f"{split} {known[split]:.2f}" for split in splits if split in known)
        yield ", ".join([*images, *splits]), model, ", ".join(thresholds)


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Return rows as lines; however narrow a terminal is, names of models stay in one piece."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(map(str.ljust, row, widths)).rstrip()


@models_app.command()
def fetch(
    name: Annotated[str, typer.Argument(metavar="PRESET|MODEL", help="As `embed.model` takes it.")],
    to: Annotated[Path, typer.Option(help="Folder that is written.")],
) -> None:
    """Fetch models from the hub into a folder that `embed.model` takes where there is no internet.

    Run the same command again to go on where it was stopped.
    """
    from cah_dask.pairs import catalogue
    from cah_dask.pairs.fetch import fetch as fetch_models

    logging.getLogger().setLevel(logging.ERROR)  # open_clip warns of weights that are yet to come
    is_new = False
    for model, folder in fetch_models(name, to):
        is_new = True
        tell(f"fetched {model}: {_size(folder)}")
    preset = catalogue.read(to / catalogue.FILE)
    if not preset.is_commercial:
        say(f"warning: the licence is {preset.terms}")
    tell(f"{news(to, is_new=is_new)}; copy it and set embed.model to the copy")


@models_app.command()
def check(
    name: Annotated[
        str, typer.Argument(metavar="DIR|PRESET|MODEL", help="As `embed.model` takes it.")
    ],
) -> None:
    """Compare fetched models with their checksums, and load all of them with the hub switched off.

    Exit codes: 0 sound · 3 models are missing or cannot be loaded · 5 files are damaged or lost.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    from cah_dask.pairs import catalogue
    from cah_dask.pairs import fetch as fetched

    folder = Path(name)
    if (folder / catalogue.FILE).is_file():
        found = list(fetched.faults(folder))
        for fault in found:
            tell(fault)
        if found:
            fail(f"{folder} is not sound: {counted(len(found), 'fault')}", 5)
    for model, files in fetched.check(name):
        n_bytes = sum(path.stat().st_size for path in files.files.values())
        tell(f"ok: {model}, {counted(len(files.files), 'file')}, {n_bytes:,} bytes")


def _size(folder: Path) -> str:
    files = [path for path in folder.rglob("*") if path.is_file()]
    n_bytes = sum(path.stat().st_size for path in files)
    return f"{counted(len(files), 'file')}, {n_bytes:,} bytes"
