"""Replaces the model of a running server, without a gap.

A thread loads the new export while the old one answers. It compares the SHA-256 of every file,
makes recommendations to see that they are possible, and counts the store's stream part by part: the
engine's thread only reads the parts. It makes the states of the users that were active last, from
their kept events. Then the engine is replaced between two batches, so every request is answered by
one of the two. Other users' states are made as they come, or in the background.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

import numpy as np

from experiments.server.counts import Counts
from experiments.server.engine import Engine, Loaded
from experiments.server.starting import read_export, version_of
from experiments.server.store import Part, StoreError
from experiments.server.users import Users
from experiments.server.worker import BusyError, ClosedError, Worker
from hiertcn_jax.exported.onnx_stream import OnnxStream
from hiertcn_jax.exported.reading import Export, ExportError

ResultT = TypeVar("ResultT")

_SMOKE_ITEMS = 20
"""Recommendations that a new model must be able to make."""
_PREPARED_MOST, _TOGETHER = 2_000, 32
"""Users whose states are made before the new model serves, and how many of them together."""
_AT_ONCE = 2
"""Users whose states are made again together in the background."""
_PAUSE_SECONDS, _PAUSES = 0.02, 3
"""The least pause between these, and how many times as long as their work: others come first."""


class RunningError(Exception):
    """Another export is being loaded."""


class Swapper:
    """Replaces the engine of a worker."""

    def __init__(self, worker: Worker, models_dir: Path | None = None) -> None:
        """See the class.

        Args:
          worker: Whose engine is replaced.
          models_dir: What clients may name must be below it; None: they may name nothing.
        """
        self._worker, self._models_dir = worker, models_dir
        self._running = threading.Lock()

    def allowed(self, name: str) -> Path:
        """The directory that a client named.

        Raises:
          PermissionError: Clients may name none.
          ValueError: It is not below the folder of models.
        """
        if self._models_dir is None:
            raise PermissionError(
                "the server was started without --models_dir, below which clients may name exports"
            )
        folder = self._models_dir.resolve()
        try:
            directory = (folder / name).resolve()
        except (OSError, RuntimeError, ValueError):
            raise ValueError(f"{name!r} is no path") from None
        if folder not in directory.parents:
            raise ValueError(f"{name!r} is not below --models_dir")
        return directory

    def start(self, directory: Path) -> "Future[Engine]":
        """Begins to replace the model.

        Args:
          directory: Of the new export. Links are followed now, and not again later.

        Returns:
          The engine that serves in the end. Errors: ExportError, if the export cannot be served;
          StoreError, ClosedError.

        Raises:
          RunningError: Another one is being loaded.
        """
        if not self._running.acquire(blocking=False):
            raise RunningError("another export is being loaded; try again when it serves")
        future: Future[Engine] = Future()
        future.set_running_or_notify_cancel()
        # A daemon: a server that stops does not wait for a model.
        threading.Thread(
            target=self._run, args=(directory, future), name="swap", daemon=True
        ).start()
        return future

    def _run(self, directory: Path, future: "Future[Engine]") -> None:
        try:
            engine, active = self._swap(directory.resolve())
        except Exception as error:
            self._running.release()
            future.set_exception(error)
            return
        self._running.release()
        future.set_result(engine)
        self._refresh(engine, active)

    def _swap(self, directory: Path) -> tuple[Engine, list[str]]:
        export = read_export(directory)
        version = version_of(export)
        present = self._worker.engine
        if version == present.version:
            return present, []
        stream, counts = OnnxStream(export), Counts(export)
        _try(export, stream, counts)
        users = self._ask(lambda engine: engine.users_of(export, stream))
        counts.number, after = users.first, 0

        def catch_up(engine: Engine | None = None) -> None:
            """Counts the stream; in the engine's thread if the engine is given."""
            nonlocal after

            def next_part(engine: Engine) -> Part | None:
                return engine.stream_part(users.first, export.newest, after)

            while (part := next_part(engine) if engine else self._ask(next_part)) is not None:
                counts.add(part.events, part.number)
                after = part.number

        catch_up()
        self._prepare(users, self._ask(_active)[:_PREPARED_MOST])
        catch_up()

        def make(engine: Engine) -> Engine:
            catch_up(engine)
            return engine.successor(export, Loaded(stream, users, counts))

        engine = self._ask(make, self._worker.replace)
        return engine, self._ask(_active)

    def _prepare(self, users: Users, active: list[str]) -> None:
        """Makes states of users before the new model serves: what they do later is added then."""
        for start in range(0, len(active), _TOGETHER):
            ids = active[start : start + _TOGETHER]
            users.prepare(self._ask(lambda _, ids=ids: users.kept_of(ids)))

    def _ask(
        self,
        function: Callable[[Engine], ResultT],
        way: Callable[..., "Future[ResultT]"] | None = None,
    ) -> ResultT:
        """What a function of the engine gives, when it has time for it.

        Args:
          function: See `Worker.call`.
          way: `Worker.call` or `Worker.replace`.
        """
        while True:
            try:
                return (way or self._worker.call)(function).result()
            except BusyError:
                time.sleep(_PAUSE_SECONDS)

    def _refresh(self, engine: Engine, active: list[str]) -> None:
        """Makes the states of the users again, those who were active last first."""
        for start in range(0, len(active), _AT_ONCE):
            ids = active[start : start + _AT_ONCE]
            if self._worker.engine is not engine:
                return
            began = time.monotonic()
            try:
                self._ask(lambda now, ids=ids: now.refresh(ids))
            except ClosedError:
                return
            except StoreError as error:
                logging.error("%s; states are made again when users come", error)
                return
            time.sleep(max(_PAUSE_SECONDS, _PAUSES * (time.monotonic() - began)))
        engine.users.prepared.clear()


def _active(engine: Engine) -> list[str]:
    """Who was active last comes first."""
    return list(reversed(engine.users.active))


def _try(export: Export, stream: OnnxStream, counts: Counts) -> None:
    """Makes recommendations.

    Raises:
      ExportError: It cannot.
    """
    number = min(_SMOKE_ITEMS, len(export.items.ids))
    states = [stream.start(), *map(export.users.state_of, export.users.ids.ids[:1])]
    for known in filter(None, states):
        for tried in (known, stream.observe(known, [export.items.first], [export.newest])):
            now = np.maximum(tried.last_time_n, max(export.newest, counts.newest) + 1)
            best = stream.recommend(tried, now, number, counts.memory)
            if not np.isfinite(best.scores_nk).all():
                raise ExportError(
                    f"{export.directory}: recommendations have scores that are no numbers; export "
                    "another checkpoint"
                )
