"""train --continue_from: what it starts from, what it learns, how it resumes."""

import functools
import signal

import jax
import numpy as np
import polars as pl
import pytest
from absl import flags

from benchmarks.run_differences import differences
from data_pipelines.config import PrepareConfig
from data_pipelines.errors import DataError
from data_pipelines.histories.events import blocks_of
from data_pipelines.histories.record import Split
from data_pipelines.lanes.loaders import fit_stream
from data_pipelines.prepare import prepare
from data_pipelines.synthetic import SyntheticConfig, synthetic_log
from experiments import train
from experiments.flags.continuing_flags import continued_config
from experiments.flags.data_flags import DataLocation
from experiments.runs.continuing import continue_on, start_state
from experiments.runs.data import open_data
from experiments.runs.loader import run_loader
from experiments.runs.resolve import resolve
from experiments.runs.restore import open_run_data, restore_training
from experiments.runs.run_results import score
from hiertcn_jax.batch import FIRST_ITEM_ID
from hiertcn_jax.learning.optimizer import Optimizer
from hiertcn_jax.learning.train_state import init_train_state
from hiertcn_jax.saving.checkpoint import CheckpointError
from tests.experiments.flags.test_run_flags import parsed
from tests.experiments.small_runs import run_train, signal_in_step
from tests.volume import mostly_thorough

MODES = {"dense": (), "rows": ("--item_mode=rows",)}


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """A log, and the same log with later events; items appear from day to day."""
    directory = tmp_path_factory.mktemp("logs")
    log = synthetic_log(SyntheticConfig(users=40))
    start, end = log["timestamp"].min(), log["timestamp"].max() + 1
    at = [int(start + share * (end - start)) for share in (0.3, 0.4, 0.5, 0.7, 0.8)]
    later = pl.col("timestamp") >= at[2]
    log.filter(~later).write_parquet(directory / "0.parquet")
    log.filter(later).write_parquet(directory / "1.parquet")
    common = {"time_unit": "s", "allow_odd_times": True, "split": "time"}
    for number, (cuts, more) in enumerate(
        [(at[:2], common), (at[3:], {"previous": str(directory / "D0")})]
    ):
        config = PrepareConfig(
            input=(str(directory / f"{number}.parquet"),),
            output_dir=str(directory / f"D{number}"),
            valid_after=str(cuts[0]),
            test_after=str(cuts[1]),
            **more,
        )
        prepare(config)
    return open_data(directory / "D0"), open_data(directory / "D1")


@pytest.fixture(scope="module")
def trained(logs, tmp_path_factory):
    """Trains on the first log with items in a mode, once for each mode."""

    @functools.cache
    def workdir_of(mode):
        workdir = tmp_path_factory.mktemp("first") / "run"
        run_train(logs[0], workdir, *MODES[mode])
        return workdir

    return workdir_of


@pytest.fixture(params=mostly_thorough(MODES, "rows"))
def first(request, trained):
    return trained(request.param)


@pytest.fixture
def earlier(trained):
    """For tests of what the mode makes no difference to."""
    return trained("rows")


LEARN = ("--steps=6", "--checkpoint_every_steps=2", "--eval_every_epochs=9")


def continue_run(before, data, workdir, *more):
    """Runs experiments.train in this process, with the flags of nobody but `more`."""
    with parsed(
        f"--data_dir={data.directory}", f"--workdir={workdir}", f"--continue_from={before}", *more
    ):
        train.main(train.read_settings())


def resolved(before, data, *more):
    with parsed("--data_dir=D", "--workdir=W", f"--continue_from={before}", *more):
        settings = train.read_settings()
        restored, old = restore_training(before, "best")
        config = continued_config(settings.run, restored, before)
        continued = continue_on(restored, before, data, config.train, settings.replay_share)
        return resolve(config, data, continued), old


def test_the_start_is_the_earlier_run_with_rows_for_new_items(logs, first):
    run, old = resolved(first, logs[1])
    optimizer = Optimizer(run.config.optimizer, lambda _: 0.0, run.config.model.item_mode == "rows")
    restored, _ = restore_training(first, "best")
    fresh = init_train_state(
        jax.random.key(1), restored.model, run.config.model, optimizer, 8, run.data.vocabulary.size
    )
    state = start_state(run.continued, fresh, run.data, "train")
    rows, all_rows = len(old.params["items"].input_vd), len(state.params["items"].input_vd)
    assert FIRST_ITEM_ID < rows < all_rows == run.data.vocabulary.size
    trees = [
        (one.params, one.opt_state["adam"].mu, one.opt_state["adam"].nu) for one in (state, old)
    ]
    for after, before in zip(*trees, strict=True):
        jax.tree.map(np.testing.assert_array_equal, after["model"], before["model"])
        first_rows = jax.tree.map(lambda table: table[:rows], after["items"])
        jax.tree.map(np.testing.assert_array_equal, first_rows, before["items"])
    assert int(state.step) == 0
    assert state.opt_state["adam"].count == old.opt_state["adam"].count > 0

    # New rows by a plain loop over the sessions of train.
    table = np.asarray(old.params["items"].input_vd)
    expected = np.array(fresh.params["items"].input_vd)
    sums, weights = np.zeros_like(expected), np.zeros(all_rows)
    for _, block in blocks_of(run.data.histories):
        for history in block:
            ends = np.cumsum(history.session_lengths)
            for length, end, split in zip(
                history.session_lengths, ends, history.session_splits, strict=True
            ):
                own_n = slice(end - length, end)
                kept_n = history.times[own_n] < run.data.cut(Split.TRAIN)
                items = history.item_ids[own_n][kept_n] if split == Split.TRAIN else []
                for place, item in enumerate(items):
                    for other, neighbour in enumerate(items):
                        near = 0 < abs(place - other) <= 8
                        if near and item >= rows > neighbour >= FIRST_ITEM_ID:
                            sums[item] += table[neighbour] / abs(place - other)
                            weights[item] += 1 / abs(place - other)
    assert (weights[rows:] > 0).any()
    near = weights > 0
    expected[near] = sums[near] / weights[near, None]
    found = np.asarray(state.params["items"].input_vd)
    np.testing.assert_allclose(found[rows:], expected[rows:], atol=1e-5)


