"""A command that is stopped before it has begun says so in one line too, and not in a traceback.

Importing the libraries takes seconds. Nothing but the standard library may be imported here.
"""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

_PACKAGES = ("data_pipelines", "experiments")
_SCRIPT = "hiertcn"


def end_on_signals() -> None:
    """Has SIGTERM and SIGINT end the process with one line, where it is a command of ours.

    Until `command.run_command` sets its own handlers. A program that imports the packages as a
    library keeps its handlers.
    """
    if _is_command(sys.argv, sys.orig_argv):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end_at_once)


def _is_command(argv: list[str], orig_argv: list[str]) -> bool:
    """Whether `python -m` is looking for a module of ours, and imports its package for that.

    Meanwhile sys.argv[0] is "-m"; the module is what precedes the other arguments on the command
    line, alone or behind options of one letter ("-m experiments.train", "-Bmexperiments.train").
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

    For moments when there is nothing to clean up, or no time; libraries may catch what is raised.
    """
    os.write(2, f"stopped by {signal.Signals(number).name}\n".encode())
    os._exit(128 + number)
