"""Every figure of a split with its interval: what a table of a paper holds.

`describe` gives them as metrics.json keeps them. Figures are those of `hilum.metrics`, intervals
those of `hilum.intervals`; here they meet, for two classes or more, and for grades of an order.
Several labels of one image are as many studies of two classes: `hilum.multilabel`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hilum import intervals, reliability, resampling, utility
from hilum.bands import reliability_curve
from hilum.calibration import check_probabilities
from hilum.calls import Target, called_classes
from hilum.errors import DataError, SettingError
from hilum.intervals import Estimate, Interval
from hilum.metrics import (
    above_cuts,
    brier_losses,
    checked_probs,
    confusion_matrix,
    equal_bins,
    kappa_of,
    kappa_parts,
    rank_losses,
)
from hilum.ranking import Ranking, auroc_without, placements
from hilum.resampling import Bools, Clusters, Floats, Ints, Weightings
from hilum.targets import TargetKind

_ONE_VS_REST = ("auroc", "average_precision", "sensitivity", "specificity", "precision", "f1")


def describe(
    y_true: ArrayLike,
    probs: ArrayLike,
    *,
    class_names: Sequence[str],
    positive: int | None,
    threshold: float | None,
    groups: ArrayLike | None = None,
    prevalences: Sequence[float] = (),
    ordinal: bool = False,
    seed: int = 0,
    n_resamples: int = 2000,
) -> dict[str, Any]:
    """Give every figure of one split with its 95 % interval, ready for metrics.json.

    Parameters
    ----------
    y_true : int array of shape (n_samples,)
        Class of each sample, an index into `class_names`.
    probs : float array of shape (n_samples, n_classes)
    class_names : sequence of str
    positive : int or None
        Two classes: the one whose figures are given, called where its probability is at least
        `threshold`. More: None; the most probable class is called (`Study.called` takes other
        decisions), and figures are means over the classes that are present.
    threshold : float or None
    groups : array of shape (n_samples,), optional
        Patient of each sample. None where no patient is known: then samples are taken for
        independent, and 'n_patients' is None.
    prevalences : sequence of float in (0, 1)
        Two classes: prevalences to give predictive values and net benefit at, besides the usual.
    ordinal : bool
        The classes are grades in their order: the median grade is called, and figures of distance
        are added.
    seed, n_resamples : int
        Of the bootstrap over patients.

    Returns
    -------
    dict
        One part of metrics.json. A figure is {'value', 'ci_low', 'ci_high', 'n', 'method'} with n
        the samples that it rests on; what cannot be estimated is None and has a 'reason'.

    Raises
    ------
    DataError
        If lengths differ, a class is unknown, or a probability is NaN or outside [0, 1].
    SettingError
        If `positive` and `threshold` do not suit the number of classes, or a prevalence is not
        between 0 and 1.
    """
    wanted = utility.check_prevalences(prevalences)
    study = study_of(
        y_true,
        probs,
        class_names=class_names,
        positive=positive,
        threshold=threshold,
        groups=groups,
        ordinal=ordinal,
        seed=seed,
        n_resamples=n_resamples,
    )
    return study.describe(threshold, wanted)


def study_of(
    y_true: ArrayLike,
    probs: ArrayLike,
    *,
    class_names: Sequence[str],
    positive: int | None,
    threshold: float | None,
    groups: ArrayLike | None = None,
    patients_known: bool = True,
    ordinal: bool = False,
    seed: int = 0,
    n_resamples: int = 2000,
) -> Study:
    """Check what `describe` was given, and decide each image; parameters and errors as there.

    Without `patients_known`, `groups` only join copies of a file.
    """
    n_classes = len(class_names)
    array = np.asarray(probs, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != n_classes:
        raise DataError(
            f"probs has shape {array.shape} and there are {n_classes} classes: give one column for "
            "each class."
        )
    true, array = checked_probs(y_true, array)
    check_probabilities(array, "probs")
    _check_positive(n_classes, positive, threshold)
    clusters = Clusters.of(groups, len(true))
    target = Target("ordinal" if ordinal else "classes", positive)
    return Study(
        true,
        array,
        called_classes(array, target, None if threshold is None else [threshold]),
        tuple(class_names),
        positive,
        replace(clusters, known=clusters.known and patients_known),
        seed,
        n_resamples,
        ordinal,
    )


@dataclass(frozen=True)
class Study:
    """One split: truth, probabilities, decisions, patients, and the resamples they share.

    `block` is the block of the jackknife of each patient, for studies whose figures are taken
    together; without it, `hilum.resampling.blocks` gives them. `unit` is what a row is called: an
    image, or a patient where images were pooled.
    """

    true: Ints
    probs: Floats
    pred: Ints
    class_names: tuple[str, ...]
    positive: int | None
    clusters: Clusters
    seed: int
    n_resamples: int
    ordinal: bool = False
    block: Ints | None = None
    unit: str = "image"

    @property
    def n(self) -> int:
        return len(self.true)

    @property
    def images(self) -> str:
        return f"{self.n:,} {self.unit}{'s' if self.n != 1 else ''}"

    @property
    def nothing(self) -> str:
        return f"there are no {self.unit}s"

    @cached_property
    def counts(self) -> Weightings:
        """How often each resample holds each patient (n_resamples, n_patients)."""
        return resampling.draw_patients(self.clusters.n, self.n_resamples, self.seed)

    @cached_property
    def blocks(self) -> tuple[Ints, int]:
        """Block of the jackknife of each patient, and the number of blocks."""
        if self.block is None:
            return resampling.blocks(self.clusters.n, self.seed)
        present, place = np.unique(self.block, return_inverse=True)
        return place.astype(np.intp), len(present)

    @cached_property
    def left_out(self) -> Weightings:
        """Patients that are left out in turn for the jackknife (n_blocks, n_patients)."""
        return resampling.leave_out_blocks(*self.blocks)

    @property
    def independent(self) -> float:
        """How many independent images these count for if those of a patient are fully alike."""
        return resampling.kish(self.clusters.totals(np.ones(self.n)))

    @cached_property
    def present(self) -> list[int]:
        return [int(k) for k in np.unique(self.true)]

    def of(self, inside: Bools) -> Study:
        """Part of the split, with the patients that have images in it."""
        present = np.unique(self.clusters.index[inside])
        return replace(
            self,
            true=self.true[inside],
            probs=self.probs[inside],
            pred=self.pred[inside],
            clusters=self.clusters.of_part(inside),
            block=None if self.block is None else self.block[present],
        )

    def called(self, pred: Ints) -> Study:
        """The same with other decisions (n_samples,), as those of folds."""
        return replace(self, pred=pred)

    def describe(self, threshold: float | None, prevalences: tuple[float, ...]) -> dict[str, Any]:
        classes, top = self.classes, self.figures
        tally = np.bincount(self.true, minlength=len(classes))
        return {
            "n": self.n,
            "n_patients": self.clusters.n if self.clusters.known else None,
            "prevalence": {
                name: float(tally[k] / self.n) if self.n else None
                for k, name in enumerate(self.class_names)
            },
            "threshold": threshold,
            "ci": self.ci(),
            **{name: figure.as_json() for name, figure in top.items()},
            **self.by_cut(),
            **self.calibration_parts(),
            **self.usefulness(top, prevalences),
            "classes": {
                name: {"n": int(tally[k])}
                | {figure: made.as_json() for figure, made in classes[k].items()}
                for k, name in enumerate(self.class_names)
            },
            "confusion_matrix": confusion_matrix(
                self.true, self.pred, n_classes=len(classes)
            ).tolist(),
        }

    def ci(self) -> dict[str, Any]:
        """Say how intervals were found, for metrics.json."""
        over = "patients" if self.clusters.known else "images (no patient is known)"
        return {
            "method": f"jackknife and bootstrap over {over}; each figure names its own",
            "level": intervals.LEVEL,
            "n_resamples": self.n_resamples,
            "seed": self.seed,
        }

    @cached_property
    def classes(self) -> list[dict[str, Estimate]]:
        """Figures of each class against all others."""
        return [self.of_class(k) for k in range(len(self.class_names))]

    @cached_property
    def figures(self) -> dict[str, Estimate]:
        """Figures of the whole, without those of each class."""
        return self.of_two() if self.positive is not None else self.of_many()

    def of_two(self) -> dict[str, Estimate]:
        """Figures of the positive class."""
        assert self.positive is not None
        mine = self.classes[self.positive]
        y = (self.true == self.positive).astype(np.float64)
        return {
            "accuracy": self.accuracy(),
            "balanced_accuracy": mean_of([mine["sensitivity"], mine["specificity"]], self.n),
            **{name: mine[name] for name in _ONE_VS_REST},
            "brier": mine["brier"],
            "ece": self.calibration(y, self.probs[:, self.positive]),
        }

    def of_many(self) -> dict[str, Estimate]:
        """Means over the classes that are present; of grades, also how far answers lie off."""
        macro = {
            name: mean_of(
                [_reasoned(self.classes[k][name], self.class_names[k]) for k in self.present],
                self.n,
            )
            for name in _ONE_VS_REST
        }
        return {
            "accuracy": self.accuracy(),
            "balanced_accuracy": macro["sensitivity"],
            **macro,
            "brier": self.loss(brier_losses(self.true, self.probs), most=2.0),
            "ece": self.calibration(*self.hits_and_stated()),
            **(self.of_grades() if self.ordinal else {}),
        }

    def of_grades(self) -> dict[str, Estimate]:
        """Figures that count how far an answer lies from the truth."""
        far = len(self.class_names) - 1
        return {
            "quadratic_kappa": self.kappa(),
            "mean_absolute_error": self.loss(
                np.abs(self.true - self.pred).astype(np.float64), most=float(far)
            ),
            "ranked_probability_score": self.loss(rank_losses(self.true, self.probs), most=1.0),
        }

    def kappa(self) -> Estimate:
        """Quadratic weighted kappa."""
        if not self.n:
            return Estimate.undefined(self.nothing, 0)
        parts = self.clusters.totals(kappa_parts(self.true, self.pred))
        value = float(kappa_of(parts.sum(axis=0)))
        if math.isnan(value):
            only = self.class_names[int(self.true[0])]
            return Estimate.undefined(f"all {self.images} are {only} and called so", self.n)
        without = kappa_of(self.left_out @ parts)
        if value == 1:
            grades, most = self.true.astype(np.float64), len(self.class_names) - 1.0
            interval = intervals.perfect_kappa(grades, most, self.independent)
        else:
            interval = intervals.fisher_t(value, without, n_patients=self.clusters.n)
        return Estimate(value, interval, self.n, "", without)

    def by_cut(self) -> dict[str, Any]:
        """AUROC of each cut between grades: those above it against those below."""
        if not self.ordinal:
            return {}
        beyond, rows = above_cuts(self.probs), []
        for cut, name in enumerate(self.class_names[1:]):
            true = self.true > cut
            side = "below" if true.all() else "at or above"
            found = self.ranking(true, beyond[:, cut], f"no {self.unit} is {side} {name}")
            rows.append({"cut": f"{name} or more", "grade": name} | found["auroc"].as_json())
        return {"auroc_by_cut": rows}

    def hits_and_stated(self) -> tuple[Floats, Floats]:
        """What was right of each answer, and the probability stated for it.

        What is called need not be the most probable.
        """
        stated = np.take_along_axis(self.probs, self.pred[:, None], axis=1)[:, 0]
        return (self.true == self.pred).astype(np.float64), stated

    def of_class(self, k: int) -> dict[str, Estimate]:
        """Figures of one class against all others."""
        name, true, pred = self.class_names[k], self.true == k, self.pred == k
        none = f"no {name} among the {self.images}" if self.n else self.nothing
        every = f"all {self.images} are {name}" if self.n else self.nothing
        uncalled = f"none of the {self.images} is called {name}" if self.n else self.nothing
        return {
            **self.ranking(true, self.probs[:, k], none if not true.any() else every),
            "sensitivity": self.share(pred, true, none),
            "specificity": self.share(~pred, ~true, every),
            "precision": self.share(true, pred, uncalled),
            "f1": self.overlap(true, pred, f"{none}, and none is called so" if self.n else none),
            "brier": self.loss((self.probs[:, k] - true) ** 2, most=1.0),
        }

    def accuracy(self) -> Estimate:
        return self.share(self.true == self.pred, np.ones(self.n, dtype=bool), self.nothing)

    def share(self, hits: Bools, among: Bools, reason: str) -> Estimate:
        """Share of hits among some images."""
        n = int(among.sum())
        if not n:
            return Estimate.undefined(reason, 0)
        interval = intervals.share(hits, self.clusters, among)
        value = float((hits & among).sum() / n)
        return Estimate(value, interval, n, "", self.ratios(hits & among, among))

    def overlap(self, true: Bools, pred: Bools, reason: str) -> Estimate:
        """F1, which is 2 j / (1 + j) for the share j of true positives among true or called."""
        figure = self.share(pred & true, pred | true, reason)
        if math.isnan(figure.value):
            return figure
        assert figure.left_out is not None
        low, high, method, _ = figure.interval
        low, high, value = (2 * j / (1 + j) for j in (low, high, figure.value))
        without = 2 * figure.left_out / (1 + figure.left_out)
        return Estimate(value, Interval(low, high, method), figure.n, "", without)

    def ranking(self, true: Bools, score: Floats, reason: str) -> dict[str, Estimate]:
        """AUROC and average precision."""
        names = ("auroc", "average_precision")
        if true.all() or not true.any():
            return {name: Estimate.undefined(reason, self.n) for name in names}
        ranking = Ranking.of(true, score)
        values = [float(value[0]) for value in ranking.areas(np.ones((1, self.n)))]
        without = np.empty((2, len(self.left_out)))
        for rows, weights in resampling.sample_weights(self.left_out, self.clusters):
            without[:, rows] = ranking.areas(weights)
        positives, negatives = (self.clusters.totals(side) for side in (true, ~true))
        n_patients = fewer_patients(true, self.clusters)
        found = [
            intervals.auroc(values[0], without[0], positives, negatives),
            intervals.logit_t(values[1], without[1], n_patients=n_patients)
            if values[0] < 1
            else intervals.perfect_average_precision(
                resampling.kish(positives), resampling.kish(negatives), float(true.mean())
            ),
        ]
        return {
            name: Estimate(value, interval, self.n, "", row)
            for name, value, interval, row in zip(names, values, found, without, strict=True)
        }

    def area(self, true: Bools, score: Floats) -> Estimate:
        """AUROC alone, the same as that of `ranking` in less time."""
        block, n_blocks = self.blocks
        without = auroc_without(true, score, block[self.clusters.index], n_blocks)
        value = float(placements(true, score)[true].mean())
        sides = (self.clusters.totals(side) for side in (true, ~true))
        return Estimate(value, intervals.auroc(value, without, *sides), self.n, "", without)

    def loss(self, losses: Floats, *, most: float) -> Estimate:
        """Mean of a loss in [0, most]."""
        if not self.n:
            return Estimate.undefined(self.nothing, 0)
        interval = intervals.mean_loss(losses, self.clusters, self.counts, most=most)
        without = self.ratios(losses, np.ones(self.n))
        return Estimate(float(losses.mean()), interval, self.n, "", without)

    def calibration(self, hit: Floats, stated: Floats) -> Estimate:
        """Expected calibration error."""
        if not self.n:
            return Estimate.undefined(self.nothing, 0)
        index, n_bins = equal_bins(stated, None)
        gaps = (hit - stated)[:, None] * (index[:, None] == np.arange(n_bins))
        totals = self.clusters.totals(gaps)
        sizes = self.clusters.totals(np.ones(self.n))
        drawn = (self.counts @ totals) / (self.counts @ sizes)[:, None]
        signed = totals.sum(axis=0) / self.n
        value = float(np.abs(signed).sum())
        if value == 0:
            return Estimate(value, intervals.never_seen(self.independent), self.n)
        interval = intervals.calibration_gap(signed, drawn, n_patients=self.clusters.n)
        return Estimate(value, self._with_unseen(interval, hit, stated), self.n)

    def _with_unseen(self, interval: Interval, hit: Floats, stated: Floats) -> Interval:
        """Widen a calibration error's interval by the misses that may have stayed unseen.

        Resamples of images that all came true, or of which none was on the wrong side of a half,
        hold no miss either, and agree as if there could be none.
        """
        low, high = interval.ci_low, interval.ci_high
        if math.isnan(low):
            return interval
        unseen = intervals.never_seen(self.independent).ci_high
        if hit.min() == hit.max():
            high = min(1.0, high + unseen)
        elif np.abs(hit - stated).max() < 0.5:
            high = max(high, unseen)
        else:
            return interval
        return interval._replace(ci_low=max(0.0, low - unseen), ci_high=high)

    def calibration_parts(self) -> dict[str, Any]:
        """Calibration slope and intercept, parts of the Brier score, and the diagram."""
        if self.positive is None:
            hit, stated = self.hits_and_stated()
            truth, probs = self.true[:, None] == np.arange(len(self.class_names)), self.probs
            of = "probability of the called class"
        else:
            hit, stated = self.true == self.positive, self.probs[:, self.positive]
            truth, probs = hit[:, None], stated[:, None]
            of = f"probability of {self.class_names[self.positive]}"
        hit = hit.astype(np.float64)
        fit = reliability.recalibrate(hit, stated, self.clusters)
        parts = reliability.decompose(
            truth.astype(np.float64), probs, self.clusters, self.counts, self.left_out
        )
        return {
            "calibration_slope": fit.slope.as_json(),
            "calibration_intercept": fit.intercept.as_json(),
            "brier_decomposition": reliability.as_json(parts),
            "reliability_diagram": {"of": of, "bins": self.diagram(hit, stated)},
        }

    def diagram(self, hit: Floats, stated: Floats) -> list[dict[str, float]]:
        """Stated probability and observed share of each bin."""
        curve = reliability_curve(hit, stated, groups=self.clusters.index)
        rows = zip(*(column.tolist() for column in curve), strict=True)
        return [dict(zip(curve._fields, row, strict=True)) for row in rows]

    def usefulness(
        self, figures: dict[str, Estimate], prevalences: tuple[float, ...]
    ) -> dict[str, Any]:
        """Predictive values and net benefit, which two classes have."""
        if self.positive is None:
            return {}
        every = sorted({*utility.PREVALENCES, *prevalences})
        values = utility.predictive_values(figures["sensitivity"], figures["specificity"], every)
        return {
            "ppv_npv": [row | {"wanted": row["prevalence"] in prevalences} for row in values],
            "net_benefit": utility.net_benefit(
                self.true == self.positive,
                self.probs[:, self.positive],
                self.clusters,
                prevalences,
            ),
        }

    def ratios(self, above: NDArray[Any], below: NDArray[Any]) -> Floats:
        """Ratio of two sums without each patient in turn, NaN where nothing is below."""
        sums = self.left_out @ self.clusters.totals(np.stack([above, below], axis=1))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(sums[:, 0] / sums[:, 1])


def fewer_patients(true: Bools, clusters: Clusters) -> int:
    """Count the patients with an outcome, or those without it, whichever are fewer."""
    return min(int((clusters.totals(side) > 0).sum()) for side in (true, ~true))


def _reasoned(figure: Estimate, name: str) -> Estimate:
    """Name the class in what is missing of its figure, for a mean over classes to tell."""

    def named(reason: str) -> str:
        return f"{name}: {reason}" if reason and name not in reason else reason

    interval = figure.interval._replace(reason=named(figure.interval.reason))
    return replace(figure, reason=named(figure.reason), interval=interval)


def mean_of(figures: Sequence[Estimate], n: int, *, least: float = -1.0) -> Estimate:
    """Mean of figures of the same patients; undefined when one of them is.

    Parameters
    ----------
    figures : sequence of Estimate
        Left out in the same blocks, or without; how these go with the others counts as unknown.
    n : int
        Samples of all of them.
    least : float
        Least correlation to believe, as for `hilum.intervals.mean_of`.
    """
    if not figures:
        return Estimate.undefined("there are no images", 0)
    lost = next((figure for figure in figures if math.isnan(figure.value)), None)
    if lost is not None:
        return Estimate.undefined(lost.reason, n)
    values = np.array([figure.value for figure in figures])
    n_blocks = max((len(f.left_out) for f in figures if f.left_out is not None), default=0)
    without = np.stack(
        [np.full(n_blocks, np.nan) if f.left_out is None else f.left_out for f in figures], axis=1
    )
    interval = intervals.mean_of(
        values, [figure.interval for figure in figures], without, least=least
    )
    return Estimate(float(values.mean()), interval, n, "", without.mean(axis=1))


def target_of(found: Mapping[str, Any]) -> TargetKind:
    """Tell the kind of target from the figures of one split, as metrics.json holds them."""
    if "labels" in found:
        return "multilabel"
    return "ordinal" if "quadratic_kappa" in found else "classes"


def _check_positive(n_classes: int, positive: int | None, threshold: float | None) -> None:
    """Two classes need a positive one and a threshold, more classes neither."""
    if n_classes == 2 and (positive not in (0, 1) or threshold is None):
        raise SettingError(
            f"Two classes need a positive one (0 or 1) and a threshold; got positive={positive} "
            f"and threshold={threshold}."
        )
    if n_classes != 2 and (positive is not None or threshold is not None):
        raise SettingError(
            f"{n_classes} classes have no positive one and no threshold; got positive={positive} "
            f"and threshold={threshold}: pass None for both."
        )
