"""A run on several processes: how they find each other, and how they end when one of them fails.

A collective operation whose partner is gone may wait for ever. So every process says now and then
that it lives; the first one listens, and tells the others when one has fallen silent. A process
that fails, or is stopped where nothing is agreed on, tells them why. Whoever is told says it in one
line and ends at once with the same exit code, whatever it is waiting for. If the first process
itself is killed, which all are connected to, JAX ends the others.
"""

import contextlib
import os
import re
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

import jax

from data_pipelines.commands.command import StoppedError, one_line, stop_that_caused

BEAT_SECONDS = 2.0
"""Between two signs of life."""

SILENCE_SECONDS = 40.0
"""Without a sign of life a process is taken for dead. A machine may be busy for a while."""

MEETING_SECONDS = 300.0
"""How long a process waits for the first one to be there."""

_ALIVE, _FAILED, _LEFT = "hiertcn_jax/alive/", "hiertcn_jax/failed/", "hiertcn_jax/left/"
_LEAVING_SECONDS = 5 * BEAT_SECONDS
"""How long the first process waits for the others to be told why it ends."""

_SHUTDOWN_SECONDS = 24 * 3600

_OWN = re.compile(r"\b(RESOURCE_EXHAUSTED|INVALID_ARGUMENT|UNIMPLEMENTED)\b")
"""In the message of an error of JAX whose cause is no other process: memory ran out, say."""


class Cluster(NamedTuple):
    """Where the processes of a run meet.

    Attributes:
      coordinator_address: `host:port` of the first process; None: all of this is taken from the
        cluster's environment (Cloud TPU, Slurm, Open MPI).
      num_processes: How many there are.
      process_id: Which one this is.
    """

    coordinator_address: str | None
    num_processes: int | None = None
    process_id: int | None = None


class ClusterError(ValueError):
    """The processes do not find each other; the message is one line."""


@contextlib.contextmanager
def joined(cluster: Cluster | None, mendable: tuple[type[Exception], ...]) -> Iterator[None]:
    """In its context this process is one of a run's. Only the first one prints tables.

    Must be entered before JAX is asked for anything.

    Args:
      cluster: Where the others are; None: there are none.
      mendable: Errors that are told in one line, without a traceback.

    Raises:
      ClusterError: They do not find each other.
    """
    if cluster is None:
        yield
        return
    _meet(cluster)
    watch = _Watch()
    with contextlib.ExitStack() as closing:
        if jax.process_index():
            nowhere = closing.enter_context(open(os.devnull, "w", encoding="utf-8"))
            closing.enter_context(contextlib.redirect_stdout(nowhere))
        try:
            yield
        except (Exception, StoppedError) as error:
            if stopped := stop_that_caused(error):
                if stopped.by_all:
                    # JAX ends its service: no sign of life may be under way then.
                    watch.end()
                    # Here, since a stopped command leaves without what JAX does at its end.
                    jax.distributed.shutdown()
                    raise
                watch.leave(stopped.line, int(str(stopped.code)))
            reason = one_line(str(error) or repr(error))
            if isinstance(error, jax.errors.JaxRuntimeError) and not _OWN.search(reason):
                _wait_for_word(f"{watch.name}: {reason}")
            if not isinstance(error, mendable):
                traceback.print_exc()
            watch.leave(reason, 1)
        watch.end()


