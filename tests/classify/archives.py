"""Archives of small texts for `cah classify`, and configs that read them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cah_dask.run.classifying.config import ClassifyConfig
from cah_dask.run.classifying.job import ClassifyJob
from cah_dask.run.settings.loading import load_as
from tests.warcs import response, write_warc

WORDS = ("abc", "bad luck", "a nan", "skip this", "aeiou abc", "bbbbbbbbbb")
"""Of these the model of the tests fails for one, has no number for one, and one is not read."""

PLAIN = {"Content-Type": "text/plain"}


def write(folder: Path, *, archives: int = 4, records: int = 60) -> list[Path]:
    """Write archives in which each word comes in turn, and every seventh record is a 404."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.warc.gz" for number in range(archives)]
    for number, path in enumerate(paths):
        texts = [f"{WORDS[n % len(WORDS)]} {number} {n}" for n in range(records)]
        write_texts(path, texts)
    return paths


def write_texts(path: Path, texts: Sequence[str]) -> Path:
    """Write an archive of some texts; every seventh is a 404."""
    write_warc(
        path,
        [
            response(f"http://h.test/{path.stem}/{n}", text.encode(), PLAIN, 200 if n % 7 else 404)
            for n, text in enumerate(texts)
        ],
    )
    return path


def write_config(path: Path, folder: Path, **changes: Any) -> Path:
    """Write a config whose output lies beside it."""
    tree = {
        "inputs": [f"{folder}/*.warc.gz"],
        "to": str(path.with_name(f"{path.stem}-out")),
        "read": "tests.classify.models:text",
        "model": "tests.classify.models:Lengths",
        "keep": {"score": "length", "at_least": 10},
        "batch_size": 8,
        "pack": {"rows_per_shard": 32, "rows_per_chunk": 8},
        "pools": {"cpu": {"workers": 2}, "gpu": {"workers": 1, "threads": 1}},
        **changes,
    }
    path.write_text(yaml.safe_dump({key: v for key, v in tree.items() if v is not None}))
    return path


def job_of(config: Path) -> ClassifyJob:
    """Return the job of a config."""
    chosen = load_as(ClassifyConfig, config)
    folder = Path(chosen.inputs[0]).parent
    return ClassifyJob(chosen, [str(path) for path in sorted(folder.glob("*.warc.gz"))])


def digests(output: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of an output that does not tell of time."""
    return {
        str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(output.rglob("*"))
        if path.is_file() and path.name != "report.html"
    }
