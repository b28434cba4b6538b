"""Paired comparisons against textbook loops, permutation and simulation; and what is refused."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import hilum
from hilum import intervals, metrics
from hilum.cli import app
from hilum.errors import DataError, RunError, SettingError
from hilum.paired import delong, mean_difference
from hilum.resampling import Bools, Clusters, Floats, Ints
from hilum.targets import joined_cells, label_columns
from studies import slow_auroc

NAMES = ("normal", "pneumonia")


def two_scores(
    n_patients: int, seed: int, *, gain: tuple[float, float] = (1.2, 1.2), images: int = 4
) -> tuple[Ints, Floats, Floats, Ints]:
    """Labels, two correlated scores and patients, some of whom have images of both sides."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_patients), rng.integers(1, images + 1, n_patients))
    n = len(groups)
    y = rng.integers(0, 2, n_patients)[groups]
    y = np.where(rng.random(n) < 0.2, 1 - y, y)
    shared = rng.normal(size=n_patients)[groups] + 0.5 * rng.normal(size=n)
    a, b = (g * y + shared + rng.normal(size=n_patients)[groups] for g in gain)
    return y, a + 0.5 * rng.normal(size=n), b + 0.5 * rng.normal(size=n), groups


class TestDeLong:
    def test_equals_the_textbook_for_independent_images(self) -> None:
        """DeLong et al. 1988: covariance of structural components, by loops over pairs."""
        y, a, b, _ = two_scores(40, 0, images=1)
        a, b = np.round(a, 1), np.round(b, 1)
        positives, negatives = (np.flatnonzero(y == k).tolist() for k in (1, 0))

        def wins(score: Floats, i: int, j: int) -> float:
            return 1.0 if score[i] > score[j] else 0.5 if score[i] == score[j] else 0.0

        v10 = np.array(
            [[np.mean([wins(s, i, j) for j in negatives]) for i in positives] for s in (a, b)]
        )
        v01 = np.array(
            [[np.mean([wins(s, i, j) for i in positives]) for j in negatives] for s in (a, b)]
        )
        covariance = np.cov(v10) / len(positives) + np.cov(v01) / len(negatives)
        contrast = np.array([1.0, -1.0])
        error = math.sqrt(contrast @ covariance @ contrast)
        found = delong(y, [1], [(a, b)], Clusters.of(None, len(y)))
        assert found.estimate.value == pytest.approx(slow_auroc(y, a) - slow_auroc(y, b))
        half = (found.estimate.interval.ci_high - found.estimate.interval.ci_low) / 2
        fewer = min(len(positives), len(negatives))
        assert half / intervals.quantile_t(fewer) == pytest.approx(error)

    def test_equals_obuchowski_for_patients(self) -> None:
        """Obuchowski 1997, formulas 4 to 8, by loops over patients."""
        y, a, b, groups = two_scores(25, 1)
        n10, n01 = int(y.sum()), int((1 - y).sum())
        patients = sorted(set(groups.tolist()))
        with_10 = len(set(groups[y == 1].tolist()))
        with_01 = len(set(groups[y == 0].tolist()))

        def sums(score: Floats) -> tuple[Floats, Floats]:
            area = slow_auroc(y, score)
            x10, x01 = [], []
            for g in patients:
                mine = groups == g
                x10.append(sum((score[y == 0] < s).mean() - area for s in score[mine & (y == 1)]))
                x01.append(sum((score[y == 1] > s).mean() - area for s in score[mine & (y == 0)]))
            return np.array(x10), np.array(x01)

        (a10, a01), (b10, b01) = sums(a), sums(b)
        d10, d01 = a10 - b10, a01 - b01
        s10 = with_10 / ((with_10 - 1) * n10) * (d10 @ d10)
        s01 = with_01 / ((with_01 - 1) * n01) * (d01 @ d01)
        scale = math.sqrt(with_10 / (with_10 - 1) * with_01 / (with_01 - 1))
        variance = s10 / n10 + s01 / n01 + 2 * scale * (d10 @ d01) / (n10 * n01)
        found = delong(y, [1], [(a, b)], Clusters.of(groups, len(y))).estimate.interval
        half = (found.ci_high - found.ci_low) / 2
        expected = intervals.quantile_t(min(with_10, with_01)) * math.sqrt(variance)
        assert half == pytest.approx(expected)

    def test_p_agrees_with_a_slow_permutation(self) -> None:
        """Exchange the two scores of whole patients at random, on ranks, as under no difference."""
        for seed, gain in ((2, (1.2, 1.2)), (3, (1.6, 1.0))):
            y, a, b, groups = two_scores(60, seed, gain=gain)
            a, b = (np.argsort(np.argsort(score)) / len(y) for score in (a, b))
            observed = abs(metrics.auroc(y, a) - metrics.auroc(y, b))
            rng = np.random.default_rng(0)
            drawn = []
            for _ in range(600):
                turned = rng.random(60)[groups] < 0.5
                first, second = np.where(turned, b, a), np.where(turned, a, b)
                drawn.append(abs(metrics.auroc(y, first) - metrics.auroc(y, second)))
            slow = float(np.mean(np.array(drawn) >= observed - 1e-12))
            fast = delong(y, [1], [(a, b)], Clusters.of(groups, len(y))).p
            assert fast == pytest.approx(slow, abs=0.06)

    def test_many_classes_compare_the_mean(self) -> None:
        rng = np.random.default_rng(0)
        y = rng.integers(0, 3, 80)
        a, b = (rng.random((80, 3)) + 0.5 * np.eye(3)[y] for _ in range(2))
        scores = [(a[:, k], b[:, k]) for k in range(3)]
        found = delong(y, [0, 1, 2], scores, Clusters.of(None, 80))
        parts = [slow_auroc(y == k, p) - slow_auroc(y == k, q) for k, (p, q) in enumerate(scores)]
        expected = np.mean(parts)
        assert found.estimate.value == pytest.approx(expected)

    def test_equal_order_has_no_interval(self) -> None:
        y, a, _, groups = two_scores(20, 0)
        found = delong(y, [1], [(a, 2 * a + 1)], Clusters.of(groups, len(y)))
        assert found.estimate.value == 0
        assert found.estimate.as_json()["reason"] == "the two put the images in the same order"
        assert found.p is None

    def test_two_perfect_classifiers_have_the_bound_of_unseen_mistakes(self) -> None:
        """Each AUROC may be as low as 0.025^(1/k), with k patients on the smaller side."""
        y = np.repeat([0, 1], 10)
        a, b = y + np.arange(20) / 50, y + np.arange(20)[::-1] / 50
        found = delong(y, [1], [(a, b)], Clusters.of(None, 20))
        bound = 1 - 0.025**0.1
        assert found.estimate.value == 0
        assert found.estimate.interval[:2] == pytest.approx((-bound, bound))
        assert found.p == 1
        opposite = delong(y, [1], [(a, -b)], Clusters.of(None, 20)).estimate
        assert opposite.value == 1
        assert opposite.interval[:2] == pytest.approx((1 - math.sqrt(2) * bound, 1))


