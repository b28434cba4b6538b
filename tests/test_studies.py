"""A table of predictions becomes a study of the right kind, with what was called."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from hilum.estimates import Study
from hilum.multilabel import LabelStudy
from hilum.studies import describe_study, study_predictions


def table(labels: list[str], called: list[str], **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"label": labels, "predicted": called} | columns)


def test_what_was_called_stands_for_two_classes() -> None:
    rows = table(["b", "a", "b", "a"], ["b", "b", "b", "a"], p_a=[0.8] * 4, p_b=[0.2] * 4)
    study = study_predictions(
        rows, ("a", "b"), "classes", positive=1, groups=list("wxyz"), patients_known=True
    )
    found = describe_study(study, 0.1)
    assert found["confusion_matrix"] == [[1, 1], [0, 2]]
    assert (found["threshold"], found["n_patients"]) == (0.1, 4)
    assert "subgroups" not in found


def test_grades_have_their_figures() -> None:
    probs = {f"p_{k}": [0.2, 0.3, 0.5] for k in range(3)}
    rows = table(["0", "1", "2"], ["0", "1", "0"], **probs)
    study = study_predictions(
        rows, ("0", "1", "2"), "ordinal", positive=None, groups=list("abc"), patients_known=False
    )
    found = describe_study(study, None)
    assert found["mean_absolute_error"]["value"] == pytest.approx(2 / 3)
    assert (found["n_patients"], len(found["auroc_by_cut"])) == (None, 2)


def test_labels_are_told_apart_with_their_groups() -> None:
    rng = np.random.default_rng(0)
    cells = [["none", "x", "y", "x|y"][k] for k in rng.integers(0, 4, 60)]
    rows = table(
        cells,
        ["x"] * 60,
        unknown=["y"] * 5 + [""] * 55,
        p_x=rng.random(60),
        p_y=rng.random(60),
        sex=["F", "M"] * 30,
    )
    study = study_predictions(
        rows,
        ("x", "y"),
        "multilabel",
        positive=None,
        groups=np.arange(60),
        patients_known=True,
    )
    assert isinstance(study, LabelStudy)
    assert all(isinstance(part, Study) for part in study.parts)
    found = describe_study(study, {"x": 0.3, "y": 0.4}, columns=rows[["sex"]])
    assert found["labels"]["x"]["sensitivity"]["value"] == 1
    assert found["labels"]["y"]["sensitivity"]["value"] == 0
    assert [found["labels"][name]["threshold"] for name in ("x", "y")] == [0.3, 0.4]
    assert found["labels"]["y"]["n"] == 55
    groups = found["labels"]["y"]["subgroups"]
    assert [(row["group"], row["n"]) for row in groups] == [("F", 27), ("M", 28)]
    over_folds = describe_study(study, None)
    assert over_folds["labels"]["x"]["threshold"] is None
