"""Configs: every message is "field=value: why"; JSON and back is the same config."""

import dataclasses
import json
import math
import re

import pytest

from experiments.judging.config import EvalConfig
from experiments.runs.config import RunConfig, TrainConfig
from hiertcn_jax.config import ModelConfig
from hiertcn_jax.learning.loss_config import LossConfig
from hiertcn_jax.learning.optimizer import OptimizerConfig
from hiertcn_jax.models import MODELS
from hiertcn_jax.models.esasrec import ESASRecConfig
from hiertcn_jax.models.flat_gru import FlatGRUConfig
from hiertcn_jax.models.flat_tcn import FlatTCNConfig
from hiertcn_jax.models.hiergru import HierGRUConfig
from hiertcn_jax.models.hiertcn import HierTCNConfig
from hiertcn_jax.models.sasrec import SASRecConfig
from hiertcn_jax.scoring.metrics import METRICS
from hiertcn_jax.settings import fields_of

OTHERS = (LossConfig, OptimizerConfig, TrainConfig, EvalConfig)
CONFIGS = (*dict.fromkeys(kind.config for kind in MODELS.values()), *OTHERS)

REJECTED = [
    (TrainConfig, {"data_parallelism": 0}, "data_parallelism=0: must be >= 1"),
    (
        TrainConfig,
        {"data_parallelism": 3, "lanes": 128},
        "data_parallelism=3: must divide lanes=128",
    ),
    (TrainConfig, {"lanes": "many"}, "lanes=many: must be a whole number or auto"),
    (TrainConfig, {"epochs": 0}, "epochs=0: must be >= 1"),
    (TrainConfig, {"model_parallelism": 0}, "model_parallelism=0: must be >= 1"),
    (ModelConfig, {"item_dim": 0}, "item_dim=0: must be >= 1"),
    (FlatGRUConfig, {"gru_dim": 0}, "gru_dim=0: must be >= 1"),
    (FlatGRUConfig, {"gru_layers": 0}, "gru_layers=0: must be >= 1"),
    (FlatTCNConfig, {"kernel_size": 0}, "kernel_size=0: must be >= 1"),
    (FlatTCNConfig, {"dilation_base": 0}, "dilation_base=0: must be >= 1"),
    (ModelConfig, {"projection_dim": -1}, "projection_dim=-1: must be >= 0"),
    (HierTCNConfig, {"gap_decay_hours": 0.0}, "gap_decay_hours=0.0: must be > 0"),
    (ModelConfig, {"temperature": 0.0}, "temperature=0.0: must be > 0"),
    (
        ModelConfig,
        {"memory": ("world", "hot")},
        "memory=world,hot: must be of world, followers, own, each once",
    ),
    (ModelConfig, {"memory_units": -1}, "memory_units=-1: must be >= 0"),
    (ModelConfig, {"temperature": math.nan}, "temperature=nan: must be > 0"),
    (ModelConfig, {"dropout": 1.0}, "dropout=1.0: must be in [0, 1)"),
    (ModelConfig, {"input_dropout": -0.1}, "input_dropout=-0.1: must be in [0, 1)"),
    (ModelConfig, {"unknown_rate": math.nan}, "unknown_rate=nan: must be in [0, 1)"),
    (HierTCNConfig, {"pooling": "sum"}, "pooling=sum: must be one of mean, max, last"),
    (HierTCNConfig, {"gap_decay": "no"}, "gap_decay=no: must be one of none, fixed, learned"),
    (ModelConfig, {"normalize": ""}, "normalize=: must be one of none, prediction, both"),
    (ModelConfig, {"item_mode": "row"}, "item_mode=row: must be one of auto, dense, rows, given"),
    (ModelConfig, {"dtype": "float16"}, "dtype=float16: must be one of float32, bfloat16"),
    (FlatTCNConfig, {"tcn_channels": ()}, "tcn_channels=(): must be one or more numbers >= 1"),
    (
        FlatTCNConfig,
        {"tcn_channels": (4, 0)},
        "tcn_channels=(4, 0): must be one or more numbers >= 1",
    ),
    (FlatTCNConfig, {"convs_per_block": 3}, "convs_per_block=3: must be in [1, 2]"),
    (HierGRUConfig, {"hiergru_feed": "no"}, "hiergru_feed=no: must be one of init, all"),
    (SASRecConfig, {"attention_dim": 0}, "attention_dim=0: must be >= 1"),
    (SASRecConfig, {"attention_window": 0}, "attention_window=0: must be >= 1"),
    (SASRecConfig, {"attention_blocks": 0}, "attention_blocks=0: must be >= 1"),
    (SASRecConfig, {"attention_heads": 0}, "attention_heads=0: must be >= 1"),
    (
        SASRecConfig,
        {"attention_heads": 3, "attention_dim": 128},
        "attention_heads=3: must divide attention_dim=128",
    ),
    (ESASRecConfig, {"feed_forward_factor": 0}, "feed_forward_factor=0: must be >= 1"),
    (
        LossConfig,
        {"name": "mse"},
        "name=mse: must be one of cross_entropy, sampled_softmax, nce, bpr, hinge_linear, "
        "hinge_sigmoid, hinge_logsigmoid, l2",
    ),
    (LossConfig, {"popularity_alpha": -0.5}, "popularity_alpha=-0.5: must be >= 0"),
    (LossConfig, {"hinge_delta": -1.0}, "hinge_delta=-1.0: must be >= 0"),
    (LossConfig, {"nce_weight": -1.0}, "nce_weight=-1.0: must be >= 0"),
    (
        LossConfig,
        {"negatives": (("uniform", 3), ("hard", 3))},
        "negatives=hard: must be one of impressions, uniform, popularity, in_batch",
    ),
    (
        LossConfig,
        {"negatives": (("uniform", 0),)},
        "negatives=uniform:0: the count must be >= 1",
    ),
    (
        LossConfig,
        {"name": "bpr", "negatives": ()},
        "negatives=: the loss bpr needs at least one source",
    ),
    (OptimizerConfig, {"learning_rate": 0.0}, "learning_rate=0.0: must be > 0"),
    (OptimizerConfig, {"decay_factor": 0.0}, "decay_factor=0.0: must be > 0"),
    (OptimizerConfig, {"adam_eps": 0.0}, "adam_eps=0.0: must be > 0"),
    (OptimizerConfig, {"warmup_steps": -1}, "warmup_steps=-1: must be >= 0"),
    (OptimizerConfig, {"final_rate": -0.1}, "final_rate=-0.1: must be >= 0"),
    (OptimizerConfig, {"clip_norm": -1.0}, "clip_norm=-1.0: must be >= 0"),
    (OptimizerConfig, {"weight_decay": -0.1}, "weight_decay=-0.1: must be >= 0"),
    (OptimizerConfig, {"adam_b1": 1.0}, "adam_b1=1.0: must be in [0, 1)"),
    (OptimizerConfig, {"adam_b2": -0.1}, "adam_b2=-0.1: must be in [0, 1)"),
    (OptimizerConfig, {"schedule": "exp"}, "schedule=exp: must be one of constant, step, cosine"),
    (TrainConfig, {"epochs": 0}, "epochs=0: must be >= 1"),
    (TrainConfig, {"steps": -1}, "steps=-1: must be >= 0"),
    (TrainConfig, {"lanes": 0}, "lanes=0: must be >= 1"),
    (TrainConfig, {"events": 0}, "events=0: must be >= 1"),
    (TrainConfig, {"sessions": 0}, "sessions=0: must be >= 1"),
    (TrainConfig, {"seed": -1}, "seed=-1: must be >= 0"),
    (TrainConfig, {"patience": -1}, "patience=-1: must be >= 0"),
    (TrainConfig, {"checkpoint_every_steps": -1}, "checkpoint_every_steps=-1: must be >= 0"),
    (TrainConfig, {"log_every_steps": 0}, "log_every_steps=0: must be >= 1"),
    (TrainConfig, {"embedding_cache_mb": -1}, "embedding_cache_mb=-1: must be >= 0"),
    (
        TrainConfig,
        {"item_embeddings": "E.npy"},
        "item_embeddings=E.npy: goes together with item_embedding_ids, the ids of its rows",
    ),
    (
        TrainConfig,
        {"item_embedding_ids": "E.txt"},
        "item_embeddings=: goes together with item_embedding_ids, the ids of its rows",
    ),
    (TrainConfig, {"max_bad_steps": 0}, "max_bad_steps=0: must be >= 1"),
    (TrainConfig, {"eval_every_epochs": 0.0}, "eval_every_epochs=0.0: must be > 0"),
    (TrainConfig, {"fit_on": "test"}, "fit_on=test: must be one of train, train_valid"),
    *(
        (
            TrainConfig,
            {"monitor": monitor},
            f"monitor={monitor}: must be group/metric with a group of all, first, next and a "
            f"metric of {', '.join(METRICS)}",
        )
        for monitor in ("mrr", "last/mrr", "all/events", "")
    ),
    (EvalConfig, {"lanes": 0}, "lanes=0: must be >= 1"),
    (EvalConfig, {"events": 0}, "events=0: must be >= 1"),
    (EvalConfig, {"sessions": 0}, "sessions=0: must be >= 1"),
    (EvalConfig, {"rank_events": 0}, "rank_events=0: must be >= 1"),
    (EvalConfig, {"rank_chunk": 0}, "rank_chunk=0: must be >= 1"),
    (EvalConfig, {"mask_seen": "all"}, "mask_seen=all: must be one of none, session, user"),
    (ModelConfig, {"item_dim": 2**31}, "item_dim=2147483648: must be below 2**31"),
    (
        FlatTCNConfig,
        {"tcn_channels": (8, 2**31)},
        "tcn_channels=(8, 2147483648): must be below 2**31",
    ),
    (ModelConfig, {"temperature": math.inf}, "temperature=inf: must be finite"),
    (TrainConfig, {"seed": 2**32}, "seed=4294967296: must be below 2**31"),
    (TrainConfig, {"eval_every_epochs": math.inf}, "eval_every_epochs=inf: must be finite"),
]

