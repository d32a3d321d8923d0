"""Lanes in plain Python, one event at a time: the independent way to make batches in tests."""

import numpy as np

from hiertcn_jax.batch import FIRST_ITEM_ID, Batch


def pack(lanes, bucket):
    """Batches of the given lanes, padded until all are dry.

    Args:
      lanes: For each lane a list of users; a user is a list of (gap_hours, [item ids]) sessions.
      bucket: Bucket.

    Returns:
      The batches, and for each lane the (batch, row place) of each of its events in order.
    """
    rows, places = [], []
    for users in lanes:
        lane_rows, lane_places, row = [], [], None
        for user in users:
            user_position, seconds_of_user = 0, seconds_of(user)
            for number, (gap, items) in enumerate(user):
                for position, item in enumerate(items):
                    fresh = row is None or len(row["items"]) == bucket.events
                    starts = position == 0
                    if not fresh and starts and row["sessions"] == bucket.sessions:
                        fresh = True
                    if fresh:
                        row = {"items": [], "sessions": 0, "events": [], "starts": []}
                        lane_rows.append(row)
                    if starts or row["sessions"] == 0:
                        row["sessions"] += 1
                        row["starts"].append((starts, starts and number == 0, gap if starts else 0))
                    lane_places.append((len(lane_rows) - 1, len(row["items"])))
                    row["items"].append(item)
                    seconds, slot = seconds_of_user[user_position], row["sessions"] - 1
                    row["events"].append((position, user_position, seconds, slot))
                    user_position += 1
        rows.append(lane_rows)
        places.append(lane_places)
    count = max(len(lane_rows) for lane_rows in rows)
    return [
        _batch([r[i] if i < len(r) else None for r in rows], bucket) for i in range(count)
    ], places


def seconds_of(user):
    """Seconds from a user's first event to each: a minute and a little more from one to the next,
    and gaps between sessions."""
    seconds, now = [], 0
    for gap, items in user:
        now += int(3600 * gap)
        for _ in items:
            seconds.append(now)
            now += 60 + 7 * len(seconds)
    return [second - seconds[0] for second in seconds]


def _batch(rows, bucket):
    events = np.zeros((5, bucket.lanes, bucket.events), np.int32)
    starts = np.zeros((2, bucket.lanes, bucket.sessions), bool)
    gaps = np.zeros((bucket.lanes, bucket.sessions), np.float32)
    for lane, row in enumerate(rows):
        if row is None:
            continue
        for place, (item, others) in enumerate(zip(row["items"], row["events"], strict=True)):
            events[:, lane, place] = (item, *others)
        for slot, (session, user, gap) in enumerate(row["starts"]):
            starts[:, lane, slot] = session, user
            gaps[lane, slot] = gap
    known = events[0] >= FIRST_ITEM_ID
    return Batch(*events, *starts, gaps, known.astype(np.float32), known)
