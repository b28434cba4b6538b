"""How work tells of itself: a bar on a terminal, quiet log lines elsewhere."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Protocol

logger = logging.getLogger("hilum")


class Task(Protocol):
    """One piece of work with a known number of steps."""

    def advance(self, n: int = 1, note: str = "") -> None: ...


class Progress(Protocol):
    """Where progress goes. The library never prints."""

    def task(self, name: str, total: int) -> contextlib.AbstractContextManager[Task]: ...

    def say(self, text: str) -> None: ...


class LogProgress:
    """Progress as log lines: the start and end of each task, and what is said."""

    @contextlib.contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        started = time.monotonic()
        yield _SilentTask()
        logger.info("%s: %d in %.1f s", name, total, time.monotonic() - started)

    def say(self, text: str) -> None:
        logger.info(text)


class _SilentTask:
    def advance(self, n: int = 1, note: str = "") -> None:
        """Nothing to show."""
