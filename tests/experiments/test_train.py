"""The commands, end to end: train, stop and resume; evaluate; embed; refusals."""

import contextlib
import itertools
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from absl import flags
from absl.testing import flagsaver

from benchmarks.run_differences import differences
from data_pipelines.errors import DataError
from data_pipelines.histories.record import Split
from data_pipelines.lanes.loaders import train_loader
from experiments import embed, evaluate, train
from experiments.flags.data_flags import DataLocation
from experiments.runs import data as data_module
from experiments.runs import train_loop as loop
from experiments.runs.resolve import resolve
from experiments.runs.restore import restore_run
from hiertcn_jax.batch import FIRST_ITEM_ID, UNKNOWN_ID, Bucket
from hiertcn_jax.saving.checkpoint import CheckpointError
from hiertcn_jax.saving.checksums import write_checksums
from hiertcn_jax.scoring.metrics import METRICS
from tests.experiments.conftest import prepared
from tests.experiments.flags.test_run_flags import parsed
from tests.experiments.small_runs import (
    contents,
    fresh_command,
    journal,
    run_train,
    settings_of,
)
from tests.forked import run_forked
from tests.models.plain_hiertcn import predictions
from tests.volume import mostly_thorough

GROUPS = ("all", "first", "next")


def evaluation_of(workdir, **changes):
    defaults = evaluate.Settings(workdir, Split.TEST, "best", None, DataLocation(), None)
    evaluate.main(defaults._replace(**changes))


def test_a_run_leaves_the_documented_files(data, whole):
    names = {path.name for path in whole.iterdir()}
    assert names == {
        "flags.txt", "checkpoints", "metrics.jsonl", "tensorboard", "valid.json", "test.json",
        "lock", "learning_curve.png",
    }  # fmt: skip
    metrics = {"events", *METRICS}
    for split in ("valid", "test"):
        values = json.loads((whole / f"{split}.json").read_text())
        assert set(values) == {
            "split", "checkpoint_step", "data_hash", "mask_seen", "events", "unknown_targets",
            "events_hash", *GROUPS, "per_user",
        }  # fmt: skip
        assert values["split"] == split
        assert values["checkpoint_step"] == restore_run(whole, "best").step
        for group in GROUPS:
            assert set(values[group]) == metrics
            # Coverage is of all events together.
            assert set(values["per_user"][group]) == metrics - {"coverage@20"} | {"users"}
        counts = data.manifest["counts"]["splits"][split]["events"]["all"]
        assert values["events"] + values["unknown_targets"] == counts


JUDGED = (
    r"step (?P<step>\d+), epoch [\d.]+: valid all/mrr (?P<value>[\d.]+)(?P<best>, the best so far)?"
)


def test_a_run_says_what_it_does_and_what_came_of_it(data, tmp_path, capsys):
    run_train(
        data, tmp_path / "run", "--patience=1", "--learning_rate=2", "--eval_every_epochs=0.1"
    )
    said = capsys.readouterr().out.splitlines()
    texts = [line.split(" ")[0] for line in said]
    assert texts.index("data") < texts.index("steps") < said.index("compiling the training step")
    compiled = next(line for line in said if line.startswith("compiled in "))
    assert said.index(compiled) == said.index("compiling the training step") + 1
    judged = [re.fullmatch(JUDGED, line) for line in said if " valid " in line]
    values = [float(match["value"]) for match in judged]
    best = [match["best"] is not None for match in judged]
    assert best == [value > max(values[:at], default=0) for at, value in enumerate(values)]
    first, stopped = (int(judged[at]["step"]) for at in (-2, -1))
    assert best[-2:] == [True, False] and stopped < 10
    assert said[said.index(judged[-1][0]) + 1] == (
        f"stopped early, at step {stopped} of 10: 1 validation without a better all/mrr"
    )
    tested = json.loads((tmp_path / "run" / "test.json").read_text())
    scored, unknown = tested["events"], tested["unknown_targets"]
    assert (
        f"{scored:,} of {scored + unknown:,} test events; {unknown:,} are of items not seen in "
        "training"
    ) in said
    for model in ("hiertcn", "item_knn", "popularity"):
        # A line in each of two tables: accuracy, and what is recommended.
        assert sum(line.startswith(f"{model} ") and " all " in line for line in said) == 2
    loses = [line for line in said if line.startswith("hiertcn loses to ")]
    assert [line.split(":")[0] for line in loses] == [
        f"hiertcn loses to {other}" for other in ("item_knn", "popularity")
    ]
    assert said[-3].startswith(f"best: step {first} of 10, epoch ")
    assert said[-2] == f"results: {tmp_path}/run/valid.json, {tmp_path}/run/test.json"
    assert said[-1] == f"look at it: hiertcn report --workdir={tmp_path}/run --output=report.html"


