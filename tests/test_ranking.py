"""Areas under many weightings against loops over the same samples."""

from __future__ import annotations

import numpy as np
import pytest

from hilum import intervals
from hilum.ranking import Ranking
from studies import slow_auroc, slow_average_precision, study


def test_resampled_ranking_equals_a_slow_loop_with_the_same_draws() -> None:
    y, p, groups = study(15)
    p = np.round(p, 1)
    clusters = intervals.Clusters.of(groups, len(y))
    counts = intervals.draw_patients(15, 20, seed=4)
    assert counts.sum(axis=1).tolist() == [15.0] * 20
    ranking = Ranking.of(y, p)
    fast = np.concatenate(
        [ranking.areas(w) for _, w in intervals.sample_weights(counts, clusters)], axis=1
    )
    for row, (auroc, average_precision) in zip(counts, fast.T, strict=True):
        drawn = np.concatenate(
            [np.flatnonzero(groups == k) for k in range(15) for _ in range(int(row[k]))]
        )
        assert auroc == pytest.approx(slow_auroc(y[drawn], p[drawn]))
        assert average_precision == pytest.approx(slow_average_precision(y[drawn], p[drawn]))
