"""A run on several processes: how they find each other, and how they end when one of them fails.

A collective operation whose partner is gone may wait forever. So every process holds a connection
to the first one, and regularly sends it a sign of life. If a connection breaks or a process is
silent, the first one tells the others. A process that fails, or is stopped outside the training
loop, tells the others why. Each of them reports it in one line and exits at once with the same
code, whatever it is waiting for. All are connected to the first process: if that one is killed, JAX
ends the others.
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
from data_pipelines.commands.os_errors import os_error_line
from experiments.processes.lifelines import Lifeline, Lifelines
from experiments.processes.notes import notes_of_jax

BEAT_SECONDS = 2.0
"""Seconds between two signs of life."""

SILENCE_SECONDS = 40.0
"""Seconds of silence after which a process counts as dead. A machine may be busy for a while."""

MEETING_SECONDS = 300.0
"""How long a process waits for the first one to start."""

_ALIVE, _FAILED, _LEFT = "hiertcn_jax/alive/", "hiertcn_jax/failed/", "hiertcn_jax/left/"
_LISTENS = "hiertcn_jax/listens/"
_LEAVING_SECONDS = 5 * BEAT_SECONDS
"""How long the first process waits at its end until the others know why."""

_SHUTDOWN_SECONDS = 24 * 3600

_OWN = re.compile(r"\b(RESOURCE_EXHAUSTED|INVALID_ARGUMENT|UNIMPLEMENTED)\b")
"""Part of a JAX error that no other process caused, such as running out of memory."""

_OF_OTHERS = re.compile(
    r"gloo|nccl|rccl|mpi_|collective|all-?reduce|all-?gather|peer|socket|connect|coordinat|heartbeat"
    r"|barrier|preempt|UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|CANCELLED",
    re.IGNORECASE,
)
"""In the message of an error of JAX that another process may have caused."""


class Cluster(NamedTuple):
    """Where the processes of a run meet.

    Attributes:
      coordinator_address: `host:port` of the first process; None: all three come from the cluster's
        environment (Cloud TPU, Slurm, Open MPI).
      num_processes: Number of processes.
      process_id: Number of this process.
    """

    coordinator_address: str | None
    num_processes: int | None = None
    process_id: int | None = None


class ClusterError(ValueError):
    """The processes do not find each other; the message is one line."""


@contextlib.contextmanager
def joined(cluster: Cluster | None, mendable: tuple[type[Exception], ...]) -> Iterator[None]:
    """Within its context this process is one of a run's. Only the first one prints tables.

    Enter it before any other use of JAX.

    Args:
      cluster: Where the processes meet; None: there is only one.
      mendable: Errors to report in one line, without a traceback.

    Raises:
      ClusterError: The processes do not find each other.
    """
    if cluster is None:
        yield
        return
    _meet(cluster)
    watch = _Watch(cluster.coordinator_address)
    with contextlib.ExitStack() as closing:
        if jax.process_index():
            nowhere = closing.enter_context(open(os.devnull, "w", encoding="utf-8"))
            closing.enter_context(contextlib.redirect_stdout(nowhere))
        try:
            yield
        except (Exception, StoppedError) as error:
            if stopped := stop_that_caused(error):
                if stopped.by_all:
                    # JAX is about to end its service, so no sign of life may be in flight.
                    watch.end()
                    # Call it here, because a stopped command skips what JAX does at exit.
                    jax.distributed.shutdown()
                    raise
                watch.leave(stopped.line, int(str(stopped.code)))
            said = os_error_line(error) if isinstance(error, OSError) else str(error)
            reason = one_line(said or repr(error))
            if isinstance(error, jax.errors.JaxRuntimeError) and _may_be_of_others(reason):
                _wait_for_word(f"{watch.name}: {reason}")
            if not isinstance(error, mendable):
                traceback.print_exc()
            watch.leave(reason, 1)
        watch.end()


def _meet(cluster: Cluster) -> None:
    """Connects to the other processes.

    Raises:
      ClusterError: They cannot be reached.
    """
    if cluster.coordinator_address is not None and cluster.process_id:
        _reach(cluster.coordinator_address)
    try:
        jax.distributed.initialize(
            *cluster,
            # If one is silent, JAX aborts all; our own check comes earlier and says which one.
            heartbeat_timeout_seconds=int(5 * SILENCE_SECONDS),
            shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        reason = one_line(str(error))
        if cluster.coordinator_address is None:
            reason = (
                f"the cluster's environment does not say where the processes meet: {reason}; name "
                "the place by --coordinator_address=host:port, --num_processes and --process_id"
            )
        address = cluster.coordinator_address or "auto"
        raise ClusterError(f"coordinator_address={address}: {reason}") from error
    # If the first process is gone, JAX reports it and aborts; absl would add where each Python
    # thread was, which is irrelevant.
    signal.signal(signal.SIGABRT, signal.SIG_DFL)


def _may_be_of_others(reason: str) -> bool:
    return not _OWN.search(reason) and bool(_OF_OTHERS.search(reason))


def _wait_for_word(line: str) -> None:
    """Prints an error that another process probably caused, and waits for that one's report.

    It takes a while until a silent process is known; then this process ends here, once the others
    know.
    """
    patience = SILENCE_SECONDS + _LEAVING_SECONDS + 5 * BEAT_SECONDS
    print(
        f"{line}; waiting {patience:.0f} s for the others to say why", file=sys.stderr, flush=True
    )
    time.sleep(patience)


def _reach(address: str) -> None:
    """Waits for the first process to listen. JAX would end this process without our message."""
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
                    f"{MEETING_SECONDS:.0f} s: {error.strerror or error}; start it, or correct the "
                    "address"
                ) from error
        time.sleep(BEAT_SECONDS / 10)


class _Watch:
    """Sends signs of life and watches those of others, in a thread, as the main one may be waiting.

    Attributes:
      name: Name of this process in messages.
    """

    def __init__(self, address: str | None = None) -> None:
        self._notes = notes_of_jax()
        self._host = (address or "").rpartition(":")[0].strip("[]")
        self._index, self._count = jax.process_index(), jax.process_count()
        self.name = f"process {self._index} of {self._count}"
        self._ends, self._wakes = threading.Event(), threading.Event()
        self._gone: set[int] = set()
        self._lifeline: Lifeline | Lifelines | None = None
        if self._index == 0:
            self._listen()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stops sending signs: the run is done."""
        self._ends.set()
        self._wakes.set()
        self._thread.join()
        if self._lifeline is not None:
            self._lifeline.close()

    def leave(self, reason: str, code: int) -> NoReturn:
        """Tells the others why, and ends the process; they end too.

        Args:
          reason: What failed, or that this process was stopped.
          code: The exit code of all.
        """
        self.end()
        word = f"{code} {self.name}: {reason}"
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            self._notes.key_value_set(_FAILED + str(self._index), word)
            self._go()
        _exit(word)

    def _go(self) -> None:
        """The last act of this process. The first process tells the others, and exits last."""
        if self._index:
            self._notes.key_value_set(_LEFT + str(self._index), "")
            return
        deadline = time.monotonic() + _LEAVING_SECONDS
        while time.monotonic() < deadline:
            if len(self._notes.key_value_dir_get(_LEFT)) >= self._count - 1 - len(self._gone):
                break
            time.sleep(BEAT_SECONDS / 10)
        time.sleep(BEAT_SECONDS / 10)

    def _note_gone(self, index: int) -> None:
        if index < self._count:
            self._gone.add(index)
            self._wakes.set()

    def _watch(self) -> None:
        last_sign = dict.fromkeys(range(self._count), (None, time.monotonic()))
        beat = 0
        while not self._ends.is_set():
            beat += 1
            try:
                failures = self._look(beat, last_sign)
            except jax.errors.JaxRuntimeError:
                failures = []  # The first process is gone; JAX ends this one.
            if failures and not self._ends.is_set():
                with contextlib.suppress(jax.errors.JaxRuntimeError):
                    self._go()
                _exit(failures[0])
            self._wakes.wait(BEAT_SECONDS)
            self._wakes.clear()

    def _look(self, beat: int, last_sign: dict[int, Any]) -> list[str]:
        """Gives a sign of life; returns what the others said of a failure, or what shows one."""
        self._notes.key_value_set(f"{_ALIVE}{self._index}", str(beat), True)
        if self._lifeline is None:
            self._connect()
        failures = [line for _, line in self._notes.key_value_dir_get(_FAILED)]
        if failures or self._index:
            return failures
        return self._broken() or self._silent(last_sign)

    def _listen(self) -> None:
        lifelines = Lifelines(self._note_gone)
        self._lifeline = lifelines
        host = self._host or socket.gethostname()
        self._notes.key_value_set(_LISTENS + "0", f"{lifelines.port} {host}")

    def _connect(self) -> None:
        """Connects to the first process, if it listens yet and can be reached."""
        for _, listens_at in self._notes.key_value_dir_get(_LISTENS):
            port, _, host = listens_at.partition(" ")
            with contextlib.suppress(OSError):
                self._lifeline = Lifeline(host, int(port), self._index)

    def _broken(self) -> list[str]:
        """A word about the processes whose connection broke; the others are told."""
        return self._tell("its connection broke: it was killed, or it crashed")

    def _tell(self, what: str) -> list[str]:
        if not self._gone:
            return []
        word = f"1 process {', '.join(map(str, sorted(self._gone)))} of {self._count}: {what}"
        self._notes.key_value_set(_FAILED + "gone", word)
        return [word]

    def _silent(self, last_sign: dict[int, Any]) -> list[str]:
        """A word about the processes that have given no sign for long; the others are told."""
        now, signs = time.monotonic(), dict(self._notes.key_value_dir_get(_ALIVE))
        for index, (beat, _) in last_sign.items():
            sign = signs.get(f"{_ALIVE}{index}")
            if sign != beat:
                last_sign[index] = (sign, now)
        self._gone |= {i for i, (_, at) in last_sign.items() if now - at > SILENCE_SECONDS}
        return self._tell(
            f"no sign of life for {SILENCE_SECONDS:.0f} s: it was killed, or its machine does not "
            "answer"
        )


def _exit(word: str) -> NoReturn:
    """Exits at once; an orderly shutdown would wait for the others.

    Args:
      word: A message between processes: the exit code, a blank, and the reason.
    """
    code, _, line = word.partition(" ")
    print("error: " * (code == "1") + line, file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(int(code))
