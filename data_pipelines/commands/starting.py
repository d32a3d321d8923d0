"""Ends a command that is stopped during its imports with one line instead of a traceback.

Importing the libraries takes seconds. This module may import only the standard library.
"""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

_PACKAGES = ("data_pipelines", "experiments")
_SCRIPT = "hiertcn"


def end_on_signals() -> None:
    """Makes SIGTERM and SIGINT end the process with one line, if it is one of our commands.

    This holds until `command.run_command` sets its own handlers. A program that imports the
    packages as a library keeps its handlers.
    """
    if _is_command(sys.argv, sys.orig_argv):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end_at_once)


def _is_command(argv: list[str], orig_argv: list[str]) -> bool:
    """Whether `python -m` is importing a package to find one of our modules.

    Meanwhile sys.argv[0] is "-m". The module comes before the other arguments on the command line,
    alone or joined to one-letter options ("-m experiments.train", "-Bmexperiments.train").
    """
    if argv and os.path.basename(argv[0]) == _SCRIPT:
        return True
    if not argv or argv[0] != "-m" or len(orig_argv) <= len(argv):
        return False
    module = orig_argv[-len(argv)]
    if module.startswith("-"):
        module = module.partition("m")[2]
    return module.partition(".")[0] in _PACKAGES


def end_at_once(number: int, frame: FrameType | None) -> NoReturn:
    """Handles a signal by ending the process with one line and the exit code 128 + number.

    Use it when there is nothing to clean up, or no time: libraries may catch an exception.
    """
    os.write(2, f"stopped by {signal.Signals(number).name}\n".encode())
    os._exit(128 + number)
