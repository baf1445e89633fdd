"""What the machine gives a process: cores, and memory that is kept for reuse or goes back at once."""

from __future__ import annotations

import ctypes
import os
import sys

_LARGE = 1 << 17  # bytes from which a block is the system's own, and returns to it when freed
_LARGEST = 1 << 25  # the most that every C library of Linux takes for that
_KEPT = 1 << 30  # bytes that may lie idle between one step and the next
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of the C library's malloc.h


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_memory_low() -> None:
    """Give freed pictures back at once; the C library of Linux would keep dozens of them, some for every thread."""
    if libc := _c_library():
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGE)
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.malloc_trim(0)


def keep_memory() -> None:
    """Keep freed tensors' memory for the next: fetching it anew for each costs networks up to a third of their time."""
    if libc := _c_library():
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT)


def _c_library() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "malloc_trim") else None
