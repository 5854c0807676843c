"""Import open_clip, also beside a torch without CUDA.

open_clip imports torchvision, and some package indexes carry torchvision as a CUDA build only.
Beside a CPU build of torch its compiled library does not load, and its Python part then fails on
two operators that it expects the library to declare (`operator torchvision::nms does not exist`).
Declaring their signatures is enough for all that open_clip uses; calling them would still fail,
and nothing here does.
"""

import contextlib
import importlib
import sys
from types import ModuleType
from typing import Any

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[Any] = []  # torch forgets the operators of a library that is garbage collected


def open_clip() -> ModuleType:
    """Return the open_clip module; declare torchvision's two operators first if they are absent."""
    if "torchvision" not in sys.modules:
        _import_torchvision()
    return importlib.import_module("open_clip")


def _import_torchvision() -> None:
    with contextlib.suppress(RuntimeError):
        importlib.import_module("torchvision")
        return
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]  # half-imported
    torch = importlib.import_module("torch")
    library = torch.library.Library("torchvision", "DEF")
    for signature in _OPERATORS:
        library.define(signature)
    _libraries.append(library)
    importlib.import_module("torchvision")
