"""Starts and ends every command: checks flags first, reports one clear line, sets the exit code.

Exit codes: 0 done; 1 failed with one line on standard error about something the user can fix; 2 bad
flags; 143 and 130 stopped by SIGTERM and SIGINT, with one line that says how to resume if possible.
"""

import atexit
import contextlib
import importlib.metadata
import inspect
import io
import itertools
import logging
import os
import shlex
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, NoReturn, TypeVar

from absl import app, flags
from absl import logging as absl_logging

from data_pipelines.commands.allocator import keep_freed_memory
from data_pipelines.commands.flagfiles import expand_flagfiles
from data_pipelines.commands.help import help_text, plain_error, unknown_flag
from data_pipelines.commands.os_errors import os_error_line
from data_pipelines.commands.starting import end_at_once
from data_pipelines.local_paths import expand_paths_of_flags

Config = TypeVar("Config")

_OUT_OF_MEMORY = (
    "use a machine or device with more, or lower what is held at a time (train: --lanes, --events, "
    "--item_dim, or --item_mode=rows; evaluate: the run's --eval_lanes and --rank_chunk; prepare: "
    "--runner)"
)

_STOPS = (signal.SIGTERM, signal.SIGINT)
"""The signals that stop a command."""


class StoppedError(SystemExit):
    """Ends the program because a signal asks for it; cleans up as after any error.

    Args:
      signal_number: SIGTERM or SIGINT.
      where: What the program was doing, for the message.
      by_all: Whether all processes of the run end here, together.

    Attributes:
      signal_number: As given.
      by_all: As given.
    """

    def __init__(self, signal_number: int, where: str = "", by_all: bool = False) -> None:
        super().__init__(128 + signal_number)
        self.signal_number = signal_number
        self.by_all = by_all
        self.line = " ".join(["stopped by", signal.Signals(signal_number).name, where]).strip()


_signals: list[StoppedError] = []
"""What the handlers of signals have raised."""


def stop_that_caused(error: BaseException) -> StoppedError | None:
    """The stop that an error comes from; None if it has another cause.

    Libraries catch what a signal raises and raise an error of their own: Orbax does while it reads
    arrays, and TensorStore's native code keeps nothing of the first. So after a signal every error
    is taken for its result, except an error of the system, such as a full disk, that does not
    follow from it.
    """
    if isinstance(error, StoppedError):
        return error
    causes = list(_causes(error))
    # Libraries may set their own handler for SIGINT, as Polars does while it reads.
    if any(isinstance(cause, KeyboardInterrupt) for cause in causes):
        return StoppedError(signal.SIGINT)
    follows = any(cause is stopped for cause in causes for stopped in _signals)
    if not _signals or (any(isinstance(cause, OSError) for cause in causes) and not follows):
        return None
    return _signals[0]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that led to it, the last one first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def run_command(
    read_flags: Callable[[], Config],
    main: Callable[[Config], None],
    mendable: tuple[type[Exception], ...],
    *,
    resumes: bool = False,
) -> NoReturn:
    """Parses the command line, runs `main`, and exits.

    Args:
      read_flags: Makes the command's settings from the parsed flags; raises flags.Error or
        ValueError if they make no sense.
      main: The command.
      mendable: Errors of `main` whose cause the user can fix.
      resumes: Whether the same command line resumes stopped work; then the last line says so.
    """
    configs: list[Config] = []

    def parse(arguments: Sequence[str]) -> list[str]:
        _print_any_character()
        try:
            expanded = expand_flagfiles(arguments)
            _answer_questions(expanded)
            rest = flags.FLAGS(expanded)
            if rest[1:]:
                raise ValueError(f"unexpected arguments: {' '.join(rest[1:])}")
            expand_paths_of_flags(flags.FLAGS)
            configs.append(read_flags())
        except flags.UnrecognizedFlagError as error:
            fail(unknown_flag(error.flagname), 2)
        except (flags.Error, ValueError) as error:
            fail(plain_error(error), 2)
        return rest

    def guarded(arguments: Any) -> None:
        del arguments  # The command takes flags only.
        for number in _STOPS:
            signal.signal(number, _stop)
        _silence_libraries()
        keep_freed_memory()
        end = _StoppedEnd()
        try:
            main(configs[0])
        except (Exception, StoppedError, KeyboardInterrupt) as error:
            stopped = _stop_or_fail(error, mendable)
            again = f"; resume with: {shlex.join(sys.orig_argv)}" if resumes else ""
            print(f"{stopped.line}{again}", file=sys.stderr)
            end.code = 128 + stopped.signal_number
            sys.exit(end.code)
        for number in _STOPS:
            signal.signal(number, end_at_once)

    app.run(guarded, flags_parser=parse)
    sys.exit(0)


