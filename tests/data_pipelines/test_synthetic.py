import dataclasses

import numpy as np
import polars as pl
import pytest

from data_pipelines.sessions.sessionize import by_column, by_gap
from data_pipelines.synthetic import SyntheticConfig, synthetic_log
from tests.data_pipelines.logs import codes_log

SMALL = SyntheticConfig(users=800)


def test_same_seed_same_log_and_another_seed_another():
    assert synthetic_log(SMALL).equals(synthetic_log(SMALL))
    assert not synthetic_log(SMALL).equals(synthetic_log(dataclasses.replace(SMALL, seed=1)))


@pytest.mark.parametrize("variant", ["planted", "control"])
def test_shape_of_the_log(variant):
    config = dataclasses.replace(SMALL, variant=variant)
    frame = synthetic_log(config)
    assert frame["user_id"].n_unique() == 800
    assert frame["item_id"].n_unique() <= 25 * 8 * 5
    sessions = frame.group_by("user_id").agg(pl.col("session_id").n_unique())["session_id"]
    assert sessions.min() >= 3
    assert sessions.mean() == pytest.approx(config.sessions_per_user, rel=0.05)
    events = frame.group_by("session_id").len()["len"]
    assert events.min() >= 2
    assert events.mean() == pytest.approx(config.events_per_session, rel=0.05)


def test_an_idle_gap_of_half_an_hour_gives_the_sessions_of_the_column():
    frame = synthetic_log(SMALL)
    log = codes_log(
        frame["user_id"], frame["item_id"], frame["timestamp"] * 1000, frame["session_id"]
    )
    np.testing.assert_array_equal(by_gap(log, 30).starts_session, by_column(log)[0].starts_session)
    # The log is written user by user, in order of time.
    np.testing.assert_array_equal(by_gap(log, 30).items, log.items)


def counts_recall(frame):
    """recall@10 of counts on each user's last session: {"first" | "next": (without, with)}.

    Without the user's earlier sessions: popularity at the first event; at the next events the items
    seen in sessions with those before it. With them: that, times a vote for the items that users
    have in common with the user's earlier items.
    """
    sessions, items = frame["session_id"].to_numpy(), frame["item_id"].to_numpy()
    users, size = frame["user_id"].to_numpy(), frame["item_id"].max() + 1
    last = frame.group_by("user_id").agg(pl.col("session_id").max())["session_id"].to_numpy()
    held_out = np.isin(sessions, last)
    of_users, of_sessions = (
        _count_table(rows[~held_out], items[~held_out], rows.max() + 1, size)
        for rows in (users, sessions)
    )
    popularity = of_users.sum(0) + 1
    in_common = (of_users.T @ of_users) / popularity[:, None]
    in_session = (of_sessions.T @ of_sessions) / popularity[:, None]
    hits = {"first": [], "next": []}
    for session in last[:300]:
        events = items[sessions == session]
        vote = of_users[users[sessions == session][0]] @ in_common
        lift = vote / popularity + 0.05 * vote.sum() / popularity.sum()
        for position, item in enumerate(events):
            alone = in_session[events[:position]].sum(0) + 1e-3 * popularity / popularity.sum()
            both = (alone, alone * lift)
            hits["next" if position else "first"].append(
                [np.sum(scores > scores[item]) < 10 for scores in both]
            )
    return {kind: np.mean(values, axis=0) for kind, values in hits.items()}


def _count_table(rows, columns, height, width):
    table = np.zeros((height, width), np.float32)
    np.add.at(table, (rows, columns), 1)
    return table


def test_earlier_sessions_help_where_a_taste_is_planted_and_only_there():
    planted = counts_recall(synthetic_log(SMALL))
    control = counts_recall(synthetic_log(dataclasses.replace(SMALL, variant="control")))
    for kind, least in (("first", 3.0), ("next", 1.15)):
        without, with_history = planted[kind]
        assert with_history > least * without, kind
        without, with_history = control[kind]
        assert with_history < 1.05 * without + 0.02, kind


def test_single_sessions_look_alike_in_both():
    """Items of a session and steps within it have the same distribution, up to sampling."""
    statistics = []
    for variant in ("planted", "control"):
        frame = synthetic_log(dataclasses.replace(SMALL, variant=variant, users=4000))
        items = frame["item_id"].to_numpy()
        same = np.diff(frame["session_id"].to_numpy()) == 0
        popularity = np.bincount(items, minlength=1001) / len(items)
        repeats = np.mean(items[1:][same] == items[:-1][same])
        distinct = frame.group_by("session_id").agg(pl.col("item_id").n_unique())["item_id"].mean()
        statistics.append((popularity, repeats, distinct))
    (popularity, repeats, distinct), (popularity_c, repeats_c, distinct_c) = statistics
    assert np.abs(popularity - popularity_c).sum() < 0.2
    assert repeats == pytest.approx(repeats_c, rel=0.05)
    assert distinct == pytest.approx(distinct_c, rel=0.01)


@pytest.mark.parametrize(
    ("field", "value"),
    [("variant", "both"), ("users", 0), ("sessions_per_user", 2), ("hop", 1.5), ("seed", -1)],
)
def test_out_of_range(field, value):
    with pytest.raises(ValueError, match=f"^{field}={value}: must be "):
        SyntheticConfig(**{field: value})
