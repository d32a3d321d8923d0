"""Kills servers under load, and checks that no accepted event is lost and none counts twice.

    python -m benchmarks.serving_kills --kills=50 --json=FILE

Writers send events without a pause, several to a request, and now and then one that was accepted
before. At seeded moments a server gets SIGKILL, and is started again with the same store. What got
no answer is sent again, as docs/serving.md says, until it gets one. At the end every accepted event
must be kept, the counts must have each once, and all of them, sent again, must be duplicates.

Cases: `file`, one server with a file; `redis`, two servers with one Redis, where each fourth kill
hits Redis. A server is killed at a moment of its own: after a number of answers and up to 20 ms.
"""

import http.client
import itertools
import random
import signal
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from benchmarks.common import print_figures, require_directory, write_report
from benchmarks.redis_server import RedisServer
from benchmarks.served import Asking, Served, metric
from data_pipelines.commands.command import run_command
from hiertcn_jax.exported.reading import Export

STORES = ("file", "redis")
_WRITERS = 4
_ANSWERS = 40
"""Answers between two kills, at most."""
_DELAY_S = 0.02
_EVENTS_OF_A_USER = 60
"""Below what a store keeps of one, so that all can be looked for at the end."""
_FIRST = 1_000_000
"""Time of the first event, seconds."""
_PART = 200
"""Events that are sent again in one request."""

Event = tuple[str, str, int]


class LossError(Exception):
    """An accepted event is lost, or one counted twice."""


class Load:
    """Writers that send events, each until it has an answer.

    Attributes:
      accepted: Events that were accepted or, sent again, known already.
      twice: How many were accepted twice.
      unanswered: Requests that were sent again because there was no answer, or 503.
    """

    def __init__(self, ports: list[int], items: Sequence[Any], seed: int) -> None:
        """Starts the writers.

        Args:
          ports: Of the servers; changed as they start again.
          items: Raw ids to pick from.
          seed: For what they send.
        """
        self._ports, self._items, self._seed = ports, items, seed
        self.accepted: set[Event] = set()
        self._twice, self.unanswered, self._answers = 0, 0, 0
        self._changed, self._stopped = threading.Condition(), False
        self._errors: list[str] = []
        self._writers = [
            threading.Thread(target=self._write, args=(number,)) for number in range(_WRITERS)
        ]
        for writer in self._writers:
            writer.start()

    @property
    def twice(self) -> int:
        """See the class."""
        return self._twice

    def wait_for(self, answers: int) -> None:
        """Waits until so many more requests are answered.

        Raises:
          RuntimeError: None is answered for a minute, or one wrongly.
        """
        with self._changed:
            wanted = self._answers + answers
            if not self._changed.wait_for(
                lambda: self._answers >= wanted or bool(self._errors), timeout=60
            ):
                raise RuntimeError("no request was answered for a minute")
        self._require_no_errors()

    def stop(self) -> None:
        """Ends the writers, each after an answer to its last request.

        Raises:
          RuntimeError: A request was answered wrongly.
        """
        self._stopped = True
        for writer in self._writers:
            writer.join()
        self._require_no_errors()

    def _require_no_errors(self) -> None:
        if self._errors:
            raise RuntimeError(self._errors[0])

    def _write(self, writer: int) -> None:
        rng, sent = random.Random(f"{self._seed} {writer}"), list[Event]()
        for number in itertools.count():
            if self._stopped or self._errors:
                return
            events = [
                (
                    f"w{writer}-{(8 * number + index) // _EVENTS_OF_A_USER}",
                    str(rng.choice(self._items)),
                    _FIRST + 8 * number + index,
                )
                for index in range(rng.randint(1, 5))
            ]
            again = rng.sample(sent, k=min(1, len(sent))) if rng.random() < 0.2 else []
            statuses = self._send([*events, *again], rng)
            if statuses is None:
                return
            sent += events
            with self._changed:
                for event, status in zip([*events, *again], statuses, strict=True):
                    self._twice += status == "accepted" and event in self.accepted
                    self.accepted.add(event)
                self._answers += 1
                self._changed.notify_all()

    def _send(self, events: list[Event], rng: random.Random) -> list[str] | None:
        """What became of events, once there is an answer; None for a wrong one."""
        named = ("user", "item", "time")
        body = {"events": [dict(zip(named, event, strict=True)) for event in events]}
        while True:
            asking = Asking(rng.choice(self._ports))
            try:
                status, answer = asking.ask("/v1/events", body)
            except (OSError, http.client.HTTPException):
                status, answer = 503, None
            finally:
                asking.close()
            if status == 200:
                return [one["status"] for one in answer["events"]]
            if status not in (429, 503):
                self._errors.append(f"{status}: {answer}")
                return None
            with self._changed:
                self.unanswered += 1
                # The server is starting.
                self._changed.wait(0.05)


