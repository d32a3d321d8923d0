"""How every command starts and ends: flags checked first, one clear line, an exit code.

Exit codes: 0 done, 1 failed with one line on standard error for what the user can mend, 2 bad
flags, 143 and 130 stopped by SIGTERM and SIGINT, with one line that says how to go on if one can.
"""

import atexit
import contextlib
import importlib.metadata
import inspect
import itertools
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NoReturn, TypeVar

from absl import app, flags
from absl import logging as absl_logging

from data_pipelines.commands.allocator import keep_freed_memory
from data_pipelines.commands.flagfiles import expand_flagfiles
from data_pipelines.commands.help import help_text, plain_error, unknown_flag
from data_pipelines.commands.starting import end_at_once
from data_pipelines.local_paths import expand_paths_of_flags

Config = TypeVar("Config")

_STOPS = (signal.SIGTERM, signal.SIGINT)
"""The signals that stop a command."""


class StoppedError(SystemExit):
    """The program ends because a signal asks it to; clean-up is that of any error.

    Args:
      signal_number: SIGTERM or SIGINT.
      where: Where it was, to say.
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


def run_command(
    read_flags: Callable[[], Config],
    main: Callable[[Config], None],
    mendable: tuple[type[Exception], ...],
    *,
    goes_on: bool = False,
) -> NoReturn:
    """Parses the command line, runs `main`, and exits.

    Args:
      read_flags: Makes the command's settings of the parsed flags; flags.Error or ValueError where
        they make no sense.
      main: The command.
      mendable: What `main` raises where the user can mend the cause.
      goes_on: Whether the same command takes up what a stopped one has done: then it is said.
    """
    configs: list[Config] = []

    def parse(arguments: Sequence[str]) -> list[str]:
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
        del arguments  # All are flags.
        for number in _STOPS:
            signal.signal(number, _stop)
        _silence_libraries()
        keep_freed_memory()
        end = _StoppedEnd()
        try:
            main(configs[0])
        except (StoppedError, KeyboardInterrupt) as error:
            # Libraries may have a handler of their own for SIGINT, as Polars does while it reads.
            stopped = error if isinstance(error, StoppedError) else StoppedError(signal.SIGINT)
            again = f"; go on with: {shlex.join(sys.orig_argv)}" if goes_on else ""
            print(f"{stopped.line}{again}", file=sys.stderr)
            end.code = 128 + stopped.signal_number
            sys.exit(end.code)
        except mendable as error:
            fail(error, 1)
        for number in _STOPS:
            signal.signal(number, end_at_once)

    app.run(guarded, flags_parser=parse)
    sys.exit(0)


def _answer_questions(arguments: Sequence[str]) -> None:
    """Prints the help or the version and ends, where a command line asks for it."""
    asked = set(itertools.takewhile(lambda argument: argument != "--", arguments[1:]))
    if asked & {"--help", "-help", "-h", "--helpshort", "--helpfull", "-helpfull"}:
        print(help_text())
        sys.exit(0)
    if asked & {"--version", "-version"}:
        print(f"hiertcn_jax {importlib.metadata.version('hiertcn_jax')}")
        sys.exit(0)


def fail(message: object, code: int) -> NoReturn:
    """Ends the program with one line on standard error."""
    print("error:", one_line(str(message)), file=sys.stderr)
    sys.exit(code)


def one_line(text: str) -> str:
    """The text in one line of printable characters, without its middle where it is long.

    Files and values may be of any length, and hold what steers a terminal.
    """
    line = "".join(
        character if character.isprintable() else ascii(character)[1:-1]
        for character in " ".join(text.split())
    )
    return line if len(line) <= 2000 else f"{line[:1000]} ... {line[-900:]}"


def _silence_libraries() -> None:
    """What libraries log is about their own workings; ours are exceptions, and told in one line.

    Orbax logs the traceback of an error in its threads, and raises it too. Its event loop ends,
    and what else was being written then finds none to report to.
    """
    absl_logging.set_verbosity(absl_logging.FATAL)
    for name in ("asyncio", "concurrent.futures"):
        logging.getLogger(name).setLevel(logging.CRITICAL)

    def tell(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, StoppedError):
            _stop_a_moment_later(unraisable.exc_value)
            return
        late = inspect.iscoroutine(unraisable.object)  # Other reads that fail after the first.
        if not late and str(unraisable.exc_value) != "Event loop is closed":
            sys.__unraisablehook__(unraisable)

    sys.unraisablehook = tell


def _stop_a_moment_later(stopped: StoppedError) -> None:
    """Stops again: the first time it was met by a callback or finalizer, where exceptions end.

    JAX has such a callback in every garbage collection.
    """

    def stop(number: int, frame: object) -> NoReturn:
        raise StoppedError(stopped.signal_number)

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.01)


def _stop(signal_number: int, frame: FrameType | None) -> NoReturn:
    # Whoever asks twice doesn't want to wait for the clean-up.
    signal.signal(signal_number, end_at_once)
    raise StoppedError(signal_number)


class _StoppedEnd:
    """Ends a stopped process before the interpreter is taken apart.

    A signal may come while XLA compiles, which it does in a thread of its own. That thread goes on,
    and uses the client of XLA that JAX and the interpreter destroy at the end: the process died of
    a segmentation fault. Functions that were registered with `atexit` while the command ran are
    called before, since the last registered is called first: Beam ends its workers there. Those of
    libraries that were imported before are left out: JAX destroys the client in one of them.

    Attributes:
      code: The exit code of a stopped process; None lets the interpreter end as usual.
    """

    def __init__(self) -> None:
        self.code: int | None = None
        atexit.register(self._end)

    def _end(self) -> None:
        if self.code is None:
            return
        for stream in (sys.stdout, sys.stderr):
            # Nobody may be there to read it.
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(self.code)
