"""Terms of the score: logarithms of counts, weighed by the moment; nothing off the list."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hiertcn_jax.memory.config import KINDS
from hiertcn_jax.memory.lists import AGE, FEATURES, LAST, OWN, SESSION
from hiertcn_jax.memory.phi import COLUMNS, columns_of, logarithms
from hiertcn_jax.memory.terms import Terms, in_chunks

RNG = np.random.default_rng(0)


def counts(*shape):
    return jnp.asarray(RNG.gamma(0.5, 3.0, (*shape, len(FEATURES))), jnp.float32)


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


@functools.partial(jax.jit, static_argnums=0)
def init(terms, *arrays):
    return terms.init(jax.random.key(0), *arrays)


@functools.partial(jax.jit, static_argnums=0)
def apply(terms, params, *arrays):
    return terms.apply(params, *arrays)


def test_the_kinds_share_the_features_out():
    assert sorted(columns_of(KINDS)) == list(range(len(FEATURES)))
    assert sum(len(columns) for columns in COLUMNS.values()) == len(FEATURES)
    assert columns_of(("own", "world")) == (*range(AGE + 1), *range(OWN, len(FEATURES)))


def test_logarithms_by_hand():
    features = np.zeros(len(FEATURES), np.float32)
    features[[0, AGE, LAST, SESSION - 1, OWN, OWN + 2]] = [0.9, 2.0, 50.0, 3.0, 1.5, 1.0]
    phi = np.asarray(logarithms(jnp.asarray(features)[None]))[0]
    expected = np.zeros(len(FEATURES))
    expected[0] = np.log(10) / 4
    expected[AGE] = 1 - np.log(121) / 12
    expected[LAST] = np.log(101) / 2
    expected[SESSION - 1] = np.log(4)
    expected[OWN], expected[OWN + 2] = np.log(2.5), 1
    np.testing.assert_allclose(phi, expected, rtol=1e-6)


@pytest.mark.parametrize("kinds", [KINDS, ("own", "followers")])
def test_logarithms_in_numpy_are_the_same(kinds):
    features = counts(3, 4)
    in_numpy = logarithms(np.asarray(features), kinds)
    assert isinstance(in_numpy, np.ndarray)
    assert in_numpy.dtype == np.float32
    np.testing.assert_allclose(in_numpy, logarithms(features, kinds), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("units", [0, 5])
@pytest.mark.parametrize("kinds", [KINDS, ("world",), ("own", "followers")])
def test_unknown_counts_add_nothing(kinds, units):
    terms = Terms(kinds, units)
    features, known, u = counts(3, 4, 7), normal(3, 4, 8), normal(3, 4, 6)
    params = init(terms, features, known, u)
    params = jax.tree.map(lambda x: x + normal(*x.shape), params)
    values = apply(terms, params, features, known, u)
    assert values.shape == (3, 4, 7)
    np.testing.assert_array_equal(apply(terms, params, jnp.zeros_like(features), known, u), 0)
    others = [column for column in range(len(FEATURES)) if column not in columns_of(kinds)]
    altered = features.at[..., jnp.asarray(others, int)].add(1.0)
    np.testing.assert_array_equal(apply(terms, params, altered, known, u), values)
    # Each item separately: the order of a list has no meaning.
    np.testing.assert_allclose(
        apply(terms, params, features[..., ::-1, :], known, u), values[..., ::-1], rtol=1e-5
    )


def test_weights_start_independent_of_the_time_of_day():
    terms = Terms(KINDS)
    features, known, u = counts(2, 5), normal(2, 8), normal(2, 6)
    params = init(terms, features, known, u)
    values = apply(terms, params, features, known, u)
    np.testing.assert_allclose(values, 0.3 * logarithms(features).sum(-1), rtol=1e-5)


def test_the_time_of_day_changes_the_weights():
    terms = Terms(("world",))
    features, known, u = counts(1, 5), jnp.ones((1, 8)), jnp.ones((1, 6))
    params = init(terms, features, known, u)
    grads = jax.jit(jax.grad(lambda p: apply(terms, p, features, known, u).sum()))(params)
    assert (np.abs(grads["params"]["by_moment"]["kernel"]) > 0).all()


@pytest.mark.parametrize("events", [1, 2, 6], ids=["one", "two", "all"])
def test_in_chunks_they_are_the_same(events, monkeypatch):
    b, l, k = 2, 6, 3
    features, known, u = counts(b, l, k), normal(b, l, 3), normal(b, l, 4)
    terms = Terms(KINDS, units=5)
    params = jax.tree.map(lambda x: x + 0.1, init(terms, features, known, u))
    monkeypatch.setattr("hiertcn_jax.memory.terms._CHUNK_NUMBERS", events * features.size // l)

    def of(params, known, u, in_parts):
        def few(*arrays):
            return terms.apply(params, *arrays)

        values = in_chunks(few, features, known, u) if in_parts else few(features, known, u)
        return (values * jnp.arange(b * l * k).reshape(b, l, k)).sum()

    gradients = jax.jit(jax.value_and_grad(of, argnums=(0, 1, 2)), static_argnums=3)
    whole, parts = (gradients(params, known, u, in_parts) for in_parts in (False, True))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-3), whole, parts)
