"""The ONNX model of a function that JAX traced."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper

from hiertcn_jax.exporting.onnx_graph import Graph, Tensor, Value
from hiertcn_jax.exporting.onnx_ops import run

OPSET = 18
IR_VERSION = 10
_KINDS = {
    "float32": TensorProto.FLOAT,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
}
_SMALL = 1024
"""Bytes up to which a weight is in the model itself."""


class External(NamedTuple):
    """Where a file beside the model holds the bytes of an array.

    Attributes:
      file: Its name.
      offset: The first byte.
      array: The array.
    """

    file: str
    offset: int
    array: np.ndarray


def onnx_model(
    traced: Any,
    inputs: Sequence[str],
    outputs: Sequence[str],
    weights: dict[str, External],
    finish: Callable[[Graph, list[Value]], list[Value]] | None = None,
    extra_inputs: Sequence[onnx.ValueInfoProto] = (),
    outputs_as: Sequence[onnx.ValueInfoProto] = (),
) -> onnx.ModelProto:
    """The ONNX model of a traced function.

    Args:
      traced: `jax.jit(function).trace(...)`.
      inputs: Names of all its arguments, flattened; those of weights are in `weights`.
      outputs: Names of what it returns, flattened.
      weights: Arguments that are constants, in a file beside the model.
      finish: Makes the outputs of the model from those of the function, if others.
      extra_inputs: Inputs that only `finish` reads.
      outputs_as: Outputs of the model, with `finish`; by default those of the function.

    Raises:
      NotImplementedError: It has an equation that we cannot write.
    """
    graph, closed = Graph(), traced.jaxpr
    values: list[Value] = []
    given = []
    for name, variable in zip(inputs, closed.jaxpr.invars, strict=True):
        shape = tuple(variable.aval.shape)
        values.append(Tensor(name, shape))
        if name in weights:
            continue
        given.append(described(name, str(variable.aval.dtype), variable.aval.shape))
        for axis, length in enumerate(shape):
            if not isinstance(length, int):
                graph.know_length(str(length), name, axis)
    found = run(graph, closed, values)
    if finish is None:
        outputs_as = [
            described(name, str(variable.aval.dtype), variable.aval.shape)
            for name, variable in zip(outputs, closed.jaxpr.outvars, strict=True)
        ]
        avals = [variable.aval for variable in closed.jaxpr.outvars]
        found = [graph.whole(value, aval.shape) for value, aval in zip(found, avals, strict=True)]
    else:
        found = finish(graph, found)
    for value, output in zip(found, outputs_as, strict=True):
        graph.nodes.append(helper.make_node("Identity", [graph.name_of(value)], [output.name]))
    nodes = _needed(graph.nodes, {output.name for output in outputs_as})
    read = {name for node in nodes for name in node.input}
    return helper.make_model(
        helper.make_graph(
            nodes,
            "hiertcn_jax",
            [*given, *extra_inputs],
            list(outputs_as),
            [
                *(_external(name, weight) for name, weight in weights.items() if name in read),
                *(constant for constant in graph.constants if constant.name in read),
            ],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="hiertcn_jax",
    )


def described(name: str, kind: str, shape: Sequence[Any]) -> onnx.ValueInfoProto:
    """An input or output of a model."""
    lengths = [length if isinstance(length, int) else str(length) for length in shape]
    return helper.make_tensor_value_info(name, _KINDS[kind], lengths)


def _external(name: str, weight: External) -> onnx.TensorProto:
    tensor = TensorProto()
    tensor.name = name
    tensor.data_type = _KINDS[str(weight.array.dtype)]
    tensor.dims.extend(weight.array.shape)
    if weight.array.nbytes < _SMALL:
        tensor.raw_data = np.ascontiguousarray(weight.array).tobytes()
        return tensor
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (
        ("location", weight.file),
        ("offset", str(weight.offset)),
        ("length", str(weight.array.nbytes)),
    ):
        tensor.external_data.add(key=key, value=value)
    return tensor


def _needed(nodes: Sequence[onnx.NodeProto], outputs: set[str]) -> list[onnx.NodeProto]:
    """The nodes that outputs depend on, in order."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    return kept[::-1]
