"""Evaluation: every event once whatever the bucket; ranks equal plain NumPy; the right counts."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_pipelines.histories.record import Split
from experiments.judging.collector import flat_metrics
from experiments.judging.config import EvalConfig
from experiments.judging.evaluation import Evaluator
from hiertcn_jax.batch import FIRST_ITEM_ID, Bucket, padding_batch
from hiertcn_jax.models import build
from hiertcn_jax.models.hiertcn import HierTCNConfig
from hiertcn_jax.scoring.item_table import ItemTable
from hiertcn_jax.scoring.metrics import METRICS
from tests.models.plain_hiertcn import predictions

MODEL = HierTCNConfig(
    item_dim=4, gru_dim=3, tcn_channels=(3,), kernel_size=2, gap_decay="fixed", gap_decay_hours=50.0
)
WIDE = EvalConfig(lanes=16, events=128, sessions=32, rank_events=256)


@pytest.fixture(scope="module")
def params(data):
    """Parameters that are all moved away from their initial zeros."""
    model = build(MODEL)
    rng = np.random.default_rng(0)
    probe = padding_batch(Bucket(1, 1, 1)).with_embeddings(np.zeros((1, 4), np.float32))
    shapes = jax.eval_shape(model.init, jax.random.key(0), probe, model.init_carry(1))["params"]

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    rows = data.vocabulary.size
    return {
        "model": jax.tree.map(lambda x: draw(*x.shape), shapes),
        "items": ItemTable(draw(rows, 4), None, draw(rows)),
    }


@pytest.fixture(scope="module")
def evaluate(data, params):
    """A function (config, split) -> Evaluation that caches its results."""

    @functools.cache
    def of(config=WIDE, split=Split.TEST):
        return Evaluator(build(MODEL), MODEL, config, data, split)(params)

    return of


def by_event(evaluation):
    """Rank of each (user, session, position)."""
    events = evaluation.events
    keys = np.stack([events.user_n, events.session_n, events.position_n], axis=1).tolist()
    return dict(zip(map(tuple, keys), evaluation.rank_n.tolist(), strict=True))


def sessions_of(history):
    """(items, times) of each session."""
    ends = np.cumsum(history.session_lengths)
    return [
        (history.item_ids[start:end], history.times[start:end])
        for start, end in zip(ends - history.session_lengths, ends, strict=True)
    ]


def targets(data, split):
    """(user, session, position) of every known event of the split."""
    return {
        (user, number, position)
        for user, history in enumerate(data.histories.__getitems__(range(len(data.histories))))
        for number, (items, _) in enumerate(sessions_of(history))
        if history.session_splits[number] == split
        for position, item in enumerate(items)
        if item >= FIRST_ITEM_ID
    }


@pytest.mark.parametrize("split", [Split.VALID, Split.TEST])
def test_every_known_event_is_scored_once_and_the_others_are_counted(data, evaluate, split):
    evaluation = evaluate(split=split)
    ranks = by_event(evaluation)
    assert len(ranks) == len(evaluation.rank_n)
    assert set(ranks) == targets(data, split)

    counts = data.manifest["counts"]["splits"][split.name.lower()]
    metrics = evaluation.metrics
    assert metrics["unknown_targets"] == counts["unknown_items"]["all"] > 0
    for group in ("all", "first", "next"):
        known = counts["events"][group] - counts["unknown_items"][group]
        assert metrics[group]["events"] == metrics["per_user"][group]["events"] == known > 0
    assert metrics["events"] == metrics["all"]["events"]
    assert metrics["data_hash"] == data.content_hash


@pytest.mark.parametrize(
    "config",
    [
        # Sessions have 6 events on average: rows of 4 cut them, and few sessions close rows.
        EvalConfig(lanes=64, events=4, sessions=2, rank_events=64, rank_chunk=100),
        EvalConfig(lanes=3, events=50, sessions=3, rank_events=7),
    ],
    ids=lambda config: f"{config.lanes}x{config.events}x{config.sessions}",
)
def test_lanes_bucket_and_chunks_change_nothing(evaluate, config):
    one, other = evaluate(), evaluate(config)
    for name in ("events", "events_hash", "unknown_targets"):
        assert other.metrics[name] == one.metrics[name]
    for group in ("all", "first", "next"):
        assert other.metrics[group] == pytest.approx(one.metrics[group], abs=1e-5)
        per_user = one.metrics["per_user"][group]
        assert other.metrics["per_user"][group] == pytest.approx(per_user, abs=1e-5)
    ranks = by_event(one)
    assert by_event(other) == pytest.approx(ranks, abs=1)


def test_splits_are_other_events(evaluate):
    hashes = {evaluate(split=split).metrics["events_hash"] for split in (Split.VALID, Split.TEST)}
    assert len(hashes) == 2


def test_an_evaluation_starts_afresh(data, params, evaluate):
    evaluator = Evaluator(build(MODEL), MODEL, WIDE, data, Split.TEST)
    for _ in range(2):
        again = evaluator(params)
        assert again.metrics == evaluate().metrics
        np.testing.assert_array_equal(again.rank_n, evaluate().rank_n)


def left_out(mask_seen, sessions, number, position):
    """Items that are seen before an event, by a plain loop."""
    if mask_seen == "none":
        return set()
    running = sessions[number][0][:position].tolist()
    if mask_seen == "session":
        return set(running)
    return {int(item) for items, _ in sessions[:number] for item in items} | set(running)


@pytest.mark.parametrize("mask_seen", ["none", "session", "user"])
def test_ranks_are_those_of_plain_numpy(data, params, evaluate, mask_seen):
    evaluation = evaluate(dataclasses.replace(WIDE, mask_seen=mask_seen))
    ranks = by_event(evaluation)
    table_vd = np.asarray(params["items"].input_vd, np.float64)
    bias_v = np.asarray(params["items"].bias_v, np.float64)
    masked, popularity, covered = 0, [], set()
    for user, history in enumerate(data.histories.__getitems__(range(len(data.histories)))):
        if history.session_splits[-1] != Split.TEST:
            continue
        sessions = sessions_of(history)
        times = [times for _, times in sessions]
        gaps = [0.0] + [
            max(after[0] - before[-1], 0) / 3600 for before, after in itertools.pairwise(times)
        ]
        u_nd = predictions(params["model"], MODEL, table_vd, [items for items, _ in sessions], gaps)
        first = len(u_nd) - len(sessions[-1][0])
        for position, item in enumerate(sessions[-1][0].tolist()):
            if item < FIRST_ITEM_ID:
                continue
            score_v = table_vd @ u_nd[first + position] + bias_v
            seen = left_out(mask_seen, sessions, len(sessions) - 1, position)
            others = [i for i in range(FIRST_ITEM_ID, len(score_v)) if i != item and i not in seen]
            masked += len(score_v) - FIRST_ITEM_ID - 1 - len(others)
            # float32 may order scores differently that are within 1e-4.
            least = 1 + np.sum(score_v[others] > score_v[item] + 1e-4)
            most = 1 + np.sum(score_v[others] > score_v[item] - 1e-4)
            assert least <= ranks[(user, len(sessions) - 1, position)] <= most
            assert most - least <= 2
            allowed = [i for i in range(FIRST_ITEM_ID, len(score_v)) if i not in seen]
            top = sorted(allowed, key=lambda i: -score_v[i])[:20]
            covered |= set(top)
            popularity.append(np.log(1 + data.vocabulary.counts_v[top]).mean())
    assert (masked > 0) == (mask_seen != "none")
    metrics, catalogue = evaluation.metrics["all"], len(score_v) - FIRST_ITEM_ID
    assert len(popularity) == metrics["events"]
    # Rounding may exchange two items at the end of a list.
    assert metrics["log_popularity@20"] == pytest.approx(np.mean(popularity), rel=1e-3)
    assert metrics["coverage@20"] == pytest.approx(len(covered) / catalogue, abs=2.5 / catalogue)


def test_nan_parameters_are_an_error(data, params):
    items = params["items"]
    broken = {**params, "items": items._replace(bias_v=items.bias_v.at[5].set(jnp.nan))}
    evaluator = Evaluator(build(MODEL), MODEL, WIDE, data, Split.TEST)
    with pytest.raises(ValueError, match="NaN"):
        evaluator(broken)


def test_flat_metrics_name_group_and_metric(evaluate):
    metrics = evaluate().metrics
    flat = flat_metrics(metrics)
    assert flat["next/recall@20"] == metrics["next"]["recall@20"]
    assert len(flat) == 3 * len(METRICS)
    assert flat["first/coverage@20"] == metrics["first"]["coverage@20"]
    assert "all/events" not in flat
