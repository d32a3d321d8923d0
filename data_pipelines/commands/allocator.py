"""Memory that a command has once touched stays its own, and its libraries share one heap."""

import ctypes
import sys
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_LARGEST_INT = 2**31 - 1


def share_one_heap() -> None:
    """Has all threads allocate from one heap of glibc; other C libraries are left alone.

    By itself glibc gives threads arenas of their own, eight for each core. The threads of a loader
    come and go, each time in another arena, and what one of them has freed the others do not get:
    a run with a validation every few seconds grew by 1 MB a minute without keeping anything. Only
    threads that start later are held to it: Polars starts some where it is imported, so this comes
    before that. See mallopt(3), M_ARENA_MAX.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


def keep_freed_memory() -> None:
    """Asks glibc not to give freed memory back to the system; other C libraries are left alone.

    XLA on CPU allocates a step's temporaries anew in every step. Pieces of that size glibc maps and
    unmaps each time, and the system has to zero them page by page: tens of thousands of page faults
    a step. A heap that is never trimmed hands out the same pages again. The price: the process
    stays as large as it once was. See mallopt(3).
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is None:
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)


def give_back_freed_memory() -> None:
    """Has glibc give back to the system what is freed now; other C libraries are left alone.

    For now and then in a long run. Compiling leaves hundreds of MB of freed pieces all over the
    heap. Libraries have glibc give them back now and then (Protobuf does, for every 10,000 blocks
    that it frees), and later pieces touch that memory again page by page: resident memory would go
    up and down by as much, though what is in use stays. Costs some 10 ms, and the page faults of
    one step. See malloc_trim(3).
    """
    malloc_trim = _of_glibc("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(ctypes.c_size_t(0))


def _of_glibc(name: str) -> Any:
    """A function of the allocator; None elsewhere than on Linux, and of other C libraries."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
