"""The step profile: which operations belong to which part."""

import json

import jax
import jax.numpy as jnp
import pytest

from benchmarks.program import matrix_products
from benchmarks.step_profile import Command, main, operation_names, part_of, sum_by_part
from benchmarks.step_rows import Settings
from hiertcn_jax.batch import Bucket
from hiertcn_jax.models.hiertcn import HierTCNConfig


@pytest.mark.parametrize(
    ("operation", "part"),
    [
        ("jit(step)/jvp(HierTCN)/HierTCN.run/tcn/block_0/conv_0/Dense_0/dot_general", "tcn"),
        ("jit(step)/transpose(jvp(HierTCN))/HierTCN.run/tcn/block_1/select_n", "tcn"),
        (
            "jit(step)/jvp(HierTCN)/HierTCN.run/HierTCN._long_term/gru/layer_0/while/body/dot_general",
            "gru",
        ),
        (
            "jit(step)/jvp(HierTCN)/HierTCN.take_items/bls,bld->bsd/dot_general",
            "pooling_and_context",
        ),
        (
            "jit(step)/jvp(HierTCN)/HierTCN.run/HierTCN._long_term/join_state/dot",
            "pooling_and_context",
        ),
        ("jit(step)/jvp(HierTCN)/HierTCN.run/HierTCN.output/output/dot_general", "join_and_output"),
        ("jit(step)/jvp(HierTCN)/HierTCN.read_items/jit(_take)/gather", "item_rows"),
        ("jit(step)/jvp(HierTCN)/HierTCN.run/tcn/block_0/Dropout_0/random_bits", "random_numbers"),
        ("jit(step)/jvp()/while/body/closed_call/nd,kd->nk/dot_general", "loss"),
        ("jit(step)/jvp()/gather", "item_rows"),
        ("jit(step)/jvp(HierTCN)/concatenate", "model_rest"),
        ("jit(step)/add", "optimizer_and_rest"),
    ],
)
def test_the_name_of_an_operation_gives_its_part(operation, part):
    assert part_of(operation) == part


def test_times_of_parts_add_up_to_the_total():
    operations = {
        "dot.1": "jit(step)/jvp(HierTCN)/HierTCN.run/tcn/dot_general",
        "add.1": "jit(step)/jvp(HierTCN)/HierTCN.run/tcn/add",
        "mul.2": "jit(step)/mul",
    }
    cases = sum_by_part({"dot.1": 5000, "add.1": 1000, "mul.2": 2000}, operations, {"dot.1"})
    assert cases == {
        "tcn": {"ms_per_step": 6.0, "products_ms_per_step": 5.0, "share": 0.75},
        "optimizer_and_rest": {"ms_per_step": 2.0, "products_ms_per_step": 0.0, "share": 0.25},
        "all": {"ms_per_step": 8.0, "products_ms_per_step": 5.0, "share": 1.0},
    }


def test_instructions_and_products_of_a_program():
    def function(x):
        y = jax.lax.fori_loop(0, 3, lambda _, y: jnp.sin(y @ x), x)
        return jnp.where(y > 0, y, 0).sum(0)

    text = jax.jit(function).lower(jnp.ones((64, 64))).compile().as_text()
    names, products = operation_names(text), matrix_products(text)
    assert products and not any(name.startswith("while") for name in names)
    named = {names[name] for name in products & set(names)}
    assert named and all("dot_general" in name for name in named)
    assert any("sin" in name and instruction not in products for instruction, name in names.items())


@pytest.mark.thorough
def test_the_report_has_the_parts_of_the_step(tmp_path):
    settings = Settings(
        models=("hiertcn",),
        bucket=Bucket(4, 8, 4),
        grid_lanes=1,
        items=60,
        negatives=8,
        config=HierTCNConfig(item_dim=16, gru_dim=16, tcn_channels=(16, 16)),
        users=20,
        batches=1,
        rounds=1,
        seconds=0.0,
    )
    main(Command(settings, 2, str(tmp_path / "profile.json")))
    report = json.loads((tmp_path / "profile.json").read_text())
    assert list(report) == ["machine", "commit", "cases"]
    cases = report["cases"]
    assert set(cases) >= {"tcn", "gru", "loss", "optimizer_and_rest", "all"}
    assert cases["tcn"]["products_ms_per_step"] > 0
    whole = cases.pop("all")["ms_per_step"]
    assert sum(case["ms_per_step"] for case in cases.values()) == pytest.approx(whole, abs=0.1)
