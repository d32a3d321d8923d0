"""Measures the server under load: latencies at a rate, above capacity, and memory over time.

    python -m benchmarks.serving --json=FILE [--seconds=600]

The load generator has one core, the server another. Requests leave at random times (Poisson) that
were planned before, and latencies count from those (`benchmarks.open_loop`). Three of four ask for
20 items for a user, one sends an event of a user, each of 100,000 users. The model is a HierTCN of
the default sizes with all terms of memory and random weights, over a catalogue of Globo's size;
speed does not depend on the weights. --export_dir=DIR measures a trained one.

Cases: `fill`, the first event of each user, in requests of 1,000; `start`, from the command to its
line, with all these users in the store; `load`, the rate of --rate for --seconds; `overload`,
--overload times that rate for --overload_seconds, where the figures of latency are of answers
with 200; and `recovery`, the rate of --rate again at once: `recovery_s` is how long it took until
the latencies of a second were below --p90_ms again, and all requests were answered.
`generator_p99_ms` is how late the generator itself was: where it is not small, latencies are its
own, and the machine too small or busy. `server_cpu_ms_per_request` is the server's processor time
divided by the answers it gave, of any status: it depends less on what else the machine does.
Figures of memory are the server's resident size in MB: at the start, at a quarter of the time, at
the end.
"""

import itertools
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from benchmarks.common import (
    print_figures,
    process_cpu_seconds,
    process_status,
    require_directory,
    write_report,
)
from benchmarks.open_loop import Sent, get, planned_times, post, send
from benchmarks.redis_server import RedisServer
from benchmarks.served import Asking, Served
from data_pipelines.commands.command import run_command
from hiertcn_jax.exported.reading import Export

GLOBO_ITEMS = 12_527
_FILL = 1_000
"""Events of a request that fills the store."""
_ITEMS = 20
"""Items that are asked for."""
_CYCLE = 4
"""One request in this many is an event."""
_MB = 1 << 20


class Settings(NamedTuple):
    """The command's flags."""

    json: str
    export_dir: str | None
    store: str
    items: int
    users: int
    rate: float
    seconds: float
    overload: float
    overload_seconds: float
    connections: int
    p90_ms: float
    seed: int


