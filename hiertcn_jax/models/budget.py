"""Scales models to the same number of parameters, so that a comparison does not compare sizes.

Only the model's own parameters count. Item tables and biases are the same for every model and grow
with the catalogue, so they are left out.
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
"""Widths are multiples of this, which suits vector units."""


@functools.cache
def count_parameters(config: ModelConfig) -> int:
    """Number of parameters of the model without its item tables, from shapes alone."""
    model = build(config)
    table_vd = np.zeros((1, config.item_dim), np.float32)
    probe = padding_batch(Bucket(1, 1, 1)).with_embeddings(table_vd)
    shapes = jax.eval_shape(
        lambda key: model.init(key, probe, model.init_carry(1)), jax.random.key(0)
    )
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes["params"]))


def fit_to_budget(config: ModelConfig, budget: int) -> ModelConfig:
    """Scales the model's own widths to come as near as possible to a number of parameters.

    Scales those of `gru_dim`, `tcn_channels` and `attention_dim` that the model uses by one factor,
    and rounds them to multiples of `WIDTH_STEP` (and of the number of heads), so two fields may be
    one step out of proportion. One step of a width w is about 2 * WIDTH_STEP / w of the parameters,
    and the budget is missed by at most half of that. Widths of items stay, because they belong to
    the tables. A model without widths of its own (memory) does not change.

    Args:
      config: The model, with its widths in the wanted proportion.
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
