"""Histories and lanes in plain Python, one event at a time: an independent reference for tests."""

import dataclasses

import numpy as np
from hypothesis import strategies as st

from data_pipelines.histories.record import History, Split
from hiertcn_jax.batch import FIRST_ITEM_ID, UNKNOWN_ID

EVENT_FIELDS = ("user", "session_in_user", "position", "user_position", "item_id", "time", "target")


class ListSource(list):
    """Histories in memory, which counts its calls."""

    fetches = 0

    def __getitems__(self, indices):
        self.fetches += 1
        return [self[index] for index in indices]


def history(lengths, splits, seed=0, items=9):
    """A history with sessions of these lengths and parts; another seed gives other events."""
    generator = np.random.default_rng(seed)
    events = sum(lengths)
    return History(
        user_id=f"user-{seed}",
        item_ids=generator.integers(UNKNOWN_ID, items, events, dtype=np.int32),
        # Sometimes back in time, as in logs prepared before overlapping sessions were merged.
        times=np.cumsum(generator.integers(-2_000, 9_000, events)) + 1_700_000_000,
        session_lengths=np.asarray(lengths, np.int32),
        session_splits=np.asarray(splits, np.uint8),
    )


def with_shown(source, most=6, items=9):
    """The log, with up to `most` catalogue items shown with each event."""
    for user, record in enumerate(source):
        generator = np.random.default_rng([1, user])
        counts = generator.integers(0, most + 1, len(record.times), dtype=np.int32)
        shown = generator.integers(FIRST_ITEM_ID, items, counts.sum(), dtype=np.int32)
        source[user] = dataclasses.replace(record, shown_items=shown, shown_counts=counts)
    return source


def shown_beside(record, event):
    """What was shown with an event of a history; empty if it has no impressions."""
    start = int(record.shown_counts[:event].sum())
    return record.shown_items[start : start + int(record.shown_counts[event : event + 1].sum())]


def log(users, seed=0, max_length=5, max_sessions=6):
    """A log whose users have train, valid and test sessions, test last."""
    generator = np.random.default_rng(seed)
    source = ListSource()
    for user in range(users):
        sessions = int(generator.integers(3, max_sessions + 1))
        lengths = generator.integers(1, max_length + 1, sessions).tolist()
        source.append(history(lengths, [0] * (sessions - 2) + [1, 2], seed=user))
    return source


@st.composite
def logs(draw, min_users=1, max_users=9):
    """Logs of few users: one-event users, long sessions, users without some part or any event."""
    source = ListSource()
    for user in range(draw(st.integers(min_users, max_users))):
        lengths = draw(st.lists(st.integers(1, 7), max_size=5))
        splits = sorted(draw(st.lists(st.sampled_from(Split), min_size=5, max_size=5)))
        source.append(history(lengths, splits[: len(lengths)], seed=user))
    return source


def has_target(source, stream):
    return [
        any(stream.first_target <= split <= stream.last for split in history.session_splits)
        for history in source
    ]


def walk_user(source, user, stream):
    """The events of one user that the stream keeps, as dicts."""
    if not has_target(source, stream)[user]:
        return []
    events, record, first = [], source[user], 0
    for session, (length, split) in enumerate(
        zip(record.session_lengths.tolist(), record.session_splits.tolist(), strict=True)
    ):
        if split > stream.last:
            break
        for position in range(length):
            place = first + position
            gap = 0.0
            if position == 0 and session > 0:
                gap = max(0, int(record.times[place]) - int(record.times[place - 1])) / 3600
            events.append(
                {
                    "user": user,
                    "session_in_user": session,
                    "position": position,
                    "user_position": place,
                    "seconds": max(0, int(record.times[place]) - int(record.times[0])),
                    "item_id": int(record.item_ids[place]),
                    "time": int(record.times[place]),
                    "target": split >= stream.first_target,
                    "gap_hours": np.float32(gap),
                }
            )
        first += length
    for event in events:
        event["ends_user"] = event is events[-1]
    return events


