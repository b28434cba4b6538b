"""A small model that learns from looks in seconds, to judge data by and for nothing else.

It says how much of a label a picture, or a part of it, gives away, always for patients whom it did
not learn from. Its features are learnt without labels: responses to small filters cut from the
pictures themselves, pooled, and their principal components; a logistic regression does the rest.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.intervals import MIN_PATIENTS, perfect_auroc, quantile_t
from hilum.looks import averaged
from hilum.patients import patient_of_each
from hilum.resampling import Clusters, Floats, Ints
from hilum.splits import folds, join_groups
from hilum.threads import in_threads, one_blas_thread

Looks = NDArray[np.uint8]
Features = NDArray[np.float32]

MIN_IMAGES = 50
MAX_CLASSES = 20
N_FOLDS = 5

# A difference from chance is clear when chance alone makes one as great in 1 of 1,000 studies:
# some twenty things are tried on every data set.
CLEAR = 3.3

MAX_COMPONENTS = 200
_N_PATCHES = 20_000
_N_TO_LEARN = 1000
_CHUNK = 128
_COLUMNS = 25  # whose spread is computed at once
_PORTION = 8  # images whose responses fit a processor's cache
_EPSILON = 1e-3  # variance of grey values in [0, 1] below which a patch counts as flat
_WHITENING = 0.05
_DEADBAND = 0.25


# -- which images, and their folds ----------------------------------------------------------------


@dataclass(frozen=True)
class Study:
    """The images that a check learns from: labels and patients as numbers, folds by patient.

    Attributes
    ----------
    rows : int array of shape (n,)
        Their places in the table, ascending.
    y : int array of shape (n,)
        Index of each label in `names`.
    names : tuple of str
        Classes with at least three patients.
    fold : int array of shape (n,)
    n_all : int
        Images that could have been looked at.
    n_in_part : int
        Patients of so many images that only some of these are looked at.
    """

    rows: Ints
    y: Ints
    names: tuple[str, ...]
    clusters: Clusters
    fold: Ints
    n_all: int
    n_in_part: int

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def is_sample(self) -> bool:
        return len(self.rows) < self.n_all

    def sampled(self) -> str:
        """Say which images were looked at, if not all."""
        if not self.is_sample:
            return ""
        but = f" but for {self.n_in_part:,} with very many images" if self.n_in_part else ""
        return f" (Looked at: {len(self):,} of {self.n_all:,} images, whole patients{but}, drawn.)"


def make_study(
    samples: pd.DataFrame, target: pd.Series, *, most: int | None, seed: int = 0
) -> Study | str:
    """Choose images to learn `target` from, whole patients and every class in its share.

    Of a patient who alone has much of the share of a class, some images are taken: too few patients
    would be left to learn from some and ask others.

    Parameters
    ----------
    samples : DataFrame
        Readable samples, numbered from 0.
    target : Series of str
        What is to be predicted: the label, or the split; rows with '' are left out.
    most : int or None
        Draw about so many images where there are more.

    Returns
    -------
    Study, or a str that says why nothing can be learnt.
    """
    groups = patient_groups(samples)
    labels = target.astype(str).to_numpy(dtype=object)
    first = pd.DataFrame({"label": labels, "group": groups})
    n_patients = first[first["label"] != ""].groupby("label")["group"].nunique()
    names = tuple(str(name) for name in n_patients.index[n_patients >= MIN_PATIENTS])
    if len(names) < 2:
        return f"fewer than two classes have {MIN_PATIENTS} patients"
    if len(names) > MAX_CLASSES:
        return f"there are more than {MAX_CLASSES} classes"
    usable = np.flatnonzero(np.isin(labels, names))
    if len(usable) < MIN_IMAGES:
        return f"there are {len(usable)} images, fewer than {MIN_IMAGES}"
    rows = usable
    if most is not None and len(usable) > most:
        rows = _draw(labels, groups, usable, most, seed)
    kept, kept_groups = labels[rows], groups[rows]
    n_folds = min(N_FOLDS, int(n_patients[list(names)].min()))
    return Study(
        rows,
        np.searchsorted(np.array(names, dtype=object), kept).astype(np.intp),
        names,
        Clusters.of(kept_groups, len(rows)),
        folds(list(kept), list(kept_groups), n_folds, seed=seed).astype(np.intp),
        len(usable),
        _n_in_part(kept_groups, groups[usable]),
    )


def _n_in_part(drawn: NDArray[Any], of: NDArray[Any]) -> int:
    """Count the groups of which some rows were drawn and others not."""
    if len(drawn) == len(of):
        return 0
    sizes = pd.Series(drawn).value_counts()
    return int((sizes < pd.Series(of).value_counts()[sizes.index]).sum())


def patient_groups(samples: pd.DataFrame) -> NDArray[Any]:
    """Return what is kept together: the column `group`, or patients joined by identical files."""
    if "group" in samples and (samples["group"].astype(str) != "").all():
        return samples["group"].astype(str).to_numpy(dtype=object)
    own = "#" + samples["path"].astype(str)
    groups = patient_of_each(samples[["patient", "path"]].astype(str))
    twins = (
        own if "sha256" not in samples else samples["sha256"].where(samples["sha256"] != "", own)
    )
    return np.array(join_groups(list(groups), list(twins)), dtype=object)


def _draw(labels: NDArray[Any], groups: NDArray[Any], usable: Ints, most: int, seed: int) -> Ints:
    """Draw groups, class by class, until each class has its share of `most`.

    Every class keeps groups enough to have one in each fold, as far as it has so many.
    """
    frame = pd.DataFrame({"row": usable, "label": labels[usable], "group": groups[usable]})
    by_group = frame.groupby("group", sort=True)["label"].agg(["first", "size"])
    kinds = by_group.groupby("first", sort=True)["size"]
    totals = kinds.sum()
    # A rare class keeps what it has: a handful of its images would tell nothing.
    least = np.minimum(totals, most // (4 * len(totals)))
    quota = (totals / len(frame) * most).clip(lower=least)
    # With more images in each, fewer groups than folds would fill the share of their class.
    largest = (quota / kinds.count().clip(upper=N_FOLDS)).where(totals > quota, np.inf)
    frame = _thin(frame, by_group["first"].map(largest))
    by_group["size"] = frame.groupby("group", sort=True).size()
    by_group = by_group.iloc[np.random.default_rng(seed).permutation(len(by_group))]
    before = by_group.groupby("first", sort=True)["size"].cumsum() - by_group["size"]
    is_drawn = before.to_numpy() < by_group["first"].map(quota).to_numpy(float)
    chosen = _of_every_class(frame, by_group.index[is_drawn], by_group.index[~is_drawn])
    return np.asarray(frame["row"][frame["group"].isin(chosen)], dtype=np.intp)


def _thin(frame: pd.DataFrame, largest: pd.Series) -> pd.DataFrame:
    """Keep about `largest` rows of each group at most, evenly spaced in each of its classes."""
    sizes = frame.groupby("group")["row"].transform("size")
    share = np.minimum(frame["group"].map(largest) / sizes, 1)
    place = frame.groupby(["group", "label"]).cumcount()
    # Rounded up, so that the first of each class is kept.
    is_kept: pd.Series = np.ceil((place + 1) * share) > np.ceil(place * share)
    return frame[is_kept]


def _of_every_class(frame: pd.DataFrame, drawn: pd.Index, others: pd.Index) -> pd.Index:
    """Add others where fewer than N_FOLDS of the drawn groups hold a class.

    A group of several classes was drawn for one of them, and may leave too few with another.
    """
    pairs = frame[["group", "label"]].drop_duplicates().set_index("group")
    place = pairs.loc[drawn.append(others)].groupby("label").cumcount()
    return drawn.union(place.index[place.to_numpy() < N_FOLDS])


# -- features of pictures -------------------------------------------------------------------------


def shrink(looks: Looks, side: int) -> Features:
    """Average looks down to `side` pixels a side, (n, side, side), grey values in [0, 1]."""
    return averaged(looks, looks.shape[-1] // side) / np.float32(255)


@dataclass(frozen=True)
class Scale:
    """How finely pictures are looked at.

    Attributes
    ----------
    side : int
        Pixels a side that looks are averaged down to.
    patch : int
        Pixels a side of a filter.
    n_filters : int
    n_regions : int
        A side; responses are averaged in each.
    """

    side: int
    patch: int
    n_filters: int
    n_regions: int


QUICK = Scale(side=32, patch=6, n_filters=64, n_regions=4)
# Few images allow, and need, more care: chosen on phantoms and brain-mri (docs/audit.md).
CAREFUL = (
    Scale(side=32, patch=6, n_filters=128, n_regions=6),
    Scale(side=16, patch=4, n_filters=64, n_regions=4),
)


@dataclass(frozen=True)
class Encoder:
    """Turns looks into a few hundred numbers at most, learnt from looks without labels.

    References
    ----------
    Coates, Ng & Lee, An analysis of single-layer networks in unsupervised feature learning,
    AISTATS 2011; here with whitened patches of the pictures themselves as filters.
    """

    scale: Scale
    filters: Features  # (patch², n_filters)
    projection: Projection

    @classmethod
    def of(cls, looks: Looks, scale: Scale, *, seed: int = 0) -> Encoder:
        rng = np.random.default_rng(seed)
        learn = np.sort(rng.permutation(len(looks))[:_N_TO_LEARN])
        small = shrink(looks[learn], scale.side)
        filters = _learn_filters(small, scale, rng)
        pooled = _pooled_responses(small, filters, scale)
        return cls(scale, filters, Projection.of(pooled, n_components(len(looks))))

    def __call__(self, looks: Looks, *, mirrored: bool = False) -> Features:
        """Return features (n, n_components), of the mirror images if wanted."""
        out = np.empty((len(looks), self.projection.n), dtype=np.float32)
        # Some at a time, so that memory does not grow with what is thrown away again.
        for start in range(0, len(looks), _CHUNK):
            rows = slice(start, start + _CHUNK)
            small = shrink(looks[rows], self.scale.side)
            small = np.ascontiguousarray(small[:, :, ::-1]) if mirrored else small
            out[rows] = self.projection(_pooled_responses(small, self.filters, self.scale))
        return out


def picture_features(looks: Looks) -> Features:
    """Describe whole pictures, (n, 64, 64) uint8, by a few hundred numbers at most."""
    return Encoder.of(looks, QUICK)(looks)


def flat_features(pixels: Features) -> Features:
    """Describe parts of pictures (n, n_pixels) by principal components of their grey values."""
    learn = np.sort(np.random.default_rng(0).permutation(len(pixels))[:_N_TO_LEARN])
    return Projection.of(pixels[learn], min(60, n_components(len(pixels))))(pixels)


def n_components(n: int) -> int:
    """How many numbers a picture may be described by when there are `n` of them to learn from."""
    return int(np.clip(n // 6, 8, MAX_COMPONENTS))


@dataclass(frozen=True)
class Projection:
    """Principal components of standardised features, with unit variance each."""

    mean: Features
    scale: Features
    axes: Features  # (n_features, n_components)

    @property
    def n(self) -> int:
        return int(self.axes.shape[1])

    @classmethod
    def of(cls, features: Features, n: int) -> Projection:
        from scipy.linalg import eigh

        mean, spread = features.mean(axis=0), features.std(axis=0)
        scale = np.where(spread > 1e-6, spread, np.inf).astype(np.float32)
        standard = (features - mean) / scale
        # By the smaller of the two matrices of inner products: of pictures, or of features.
        by_picture = len(standard) <= standard.shape[1]
        gram = (standard @ standard.T if by_picture else standard.T @ standard).astype(np.float64)
        last = len(gram) - 1
        values, vectors = eigh(gram, subset_by_index=(max(0, last + 1 - n), last))
        values, vectors = values[::-1], vectors[:, ::-1]
        real = values > max(1e-6 * float(values[0]), 1e-9)
        real[0] = True  # of pictures all alike a component that says nothing
        values = np.maximum(values, 1e-9)
        if by_picture:
            axes = standard.T @ (vectors[:, real] / values[real]).astype(np.float32)
        else:
            axes = (vectors[:, real] / np.sqrt(values[real])).astype(np.float32)
        return cls(mean, scale, axes * np.float32(math.sqrt(len(features))))

    def __call__(self, features: Features) -> Features:
        return np.asarray(((features - self.mean) / self.scale) @ self.axes, dtype=np.float32)


def _learn_filters(small: Features, scale: Scale, rng: np.random.Generator) -> Features:
    """Cut patches from the pictures and turn them into filters that whiten what they see."""
    windows = _windows(small, scale)
    n, m = len(small), windows.shape[1]
    places = (rng.integers(k, size=_N_PATCHES) for k in (n, m, m))
    patches = _even(windows[tuple(places)].reshape(_N_PATCHES, -1))
    values, vectors = np.linalg.eigh(np.cov(patches.T.astype(np.float64)))
    whiten = (vectors / np.sqrt(np.maximum(values, 0) + _WHITENING)) @ vectors.T
    chosen = patches[: scale.n_filters] @ whiten
    chosen /= np.linalg.norm(chosen, axis=1, keepdims=True) + 1e-9
    return np.asarray(whiten @ chosen.T, dtype=np.float32)


def _pooled_responses(small: Features, filters: Features, scale: Scale) -> Features:
    """Return mean positive and negative responses (n, 2 × filters × regions²) by region."""
    windows = _windows(small, scale)
    m = windows.shape[1]
    regions = _regions(m, scale.n_regions)

    def of(start: int) -> Features:
        patches = _even(windows[start : start + _PORTION].reshape(-1, len(filters)))
        response = (patches @ filters).reshape(-1, m, m, filters.shape[1])
        sides = []
        for beyond in (response - _DEADBAND, -_DEADBAND - response):
            np.maximum(beyond, 0, out=beyond)
            n = len(beyond)
            by_row = regions @ beyond.reshape(n, m, -1)
            by_both = regions @ by_row.reshape(n * len(regions), m, -1)
            sides.append(by_both.reshape(n, -1))
        return np.hstack(sides)

    with one_blas_thread():
        return np.concatenate(list(in_threads(of, range(0, len(small), _PORTION))))


def _regions(n: int, n_regions: int) -> Features:
    """Return what sums a line of `n` values over each region of it, (n_regions, n)."""
    edges = np.linspace(0, n, n_regions + 1).astype(int)
    place = np.arange(n)
    inside = (place >= edges[:-1, None]) & (place < edges[1:, None])
    return np.asarray(inside, dtype=np.float32)


def _windows(small: Features, scale: Scale) -> Features:
    window = (scale.patch, scale.patch)
    return np.lib.stride_tricks.sliding_window_view(small, window, axis=(1, 2))


def _even(patches: Features) -> Features:
    """Give every patch mean 0 and about unit variance."""
    centred = patches - patches.mean(axis=1, keepdims=True)
    variance = np.einsum("ij,ij->i", centred, centred) / centred.shape[1]
    centred /= np.sqrt(variance + _EPSILON)[:, None]
    return np.asarray(centred, dtype=np.float32)


# -- predictions for patients not learnt from -----------------------------------------------------


def out_of_fold(
    features: NDArray[Any],
    y: Ints,
    fold: Ints,
    n_classes: int,
    *,
    strength: float = 0.03,
    mirrored: NDArray[Any] | None = None,
) -> Floats:
    """Predict each image by a logistic regression on the other folds.

    Parameters
    ----------
    features : float array of shape (n, n_features)
    strength : float
        Inverse of the penalty on standardised features: higher follows the data more closely.
    mirrored : float array of shape (n, n_features), optional
        Features of the mirror images, learnt from and asked too.

    Returns
    -------
    float array of shape (n, n_classes)
        Probabilities; 0 for a class that the other folds lack.

    Warns
    -----
    ConvergenceWarning
        If a fit stops early; see `early_stops`.
    """
    from sklearn.linear_model import LogisticRegression

    views = [features] if mirrored is None else [features, mirrored]
    probs = np.zeros((len(y), n_classes))
    for k in np.unique(fold):
        learn, ask = fold != k, fold == k
        known = views[0][learn]
        if len(views) > 1:
            known = np.concatenate([known, *(view[learn] for view in views[1:])])
        mean, scale = _standardise(known)
        model = LogisticRegression(C=strength, max_iter=300)
        model.fit(known, np.tile(y[learn], len(views)))
        del known  # before the next fold's is made
        answers = [model.predict_proba((view[ask] - mean) / scale) for view in views]
        probs[np.ix_(ask, model.classes_)] = np.mean(answers, axis=0)
    return probs


@contextmanager
def early_stops() -> Iterator[None]:
    """Allow fits of `out_of_fold` to stop early: they rank images hardly worse for it.

    Outside the threads that fit, for in threads that overlap Python mixes up what is ignored.
    """
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def _standardise(features: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Standardise columns in place; return what was taken off them and what they were divided by.

    Nothing of the size of the features is made beside them: of many images they are the most that
    an audit holds.
    """
    mean = features.mean(axis=0)
    parts = np.array_split(features, max(1, features.shape[1] // _COLUMNS), axis=1)
    spread = np.concatenate([part.std(axis=0) for part in parts])
    scale = np.where(spread > 1e-6, spread, 1.0)
    features -= mean
    features /= scale
    return mean, scale


class Area(NamedTuple):
    """An AUROC (macro one-vs-rest for more than two classes) with its interval by patient.

    Attributes
    ----------
    value, ci_low, ci_high : float
    error : float
        Standard error; 0 where the classes do not overlap.
    n : int
        Images.
    """

    value: float
    ci_low: float
    ci_high: float
    error: float
    n: int

    @property
    def is_clear(self) -> bool:
        """Whether chance alone would hardly give it."""
        return self.ci_low > 0.5 and self.value - CLEAR * self.error > 0.5

    def to_dict(self) -> dict[str, float | int]:
        return {"value": self.value, "ci_low": self.ci_low, "ci_high": self.ci_high, "n": self.n}

    def __str__(self) -> str:
        # Near 1 two digits would say that nothing is left to doubt.
        digits = 3 if self.value >= 0.99 else 2
        value, low, high = (
            f"{figure:.{digits}f}" for figure in (self.value, self.ci_low, self.ci_high)
        )
        return f"{value} (95 % {low} to {high})"


def area(y: Ints, probs: Floats, clusters: Clusters) -> Area:
    """Measure how well probabilities (n, n_classes) tell the classes.

    The interval is by placement values summed over patients, on the logit scale.

    References
    ----------
    Obuchowski, Nonparametric analysis of clustered ROC curve data, Biometrics, 1997.
    """
    classes = np.unique(y)
    compared = classes[1:] if len(classes) == 2 else classes
    values, pull = [], np.zeros(len(y))
    for k in compared:
        value, part = _one_against_rest(y == k, probs[:, k])
        values.append(value)
        pull += part / len(compared)
    value = float(np.mean(values))
    sums = clusters.totals(pull)
    n = clusters.n
    error = math.sqrt(n / max(1, n - 1) * float((sums**2).sum()))
    if error < 1e-9 or not 1e-9 < value < 1 - 1e-9:
        low = high = value
        if value > 0.5:  # nothing overlaps, or nothing varies
            per_class = [len(np.unique(clusters.index[y == k])) for k in classes]
            low = perfect_auroc(min(per_class)).ci_low * value
        return Area(value, low, high, 0.0, len(y))
    centre, half = math.log(value / (1 - value)), quantile_t(n) * error / (value * (1 - value))
    low, high = (
        1 / (1 + math.exp(-max(-500.0, min(500.0, x)))) for x in (centre - half, centre + half)
    )
    return Area(value, low, high, error, len(y))


def _one_against_rest(positive: NDArray[np.bool_], score: Floats) -> tuple[float, Floats]:
    """Return the AUROC and how each image pulls at it."""
    ours, others = np.sort(score[positive]), np.sort(score[~positive])
    pull = np.empty(len(score))
    beaten = _mean_rank(others, score[positive])
    losing = 1 - _mean_rank(ours, score[~positive])
    value = float(beaten.mean())
    pull[positive] = (beaten - value) / len(ours)
    pull[~positive] = (losing - value) / len(others)
    return value, pull


def _mean_rank(sorted_values: Floats, values: Floats) -> Floats:
    """Share of `sorted_values` below each value, ties counting half."""
    below = np.searchsorted(sorted_values, values, side="left")
    upto = np.searchsorted(sorted_values, values, side="right")
    return np.asarray((below + upto) / (2 * len(sorted_values)))
