"""When to answer and when to refer an image to a person: by rules fixed on validation data and
locked with the threshold before the test split is opened.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from hilum.calibration import log_odds, log_probability
from hilum.calls import Target, over_shares
from hilum.conformal import (
    Bools,
    Floats,
    fewest_patients,
    patient_quantile,
    prediction_sets,
    set_thresholds,
    share_figure,
)
from hilum.errors import DataError
from hilum.metrics import above_cuts
from hilum.resampling import Clusters

UNLIKE = "unlike the training data"
SEVERAL = "several classes fit"
NONE_FITS = "no class fits"
DISAGREE = "answer and prediction set disagree"
UNCERTAIN = "low confidence"
REASONS = (UNLIKE, SEVERAL, NONE_FITS, DISAGREE, UNCERTAIN)
SEPARATOR = "; "

# Points of the curve: share of the images referred.
CURVE_SHARES = tuple(i / 20 for i in range(11))


class Rules(BaseModel):
    """When an image is referred; a rule that is None is switched off.

    Attributes
    ----------
    set_coverage : float or None
        Wanted coverage of prediction sets; refers images whose set is not the called class alone.
    set_thresholds : tuple of float or None
        Least probability of each class in a set.
    uncertain_share : float or None
        Share of images like those of validation that are referred, at most, for low confidence.
    margin : float or None
        Images nearer to a change of the answer than this, in log-odds, are referred.
    unlike_share : float or None
        Share of images like those of validation that are taken for unlike the training data, at
        most.
    strangeness : float or None
        Images stranger than this are referred.
    n, n_patients : int
        Validation images that set them, and their patients.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    set_coverage: float | None = Field(None, gt=0, lt=1)
    set_thresholds: tuple[float, ...] | None = None
    uncertain_share: float | None = Field(None, gt=0, lt=1)
    margin: float | None = Field(None, ge=0)
    unlike_share: float | None = Field(None, gt=0, lt=1)
    strangeness: float | None = Field(None, ge=0)
    n: int
    n_patients: int

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for share, value in (
            (self.set_coverage, self.set_thresholds),
            (self.uncertain_share, self.margin),
            (self.unlike_share, self.strangeness),
        ):
            if (share is None) != (value is None):
                raise ValueError("a rule of referral has a share without a threshold, or reversed")
        if self.set_thresholds is not None and not all(0 <= t <= 1 for t in self.set_thresholds):
            raise ValueError("a threshold of the prediction sets is no probability")
        return self


class LockedRules(Rules):
    """Rules as the model folder keeps them, sealed with the time and a hash.

    Attributes
    ----------
    reasons : tuple of str
        A sentence on each rule.
    """

    reasons: tuple[str, ...]
    locked: str
    sha256: str

    @model_validator(mode="after")
    def _are_what_was_locked(self) -> Self:
        if lock_rules(self) != self.sha256:
            raise ValueError("the rules of referral are not the ones that were locked")
        return self


def lock_rules(rules: Rules) -> str:
    """Return the SHA-256 of the rules, by which a later change is noticed."""
    content = {name: getattr(rules, name) for name in Rules.model_fields}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def certainty(
    probs: ArrayLike,
    target: Target,
    threshold: float | Sequence[float] | None,
) -> Floats:
    """Say how far an answer is from changing, in log-odds.

    Two classes: the distance of the positive class's log-odds from the threshold's. More: the
    logarithm of the ratio of the two greatest probabilities, each over its share where a target has
    shares. Grades: the least distance of the odds that a grade is reached from even. Several
    labels: the least distance of a label from its threshold.

    Parameters
    ----------
    probs : float array of shape (n_samples, n_classes)
    target : Target
    threshold : float, sequence of float or None
        Of two classes, or of each of several labels.

    Returns
    -------
    float array of shape (n_samples,)
        At least 0.
    """
    p = np.asarray(probs, dtype=np.float64)
    if target.kind == "multilabel":
        return np.asarray(np.abs(log_odds(p) - log_odds(np.asarray(threshold))).min(axis=1))
    if target.positive is not None:
        assert isinstance(threshold, float | int)
        return np.asarray(np.abs(log_odds(p[:, target.positive]) - log_odds(threshold)))
    if target.kind == "ordinal":
        return np.asarray(np.abs(log_odds(above_cuts(p))).min(axis=1))
    second, first = np.sort(over_shares(p, target.shares), axis=1)[:, -2:].T
    return np.asarray(log_probability(first) - log_probability(second))


