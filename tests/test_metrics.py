"""Each figure against a worked example, a slow loop, and scikit-learn; then the table of all."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hilum import intervals, metrics
from hilum.errors import DataError, SettingError
from hilum.metrics import UndefinedFigureWarning, describe

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

Y = [0, 0, 1, 1]
SCORE = [0.1, 0.4, 0.35, 0.8]


def cases() -> list[tuple[Ints, Floats, Floats]]:
    """Labels, scores with many ties, and whole weights, some of them 0."""
    made = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(5, 40))
        y = rng.integers(0, 2, size=n)
        y[:2] = 0, 1
        score = rng.integers(0, 6 if seed % 2 else 1000, size=n) / 1000
        weights = rng.integers(0, 4, size=n).astype(float)
        weights[:2] = 1
        made.append((y, score, weights))
    return made


def slow_auroc(y: Ints, score: Floats) -> float:
    wins = [
        1.0 if p > q else 0.5 if p == q else 0.0
        for p in score[y == 1].tolist()
        for q in score[y == 0].tolist()
    ]
    return sum(wins) / len(wins)


def slow_average_precision(y: Ints, score: Floats) -> float:
    total, recall = 0.0, 0.0
    for threshold in sorted(set(score.tolist()), reverse=True):
        called = score >= threshold
        tp = sum(1 for a, b in zip(y, called, strict=True) if a == 1 and b)
        now = tp / int(y.sum())
        total += (now - recall) * tp / int(called.sum())
        recall = now
    return total


def slow_counts(y: Ints, pred: Ints) -> tuple[int, int, int, int]:
    pairs = list(zip(y.tolist(), pred.tolist(), strict=True))
    return pairs.count((1, 1)), pairs.count((0, 1)), pairs.count((1, 0)), pairs.count((0, 0))


class TestFiguresByHand:
    def test_auroc(self) -> None:
        # Pairs: .35 > .1, .35 < .4, .8 > .1, .8 > .4: three of four.
        assert metrics.auroc(Y, SCORE) == 0.75

    def test_average_precision(self) -> None:
        # .8: recall 1/2 at precision 1; .35: the other half at precision 2/3.
        assert metrics.average_precision(Y, SCORE) == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)

    def test_decisions(self) -> None:
        # 3 positives of which 2 found; 5 negatives of which 4 cleared.
        y, pred = [1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 0, 1, 0, 0, 0, 0]
        assert metrics.sensitivity(y, pred) == 2 / 3
        assert metrics.specificity(y, pred) == 4 / 5
        assert metrics.precision(y, pred) == 2 / 3
        assert metrics.f1(y, pred) == 2 / 3
        assert metrics.accuracy(y, pred) == 6 / 8
        assert metrics.balanced_accuracy(y, pred) == pytest.approx((2 / 3 + 4 / 5) / 2)
        assert metrics.confusion_matrix(y, pred, n_classes=2).tolist() == [[4, 1], [1, 2]]

    def test_brier(self) -> None:
        assert metrics.brier([0, 1], [0.2, 0.7]) == pytest.approx((0.04 + 0.09) / 2)
        # Over all classes: two columns give twice as much.
        assert metrics.brier([0, 1], [[0.8, 0.2], [0.3, 0.7]]) == pytest.approx(0.04 + 0.09)

    def test_ece(self) -> None:
        # Two bins: mean .15 against a share of 0, mean .8 against 1/2.
        y, probs = [0, 0, 0, 1], [0.1, 0.2, 0.7, 0.9]
        assert metrics.ece(y, probs, n_bins=2) == pytest.approx(0.5 * 0.15 + 0.5 * 0.3)
        # Three classes: confidences .6 (right) and .5 (wrong) in one bin.
        assert metrics.ece([0, 2], [[0.6, 0.2, 0.2], [0.5, 0.3, 0.2]], n_bins=1) == pytest.approx(
            abs(0.55 - 0.5)
        )

    def test_macro_auroc_leaves_out_absent_classes(self) -> None:
        probs = np.array([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.2, 0.7, 0.1], [0.5, 0.45, 0.05]])
        # Class 0: .6 and .5 against .2 and .5; class 1: .7 and .45 against .3 and .4.
        assert metrics.macro_auroc([0, 0, 1, 1], probs) == pytest.approx((3.5 / 4 + 1) / 2)


@pytest.mark.parametrize(("y", "score", "weights"), cases())
class TestFiguresBySlowLoops:
    def test_ranking(self, y: Ints, score: Floats, weights: Floats) -> None:
        assert metrics.auroc(y, score) == pytest.approx(slow_auroc(y, score))
        assert metrics.average_precision(y, score) == pytest.approx(
            slow_average_precision(y, score)
        )

    def test_decisions(self, y: Ints, score: Floats, weights: Floats) -> None:
        pred = (score >= np.median(score)).astype(np.intp)
        tp, fp, fn, tn = slow_counts(y, pred)
        assert metrics.sensitivity(y, pred) == pytest.approx(tp / (tp + fn))
        assert metrics.specificity(y, pred) == pytest.approx(tn / (tn + fp))
        assert metrics.precision(y, pred) == pytest.approx(tp / (tp + fp))
        assert metrics.f1(y, pred) == pytest.approx(tp / (tp + (fp + fn) / 2))
        assert metrics.accuracy(y, pred) == pytest.approx((tp + tn) / len(y))

    def test_ece(self, y: Ints, score: Floats, weights: Floats) -> None:
        ordered = sorted(score.tolist())
        bins: dict[int, list[float]] = {}
        for truth, stated in zip(y.tolist(), score.tolist(), strict=True):
            bins.setdefault(ordered.index(stated) * 4 // len(y), []).append(truth - stated)
        slow = sum(abs(sum(gaps)) for gaps in bins.values()) / len(y)
        assert metrics.ece(y, score, n_bins=4) == pytest.approx(slow)

    def test_a_weight_is_a_repetition(self, y: Ints, score: Floats, weights: Floats) -> None:
        times = weights.astype(int)
        many_y, many_score = np.repeat(y, times), np.repeat(score, times)
        pred, many_pred = (s >= np.median(score) for s in (score, many_score))
        for figure in (metrics.auroc, metrics.average_precision, metrics.brier):
            assert figure(y, score, weights=weights) == pytest.approx(figure(many_y, many_score))
        for decision in (
            metrics.sensitivity,
            metrics.specificity,
            metrics.accuracy,
            metrics.balanced_accuracy,
            metrics.f1,
        ):
            assert decision(y, pred, weights=weights) == pytest.approx(decision(many_y, many_pred))

    def test_scikit_learn_agrees(self, y: Ints, score: Floats, weights: Floats) -> None:
        from sklearn import metrics as reference

        w = weights
        pred = (score >= np.median(score)).astype(np.intp)
        pairs = [
            (
                metrics.auroc(y, score, weights=w),
                reference.roc_auc_score(y, score, sample_weight=w),
            ),
            (
                metrics.average_precision(y, score, weights=w),
                reference.average_precision_score(y, score, sample_weight=w),
            ),
            (
                metrics.brier(y, score, weights=w),
                reference.brier_score_loss(y, score, sample_weight=w),
            ),
            (metrics.sensitivity(y, pred), reference.recall_score(y, pred)),
            (metrics.precision(y, pred), reference.precision_score(y, pred)),
            (metrics.f1(y, pred), reference.f1_score(y, pred)),
            (
                metrics.accuracy(y, pred, weights=w),
                reference.accuracy_score(y, pred, sample_weight=w),
            ),
            (
                metrics.balanced_accuracy(y, pred, weights=w),
                reference.balanced_accuracy_score(y, pred, sample_weight=w),
            ),
        ]
        for ours, theirs in pairs:
            assert ours == pytest.approx(theirs)
        matrix = metrics.confusion_matrix(y, pred, n_classes=2)
        assert matrix.tolist() == reference.confusion_matrix(y, pred, labels=[0, 1]).tolist()

    def test_scikit_learn_agrees_on_curves(self, y: Ints, score: Floats, weights: Floats) -> None:
        from sklearn import metrics as reference

        weights = weights + 1  # scikit-learn leaves out points of weight 0
        fpr, tpr, thresholds = reference.roc_curve(
            y, score, sample_weight=weights, drop_intermediate=False
        )
        curve = metrics.roc_curve(y, score, weights=weights)
        np.testing.assert_allclose(curve.x, fpr)
        np.testing.assert_allclose(curve.y, tpr)
        np.testing.assert_allclose(curve.thresholds, thresholds)
        precision, recall, thresholds = reference.precision_recall_curve(y, score)
        points = metrics.precision_recall_curve(y, score)
        # scikit-learn begins at the lowest threshold and appends a point (0, 1).
        np.testing.assert_allclose(points.x, recall[:-1][::-1])
        np.testing.assert_allclose(points.y, precision[:-1][::-1])
        np.testing.assert_allclose(points.thresholds, thresholds[::-1])


def test_scikit_learn_agrees_on_many_classes() -> None:
    from sklearn import metrics as reference

    rng = np.random.default_rng(3)
    y, probs = rng.integers(0, 4, 60), rng.dirichlet([1, 1, 1, 1], 60)
    assert metrics.macro_auroc(y, probs) == pytest.approx(
        reference.roc_auc_score(y, probs, multi_class="ovr", average="macro")
    )
    pred = probs.argmax(axis=1)
    found = describe(y, probs, class_names="abcd", positive=None, threshold=None, n_resamples=50)
    _, _, f1, _ = reference.precision_recall_fscore_support(y, pred)
    assert found["f1"]["value"] == pytest.approx(f1.mean())
    assert found["sensitivity"]["value"] == pytest.approx(
        reference.recall_score(y, pred, average="macro")
    )
    assert found["balanced_accuracy"]["value"] == found["sensitivity"]["value"]
    assert found["confusion_matrix"] == reference.confusion_matrix(y, pred).tolist()


class TestUndefined:
    @pytest.mark.parametrize(
        ("figure", "y", "text"),
        [
            (metrics.auroc, [1, 1], "The AUROC is undefined: no negative among the 2 samples."),
            (metrics.auroc, [0, 0], "The AUROC is undefined: no positive among the 2 samples."),
            (
                metrics.average_precision,
                [0, 0],
                "The average precision is undefined: no positive among the 2 samples.",
            ),
            (metrics.sensitivity, [0, 0], "The sensitivity is undefined: no positive sample."),
            (metrics.specificity, [1, 1], "The specificity is undefined: no negative sample."),
        ],
    )
    def test_is_nan_with_a_warning(self, figure: Any, y: list[int], text: str) -> None:
        with pytest.warns(UndefinedFigureWarning) as caught:
            assert math.isnan(figure(y, [0, 1]))
        assert [str(warning.message) for warning in caught] == [text]

    def test_precision_without_a_call(self) -> None:
        with pytest.warns(UndefinedFigureWarning, match="no sample is called positive"):
            assert math.isnan(metrics.precision([0, 1], [0, 0]))

    def test_no_samples(self) -> None:
        for figure in (metrics.auroc, metrics.brier, metrics.ece, metrics.accuracy):
            with pytest.warns(UndefinedFigureWarning):
                assert math.isnan(figure([], []))

    def test_constant_scores_are_a_coin(self) -> None:
        assert metrics.auroc(Y, [0.5] * 4) == 0.5
        assert metrics.average_precision(Y, [0.5] * 4) == 0.5


class TestRefused:
    @pytest.mark.parametrize(
        ("y", "score", "text"),
        [
            (
                [0, 1, 1],
                [0.1, 0.2],
                "y_true has 3 samples and y_score has 2: give one score for each label.",
            ),
            (
                [0, 1, 1],
                [0.1, math.nan, math.nan],
                "y_score is NaN at position 1 (2 of 3 samples): leave out what was not predicted, "
                "or predict it again.",
            ),
            (
                [0, 2, 1],
                [0.1, 0.2, 0.3],
                "y_true holds 2 at position 1: labels are whole numbers from 0 to 1.",
            ),
            (
                [0.0, 0.5, 1.0],
                [0.1, 0.2, 0.3],
                "y_true holds 0.5 at position 1: labels are whole numbers from 0 to 1.",
            ),
            ([[0], [1]], [0.1, 0.2], "y_true has shape (2, 1): give one label for each sample."),
        ],
    )
    def test_samples(self, y: Any, score: Any, text: str) -> None:
        with pytest.raises(DataError) as caught:
            metrics.auroc(y, score)
        assert str(caught.value) == text

    def test_weights(self) -> None:
        with pytest.raises(DataError) as caught:
            metrics.auroc(Y, SCORE, weights=[1, 1])
        assert str(caught.value) == (
            "weights has shape (2,) and there are 4 samples: give one weight for each sample."
        )
        with pytest.raises(DataError, match="negative number or NaN"):
            metrics.auroc(Y, SCORE, weights=[1, 1, -1, 1])

    def test_logits(self) -> None:
        with pytest.raises(DataError) as caught:
            describe([0, 1], [[-3, 3], [1, 2]], class_names="ab", positive=1, threshold=0.5)
        assert str(caught.value) == (
            "probs reaches from -3 to 3: give probabilities in [0, 1], not logits."
        )

    def test_rounding_of_float32_is_no_logit(self) -> None:
        found = describe(
            [0, 1], [[1 + 1e-7, 0.0], [0.0, 1.0]], class_names="ab", positive=1, threshold=0.5
        )
        assert found["accuracy"]["value"] == 1

    def test_columns(self) -> None:
        with pytest.raises(DataError) as caught:
            describe([0, 1], [[0.5, 0.5]] * 2, class_names="abc", positive=None, threshold=None)
        assert str(caught.value) == (
            "probs has shape (2, 2) and there are 3 classes: give one column for each class."
        )

    @pytest.mark.parametrize(
        ("n_classes", "positive", "threshold"), [(2, None, None), (2, 1, None), (3, 1, 0.5)]
    )
    def test_positive_class(self, n_classes: int, positive: Any, threshold: Any) -> None:
        with pytest.raises(SettingError, match="classes"):
            describe(
                [0],
                np.full((1, n_classes), 0.3),
                class_names="abc"[:n_classes],
                positive=positive,
                threshold=threshold,
            )

    @pytest.mark.parametrize("nobody", [None, "", math.nan])
    def test_image_without_a_patient(self, nobody: Any) -> None:
        with pytest.raises(DataError) as caught:
            two(groups=["a", nobody, "b", nobody])
        assert str(caught.value) == (
            "groups names no patient for 2 of 4 samples, the first at position 1: give such a "
            "sample a name of its own, or pass groups=None when no patient is known."
        )

    def test_groups_of_another_length(self) -> None:
        with pytest.raises(DataError, match=r"groups has shape \(2,\) and there are 4 samples"):
            two(groups=["a", "b"])


def two(
    y: Any = Y, score: Any = SCORE, groups: Any = None, threshold: float = 0.5, **options: Any
) -> dict[str, Any]:
    """Describe two classes, 'normal' and 'pneumonia'."""
    p = np.asarray(score, dtype=float).reshape(-1)
    return describe(
        y,
        np.stack([1 - p, p], axis=1),
        class_names=["normal", "pneumonia"],
        positive=1,
        threshold=threshold,
        groups=groups,
        **({"n_resamples": 200} | options),
    )


def study(n_patients: int, seed: int = 0) -> tuple[Ints, Floats, Ints]:
    """Labels, probabilities of pneumonia and patients of a plausible study."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_patients), rng.integers(1, 5, size=n_patients))
    y = rng.integers(0, 2, size=n_patients)[groups]
    x = 1.5 * y + rng.normal(size=n_patients)[groups] + rng.normal(size=len(y))
    return y, 1 / (1 + np.exp(1 - 1.5 * x)), groups


