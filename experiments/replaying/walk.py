"""A log seen from a moment: what happened before it is fitted, what comes after is scored."""

import dataclasses
import re
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.errors import DataError
from data_pipelines.histories.events import blocks_of
from data_pipelines.histories.record import History, Split
from experiments.comparison.alterations import AlteredHistories, ListedHistories, sessions_of
from experiments.runs.data import Data
from hiertcn_jax.memory.levels import Level, parse

_UNITS = {"m": 60, "h": 3600, "d": 86400}


class Update(NamedTuple):
    """What is learned from events once they are scored.

    Attributes:
      name: As on the command line.
      level: Which events count.
      refits: Whether rankers are fitted anew, and models trained on, from time to time.
      every: Seconds between these times; None: the length of a period.
    """

    name: str
    level: Level
    refits: bool = False
    every: int | None = None


def parse_update(text: str) -> Update:
    """The update that a text names: never, counts, counts:15m, train or train:6h.

    Raises:
      ValueError: It names none.

    >>> parse_update("counts:15m").level
    Level(name='delayed', late='15m')
    """
    if text == "never":
        return Update(text, parse("static"))
    if text == "counts":
        return Update(text, parse("live"))
    if text == "train":
        return Update(text, parse("live"), refits=True)
    if text.startswith("train:"):
        return Update(text, parse("live"), True, parse_every(text.removeprefix("train:")))
    if text.startswith("counts:"):
        return Update(text, parse(f"delayed:{text.removeprefix('counts:')}"))
    raise ValueError(
        f"flag --update={text}: must be never, counts, counts:15m (late), train or train:6h"
    )


def parse_every(text: str) -> int:
    """Seconds of a period such as 6h or 1d.

    Raises:
      ValueError: It is none.
    """
    found = re.fullmatch(r"([1-9]\d{0,5})([mhd])", text)
    if found is None:
        raise ValueError(f"flag --every={text}: must be a number of m, h or d, such as 6h or 1d")
    return int(found[1]) * _UNITS[found[2]]


class Periods(NamedTuple):
    """Spans of time. A session belongs to the one in which it starts.

    Attributes:
      starts: Seconds. The start of each span.
      end: Seconds. The end of the last one.
    """

    starts: tuple[int, ...]
    end: int

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """Start and end of each span."""
        return list(zip(self.starts, (*self.starts[1:], self.end), strict=True))

    def every(self, seconds: int) -> "Periods":
        """Spans of another length that cover the same time."""
        return Periods(tuple(range(self.starts[0], self.end, seconds)), self.end)

    def number_of(self, time_n: np.ndarray) -> np.ndarray:
        """int64 [n]. The span of each time, from the first start on."""
        return np.searchsorted(self.starts, time_n, side="right") - 1


def periods_of(data: Data, first: int, every: int) -> Periods:
    """The spans of a log from a time on.

    Raises:
      DataError: No session starts from then on, or there are more than 10,000 spans.
    """
    starts = (
        history.times[np.cumsum(history.session_lengths) - history.session_lengths].max()
        for _, histories in blocks_of(data.histories)
        for history in histories
    )
    last = int(max(starts))
    if last < first:
        raise DataError(f"{data.directory}: no session starts at --from or later; set it earlier")
    count = (last - first) // every + 1
    if count > 10_000:
        raise DataError(f"every: makes {count:,} periods; set a longer one")
    return Periods(tuple(first + every * k for k in range(count)), last + 1)


def seen_from(data: Data, start: int, end: int) -> Data:
    """The log as it is split at a moment.

    Sessions that start before `start` are train, those before `end` test; later ones are left out.
    Nothing from `start` on is fitted.

    Args:
      data: The log.
      start: Seconds.
      end: Seconds.

    Raises:
      DataError: Nothing happened before `start`.
    """

    def alter(_: int, history: History) -> History:
        starts_m = history.times[np.cumsum(history.session_lengths) - history.session_lengths]
        kept_m = starts_m < end
        kept_n = kept_m[sessions_of(history)]
        splits_m = np.where(starts_m < start, Split.TRAIN, Split.TEST).astype(np.uint8)
        return dataclasses.replace(
            history,
            item_ids=history.item_ids[kept_n],
            times=history.times[kept_n],
            session_lengths=history.session_lengths[kept_m],
            session_splits=splits_m[kept_m],
        )

    altered = AlteredHistories(data.histories, alter)
    seen = ListedHistories(
        history for _, block in blocks_of(altered) for history in block if len(history.times)
    )
    parts = {part.name.lower(): _counts(seen, part, data) for part in Split}
    if not parts["train"]["events"]["all"]:
        raise DataError(f"{data.directory}: no session starts before --from={start}; set it later")
    manifest = {
        **data.manifest,
        "counts": {**data.manifest["counts"], "splits": parts},
        "cuts": {"valid_after": start, "test_after": start},
    }
    return data._replace(histories=seen, manifest=manifest)


def _counts(histories: ListedHistories, part: Split, data: Data) -> dict[str, Any]:
    """The events of a part, and those that the live catalogue does not score."""
    events = unseen = sessions = 0
    known_from_v = data.vocabulary.known_from_v
    for _, block in blocks_of(histories):
        for history in block:
            sessions += int((history.session_splits == part).sum())
            of_part_n = history.session_splits[sessions_of(history)] == part
            events += int(of_part_n.sum())
            unseen_n = history.times <= known_from_v[history.item_ids]
            unseen += int((of_part_n & unseen_n).sum())
    unscored = {"unseen": {"all": unseen}, "unknown_items": {"all": 0}}
    return {"sessions": sessions, "events": {"all": events}, **unscored}
