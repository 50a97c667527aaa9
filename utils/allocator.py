"""Memory that a pass through a network frees is kept for the next one instead of given back."""

from __future__ import annotations

import ctypes
import sys

# Parameters of mallopt(3), from glibc's malloc.h.
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3


def keep_freed_memory() -> bool:
    """Tell glibc's allocator not to return large blocks to the kernel; False where it is not glibc.

    On a CPU each training step, and each look at an image, allocates the same maps. Returned and
    fetched anew they cost tens of thousands of page faults a step and thousands a look, about a
    tenth of the time (docs/performance.md). The price: the process keeps the most memory it ever
    used.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    kept = mallopt(_MMAP_THRESHOLD, 1 << 30) and mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)
    return bool(kept)
