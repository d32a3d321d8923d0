"""Replaces the model of a server while requests come, and measures what they notice.

    python -m benchmarks.serving_swap --json=FILE

First events of many users are stored. Then users ask for recommendations, one after another on each
of three connections with a pause between them, and click now and then. After some seconds the
server gets another export by `POST /v1/model`; some seconds later the run ends. Cases: `before`,
`during` (until the answer to `POST /v1/model`) and `after`. `requests`, `p50_ms`, `p99_ms` and
`most_ms` are of all requests, `failed` counts those without status 200, and `seconds` is how long
the case took. The users' states are those of the old model, so each is made again.
"""

import json
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from benchmarks.common import print_figures, require_directory, write_report
from benchmarks.served import Asking, Served
from data_pipelines.commands.command import run_command
from hiertcn_jax.exported.layout import MANIFEST
from hiertcn_jax.exported.reading import Export

_CONNECTIONS = 3
_PAUSE_S = 0.01
_CLICK_EVERY = 10
_FILL = 1_000
"""Events of a request while the store is filled."""


class FailedError(Exception):
    """A request failed while the model was replaced."""


class Asked(NamedTuple):
    """A request: when it was sent, how long it took, whether its status was 200."""

    at: float
    seconds: float
    fine: bool


class Load:
    """Users who ask and click, until `stop`."""

    def __init__(self, port: int, items: list[Any], users: int) -> None:
        """Starts it."""
        self.asked: list[Asked] = []
        self._port, self._items, self._users = port, items, users
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number,)) for number in range(_CONNECTIONS)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int) -> None:
        asking, rng = Asking(self._port), np.random.default_rng(number)
        while not self._ended.wait(_PAUSE_S):
            user = f"u{rng.integers(self._users)}"
            path, body = f"/v1/recommend/{user}?n=20", None
            if rng.integers(_CLICK_EVERY) == 0:
                item = self._items[rng.integers(len(self._items))]
                path, body = "/v1/events", {"events": [{"user": user, "item": item}]}
            began = time.perf_counter()
            status, _ = asking.ask(path, body)
            self.asked.append(Asked(began, time.perf_counter() - began, status == 200))
        asking.close()

    def stop(self) -> None:
        """Waits for the last answers."""
        self._ended.set()
        for thread in self._threads:
            thread.join()


def figures(asked: list[Asked], begin: float, end: float) -> dict[str, float]:
    """The figures of the requests that were sent in a span of time."""
    part = [one for one in asked if begin <= one.at < end]
    ms = 1_000 * np.array([one.seconds for one in part] or [0.0])
    return {
        "requests": len(part),
        "failed": sum(not one.fine for one in part),
        "p50_ms": round(float(np.percentile(ms, 50)), 1),
        "p99_ms": round(float(np.percentile(ms, 99)), 1),
        "most_ms": round(float(ms.max()), 1),
        "seconds": round(end - begin, 2),
    }


def with_another_name(export: Path, copy: Path) -> None:
    """Copies an export as one of another model."""
    shutil.copytree(export, copy)
    facts = json.loads((copy / MANIFEST).read_text())
    (copy / MANIFEST).write_text(json.dumps({**facts, "model_id": "another"}))


def measure(models: Path, events: int, users: int, seconds: float) -> dict[str, dict[str, float]]:
    """The cases, for the exports `first` and `second` in a folder."""
    items = list(Export(models / "first").items.ids)
    newest = int(time.time()) - events
    server = Served(models / "first", str(models / "store.db"), f"--models_dir={models}")
    try:
        asking, rng = Asking(server.port), np.random.default_rng(0)
        for start in range(0, events, _FILL):
            part = [
                {
                    "user": f"u{number % users}",
                    "item": items[rng.integers(len(items))],
                    "time": newest + number,
                }
                for number in range(start, min(start + _FILL, events))
            ]
            asking.ask("/v1/events", {"events": part})
        asking.close()
        load = Load(server.port, items, users)
        try:
            times = [time.perf_counter()]
            time.sleep(seconds)
            times.append(time.perf_counter())
            # The server has closed the connection, which was idle.
            status, answer = asking.ask("/v1/model", {"export_dir": "second"})
            times.append(time.perf_counter())
            if status != 200:
                raise FailedError(f"POST /v1/model: {answer}")
            time.sleep(seconds)
            times.append(time.perf_counter())
        finally:
            load.stop()
            asking.close()
    finally:
        server.stop()
    spans = zip(("before", "during", "after"), times, times[1:], strict=False)
    return {name: figures(load.asked, begin, end) for name, begin, end in spans}


class Settings(NamedTuple):
    """The command's flags."""

    json: str
    items: int
    events: int
    users: int
    seconds: float
    export_dir: str | None


def define_flags() -> None:
    """Defines the flags of this command."""
    flags.DEFINE_string("json", None, "The file to write.", required=True)
    flags.DEFINE_integer("items", 12_527, "Items of the catalogue.", lower_bound=1)
    flags.DEFINE_integer("events", 30_000, "Events in the store.", lower_bound=1)
    flags.DEFINE_integer("users", 500, "Whose they are.", lower_bound=1)
    flags.DEFINE_float("seconds", 10.0, "Before and after the change.", lower_bound=0.1)
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
    return Settings(
        values.json, values.items, values.events, values.users, values.seconds, values.export_dir
    )


def main(settings: Settings) -> None:
    """Measures, prints and writes the file.

    Raises:
      FailedError: A request failed.
    """
    with tempfile.TemporaryDirectory(prefix="hiertcn_jax_swap_") as folder:
        models = Path(folder)
        if settings.export_dir is None:
            from benchmarks.streaming import exported

            (models / "first").mkdir()
            exported(models / "first", settings.items, memory=True)
        else:
            shutil.copytree(settings.export_dir, models / "first")
        with_another_name(models / "first", models / "second")
        cases = measure(models, settings.events, settings.users, settings.seconds)
    print_figures(cases)
    write_report(settings.json, "cases", cases)
    for name, one in cases.items():
        if one["failed"]:
            raise FailedError(f"{name}: {one['failed']:.0f} requests failed")


if __name__ == "__main__":
    define_flags()
    run_command(read_settings, main, (FailedError, OSError, RuntimeError))
