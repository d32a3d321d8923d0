"""`doctor` says what is here, and what is missing for which extra."""

import importlib.metadata
import re

from experiments import doctor
from tests.forked import run_forked

LINES = ["numpy>=1", "absent", 'jax>=999; extra == "x"', 'numpy>=1; extra == "y"']


def test_needs_belong_to_the_extra_that_lists_them():
    found = [(need.extra, need.requirement.name) for need in doctor.needs(LINES, ["x", "y"])]
    assert found == [("", "numpy"), ("", "absent"), ("x", "jax"), ("y", "numpy")]


def test_an_extra_of_a_package_needs_what_that_lists():
    found = doctor.needs(['jax[cuda13]; extra == "gpu"'], ["gpu"])
    names = {need.requirement.name for need in found if need.extra == "gpu"}
    assert {"jax", "jax-cuda13-plugin"} <= names


def test_an_extra_says_what_to_install():
    found = list(doctor.needs(LINES, ["x", "y"]))
    installed = importlib.metadata.version("jax")
    assert doctor.extra_lines(found, ["x", "y"]) == [
        f"  x         lacks jax >=999 ({installed} is installed): pip install 'hiertcn_jax[x]'",
        "  y         ready",
    ]
    assert [need.problem for need in found if not need.extra] == [None, "absent"]


def test_the_command_lists_versions_devices_and_extras():
    done = run_forked("experiments.doctor")
    assert (done.returncode, done.stderr) == (0, "")
    for label in ("python", "packages", "devices", "cores", "memory", "disk"):
        assert re.search(rf"^{label} +\S", done.stdout, re.MULTILINE)
    extras = importlib.metadata.metadata("hiertcn_jax").get_all("Provides-Extra")
    for extra in extras:
        assert (f"\n  {extra} " in done.stdout) == (extra != "dev")
