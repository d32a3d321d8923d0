"""experiments.train, end to end: its files and words, how it stops and resumes, what it refuses."""

import itertools
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.run_differences import differences
from data_pipelines.errors import DataError
from data_pipelines.lanes.loaders import train_loader
from experiments import train
from experiments.runs import data as data_module
from experiments.runs import train_loop as loop
from experiments.runs.resolve import resolve
from experiments.runs.restore import restore_run
from hiertcn_jax.batch import Bucket
from hiertcn_jax.saving.checkpoint import CheckpointError
from hiertcn_jax.scoring.metrics import METRICS
from tests.experiments.flags.test_run_flags import parsed
from tests.experiments.small_runs import (
    contents,
    journal,
    run_train,
    settings_of,
)
from tests.forked import run_forked
from tests.volume import mostly_thorough

GROUPS = ("all", "first", "next")


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
    run_train(data, whole, draws=True)
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
