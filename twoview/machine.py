"""What the machine gives a process: cores, and memory that goes back when it is not used."""

from __future__ import annotations

import ctypes
import os
import sys

_LARGE = 1 << 17  # bytes from which a block is the system's own, and returns to it when freed
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # of the C library's malloc.h


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_memory_low() -> None:
    """Give freed pictures back at once; the C library of Linux would keep dozens of them, some for every thread."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is not None and hasattr(libc, "malloc_trim"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.malloc_trim(0)
