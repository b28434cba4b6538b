"""The page of a cross-validation: what its headline says where folds do not go together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from hilum.estimates import describe
from hilum.report.folds_page import FoldsPage, make_folds_page
from hilum.splits import OUT_OF_FOLD

RUN = {
    "positive_class": "ill",
    "class_names": ["well", "ill"],
    "data": {"path": "data", "kind": "folder"},
    "findings": [],
    "patients": {"n_patients": 36},
    "splits": {"overlap": None, "reasons": ["3 folds were drawn."]},
}
KEYS = ("auroc", "sensitivity", "specificity", "balanced_accuracy")


def page_of_folds(shifts: tuple[float, ...], skill: float) -> FoldsPage:
    """Make the page of folds whose scores lie apart by `shifts` on the log-odds scale."""
    rng = np.random.default_rng(0)
    truths = [np.arange(12) < (3 if shift > 0 else 9) for shift in shifts]
    scores = [
        1 / (1 + np.exp(-shift - skill * (y - 0.5) - rng.normal(size=12)))
        for y, shift in zip(truths, shifts, strict=True)
    ]

    def told(y: Any, p: Any) -> dict[str, Any]:
        probs = np.stack([1 - p, p], axis=1)
        return describe(
            y.astype(int),
            probs,
            class_names=["well", "ill"],
            positive=1,
            threshold=0.5,
            groups=np.arange(len(y)),
            n_resamples=50,
        )

    folds = [
        {"fold": k} | told(y, p) for k, (y, p) in enumerate(zip(truths, scores, strict=True), 1)
    ]
    spread = {}
    for key in KEYS:
        values = [fold[key]["value"] for fold in folds]
        spread[key] = {
            "mean": np.mean(values),
            "sd": np.std(values, ddof=1),
            "lowest": min(values),
            "highest": max(values),
        }
    pooled = told(np.concatenate(truths), np.concatenate(scores))
    samples = pd.DataFrame(columns=["path", "label", "patient", "split"])
    return make_folds_page(RUN, {OUT_OF_FOLD: pooled, "folds": folds, "spread": spread}, samples)


def test_scores_on_other_scales_are_told_and_do_not_hide_the_folds() -> None:
    page = page_of_folds((-4.0, 0.0, 4.0), 3.0)
    assert page.title.startswith("AUROC 0.9")
    assert "within folds" in page.title
    assert page.title.endswith("as the scores of the folds’ networks are not on one scale")
    titles = [doubt.title for doubt in page.doubts]
    are_serious = [doubt.is_serious for doubt in page.doubts]
    assert are_serious == sorted(are_serious, reverse=True)
    assert "The folds’ scores are not on one scale" in titles
    assert "No skill is shown" not in titles


def test_an_interval_of_all_folds_together_is_not_held_against_a_headline_within_folds() -> None:
    page = page_of_folds((-4.0, 0.0, 4.0), 2.0)
    assert "within folds (0.852 to 1.000)" in page.title
    (doubt,) = [doubt for doubt in page.doubts if "wide intervals" in doubt.title]
    assert "AUROC" not in doubt.text
    assert "sensitivity" in doubt.text


def test_folds_on_one_scale_are_headed_by_all_together() -> None:
    page = page_of_folds((0.0, 0.0, 0.0), 3.0)
    assert page.title.endswith("on patients held out")
    assert "The mean of the folds’ AUROC is 0.9" in page.paragraphs[1]
    assert "The folds’ scores are not on one scale" not in [doubt.title for doubt in page.doubts]


def test_no_skill_is_said_of_folds_on_one_scale() -> None:
    titles = [doubt.title for doubt in page_of_folds((0.0, 0.0, 0.0), 0.0).doubts]
    assert "No skill is shown" in titles


def test_one_answer_to_all_is_serious() -> None:
    (doubt,) = [
        doubt
        for doubt in page_of_folds((9.0, 9.0, 9.0), 0.1).doubts
        if "is the answer" in doubt.title
    ]
    assert (doubt.title, doubt.is_serious) == ("“ill” is the answer to every image", True)