class TestMeanDifference:
    def test_equals_mcnemars_exact_test_for_independent_images(self) -> None:
        from scipy.stats import binomtest

        rng = np.random.default_rng(0)
        a, b = rng.random(60) < 0.85, rng.random(60) < 0.75
        found = mean_difference(
            [a.astype(np.float64)],
            [b.astype(np.float64)],
            [np.ones(60, dtype=bool)],
            Clusters.of(None, 60),
        )
        only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
        assert found.estimate.value == pytest.approx((only_a - only_b) / 60)
        assert found.p == pytest.approx(binomtest(only_a, only_a + only_b).pvalue, abs=0.02)

    def test_few_discordant_patients_are_flipped_in_every_way(self) -> None:
        groups = np.repeat(np.arange(10), 2)
        a, b = np.full(20, 1.0), np.full(20, 1.0)
        b[[0, 1, 2, 4]] = 0
        among: list[Bools] = [np.ones(20, dtype=bool)]
        found = mean_difference([a], [b], among, Clusters.of(groups, 20))
        moved = [2, 1, 1]
        sums = [abs(np.dot(s, moved)) for s in itertools.product((-1, 1), repeat=3)]
        assert found.p == np.mean(np.array(sums) >= 4)

    def test_equal_decisions_may_differ_unseen(self) -> None:
        ones = np.full(20, 1.0)
        found = mean_difference([ones], [ones], [ones > 0], Clusters.of(None, 20))
        assert found.p == 1
        assert found.estimate.interval.ci_high == pytest.approx(1 - 0.025 ** (1 / 20))


