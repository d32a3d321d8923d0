"""Counts from a file: indices that compiled loops would follow out of bounds are refused."""

import numpy as np
import pytest

from hiertcn_jax.memory.memory import Memory
from tests.memory.test_compaction import ROWS, asked, assert_same, events


@pytest.fixture(scope="module")
def arrays():
    memory = Memory(ROWS)
    memory.observe(*events(200, 1000, 0))
    return memory.arrays()


INDICES = [
    "log/item_n", "log/item_before_n", "log/last_v", "log/top_qm", "log/listed_cj", "log/rank_cv",
    "followers/used", "followers/owner_r", "followers/before_r", "followers/item_rj",
    "followers/newest_v", "followers/open_v",
]  # fmt: skip


@pytest.mark.parametrize("name", INDICES)
@pytest.mark.parametrize("value", [-2, 20_000])
def test_an_index_out_of_range_is_refused(arrays, name, value):
    array = arrays[name].copy()
    array.flat[array.size // 2] = value
    with pytest.raises(ValueError, match=f"memory: {name} must be "):
        Memory.from_arrays({**arrays, name: array})


@pytest.mark.parametrize("name", ["log/item_before_n", "followers/before_r"])
def test_a_chain_without_end_is_refused(arrays, name):
    array = arrays[name].copy()
    array[3] = 3
    with pytest.raises(ValueError, match=f"memory: {name} must be earlier than the event itself"):
        Memory.from_arrays({**arrays, name: array})


def test_time_that_goes_back_is_refused(arrays):
    times = arrays["log/time_n"].copy()
    times[5] = times[-1] + 1
    with pytest.raises(ValueError, match="memory: log/time_n goes back in time"):
        Memory.from_arrays({**arrays, "log/time_n": times})


def test_arrays_of_another_length_or_type_are_refused(arrays):
    for name, array in arrays.items():
        if name == "known_from":
            wrong = [array.astype(np.float64), np.zeros(2, np.int64)]
        else:
            wrong = [array.astype(np.float16), np.concatenate([array, array]), array[None]]
        for one in wrong:
            with pytest.raises(ValueError, match=r"^memory: "):
                Memory.from_arrays({**arrays, name: one})
        if name != "known_from":
            rest = {other: value for other, value in arrays.items() if other != name}
            with pytest.raises(ValueError, match="is missing or of another type"):
                Memory.from_arrays(rest)


def test_what_was_written_is_read(arrays):
    memory = Memory.from_arrays(arrays)
    again = Memory.from_arrays(memory.compacted().arrays())
    assert_same(asked(memory, memory.last_time), asked(again, memory.last_time))
