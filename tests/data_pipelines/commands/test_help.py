"""Help by topic, the version, and errors for wrong flags; each by the real command."""

import pytest

from hiertcn_jax import __version__
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
    assert max(map(len, result.stdout.splitlines())) <= 100


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
