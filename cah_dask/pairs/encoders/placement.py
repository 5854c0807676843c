"""Where a model computes, and in which number format."""

from typing import Any

from cah_dask.pairs.options import EmbedOptions


def placement(options: EmbedOptions) -> tuple[Any, Any]:
    """Return the torch device and the torch dtype that the options ask for."""
    import torch

    cuda = options.device == "cuda" or (options.device == "auto" and torch.cuda.is_available())
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    return torch.device("cuda" if cuda else "cpu"), dtype[options.precision]