@pytest.mark.parametrize("images", [1, 5])
def test_no_difference_is_found_once_in_20(images: int) -> None:
    """Two classifiers as good as each other: of 300 p-values 4 to 26 are below 0.05 (99.9 %)."""
    below = {"auroc": 0, "sensitivity": 0, "brier": 0}
    for seed in range(300):
        y, a, b, groups = two_scores(50, 1000 + seed, images=images)
        clusters = Clusters.of(groups, len(y))
        first, second = (1 / (1 + np.exp(1 - 2 * s)) for s in (a, b))
        everyone: list[Bools] = [np.ones(len(y), dtype=bool)]
        ill: list[Bools] = [y == 1]
        hits = [np.where(ill[0], p >= 0.5, 0.0) for p in (first, second)]
        losses = [np.asarray((p - y) ** 2, dtype=np.float64) for p in (first, second)]
        for name, found in {
            "auroc": delong(y, [1], [(a, b)], clusters),
            "sensitivity": mean_difference([hits[0]], [hits[1]], ill, clusters),
            "brier": mean_difference([losses[0]], [losses[1]], everyone, clusters),
        }.items():
            below[name] += (found.p or 1.0) < 0.05
    assert all(count <= 26 for count in below.values()), below
    assert below["auroc"] >= 4
    assert below["brier"] >= 4


def test_images_taken_for_patients_find_too_much() -> None:
    below = 0
    for seed in range(200):
        y, a, b, _ = two_scores(40, 5000 + seed, images=8)
        found = delong(y, [1], [(a, b)], Clusters.of(None, len(y)))
        below += (found.p or 1.0) < 0.05
    assert below > 26


# -- runs on disk ----------------------------------------------------------------------------------


def write_run(
    folder: Path,
    y: Ints,
    scores: Floats,
    groups: Ints,
    *,
    threshold: float = 0.5,
    keep: slice = slice(None),
    n_openings: int = 1,
    names: tuple[str, ...] = NAMES,
    positive: str | None = "pneumonia",
) -> Path:
    """Write what `compare` reads of a run."""
    folder.mkdir(parents=True)
    probs = np.stack([1 - scores, scores], axis=1) if scores.ndim == 1 else scores
    called = (scores >= threshold).astype(int) if scores.ndim == 1 else probs.argmax(axis=1)
    table = pd.DataFrame(
        {
            "path": [f"{k}.png" for k in range(len(y))],
            "patient": [f"p{g}" for g in groups],
            "split": "test",
            "label": [names[k] for k in y],
            "predicted": [names[k] for k in called],
        }
    )
    for k, name in enumerate(names):
        table[f"p_{name}"] = probs[:, k]
    samples = table[["path", "label"]].assign(
        sha256=[f"{k:064x}" for k in range(len(y))], group=table["patient"]
    )
    table[keep].to_csv(folder / "predictions.csv", index=False)
    samples.to_csv(folder / "samples.csv", index=False)
    (folder / "run.json").write_text('{"status": "finished"}')
    test = {"threshold": threshold if positive else None, "n_patients": len(set(groups.tolist()))}
    facts = {"class_names": list(names), "positive_class": positive, "test": test}
    (folder / "metrics.json").write_text(json.dumps(facts))
    (folder / "openings.jsonl").write_text("{}\n" * n_openings)
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path, tuple[Ints, Floats, Floats, Ints]]:
    y, a, b, groups = two_scores(40, 7, gain=(2.0, 0.8))
    a, b = (1 / (1 + np.exp(1 - s)) for s in (a, b))
    first = write_run(tmp_path / "a", y, a, groups)
    second = write_run(tmp_path / "b", y, b, groups, threshold=0.4)
    return first, second, (y, a, b, groups)


