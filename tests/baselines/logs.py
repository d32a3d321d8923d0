"""Small random logs of several users, and the contexts of their held-out sessions."""

import numpy as np

from hiertcn_jax.baselines import Context, FittedHistory
from hiertcn_jax.batch import FIRST_ITEM_ID, UNKNOWN_ID

ROWS = 14
"""Rows of the item table; the last item is never picked."""

DAY = 86400


def random_sessions(rng, count):
    """Sessions of one user in order: lists of (item, time). Some times are equal."""
    sessions, time = [], int(rng.integers(0, DAY))
    for _ in range(count):
        session = []
        for _ in range(int(rng.integers(1, 6))):
            time += int(rng.choice([0, 7, 60, 613]))
            session.append((int(rng.integers(FIRST_ITEM_ID, ROWS - 1)), time))
        sessions.append(session)
        time += int(rng.integers(1, DAY))
    return sessions


def random_log(seed, users=8):
    """For each user a list of sessions; the last two are held out by `split`."""
    rng = np.random.default_rng(seed)
    return [random_sessions(rng, int(rng.integers(3, 7))) for _ in range(users)]


def fitted(log):
    """The fitted part: all but the last two sessions of each user."""
    return [user[:-2] for user in log]


def held_out(log):
    """A context for each event of the last session of each user, and for some of empty ones."""
    contexts = []
    for user in log:
        before = [event for session in user[:-1] for event in session]
        previous = len(before) - len(user[-2])
        for position, (_, time) in enumerate(user[-1]):
            events = before + user[-1][:position]
            contexts.append(context(events, previous, len(before), time))
        contexts.append(context([], 0, 0, user[-1][0][1]))
    return contexts


def context(events, previous_start, session_start, time):
    """A context of (item, time) pairs."""
    items, times = zip(*events, strict=True) if events else ((), ())
    items_n, times_n = np.array(items, np.int32), np.array(times, np.int64)
    return Context(items_n, times_n, previous_start, session_start, time)


def histories(log):
    """The histories of a log, without users who have no session."""
    result = []
    for user in log:
        events = [event for session in user for event in session]
        if events:
            items, times = zip(*events, strict=True)
            lengths = [len(session) for session in user]
            result.append(
                FittedHistory(
                    np.array(items, np.int32), np.array(times, np.int64), np.array(lengths)
                )
            )
    return result


def with_unknown(log, seed):
    """The same log with unknown items before some of its events, at their times."""
    rng = np.random.default_rng(seed)
    return [
        [
            [
                event
                for item, time in session
                for event in [(UNKNOWN_ID, time)] * int(rng.integers(0, 2)) + [(item, time)]
            ]
            for session in user
        ]
        for user in log
    ]


def known(log):
    """The same log without unknown items."""
    return [[[e for e in session if e[0] != UNKNOWN_ID] for session in user] for user in log]
