"""What C's allocator does with memory that is free: keeps it, or gives it back to the system."""

from __future__ import annotations

import ctypes


def keep_pages() -> None:
    """Have glibc's allocator keep freed memory instead of giving it back after every step.

    Giving it back makes the kernel clear the same pages for each step again, a third of the time
    of a step on a processor. It holds for the whole process from then on. Elsewhere than on Linux
    with glibc nothing is done.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    trim_threshold, mmap_threshold, gigabyte = -1, -3, 1 << 30
    # Older versions allow no more than 32 MiB. Where neither is taken the rest is left alone too:
    # to set it would switch off that glibc raises both by itself.
    if mallopt(mmap_threshold, gigabyte) or mallopt(mmap_threshold, 1 << 25):
        mallopt(trim_threshold, gigabyte)


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