class Case(NamedTuple):
    """What is killed.

    Attributes:
      export: Of the model.
      kills: How often.
      seed: Of the moments, and of what is sent.
      directory: For the store.
    """

    export: Export
    kills: int
    seed: int
    directory: Path


def measure(case: Case, store: str) -> dict[str, float]:
    """Kills, checks, and gives the figures.

    Args:
      case: See `Case`.
      store: From `STORES`.

    Raises:
      RuntimeError: A request is answered wrongly, or a server does not start.
    """
    rng, began = random.Random(case.seed), time.monotonic()
    database = RedisServer(case.directory) if store == "redis" else None
    place = database.url() if database else str(case.directory / "kills.db")
    servers: list[Served] = []
    try:
        for _ in range(2 if database else 1):
            servers.append(Served(case.export.directory, place))
        load = Load([one.port for one in servers], case.export.items.ids, case.seed)
        databases = 0
        try:
            for number in range(case.kills):
                load.wait_for(rng.randint(1, _ANSWERS))
                time.sleep(rng.uniform(0, _DELAY_S))
                if database and number % 4 == 3:
                    database.kill()
                    database.start()
                    databases += 1
                    continue
                victim = rng.randrange(len(servers))
                servers[victim].stop(signal.SIGKILL)
                servers[victim] = Served(case.export.directory, place)
                load._ports[victim] = servers[victim].port
            load.wait_for(_ANSWERS)
        finally:
            load.stop()
        figures = {"kills": case.kills, "of_redis": databases, **_check(load, servers)}
        figures["seconds"] = round(time.monotonic() - began, 1)
        return figures
    finally:
        for server in servers:
            server.stop()
        if database:
            database.kill()


def _check(load: Load, servers: list[Served]) -> dict[str, float]:
    """The figures at the end; `lost` and `counted_wrongly` must be 0."""
    asking = Asking(servers[0].port)
    kept: set[Event] = set()
    for user in sorted({user for user, _, _ in load.accepted}):
        status, record = asking.ask(f"/v1/users/{user}")
        received = record["received"] if status == 200 else []
        kept |= {(user, str(one["item"]), one["time"]) for one in received}
    counted = []
    for server in servers:
        # A server asked for something has counted what the others wrote.
        other = Asking(server.port)
        other.ask("/v1/recommend/nobody?n=1")
        counted.append(metric(other.ask("/metrics")[1], "hiertcn_counted_events"))
        other.close()
    known = 0
    everything = sorted(load.accepted)
    for start in range(0, len(everything), _PART):
        events = [
            {"user": user, "item": item, "time": when}
            for user, item, when in everything[start : start + _PART]
        ]
        known += asking.ask("/v1/events", {"events": events})[1]["duplicate"]
    asking.close()
    return {
        "accepted": len(everything),
        "lost": len(load.accepted - kept),
        "accepted_twice": load.twice,
        "counted_wrongly": max(abs(one - len(everything)) for one in counted),
        "not_known_again": len(everything) - known,
        "sent_again": load.unanswered,
    }


def require_none_lost(cases: dict[str, dict[str, float]]) -> None:
    """Raises LossError unless every event was counted once."""
    for name, figures in cases.items():
        for wrong in ("lost", "accepted_twice", "counted_wrongly", "not_known_again"):
            if figures[wrong]:
                raise LossError(f"{name}: {wrong}={figures[wrong]:.0f}")


class Settings(NamedTuple):
    """The command's flags."""

    json: str
    kills: int
    seed: int
    stores: list[str]
    export_dir: str | None


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("json", None, "The file to write.", required=True)
    flags.DEFINE_integer("kills", 50, "Kills for each store.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Seed of the moments and events.", lower_bound=0)
    flags.DEFINE_multi_enum("store", list(STORES), STORES, "Stores to kill servers of.")
    flags.DEFINE_string(
        "export_dir", None, "Directory of experiments.export. Default: random weights."
    )


def read_settings() -> Settings:
    """The settings of the parsed flags.

    Raises:
      ValueError: The file cannot be written.
    """
    values = flags.FLAGS
    require_directory(values.json)
    return Settings(values.json, values.kills, values.seed, values.store, values.export_dir)


def main(settings: Settings) -> None:
    """Kills, prints and writes the file.

    Raises:
      LossError: An event is lost or counted twice.
    """
    with tempfile.TemporaryDirectory(prefix="hiertcn_jax_kills_") as folder:
        root, cases = Path(folder), dict[str, dict[str, float]]()
        if settings.export_dir is None:
            from benchmarks.streaming import exported

            (root / "export").mkdir()
            export = exported(root / "export", 1_000, memory=True)
        else:
            export = Export(settings.export_dir)
        for store in settings.stores:
            (root / store).mkdir()
            case = Case(export, settings.kills, settings.seed, root / store)
            cases[store] = measure(case, store)
    print_figures(cases)
    write_report(settings.json, "cases", cases)
    require_none_lost(cases)


if __name__ == "__main__":
    define_flags()
    run_command(read_settings, main, (LossError, OSError, RuntimeError))
