"""Flags: one for each field, with its help; flagfiles parse; flags.txt repeats a run."""

import contextlib
import re
import shlex
from pathlib import Path

import pytest
from absl import flags
from absl.testing import flagsaver

from data_pipelines.commands.flagfiles import expand_flagfiles
from data_pipelines.commands.settings_flags import define_flags, read_settings
from data_pipelines.config import PrepareConfig
from experiments import sweep
from experiments.flags import run_flags as flags_lib
from experiments.flags.continuing_flags import define_continuing_flags
from experiments.flags.device_flags import define_cluster_flags
from experiments.judging.config import EvalConfig
from experiments.runs.config import RunConfig, TrainConfig
from hiertcn_jax.learning.loss_config import LossConfig
from hiertcn_jax.learning.optimizer import OptimizerConfig
from hiertcn_jax.models import MODELS
from hiertcn_jax.models.flat_tcn import FlatTCNConfig
from hiertcn_jax.models.hiertcn import HierTCNConfig
from hiertcn_jax.models.sasrec import SASRecConfig
from hiertcn_jax.settings import fields_of

ROOT = Path(__file__).parents[3]
FLAGFILES = sorted((ROOT / "experiments" / "flagfiles").glob("*.flags"))
CONFIGS = (HierTCNConfig, LossConfig, OptimizerConfig, TrainConfig, EvalConfig)
WHERE = ("--data_dir=D", "--workdir=W")


@contextlib.contextmanager
def parsed(*arguments):
    """Parses the flags of experiments.train, and removes them afterwards."""
    with flagsaver.flagsaver():
        flags_lib.define_train_flags()
        define_continuing_flags()
        define_cluster_flags()
        flags.FLAGS(["train", *arguments])
        yield flags.FLAGS


def run_of(*arguments):
    with parsed(*WHERE, *arguments):
        return flags_lib.read_run_config()


def test_no_flags_are_the_defaults():
    run = run_of()
    assert run.configs == tuple(config() for config in CONFIGS)
    assert run.with_model("sasrec").model == SASRecConfig()


def test_every_field_has_a_flag_with_its_help():
    with parsed(*WHERE) as values:
        for config in (*(kind.config for kind in MODELS.values()), *CONFIGS):
            for field in fields_of(config):
                flag = values[field.flag]
                assert len(flag.help) > 15
                assert "`" not in flag.help


CHANGED = RunConfig(
    FlatTCNConfig(
        item_dim=12, tcn_channels=(3, 4), residual=False, unknown_rate=0.0, item_mode="rows",
        dtype="bfloat16",
    ),
    LossConfig(name="bpr", negatives=(("in_batch", 7), ("uniform", 3)), own_negatives=True),
    OptimizerConfig(learning_rate=1e-2, schedule="step", decay_epochs=(6, 12), adam_eps=1e-6),
    TrainConfig(steps=7, lanes=3, seed=11, fit_on="train_valid", monitor="next/recall@20"),
    EvalConfig(lanes=5, events=6, sessions=7, mask_seen="user", rank_chunk=100),
)  # fmt: skip


def test_every_kind_of_flag_reaches_its_field():
    run = run_of(
        "--model=tcn_session", "--item_dim=12", "--tcn_channels=3,4", "--noresidual",
        "--gap_decay=learned", "--gap_decay_hours=12.5", "--unknown_rate=0", "--item_mode=rows",
        "--dtype=bfloat16", "--loss=bpr", "--negatives=in_batch:7,uniform:3", "--own_negatives",
        "--learning_rate=1e-2", "--schedule=step", "--decay_epochs=6,12", "--adam_eps=1e-6",
        "--steps=7", "--lanes=3", "--seed=11", "--fit_on=train_valid", "--monitor=next/recall@20",
        "--eval_lanes=5", "--eval_events=6", "--eval_sessions=7", "--mask_seen=user",
        "--rank_chunk=100",
    )  # fmt: skip
    assert run.configs == CHANGED.configs
    # A setting that this model lacks is kept for a model that has it.
    assert (run.others["gap_decay"], run.others["gap_decay_hours"]) == ("learned", 12.5)
    assert "tcn_channels" not in run.others


def read_prepare(arguments):
    values = flags.FlagValues()
    flags.DEFINE_string("flagfile", None, "absl's own.", flag_values=values)
    define_flags(fields_of(PrepareConfig), values)
    values(["prepare", *arguments])
    read_settings(PrepareConfig, values)


def read_train(arguments):
    with parsed(*arguments):
        flags_lib.read_run_config()


def read_sweep(arguments):
    with flagsaver.flagsaver():
        sweep.define_flags()
        flags.FLAGS(["sweep", *arguments])
        sweep.read_settings()


READERS = {
    "data_pipelines.prepare": read_prepare,
    "experiments.train": read_train,
    "experiments.sweep": read_sweep,
}


def commands_of(flagfile):
    """(module, arguments) of each command in the header of a flagfile; M is any model."""
    text = flagfile.read_text(encoding="utf-8").replace("\\\n#", "")
    for line in re.findall(r"^# +python -m (.+)$", text, re.MULTILINE):
        module, *arguments = shlex.split(re.sub(r"[][]", "", line))
        yield module, [re.sub(r"\bM\b", "sasrec", argument) for argument in arguments]


