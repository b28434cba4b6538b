"""What was found in the same files before is not looked for again.

The detectors that look at pictures take most of an audit, and give the same answer for the same
files, table and code. Their answers lie in the cache, which `hilum cache --empty` clears.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.auditing.findings import Finding, Found
from hilum.cache_rooms import cache_room, code_digest
from hilum.errors import HilumError
from hilum.files import read_json, write_json
from hilum.progress import Progress, Task
from hilum.threads import one_blas_thread

Detector = Callable[..., Found]


class Memory:
    """Answers of detectors about some samples and looks, as detectors take them."""

    def __init__(self, samples: pd.DataFrame, looks: NDArray[np.uint8]) -> None:
        self._samples, self._looks = samples, looks
        self._key = hashlib.sha256(samples.to_csv(index=False).encode("utf-8", "surrogateescape"))
        self._key.update(np.ascontiguousarray(looks).data)
        self._key.update(code_digest())

    def ask(self, detector: Detector, progress: Progress) -> Found:
        """Return what the detector finds, and have said what it says."""
        key = self._key.copy()
        key.update(detector.__name__.encode())
        name = f"{key.hexdigest()}.json"
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            known = read_json(cache_room("findings") / name)
            found = _found(known["found"])
            for line in known["said"]:
                progress.say(line)
            return found
        listener = _Listener(progress)
        # Detectors work in threads of their own, on matrices too small to be shared among more.
        with one_blas_thread():
            found = detector(self._samples, self._looks, progress=listener)
        answer = {"found": found.to_dict(), "said": listener.said}
        # A cache that cannot be written costs time alone.
        with contextlib.suppress(HilumError, OSError):
            write_json(cache_room("findings") / name, answer)
        return found


def _found(stored: dict[str, Any]) -> Found:
    return Found(**stored | {"findings": tuple(map(_finding, stored["findings"]))})


def _finding(stored: dict[str, Any]) -> Finding:
    paths = tuple(tuple(group) for group in stored["paths"])
    return Finding(**stored | {"examples": tuple(stored["examples"]), "paths": paths})


class _Listener:
    """Progress that keeps what was said."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.said: list[str] = []

    @contextlib.contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        with self._progress.task(name, total) as task:
            yield task

    def say(self, text: str) -> None:
        self.said.append(text)
        self._progress.say(text)
