"""Plays a log through the server: asks before each event, then sends it.

The export must end where the events begin (`export --until`): then every event is asked for with
what was known before it, as `evaluate --counts=live` does, and gets the same rank.
"""

import http.client
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, urlencode, urlsplit

import numpy as np
import polars as pl

from data_pipelines.errors import DataError
from data_pipelines.histories.events import blocks_of
from data_pipelines.histories.record import Split
from experiments.comparison.alterations import sessions_of
from experiments.runs.data import Data
from experiments.server.engine import Engine
from experiments.server.requests import Ask, Event
from experiments.server.sqlite_store import SqliteStore
from hiertcn_jax.exported.reading import Export
from hiertcn_jax.item_ids import FIRST_ITEM_ID

_FIRST_ASKED = 100
"""Items asked for at first; all are asked for where the event's is not among them."""
MOST_OVER_HTTP = 1_000

Scores = list[tuple[str, float]]
"""Items as text, and their scores, best first."""


class Played(NamedTuple):
    """An event of the log.

    Attributes:
      user: Raw id.
      item: Raw id; a name of no item for one outside the catalogue.
      time: Seconds.
      session: Which of the user's sessions it is in, as text.
      number: Its index in the session.
      is_scored: Whether it is of the part that is scored, and of the catalogue.
    """

    user: str
    item: str
    time: int
    session: str
    number: int
    is_scored: bool


class Client(Protocol):
    """Asks a server."""

    def ask(self, event: Played, n: int) -> Scores:
        """The best items at the event's time; fewer than n if the server gives no more."""
        ...

    def send(self, event: Played) -> str:
        """Sends an event, and gives what became of it."""
        ...


class InProcess:
    """The server's engine in this process, with a clock that shows the log's time."""

    def __init__(self, export: Export, store: Path) -> None:
        """See the class.

        Args:
          export: The model.
          store: A new file.
        """
        self._now = export.newest
        self._engine = Engine(export, SqliteStore(store), lambda: self._now)

    def ask(self, event: Played, n: int) -> Scores:
        """See `Client`."""
        self._now = event.time
        ask = Ask(event.user, n=n, at=event.time, session=event.session)
        (answer,) = self._engine.recommend([ask])
        return [(str(item), score) for item, score in answer.items]

    def send(self, event: Played) -> str:
        """See `Client`."""
        self._now = event.time
        sent = Event(event.user, event.item, event.time, event.session)
        (outcome,) = self._engine.observe([sent])
        return outcome.status

    def close(self) -> None:
        """Closes the store."""
        self._engine.close()


