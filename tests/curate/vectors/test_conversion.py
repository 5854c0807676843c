"""Torch files of DataComp become the files of a filter, and run no code."""

import importlib.util
import pickle
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from cah_dask.curate.vectors.centroids import centroids_of, load_array, load_centroids, targets_of
from cah_dask.errors import InputError
from tests.curate.vectors.test_centroids import drawn

SCRIPT = Path(__file__).parents[3] / "scripts" / "convert_datacomp_centroids.py"


class Bomb:
    """What a pickle must not hold."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    pytest.importorskip("torch")
    spec = importlib.util.spec_from_file_location("convert_datacomp_centroids", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_torch_files_become_centroids_and_targets(script: ModuleType, tmp_path: Path):
    vectors = drawn((40, 24), 1, "f4")
    examples = [drawn((9, 24), seed) for seed in (2, 3)]
    script.torch.save(vectors, tmp_path / "centroids.pt", pickle_protocol=4)
    for number, each in enumerate(examples):
        tensor = script.torch.from_numpy(each)
        script.torch.save({"image_features": tensor}, tmp_path / f"{number}.pt")
    script.convert(tmp_path / "centroids.pt", [tmp_path / "0.pt", tmp_path / "1.pt"], tmp_path)
    assert np.array_equal(load_centroids(tmp_path / "centroids.npy").vectors, vectors)
    expected = targets_of(examples, centroids_of(vectors))
    assert load_array(tmp_path / "targets.npy").tolist() == expected.tolist()


def test_a_file_with_code_in_it_is_refused_before_any_runs(script: ModuleType, tmp_path: Path):
    script.torch.save(Bomb(tmp_path / "ran"), tmp_path / "bomb.pt")
    with pytest.raises(InputError, match=r"it holds pathlib\.Path\.touch|getattr|pathlib"):
        script.read_centroids(tmp_path / "bomb.pt")
    with pytest.raises(pickle.UnpicklingError):
        script.read_examples(tmp_path / "bomb.pt")
    assert not (tmp_path / "ran").exists()
