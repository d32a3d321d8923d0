"""ONNX nodes for what JAX traces of our models.

A traced function is a list of equations over arrays (a jaxpr). `RULES` has an ONNX node, or a few,
for each kind of equation that our models trace to; others are an error. Equations of constants
alone are computed here. Control flow is written out: a scan over a row of one event has one step.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend
import numpy as np

from hiertcn_jax.exporting.onnx_graph import Graph, Tensor, Value, broadcast, is_one

Rule = Callable[[Graph, Any, list[Value]], list[Value]]
"""Writes one equation: the graph, the equation, its inputs -> its outputs."""
_FAR = 2**31 - 1
_KINDS = {"float32": 1, "int32": 6, "bool": 9}


def _shape_of(variable: Any) -> tuple[Any, ...]:
    return tuple(variable.aval.shape)


def _kind_of(variable: Any) -> str:
    return str(variable.aval.dtype)


def _wholes(graph: Graph, equation: Any, values: Sequence[Value]) -> list[Value]:
    return [
        graph.whole(value, _shape_of(variable))
        for value, variable in zip(values, equation.invars, strict=True)
    ]


def _elementwise(*ops: str) -> Rule:
    """One node after another, the first with all inputs."""

    def rule(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
        value = graph.pointwise(ops[0], values)
        for op in ops[1:]:
            value = graph.pointwise(op, [value])
        return [value]

    return rule


def _but(neutral: Any, op: str) -> Rule:
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
    if _kind_of(equation.invars[0]) != "bool":
        raise NotImplementedError("select_n by numbers")
    return [graph.pointwise("Where", [which, when_true, when_false])]


def _cast(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    kind = str(np.dtype(equation.params["new_dtype"]))
    if kind == _kind_of(equation.invars[0]):
        return values
    return [graph.pointwise("Cast", values, to=_KINDS[kind])]


def _same(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    return values


def _call(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
    return run(graph, inner, values)


def _broadcast_in_dim(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    (value,), axes = values, equation.params["broadcast_dimensions"]
    rank = len(equation.params["shape"])
    shape: list[Any] = [1] * rank
    for axis, length in zip(axes, value.shape, strict=True):
        shape[axis] = length
    return [graph.reshaped(value, shape)]


def _reshape(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    shape = equation.params["new_sizes"]
    if isinstance(values[0], np.ndarray) and values[0].size == 1:
        return [values[0].reshape([1] * len(shape))]
    (value,) = _wholes(graph, equation, values)
    return [graph.reshaped(value, shape)]


def _squeeze(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    axes = equation.params["dimensions"]
    shape = [length for axis, length in enumerate(values[0].shape) if axis not in axes]
    return [graph.reshaped(values[0], shape)]


def _transpose(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    return [_transposed(graph, values[0], equation.params["permutation"])]


def _transposed(graph: Graph, value: Value, order: Sequence[int]) -> Value:
    if list(order) == sorted(order):
        return value
    if isinstance(value, np.ndarray):
        return value.transpose(order)
    shape = [value.shape[axis] for axis in order]
    longer = [axis for axis in order if not is_one(value.shape[axis])]
    if longer == sorted(longer):
        return graph.reshaped(value, shape)
    return graph.one("Transpose", [value], shape, perm=list(order))


def _concatenate(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    shape, axis = _shape_of(equation.outvars[0]), equation.params["dimension"]
    held = [
        value
        for value, variable in zip(_wholes(graph, equation, values), equation.invars, strict=True)
        if _shape_of(variable)[axis] != 0
    ]
    return [graph.concatenated(held, shape, axis)]


def _stack(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    shape, axis = _shape_of(equation.outvars[0]), equation.params["axis"]
    one = [*shape[:axis], 1, *shape[axis + 1 :]]
    parts = [graph.reshaped(value, one) for value in _wholes(graph, equation, values)]
    return [graph.concatenated(parts, shape, axis)]


def _sliced(
    graph: Graph, value: Value, axes: Sequence[int], starts: Sequence[int], ends: Sequence[int]
) -> Value:
    """Part of a value that is whole along these axes."""
    cut: list[tuple[int, int, int]] = []
    for axis, start, end in zip(axes, starts, ends, strict=True):
        if not cut:
            value, start, end = graph.part(value, axis, start, end)
        if (start, end) != (0, value.shape[axis]):
            cut.append((start, end, axis))
    shape = list(value.shape)
    for start, end, axis in cut:
        shape[axis] = end - start
    if not cut:
        return value
    if len(cut) == 1 and is_one(shape[cut[0][2]]):
        ((start, _, axis),) = cut
        one = graph.one(
            "Gather", [value, np.array(start)], shape[:axis] + shape[axis + 1 :], axis=axis
        )
        return graph.reshaped(one, shape)
    start_n, end_n, axis_n = (np.array(column, np.int64) for column in zip(*cut, strict=True))
    return graph.one("Slice", [value, start_n, end_n, axis_n], shape)


def _slice(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    params, (value,) = equation.params, _wholes(graph, equation, values)
    if params["strides"] is not None and any(step != 1 for step in params["strides"]):
        raise NotImplementedError("a slice with steps")
    axes = [axis for axis, length in enumerate(value.shape) if isinstance(length, int)]
    starts, ends = params["start_indices"], params["limit_indices"]
    return [_sliced(graph, value, axes, [starts[a] for a in axes], [ends[a] for a in axes])]


def _split(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    axis, sizes = equation.params["axis"], [int(size) for size in equation.params["sizes"]]
    if len(sizes) == 1:
        return values
    (value,) = _wholes(graph, equation, values)
    ends = np.cumsum(sizes).tolist()
    spans = list(zip([0, *ends[:-1]], ends, strict=True))
    if all(graph.part(value, axis, *span)[0] is not value for span in spans):
        return [_sliced(graph, value, [axis], [start], [end]) for start, end in spans]
    inputs = [graph.name_of(value), graph.name_of(np.array(sizes, np.int64))]
    names = graph.add("Split", inputs, len(sizes), axis=axis)
    shapes = [(*value.shape[:axis], size, *value.shape[axis + 1 :]) for size in sizes]
    return [Tensor(name, shape) for name, shape in zip(names, shapes, strict=True)]


def _pad(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    room = equation.params["padding_config"]
    if not any(sum(map(abs, axis)) for axis in room):
        return values[:1]
    if any(between for _, _, between in room):
        raise NotImplementedError("padding between elements")
    value = graph.whole(values[0], _shape_of(equation.invars[0]))
    pads = np.array([axis[0] for axis in room] + [axis[1] for axis in room], np.int64)
    return [graph.one("Pad", [value, pads, values[1]], _shape_of(equation.outvars[0]))]


def _rev(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    axes = equation.params["dimensions"]
    (value,) = _wholes(graph, equation, values)
    ones = np.ones(len(axes), np.int64)
    bounds = [-ones, -_FAR * ones, np.array(axes, np.int64), -ones]
    return [graph.one("Slice", [value, *bounds], value.shape)]


def _reduce(op: str) -> Rule:
    def rule(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
        axes, lengths = equation.params["axes"], _shape_of(equation.invars[0])
        if all(is_one(lengths[axis]) for axis in axes):
            kept = [n for axis, n in enumerate(values[0].shape) if axis not in axes]
            return [graph.reshaped(values[0], kept)]
        (value,) = _wholes(graph, equation, values)
        shape = _shape_of(equation.outvars[0])
        is_bool = _kind_of(equation.invars[0]) == "bool"
        if is_bool:
            value = graph.one("Cast", [value], value.shape, to=_KINDS["int32"])
        value = graph.one(op, [value, np.array(axes, np.int64)], shape, keepdims=0)
        return [graph.one("Cast", [value], shape, to=_KINDS["bool"]) if is_bool else value]

    return rule


def _dot(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    """Matrix products: axes in the order batch, free, contracted, and side by side if several."""
    (sum_l, sum_r), (batch_l, batch_r) = equation.params["dimension_numbers"]
    if all(is_one(_shape_of(equation.invars[0])[axis]) for axis in sum_l):
        return [_outer(graph, equation, values)]
    left, right = _wholes(graph, equation, values)
    out = _shape_of(equation.outvars[0])
    free_l = [axis for axis in range(len(left.shape)) if axis not in (*sum_l, *batch_l)]
    free_r = [axis for axis in range(len(right.shape)) if axis not in (*sum_r, *batch_r)]
    if not batch_l and len(sum_l) == 1 and len(right.shape) <= 2:
        left = _transposed(graph, left, [*free_l, *sum_l])
        if len(left.shape) == len(right.shape) == 2 and sum_r == (1,):
            return [graph.one("Gemm", [left, right], out, transB=1)]
        right = _transposed(graph, right, [*sum_r, *free_r])
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
        ordered = _transposed(graph, value, [*batch, *free, *summed])
        sides.append((ordered, len(free)))
    (left, free_l), (right, free_r) = sides
    batch_shape, rank = len(batch_l), len(right.shape) - len(sum_r)
    left = graph.reshaped(left, [*left.shape[: batch_shape + free_l], *[1] * free_r])
    shape_r = right.shape[:rank]
    right = graph.reshaped(right, [*shape_r[:batch_shape], *[1] * free_l, *shape_r[batch_shape:]])
    return _but(1, "Mul")(graph, equation, [left, right])[0]


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
    value = _transposed(graph, value, [*batch_axes, *rows, *columns])
    return graph.reshaped(value, [*batch, *sizes])


def _gather(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    """A slice at a known index, rows of a table, or an element of each user's own rows."""
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    out = _shape_of(equation.outvars[0])
    operand = graph.whole(values[0], _shape_of(equation.invars[0]))
    axes, start_indices = tuple(map(int, numbers.start_index_map)), values[1]
    if isinstance(start_indices, np.ndarray) and start_indices.size == len(axes):
        return [_gathered_slice(graph, operand, axes, start_indices.ravel().tolist(), sizes, out)]
    if len(axes) != 1 or tuple(map(int, numbers.collapsed_slice_dims)) != axes:
        raise NotImplementedError(f"a gather with {numbers}")
    (axis,) = axes
    start_indices = graph.whole(start_indices, _shape_of(equation.invars[1]))
    rank = len(start_indices.shape) - 1
    if not numbers.operand_batching_dims:
        expected = [n for n in range(len(out)) if not axis <= n < axis + rank]
        if list(map(int, numbers.offset_dims)) != expected:
            raise NotImplementedError(f"a gather with {numbers}")
        if isinstance(start_indices, np.ndarray):
            number_n = start_indices.reshape(start_indices.shape[:-1])
            if rank == 1 and np.array_equal(number_n, np.arange(operand.shape[axis])):
                return [operand]
            return [graph.one("Gather", [operand, number_n], out, axis=axis)]
        index = _from_the_end(graph, start_indices)
        short = [length for length in start_indices.shape if not is_one(length)]
        part = (*out[:axis], *short, *out[axis + rank :])
        found = graph.one("Gather", [operand, graph.reshaped(index, short)], part, axis=axis)
        return [graph.reshaped(found, out)]
    if axis != 1 or tuple(numbers.operand_batching_dims) != (0,):
        raise NotImplementedError(f"a gather with {numbers}")
    wide = graph.one("Cast", [start_indices], start_indices.shape, to=7)
    return [graph.one("GatherND", [operand, wide], out, batch_dims=1)]


