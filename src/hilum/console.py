"""Progress on a terminal: one bar for each task, epochs as lines above it."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

from hilum.progress import Progress, Task


def make_progress() -> Progress:
    """Return bars for a terminal, plain lines for a file or a pipe; both on stderr."""
    return BarProgress() if sys.stderr.isatty() else LineProgress()


class BarProgress:
    """Bars with the time left."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)

    @contextlib.contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            transient=True,
        )
        with bar:
            yield _BarTask(bar, bar.add_task(name, total=total, note=""))

    def say(self, text: str) -> None:
        self._console.print(text, markup=False)


class _BarTask:
    def __init__(self, bar: Bar, number: TaskID) -> None:
        self._bar, self._number = bar, number

    def advance(self, n: int = 1, note: str = "") -> None:
        self._bar.update(self._number, advance=n, note=note)


class LineProgress:
    """One line at the end of each task and for what is said; nothing that moves."""

    @contextlib.contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        started = time.monotonic()
        yield _LineTask()
        self.say(f"{name}: {total:,} in {time.monotonic() - started:.1f} s")

    def say(self, text: str) -> None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


class _LineTask:
    def advance(self, n: int = 1, note: str = "") -> None:
        """A line for each step would bury the rest."""
