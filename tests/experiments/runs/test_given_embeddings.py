"""Given embeddings from end to end: train, resume, evaluate, embed; refusals."""

import dataclasses
import json

import numpy as np
import polars as pl
import pytest
from absl.flags import IllegalFlagValueError

from data_pipelines.errors import DataError
from data_pipelines.synthetic import SyntheticConfig
from experiments import embed, evaluate, train
from experiments.flags.data_flags import DataLocation
from experiments.runs.restore import open_run_data, restore_run
from hiertcn_jax.batch import UNKNOWN_ID
from hiertcn_jax.saving.checkpoint import CheckpointError
from tests.experiments.conftest import prepared
from tests.experiments.flags.test_run_flags import parsed
from tests.experiments.small_runs import FLAGS, run_train
from tests.experiments.test_evaluate import evaluation_of
from tests.given_files import write_embeddings

WIDTH = 4


@pytest.fixture(scope="module")
def files(data, tmp_path_factory):
    directory = tmp_path_factory.mktemp("given")
    items = ["not in the log", *reversed(data.vocabulary.item_ids.to_list())]
    return write_embeddings(directory, items, WIDTH, dtype="f2")


def flags_of(files):
    return (
        f"--item_embeddings={files[0]}", f"--item_embedding_ids={files[1]}", "--projection_dim=3",
        "--normalize=both",
    )  # fmt: skip


