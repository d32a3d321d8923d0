"""examples/serve_onnx.py recommends as the model where neither JAX nor hiertcn_jax is installed."""

import subprocess
import venv
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import hiertcn_jax
from hiertcn_jax.exporting.directory import UsersToExport
from hiertcn_jax.serving.user_states import Events
from tests.exporting.test_directory import WITH_MEMORY, clicks, exported

EXAMPLE = Path(__file__).parents[2] / "examples" / "serve_onnx.py"
INSTALLED = ("numpy", "numpy.libs", "onnxruntime")


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The Python of an environment with numpy and onnxruntime alone."""
    place = tmp_path_factory.mktemp("alone")
    venv.create(place, with_pip=False)
    (site,) = place.glob("lib/python*/site-packages")
    packages = Path(find_spec("numpy").origin).parents[1]
    for name in INSTALLED:
        if (packages / name).exists():
            (site / name).symlink_to(packages / name)
    return place / "bin" / "python"


def run(python, *arguments):
    return subprocess.run(
        [python, "-I", EXAMPLE, *map(str, arguments)], capture_output=True, text=True
    )


def test_the_environment_has_neither_jax_nor_the_program(python):
    for name in ("jax", "hiertcn_jax", "numba"):
        found = subprocess.run([python, "-I", "-c", f"import {name}"], capture_output=True)
        assert b"ModuleNotFoundError" in found.stderr


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    items, times = clicks()
    starts = np.diff(times, axis=1, prepend=0) > 1800
    events = [Events(*one) for one in zip(items, times, starts, strict=True)]
    users = UsersToExport([(["a", "b", "c"], events)], 3, items.size)
    place = tmp_path_factory.mktemp("export")
    return exported(place, "hiertcn_learned_decay", users, titled=True)[2]


@pytest.mark.parametrize(("user", "picks"), [("b", []), ("c", ["i4", "none"]), ("new", ["i3"])])
def test_it_recommends_as_the_model(python, export, user, picks):
    rec = hiertcn_jax.load(export.directory)
    known = export.users.state_of(user)
    state, time = rec.start() if known is None else known, export.newest
    for pick in picks:
        time += 60
        state = rec.observe(state, pick, time)
    expected = rec.recommend(state, k=10, at=time)
    found = run(python, export.directory, user, *picks)
    assert found.returncode == 0, found.stderr
    lines = [line.split("\t") for line in found.stdout.splitlines()]
    items, scores, titles = zip(*lines, strict=True)
    assert list(items) == expected["item_id"].to_list()
    assert list(titles) == expected["title"].fill_null("").to_list()
    np.testing.assert_allclose(np.float32(scores), expected["score"], atol=1e-4)


def test_it_refuses_what_it_cannot_count(python, tmp_path):
    _, _, export = exported(tmp_path, WITH_MEMORY)
    found = run(python, export.directory, "new")
    assert found.returncode == 1
    assert "has terms of memory; use hiertcn_jax.exported" in found.stderr
