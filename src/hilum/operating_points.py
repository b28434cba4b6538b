"""Operating points: a threshold, chosen by a rule on validation data, with what it gave there.

A point is locked before the test split is opened; its hash tells of a later change.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hilum.calibration import Floats, Ints, check_probabilities, checked_labels
from hilum.errors import SettingError, did_you_mean
from hilum.robust_threshold import (
    NONE_CORRUPTED,
    CorruptedScores,
    robust_reason,
    robust_threshold,
)
from hilum.youden import Sides, smooth_best, thresholds_between

RULES = ("youden", "robust", "sensitivity", "specificity", "fixed", "cost")
_ALLOWED = (
    "Allowed are 'youden', 'robust', 'sensitivity:0.95', 'specificity:0.9', 'fixed:0.5' and "
    "'cost:FN:FP' such as 'cost:5:1'."
)
DEFAULT_RULE = "youden"

LOCKED_FIELDS = ("n", "rule", "sensitivity", "specificity", "threshold")


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold with what it gave on the data that chose it.

    Attributes
    ----------
    rule : str
    threshold : float
        A sample is called positive when its probability is at least this.
    sensitivity, specificity : float
        NaN without positives, without negatives.
    n, n_positive : int
        Samples that chose it, and the positives among them.
    reason : str
        One sentence that says why.
    """

    rule: str
    threshold: float
    sensitivity: float
    specificity: float
    n: int
    n_positive: int
    reason: str


def choose_operating_point(
    y_true: ArrayLike,
    y_score: ArrayLike,
    rule: str = DEFAULT_RULE,
    *,
    corrupted: CorruptedScores | None = None,
    unit: str = "image",
) -> OperatingPoint:
    """Choose the threshold by a rule.

    Parameters
    ----------
    y_true : int array of shape (n_samples,)
        0 for negative, 1 for positive.
    y_score : float array of shape (n_samples,)
        Probability of the positive class, in [0, 1].
    rule : str
        'youden': greatest sensitivity + specificity, of normal distributions of the log-odds where
        these fit. 'robust': the same as a mean over the samples as they are and under each
        corruption, but no lower on the samples as they are than its standard error allows.
        'sensitivity:X', 'specificity:X': at least that, with as much of the other as can be had.
        'cost:FN:FP': least cost where a missed positive costs FN and a false alarm FP. 'fixed:X':
        that threshold.
    corrupted : CorruptedScores, optional
        For 'robust', which is 'youden', and said to be, where fewer than ten of either class are
        among them. The other rules take no notice of it.
    unit : str
        What the samples are, for the reason: 'image' or 'patient'.

    Returns
    -------
    OperatingPoint
        The threshold is 0.5 where the data cannot choose one (a class is missing, or all scores
        are alike), and the nearest that can be had where none keeps the rule; `reason` says so.

    Raises
    ------
    DataError
        If the lengths differ, a label is neither 0 nor 1, or a score is not in [0, 1].
    SettingError
        If the rule is unknown.

    Notes
    -----
    Thresholds lie midway between neighbouring scores (of 'robust': of samples as they are and
    corrupted), so that rounding on another device does not turn a decision; scores that differ by
    less than 1e-6, and in log-odds by less than 1e-4, are not parted. Thresholds that call
    everything positive or everything negative are no decision and not considered. Of thresholds
    that keep a rule equally well, the one with the highest sensitivity is taken ('specificity:X':
    with the highest specificity): a missed case is mostly the graver mistake, and the choice does
    not hang on the order of the samples.
    """
    kind, numbers = parse_rule(rule)
    score = np.asarray(y_score, dtype=np.float64)
    y = checked_labels(np.asarray(y_true), score, "y_score", 2)
    check_probabilities(score, "y_score")
    if kind == "fixed":
        return _point(rule, numbers[0], y, score, "The threshold was given, not chosen.")
    cuts = _Cuts.of(y, score)
    unable = _cannot_choose(cuts, unit)
    if unable:
        return _point(rule, 0.5, y, score, f"{unable}; the threshold stays at 0.5.")
    why_not = ""
    if kind == "robust":
        some = (NONE_CORRUPTED if corrupted is None else corrupted).checked()
        why_not = some.too_few(unit)
        if not why_not:
            threshold = robust_threshold(y, score, some)
            return _point(rule, threshold, y, score, robust_reason(len(y), some, unit))
        rule = "youden"
    best, reason = _best(cuts, rule, unit)
    return _point(rule, float(cuts.thresholds[best]), y, score, reason + why_not)


