"""hiertcn_jax.fit: a data frame in, a Recommender out."""

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import hiertcn_jax
from data_pipelines.synthetic import SyntheticConfig, synthetic_log
from experiments.service import fitting
from tests.experiments.small_runs import FLAGS


@pytest.fixture(scope="module")
def frame():
    log = synthetic_log(SyntheticConfig(users=20))
    return log.select(
        pl.format("u{}", "user_id").alias("who"),
        pl.col("item_id").alias("what"),
        pl.from_epoch("timestamp").alias("when"),
        "session_id",
    )


NAMES = {"user": "who", "item": "what", "time": "when"}


def test_a_model_in_one_call(frame, tmp_path, monkeypatch):
    """With the recommended preset itself, but for its sizes and a directory that it may name."""
    expand = fitting.expand_flagfiles
    small = (*FLAGS, "--steps=2", "--tcn_channels=3,3", "--memory_units=2", "--loss=cross_entropy")
    more = (*small, "--data_dir=elsewhere")
    monkeypatch.setattr(fitting, "expand_flagfiles", lambda lines: [*expand(lines), *more])
    workdir = tmp_path / "W"
    rec = hiertcn_jax.fit(frame, **NAMES, session="session_id", workdir=workdir)
    table = rec.recommend(["u1", "u2"], k=3, explain=True)
    assert table.schema["user_id"] == pl.String
    assert table.schema["item_id"] == pl.Int64
    assert len(table) == 6
    parts = ("hierarchy", "world", "followers", "own", "memory_units")
    total = sum(table[name].to_numpy() for name in parts)
    np.testing.assert_allclose(total, table["score"], atol=1e-5)
    assert "--data_dir=" + str(workdir / "data") in (workdir / "run" / "flags.txt").read_text()
    again = hiertcn_jax.load(workdir / "run")
    assert again.recommend(["u1"], k=3).equals(rec.recommend(["u1"], k=3))
    with pytest.raises(ValueError, match="holds data and a run"):
        hiertcn_jax.fit(frame, **NAMES, preset="popularity", workdir=workdir)


@pytest.mark.parametrize("make", [pl.DataFrame, pa.table])
def test_any_data_frame(frame, make):
    made = make({name: frame[name].to_list() for name in frame.columns})
    rec = hiertcn_jax.fit(made, **NAMES, preset="popularity")
    assert rec.recommend(["u1"], k=2)["user_id"].to_list() == ["u1", "u1"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"user": "whom"}, "user='whom': there is no such column, got who, what"),
        ({"session": "visit"}, "session='visit': there is no such column"),
        ({"preset": "best"}, "preset='best': must be one of .*recommended.* or a ranker: popul"),
    ],
)
def test_what_is_refused(frame, changes, message):
    with pytest.raises(ValueError, match=message):
        hiertcn_jax.fit(frame, **NAMES | changes)


def test_nothing_to_fit(frame):
    with pytest.raises(ValueError, match="frame: has no rows"):
        hiertcn_jax.fit(frame.head(0), **NAMES)
    with pytest.raises(TypeError):
        hiertcn_jax.fit([1, 2], **NAMES)
