"""Heads that others trained, in their layouts with random weights, against formulas of our own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cah_dask.errors import ConfigError
from cah_dask.pairs.scores.heads import read_head
from cah_dask.pairs.scores.options import HeadKind
from tests.hostile import Trap

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.numpy")

State = dict[str, np.ndarray]
PUNSAFE_L14 = (768, 64, 512, 256, 1)
PUNSAFE_B32 = (512, 32, 32, 1)
H14 = (1024, 1024, 2048, 1024, 256, 128, 16, 1)
AESTHETIC = (768, 1024, 128, 64, 16, 1)


def linear(names: list[str], widths: tuple[int, ...]) -> State:
    """Random layers of some widths by name, as PyTorch stores them."""
    random = np.random.default_rng(3)
    state: State = {}
    for name, before, after in zip(names, widths[:-1], widths[1:], strict=True):
        scale = before**-0.5
        state[f"{name}.weight"] = scale * random.standard_normal((after, before), np.float32)
        state[f"{name}.bias"] = 0.1 * random.standard_normal(after, np.float32)
    return state


def unit(n: int, dim: int) -> np.ndarray:
    vectors = np.random.default_rng(5).standard_normal((n, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def row(state: State, name: str, values: np.ndarray) -> np.ndarray:
    """One layer for one vector, number by number, in double precision."""
    weight, bias = state[f"{name}.weight"].astype(float), state[f"{name}.bias"]
    return np.array([sum(w * values) + b for w, b in zip(weight, bias, strict=True)])


def relu(values: np.ndarray) -> np.ndarray:
    return np.where(values > 0, values, 0.0)


def sigmoid(value: float) -> float:
    return 1 / (1 + np.exp(-value))


def laion_nsfw(state: State, vector: np.ndarray) -> float:
    values = (vector - state["norm.mean"]) / state["norm.variance"].astype(float) ** 0.5
    n_layers = sum(name.startswith("linear_") for name in state) // 2
    for number in range(1, n_layers):
        values = relu(row(state, f"linear_{number}", values))
    return sigmoid(row(state, f"linear_{n_layers}", values)[0])


def h14(state: State, vector: np.ndarray) -> float:
    for number in (0, 3, 6, 9, 12):
        vector = relu(row(state, f"layers.{number}", vector))
    return row(state, "layers.16", row(state, "layers.15", vector))[0]


def aesthetic(state: State, vector: np.ndarray) -> float:
    for number in (0, 2, 4, 6, 7):
        vector = row(state, f"layers.{number}", vector)
    return vector[0]


def datacomp(state: State, vector: np.ndarray) -> float:
    values = (vector - state["norm.running_mean"]) / np.sqrt(state["norm.running_var"])
    values = values * state["norm.weight"] + state["norm.bias"]
    for name in ("dense", "dense1", "dense2"):
        values = relu(row(state, name, values))
    return sigmoid(row(state, "dense3", values)[0])


def normalisation(dim: int, *names: str) -> State:
    random = np.random.default_rng(4)
    return {f"norm.{name}": random.uniform(0.5, 1.5, dim).astype(np.float32) for name in names}


def numbered(prefix: str, *numbers: int) -> list[str]:
    return [f"{prefix}{number}" for number in numbers]


STANDARD = ("mean", "variance")
BATCH_NORM = ("weight", "bias", "running_mean", "running_var")
HEADS: dict[str, tuple[HeadKind, State, Callable[[State, np.ndarray], float]]] = {
    "punsafe-l14": (
        "laion-nsfw",
        normalisation(768, *STANDARD) | linear(numbered("linear_", 1, 2, 3, 4), PUNSAFE_L14),
        laion_nsfw,
    ),
    "punsafe-b32": (
        "laion-nsfw",
        normalisation(512, *STANDARD) | linear(numbered("linear_", 1, 2, 3), PUNSAFE_B32),
        laion_nsfw,
    ),
    "h14": ("laion-nsfw-h14", linear(numbered("layers.", 0, 3, 6, 9, 12, 15, 16), H14), h14),
    "aesthetic": (
        "laion-aesthetic",
        linear(numbered("layers.", 0, 2, 4, 6, 7), AESTHETIC),
        aesthetic,
    ),
    "datacomp": (
        "datacomp-nsfw",
        normalisation(768, *BATCH_NORM)
        | linear(["dense", "dense1", "dense2", "dense3"], PUNSAFE_L14)
        | {"norm.num_batches_tracked": np.array(9)},
        datacomp,
    ),
}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_head_gives_what_its_formula_gives(tmp_path: Path, name: str, suffix: str):
    kind, state, formula = HEADS[name]
    path = tmp_path / f"head{suffix}"
    if suffix == ".pth":
        torch.save({key: torch.from_numpy(np.array(each)) for key, each in state.items()}, path)
    else:
        safetensors.save_file(state, path)
    head = read_head(path, kind)
    vectors = unit(3, head.dim)
    scores = head.score(vectors)
    assert scores.dtype == np.float32
    expected = [formula(state, vector.astype(float)) for vector in vectors]
    assert np.ptp(expected) > 1e-3
    assert np.allclose(scores, expected, atol=2e-5)


def test_a_network_of_your_own_has_a_relu_between_layers_and_a_sigmoid_last(tmp_path: Path):
    state = linear(["0", "2"], (8, 16, 1))
    safetensors.save_file(state, tmp_path / "own.safetensors")
    vectors = unit(2, 8)
    expected = [sigmoid(row(state, "2", relu(row(state, "0", each)))[0]) for each in vectors]
    scores = read_head(tmp_path / "own.safetensors", "mlp").score(vectors)
    assert np.allclose(scores, expected, atol=1e-6)


def test_layers_are_taken_in_the_order_of_their_numbers_not_of_their_names(tmp_path: Path):
    state = linear(numbered("layers.", *range(12)), (4, *[4] * 11, 1))
    shuffled = dict(sorted(state.items(), reverse=True))
    safetensors.save_file(shuffled, tmp_path / "h.safetensors")
    assert read_head(tmp_path / "h.safetensors", "laion-aesthetic").dim == 4


@pytest.mark.parametrize(
    ("kind", "state", "message"),
    [
        ("datacomp-nsfw", linear(["dense"], (4, 1)), "has no norm.weight, which datacomp-nsfw"),
        ("mlp", HEADS["datacomp"][1], "has not the layout of mlp: it has norm.bias"),
        ("mlp", linear(["0"], (4, 2)), "its layers do not lead to one number"),
        ("mlp", linear(["0"], (4, 3)) | linear(["1"], (4, 1)), "do not lead to one number"),
        ("mlp", {}, "do not lead to one number"),
    ],
)
def test_weights_of_another_layout_are_refused(
    tmp_path: Path, kind: HeadKind, state: State, message: str
):
    safetensors.save_file(state, tmp_path / "h.safetensors")
    with pytest.raises(ConfigError, match=message):
        read_head(tmp_path / "h.safetensors", kind)


def test_code_in_a_pickled_file_is_never_run(tmp_path: Path):
    torch.save({"0.weight": Trap(tmp_path / "run")}, tmp_path / "h.pth")
    with pytest.raises(ConfigError, match="is no file of tensors only"):
        read_head(tmp_path / "h.pth", "mlp")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_that_is_no_weights_is_named(tmp_path: Path, suffix: str):
    path = tmp_path / f"h{suffix}"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(ConfigError) as caught:
        read_head(path, "mlp")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
