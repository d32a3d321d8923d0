"""experiments.evaluate: what it writes, leaves out, follows and refuses."""

import json
import re
import shutil

import polars as pl
import pytest

from data_pipelines.errors import DataError
from data_pipelines.histories.record import Split
from experiments import embed, evaluate
from experiments.flags.data_flags import DataLocation
from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.saving.checkpoint import CheckpointError
from hiertcn_jax.saving.checksums import write_checksums
from tests.experiments.conftest import prepared
from tests.experiments.small_runs import (
    fresh_command,
    run_train,
)


def evaluation_of(workdir, **changes):
    defaults = evaluate.Settings(workdir, Split.TEST, "best", None, DataLocation(), None)
    evaluate.main(defaults._replace(**changes))


def test_evaluate_writes_ranks_from_which_the_metrics_follow(data, whole, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    expected = (workdir / "test.json").read_text()
    (workdir / "test.json").unlink()
    evaluation_of(workdir, ranks_out=tmp_path / "ranks.parquet")
    assert (workdir / "test.json").read_text() == expected

    metrics, ranks = json.loads(expected), pl.read_parquet(tmp_path / "ranks.parquet")
    assert ranks.columns == ["user_id", "session", "position", "item_id", "rank"]
    assert len(ranks) == metrics["events"]
    assert ranks.select("user_id", "session", "position").is_unique().all()
    for group, part in (("all", ranks), ("first", ranks.filter(pl.col("position") == 0))):
        rank = part["rank"]
        assert metrics[group]["events"] == len(rank)
        assert metrics[group]["recall@20"] == pytest.approx((rank <= 20).mean())
        assert metrics[group]["mrr"] == pytest.approx((1 / rank).mean())
        users = part.group_by("user_id").agg(mrr=(1 / pl.col("rank")).mean())
        assert metrics["per_user"][group]["mrr"] == pytest.approx(users["mrr"].mean())
    # The ids are the log's, in their type; each is a known event of its user's last session.
    assert ranks.schema["user_id"] == ranks.schema["item_id"] == pl.Int64
    histories = data.histories.__getitems__(range(len(data.histories)))
    for history in histories[:5]:
        items = history.item_ids[-history.session_lengths[-1] :]
        known = items[items >= FIRST_ITEM_ID]
        of_user = ranks.filter(pl.col("user_id") == int(history.user_id)).sort("position")
        assert of_user["item_id"].to_list() == list(data.vocabulary.decode(known))
        assert set(of_user["session"]) <= {len(history.session_lengths) - 1}


def test_evaluate_leaves_out_seen_items_if_asked(whole, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    plain = json.loads((workdir / "test.json").read_text())
    evaluation_of(workdir, mask_seen="user", slices=True)
    slices = json.loads((workdir / "test.mask_user_slices.json").read_text())
    assert slices["mask_seen"] == "user"
    assert (workdir / "test.mask_user_slices_position.png").exists()
    masked = json.loads((workdir / "test.mask_user.json").read_text())
    # Files that others rely on stay unchanged.
    assert json.loads((workdir / "test.json").read_text()) == plain
    assert not (workdir / "test_slices.json").exists()
    assert (plain["mask_seen"], masked["mask_seen"]) == ("none", "user")
    assert masked["events_hash"] == plain["events_hash"]
    # Fewer items compete.
    assert masked["all"]["mrr"] > plain["all"]["mrr"]


def test_evaluate_follows_data_that_was_moved_and_refuses_other_data(data, whole, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    before = (workdir / "test.json").read_text()
    moved = tmp_path / "moved"
    shutil.copytree(data.directory, moved)
    evaluation_of(workdir, place=DataLocation(str(moved)))
    assert (workdir / "test.json").read_text() == before

    other = prepared(tmp_path / "other", users=20, seed=1)
    elsewhere = DataLocation(str(other.directory))
    line = (
        f"{other.directory}: is not the log that the run was trained on ({data.directory}); name "
        "that one by --data_dir, or train on this one"
    )
    for refused in (
        lambda: evaluation_of(workdir, place=elsewhere),
        lambda: embed.main(embed.Settings(workdir, tmp_path / "u.parquet", "best", elsewhere)),
    ):
        with pytest.raises(CheckpointError, match=f"^{re.escape(line)}$"):
            refused()
    line = f"data_dir: checkpoint {data.directory}, this run {other.directory}; use those settings"
    with pytest.raises(CheckpointError, match=re.escape(line)):
        run_train(other, workdir)
    assert (workdir / "test.json").read_text() == before
    with pytest.raises(DataError, match="no such file"):
        evaluation_of(workdir, place=DataLocation(str(tmp_path / "missing")))


def test_an_untrained_run_is_not_scored(whole, tmp_path):
    with pytest.raises(CheckpointError, match=r"no such directory; was .* trained\?"):
        evaluation_of(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        evaluation_of(tmp_path)
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 77 \(kept: "):
        evaluation_of(whole, checkpoint="77")
    with pytest.raises(CheckpointError, match="checkpoint=newest: must be best, last or a step"):
        evaluation_of(whole, checkpoint="newest")


def test_a_checkpoint_of_a_program_with_other_fields_is_refused(whole, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    path = workdir / "checkpoints" / "10" / "config" / "metadata"

    def write(config):
        path.write_text(json.dumps(config))
        (path.parents[1] / "checksums.json").unlink()
        write_checksums(path.parents[1])

    config = json.loads(path.read_text())
    config["model"]["gru_colour"] = "blue"
    write(config)
    with pytest.raises(CheckpointError, match="gru_colour=blue: unknown to this version"):
        evaluation_of(workdir, checkpoint="last")
    del config["model"]
    write(config)
    with pytest.raises(CheckpointError, match="config cannot be used by this version: 'model'"):
        evaluation_of(workdir, checkpoint="last")


def test_as_a_process_it_says_nothing_on_standard_error(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    done = fresh_command("experiments.evaluate", f"--workdir={tmp_path / 'run'}", "--split=valid")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "run" / "valid.json").read_text() == (whole / "valid.json").read_text()
