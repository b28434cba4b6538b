"""Curves with bounds against slow loops, and where there are no bounds."""

from __future__ import annotations

import numpy as np
import pytest

from hilum import bands, intervals, metrics
from hilum.errors import DataError
from studies import study


def test_roc_band_by_a_slow_loop() -> None:
    y, p, groups = study(25)
    band = bands.roc_band(y, p, groups=groups, n_grid=11, n_resamples=40, seed=3)
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


def test_pr_band_gives_the_precision_that_reaches_a_sensitivity() -> None:
    band = bands.pr_band([0, 0, 1, 1] * 3, [0.1, 0.4, 0.35, 0.8] * 3, n_grid=3, n_resamples=50)
    # Half of the positives are found above every negative, all of them with one negative in 2.
    np.testing.assert_allclose(band.y, [1, 1, 2 / 3])
    assert (band.ci_low <= band.y).all()
    assert (band.ci_low < 1).all()


def test_a_perfect_curve_keeps_a_band() -> None:
    y = np.repeat([0, 1], 20)
    for band in (bands.roc_band(y, y, n_resamples=50), bands.pr_band(y, y, n_resamples=50)):
        assert band.y.min() == 1
        assert band.ci_low.max() == pytest.approx(20 / (20 + 1.959964**2))


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
