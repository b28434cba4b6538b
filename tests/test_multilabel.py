"""Several labels an image: each as a study of two classes, unknown labels, and the means."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hilum import intervals
from hilum.errors import DataError
from hilum.estimates import describe
from hilum.multilabel import LabelStudy, describe_labels, label_study
from studies import slow_auroc

Floats = NDArray[np.float64]

NAMES = ("mass", "fluid", "air")
THRESHOLDS = {"mass": 0.4, "fluid": 0.5, "air": 0.6}


def findings(n_patients: int = 40, seed: int = 0) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """Labels with unknown ones, probabilities, and patients with 1 to 4 images."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_patients), rng.integers(1, 5, size=n_patients))
    share = np.array([0.5, 0.4, 0.3])
    y = (rng.random((n_patients, 3)) < share)[groups].astype(float)
    x = 1.5 * y + rng.normal(size=(n_patients, 1))[groups] + rng.normal(size=y.shape)
    y[rng.random(y.shape) < 0.15] = np.nan
    return y, 1 / (1 + np.exp(1 - 1.5 * x)), groups


def told(y: Floats, probs: Floats, groups: Any, **options: Any) -> dict[str, Any]:
    return describe_labels(
        y,
        probs,
        label_names=NAMES,
        thresholds=THRESHOLDS,
        groups=groups,
        **({"n_resamples": 100} | options),
    )


def studied(y: Floats, probs: Floats, groups: Any) -> LabelStudy:
    return label_study(
        y, probs, label_names=NAMES, thresholds=THRESHOLDS, groups=groups, n_resamples=50
    )


def test_each_label_is_the_study_of_the_images_of_which_it_is_known() -> None:
    y, probs, groups = findings()
    found = told(y, probs, groups)["labels"]
    for k, name in enumerate(NAMES):
        known = ~np.isnan(y[:, k])
        p = probs[known, k]
        alone = describe(
            y[known, k],
            np.stack([1 - p, p], axis=1),
            class_names=[f"no {name}", name],
            positive=1,
            threshold=THRESHOLDS[name],
            groups=groups[known],
            n_resamples=100,
        )
        assert found[name] == alone | {"n_unknown": int((~known).sum())}


def test_means_are_those_of_the_labels() -> None:
    y, probs, groups = findings()
    found = told(y, probs, groups)
    for figure in ("auroc", "average_precision", "sensitivity", "brier", "ece", "f1"):
        values = [found["labels"][name][figure]["value"] for name in NAMES]
        assert found[figure]["value"] == pytest.approx(np.mean(values))
        assert found[figure]["ci_low"] < found[figure]["value"] < found[figure]["ci_high"]
    assert found["mean_over"] == list(NAMES)
    assert found["n"] == len(y)
    assert found["n_patients"] == 40


def test_interval_of_the_mean_auroc_is_that_of_a_slow_jackknife() -> None:
    n = 140  # so many that 30 patients have the rarest label
    y, probs, groups = findings(n)

    def mean(kept: NDArray[np.bool_]) -> float:
        columns = [(y[kept, k], probs[kept, k]) for k in range(3)]
        return float(
            np.mean([slow_auroc(t[~np.isnan(t)].astype(int), p[~np.isnan(t)]) for t, p in columns])
        )

    left_out = np.array([mean(groups != patient) for patient in range(n)])
    slow = intervals.logit_t(mean(groups >= 0), left_out, n_patients=n)
    found = told(y, probs, groups)["auroc"]
    assert (found["ci_low"], found["ci_high"]) == pytest.approx((slow.ci_low, slow.ci_high))


def test_of_few_patients_the_mean_is_no_surer_than_its_labels_are() -> None:
    # What leaving out a patient takes from one label it gives to the other, and the third is
    # perfect: the jackknife of the mean sees hardly any spread.
    rng = np.random.default_rng(3)
    y = np.tile([1.0, 0.0], 6)[:, None].repeat(3, axis=1)
    p = np.clip(0.5 + 0.2 * (y - 0.5) + rng.normal(0, 0.15, size=y.shape), 0.01, 0.99)
    p[:, 1] = np.where(y[:, 1] == 1, 0.6 + 0.5 - p[:, 0], 0.4 + 0.5 - p[:, 0])
    p[:, 2] = 0.1 + 0.8 * y[:, 2]
    study = studied(y, p, np.arange(12))
    values = [part.figures["auroc"].value for part in study.parts]
    assert values[2] == 1
    for name in ("auroc", "average_precision"):
        found = study.means([name])[name]
        parts = [part.figures[name] for part in study.parts]
        assert found.left_out is not None
        direct = intervals.logit_t(found.value, found.left_out, n_patients=12)
        assert found.interval.ci_low < direct.ci_low
        below = np.array([part.value - part.interval.ci_low for part in parts])
        # The perfect label goes with the others, which at the least are independent.
        least = math.sqrt((below**2).sum() + 2 * below[2] * below[:2].sum()) / 3
        assert found.value - found.interval.ci_low >= least - 1e-12
        assert found.interval.ci_high <= 1


