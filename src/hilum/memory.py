"""Memory: free pages kept or given back by C's allocator, and what is said when it runs out."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hilum.errors import HilumError

OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
"""What PyTorch says where it has no class of its own for it: of a processor on Linux and on
Windows, of CUDA before there is a context, and of Apple's GPUs."""


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


@contextmanager
def exhausted_as(error: HilumError) -> Iterator[None]:
    """Raise `error` in place of what tells that the memory of a device or a processor ran out.

    A processor's memory that the system has promised and cannot give kills the process instead.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise error from None
    except RuntimeError as told:
        if any(words in str(told) for words in OUT_OF_MEMORY):
            raise error from None
        raise
