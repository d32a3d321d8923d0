"""A compacted memory answers and goes on counting as the whole one, to the last bit."""

import numpy as np
import pytest

from hiertcn_jax.memory.config import SIZES
from hiertcn_jax.memory.memory import Memory

ROWS = 40


def events(count, start, seed):
    """Events of items with several at one second; some of the unknown item."""
    rng = np.random.default_rng(seed)
    time_n = start + np.sort(rng.integers(0, 1 + count // 3, count)) * 700
    before_nm = rng.integers(0, ROWS, (count, SIZES.own_events)).astype(np.int32)
    item_n = np.minimum(rng.zipf(1.5, count), ROWS - 1).astype(np.int32)
    return item_n, time_n, before_nm, rng.integers(0, 3, count).astype(np.int32)


def asked(memory, time, seed=9):
    rng = np.random.default_rng(seed)
    time_n = time + np.array([0, 0, 1, 50, 10**6])
    own_nm = rng.integers(0, ROWS, (5, SIZES.own_events)).astype(np.int32)
    return memory.lists(time_n, own_nm, np.array([0, 1, 2, 3, 64], np.int32))


def assert_same(one, other):
    for found, expected in zip(one, other, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("count", [0, 1, 60, 64, 129, 700])
def test_later_lists_are_equal(count):
    memory = Memory(ROWS)
    memory.observe(*events(count, 1000, 0))
    small = memory.compacted()
    copied = Memory.from_arrays(small.arrays())
    assert copied.arrays().keys() == memory.arrays().keys()
    now = max(memory.last_time, 0)
    for other in (small, copied, small.compacted()):
        assert_same(asked(other, now), asked(memory, now))
    for step in range(3):
        more = events(90, now, 1 + step)
        now = int(more[1][-1])
        for one in (memory, small, copied):
            one.observe(*more)
        for other in (small, copied, copied.compacted()):
            assert_same(asked(other, now), asked(memory, now))


def test_it_is_small_and_says_what_it_no_longer_knows():
    memory = Memory(ROWS)
    memory.observe(*events(9_000, 1000, 0))
    small = memory.compacted()
    held = sum(array.nbytes for array in small.arrays().values())
    assert 10 * held < sum(array.nbytes for array in memory.arrays().values())
    with pytest.raises(ValueError, match=f"time {memory.last_time - 1}: .* is known from"):
        asked(small, memory.last_time - 1)


def test_bad_arrays():
    arrays = Memory(ROWS).arrays()
    with pytest.raises(ValueError, match="log/item_n is missing or of another type"):
        Memory.from_arrays({**arrays, "log/item_n": np.zeros(3)})
