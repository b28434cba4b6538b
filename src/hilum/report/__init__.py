"""Run folder → report.html: one self-contained file that a doctor can read, on screen or paper.

Beside it, the cards as Markdown; and the page of an audit.
"""

from __future__ import annotations

from pathlib import Path

from hilum.files import write_text
from hilum.report.answer import title
from hilum.report.audit_page import write_audit
from hilum.report.cards import to_markdown
from hilum.report.facts import read_run
from hilum.report.folds_page import read_folds_page
from hilum.report.page import make_page, render_template
from hilum.report.reasons import judge
from hilum.splits import fold_name

__all__ = ["list_reasons", "write_audit", "write_report"]


def write_report(run: Path) -> Path:
    """Write the report of a finished run, and its model card and data card beside it.

    Parameters
    ----------
    run : path
        A run folder.

    Returns
    -------
    Path
        RUN/report.html; model/README.md and data_card.md lie in the run folder too. The report
        holds small copies of images and the names of patients: treat it as the images themselves.

    Raises
    ------
    RunError
        If the run is not finished, or a file of it is missing or damaged. Images that are gone
        are no error: the report says which could not be shown.
    """
    run = Path(run)
    path = run / "report.html"
    if _has_folds(run):
        write_text(path, render_template("folds.html", page=read_folds_page(run)))
        return path
    facts = read_run(run)
    page = make_page(facts)
    for card in page.cards:
        file = run / card.file
        before = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
        write_text(file, to_markdown(card, title(facts), before))
    write_text(path, render_template("page.html", page=page))
    return path


def list_reasons(run: Path) -> list[str]:
    """Return the titles of the reasons to distrust a finished run, the gravest first.

    Raises
    ------
    RunError
        As `write_report`.
    """
    if _has_folds(run):
        return [doubt.title for doubt in read_folds_page(run).doubts]
    return [reason.title for reason in judge(read_run(run)).reasons]


def _has_folds(run: Path) -> bool:
    return (run / fold_name(1)).is_dir()