def walk_rows(events, bucket, one_user=False):
    """Cuts a lane's events into segments, optionally with one user in each."""
    rows, sessions = [], 0
    for event in events:
        starts = event["position"] == 0
        is_full = not rows or len(rows[-1]) == bucket.events
        other_user = one_user and event["user_position"] == 0
        if is_full or other_user or (starts and sessions == bucket.sessions):
            rows.append([])
            sessions = 0
        if starts or not rows[-1]:
            sessions += 1
        rows[-1].append(event)
    return rows


def row_arrays(row, bucket, evaluated):
    """The arrays of one row, by name, made event by event."""
    arrays = {
        name: np.zeros(bucket.events, dtype)
        for name, dtype in {
            "item_ids_bl": np.int32,
            "position_bl": np.int32,
            "user_position_bl": np.int32,
            "seconds_bl": np.int32,
            "session_bl": np.int32,
            "loss_weight_bl": np.float32,
            "scored_bl": bool,
            "time_bl": np.int64,
            "target_bl": bool,
            "ends_user_bl": bool,
        }.items()
    } | {
        "starts_session_bs": np.zeros(bucket.sessions, bool),
        "starts_user_bs": np.zeros(bucket.sessions, bool),
        "gap_hours_bs": np.zeros(bucket.sessions, np.float32),
        "user_bs": np.full(bucket.sessions, -1, np.int64),
        "session_in_user_bs": np.full(bucket.sessions, -1, np.int32),
    }
    slot = -1
    for place, event in enumerate(row):
        if place == 0 or event["position"] == 0:
            slot += 1
            arrays["starts_session_bs"][slot] = event["position"] == 0
            arrays["starts_user_bs"][slot] = event["user_position"] == 0
            arrays["gap_hours_bs"][slot] = event["gap_hours"]
            arrays["user_bs"][slot] = event["user"]
            arrays["session_in_user_bs"][slot] = event["session_in_user"]
        known = event["item_id"] >= FIRST_ITEM_ID and event["target"]
        arrays["item_ids_bl"][place] = event["item_id"]
        arrays["position_bl"][place] = event["position"]
        arrays["user_position_bl"][place] = event["user_position"]
        arrays["seconds_bl"][place] = event["seconds"]
        arrays["session_bl"][place] = slot
        arrays["loss_weight_bl"][place] = known
        arrays["scored_bl"][place] = known and evaluated
        arrays["time_bl"][place] = event["time"]
        arrays["target_bl"][place] = event["target"]
        arrays["ends_user_bl"][place] = event["ends_user"]
    return arrays


def dealt(deal, lane, turns):
    """The users of a lane's first turns."""
    users = deal.users(np.full(turns, lane), np.arange(turns)).tolist()
    count = users.index(-1) if -1 in users else turns
    assert set(users[count:]) <= {-1}
    return users[:count]


def as_dict(element):
    """A LaneBatch as a dict of arrays; `info.item_ids_bl` is `global_ids_bl`."""
    info = vars(element.info)
    arrays = vars(element.batch) | info | {"global_ids_bl": info["item_ids_bl"]}
    arrays |= vars(arrays.pop("items"))
    arrays["item_ids_bl"] = element.batch.item_ids_bl
    return {name: array for name, array in arrays.items() if array is not None}


def lane_events(elements):
    """The events of each lane in these batches: lists of dicts of EVENT_FIELDS, without padding."""
    lanes = [[] for _ in range(len(elements[0].batch.item_ids_bl))]
    for element in elements:
        batch, info = element.batch, element.info
        for lane, events in enumerate(lanes):
            for place in np.flatnonzero(info.item_ids_bl[lane]):
                slot = batch.session_bl[lane, place]
                values = (
                    info.user_bs[lane, slot],
                    info.session_in_user_bs[lane, slot],
                    batch.position_bl[lane, place],
                    batch.user_position_bl[lane, place],
                    info.item_ids_bl[lane, place],
                    info.time_bl[lane, place],
                    info.target_bl[lane, place],
                )
                events.append(dict(zip(EVENT_FIELDS, map(int, values), strict=True)))
    return lanes


def fields_of(events):
    """The events in the form of `lane_events`."""
    return [{name: event[name] for name in EVENT_FIELDS} for event in events]
