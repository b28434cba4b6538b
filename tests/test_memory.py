"""Free memory kept, and given back to the system; memory that runs out."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hilum.errors import SettingError
from hilum.memory import exhausted_as, give_back_pages, keep_pages

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
    keep_pages()


TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # as malloc.h has them


@pytest.mark.parametrize(
    ("most", "calls"),
    [
        (1 << 30, [(MMAP_THRESHOLD, 1 << 30), (TRIM_THRESHOLD, 1 << 30)]),
        (
            1 << 25,
            [(MMAP_THRESHOLD, 1 << 30), (MMAP_THRESHOLD, 1 << 25), (TRIM_THRESHOLD, 1 << 30)],
        ),
        (0, [(MMAP_THRESHOLD, 1 << 30), (MMAP_THRESHOLD, 1 << 25)]),
    ],
)
def test_pages_are_kept_as_far_as_the_allocator_allows(
    monkeypatch: pytest.MonkeyPatch, most: int, calls: list[tuple[int, int]]
) -> None:
    made: list[tuple[int, int]] = []

    def mallopt(name: int, value: int) -> int:
        made.append((name, value))
        return int(name == TRIM_THRESHOLD or value <= most)

    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(mallopt=mallopt))
    keep_pages()
    assert made == calls


TOO_MUCH = 2**55
"""Bytes that no processor can address."""


@pytest.mark.parametrize(
    "ask",
    [
        lambda: torch.empty(TOO_MUCH, dtype=torch.uint8),
        lambda: np.empty(TOO_MUCH, dtype=np.uint8),
    ],
    ids=["torch", "numpy"],
)
def test_memory_that_runs_out_is_told_as_said(ask: Callable[[], object]) -> None:
    with (
        pytest.raises(SettingError, match="ask for less"),
        exhausted_as(SettingError("ask for less")),
    ):
        ask()


def test_devices_without_an_error_of_their_own_are_understood() -> None:
    with pytest.raises(SettingError), exhausted_as(SettingError("ask for less")):
        raise RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)")


def test_other_errors_are_not_taken_for_memory() -> None:
    with pytest.raises(RuntimeError, match="shape"), exhausted_as(SettingError("less")):
        torch.zeros(3).reshape(2, 2)
