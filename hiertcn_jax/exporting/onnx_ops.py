"""ONNX nodes for what JAX traces of our models.

A traced function is a list of equations over arrays (a jaxpr). `RULES` has an ONNX node, or a few,
for each kind of equation that our models trace to; others are an error. Equations of constants
alone are computed here. Control flow is written out: a scan over a row of one event has one step.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.extend
import numpy as np

from hiertcn_jax.exporting.onnx_arrays import ARRAYS, sliced, transposed
from hiertcn_jax.exporting.onnx_elementwise import ELEMENTWISE, but
from hiertcn_jax.exporting.onnx_equations import KINDS, Rule, kind_of, shape_of, wholes
from hiertcn_jax.exporting.onnx_graph import Graph, Value, is_one


def _call(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
    return run(graph, inner, values)


def _reduce(op: str) -> Rule:
    def rule(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
        axes, lengths = equation.params["axes"], shape_of(equation.invars[0])
        if all(is_one(lengths[axis]) for axis in axes):
            kept = [n for axis, n in enumerate(values[0].shape) if axis not in axes]
            return [graph.reshaped(values[0], kept)]
        (value,) = wholes(graph, equation, values)
        shape = shape_of(equation.outvars[0])
        is_bool = kind_of(equation.invars[0]) == "bool"
        if is_bool:
            value = graph.one("Cast", [value], value.shape, to=KINDS["int32"])
        value = graph.one(op, [value, np.array(axes, np.int64)], shape, keepdims=0)
        return [graph.one("Cast", [value], shape, to=KINDS["bool"]) if is_bool else value]

    return rule


def _dot(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    """Matrix products: axes in the order batch, free, contracted, and side by side if several."""
    (sum_l, sum_r), (batch_l, batch_r) = equation.params["dimension_numbers"]
    if all(is_one(shape_of(equation.invars[0])[axis]) for axis in sum_l):
        return [_outer(graph, equation, values)]
    left, right = wholes(graph, equation, values)
    out = shape_of(equation.outvars[0])
    free_l = [axis for axis in range(len(left.shape)) if axis not in (*sum_l, *batch_l)]
    free_r = [axis for axis in range(len(right.shape)) if axis not in (*sum_r, *batch_r)]
    if not batch_l and len(sum_l) == 1 and len(right.shape) <= 2:
        left = transposed(graph, left, [*free_l, *sum_l])
        if len(left.shape) == len(right.shape) == 2 and sum_r == (1,):
            return [graph.one("Gemm", [left, right], out, transB=1)]
        right = transposed(graph, right, [*sum_r, *free_r])
        return [graph.one("MatMul", [left, right], out)]
    batch = [left.shape[axis] for axis in batch_l]
    left = _matrices(graph, left, batch, [*batch_l], free_l, [*sum_l])
    right = _matrices(graph, right, batch, [*batch_r], [*sum_r], free_r)
    shape = [*batch, left.shape[-2], right.shape[-1]]
    return [graph.reshaped(graph.one("MatMul", [left, right], shape), out)]


def _outer(graph: Graph, equation: Any, values: list[Value]) -> Value:
    """A product that sums over one element: all free axes of one side by all of the other."""
    (sum_l, sum_r), (batch_l, batch_r) = equation.params["dimension_numbers"]
    sides = []
    for value, summed, batch in zip(values, (sum_l, sum_r), (batch_l, batch_r), strict=True):
        free = [axis for axis in range(len(value.shape)) if axis not in (*summed, *batch)]
        ordered = transposed(graph, value, [*batch, *free, *summed])
        sides.append((ordered, len(free)))
    (left, free_l), (right, free_r) = sides
    batch_shape, rank = len(batch_l), len(right.shape) - len(sum_r)
    left = graph.reshaped(left, [*left.shape[: batch_shape + free_l], *[1] * free_r])
    shape_r = right.shape[:rank]
    right = graph.reshaped(right, [*shape_r[:batch_shape], *[1] * free_l, *shape_r[batch_shape:]])
    return but(1, "Mul")(graph, equation, [left, right])[0]


def _matrices(
    graph: Graph,
    value: Value,
    batch: Sequence[Any],
    batch_axes: list[int],
    rows: list[int],
    columns: list[int],
) -> Value:
    """The value as a batch of matrices."""
    sizes = []
    for axes in (rows, columns):
        size: Any = 1
        for axis in axes:
            size = size * value.shape[axis]
        sizes.append(size)
    value = transposed(graph, value, [*batch_axes, *rows, *columns])
    return graph.reshaped(value, [*batch, *sizes])


def _scan(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    """All steps, one after the other."""
    params = equation.params
    steps, constants, carried = params["length"], params["num_consts"], params["num_carry"]
    fixed, carry = values[:constants], values[constants : constants + carried]
    kept = []
    rows = [
        value if value.shape[0] == steps else graph.whole(value, shape_of(variable))
        for value, variable in zip(
            values[constants + carried :], equation.invars[constants + carried :], strict=True
        )
    ]
    order = range(steps)[::-1] if params["reverse"] else range(steps)
    for step in order:
        inputs = []
        for row in rows:
            part = sliced(graph, row, [0], [step], [step + 1])
            inputs.append(graph.reshaped(part, row.shape[1:]))
        found = run(graph, params["jaxpr"], [*fixed, *carry, *inputs])
        carry = found[:carried]
        kept.append(found[carried:])
    if params["reverse"]:
        kept.reverse()
    stacked: list[Value] = []
    for number, variable in enumerate(equation.outvars[carried:]):
        shape = shape_of(variable)
        parts = [one[number] for one in kept]
        if steps > 1:
            parts = [graph.whole(one, shape[1:]) for one in parts]
        parts = [graph.reshaped(one, (1, *one.shape)) for one in parts]
        stacked.append(graph.concatenated(parts, shape, axis=0))
    return [*carry, *stacked]


RULES: dict[str, Rule] = {
    **ELEMENTWISE,
    **ARRAYS,
    "jit": _call,
    "custom_jvp_call": _call,
    "custom_vjp_call": _call,
    "scan": _scan,
    "reduce_sum": _reduce("ReduceSum"),
    "reduce_max": _reduce("ReduceMax"),
    "reduce_or": _reduce("ReduceMax"),
    "dot_general": _dot,
}
"""How each kind of equation is written, by the name of its primitive in JAX."""


def run(graph: Graph, closed: Any, inputs: Sequence[Value]) -> list[Value]:
    """Writes the equations of a jaxpr; returns its outputs."""
    known: dict[Any, Value] = {}

    def look_up(variable: Any) -> Value:
        if isinstance(variable, jax.extend.core.Literal):
            aval: Any = variable.aval
            return np.asarray(variable.val, aval.dtype)
        return known[variable]

    known.update(zip(closed.jaxpr.constvars, map(np.asarray, closed.consts), strict=True))
    known.update(zip(closed.jaxpr.invars, inputs, strict=True))
    for equation in closed.jaxpr.eqns:
        values = [look_up(variable) for variable in equation.invars]
        name = equation.primitive.name
        if not _calls(equation) and all(isinstance(value, np.ndarray) for value in values):
            results = _computed(equation, values)
        elif name in RULES:
            results = RULES[name](graph, equation, values)
        else:
            raise NotImplementedError(f"no ONNX node for {name}")
        known.update(zip(equation.outvars, results, strict=True))
    return [look_up(variable) for variable in closed.jaxpr.outvars]


def _calls(equation: Any) -> bool:
    return any(key in equation.params for key in ("jaxpr", "call_jaxpr"))


def _computed(equation: Any, values: list[Value]) -> list[Value]:
    """The outputs of an equation of constants, of length 1 along symbols."""
    if equation.primitive.name == "iota":
        length = equation.params["shape"][equation.params["dimension"]]
        if not isinstance(length, int):
            raise NotImplementedError(f"numbers from 0 to {length}")
    found = equation.primitive.bind(*values, **_without_symbols(equation.params))
    found = found if equation.primitive.multiple_results else [found]
    return [np.asarray(one) for one in found]


def _without_symbols(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_symbols(one) for name, one in value.items()}
    if type(value) is tuple:
        return tuple(_without_symbols(one) for one in value)
    return 1 if jax.export.is_symbolic_dim(value) else value
