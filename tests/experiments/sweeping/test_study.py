"""Trials in a storage: workers share them, resume those of dead workers, and lose none."""

import contextlib
import signal
import sys
import threading

import optuna
import pytest
from optuna.trial import TrialState

from data_pipelines.commands.command import StoppedError
from experiments.sweeping.leaderboard import importance_table, importances, leaderboard
from experiments.sweeping.study import (
    StopError,
    StudyConfig,
    StudyError,
    open_study,
    trial_index_of,
    work,
)
from experiments.sweeping.trials import TrialError

MADE_WITH = {"space": "x", "flags": ["--model=sasrec", "--epochs=3"]}


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'sweep.db'}"
    return request.getfixturevalue("postgresql")


def config_of(storage, name, trials=6, **changes):
    defaults = StudyConfig(
        storage, name, trials, "random", "none", seed=0, retries=1, heartbeat_seconds=1
    )
    return defaults._replace(**changes)


@pytest.fixture
def opened():
    """A function that opens a study until the end of the test."""
    with contextlib.ExitStack() as closing:
        yield lambda config, made_with=MADE_WITH: closing.enter_context(
            open_study(config, made_with)
        )


def drawn(trial):
    return trial.suggest_float("x", 0, 1)


def trial_index(trial):
    return trial_index_of(trial.study, trial.number)


def in_threads(*workers):
    """Runs workers in parallel, each in a thread; raises what one of them raised."""
    raised = []

    def guarded(worker):
        try:
            worker()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=guarded, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


def test_two_workers_share_the_trials_of_one_storage(storage, request):
    config = config_of(storage, request.node.name, trials=7)
    both_are_in_a_trial = threading.Barrier(2, timeout=60)
    ran = {0: [], 1: []}

    def worker(index):
        def objective(trial):
            if not ran[index]:
                both_are_in_a_trial.wait()
            ran[index].append(trial.number)
            return drawn(trial)

        with open_study(config, MADE_WITH) as study:
            work(study, config, objective)

    in_threads(lambda: worker(0), lambda: worker(1))
    assert ran[0]
    assert ran[1]
    with open_study(config, MADE_WITH) as study:
        entries = leaderboard(study)
    assert [entry.state for entry in entries] == ["done"] * 7
    assert len({entry.params["x"] for entry in entries}) == 7
    values = [entry.value for entry in entries]
    assert values == sorted(values, reverse=True)


def test_the_lowest_value_is_first_where_lower_is_better(tmp_path, opened):
    config = config_of(f"sqlite:///{tmp_path}/s.db", "lowest", trials=4, lower_is_better=True)
    study = opened(config)
    work(study, config, drawn)
    values = [entry.value for entry in leaderboard(study)]
    assert values == sorted(values) and values[0] == study.best_value < values[-1]


def test_a_dead_workers_trial_is_taken_over_with_its_number_and_parameters(
    storage, opened, request
):
    config = config_of(storage, request.node.name, trials=2)
    with open_study(config, MADE_WITH) as dead:
        # A killed worker leaves a trial running, without a heartbeat.
        with pytest.warns(UserWarning, match="Study.optimize"):
            trial = dead.ask()
        lost = drawn(trial)
        dead._storage.record_heartbeat(trial._trial_id)
    seen = []

    def objective(trial):
        seen.append((trial_index(trial), drawn(trial)))
        return 1.0

    study = opened(config)
    work(study, config, objective)
    assert sorted(number for number, _ in seen) == [0, 1]
    assert dict(seen)[0] == lost
    assert study.trials[0].state == TrialState.FAIL
    assert {e.trial: (e.state, e.attempts) for e in leaderboard(study)} == {
        0: ("done", 2),
        1: ("done", 1),
    }


def test_failed_trials_are_tried_again_as_often_as_allowed(tmp_path, opened):
    config = config_of(f"sqlite:///{tmp_path / 'a.db'}", "failing", trials=3, retries=2)
    study = opened(config)
    calls = []

    def objective(trial):
        calls.append(trial_index(trial))
        value = drawn(trial)
        if trial_index(trial) == 1 or (trial_index(trial) == 2 and calls.count(2) < 3):
            trial.set_user_attr("error", f"attempt {calls.count(trial_index(trial))}")
            raise TrialError("no")
        return value

    work(study, config, objective)
    assert {number: calls.count(number) for number in (0, 1, 2)} == {0: 1, 1: 3, 2: 3}
    entries = {entry.trial: entry for entry in leaderboard(study)}
    assert [entries[number].state for number in (0, 1, 2)] == ["done", "failed", "done"]
    assert entries[1].error == "attempt 3"
    assert entries[1].value is None
    assert entries[2].error is None
    assert leaderboard(study)[-1].trial == 1


@pytest.mark.parametrize(
    ("message", "recurs", "attempts"),
    [
        ("negatives: needs all", True, 1),
        ("exit code 1: error: loss is nan", False, 2),
        ("exit code -9: compiling", False, 4),
    ],
)
def test_a_failure_that_recurs_is_not_tried_again(tmp_path, opened, message, recurs, attempts):
    """Not even once if the flags are refused; if a command ends alike twice, no third time."""
    config = config_of(f"sqlite:///{tmp_path / 'a.db'}", "recurs", trials=1, retries=3)
    study = opened(config)

    def objective(trial):
        drawn(trial)
        trial.set_user_attr("error", message)
        raise TrialError(message, recurs)

    work(study, config, objective)
    (entry,) = leaderboard(study)
    assert (entry.state, entry.attempts, entry.error) == ("failed", attempts, message)


