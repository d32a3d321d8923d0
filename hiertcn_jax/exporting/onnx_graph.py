"""A graph of ONNX nodes in the making.

A node costs onnxruntime some two microseconds, however small its arrays are, so a model that
answers one user at a time has no more of them than it needs: reshapes follow from what was reshaped
before, and parts of a concatenation are what was put together.

Shapes may have symbols, such as the number of users. A constant has length 1 along such an axis,
and so may a tensor along any axis where it would only repeat itself: ONNX broadcasts as JAX does.
Where a node needs the whole shape, `Graph.whole` repeats it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper


class Tensor(NamedTuple):
    """What a node of the graph gives.

    Attributes:
      name: Its name in the graph.
      shape: As it is held: 1 where it repeats itself.
    """

    name: str
    shape: tuple[Any, ...]


Value = Tensor | np.ndarray
"""A tensor of the graph, or a constant."""


class Graph:
    """An ONNX graph in the making."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], onnx.TensorProto] = {}
        self._lengths: dict[str, tuple[str, int] | str] = {}
        self._viewed: dict[str, Tensor] = {}
        self._views: dict[tuple[str, tuple[Any, ...]], Tensor] = {}
        self._made: dict[str, tuple[str, Sequence[Value]]] = {}
        self._parts: dict[str, tuple[int, Sequence[Value]]] = {}

    def know_length(self, symbol: str, tensor: str, axis: int) -> None:
        """Says which axis of an input has the length of a symbol."""
        self._lengths.setdefault(symbol, (tensor, axis))

    def add(self, op: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> list[str]:
        """Adds a node; returns the names of what it gives."""
        names = [f"t{len(self.nodes)}_{number}" for number in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names

    def one(
        self, op: str, inputs: Sequence[Value], shape: Sequence[Any], **attributes: Any
    ) -> Tensor:
        """A node with one output of this shape."""
        (name,) = self.add(op, [self.name_of(value) for value in inputs], **attributes)
        self._made[name] = op, tuple(inputs)
        return Tensor(name, tuple(shape))

    def pointwise(self, op: str, values: Sequence[Value], **attributes: Any) -> Tensor:
        """A node that works element by element, on values without axes of length 1 in all."""
        shape = broadcast(values)
        kept = [axis for axis, length in enumerate(shape) if not is_one(length)]
        if all(len(value.shape) in (0, len(shape)) for value in values):
            values = [
                self.reshaped(value, [value.shape[axis] for axis in kept]) if value.shape else value
                for value in values
            ]
        found = self.one(op, values, broadcast(values), **attributes)
        return self._view(found, shape)

    def made_by(self, value: Value) -> tuple[str, Sequence[Value]]:
        """The node with one output that gives this value, and its inputs; ("", ()) if none does."""
        if not isinstance(value, Tensor):
            return "", ()
        return self._made.get(self._viewed.get(value.name, value).name, ("", ()))

    def concatenated(self, parts: Sequence[Value], shape: Sequence[Any], axis: int) -> Value:
        """Whole values, one after another along an axis."""
        if len(parts) == 1:
            return parts[0]
        shape = tuple(shape)
        kept = [at for at, length in enumerate(shape) if at == axis or not is_one(length)]
        short = [self.reshaped(one, [one.shape[at] for at in kept]) for one in parts]
        joined = self.one("Concat", short, [shape[at] for at in kept], axis=kept.index(axis))
        whole = self.reshaped(joined, shape)
        self._parts[self.name_of(whole)] = axis, tuple(parts)
        return whole

    def part(self, value: Value, axis: int, start: int, end: int) -> tuple[Value, int, int]:
        """What has these elements of a value along an axis, and where they begin and end in it."""
        joined, parts = self._parts.get(self.name_of(value), (-1, ()))
        offset = 0
        for one in parts if joined == axis else ():
            length = one.shape[axis]
            if not isinstance(length, int):
                break
            if offset <= start and end <= offset + length:
                return self.part(one, axis, start - offset, end - offset)
            offset += length
        return value, start, end

    def name_of(self, value: Value) -> str:
        """The name of a tensor; a constant gets one."""
        if isinstance(value, Tensor):
            return value.name
        array = np.ascontiguousarray(value)
        key = str(array.dtype), np.shape(value), array.tobytes()
        if key not in self._constants:
            name = f"c{len(self._constants)}"
            self._constants[key] = numpy_helper.from_array(array.reshape(np.shape(value)), name)
        return self._constants[key].name

    @property
    def constants(self) -> list[onnx.TensorProto]:
        """All constants that have names."""
        return list(self._constants.values())

    def sizes(self, shape: Sequence[Any]) -> Value:
        """A shape as a tensor, int64."""
        parts: list[Value] = []
        for length in shape:
            if isinstance(length, int):
                parts.append(np.array([length], np.int64))
            else:
                parts.append(self._length(str(length)))
        if all(isinstance(part, np.ndarray) for part in parts):
            return np.array(shape, np.int64)
        return parts[0] if len(parts) == 1 else self.one("Concat", parts, (len(parts),), axis=0)

    def _length(self, symbol: str) -> Tensor:
        if symbol not in self._lengths:
            raise NotImplementedError(f"a shape of length {symbol}, which no input has")
        found = self._lengths[symbol]
        if isinstance(found, tuple):
            tensor, axis = found
            (found,) = self.add("Shape", [tensor], start=axis, end=axis + 1)
            self._lengths[symbol] = found
        return Tensor(found, (1,))

    def whole(self, value: Value, shape: Sequence[Any]) -> Value:
        """The value without any axis along which it only stands for its repetitions."""
        held = tuple(value.shape)
        if held == tuple(shape):
            return value
        return self.one("Expand", [value, self.sizes(shape)], shape)

    def reshaped(self, value: Value, shape: Sequence[Any]) -> Value:
        """A value in another shape: a whole one, or one that gains or loses axes of length 1."""
        shape = tuple(shape)
        if isinstance(value, np.ndarray):
            return value.reshape([length if isinstance(length, int) else 1 for length in shape])
        return self._view(self._viewed.get(value.name, value), shape)

    def _view(self, value: Tensor, shape: tuple[Any, ...]) -> Tensor:
        if value.shape == shape:
            return value
        if (value.name, shape) in self._views:
            return self._views[value.name, shape]
        if (new := _added(value.shape, shape)) is not None:
            found = self.one("Unsqueeze", [value, np.array(new, np.int64)], shape)
        elif (gone := _added(shape, value.shape)) is not None:
            found = self.one("Squeeze", [value, np.array(gone, np.int64)], shape)
        else:
            symbols = [length for length in shape if not isinstance(length, int)]
            if len(symbols) == 1 and 0 not in shape:
                sizes: Value = np.array(
                    [length if isinstance(length, int) else -1 for length in shape], np.int64
                )
            else:
                sizes = self.sizes(shape)
            found = self.one("Reshape", [value, sizes], shape, allowzero=int(0 in shape))
        self._viewed[found.name], self._views[value.name, shape] = value, found
        return found


def is_one(length: Any) -> bool:
    """Whether an axis has length 1 for certain."""
    return isinstance(length, int) and length == 1


def broadcast(values: Sequence[Value]) -> tuple[Any, ...]:
    """The held shape of a node that works element by element."""
    rank = max(len(value.shape) for value in values)
    shape: list[Any] = [1] * rank
    for value in values:
        for axis, length in enumerate(value.shape, rank - len(value.shape)):
            if not is_one(length):
                shape[axis] = length
    return tuple(shape)


def _added(few: tuple[Any, ...], many: tuple[Any, ...]) -> list[int] | None:
    """The axes of length 1 that `many` has besides those of `few`; None if it differs otherwise."""
    new, index = [], 0
    for axis, length in enumerate(many):
        if index < len(few) and few[index] == length:
            index += 1
        elif is_one(length):
            new.append(axis)
        else:
            return None
    return new if index == len(few) else None
