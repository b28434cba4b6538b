"""Small studies, and slow loops that figures are compared with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


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


def study(n_patients: int, seed: int = 0) -> tuple[Ints, Floats, Ints]:
    """Labels, probabilities of pneumonia and patients of a plausible study."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_patients), rng.integers(1, 5, size=n_patients))
    y = rng.integers(0, 2, size=n_patients)[groups]
    x = 1.5 * y + rng.normal(size=n_patients)[groups] + rng.normal(size=len(y))
    return y, 1 / (1 + np.exp(1 - 1.5 * x)), groups


def bells(n: int, *, separation: float, ratio: float, seed: int) -> tuple[Floats, Ints]:
    """Log-odds of n negatives, standard normal, and n positives, apart and `ratio` as wide."""
    rng = np.random.default_rng(seed)
    z = np.r_[rng.normal(0, 1, n), rng.normal(separation, ratio, n)]
    return z, np.repeat([0, 1], n)
