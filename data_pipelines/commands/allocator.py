"""Tells glibc to use one heap for all threads, and to keep freed memory."""

import ctypes
import sys
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_LARGEST_INT = 2**31 - 1


def share_one_heap() -> None:
    """Makes all threads allocate from one heap of glibc. Does nothing with other C libraries.

    By default glibc gives threads their own arenas, eight per core. The threads of a loader come
    and go, each in another arena, and one thread's freed memory is not available to others: a run
    with a validation every few seconds grew by 1 MB a minute although it kept nothing. This applies
    only to threads that start later. Polars starts some at its import, so call this before. See
    mallopt(3), M_ARENA_MAX.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory. Does nothing with other C libraries.

    On CPU, XLA allocates a step's temporaries anew in every step. By default glibc maps and unmaps
    blocks of that size each time, and the system zeroes them page by page: tens of thousands of
      page
    faults per step. A heap that is never trimmed returns the same pages again. The cost: the
    process never gets smaller. See mallopt(3).
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is None:
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)


def give_back_freed_memory() -> None:
    """Makes glibc return free memory to the system now. Does nothing with other C libraries.

    A long run calls this now and then. Compiling leaves hundreds of MB of free blocks all over the
    heap. Libraries sometimes make glibc return them (Protobuf does, for every 10,000 blocks that it
    frees), and later allocations touch that memory again page by page: resident memory would go up
    and down by as much, although the memory in use stays the same. Costs some 10 ms, and the page
    faults of one step. See malloc_trim(3).
    """
    malloc_trim = _of_glibc("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(ctypes.c_size_t(0))


def _of_glibc(name: str) -> Any:
    """A function of glibc's allocator; None on other systems and with other C libraries."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