FIGURES = (
    *("accuracy", "balanced_accuracy", "auroc", "average_precision", "sensitivity"),
    *("specificity", "precision", "f1", "brier", "ece"),
)


class TestDescribe:
    def test_has_the_shape_of_metrics_json(self) -> None:
        y, p, groups = study(30)
        found = two(y, p, groups)
        assert list(found) == [
            *("n", "n_patients", "prevalence", "threshold", "ci", *FIGURES),
            *("classes", "confusion_matrix"),
        ]
        assert (found["n"], found["n_patients"]) == (len(y), 30)
        assert found["prevalence"]["pneumonia"] == pytest.approx(y.mean())
        assert found["ci"] == {
            "method": "jackknife and bootstrap over patients; each figure names its own",
            "level": 0.95,
            "n_resamples": 200,
            "seed": 0,
        }
        assert list(found["classes"]) == ["normal", "pneumonia"]
        for figure in (found[name] for name in FIGURES):
            assert set(figure) == {"value", "ci_low", "ci_high", "n", "method"}
            assert 0 <= figure["ci_low"] <= figure["value"] <= figure["ci_high"] <= 1
            assert figure["ci_low"] < figure["ci_high"]
        json.dumps(found, allow_nan=False)

    def test_gives_the_figures_of_the_positive_class(self) -> None:
        y, p, groups = study(30)
        found = two(y, p, groups, threshold=0.4)
        pred = p >= 0.4
        for name, value in {
            "accuracy": metrics.accuracy(y, pred),
            "balanced_accuracy": metrics.balanced_accuracy(y, pred),
            "auroc": metrics.auroc(y, p),
            "average_precision": metrics.average_precision(y, p),
            "sensitivity": metrics.sensitivity(y, pred),
            "specificity": metrics.specificity(y, pred),
            "precision": metrics.precision(y, pred),
            "f1": metrics.f1(y, pred),
            "brier": metrics.brier(y, p),
            "ece": metrics.ece(y, p),
        }.items():
            assert found[name]["value"] == pytest.approx(value), name
        ns = {name: found[name]["n"] for name in ("sensitivity", "specificity", "precision", "f1")}
        assert ns == {
            "sensitivity": y.sum(),
            "specificity": (1 - y).sum(),
            "precision": pred.sum(),
            "f1": (pred | (y == 1)).sum(),
        }
        # What one class finds is what the other clears.
        normal = found["classes"]["normal"]
        assert normal["sensitivity"] == found["specificity"]
        assert normal["auroc"]["value"] == pytest.approx(found["auroc"]["value"])

    def test_a_probability_at_the_threshold_is_positive(self) -> None:
        assert two([0, 1], [0.4, 0.5])["confusion_matrix"] == [[1, 0], [0, 1]]

    def test_the_order_of_samples_does_not_matter(self) -> None:
        y, p, groups = study(25)
        order = np.random.default_rng(1).permutation(len(y))
        straight, shuffled = two(y, p, groups), two(y[order], p[order], groups[order])
        for name in FIGURES:
            for key in ("value", "ci_low", "ci_high"):
                assert shuffled[name][key] == pytest.approx(straight[name][key]), name

    def test_more_images_of_the_same_patients_prove_little(self) -> None:
        y, p, _ = study(40)
        once = two(y, p, np.arange(len(y)))
        thrice = two(np.tile(y, 3), np.tile(p, 3), np.tile(np.arange(len(y)), 3))
        for name in ("auroc", "average_precision", "sensitivity", "accuracy", "brier", "f1"):
            wide, narrow = (part[name]["ci_high"] - part[name]["ci_low"] for part in (once, thrice))
            assert narrow == pytest.approx(wide, rel=0.1), name

    def test_without_patients_every_image_stands_for_itself(self) -> None:
        found = two()
        assert found["n_patients"] is None
        assert found["ci"]["method"] == (
            "jackknife and bootstrap over images (no patient is known); each figure names its own"
        )

    def test_more_classes_are_averaged_over_those_present(self) -> None:
        rng = np.random.default_rng(0)
        y = rng.integers(0, 3, 60)
        probs = rng.dirichlet([1] * 4, 60)
        probs[np.arange(60), y] += 1
        probs[:, 3] *= 0.1  # the fourth class is neither there nor called
        probs /= probs.sum(axis=1, keepdims=True)
        found = describe(
            y, probs, class_names="abcd", positive=None, threshold=None, n_resamples=100
        )
        for name in ("auroc", "average_precision", "sensitivity", "specificity", "precision", "f1"):
            parts = [found["classes"][k][name]["value"] for k in "abc"]
            assert found[name]["value"] == pytest.approx(np.mean(parts)), name
            assert found[name]["ci_low"] < found[name]["value"] < found[name]["ci_high"] or (
                found[name]["value"] == 1
            )
        assert found["classes"]["d"]["auroc"] == {
            "value": None,
            "ci_low": None,
            "ci_high": None,
            "n": 60,
            "reason": "no d among the 60 images",
        }
        assert found["classes"]["d"]["precision"]["reason"] == ("none of the 60 images is called d")
        assert found["brier"]["value"] == pytest.approx(metrics.brier(y, probs))
        assert found["ece"]["value"] == pytest.approx(metrics.ece(y, probs))

    def test_one_class_only(self) -> None:
        found = two([0] * 12, np.linspace(0, 0.9, 12))
        assert found["sensitivity"] == {
            "value": None,
            "ci_low": None,
            "ci_high": None,
            "n": 0,
            "reason": "no pneumonia among the 12 images",
        }
        assert found["auroc"]["reason"] == "no pneumonia among the 12 images"
        assert found["balanced_accuracy"]["value"] is None
        assert found["classes"]["normal"]["auroc"]["reason"] == "all 12 images are normal"
        assert found["specificity"]["value"] == pytest.approx(7 / 12)
        assert found["precision"]["value"] == 0  # five are called so, wrongly: that is defined

    def test_no_images(self) -> None:
        found = two([], [])
        assert found["n"] == 0
        assert found["prevalence"] == {"normal": None, "pneumonia": None}
        assert all(found[name]["value"] is None and found[name]["reason"] for name in FIGURES)

    def test_too_few_patients_have_a_value_but_no_interval(self) -> None:
        found = two([0, 0, 0, 0, 1, 1], [0.1, 0.2, 0.3, 0.6, 0.5, 0.9])
        assert found["auroc"] == {
            "value": 0.875,
            "ci_low": None,
            "ci_high": None,
            "n": 6,
            "reason": "there are fewer than 3 patients with the class, or without it",
        }

    def test_constant_probabilities_have_no_interval(self) -> None:
        found = two([0, 1] * 6, [0.5] * 12)
        assert found["auroc"]["value"] == 0.5
        assert found["auroc"]["reason"] == (
            "no patient changes the figure: the probabilities are alike"
        )

    def test_2000_resamples_of_624_images_and_10_classes_take_seconds(self) -> None:
        rng = np.random.default_rng(0)
        probs = rng.dirichlet([1] * 10, 624)
        found = describe(
            rng.integers(0, 10, 624),
            probs,
            class_names="abcdefghij",
            positive=None,
            threshold=None,
            groups=rng.integers(0, 400, 624),
        )
        assert found["auroc"]["ci_low"] < 0.5 < found["auroc"]["ci_high"]


