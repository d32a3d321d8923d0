"""Users for benchmarks: Globo's numbers and lengths of sessions, on items of an invented catalogue.

The cost of a training step depends on the lengths of sessions, hardly on their content. So the two
lengths are drawn from a histogram of a real log (`globo_sessions.json` says which), items follow
Zipf's law with exponent 1, and times are invented. There is nothing to learn here.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from data_pipelines.histories.record import History, Split
from hiertcn_jax.batch import FIRST_ITEM_ID

_HISTOGRAMS = Path(__file__).with_name("globo_sessions.json")
_HOURS_BETWEEN_SESSIONS = 20.0
_SECONDS_BETWEEN_EVENTS = 120


class Lengths(NamedTuple):
    """Values, and how often each occurs.

    Attributes:
      value_n: int64, ascending.
      share_n: float64, sums to 1.
    """

    value_n: np.ndarray
    share_n: np.ndarray

    def mean(self) -> float:
        """The mean of the distribution."""
        return float(self.value_n @ self.share_n)


def globo_lengths() -> tuple[Lengths, Lengths]:
    """Distributions of the sessions of a user, and of the events of a session."""
    histograms = json.loads(_HISTOGRAMS.read_text(encoding="utf-8"))

    def lengths(name: str) -> Lengths:
        counts = {int(value): count for value, count in histograms[name].items()}
        total = sum(counts.values())
        return Lengths(np.asarray(list(counts)), np.asarray(list(counts.values())) / total)

    return lengths("users_by_sessions"), lengths("sessions_by_events")


class UserSource(Protocol):
    """Source of histories for the rows of benchmarks, one at a time or several at once."""

    def __len__(self) -> int:
        """Number of users."""
        ...

    def __getitem__(self, index: int, /) -> History:
        """The history of this user."""
        ...

    def __getitems__(self, indices: Sequence[int], /) -> Sequence[History]:
        """The histories of these users, in this order."""
        ...


class Users(list[History]):
    """Histories in memory, in the form that loaders need."""

    def __getitems__(self, indices: Sequence[int], /) -> list[History]:
        """The histories of these users."""
        return [self[index] for index in indices]


def draw_users(users: int, items: int, seed: int) -> Users:
    """Draws users whose sessions are all trained on.

    Args:
      users: How many.
      items: Size of the catalogue.
      seed: The same seed gives the same users.
    """
    generator = np.random.default_rng(seed)
    sessions_of_user, events_of_session = globo_lengths()
    sessions_n = generator.choice(sessions_of_user.value_n, users, p=sessions_of_user.share_n)
    length_m = generator.choice(
        events_of_session.value_n, int(sessions_n.sum()), p=events_of_session.share_n
    )
    events = int(length_m.sum())
    weight = 1 / np.arange(1, items + 1)
    item_e = FIRST_ITEM_ID + generator.choice(items, events, p=weight / weight.sum())
    second_e = np.full(events, _SECONDS_BETWEEN_EVENTS)
    gap_m = generator.exponential(_HOURS_BETWEEN_SESSIONS * 3600, len(length_m))
    second_e[np.cumsum(length_m) - length_m] = gap_m
    time_e = np.cumsum(second_e)

    session_ends = np.cumsum(sessions_n)[:-1]
    lengths = np.split(length_m.astype(np.int32), session_ends)
    event_ends = np.cumsum([part.sum() for part in lengths])[:-1]
    return Users(
        History(str(user), item_ids, times, part, np.full(len(part), Split.TRAIN, np.uint8))
        for user, (item_ids, times, part) in enumerate(
            zip(
                np.split(item_e.astype(np.int32), event_ends),
                np.split(time_e, event_ends),
                lengths,
                strict=True,
            )
        )
    )