def test_the_journal_tells_every_event_once(data, whole):
    lines = journal(whole)
    steps = [line["step"] for line in lines if line["kind"] == "train"]
    assert steps == sorted(set(steps))
    assert set(range(2, 11, 2)) | {3, 9} <= set(steps)
    assert lines[-1]["step"] == 10
    # The first 10 batches, none left out or taken twice, whatever was saved in between.
    loader = train_loader(data.histories, Bucket(8, 16, 2), seed=0)
    seen = np.cumsum([np.sum(e.info.item_ids_bl > 0) for e in itertools.islice(loader, 10)])
    events = [line["events"] for line in lines if line["kind"] == "train"]
    assert events == [seen[step - 1] for step in steps]
    valid = [line for line in lines if line["kind"] == "valid"]
    assert len(valid) >= 2
    assert set(valid[0]) == {"step", "kind"} | {
        f"{group}/{name}" for group in GROUPS for name in METRICS
    }


def test_the_best_checkpoint_is_that_of_the_best_validation(whole):
    values = {line["step"]: line["all/mrr"] for line in journal(whole) if line["kind"] == "valid"}
    best = restore_run(whole, "best").step
    assert values[best] == max(values.values())
    assert json.loads((whole / "valid.json").read_text())["all"]["mrr"] == values[best]
    assert restore_run(whole, "last").step == 10


def test_a_finished_run_started_again_changes_nothing(data, whole):
    before = contents(whole)
    run_train(data, whole)
    assert contents(whole) == before


class KilledError(BaseException):
    """The exception with which the tests stop a run."""


def kill_in_step(monkeypatch, number):
    """Stops the run in the training step of this number."""
    assemble = loop.assemble

    def assemble_and_kill(run):
        parts, done = assemble(run), []

        def step(*arguments):
            done.append(1)
            if len(done) == number:
                raise KilledError
            return parts.step(*arguments)

        return parts._replace(step=step)

    monkeypatch.setattr(loop, "assemble", assemble_and_kill)


def kill_in_validation(monkeypatch, number):
    """Stops the run in the validation of this number."""
    evaluate_split, done = loop.Evaluator.__call__, []

    def call(self, params, between_batches):
        done.append(1)
        if len(done) == number:
            raise KilledError
        return evaluate_split(self, params, between_batches)

    monkeypatch.setattr(loop.Evaluator, "__call__", call)


@pytest.mark.parametrize(
    "kill, number",
    mostly_thorough(
        [(kill_in_step, 3), (kill_in_step, 9), (kill_in_validation, 2)],
        (kill_in_step, 9),
        (kill_in_validation, 2),
    ),
)
def test_a_killed_run_resumes_and_ends_like_an_undisturbed_one(
    data, whole, tmp_path, monkeypatch, capsys, kill, number
):
    with monkeypatch.context() as patch:
        kill(patch, number)
        with pytest.raises(KilledError):
            run_train(data, tmp_path)
    killed_at = journal(tmp_path)[-1]["step"]
    validated = [line["step"] for line in journal(whole) if line["kind"] == "valid"]
    saved = [step for step in sorted({3, 6, 9, *validated}) if step <= killed_at]
    if kill is kill_in_validation:
        saved.remove(validated[1])
    capsys.readouterr()

    run_train(data, tmp_path)
    said = capsys.readouterr().out
    assert ("resuming" in said) == bool(saved)
    if saved:
        assert f"resuming from step {saved[-1]}\n" in said
        assert saved[-1] < killed_at
    assert differences(tmp_path, whole) == []


