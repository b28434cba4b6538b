"""Several labels of one image: each a two-class study of its own, and means over them.

An image whose label is unknown is left out of that label's figures and stays in those of the
others. Means keep the patients of all labels together, so that labels which go together, as
findings of one disease do, do not count as independent evidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hilum import intervals, resampling, utility
from hilum.calibration import below_one
from hilum.errors import DataError
from hilum.estimates import Study, fewer_patients, mean_of, study_of
from hilum.intervals import Estimate, Interval
from hilum.resampling import Bools, Clusters, Floats, Ints

MACRO = (
    *("accuracy", "balanced_accuracy", "auroc", "average_precision"),
    *("sensitivity", "specificity", "precision", "f1", "brier", "ece"),
)
"""Figures that are given as means over the labels."""

AREAS = ("auroc", "average_precision")

MIN_DIRECT = 30
"""Patients with and without each label from which the jackknife of a mean is believed alone."""

POSITIVE = 1
"""Index of a label's presence among its two classes."""


def two_classes(label: str) -> tuple[str, str]:
    """Name the two classes of a label: without it, and with it."""
    return f"no {label}", label


def with_complement(probs: Floats) -> Floats:
    """Turn probabilities of a label (n_samples,) into those of its two classes (n_samples, 2).

    1 - p is exactly 1 for every p below 10⁻¹⁶, of which a rare label has many: the images surest to
    be without it would be ranked as one.
    """
    return np.stack([below_one(probs), probs], axis=1)


def describe_labels(
    y_true: ArrayLike,
    probs: ArrayLike,
    *,
    label_names: Sequence[str],
    thresholds: Mapping[str, float],
    groups: ArrayLike | None = None,
    prevalences: Sequence[float] = (),
    seed: int = 0,
    n_resamples: int = 2000,
) -> dict[str, Any]:
    """Give every figure of several labels with its 95 % interval, ready for metrics.json.

    Parameters
    ----------
    y_true : float array of shape (n_samples, n_labels)
        1 where a label is present, 0 where it is absent, NaN where that is unknown.
    probs : float array of shape (n_samples, n_labels)
        Probability of each label by itself.
    label_names : sequence of str
    thresholds : mapping
        Of each label: it is called where its probability is at least this.
    groups, prevalences, seed, n_resamples
        As for `hilum.estimates.describe`.

    Returns
    -------
    dict
        'labels': what `describe` gives of each, on the images of which it is known, and
        'n_unknown'; at the top the means over those labels that are present in some images and
        absent in others ('mean_over'; 'not_in_mean' says why of the others), and 'exact_match'.

    Raises
    ------
    DataError
        As `describe`, and if a label is neither 0, 1 nor NaN.
    """
    wanted = utility.check_prevalences(prevalences)
    study = label_study(
        y_true,
        probs,
        label_names=label_names,
        thresholds=thresholds,
        groups=groups,
        seed=seed,
        n_resamples=n_resamples,
    )
    return study.describe(thresholds, wanted)


def label_study(
    y_true: ArrayLike,
    probs: ArrayLike,
    *,
    label_names: Sequence[str],
    thresholds: Mapping[str, float],
    groups: ArrayLike | None = None,
    patients_known: bool = True,
    seed: int = 0,
    n_resamples: int = 2000,
) -> LabelStudy:
    """Check what `describe_labels` was given, and decide each label; parameters as there."""
    true, array = (np.asarray(values, dtype=np.float64) for values in (y_true, probs))
    n_labels = len(label_names)
    for name, values in (("y_true", true), ("probs", array)):
        if values.ndim != 2 or values.shape[1] != n_labels:
            raise DataError(
                f"{name} has shape {values.shape} and there are {n_labels} labels: give one column "
                "for each label."
            )
    if len(true) != len(array):
        raise DataError(
            f"y_true has {len(true)} samples and probs has {len(array)}: give one row for each."
        )
    whole = Clusters.of(groups, len(true))
    block, n_blocks = resampling.blocks(whole.n, seed)
    parts = []
    for k, name in enumerate(label_names):
        known = ~np.isnan(true[:, k])
        p = array[known, k]
        study = study_of(
            true[known, k],
            with_complement(p),
            class_names=two_classes(name),
            positive=POSITIVE,
            threshold=thresholds[name],
            groups=whole.index[known],
            patients_known=whole.known and patients_known,
            seed=seed,
            n_resamples=n_resamples,
        )
        parts.append(replace(study, block=block[np.unique(whole.index[known])]))
    clusters = replace(whole, known=whole.known and patients_known)
    return LabelStudy(tuple(label_names), tuple(parts), ~np.isnan(true), clusters, block, n_blocks)


