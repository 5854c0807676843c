"""What hooks are known by: every file that decides what they do."""

from pathlib import Path

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
