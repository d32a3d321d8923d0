"""Memory's counts at any time equal plain loops, built at once or one by one, never too early."""

import numpy as np
import pytest

from hiertcn_jax.memory.config import SIZES, MemorySizes
from hiertcn_jax.memory.lists import AGE, FEATURES, LAST, OWN
from hiertcn_jax.memory.memory import Memory
from tests.memory.plain_counts import followers, world

ROWS = 9


def random_log(seed, events=300, rows=ROWS, span=20_000):
    """Events of few items and users, some at the same instant.

    Each is (item, time, number of the user's event before it or -1, position in its session).
    """
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, span, events))
    last_of, log = {}, []
    for number, time in enumerate(times.tolist()):
        user = int(rng.integers(0, 6))
        before = last_of.get(user, -1)
        position = log[before][3] + 1 if before >= 0 and rng.random() < 0.8 else 0
        last_of[user] = number
        log.append((int(rng.integers(1, rows)), time, before, position))
    return log


def columns(log):
    before_nm = np.zeros((len(log), SIZES.distance), np.int32)
    for n, (_, _, before, _) in enumerate(log):
        for m in range(SIZES.distance):
            if before >= 0:
                before_nm[n, m], _, before, _ = log[before]
    item_n, time_n, _, position_n = map(np.asarray, zip(*log, strict=True))
    types = np.int32, np.int64, np.int32, np.int32
    arrays = item_n, time_n, before_nm, position_n
    return tuple(array.astype(kind) for array, kind in zip(arrays, types, strict=True))


def built(log, rows=ROWS, **sizes):
    memory = Memory(rows, sizes=MemorySizes(**sizes))
    memory.observe(*columns(log))
    memory.seal()
    return memory


def questions(seed, n=40, span=22_000, rows=ROWS):
    rng = np.random.default_rng(seed)
    own_nm = rng.integers(1, rows, (n, SIZES.own_events)).astype(np.int32)
    lengths_n = rng.integers(0, 12, n)
    own_nm[np.arange(SIZES.own_events) >= lengths_n[:, None]] = 0
    position_n = (rng.random(n) * (lengths_n + 1)).astype(np.int32)
    return np.sort(rng.integers(0, span, n)), own_nm, position_n


def listed(lists, n):
    """The features of event n by item."""
    ids_k = lists.item_ids_nk[n]
    return {int(item): lists.features_nkf[n, k] for k, item in enumerate(ids_k) if item}


@pytest.mark.parametrize("snapshot_events", [7, 64, 1000])
def test_the_world_is_counted_as_by_plain_loops(snapshot_events):
    log = random_log(0)
    lists = built(log, snapshot_events=snapshot_events).lists(*questions(1))
    for n, time in enumerate(questions(1)[0].tolist()):
        found = listed(lists, n)
        # Room for the whole catalogue, so every picked item is on the list.
        assert {item for item, at, _, _ in log if at < time and item >= 2} <= found.keys()
        for item, features_f in found.items():
            np.testing.assert_allclose(features_f[:AGE], world(log, item, time), rtol=1e-5)
            ages = [time - at for other, at, _, _ in log if other == item and at < time]
            assert features_f[AGE] == pytest.approx(max(ages, default=0) / 3600)


@pytest.mark.parametrize(("distance", "events"), [(2, 40), (SIZES.distance, 24)])
def test_followers_are_counted_as_by_plain_loops(distance, events):
    # Few events of many items: every change is written, so no count lags.
    rows = 60
    log = random_log(2, events=events, rows=rows)
    time_n, own_nm, position_n = questions(3, rows=rows)
    lists = built(log, rows, distance=distance).lists(time_n, own_nm, position_n)
    for n, time in enumerate(time_n.tolist()):
        found = listed(lists, n)
        expected = {item: np.zeros(10) for item in found}
        for m, source in enumerate(own_nm[n][: SIZES.sources].tolist()):
            counts = followers(log, source, time, distance) if source >= 2 else {}
            total_z = np.sum(list(counts.values()), axis=0)
            for item, count_z in counts.items():
                share_z = 100 * np.asarray(count_z) / total_z
                expected[item][5:9] += 0.7**m * share_z
                expected[item][9] += 0.7**m * count_z[-1]
                if m == 0:
                    expected[item][:5] = [*share_z, count_z[-1]]
        for item, features_f in found.items():
            np.testing.assert_allclose(features_f[LAST:OWN], expected[item], rtol=1e-4, atol=1e-6)


def test_own_picks_are_counted_by_place():
    own_nm = np.zeros((1, SIZES.own_events), np.int32)
    own_nm[0, :5] = [4, 1, 5, 4, 6]
    lists = Memory(ROWS).lists(np.asarray([10]), own_nm, np.asarray([3], np.int32))
    found = listed(lists, 0)
    assert list(found) == [4, 5, 6]
    own = {item: features_f[OWN:].tolist() for item, features_f in found.items()}
    assert own[4] == pytest.approx([1 + 0.97**3, 1, 1, 1])
    assert own[5] == pytest.approx([0.97**2, 1 / 1.4, 1, 1])
    assert own[6] == pytest.approx([0.97**4, 1 / 1.8, 1, 0])
    assert not lists.features_nkf[..., :OWN].any()


def test_events_of_the_same_instant_are_not_counted():
    log = [(2, 100, -1, 0), (3, 100, 0, 1), (4, 200, 1, 2)]
    own_nm = np.zeros((2, SIZES.own_events), np.int32)
    lists = built(log).lists(np.asarray([100, 101]), own_nm, np.zeros(2, np.int32))
    assert listed(lists, 0) == {}
    assert listed(lists, 1).keys() == {2, 3}


