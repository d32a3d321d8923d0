"""What rules for equations of a jaxpr share: shapes and kinds of variables, values in full."""

from collections.abc import Callable, Sequence
from typing import Any

from hiertcn_jax.exporting.onnx_graph import Graph, Value

Rule = Callable[[Graph, Any, list[Value]], list[Value]]
"""Writes one equation: the graph, the equation, its inputs -> its outputs."""

KINDS = {"float32": 1, "int32": 6, "bool": 9}
"""Numbers of dtypes in ONNX."""


def shape_of(variable: Any) -> tuple[Any, ...]:
    """The shape of a variable of a jaxpr; lengths may be symbols."""
    return tuple(variable.aval.shape)


def kind_of(variable: Any) -> str:
    """The name of its dtype."""
    return str(variable.aval.dtype)


def wholes(graph: Graph, equation: Any, values: Sequence[Value]) -> list[Value]:
    """The inputs of an equation, each as long as its variable along every axis."""
    return [
        graph.whole(value, shape_of(variable))
        for value, variable in zip(values, equation.invars, strict=True)
    ]
