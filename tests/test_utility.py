"""Predictive values and net benefit against Bayes' rule and loops over thresholds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from hilum import metrics
from hilum.errors import SettingError
from hilum.estimates import describe
from hilum.resampling import Clusters
from hilum.utility import PREVALENCES, net_benefit
from studies import study


def described(y: Any, p: Any, groups: Any = None, **options: Any) -> dict[str, Any]:
    p = np.asarray(p, dtype=float)
    return describe(
        y,
        np.stack([1 - p, p], axis=1),
        class_names=("normal", "pneumonia"),
        positive=1,
        threshold=0.5,
        groups=groups,
        n_resamples=50,
        **options,
    )


class TestPredictiveValues:
    def test_follow_bayes_rule(self) -> None:
        y, p, groups = study(50)
        found = described(y, p, groups, prevalences=(0.03,))
        sensitivity = metrics.sensitivity(y, p >= 0.5)
        specificity = metrics.specificity(y, p >= 0.5)
        rows = found["ppv_npv"]
        assert [row["prevalence"] for row in rows] == sorted([*PREVALENCES, 0.03])
        assert [row["prevalence"] for row in rows if row["wanted"]] == [0.03]
        for row in rows:
            prior = row["prevalence"]
            hits, false = prior * sensitivity, (1 - prior) * (1 - specificity)
            misses, cleared = prior * (1 - sensitivity), (1 - prior) * specificity
            assert row["ppv"]["value"] == pytest.approx(hits / (hits + false))
            assert row["npv"]["value"] == pytest.approx(cleared / (cleared + misses))
            for name in ("ppv", "npv"):
                assert row[name]["ci_low"] < row[name]["value"] < row[name]["ci_high"]

    def test_at_the_prevalence_of_the_test_is_the_precision(self) -> None:
        y, p, groups = study(50)
        found = described(y, p, groups, prevalences=(float(y.mean()),))
        row = next(row for row in found["ppv_npv"] if row["wanted"])
        assert row["ppv"]["value"] == pytest.approx(found["precision"]["value"])

    def test_intervals_are_near_the_logit_method_of_mercaldo(self) -> None:
        """With many independent images; variance of logit PPV by the delta method."""
        rng = np.random.default_rng(0)
        y = rng.integers(0, 2, 4000)
        p = np.clip(0.3 + 0.4 * y + 0.2 * rng.normal(size=4000), 0, 1)
        row = next(row for row in described(y, p)["ppv_npv"] if row["prevalence"] == 0.05)
        s, c = metrics.sensitivity(y, p >= 0.5), metrics.specificity(y, p >= 0.5)
        n1, n0 = int(y.sum()), int((1 - y).sum())
        spread = math.sqrt((1 - s) / s / n1 + c / (1 - c) / n0)
        value = row["ppv"]["value"]
        centre = math.log(value / (1 - value))
        for bound, sign in (("ci_low", -1), ("ci_high", 1)):
            expected = 1 / (1 + math.exp(-(centre + sign * 1.959964 * spread)))
            assert row["ppv"][bound] == pytest.approx(expected, rel=0.02)

    def test_a_perfect_specificity_leaves_the_ppv_uncertain(self) -> None:
        y = np.repeat([0, 1], 20)
        row = described(y, 0.1 + 0.8 * y)["ppv_npv"][0]
        assert row["ppv"]["value"] == row["ppv"]["ci_high"] == 1
        assert row["ppv"]["ci_low"] < 0.02  # at 1 in 1,000, of 20 cleared nothing is known

    def test_without_negatives_there_is_a_reason(self) -> None:
        row = described([1] * 5, [0.2, 0.9, 0.8, 0.7, 0.6])["ppv_npv"][0]
        assert row["ppv"]["value"] is None
        assert "pneumonia" in row["ppv"]["reason"]

    @pytest.mark.parametrize("value", [0.0, 1.0, 2.0, -0.1])
    def test_a_prevalence_is_a_share(self, value: float) -> None:
        with pytest.raises(SettingError) as caught:
            described([0, 1], [0.1, 0.9], prevalences=(value,))
        assert str(caught.value) == (
            f"--prevalence {value:g}: a prevalence lies between 0 and 1, both excluded. Give 2 % "
            "as 0.02."
        )


class TestNetBenefit:
    def test_equals_a_loop_over_thresholds(self) -> None:
        y, p, groups = study(50)
        found = net_benefit(y == 1, p, Clusters.of(groups, len(y)), (0.1,))
        n, prior = len(y), y.mean()
        elsewhere = found["at_prevalences"][0]
        for k, t in enumerate(found["thresholds"]):
            odds = t / (1 - t)
            tp = sum(1 for a, b in zip(y, p, strict=True) if a and b >= t)
            fp = sum(1 for a, b in zip(y, p, strict=True) if not a and b >= t)
            assert found["model"]["value"][k] == pytest.approx(tp / n - odds * fp / n)
            assert found["all"]["value"][k] == pytest.approx(prior - odds * (1 - prior))
            assert found["none"]["value"][k] == 0
            share, false = tp / y.sum(), fp / (n - y.sum())
            assert elsewhere["model"]["value"][k] == pytest.approx(0.1 * share - 0.9 * odds * false)
            for curve in (found["model"], found["all"], elsewhere["model"]):
                assert curve["ci_low"][k] <= curve["value"][k] <= curve["ci_high"][k]

    def test_bounds_are_near_the_bootstrap_over_patients(self) -> None:
        y, p, groups = study(200)
        found = net_benefit(y == 1, p, Clusters.of(groups, len(y)))
        rng = np.random.default_rng(0)
        place = found["thresholds"].index(0.3)
        worth = (p >= 0.3) * np.where(y == 1, 1.0, -0.3 / 0.7)
        sums, sizes = np.bincount(groups, weights=worth), np.bincount(groups)
        drawn = rng.integers(0, 200, (2000, 200))
        low, high = np.quantile(sums[drawn].sum(1) / sizes[drawn].sum(1), [0.025, 0.975])
        assert found["model"]["ci_low"][place] == pytest.approx(low, abs=0.01)
        assert found["model"]["ci_high"][place] == pytest.approx(high, abs=0.01)

    def test_one_class_has_no_curve(self) -> None:
        found = net_benefit(np.zeros(3, dtype=bool), np.full(3, 0.5), Clusters.of(None, 3))
        assert found == {"reason": "there is no positive image"}
