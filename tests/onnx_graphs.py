"""Small graphs in ONNX's format, put together for the models of classify."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from onnx import TensorProto, helper

_OPSET, _IR = 17, 8  # what onnxruntime 1.20 reads

Shape = Sequence[int | str]


class Output(NamedTuple):
    """An output: what an operator gives of all inputs, in rows of some numbers."""

    operator: str
    width: int


def write_graph(
    path: Path,
    inputs: Mapping[str, Shape],
    outputs: Mapping[str, Output],
    *,
    batch: int | str = "n",
) -> Path:
    """Write a model of float32; shapes are those of one item."""
    nodes = [helper.make_node(each.operator, [*inputs], [k]) for k, each in outputs.items()]
    shapes = {name: [each.width] for name, each in outputs.items()}
    return _write(path, nodes, inputs, shapes, batch)


def write_outer(path: Path, *, side: int) -> Path:
    """Write a model that takes ``(side, 1)``, and holds ``side**2`` products of it."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["across"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["x", "across"], ["products"]),
        helper.make_node("ReduceMax", ["products"], ["y"], axes=[1, 2], keepdims=0),
    ]
    return _write(path, nodes, {"x": [side, 1]}, {"y": []}, "n")


def write_external(path: Path, weights: Mapping[str, str], *, within: str = "") -> Path:
    """Write a model that scores 4 numbers by products with weights that lie in other files.

    Parameters
    ----------
    weights
        By the name of a score: the file, of 4 float32, beside the model.
    within
        Name of a score whose weights a constant of a node holds, and no initializer.
    """
    tensors = {name: _external(name, file) for name, file in weights.items()}
    nodes = [
        helper.make_node("Constant", [], [name], value=each)
        for name, each in tensors.items()
        if name == within
    ]
    nodes += [helper.make_node("MatMul", ["x", name], [f"of {name}"]) for name in weights]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [
            helper.make_tensor_value_info(f"of {name}", TensorProto.FLOAT, ["n", 1])
            for name in weights
        ],
        [each for name, each in tensors.items() if name != within],
    )
    path.write_bytes(_model(graph))
    return path


def _external(name: str, file: str) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4, 1])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": file, "offset": "0", "length": "16"}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def _write(
    path: Path,
    nodes: Sequence[Any],
    inputs: Mapping[str, Shape],
    outputs: Mapping[str, Shape],
    batch: int | str,
) -> Path:
    values = [
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, [batch, *v]) for k, v in each.items()]
        for each in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "graph", *values)
    path.write_bytes(_model(graph))
    return path


def _model(graph: Any) -> bytes:
    opsets = [helper.make_opsetid("", _OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=_IR).SerializeToString()
