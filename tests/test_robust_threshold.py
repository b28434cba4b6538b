"""The rule 'robust' against trying every threshold."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import expit as sigmoid
from scipy.special import ndtr

from hilum.errors import DataError
from hilum.operating_points import OperatingPoint, choose_operating_point
from hilum.robust_threshold import CorruptedScores
from hilum.youden import Sides
from studies import bells

Floats = NDArray[np.float64]


def robust(y: Any, p: Any, y_corrupted: Any, rows: Any) -> OperatingPoint:
    return choose_operating_point(y, p, "robust", corrupted=CorruptedScores(y_corrupted, rows))


def test_lies_where_the_corrupted_samples_are_parted_too() -> None:
    """Three corruptions of four move every score up; in a wide gap this costs nothing as it is."""
    z, y = bells(200, separation=8.0, ratio=1.0, seed=0)
    moved = np.stack([z, z + 2, z + 2, z + 2])
    own = choose_operating_point(y, sigmoid(z))
    found = robust(y, sigmoid(z), y, sigmoid(moved))
    assert own.threshold < found.threshold
    log_odds = math.log(found.threshold / (1 - found.threshold))
    means = [(row[y == 0].mean() + row[y == 1].mean()) / 2 for row in (z, *moved)]
    assert min(means) < log_odds < max(means)
    called = sigmoid(moved) >= found.threshold
    assert (called == y).mean() > ((sigmoid(moved) >= own.threshold) == y).mean()
    assert found.reason == (
        "It gives the greatest sum of sensitivity and specificity on 400 validation images as "
        "they are and the same under 4 changes of exposure, sharpness and place, as the mean "
        "of all these; no less on those as they are than the standard error allows."
    )


def standard_error(sens: float, n_positive: int, spec: float, n_negative: int) -> float:
    """Of sensitivity + specificity, with a sample more on either side in each class."""
    pairs = ((sens, n_positive), (spec, n_negative))
    shares = [((share * n + 1) / (n + 2), n + 2) for share, n in pairs]
    return math.sqrt(sum(p * (1 - p) / n for p, n in shares))


def test_pays_no_more_than_a_standard_error() -> None:
    z, y = bells(100, separation=2.0, ratio=1.0, seed=1)
    moved = np.stack([z + 3] * 9)
    found = robust(y, sigmoid(z), y, sigmoid(moved))
    cuts = np.sort(sigmoid(z))
    best = max((sigmoid(z) >= c)[y == 1].mean() - (sigmoid(z) >= c)[y == 0].mean() for c in cuts)
    sens, spec = found.sensitivity, found.specificity
    error = standard_error(sens, 100, spec, 100)
    lost = best - (sens + spec - 1)
    assert 0.5 * error < lost <= error + 1e-6


def test_a_few_perfectly_parted_samples_leave_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is lost of the true sum, against a bound that is 0 where 13 of each class are parted."""

    def mean_loss() -> float:
        lost = []
        for seed in range(30):
            z, y = bells(13, separation=5.0, ratio=1.0, seed=seed)
            noise = np.random.default_rng(1000 + seed).normal(0, 1, (4, 26))
            moved = z + noise + np.array([[-1], [0], [0], [1]])
            found = robust(y, sigmoid(z), y, sigmoid(moved)).threshold
            cut = math.log(found / (1 - found))
            lost.append(2 * ndtr(2.5) - ndtr(5 - cut) - ndtr(cut))
        return float(np.mean(lost))

    adjusted = mean_loss()
    monkeypatch.setattr(Sides, "adjusted_error", Sides.error)
    assert adjusted < 0.5 * mean_loss()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(1, 9)), min_size=2, max_size=16),
    st.lists(st.integers(-3, 3), min_size=1, max_size=3),
)
def test_no_other_threshold_is_more_robust(
    samples: list[tuple[int, int]], moves: list[int]
) -> None:
    """But for a standard error that smoothing may cost: every threshold is tried by hand."""
    y = np.repeat([label for label, _ in samples], 10)
    p = np.repeat([score / 10 for _, score in samples], 10)
    # Rounded, so that scores that are meant to be equal are.
    rows = np.clip(np.array([p + move / 10 for move in moves]), 0, 1).round(9)
    if len(set(y.tolist())) < 2 or len(set(p.tolist())) < 2:
        return

    def index(scores: Floats, threshold: float) -> tuple[float, float]:
        sens = float((scores[y == 1] >= threshold).mean())
        spec = float((scores[y == 0] < threshold).mean())
        return sens + spec - 1, standard_error(sens, y.sum(), spec, (1 - y).sum())

    scores = sorted({*p.tolist(), *rows.ravel().round(9).tolist()})
    tried = [(a + b) / 2 for a, b in itertools.pairwise(scores)]
    tried = [t for t in tried if p.min() < t < p.max()]
    greatest = max(index(p, t)[0] for t in tried)
    means = [
        float(np.mean([index(row, t)[0] for row in (p, *rows)]))
        for t in tried
        if index(p, t)[0] >= greatest - index(p, t)[1] - 1e-9
    ]
    found = robust(y, p, y, rows).threshold
    reached = float(np.mean([index(row, found)[0] for row in (p, *rows)]))
    own, error = index(p, found)
    assert max(means) - error - 1e-9 <= reached <= max(means) + 1e-9
    assert own >= greatest - error - 1e-6


