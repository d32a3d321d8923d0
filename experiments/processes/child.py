"""A command that ends with the process that started it, however that one ends.

    python -m experiments.processes.child PARENT MODULE [ARGUMENT ...]

Becomes `python -m MODULE ARGUMENT ...`. A process that is killed with SIGKILL cannot stop what it
has started; so on Linux the kernel does, with SIGKILL: it also ends what compiles or hangs, and at
once, so that whoever takes the work over does not meet it. A training run goes on exactly behind
its newest checkpoint. Elsewhere the command lives on to its end.
"""

import ctypes
import os
import signal
import sys
from typing import NoReturn

_SET_PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of linux/prctl.h; execve keeps it."""


def child_command(module: str, *arguments: str) -> list[str]:
    """The command line by which this process starts a module.

    The kernel counts the thread that starts it as the parent: that thread has to wait for it.
    """
    return [
        sys.executable,
        "-m",
        "experiments.processes.child",
        str(os.getpid()),
        module,
        *arguments,
    ]


def main(parent: int, module: str, arguments: list[str]) -> NoReturn:
    """Becomes the module's command.

    Args:
      parent: The process that it is for; it may have ended meanwhile.
      module: Of the command.
      arguments: Of the command.
    """
    if sys.platform == "linux":
        _end_with_parent()
    # Asked only now: a parent that ended before is not noticed by the kernel any more.
    if os.getppid() != parent:
        sys.exit(f"error: {module}: process {parent}, which started it, has ended")
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


def _end_with_parent() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    signal_number, unused = ctypes.c_ulong(signal.SIGKILL), ctypes.c_ulong(0)
    if libc.prctl(_SET_PARENT_DEATH_SIGNAL, signal_number, unused, unused, unused):
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
