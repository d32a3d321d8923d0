"""The paired bootstrap: signs, certainty, users as the resampled unit, columns share the draws."""

import numpy as np
import pytest

from experiments.comparison.significance import paired_bootstrap


def one_pair(difference_n, user_n, **options):
    (interval,) = paired_bootstrap(difference_n[:, None], user_n, **options)
    return interval


def test_equal_models_differ_by_nothing():
    assert one_pair(np.zeros(50), np.arange(50)) == (0.0, 0.0, 0.0)


def test_the_difference_is_that_of_the_means_and_changes_sign_with_the_order():
    rng = np.random.default_rng(1)
    first, second, users = rng.random(60), rng.random(60), 7 * rng.integers(0, 9, 60)
    one, other = one_pair(first - second, users), one_pair(second - first, users)
    assert one.difference == pytest.approx(first.mean() - second.mean())
    assert one.low < one.difference < one.high
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


def test_the_width_is_that_of_the_standard_error_over_users():
    """Each user has one event, so the mean's standard error is known: 1.96 of them each way."""
    rng = np.random.default_rng(2)
    difference = rng.normal(size=2000)
    interval = one_pair(difference, np.arange(2000), samples=4000)
    expected = 2 * 1.96 * difference.std() / np.sqrt(2000)
    assert interval.high - interval.low == pytest.approx(expected, rel=0.1)


def test_events_of_one_user_are_no_independent_evidence():
    """100 copies of every user's event are as uncertain as one."""
    difference = np.random.default_rng(3).normal(size=40)
    one = one_pair(difference, np.arange(40))
    many = one_pair(np.repeat(difference, 100), np.repeat(np.arange(40), 100))
    assert many == pytest.approx(one)


def test_an_interval_does_not_depend_on_other_columns():
    rng = np.random.default_rng(4)
    difference_nm, users = rng.normal(size=(80, 3)), rng.integers(0, 20, 80)
    together = paired_bootstrap(difference_nm, users, samples=250)
    assert len(together) == 3
    for interval, column in zip(together, difference_nm.T, strict=True):
        assert interval == pytest.approx(one_pair(column, users, samples=250))


def test_events_are_needed_and_have_to_match():
    with pytest.raises(ValueError, match="0 and 0; must be equal and > 0"):
        paired_bootstrap(np.zeros((0, 1)), np.zeros(0))
    with pytest.raises(ValueError, match="3 and 2"):
        paired_bootstrap(np.zeros((3, 1)), np.zeros(2))


def test_an_equal_difference_at_all_events_is_certain_however_many_a_user_has():
    user_n = np.repeat(np.arange(6), [1, 40, 2, 9, 300, 1])
    difference_nm = np.stack([np.full(len(user_n), 0.25), np.full(len(user_n), -0.5)], axis=1)
    for interval, value in zip(paired_bootstrap(difference_nm, user_n), (0.25, -0.5), strict=True):
        np.testing.assert_allclose(interval, value, rtol=1e-12)
