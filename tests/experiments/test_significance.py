"""The paired bootstrap: signs, certainty, and users as what is drawn."""

import numpy as np
import pytest

from experiments.significance import paired_bootstrap


def test_equal_models_differ_by_nothing():
    values = np.random.default_rng(0).random(50)
    assert paired_bootstrap(values, values, np.arange(50)) == (0.0, 0.0, 0.0)


def test_the_difference_is_that_of_the_means_and_changes_sign_with_the_order():
    rng = np.random.default_rng(1)
    first, second, users = rng.random(60), rng.random(60), rng.integers(0, 9, 60)
    one, other = paired_bootstrap(first, second, users), paired_bootstrap(second, first, users)
    assert one.difference == pytest.approx(first.mean() - second.mean())
    assert one.low < one.difference < one.high
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


def test_the_width_is_that_of_the_standard_error_over_users():
    """Each user has one event, so the mean's standard error is known: 1.96 of them each way."""
    rng = np.random.default_rng(2)
    difference = rng.normal(size=2000)
    interval = paired_bootstrap(difference, np.zeros(2000), np.arange(2000), samples=4000)
    expected = 2 * 1.96 * difference.std() / np.sqrt(2000)
    assert interval.high - interval.low == pytest.approx(expected, rel=0.1)


def test_events_of_one_user_are_no_independent_evidence():
    """100 copies of every user's event are as uncertain as one."""
    difference = np.random.default_rng(3).normal(size=40)
    one = paired_bootstrap(difference, np.zeros(40), np.arange(40))
    many = paired_bootstrap(
        np.repeat(difference, 100), np.zeros(4000), np.repeat(np.arange(40), 100)
    )
    assert many == pytest.approx(one)


def test_events_are_needed_and_have_to_match():
    with pytest.raises(ValueError, match="must be equal and > 0"):
        paired_bootstrap(np.zeros(0), np.zeros(0), np.zeros(0))
    with pytest.raises(ValueError, match="3, 2 and 3"):
        paired_bootstrap(np.zeros(3), np.zeros(2), np.zeros(3))
