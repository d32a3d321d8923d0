"""Chooses users to show: always the same ones for the same log."""

import hashlib
from collections.abc import Iterator, Sequence

from data_pipelines.errors import DataError
from data_pipelines.histories.events import HistorySource, blocks_of
from data_pipelines.histories.record import History, Split

SESSIONS = range(3, 13)
EVENTS = range(6, 101)
"""What users are shown by preference: enough to see something, little enough to read."""


def choose(source: HistorySource, number: int) -> list[History]:
    """Users in the order of a hash of their ids: first those with a test session that fit a page.

    Args:
      source: All histories.
      number: How many; fewer if there are fewer.
    """
    best: list[tuple[tuple[bool, bool, str], History]] = []
    for one in _all(source):
        fits = len(one.session_lengths) in SESSIONS and len(one.times) in EVENTS
        has_test = bool((one.session_splits == Split.TEST).any())
        digest = hashlib.sha256(one.user_id.encode()).hexdigest()
        best.append(((not has_test, not fits, digest), one))
        if len(best) >= 4 * number:
            best = sorted(best, key=lambda pair: pair[0])[:number]
    return [one for _, one in sorted(best, key=lambda pair: pair[0])[:number]]


def named(source: HistorySource, ids: Sequence[str], directory: object) -> list[History]:
    """The histories of users by their ids, in the order of the ids.

    Raises:
      DataError: The log does not have one.
    """
    wanted = set(ids)
    found = {one.user_id: one for one in _all(source) if one.user_id in wanted}
    for user in ids:
        if user not in found:
            raise DataError(f"user_ids={user}: is not in {directory}; name users of that log")
    return [found[user] for user in ids]


def _all(source: HistorySource) -> Iterator[History]:
    for _, histories in blocks_of(source):
        yield from histories