class Ruling(NamedTuple):
    """Rules, and a sentence on each."""

    rules: Rules
    reasons: tuple[str, ...]


def choose_rules(
    y_true: ArrayLike,
    probs: ArrayLike,
    groups: ArrayLike,
    *,
    target: Target,
    threshold: float | Sequence[float] | None,
    strangeness: ArrayLike | None,
    set_coverage: float | None,
    uncertain_share: float | None,
    unlike_share: float | None,
    patients_known: bool = True,
) -> Ruling:
    """Fix the rules on validation data.

    Parameters
    ----------
    y_true : int array of shape (n_samples,)
        Not looked at for several labels, which have no prediction sets.
    probs : float array of shape (n_samples, n_classes)
    groups : array of shape (n_samples,)
        Patient of each sample.
    target, threshold
        As in `certainty`.
    strangeness : float array of shape (n_samples,) or None
        Distance to the training images, without which that rule is off.
    set_coverage, uncertain_share, unlike_share : float or None
        What is wanted; None switches a rule off.
    patients_known : bool
        Without, every image (with its copies) counts as a patient, and reasons say images.

    Returns
    -------
    Ruling
    """
    y, p = np.asarray(y_true), np.asarray(probs, dtype=np.float64)
    names = np.asarray(groups, dtype=object)
    n_patients = Clusters.of(names, len(y)).n
    of_whom = f" of {n_patients:,} patients" if patients_known else " (patients unknown)"
    on = f"{len(y):,} validation images{of_whom}"
    reasons = []
    values: dict[str, Any] = {}
    if set_coverage is not None and target.kind == "multilabel":
        reasons.append(
            "There are no prediction sets: they are of classes, and each label is called alone."
        )
    elif set_coverage is not None:
        n_least = min(len(set(names[y == k].tolist())) for k in range(p.shape[1]))
        # With fewer, a class belongs to every set, and every image would be referred.
        if n_least >= fewest_patients(set_coverage):
            thresholds = set_thresholds(y, p, names, set_coverage)
            values |= {"set_coverage": set_coverage, "set_thresholds": thresholds}
        reasons.append(_set_reason(n_least, set_coverage, on))
    if uncertain_share is not None:
        margins = certainty(p, target, threshold)
        margin = max(0.0, -patient_quantile(-margins, names, 1 - uncertain_share))
        values |= {"uncertain_share": uncertain_share, "margin": margin}
        reasons.append(_margin_reason(margin, uncertain_share, on))
    if unlike_share is not None and strangeness is not None:
        strange = np.asarray(strangeness, dtype=np.float64)
        most = patient_quantile(strange, names, 1 - unlike_share)
        few = math.isinf(most)
        # A little room: other devices round otherwise.
        most = (float(strange.max()) if few else most) + 1e-3
        values |= {"unlike_share": unlike_share, "strangeness": most}
        reasons.append(_strange_reason(most, unlike_share, on, few=few))
    rules = Rules(n=len(y), n_patients=n_patients, **values)
    return Ruling(rules, tuple(reasons))


def _set_reason(n_least: int, coverage: float, on: str) -> str:
    needed = fewest_patients(coverage)
    if n_least < needed:
        return (
            f"There are no prediction sets: a coverage of {coverage:.0%} needs {needed} patients "
            f"of each class, and one class has {n_least} among the {on}."
        )
    return (
        f"Prediction sets hold the true class of {coverage:.0%} of images of new patients like the "
        f"{on}, class by class."
    )


def _margin_reason(margin: float, share: float, on: str) -> str:
    if margin == 0:
        return (
            f"No image is referred for low confidence: {on} are too few, or too many of them lie "
            f"exactly at the change of the answer, to refer a share of {share:g}."
        )
    return (
        f"Images within {margin:.2f} log-odds of the other answer are referred: at most "
        f"{share:.0%} of images like the {on}."
    )


def _strange_reason(most: float, share: float, on: str, *, few: bool) -> str:
    if few:
        return f"Images stranger than every one of {on} ({most:.2f}) are referred."
    return (
        f"Images stranger than {most:.2f} are referred as unlike the training data: at most "
        f"{share:.0%} of images like the {on}."
    )


class Judgement(NamedTuple):
    """What the rules say of images.

    Attributes
    ----------
    sets : bool array of shape (n_samples, n_classes) or None
        None where there are no prediction sets.
    reasons : list of str
        Why each is referred, '' where it is answered.
    """

    sets: Bools | None
    reasons: list[str]


