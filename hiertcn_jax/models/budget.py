"""Models of an equal number of parameters, so that a comparison is not one of sizes.

What counts are the model's own parameters. Item tables and biases are the same for every model and
grow with the catalogue, so they are left out.
"""

import dataclasses
import functools
import itertools
import math
from typing import Any

import jax
import numpy as np

from hiertcn_jax.batch import Bucket, padding_batch
from hiertcn_jax.config import ModelConfig
from hiertcn_jax.models import build

WIDTH_STEP = 8
"""Widths are multiples of this: what vector units divide well."""


@functools.cache
def count_parameters(config: ModelConfig) -> int:
    """Number of parameters of the model without its item tables. Nothing is computed for it."""
    model = build(config)
    table_vd = np.zeros((1, config.item_dim), np.float32)
    probe = padding_batch(Bucket(1, 1, 1)).with_embeddings(table_vd)
    shapes = jax.eval_shape(
        lambda key: model.init(key, probe, model.init_carry(1)), jax.random.key(0)
    )
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes["params"]))


def fit_to_budget(config: ModelConfig, budget: int) -> ModelConfig:
    """The config with the model's own widths scaled to come nearest to a number of parameters.

    `gru_dim`, `tcn_channels` or `attention_dim`, those that the model reads, are scaled by one
    factor and rounded to multiples of `WIDTH_STEP` (and of the number of heads), so that two
    fields may be one step out of proportion. One step of a width w is about 2 * WIDTH_STEP / w of
    the parameters, and half of that the most by which the budget is missed. Widths of items stay,
    since they belong to the tables. A model without widths of its own (memory) stays as it is.

    Args:
      config: The model, its widths in the proportion wanted.
      budget: Parameters, as `count_parameters` counts them.

    Raises:
      ValueError: The smallest model is larger than the budget.
    """
    if not config.widths:
        return config
    smallest = count_parameters(_scaled(config, 1))
    if smallest > budget:
        raise ValueError(f"parameter_budget={budget}: the smallest {config.name} has {smallest}")
    low, high = 1, 2
    while count_parameters(_scaled(config, high)) <= budget:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if count_parameters(_scaled(config, middle)) <= budget:
            low = middle
        else:
            high = middle
    ends = _widths(config, low), _widths(config, high)
    fits = [
        dataclasses.replace(config, **dict(zip(ends[0], values, strict=True)))
        for values in itertools.product(*zip(*(end.values() for end in ends), strict=True))
    ]
    return min(fits, key=lambda fit: abs(count_parameters(fit) - budget))


def _scaled(config: ModelConfig, steps: int) -> ModelConfig:
    return dataclasses.replace(config, **_widths(config, steps))


def _widths(config: ModelConfig, steps: int) -> dict[str, Any]:
    """The model's own widths, scaled so that the largest is `steps` steps."""
    values = {name: getattr(config, name) for name in config.widths}
    step = math.lcm(WIDTH_STEP, config.width_unit)
    largest = max(jax.tree.leaves(values))
    return jax.tree.map(lambda width: step * max(1, round(steps * width / largest)), values)
