"""Equal numbers of parameters."""

import dataclasses

import jax
import pytest

from hiertcn_jax.models import MODELS, model_config
from hiertcn_jax.models.budget import count_parameters, fit_to_budget
from tests.volume import mostly_thorough


def test_the_count_of_a_gru_by_hand():
    config = model_config(name="gru_user", item_dim=6, gru_dim=5)
    # Gates of inputs with biases, of states without, candidate's bias, start state, output.
    assert count_parameters(config) == (6 * 15 + 15) + 5 * 15 + 5 + 5 + (5 * 6 + 6)


def test_item_tables_do_not_count():
    config = model_config(name="sasrec", attention_dim=16)
    tables = {"tied_output": False, "item_bias": False}
    assert count_parameters(dataclasses.replace(config, **tables)) == count_parameters(config)


@pytest.mark.parametrize(
    "name",
    mostly_thorough([name for name in MODELS if name != "memory"], "hiertcn", "hiergru", "esasrec"),
)
def test_models_come_near_to_the_budget(name):
    config = model_config(name=name, item_dim=64)
    fitted = fit_to_budget(config, 200_000)
    assert abs(count_parameters(fitted) - 200_000) < 0.05 * 200_000
    widths = config.widths
    same = {name: getattr(config, name) for name in widths}
    assert dataclasses.replace(fitted, **same) == config
    assert all(x % 8 == 0 for x in jax.tree.leaves([getattr(fitted, name) for name in widths]))


def test_widths_keep_their_proportion_and_their_heads():
    config = model_config(name="tcn_user", tcn_channels=(256, 128))
    first, second = fit_to_budget(config, 500_000).tcn_channels
    assert abs(first - 2 * second) <= 8
    heads = model_config(name="sasrec", attention_dim=36, attention_heads=12)
    assert fit_to_budget(heads, 100_000).attention_dim % 24 == 0


def test_a_model_without_widths_stays_as_it_is():
    config = model_config(name="memory", memory=("world",))
    assert fit_to_budget(config, 100) == config
    # 14 features: their weights, and what each learns from 8 numbers of the moment.
    assert count_parameters(config) == 14 + 8 * 14


def test_a_budget_below_the_smallest_model_is_an_error():
    with pytest.raises(ValueError, match=r"parameter_budget=100: the smallest hiergru has \d+"):
        fit_to_budget(model_config(name="hiergru"), 100)
