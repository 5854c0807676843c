"""Batches that overflow or do not fit, with real modules of torch."""

import logging
from typing import Any

import numpy as np
import pytest

from cah_dask.pairs.encoders.forward import Forward

torch = pytest.importorskip("torch")

INPUTS = torch.arange(1, 33, dtype=torch.float32).reshape(8, 4)


def features(model, dtype, rows):
    return model(INPUTS[torch.from_numpy(rows)].to(dtype))


def linear(scale: float = 1.0) -> Any:
    torch.manual_seed(3)
    layer = torch.nn.Linear(4, 6)
    with torch.no_grad():
        layer.weight.mul_(scale)
    return layer.requires_grad_(requires_grad=False)


def expected(layer: Any) -> np.ndarray:
    return torch.nn.functional.normalize(layer(INPUTS), dim=-1).numpy()


def test_what_overflows_in_half_precision_is_repeated_in_float32():
    layer = linear(6000)  # 65504 is the largest number of half precision
    made = Forward(layer.half(), torch.float16)(features, 8)
    overflows = np.isinf(layer(INPUTS.half()).numpy()).any(axis=1)
    assert 0 < overflows.sum() < 8
    assert np.abs(made - expected(layer.float())).max() < 1e-3


def test_rows_that_do_not_overflow_keep_their_vectors():
    layer = linear(6000).half()
    alone = Forward(layer, torch.float16)(features, 1)
    assert np.array_equal(Forward(layer, torch.float16)(features, 8)[:1], alone)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_what_is_not_finite_in_float32_either_stays_so(dtype: Any):
    layer = linear()
    layer.weight[2, 3] = float("nan")
    made = Forward(layer.to(dtype), dtype)(features, 8)
    assert not np.isfinite(made).all(axis=1).any()


def too_large(largest: int):
    """Return a hook that fails as a GPU does when a batch has more rows than that."""

    def hook(_, inputs):
        seen.append(len(inputs[0]))
        if len(inputs[0]) > largest:
            raise torch.OutOfMemoryError("CUDA out of memory")

    seen: list[int] = []
    return hook, seen


def test_a_batch_out_of_memory_is_halved_and_so_are_later_ones(caplog):
    layer, (hook, seen) = linear(), too_large(3)
    layer.register_forward_pre_hook(hook)
    forward = Forward(layer, torch.float32)
    with caplog.at_level(logging.WARNING):
        first, second = forward(features, 8), forward(features, 8)
    assert seen == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]
    assert [record.getMessage()[-11:] for record in caplog.records] == [
        "in 2 pieces",
        "in 4 pieces",
    ]
    layer._forward_pre_hooks.clear()
    assert np.allclose(first, expected(layer), atol=1e-6)
    assert np.array_equal(first, second)


def test_a_single_input_that_does_not_fit_is_an_error():
    layer, (hook, seen) = linear(), too_large(0)
    layer.register_forward_pre_hook(hook)
    with pytest.raises(torch.OutOfMemoryError):
        Forward(layer, torch.float32)(features, 8)
    assert seen == [8, 4, 2, 1]