def test_new_events_are_learned_and_a_share_of_older_ones(logs, first):
    share = 0.25
    run, _ = resolved(first, logs[1], f"--replay_share={share}")
    replay, data = run.continued.replay, run.data
    before, until = logs[0].cut(Split.TRAIN), data.cut(Split.TRAIN)
    assert replay.since == before
    stream = fit_stream("train", until)
    new = {
        (user, event)
        for user, history in enumerate(data.histories.__getitems__(range(len(data.histories))))
        for event, (time, item, split) in enumerate(
            zip(
                history.times,
                history.item_ids,
                np.repeat(history.session_splits, history.session_lengths),
                strict=True,
            )
        )
        if before <= time < until and split <= stream.last and item >= FIRST_ITEM_ID
    }
    assert {user for user, _ in new} == set(replay.users.tolist())
    learned, older = set(), set()
    batches = iter(run_loader(run.config, data, replay=replay))
    for _ in range(2 * run.plan.steps_per_epoch + 2):
        batch, info = next(batches)
        user_bl = np.take_along_axis(info.user_bs, batch.session_bl, axis=1)
        for place in zip(*np.nonzero(batch.loss_weight_bl), strict=True):
            event = int(user_bl[place]), int(batch.user_position_bl[place])
            (learned if info.time_bl[place] >= before else older).add(event)
    assert learned == new
    assert len(older) == pytest.approx(len(new) * share / (1 - share), rel=0.3)


def test_a_stopped_run_ends_as_one_that_was_not(logs, first, tmp_path, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    continue_run(first, logs[1], whole, *LEARN)
    for step in (1, 3):
        with monkeypatch.context() as patch:
            signal_in_step(patch, step, signal.SIGTERM)
            with pytest.raises(SystemExit):
                continue_run(first, logs[1], stopped, *LEARN)
    continue_run(first, logs[1], stopped, *LEARN)
    assert differences(stopped, whole) == []
    with pytest.raises(CheckpointError, match=r"continued\.replay_share: checkpoint 0\.3, this"):
        continue_run(first, logs[1], stopped, *LEARN, "--replay_share=0.1")
    with pytest.raises(CheckpointError, match=r"continued: checkpoint \{.+, this run None"):
        run_train(logs[1], stopped)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--gru_dim=5",), "gru_dim=5: .+ has 3, and a run goes on with its model; .+"),
        (("--model=sasrec",), "model=sasrec: .+ has hiertcn, .+"),
        (("--data_parallelism=2",), ".+ a run is continued on one device; .+"),
    ],
)
def test_other_settings_are_refused(logs, earlier, more, message):
    with pytest.raises((CheckpointError, DataError), match=message):
        resolved(earlier, logs[1], *more)


def test_settings_are_those_of_the_earlier_run(logs, earlier):
    run, _ = resolved(earlier, logs[1], "--learning_rate=0.002")
    restored, _ = restore_training(earlier, "best")
    assert run.config.model == restored.config
    assert run.config.optimizer.learning_rate == 0.002
    assert run.config.optimizer.schedule == "constant"
    assert run.config.train.number("epochs") == 1
    assert run.plan.total_steps == run.plan.steps_per_epoch


def test_logs_that_do_not_continue_are_refused(logs, data, earlier):
    with pytest.raises(DataError, match=r"does not continue the log that .+ was trained on"):
        resolved(earlier, data)
    with pytest.raises(DataError, match=r"nothing to learn: .+ later --valid_after and"):
        resolved(earlier, logs[0])
    # The same log, fitted on valid too.
    run, _ = resolved(earlier, logs[0], "--fit_on=train_valid")
    assert run.continued.replay.new_events > 0


def test_a_run_is_scored_on_a_log_that_continues_its_own(logs, earlier):
    restored, _ = restore_training(earlier, "best")
    place = DataLocation(data_dir=str(logs[1].directory))
    with pytest.raises(DataError, match=r"continues the log .+ add --catalogue=live"):
        open_run_data(restored, place)
    data = open_run_data(restored, place, "live")
    assert data.vocabulary.fitted_size == restored.configs["data"]["rows"]
    assert data.vocabulary.size > logs[1].vocabulary.size > data.vocabulary.fitted_size
    evaluation = score(restored, data, Split.TEST)
    assert evaluation.metrics["events"] == data.known_events(Split.TEST) > 0


def test_the_share_is_a_flag_with_bounds():
    with (
        pytest.raises(flags.IllegalFlagValueError, match="replay_share"),
        parsed("--data_dir=D", "--workdir=W", "--replay_share=1"),
    ):
        pass
