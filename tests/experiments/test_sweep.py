"""The sweep command: its trials are ordinary runs, and its refusals."""

import csv
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import optuna
import pytest
from absl import flags
from absl.testing import flagsaver

from experiments import sweep
from experiments.flags.run_flags import read_run_config
from experiments.reporting.run_files import read_files
from experiments.sweeping.study import SeededByTrial, StudyError
from hiertcn_jax.baselines.registry import RANKERS
from hiertcn_jax.models import MODELS
from tests.experiments.flags.test_run_flags import parsed
from tests.experiments.small_runs import journal
from tests.experiments.sweeping.sweep_workers import sweep_that_meets_another
from tests.forked import FORKS

ROOT = Path(__file__).parents[2]
SPACES = sorted((ROOT / "experiments" / "spaces").glob("*.json"))
TINY = (
    "--item_dim=4", "--gru_dim=8", "--tcn_channels=8", "--kernel_size=2", "--negatives=uniform:8",
    "--steps=6", "--lanes=8", "--events=16", "--sessions=4", "--eval_every_epochs=0.4",
    "--eval_lanes=8", "--eval_events=64", "--eval_sessions=32", "--schedule=constant",
)  # fmt: skip
SPACE = {
    "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
    "gap_decay": {"choices": ["none", "fixed"]},
    "gap_decay_hours": {"low": 1.0, "high": 9.0, "when": {"gap_decay": "fixed"}},
}
EVENTS = {"events": {"low": 10, "high": 2000, "log": True}}


def space_file(directory, values):
    path = directory / "space.json"
    path.write_text(json.dumps(values))
    return path


def settings_of(data, workdir, space, *more):
    with flagsaver.flagsaver():
        sweep.define_flags()
        where = (f"--data_dir={data.directory}", f"--workdir={workdir}", f"--space={space}")
        flags.FLAGS(["sweep", *where, *TINY, *more])
        return sweep.read_settings()


def ranker_sweep(data, tmp_path, *more, trials=4):
    space = space_file(tmp_path, EVENTS)
    arguments = ("--ranker=rolling_popularity", f"--trials={trials}", *more)
    sweep.main(settings_of(data, tmp_path / "sweep", space, *arguments))
    return json.loads((tmp_path / "sweep" / "leaderboard.json").read_text())


@pytest.fixture(scope="module")
def swept(data, tmp_path_factory):
    """A sweep of two training trials."""
    directory = tmp_path_factory.mktemp("swept")
    space = space_file(directory, SPACE)
    settings = settings_of(data, directory / "sweep", space, "--trials=2", "--parameter_budget=900")
    sweep.main(settings)
    return settings


def test_each_trial_is_a_workdir_that_its_flagfile_repeats(swept):
    board = json.loads((swept.workdir / "leaderboard.json").read_text())
    assert len(board["trials"]) == 2
    for trial in board["trials"]:
        workdir = Path(trial["workdir"])
        assert workdir == swept.workdir / "trials" / f"{trial['trial']:04d}"
        with parsed(f"--flagfile={workdir / 'flags.txt'}"):
            run = read_run_config()
            assert Path(flags.FLAGS.workdir) == workdir
        drawn = sweep.trial_run(swept, trial["params"])
        # The flagfile contains the chosen item mode and sizes.
        assert (drawn.model.item_mode, run.model.item_mode) == ("auto", "dense")
        chosen = dataclasses.replace(drawn.model, item_mode="dense")
        assert (drawn.train.epochs, drawn.train.patience) == ("auto", "auto")
        sizes = {"epochs": run.train.epochs, "patience": run.train.patience}
        assert all(isinstance(size, int) for size in sizes.values())
        fitted = dataclasses.replace(drawn.train, **sizes)
        assert run == drawn._replace(model=chosen, train=fitted)
        assert run.optimizer.learning_rate == trial["params"]["learning_rate"]
        assert trial["value"] == json.loads((workdir / "valid.json").read_text())["all"]["mrr"]
        assert trial["state"] == "done"
    assert set(board["importances"]) == set(SPACE)


