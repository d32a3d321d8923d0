"""Metrics against a plain loop over users and events; merging; the hash of the events."""

import hashlib
import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hiertcn_jax.batch import FIRST_ITEM_ID, PADDING_ID
from hiertcn_jax.devices import processes
from hiertcn_jax.scoring import metric_sums
from hiertcn_jax.scoring.metrics import METRICS, MeanMetric, RankedEvents

CATALOGUE = 50


LISTED = 3
COUNTS = np.random.default_rng(0).integers(0, 9, CATALOGUE + FIRST_ITEM_ID)
MEANS = [name for name, metric in METRICS.items() if isinstance(metric, MeanMetric)]


NAMED = (*(f"recall@{k}" for k in (1, 5, 10, 20)), "mrr", "ndcg@10", "mrp", "coverage@20",
         "log_popularity@20")  # fmt: skip


def list_of(rank):
    """The top items of an event; fewer than there is room for, where its rank is high."""
    rank = rank if math.isfinite(rank) else 1
    items = [FIRST_ITEM_ID + int(rank * step) % CATALOGUE for step in (1, 7, 11)]
    return (items[: 1 + int(rank) % LISTED] + LISTED * [PADDING_ID])[:LISTED]


def events_of(seed, count, users=6):
    """rank, user id, session, position; ranks with halves, triples that differ."""
    rng = np.random.default_rng(seed)
    triples = sorted({tuple(t) for t in rng.integers(0, [users, 3, 5], (count, 3)).tolist()})
    triples = [triples[i] for i in rng.permutation(len(triples))]
    ranks = rng.integers(2, 2 * CATALOGUE + 1, len(triples)) / 2
    return [(rank, f"user {user}", *at) for rank, (user, *at) in zip(ranks, triples, strict=True)]


def sums_of(events):
    sums = empty()
    add(sums, events)
    return sums


def empty():
    return metric_sums.MetricSums(CATALOGUE, COUNTS)


def add(sums, events):
    ranks, users, sessions, positions = zip(*events, strict=True) if events else ((),) * 4
    sums.add(
        np.array(ranks, float),
        metric_sums.user_keys(users),
        np.array(sessions, int),
        np.array(positions, int),
        listed_nk=np.array([list_of(rank) for rank in ranks], int).reshape(-1, LISTED),
    )


def plain_metrics(ranks):
    """The metrics of one list of ranks."""
    if not ranks:
        return dict.fromkeys(METRICS)
    mean = lambda values: math.fsum(values) / len(ranks)  # noqa: E731
    # Others by their own values at single events, which test_metrics.py checks.
    lists = np.array([list_of(rank) for rank in ranks])
    sizes = np.full(len(ranks), CATALOGUE)
    all_events = RankedEvents(np.array(ranks), sizes, lists, COUNTS)
    return {
        **{name: mean(METRICS[name].of_events(all_events)) for name in MEANS},
        **{f"recall@{k}": mean([r <= k for r in ranks]) for k in (1, 5, 10, 20)},
        "mrr": mean([1 / r for r in ranks]),
        "ndcg@10": mean([1 / math.log2(1 + r) for r in ranks if r <= 10]),
        "mrp": mean([r / CATALOGUE for r in ranks]),
        "coverage@20": len({i for r in ranks for i in list_of(r)} - {PADDING_ID}) / CATALOGUE,
        "log_popularity@20": mean([popularity_of(list_of(r)) for r in ranks]),
    }


def popularity_of(items):
    known = [math.log(1 + COUNTS[item]) for item in items if item != PADDING_ID]
    return math.fsum(known) / len(known)