class TestCompare:
    def test_gives_every_figure_of_both_and_the_difference(self, pair: Any) -> None:
        first, second, (y, a, b, _) = pair
        facts = hilum.compare(first, second).to_dict()
        json.dumps(facts, allow_nan=False)
        assert (facts["n"], facts["n_patients"]) == (len(y), 40)
        assert facts["raters"] == [
            {"name": "a", "kind": "run", "threshold": 0.5, "n_openings": 1},
            {"name": "b", "kind": "run", "threshold": 0.4, "n_openings": 1},
        ]
        found = facts["comparisons"][0]
        assert list(found) == [
            *("a", "b", "auroc", "sensitivity", "specificity", "balanced_accuracy"),
            *("accuracy", "brier", "patients", "patients_reason"),
        ]
        decided = (a >= 0.5, b >= 0.4)
        for name, values in {
            "auroc": [metrics.auroc(y, s) for s in (a, b)],
            "sensitivity": [metrics.sensitivity(y, c) for c in decided],
            "specificity": [metrics.specificity(y, c) for c in decided],
            "balanced_accuracy": [metrics.balanced_accuracy(y, c) for c in decided],
            "accuracy": [metrics.accuracy(y, c) for c in decided],
            "brier": [metrics.brier(y, s) for s in (a, b)],
        }.items():
            entry = found[name]
            assert [entry[side]["value"] for side in "ab"] == pytest.approx(values), name
            assert entry["difference"]["value"] == pytest.approx(values[0] - values[1]), name
            for part in ("a", "b", "difference"):
                assert entry[part]["ci_low"] < entry[part]["value"] < entry[part]["ci_high"]
            assert 0 < entry["p"] <= 1
        assert found["auroc"]["p"] < 0.05
        assert facts["notes"][0] == "Read from predictions.csv; no test split was opened."

    def test_files_and_order_do_not_matter_but_contents_do(self, pair: Any, tmp_path: Path) -> None:
        first, second, _ = pair
        straight = hilum.compare(first, second).to_dict()["comparisons"]
        for name in ("predictions.csv", "samples.csv"):
            table = pd.read_csv(second / name, dtype=str)
            table["path"] = "moved/" + table["path"]
            table.sample(frac=1, random_state=0).to_csv(second / name, index=False)
        found = hilum.compare(first, second).to_dict()["comparisons"]
        assert found[0]["auroc"]["difference"]["value"] == pytest.approx(
            straight[0]["auroc"]["difference"]["value"]
        )
        assert found[0]["brier"]["p"] == straight[0]["brier"]["p"]

    def test_the_order_of_classes_does_not_matter(self, pair: Any, tmp_path: Path) -> None:
        first, second, (y, _, b, groups) = pair
        straight = hilum.compare(first, second).to_dict()["comparisons"][0]
        turned = write_run(
            tmp_path / "turned/b", 1 - y, np.stack([b, 1 - b], 1), groups, names=NAMES[::-1]
        )
        # The threshold is that of the second run; what it called is in its table.
        table = pd.read_csv(turned / "predictions.csv", dtype=str)
        table["predicted"] = pd.read_csv(second / "predictions.csv", dtype=str)["predicted"]
        table.to_csv(turned / "predictions.csv", index=False)
        assert hilum.compare(first, turned).to_dict()["comparisons"][0] == straight
        assert hilum.compare(turned, first).to_dict()["comparisons"][0]["auroc"][
            "b"
        ] == pytest.approx(straight["auroc"]["a"])

    def test_many_classes(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        y, groups = rng.integers(0, 3, 90), rng.integers(0, 40, 90)
        folders = []
        for k in range(2):
            probs = rng.dirichlet([1, 1, 1], 90) + (0.3 + 0.5 * k) * np.eye(3)[y]
            probs /= probs.sum(axis=1, keepdims=True)
            folder = tmp_path / str(k)
            folders.append(
                write_run(folder, y, probs, groups, names=("x", "y", "z"), positive=None)
            )
        facts = hilum.compare(*folders).to_dict()
        found = facts["comparisons"][0]
        for name in ("auroc", "sensitivity", "specificity", "balanced_accuracy", "brier"):
            a, b = found[name]["a"]["value"], found[name]["b"]["value"]
            assert found[name]["difference"]["value"] == pytest.approx(a - b), name
            assert found[name]["p"] < 0.05, name

    def test_different_sets_are_refused_and_shared_on_demand(
        self, pair: Any, tmp_path: Path
    ) -> None:
        first, _, (y, _, b, groups) = pair
        fewer = write_run(tmp_path / "fewer", y, b, groups, keep=slice(10, None))
        with pytest.raises(DataError) as caught:
            hilum.compare(first, fewer)
        n = len(y)
        assert str(caught.value) == (
            f"The test images differ: a has {n}; fewer has {n - 10}; {n - 10} are the same by "
            "content. Compare on these alone with --shared."
        )
        facts = hilum.compare(first, fewer, shared_only=True).to_dict()
        assert facts["n"] == n - 10
        assert facts["n_shared"] == {"shared": n - 10, "left_out": {"a": 10, "fewer": 0}}
        assert facts["warnings"][-1] == "Images that not all have were left out: 10 of a."

    def test_labels_that_disagree_are_refused(self, pair: Any, tmp_path: Path) -> None:
        first, _, (y, _, b, groups) = pair
        other = write_run(tmp_path / "other", np.r_[1 - y[0], y[1:]], b, groups)
        with pytest.raises(DataError) as caught:
            hilum.compare(first, other)
        assert str(caught.value) == (
            f"The labels differ for 1 images: 0.png is '{NAMES[y[0]]}' in a and "
            f"'{NAMES[1 - y[0]]}' in other. Find out which is right."
        )

    def test_a_cross_validation_is_refused(self, pair: Any) -> None:
        first, second, _ = pair
        (second / "metrics.json").write_text(
            json.dumps({"class_names": NAMES, "positive_class": NAMES[1], "oof": {}, "folds": []})
        )
        with pytest.raises(RunError) as caught:
            hilum.compare(first, second)
        assert str(caught.value) == (
            f"{second} has no test split: it is a cross-validation. Runs are compared on the same "
            "test images: train without --folds, with a test split."
        )

    def test_other_questions_are_refused(self, pair: Any, tmp_path: Path) -> None:
        first, _, (y, a, _, groups) = pair
        turned = write_run(tmp_path / "turned", y, a, groups, positive="normal")
        with pytest.raises(DataError, match="a looks for 'pneumonia' and turned for 'normal'"):
            hilum.compare(first, turned)
        with pytest.raises(SettingError, match="given twice"):
            hilum.compare(first, first)
        with pytest.raises(RunError, match="is not a run folder"):
            hilum.compare(tmp_path / "nothing", first)

    def test_openings_and_many_pairs_are_warned_of(self, pair: Any, tmp_path: Path) -> None:
        first, second, (y, _, b, groups) = pair
        third = write_run(tmp_path / "third", y, b, groups, n_openings=3)
        facts = hilum.compare(first, second, third).to_dict()
        assert [(c["a"], c["b"]) for c in facts["comparisons"]] == [
            *(("a", "b"), ("a", "third"), ("b", "third"))
        ]
        assert "The test split of third was opened 3 times" in facts["warnings"][0]
        assert facts["warnings"][1].startswith("3 pairs are compared")


def pooled_run(
    folder: Path, y: Ints, scores: Floats, groups: Ints, *, threshold: float
) -> tuple[Path, Ints, Floats]:
    """Write a run that pools the images of a patient by the mean; also give what it pooled."""
    run = write_run(folder, y, scores, groups)
    n = int(groups.max()) + 1
    means = np.array([scores[groups == g].mean() for g in range(n)])
    truth = np.array([y[groups == g].max() for g in range(n)])
    table = pd.DataFrame(
        {
            "patient": [f"p{g}" for g in range(n)],
            "split": "test",
            "n_images": np.bincount(groups),
            "label": [NAMES[k] for k in truth],
            "predicted": [NAMES[int(p >= threshold)] for p in means],
            "p_normal": 1 - means,
            "p_pneumonia": means,
        }
    )
    table.iloc[::-1].to_csv(run / "patients.csv", index=False)
    facts = json.loads((run / "metrics.json").read_text())
    facts["test"]["patients"] = {"n": n}
    (run / "metrics.json").write_text(json.dumps(facts))
    return run, truth, means


class TestPatients:
    @pytest.fixture
    def runs(self, tmp_path: Path) -> Any:
        y, a, b, groups = two_scores(40, 5)
        probs = [1 / (1 + np.exp(-score)) for score in (a, b)]
        first = pooled_run(tmp_path / "a", y, probs[0], groups, threshold=0.5)
        return first, pooled_run(tmp_path / "b", y, probs[1], groups, threshold=0.7)

    def test_runs_are_compared_by_their_own_pooling_and_threshold(self, runs: Any) -> None:
        (a, truth, first), (b, _, second) = runs
        found = hilum.compare(a, b).to_dict()["comparisons"][0]["patients"]
        assert found["n"] == 40
        assert found["auroc"]["a"]["value"] == pytest.approx(slow_auroc(truth, first))
        assert found["auroc"]["b"]["value"] == pytest.approx(slow_auroc(truth, second))
        called = (first >= 0.5, second >= 0.7)
        shares = [float((c == truth).mean()) for c in called]
        assert [found["accuracy"][side]["value"] for side in ("a", "b")] == pytest.approx(shares)
        assert found["accuracy"]["difference"]["value"] == pytest.approx(shares[0] - shares[1])
        assert found["accuracy"]["difference"]["n"] == 40
        text = CliRunner().invoke(app, ["compare", str(a), str(b)]).stdout
        assert "By patient, n = 40" in text

    def test_why_not(self, runs: Any, tmp_path: Path) -> None:
        (a, *_), (b, *_) = runs
        table = pd.read_csv(b / "predictions.csv")
        table["patient"] = "one"
        (tmp_path / "c").mkdir()
        for name in ("run.json", "metrics.json", "samples.csv", "openings.jsonl"):
            (tmp_path / "c" / name).write_bytes((b / name).read_bytes())
        table.to_csv(tmp_path / "c" / "predictions.csv", index=False)
        one = pd.read_csv(b / "patients.csv").head(1).assign(patient="one")
        one.to_csv(tmp_path / "c" / "patients.csv", index=False)
        pair = hilum.compare(a, tmp_path / "c").to_dict()["comparisons"][0]
        assert pair["patients"] is None
        assert pair["patients_reason"] == (
            "the two runs do not take the same images for one patient's"
        )
        (b / "patients.csv").unlink()
        facts = json.loads((b / "metrics.json").read_text())
        facts["test"] |= {"patients": None, "patients_reason": "no patient is known"}
        (b / "metrics.json").write_text(json.dumps(facts))
        pair = hilum.compare(a, b).to_dict()["comparisons"][0]
        assert pair["patients_reason"] == "b: no patient is known"


class TestReaders:
    def test_scores_and_decisions_of_several_readers(self, pair: Any, tmp_path: Path) -> None:
        first, _, (y, _, b, _) = pair
        paths = [f"{k}.png" for k in range(len(y))]
        rows = [
            {
                "path": path,
                "reader": reader,
                "score": int(5 * s) + k,
                "decision": NAMES[int(s > 0.5)],
            }
            for k, reader in enumerate(("Dr A", "Dr B"))
            for path, s in zip(paths, b, strict=True)
        ]
        table = tmp_path / "readers.csv"
        pd.DataFrame(rows).to_csv(table, index=False)
        facts = hilum.compare(first, table).to_dict()
        assert [(c["a"], c["b"]) for c in facts["comparisons"]] == [
            *(("a", "Dr A"), ("a", "Dr B"), ("Dr A", "Dr B"))
        ]
        found = facts["comparisons"][0]
        assert found["auroc"]["b"]["value"] == pytest.approx(slow_auroc(y, (5 * b).astype(int)))
        assert found["sensitivity"]["b"]["value"] == pytest.approx((b[y == 1] > 0.5).mean())
        assert found["brier"]["b"]["reason"] == "Dr A gave no probabilities"
        same = facts["comparisons"][2]
        assert same["sensitivity"]["p"] == 1

    def test_files_with_readers_of_the_same_names(self, pair: Any, tmp_path: Path) -> None:
        first, _, (y, _, _, _) = pair
        rows = [
            {"path": f"{k}.png", "reader": reader, "decision": NAMES[label]}
            for reader in ("alice", "bob")
            for k, label in enumerate(y)
        ]
        tables = [tmp_path / "without.csv", tmp_path / "with.csv"]
        for table in tables:
            pd.DataFrame(rows).to_csv(table, index=False)
        facts = hilum.compare(first, *tables).to_dict()
        names = {name for c in facts["comparisons"] for name in (c["a"], c["b"])}
        assert names == {"a", *(f"{r} ({t})" for r in ("alice", "bob") for t in tables)}

    def test_scores_of_a_test_of_one_class_are_not_called_missing(self, tmp_path: Path) -> None:
        _, a, _, groups = two_scores(20, 0)
        y, a = np.zeros(len(a), dtype=np.intp), 1 / (1 + np.exp(-a))
        run = write_run(tmp_path / "a", y, a, groups)
        table = tmp_path / "reader.csv"
        pd.DataFrame({"path": [f"{k}.png" for k in range(len(y))], "score": a}).to_csv(table)
        found = hilum.compare(run, table).to_dict()["comparisons"][0]["auroc"]
        for part in ("b", "difference"):
            assert found[part]["value"] is None
            assert found[part]["reason"] == "no image has the class, or all have it"
        assert found["a"]["reason"] == f"no pneumonia among the {len(y)} images"

    def test_decisions_alone_have_no_auroc(self, pair: Any, tmp_path: Path) -> None:
        first, _, (y, _, _, _) = pair
        table = tmp_path / "reader.csv"
        rows = {"path": [f"{k}.png" for k in range(len(y))], "decision": [NAMES[k] for k in y]}
        pd.DataFrame(rows).to_csv(table, index=False)
        found = hilum.compare(first, table).to_dict()["comparisons"][0]
        assert found["auroc"]["p"] is None
        assert found["auroc"]["difference"]["reason"] == "reader gave decisions and no scores"
        assert found["accuracy"]["b"]["value"] == 1

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            (["path,grade", "0.png,3"], "needs path, and score or decision"),
            (["path,decision", "x.png,normal"], "1 images that are not test images"),
            (["path,decision", "0.png,ill"], "the decisions 'ill', which are no classes"),
            (["path,score", "0.png,high"], "no number as score for '0.png'"),
            (["path,score", "0.png,1", "0.png,2"], "several rows of reader t for '0.png'"),
        ],
    )
    def test_tables_at_fault(
        self, pair: Any, tmp_path: Path, rows: list[str], message: str
    ) -> None:
        table = tmp_path / "t.csv"
        table.write_text("\n".join(rows))
        with pytest.raises(DataError, match=message):
            hilum.compare(pair[0], table)


