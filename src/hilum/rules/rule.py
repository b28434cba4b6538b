"""What a rule of planning is: what it decides, and when it sets what, and on which evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hilum.fingerprint import Fingerprint, Resolution
from hilum.symmetry import MIRRORS, Side

Choices = dict[str, tuple[Any, str]]
"""Value and reason by setting."""


@dataclass(frozen=True)
class Case:
    """When something is set to what, and what stands behind it: a row of docs/rules.md.

    The page gets the values from the rule itself, for the facts of an example. Where a condition
    has a limit the example lies just on its side of it, so that the page shows when that moves.

    Attributes
    ----------
    when : str
    sets : str
        Names of settings, parted by spaces.
    evidence : str
        One of `EVIDENCE`, and what was found; names of sections of benchmarks/README.md stand in
        square brackets.
    how : str
        How a value comes about that is not one value.
    facts : dict
        What is to be known of the data, beside what is plain, for this case to hold.
    given : dict
        What the user is to have set.
    """

    when: str
    sets: str
    evidence: str
    how: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)


EVIDENCE = {
    "Measured": "by an experiment here, on training patients or stand-ins.",
    "Partly measured": "an experiment here leaves open what is said beside it.",
    "By a paper": "others have measured it; here it was not measured.",
    "Customary": "many do so; here it was not measured.",
    "A guess": "here it was not measured.",
    "Follows": "from what the files, the machine or the user say.",
}
"""What stands behind a case, by the words that its evidence begins with."""


@dataclass(frozen=True)
class Rule:
    """One line of the table.

    Attributes
    ----------
    about : str
        What it decides.
    choose : callable
        (facts, settings so far) → value and reason by setting.
    cases : tuple of Case
        What it sets when, and why; every setting that it sets is in one of them.
    """

    about: str
    choose: Callable[[Fingerprint, Mapping[str, Any]], Choices]
    cases: tuple[Case, ...]


# -- what the examples of several cases have in common --------------------------------------------

AT_RANDOM = {"backbone": None}
NEEDING_384 = {"median_short": 1024.0, "resolution": Resolution(384, "It was tried.", {384: 0.1})}
SQUARE = dict.fromkeys(("min_height", "max_height", "min_width", "max_width"), 224.0)


def mirrored(kind: Literal["sided", "symmetric", "undecided"]) -> dict[str, Any]:
    """Give facts of images whose mirror images were tried."""
    return {"sides": {mirror: Side(kind, None, None, "It was tried.") for mirror in MIRRORS}}