@pytest.mark.parametrize("seed", range(3))
def test_later_events_change_no_bit(seed):
    log = random_log(seed)
    time_n, own_nm, position_n = questions(seed)
    whole = built(log).lists(time_n, own_nm, position_n)
    for n in range(0, len(time_n), 5):
        past = [event for event in log if event[1] < time_n[n]]
        part = built(past) if past else Memory(ROWS)
        one = part.lists(time_n[n : n + 1], own_nm[n : n + 1], position_n[n : n + 1])
        np.testing.assert_array_equal(one.item_ids_nk[0], whole.item_ids_nk[n])
        np.testing.assert_array_equal(one.features_nkf[0], whole.features_nkf[n])


@pytest.mark.parametrize("part", [1, 17])
def test_event_by_event_gives_the_bits_of_all_at_once(part):
    """A service knows what training and evaluation knew, bit for bit."""
    log = random_log(5)
    time_n, own_nm, position_n = questions(5, n=60, span=20_000)
    whole = built(log).lists(time_n, own_nm, position_n)
    live = Memory(ROWS, events=8)
    log_columns = columns(log)
    at_n = log_columns[1]
    seen = 0
    for n in range(len(time_n)):
        # All earlier events, and at times a few later ones, which are ignored.
        until = int(np.searchsorted(at_n, time_n[n])) + (n % 3)
        while seen < min(until, len(log)):
            end = min(seen + part, until, len(log))
            live.observe(*(column[seen:end] for column in log_columns))
            seen = end
        one = live.lists(time_n[n : n + 1], own_nm[n : n + 1], position_n[n : n + 1])
        np.testing.assert_array_equal(one.item_ids_nk[0], whole.item_ids_nk[n])
        np.testing.assert_array_equal(one.features_nkf[0], whole.features_nkf[n])


def test_lists_keep_their_limit():
    rows = 60
    log = random_log(7, rows=rows)
    sizes = {"candidates": 10, "own_items": 3, "follower_items": 4}
    time_n, own_nm, position_n = questions(7, rows=rows)
    lists = built(log, rows, **sizes).lists(time_n, own_nm, position_n)
    assert lists.item_ids_nk.shape == (40, 10)
    for n in range(len(time_n)):
        items = lists.item_ids_nk[n][lists.item_ids_nk[n] > 0].tolist()
        assert len(set(items)) == len(items)
        seen = lists.features_nkf[n, :, OWN + 2]
        assert seen.sum() == min(3, len({int(i) for i in own_nm[n] if i >= 2}))
    assert lists.features_nkf.shape[-1] == len(FEATURES)
    assert (lists.features_nkf >= 0).all()
    assert np.isfinite(lists.features_nkf).all()


def test_queries_change_nothing():
    memory = built(random_log(8))
    first = memory.lists(*questions(8))
    memory.lists(*questions(9))
    np.testing.assert_array_equal(memory.lists(*questions(8)).features_nkf, first.features_nkf)


def test_a_weak_neighbour_is_replaced():
    """If there are more neighbours than room, the strong ones stay."""
    rows, kept = 40, SIZES.followers
    log, number = [], 0
    for other in [3] * 5 + list(range(4, 4 + 2 * kept)) + [3] * 5:
        log += [(2, 10 * number, -1, 0), (other, 10 * number + 1, number, 1)]
        number += 2
    own_nm = np.zeros((1, SIZES.own_events), np.int32)
    own_nm[0, 0] = 2
    lists = built(log, rows).lists(np.asarray([10**5]), own_nm, np.zeros(1, np.int32))
    shares = {item: features_f[LAST] for item, features_f in listed(lists, 0).items()}
    following = {item: share for item, share in shares.items() if share > 0}
    assert len(following) == kept
    assert max(following, key=following.get) == 3


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ([(2, 5, -1, 0), (3, 4, -1, 0)], "time_n: goes back to before 5"),
        ([(2, 5, -1, 0), (ROWS, 6, -1, 0)], f"item_ids_n: must be from 0 to {ROWS - 1}"),
    ],
)
def test_events_that_cannot_be_counted(events, message):
    with pytest.raises(ValueError, match=message):
        Memory(ROWS).observe(*columns(events))


def test_an_item_that_is_no_row_is_refused_wherever_it_stands():
    """The compiled loops do not check their indices: such an id read what lies after the table."""
    memory = Memory(ROWS)
    items_n, time_n, before_nm, position_n = columns([(2, 5, -1, 0)])
    with pytest.raises(ValueError, match=f"before_nm: must be from 0 to {ROWS - 1}"):
        memory.observe(items_n, time_n, np.full_like(before_nm, ROWS), position_n)
    memory.observe(items_n, time_n, before_nm, position_n)
    memory.seal()
    own_nm = np.full((1, SIZES.own_events), -1, np.int32)
    with pytest.raises(ValueError, match=f"own_nm: must be from 0 to {ROWS - 1}"):
        memory.lists(time_n + 1, own_nm, position_n)


def test_time_does_not_go_back_between_observations():
    memory = Memory(ROWS)
    memory.observe(*columns([(2, 5, -1, 0)]))
    with pytest.raises(ValueError, match="goes back to before 5"):
        memory.observe(*columns([(2, 4, -1, 0)]))
