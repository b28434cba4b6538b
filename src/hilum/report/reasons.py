"""What to distrust: reasons against a run's figures, each drawn from a fact of the run folder.

Every check answers with reasons, with one sentence that says what it found in order, or with one
that says why it could not be made. A reason that does not apply is not shown; nothing is shown that
no fact supports, and nothing counts as found in order that was not compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from hilum.report import words
from hilum.report.checks_of_data import (
    check_copies,
    check_duplicates,
    check_excluded,
    check_findings,
    check_openings,
    check_overlap,
    check_patients,
    check_predictions,
    check_prevalence,
    check_test_origin,
    check_validation,
)
from hilum.report.checks_of_figures import (
    check_calibration,
    check_decisions,
    check_drop,
    check_equal_names,
    check_estimable,
    check_external,
    check_heat_maps,
    check_heat_place,
    check_missed_classes,
    check_one_answer,
    check_robustness,
    check_skill,
    check_slope,
    check_subgroups,
    check_width,
)
from hilum.report.facts import RunFacts
from hilum.report.reason import WEIGHTS, Found, Reason

LINES_ON_SCREEN = 46  # of the column of reasons, on a screen of 1200 by 1500


@dataclass(frozen=True)
class Verdict:
    """All reasons, heaviest first; what was found in order; what could not be checked, and why."""

    reasons: tuple[Reason, ...]
    fine: tuple[str, ...]
    unchecked: tuple[str, ...] = ()

    @property
    def shown(self) -> tuple[tuple[Reason, bool], ...]:
        """Reasons, and whether each is unfolded: the heaviest, as many as fit on one screen."""
        found, room = [], float(LINES_ON_SCREEN)
        for reason in self.reasons:
            room -= 2.5 + len(reason.title + reason.text) / 54 + len(reason.examples)
            found.append((reason, room >= 0))
        return tuple(found)


def judge(facts: RunFacts) -> Verdict:
    """Run every check."""
    found = Found()
    for check in CHECKS:
        if facts.is_multilabel and check in BY_LABEL:
            _check_labels(facts, check, found)
        else:
            check(facts, found)
    reasons = sorted(found.reasons, key=lambda reason: -reason.weight)
    return Verdict(tuple(reasons), tuple(found.fine), tuple(found.unchecked))


def _check_labels(facts: RunFacts, check: Callable[[RunFacts, Found], None], found: Found) -> None:
    """Run a check on each label, and say once what is found of several, with their names."""
    by_label = {name: Found() for name in facts.class_names}
    for name, mine in by_label.items():
        check(facts.about(name), mine)
    kinds = dict.fromkeys(kind for mine in by_label.values() for kind in mine.kinds)
    for kind in sorted(kinds, key=lambda kind: -WEIGHTS[kind]):
        told = {
            name: reason
            for name, mine in by_label.items()
            for reason in mine.reasons
            if reason.kind == kind
        }
        found.reasons.append(_of_labels(kind, told, len(by_label)))
    found.fine += _lines_of({name: mine.fine for name, mine in by_label.items()})
    found.unchecked += _lines_of({name: mine.unchecked for name, mine in by_label.items()})


def _lines_of(said: dict[str, list[str]]) -> list[str]:
    """Write each line once, with the labels of which it was said."""
    lines: dict[str, list[str]] = {}
    for name, mine in said.items():
        for line in mine:
            lines.setdefault(line, []).append(name)
    return [f"{line} ({_labels(names, len(said))})" for line, names in lines.items()]


LABEL_TITLES = {
    "no_skill": "No skill is shown",
    "few_to_show": "Too few to show skill",
    "not_estimable": "Figures on test without value or interval",
    "drop": "Figures fall from validation to test",
    "external_drop": "AUROC falls on other data",
    "subgroup_gap": "It is worse in some groups",
    "calibration": "Probabilities are off on test",
    "calibration_slope": "Probabilities are too extreme or too cautious on test",
    "prevalence": "Not as frequent in test as in training",
    "wide_interval": "The test is small: wide intervals",
    "few_val": "There was little to choose the threshold by",
    "missing_class": "No test image has it, or none lacks it",
    "small_class": "Few test images with or without it",
}


def _of_labels(kind: str, told: dict[str, Reason], n_labels: int) -> Reason:
    """Take the reasons of several labels together: the first in full, the others in a sentence."""
    names, reasons = list(told), list(told.values())
    texts = [reasons[0].text, *(SENTENCE.split(reason.text)[0] for reason in reasons[1:2])]
    text = " ".join(
        f"“{name}”: {text.rstrip('.')}." for name, text in zip(names, texts, strict=False)
    )
    rest = names[2:]
    if rest:
        text += f" Likewise {words.quoted(rest, limit=6)}."
    titles = {reason.title for reason in reasons}
    what = LABEL_TITLES[kind]
    if kind == "calibration_slope" and len(titles) == 1:
        (what,) = titles  # all too extreme, or all too cautious
    title = f"{what}: {_labels(names, n_labels)}"
    return Reason(kind, title, text, reasons[0].examples, reasons[0].anchor)


def _labels(names: list[str], n_labels: int) -> str:
    if len(names) == n_labels:
        return "every label"
    return words.quoted([f"“{name}”" for name in names])


CHECKS: tuple[Callable[[RunFacts, Found], None], ...] = (
    check_overlap,
    check_patients,
    check_duplicates,
    check_copies,
    check_openings,
    check_predictions,
    check_skill,
    check_one_answer,
    check_missed_classes,
    check_estimable,
    check_drop,
    check_width,
    check_validation,
    check_calibration,
    check_prevalence,
    check_excluded,
    check_test_origin,
    check_findings,
    check_external,
    check_equal_names,
    check_subgroups,
    check_slope,
    check_robustness,
    check_heat_maps,
    check_heat_place,
    check_decisions,
)

BY_LABEL = frozenset(
    (
        *(check_skill, check_estimable, check_drop, check_width, check_validation),
        *(check_calibration, check_prevalence, check_external, check_subgroups, check_slope),
    )
)
"""Checks that are made of each label by itself."""

SENTENCE = re.compile(r"(?<=[^.\d])\. (?=[A-Z])")
