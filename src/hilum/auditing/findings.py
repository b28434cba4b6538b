"""What a finding is, and the words that all findings share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Severity = Literal["high", "medium", "low"]

KINDS = (
    *("unreadable", "unknown_patients", "exact_duplicates", "near_duplicates"),
    *("contradictory_labels", "patients_across_splits", "prevalence_shift", "small_class"),
    *("burned_in", "blank", "extreme_size", "mixed_modes", "few_patients"),
    *("shortcut", "label_errors", "drift"),
)  # fmt: skip
"""Kinds of findings that are looked for."""

N_EXAMPLES = 10

NO_TRAIN_AND_TEST = "there is no given split into training and test"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or should be known.

    Attributes
    ----------
    kind : str
        Such as 'exact_duplicates'; the same word in every report and program.
    severity : str
        'high' (figures cannot be believed), 'medium' (they need care), 'low' (good to know).
    count : int
        Of files, pairs or patients, as the message says.
    message : str
        What it is, what it does to the result, what to do.
    examples : tuple of str
        A few, for people.
    paths : tuple of tuple of str
        Every file concerned, the weightiest first; files that belong together stand together.
    details : dict
        Figures behind the message, as JSON can hold them.
    """

    kind: str
    severity: Severity
    count: int
    message: str
    examples: tuple[str, ...]
    paths: tuple[tuple[str, ...], ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Found:
    """What a detector, or all of them, found and could not look for.

    Attributes
    ----------
    findings : tuple of Finding
    not_looked_for : dict of str to str
        Why a kind could not be looked for in these data; what is absent here was looked for.
    clues : dict
        How well the label is told by what is not the anatomy, alarming or not, as JSON can hold
        it; empty where that was not measured. Of several labels those of each, in 'by_label'.
    """

    findings: tuple[Finding, ...] = ()
    not_looked_for: dict[str, str] = field(default_factory=dict)
    clues: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def joined(parts: Iterable[Found]) -> Found:
    """Put together what several detectors found, the worst first."""
    known = list(parts)
    return Found(
        tuple(by_severity([finding for part in known for finding in part.findings])),
        {kind: why for part in known for kind, why in part.not_looked_for.items()},
        {key: value for part in known for key, value in part.clues.items()},
    )


def number_of(n: int, noun: str) -> str:
    """Write '1 file' or '2 files'."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def by_severity(findings: list[Finding]) -> list[Finding]:
    """Put the worst first."""
    order: tuple[Severity, ...] = ("high", "medium", "low")
    return sorted(findings, key=lambda finding: order.index(finding.severity))