@pytest.mark.parametrize("path", FLAGFILES, ids=lambda path: path.stem)
def test_the_commands_in_a_flagfiles_header_can_be_given(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    commands = list(commands_of(path))
    own = f"--flagfile={path.relative_to(ROOT)}"
    assert any(own in arguments for _, arguments in commands)
    for module, arguments in commands:
        READERS[module](arguments)


@pytest.mark.parametrize("run", [CHANGED, RunConfig(*(config() for config in CONFIGS))])
def test_saved_flags_repeat_the_run(tmp_path, run):
    with parsed("--data_dir=a b", "--workdir=W", "--synthetic=control", *flags_lib.run_lines(run)):
        assert flags_lib.read_run_config().configs == run.configs
        flags_lib.save_flags(tmp_path / "flags.txt")
    with parsed(f"--flagfile={tmp_path / 'flags.txt'}") as values:
        assert flags_lib.read_run_config().configs == run.configs
        assert (values.data_dir, values.workdir, values.synthetic) == ("a b", "W", "control")
        flags_lib.save_flags(tmp_path / "again.txt")
    assert (tmp_path / "again.txt").read_text() == (tmp_path / "flags.txt").read_text()
    assert "flagfile" not in (tmp_path / "flags.txt").read_text()


@pytest.mark.parametrize(
    "argument, message",
    [
        ("--nothing=1", "Unknown command line flag 'nothing'"),
        ("--item_dim=x", "flag --item_dim=x"),
        ("--item_dim=0", "flag --item_dim=0: must be >= 1"),
        ("--model=gru4rec", "flag --model=gru4rec: value should be one of"),
        ("--loss=mse", "flag --loss=mse: value should be one of"),
        ("--eval_lanes=0", "flag --eval_lanes=0: must be >= 1"),
        ("--dropout=1", "flag --dropout=1.0: must be in [0, 1)"),
        ("--tcn_channels=4,0", "flag --tcn_channels=(4, 0): must be one or more numbers >= 1"),
        ("--tcn_channels=", "flag --tcn_channels=(): must be one or more numbers >= 1"),
        ("--tcn_channels=4,x", "flag --tcn_channels=4,x: must be whole numbers"),
        ("--decay_epochs=3.5", "flag --decay_epochs=3.5: must be whole numbers"),
        ("--negatives=uniform", "flag --negatives=uniform: expected source:count"),
        ("--negatives=uniform:-1", "flag --negatives=uniform:-1: expected source:count"),
        ("--negatives=hard:5", "flag --negatives=hard: must be one of"),
        ("--monitor=mrr", "flag --monitor=mrr: must be group/metric"),
    ],
)
def test_unknown_or_out_of_range_flags_are_reported(argument, message):
    with pytest.raises(flags.Error) as caught:
        run_of(argument)
    assert message in str(caught.value)


def test_values_are_checked_for_every_model():
    with pytest.raises(flags.IllegalFlagValueError, match="flag --kernel_size=0: must be >= 1"):
        run_of("--model=sasrec", "--kernel_size=0")


@pytest.mark.parametrize(
    "typed, message",
    [
        (["--gru_dim=3"], "flag --gru_dim: sasrec has no such setting, but hiertcn, hiergru, "),
        (["--noresidual"], "flag --residual: sasrec has no such setting, but hiertcn, "),
        (["-gru_dim", "3"], "flag --gru_dim: sasrec has no such setting"),
        (["--residual=false"], "flag --residual: sasrec has no such setting"),
    ],
)
def test_a_setting_of_another_model_is_refused_where_it_is_typed(typed, message):
    run = run_of("--model=sasrec", *typed)
    with pytest.raises(flags.IllegalFlagValueError) as caught:
        flags_lib.require_own_flags(run, typed)
    assert str(caught.value).startswith(message)
    # A flagfile may serve several models.
    flags_lib.require_own_flags(run, ["--flagfile=F", "--model=sasrec", "--lanes=3"])


def test_a_setting_of_another_model_may_be_typed_at_its_default():
    typed = ["--model=sasrec", "--gru_dim=128", "--attention_dim=8"]
    flags_lib.require_own_flags(run_of(*typed), typed)


def test_flags_that_do_not_go_together():
    with pytest.raises(
        flags.IllegalFlagValueError, match=r"flag --item_mode=rows: .*cross_entropy"
    ):
        run_of("--item_mode=rows", "--loss=cross_entropy")


def test_data_and_workdir_are_required():
    for missing in ("data_dir", "workdir"):
        with (
            pytest.raises(flags.IllegalFlagValueError, match=missing),
            parsed(*(argument for argument in WHERE if missing not in argument)),
        ):
            pass


QUICKSTART = "experiments/flagfiles/quickstart.flags"


def synthetic_of(*arguments):
    """The message of `read_synthetic` for a command line."""
    expanded = expand_flagfiles(["train", *arguments])[1:]
    with parsed("--workdir=W", *expanded):
        return flags_lib.read_synthetic(arguments)


def test_a_mistyped_directory_is_not_filled_with_a_synthetic_log(tmp_path, monkeypatch):
    flagfile = f"--flagfile={ROOT / QUICKSTART}"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert synthetic_of(flagfile) == "planted"
    assert synthetic_of(flagfile, "--data_dir=mine") is None
    assert synthetic_of(flagfile, "--data_dir=mien", "--synthetic=control") == "control"
    assert synthetic_of(flagfile, "--data_dir=mien", "--synthetic", "control") == "control"
    expected = (
        "flag --data_dir=mien: there is no such directory; name a prepared log, or add "
        "--synthetic=planted to the command line to make a synthetic log there"
    )
    with pytest.raises(flags.IllegalFlagValueError, match=f"^{re.escape(expected)}$"):
        synthetic_of(flagfile, "--data_dir=mien")
    # The flags.txt of a run whose log has been moved.
    (tmp_path / "flags.txt").write_text("--data_dir=mien\n--synthetic=planted\n")
    with pytest.raises(flags.IllegalFlagValueError, match="there is no such directory"):
        synthetic_of("--flagfile=flags.txt")
    assert synthetic_of("--data_dir=mien") is None