class _Cuts(NamedTuple):
    """Thresholds that part the scores, rising, with what lies at or above each."""

    sides: Sides
    thresholds: Floats
    tp: Ints
    fp: Ints

    @classmethod
    def of(cls, y: Ints, score: Floats) -> _Cuts:
        sides, thresholds = Sides.of(y, score), thresholds_between(score)
        fp, tp = (len(side) - np.searchsorted(side, thresholds) for side in sides)
        return cls(sides, thresholds, tp, fp)

    @property
    def n_positive(self) -> int:
        return len(self.sides.positive)

    @property
    def n_negative(self) -> int:
        return len(self.sides.negative)

    @property
    def n(self) -> int:
        return self.n_positive + self.n_negative

    @property
    def tn(self) -> Ints:
        return self.n_negative - self.fp


def _cannot_choose(cuts: _Cuts, unit: str) -> str:
    """Say why these data cannot choose a threshold, '' when they can."""
    n = cuts.n
    if not n:
        return f"no validation {unit} has a known answer"
    if not cuts.n_positive:
        return f"none of the {n} validation {unit}s is positive"
    if not cuts.n_negative:
        return f"none of the {n} validation {unit}s is negative"
    if len(cuts.thresholds):
        return ""
    lowest, highest = (pick(np.r_[cuts.sides.negative, cuts.sides.positive]) for pick in (min, max))
    if lowest == highest:
        return f"the {n} validation {unit}s all have the same score"
    return f"the {n} validation {unit}s have scores too close together to be parted"


def _best(cuts: _Cuts, rule: str, unit: str) -> tuple[int, str]:
    """Return the place of the threshold to take, and why."""
    kind, numbers = parse_rule(rule)
    if kind == "youden":
        return _greatest_sum(cuts, unit)
    if kind == "cost":
        missed, alarm = numbers
        return _least_cost(cuts, missed, alarm, unit)
    return _keeping(cuts, rule, unit)


def _greatest_sum(cuts: _Cuts, unit: str) -> tuple[int, str]:
    """Take the greatest sum of sensitivity and specificity, smoothed where that fits."""
    smooth = smooth_best(cuts.sides, cuts.thresholds)
    if smooth is not None:
        return smooth, (
            "It gives the greatest sum of sensitivity and specificity where the log-odds of "
            f"either class are normally distributed as on {cuts.n:,} validation {unit}s."
        )
    # Whole numbers, so that equal sums are equal to the last digit.
    gain = cuts.tp * cuts.n_negative + cuts.tn * cuts.n_positive
    return _first(gain, cuts.tp), (
        f"It gives the greatest sum of sensitivity and specificity on {cuts.n:,} validation "
        f"{unit}s."
    )


def _least_cost(cuts: _Cuts, missed: float, alarm: float, unit: str) -> tuple[int, str]:
    """Take the least cost; say so where these costs want no classifier at all."""
    cost = np.round(missed * (cuts.n_positive - cuts.tp) + alarm * cuts.fp, 9)
    best = _first(-cost, cuts.tp)
    every, none = alarm * cuts.n_negative, missed * cuts.n_positive
    cheaper = ""
    if min(every, none) < cost[best] - 1e-9:
        called = "positive" if every <= none else "negative"
        cheaper = f"; to call every {unit} {called} would cost less still"
    return best, (
        f"It gives the least cost on {cuts.n:,} validation {unit}s, a missed positive counting "
        f"{missed:g} and a false alarm {alarm:g}{cheaper}."
    )


