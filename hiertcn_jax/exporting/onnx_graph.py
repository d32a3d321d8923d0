"""A graph of ONNX nodes in the making.

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
        return Tensor(name, tuple(shape))

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
        """A whole value in another shape."""
        shape = tuple(shape)
        if tuple(value.shape) == shape:
            return value
        symbols = [length for length in shape if not isinstance(length, int)]
        if len(symbols) == 1 and 0 not in shape:
            sizes: Value = np.array(
                [length if isinstance(length, int) else -1 for length in shape], np.int64
            )
        else:
            sizes = self.sizes(shape)
        return self.one("Reshape", [value, sizes], shape, allowzero=int(0 in shape))