@dataclass(frozen=True)
class LabelStudy:
    """One split of images with several labels.

    Attributes
    ----------
    label_names : tuple of str
    parts : tuple of Study
        One for each label, of the images of which it is known.
    known : bool array of shape (n_samples, n_labels)
    clusters : Clusters
        Of all images.
    block : int array of shape (n_clusters,)
        Which patients the jackknife leaves out together, for all labels alike.
    n_blocks : int
    """

    label_names: tuple[str, ...]
    parts: tuple[Study, ...]
    known: Bools
    clusters: Clusters
    block: Ints
    n_blocks: int

    @property
    def n(self) -> int:
        return len(self.known)

    @cached_property
    def both(self) -> tuple[int, ...]:
        """Labels that are present in some images and absent in others."""
        return tuple(k for k, part in enumerate(self.parts) if len(part.present) == 2)

    @cached_property
    def fewest(self) -> int:
        """Patients with the rarest outcome of any label in the means."""
        parts = [self.parts[k] for k in self.both]
        counts = [fewer_patients(part.true == POSITIVE, part.clusters) for part in parts]
        return min(counts, default=0)

    def not_in_mean(self) -> dict[str, str]:
        """Say why a label is in no mean."""
        found = {}
        for k, (name, part) in enumerate(zip(self.label_names, self.parts, strict=True)):
            if k not in self.both:
                found[name] = (
                    f"it is {'present in' if part.present[0] else 'absent from'} all {part.images}"
                    if part.n
                    else "it is known of no image"
                )
        return found

    def describe(
        self, thresholds: Mapping[str, float | None], prevalences: tuple[float, ...]
    ) -> dict[str, Any]:
        """Give every figure, as `describe_labels` returns them.

        Where a label has no one threshold (None), as over folds, what was called stands.
        """
        labels = {
            name: part.describe(thresholds[name], prevalences) | {"n_unknown": self.n - part.n}
            for name, part in zip(self.label_names, self.parts, strict=True)
        }
        return {
            "n": self.n,
            "n_patients": self.clusters.n if self.clusters.known else None,
            "prevalence": {name: found["prevalence"][name] for name, found in labels.items()},
            "threshold": None,
            "ci": self.parts[0].ci(),
            **{name: figure.as_json() for name, figure in self.means(MACRO).items()},
            "exact_match": self.exact_match().as_json(),
            "mean_over": [self.label_names[k] for k in self.both],
            "not_in_mean": self.not_in_mean(),
            "labels": labels,
        }

    def means(self, names: Sequence[str]) -> dict[str, Estimate]:
        """Means of figures over the labels that have both outcomes."""
        parts = [self.parts[k] for k in self.both]
        return {
            name: mean_over_labels(
                name,
                [(part.figures[name], part.block) for part in parts],
                n=self.n,
                n_patients=self.clusters.n,
                fewest=self.fewest,
                n_blocks=self.n_blocks,
            )
            for name in names
        }

    def exact_match(self) -> Estimate:
        """Share of the images all of whose known labels were called rightly."""
        right = np.ones(self.known.shape, dtype=bool)
        for k, part in enumerate(self.parts):
            right[self.known[:, k], k] = part.pred == part.true
        among: Bools = np.asarray(self.known.any(axis=1))
        n = int(among.sum())
        if not n:
            return Estimate.undefined("no label is known of any image", 0)
        hits: Bools = np.asarray(right.all(axis=1))
        interval = intervals.share(hits, self.clusters, among)
        return Estimate(float(hits[among].mean()), interval, n)

    def called(self, called: Bools) -> LabelStudy:
        """The same with other decisions (n_samples, n_labels), as those of folds."""
        parts = tuple(
            replace(part, pred=called[self.known[:, k], k].astype(np.intp))
            for k, part in enumerate(self.parts)
        )
        return replace(self, parts=parts)

    def of(self, inside: Bools) -> LabelStudy:
        """Part of the split, with the patients that have images in it."""
        parts = tuple(part.of(inside[self.known[:, k]]) for k, part in enumerate(self.parts))
        patients = np.unique(self.clusters.index[inside])
        return replace(
            self,
            parts=parts,
            known=self.known[inside],
            clusters=self.clusters.of_part(inside),
            block=self.block[patients],
        )


def mean_over_labels(
    name: str,
    figures: Sequence[tuple[Estimate, Ints | None]],
    *,
    n: int,
    n_patients: int,
    fewest: int,
    n_blocks: int,
) -> Estimate:
    """Mean of a figure over labels, with an interval that holds the patients of all together.

    That of the curves' areas is the jackknife of the mean itself, which is narrower than one from
    the labels' own intervals and with many patients holds as well. With few, what leaving out a
    patient does to the labels may cancel by chance, and a perfect label seems to be certain: then
    it reaches as far as that from the labels' own.

    Parameters
    ----------
    name : str
    figures : sequence of (Estimate, int array)
        That of each label, and which of all blocks its patients are in.
    n, n_patients, n_blocks : int
        Images, patients and blocks of all labels together.
    fewest : int
        Patients with the rarest outcome of any of these labels.
    """
    if not figures:
        return Estimate.undefined("no label is present in some images and absent in others", n)
    aligned = [_aligned(figure, block, n_blocks) for figure, block in figures]
    found = mean_of(aligned, n)
    if name not in AREAS or not 0 < found.value < 1 or found.left_out is None:
        return found
    direct = intervals.logit_t(found.value, found.left_out, n_patients=n_patients)
    is_perfect = any(figure.value in (0.0, 1.0) for figure in aligned)
    if np.isnan(direct.ci_low) or (fewest >= MIN_DIRECT and not is_perfect):
        return replace(found, interval=direct)
    return replace(found, interval=_wider(direct, _from_parts(aligned)))


def _from_parts(figures: Sequence[Estimate]) -> Interval:
    """Interval of a mean from the labels' own; a label without one may lie anywhere."""
    found = [
        replace(figure, interval=Interval(0.0, 1.0)) if np.isnan(figure.interval.ci_low) else figure
        for figure in figures
    ]
    return mean_of(found, found[0].n, least=0.0).interval


def _wider(one: Interval, other: Interval) -> Interval:
    """Take the farther of the bounds of two intervals."""
    return Interval(
        min(one.ci_low, other.ci_low),
        max(one.ci_high, other.ci_high),
        f"the wider of: {one.method}; {other.method}",
    )


def _aligned(figure: Estimate, block: Ints | None, n_blocks: int) -> Estimate:
    """Give what a label's figure is without each block of all patients.

    Without patients of whom the label is unknown it stays what it is.
    """
    if figure.left_out is None or block is None:
        return figure
    without = np.full(n_blocks, figure.value)
    without[np.unique(block)] = figure.left_out
    return replace(figure, left_out=without)
