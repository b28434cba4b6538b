"""A reason against a run's figures, its weight, and what a check found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

# Highest first; the order in which reasons are read. From SERIOUS on, a reason can make the main
# figures wrong by itself; below, it limits what they mean.
WEIGHTS = {
    "no_skill": 100,
    "one_answer": 99,
    "few_to_show": 99,
    "overlap": 98,
    "missing_class": 97,
    "opened_before_lock": 96,
    "other_threshold": 95,
    "patients_unknown": 94,
    "predictions_incomplete": 92,
    "duplicates_across_splits": 90,
    "copies_across_splits": 89,
    "finding_high": 85,
    "no_opening": 80,
    "label_conflicts": 72,
    "patients_partly_unknown": 71,
    "opened_again": 70,
    "external_drop": 66,
    "equal_names": 65,
    "missed_class": 64,
    "not_estimable": 62,
    "drop": 60,
    "unlike_training": 58,
    "subgroup_gap": 57,
    "finding_medium": 55,
    "heat_outside": 53,
    "heat_maps_fail": 52,
    "calibration": 50,
    "calibration_slope": 49,
    "fragile": 48,
    "coverage": 47,
    "prevalence": 45,
    "many_excluded": 44,
    "much_referred": 42,
    "wide_interval": 40,
    "few_val": 39,
    "small_class": 38,
    "patients_guessed": 35,
    "drawn_test": 25,
    "some_excluded": 20,
}
SERIOUS = 70
N_EXAMPLES = 3


@dataclass(frozen=True)
class Reason:
    """One reason for distrust.

    Attributes
    ----------
    kind : str
        Key of `WEIGHTS`.
    title, text : str
        What is the matter; what it means and what to do.
    examples : tuple of str
    anchor : str
        Id of the place in the report that shows more; '' where there is none.
    """

    kind: str
    title: str
    text: str
    examples: tuple[str, ...] = ()
    anchor: str = ""

    @property
    def weight(self) -> int:
        return WEIGHTS[self.kind]

    @property
    def is_serious(self) -> bool:
        return self.weight >= SERIOUS


@dataclass
class Found:
    reasons: list[Reason] = field(default_factory=list)
    fine: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    def pass_if(self, compared: bool, said: str, question: str, why: str) -> None:
        """Say that something is in order, or, where nothing was compared, that it stays open."""
        if compared:
            self.fine.append(said)
        else:
            self.unchecked.append(f"{question} ({why})")

    def add(
        self, kind: str, title: str, text: str, examples: Iterable[str] = (), anchor: str = ""
    ) -> None:
        self.reasons.append(Reason(kind, title, text, tuple(examples), anchor))

    @property
    def kinds(self) -> set[str]:
        return {reason.kind for reason in self.reasons}