def test_any_small_study_gives_a_value_in_its_interval_or_a_reason() -> None:
    rng = np.random.default_rng(0)
    for seed in range(150):
        n_classes, n = int(rng.choice([2, 3, 5])), int(rng.integers(0, 30))
        y = rng.integers(0, n_classes, n) if seed % 5 else np.full(n, n_classes - 1)
        probs = rng.dirichlet(np.full(n_classes, rng.choice([0.05, 0.3, 2])), n)
        probs = probs if seed % 3 else np.eye(n_classes)[y]
        found = describe(
            y,
            probs.reshape(n, n_classes),
            class_names="abcde"[:n_classes],
            positive=1 if n_classes == 2 else None,
            threshold=float(rng.choice([0, 0.5, 1])) if n_classes == 2 else None,
            groups=rng.integers(0, 1 + seed % 20, n) if seed % 4 else None,
            n_resamples=40,
        )
        json.dumps(found, allow_nan=False)
        for part in (found, *found["classes"].values()):
            for name in set(FIGURES) & set(part):
                figure = part[name]
                if figure["value"] is None or figure["ci_low"] is None:
                    assert figure["reason"], (seed, name)
                    assert figure["ci_low"] is figure["ci_high"] is None
                else:
                    # The mean of float figures may miss their common bound by rounding.
                    assert -1e-9 < figure["ci_low"] <= figure["value"] + 1e-9, (seed, name)
                    assert figure["value"] - 1e-9 <= figure["ci_high"], (seed, name)
                    assert figure["ci_high"] > figure["ci_low"], (seed, name)


