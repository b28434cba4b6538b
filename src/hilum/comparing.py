"""Two models, or a model and readers, on the same test images: paired differences.

Nothing is predicted here and no test split is opened: what runs and readers said of the same files
(by SHA-256) is read from predictions.csv and from tables. docs/statistics.md gives the methods.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hilum import resampling
from hilum.errors import RunError
from hilum.estimates import Study, fewer_patients
from hilum.intervals import Estimate
from hilum.metrics import rank_losses
from hilum.multilabel import POSITIVE, mean_over_labels, two_classes, with_complement
from hilum.paired import (
    ONE_SIDED,
    Difference,
    Sides,
    compare_areas,
    compare_kappas,
    mean_difference,
)
from hilum.raters import Patients, Rater, Sheet, matched, reader_sheets, run_sheet, with_names
from hilum.resampling import Bools, Clusters, Floats, Ints
from hilum.splits import join_groups
from hilum.targets import truths

N_RESAMPLES = 2000

# Figures that rest on decisions alone.
_DECIDED = ("sensitivity", "specificity", "balanced_accuracy", "accuracy")

# Figures of ordinal grades; the last rests on probabilities.
_GRADED = ("quadratic_kappa", "mean_absolute_error", "ranked_probability_score")


@dataclass(frozen=True)
class Comparison:
    """Paired comparisons on the same images.

    Attributes
    ----------
    facts : dict
        JSON-able: 'n', 'n_patients', 'n_shared', 'class_names', 'positive_class', 'raters',
        'comparisons' (each with 'a', 'b' and figures {'a', 'b', 'difference', 'p'}; 'patients'
        holds the same by patient, or is None, and 'patients_reason' says why), 'warnings', 'notes'.
    """

    facts: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return self.facts


def compare(
    first: str | Path, second: str | Path, *others: str | Path, shared_only: bool = False
) -> Comparison:
    """Compare models, or a model and readers, on the same test images.

    Each pair is compared: AUROC (DeLong, by patient), and at the locked thresholds sensitivity,
    specificity, balanced accuracy, accuracy, and the Brier score; of ordinal grades also quadratic
    kappa and the mean error in grades; of several labels each, and the means over them. No test
    split is opened: the predictions that the runs wrote are read. Where patients have several
    images, two runs are also compared by patient, each by its own pooling and threshold.

    Parameters
    ----------
    first : path
        A finished run.
    second, others : path
        Further runs, or tables of readers (CSV) with the column path and score (higher is more
        likely the positive class), decision (a class), or both; with a column reader, each reader
        counts for itself.
    shared_only : bool
        Compare on the images that all have, where the sets differ; otherwise that is refused.

    Raises
    ------
    RunError
        If a folder is no finished run.
    DataError
        If the images differ, or their labels do, or a table is at fault.

    Examples
    --------
    >>> hilum.compare("runs/a", "runs/b").to_dict()["comparisons"][0]["auroc"]  # doctest: +SKIP
    {'a': {…}, 'b': {…}, 'difference': {'value': 0.02, 'ci_low': 0.01, …}, 'p': 0.004}
    """
    if not (Path(first) / "run.json").is_file():
        raise RunError(
            f"{first} is not a run folder. The first argument is a run, whose test images and "
            "labels the others are held against."
        )
    sheets = [run_sheet(Path(first))]
    for path in (Path(second), *map(Path, others)):
        sheets += [run_sheet(path)] if path.is_dir() else reader_sheets(path, sheets[0])
    sheets = with_names(sheets)
    base, counts = matched(sheets, shared_only=shared_only)
    names, positive = sheets[0].class_names, sheets[0].positive
    clusters = Clusters.of(base["group"].to_numpy(), len(base))
    raters = [sheet.rater(list(base["key"]), names) for sheet in sheets]
    bench = _bench(base, sheets[0], clusters)
    whole = not any(counts["left_out"].values())
    pairs = [
        bench.compare(a, b) | _by_patient(*two, whole=whole)
        for (a, b), two in zip(
            itertools.combinations(raters, 2), itertools.combinations(sheets, 2), strict=True
        )
    ]
    return Comparison(
        {
            "n": len(base),
            "n_patients": clusters.n if sheets[0].patients_known else None,
            "n_shared": counts,
            "class_names": list(names),
            "positive_class": positive,
            "target": sheets[0].target,
            "raters": [{"name": r.name, "kind": r.kind, **r.facts} for r in raters],
            "comparisons": pairs,
            "warnings": _warnings(raters, pairs, counts),
            "notes": [
                "Read from predictions.csv; no test split was opened.",
                "A difference is the first minus the second.",
            ],
        }
    )


def _warnings(
    raters: Sequence[Rater], pairs: Sequence[dict[str, Any]], counts: dict[str, Any]
) -> list[str]:
    found = [
        f"The test split of {rater.name} was opened {rater.facts['n_openings']} times: whoever "
        "chose between models by it has used it up, and its figures flatter what was chosen."
        for rater in raters
        if rater.facts.get("n_openings", 1) > 1
    ]
    if len(pairs) > 1:
        found.append(
            f"{len(pairs)} pairs are compared, with several figures each. By chance alone 1 in 20 "
            "p-values is below 0.05: name one comparison before you look, or divide 0.05 by their "
            "number."
        )
    elif pairs:
        found.append(
            "Several figures are compared: name the one that decides before you look. The others "
            "explain it."
        )
    if any(counts["left_out"].values()):
        left = ", ".join(f"{n:,} of {name}" for name, n in counts["left_out"].items() if n)
        found.append(f"Images that not all have were left out: {left}.")
    return found


# -- by patient ------------------------------------------------------------------------------------


def _by_patient(a: Sheet, b: Sheet, *, whole: bool) -> dict[str, Any]:
    """Compare two runs by patient, each by its own pooling and threshold, or say why not."""
    if a.patients is None or b.patients is None:
        lost = a if a.patients is None else b
        return {"patients": None, "patients_reason": f"{lost.name}: {lost.no_patients}"}
    reason = _not_by_patient(a.patients, b.patients, whole=whole)
    if reason:
        return {"patients": None, "patients_reason": reason}
    base = a.patients.table.sort_values("key").reset_index(drop=True)
    keys = list(base["key"])
    groups = [
        list(sheet.set_index("key").loc[keys, "group"])
        for sheet in (a.patients.table, b.patients.table)
    ]
    clusters = Clusters.of(join_groups(*groups), len(base))
    raters = [
        replace(sheet, table=found.table).rater(keys, a.class_names)
        for sheet, found in ((a, a.patients), (b, b.patients))
    ]
    found = _bench(base, a, clusters).compare(*raters)
    figures = {name: value for name, value in found.items() if name not in ("a", "b")}
    return {"patients": {"n": len(base)} | figures}


def _not_by_patient(a: Patients, b: Patients, *, whole: bool) -> str:
    """Say why two runs cannot be compared by patient, '' where they can."""
    if not whole:
        return "images were left out that the runs pooled"
    if not a.owner.equals(b.owner.loc[a.owner.index]):
        return "the two runs do not take the same images for one patient's"
    if set(a.table["key"]) != set(b.table["key"]):
        return "the two runs do not give the same patients a label"
    return ""


# -- figures ---------------------------------------------------------------------------------------


def _bench(rows: pd.DataFrame, sheet: Sheet, clusters: Clusters) -> _Bench | _LabelBench:
    """Lay out images, or patients, with their labels."""
    names, positive = sheet.class_names, sheet.positive
    true = truths(rows, names, sheet.target)
    if sheet.target == "multilabel":
        return _LabelBench(true, clusters, names)
    k = names.index(positive) if positive else None
    return _Bench(true, clusters, names, k, sheet.target == "ordinal")


@dataclass(frozen=True)
class _Bench:
    """The images that raters are held against each other on."""

    true: Ints
    clusters: Clusters
    class_names: tuple[str, ...]
    positive: int | None
    ordinal: bool = False
    block: Ints | None = None

    @property
    def present(self) -> list[int]:
        """Classes that figures are means over."""
        if self.positive is not None:
            return [self.positive]
        return [int(k) for k in np.unique(self.true)]

    def compare(self, a: Rater, b: Rater) -> dict[str, Any]:
        """Compare two raters by every figure that both have."""
        own = [self.own(rater) for rater in (a, b)]
        n = len(self.true)
        found: dict[str, Any] = {"a": a.name, "b": b.name}
        for name, difference in self.differences(a, b).items():
            parts = [
                figures.get(name, Estimate.undefined(_lacking(name, rater), n))
                for rater, figures in zip((a, b), own, strict=True)
            ]
            found[name] = {
                "a": parts[0].as_json(),
                "b": parts[1].as_json(),
                "difference": difference.estimate.as_json(),
                "p": difference.p,
            }
        return found

    def own(self, rater: Rater) -> dict[str, Estimate]:
        """Figures of one rater on these images."""
        n, n_classes = len(self.true), len(self.class_names)
        found: dict[str, Estimate] = {}
        if rater.called is not None:
            probs = rater.probs if rater.kind == "run" else None
            study = self.study(np.zeros((n, n_classes)) if probs is None else probs, rater.called)
            names: tuple[str, ...] = (
                _DECIDED if probs is None else (*_DECIDED, "auroc", "brier", *_GRADED)
            )
            if self.ordinal and probs is None:
                names = (*_DECIDED, *_GRADED[:2])
            found = {name: value for name, value in study.figures.items() if name in names}
        if rater.kind == "reader" and rater.probs is not None:
            found["auroc"] = self.area(rater.probs[:, 0])
        return found

    def area(self, score: Floats) -> Estimate:
        """AUROC of a reader's scores."""
        true, n = self.true == self.positive, len(self.true)
        if true.all() or not true.any():
            return Estimate.undefined(ONE_SIDED, n)
        study = self.study(np.zeros((n, len(self.class_names))), np.zeros(n, dtype=np.intp))
        return study.area(true, score)

    def study(self, probs: Floats, called: Ints) -> Study:
        names, positive = self.class_names, self.positive
        return Study(
            self.true,
            probs,
            called,
            names,
            positive,
            self.clusters,
            0,
            N_RESAMPLES,
            self.ordinal,
            self.block,
        )

    def differences(self, a: Rater, b: Rater) -> dict[str, Difference]:
        """Every figure's difference, in the order in which they are shown."""
        everyone = [np.ones(len(self.true), dtype=bool)]
        # Of two classes both are needed: the mean of one would be a sensitivity or a specificity.
        of = np.unique(self.true) if self.positive is None else np.arange(len(self.class_names))
        classes = [self.true == k for k in of]
        finding = [self.true == k for k in self.present]
        return {
            "auroc": self.areas(a, b),
            "sensitivity": self.shares("sensitivity", a, b, finding),
            "specificity": self.cleared(a, b),
            "balanced_accuracy": self.shares("balanced_accuracy", a, b, classes),
            "accuracy": self.shares("accuracy", a, b, everyone),
            "brier": self.briers(a, b),
            **(self.graded(a, b) if self.ordinal else {}),
        }

    def graded(self, a: Rater, b: Rater) -> dict[str, Difference]:
        """Differences of the figures that count how far answers lie from the truth."""
        kappa, error = _GRADED[:2]
        everyone, far = np.ones(len(self.true), dtype=bool), len(self.class_names) - 1.0
        if a.called is None or b.called is None:
            found = {name: self.undecided(name, a, b) for name in (kappa, error)}
        else:
            off = [
                np.abs(r.called - self.true).astype(np.float64)
                for r in (a, b)
                if r.called is not None
            ]
            found = {
                kappa: compare_kappas(self.true, a.called, b.called, self.clusters),
                error: mean_difference([off[0]], [off[1]], [everyone], self.clusters, most=far),
            }
        losses = []
        for rater in (a, b):
            if rater.kind != "run" or rater.probs is None:
                lost = Difference.undefined(_lacking("brier", rater), len(self.true))
                return found | {_GRADED[2]: lost}
            losses.append(rank_losses(self.true, rater.probs))
        return found | {
            _GRADED[2]: mean_difference([losses[0]], [losses[1]], [everyone], self.clusters)
        }

    def areas(self, a: Rater, b: Rater) -> Difference:
        """Difference of AUROCs; for many classes of their means."""
        for rater in (a, b):
            if rater.probs is None:
                return Difference.undefined(_lacking("auroc", rater), len(self.true))
        scores = [(self.column(a, k), self.column(b, k)) for k in self.present]
        sides = [Sides(self.true == k, self.true != k) for k in self.present]
        return compare_areas(sides, scores, self.clusters)

    def column(self, rater: Rater, k: int) -> Floats:
        assert rater.probs is not None
        return rater.probs[:, 0] if rater.kind == "reader" else rater.probs[:, k]

    def cleared(self, a: Rater, b: Rater) -> Difference:
        """Difference of specificities: the share of the others that is not called so."""
        if a.called is None or b.called is None:
            return self.undecided("specificity", a, b)
        first, second = ([r.called != k for k in self.present] for r in (a, b))
        return self.paired(first, second, [self.true != k for k in self.present])

    def shares(self, name: str, a: Rater, b: Rater, among: list[Bools]) -> Difference:
        """Difference of the mean share that is right among each of some sets of images."""
        if a.called is None or b.called is None:
            return self.undecided(name, a, b)
        first, second = ([np.asarray(r.called == self.true)] * len(among) for r in (a, b))
        return self.paired(first, second, among)

    def undecided(self, name: str, a: Rater, b: Rater) -> Difference:
        return Difference.undefined(_lacking(name, a if a.called is None else b), len(self.true))

    def paired(self, a: list[Any], b: list[Any], among: list[Bools]) -> Difference:
        """Difference of means of shares, from what each patient adds to it."""
        if not among or not all(part.any() for part in among):
            return Difference.undefined(ONE_SIDED, len(self.true))
        inside = [
            [np.where(part, hits, 0.0) for hits, part in zip(rows, among, strict=True)]
            for rows in (a, b)
        ]
        return mean_difference(inside[0], inside[1], among, self.clusters)

    def briers(self, a: Rater, b: Rater) -> Difference:
        """Difference of Brier scores; a reader's scores are no probabilities."""
        losses = []
        for rater in (a, b):
            if rater.kind != "run" or rater.probs is None:
                return Difference.undefined(_lacking("brier", rater), len(self.true))
            squares = (rater.probs - (self.true[:, None] == np.arange(len(self.class_names)))) ** 2
            losses.append(
                squares.sum(axis=1) if self.positive is None else squares[:, self.positive]
            )
        everyone, most = np.ones(len(self.true), dtype=bool), 2.0 if self.positive is None else 1.0
        return mean_difference([losses[0]], [losses[1]], [everyone], self.clusters, most=most)