class Memory:
    """Notes the resident size of a process twice a second, in a thread."""

    def __init__(self, pid: int) -> None:
        """Begins."""
        self._pid, self._sizes = pid, list[float]()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._note)
        self._thread.start()

    def _note(self) -> None:
        while True:
            self._sizes.append(process_status(self._pid)["VmRSS"] / _MB)
            if self._stopped.wait(0.5):
                return

    def stop(self) -> dict[str, float]:
        """Ends it. The figures."""
        self._stopped.set()
        self._thread.join()
        quarter = self._sizes[len(self._sizes) // 4]
        return {
            "memory_start_mb": round(self._sizes[0], 1),
            "memory_quarter_mb": round(quarter, 1),
            "memory_end_mb": round(self._sizes[-1], 1),
            "memory_most_mb": round(max(self._sizes), 1),
        }


class Requests:
    """Makes requests: three recommendations, then an event, of users drawn at random."""

    def __init__(self, users: int, items: list[Any], seed: int) -> None:
        """See the class."""
        self._users, self._items = users, items
        self._rng, self._numbers = np.random.default_rng(seed), itertools.count()

    def take(self, number: int) -> list[bytes]:
        """The next so many requests."""
        user_r = self._rng.integers(0, self._users, number).tolist()
        item_r = self._rng.integers(0, len(self._items), number).tolist()
        made = []
        for user, item, count in zip(user_r, item_r, self._numbers, strict=False):
            if count % _CYCLE == _CYCLE - 1:
                event = {"user": f"u{user}", "item": self._items[item]}
                made.append(post("/v1/events", json.dumps({"events": [event]}).encode()))
            else:
                made.append(get(f"/v1/recommend/u{user}?n={_ITEMS}"))
        return made

    def fill(self, now: int) -> Iterator[list[dict[str, Any]]]:
        """An event of each user, in parts."""
        for start in range(0, self._users, _FILL):
            part = range(start, min(start + _FILL, self._users))
            yield [
                {"user": f"u{user}", "item": self._items[user % len(self._items)], "time": now}
                for user in part
            ]


def figures(sent: Sent, kind_r: np.ndarray | None = None) -> dict[str, float]:
    """Counts by what became of requests, and percentiles of the latencies of those with 200.

    Args:
      sent: What was sent.
      kind_r: bool. Which requests; None: all.
    """
    kind_r = np.ones(len(sent.status_r), bool) if kind_r is None else kind_r
    status_r = sent.status_r[kind_r]
    good_r = 1000 * sent.latency_r[kind_r][status_r == 200]
    known = {"ok": 200, "busy_429": 429, "stopping_503": 503, "unanswered": 0}
    counts = {name: int(np.sum(status_r == status)) for name, status in known.items()}
    counts["other_errors"] = int(np.sum(~np.isin(status_r, list(known.values()))))
    quantiles = {"p50_ms": 50, "p90_ms": 90, "p99_ms": 99, "p99_9_ms": 99.9, "most_ms": 100}
    return {
        "requests": len(status_r),
        **counts,
        **{
            name: round(float(np.percentile(good_r, q)), 2) if len(good_r) else float("nan")
            for name, q in quantiles.items()
        },
    }


def recovery_seconds(sent: Sent, p90_ms: float) -> float:
    """Seconds until all requests of a second were answered with 200, nine of ten within a time.

    Args:
      sent: What was sent.
      p90_ms: That time.

    Returns:
      NaN if it never was so.
    """
    for second in range(int(sent.planned_r[-1]) + 1):
        in_r = (sent.planned_r >= second) & (sent.planned_r < second + 1)
        found = figures(sent, in_r)
        if found["requests"] and found["ok"] == found["requests"] and found["p90_ms"] <= p90_ms:
            return float(second)
    return float("nan")


def is_event(number: int) -> np.ndarray:
    """Which of the requests of a new `Requests` are events; bool [number]."""
    return np.arange(number) % _CYCLE == _CYCLE - 1


def measure(settings: Settings, export: Export, place: str) -> dict[str, dict[str, Any]]:
    """All cases, with a store that is empty."""
    *cores, own = sorted(os.sched_getaffinity(0))
    server_cores = cores[:1] or [own]
    os.sched_setaffinity(0, {own})
    cases: dict[str, dict[str, Any]] = {}
    requests = Requests(settings.users, list(export.items.ids), settings.seed)
    server = Served(export.directory, place, cores=server_cores)
    try:
        cases["fill"] = _fill(server, requests)
    finally:
        server.stop()
    began = time.monotonic()
    server = Served(export.directory, place, cores=server_cores)
    cases["start"] = {"seconds": round(time.monotonic() - began, 2)}
    try:
        for name, rate, seconds in (
            ("warm up", settings.rate, min(settings.seconds, 5.0)),
            ("load", settings.rate, settings.seconds),
            ("overload", settings.rate * settings.overload, settings.overload_seconds),
            ("recovery", settings.rate, settings.overload_seconds),
        ):
            planned_r = planned_times(rate, seconds, settings.seed)
            # Whole cycles, so that each case begins with a recommendation.
            planned_r = planned_r[: len(planned_r) // _CYCLE * _CYCLE]
            memory = Memory(server.process.pid)
            cpu_seconds = process_cpu_seconds(server.process.pid)
            sent = send(server.port, requests.take(len(planned_r)), planned_r, settings.connections)
            cpu_seconds = process_cpu_seconds(server.process.pid) - cpu_seconds
            event_r = is_event(len(planned_r))
            answers = max(int(np.sum(sent.status_r > 0)), 1)
            cases[name] = {
                "rate": rate,
                "generator_p99_ms": round(1000 * float(np.percentile(sent.late_r, 99)), 2),
                "server_cpu_ms_per_request": round(1000 * cpu_seconds / answers, 3),
                **figures(sent),
                **{f"recommend_{n}": v for n, v in _times(figures(sent, ~event_r)).items()},
                **{f"events_{n}": v for n, v in _times(figures(sent, event_r)).items()},
                **memory.stop(),
            }
            if name == "recovery":
                cases[name]["recovery_s"] = recovery_seconds(sent, settings.p90_ms)
        del cases["warm up"]
    finally:
        server.stop()
    return cases


def _times(found: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in found.items() if name.endswith("_ms")}


def _fill(server: Served, requests: Requests) -> dict[str, float]:
    asking, began, events = Asking(server.port), time.monotonic(), 0
    for part in requests.fill(int(time.time()) - 3600):
        status, answer = asking.ask("/v1/events", {"events": part})
        if status != 200:
            raise RuntimeError(f"/v1/events: {status}: {answer}")
        events += answer["accepted"]
    asking.close()
    seconds = time.monotonic() - began
    return {
        "events": events,
        "events_per_s": round(events / seconds),
        "memory_mb": round(process_status(server.process.pid)["VmRSS"] / _MB, 1),
    }


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("json", None, "The file to write.", required=True)
    flags.DEFINE_string("export_dir", None, "Directory of experiments.export. Default: made here.")
    flags.DEFINE_enum("backend", "file", ["file", "redis"], "Store of the server.")
    flags.DEFINE_integer("items", GLOBO_ITEMS, "Items of the export that is made.", 1)
    flags.DEFINE_integer("number_of_users", 100_000, "Users.", lower_bound=1)
    flags.DEFINE_float("rate", 1_000.0, "Requests a second.", lower_bound=1.0)
    flags.DEFINE_float("seconds", 60.0, "How long at this rate.", lower_bound=1.0)
    flags.DEFINE_float("overload", 4.0, "How many times the rate is above capacity.", 1.0)
    flags.DEFINE_float("overload_seconds", 15.0, "How long above capacity, and after.", 1.0)
    flags.DEFINE_integer("connections", 2_000, "Open connections.", lower_bound=1)
    flags.DEFINE_float("p90_ms", 7.0, "The server has recovered below this.", lower_bound=0.0)
    flags.DEFINE_integer("seed", 0, "Seed of times, users and items.", lower_bound=0)


def read_settings() -> Settings:
    """The settings of the parsed flags.

    Raises:
      ValueError: The file cannot be written.
    """
    values = flags.FLAGS
    require_directory(values.json)
    return Settings(
        values.json,
        values.export_dir,
        values.backend,
        values.items,
        values.number_of_users,
        values.rate,
        values.seconds,
        values.overload,
        values.overload_seconds,
        values.connections,
        values.p90_ms,
        values.seed,
    )


def main(settings: Settings) -> None:
    """Measures, prints and writes the file."""
    with tempfile.TemporaryDirectory(prefix="hiertcn_jax_serving_") as folder:
        root = Path(folder)
        if settings.export_dir is None:
            from benchmarks.streaming import exported

            (root / "export").mkdir()
            export = exported(root / "export", settings.items, memory=True)
        else:
            export = Export(settings.export_dir)
        database = RedisServer(root) if settings.store == "redis" else None
        try:
            place = str(root / "load.db") if database is None else database.url()
            cases = measure(settings, export, place)
        finally:
            if database is not None:
                database.kill()
    print_figures(cases)
    write_report(settings.json, "cases", cases, store=settings.store, users=settings.users)


if __name__ == "__main__":
    define_flags()
    run_command(read_settings, main, (OSError, RuntimeError))
