"""Curves with bounds against slow loops, and where there are no bounds."""

from __future__ import annotations

import numpy as np
import pytest

from hilum import bands, intervals, metrics, resampling
from hilum.errors import DataError
from studies import study


def test_roc_band_by_a_slow_loop() -> None:
    y, p, groups = study(25)
    band = bands.roc_band(y, p, groups=groups, n_grid=11, n_resamples=40, seed=3)
    drawn = []
    for row in resampling.draw_patients(25, 40, seed=3):
        curve = metrics.roc_curve(y, p, weights=row[groups])
        drawn.append(np.interp(band.x, curve.x, curve.y))
    curve = metrics.roc_curve(y, p)
    np.testing.assert_allclose(band.y, np.interp(band.x, curve.x, curve.y))
    inner = (band.y > 0) & (band.y < 1)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    np.testing.assert_allclose(band.ci_low[inner], np.minimum(low, band.y)[inner])
    np.testing.assert_allclose(band.ci_high[inner], np.maximum(high, band.y)[inner])


def test_pr_band_gives_the_precision_that_reaches_a_sensitivity() -> None:
    band = bands.pr_band([0, 0, 1, 1] * 3, [0.1, 0.4, 0.35, 0.8] * 3, n_grid=3, n_resamples=50)
    # Half of the positives are found above every negative, all of them with one negative in 2.
    np.testing.assert_allclose(band.y, [1, 1, 2 / 3])
    assert (band.ci_low <= band.y).all()
    assert (band.ci_low < 1).all()


def test_pr_band_is_no_nearer_than_a_share_of_the_images_called() -> None:
    y, p, groups = study(40)
    band = bands.pr_band(y, p, groups=groups, n_grid=21, n_resamples=200)
    for k, wanted in enumerate(band.x):
        reach = [t for t in sorted(set(p.tolist())) if (p[y == 1] >= t).mean() >= wanted - 1e-12]
        called = p >= reach[-1]
        alone = intervals.share(y == 1, resampling.Clusters.of(groups, len(y)), called)
        assert band.y[k] == pytest.approx(y[called].mean())
        assert band.ci_low[k] <= alone.ci_low
        assert band.ci_high[k] >= alone.ci_high


def test_pr_band_holds_the_truth_where_few_are_called() -> None:
    """200 images: at a sensitivity of 0.05 four positives are called."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(60):
        y = (rng.random(200) < 0.4).astype(int)
        band = bands.pr_band(y, rng.normal(size=200) + y, n_resamples=100, n_grid=21)
        # The threshold that 0.05 of the positives exceed is 1 + 1.645; of the negatives 0.0041.
        held += bool(band.ci_low[1] <= 0.4 * 0.05 / (0.4 * 0.05 + 0.6 * 0.00409) <= band.ci_high[1])
    assert held >= 54


def test_a_perfect_curve_keeps_a_band() -> None:
    y = np.repeat([0, 1], 20)
    for band in (bands.roc_band(y, y, n_resamples=50), bands.pr_band(y, y, n_resamples=50)):
        assert band.y.min() == 1
        assert 0.5 < band.ci_low.max() <= 20 / (20 + 1.959964**2) + 1e-6


def test_too_few_patients_have_no_band() -> None:
    band = bands.roc_band([0, 0, 0, 1, 1], [0.1, 0.2, 0.6, 0.5, 0.9], n_resamples=50)
    assert np.isnan(band.ci_low).all()


def test_one_class_has_no_curve() -> None:
    with pytest.raises(DataError) as caught:
        bands.roc_band([1, 1], [0.1, 0.2])
    assert str(caught.value) == (
        "A curve needs positives and negatives: no negative among the 2 samples."
    )


def test_reliability() -> None:
    y, p, groups = study(60)
    curve = bands.reliability_curve(y, p, groups=groups)
    assert curve.n.sum() == len(y)
    assert (np.diff(curve.stated) > 0).all()
    gap = float((np.abs(curve.stated - curve.observed) * curve.n).sum() / len(y))
    assert gap == pytest.approx(metrics.ece(y, p))
    assert ((curve.ci_low <= curve.observed) & (curve.observed <= curve.ci_high)).all()


def test_equal_probabilities_share_a_bin() -> None:
    curve = bands.reliability_curve([0, 1, 1, 0, 1], [0.2, 0.2, 0.2, 0.2, 0.9], n_bins=5)
    assert curve.n.tolist() == [4, 1]
    assert curve.observed.tolist() == [0.5, 1.0]