def _stop_or_fail(error: BaseException, mendable: tuple[type[Exception], ...]) -> StoppedError:
    """The stop that caused an error; other errors end the command."""
    stopped = stop_that_caused(error)
    if stopped is not None:
        return stopped
    _tell_if_mendable(error, mendable)
    raise error


def _print_any_character() -> None:
    """Escapes what standard output cannot encode; a path may hold any character, even any byte."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _answer_questions(arguments: Sequence[str]) -> None:
    """Prints help or the version and exits, if the command line asks for it."""
    asked = set(itertools.takewhile(lambda argument: argument != "--", arguments[1:]))
    if asked & {"--help", "-help", "-h", "--helpshort", "--helpfull", "-helpfull"}:
        answer(help_text())
    if asked & {"--version", "-version"}:
        answer(f"hiertcn_jax {importlib.metadata.version('hiertcn_jax')}")


def answer(text: str) -> NoReturn:
    """Prints what was asked for, and ends the program; nobody may be there to read it."""
    try:
        print(text, flush=True)
    except OSError as error:
        # Otherwise the rest of the buffer would fail again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        fail(os_error_line(error), 1)
    sys.exit(0)


def _tell_if_mendable(error: BaseException, mendable: tuple[type[Exception], ...]) -> None:
    """Ends the program with one line, if the user can fix the cause of an error."""
    if isinstance(error, mendable):
        fail(os_error_line(error) if isinstance(error, OSError) else error, 1)
    # Of a device it is an error of JAX, which this package does not import.
    on_device = type(error).__name__ == "JaxRuntimeError" and "RESOURCE_EXHAUSTED" in str(error)
    if isinstance(error, MemoryError) or on_device:
        fail(f"memory ran out; {_OUT_OF_MEMORY}: {error}", 1)


def fail(message: object, code: int) -> NoReturn:
    """Ends the program with one line on standard error."""
    print("error:", one_line(str(message)), file=sys.stderr)
    sys.exit(code)


def one_line(text: str) -> str:
    """The text as one line of printable characters, with the middle cut out if it is long.

    Files and values may be of any length, and may contain terminal control characters.
    """
    line = "".join(
        character if character.isprintable() else ascii(character)[1:-1]
        for character in " ".join(text.split())
    )
    return line if len(line) <= 2000 else f"{line[:1000]} ... {line[-900:]}"


def _silence_libraries() -> None:
    """Silences libraries' logs and stray errors; our errors are exceptions and take one line.

    Orbax both logs and raises the error of a thread. Then its event loop ends, and other writes in
    progress find no loop to report to.
    """
    absl_logging.set_verbosity(absl_logging.FATAL)
    for name in ("asyncio", "concurrent.futures"):
        logging.getLogger(name).setLevel(logging.CRITICAL)

    def tell(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, StoppedError):
            _stop_a_moment_later(unraisable.exc_value)
            return
        if _signals:
            return  # Something that the signal left half done.
        late = inspect.iscoroutine(unraisable.object)  # A read that failed after the first one.
        if not late and str(unraisable.exc_value) != "Event loop is closed":
            sys.__unraisablehook__(unraisable)

    sys.unraisablehook = tell


def _stop_a_moment_later(stopped: StoppedError) -> None:
    """Raises the stop again, after a callback or finalizer swallowed it.

    JAX has such a callback in every garbage collection.
    """

    def stop(number: int, frame: object) -> NoReturn:
        _raise_stop(stopped.signal_number)

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.01)


def _stop(signal_number: int, frame: FrameType | None) -> NoReturn:
    # A second signal means that the user doesn't want to wait for the clean-up.
    signal.signal(signal_number, end_at_once)
    _raise_stop(signal_number)


def _raise_stop(signal_number: int) -> NoReturn:
    # Such as those about coroutines that nobody awaits any more.
    warnings.simplefilter("ignore")
    _signals.append(StoppedError(signal_number))
    raise _signals[-1]


class _StoppedEnd:
    """Ends a stopped process before the interpreter shuts down.

    A signal may come while XLA compiles in its own thread. That thread continues, and uses the XLA
    client that JAX and the interpreter destroy at shutdown: the process died of a segmentation
    fault. Functions registered with `atexit` while the command ran are called before this one,
    because the last registered is called first; Beam ends its workers there. Functions of libraries
    imported earlier are not called: one of them is where JAX destroys the client.

    Attributes:
      code: The exit code of a stopped process; None lets the interpreter end as usual.
    """

    def __init__(self) -> None:
        self.code: int | None = None
        atexit.register(self._end)

    def _end(self) -> None:
        if self.code is None:
            # The work is done. From here on the interpreter takes handlers away, and a signal would
            # kill the process without a word.
            for number in _STOPS:
                signal.signal(number, signal.SIG_IGN)
            return
        for stream in (sys.stdout, sys.stderr):
            # The reader of standard error may be gone.
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(self.code)