def _meet(cluster: Cluster) -> None:
    """Finds the others.

    Raises:
      ClusterError: They are not there.
    """
    if cluster.coordinator_address is not None and cluster.process_id:
        _reach(cluster.coordinator_address)
    try:
        jax.distributed.initialize(
            *cluster,
            # JAX aborts all where one has fallen silent; before that we say which.
            heartbeat_timeout_seconds=int(5 * SILENCE_SECONDS),
            shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        reason = one_line(str(error))
        if cluster.coordinator_address is None:
            reason = f"the environment does not say where the processes meet: {reason}"
        address = cluster.coordinator_address or "auto"
        raise ClusterError(f"coordinator_address={address}: {reason}") from error
    # JAX aborts where the first process is gone, and says so; absl would tell where each thread of
    # Python was then, which has nothing to do with it.
    signal.signal(signal.SIGABRT, signal.SIG_DFL)


def _wait_for_word(line: str) -> None:
    """Says what broke, most likely since another process is gone.

    Which one is known when it has been silent for long; then this process is ended meanwhile, once
    the others have been told.
    """
    patience = SILENCE_SECONDS + _LEAVING_SECONDS + 5 * BEAT_SECONDS
    print(f"{line}; waiting {patience:.0f} s for word of the others", file=sys.stderr, flush=True)
    time.sleep(patience)


def _reach(address: str) -> None:
    """Waits for the first process to listen. JAX would end this one without a word of ours."""
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + MEETING_SECONDS
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=BEAT_SECONDS).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"coordinator_address={address}: process 0 does not listen there after "
                    f"{MEETING_SECONDS:.0f} s: {error.strerror or error}"
                ) from error
        time.sleep(BEAT_SECONDS / 10)


class _Watch:
    """Signs of life, and a look for those of others; in a thread, for the main one may wait.

    Attributes:
      name: This process, as messages name it.
    """

    def __init__(self) -> None:
        # What libraries that run on JAX use, Orbax among them; there is no other way to it.
        self._client: Any = jax._src.distributed.global_state.client
        self._index, self._count = jax.process_index(), jax.process_count()
        self.name = f"process {self._index} of {self._count}"
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """No more signs: the run is done."""
        self._ends.set()
        self._thread.join()

    def leave(self, reason: str, code: int) -> NoReturn:
        """Tells the others why, and ends the process; they end likewise.

        Args:
          reason: What failed, or that this process was stopped.
          code: The exit code of all.
        """
        self.end()
        word = f"{code} {self.name}: {reason}"
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            self._client.key_value_set(_FAILED + str(self._index), word)
            self._go()
        _exit(word)

    def _go(self) -> None:
        """The last that this process does. The others are told by the first, which goes last."""
        if self._index:
            self._client.key_value_set(_LEFT + str(self._index), "")
            return
        deadline = time.monotonic() + _LEAVING_SECONDS
        while time.monotonic() < deadline:
            if len(self._client.key_value_dir_get(_LEFT)) == self._count - 1:
                break
            time.sleep(BEAT_SECONDS / 10)
        time.sleep(BEAT_SECONDS / 10)

    def _watch(self) -> None:
        last_sign = dict.fromkeys(range(self._count), (None, time.monotonic()))
        beat = 0
        while not self._ends.wait(BEAT_SECONDS):
            beat += 1
            try:
                self._client.key_value_set(f"{_ALIVE}{self._index}", str(beat), True)
                failures = [line for _, line in self._client.key_value_dir_get(_FAILED)]
                if not failures and self._index == 0:
                    failures = self._silent(last_sign)
            except jax.errors.JaxRuntimeError:
                continue  # The first process is gone; JAX ends this one.
            if failures and not self._ends.is_set():
                with contextlib.suppress(jax.errors.JaxRuntimeError):
                    self._go()
                _exit(failures[0])

    def _silent(self, last_sign: dict[int, Any]) -> list[str]:
        """A word about the processes that have given no sign for long; the others are told."""
        now, signs = time.monotonic(), dict(self._client.key_value_dir_get(_ALIVE))
        for index, (beat, _) in last_sign.items():
            sign = signs.get(f"{_ALIVE}{index}")
            if sign != beat:
                last_sign[index] = (sign, now)
        silent = [str(index) for index, (_, at) in last_sign.items() if now - at > SILENCE_SECONDS]
        if not silent:
            return []
        word = (
            f"1 process {', '.join(silent)} of {self._count}: no sign of life for "
            f"{SILENCE_SECONDS:.0f} s: it was killed, or its machine does not answer"
        )
        self._client.key_value_set(_FAILED + "silent", word)
        return [word]


def _exit(word: str) -> NoReturn:
    """Ends at once: an orderly end would wait for the others.

    Args:
      word: As processes tell each other: the exit code, and behind a blank why.
    """
    code, _, line = word.partition(" ")
    print("error: " * (code == "1") + line, file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(int(code))
