"""The FLOPs formula compared with the products of the traced step, and with XLA's own count."""

import math

import jax
import pytest
from jax.extend.core import jaxprs_in_params

from benchmarks.flops import train_step_flops
from benchmarks.step_rows import ROWS, Row, Settings
from benchmarks.users import draw_users
from hiertcn_jax.batch import Bucket
from hiertcn_jax.memory.config import SIZES
from hiertcn_jax.models import model_config
from hiertcn_jax.models.hiertcn import HierTCNConfig
from hiertcn_jax.scoring import own_products
from tests.volume import mostly_thorough

BUCKET = Bucket(4, 32, 8)
"""128 slots are one chunk of the softmax, whose chunks are padded; so are the grid's 400."""


def row_of(name, negatives, **config):
    settings = Settings(
        models=(name,),
        bucket=BUCKET,
        grid_lanes=2,
        items=300,
        negatives=negatives,
        config=model_config(**config),
        users=60,
        batches=1,
        rounds=1,
        seconds=0.0,
    )
    return Row(name, settings, draw_users(60, 300, 0))


def product_flops(jaxpr, times=1):
    """2 m k n of every product, as often as the loop around it runs."""
    total = 0
    for equation in jaxpr.eqns:
        inside = times
        if equation.primitive.name == "scan":
            inside *= equation.params["length"]
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            numbers = math.prod(equation.outvars[0].aval.shape)
            total += times * 2 * numbers * math.prod(left[axis] for axis in contracted)
        total += sum(product_flops(inner, inside) for inner in jaxprs_in_params(equation.params))
    return total


ALL = [(name, {}) for name in ROWS]
QUICK = [(name, {}) for name in ("hstu", "hiertcn_grid")]
UNEQUAL = {"item_dim": 24, "gru_dim": 8, "tcn_channels": (16, 40), "convs_per_block": 2}


@pytest.mark.parametrize(
    ("name", "config"),
    [
        *mostly_thorough(ALL, *QUICK),
        ("hiertcn", UNEQUAL | {"gated": True, "session_progress": True}),
        ("tcn_user", UNEQUAL),
    ],
)
def test_the_formula_counts_every_product_of_the_step(name, config, monkeypatch):
    # Chunks that hold all events without padding, which the formula does not count.
    monkeypatch.setattr(own_products, "CHUNK_NUMBERS_CPU", 4 * SIZES.candidates * 128)
    row = row_of(name, negatives=48, **config)
    for batch in row.batches:
        traced = row.step.trace(*row.arguments(batch))
        formula = train_step_flops(row.config, batch.bucket, 48, row.layout != "chunks")
        assert product_flops(traced.jaxpr.jaxpr) == formula


@pytest.mark.parametrize("name", mostly_thorough(["hiertcn", "hiergru"], "hiertcn"))
def test_xla_counts_little_more_in_a_step_without_loops(name, monkeypatch):
    """Other operations are a few per cent. XLA counts the body of a loop only once."""

    def xla_flops():
        row = row_of(name, negatives=2048)
        return row.step.lower(*row.arguments(row.batches[0])).cost_analysis()["flops"]

    looped, scan = xla_flops(), jax.lax.scan
    monkeypatch.setattr(
        jax.lax, "scan", lambda *args, **kwargs: scan(*args, **kwargs | {"unroll": True})
    )
    config = row_of(name, negatives=2048).config
    formula = train_step_flops(config, BUCKET, 2048, grid=False)
    assert formula < xla_flops() < 1.05 * formula
    assert looped < xla_flops()


def test_a_config_without_a_formula_is_an_error():
    for config in (HierTCNConfig(gru_layers=2), HierTCNConfig(projection_dim=8)):
        with pytest.raises(ValueError, match="one GRU layer and no projection"):
            train_step_flops(config, BUCKET, 8, grid=False)
    with pytest.raises(ValueError, match="model=gru_session: there is no formula"):
        train_step_flops(model_config(name="gru_session"), BUCKET, 8, grid=False)