class TestPerfect:
    """Twenty of twenty is not certainty."""

    Y = np.repeat([0, 1], 20)

    def test_intervals_do_not_collapse(self) -> None:
        found = two(self.Y, self.Y * 0.8 + 0.1)
        share = 20 / (20 + 1.959964**2)  # Wilson's lower bound of 20 in 20
        assert found["sensitivity"]["ci_low"] == pytest.approx(share)
        # 20 disjoint pairs of patients, all in the right order.
        assert found["auroc"]["ci_low"] == pytest.approx(0.025 ** (1 / 20))
        q = 1 - 0.0125 ** (1 / 20)
        precision = 0.5 / (0.5 + q / 2)
        assert found["average_precision"]["ci_low"] == pytest.approx((1 - q) * precision + q * 0.5)
        for name in (*FIGURES[:8],):
            assert found[name]["value"] == 1 == found[name]["ci_high"]
            assert found[name]["ci_low"] < 0.95

    def test_images_of_one_patient_count_once(self) -> None:
        one_each = two(self.Y, self.Y * 0.8 + 0.1)
        four_each = two(
            np.repeat(self.Y, 4), np.repeat(self.Y, 4) * 0.8 + 0.1, np.repeat(np.arange(40), 4)
        )
        for name in ("sensitivity", "auroc", "average_precision", "accuracy", "f1"):
            assert four_each[name]["ci_low"] == pytest.approx(one_each[name]["ci_low"])

    def test_certain_and_right(self) -> None:
        found = two(self.Y, self.Y)
        unseen = 1 - 0.025 ** (1 / 40)
        assert found["brier"]["value"] == found["ece"]["value"] == 0
        assert found["brier"]["ci_high"] == pytest.approx(unseen)
        assert found["ece"]["ci_high"] == pytest.approx(unseen)

    def test_perfectly_wrong_mirrors_perfectly_right(self) -> None:
        wrong = two(self.Y, 1 - self.Y)
        assert wrong["auroc"]["value"] == wrong["auroc"]["ci_low"] == 0
        assert wrong["auroc"]["ci_high"] == pytest.approx(1 - 0.025 ** (1 / 20))
        assert wrong["sensitivity"]["ci_high"] == pytest.approx(1 - 20 / (20 + 1.959964**2))
        assert wrong["brier"]["ci_low"] == pytest.approx(0.025 ** (1 / 40))


