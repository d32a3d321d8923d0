"""Losses that are not finite: steps are skipped and counted; too many of them end the run."""

import itertools
import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.commands.command import StoppedError
from data_pipelines.lanes.loaders import train_loader
from data_pipelines.progress import Progress
from experiments.runs import train_loop as loop
from experiments.runs.bad_steps import BadStepsError, NonFiniteError, finite_norm
from experiments.runs.journal import NoJournal
from experiments.runs.meter import Meter, Sums
from experiments.runs.restore import restore_run
from hiertcn_jax.batch import Bucket
from tests.experiments.small_runs import contents, journal, settings_of, train_in
from tests.forked import run_forked


def spoil(monkeypatch, *steps, stop_in=None):
    """Makes the loss of these steps not finite; in the step `stop_in` a stop signal comes."""
    assemble = loop.assemble

    def assemble_and_spoil(run):
        parts = assemble(run)

        def step(state, batch, sources):
            number = int(state.step) + 1
            if number in steps:
                batch = batch.replace(loss_weight_bl=np.full_like(batch.loss_weight_bl, np.nan))
            if number == stop_in:
                signal.raise_signal(signal.SIGTERM)
            return parts.step(state, batch, sources)

        return parts._replace(step=step)

    monkeypatch.setattr(loop, "assemble", assemble_and_spoil)


def test_skipped_steps_are_counted_and_the_run_goes_on(data, whole, tmp_path, monkeypatch):
    spoil(monkeypatch, 2, 3, 4, 7)
    train_in(data, tmp_path)
    lines = [line for line in journal(tmp_path) if line["kind"] == "train"]
    expected = [line for line in journal(whole) if line["kind"] == "train"]
    assert [line["step"] for line in lines] == [2, 3, 4, 6, 7, 8, 9, 10]
    assert [line["skipped_steps"] for line in lines] == [1, 2, 3, 3, 4, 4, 4, 4]
    assert {line["skipped_steps"] for line in expected} == {0}
    # The line of steps 1 and 2 has the loss of step 1; those of 3, 4 and 7 have none.
    assert [line["loss"] is None for line in lines] == [line["step"] in (3, 4, 7) for line in lines]
    assert np.isfinite([line["loss"] for line in lines if line["loss"] is not None]).all()
    for name in ("events", "learning_rate", "epoch"):
        assert [line[name] for line in lines] == [line[name] for line in expected]
    params = restore_run(tmp_path, "last").params
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


def test_too_many_in_a_row_end_the_run_with_all_that_is_known(data, tmp_path, monkeypatch):
    spoil(monkeypatch, *range(4, 100))
    with pytest.raises(NonFiniteError) as caught:
        train_in(data, tmp_path, "--max_bad_steps=4", "--log_every_steps=1")
    loader = train_loader(data.histories, Bucket(8, 16, 2), seed=0)
    (info,) = (element.info for element in itertools.islice(loader, 6, 7))
    users = data.user_ids(np.unique(info.user_bs[info.user_bs >= 0]))
    assert 1 < len(users) <= 16
    params = restore_run(tmp_path, "last").params
    norm = np.sqrt(sum(np.sum(np.square(x, dtype=np.float64)) for x in jax.tree.leaves(params)))
    message = str(caught.value)
    assert message.startswith(
        "step 7: loss or gradient not finite in 4 steps in a row (max_bad_steps=4), which moved no "
        "parameter: loss nan, gradient norm nan, parameter norm "
    )
    # The parameters are those of step 3, the newest one saved without bad steps.
    assert float(message.split("parameter norm ")[1].split(",")[0]) == pytest.approx(norm, rel=1e-4)
    assert message.endswith(
        f"; users of the batch: {', '.join(users)}. Lower learning_rate, set clip_norm, or look at "
        "the events of these users"
    )
    assert "\n" not in message
    assert restore_run(tmp_path, "last").step == 6


def test_norms_do_not_overflow_where_no_number_does():
    """The squares of 1e30 are above what float32 holds, and those of 1e-30 below."""
    for unit in (1e30, 1.0, 1e-30):
        tree = {"a": jnp.asarray([3.0, 0.0]) * unit, "b": -4.0 * unit * jnp.ones((1, 1))}
        assert finite_norm(tree) == pytest.approx(5 * unit, rel=1e-6)
    assert finite_norm({"a": jnp.zeros(3)}) == 0
    assert np.isnan(finite_norm({"a": jnp.asarray([1.0, jnp.nan])}))


def test_the_message_has_the_current_limit():
    sums = Sums(skipped_steps=4, skipped_in_row=4)
    meter = Meter(NoJournal(), Progress("", "", shown=False), 10, sums, max_bad_steps=2)
    values = {"finite": False, "events": 8, "loss_sum": np.nan, "weight": 1.0, "grad_norm": np.inf}
    meter.add(7, {**values, "learning_rate": 0.1}, np.zeros((1, 1), int))
    with pytest.raises(BadStepsError) as caught:
        meter.read()
    assert (caught.value.in_row, caught.value.most) == (5, 2)


def test_bad_steps_count_across_a_stop(data, tmp_path, monkeypatch):
    messages = []
    for name, stop_in in (("one", None), ("other", 6)):
        workdir = tmp_path / name
        workdir.mkdir()
        with monkeypatch.context() as patch:
            spoil(patch, 5, 6, 7, 8, 9, stop_in=stop_in)
            if stop_in:
                with pytest.raises(StoppedError):
                    train_in(data, workdir, "--max_bad_steps=4")
        with monkeypatch.context() as patch:
            spoil(patch, 5, 6, 7, 8, 9)
            with pytest.raises(NonFiniteError) as caught:
                train_in(data, workdir, "--max_bad_steps=4")
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert messages[0].startswith("step 8: ")
    assert journal(tmp_path / "one") == journal(tmp_path / "other")


def test_too_many_bad_steps_are_one_line(whole, tmp_path):
    done = run_forked(
        "experiments.train", f"--flagfile={whole}/flags.txt", f"--workdir={tmp_path}",
        "--learning_rate=1e38", "--max_bad_steps=3", "--log_every_steps=1",
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: step ")
    assert done.stderr.count("\n") == 1
    assert "3 steps in a row (max_bad_steps=3)" in done.stderr
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_a_limit_of_none_is_refused(data, tmp_path):
    with pytest.raises(Exception, match="max_bad_steps=0: must be >= 1"):
        settings_of(data, tmp_path, "--max_bad_steps=0")
    assert contents(tmp_path) == {}
