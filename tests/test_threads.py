from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hilum import threads
from hilum.threads import ahead, available_cores, in_threads


def test_results_come_in_order() -> None:
    def slow_first(n: int) -> int:
        time.sleep(0.02 if n == 0 else 0)
        return n * n

    assert list(in_threads(slow_first, range(50))) == [n * n for n in range(50)]
    assert list(in_threads(slow_first, [])) == []
    assert list(in_threads(slow_first, range(50), portion=4)) == [n * n for n in range(50)]


def test_the_quota_of_a_container_is_kept_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "CGROUP", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert available_cores() == 8
    for text, n_cores in (("max 100000", 8), ("250000 100000", 3), ("50000 100000", 1)):
        (tmp_path / "cpu.max").write_text(text)
        assert available_cores() == n_cores, text


def test_the_quota_of_an_older_system_is_kept_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "CGROUP", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    for text, n_cores in (("-1\n", 8), ("200000\n", 2)):
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(text)
        assert available_cores() == n_cores, text


def test_only_a_bounded_number_runs_ahead() -> None:
    started = []
    lock = threading.Lock()

    def note(n: int) -> int:
        with lock:
            started.append(n)
        return n

    results = in_threads(note, range(10_000))
    next(results)
    time.sleep(0.02)
    assert len(started) <= 4 * available_cores() + 1
    results.close()  # type: ignore[attr-defined]


def test_an_error_comes_out() -> None:
    def fail(n: int) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(in_threads(fail, range(3)))


def test_ahead_gives_the_same_and_makes_the_next_meanwhile() -> None:
    made = []

    def make() -> Iterator[int]:
        for n in range(3):
            made.append(n)
            yield n

    items = ahead(make())
    assert next(items) == 0
    for _ in range(200):
        if made == [0, 1]:
            break
        time.sleep(0.01)
    assert made == [0, 1]
    assert list(items) == [1, 2]
    assert list(ahead([])) == []


def test_ahead_lets_an_error_out_in_its_place() -> None:
    def make() -> Iterator[int]:
        yield 7
        raise ZeroDivisionError

    items = ahead(make())
    assert next(items) == 7
    with pytest.raises(ZeroDivisionError):
        next(items)
