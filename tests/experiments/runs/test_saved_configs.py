"""Which saved settings must be equal to resume a run, whichever version saved them."""

import copy
import json

import pytest

from experiments.judging.config import EvalConfig
from experiments.runs.config import RunConfig, TrainConfig
from experiments.runs.saved_configs import as_now, differences, saved_configs, who_can
from hiertcn_jax import __version__
from hiertcn_jax.learning.loss_config import LossConfig
from hiertcn_jax.learning.optimizer import OptimizerConfig
from hiertcn_jax.models.hiergru import HierGRUConfig
from tests.models.test_earlier_configs import SAVED

RUN = RunConfig(
    HierGRUConfig(item_mode="dense"),
    LossConfig(),
    OptimizerConfig(),
    TrainConfig(lanes=128),
    EvalConfig(),
)


@pytest.fixture
def configs(data):
    """The settings as a checkpoint returns them."""
    return json.loads(json.dumps(saved_configs(RUN, data)))


def changed(configs, path, value):
    """The settings with one of them changed."""
    configs, (part, name) = copy.deepcopy(configs), path.split(".")
    configs[part][name] = value
    return configs


def test_the_same_run_resumes(configs, data):
    assert differences(configs, saved_configs(RUN, data)) == []


@pytest.mark.parametrize(
    "path, value, shown",
    [
        ("model.gru_dim", 3, "3, this run 128"),
        ("model.hiergru_feed", "all", "all, this run init"),
        ("loss.name", "bpr", "bpr, this run sampled_softmax"),
        ("optimizer.clip_norm", 1.0, "1.0, this run 0.0"),
        ("train.lanes", 8, "8, this run 128"),
        ("train.seed", 1, "1, this run 0"),
    ],
)
def test_settings_that_give_arrays_their_meaning_must_be_equal(configs, data, path, value, shown):
    wanted = saved_configs(RUN, data)
    assert differences(changed(configs, path, value), wanted) == [f"{path}: checkpoint {shown}"]


def test_another_log_or_another_file_is_named_by_its_path(configs, data):
    wanted = saved_configs(RUN, data)
    here = data.directory.absolute()
    other = changed(configs, "data.content_hash", "x")
    line = f"data_dir: checkpoint {here}, this run {here}, which has changed since"
    assert differences(other, wanted) == [line]
    other = changed(other, "data.directory", "/logs/a")
    assert differences(other, wanted) == [f"data_dir: checkpoint /logs/a, this run {here}"]
    other = changed(configs, "data.embeddings_hash", "x")
    other = changed(other, "train.item_embeddings", "E.npy")
    assert differences(other, wanted) == ["item_embeddings: checkpoint E.npy, this run none"]


@pytest.mark.parametrize(
    "path, value",
    [
        ("train.epochs", 99), ("train.patience", 2), ("evaluation.lanes", 8),
        ("data.directory", "/elsewhere"),
    ],
)  # fmt: skip
def test_settings_of_execution_may_differ(configs, data, path, value):
    assert differences(changed(configs, path, value), saved_configs(RUN, data)) == []


def test_a_setting_that_an_earlier_version_did_not_have_is_at_its_default(configs, data):
    earlier = copy.deepcopy(configs)
    del earlier["version"], earlier["model"]["hiergru_feed"], earlier["loss"]["logq"]
    del earlier["optimizer"]["weight_decay"], earlier["evaluation"]["rank_chunk"]
    assert differences(earlier, saved_configs(RUN, data)) == []
    # Another value than the default is a difference, as if the default had been saved.
    other = RUN._replace(model=HierGRUConfig(item_mode="dense", hiergru_feed="all"))
    assert differences(earlier, saved_configs(other, data)) == [
        "model.hiergru_feed: checkpoint init, this run all"
    ]


def test_settings_of_other_models_saved_by_0_1_0_are_ignored(configs, data):
    earlier = copy.deepcopy(configs)
    del earlier["version"]
    earlier["model"] = SAVED | earlier["model"]
    # Fields added since.
    for name in ("memory", "memory_units"):
        del earlier["model"][name]
    assert len(earlier["model"]) == 27
    assert differences(earlier, saved_configs(RUN, data)) == []
    assert as_now(earlier)["model"] == configs["model"]


def test_a_setting_that_is_unknown_is_named_with_the_version_that_knows_it(configs, data):
    wanted = saved_configs(RUN, data)
    unknown = "model.memory_dim: checkpoint 3, unknown to this version"
    later = changed(configs, "model.memory_dim", 3)
    assert differences(later, wanted) == [unknown]
    later["version"] = "9.0"
    assert differences(later, wanted) == [f"{unknown}; version 9.0 wrote it, and can read it"]
    assert who_can({"version": __version__}) == who_can({}) == who_can({"version": 3}) == ""
