"""A signal during the imports of the libraries: one line, and the usual exit code of a stop."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data_pipelines.commands.starting import _is_command
from tests.volume import mostly_thorough

ROOT = Path(__file__).parents[3]

_SIGNALS_ITSELF = """
import os, signal, sys

class Signal:
    def find_spec(self, name, path=None, target=None):
        if name == "{module}":
            sys.meta_path.remove(self)
            signal.raise_signal({number})

sys.meta_path.insert(0, Signal())
"""


def run(directory, arguments, module="", number=0):
    """Runs Python, which sends itself a signal when it begins to import a module."""
    (directory / "sitecustomize.py").write_text(
        _SIGNALS_ITSELF.format(module=module, number=int(number))
    )
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{directory}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )


PLACES = [
    ("experiments.train", "data_pipelines.commands.allocator"),  # The first import of all.
    ("experiments.sweep", "numpy"),
    ("experiments.compare", "jax"),
    ("data_pipelines.prepare", "polars"),
    ("data_pipelines.prepare", "data_pipelines.commands.settings_flags"),
]
SIGNALS = (signal.SIGTERM, signal.SIGINT)


@pytest.mark.parametrize(
    ("command", "module", "number"),
    mostly_thorough(
        [(*place, number) for place in PLACES for number in SIGNALS],
        *[(*place, SIGNALS[n % 2]) for n, place in enumerate(PLACES)],
    ),
)
def test_a_signal_during_the_imports_is_one_line(tmp_path, command, module, number):
    result = run(tmp_path, ["-m", command, "--flag=1"], module, number)
    assert (result.returncode, result.stdout) == (128 + number, "")
    assert result.stderr == f"stopped by {number.name}\n"


_HANDLERS = """
import signal
import {imported}
assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""


def test_a_program_that_imports_the_packages_keeps_its_handlers(tmp_path):
    """As a script, by -c, and as a module whose package imports them, with names like ours."""
    (tmp_path / "script.py").write_text(_HANDLERS.format(imported="experiments"))
    package = tmp_path / "theirs"
    package.mkdir()
    (package / "__init__.py").write_text(
        _HANDLERS.format(imported="data_pipelines.commands.command")
    )
    (package / "main.py").write_text("import experiments\n")
    for arguments in (
        [str(tmp_path / "script.py"), "-m", "experiments.train"],
        ["-c", _HANDLERS.format(imported="experiments"), "-m", "experiments.train"],
        ["-m", "theirs.main", "-m", "experiments.train"],
        ["-m", "theirs.main", "experiments.train"],
    ):
        result = run(tmp_path, arguments)
        assert (result.returncode, result.stderr) == (0, ""), arguments


@pytest.mark.parametrize(
    ("argv", "orig_argv", "expected"),
    [
        (["-m"], ["python", "-m", "experiments.train"], True),
        (["-m", "--steps=1"], ["python", "-X", "dev", "-m", "data_pipelines.prepare", "--steps=1"],
         True),
        (["-m", "-m"], ["python", "-Bmexperiments.train", "-m"], True),
        (["-m"], ["python", "-m", "experiments"], True),
        (["/bin/hiertcn", "train"], ["python", "/bin/hiertcn", "train"], True),
        (["-m"], ["python", "-m", "experiments_of_mine.train"], False),
        (["-m", "experiments.train"], ["python", "-m", "pdb", "experiments.train"], False),
        (["experiments.train"], ["python", "experiments.train"], False),
        (["-m"], [], False),
        ([""], ["python"], False),
        ([], [], False),
    ],
)  # fmt: skip
def test_commands_are_distinguished_from_other_programs(argv, orig_argv, expected):
    assert _is_command(argv, orig_argv) == expected