def _from_the_end(graph: Graph, index: Value) -> Value:
    """The index without JAX's `index + length where index < 0`: ONNX counts so by itself."""
    op, inputs = graph.made_by(index)
    if op != "Where" or graph.made_by(inputs[0])[0] != "Less":
        return index
    plain, zero = graph.made_by(inputs[0])[1]
    added, terms = graph.made_by(inputs[1])
    is_wrap = added == "Add" and graph.name_of(plain) in map(graph.name_of, terms)
    is_wrap = is_wrap and graph.name_of(plain) == graph.name_of(inputs[2])
    if not is_wrap or not isinstance(zero, np.ndarray) or np.any(zero != 0):
        return index
    return graph.reshaped(plain, index.shape)


def _gathered_slice(
    graph: Graph,
    operand: Value,
    axes: tuple[int, ...],
    starts: list[int],
    sizes: Sequence[Any],
    out: tuple[Any, ...],
) -> Value:
    """The slice at the same index for all users."""
    starts = [
        min(max(int(start), 0), operand.shape[axis] - int(sizes[axis]))
        for axis, start in zip(axes, starts, strict=True)
    ]
    ends = [start + int(sizes[axis]) for axis, start in zip(axes, starts, strict=True)]
    return graph.reshaped(_sliced(graph, operand, axes, starts, ends), out)


