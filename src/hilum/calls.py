"""From probabilities to the answer: at a threshold, the median grade, or the class that leads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hilum.targets import TargetKind, joined_cells, median_grade

Floats = NDArray[np.float64]

MOST_NAMED = 6
"""Classes whose shares are told in a sentence."""


class Target(NamedTuple):
    """What the columns of probabilities mean, and how one of them is called.

    Attributes
    ----------
    kind : str
        'classes', 'ordinal' or 'multilabel'.
    positive : int or None
        Two classes: the one to be found.
    shares : tuple of float, or None
        More classes, where rare ones are to be found as well as common ones: the share of each
        that a probability is held against. None: the probability alone counts.
    """

    kind: TargetKind = "classes"
    positive: int | None = None
    shares: tuple[float, ...] | None = None

    @property
    def is_ranked(self) -> bool:
        """Whether one class says more than another: what one image shows, its patient has."""
        return self.kind != "classes" or self.positive is not None


def over_shares(probs: Floats, shares: Sequence[float] | None) -> Floats:
    """Give probabilities as they would be if all classes were as frequent.

    Parameters
    ----------
    probs : float array of shape (n, n_classes)
        Among classes as frequent as `shares` says.
    shares : sequence of float, or None
        Above 0. None: nothing changes.

    Returns
    -------
    float array of shape (n, n_classes)

    References
    ----------
    Saerens, Latinne & Decaestecker, Adjusting the outputs of a classifier to new a priori
    probabilities, 2002.
    """
    if shares is None:
        return probs
    scaled = probs / np.asarray(shares)
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True))


def shares_in_words(class_names: Sequence[str], shares: Sequence[float]) -> str:
    """Name the shares of classes, the rarest first: 'c 0.02, b 0.08, a 0.9'."""
    ordered = sorted(zip(shares, class_names, strict=True))
    told = [f"{name} {share:.2g}" for share, name in ordered[:MOST_NAMED]]
    more = len(ordered) - len(told)
    return ", ".join(told) + (f" and {more} more frequent" if more else "")


def called_classes(
    probs: Floats, target: Target, thresholds: Sequence[float] | None
) -> NDArray[np.intp]:
    """Return the class or grade that is called of each row.

    Parameters
    ----------
    probs : float array of shape (n, n_classes)
    thresholds : sequence of float or None
        Of two classes that of the positive one.

    Returns
    -------
    int array of shape (n,)
        Of two classes by the threshold; the median grade; else the class of the greatest
        probability, or of the greatest over its share.
    """
    if target.positive is not None:
        assert thresholds is not None
        found = probs[:, target.positive] >= thresholds[0]
        return np.where(found, target.positive, 1 - target.positive).astype(np.intp)
    if target.kind == "ordinal":
        return median_grade(probs)
    return np.asarray(over_shares(probs, target.shares).argmax(axis=1))


def decide(
    probs: Floats, class_names: Sequence[str], target: Target, thresholds: Sequence[float] | None
) -> list[str]:
    """Say what each image or patient is called.

    Parameters
    ----------
    probs : float array of shape (n, n_classes)
    thresholds : sequence of float or None
        Of two classes that of the positive one; of several labels one each.

    Returns
    -------
    list of str
        A class; a grade; or labels joined by '|', 'none' without any.
    """
    if target.kind == "multilabel":
        assert thresholds is not None
        return joined_cells(probs >= np.asarray(thresholds), class_names)
    return [class_names[k] for k in called_classes(probs, target, thresholds).tolist()]
