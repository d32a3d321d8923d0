"""The two routes that most requests take, without the framework.

It takes what is plainly valid: `GET /v1/recommend/{user}` with no other parameter than `n`, and
`POST /v1/events` whose values have the types of the log. For all else it returns None, and the
general way answers, which also says what is wrong. Both say the same.
"""

import json
import re
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

import orjson

from experiments.server import bodies
from experiments.server.answers import events_said, said
from experiments.server.metrics import Metrics
from experiments.server.problems import described
from experiments.server.requests import Answer, Ask, Event, Outcome
from experiments.server.worker import Worker

ASK, EVENTS = "/v1/recommend/", "/v1/events"
_ASK_ROUTE = "/v1/recommend/{user:path}"
_NUMBER = re.compile(rb"(?:n=([1-9][0-9]{0,3}))?")
_FIELDS = {"user", "item", "time", "session"}
_SECONDS_MOST = 2**40


class Taken(NamedTuple):
    """A request that was taken.

    Attributes:
      route: For metrics.
      future: What the engine gives.
      say: Makes status and body of it.
    """

    route: str
    future: "Future[Any]"
    say: Callable[[Any], tuple[int, bytes]]


class Express:
    """Asks the worker."""

    def __init__(self, worker: Worker, metrics: Metrics) -> None:
        """See the class.

        Args:
          worker: Answers.
          metrics: Gets what became of events.
        """
        self._worker, self._metrics = worker, metrics

    def ask(self, path: str, query: bytes) -> Taken | None:
        """Takes a GET request for recommendations.

        Args:
          path: Begins with `ASK`; it had nothing to decode.
          query: What comes after the question mark.

        Raises:
          BusyError: Too much waits.
          ClosedError: The server is stopping.
        """
        user, match = path[len(ASK) :], _NUMBER.fullmatch(query)
        n = 20 if match is None or match[1] is None else int(match[1])
        if match is None or n > bodies.ITEMS_MOST or not 0 < len(user) <= bodies.ID_LENGTH:
            return None
        return Taken(_ASK_ROUTE, self._worker.recommend([Ask(user, n=n)]), _say_answer)

    def tell(self, body: bytes | bytearray) -> Taken | None:
        """Takes the body of a POST request with events; raises as `ask`."""
        try:
            given = orjson.loads(body)
        except orjson.JSONDecodeError:
            return None
        if type(given) is not dict or given.keys() != {"events"}:
            return None
        listed = given["events"]
        if type(listed) is not list or not 0 < len(listed) <= bodies.EVENTS_MOST:
            return None
        events = []
        for one in listed:
            event = _event(one)
            if event is None:
                return None
            events.append(event)
        return Taken(EVENTS, self._worker.observe(events), self._say_outcomes)

    def _say_outcomes(self, outcomes: list[Outcome]) -> tuple[int, bytes]:
        for one in outcomes:
            self._metrics.count(one.status, 1)
        status, shown = events_said(outcomes)
        if status == 422:
            reason = f"events[0]: {outcomes[0].reason}"
            return status, _dump(described(422, reason) | {"events": shown["events"]})
        return status, _dump(shown)


def _say_answer(answers: list[Answer]) -> tuple[int, bytes]:
    return 200, _dump(said(answers[0]))


def _dump(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        # Whole numbers of more than 64 bits.
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _event(given: Any) -> Event | None:
    """An event; None where it is not plainly one."""
    if type(given) is not dict or not given.keys() <= _FIELDS:
        return None
    user, item = _id(given.get("user")), _id(given.get("item"))
    time, session = given.get("time"), given.get("session")
    if user is None or item is None:
        return None
    if time is not None and not (type(time) is int and 0 <= time < _SECONDS_MOST):
        return None
    if session is not None:
        session = _id(session)
        if session is None:
            return None
    return Event(user, item, time, session)


def _id(given: Any) -> str | None:
    """An id as text; None where it is none."""
    text = given if type(given) is str else str(given) if type(given) is int else ""
    return text if 0 < len(text) <= bodies.ID_LENGTH else None
