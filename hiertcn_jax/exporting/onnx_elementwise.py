"""ONNX nodes for equations whose outputs have an element for each element of the inputs."""

from typing import Any

import numpy as np

from hiertcn_jax.exporting.onnx_equations import KINDS, Rule, kind_of
from hiertcn_jax.exporting.onnx_graph import Graph, Value, broadcast


def _elementwise(*ops: str) -> Rule:
    """One node after another, the first with all inputs."""

    def rule(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
        value = graph.pointwise(ops[0], values)
        for op in ops[1:]:
            value = graph.pointwise(op, [value])
        return [value]

    return rule


def but(neutral: Any, op: str) -> Rule:
    """An elementwise node, or nothing where one side is `neutral` everywhere."""

    def rule(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
        for one, other in (values, values[::-1]):
            is_neutral = isinstance(one, np.ndarray) and bool(np.all(one == neutral))
            if is_neutral and tuple(other.shape) == broadcast(values):
                return [other]
        return [graph.pointwise(op, values)]

    return rule


def _with_itself(op: str) -> Rule:
    return lambda graph, equation, values: [graph.pointwise(op, [values[0], values[0]])]


def _log1p(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    return [graph.pointwise("Log", [graph.pointwise("Add", [values[0], np.array(1, np.float32)])])]


def _integer_pow(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    if equation.params["y"] == 2:
        return _with_itself("Mul")(graph, equation, values)
    return [graph.pointwise("Pow", [values[0], np.array(equation.params["y"], np.float32)])]


def _select(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    which, when_false, when_true = values
    if kind_of(equation.invars[0]) != "bool":
        raise NotImplementedError("select_n by numbers")
    return [graph.pointwise("Where", [which, when_true, when_false])]


def _cast(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    kind = str(np.dtype(equation.params["new_dtype"]))
    if kind == kind_of(equation.invars[0]):
        return values
    return [graph.pointwise("Cast", values, to=KINDS[kind])]


def _same(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    return values


ELEMENTWISE: dict[str, Rule] = {
    **{
        name: _elementwise(op)
        for name, op in {
            "abs": "Abs",
            "add": "Add",
            "div": "Div",
            "eq": "Equal",
            "exp": "Exp",
            "ge": "GreaterOrEqual",
            "gt": "Greater",
            "le": "LessOrEqual",
            "log": "Log",
            "logistic": "Sigmoid",
            "lt": "Less",
            "max": "Max",
            "min": "Min",
            "neg": "Neg",
            "not": "Not",
            "or": "Or",
            "sqrt": "Sqrt",
            "sub": "Sub",
            "tanh": "Tanh",
        }.items()
    },
    "and": but(True, "And"),
    "mul": but(1, "Mul"),
    "ne": _elementwise("Equal", "Not"),
    "rsqrt": _elementwise("Sqrt", "Reciprocal"),
    "square": _with_itself("Mul"),
    "integer_pow": _integer_pow,
    "log1p": _log1p,
    "select_n": _select,
    "convert_element_type": _cast,
    "stop_gradient": _same,
    "copy": _same,
}
"""By the name of the equation's primitive in JAX."""