def _scatter(reduction: str) -> Rule:
    def rule(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
        """Values for elements of each user's own row."""
        numbers = equation.params["dimension_numbers"]
        own = tuple(numbers.operand_batching_dims), tuple(numbers.scatter_dims_to_operand_dims)
        if own != ((0,), (1,)) or numbers.update_window_dims:
            raise NotImplementedError(f"a scatter with {numbers}")
        operand, start_indices, updates = _wholes(graph, equation, values)
        index = graph.reshaped(_from_the_end(graph, start_indices), start_indices.shape[:-1])
        inputs = [operand, index, updates]
        return [graph.one("ScatterElements", inputs, operand.shape, axis=1, reduction=reduction)]

    return rule


def _scan(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    """All steps, one after the other."""
    params = equation.params
    steps, constants, carried = params["length"], params["num_consts"], params["num_carry"]
    fixed, carry = values[:constants], values[constants : constants + carried]
    kept = []
    rows = [
        value if value.shape[0] == steps else graph.whole(value, _shape_of(variable))
        for value, variable in zip(
            values[constants + carried :], equation.invars[constants + carried :], strict=True
        )
    ]
    order = range(steps)[::-1] if params["reverse"] else range(steps)
    for step in order:
        inputs = []
        for row in rows:
            part = _sliced(graph, row, [0], [step], [step + 1])
            inputs.append(graph.reshaped(part, row.shape[1:]))
        found = run(graph, params["jaxpr"], [*fixed, *carry, *inputs])
        carry = found[:carried]
        kept.append(found[carried:])
    if params["reverse"]:
        kept.reverse()
    stacked: list[Value] = []
    for number, variable in enumerate(equation.outvars[carried:]):
        shape = _shape_of(variable)
        parts = [one[number] for one in kept]
        if steps > 1:
            parts = [graph.whole(one, shape[1:]) for one in parts]
        parts = [graph.reshaped(one, (1, *one.shape)) for one in parts]
        stacked.append(graph.concatenated(parts, shape, axis=0))
    return [*carry, *stacked]


RULES: dict[str, Rule] = {
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
    "and": _but(True, "And"),
    "mul": _but(1, "Mul"),
    "ne": _elementwise("Equal", "Not"),
    "rsqrt": _elementwise("Sqrt", "Reciprocal"),
    "square": _with_itself("Mul"),
    "integer_pow": _integer_pow,
    "log1p": _log1p,
    "select_n": _select,
    "convert_element_type": _cast,
    "stop_gradient": _same,
    "copy": _same,
    "jit": _call,
    "custom_jvp_call": _call,
    "custom_vjp_call": _call,
    "scan": _scan,
    "broadcast_in_dim": _broadcast_in_dim,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "transpose": _transpose,
    "concatenate": _concatenate,
    "stack": _stack,
    "slice": _slice,
    "split": _split,
    "pad": _pad,
    "rev": _rev,
    "reduce_sum": _reduce("ReduceSum"),
    "reduce_max": _reduce("ReduceMax"),
    "reduce_or": _reduce("ReduceMax"),
    "dot_general": _dot,
    "gather": _gather,
    "scatter": _scatter("none"),
    "scatter-add": _scatter("add"),
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
