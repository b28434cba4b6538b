"""Several images of one patient → one score and one label, by a rule fixed before the test.

Here are the rule, how it is chosen and sealed, and the arithmetic; `hilum.patient_figures` applies
it to the splits of a run, `hilum.patient_predictions` to new images.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from hilum.calibration import ROUNDING, keep_order, log_odds, log_probability, sigmoid, softmax
from hilum.calls import Target
from hilum.errors import DataError, SettingError, did_you_mean
from hilum.targets import TargetKind

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

Pooling = Literal["mean_logits", "mean_probability", "maximum"]
POOLINGS: tuple[Pooling, ...] = ("mean_logits", "mean_probability", "maximum")

IN_WORDS: dict[Pooling, str] = {
    "mean_logits": "the mean of the calibrated logits",
    "mean_probability": "the mean of the probabilities",
    "maximum": "the image that speaks most for it",
}

LEAST_SHARE = 0.7
"""Where fewer of a positive patient's images are positive, the maximum ranks patients better:
benchmarks/pooling.py."""

NO_LABEL = -1


class LockedPooling(BaseModel):
    """How the images of a patient become one score, as model.json keeps it.

    Attributes
    ----------
    method : str
    reason : str
        One sentence that says why.
    n_images, n_patients : int
        Validation images and patients that the threshold for patients was locked on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Pooling
    reason: str
    n_images: int = Field(ge=0)
    n_patients: int = Field(ge=0)
    locked: str
    sha256: str

    @model_validator(mode="after")
    def _is_what_was_locked(self) -> Self:
        if seal(self.method, self.n_images, self.n_patients) != self.sha256:
            raise ValueError("the pooling over a patient's images is not the one that was locked")
        return self


def seal(method: str, n_images: int, n_patients: int) -> str:
    """Return the SHA-256 of a way of pooling, by which a later change is noticed."""
    content = {"method": method, "n_images": n_images, "n_patients": n_patients}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


_SHOW: dict[TargetKind, str] = {
    "classes": "are positive",
    "ordinal": "have the grade of their patient",
    "multilabel": "have a label that their patient has (mean over patients and labels)",
}


class Chosen(NamedTuple):
    """A way of pooling, and in one sentence why it is this one."""

    method: Pooling
    reason: str


def pool_probabilities(
    probs: ArrayLike, patients: ArrayLike, method: Pooling, target: Target
) -> Floats:
    """Pool the probabilities of each patient's images.

    Parameters
    ----------
    probs : float array of shape (n_images, n_classes)
    patients : int array of shape (n_images,)
        Patient of each image, 0 to n_patients - 1, none left out.
    method : str
        'mean_logits': the mean of the log-odds (several labels), or of the logarithms of the
        probabilities, scaled to sum to 1, which for two classes is the same. 'mean_probability'.
        'maximum': the greatest probability of the positive class, of each label, or of each grade
        and those above it; of classes without order the greatest of each, scaled to sum to 1.

    Returns
    -------
    float array of shape (n_patients, n_classes)
        That of a single image is its own, to the last digit.

    Raises
    ------
    SettingError
        If there is no such method.
    DataError
        If the lengths differ, or a probability is not in [0, 1].
    """
    p, index = np.asarray(probs, dtype=np.float64), np.asarray(patients, dtype=np.intp)
    if p.ndim != 2 or len(p) != len(index):
        raise DataError(
            f"probs has shape {p.shape} and {len(index)} images have a patient: give one row of "
            "probabilities for each image."
        )
    if not ((p >= 0) & (p <= 1 + ROUNDING)).all():
        raise DataError("probs holds what is no probability: give numbers in [0, 1], not logits.")
    if method not in POOLINGS:
        raise SettingError(
            f"Unknown pooling '{method}'.{did_you_mean(method, POOLINGS)} "
            f"It is one of {', '.join(POOLINGS)}."
        )
    if not len(p):
        return p.copy()
    if method == "mean_probability":
        pooled = _means(p, index)
    elif method == "mean_logits":
        pooled = _mean_logits(p, index, independent=target.kind == "multilabel")
    else:
        pooled = _greatest(p, index, target)
    sizes = np.bincount(index)
    alone = sizes[index] == 1
    pooled[index[alone]] = p[alone]
    return pooled


