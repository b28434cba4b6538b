"""Work spread over the cores."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, cast

In = TypeVar("In")
Out = TypeVar("Out")

MANY = 1000
"""Files of which a few that take long at the end matter no more."""


CGROUP = Path("/sys/fs/cgroup")
"""Where Linux tells what a container may use."""


def available_cores() -> int:
    """Count the cores that this process may use, at least 1; a container may have less than one."""
    n_cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        n_cores = len(os.sched_getaffinity(0))
    return max(1, math.ceil(min(n_cores, _quota())))


def _quota() -> float:
    """Return how many cores' time a container may take, without end where nothing limits it."""
    with suppress(OSError, ValueError):
        allowed, period = (CGROUP / "cpu.max").read_text(encoding="ascii").split()
        return int(allowed) / int(period)  # allowed is "max" without a limit: a ValueError
    with suppress(OSError, ValueError):
        first = CGROUP / "cpu"  # of control groups of the first version
        allowed = (first / "cpu.cfs_quota_us").read_text(encoding="ascii")
        period = (first / "cpu.cfs_period_us").read_text(encoding="ascii")
        if int(allowed) > 0:
            return int(allowed) / int(period)
    return math.inf


def in_threads(
    function: Callable[[In], Out],
    items: Iterable[In],
    *,
    most: int | None = None,
    portion: int = 1,
) -> Iterator[Out]:
    """Map in order over as many threads as there are cores, a bounded number of items ahead.

    Decoding releases the interpreter's lock, so threads use all cores; the bound keeps the
    results that wait from filling the memory.

    Parameters
    ----------
    most : int, optional
        Portions ahead.
    portion : int
        Items that a thread takes at a time: where one takes less than a millisecond, handing it
        over takes a good part of that.
    """
    n_threads = available_cores()
    iterator = iter(items)
    portions = iter(lambda: list(islice(iterator, portion)), [])

    def several(taken: list[In]) -> list[Out]:
        return [function(item) for item in taken]

    with ThreadPoolExecutor(n_threads) as pool:
        n_ahead = most or max(2, 4 // portion) * n_threads
        waiting = [pool.submit(several, taken) for taken in islice(portions, n_ahead)]
        while waiting:
            # What is done is handed over before more is asked for, which may have to be waited for.
            yield from waiting.pop(0).result()
            waiting += [pool.submit(several, taken) for taken in islice(portions, 1)]


def portion_of(n_items: int) -> int:
    """Return how many of so many files a thread had better take at a time.

    Of many it takes a few, as each may be small; of few it takes one, so that no thread is left
    with several large ones while others have none.
    """
    return 4 if n_items >= MANY else 1


@cache
def _blas() -> Any:
    """Find what sets the threads of matrix products; 30 ms that one image need not wait."""
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let matrix products take one thread, where more would only fight with those of others."""
    with _blas().limit(limits=1, user_api="blas"):
        yield


def ahead(items: Iterable[Out]) -> Iterator[Out]:
    """Yield the same items, the next one being made in a thread meanwhile."""
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, iterator, end)
        while (item := waiting.result()) is not end:
            waiting = pool.submit(next, iterator, end)
            yield cast(Out, item)
