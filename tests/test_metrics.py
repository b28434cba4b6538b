"""Each figure against a worked example, a slow loop, and scikit-learn."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hilum import metrics
from hilum.errors import DataError
from hilum.metrics import UndefinedFigureWarning
from studies import slow_auroc, slow_average_precision

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


def test_importing_does_not_load_slow_packages() -> None:
    code = (
        "import sys, hilum.estimates, hilum.calibration; "
        "sys.exit(any(name in sys.modules for name in ('scipy', 'sklearn', 'torch', 'pandas')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestGrades:
    """Figures of ordinal grades against scikit-learn and slow loops."""

    @pytest.fixture
    def graded(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        rng = np.random.default_rng(3)
        true = rng.integers(0, 5, 80)
        probs = rng.dirichlet(np.ones(5), 80) + 0.5 * (true[:, None] == np.arange(5))
        probs /= probs.sum(axis=1, keepdims=True)
        return true, np.clip(true + rng.integers(-2, 3, 80), 0, 4), probs

    def test_scikit_learn_agrees_on_kappa(self, graded: Any) -> None:
        sklearn = pytest.importorskip("sklearn.metrics")
        true, pred, _ = graded
        expected = sklearn.cohen_kappa_score(true, pred, weights="quadratic")
        assert metrics.quadratic_kappa(true, pred) == pytest.approx(expected, abs=1e-12)

    def test_kappa_equals_loops_over_the_table(self, graded: Any) -> None:
        true, pred, _ = graded
        seen = by_chance = 0.0
        for i in range(5):
            for j in range(5):
                seen += (i - j) ** 2 * np.mean((true == i) & (pred == j))
                by_chance += (i - j) ** 2 * np.mean(true == i) * np.mean(pred == j)
        assert metrics.quadratic_kappa(true, pred) == pytest.approx(1 - seen / by_chance, abs=1e-12)

    def test_a_weight_of_two_is_the_sample_twice(self, graded: Any) -> None:
        true, pred, probs = graded
        weights = np.random.default_rng(0).integers(0, 3, len(true))
        rows = np.repeat(np.arange(len(true)), weights)
        for figure, said in (
            (metrics.quadratic_kappa, pred),
            (metrics.mean_absolute_error, pred),
            (metrics.ranked_probability_score, probs),
        ):
            twice = figure(true[rows], said[rows])
            assert figure(true, said, weights=weights) == pytest.approx(twice, abs=1e-12)

    def test_kappa_of_one_grade_alone_is_undefined(self) -> None:
        with pytest.warns(UndefinedFigureWarning, match="all grades are one and the same"):
            assert math.isnan(metrics.quadratic_kappa([2, 2, 2], [2, 2, 2]))

    def test_error_in_grades(self) -> None:
        assert metrics.mean_absolute_error([0, 1, 4], [0, 3, 3]) == 1.0

    def test_ranked_probability_score_equals_loops(self, graded: Any) -> None:
        true, _, probs = graded
        total = 0.0
        for y, row in zip(true, probs, strict=True):
            for cut in range(4):
                total += (row[: cut + 1].sum() - (y <= cut)) ** 2 / 4
        expected = total / len(true)
        assert metrics.ranked_probability_score(true, probs) == pytest.approx(expected, abs=1e-12)

    def test_ranked_probability_score_of_two_grades_is_the_brier_score(self) -> None:
        p = np.array([0.2, 0.7, 0.9])
        found = metrics.ranked_probability_score([0, 1, 1], np.stack([1 - p, p], axis=1))
        assert found == pytest.approx(metrics.brier([0, 1, 1], p))

    def test_auroc_by_cut_is_that_of_the_grades_above(self, graded: Any) -> None:
        sklearn = pytest.importorskip("sklearn.metrics")
        true, _, probs = graded
        expected = [
            sklearn.roc_auc_score(true > cut, probs[:, cut + 1 :].sum(axis=1)) for cut in range(4)
        ]
        assert metrics.auroc_by_cut(true, probs) == pytest.approx(expected, abs=1e-12)
