"""Replaces the model of a running server, without a gap.

A thread loads the new export while the old one answers. It compares the SHA-256 of every file,
makes recommendations to see that they are possible, and counts the store's stream part by part: the
engine's thread only reads the parts. Then the engine is replaced between two batches, so every
request is answered by one of the two. States are made again from kept events as users come; those
of the users that were active are made in the background.
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
from experiments.server.engine import Engine, Loaded, version_of
from experiments.server.starting import read_export
from experiments.server.store import Part, StoreError
from experiments.server.worker import BusyError, ClosedError, Worker
from hiertcn_jax.exported.onnx_stream import OnnxStream
from hiertcn_jax.exported.reading import Export, ExportError

ResultT = TypeVar("ResultT")

_SMOKE_ITEMS = 20
"""Recommendations that a new model must be able to make."""
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
        first = self._ask(lambda engine: engine.first_number(version))
        counts.number, after = first, 0

        def next_part(engine: Engine) -> Part | None:
            return engine.stream_part(first, export.newest, after)

        while (part := self._ask(next_part)) is not None:
            counts.add(part.events, part.number)
            after = part.number

        def make(engine: Engine) -> Engine:
            # What came since the last part.
            nonlocal after
            while (part := next_part(engine)) is not None:
                counts.add(part.events, part.number)
                after = part.number
            return engine.successor(export, Loaded(stream, counts))

        engine = self._ask(make, self._worker.replace)
        return engine, list(reversed(engine.users.active))

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