MISTYPED = [
    (ModelConfig, {"item_dim": True}, "item_dim=True: must be a whole number"),
    (ModelConfig, {"item_dim": 8.0}, "item_dim=8.0: must be a whole number"),
    (HierTCNConfig, {"pooling": None}, "pooling=None: must be text"),
    (HierTCNConfig, {"name": ["hiertcn"]}, "name=('hiertcn',): must be text"),
    (FlatTCNConfig, {"residual": 1}, "residual=1: must be true or false"),
    (ModelConfig, {"dropout": "0.1"}, "dropout=0.1: must be a number"),
    (FlatTCNConfig, {"tcn_channels": 8}, "tcn_channels=8: must be a list of whole numbers"),
    (FlatTCNConfig, {"tcn_channels": [8, "8"]}, "tcn_channels=(8, '8'): must be a list of whole"),
    (OptimizerConfig, {"decay_epochs": [1.5]}, "decay_epochs=(1.5,): must be a list of whole"),
    (
        LossConfig,
        {"negatives": ["uniform", 3]},
        "negatives=('uniform', 3): must be a list of sourc",
    ),
    (LossConfig, {"negatives": [[3, "uniform"]]}, "negatives=((3, 'uniform'),): must be a list of"),
    (TrainConfig, [], "TrainConfig=[]: must be fields with their values"),
    (TrainConfig, None, "TrainConfig=None: must be fields with their values"),
    (TrainConfig, {"lane": 3}, "lane=3: unknown to this version"),
]


