"""What hooks are known by: every file that decides what they do."""

import importlib
import sys
from pathlib import Path

import pytest

from cah_dask.classify.identity import digests
from cah_dask.classify.options import ClassifyOptions, HookOptions
from tests.onnx_models import write_channel_means


def test_files_of_one_name_in_several_folders_all_count(tmp_path: Path):
    scores = {}
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        file = write_channel_means(tmp_path / name / "model.onnx", side=8)
        wanted = {"layout": "nchw", "channels": "rgb", "mean": [0, 0, 0], "std": [1, 1, 1]}
        scores[name] = {"model": str(file), "input": wanted}
    hook = HookOptions(
        use="cah_dask.classify.models.pictures:PictureScores", arguments={"scores": scores}
    )
    options = ClassifyOptions(model=hook)
    before = digests(options)
    assert set(before["model"]) == {"pictures.py", "model.onnx", "model.onnx (2)"}
    for name in ("one", "other"):
        file = tmp_path / name / "model.onnx"
        kept = file.read_bytes()
        file.write_bytes(kept + b"more")
        assert digests(options) != before
        file.write_bytes(kept)
    assert digests(options) == before


@pytest.mark.parametrize(
    "body",
    [
        "import elsewhere\nkeep = elsewhere.above({})\n",
        "import elsewhere\nkeep = elsewhere.Above({})\n",
        "import functools, elsewhere\nkeep = functools.partial(elsewhere.over, least={})\n",
        "import numpy\nkeep = numpy.vectorize(lambda scores: scores['length'] > {})\n",
        "import operator\nkeep = operator.itemgetter({})\n",
        "import elsewhere\n@elsewhere.changed\ndef keep(scores): return scores['length'] > {}\n",
    ],
)
def test_the_module_that_is_named_counts_wherever_its_hook_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "elsewhere.py").write_text(
        "def above(least): return lambda scores: scores['length'] > least\n"
        "def over(scores, least): return scores['length'] > least\n"
        "def changed(keep): return lambda scores: keep(scores)\n"
        "class Above:\n"
        "    def __init__(self, least): self.least = least\n"
        "    def __call__(self, scores): return scores['length'] > self.least\n"
    )
    found = []
    for least in (10, 11):
        (tmp_path / "named.py").write_text(body.format(least))
        for name in ("named", "elsewhere"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        found.append(digests(ClassifyOptions(keep="named:keep"))["keep"])
    assert found[0]["named.py"] != found[1]["named.py"]


def test_the_module_that_defines_a_hook_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in {
        "front": "from back.hooks import keep\n",
        "back": "def keep(s): ...\n",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "hooks.py").write_text(text)
    found = digests(ClassifyOptions(keep="front.hooks:keep"))["keep"]
    assert list(found) == ["hooks.py", "hooks.py (2)"]
