import itertools

import numpy as np
import pytest

from data_pipelines.lanes.permutation import permutation_keys, permute


def whole(size, seed=0, epoch=0):
    keys = np.tile(permutation_keys(seed, epoch), (size, 1))
    return permute(np.arange(size), size, keys)


# Squares and their neighbours are where the digits change; 65,537 is where grain's goes wrong.
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9, 10, 255, 256, 257, 65_536, 65_537])
def test_every_place_goes_to_another(size):
    np.testing.assert_array_equal(np.sort(whole(size)), np.arange(size))


def test_places_of_several_epochs_can_be_looked_up_at_once():
    keys = np.stack([permutation_keys(0, epoch) for epoch in (4, 9)])
    for place in range(7):
        moved = permute(np.asarray([place, place]), 7, keys)
        assert moved.tolist() == [whole(7, epoch=4)[place], whole(7, epoch=9)[place]]


def test_a_place_goes_everywhere_equally_often():
    goes_to = np.stack([whole(5, epoch=epoch) for epoch in range(2_000)])
    for place_e in goes_to.T:
        # Five standard deviations of a count of mean 400: 5 * sqrt(2000 * 0.2 * 0.8) = 89.
        np.testing.assert_allclose(np.bincount(place_e, minlength=5), 400, atol=89)


def test_all_orders_come_up():
    orders = {tuple(whole(4, epoch=epoch)) for epoch in range(400)}
    assert orders == set(itertools.permutations(range(4)))


def test_neighbours_are_torn_apart():
    apart = np.abs(np.diff(whole(10_000)))
    # Two random indices are 3,333 apart on average, with a standard error of 2,357 / 100.
    assert abs(apart.mean() - 3_333) < 120