@pytest.mark.parametrize("config, values, message", MISTYPED)
def test_json_of_another_type_is_said_by_field(config, values, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        config.from_dict(values)


@pytest.mark.parametrize("config, changes, message", REJECTED)
def test_errors_of_range_have_field_value_and_reason(config, changes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        config(**changes)


def test_no_field_goes_unchecked():
    """Each field has a value that is rejected, except fields that accept any value."""
    # The rate may drop at any epoch; names are those of the class.
    free = {"decay_epochs", "name"}
    rejected = {
        (field.owner, name)
        for config, changes, _ in REJECTED
        for name in changes
        for field in fields_of(config)
        if field.name == name
    }
    for config in CONFIGS:
        for field in fields_of(config):
            if field.kind.type is not bool and field.name not in free:
                assert (field.owner, field.name) in rejected, field.name
    assert all(kind in CONFIGS for kind, _ in rejected if kind in OTHERS)


@pytest.mark.parametrize(
    "config",
    [
        *(config() for config in CONFIGS),
        FlatTCNConfig(name="tcn_user", tcn_channels=(3, 5), dropout=0.25),
        HierTCNConfig(gap_decay="learned", tcn_channels=(3,)),
        LossConfig(name="bpr", negatives=(("in_batch", 7), ("uniform", 2)), own_negatives=True),
        LossConfig(name="cross_entropy", negatives=()),
        OptimizerConfig(schedule="step", decay_epochs=(), clip_norm=0.1),
        TrainConfig(monitor="next/recall@20", eval_every_epochs=0.5),
        EvalConfig(mask_seen="user"),
    ],
    ids=lambda config: type(config).__name__,
)
def test_json_and_back_is_the_same_config(config):
    values = json.loads(json.dumps(config.to_dict()))
    assert type(config).from_dict(values) == config
    assert set(values) == {field.name for field in dataclasses.fields(config)}


def test_json_values_are_checked_too():
    with pytest.raises(ValueError, match=r"^widht=3: unknown to this version$"):
        HierTCNConfig.from_dict({"widht": 3})
    with pytest.raises(ValueError, match=r"^epochs=0: must be >= 1$"):
        TrainConfig.from_dict({"epochs": 0})
    assert TrainConfig.from_dict({}) == TrainConfig()


def test_only_losses_on_scores_need_negatives():
    without = {"cross_entropy", "l2"}
    for name in ("cross_entropy", "sampled_softmax", "nce", "bpr", "hinge_linear", "l2"):
        assert LossConfig(name=name).needs_negatives == (name not in without)


RUN = RunConfig(
    HierTCNConfig(gru_dim=5, tcn_channels=(3,), pooling="max"),
    LossConfig(),
    OptimizerConfig(),
    TrainConfig(),
    EvalConfig(),
    {"attention_dim": 6, "hiergru_feed": "all"},
)


def test_another_model_takes_the_settings_that_it_shares():
    run = RUN.with_model("hiergru")
    assert run.model == HierGRUConfig(gru_dim=5, hiergru_feed="all")
    kept, taken = dataclasses.fields(HierTCNConfig), dataclasses.fields(HierGRUConfig)
    own = {field.name for field in kept} - {field.name for field in taken}
    assert own >= {"tcn_channels", "pooling"}
    assert run.others == {name: getattr(RUN.model, name) for name in own} | {"attention_dim": 6}
    assert run.with_model("sasrec").model == SASRecConfig(attention_dim=6)
    assert run.with_model("hiertcn") == RUN
    with pytest.raises(ValueError, match=r"^model=gru4rec: must be one of hiertcn, "):
        RUN.override({"model": "gru4rec"})


def test_some_settings_otherwise():
    changed = RUN.override({"tcn_channels": "4,4", "loss": "bpr", "eval_lanes": 16})
    assert changed.model == dataclasses.replace(RUN.model, tcn_channels=(4, 4))
    assert (changed.loss.name, changed.evaluation.lanes) == ("bpr", 16)
    assert changed.train == RUN.train
    for values, message in (
        ({"widht": 3}, "widht=3: there is no such flag"),
        ({"attention_dim": 8}, "attention_dim=8: hiertcn has no such setting, but sasrec"),
        ({"model": "sasrec", "gru_dim": 3}, "gru_dim=3: sasrec has no such setting, but hiertcn, "),
        ({"item_mode": "rows", "loss": "cross_entropy"}, "item_mode=rows: a batch has some rows"),
        ({"data_parallelism": 2, "eval_lanes": 9}, "data_parallelism=2: must divide eval_lanes=9"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            RUN.override(values)