def test_a_programming_error_is_not_swallowed(tmp_path, opened):
    config = config_of(f"sqlite:///{tmp_path / 'a.db'}", "broken")
    with pytest.raises(ZeroDivisionError):
        work(opened(config), config, lambda trial: 1 / 0)


@pytest.mark.parametrize(
    ("error", "number"),
    [(KeyboardInterrupt(), signal.SIGINT), (StoppedError(signal.SIGTERM), signal.SIGTERM)],
)
def test_a_stopped_workers_trial_can_be_resumed(tmp_path, opened, error, number):
    config = config_of(f"sqlite:///{tmp_path / 'a.db'}", "stopped", trials=2, retries=0)
    study = opened(config)

    def stopped(trial):
        drawn(trial)
        raise error

    for _ in range(3):
        with pytest.raises(StopError) as raised:
            work(study, config, stopped)
        assert raised.value.signal_number == number
    again = []
    work(study, config, lambda trial: again.append((trial_index(trial), drawn(trial))) or 1.0)
    assert [number for number, _ in again] == [0, 1]
    assert again[0][1] == study.trials[0].params["x"]
    assert [entry.state for entry in leaderboard(study)] == ["done", "done"]


def test_more_trials_may_be_asked_for_later(tmp_path, opened):
    config = config_of(f"sqlite:///{tmp_path / 'a.db'}", "more", trials=2)
    work(opened(config), config, drawn)
    study = opened(config)
    work(study, config._replace(trials=5), drawn)
    assert len(leaderboard(study)) == 5
    work(study, config._replace(trials=3), lambda trial: pytest.fail("one more"))


def test_a_storage_of_another_sweep_is_refused_by_the_field(tmp_path, opened):
    config = config_of(f"sqlite:///{tmp_path / 'a.db'}", "other")
    opened(config)
    with pytest.raises(StudyError, match=r"flags.epochs: checkpoint 3, this run 4; give"):
        opened(config, {**MADE_WITH, "flags": ["--model=sasrec", "--epochs=4"]})
    with pytest.raises(StudyError, match="space: checkpoint x, this run y"):
        opened(config, {**MADE_WITH, "space": "y"})


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("sqlite:////nowhere/at/all.db", "sqlite:////nowhere/at/all.db: cannot be used"),
        ("postgresql://me:secret@127.0.0.1:1/none", r"postgresql://me:\*\*\*@127"),
        ("nonsense", "expected a URL"),
    ],
)
def test_a_storage_that_cannot_be_used_is_one_line_without_its_password(opened, storage, message):
    with pytest.raises(StudyError, match=message) as raised:
        opened(config_of(storage, "any"))
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_driver_is_named_with_the_extra_that_has_it(opened, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    expected = r"^postgresql://me@h/d: Python has no driver for this database; .*\[sweep\]'$"
    with pytest.raises(StudyError, match=expected):
        opened(config_of("postgresql://me@h/d", "any"))


def test_pruned_trials_show_what_they_last_reported(tmp_path, opened):
    config = config_of(f"sqlite:///{tmp_path / 'a.db'}", "pruned", trials=6, pruner="median")
    study = opened(config)

    def objective(trial):
        drawn(trial)
        for step in (1, 2, 3):
            trial.report(step - trial.number, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return 3.0 - trial.number

    work(study, config, objective)
    states = {entry.trial: (entry.state, entry.value) for entry in leaderboard(study)}
    # Four startup trials and the first validation are exempt; then 2 - 4 is below all others.
    assert states[3] == ("done", 0.0)
    assert states[4] == ("pruned", -2.0)
    assert states[5] == ("pruned", -3.0)
    assert [entry.trial for entry in leaderboard(study)] == [0, 1, 2, 3, 4, 5]


def test_parameters_that_decide_are_more_important(tmp_path, opened):
    config = config_of(f"sqlite:///{tmp_path / 'a.db'}", "important", trials=30)
    study = opened(config)
    assert importances(study, ["x", "idle"]) == {}

    def objective(trial):
        value = drawn(trial)
        trial.suggest_float("idle", 0, 1)
        return value

    work(study, config, objective)
    found = importances(study, ["idle", "x"])
    assert sum(importance.share for importance in found.values()) == pytest.approx(1)
    assert found["x"].share > 3 * found["idle"].share
    assert [importance.trials for importance in found.values()] == [30, 30]


@pytest.mark.parametrize("rare", [0, 1])
def test_conditional_parameters_are_ranked_by_the_trials_that_have_them(tmp_path, opened, rare):
    config = config_of(f"sqlite:///{tmp_path / 'a.db'}", "conditional", trials=30)
    study = opened(config)

    def objective(trial):
        trial.suggest_float("idle", 0, 1)
        if trial.number < rare:
            trial.suggest_float("rare", 0, 1)
        return trial.suggest_float("width", 0, 1) if trial.number % 2 else 0.01 * drawn(trial)

    work(study, config, objective)
    found = importances(study, ["rare", "width", "idle", "x"])
    assert found["rare"] == (None, rare)
    assert found["width"].trials == found["x"].trials == 15
    assert found["width"].share > 3 * found["idle"].share
    assert list(found) == sorted(found, key=lambda name: -(found[name].share or 0))
    shown = importance_table(found)
    assert ("rare", "not ranked", str(rare)) in zip(*(c.cells for c in shown.columns), strict=True)