def pool_labels(labels: ArrayLike, patients: ArrayLike, target: Target) -> NDArray[Any]:
    """Give each patient the label that its images make.

    Parameters
    ----------
    labels : array
        Class of each image (n_images,); for several labels 0, 1 and NaN for unknown
        (n_images, n_labels).
    patients : int array of shape (n_images,)
        As for `pool_probabilities`.

    Returns
    -------
    array
        Int (n_patients,): the class that all images share. Where they differ: of two classes the
        positive one, of grades the highest, since what one image shows its patient has; of more
        classes -1, for there is no such label. For several labels float (n_patients, n_labels):
        1 where one image has it, 0 where all are known to lack it, else NaN.
    """
    y, index = np.asarray(labels), np.asarray(patients, dtype=np.intp)
    n = int(index.max(initial=-1)) + 1
    if target.kind == "multilabel":
        y = y.astype(np.float64)
        found, lacking = np.zeros((n, y.shape[1]), dtype=bool), np.ones((n, y.shape[1]), dtype=bool)
        np.logical_or.at(found, index, y == 1)
        np.logical_and.at(lacking, index, y == 0)
        return np.where(found, 1.0, np.where(lacking, 0.0, np.nan))
    y = y.astype(np.intp)
    rank = y if target.positive is None else (y == target.positive).astype(np.intp)
    low, high = np.full(n, np.iinfo(np.intp).max), np.full(n, -1, dtype=np.intp)
    np.minimum.at(low, index, rank)
    np.maximum.at(high, index, rank)
    if not target.is_ranked:
        return np.where(low == high, high, NO_LABEL)
    if target.positive is None:
        return high
    return np.where(high == 1, target.positive, 1 - target.positive)


def count_mixed(labels: ArrayLike, patients: ArrayLike) -> int:
    """Count the patients whose images do not all have the same label."""
    y, index = np.asarray(labels, dtype=np.float64), np.asarray(patients, dtype=np.intp)
    y = y if y.ndim == 2 else y[:, None]
    shape = (int(index.max(initial=-1)) + 1, y.shape[1])
    low, high = np.full(shape, np.inf), np.full(shape, -np.inf)
    np.fmin.at(low, index, y)  # what is unknown differs from nothing
    np.fmax.at(high, index, y)
    return int((low < high).any(axis=1).sum())


def choose_pooling(
    labels: ArrayLike, patients: ArrayLike, target: Target, wanted: str = "auto"
) -> Chosen:
    """Choose how to pool by what the labels of training and validation images say.

    Parameters
    ----------
    labels, patients : array
        As for `pool_labels`; of training and validation images.
    wanted : str
        'auto' or a method.

    Returns
    -------
    Chosen

    Notes
    -----
    'auto' looks at positive patients with several images, and at how many of these are positive
    themselves. Where most are, each image is one more look at the same thing, and the mean of the
    logits is the best sum of such looks. Where only some are, the patient is positive by these
    alone, and the others would dilute their scores. No score is looked at, so that a few
    validation patients cannot sway the choice.
    """
    if wanted != "auto":
        if wanted not in POOLINGS:
            raise SettingError(
                f"Unknown pooling '{wanted}'.{did_you_mean(wanted, POOLINGS)} "
                f"It is one of auto, {', '.join(POOLINGS)}."
            )
        return Chosen(wanted, "Chosen by the user.")
    if not target.is_ranked:
        return Chosen("mean_logits", "No class goes before another, so all images speak alike.")
    share, n = _share_showing(labels, patients, target)
    if not n:
        return Chosen("mean_logits", "No positive patient has several images to go by.")
    who = f"patient{'s' if n > 1 else ''} with several images"
    several = (
        f"{who} and more than the lowest grade" if target.kind == "ordinal" else f"positive {who}"
    )
    showing = f"Of {n:,} {several}, {share:.0%} of the images {_SHOW[target.kind]}"
    if share < LEAST_SHARE:
        return Chosen("maximum", f"{showing}: the patient is so by these alone.")
    return Chosen("mean_logits", f"{showing}: each is one more look at the same.")