def test_command(pair: Any) -> None:
    first, second, _ = pair
    result = CliRunner().invoke(app, ["compare", str(first), str(second)])
    assert result.exit_code == 0, result.output
    assert "a (A) against b (B)" in result.stdout
    assert "A - B" in result.stdout
    as_json = CliRunner().invoke(app, ["compare", str(first), str(second), "--json"])
    assert json.loads(as_json.stdout)["comparisons"][0]["auroc"]["p"] < 0.05


# -- several labels, and grades --------------------------------------------------------------------


def write_label_run(
    folder: Path, y: Floats, probs: Floats, groups: Ints, names: tuple[str, ...]
) -> Path:
    """Write what `compare` reads of a run with several labels an image."""
    folder.mkdir(parents=True)
    table = pd.DataFrame(
        {"path": [f"{k}.png" for k in range(len(y))], "patient": groups.astype(str)}
    ).assign(
        split="test",
        **label_columns(y, names),
        predicted=joined_cells(probs >= 0.5, names),
        **{f"p_{name}": probs[:, k] for k, name in enumerate(names)},
    )
    table.to_csv(folder / "predictions.csv", index=False)
    table[["path"]].assign(
        sha256=[f"{k:064x}" for k in range(len(y))], group=table["patient"]
    ).to_csv(folder / "samples.csv", index=False)
    (folder / "run.json").write_text('{"status": "finished"}')
    test: dict[str, Any] = {
        "threshold": None,
        "n_patients": len(set(groups.tolist())),
        "labels": {},
    }
    facts = {"class_names": list(names), "positive_class": None, "test": test}
    (folder / "metrics.json").write_text(json.dumps(facts))
    (folder / "openings.jsonl").write_text("{}\n")
    return folder


