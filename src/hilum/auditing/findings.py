"""What a finding is, and the words that all findings share."""

from __future__ import annotations

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


def number_of(n: int, noun: str) -> str:
    """Write '1 file' or '2 files'."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def by_severity(findings: list[Finding]) -> list[Finding]:
    """Put the worst first."""
    order: tuple[Severity, ...] = ("high", "medium", "low")
    return sorted(findings, key=lambda finding: order.index(finding.severity))