def number_patients(names: Sequence[str]) -> tuple[list[str], Ints]:
    """Number patients in the order in which they come first.

    Returns
    -------
    names of the patients, and the number of each image's (n_images,)
    """
    places: dict[str, int] = {}
    index = [places.setdefault(name, len(places)) for name in names]
    return list(places), np.array(index, dtype=np.intp)


def _share_showing(labels: ArrayLike, patients: ArrayLike, target: Target) -> tuple[float, int]:
    """Mean share of images that show what their patient has, and the patients that tell it.

    For several labels each label of a patient counts on its own; of grades only those above the
    lowest count.
    """
    y, index = np.asarray(labels), np.asarray(patients, dtype=np.intp)
    of_patient = pool_labels(y, index, target)
    if target.kind == "multilabel":
        has, shows = of_patient == 1, y == 1
        known = ~np.isnan(y.astype(np.float64))
    else:
        lowest = 0 if target.positive is None else 1 - target.positive
        has, shows = (of_patient != lowest)[:, None], (y == of_patient[index])[:, None]
        known = np.ones_like(shows)
    shape = (len(of_patient), has.shape[1])
    n_shown, n_known = np.zeros(shape), np.zeros(shape)
    np.add.at(n_shown, index, shows & known)
    np.add.at(n_known, index, known)
    counted = has & (n_known > 1)
    if not counted.any():
        return float("nan"), 0
    return float((n_shown[counted] / n_known[counted]).mean()), int(counted.any(axis=1).sum())


def _means(values: Floats, index: Ints) -> Floats:
    sums = np.zeros((int(index.max()) + 1, values.shape[1]))
    np.add.at(sums, index, values)
    return sums / np.bincount(index)[:, None]


def _mean_logits(p: Floats, index: Ints, *, independent: bool) -> Floats:
    if independent:
        return sigmoid(_means(log_odds(p), index))
    return softmax(_means(log_probability(p), index))


def _greatest(p: Floats, index: Ints, target: Target) -> Floats:
    """Pool by the greatest probability; of grades, of each and those above it."""
    if target.kind == "multilabel":
        return _maxima(p, index)
    if target.positive is not None:
        # The least of the other class goes with the greatest of this, and is exact where 1 - p is
        # not.
        signs = np.where(np.arange(2) == target.positive, 1.0, -1.0)
        return np.asarray(signs * _maxima(signs * p, index))
    if target.kind == "ordinal":
        n = len(p)
        reached = np.column_stack([np.ones(n), p[:, ::-1].cumsum(axis=1)[:, -2::-1], np.zeros(n)])
        missed = np.column_stack([np.zeros(n), p.cumsum(axis=1)[:, :-1], np.ones(n)])
        # The greatest of falling rows falls too, so that no difference is negative.
        most, least = np.minimum(_maxima(reached, index), 1.0), -_maxima(-missed, index)
        below, above = np.diff(least, axis=1), -np.diff(most, axis=1)
        # A difference of small numbers is exact, one of numbers near 1 is not.
        return keep_order(np.where(most[:, 1:] > 0.5, below, above))
    most = _maxima(p, index)
    return keep_order(np.asarray(most / most.sum(axis=1, keepdims=True)))


def _maxima(values: Floats, index: Ints) -> Floats:
    most = np.full((int(index.max()) + 1, *values.shape[1:]), -np.inf)
    np.maximum.at(most, index, values)
    return most
