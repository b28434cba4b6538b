"""Thin marks near the edge, such as letters, that nearly always go with one class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.auditing.clues import CORNER, CORNERS, Clues
from hilum.auditing.findings import N_EXAMPLES, Finding, number_of
from hilum.auditing.quick_model import CLEAR, Looks
from hilum.intervals import wilson
from hilum.resampling import Floats

EDGES = {
    "top": (slice(0, CORNER), slice(CORNER, -CORNER)),
    "bottom": (slice(-CORNER, None), slice(CORNER, -CORNER)),
    "left": (slice(CORNER, -CORNER), slice(0, CORNER)),
    "right": (slice(CORNER, -CORNER), slice(-CORNER, None)),
}

MARK = 7  # marks are found that are thinner than this, in pixels of a look
LEAST_MARKED_PATIENTS = 8
LEAST_COVERED = 0.05  # share of its class that must bear a mark
MARK_QUANTILES = (*np.arange(0.5, 0.95, 0.025), 0.95, 0.96, 0.97, 0.98, 0.99)
LEAST_CONTRAST = 20.0  # grey values


@dataclass(frozen=True)
class Rule:
    """Something thin stands out in a place, by more than a threshold: then it is a class."""

    place: str
    threshold: float
    z: float


def find_marks(samples: pd.DataFrame, seen: Looks, found: Clues) -> Iterator[Finding]:
    """Find thin marks near the edge that nearly always go with one class.

    A rule is chosen on all folds but one and judged on that one, for patients it does not know.

    Parameters
    ----------
    samples : DataFrame
    seen : uint8 array of shape (n, 64, 64)
        The looks of the study's images.
    found : Clues
        The study, and what the finding's details tell beside the mark.
    """
    study = found.study
    contrast = mark_contrast(seen)
    for k in range(len(study.names)):
        is_class = study.y == k
        above = np.full(len(study), -np.inf)
        rules = []
        for fold in np.unique(study.fold):
            rule = _best_rule(contrast, is_class, study.fold != fold)
            if rule is not None:
                ask = study.fold == fold
                above[ask] = contrast[rule.place][ask] - rule.threshold
                rules.append(rule)
        finding = _judge_mark(samples, found, k, above, rules)
        if finding is not None:
            yield finding


def mark_contrast(seen: Looks) -> dict[str, Floats]:
    """Measure how much something thin stands out, bright or dark, by place near the edge.

    Returns
    -------
    dict of float arrays of shape (n,)
        In grey values, by 'bright, upper right corner' and the like.
    """
    contrast: dict[str, Floats] = {}
    least, most = _extreme(seen, np.minimum), _extreme(seen, np.maximum)
    for kind, around in (
        ("bright", seen - _extreme(least, np.maximum)),
        ("dark", _extreme(most, np.minimum) - seen),
    ):
        for name, place in (CORNERS | EDGES).items():
            part = around[:, *place].reshape(len(seen), -1)
            # The six highest: one pixel may be noise, and a letter has more.
            top = np.partition(part, part.shape[1] - 6, axis=1)[:, -6:]
            where = "corner" if name in CORNERS else "edge"
            contrast[f"{kind}, {name} {where}"] = top.mean(axis=1, dtype=np.float64)
        corners = np.stack([contrast[f"{kind}, {name} corner"] for name in CORNERS])
        contrast[f"{kind}, any corner"] = corners.max(axis=0)
        every = np.stack([values for name, values in contrast.items() if name.startswith(kind)])
        contrast[f"{kind}, anywhere near the edge"] = every.max(axis=0)
    return contrast


def _extreme(seen: Looks, of_two: np.ufunc) -> Looks:
    """Take the least or greatest value of the window of `MARK` pixels a side around each pixel."""
    for axis in (1, 2):
        padding = [(MARK // 2,) * 2 if axis == each else (0, 0) for each in range(3)]
        # Of 2, 4 and 7 neighbours in three sweeps.
        found = np.moveaxis(np.pad(seen, padding, mode="symmetric"), axis, 0)
        for step in (1, 2, 3):
            found = of_two(found[:-step], found[step:])
        seen = np.moveaxis(found, 0, axis)
    return seen


def _best_rule(
    contrast: dict[str, Floats], is_class: NDArray[np.bool_], learn: NDArray[np.bool_]
) -> Rule | None:
    """Choose the place and threshold whose images belong most surely to the class."""
    best: Rule | None = None
    truth = is_class[learn]
    prior = float(truth.mean())
    for place, values in contrast.items():
        here = values[learn]
        for threshold in np.unique(np.quantile(here, MARK_QUANTILES)):
            over = here > threshold
            n = int(over.sum())
            if n < LEAST_MARKED_PATIENTS or threshold < LEAST_CONTRAST:
                continue
            z = (float(truth[over].sum()) - n * prior) / np.sqrt(n * prior * (1 - prior))
            if best is None or z > best.z:
                best = Rule(place, float(threshold), float(z))
    return best


def _judge_mark(
    samples: pd.DataFrame, found: Clues, k: int, above: Floats, rules: list[Rule]
) -> Finding | None:
    """Judge the images whose contrast is above that of the rule made without them."""
    study, name = found.study, found.study.names[k]
    marked = above > 0
    hits = marked & (study.y == k)
    patients = study.clusters.index
    n_patients = len(np.unique(patients[hits]))
    covered = hits.sum() / (study.y == k).sum()
    if n_patients < LEAST_MARKED_PATIENTS or covered < LEAST_COVERED:
        return None
    prior = float((study.y == k).mean())
    purity = float(hits.sum() / marked.sum())
    # Marked patients, not images, are what chance draws.
    low, _ = wilson(purity, float(len(np.unique(patients[marked]))), CLEAR)
    if purity < 0.85 or low < prior + 0.3 * (1 - prior):
        return None
    place = max({rule.place for rule in rules}, key=lambda p: sum(r.place == p for r in rules))
    # The plainest first: they show what it is.
    order = np.argsort(-above, kind="stable")[: int(marked.sum())]
    paths = [str(samples["path"].iloc[row]) for row in study.rows[order]]
    kind, _, where = place.partition(", ")
    return Finding(
        "shortcut",
        "high",
        int(marked.sum()),
        f"{number_of(int(marked.sum()), 'image')} with something small and {kind} at the edge "
        f"({where}): {purity:.0%} of them are '{name}', which makes up {prior:.0%} of all; "
        f"{covered:.0%} of '{name}' have it. It may be a mark or text, which a network learns in "
        "place of the disease, and figures will not hold where the mark is absent. Look at the "
        "examples; if it is no anatomy, crop or cover it in every image, and train again."
        + study.sampled(),
        tuple(paths[:N_EXAMPLES]),
        (tuple(paths),),
        {
            "clue": "mark", "class": name, "place": place, "purity": purity,
            "covered": float(covered), "prevalence": prior, "n_patients": n_patients,
            **found.to_dict(),
        },
    )  # fmt: skip