@dataclass(frozen=True)
class _LabelBench:
    """The images that raters of several labels are held against each other on.

    Attributes
    ----------
    true : float array of shape (n_samples, n_labels)
        1, 0, or NaN where unknown.
    """

    true: Floats
    clusters: Clusters
    class_names: tuple[str, ...]

    def compare(self, a: Rater, b: Rater) -> dict[str, Any]:
        """Compare two raters on each label, and by the means over those with both outcomes."""
        labels = {}
        rows: list[tuple[_Bench, tuple[Rater, Rater]]] = []
        blocks = resampling.blocks(self.clusters.n, 0)
        for k, name in enumerate(self.class_names):
            known = ~np.isnan(self.true[:, k])
            bench = _Bench(
                self.true[known, k].astype(np.intp),
                self.clusters.of_part(known),
                two_classes(name),
                POSITIVE,
                block=blocks[0][np.unique(self.clusters.index[known])],
            )
            pair = (_on_label(a, k, known), _on_label(b, k, known))
            found = bench.compare(*pair)
            labels[name] = {key: value for key, value in found.items() if key not in ("a", "b")}
            if len(np.unique(bench.true)) == 2:
                rows.append((bench, pair))
        whole: dict[str, Any] = {"a": a.name, "b": b.name}
        differences = self.differences(a, b)
        own = [[bench.own(pair[side]) for bench, pair in rows] for side in (0, 1)]
        for figure, difference in differences.items():
            parts = [
                self.mean(figure, rater, [bench for bench, _ in rows], mine, blocks[1])
                for rater, mine in zip((a, b), own, strict=True)
            ]
            whole[figure] = {
                "a": parts[0].as_json(),
                "b": parts[1].as_json(),
                "difference": difference.estimate.as_json(),
                "p": difference.p,
            }
        return whole | {"labels": labels}

    def mean(
        self,
        figure: str,
        rater: Rater,
        benches: list[_Bench],
        own: list[dict[str, Estimate]],
        n_blocks: int,
    ) -> Estimate:
        """Mean of a rater's figure over labels."""
        n = len(self.true)
        if any(figure not in figures for figures in own):
            return Estimate.undefined(_lacking(figure, rater), n)
        fewest = (fewer_patients(bench.true == POSITIVE, bench.clusters) for bench in benches)
        return mean_over_labels(
            figure,
            [(figures[figure], bench.block) for bench, figures in zip(benches, own, strict=True)],
            n=n,
            n_patients=self.clusters.n,
            fewest=min(fewest, default=0),
            n_blocks=n_blocks,
        )

    def differences(self, a: Rater, b: Rater) -> dict[str, Difference]:
        """Differences of means over labels, from what each patient adds to all of them."""
        sides = [Sides(y == 1, y == 0) for y in self.true.T]
        both = [k for k, (with_it, without) in enumerate(sides) if with_it.any() and without.any()]
        asked = [sides[k] for k in both]
        known = [side.positive | side.negative for side in asked]
        n = len(self.true)
        found = {}
        if a.probs is not None and b.probs is not None:
            scores = [(a.probs[:, k], b.probs[:, k]) for k in both]
            found["auroc"] = compare_areas(asked, scores, self.clusters)
            losses = [
                [
                    np.where(part, (r.probs[:, k] - (self.true[:, k] == 1)) ** 2, 0.0)
                    for k, part in zip(both, known, strict=True)
                ]
                for r in (a, b)
                if r.probs is not None
            ]
            found["brier"] = mean_difference(losses[0], losses[1], known, self.clusters)
        else:
            lost = a if a.probs is None else b
            for name in ("auroc", "brier"):
                found[name] = Difference.undefined(_lacking(name, lost), n)
        with_it, without = ([side[i] for side in asked] for i in (0, 1))
        sets = {
            "sensitivity": (both, with_it),
            "specificity": (both, without),
            "balanced_accuracy": (both * 2, with_it + without),
            "accuracy": (both, known),
        }
        for name, (columns, among) in sets.items():
            if a.called is None or b.called is None:
                lost = a if a.called is None else b
                found[name] = Difference.undefined(_lacking(name, lost), n)
                continue
            right = [
                [
                    np.where(part, 1.0 * (called[:, k] == self.true[:, k]), 0.0)
                    for k, part in zip(columns, among, strict=True)
                ]
                for called in (a.called, b.called)
            ]
            found[name] = mean_difference(right[0], right[1], among, self.clusters)
        return {name: found[name] for name in ("auroc", *_DECIDED, "brier")}


def _on_label(rater: Rater, k: int, known: Bools) -> Rater:
    """Give what a rater said of one label, on the images of which it is known."""
    called = None if rater.called is None else rater.called[known, k]
    probs = None if rater.probs is None else with_complement(rater.probs[known, k])
    return Rater(rater.name, rater.kind, called, probs, rater.facts)


def _lacking(figure: str, rater: Rater) -> str:
    """Say why a rater has no such figure."""
    if figure in ("brier", _GRADED[2]):
        return f"{rater.name} gave no probabilities"
    if figure == "auroc":
        return f"{rater.name} gave decisions and no scores"
    return f"{rater.name} gave scores and no decisions"
