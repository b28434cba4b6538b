"""Each interval against a hand-worked example or a slow loop with the same draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from hilum import intervals, resampling
from hilum.metrics import auroc
from studies import study


def test_independent_share_is_plain_wilson() -> None:
    from scipy.stats import binomtest

    hits = np.arange(30) < 24
    clusters = resampling.Clusters.of(None, 30)
    found = intervals.share(hits, clusters, np.ones(30, dtype=bool))
    reference = binomtest(24, 30).proportion_ci(method="wilson")
    assert found[:2] == pytest.approx((reference.low, reference.high))
    assert found.method == "Wilson"


def test_clustered_share_by_hand() -> None:
    # Four patients of 4 images with 4, 4, 2, 2 hits: share 3/4, residuals 1, 1, -1, -1.
    groups = np.repeat(np.arange(4), 4)
    hits = np.array([1, 1, 1, 1] * 2 + [1, 1, 0, 0] * 2, dtype=bool)
    found = intervals.share(hits, resampling.Clusters.of(groups, 16), np.ones(16, dtype=bool))
    variance = 4 / 3 * 4 / 16**2
    effective = 0.75 * 0.25 / variance * (1.959964 / 3.182446) ** 2
    # No fewer than the four patients.
    assert effective == pytest.approx(3.4136, abs=1e-3)
    assert found[:2] == pytest.approx(intervals.wilson(0.75, 4.0, 1.959964), abs=1e-6)


def test_mean_loss_by_a_slow_bootstrap_t() -> None:
    y, p, groups = study(12)
    losses = (p - y) ** 2
    clusters = resampling.Clusters.of(groups, len(y))
    counts = resampling.draw_patients(12, 300, seed=1)

    def root_and_error(patients: list[int]) -> tuple[float, float]:
        sums = np.array([losses[groups == k].sum() for k in patients])
        sizes = np.array([(groups == k).sum() for k in patients])
        mean = sums.sum() / sizes.sum()
        error = math.sqrt(12 / 11 * ((sums - mean * sizes) ** 2).sum()) / sizes.sum()
        return math.sqrt(mean), error / (2 * math.sqrt(mean))

    root, error = root_and_error(list(range(12)))
    drawn = [root_and_error([k for k in range(12) for _ in range(int(row[k]))]) for row in counts]
    low, high = np.quantile([(r - root) / e for r, e in drawn], [0.025, 0.975])
    found = intervals.mean_loss(losses, clusters, counts, most=1.0)
    assert found.ci_low == pytest.approx((root - high * error) ** 2)
    assert found.ci_high == pytest.approx((root - low * error) ** 2)


def test_mean_loss_with_hardly_any_mistake_stays_bounded() -> None:
    losses = np.r_[np.full(29, 1e-4), 0.9]
    clusters = resampling.Clusters.of(None, 30)
    counts = resampling.draw_patients(30, 500, seed=0)
    found = intervals.mean_loss(losses, clusters, counts, most=1.0)
    # A resample without the mistake has an error of 0, or a ratio without bound.
    widest = intervals.wilson(float(losses.mean()), 30, intervals.quantile_t(30))
    assert found.ci_high == pytest.approx(widest[1])
    assert 0 <= found.ci_low < losses.mean()


def test_calibration_gap_of_noise_reaches_0() -> None:
    rng = np.random.default_rng(0)
    gaps = rng.normal(size=10) * 0.01
    drawn = gaps + rng.normal(size=(2000, 10)) * 0.01
    found = intervals.calibration_gap(gaps, drawn, n_patients=500)
    assert found.ci_low == 0
    # Gaps far greater than chance: the lower bound nears the plain estimate from below.
    clear = intervals.calibration_gap(gaps * 10, drawn + 9 * gaps, n_patients=500)
    total = float(np.abs(gaps * 10).sum())
    assert 0.85 * total < clear.ci_low < total < clear.ci_high < 1.15 * total


def test_gaps_that_happen_to_cancel_chance_are_not_called_small() -> None:
    """A gap of nearly 0 in bins of 25 images may hide all that chance can make: 0.15 and more."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(2000, 2)) * 0.05
    for gap in (0.0, 1e-9, 0.0065):
        gaps = np.array([gap, -gap])
        found = intervals.calibration_gap(gaps, gaps + noise, n_patients=49)
        assert found.ci_low == 0
        assert found.ci_high > 0.15