class TestIntervals:
    def test_resampled_ranking_equals_a_slow_loop_with_the_same_draws(self) -> None:
        y, p, groups = study(15)
        p = np.round(p, 1)
        clusters = intervals.Clusters.of(groups, len(y))
        counts = intervals.draw_patients(15, 20, seed=4)
        assert counts.sum(axis=1).tolist() == [15.0] * 20
        ranking = metrics._Ranking.of(y, p)
        fast = np.concatenate(
            [ranking.both(w) for _, w in intervals.sample_weights(counts, clusters)], axis=1
        )
        for row, (auroc, average_precision) in zip(counts, fast.T, strict=True):
            drawn = np.concatenate(
                [np.flatnonzero(groups == k) for k in range(15) for _ in range(int(row[k]))]
            )
            assert auroc == pytest.approx(slow_auroc(y[drawn], p[drawn]))
            assert average_precision == pytest.approx(slow_average_precision(y[drawn], p[drawn]))

    def test_draws_repeat_with_the_seed(self) -> None:
        first, again, other = (intervals.draw_patients(9, 5, seed=seed) for seed in (1, 1, 2))
        assert (first == again).all()
        assert not (first == other).all()

    def test_chunks_do_not_change_the_weights(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clusters = intervals.Clusters.of([0, 0, 1, 2], 4)
        counts = intervals.draw_patients(3, 7, seed=0)
        monkeypatch.setattr(intervals, "_CHUNK_ELEMENTS", 8)
        parts = list(intervals.sample_weights(counts, clusters))
        assert [rows.start for rows, _ in parts] == [0, 2, 4, 6]
        assert (np.concatenate([w for _, w in parts]) == counts[:, [0, 0, 1, 2]]).all()

    def test_auroc_by_a_slow_jackknife(self) -> None:
        y, p, groups = study(20)
        without = np.array([slow_auroc(y[groups != k], p[groups != k]) for k in range(20)])
        error = math.sqrt(19 / 20 * ((without - without.mean()) ** 2).sum())
        value = slow_auroc(y, p)
        from scipy.stats import t

        fewer = min(len(set(groups[y == k])) for k in (0, 1))
        half = t.ppf(0.975, fewer - 1) * error / (value * (1 - value))
        centre = math.log(value / (1 - value))
        found = two(y, p, groups)["auroc"]
        assert found["ci_low"] == pytest.approx(1 / (1 + math.exp(half - centre)))
        assert found["ci_high"] == pytest.approx(1 / (1 + math.exp(-half - centre)))

    def test_many_patients_are_left_out_in_blocks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(intervals, "MAX_BLOCKS", 10)
        kept = intervals.leave_out(25, seed=0)
        assert kept.shape == (10, 25)
        assert sorted((kept == 0).sum(axis=1).tolist()) == [2] * 5 + [3] * 5
        assert ((kept == 0).sum(axis=0) == 1).all()

    def test_independent_share_is_plain_wilson(self) -> None:
        from scipy.stats import binomtest

        hits = np.arange(30) < 24
        clusters = intervals.Clusters.of(None, 30)
        found = intervals.share(hits, clusters, np.ones(30, dtype=bool))
        reference = binomtest(24, 30).proportion_ci(method="wilson")
        assert found[:2] == pytest.approx((reference.low, reference.high))
        assert found.method == "Wilson"

    def test_clustered_share_by_hand(self) -> None:
        # Four patients of 4 images with 4, 4, 2, 2 hits: share 3/4, residuals 1, 1, -1, -1.
        groups = np.repeat(np.arange(4), 4)
        hits = np.array([1, 1, 1, 1] * 2 + [1, 1, 0, 0] * 2, dtype=bool)
        found = intervals.share(hits, intervals.Clusters.of(groups, 16), np.ones(16, dtype=bool))
        variance = 4 / 3 * 4 / 16**2
        effective = 0.75 * 0.25 / variance * (1.959964 / 3.182446) ** 2
        # No fewer than the four patients.
        assert effective == pytest.approx(3.4136, abs=1e-3)
        assert found[:2] == pytest.approx(intervals.wilson(0.75, 4.0, 1.959964), abs=1e-6)

    def test_mean_loss_by_a_slow_bootstrap_t(self) -> None:
        y, p, groups = study(12)
        losses = (p - y) ** 2
        clusters = intervals.Clusters.of(groups, len(y))
        counts = intervals.draw_patients(12, 300, seed=1)

        def root_and_error(patients: list[int]) -> tuple[float, float]:
            sums = np.array([losses[groups == k].sum() for k in patients])
            sizes = np.array([(groups == k).sum() for k in patients])
            mean = sums.sum() / sizes.sum()
            error = math.sqrt(12 / 11 * ((sums - mean * sizes) ** 2).sum()) / sizes.sum()
            return math.sqrt(mean), error / (2 * math.sqrt(mean))

        root, error = root_and_error(list(range(12)))
        drawn = [
            root_and_error([k for k in range(12) for _ in range(int(row[k]))]) for row in counts
        ]
        low, high = np.quantile([(r - root) / e for r, e in drawn], [0.025, 0.975])
        found = intervals.mean_loss(losses, clusters, counts, most=1.0)
        assert found.ci_low == pytest.approx((root - high * error) ** 2)
        assert found.ci_high == pytest.approx((root - low * error) ** 2)

    def test_mean_loss_with_hardly_any_mistake_stays_bounded(self) -> None:
        losses = np.r_[np.full(29, 1e-4), 0.9]
        clusters = intervals.Clusters.of(None, 30)
        counts = intervals.draw_patients(30, 500, seed=0)
        found = intervals.mean_loss(losses, clusters, counts, most=1.0)
        # A resample without the mistake has an error of 0, or a ratio without bound.
        widest = intervals.wilson(float(losses.mean()), 30, intervals.quantile_t(30))
        assert found.ci_high == pytest.approx(widest[1])
        assert 0 <= found.ci_low < losses.mean()

    def test_calibration_gap_of_noise_reaches_0(self) -> None:
        rng = np.random.default_rng(0)
        gaps = rng.normal(size=10) * 0.01
        drawn = gaps + rng.normal(size=(2000, 10)) * 0.01
        found = intervals.calibration_gap(gaps, drawn, n_patients=500)
        assert found.ci_low == 0
        # Gaps far greater than chance: the lower bound nears the plain estimate from below.
        clear = intervals.calibration_gap(gaps * 10, drawn + 9 * gaps, n_patients=500)
        total = float(np.abs(gaps * 10).sum())
        assert 0.85 * total < clear.ci_low < total < clear.ci_high < 1.15 * total

    def test_mean_of_independent_figures(self) -> None:
        parts = [intervals.Interval(0.7, 0.9), intervals.Interval(0.5, 0.8)]
        left_out = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=float)
        found = intervals.mean_of(np.array([0.8, 0.7]), parts, left_out)
        assert found.ci_low == pytest.approx(0.75 - math.hypot(0.1, 0.2) / 2)
        assert found.ci_high == pytest.approx(0.75 + math.hypot(0.1, 0.1) / 2)
        # Nothing known of how they go together: as if they were one.
        unknown = intervals.mean_of(np.array([0.8, 0.7]), parts, np.zeros((4, 2)))
        assert unknown.ci_low == pytest.approx(0.75 - 0.15)

    def test_a_mean_has_no_interval_when_a_part_has_none(self) -> None:
        parts = [intervals.Interval(0.7, 0.9), intervals.Interval.missing("too few")]
        found = intervals.mean_of(np.array([0.8, 0.7]), parts, np.zeros((4, 2)))
        assert math.isnan(found.ci_low)
        assert found.reason == "too few"


