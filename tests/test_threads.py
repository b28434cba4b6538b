from __future__ import annotations

import threading
import time

import pytest

from hilum.threads import available_cores, in_threads


def test_results_come_in_order() -> None:
    def slow_first(n: int) -> int:
        time.sleep(0.02 if n == 0 else 0)
        return n * n

    assert list(in_threads(slow_first, range(50))) == [n * n for n in range(50)]
    assert list(in_threads(slow_first, [])) == []


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