def test_validation_that_gets_no_better_stops_the_run(data, tmp_path, monkeypatch):
    values = iter([0.1, 0.3, 0.2, 0.25])
    monkeypatch.setattr(loop, "flat_metrics", lambda metrics: {"all/mrr": next(values)})
    run_train(data, tmp_path, "--patience=2", "--steps=1000")
    valid = [line["step"] for line in journal(tmp_path) if line["kind"] == "valid"]
    assert len(valid) == 4
    assert journal(tmp_path)[-1]["step"] == valid[-1] < 1000
    assert restore_run(tmp_path, "best").step == valid[1]
    assert json.loads((tmp_path / "test.json").read_text())["checkpoint_step"] == valid[1]
    before = contents(tmp_path)
    run_train(data, tmp_path, "--patience=2", "--steps=1000")
    assert contents(tmp_path) == before


def test_other_settings_are_refused_and_flags_txt_stays(data, whole):
    before = contents(whole)
    with pytest.raises(CheckpointError) as caught:
        run_train(data, whole, "--item_dim=5", "--seed=3", "--learning_rate=0.5")
    message = str(caught.value)
    assert "model.item_dim: checkpoint 4, this run 5" in message
    assert "train.seed: checkpoint 0, this run 3" in message
    assert "optimizer.learning_rate: checkpoint 0.01, this run 0.5" in message
    assert contents(whole) == before
    assert "--item_dim=4\n" in before[Path("flags.txt")].decode()


def test_other_run_settings_are_taken(data, whole, tmp_path):
    """The length of a run, and how it is evaluated, may differ between starts."""
    shutil.copytree(whole, tmp_path / "run")
    more = ("--steps=11", "--patience=9", "--log_every_steps=1", "--rank_chunk=70000")
    run_train(data, tmp_path / "run", *more)
    assert restore_run(tmp_path / "run", "last").step == 11
    assert journal(tmp_path / "run")[: len(journal(whole))] == journal(whole)


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


def test_a_run_on_train_and_valid_is_not_validated(data, tmp_path):
    settings = settings_of(data, tmp_path, "--fit_on=train_valid", "--steps=2")
    loop.train(resolve(settings.run, data), tmp_path)
    assert {line["kind"] for line in journal(tmp_path)} == {"train"}
    assert restore_run(tmp_path, "best").step == 2


@pytest.mark.parametrize("exists", [False, True])
def test_a_synthetic_log_is_prepared_where_there_is_none(tmp_path, monkeypatch, capsys, exists):
    asked = []

    def prepare(config):
        asked.append((config.synthetic, config.output_dir))
        raise DataError("stop")

    monkeypatch.setattr(data_module, "prepare", prepare)
    directory = tmp_path / "log"
    if exists:
        directory.mkdir()
    arguments = (f"--data_dir={directory}", f"--workdir={tmp_path / 'run'}", "--synthetic=control")
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    with parsed(*arguments), pytest.raises(DataError):
        train.main(train.read_settings())
    assert asked == ([] if exists else [("control", str(directory))])
    said = f"{directory}: does not exist; making a synthetic log there (control)\n"
    assert capsys.readouterr().out == ("" if exists else said)


def test_train_and_evaluate_as_processes_say_nothing_on_standard_error(data, whole, tmp_path):
    flagfile = whole / "flags.txt"
    done = fresh_command("experiments.train", f"--flagfile={flagfile}", f"--workdir={tmp_path}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "popularity" in done.stdout
    assert journal(tmp_path) == journal(whole)
    assert (tmp_path / "test.json").read_text() == (whole / "test.json").read_text()
    done = fresh_command("experiments.evaluate", f"--workdir={tmp_path}", "--split=valid")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "code, arguments, message",
    [
        (2, ("--workdir=W", "--data_dir=D", "--kernel_size=0"), "flag --kernel_size=0: must be"),
        (1, ("--workdir=W", "--data_dir=/nowhere"), "/nowhere/manifest.json: no such file"),
    ],
)
def test_user_errors_are_one_line_and_an_exit_code(code, arguments, message):
    done = run_forked("experiments.train", *arguments)
    assert done.returncode == code
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
