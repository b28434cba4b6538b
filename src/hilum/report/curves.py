"""Predictions of a run → the curves that are drawn, computed by `metrics` and `bands`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hilum import bands, metrics
from hilum.report.facts import RunFacts
from hilum.report.figures import Array, Curve, Reliability


@dataclass(frozen=True)
class Scores:
    """One class against the rest on one split.

    Attributes
    ----------
    y_true : int array of shape (n_samples,)
        1 where the image is of the class.
    y_score : float array of shape (n_samples,)
    groups : list of str or None
        Patient of each image; None where none is known.
    """

    y_true: NDArray[np.int64]
    y_score: Array
    groups: list[str] | None

    @property
    def has_both(self) -> bool:
        """Whether a curve exists: there are images of the class and others."""
        return bool(0 < self.y_true.sum() < len(self.y_true))


def scores(facts: RunFacts, split: str, name: str) -> Scores:
    table = facts.predicted(split)
    return Scores(
        np.asarray(table["label"] == name, dtype=np.int64),
        table[f"p_{name}"].to_numpy(dtype=float),
        _groups(facts, split),
    )


def roc(found: Scores, *, band: bool) -> Curve:
    """ROC as drawn: the true steps, or a smooth grid with its band."""
    if not band:
        curve = metrics.roc_curve(found.y_true, found.y_score)
        return Curve(curve.x, curve.y)
    drawn = bands.roc_band(found.y_true, found.y_score, groups=found.groups)
    return Curve(drawn.x, drawn.y, drawn.ci_low, drawn.ci_high)


def precision_recall(found: Scores, *, band: bool) -> Curve:
    if not band:
        curve = metrics.precision_recall_curve(found.y_true, found.y_score)
        return Curve(curve.x, curve.y)
    drawn = bands.pr_band(found.y_true, found.y_score, groups=found.groups)
    return Curve(drawn.x, drawn.y, drawn.ci_low, drawn.ci_high)


def reliability(facts: RunFacts) -> Reliability:
    """Calibration on test: of the positive class, or of the answer where there are more classes."""
    table = facts.predicted("test")
    if facts.positive_class is not None:
        found = scores(facts, "test", facts.positive_class)
        stated = found.y_score
        bins = bands.reliability_curve(found.y_true, stated, groups=found.groups)
    else:
        names = facts.class_names
        called = np.array([names.index(name) for name in table["predicted"]], dtype=np.intp)
        probs = table[[f"p_{name}" for name in names]].to_numpy(dtype=float)
        stated = np.take_along_axis(probs, called[:, None], axis=1)[:, 0]
        hit = (table["label"] == table["predicted"]).to_numpy(dtype=np.int64)
        bins = bands.reliability_curve(hit, stated, groups=_groups(facts, "test"))
    return Reliability(bins.stated, bins.observed, bins.ci_low, bins.ci_high, stated)


def _groups(facts: RunFacts, split: str) -> list[str] | None:
    """Patients as the figures took them: joined where they share a file, alone where unknown."""
    if facts.run["patients"]["n_patients"] is None:
        return None
    table = facts.predicted(split)
    samples = facts.samples.set_index("path")
    column = "group" if "group" in samples else "patient"
    group_of = samples[column].to_dict()
    return [
        str(group_of.get(path) or patient or f"#{path}")
        for path, patient in zip(table["path"], table["patient"], strict=True)
    ]
