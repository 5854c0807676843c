"""No path of the machines is published, wherever it lies and whoever tells of it."""

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cah_dask.run.classifying.private_paths import in_text, in_value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("~/private/model.onnx", "model.onnx"),
        ("~me/private/model.onnx", "model.onnx"),
        ("/scratch/project_1/me/model.onnx", "model.onnx"),
        ("/scratch/me/my models/", "my models"),
        ("file:///scratch/me/model.onnx", "model.onnx"),
        ({"cat": ["/a/b/c.npz", 1, None]}, {"cat": ["c.npz", 1, None]}),
        ({"/a/b/c.npz": 0.5}, {"c.npz": 0.5}),
        ("weights=/a/b/c.npz,/a/d.npz", "weights=c.npz,d.npz"),
        ("https://a.example/b/c", "https://a.example/b/c"),
        ("a photo of and/or text/html; 1 / 2", "a photo of and/or text/html; 1 / 2"),
        ("hf:org/name", "hf:org/name"),
        ("/", "/"),
        ("a/" + "b" * 5000, "a/" + "b" * 5000),
        ("a/\0", "a/\0"),
    ],
)
def test_arguments_tell_last_names_only(value, expected):
    assert in_value(value) == expected


def test_a_relative_path_that_is_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    assert in_value({"a": "models/", "b": "./models", "c": "model/s"}) == {
        "a": "models", "b": "models", "c": "model/s",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "a.warc.gz: record at 3: FileNotFoundError: [Errno 2] None: '/home/me/m y/x.npz'",
            "a.warc.gz: record at 3: FileNotFoundError: [Errno 2] None: 'x.npz'",
        ),
        ('cannot read "~/a b/c"', 'cannot read "c"'),
        ("File /home/me/x.py:3, in read (/home/me/y.py)", "File x.py:3, in read (y.py)"),
        ("read:/home/me/x, ../me/y and ~/z", "read:x, y and z"),
        (
            "see https://a.example/b?c=/d/e or s3://b/c",
            "see https://a.example/b?c=/d/e or s3://b/c",
        ),
        ("it has text/html, 3/4 and a.b/c", "it has text/html, 3/4 and a.b/c"),
    ],
)
def test_messages_tell_last_names_only(message: str, expected: str):
    assert in_text(message) == expected


NAMES = st.text(string.ascii_letters + string.digits + "_.-", min_size=3).filter(
    lambda name: name.strip(".")
)


@given(
    st.sampled_from(["", "~", "~me"]), st.lists(NAMES, min_size=2),
    st.sampled_from(["{}", "cannot open {}", "'{}'", "({}): no", "x={}", "a:{}", "[{}]"]),
)  # fmt: skip
def test_no_folder_of_a_path_stays(begins: str, names: list[str], message: str):
    path = f"{begins}/private-folder/{'/'.join(names)}"
    for shown in (in_text(message.format(path)), in_value(path)):
        assert "private-folder" not in shown
        assert names[-1] in shown