def test_change_of_share_of_independent_images_is_the_score_test() -> None:
    from scipy.stats import chi2_contingency

    hits = np.r_[np.arange(1000) < 420, np.arange(1000) < 480]
    one = np.arange(2000) < 1000
    found = intervals.change_of_share(hits, resampling.Clusters.of(None, 2000), one, ~one)
    table = [[420, 580], [480, 520]]
    assert found == pytest.approx(chi2_contingency(table, correction=False).pvalue, rel=0.05)


@pytest.mark.parametrize("images", [1, 5, 30])
def test_change_of_share_finds_chance_once_in_20(images: int) -> None:
    """Counting images for patients would find it in 40 % and 70 % of such studies."""
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(300):
        hits, one = (np.repeat(rng.random(100) < share, images) for share in (0.4, 0.3))
        clusters = resampling.Clusters.of(np.repeat(np.arange(100), images), 100 * images)
        found += intervals.change_of_share(hits, clusters, one, ~one) < 0.05
    assert 0.02 <= found / 300 <= 0.09


def test_an_auroc_of_pairs_by_the_binomial_distribution() -> None:
    """Clopper and Pearson's definition: the tails of the binomial distribution are 1 in 40."""
    low, high = intervals.pairs_in_order(0.9, 30)
    assert stats.binom.sf(26, 30, low) == pytest.approx(0.025)
    assert stats.binom.cdf(27, 30, high) == pytest.approx(0.025)
    # As the AUROC goes to 1, to the bound for perfect ranking.
    almost, _ = intervals.pairs_in_order(1 - 1e-12, 30)
    assert almost == pytest.approx(intervals.perfect_auroc(30).ci_low)


def test_one_mistake_that_makes_all_of_the_spread_leaves_the_auroc_a_believable_interval() -> None:
    y, score = np.repeat([0, 1], 30), np.arange(60.0)
    score[29] = 48.5  # one of those without the disease, above 19 of those with it
    value = auroc(y, score)
    left_out = np.array([auroc(np.delete(y, i), np.delete(score, i)) for i in range(60)])
    alone = intervals.logit_t(value, left_out, n_patients=30)
    assert alone.ci_low < 0.5 < value
    found = intervals.auroc(value, left_out, (y == 1) * 1.0, (y == 0) * 1.0)
    low, high = intervals.pairs_in_order(value, 30)
    assert found[:2] == (low, min(high, alone.ci_high))
    assert low > 0.8
    assert found.method.endswith(", not wider than by pairs of patients")


def test_an_auroc_of_patients_on_both_sides_is_not_held_to_independent_pairs() -> None:
    y, score = np.repeat([0, 1], 30), np.arange(60.0)
    score[29] = 48.5
    keep = [np.arange(60) % 30 != patient for patient in range(30)]  # an image on either side each
    left_out = np.array([auroc(y[rows], score[rows]) for rows in keep])
    found = intervals.auroc(auroc(y, score), left_out, np.ones(30), np.ones(30))
    assert found == intervals.logit_t(auroc(y, score), left_out, n_patients=30)


def test_an_auroc_that_many_patients_make_keeps_the_interval_of_its_jackknife() -> None:
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 40)
    score = rng.normal(size=80) + y
    left_out = np.array([auroc(np.delete(y, i), np.delete(score, i)) for i in range(80)])
    found = intervals.auroc(auroc(y, score), left_out, (y == 1) * 1.0, (y == 0) * 1.0)
    assert found == intervals.logit_t(auroc(y, score), left_out, n_patients=40)


def test_mean_of_independent_figures() -> None:
    parts = [intervals.Interval(0.7, 0.9), intervals.Interval(0.5, 0.8)]
    left_out = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=float)
    found = intervals.mean_of(np.array([0.8, 0.7]), parts, left_out)
    assert found.ci_low == pytest.approx(0.75 - math.hypot(0.1, 0.2) / 2)
    assert found.ci_high == pytest.approx(0.75 + math.hypot(0.1, 0.1) / 2)
    # Nothing known of how they go together: as if they were one.
    unknown = intervals.mean_of(np.array([0.8, 0.7]), parts, np.zeros((4, 2)))
    assert unknown.ci_low == pytest.approx(0.75 - 0.15)


def test_a_mean_has_no_interval_when_a_part_has_none() -> None:
    parts = [intervals.Interval(0.7, 0.9), intervals.Interval.missing("too few")]
    found = intervals.mean_of(np.array([0.8, 0.7]), parts, np.zeros((4, 2)))
    assert math.isnan(found.ci_low)
    assert found.reason == "too few"


def test_a_kappa_at_the_end_of_its_range_has_no_interval() -> None:
    found = intervals.fisher_t(-1.0, np.array([-1.0, -0.9, -0.98, -1.0]), n_patients=4)
    assert found.reason == "it lies at the end of its range"
