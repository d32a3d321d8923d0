"""Memory that the process has once touched stays its own."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> None:
    """Asks glibc not to give freed memory back to the system; other C libraries are left alone.

    XLA on CPU allocates a step's temporaries anew in every step. Pieces of that size glibc maps and
    unmaps each time, and the system has to zero them page by page: tens of thousands of page faults
    a step. One arena that is never trimmed hands out the same pages again. The price: the process
    stays as large as it once was. See mallopt(3).
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # Not glibc, as musl.
        return
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)
