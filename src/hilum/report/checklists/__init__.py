"""Reporting checklists, filled from a run: each item with its evidence, or blank for a person.

An item is filled only by a fact of the run folder. What only a person knows stays blank; what the
run knows in part says what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass

from hilum.report.checklists.claim import CLAIM
from hilum.report.checklists.evidence import EVIDENCE
from hilum.report.checklists.items import Checklist, Evidence, Item
from hilum.report.checklists.stard import STARD
from hilum.report.checklists.tripod import TRIPOD
from hilum.report.facts import RunFacts

CHECKLISTS = (CLAIM, TRIPOD, STARD)


@dataclass(frozen=True)
class Filled:
    """A checklist with the evidence of a run, item by item; None is blank."""

    checklist: Checklist
    rows: tuple[tuple[Item, Evidence | None], ...]

    @property
    def n(self) -> int:
        return len(self.rows)

    @property
    def n_whole(self) -> int:
        return sum(found is not None and not found.missing for _, found in self.rows)

    @property
    def n_partly(self) -> int:
        return sum(found is not None and bool(found.missing) for _, found in self.rows)

    @property
    def n_blank(self) -> int:
        return self.n - self.n_whole - self.n_partly


def fill_checklists(facts: RunFacts) -> tuple[Filled, ...]:
    """Hold every item of every checklist against the run."""
    answers = {name: answer(facts) for name, answer in EVIDENCE.items()}
    return tuple(
        Filled(
            checklist,
            tuple(
                (item, answers[item.evidence] if item.evidence else None)
                for item in checklist.items
            ),
        )
        for checklist in CHECKLISTS
    )