def judge(
    rules: Rules | None,
    probs: Floats,
    called: NDArray[np.intp],
    *,
    margins: Floats,
    strangeness: Floats | None,
) -> Judgement:
    """Apply the rules.

    Parameters
    ----------
    probs : float array of shape (n_samples, n_classes)
    called : int array of shape (n_samples,)
        The class that is called; not looked at without prediction sets.
    margins : float array of shape (n_samples,)
        As `certainty` returns them.
    strangeness : float array of shape (n_samples,) or None
    """
    n = len(probs)
    if rules is None:
        return Judgement(None, [""] * n)
    flags: dict[str, Bools] = {}
    sets = None
    # Asked so that NaN, which compares as False, refers.
    if rules.strangeness is not None:
        if strangeness is None:
            raise DataError("These rules ask how strange an image is, and that was not given.")
        flags[UNLIKE] = ~(strangeness <= rules.strangeness)
    if rules.set_thresholds is not None:
        sets = prediction_sets(probs, rules.set_thresholds)
        sizes = sets.sum(axis=1)
        flags[SEVERAL] = sizes > 1
        flags[NONE_FITS] = sizes == 0
        flags[DISAGREE] = (sizes == 1) & ~sets[np.arange(n), called]
    if rules.margin is not None:
        flags[UNCERTAIN] = ~(margins >= rules.margin)
    reasons = [SEPARATOR.join(name for name in flags if flags[name][i]) for i in range(n)]
    return Judgement(sets, reasons)


def describe_referral(
    y_true: ArrayLike,
    called: ArrayLike,
    reasons: Sequence[str],
    margins: ArrayLike,
    groups: ArrayLike,
    *,
    positive: int | None,
    known: ArrayLike | None = None,
) -> dict[str, Any]:
    """Give the share referred, by reason, and what the answers left are worth, for metrics.json.

    Parameters
    ----------
    y_true, called : int arrays of shape (n_samples,)
        The true class and the one that is called.
    reasons : sequence of str
        As `judge` returns them.
    margins : float array of shape (n_samples,)
        As `certainty` returns them; the curve refers the least certain first.
    groups : array of shape (n_samples,)
    positive : int or None
    known : bool array of shape (n_samples,), optional
        Of which images the truth is known; the others may be referred, and are neither right nor
        wrong. By default of all.

    Returns
    -------
    dict
        'share_referred', 'reasons' (an image may have several), 'kept' with the figures of what is
        not referred, and 'curve'.
    """
    y, pred = np.asarray(y_true), np.asarray(called)
    clusters = Clusters.of(groups, len(y))
    referred = np.array([reason != "" for reason in reasons], dtype=bool)
    everyone = np.ones(len(y), dtype=bool)
    of_these = everyone if known is None else np.asarray(known, dtype=bool)
    split = [reason.split(SEPARATOR) for reason in reasons]
    kept = _figures(y, pred, ~referred, of_these, clusters, positive)
    order = np.argsort(np.asarray(margins), kind="stable")
    curve = []
    for share in CURVE_SHARES:
        left = everyone.copy()
        left[order[: round(share * len(y))]] = False
        figures = _figures(y, pred, left, of_these, clusters, positive)
        curve.append({"share_referred": float(1 - left.mean()) if len(y) else None, **figures})
    return {
        "share_referred": share_figure(referred, everyone, clusters, "there are no images"),
        "reasons": {
            reason: share_figure(
                [reason in named for named in split], everyone, clusters, "there are no images"
            )
            for reason in REASONS
        },
        "accuracy_kept": kept["accuracy"],
        "kept": kept,
        "curve": curve,
    }


def _figures(
    y: NDArray[Any],
    pred: NDArray[Any],
    left: Bools,
    known: Bools,
    clusters: Clusters,
    positive: int | None,
) -> dict[str, Any]:
    """Figures of the images that are left and whose truth is known."""
    among = left & known
    lost = "the truth is known of no image left" if left.any() else "every image is referred"
    figures = {"accuracy": share_figure(y == pred, among, clusters, lost)}
    if positive is not None:
        none = "no such image is left"
        figures["sensitivity"] = share_figure(
            pred == positive, among & (y == positive), clusters, none
        )
        figures["specificity"] = share_figure(
            pred != positive, among & (y != positive), clusters, none
        )
    return figures
