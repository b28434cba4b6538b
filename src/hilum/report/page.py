"""Facts → HTML: gathers the sections and hands them to the template."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hilum.report import words
from hilum.report.answer import Answer, make_answer
from hilum.report.cards import Card, data_card, model_card
from hilum.report.checklists import Filled, fill_checklists
from hilum.report.checklists.items import Evidence, Item
from hilum.report.cohort import Cohort, make_cohort
from hilum.report.decisions import Decisions, Referral, make_decisions, make_referral
from hilum.report.facts import RunFacts
from hilum.report.findings import Findings, show_findings
from hilum.report.gallery import Album
from hilum.report.methods import Methods, make_methods
from hilum.report.mistakes import Mistakes, make_mistakes
from hilum.report.patients import ByPatient, make_by_patient
from hilum.report.reach import Reach, make_reach
from hilum.report.reasons import Verdict, judge
from hilum.report.results import Results, make_results
from hilum.report.setup import Setup, make_setup

# Comfort only: a filter above each long table, and what a link leads to is unfolded. Without
# scripts the page reads the same.
SCRIPT = """
for (const table of document.querySelectorAll("table[data-filter]")) {
  const box = document.createElement("input");
  box.type = "search";
  box.placeholder = "Filter by file, patient or label";
  box.setAttribute("aria-label", box.placeholder);
  box.addEventListener("input", () => {
    const wanted = box.value.toLowerCase().split(/\\s+/);
    for (const row of table.tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !wanted.every((word) => text.includes(word));
    }
  });
  table.closest(".scroll").before(box);
}
const unfold = () => {
  const target = document.getElementById(location.hash.slice(1));
  if (target instanceof HTMLDetailsElement) target.open = true;
};
addEventListener("hashchange", unfold);
unfold();
"""


@dataclass(frozen=True)
class Page:
    """Everything that the template shows.

    Attributes
    ----------
    contents : tuple of (id, name, template)
        The sections in their order; one that has nothing to show is absent.
    """

    contents: tuple[tuple[str, str, str], ...]
    answer: Answer
    verdict: Verdict
    cohort: Cohort
    findings: Findings
    finding_note: str
    results: Results
    patients: ByPatient | None
    decisions: tuple[Decisions, ...]
    referral: Referral | None
    reach: Reach
    mistakes: Mistakes
    setup: Setup
    cards: tuple[Card, ...]
    methods: Methods
    checklists: tuple[Filled, ...]
    glossary: tuple[words.Term, ...]
    version: str
    class_names: tuple[str, ...]


def render_template(name: str, **values: Any) -> str:
    """Render one of our templates with the common style and script."""
    environment = Environment(
        loader=PackageLoader("hilum.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["words"] = words
    environment.filters["capitalize_first"] = words.capitalised
    environment.filters["groupby_section"] = _by_section
    style = resources.files("hilum.report").joinpath("page.css").read_text(encoding="utf-8")
    return environment.get_template(name).render(
        style=Markup(style), script=Markup(SCRIPT), script_hash=_script_hash(), **values
    )


def make_page(facts: RunFacts) -> Page:
    """Gather everything that the report shows; the same run gives the same page."""
    album = Album(
        Path(str(facts.run["data"]["path"])), facts.run["data"]["kind"], _ranges(facts.plan)
    )
    reach, patients = make_reach(facts), make_by_patient(facts)
    return Page(
        contents=_contents(reach, patients),
        answer=make_answer(facts),
        verdict=judge(facts),
        cohort=make_cohort(facts, album),
        findings=show_findings(
            facts.findings,
            facts.samples,
            album,
            looked_for=tuple(facts.run.get("looked_for") or ()),
            not_looked_for=facts.run.get("not_looked_for"),
            clues=facts.run.get("clues"),
        ),
        finding_note=_finding_note(facts),
        results=make_results(facts),
        patients=patients,
        decisions=make_decisions(facts),
        referral=make_referral(facts),
        reach=reach,
        mistakes=make_mistakes(facts, album),
        setup=make_setup(facts),
        cards=(model_card(facts), data_card(facts)),
        methods=make_methods(facts),
        checklists=fill_checklists(facts),
        glossary=words.terms_of(facts.target),
        version=str(facts.run["hilum"]),
        class_names=tuple(facts.class_names),
    )


def _contents(reach: Reach, patients: ByPatient | None) -> tuple[tuple[str, str, str], ...]:
    sections = [
        ("data", "Data"),
        ("findings", "Data check"),
        ("results", "Results"),
        ("patients", "By patient"),
        ("decisions", "Decisions"),
        ("reach", "Where it holds"),
        ("errors", "Errors"),
        ("plan", "Plan"),
        ("card", "Cards"),
        ("paper", "For a paper"),
        ("repeat", "Repeat"),
        ("terms", "Terms"),
    ]
    return tuple(
        (key, name, f"part_{'cards' if key == 'card' else key}.html")
        for key, name in sections
        if (key != "reach" or reach.has_any) and (key != "patients" or patients is not None)
    )


def _finding_note(facts: RunFacts) -> str:
    """Say which data the audit looked at, where the splits were drawn anew."""
    if facts.run["splits"]["source"] == "given":
        return ""
    return (
        "The audit looked at the data as they came; the splits of this run were drawn after it, "
        "with copies and patients kept together."
    )


def _by_section(
    rows: Iterable[tuple[Item, Evidence | None]],
) -> list[tuple[str, list[tuple[Item, Evidence | None]]]]:
    """Group the rows of a checklist by the section of the paper, in their order."""
    return [(name, list(part)) for name, part in groupby(rows, key=lambda row: row[0].section)]


def _script_hash() -> str:
    """Name our script in the page's own policy, so that no other would run in it."""
    digest = hashlib.sha256(SCRIPT.encode()).digest()
    return "sha256-" + base64.b64encode(digest).decode()


def _ranges(plan: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Take the ranges of pixel values, so that thumbnails look as the network sees them."""
    ranges = plan.get("ranges", {}).get("value") or {}
    return {str(name): (float(low), float(high)) for name, (low, high) in ranges.items()}
