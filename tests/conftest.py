"""What tests of several packages share."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from cah_dask.pairs.encoders.open_clip_import import open_clip

# Machines may be slow and shared: only answers are judged here, not times.
settings.register_profile(
    "default",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.register_profile("nightly", settings.get_profile("default"), max_examples=500)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "default")
)

ARCHITECTURE = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {
        "context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2,
    },
}  # fmt: skip

LONGEST = ["slurm", "run", "demo", "browser", "test_examples.py", "test_tour.py"]
"""Folders and files that several processes begin with, so that no long test is left for the end."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):  # one of several processes, of pytest-xdist
        order = [Path(__file__).parent / name for name in LONGEST]
        items.sort(key=lambda item: [not item.path.is_relative_to(place) for place in order])


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # untyped library
    """Gives a process whole files, whose tests share what they start, and one all tests on Slurm.

    Those wait most of the time, and leave the processors to the others.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "tests/slurm" if file.startswith("tests/slurm/") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile:
    config.option.loadscopereorder = False
    return ByFile(config, log)


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ordinary open_clip model folder with random weights."""
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    folder = tmp_path_factory.mktemp("model")
    config = {"model_cfg": ARCHITECTURE, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(7)
    library = open_clip()
    model = library.CLIP(**ARCHITECTURE)
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    safetensors.save_file(state, folder / "open_clip_model.safetensors")
    return folder


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name bytes by their length: packed ones hold the time, and workers must collect the same."""
    return f"{len(val)} bytes" if isinstance(val, bytes) else None