@pytest.mark.parametrize("near", [np.full(25, 0.1), np.linspace(0.1, 0.4, 25)])
def test_counts_where_normal_distributions_do_not_fit(near: Floats) -> None:
    """Most positives far off, the rest just above all negatives, as they are and corrupted."""
    z = np.r_[np.linspace(-1, 0, 50), near, np.linspace(9, 12, 75)]
    y = np.r_[np.zeros(50, int), np.ones(100, int)]
    found = robust(y, sigmoid(z), y, sigmoid(np.stack([z, z])))
    lost = 2 - found.sensitivity - found.specificity
    # To lose one of those that are alike would be to lose all 25.
    allowed = standard_error(found.sensitivity, 100, found.specificity, 50) if np.ptp(near) else 0
    assert lost <= allowed


@pytest.mark.parametrize("n_positive", [0, 1, 9])
def test_a_few_corrupted_samples_do_not_outweigh_all_others(n_positive: int) -> None:
    z, y = bells(100, separation=2.0, ratio=1.0, seed=0)
    some = np.r_[np.arange(50), 100 + np.arange(n_positive)]
    moved = sigmoid(np.stack([z[some] + 5] * 4))
    found = robust(y, sigmoid(z), y[some], moved)
    own = choose_operating_point(y, sigmoid(z))
    assert (found.threshold, found.rule) == (own.threshold, "youden")
    assert found.reason == (
        f"{own.reason} The rule 'robust' needs 10 images of each class that were changed; "
        f"there were {n_positive} positive and 50 negative ones."
    )


@pytest.mark.parametrize(
    ("y_true", "y_scores", "text"),
    [
        ([0, 1], [0.2, 0.4], "y_scores has shape (2,): give (n_corruptions, n_samples)."),
        (
            [0, 1, 1],
            [[0.2, 0.4]],
            "y_true has 3 samples and y_scores has 2: give one of each for every sample.",
        ),
        (
            [0, 1],
            [[0.2, 4.0]],
            "y_scores reaches from 0.2 to 4: give probabilities in [0, 1], not logits.",
        ),
        (
            [0, 3],
            [[0.2, 0.4]],
            "y_true holds 3 at position 1: labels are whole numbers from 0 to 1.",
        ),
        (
            [0, 1],
            [[0.2, math.nan]],
            "y_scores is not finite at position 1 (1 of 2 samples): training went astray, or a "
            "sample was not predicted.",
        ),
    ],
)
def test_corrupted_samples_are_checked(y_true: Any, y_scores: Any, text: str) -> None:
    with pytest.raises(DataError) as caught:
        robust([0, 0, 1, 1], [0.1, 0.3, 0.2, 0.4], y_true, y_scores)
    assert str(caught.value) == text


def test_without_corruptions_it_is_youden() -> None:
    z, y = bells(50, separation=2.0, ratio=1.0, seed=0)
    found = choose_operating_point(y, sigmoid(z), "robust")
    assert found.threshold == choose_operating_point(y, sigmoid(z)).threshold
    assert found.reason.endswith("there were 0 positive and 0 negative ones.")
