"""Run folder → report.html: one self-contained file that a doctor can read, on screen or paper."""

from __future__ import annotations

from pathlib import Path

from hilum.files import write_text
from hilum.report.facts import read_run
from hilum.report.page import render

__all__ = ["write_report"]


def write_report(run: Path) -> Path:
    """Write the report of a finished run.

    Parameters
    ----------
    run : path
        A run folder.

    Returns
    -------
    Path
        RUN/report.html. It holds small copies of images and the names of patients: treat it as
        the images themselves.

    Raises
    ------
    RunError
        If the run is not finished, or a file of it is missing or damaged. Images that are gone
        are no error: the report says which could not be shown.
    """
    run = Path(run)
    path = run / "report.html"
    write_text(path, render(read_run(run)))
    return path