class TestCurves:
    def test_roc_band_by_a_slow_loop(self) -> None:
        y, p, groups = study(25)
        band = metrics.roc_band(y, p, groups=groups, n_grid=11, n_resamples=40, seed=3)
        drawn = []
        for row in intervals.draw_patients(25, 40, seed=3):
            curve = metrics.roc_curve(y, p, weights=row[groups])
            drawn.append(np.interp(band.x, curve.x, curve.y))
        curve = metrics.roc_curve(y, p)
        np.testing.assert_allclose(band.y, np.interp(band.x, curve.x, curve.y))
        inner = (band.y > 0) & (band.y < 1)
        low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
        np.testing.assert_allclose(band.ci_low[inner], np.minimum(low, band.y)[inner])
        np.testing.assert_allclose(band.ci_high[inner], np.maximum(high, band.y)[inner])

    def test_pr_band_gives_the_precision_that_reaches_a_sensitivity(self) -> None:
        band = metrics.pr_band([0, 0, 1, 1] * 3, SCORE * 3, n_grid=3, n_resamples=50)
        # Half of the positives are found above every negative, all of them with one negative in 2.
        np.testing.assert_allclose(band.y, [1, 1, 2 / 3])
        assert (band.ci_low <= band.y).all()
        assert (band.ci_low < 1).all()

    def test_a_perfect_curve_keeps_a_band(self) -> None:
        y = np.repeat([0, 1], 20)
        for band in (metrics.roc_band(y, y, n_resamples=50), metrics.pr_band(y, y, n_resamples=50)):
            assert band.y.min() == 1
            assert band.ci_low.max() == pytest.approx(20 / (20 + 1.959964**2))

    def test_too_few_patients_have_no_band(self) -> None:
        band = metrics.roc_band([0, 0, 0, 1, 1], [0.1, 0.2, 0.6, 0.5, 0.9], n_resamples=50)
        assert np.isnan(band.ci_low).all()

    def test_one_class_has_no_curve(self) -> None:
        with pytest.raises(DataError) as caught:
            metrics.roc_band([1, 1], [0.1, 0.2])
        assert str(caught.value) == (
            "A curve needs positives and negatives: no negative among the 2 samples."
        )

    def test_reliability(self) -> None:
        y, p, groups = study(60)
        curve = metrics.reliability_curve(y, p, groups=groups)
        assert curve.n.sum() == len(y)
        assert (np.diff(curve.stated) > 0).all()
        gap = float((np.abs(curve.stated - curve.observed) * curve.n).sum() / len(y))
        assert gap == pytest.approx(metrics.ece(y, p))
        assert ((curve.ci_low <= curve.observed) & (curve.observed <= curve.ci_high)).all()

    def test_equal_probabilities_share_a_bin(self) -> None:
        curve = metrics.reliability_curve([0, 1, 1, 0, 1], [0.2, 0.2, 0.2, 0.2, 0.9], n_bins=5)
        assert curve.n.tolist() == [4, 1]
        assert curve.observed.tolist() == [0.5, 1.0]


