"""A run's progress in a checkpoint is read field by field, and checked."""

import dataclasses
import json
import math

import pytest

from experiments.runs.meter import Sums
from experiments.runs.training_run import Progress
from hiertcn_jax.scoring.metrics import METRICS

PROGRESS = Progress(best=0.5, evaluations_since_best=2, validation_due=True)
SUMS = Sums(7, 2, 1, 3, 5, 0.25, 1.5, 2.0, 2, None, 0.1)


@pytest.mark.parametrize(
    "name, best, since", [("mrr", 0.5, 2), ("mrp", 0.2, 1), ("log_popularity@20", 0.2, 1)]
)
def test_the_best_is_the_highest_or_the_lowest_as_the_metric_says(name, best, since):
    progress = Progress()
    for value in (0.3, 0.5, 0.2, 0.4):
        progress.judge(value, METRICS[name])
    assert progress.best == best
    assert progress.evaluations_since_best == since


@pytest.mark.parametrize("value", [PROGRESS, Progress(), SUMS, Sums(grad_norm=1.0, seconds=3)])
def test_saved_progress_is_restored(value):
    saved = json.loads(json.dumps(dataclasses.asdict(value)))
    assert type(value).from_dict(saved, "it") == value


@pytest.mark.parametrize(
    "kind, changes, message",
    [
        (Sums, {"events": "x"}, "it.events=x: must be a whole number"),
        (Sums, {"events": -1}, "it.events=-1: must be in [0, 9007199254740992)"),
        (Sums, {"steps": True}, "it.steps=True: must be a whole number"),
        (Sums, {"steps": 2**53}, "it.steps=9007199254740992: must be in [0, 9007199254740992)"),
        (Sums, {"steps": 1.0}, "it.steps=1.0: must be a whole number"),
        (Sums, {"seconds": math.nan}, "it.seconds=nan: must be in [-1e+300, 1e+300]"),
        (Sums, {"weight": math.inf}, "it.weight=inf: must be finite"),
        (Sums, {"loss_sum": None}, "it.loss_sum=None: must be a number"),
        (Sums, {"loss_sum": 10**301}, "it.loss_sum=1e+301: must be in [-1e+300, 1e+300]"),
        (Sums, {"grad_norm": []}, "it.grad_norm=(): must be a number or null"),
        (Progress, {"validation_due": 1}, "it.validation_due=1: must be true or false"),
        (Progress, {"best": "a\nb"}, "it.best=a b: must be a number or null"),
        (Progress, {"patience": 3}, "it.patience=3: unknown to this version"),
    ],
)
def test_a_value_that_does_not_fit_is_named(kind, changes, message):
    values = dataclasses.asdict(SUMS if kind is Sums else PROGRESS) | changes
    with pytest.raises(ValueError) as caught:
        kind.from_dict(values, "it")
    assert str(caught.value) == message


def test_a_field_that_is_missing_has_its_default():
    """As in a checkpoint of a version that did not have the field yet."""
    assert Progress.from_dict({"best": 0.5}, "it") == Progress(0.5)
    for values in (None, [], 3, "best"):
        with pytest.raises(ValueError, match=r"^it=.*: must be fields with their values$"):
            Progress.from_dict(values, "it")
