"""A command that ends with the process that started it, however that one ends.

    python -m experiments.processes.child PARENT MODULE [ARGUMENT ...]

Becomes `python -m MODULE ARGUMENT ...`. A process that is killed with SIGKILL cannot stop its
children, so on Linux the kernel kills this command too. That also ends commands that compile or
hang, and at once, so that a process that takes over the work does not meet it. A training run can
resume from its newest checkpoint. On other systems the command runs to its end.
"""

import ctypes
import os
import signal
import sys
from typing import NoReturn

_SET_PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of linux/prctl.h; it survives execve."""


def child_command(module: str, *arguments: str) -> list[str]:
    """The command line with which this process starts a module.

    For the kernel the parent is the thread that starts the command; that thread must wait for it.
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
      parent: The process that asked for it; it may have ended meanwhile.
      module: The command's module.
      arguments: Its arguments.
    """
    if sys.platform == "linux":
        _end_with_parent()
    # Check only now: the kernel does not report a parent that ended earlier.
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
