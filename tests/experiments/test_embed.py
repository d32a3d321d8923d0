"""experiments.embed: its vectors, their formats, and outputs that it refuses."""

import contextlib

import numpy as np
import polars as pl
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import embed, evaluate
from experiments.flags.data_flags import DataLocation
from experiments.runs.restore import restore_run
from hiertcn_jax.batch import UNKNOWN_ID
from tests.experiments.test_evaluate import evaluation_of
from tests.models.plain_hiertcn import predictions


def test_an_embedding_is_the_prediction_after_all_sessions(data, whole, tmp_path):
    output = tmp_path / "users.parquet"
    embed.main(embed.Settings(whole, output, "last", DataLocation()))
    users = pl.read_parquet(output)
    histories = data.histories.__getitems__(range(len(data.histories)))
    assert users["user_id"].to_list() == [int(history.user_id) for history in histories]
    assert users.schema["embedding"] == pl.Array(pl.Float32, 4)

    restored = restore_run(whole, "last")
    for place in (0, 7):
        history = histories[place]
        sessions = np.split(history.item_ids, np.cumsum(history.session_lengths)[:-1])
        u_nd = predictions(
            restored.params["model"],
            restored.config,
            restored.params["items"].input_vd,
            [*sessions, [UNKNOWN_ID]],
            [0.0] * (len(sessions) + 1),
        )
        np.testing.assert_allclose(users["embedding"][place], u_nd[-1], rtol=1e-4, atol=1e-5)


def test_embeddings_are_written_in_the_format_of_the_suffix(whole, tmp_path):
    frames = {}
    for suffix, read in (
        (".parquet", pl.read_parquet), (".csv", pl.read_csv), (".jsonl", pl.read_ndjson),
    ):  # fmt: skip
        with parsed_embed(f"--workdir={whole}", f"--output={tmp_path / 'users'}{suffix}"):
            embed.main(embed.read_settings())
        frames[suffix] = read(tmp_path / f"users{suffix}")
    parquet, csv, jsonl = frames.values()
    expected_nd = parquet["embedding"].to_numpy()
    assert csv.columns == ["user_id", *(f"embedding_{place}" for place in range(4))]
    assert jsonl.columns == parquet.columns
    np.testing.assert_array_equal(csv.drop("user_id").to_numpy().astype(np.float32), expected_nd)
    jsonl_nd = np.array(jsonl["embedding"].to_list(), np.float32)
    np.testing.assert_array_equal(jsonl_nd, expected_nd)
    for frame in (csv, jsonl):
        assert [*map(str, frame["user_id"])] == [*map(str, parquet["user_id"])]


@pytest.mark.parametrize("output", ["users", "users.xlsx", "users.parquet.gz"])
def test_an_output_of_another_format_is_refused(whole, tmp_path, output):
    path = tmp_path / output
    with (
        parsed_embed(f"--workdir={whole}", f"--output={path}"),
        pytest.raises(ValueError, match=f"flag --output={path}: must end with .parquet, .csv, .js"),
    ):
        embed.read_settings()


def test_an_output_that_cannot_be_written_is_refused_before_the_work(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(embed, "restore_run", lambda *_: pytest.fail("began to work"))
    monkeypatch.setattr(evaluate, "restore_run", lambda *_: pytest.fail("began to work"))
    missing = tmp_path / "missing" / "a.parquet"
    with pytest.raises(OSError, match=f"output={missing}: there is no directory"):
        embed.main(embed.Settings(whole, missing, "last", DataLocation()))
    with pytest.raises(OSError, match=f"ranks_out={missing}: there is no directory"):
        evaluation_of(whole, ranks_out=missing)


@contextlib.contextmanager
def parsed_embed(*arguments):
    """The flags of `embed`, parsed."""
    with flagsaver.flagsaver():
        embed.define_flags()
        flags.FLAGS(["embed", *arguments])
        yield