class OverHttp:
    """A server at a URL, which has the export and an empty store."""

    def __init__(self, url: str) -> None:
        """See the class.

        Raises:
          DataError: It is no URL of a server.
        """
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise DataError(f"url={url}: must be such as http://127.0.0.1:8080")
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)

    def ask(self, event: Played, n: int) -> Scores:
        """See `Client`."""
        wanted = {"n": min(n, MOST_OVER_HTTP), "at": event.time, "session": event.session}
        path = f"/v1/recommend/{quote(event.user, safe='')}?{urlencode(wanted)}"
        return [(str(one["item"]), one["score"]) for one in self._talk("GET", path)["items"]]

    def send(self, event: Played) -> str:
        """See `Client`."""
        one = dict(zip(("user", "item", "time", "session"), event[:4], strict=True))
        return self._talk("POST", "/v1/events", {"events": [one]})["events"][0]["status"]

    def _talk(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body)
        self._connection.request(method, path, data, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        said = json.load(answer)
        if answer.status != 200:
            raise DataError(f"{method} {path}: {answer.status}: {said.get('detail')}")
        return said

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


def events_from(data: Data, start: int, scored: Split) -> list[Played]:
    """The events of a log after a moment, in order of time.

    Args:
      data: The log.
      start: Seconds. Those later than this.
      scored: The part whose events are scored.
    """
    rows = np.arange(FIRST_ITEM_ID, data.vocabulary.size)
    ids = [str(one) for one in data.vocabulary.decode(rows)]
    found = []
    for _, block in blocks_of(data.histories):
        for history in block:
            session_n = sessions_of(history)
            first_m = np.cumsum(history.session_lengths) - history.session_lengths
            for index in np.flatnonzero(history.times > start).tolist():
                row, session = int(history.item_ids[index]), int(session_n[index])
                known = row >= FIRST_ITEM_ID
                found.append(
                    Played(
                        history.user_id,
                        ids[row - FIRST_ITEM_ID] if known else f"unknown {session} {index}",
                        int(history.times[index]),
                        str(session),
                        index - int(first_m[session]),
                        known and history.session_splits[session] == scored,
                    )
                )
    # Events of a second keep the order of their users' histories.
    return sorted(found, key=lambda event: event.time)


def play(client: Client, events: Sequence[Played], items: int) -> pl.DataFrame:
    """Asks before each event and sends it.

    Args:
      client: The server.
      events: In order of time.
      items: Of the catalogue.

    Returns:
      user_id, session, position, time, item_id and rank of each scored event; rank is null where
      the server did not give so many items. And the milliseconds that asking and sending took.

    Raises:
      DataError: The server refuses an event.
    """
    rows = []
    for together in _of_a_second(events):
        # What happens in the same second is not known yet.
        asked = [_asked(client, event, items) for event in together]
        for event, (rank, ask_ms) in zip(together, asked, strict=True):
            began = time.perf_counter()
            status = client.send(event)
            send_ms = 1000 * (time.perf_counter() - began)
            if status == "refused":
                raise DataError(
                    f"user {event.user}, time {event.time}: the server refuses the event; it needs "
                    "an export that ends before (export --until), and an empty store"
                )
            if event.is_scored:
                place = (int(event.session), event.number)
                done = (rank, ask_ms, send_ms, status)
                rows.append((event.user, *place, event.time, event.item, *done))
    return pl.DataFrame(
        rows,
        {
            "user_id": pl.String,
            "session": pl.Int64,
            "position": pl.Int64,
            "time": pl.Int64,
            "item_id": pl.String,
            "rank": pl.Float64,
            "ask_ms": pl.Float64,
            "send_ms": pl.Float64,
            "status": pl.String,
        },
        orient="row",
    )


def _of_a_second(events: Sequence[Played]) -> Iterator[list[Played]]:
    """Events of one second, each user's alone: a user's next one knows the one before."""
    part: list[Played] = []
    users: set[str] = set()
    for event in events:
        if part and (event.time != part[0].time or event.user in users):
            yield part
            part, users = [], set()
        part.append(event)
        users.add(event.user)
    if part:
        yield part


def _asked(client: Client, event: Played, items: int) -> tuple[float | None, float]:
    """The rank of an event's item, and the milliseconds until the first answer."""
    if not event.is_scored:
        return None, 0.0
    began = time.perf_counter()
    found = client.ask(event, min(_FIRST_ASKED, items))
    took = 1000 * (time.perf_counter() - began)
    rank = rank_in(found, event.item)
    # The last items given may tie with others that were not.
    if rank is None or found[-1][1] == dict(found)[event.item]:
        rank = rank_in(client.ask(event, items), event.item)
    return rank, took


def rank_in(found: Scores, item: str) -> float | None:
    """The rank of an item, from 1 on, with half a rank for each tie; None if it is not there.

    >>> rank_in([("a", 3.0), ("b", 2.0), ("c", 2.0)], "c")
    2.5
    """
    score_of = dict(found)
    if item not in score_of:
        return None
    scores_k, score = np.array([one for _, one in found]), score_of[item]
    return 1.0 + float(np.sum(scores_k > score)) + (float(np.sum(scores_k == score)) - 1) / 2


def figures(played: pl.DataFrame) -> dict[str, Any]:
    """recall@20 and mrr of all, first and next events, and the latencies."""
    groups = {
        "all": played,
        "first": played.filter(pl.col("position") == 0),
        "next": played.filter(pl.col("position") > 0),
    }
    found: dict[str, Any] = {name: _metrics(group) for name, group in groups.items()}
    for name in ("ask_ms", "send_ms"):
        values = played[name].to_numpy()
        found[name] = {
            f"p{q:g}".replace(".", "_"): round(float(np.percentile(values, q)), 3)
            for q in (50, 90, 99, 99.9)
            if len(values)
        }
    found["duplicates"] = int((played["status"] == "duplicate").sum())
    found["beyond_the_answer"] = int(played["rank"].is_null().sum())
    return found


def _metrics(group: pl.DataFrame) -> dict[str, float]:
    rank_n = group["rank"].fill_null(np.inf).to_numpy()
    if not len(rank_n):
        return {"events": 0}
    return {
        "events": len(rank_n),
        "recall@20": float(np.mean(rank_n <= 20)),
        "mrr": float(np.mean(1 / rank_n)),
    }
