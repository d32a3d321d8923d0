"""ONNX nodes for equations that shape arrays anew, and cut, join, read or write parts of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hiertcn_jax.exporting.onnx_equations import Rule, shape_of, wholes
from hiertcn_jax.exporting.onnx_graph import Graph, Tensor, Value, is_one

_FAR = 2**31 - 1


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
    (value,) = wholes(graph, equation, values)
    return [graph.reshaped(value, shape)]


def _squeeze(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    axes = equation.params["dimensions"]
    shape = [length for axis, length in enumerate(values[0].shape) if axis not in axes]
    return [graph.reshaped(values[0], shape)]


def _transpose(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    return [transposed(graph, values[0], equation.params["permutation"])]


def transposed(graph: Graph, value: Value, order: Sequence[int]) -> Value:
    """The value with its axes in this order."""
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
    shape, axis = shape_of(equation.outvars[0]), equation.params["dimension"]
    held = [
        value
        for value, variable in zip(wholes(graph, equation, values), equation.invars, strict=True)
        if shape_of(variable)[axis] != 0
    ]
    return [graph.concatenated(held, shape, axis)]


def _stack(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    shape, axis = shape_of(equation.outvars[0]), equation.params["axis"]
    one = [*shape[:axis], 1, *shape[axis + 1 :]]
    parts = [graph.reshaped(value, one) for value in wholes(graph, equation, values)]
    return [graph.concatenated(parts, shape, axis)]


def sliced(
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
    params, (value,) = equation.params, wholes(graph, equation, values)
    if params["strides"] is not None and any(step != 1 for step in params["strides"]):
        raise NotImplementedError("a slice with steps")
    axes = [axis for axis, length in enumerate(value.shape) if isinstance(length, int)]
    starts, ends = params["start_indices"], params["limit_indices"]
    return [sliced(graph, value, axes, [starts[a] for a in axes], [ends[a] for a in axes])]


def _split(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    axis, sizes = equation.params["axis"], [int(size) for size in equation.params["sizes"]]
    if len(sizes) == 1:
        return values
    (value,) = wholes(graph, equation, values)
    ends = np.cumsum(sizes).tolist()
    spans = list(zip([0, *ends[:-1]], ends, strict=True))
    if all(graph.part(value, axis, *span)[0] is not value for span in spans):
        return [sliced(graph, value, [axis], [start], [end]) for start, end in spans]
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
    value = graph.whole(values[0], shape_of(equation.invars[0]))
    pads = np.array([axis[0] for axis in room] + [axis[1] for axis in room], np.int64)
    return [graph.one("Pad", [value, pads, values[1]], shape_of(equation.outvars[0]))]


def _rev(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    axes = equation.params["dimensions"]
    (value,) = wholes(graph, equation, values)
    ones = np.ones(len(axes), np.int64)
    bounds = [-ones, -_FAR * ones, np.array(axes, np.int64), -ones]
    return [graph.one("Slice", [value, *bounds], value.shape)]


def _gather(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
    """A slice at a known index, rows of a table, or an element of each user's own rows."""
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    out = shape_of(equation.outvars[0])
    operand = graph.whole(values[0], shape_of(equation.invars[0]))
    axes, start_indices = tuple(map(int, numbers.start_index_map)), values[1]
    if isinstance(start_indices, np.ndarray) and start_indices.size == len(axes):
        return [_gathered_slice(graph, operand, axes, start_indices.ravel().tolist(), sizes, out)]
    if len(axes) != 1 or tuple(map(int, numbers.collapsed_slice_dims)) != axes:
        raise NotImplementedError(f"a gather with {numbers}")
    (axis,) = axes
    start_indices = graph.whole(start_indices, shape_of(equation.invars[1]))
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
    return graph.reshaped(sliced(graph, operand, axes, starts, ends), out)


def _scatter(reduction: str) -> Rule:
    def rule(graph: Graph, equation: Any, values: list[Value]) -> list[Value]:
        """Values for elements of each user's own row."""
        numbers = equation.params["dimension_numbers"]
        own = tuple(numbers.operand_batching_dims), tuple(numbers.scatter_dims_to_operand_dims)
        if own != ((0,), (1,)) or numbers.update_window_dims:
            raise NotImplementedError(f"a scatter with {numbers}")
        operand, start_indices, updates = wholes(graph, equation, values)
        index = graph.reshaped(_from_the_end(graph, start_indices), start_indices.shape[:-1])
        inputs = [operand, index, updates]
        return [graph.one("ScatterElements", inputs, operand.shape, axis=1, reduction=reduction)]

    return rule


ARRAYS: dict[str, Rule] = {
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
    "gather": _gather,
    "scatter": _scatter("none"),
    "scatter-add": _scatter("add"),
}
"""By the name of the equation's primitive in JAX."""
