"""Areas under many weightings against loops over the same samples."""

from __future__ import annotations

import numpy as np
import pytest

from hilum import resampling
from hilum.ranking import Ranking, auroc_without, placements
from studies import slow_auroc, slow_average_precision, study


def test_resampled_ranking_equals_a_slow_loop_with_the_same_draws() -> None:
    y, p, groups = study(15)
    p = np.round(p, 1)
    clusters = resampling.Clusters.of(groups, len(y))
    counts = resampling.draw_patients(15, 20, seed=4)
    assert counts.sum(axis=1).tolist() == [15.0] * 20
    ranking = Ranking.of(y, p)
    fast = np.concatenate(
        [ranking.areas(w) for _, w in resampling.sample_weights(counts, clusters)], axis=1
    )
    for row, (auroc, average_precision) in zip(counts, fast.T, strict=True):
        drawn = np.concatenate(
            [np.flatnonzero(groups == k) for k in range(15) for _ in range(int(row[k]))]
        )
        assert auroc == pytest.approx(slow_auroc(y[drawn], p[drawn]))
        assert average_precision == pytest.approx(slow_average_precision(y[drawn], p[drawn]))


def test_placements_average_to_the_auroc() -> None:
    y, p, _ = study(20)
    p = np.round(p, 1)
    placed = placements(y, p)
    assert placed[y == 1].mean() == pytest.approx(slow_auroc(y, p))
    assert placed[y == 0].mean() == pytest.approx(slow_auroc(y, p))
    first = int(np.flatnonzero(y == 0)[0])
    others = p[y == 1]
    assert placed[first] == pytest.approx(
        np.mean([1.0 if q > p[first] else 0.5 if q == p[first] else 0.0 for q in others])
    )


def test_auroc_without_each_block_equals_a_slow_loop() -> None:
    y, p, groups = study(25)
    p = np.round(p, 1)
    y = np.where(np.arange(len(y)) % 5 == 0, 1 - y, y)  # patients with images of both sides
    block = groups % 9
    found = auroc_without(y, p, block, 9)
    for k in range(9):
        assert found[k] == pytest.approx(slow_auroc(y[block != k], p[block != k]))


def test_auroc_without_a_block_that_holds_a_side_is_unknown() -> None:
    found = auroc_without(np.array([1, 0, 0]), np.array([0.9, 0.2, 0.1]), np.array([0, 1, 2]), 3)
    assert np.isnan(found).tolist() == [True, False, False]
