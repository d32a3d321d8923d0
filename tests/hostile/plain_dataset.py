"""A second preparation, from the events of a log to histories: loops over users and sessions."""

import collections
import hashlib
from typing import NamedTuple


class PlainEvent(NamedTuple):
    """An event of a log; `session` is an id, or None for a log without them."""

    user: str
    item: str
    time_ms: int
    session: str | None


class PlainOptions(NamedTuple):
    """The settings of a preparation, as the flags have them."""

    session_ids: bool
    gap_minutes: float | None
    collapse_repeats: bool
    min_item_events: int
    min_user_events: int
    max_user_events: int
    min_sessions: int
    split: str
    valid_fraction: float
    test_fraction: float
    bounds_ms: tuple[int, int] | None


class PlainDataset(NamedTuple):
    """Each user's sessions as (part, [(row of the item table, seconds), ...]), by user id.

    Of the vocabulary the first `fitted` items are those of train, the others follow by their first
    event.
    """

    histories: dict[str, list[tuple[int, list[tuple[int, int]]]]]
    vocabulary: list[str]
    users_too_short: int
    fitted: int

    def as_fitted(self) -> dict[str, list[tuple[int, list[tuple[int, int]]]]]:
        """The histories with 1 for all items that are not fitted."""
        end = 2 + self.fitted
        return {
            user: [
                (part, [(row if row < end else 1, seconds) for row, seconds in session])
                for part, session in own
            ]
            for user, own in self.histories.items()
        }


Sessions = dict[str, list[list[PlainEvent]]]


def prepare_plain(events: list[PlainEvent], options: PlainOptions) -> PlainDataset | str:
    """The histories, or the reason why there are none."""
    sessions = _sessions(events, options)
    if options.collapse_repeats:
        sessions = {user: [_collapsed(s) for s in own] for user, own in sessions.items()}
    bounds = _bounds(sessions, options)
    cut = float("inf") if bounds is None else bounds[0]
    before, sessions = sessions, _filtered(sessions, options, cut)
    early = any(e.time_ms < cut for own in sessions.values() for s in own for e in s)
    if before != sessions and not early:
        return "filters"
    parts = _parts(sessions, options, bounds)
    for part in range(3):
        if not any(part in own for own in parts.values()):
            return "empty part"
    return _encoded(sessions, parts, options.split, cut)


def _sessions(events: list[PlainEvent], options: PlainOptions) -> Sessions:
    sessions: Sessions = {}
    for user in sorted({event.user for event in events}):
        own = sorted((e for e in events if e.user == user), key=lambda event: event.time_ms)
        # Sessions as lists of indices into `own`.
        runs: list[list[int]] = []
        for name in {event.session if options.session_ids else None for event in own}:
            last = None
            for place, event in enumerate(own):
                if options.session_ids and event.session != name:
                    continue
                gap = options.gap_minutes
                if last is None or (gap is not None and event.time_ms - last > gap * 60_000):
                    runs.append([])
                runs[-1].append(place)
                last = event.time_ms
        runs.sort(key=lambda run: (own[run[0]].time_ms, own[run[-1]].time_ms, run[0]))
        merged: list[list[int]] = []
        for run in runs:
            if merged and own[run[0]].time_ms < own[merged[-1][-1]].time_ms:
                merged[-1] = sorted(merged[-1] + run)
            else:
                merged.append(run)
        sessions[user] = [[own[place] for place in run] for run in merged]
    return sessions


def _collapsed(session: list[PlainEvent]) -> list[PlainEvent]:
    return [e for k, e in enumerate(session) if k == 0 or session[k - 1].item != e.item]


def _filtered(sessions: Sessions, options: PlainOptions, cut: float) -> Sessions:
    """Only what is before the cut is counted, and dropped."""
    before = None
    while before != sessions:
        before = sessions
        counts = collections.Counter(
            e.item for own in sessions.values() for s in own for e in s if e.time_ms < cut
        )
        rare = {item for item, events in counts.items() if events < options.min_item_events}
        sessions = {user: _without(own, rare, cut) for user, own in sessions.items()}
        for stays in (
            lambda own: sum(map(len, own)) >= options.min_user_events,
            lambda own: (
                not options.max_user_events or sum(map(len, own)) <= options.max_user_events
            ),
            lambda own: len(own) >= options.min_sessions,
        ):
            for user, own in sessions.items():
                early = _where(own, lambda e: e.time_ms < cut)
                if early and not stays(early):
                    sessions[user] = _where(own, lambda e: e.time_ms >= cut)
        sessions = {user: own for user, own in sessions.items() if own}
    return sessions


def _without(own: list[list[PlainEvent]], items: set[str], cut: float) -> list[list[PlainEvent]]:
    return _where(own, lambda e: e.time_ms >= cut or e.item not in items)


def _where(own: list[list[PlainEvent]], keeps) -> list[list[PlainEvent]]:
    return [kept for session in own if (kept := [e for e in session if keeps(e)])]


def _bounds(sessions: Sessions, options: PlainOptions) -> tuple[int, int] | None:
    """The times that split a log by time."""
    if options.split != "time" or options.bounds_ms is not None:
        return options.bounds_ms
    starts = sorted(session[0].time_ms for own in sessions.values() for session in own)
    shares = (1 - options.test_fraction - options.valid_fraction, 1 - options.test_fraction - 0)
    last = len(starts) - 1
    return tuple(starts[min(round(share * len(starts)), last)] // 1000 * 1000 for share in shares)


def _parts(
    sessions: Sessions, options: PlainOptions, bounds: tuple[int, int] | None
) -> dict[str, list[int]]:
    if options.split == "last_session":
        return {
            user: [0] * (len(own) - 2) + [1, 2] if len(own) >= 3 else [0] * len(own)
            for user, own in sessions.items()
        }
    if options.split == "user":
        parts = {}
        for user, own in sessions.items():
            digest = hashlib.blake2b(user.encode(), digest_size=8).hexdigest()
            share = int(digest, 16) / 2**64
            held_out = options.test_fraction + options.valid_fraction
            part = 2 if share < options.test_fraction else 1 if share < held_out else 0
            parts[user] = [part] * len(own)
        return parts
    return {
        user: [sum(session[0].time_ms >= bound for bound in bounds) for session in own]
        for user, own in sessions.items()
    }


def _encoded(
    sessions: Sessions, parts: dict[str, list[int]], split: str, cut: float
) -> PlainDataset:
    counts = collections.Counter(
        event.item
        for user, own in sessions.items()
        for part, session in zip(parts[user], own, strict=True)
        for event in session
        if part == 0 and event.time_ms < cut
    )
    fitted = sorted(counts, key=lambda item: (-counts[item], item))
    first_seen: dict[str, int] = {}
    for event in (event for own in sessions.values() for session in own for event in session):
        seconds = event.time_ms // 1000
        first_seen[event.item] = min(first_seen.get(event.item, seconds), seconds)
    later = sorted(first_seen.keys() - counts, key=lambda item: (first_seen[item], item))
    vocabulary = fitted + later
    rows = {item: row for row, item in enumerate(vocabulary, 2)}
    histories = {
        user: [
            (part, [(rows[event.item], event.time_ms // 1000) for event in session])
            for part, session in zip(parts[user], own, strict=True)
        ]
        for user, own in sessions.items()
    }
    too_short = split == "last_session"
    return PlainDataset(
        histories,
        vocabulary,
        sum(too_short and len(own) < 3 for own in sessions.values()),
        len(fitted),
    )
