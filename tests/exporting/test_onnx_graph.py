"""A graph in the making leaves out nodes that would only give what it has already."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from hiertcn_jax.exporting.onnx_graph import Graph, Tensor  # noqa: E402
from hiertcn_jax.exporting.onnx_model import onnx_model  # noqa: E402


def test_a_shape_and_back_is_the_same():
    graph = Graph()
    x = Tensor("x", (3, 4))
    there = graph.reshaped(graph.reshaped(x, (3, 1, 4)), (1, 12))
    assert graph.reshaped(there, (3, 4)) == x
    assert graph.reshaped(x, (3, 1, 4)) == graph.reshaped(there, (3, 1, 4))


def test_parts_of_what_was_put_together():
    graph = Graph()
    a, b = Tensor("a", (2, 3)), Tensor("b", (2, 5))
    whole = graph.concatenated([a, b], (2, 8), axis=1)
    assert graph.part(whole, 1, 0, 3) == (a, 0, 3)
    assert graph.part(whole, 1, 4, 8) == (b, 1, 5)
    assert graph.part(whole, 1, 2, 4) == (whole, 2, 4)
    assert graph.part(whole, 0, 0, 1) == (whole, 0, 1)


def _model(function, *arrays):
    names = [f"x{number}" for number in range(len(arrays))]
    found = onnx_model(jax.jit(function).trace(*arrays), names, ["y"], {})
    session = onnxruntime.InferenceSession(found.SerializeToString())
    (y,) = session.run(None, dict(zip(names, map(np.asarray, arrays), strict=True)))
    np.testing.assert_allclose(y, function(*arrays), rtol=1e-6)
    return [node.op_type for node in found.graph.node]


X = jnp.arange(12.0).reshape(3, 4)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x * jnp.ones((1, 4)), []),
        (lambda x: x[:, None, :].sum(1), []),
        (lambda x: jnp.split(jnp.concatenate([x + 1, x], 1), [4], 1)[0], ["Add"]),
        (lambda x: (x[:, None, :] + x[:, None, :])[:, 0], ["Add"]),
        (lambda x: jnp.einsum("bok,bod->bkd", x[:, None], x[:, None])[:, 0], ["Mul"]),
        (lambda x: jnp.einsum("bd,d->b", x, jnp.ones(4)), ["MatMul"]),
    ],
    ids=["ones", "sum_of_one", "split_again", "added_axis", "outer", "product"],
)
def test_a_node_only_where_something_changes(function, expected):
    wanted = [op for op in _model(function, X) if op not in ("Identity", "Unsqueeze", "Gather")]
    assert wanted == expected


def test_negative_indices_of_rows():
    rows = jnp.array([-1, 0, 2], jnp.int32)
    assert "Where" not in _model(lambda x, n: x[n], X, rows)


def test_negative_indices_where_the_array_is_not_a_gather():
    rows = jnp.array([-1, 0, 2], jnp.int32)
    assert "Where" in _model(lambda x, n: jnp.where(n < 0, n + 3, n) + x[0, 0], X, rows)
