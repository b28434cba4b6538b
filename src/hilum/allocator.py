"""What the allocator of C holds of memory that is free."""

from __future__ import annotations

import ctypes


def give_back_pages() -> None:
    """Give pages that are free back to the system.

    glibc's allocator keeps what is freed below anything still in use, so that each step of a run
    would add to the most that all before it have taken. It costs milliseconds; elsewhere than on
    Linux with glibc nothing is done.
    """
    try:
        trim = ctypes.CDLL("libc.so.6").malloc_trim
    except (OSError, AttributeError):
        return
    trim(0)