def test_a_label_too_rare_for_an_interval_may_lie_anywhere() -> None:
    y, probs, groups = findings()
    with_it = np.flatnonzero(y[:, 2] == 1)
    kept = np.isin(groups, np.unique(groups[with_it])[:2])
    y[(y[:, 2] == 1) & ~kept, 2] = 0
    study = studied(y, probs, groups)
    assert math.isnan(study.parts[2].figures["auroc"].interval.ci_low)
    found, value = study.means(["auroc"])["auroc"], study.parts[2].figures["auroc"].value
    assert found.interval.ci_low <= found.value - value / 3
    assert found.interval.method.startswith("the wider of: ")


def test_labels_that_go_together_are_not_independent_evidence() -> None:
    rng = np.random.default_rng(1)
    y = (rng.random((200, 1)) < 0.4).astype(float)
    p = 1 / (1 + np.exp(-2 * y + 1 - rng.normal(size=(200, 1))))
    alone, thrice = (
        told(np.repeat(y, 3, axis=1), np.repeat(p, 3, axis=1), None),
        describe(
            y[:, 0].astype(int),
            np.hstack([1 - p, p]),
            class_names=["a", "b"],
            positive=1,
            threshold=0.5,
            n_resamples=100,
        ),
    )
    widths = [found["auroc"]["ci_high"] - found["auroc"]["ci_low"] for found in (alone, thrice)]
    assert widths[0] == pytest.approx(widths[1], rel=0.02)


def test_a_label_without_both_outcomes_is_in_no_mean() -> None:
    y, probs, groups = findings()
    y[:, 2] = np.where(np.isnan(y[:, 2]), np.nan, 0.0)
    found = told(y, probs, groups)
    n = int((~np.isnan(y[:, 2])).sum())
    assert found["mean_over"] == ["mass", "fluid"]
    assert found["not_in_mean"] == {"air": f"it is absent from all {n} images"}
    assert found["labels"]["air"]["auroc"]["value"] is None
    assert found["labels"]["air"]["auroc"]["reason"] == f"no air among the {n} images"
    assert found["auroc"]["value"] is not None


def test_a_label_that_is_never_known() -> None:
    y, probs, groups = findings()
    y[:, 0] = np.nan
    found = told(y, probs, groups)
    assert found["not_in_mean"] == {"mass": "it is known of no image"}
    assert found["labels"]["mass"]["n"] == 0
    reasons = {found["labels"]["mass"][name]["reason"] for name in ("auroc", "f1", "precision")}
    assert reasons == {"there are no images"}
    assert found["labels"]["mass"]["n_unknown"] == len(y)


def test_exact_match_counts_what_is_known() -> None:
    y = np.array([[1, 0, np.nan], [1, 1, 0], [np.nan] * 3, [0, 0, 0]])
    probs = np.array([[0.9, 0.1, 0.9], [0.9, 0.1, 0.1], [0.9, 0.9, 0.9], [0.1, 0.1, 0.1]])
    found = told(y, probs, None)["exact_match"]
    assert (found["value"], found["n"]) == (pytest.approx(2 / 3), 3)


def test_decisions_of_others_stand() -> None:
    y, probs, groups = findings()
    called = np.ones(y.shape, dtype=bool)
    found = studied(y, probs, groups).called(called).describe(dict.fromkeys(NAMES), ())
    assert found["sensitivity"]["value"] == 1
    assert found["labels"]["mass"]["threshold"] is None


def test_a_part_keeps_its_rows() -> None:
    y, probs, groups = findings()
    inside = groups < 20
    part = studied(y, probs, groups).of(inside)
    alone = studied(y[inside], probs[inside], groups[inside])
    for mine, other in zip(part.parts, alone.parts, strict=True):
        assert mine.figures["auroc"].value == other.figures["auroc"].value
    assert part.means(["auroc"])["auroc"].value == alone.means(["auroc"])["auroc"].value
    assert not math.isnan(part.exact_match().value)


def test_images_surest_to_be_without_a_label_are_ranked() -> None:
    """Below 10⁻¹⁶ too, without it is the same question as with it, turned round."""
    rng = np.random.default_rng(0)
    y = np.tile([0.0, 0.0, 1.0], 20)[:, None].repeat(3, axis=1)
    z = rng.normal(-60, 8, size=y.shape) + 6 * y
    found = told(y, np.exp(z), None)["labels"]["mass"]["classes"]
    for name in ("mass", "no mass"):
        assert found[name]["auroc"]["value"] == pytest.approx(slow_auroc(y[:, 0], z[:, 0]))


def test_what_does_not_fit_is_refused() -> None:
    y, probs, _ = findings()
    with pytest.raises(DataError, match=r"y_true has shape \(\d+, 2\) and there are 3 labels"):
        told(y[:, :2], probs, None)
    y[0, 0] = 2
    with pytest.raises(DataError, match="labels are whole numbers from 0 to 1"):
        told(y, probs, None)
