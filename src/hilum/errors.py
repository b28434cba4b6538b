"""Everything Hilum raises on purpose.

HilumError
├── DataError                 the data are at fault
│   ├── UnreadableError       one file cannot be read as an image
│   └── PatientOverlapError   a patient is in more than one split
├── SettingError              an unknown setting, or a value it cannot take
├── ModelError                a model folder that cannot be used
├── RunError                  a run folder that is missing, unfinished or full
└── MissingExtraError         an optional package is not installed

A message answers three questions: what happened, where, what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HilumError(Exception):
    """Base of all errors that a user's input can cause."""


class DataError(HilumError):
    """The data are at fault."""


class UnreadableError(DataError):
    """A file that cannot be read as an image.

    Attributes
    ----------
    name : str
        The file, as its user would name it.
    reason : str
        Why, in one sentence without a full stop.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason

    def __reduce__(self) -> tuple[type[UnreadableError], tuple[str, str]]:
        # Exceptions with two arguments do not survive pickling between processes by themselves.
        return type(self), (self.name, self.reason)


class PatientOverlapError(DataError):
    """A patient is in more than one split."""


class SettingError(HilumError):
    """An unknown setting, or a value that it cannot take."""


class ModelError(HilumError):
    """A model folder that is incomplete, damaged or not one of ours."""


class RunError(HilumError):
    """A run folder that is missing, unfinished or already in use."""


class MissingExtraError(HilumError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package '{package}', which is not installed. "
            f"Install it with: pip install 'hilum[{extra}]'"
        )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the known word nearest to `word`, or nothing."""
    by_letters = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), list(by_letters), n=1, cutoff=0.6)
    return f" Did you mean '{by_letters[near[0]]}'?" if near else ""
