"""Facts → HTML: gathers the sections and hands them to the template."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hilum.auditing import NOT_LOOKED_FOR
from hilum.report import words
from hilum.report.answer import Answer, make_answer
from hilum.report.cohort import Cohort, make_cohort
from hilum.report.facts import RunFacts
from hilum.report.gallery import Album
from hilum.report.mistakes import Mistakes, make_mistakes
from hilum.report.reasons import Verdict, judge
from hilum.report.results import Results, make_results
from hilum.report.setup import Setup, make_setup

# Comfort only: a filter above each long table. Without scripts the page reads the same.
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
"""


@dataclass(frozen=True)
class Page:
    """Everything that the template shows."""

    answer: Answer
    verdict: Verdict
    cohort: Cohort
    results: Results
    mistakes: Mistakes
    setup: Setup
    glossary: tuple[words.Term, ...]
    version: str
    class_names: tuple[str, ...]


def render(facts: RunFacts) -> str:
    """Return the whole page; the same run gives the same page."""
    environment = Environment(
        loader=PackageLoader("hilum.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = resources.files("hilum.report").joinpath("page.css").read_text(encoding="utf-8")
    return environment.get_template("page.html").render(
        page=make_page(facts),
        style=Markup(style),
        script=Markup(SCRIPT),
        script_hash=_script_hash(),
        words=words,
        not_looked_for=NOT_LOOKED_FOR,
    )


def make_page(facts: RunFacts) -> Page:
    album = Album(
        Path(str(facts.run["data"]["path"])), facts.run["data"]["kind"], _ranges(facts.plan)
    )
    return Page(
        answer=make_answer(facts),
        verdict=judge(facts),
        cohort=make_cohort(facts, album),
        results=make_results(facts),
        mistakes=make_mistakes(facts, album),
        setup=make_setup(facts),
        glossary=words.TERMS,
        version=str(facts.run["hilum"]),
        class_names=tuple(facts.class_names),
    )


def _script_hash() -> str:
    """Name our script in the page's own policy, so that no other would run in it."""
    digest = hashlib.sha256(SCRIPT.encode()).digest()
    return "sha256-" + base64.b64encode(digest).decode()


def _ranges(plan: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Take the ranges of pixel values, so that thumbnails look as the network sees them."""
    ranges = plan.get("ranges", {}).get("value") or {}
    return {str(name): (float(low), float(high)) for name, (low, high) in ranges.items()}
