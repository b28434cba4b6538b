"""Keep decoding libraries from talking past us.

What a library warns of is either checked by our readers and refused, or of no concern; in neither
case may it reach the user's terminal or the warnings of the user's program.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

LOGGERS = (
    "PIL.PngImagePlugin",
    "PIL.TiffImagePlugin",
    "nibabel.global",
    "pydicom",
    "tifffile",
)

_lock = threading.Lock()
_guards: list[warnings.catch_warnings[None]] = []
_n_inside = 0


@contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings and the libraries' loggers while any thread is inside.

    `warnings.catch_warnings` alone is not safe with threads: when two overlap, the one that
    leaves last restores the filters of the other. Here the first to enter sets and the last to
    leave restores.
    """
    global _n_inside
    with _lock:
        _n_inside += 1
        if _n_inside == 1:
            guard = warnings.catch_warnings()
            guard.__enter__()
            warnings.simplefilter("ignore")
            _guards.append(guard)
            _set_loggers(disabled=True)
    try:
        yield
    finally:
        with _lock:
            _n_inside -= 1
            if _n_inside == 0:
                _guards.pop().__exit__(None, None, None)
                _set_loggers(disabled=False)


def _set_loggers(*, disabled: bool) -> None:
    for logger in _loggers():
        logger.disabled = disabled


@cache
def _loggers() -> tuple[logging.Logger, ...]:
    """Look them up once: every image asks for them twice."""
    return tuple(logging.getLogger(name) for name in LOGGERS)