def plain_result(events):
    result = {"events": len(events), "per_user": {}}
    for group, belongs in {
        "all": lambda position: True,
        "first": lambda position: position == 0,
        "next": lambda position: position > 0,
    }.items():
        by_user = {}
        for rank, user, _, position in events:
            if belongs(position):
                by_user.setdefault(user, []).append(rank)
        ranks = [rank for of_user in by_user.values() for rank in of_user]
        result[group] = {"events": len(ranks), **plain_metrics(ranks)}
        each = [plain_metrics(of_user) for of_user in by_user.values()]
        result["per_user"][group] = {
            "events": len(ranks),
            "users": len(by_user),
            **{
                name: math.fsum(m[name] for m in each) / len(each) if each else None
                for name in MEANS
            },
        }
    return result


def assert_equal_results(found, expected):
    """Same keys, counts and None exactly, other numbers to rounding."""
    assert set(found) - {"events_hash"} == set(expected) - {"events_hash"}
    for name, value in expected.items():
        if isinstance(value, dict):
            assert_equal_results(found[name], value)
        elif isinstance(value, float):
            assert found[name] == pytest.approx(value, rel=1e-12), name
        elif name != "events_hash":
            assert found[name] == value, name


@pytest.mark.parametrize("seed", range(10))
def test_result_equals_a_loop_over_users(seed):
    events = events_of(seed, count=[1, 3, 60][seed % 3])
    assert_equal_results(sums_of(events).result(), plain_result(events))


def test_golden_values():
    # User a: ranks 1 and 4 in a session; user b: rank 20.5, the first of a session.
    events = [(1.0, "a", 0, 0), (4.0, "a", 0, 1), (20.5, "b", 2, 0)]
    result = sums_of(events).result()
    assert {name: result["all"][name] for name in ("events", *NAMED)} == {
        "events": 3,
        "recall@1": pytest.approx(1 / 3),
        "recall@5": pytest.approx(2 / 3),
        "recall@10": pytest.approx(2 / 3),
        "recall@20": pytest.approx(2 / 3),  # 20.5 is no hit at 20
        "mrr": pytest.approx((1 + 1 / 4 + 1 / 20.5) / 3),
        "ndcg@10": pytest.approx((1 + 1 / math.log2(5)) / 3),
        "mrp": pytest.approx(25.5 / 3 / CATALOGUE),
        "coverage@20": pytest.approx(len({*list_of(1), *list_of(4), *list_of(20.5)} - {0}) / 50),
        "log_popularity@20": pytest.approx(
            sum(popularity_of(list_of(rank)) for rank in (1, 4, 20.5)) / 3
        ),
    }
    assert result["first"]["events"] == 2
    assert result["first"]["mrr"] == pytest.approx((1 + 1 / 20.5) / 2)
    assert result["next"]["mrr"] == 0.25
    # a has a mean of (1 + 1/4) / 2, b of 1/20.5.
    assert result["per_user"]["all"]["mrr"] == pytest.approx((0.625 + 1 / 20.5) / 2)
    assert result["per_user"]["next"]["users"] == 1


@pytest.mark.parametrize("rank", [1, 5, 10, 20])
def test_a_hit_is_a_rank_up_to_k(rank):
    at, after = sums_of([(rank, "a", 0, 0)]), sums_of([(rank + 0.5, "a", 0, 0)])
    assert at.result()["all"][f"recall@{rank}"] == 1
    assert after.result()["all"][f"recall@{rank}"] == 0
    assert (after.result()["all"]["ndcg@10"] > 0) == (rank < 10)


