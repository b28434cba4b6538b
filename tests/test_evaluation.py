"""Figures of decisions, held against those of the answers that they are made of."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pandas as pd
import pytest

from hilum.evaluation import measure_decisions
from hilum.inference import Model
from hilum.multilabel import LabelStudy
from hilum.referral import Rules
from hilum.studies import study_predictions
from hilum.targets import joined_cells, label_columns

NAMES = ("mass", "fluid")

MODEL = cast(
    Model,
    SimpleNamespace(
        class_names=NAMES,
        facts=SimpleNamespace(
            class_names=NAMES,
            positive_index=None,
            target="multilabel",
            referral=Rules(n=9, n_patients=9),
            margins=lambda probs: np.abs(probs - 0.5).min(axis=1),
        ),
    ),
)


def test_an_image_without_a_known_label_is_neither_right_nor_wrong() -> None:
    rng = np.random.default_rng(0)
    y = (rng.random((60, 2)) < 0.4).astype(float)
    probs = np.clip(0.4 * y + 0.6 * rng.random(y.shape), 0.01, 0.99)
    y[rng.random(y.shape) < 0.5] = np.nan
    unknown = np.isnan(y).all(axis=1)
    referred = rng.random(60) < 0.3
    rows = pd.DataFrame(label_columns(y, NAMES)).assign(
        predicted=joined_cells(probs >= 0.5, NAMES),
        reason=np.where(referred, "low confidence", ""),
        **{f"p_{name}": probs[:, k] for k, name in enumerate(NAMES)},
    )
    groups = [str(k // 2) for k in range(60)]
    found = measure_decisions([(rows, MODEL)], groups)["referral"]
    assert (unknown & ~referred).sum() > 3
    assert found["share_referred"]["value"] == pytest.approx(referred.mean())
    order = np.argsort(np.abs(probs - 0.5).min(axis=1), kind="stable")
    for left, figure in (
        (~referred, found["accuracy_kept"]),
        (np.ones(60, dtype=bool), found["curve"][0]["accuracy"]),
        (np.isin(np.arange(60), order[30:]), found["curve"][10]["accuracy"]),
    ):
        study = study_predictions(
            rows[left],
            NAMES,
            "multilabel",
            positive=None,
            groups=np.array(groups)[left],
            patients_known=True,
        )
        assert isinstance(study, LabelStudy)
        alone = study.exact_match().as_json()
        assert figure["n"] == alone["n"] == (left & ~unknown).sum()
        for key in ("value", "ci_low", "ci_high"):
            assert figure[key] == pytest.approx(alone[key])
