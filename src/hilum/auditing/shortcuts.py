"""What gives the label away without being the anatomy, judged and told.

Labels of all splits are looked at, test included: this judges data, and nothing of it flows into
training, calibration or a choice of model.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from hilum.auditing.clues import Clue, Clues, measure_clues
from hilum.auditing.findings import N_EXAMPLES, Finding, Found, Severity
from hilum.auditing.marks import find_marks
from hilum.auditing.quick_model import Looks, make_study
from hilum.names import quoted
from hilum.progress import Progress

MOST_IMAGES = 3000
"""Images that are looked at: more would sharpen intervals that are narrow enough."""

# Columns about the person: a disease may well go with them.
PERSONAL = re.compile(r"^(sex|gender|age|birth|ethnic|race|weight|height|bmi)", re.IGNORECASE)


def find_shortcuts(samples: pd.DataFrame, looks: Looks, *, progress: Progress) -> Found:
    """Find what predicts the label without being the anatomy.

    Parameters
    ----------
    samples : DataFrame
        Readable samples, numbered from 0, with the columns of `scan`.
    looks : uint8 array of shape (n_samples, 64, 64)

    Returns
    -------
    Found
        Findings of kind 'shortcut'. `paths` is given for marks alone: one group, the images that
        bear it. `clues` holds every clue's AUROC, alarming or not, and so do the `details`.
    """
    study = make_study(samples, samples["label"], most=MOST_IMAGES)
    if isinstance(study, str):
        progress.say(f"Shortcuts were not looked for: {study}.")
        return Found(not_looked_for={"shortcut": study})
    seen = np.asarray(looks[study.rows])
    found = measure_clues(samples, seen, study)
    marks = [*find_marks(samples, seen, found)]
    findings = (*marks, *_alarms(found, bool(marks)), *_restatements(found))
    left_out = {"shortcut_columns": _why_not(found.naming)} if found.naming else {}
    for why in left_out.values():
        progress.say(f"Not every column was looked at for shortcuts: {why}.")
    return Found(findings, left_out, clues=found.to_dict())


def _why_not(naming: Sequence[str]) -> str:
    """Say why columns that may name patients were not looked into, and what to do."""
    one = len(naming) == 1
    return (
        f"{quoted(naming)} may name patients while none is known, and those learnt from would be "
        f"recognised. If {'it does' if one else 'one does'}, pass --patient-column "
        f"{shlex.quote(naming[0]) if one else 'with the one that does'}"
    )


def _alarms(found: Clues, is_marked: bool) -> Iterator[Finding]:
    for clue in found.clues:
        severity = _severity(clue, found.share(clue), is_marked)
        if severity is not None and clue.family in ("file", "column"):
            yield _finding(severity, [clue], found)
    rim = [clue for clue in found.clues if clue.family == "rim"]
    loud = [clue for clue in rim if _severity(clue, found.share(clue), is_marked)]
    if loud:
        loud.sort(key=lambda clue: -clue.area.value)
        yield _finding("medium", loud, found)
    for clue in found.clues:
        severity = _severity(clue, found.share(clue), is_marked)
        if severity is not None and clue.family == "coarse" and not loud:
            yield _finding(severity, [clue], found)


def _severity(clue: Clue, share: float, is_marked: bool) -> Severity | None:
    """Judge a clue: beyond chance, large enough to matter, and near what the picture gives."""
    value = clue.area.value
    if not clue.area.is_clear or value < 0.65:
        return None
    if clue.family == "rim":
        # A mark that was found explains what its corner gives.
        return "medium" if value >= 0.75 and share >= 0.6 and not is_marked else None
    if clue.family == "coarse":
        return "low" if value >= 0.8 and share >= 0.85 else None
    if clue.family == "column" and PERSONAL.match(clue.name.partition(":")[2]):
        return "low"
    # What a picture shows decides how well it compresses, so the size of a file may be innocent.
    strong = 0.9 if clue.name == "file_size" else 0.8
    if value >= strong and share >= 0.6:
        return "high"
    return "medium" if share >= 0.3 else None


def _finding(severity: Severity, clues: list[Clue], found: Clues) -> Finding:
    best = clues[0]
    several = "; ".join(f"{clue.words} {clue.area}" for clue in clues[1:4])
    message = (
        f"From {best.words} alone the label is predicted with an AUROC of {best.area}"
        f"{f' (from {several})' if several else ''}; from the whole picture a small model gives "
        f"{found.picture}. {_meaning(best)}{found.study.sampled()}"
    )
    return Finding(
        "shortcut",
        severity,
        len(found.study),
        message,
        tuple(f"{clue.words}: AUROC {clue.area}" for clue in clues[:N_EXAMPLES]),
        (),
        {"clue": best.name, **found.to_dict()},
    )


def _meaning(clue: Clue) -> str:
    """Say what a clue does to the result and what to do."""
    if clue.family == "coarse":
        return (
            "The classes differ in layout or brightness at large. That may be the disease itself; "
            "it may be exposure, position or age. Figures may not carry over to another "
            "hospital: test on other data."
        )
    if clue.family == "rim":
        return (
            "That may be anatomy that reaches the edge, or position, collimation, marks or black "
            "bars that differ between the classes, which a network would learn in place of the "
            "disease. Look at images of both classes side by side, look at the heat maps, and "
            "crop the edge where it holds no anatomy."
        )
    if clue.family == "column":
        name = clue.name.partition(":")[2]
        if PERSONAL.match(name):
            return (
                "The disease may well go with it; but a network that reads it off the picture "
                f"looks better than it is. Report figures for each '{name}'."
            )
        return (
            "The network does not see the column, but may see what it stands for (device, site, "
            f"position) and learn that. Report figures for each '{name}', or balance the classes "
            "in it."
        )
    if clue.name == "file_size":
        return (
            "What a picture shows decides in part how well it compresses; if the classes were "
            "also saved by other software or settings, a network learns their traces. Save all "
            "images alike from their originals."
        )
    return (
        "The classes were acquired, exported or saved differently, and a network can learn the "
        "traces of that (resampling, compression, aspect) in place of the disease: figures on "
        "such data say nothing about other images. Export all images alike from their originals, "
        "or get both classes from the same source."
    )


def _restatements(found: Clues) -> Iterator[Finding]:
    if found.restated:
        names = quoted(found.restated)
        one = len(found.restated) == 1
        yield Finding(
            "shortcut",
            "low",
            len(found.restated),
            f"{'The column' if one else 'The columns'} {names} {'says' if one else 'say'} the "
            "label in other words. No image gives it away and no network sees it, so that is no "
            f"fault; but do not use {'it' if one else 'them'} as a subgroup or an input.",
            tuple(found.restated),
            (),
            {"clue": "restated", **found.to_dict()},
        )