@pytest.fixture(scope="module")
def given_run(data, files, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("given_run") / "run"
    run_train(data, workdir, *flags_of(files))
    return workdir


def test_a_run_learns_no_item_and_is_scored(data, given_run):
    restored = restore_run(given_run, "best")
    assert (restored.config.item_mode, restored.config.item_bias) == ("given", False)
    items = restored.params["items"]
    assert items.input_vd.shape == (2, WIDTH)
    assert items.output_vd is None and items.bias_v is None
    values = json.loads((given_run / "test.json").read_text())
    assert values["all"]["events"] > 100
    evaluation_of(given_run, split=evaluate.Split.TEST)
    assert json.loads((given_run / "test.json").read_text()) == values


def test_users_are_embedded(data, given_run, tmp_path):
    embed.main(embed.Settings(given_run, tmp_path / "u.parquet", "best", DataLocation()))
    users = pl.read_parquet(tmp_path / "u.parquet")
    assert len(users) == len(data.histories)
    assert users.schema["embedding"] == pl.Array(pl.Float32, WIDTH)


def test_files_that_changed_are_refused_and_taken_by_name(data, files, given_run, tmp_path):
    moved = write_embeddings(tmp_path, files[1].read_text().splitlines(), WIDTH, dtype="f2")
    before = (given_run / "test.json").read_text()
    evaluation_of(given_run, place=DataLocation(None, *map(str, moved)))
    assert (given_run / "test.json").read_text() == before
    # With other values, the existing run does not resume.
    other = write_embeddings(tmp_path, files[1].read_text().splitlines(), WIDTH, seed=1)
    with pytest.raises(CheckpointError, match="item_embeddings: checkpoint"):
        run_train(data, given_run, *flags_of(other), "--steps=12")
    original = files[0].read_bytes()
    files[0].write_bytes(other[0].read_bytes())
    try:
        with pytest.raises(CheckpointError, match=r"E.npy: has changed since the model was"):
            evaluation_of(given_run)
    finally:
        files[0].write_bytes(original)


def test_what_does_not_fit_is_refused_in_one_line(data, files, given_run, tmp_path):
    with pytest.raises(DataError, match=r"E.npy: 4 values a row, but item_dim=5"):
        run_train(data, tmp_path / "run", *flags_of(files), "--item_dim=5")
    wide = write_embeddings(tmp_path, files[1].read_text().splitlines(), WIDTH + 1)
    with pytest.raises(DataError, match=r"E.npy: 5 values a row, but item_dim=4"):
        evaluation_of(given_run, place=DataLocation(None, *map(str, wide)))
    with pytest.raises(CheckpointError, match="the model was trained without given ones"):
        learned = restore_run(given_run, "best")
        learned = learned._replace(config=dataclasses.replace(learned.config, item_mode="rows"))
        open_run_data(learned, DataLocation(None, *map(str, files)))
    assert not (tmp_path / "run").exists()


def ranks_of(workdir, path, place):
    """(user, session, position) -> rank of each scored event of test."""
    evaluation_of(workdir, ranks_out=path, place=place)
    ranks = pl.read_parquet(path)
    keys = ranks.select("user_id", "session", "position").rows()
    return dict(zip(keys, ranks["rank"], strict=True))


def events_before_an_unknown_item(data):
    """(user, session, position) of the events whose context holds no unknown item."""
    for history in data.histories.__getitems__(range(len(data.histories))):
        known = np.cumsum(history.item_ids == UNKNOWN_ID) == 0
        starts = np.cumsum(history.session_lengths) - history.session_lengths
        for session, (start, length) in enumerate(
            zip(starts, history.session_lengths, strict=True)
        ):
            for position in range(length):
                if known[: start + position].all():
                    yield int(history.user_id), session, position


def test_new_items_are_scored_without_training_again(data, files, given_run, tmp_path):
    """The same log; all of its items and 30 more have embeddings."""
    old = ranks_of(given_run, tmp_path / "old.parquet", DataLocation())
    synthetic = SyntheticConfig()
    items = synthetic.topics * synthetic.styles * synthetic.ring_items
    every = [*(str(item + 1) for item in range(items)), *(f"new {number}" for number in range(30))]
    assert set(data.vocabulary.item_ids) < set(every)
    later = write_embeddings(tmp_path, every, WIDTH, dtype="f2")
    directory = tmp_path / "D"
    prepared(directory, catalogue=str(later[1]))
    new = ranks_of(
        given_run, tmp_path / "new.parquet", DataLocation(str(directory), *map(str, later))
    )
    # Its own file, because log and embeddings are not the run's.
    (result,) = given_run.glob("test.data_*.embeddings_*.json")
    values = json.loads(result.read_text())
    evaluation_of(given_run)
    assert (values["unknown_targets"], len(new)) == (0, values["all"]["events"])
    assert old.keys() < new.keys()
    assert max(new.values()) <= items + 30
    # There the model saw the same events; only more items compete.
    same = [key for key in events_before_an_unknown_item(data) if key in old]
    risen = np.array([new[key] - old[key] for key in same])
    assert len(same) > 20
    assert np.all((risen >= 0) & (risen <= len(every) - len(data.vocabulary.item_ids)))
    assert risen.max() > 30


def test_unseen_items_need_embeddings(data, tmp_path):
    listed = tmp_path / "ids.txt"
    listed.write_text("new\n")
    later = prepared(tmp_path / "D", catalogue=str(listed))
    assert later.vocabulary.item_ids[-1] == "new"
    with pytest.raises(DataError, match="D: 1 items of the catalogue have no event to learn from"):
        run_train(later, tmp_path / "run")


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--item_embeddings=E.npy",), "item_embeddings=E.npy: goes together with"),
        (("--item_embedding_ids=E.txt",), "item_embeddings=: goes together with"),
        (("--item_mode=given",), "item_mode=given: needs item_embeddings"),
        (("both", "--item_mode=rows"), "item_mode=rows: must be given or auto with"),
        (("both", "--notied_output"), "tied_output=False: given embeddings allow no second table"),
        (("both", "--loss=cross_entropy"), "item_mode=given: a batch has some rows"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(flags, message):
    both = ("--item_embeddings=E.npy", "--item_embedding_ids=E.txt")
    given = both + flags[1:] if flags[0] == "both" else flags
    with (
        parsed("--data_dir=D", "--workdir=W", *FLAGS, *given),
        pytest.raises(IllegalFlagValueError, match=message),
    ):
        train.read_settings()