def test_no_events_give_none_and_strict_json():
    result = empty().result()
    assert_equal_results(result, plain_result([]))
    assert result["events_hash"] == "0" * 16
    assert result["next"] == {"events": 0, **dict.fromkeys(METRICS)}
    json.dumps(result, allow_nan=False)
    one = sums_of([(2.0, "a", 0, 0)]).result()
    assert one["per_user"]["next"] == {"events": 0, "users": 0, **dict.fromkeys(MEANS)}
    json.dumps(one, allow_nan=False)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 1000),
    cuts=st.lists(st.integers(0, 40), max_size=5),
    merges=st.lists(st.booleans(), min_size=6, max_size=6),
    pending=st.sampled_from([0, 3, 1_000]),
)
def test_split_and_order_change_nothing(seed, cuts, merges, pending):
    events = events_of(seed, count=40)
    whole = sums_of(events)
    bounds = sorted({0, len(events), *(cut for cut in cuts if cut < len(events))})
    parts = [events[a:b] for a, b in itertools.pairwise(bounds)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metric_sums, "_MAX_PENDING", pending)
        pieced = empty()
        for part, is_merged in zip(reversed(parts), merges, strict=False):
            if is_merged:
                pieced.merge(sums_of(part[::-1]))
            else:
                add(pieced, part)
        for part in list(reversed(parts))[len(merges) :]:
            add(pieced, part)
    assert pieced.events_hash == whole.events_hash
    assert_equal_results(pieced.result(), whole.result())


def test_sums_of_all_processes_are_those_of_all_events():
    """Each process has its own events; a user's may be with several."""
    events = events_of(5, 40)
    parts = [sums_of(events[:15]), sums_of(events[15:]), empty()]
    calls = iter([])

    def gather(own):
        """The next array of each process, one after the other."""
        assert own is not None
        return np.concatenate(next(calls))

    sent = []
    for part in parts:
        arrays = []
        part.gathered(lambda own, arrays=arrays: (arrays.append(own), own)[1])
        sent.append(arrays)
    calls = zip(*sent, strict=True)
    found = parts[0].gathered(gather)
    assert found.events_hash == sums_of(events).events_hash
    assert_equal_results(found.result(), plain_result(events))
    assert_equal_results(parts[0].result(), plain_result(events[:15]))


@pytest.mark.parametrize("listed", [True, False])
def test_sums_pass_between_processes_with_and_without_lists(monkeypatch, listed):
    """As bytes: rows without any content could not be counted there."""
    monkeypatch.setattr(processes.jax, "process_count", lambda: 2)
    monkeypatch.setattr(processes, "_gather_bytes", lambda own: [own, own])
    sums = empty() if listed else metric_sums.MetricSums(CATALOGUE)
    lists = np.array([list_of(3.0)]) if listed else None
    one, keys = np.array([3.0]), metric_sums.user_keys(["a"])
    sums.add(one, keys, np.array([0]), np.array([1]), listed_nk=lists)
    found, alone = sums.gathered(processes.gather_rows).result(), sums.result()
    assert found["all"] == {**alone["all"], "events": 2}
    assert found["per_user"]["all"] == {**alone["per_user"]["all"], "events": 2}


def test_merging_leaves_the_other_as_it_was():
    one, other = sums_of(events_of(0, 20)), sums_of(events_of(1, 20))
    before = other.result()
    one.merge(other)
    assert other.result() == before
    add(one, [(1.0, "new", 0, 0)])
    assert other.result() == before


def test_asking_for_the_result_does_not_end_the_adding():
    events = events_of(2, 30)
    sums = sums_of(events[:10])
    sums.result()
    add(sums, events[10:])
    assert_equal_results(sums.result(), plain_result(events))


def plain_hash(events):
    """Sum mod 2^64, in Python integers, of mix(mix(mix(key) ^ session) ^ position)."""

    def mix(x):
        x = (x + 0x9E3779B97F4A7C15) % 2**64
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        return x ^ (x >> 31)

    total = 0
    for _, user, session, position in events:
        digest = hashlib.blake2b(user.encode(), digest_size=8).digest()
        key = int.from_bytes(digest, "little")
        total += mix(mix(mix(key) ^ session) ^ position)
    return f"{total % 2**64:016x}"


def test_hash_equals_plain_integers_and_knows_every_event():
    events = [(1.0, "Zoë", 0, 0), (2.0, "Zoë", 0, 1), (3.0, "Zoë", 1, 0), (4.0, "b", 0, 0)]
    found = sums_of(events).events_hash
    assert found == plain_hash(events)
    others = [
        events[:3],
        [*events, events[0]],
        [*events[:3], (4.0, "c", 0, 0)],
        [*events[:3], (4.0, "b", 1, 0)],
        [*events[:3], (4.0, "b", 0, 1)],
    ]
    hashes = {found, *(sums_of(other).events_hash for other in others)}
    assert len(hashes) == 1 + len(others)


