"""A run is resolved once: the saved settings, flags.txt and the training are the same."""

import pytest

from data_pipelines.errors import DataError
from experiments.judging.config import EvalConfig
from experiments.runs.assembly import assemble
from experiments.runs.config import RunConfig, TrainConfig
from experiments.runs.resolve import resolve, resolve_config
from hiertcn_jax.learning.loss_config import LossConfig
from hiertcn_jax.learning.optimizer import OptimizerConfig
from hiertcn_jax.models.hiertcn import HierTCNConfig

RUN = RunConfig(
    HierTCNConfig(item_dim=4, gru_dim=4, tcn_channels=(4,)),
    LossConfig(negatives=(("popularity", 8),)),
    OptimizerConfig(),
    TrainConfig(lanes=8, events=16, sessions=8, epochs=3),
    EvalConfig(lanes=8),
    {"attention_dim": 8},
)


def test_the_saved_settings_are_those_that_run(data):
    run = resolve(RUN, data)
    assert RUN.model.item_mode == "auto"
    assert run.config.model.item_mode == run.saved["model"]["item_mode"] == "dense"
    assert assemble(run).model.config == run.config.model
    assert run.config.others == {}


def test_resolved_settings_stay_unchanged(data):
    config = resolve_config(RUN, data)
    assert resolve_config(config, data) == config
    assert resolve(config, data).plan == resolve(RUN, data).plan


def test_a_plan_counts_epochs_in_steps_unless_steps_are_asked_for(data):
    plan = resolve(RUN, data).plan
    assert plan.total_steps == 3 * plan.steps_per_epoch
    assert plan.eval_every == plan.steps_per_epoch
    train = TrainConfig(lanes=8, events=16, sessions=8, steps=7)
    assert resolve(RUN._replace(train=train), data).plan.total_steps == 7


def test_the_loader_draws_in_rows_mode_alone(data):
    assert resolve(RUN, data).item_rows is None
    rows = RUN.override({"item_mode": "rows"})
    assert resolve(rows, data).item_rows is not None


def test_missing_data_is_reported_before_anything_runs(data):
    shown = RUN.override({"negatives": "impressions:5"})
    with pytest.raises(DataError, match="has no impressions for negatives=impressions:5"):
        resolve(shown, data)
