"""Sweeps that an earlier version began, and which flags make a sweep different."""

from experiments.flags.run_flags import run_lines
from experiments.judging.config import EvalConfig
from experiments.runs.config import RunConfig, TrainConfig
from experiments.sweeping.made_with import differences
from hiertcn_jax.learning.loss_config import LossConfig
from hiertcn_jax.learning.optimizer import OptimizerConfig
from hiertcn_jax.models.flat_tcn import FlatTCNConfig

RUN = RunConfig(
    FlatTCNConfig(tcn_channels=(4,), residual=False, normalize="both"),
    LossConfig(negatives=(("uniform", 3), ("in_batch", 2))),
    OptimizerConfig(),
    TrainConfig(),
    EvalConfig(),
)
WANTED = {"space": "x", "flags": sorted(run_lines(RUN))}


def otherwise(*lines, without=()):
    """The flags, with these lines replacing those of the same names."""
    names = {line.partition("=")[0] for line in (*lines, *without)}
    kept = [line for line in WANTED["flags"] if line.partition("=")[0] not in names]
    return {**WANTED, "flags": [*kept, *lines]}


def test_the_same_flags_are_no_difference():
    assert differences(WANTED, WANTED) == []


def test_flags_that_an_earlier_version_had_of_other_models_are_left_out():
    earlier = otherwise("--gru_dim=3", "--attention_window=7", "--hiergru_feed=all")
    assert differences(earlier, WANTED) == []


def test_a_flag_that_an_earlier_version_did_not_have_is_at_its_default():
    assert differences(otherwise(without=["--weight_decay", "--item_bias"]), WANTED) == []
    changed = differences(otherwise(without=["--noresidual", "--tcn_channels"]), WANTED)
    assert changed == [
        "flags.residual: checkpoint true, this run false",
        "flags.tcn_channels: checkpoint 128,128,128, this run 4",
    ]


def test_differences_are_named():
    assert differences({**WANTED, "space": "y"}, WANTED) == ["space: checkpoint y, this run x"]
    assert differences(otherwise("--negatives=uniform:4"), WANTED) == [
        "flags.negatives: checkpoint uniform:4, this run uniform:3,in_batch:2"
    ]
    assert differences(otherwise("--memory_dim=4"), WANTED) == [
        "flags.memory_dim: checkpoint 4, unknown to this version"
    ]
    ranker = {"space": "x", "monitor": "all/mrr"}
    assert differences({**ranker, "monitor": "next/mrr"}, ranker) == [
        "monitor: checkpoint next/mrr, this run all/mrr"
    ]
