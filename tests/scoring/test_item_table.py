"""Item tables: shapes by config, rows of a batch, scores by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hiertcn_jax.config import ModelConfig
from hiertcn_jax.scoring.item_table import ItemTable, init_item_table
from hiertcn_jax.scoring.keys import item_keys

CONFIG = ModelConfig(item_dim=16)
TABLE = ItemTable(
    input_vd=jnp.array([[3.0, 4.0], [0.0, 0.0], [0.0, 2.0]]),
    output_vd=jnp.array([[1.0, 0.0], [5.0, 12.0], [0.0, 0.0]]),
    bias_v=jnp.array([0.5, 0.25, -1.0]),
)
TIED = TABLE._replace(output_vd=None)


def test_a_fresh_table_has_the_deviation_that_makes_products_small():
    table = init_item_table(jax.random.key(0), 400, CONFIG)
    assert table.input_vd.shape == (400, 16)
    # The deviation of 6400 draws is off by 1/sqrt(2 * 6400) = 0.9 % on average.
    assert np.std(table.input_vd) == pytest.approx(16**-0.5, rel=0.05)
    np.testing.assert_array_equal(table.bias_v, np.zeros(400))
    assert table.output_vd is None


def test_what_is_learned_is_what_the_config_says():
    untied = dataclasses.replace(CONFIG, tied_output=False, item_bias=False)
    table = init_item_table(jax.random.key(0), 5, untied)
    assert table.bias_v is None
    assert table.output_vd.shape == (5, 16)
    assert not np.array_equal(table.output_vd, table.input_vd)


def test_the_key_decides_the_table():
    one, same, other = (init_item_table(jax.random.key(s), 5, CONFIG).input_vd for s in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_rows_are_those_of_every_part_of_the_table():
    picked = TABLE.rows(jnp.array([2, 0, 2]))
    for part, whole in zip(picked, TABLE, strict=True):
        np.testing.assert_array_equal(part, np.asarray(whole)[[2, 0, 2]])
    assert TIED.rows(jnp.array([1])).output_vd is None


def test_items_are_scored_by_the_output_table_where_there_is_one():
    rows, bias, _ = item_keys(TABLE, ModelConfig())
    np.testing.assert_array_equal(rows, TABLE.output_vd)
    np.testing.assert_array_equal(bias, TABLE.bias_v)
    np.testing.assert_array_equal(item_keys(TIED, ModelConfig())[0], TIED.input_vd)


def test_rows_and_biases_of_some_ids():
    rows, bias, _ = item_keys(TIED, ModelConfig(), jnp.array([[2, 0]]))
    np.testing.assert_array_equal(rows, [[[0, 2], [3, 4]]])
    np.testing.assert_array_equal(bias, [[-1, 0.5]])
    assert item_keys(TIED._replace(bias_v=None), ModelConfig(), jnp.array([0]))[1] is None


def test_rows_have_length_1_only_where_both_sides_are_normalised():
    rows = item_keys(TIED, ModelConfig(normalize="both")).rows
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0], [0, 1]], rtol=1e-6)
    rows = item_keys(TABLE, ModelConfig(normalize="both"), jnp.array([1])).rows
    np.testing.assert_allclose(rows, [[5 / 13, 12 / 13]], rtol=1e-6)
    rows = item_keys(TIED, ModelConfig(normalize="prediction")).rows
    np.testing.assert_array_equal(rows, TIED.input_vd)
