"""The examples run as their texts say, and find what they are meant to find."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from examples.own_model.test_hooks import TestColourful as OfColourful
from tests.commands import cah

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the archive that the examples read."""
    made = tmp_path_factory.mktemp("examples")
    script(made, "archive.py", "runs/drawings.warc.gz")
    return made


def script(folder: Path, name: str, *arguments: str) -> None:
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    subprocess.run(command, cwd=folder, env=ENVIRONMENT, check=True, capture_output=True)


def funnel(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith(("read:", "score:"))]


def promised(readme: str, config: str) -> list[str]:
    """What a README says that a command answers."""
    text = (EXAMPLES / readme).read_text()
    found = re.search(rf"cah classify examples/{config}\n```\n\n```text\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return funnel(found[1].splitlines())


def kept(folder: Path, config: str) -> Counter[str]:
    """Run an example; return of what shapes it kept pictures or pages."""
    code, answer, said = cah("classify", EXAMPLES / config, cwd=folder, env=ENVIRONMENT)
    assert code == 0, said
    assert funnel(answer) == promised(f"{Path(config).parent}/README.md", config)
    to = re.search(r"^(runs/\S+): written", "\n".join(answer), re.MULTILINE)
    assert to is not None
    urls = ds.dataset(folder / to[1] / "records").to_table()["url"].to_pylist()
    return Counter(url.split("/")[3] for url in urls)


def test_the_pictures_that_are_kept_show_hearts(folder: Path):
    assert kept(folder, "pictures/config.yaml") == {"heart": 22}


def test_drawings_are_harmless_to_a_real_model(folder: Path):
    assert kept(folder, "pictures/nsfw.yaml").total() == 160


def test_the_texts_that_are_kept_tell_of_hearts(folder: Path):
    script(folder, "texts/train.py", "runs/shapes-model")
    assert kept(folder, "texts/config.yaml") == {"heart": 16}
    table = ds.dataset(folder / "runs/heart-texts/records").to_table()
    assert all(b"heart" in text and b"rights" not in text for text in table["payload"].to_pylist())


def test_a_model_of_ones_own_runs(folder: Path):
    assert kept(folder, "own_model/config.yaml").total() == 25


class TestTheModelOfOnesOwn(OfColourful):
    """Its own tests."""
