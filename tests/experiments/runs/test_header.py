"""What a run says before it begins: counts of the data, sizes of the model, steps; 80 columns."""

import dataclasses
import re

import jax
import pytest

from experiments.runs.header import header_lines, state_bytes
from experiments.runs.resolve import resolve
from hiertcn_jax.models import MODELS, build, model_config
from tests.experiments.runs.test_resolve import RUN


def text_of(run):
    return " ".join(" ".join(header_lines(run)).split())


def test_data_model_devices_and_steps_stand_in_80_columns(data):
    run = resolve(RUN, data)
    lines, counts = header_lines(run), data.manifest["counts"]
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines if line[0] != " "] == [
        "data", "model", "devices", "steps",
    ]  # fmt: skip
    train, text = counts["splits"]["train"], text_of(run)
    for fact in (
        f"{counts['users']:,} users, {counts['items']:,} items; trains on "
        f"{train['events']['all']:,} events in {train['sessions']:,} sessions (train)",
        f"learned embeddings of {data.vocabulary.size} x 4",
        # One block of 3 taps.
        "reads the session's last 3 events and all earlier sessions",
        f"steps {run.plan.total_steps} (3 epochs of {run.plan.steps_per_epoch}); batches of 8 "
        "lanes x 16 events, at most 8 sessions a lane",
    ):
        assert fact in text


def test_a_run_that_may_stop_early_says_so(data):
    train = dataclasses.replace(RUN.train, patience=2)
    patient = text_of(resolve(RUN._replace(train=train), data))
    assert "(3 epochs of" in patient
    assert ", fewer after 2 validations without a better all/mrr; batches" in patient
    # There is no validation on what is trained on.
    both = dataclasses.replace(train, fit_on="train_valid")
    said = text_of(resolve(RUN._replace(train=both), data))
    assert "(train and valid)" in said and "fewer" not in said


def test_for_a_log_without_times_it_says_what_the_half_lives_count(data):
    order = data._replace(manifest=data.manifest | {"log": {"time_unit": "order"}})
    assert "in place of times, and its steps count as seconds" in text_of(resolve(RUN, order))
    remembers = dataclasses.replace(RUN.model, memory=("world",))
    said = text_of(resolve(RUN._replace(model=remembers), order))
    assert "memory's half-lives are 300 to 19,660,800 steps of it" in said


def test_the_state_of_a_user_is_what_the_carry_of_a_lane_takes(data):
    run = resolve(RUN, data)
    carry = build(run.config.model).init_carry(1)
    assert state_bytes(run) == sum(leaf.nbytes for leaf in jax.tree.leaves(carry))
    # 4 of the state, 4 + 1 of the pool, 4 of the last item, 2 inputs of 4 channels; float32.
    assert state_bytes(run) == 4 * (4 + 4 + 1 + 4 + 2 * 4)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_says_what_it_reads(name):
    assert re.fullmatch(r"(the|all|counts) [\w' ]+", model_config(name).reads)


@pytest.mark.parametrize(
    "name, settings, events",
    [
        # 1 + 2 * (1 + 2 + 4)
        ("tcn_user", {"tcn_channels": (8, 8, 8), "kernel_size": 3}, "the user's last 15 events"),
        ("tcn_session", {"tcn_channels": (8,), "kernel_size": 2}, "the session's last 2 events"),
        # 2 * (50 - 1) + 1
        ("sasrec", {"attention_blocks": 2, "attention_window": 50}, "the user's last 99 events"),
    ],
)
def test_the_events_that_a_prediction_reads(name, settings, events):
    assert model_config(name, **settings).reads == events
