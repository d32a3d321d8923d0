"""A trained run on several devices and processes: evaluated and embedded as on one device."""

import re

import jax
import numpy as np
import polars as pl
import pytest

from experiments import embed
from experiments.flags.data_flags import DataLocation
from experiments.flags.device_flags import Devices
from experiments.runs.layout import make_layout
from hiertcn_jax.devices.mesh import MeshError
from tests.experiments.cluster_runs import assert_close, ended, results, start_command
from tests.experiments.test_evaluate import evaluation_of

MESH = Devices(data_parallelism=4, model_parallelism=2)
KEYS = ["user_id", "session", "position", "item_id"]


@pytest.fixture(scope="module")
def users(whole, tmp_path_factory):
    """The embeddings that one device writes."""
    output = tmp_path_factory.mktemp("embed") / "users.parquet"
    embed.main(embed.Settings(whole, output, "best", DataLocation()))
    return pl.read_parquet(output)


def assert_same_users(output, users):
    found = pl.read_parquet(output)
    assert found.schema == users.schema
    assert found["user_id"].to_list() == users["user_id"].to_list()
    np.testing.assert_allclose(
        found["embedding"].to_numpy(), users["embedding"].to_numpy(), rtol=1e-5, atol=1e-6
    )


def test_an_evaluation_is_that_of_one_device(whole, tmp_path):
    one, several = tmp_path / "one.parquet", tmp_path / "several.parquet"
    evaluation_of(whole, ranks_out=several, devices=MESH)
    counted, measured = results(whole, "test")
    evaluation_of(whole, ranks_out=one)
    expected, values = results(whole, "test")
    assert counted == expected
    assert_close(measured, values, 1e-5)
    ranks, alone = pl.read_parquet(several), pl.read_parquet(one)
    assert ranks.select(KEYS).equals(alone.select(KEYS))
    # Another order of summation may swap two items with nearly the same score.
    np.testing.assert_allclose(ranks["rank"], alone["rank"], atol=1)


def test_users_are_embedded_as_on_one_device(whole, users, tmp_path):
    output = tmp_path / "users.parquet"
    embed.main(embed.Settings(whole, output, "best", DataLocation(), MESH))
    assert_same_users(output, users)


@pytest.mark.thorough
def test_two_processes_embed_all_users_on_all_their_devices(whole, users, tmp_path):
    output = tmp_path / "users.parquet"
    processes = start_command(
        "experiments.embed", tmp_path, f"--workdir={whole}", f"--output={output}"
    )
    (code, first, error), (other, second, _) = ended(processes)
    assert (code, other) == (0, 0), error
    assert f"{output}: {len(users)} users, 4 dimensions" in first
    assert re.sub(r"\[Gloo\].*\n", "", second) == ""
    assert_same_users(output, users)


@pytest.mark.parametrize(
    "processes, parallelism, lanes, expected",
    [
        (1, (1, 1), 6, None),
        (2, (1, 1), 8, (8, 1)),
        (2, (1, 2), 8, (4, 2)),
        (2, (1, 1), 6, "data_parallelism=8: must divide eval_lanes=6"),
        (2, (1, 3), 6, "model_parallelism=3: must divide the 8 devices of a process"),
        (2, (2, 2), 8, "a mesh of 4 devices, but the 2 processes have 8, and all must be in it"),
        (1, (4, 1), 6, "data_parallelism=4: must divide eval_lanes=6"),
    ],
)
def test_several_processes_take_all_devices(monkeypatch, processes, parallelism, lanes, expected):
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    if isinstance(expected, str):
        with pytest.raises(MeshError, match=expected):
            make_layout(parallelism, 100, given=False, eval_lanes=lanes)
        return
    layout = make_layout(parallelism, 100, given=False, eval_lanes=lanes)
    assert (layout and tuple(layout.mesh.shape.values())) == expected
