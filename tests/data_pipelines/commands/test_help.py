"""Help by topic, the version, and errors for wrong flags; each by the real command."""

import importlib
import re

import pytest
from absl import flags
from absl.testing import flagsaver

from data_pipelines.commands.help import description_lines, flag_lines, help_of, unknown_flag
from experiments.__main__ import COMMANDS
from hiertcn_jax import __version__
from tests.experiments.flags.test_path_flags import flags_of
from tests.forked import run_forked

PREPARE, TRAIN = "data_pipelines.prepare", "experiments.train"


def run(*arguments, module=TRAIN):
    return run_forked(module, *arguments)


@pytest.mark.parametrize("module", [PREPARE, TRAIN])
@pytest.mark.parametrize("question", ["--help", "--helpfull"])
def test_help_lists_the_own_flags(module, question):
    """Even if another flag is wrong or missing; and no flags of libraries."""
    result = run(question, "--no_such_flag=1", module=module)
    assert (result.returncode, result.stderr) == (0, "")
    own = {PREPARE: ["--output_dir", "--gap_minutes"], TRAIN: ["--learning_rate", "--workdir"]}
    for flag in (*own[module], "--flagfile=FILE", "--preset=NAME"):
        assert f"\n  {flag}" in result.stdout
    for flag in ("--pdb_post_mortem", "--logtostderr", "--verbosity"):
        assert f"\n  {flag}\n" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.parametrize("command", COMMANDS)
def test_every_text_stands_alone_and_fits_a_terminal(command):
    """No reader has seen the other flags, or the code."""
    module = importlib.import_module(COMMANDS[command])
    for line in description_lines(module.__doc__):
        assert len(line) <= 80, line
    for flag in own_flags(command):
        text = help_of(flag)
        assert max(map(len, flag_lines(flag))) <= 80
        assert re.match(r"(<.*>: )?[A-Z]", text), flag.name
        assert text.endswith((".", ")")), flag.name
        assert not re.search(r"likewise|see above", text), flag.name


def own_flags(command):
    with flagsaver.flagsaver():
        others = set(flags.FLAGS)
        flags_of(command)()
        return [flags.FLAGS[name] for name in sorted(set(flags.FLAGS) - others)]


MEANT = {
    "train": {"lr": "learning_rate", "batch_size": "lanes", "n_epochs": "epochs", "dim": "item_dim",
              "embedding_dim": "item_dim", "hidden": "gru_dim", "hidden_size": "gru_dim",
              "output_dir": "workdir", "dataset": "data_dir", "num_heads": "attention_heads",
              "epoch": "epochs", "learning-rate": "learning_rate"},
    "recommend": {"topk": "k", "top_k": "k", "n": "k", "output_dir": "output",
                  "run_dir": "workdir"},
    "evaluate": {"run": "workdir", "data": "data_dir", "output": "workdir"},
    "embed": {"out": "output"},
    "prepare": {"output": "output_dir", "data": "input", "user": "user_column", "sep": "separator",
                "timestamp": "time_column", "out_dir": "output_dir"},
    "export": {"topk": "k", "output": "output_dir"},
    "serve": {"db": "store", "export": "export_dir", "model_dir": "export_dir", "bind": "host"},
    "sweep": {"n_trials": "trials", "output": "workdir"},
    "compare": {"seed_list": "seeds", "qqqqqq": None},
    "replay": {"output": "output_dir", "ranker": "rankers"},
    "report": {"out": "output", "run_dir": "workdir"},
}  # fmt: skip


@pytest.mark.parametrize("command", MEANT)
def test_names_of_other_libraries_are_understood_in_every_command(command):
    values = flags.FlagValues()
    for flag in own_flags(command):
        flags.DEFINE_flag(flag, values, "experiments.any")
    for typed, meant in MEANT[command].items():
        line = unknown_flag(typed, values)
        assert line.startswith(f"flag --{typed}: there is no such flag; "), line
        advice = "--help lists the flags" if meant is None else f"did you mean --{meant}?"
        assert line.endswith(advice), (typed, line)


def test_the_version_is_that_of_the_package():
    result = run("--version")
    assert (result.returncode, result.stdout) == (0, f"hiertcn_jax {__version__}\n")


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("--lr=3", "flag --lr: there is no such flag; did you mean --learning_rate?"),
        ("--batch_size=3", "flag --batch_size: there is no such flag; did you mean --lanes?"),
        ("--n_epochs=3", "flag --n_epochs: there is no such flag; did you mean --epochs?"),
        ("--leaning_rate=3", "flag --leaning_rate: there is no such flag; did you mean"),
        ("--qqqqqq=3", "flag --qqqqqq: there is no such flag; --help lists the flags"),
        ("--epochs=abc", "flag --epochs=abc: expected a whole number"),
        ("--dropout=much", "flag --dropout=much: expected a number"),
        ("--seed=1", "--data_dir and --workdir: must be given; --help lists the flags"),
        ("--preset=nix", "flag --preset=nix: there is no such preset; one of "),
    ],
)
def test_a_wrong_flag_is_one_line(argument, line):
    result = run(argument)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {line}")
    assert result.stderr.count("\n") == 1
