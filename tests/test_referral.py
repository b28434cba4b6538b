"""Rules by hand and by simulation, their lock, and what the answers left are worth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from hilum.calls import Target
from hilum.errors import DataError
from hilum.referral import (
    REASONS,
    LockedRules,
    Rules,
    Ruling,
    certainty,
    choose_rules,
    describe_referral,
    judge,
    lock_rules,
)

Floats = NDArray[np.float64]

TWO, MANY = Target("classes", 1), Target("classes")


def draw(n: int, seed: int = 0) -> tuple[NDArray[np.intp], Floats, list[str]]:
    """Two images a patient."""
    rng = np.random.default_rng(seed)
    groups = [f"p{i // 2}" for i in range(n)]
    y = np.repeat(rng.integers(0, 2, n // 2), 2)
    z = 3 * (y - 0.5) + np.repeat(rng.normal(size=n // 2), 2) + rng.normal(size=n)
    p = 1 / (1 + np.exp(-2 * z))
    return y.astype(np.intp), np.stack([1 - p, p], axis=1), groups


def margins(probs: ArrayLike, threshold: float = 0.5) -> Floats:
    return certainty(np.atleast_2d(probs), TWO, threshold)


def choose(n: int = 400, seed: int = 0, **changes: Any) -> Ruling:
    y, probs, groups = draw(n, seed)
    strangeness = np.random.default_rng(seed + 1).gamma(2, size=n)
    values: dict[str, Any] = {
        "target": TWO, "threshold": 0.4, "strangeness": strangeness,
        "set_coverage": 0.95, "uncertain_share": 0.05, "unlike_share": 0.02,
    }  # fmt: skip
    return choose_rules(y, probs, groups, **values | changes)


def test_unknown_patients_are_not_counted() -> None:
    assert "400 validation images of 200 patients" in choose().reasons[0]
    for reason in choose(patients_known=False).reasons:
        assert "of 200 patients" not in reason
        assert "400 validation images (patients unknown)" in reason


class TestCertainty:
    def test_two_classes_are_measured_from_the_threshold(self) -> None:
        probs = [[0.6, 0.4], [0.5, 0.5], [0.8, 0.2]]
        found = certainty(probs, TWO, 0.2)
        assert found == pytest.approx([math.log(4 * 2 / 3), math.log(4), 0])

    def test_more_classes_by_the_two_most_probable(self) -> None:
        found = certainty([[0.6, 0.3, 0.1], [0.4, 0.4, 0.2]], MANY, None)
        assert found == pytest.approx([math.log(2), 0])

    def test_weighted_classes_by_their_probabilities_over_their_shares(self) -> None:
        shares = (0.6, 0.3, 0.1)
        found = certainty([[0.6, 0.3, 0.1], [0.6, 0.2, 0.2]], MANY._replace(shares=shares), None)
        assert found == pytest.approx([0, math.log(2)])

    def test_certain_answers_are_finite(self) -> None:
        assert np.isfinite(certainty([[0.0, 1.0]], TWO, 1.0)).all()
        assert np.isfinite(certainty([[0.0, 1.0, 0.0]], MANY, None)).all()


class TestRules:
    def test_new_patients_are_referred_no_more_than_stated(self) -> None:
        shares: dict[str, list[float]] = {"low confidence": [], "unlike the training data": []}
        for seed in range(60):
            rules = choose(seed=seed).rules
            _, probs, _ = draw(400, seed=1000 + seed)
            strange = np.random.default_rng(seed + 5000).gamma(2, size=400)
            called = (probs[:, 1] >= 0.4).astype(np.intp)
            found = judge(
                rules,
                probs,
                called,
                margins=certainty(probs, TWO, 0.4),
                strangeness=strange,
            ).reasons
            for reason, values in shares.items():
                values.append(float(np.mean([reason in text for text in found])))
        assert 0.035 < np.mean(shares["low confidence"]) < 0.054
        assert 0.01 < np.mean(shares["unlike the training data"]) < 0.022

    def test_reasons_say_what_was_fixed(self) -> None:
        rules, reasons = choose()
        on = "400 validation images of 200 patients"
        assert reasons == (
            f"Prediction sets hold the true class of 95% of images of new patients like the {on}, "
            "class by class.",
            f"Images within {rules.margin:.2f} log-odds of the other answer are referred: at most "
            f"5% of images like the {on}.",
            f"Images stranger than {rules.strangeness:.2f} are referred as unlike the training "
            f"data: at most 2% of images like the {on}.",
        )

    def test_few_patients_switch_off_what_they_cannot_support(self) -> None:
        rules, reasons = choose(n=20)
        assert rules.set_thresholds is None
        assert rules.margin == 0
        assert reasons[0].startswith(
            "There are no prediction sets: a coverage of 95% needs 19 patients of each class, and "
            "one class has "
        )
        assert reasons[1] == (
            "No image is referred for low confidence: 20 validation images of 10 patients are too "
            "few, or too many of them lie exactly at the change of the answer, to refer a share "
            "of 0.05."
        )
        assert reasons[2].startswith("Images stranger than every one of 20 validation images")

    def test_none_switches_a_rule_off(self) -> None:
        rules, reasons = choose(set_coverage=None, uncertain_share=None, unlike_share=None)
        assert rules == Rules(n=400, n_patients=200)
        assert reasons == ()
        assert choose(strangeness=None).rules.strangeness is None

    def test_a_lock_notices_every_change(self) -> None:
        rules = choose().rules
        sealed = {
            **rules.model_dump(),
            "reasons": ("Because.",),
            "locked": "2026-01-01T00:00:00+00:00",
            "sha256": lock_rules(rules),
        }
        assert LockedRules(**sealed).margin == rules.margin
        again = LockedRules.model_validate_json(LockedRules(**sealed).model_dump_json())
        assert again == LockedRules(**sealed)
        for name, value in {
            "margin": 0.0, "strangeness": 1e9, "set_thresholds": (0.0, 0.0), "n": 1,
        }.items():  # fmt: skip
            with pytest.raises(ValueError, match="are not the ones that were locked"):
                LockedRules(**sealed | {name: value})

    @pytest.mark.parametrize(
        "fields", [{"margin": 1.0}, {"set_coverage": 0.9}, {"unlike_share": 0.1}]
    )
    def test_a_rule_is_whole(self, fields: dict[str, float]) -> None:
        with pytest.raises(ValueError, match="a share without a threshold, or reversed"):
            Rules(n=1, n_patients=1, **fields)

    def test_sets_hold_probabilities(self) -> None:
        with pytest.raises(ValueError, match="is no probability"):
            Rules(n=1, n_patients=1, set_coverage=0.9, set_thresholds=(1.1, 0.0))


RULES = Rules(
    n=9, n_patients=9, set_coverage=0.9, set_thresholds=(0.7, 0.2), uncertain_share=0.05,
    margin=0.5, unlike_share=0.02, strangeness=3.0,
)  # fmt: skip


class TestJudge:
    def test_by_hand(self) -> None:
        positive = np.array([0.9, 0.25, 0.19, 0.1, 0.45, 0.55])
        strange = np.array([0.0, 9.0, 0.0, 3.0, 0.0, 0.0])
        probs = np.stack([1 - positive, positive], axis=1)
        called = (positive >= 0.5).astype(np.intp)
        found = judge(RULES, probs, called, margins=margins(probs), strangeness=strange)
        assert found.reasons == [
            "",
            "unlike the training data; several classes fit",
            "",
            "",
            "answer and prediction set disagree; low confidence",
            "low confidence",
        ]
        assert found.sets is not None
        assert found.sets.sum(axis=1).tolist() == [1, 2, 1, 1, 1, 1]

    def test_an_empty_set_is_referred(self) -> None:
        rules = RULES.model_copy(update={"set_thresholds": (0.7, 0.7)})
        found = judge(
            rules, np.array([[0.4, 0.6]]), np.array([1]), margins=margins([[0.4, 0.6]], 0.2),
            strangeness=np.zeros(1),
        )  # fmt: skip
        assert found.reasons == ["no class fits"]

    def test_what_is_no_number_is_referred(self) -> None:
        probs = np.array([[np.nan, np.nan], [0.1, 0.9]])
        found = judge(
            RULES, probs, np.array([1, 1]), margins=margins(probs),
            strangeness=np.array([0.0, np.nan]),
        )  # fmt: skip
        assert found.reasons == ["no class fits; low confidence", "unlike the training data"]

    def test_without_rules_everything_is_answered(self) -> None:
        found = judge(
            None, np.ones((2, 2)), np.zeros(2, dtype=np.intp), margins=np.ones(2),
            strangeness=None,
        )  # fmt: skip
        assert found == (None, ["", ""])

    def test_a_distance_that_is_asked_for_must_be_given(self) -> None:
        with pytest.raises(DataError, match="ask how strange an image is"):
            judge(
                RULES, np.ones((1, 2)), np.zeros(1, dtype=np.intp), margins=np.ones(1),
                strangeness=None,
            )  # fmt: skip


class TestDescription:
    def test_by_hand(self) -> None:
        reasons = ["", "low confidence", "", "several classes fit; low confidence"]
        found = describe_referral(
            [0, 1, 1, 0], [0, 0, 1, 1], reasons, [3, 1, 2, 0.5], list("abcd"), positive=1
        )
        assert found["share_referred"]["value"] == 0.5
        assert set(found["reasons"]) == set(REASONS)
        assert found["reasons"]["low confidence"]["value"] == 0.5
        assert found["reasons"]["several classes fit"]["value"] == 0.25
        assert found["reasons"]["no class fits"]["value"] == 0
        assert found["accuracy_kept"] == found["kept"]["accuracy"]
        assert found["kept"]["accuracy"]["value"] == 1
        figures = ("accuracy", "sensitivity", "specificity")
        assert tuple(found["kept"]) == figures
        assert all(found["kept"][name]["ci_low"] is not None for name in figures)
        assert found["kept"]["sensitivity"]["n"] == 1

    def test_the_curve_refers_the_least_certain_first(self) -> None:
        y, probs, groups = draw(400)
        called = (probs[:, 1] >= 0.5).astype(int)
        margins = certainty(probs, TWO, 0.5)
        found = describe_referral(y, called, [""] * 400, margins, groups, positive=1)
        assert [point["share_referred"] for point in found["curve"]] == pytest.approx(
            [i / 20 for i in range(11)]
        )
        for point in found["curve"]:
            n = round((1 - point["share_referred"]) * 400)
            kept = np.argsort(-margins)[:n]
            assert point["accuracy"]["value"] == pytest.approx((y == called)[kept].mean())
            assert point["accuracy"]["ci_low"] < point["accuracy"]["value"]
        assert found["curve"][-1]["accuracy"]["value"] > found["curve"][0]["accuracy"]["value"]

    def test_what_is_not_known_is_referred_and_not_judged(self) -> None:
        found = describe_referral(
            [0, 0, 0, 0], [0, 1, 0, 0], ["", "", "low confidence", ""], [3, 2, 1, 4],
            list("abcd"), positive=None, known=[True, True, False, False],
        )  # fmt: skip
        assert found["share_referred"]["value"] == 0.25
        assert (found["accuracy_kept"]["value"], found["accuracy_kept"]["n"]) == (0.5, 2)
        # Half referred: of the two that are left, one is not known.
        last = found["curve"][-1]
        assert last["share_referred"] == 0.5
        assert (last["accuracy"]["value"], last["accuracy"]["n"]) == (1, 1)
        none = describe_referral([0], [0], [""], [1.0], ["p"], positive=None, known=[False])
        assert none["accuracy_kept"]["reason"] == "the truth is known of no image left"

    def test_nothing_left_and_nothing_at_all(self) -> None:
        found = describe_referral([0], [0], ["low confidence"], [1.0], ["p"], positive=1)
        assert found["accuracy_kept"]["reason"] == "every image is referred"
        assert found["kept"]["sensitivity"]["reason"] == "no such image is left"
        none = describe_referral([], [], [], [], [], positive=None)
        assert none["share_referred"]["value"] is None
        assert none["curve"][0]["share_referred"] is None
