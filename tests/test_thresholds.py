from __future__ import annotations

import numpy as np

from hilum.operating_points import choose_operating_point
from hilum.robust_threshold import CorruptedScores
from hilum.thresholds import Scored, lock_point

TRUTH = np.array([0, 1, np.nan, 0, 1, 1, 0])
PROBS = np.array([0.1, 0.9, 0.99, 0.3, 0.6, 0.8, 0.4])
KNOWN = [0, 1, 3, 4, 5, 6]


def test_what_is_unknown_chooses_no_threshold() -> None:
    found = lock_point(Scored(TRUTH, PROBS), None, "youden", now="now")
    wanted = choose_operating_point(TRUTH[KNOWN].astype(int), PROBS[KNOWN])
    assert (found.threshold, found.n, found.locked) == (wanted.threshold, 6, "now")
    assert "6 validation images" in found.reason


def test_corrupted_samples_are_chosen_by_what_is_known_of_them_too() -> None:
    rng = np.random.default_rng(0)
    truth = np.tile(TRUTH, 10)
    probs = np.clip(np.tile(PROBS, 10) + rng.normal(0, 0.02, len(truth)), 0.01, 0.99)
    rows = np.array([probs, np.minimum(probs + 0.2, 0.995)])
    found = lock_point(
        Scored(truth, probs), Scored(truth, rows), "robust", now="now", unit="patient"
    )
    known = ~np.isnan(truth)
    y = truth[known].astype(int)
    corrupted = CorruptedScores(y, rows[:, known])
    wanted = choose_operating_point(y, probs[known], "robust", corrupted=corrupted)
    assert found.threshold == wanted.threshold
    assert found.threshold > choose_operating_point(y, probs[known]).threshold
    assert "60 validation patients as they are and the same under 2 changes" in found.reason
