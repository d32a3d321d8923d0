"""Under `python -OO` there are no docstrings and no asserts: help is whole, and a model trains."""

import os
import subprocess
import sys

import pytest

from tests.experiments.small_runs import ROOT, journal

_COMMANDS = """
import contextlib, io, runpy, sys
from absl import flags

def run(module, *arguments):
    "What a command prints."
    sys.argv = [module, *arguments]
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        assert_that(not end.code, module)
    names = {
        flag.name
        for module, own in flags.FLAGS.flags_by_module_dict().items()
        if any(ours in module for ours in ("hiertcn_jax", "data_pipelines", "experiments"))
        for flag in own
    }
    for name in names:
        delattr(flags.FLAGS, name)
    return said.getvalue()

def assert_that(holds, what):
    if not holds:
        raise ValueError(what)

given = sys.argv[1:]
assert False, "this is not run"
assert_that(run.__doc__ is None, "a docstring")
for command in ("train", "compare", "sweep"):
    said = run("experiments." + command, "--help")
    text = said.partition("  --item_dim\\n")[2].partition("  --")[0]
    assert_that(len(text.strip()) > 15, f"{command}: {said}")
print(run("experiments.train", *given))
"""


# Compiling all libraries anew takes longest.
@pytest.mark.thorough
def test_help_and_a_run_under_oo(whole, tmp_path):
    """The run says nothing on standard error, and ends like one in this process."""
    done = subprocess.run(
        [sys.executable, "-OO", "-c", _COMMANDS, f"--flagfile={whole / 'flags.txt'}",
         f"--workdir={tmp_path}"],
        cwd=ROOT,
        env={**os.environ, "TERM": "dumb"},
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "popularity" in done.stdout
    assert journal(tmp_path) == journal(whole)
    assert (tmp_path / "test.json").read_text() == (whole / "test.json").read_text()
