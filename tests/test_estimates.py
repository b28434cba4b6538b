"""The table of all figures: its shape, values and intervals, and how often these hold the truth."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hilum import intervals, metrics, resampling
from hilum.errors import DataError, SettingError
from hilum.estimates import describe, study_of
from studies import slow_auroc, study

FIGURES = (
    *("accuracy", "balanced_accuracy", "auroc", "average_precision", "sensitivity"),
    *("specificity", "precision", "f1", "brier", "ece"),
)


def two(
    y: Any = (0, 0, 1, 1),
    score: Any = (0.1, 0.4, 0.35, 0.8),
    groups: Any = None,
    threshold: float = 0.5,
    **options: Any,
) -> dict[str, Any]:
    """Describe two classes, 'normal' and 'pneumonia'."""
    p = np.asarray(score, dtype=float).reshape(-1)
    return describe(
        y,
        np.stack([1 - p, p], axis=1),
        class_names=["normal", "pneumonia"],
        positive=1,
        threshold=threshold,
        groups=groups,
        **({"n_resamples": 200} | options),
    )


class TestDescribe:
    def test_has_the_shape_of_metrics_json(self) -> None:
        y, p, groups = study(30)
        found = two(y, p, groups)
        assert list(found) == [
            *("n", "n_patients", "prevalence", "threshold", "ci", *FIGURES),
            *("calibration_slope", "calibration_intercept", "brier_decomposition"),
            *("reliability_diagram", "ppv_npv", "net_benefit", "classes", "confusion_matrix"),
        ]
        assert (found["n"], found["n_patients"]) == (len(y), 30)
        assert found["prevalence"]["pneumonia"] == pytest.approx(y.mean())
        assert found["ci"] == {
            "method": "jackknife and bootstrap over patients; each figure names its own",
            "level": 0.95,
            "n_resamples": 200,
            "seed": 0,
        }
        assert list(found["classes"]) == ["normal", "pneumonia"]
        for figure in (found[name] for name in FIGURES):
            assert set(figure) == {"value", "ci_low", "ci_high", "n", "method"}
            assert 0 <= figure["ci_low"] <= figure["value"] <= figure["ci_high"] <= 1
            assert figure["ci_low"] < figure["ci_high"]
        json.dumps(found, allow_nan=False)

    def test_gives_the_figures_of_the_positive_class(self) -> None:
        y, p, groups = study(30)
        found = two(y, p, groups, threshold=0.4)
        pred = p >= 0.4
        for name, value in {
            "accuracy": metrics.accuracy(y, pred),
            "balanced_accuracy": metrics.balanced_accuracy(y, pred),
            "auroc": metrics.auroc(y, p),
            "average_precision": metrics.average_precision(y, p),
            "sensitivity": metrics.sensitivity(y, pred),
            "specificity": metrics.specificity(y, pred),
            "precision": metrics.precision(y, pred),
            "f1": metrics.f1(y, pred),
            "brier": metrics.brier(y, p),
            "ece": metrics.ece(y, p),
        }.items():
            assert found[name]["value"] == pytest.approx(value), name
        ns = {name: found[name]["n"] for name in ("sensitivity", "specificity", "precision", "f1")}
        assert ns == {
            "sensitivity": y.sum(),
            "specificity": (1 - y).sum(),
            "precision": pred.sum(),
            "f1": (pred | (y == 1)).sum(),
        }
        # What one class finds is what the other clears.
        normal = found["classes"]["normal"]
        assert normal["sensitivity"] == found["specificity"]
        assert normal["auroc"]["value"] == pytest.approx(found["auroc"]["value"])

    def test_a_probability_at_the_threshold_is_positive(self) -> None:
        assert two([0, 1], [0.4, 0.5])["confusion_matrix"] == [[1, 0], [0, 1]]

    def test_the_order_of_samples_does_not_matter(self) -> None:
        y, p, groups = study(25)
        order = np.random.default_rng(1).permutation(len(y))
        straight, shuffled = two(y, p, groups), two(y[order], p[order], groups[order])
        for name in FIGURES:
            for key in ("value", "ci_low", "ci_high"):
                assert shuffled[name][key] == pytest.approx(straight[name][key]), name

    def test_more_images_of_the_same_patients_prove_little(self) -> None:
        y, p, _ = study(40)
        once = two(y, p, np.arange(len(y)))
        thrice = two(np.tile(y, 3), np.tile(p, 3), np.tile(np.arange(len(y)), 3))
        for name in ("auroc", "average_precision", "sensitivity", "accuracy", "brier", "f1"):
            wide, narrow = (part[name]["ci_high"] - part[name]["ci_low"] for part in (once, thrice))
            assert narrow == pytest.approx(wide, rel=0.1), name

    def test_without_patients_every_image_stands_for_itself(self) -> None:
        found = two()
        assert found["n_patients"] is None
        assert found["ci"]["method"] == (
            "jackknife and bootstrap over images (no patient is known); each figure names its own"
        )

    def test_more_classes_are_averaged_over_those_present(self) -> None:
        rng = np.random.default_rng(0)
        y = rng.integers(0, 3, 60)
        probs = rng.dirichlet([1] * 4, 60)
        probs[np.arange(60), y] += 1
        probs[:, 3] *= 0.1  # the fourth class is neither there nor called
        probs /= probs.sum(axis=1, keepdims=True)
        found = describe(
            y, probs, class_names="abcd", positive=None, threshold=None, n_resamples=100
        )
        for name in ("auroc", "average_precision", "sensitivity", "specificity", "precision", "f1"):
            parts = [found["classes"][k][name]["value"] for k in "abc"]
            assert found[name]["value"] == pytest.approx(np.mean(parts)), name
            assert found[name]["ci_low"] < found[name]["value"] < found[name]["ci_high"] or (
                found[name]["value"] == 1
            )
        assert found["classes"]["d"]["auroc"] == {
            "value": None,
            "ci_low": None,
            "ci_high": None,
            "n": 60,
            "reason": "no d among the 60 images",
        }
        assert found["classes"]["d"]["precision"]["reason"] == ("none of the 60 images is called d")
        assert found["brier"]["value"] == pytest.approx(metrics.brier(y, probs))
        assert found["ece"]["value"] == pytest.approx(metrics.ece(y, probs))

    def test_one_class_only(self) -> None:
        found = two([0] * 12, np.linspace(0, 0.9, 12))
        assert found["sensitivity"] == {
            "value": None,
            "ci_low": None,
            "ci_high": None,
            "n": 0,
            "reason": "no pneumonia among the 12 images",
        }
        assert found["auroc"]["reason"] == "no pneumonia among the 12 images"
        assert found["balanced_accuracy"]["value"] is None
        assert found["classes"]["normal"]["auroc"]["reason"] == "all 12 images are normal"
        assert found["specificity"]["value"] == pytest.approx(7 / 12)
        assert found["precision"]["value"] == 0  # five are called so, wrongly: that is defined

    def test_no_images(self) -> None:
        found = two([], [])
        assert found["n"] == 0
        assert found["prevalence"] == {"normal": None, "pneumonia": None}
        assert all(found[name]["value"] is None and found[name]["reason"] for name in FIGURES)

    def test_too_few_patients_have_a_value_but_no_interval(self) -> None:
        found = two([0, 0, 0, 0, 1, 1], [0.1, 0.2, 0.3, 0.6, 0.5, 0.9])
        assert found["auroc"] == {
            "value": 0.875,
            "ci_low": None,
            "ci_high": None,
            "n": 6,
            "reason": "there are fewer than 3 patients with the class, or without it",
        }

    def test_constant_probabilities_have_no_interval(self) -> None:
        found = two([0, 1] * 6, [0.5] * 12)
        assert found["auroc"]["value"] == 0.5
        assert found["auroc"]["reason"] == (
            "no patient changes the figure: the probabilities are alike"
        )

    def test_2000_resamples_of_624_images_and_10_classes_take_seconds(self) -> None:
        rng = np.random.default_rng(0)
        probs = rng.dirichlet([1] * 10, 624)
        found = describe(
            rng.integers(0, 10, 624),
            probs,
            class_names="abcdefghij",
            positive=None,
            threshold=None,
            groups=rng.integers(0, 400, 624),
        )
        assert found["auroc"]["ci_low"] < 0.5 < found["auroc"]["ci_high"]


def test_where_patients_are_unknown_images_are_spoken_of_and_copies_stay_together() -> None:
    y, p, groups = study(30)
    options: dict[str, Any] = {
        "class_names": ["a", "b"], "positive": 1, "threshold": 0.5, "groups": groups
    }  # fmt: skip
    known, unknown = (
        study_of(y, np.stack([1 - p, p], 1), patients_known=k, **options) for k in (True, False)
    )
    found = unknown.describe(0.5, ())
    assert found["n_patients"] is None
    assert "images (no patient is known)" in found["ci"]["method"]
    assert found["auroc"] == known.describe(0.5, ())["auroc"]
    part = unknown.of(groups < 10)
    assert (part.clusters.n, part.clusters.known) == (10, False)


def test_scikit_learn_agrees_on_many_classes() -> None:
    from sklearn import metrics as reference

    rng = np.random.default_rng(3)
    y, probs = rng.integers(0, 4, 60), rng.dirichlet([1, 1, 1, 1], 60)
    pred = probs.argmax(axis=1)
    found = describe(y, probs, class_names="abcd", positive=None, threshold=None, n_resamples=50)
    _, _, f1, _ = reference.precision_recall_fscore_support(y, pred)
    assert found["f1"]["value"] == pytest.approx(f1.mean())
    assert found["sensitivity"]["value"] == pytest.approx(
        reference.recall_score(y, pred, average="macro")
    )
    assert found["balanced_accuracy"]["value"] == found["sensitivity"]["value"]
    assert found["confusion_matrix"] == reference.confusion_matrix(y, pred).tolist()


def test_any_small_study_gives_a_value_in_its_interval_or_a_reason() -> None:
    rng = np.random.default_rng(0)
    for seed in range(150):
        n_classes, n = int(rng.choice([2, 3, 5])), int(rng.integers(0, 30))
        y = rng.integers(0, n_classes, n) if seed % 5 else np.full(n, n_classes - 1)
        probs = rng.dirichlet(np.full(n_classes, rng.choice([0.05, 0.3, 2])), n)
        probs = probs if seed % 3 else np.eye(n_classes)[y]
        found = describe(
            y,
            probs.reshape(n, n_classes),
            class_names="abcde"[:n_classes],
            positive=1 if n_classes == 2 else None,
            threshold=float(rng.choice([0, 0.5, 1])) if n_classes == 2 else None,
            groups=rng.integers(0, 1 + seed % 20, n) if seed % 4 else None,
            n_resamples=40,
        )
        json.dumps(found, allow_nan=False)
        for part in (found, *found["classes"].values()):
            for name in set(FIGURES) & set(part):
                figure = part[name]
                if figure["value"] is None or figure["ci_low"] is None:
                    assert figure["reason"], (seed, name)
                    assert figure["ci_low"] is figure["ci_high"] is None
                else:
                    # The mean of float figures may miss their common bound by rounding.
                    assert -1e-9 < figure["ci_low"] <= figure["value"] + 1e-9, (seed, name)
                    assert figure["value"] - 1e-9 <= figure["ci_high"], (seed, name)
                    assert figure["ci_high"] > figure["ci_low"], (seed, name)


class TestRefused:
    def test_logits(self) -> None:
        with pytest.raises(DataError) as caught:
            describe([0, 1], [[-3, 3], [1, 2]], class_names="ab", positive=1, threshold=0.5)
        assert str(caught.value) == (
            "probs reaches from -3 to 3: give probabilities in [0, 1], not logits."
        )

    def test_rounding_of_float32_is_no_logit(self) -> None:
        found = describe(
            [0, 1], [[1 + 1e-7, 0.0], [0.0, 1.0]], class_names="ab", positive=1, threshold=0.5
        )
        assert found["accuracy"]["value"] == 1

    def test_columns(self) -> None:
        with pytest.raises(DataError) as caught:
            describe([0, 1], [[0.5, 0.5]] * 2, class_names="abc", positive=None, threshold=None)
        assert str(caught.value) == (
            "probs has shape (2, 2) and there are 3 classes: give one column for each class."
        )

    @pytest.mark.parametrize(
        ("n_classes", "positive", "threshold"), [(2, None, None), (2, 1, None), (3, 1, 0.5)]
    )
    def test_positive_class(self, n_classes: int, positive: Any, threshold: Any) -> None:
        with pytest.raises(SettingError, match="classes"):
            describe(
                [0],
                np.full((1, n_classes), 0.3),
                class_names="abc"[:n_classes],
                positive=positive,
                threshold=threshold,
            )

    @pytest.mark.parametrize("nobody", [None, "", math.nan])
    def test_image_without_a_patient(self, nobody: Any) -> None:
        with pytest.raises(DataError) as caught:
            two(groups=["a", nobody, "b", nobody])
        assert str(caught.value) == (
            "groups names no patient for 2 of 4 samples, the first at position 1: give such a "
            "sample a name of its own, or pass groups=None when no patient is known."
        )

    def test_groups_of_another_length(self) -> None:
        with pytest.raises(DataError, match=r"groups has shape \(2,\) and there are 4 samples"):
            two(groups=["a", "b"])


class TestPerfect:
    """Twenty of twenty is not certainty."""

    Y = np.repeat([0, 1], 20)

    def test_intervals_do_not_collapse(self) -> None:
        found = two(self.Y, self.Y * 0.8 + 0.1)
        share = 20 / (20 + 1.959964**2)  # Wilson's lower bound of 20 in 20
        assert found["sensitivity"]["ci_low"] == pytest.approx(share)
        # 20 disjoint pairs of patients, all in the right order.
        assert found["auroc"]["ci_low"] == pytest.approx(0.025 ** (1 / 20))
        q = 1 - 0.0125 ** (1 / 20)
        precision = 0.5 / (0.5 + q / 2)
        assert found["average_precision"]["ci_low"] == pytest.approx((1 - q) * precision + q * 0.5)
        for name in (*FIGURES[:8],):
            assert found[name]["value"] == 1 == found[name]["ci_high"]
            assert found[name]["ci_low"] < 0.95

    def test_images_of_one_patient_count_once(self) -> None:
        one_each = two(self.Y, self.Y * 0.8 + 0.1)
        four_each = two(
            np.repeat(self.Y, 4), np.repeat(self.Y, 4) * 0.8 + 0.1, np.repeat(np.arange(40), 4)
        )
        for name in ("sensitivity", "auroc", "average_precision", "accuracy", "f1"):
            assert four_each[name]["ci_low"] == pytest.approx(one_each[name]["ci_low"])

    def test_certain_and_right(self) -> None:
        found = two(self.Y, self.Y)
        unseen = 1 - 0.025 ** (1 / 40)
        assert found["brier"]["value"] == found["ece"]["value"] == 0
        assert found["brier"]["ci_high"] == pytest.approx(unseen)
        assert found["ece"]["ci_high"] == pytest.approx(unseen)

    def test_calibration_error_where_no_miss_was_seen(self) -> None:
        unseen = 1 - 0.025 ** (1 / 40)
        right = two(self.Y, 0.99 * self.Y + 0.005)["ece"]
        assert right["value"] == pytest.approx(0.005)
        assert (right["ci_low"], right["ci_high"]) == pytest.approx((0, unseen))
        cautious = two(self.Y, 0.6 * self.Y + 0.2)["ece"]
        assert (cautious["value"], cautious["ci_low"]) == pytest.approx((0.2, 0.2 - unseen))
        healthy = two(np.zeros(40, dtype=int), np.full(40, 0.4))["ece"]
        assert healthy["value"] == pytest.approx(0.4)
        assert healthy["ci_low"] == pytest.approx(0.4 - unseen, abs=1e-4)
        assert healthy["ci_high"] == pytest.approx(0.4 + unseen, abs=1e-4)

    def test_perfectly_wrong_mirrors_perfectly_right(self) -> None:
        wrong = two(self.Y, 1 - self.Y)
        assert wrong["auroc"]["value"] == wrong["auroc"]["ci_low"] == 0
        assert wrong["auroc"]["ci_high"] == pytest.approx(1 - 0.025 ** (1 / 20))
        assert wrong["sensitivity"]["ci_high"] == pytest.approx(1 - 20 / (20 + 1.959964**2))
        assert wrong["brier"]["ci_low"] == pytest.approx(0.025 ** (1 / 40))


def test_auroc_by_a_slow_jackknife() -> None:
    y, p, groups = study(20)
    without = np.array([slow_auroc(y[groups != k], p[groups != k]) for k in range(20)])
    error = math.sqrt(19 / 20 * ((without - without.mean()) ** 2).sum())
    value = slow_auroc(y, p)
    from scipy.stats import t

    fewer = min(len(set(groups[y == k])) for k in (0, 1))
    squares = (without - without.mean()) ** 2
    # A sum of 20 squares has the variance 20 · var; Satterthwaite's degrees are 2 · sum² / that.
    degrees = 2 * squares.sum() ** 2 / (20 * squares.var())
    half = t.ppf(0.975, min(fewer - 1, degrees)) * error / (value * (1 - value))
    centre = math.log(value / (1 - value))
    found = two(y, p, groups)["auroc"]
    assert found["ci_low"] == pytest.approx(1 / (1 + math.exp(half - centre)))
    assert found["ci_high"] == pytest.approx(1 / (1 + math.exp(-half - centre)))


@pytest.fixture(scope="module")
def coverage() -> Any:
    """benchmarks/intervals_hold.py as a module."""
    path = Path(__file__).parents[1] / "benchmarks" / "intervals_hold.py"
    spec = importlib.util.spec_from_file_location("coverage_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


class TestCoverage:
    """A small version of benchmarks/intervals_hold.py; the same studies every time.

    Of 150 intervals that hold the truth with 95 %, fewer than 133 (0.887) do so in 1 of 1,000 runs.
    """

    @pytest.mark.parametrize("name", ["usual", "strong classifier, rare class"])
    def test_intervals_hold_the_truth(self, coverage: Any, name: str) -> None:
        rows = coverage.simulate(
            coverage.SCENARIOS[name],
            n_patients=60,
            n_studies=150,
            n_resamples=200,
            n_population=20_000,
        )
        assert list(rows) == [*coverage.FIGURES, *coverage.CALIBRATION, *coverage.USE]
        for figure, (_, tally) in rows.items():
            assert tally.missing == 0, figure
            assert tally.coverage >= 0.887, figure

    def test_many_classes(self, coverage: Any) -> None:
        rows = coverage.simulate(
            coverage.SCENARIOS["four classes"],
            n_patients=80,
            n_studies=80,
            n_resamples=150,
            n_population=20_000,
        )
        for figure, (_, tally) in rows.items():
            assert tally.coverage >= 0.86, figure

    def test_patients_matter(self, coverage: Any) -> None:
        """Images taken for independent give intervals that are too narrow, and would be caught."""
        alike = replace(coverage.SCENARIOS["usual"], alike=0.9)
        held = []
        true = coverage.truth(alike, coverage.draw(alike, 20_000, np.random.default_rng(1)))
        for seed in range(150):
            sample = coverage.draw(alike, 60, np.random.default_rng([5, seed]))
            called = sample.probs[:, 1] >= 0.5
            right = called == (sample.y_true == 1)
            row = []
            for groups in (sample.groups, None):
                clusters = resampling.Clusters.of(groups, len(right))
                found = intervals.share(right, clusters, np.ones(len(right), dtype=bool))
                row.append(found.ci_low <= true["accuracy"] <= found.ci_high)
            held.append(row)
        with_patients, without = np.mean(held, axis=0)
        assert with_patients >= 0.887
        assert without < 0.87
