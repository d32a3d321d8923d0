"""A log of events as columns, with ids replaced by small integers."""

import dataclasses
from collections.abc import Iterable

import numpy as np
import polars as pl

from data_pipelines.raw.ids import merged
from data_pipelines.raw.log_facts import LogFacts

TYPED_SCHEMA = {
    "user_id": pl.String,
    "item_id": pl.String,
    "time_ms": pl.Int64,
    "session_id": pl.String,
}
"""The output of a reader: no nulls, except `session_id` if the log has no such column."""


@dataclasses.dataclass(frozen=True, eq=False)
class Log:
    """Events in the order of the input.

    Codes follow the order of the ids as text, so the same events give the same codes, whatever file
    they came in. Only in a log to which events were appended the new ids follow the old ones.

    Attributes:
      user_ids: String [users], sorted. The id of each code.
      item_ids: String [items], sorted.
      users: int32 [n]. Code of each event's user.
      items: int32 [n]. Code of each event's item.
      times_ms: int64 [n]. Milliseconds since the epoch.
      sessions: int32 [n], or None. Code of the session id, unique within a user.
      session_ids: String [session ids], sorted, or None. The id of each code.
      facts: Types of its ids, see `LogFacts.ids`, and the unit of its times.
    """

    user_ids: pl.Series
    item_ids: pl.Series
    users: np.ndarray
    items: np.ndarray
    times_ms: np.ndarray
    sessions: np.ndarray | None
    facts: LogFacts = dataclasses.field(default_factory=LogFacts)
    session_ids: pl.Series | None = None

    def __len__(self) -> int:
        return len(self.users)


def encode_log(frames: Iterable[pl.DataFrame], *, has_sessions: bool, facts: LogFacts) -> Log:
    """Concatenates frames of `TYPED_SCHEMA` and replaces ids by codes.

    Args:
      frames: The events, in the order of the input.
      has_sessions: Whether they have session ids.
      facts: Facts about their ids, complete once all frames have been read.
    """
    frame = pl.concat([pl.DataFrame(schema=TYPED_SCHEMA), *frames])

    def encode(column: str) -> tuple[pl.Series, np.ndarray]:
        return _encode(merged(frame[column], facts.ids_of(column)))

    user_ids, users = encode("user_id")
    item_ids, items = encode("item_id")
    session_ids, sessions = encode("session_id") if has_sessions else (None, None)
    return Log(
        user_ids=user_ids,
        item_ids=item_ids,
        users=users,
        items=items,
        times_ms=frame["time_ms"].to_numpy(),
        sessions=sessions,
        facts=facts,
        session_ids=session_ids,
    )


def sorted_places(users: np.ndarray, times_ms: np.ndarray) -> np.ndarray:
    """int64 [n]. The places of events by user, then time; events of one time keep their order."""
    step_n = np.diff(users)
    if np.all((step_n > 0) | ((step_n == 0) & (np.diff(times_ms) >= 0))):
        # A kept log is in this order; sorting it again would take most of the time of an append.
        return np.arange(len(users))
    return np.lexsort((times_ms, users))


def codes_of(ids: pl.Series, distinct: pl.Series) -> pl.Series:
    """The index of each id among `distinct` ones, Int32; null if it is not among them."""
    table = distinct.rename("id").to_frame().with_row_index("code")
    codes = ids.rename("id").to_frame().join(table, on="id", how="left", maintain_order="left")
    return codes["code"].cast(pl.Int32)


def _encode(ids: pl.Series) -> tuple[pl.Series, np.ndarray]:
    """The distinct ids, sorted, and the index of each id among them."""
    distinct = ids.unique().sort().rename("id")
    return distinct, codes_of(ids, distinct).to_numpy()
