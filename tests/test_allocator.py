"""Free memory given back to the system."""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path

import numpy as np
import pytest

from hilum.allocator import give_back_pages

N = 2000


def held_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not glibc's")
def test_what_was_freed_below_something_in_use_is_given_back() -> None:
    # Small enough for the heap; one at its top stays in use.
    arrays = [np.ones(4000) for _ in range(N)]
    full = held_mb()
    last = arrays[-1]
    del arrays
    give_back_pages()
    assert held_mb() < full - 0.8 * N * 4000 * 8 / 2**20
    assert last.sum() == 4000


def test_another_allocator_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    give_back_pages()