def test_hash_does_not_see_the_ranks():
    events = events_of(4, 20)
    worse = [(CATALOGUE, *rest) for _, *rest in events]
    assert sums_of(events).events_hash == sums_of(worse).events_hash


@pytest.mark.parametrize("rank", [np.nan, np.inf, 0.5, 0.0, -1.0, CATALOGUE + 0.5])
def test_ranks_out_of_range_are_refused_and_nothing_is_added(rank):
    sums = sums_of([(1.0, "a", 0, 0)])
    before = sums.result()
    with pytest.raises(ValueError, match=r"of event 1: must be from 1 to 50"):
        add(sums, [(1.0, "a", 0, 1), (rank, "a", 0, 2)])
    assert sums.result() == before


def test_ranks_within_lists_of_their_own():
    """Of which there are no top items, and no metrics of these."""
    sums, keys = metric_sums.MetricSums(CATALOGUE), metric_sums.user_keys(["a", "b", "b"])
    sums.add(np.array([1, 2.5, 3]), keys, np.zeros(3, int), np.arange(3), np.array([4, 5, 3]))
    whole, halves = sums.result(), sums_of([(1.0, "a", 0, 0)])
    assert whole["all"].keys() == {
        "events",
        *(name for name, metric in METRICS.items() if not metric.needs_lists),
    }
    # Of each list its share: 1/4, 2.5/5 and 3/3; all else is as in a catalogue.
    assert whole["all"]["mrp"] == pytest.approx((1 / 4 + 2.5 / 5 + 3 / 3) / 3)
    assert whole["per_user"]["all"]["mrp"] == pytest.approx((1 / 4 + (2.5 / 5 + 3 / 3) / 2) / 2)
    add(halves, [(2.5, "b", 0, 1), (3.0, "b", 0, 2)])
    assert whole["events_hash"] == halves.events_hash
    assert whole["all"]["mrr"] == pytest.approx(halves.result()["all"]["mrr"])
    with pytest.raises(ValueError, match=r"rank 3\.5 of event 1: must be from 1 to 3"):
        sums.add(np.array([1, 3.5]), keys[:2], np.zeros(2, int), np.zeros(2, int), np.array([1, 3]))
    with pytest.raises(ValueError, match="must be from 1 to 50"):
        sums.add(np.array([51]), keys[:1], np.zeros(1, int), np.zeros(1, int), np.array([60]))


def test_what_does_not_fit_is_refused():
    sums = metric_sums.MetricSums(CATALOGUE)
    one, keys = np.ones(1), metric_sums.user_keys(["a"])
    with pytest.raises(ValueError, match=r"different lengths \[1, 1, 1, 2\]"):
        sums.add(one, keys, np.zeros(1, int), np.zeros(2, int))
    with pytest.raises(ValueError, match="expected uint64, got int64"):
        sums.add(one, np.zeros(1, np.int64), np.zeros(1, int), np.zeros(1, int))
    with pytest.raises(ValueError, match="below 0"):
        sums.add(one, keys, np.array([-1]), np.zeros(1, int))
    with pytest.raises(ValueError, match="catalogue=51"):
        sums.merge(metric_sums.MetricSums(CATALOGUE + 1))
    with pytest.raises(ValueError, match="lists: of the events of one alone"):
        sums.merge(empty())
    for expects in (sums, empty()):
        lists = np.ones((1, LISTED), int) if expects is sums else None
        with pytest.raises(ValueError, match="lists for 1 ranks"):
            expects.add(one, keys, np.zeros(1, int), np.zeros(1, int), listed_nk=lists)
    with pytest.raises(ValueError, match="catalogue=0"):
        metric_sums.MetricSums(0)