@pytest.fixture
def label_pair(tmp_path: Path) -> tuple[Path, Path, tuple[Floats, Floats, Floats, Ints]]:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 2)
    y = (rng.random((40, 2)) < 0.4)[groups].astype(float)
    a, b = (1 / (1 + np.exp(-gain * (y - 0.5) - rng.normal(size=y.shape))) for gain in (4, 1))
    y[rng.random(y.shape) < 0.1] = np.nan
    first = write_label_run(tmp_path / "a", y, a, groups, ("x", "y"))
    # The other run holds the labels in another order.
    second = write_label_run(tmp_path / "b", y[:, ::-1], b[:, ::-1], groups, ("y", "x"))
    return first, second, (y, a, b, groups)


class TestLabels:
    def test_each_label_is_compared_where_it_is_known(self, label_pair: Any) -> None:
        first, second, (y, a, b, groups) = label_pair
        facts = hilum.compare(first, second).to_dict()
        json.dumps(facts, allow_nan=False)
        (found,) = facts["comparisons"]
        for k, name in enumerate(("x", "y")):
            known = ~np.isnan(y[:, k])
            truth = y[known, k].astype(int)
            alone = delong(
                truth,
                [1],
                [(a[known, k], b[known, k])],
                Clusters.of(groups[known], int(known.sum())),
            )
            told = found["labels"][name]["auroc"]
            assert told["difference"]["value"] == pytest.approx(alone.estimate.value)
            assert told["p"] == pytest.approx(alone.p)
            assert told["a"]["value"] == pytest.approx(slow_auroc(truth, a[known, k]))
            assert found["labels"][name]["sensitivity"]["a"]["n"] == int(truth.sum())

    def test_means_hold_patients_together(self, label_pair: Any) -> None:
        first, second, _ = label_pair
        (found,) = hilum.compare(first, second).to_dict()["comparisons"]
        for figure in ("auroc", "sensitivity", "specificity", "accuracy", "brier"):
            for part in ("a", "b", "difference"):
                values = [found["labels"][name][figure][part]["value"] for name in ("x", "y")]
                assert found[figure][part]["value"] == pytest.approx(np.mean(values)), figure
            assert found[figure]["difference"]["ci_low"] is not None
            assert found[figure]["p"] < 0.05

    def test_readers_give_labels(self, label_pair: Any, tmp_path: Path) -> None:
        first, _, (y, _, _, _) = label_pair
        said = joined_cells(np.nan_to_num(y) == 1, ("x", "y"))
        table = pd.DataFrame({"path": [f"{k}.png" for k in range(len(y))], "decision": said})
        table.to_csv(tmp_path / "reader.csv", index=False)
        (found,) = hilum.compare(first, tmp_path / "reader.csv").to_dict()["comparisons"]
        assert found["sensitivity"]["b"]["value"] == 1
        assert found["auroc"]["difference"]["reason"] == "reader gave decisions and no scores"
        table.assign(decision="z").to_csv(tmp_path / "reader.csv", index=False)
        with pytest.raises(DataError, match="has the decisions 'z', which are no classes"):
            hilum.compare(first, tmp_path / "reader.csv")

    def test_command(self, label_pair: Any) -> None:
        first, second, _ = label_pair
        told = CliRunner().invoke(app, ["compare", str(first), str(second)])
        assert told.exit_code == 0, told.output
        assert "Means over the labels" in told.output
        assert "\n    x\n" in told.output