def test_a_trial_tells_at_which_of_its_validations_it_was_best(swept):
    """A fit on train_valid, which has no validation, trains all of its epochs."""
    board = json.loads((swept.workdir / "leaderboard.json").read_text())
    for trial in board["trials"]:
        found = journal(Path(trial["workdir"]))
        validations = {line["step"]: line["all/mrr"] for line in found if line["kind"] == "valid"}
        assert len(validations) > 1
        best = max(validations, key=validations.get)
        assert (trial["best_step"], trial["value"]) == (best, pytest.approx(validations[best]))
        (epoch,) = {
            line["epoch"] for line in found if (line["step"], line["kind"]) == (best, "train")
        }
        assert trial["best_epoch"] == epoch > 0


def test_a_ranker_has_no_best_epoch(data, tmp_path):
    board = ranker_sweep(data, tmp_path, trials=1)
    assert (board["trials"][0]["best_step"], board["trials"][0]["best_epoch"]) == (None, None)


def test_the_best_settings_are_written_for_train_and_for_compare(swept):
    board = json.loads((swept.workdir / "leaderboard.json").read_text())
    best = max(board["trials"], key=lambda trial: trial["value"])
    assert board["trials"][0] == best
    assert json.loads((swept.workdir / "best.json").read_text()) == {"hiertcn": best["params"]}
    with parsed(f"--flagfile={swept.workdir / 'best.flags'}", "--data_dir=D", "--workdir=W"):
        assert read_run_config() == sweep.trial_run(swept, best["params"])
    with (swept.workdir / "leaderboard.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [json.loads(line["params"]) for line in lines] == [t["params"] for t in board["trials"]]


def test_a_finished_sweep_is_shown_again_and_trains_nothing(swept, monkeypatch, capsys):
    monkeypatch.setattr(sweep, "run_training", lambda *_: pytest.fail("trained again"))
    before = (swept.workdir / "leaderboard.json").read_text()
    sweep.main(swept)
    assert (swept.workdir / "leaderboard.json").read_text() == before
    said = capsys.readouterr().out
    assert "learning_rate=" in said
    best = swept.workdir / "trials" / f"{json.loads(before)['trials'][0]['trial']:04d}"
    command = f"hiertcn report --workdir={best} --output=report.html"
    assert said.endswith(f"\nthe best trial: {best}; look at it: {command}\n")
    steps = [line["step"] for line in read_files(best, "best").journal]
    assert steps == [line["step"] for line in journal(best)]


def test_other_fixed_flags_are_refused_by_name(swept):
    other = swept._replace(parameter_budget=1000)
    with pytest.raises(StudyError, match="parameter_budget: checkpoint 900, this run 1000"):
        sweep.main(other)


def test_emitted_flagfiles_are_the_trials_that_a_random_sweep_runs(data, tmp_path, monkeypatch):
    space = space_file(tmp_path, SPACE)
    options = ("--sampler=random", "--trials=3")
    emitting = (*options, f"--emit_flagfiles={tmp_path / 'emitted'}")
    sweep.main(settings_of(data, tmp_path / "sweep", space, *emitting))
    assert not (tmp_path / "sweep").exists()
    emitted = [path.read_text() for path in sorted((tmp_path / "emitted").iterdir())]
    ran = []

    def run(directory, lines, monitor, stops_after):
        ran.append("\n".join(lines) + "\n")
        return {"all": {"mrr": 0.5}}

    monkeypatch.setattr(sweep, "run_training", run)
    sweep.main(settings_of(data, tmp_path / "sweep", space, *options))
    assert len(set(ran)) == 3
    assert ran == emitted


def test_contradictory_draws_are_named_and_not_emitted(data, tmp_path, capsys):
    both = {
        "item_mode": {"choices": ["rows", "dense"]},
        "loss": {"choices": ["cross_entropy", "bpr"]},
    }
    emitted = tmp_path / "emitted"
    emitted.mkdir()
    options = ("--sampler=random", "--trials=8", f"--emit_flagfiles={emitted}")
    for number in range(8):  # From an earlier emission.
        (emitted / f"trial_{number:04d}.flags").write_text("--of=before")
    sweep.main(settings_of(data, tmp_path / "sweep", space_file(tmp_path, both), *options))
    lines = capsys.readouterr().err.splitlines()
    left_out = [int(line.split()[1]) for line in lines]
    assert 0 < len(left_out) < 8
    for line in lines:
        assert "is left out: {'item_mode': 'rows', 'loss': 'cross_entropy'}: item_mode=" in line
    texts = {int(path.stem[-4:]): path.read_text() for path in emitted.iterdir()}
    assert sorted([*texts, *left_out]) == list(range(8))
    for text in texts.values():
        assert "--item_mode=dense" in text or "--loss=bpr" in text


def test_if_all_draws_contradict_nothing_is_emitted(data, tmp_path):
    both = {"item_mode": {"choices": ["rows"]}, "loss": {"choices": ["cross_entropy"]}}
    emitted = tmp_path / "emitted"
    options = ("--sampler=random", "--trials=2", f"--emit_flagfiles={emitted}")
    with pytest.raises(StudyError, match=r"emit_flagfiles=.*emitted: no trial is left"):
        sweep.main(settings_of(data, tmp_path / "sweep", space_file(tmp_path, both), *options))
    assert not emitted.exists()


def test_contradictory_settings_fail_their_trial(data, tmp_path, capsys):
    both = {"item_mode": {"choices": ["rows"]}, "loss": {"choices": ["cross_entropy"]}}
    settings = settings_of(data, tmp_path / "sweep", space_file(tmp_path, both), "--trials=1")
    with pytest.raises(StudyError, match="no trial has a result"):
        sweep.main(settings)
    (entry,) = json.loads((tmp_path / "sweep" / "leaderboard.json").read_text())["trials"]
    assert (entry["state"], entry["attempts"]) == ("failed", 1)
    assert "needs all" in entry["error"]
    assert "failed" in capsys.readouterr().out


def wait_for_lines(path, process, lines):
    """Waits until a running process has written this many lines into a file."""
    while process.poll() is None and (not path.exists() or path.read_bytes().count(b"\n") < lines):
        threading.Event().wait(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a run whose worker is killed")
# In parts: test_child.py (a run ends with its worker) and test_study.py (its trial resumes).
@pytest.mark.thorough
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped with SIGTERM", "killed with SIGKILL"]
)
def test_a_stopped_or_killed_sweep_resumes_its_trial(data, tmp_path, number):
    """The run of the trial ends too, in mid-training; the same command finishes it."""
    space = space_file(tmp_path, {"learning_rate": {"low": 1e-3, "high": 1e-2}})
    workdir = tmp_path / "sweep"
    trial = workdir / "trials" / "0000"
    command = [
        sys.executable, "-m", "experiments.sweep", f"--data_dir={data.directory}",
        f"--workdir={workdir}", f"--space={space}", "--trials=1", *TINY, "--steps=400",
        "--checkpoint_every_steps=10", "--log_every_steps=10", "--eval_every_epochs=20",
        "--heartbeat_seconds=1",
    ]  # fmt: skip
    environment = {**os.environ, "TERM": "dumb"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    # A checkpoint is complete before the next but one begins.
    wait_for_lines(trial / "metrics.jsonl", process, 3)
    run = os.pidfd_open(int((trial / "lock").read_text()))
    process.send_signal(number)
    output, _ = process.communicate()
    # Reading ends once the run has ended.
    assert select.select([run], [], [], 60)[0]
    os.close(run)
    assert process.returncode == (143 if number == signal.SIGTERM else -number), output.decode()
    assert (b"stopped by SIGTERM; resume with: " in output) == (number == signal.SIGTERM)
    assert not (trial / "valid.json").exists()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (entry,) = json.loads((workdir / "leaderboard.json").read_text())["trials"]
    assert (entry["state"], entry["attempts"], entry["error"]) == ("done", 2, None)
    assert "resuming from step" in (trial / "log.txt").read_text()


def test_a_ranker_is_tuned_over_its_own_arguments(data, tmp_path):
    board = ranker_sweep(data, tmp_path)
    assert [trial["state"] for trial in board["trials"]] == ["done"] * 4
    best = board["trials"][0]
    assert best["value"] == max(trial["value"] for trial in board["trials"])
    assert len({trial["value"] for trial in board["trials"]}) > 1
    expected = {"rolling_popularity": best["params"]}
    assert json.loads((tmp_path / "sweep" / "best.json").read_text()) == expected
    assert json.loads((Path(best["workdir"]) / "settings.json").read_text()) == expected


def test_two_processes_share_a_postgresql_storage(data, tmp_path, postgresql):
    """As on two machines: the same command, one storage."""
    space = space_file(tmp_path, EVENTS)
    arguments = [
        f"--data_dir={data.directory}", f"--space={space}", "--ranker=rolling_popularity",
        "--trials=9", f"--storage={postgresql}", "--study=shared", "--sampler=random",
    ]  # fmt: skip
    both_are_in_a_trial = FORKS.Barrier(2, timeout=120)
    processes = [
        FORKS.Process(
            target=sweep_that_meets_another,
            args=(both_are_in_a_trial, [*arguments, f"--workdir={tmp_path / name}"]),
        )
        for name in ("one", "other")
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    boards = [
        json.loads((tmp_path / name / "leaderboard.json").read_text()) for name in ("one", "other")
    ]
    assert boards[0] == boards[1]
    assert [trial["state"] for trial in boards[0]["trials"]] == ["done"] * 9
    # Each trial ran once, on one of the two, and both ran some.
    ran = sorted(path.parent.name for path in tmp_path.glob("*/trials/*/valid.json"))
    assert ran == [f"{place:04d}" for place in range(9)]
    assert {Path(trial["workdir"]).parents[1].name for trial in boards[0]["trials"]} == {
        "one",
        "other",
    }


@pytest.mark.parametrize(
    ("space", "arguments", "message"),
    [
        ({"learning_rat": {"low": 1.0, "high": 2.0}}, (), "learning_rat=1.0: there is no such"),
        ({"dropout": {"low": 0.5, "high": 1.5}}, (), r"dropout: dropout=1\.5: must be in"),
        ({"epochs": {"low": 0.5, "high": 2}}, (), "epochs"),
        ({"model": {"choices": ["hiertcn", "gru"]}}, (), "model"),
        ({"negatives": {"choices": ["uniform"]}}, (), "negatives=uniform"),
        ({"fit_on": {"choices": ["train_valid"]}}, (), "fit_on=train_valid: must be equal for all"),
        ({"mask_seen": {"choices": ["user"]}}, (), "mask_seen=user: must be equal for all"),
        ({"seed": {"low": 0, "high": 9}}, (), "seed=0: must be equal for all"),
        ({"monitor": {"choices": ["next/mrr"]}}, (), "monitor=next/mrr: must be equal for all"),
        (SPACE, ("--fit_on=train_valid",), "fit_on=train_valid: a sweep chooses on valid"),
        (SPACE, ("--emit_flagfiles=X",), "needs --sampler=random"),
        (EVENTS, ("--emit_flagfiles=X", "--ranker=rolling_popularity"), "has no flagfile"),
        (
            SPACE,
            ("--ranker=rolling_popularity",),
            "no such argument of rolling_popularity: weighting, events",
        ),
        (SPACE, ("--ranker=popularity",), "it has none"),
        ({"events": {"low": 0, "high": 9}}, ("--ranker=rolling_popularity",), "events=0"),
    ],
)
def test_flags_and_spaces_that_make_no_sense_are_refused(data, tmp_path, space, arguments, message):
    path = space_file(tmp_path, space)
    with pytest.raises((ValueError, flags.Error), match=message) as raised:
        settings_of(data, tmp_path / "sweep", path, *arguments)
    assert str(raised.value).startswith(f"flag --space={path}: ") or arguments


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_the_included_spaces_belong_to_their_model(data, tmp_path, path):
    name = path.stem
    what = [f"--ranker={name}" if name in RANKERS else f"--model={name}"]
    what += ["--memory=world"] if name == "memory" else []
    settings = settings_of(data, tmp_path / "sweep", path, *what)
    drawn = settings.space.suggest(optuna.create_study(sampler=SeededByTrial("random", 0)).ask())
    if name in RANKERS:
        assert RANKERS[name](9, **drawn).causal in (True, False)
    else:
        assert sweep.trial_run(settings, drawn).model.name == name


def test_every_model_with_settings_has_a_space():
    without = {"popularity", "session_popularity", "repeat_last", "markov"}
    assert {path.stem for path in SPACES} == {*MODELS, *RANKERS} - without
