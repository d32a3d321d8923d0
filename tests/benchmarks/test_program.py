"""Costs of programs with loops, where each figure is known from the program."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks.program import _Program, accessed_bytes, sequential_steps, temporary_bytes

SQUARE = jnp.ones((32, 32))


def products(times, inner=None):
    """Computes x @ x this many times; `inner` times in each of them."""

    def body(x, _):
        return (products(inner)(x) if inner else x @ SQUARE), None

    return lambda x: jax.lax.scan(body, x, length=times)[0]


def compiled(function):
    return jax.jit(function).lower(SQUARE).compile()


def flops(function):
    return _Program(compiled(function).as_text()).cost("flops")


@pytest.mark.parametrize(("times", "inner"), [(5, None), (7, 3)])
def test_bodies_count_as_often_as_they_run(times, inner):
    one = 2 * 32**3
    runs = times * (inner or 1)
    # The loop's counter adds a few operations per iteration.
    assert runs * one <= flops(products(times, inner)) < runs * (one + 100)


def test_bytes_grow_by_the_body():
    five, ten, twenty = (accessed_bytes(compiled(products(times))) for times in (5, 10, 20))
    assert twenty - ten == pytest.approx(2 * (ten - five))
    # The body reads two matrices and writes one, at least.
    assert (ten - five) / 5 >= 3 * SQUARE.nbytes


def test_without_loops_the_figures_are_those_of_xla():
    program = compiled(lambda x: jnp.sum(jnp.tanh(x @ x), 0))
    assert accessed_bytes(program) == program.cost_analysis()["bytes accessed"]
    assert temporary_bytes(program) == program.memory_analysis().temp_size_in_bytes


def test_a_loop_of_unknown_length_is_an_error():
    program = compiled(lambda x: jax.lax.while_loop(lambda y: y.sum() < 1e6, lambda y: y @ y, x))
    with pytest.raises(ValueError, match="without a known number of trips"):
        accessed_bytes(program)


def test_sequential_steps_add_up_and_multiply():
    def function(x):
        return products(4, 6)(products(5)(x)) + jnp.sin(x)

    assert sequential_steps(jax.make_jaxpr(function)(SQUARE).jaxpr) == 5 + 4 * 6
    assert sequential_steps(jax.make_jaxpr(jax.jit(function))(SQUARE).jaxpr) == 5 + 4 * 6
    assert sequential_steps(jax.make_jaxpr(jnp.sin)(SQUARE).jaxpr) == 0