@pytest.fixture(scope="module")
def coverage() -> Any:
    """benchmarks/coverage.py as a module."""
    path = Path(__file__).parents[1] / "benchmarks" / "coverage.py"
    spec = importlib.util.spec_from_file_location("coverage_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


class TestCoverage:
    """A small version of benchmarks/coverage.py; the same studies every time.

    Of 150 intervals that hold the truth with 95 %, fewer than 133 (0.887) do so in 1 of 1,000 runs.
    """

    @pytest.mark.parametrize("name", ["usual", "strong classifier, rare class"])
    def test_intervals_hold_the_truth(self, coverage: Any, name: str) -> None:
        rows = coverage.simulate(
            coverage.SCENARIOS[name],
            n_patients=60,
            n_studies=150,
            n_resamples=200,
            n_population=20_000,
        )
        assert list(rows) == list(coverage.FIGURES)
        for figure, (_, tally) in rows.items():
            assert tally.missing == 0, figure
            assert tally.coverage >= 0.887, figure

    def test_many_classes(self, coverage: Any) -> None:
        rows = coverage.simulate(
            coverage.SCENARIOS["four classes"],
            n_patients=80,
            n_studies=80,
            n_resamples=150,
            n_population=20_000,
        )
        for figure, (_, tally) in rows.items():
            assert tally.coverage >= 0.86, figure

    def test_patients_matter(self, coverage: Any) -> None:
        """Images taken for independent give intervals that are too narrow, and would be caught."""
        alike = replace(coverage.SCENARIOS["usual"], alike=0.9)
        held = []
        true = coverage.truth(alike, coverage.draw(alike, 20_000, np.random.default_rng(1)))
        for seed in range(150):
            sample = coverage.draw(alike, 60, np.random.default_rng([5, seed]))
            called = sample.probs[:, 1] >= 0.5
            right = called == (sample.y_true == 1)
            row = []
            for groups in (sample.groups, None):
                clusters = intervals.Clusters.of(groups, len(right))
                found = intervals.share(right, clusters, np.ones(len(right), dtype=bool))
                row.append(found.ci_low <= true["accuracy"] <= found.ci_high)
            held.append(row)
        with_patients, without = np.mean(held, axis=0)
        assert with_patients >= 0.887
        assert without < 0.87


def test_importing_does_not_load_slow_packages() -> None:
    code = (
        "import sys, hilum.metrics, hilum.calibration; "
        "sys.exit(any(name in sys.modules for name in ('scipy', 'sklearn', 'torch', 'pandas')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