def _keeping(cuts: _Cuts, rule: str, unit: str) -> tuple[int, str]:
    """Take the greatest specificity of those that keep a sensitivity, or the other way round."""
    kind, (share,) = parse_rule(rule)
    if kind == "sensitivity":
        kept, other, out_of = cuts.tp, cuts.tn, cuts.n_positive
        opposite, of_class = "specificity", "positive"
    else:
        kept, other, out_of = cuts.tn, cuts.tp, cuts.n_negative
        opposite, of_class = "sensitivity", "negative"
    allowed = np.flatnonzero(kept >= share * out_of - 1e-9)
    if not len(allowed):
        # Known only after training, so it must not lose the run: the nearest is taken and said.
        best = _first(kept, other)
        return best, (
            f"No threshold keeps '{rule}' on the {out_of} {of_class} validation {unit}s without "
            f"calling all {unit}s alike; the most that can be had, {kept[best] / out_of:.3f}, was "
            "taken."
        )
    return int(allowed[_first(other[allowed], kept[allowed])]), (
        f"It gives the greatest {opposite} with a {kind} of at least {share:g} on {cuts.n:,} "
        f"validation {unit}s."
    )


def _first(*keys: NDArray[Any]) -> int:
    """Place of the greatest first key; of these the greatest second."""
    return int(np.lexsort(keys[::-1])[-1])


def _point(rule: str, threshold: float, y: Ints, score: Floats, reason: str) -> OperatingPoint:
    called = score >= threshold
    n_positive = int(y.sum())
    n_negative = len(y) - n_positive
    return OperatingPoint(
        rule=rule,
        threshold=threshold,
        sensitivity=float(called[y == 1].sum() / n_positive) if n_positive else math.nan,
        specificity=float((~called)[y == 0].sum() / n_negative) if n_negative else math.nan,
        n=len(y),
        n_positive=n_positive,
        reason=reason[0].upper() + reason[1:],
    )


def parse_rule(rule: str) -> tuple[str, tuple[float, ...]]:
    """Split a rule such as 'cost:5:1' into its kind and numbers.

    Raises
    ------
    SettingError
        If it is not one of the rules of `choose_operating_point`, or a number is out of range.
    """
    kind, *texts = rule.split(":")
    if kind not in RULES:
        raise SettingError(f"Unknown rule '{rule}'.{did_you_mean(kind, RULES)} {_ALLOWED}")
    wanted = {"youden": 0, "robust": 0, "cost": 2}.get(kind, 1)
    try:
        numbers = tuple(float(text) for text in texts)
    except ValueError:
        raise SettingError(f"The rule '{rule}' holds what is no number. {_ALLOWED}") from None
    if len(numbers) != wanted:
        raise SettingError(
            f"The rule '{rule}' has {len(numbers)} numbers and '{kind}' takes {wanted}. {_ALLOWED}"
        )
    if kind == "cost" and not all(0 < number < math.inf for number in numbers):
        raise SettingError(f"The rule '{rule}' needs costs above 0. {_ALLOWED}")
    if kind in ("sensitivity", "specificity") and not 0 < numbers[0] <= 1:
        raise SettingError(f"The rule '{rule}' needs a share above 0 and at most 1. {_ALLOWED}")
    if kind == "fixed" and not 0 <= numbers[0] <= 1:
        raise SettingError(f"The rule '{rule}' needs a threshold from 0 to 1. {_ALLOWED}")
    return kind, numbers


class Lockable(Protocol):
    """What an operating point's hash is taken of, wherever it is kept."""

    @property
    def rule(self) -> str: ...
    @property
    def threshold(self) -> float: ...
    @property
    def sensitivity(self) -> float | None: ...
    @property
    def specificity(self) -> float | None: ...
    @property
    def n(self) -> int: ...


def lock(point: Lockable) -> str:
    """Return the SHA-256 of an operating point, by which a later change is noticed.

    It is taken of the fields that run.json and model.json keep ('n', 'rule', 'sensitivity',
    'specificity', 'threshold'; null for NaN), as JSON with sorted keys and without spaces.
    """
    kept = {name: getattr(point, name) for name in LOCKED_FIELDS}
    content = {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in kept.items()
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
