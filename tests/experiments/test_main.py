"""`hiertcn COMMAND` runs the commands by one name, from any folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.__main__ import COMMANDS, usage

SCRIPT = Path(sys.executable).with_name("hiertcn")


def run(*arguments, **options):
    if not SCRIPT.exists():
        pytest.skip("the package was not installed with its console script")
    command = [SCRIPT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_the_usage_names_every_command():
    assert all(f"\n  {name} " in usage() for name in COMMANDS)


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_help(arguments):
    result = run(*arguments)
    assert (result.returncode, result.stdout) == (0, usage() + "\n")


def test_an_unknown_command_is_one_line():
    result = run("trian")
    assert result.returncode == 2
    assert result.stderr.startswith("error: trian: no such command; one of prepare, train")


def test_packages_of_the_same_names_in_the_users_folder_do_not_win(tmp_path):
    for package in ("experiments", "data_pipelines"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise RuntimeError('not this one')")
    assert run("train", "--version", cwd=tmp_path).returncode == 0


def test_a_preset_is_found_from_any_folder(tmp_path):
    result = run("train", "--preset=globo", "--data_dir=nowhere", "--workdir=run", cwd=tmp_path)
    assert result.returncode == 1
    assert "nowhere" in result.stderr


def test_a_sweep_without_optuna_names_what_to_install(tmp_path):
    """In a process that cannot find Optuna."""
    hidden = "import sys; sys.modules['optuna'] = None; sys.argv = ['sweep']; "
    script = hidden + "import runpy; runpy.run_module('experiments.sweep', run_name='__main__')"
    command = [sys.executable, "-c", script]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path
    )
    assert result.returncode == 1
    assert result.stderr == (
        "error: sweeps need Optuna: python -m pip install 'hiertcn_jax[sweep]'\n"
    )


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_an_old_python_is_named(tmp_path):
    old = tmp_path / "python3"
    old.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c 'import sys; sys.version_info = (3, 10); "
        'sys.version = "3.10.1 x"; exec(sys.argv[1])\' "$2"\n'
    )
    old.chmod(0o755)
    root = Path(__file__).parents[2]
    shutil.copy(root / "Makefile", tmp_path)
    for name in ("requirements.lock", "setup.cfg", "pyproject.toml"):
        shutil.copy(root / name, tmp_path)
    result = subprocess.run(
        ["make", "venv", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode != 0
    assert "hiertcn_jax needs Python 3.11 or newer" in result.stderr