def test_grades_are_compared_by_kappa(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 2)
    y = rng.integers(0, 4, 40)[groups]
    names = ("0", "1", "2", "3")
    runs = []
    for name, noise in (("a", 0.5), ("b", 1.5)):
        seen = y + noise * rng.normal(size=len(y))
        probs = np.exp(-((seen[:, None] - np.arange(4)) ** 2))
        probs /= probs.sum(axis=1, keepdims=True)
        run = write_run(tmp_path / name, y, probs, groups, names=names, positive=None)
        facts = json.loads((run / "metrics.json").read_text())
        facts["test"]["quadratic_kappa"] = {}
        (run / "metrics.json").write_text(json.dumps(facts))
        runs.append((run, probs.argmax(axis=1)))
    with pytest.raises(hilum.SettingError, match="is given twice"):
        hilum.compare(runs[0][0], runs[1][0], runs[1][0])
    (found,) = hilum.compare(runs[0][0], runs[1][0]).to_dict()["comparisons"]
    kappas = [metrics.quadratic_kappa(y, called) for _, called in runs]
    told = found["quadratic_kappa"]
    assert [told["a"]["value"], told["b"]["value"]] == pytest.approx(kappas)
    assert told["difference"]["value"] == pytest.approx(kappas[0] - kappas[1])
    assert told["difference"]["ci_low"] > 0
    assert told["p"] < 0.05
    assert found["mean_absolute_error"]["difference"]["ci_high"] < 0
    assert found["ranked_probability_score"]["difference"]["ci_high"] < 0

    table = tmp_path / "reader.csv"
    said = [names[k] for k in runs[0][1]]
    pd.DataFrame({"path": [f"{k}.png" for k in range(len(y))], "decision": said}).to_csv(table)
    (found,) = hilum.compare(runs[0][0], table).to_dict()["comparisons"]
    for figure in ("brier", "ranked_probability_score"):
        for part in ("b", "difference"):
            assert found[figure][part]["reason"] == "reader gave no probabilities"
    # Nobody differs: unseen patients of two images may by up to three grades each.
    unseen = 1 - 0.025 ** (1 / 40)
    same = found["mean_absolute_error"]["difference"]
    assert (same["ci_low"], same["ci_high"]) == pytest.approx((-3 * unseen, 3 * unseen))
    shutil.copytree(runs[0][0], tmp_path / "again")
    (found,) = hilum.compare(runs[0][0], tmp_path / "again").to_dict()["comparisons"]
    for figure, most in (("brier", 2), ("ranked_probability_score", 1)):
        assert found[figure]["difference"]["ci_high"] == pytest.approx(most * unseen)
