"""From logits to probabilities that mean what they say, and to a decision: what is fixed on
validation data before the test split is opened.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hilum.errors import DataError, SettingError, did_you_mean

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

# Where no validation image is on the wrong side, ever sharper probabilities fit ever better; these
# bounds keep them from certainty that so few images cannot support.
LEAST_TEMPERATURE = 0.25
MOST_TEMPERATURE = 20.0

# One number is learnt; a class with fewer images than this says too little of its mistakes.
MIN_PER_CLASS = 10

# Scores closer than this differ by rounding: another device or ONNX Runtime may swap their order.
ROUNDING = 1e-6

N_BETWEEN = 1001  # thresholds tried between the means of two normal distributions

RULES = ("youden", "robust", "sensitivity", "specificity", "fixed", "cost")
_ALLOWED = (
    "Allowed are 'youden', 'robust', 'sensitivity:0.95', 'specificity:0.9', 'fixed:0.5' and "
    "'cost:FN:FP' such as 'cost:5:1'."
)
DEFAULT_RULE = "youden"

LOCKED_FIELDS = ("n", "rule", "sensitivity", "specificity", "threshold")


def apply_temperature(logits: ArrayLike, temperature: float) -> Floats:
    """Turn logits into probabilities.

    Parameters
    ----------
    logits : float array of shape (n_samples,) or (n_samples, n_classes)
    temperature : float
        Divides the logits; above 1 it makes probabilities less extreme.

    Returns
    -------
    float array of the same shape
        Sigmoid of one column, softmax of more.

    Raises
    ------
    SettingError
        If the temperature is not a positive number.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise SettingError(f"A temperature is a positive number; got {temperature}.")
    return np.exp(log_probs(np.asarray(logits, dtype=np.float64) / temperature))


def fit_temperature(logits: ArrayLike, y_true: ArrayLike) -> float:
    """Find the temperature whose probabilities fit the labels best (least mean log loss).

    Parameters
    ----------
    logits : float array of shape (n_samples,) or (n_samples, n_classes)
        One column: logit of class 1.
    y_true : int array of shape (n_samples,)

    Returns
    -------
    float
        In [0.25, 20]. 1, which changes nothing, where fewer than two classes have 10 images.

    Raises
    ------
    DataError
        If the lengths differ, a logit is not finite, or a label is not a class.

    Notes
    -----
    Log loss is convex in 1 / temperature, so its slope is zero once; bisection finds the place.

    References
    ----------
    Guo et al., On calibration of modern neural networks, ICML 2017.
    """
    z, y = checked_logits(logits, y_true)
    if too_few(y):
        return 1.0
    low, high = 1 / MOST_TEMPERATURE, 1 / LEAST_TEMPERATURE
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _slope(z, y, middle) < 0 else (low, middle)
    return min(max(1 / math.sqrt(low * high), LEAST_TEMPERATURE), MOST_TEMPERATURE)


def temperature_reason(temperature: float, y_true: ArrayLike) -> str:
    """Say in one sentence why `fit_temperature` found this temperature for these labels."""
    y = np.asarray(y_true)
    if too_few(y):
        return (
            f"Probabilities are left as they are: fewer than two classes have {MIN_PER_CLASS} "
            "validation images to correct them by."
        )
    if temperature <= LEAST_TEMPERATURE * 1.001:
        return (
            f"Hardly any of the {len(y):,} validation images is on the wrong side; the "
            "probabilities are sharpened only as far as the bound allows."
        )
    too = "confident" if temperature > 1 else "cautious"
    return (
        f"Fitted on {len(y):,} validation images (least log loss): the network was too {too} there."
    )


def too_few(y: NDArray[Any]) -> bool:
    """Tell whether fewer than two classes have enough images to learn anything from."""
    counts = np.unique(y, return_counts=True)[1]
    return int((counts >= MIN_PER_CLASS).sum()) < 2


def log_probs(z: Floats) -> Floats:
    """Logarithms of sigmoid or softmax, without overflow."""
    if z.ndim == 1:
        return -np.logaddexp(0.0, -z)
    shifted = z - z.max(axis=1, keepdims=True, initial=-np.inf)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _slope(z: Floats, y: Ints, sharpness: float) -> float:
    """Derivative of the mean log loss by 1 / temperature."""
    probs = np.exp(log_probs(z * sharpness))
    if z.ndim == 1:
        return float((z * (probs - y)).mean())
    return float(((probs * z).sum(axis=1) - z[np.arange(len(y)), y]).mean())


def checked_logits(logits: ArrayLike, y_true: ArrayLike) -> tuple[Floats, Ints]:
    """Logits as floats and labels as indices, after checks that they belong together."""
    z, y = np.asarray(logits, dtype=np.float64), np.asarray(y_true)
    if z.ndim not in (1, 2):
        raise DataError(f"logits has shape {z.shape}: give (n_samples,) or (n_samples, n_classes).")
    n_classes = 2 if z.ndim == 1 else z.shape[1]
    return z, _labels(y, z, "logits", n_classes)


def _labels(y: NDArray[Any], scores: Floats, name: str, n_classes: int) -> Ints:
    """Labels as indices, checked together with what was said of their samples."""
    if len(y) != len(scores):
        raise DataError(
            f"y_true has {len(y)} samples and {name} has {len(scores)}: give one of each for every "
            "sample."
        )
    bad = np.flatnonzero(~np.isfinite(scores if scores.ndim == 1 else scores.sum(axis=1)))
    if len(bad):
        raise DataError(
            f"{name} is not finite at position {bad[0]} ({len(bad)} of {len(scores)} samples): "
            "training went astray, or a sample was not predicted."
        )
    wrong = [i for i, label in enumerate(y.tolist()) if label not in range(n_classes)]
    if wrong:
        raise DataError(
            f"y_true holds {y[wrong[0]].item()!r} at position {wrong[0]}: labels are whole numbers "
            f"from 0 to {n_classes - 1}."
        )
    return y.astype(np.intp)


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


class Changed(NamedTuple):
    """Some of the samples, as scored after changes such as another scanner would make.

    Attributes
    ----------
    y_true : int array of shape (n_changed,)
    y_scores : float array of shape (n_changes, n_changed)
        Probabilities of the positive class, a row a change.
    """

    y_true: ArrayLike
    y_scores: ArrayLike


def choose_operating_point(
    y_true: ArrayLike,
    y_score: ArrayLike,
    rule: str = DEFAULT_RULE,
    *,
    changed: Changed | None = None,
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
        these fit. 'robust': the same as a mean over the samples as they are and under each change,
        but no lower on the samples as they are than its binomial standard error allows.
        'sensitivity:X', 'specificity:X': at least that, with as much of the other as can be had.
        'cost:FN:FP': least cost where a missed positive costs FN and a false alarm FP. 'fixed:X':
        that threshold.
    changed : Changed, optional
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
    changed), so that rounding on another device does not turn a decision; scores that differ by
    less than 1e-6 are not parted. Thresholds that call everything positive or everything negative
    are no decision and not considered. Of thresholds that keep a rule equally well, the one with
    the highest sensitivity is taken ('specificity:X': with the highest specificity): a missed case
    is mostly the graver mistake, and the choice does not hang on the order of the samples.
    """
    kind, numbers = parse_rule(rule)
    score = np.asarray(y_score, dtype=np.float64)
    y = _labels(np.asarray(y_true), score, "y_score", 2)
    _check_range(score, "y_score")
    if kind == "fixed":
        return _point(rule, numbers[0], y, score, "The threshold was given, not chosen.")
    cuts = _Cuts.of(y, score)
    unable = _cannot_choose(cuts, unit)
    if unable:
        return _point(rule, 0.5, y, score, f"{unable}; the threshold stays at 0.5.")
    why_not = ""
    if kind == "robust":
        parts = _Changes.of(changed, y)
        why_not = parts.too_few(unit)
        if not why_not:
            threshold = _robust(y, score, cuts.thresholds, parts)
            return _point(rule, threshold, y, score, _robust_reason(len(y), parts, unit))
        rule = "youden"
    best, reason = _best(cuts, _Sides.of(y, score), rule, unit)
    return _point(rule, float(cuts.thresholds[best]), y, score, reason + why_not)


def _check_range(scores: Floats, name: str) -> None:
    if scores.size and (scores.min() < -ROUNDING or scores.max() > 1 + ROUNDING):
        raise DataError(
            f"{name} reaches from {scores.min():.4g} to {scores.max():.4g}: give probabilities in "
            "[0, 1], not logits."
        )


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


class _Cuts(NamedTuple):
    """Thresholds that part the scores, rising, with what lies at or above each."""

    thresholds: Floats
    tp: Ints
    fp: Ints
    n_positive: int
    n_negative: int

    @classmethod
    def of(cls, y: Ints, score: Floats) -> _Cuts:
        order = np.argsort(score, kind="stable")
        ordered = score[order]
        above = np.flatnonzero(np.diff(ordered) > ROUNDING) + 1  # first place over each gap
        thresholds = ordered[above - 1] + (ordered[above] - ordered[above - 1]) / 2
        n_positive = int(y.sum())
        below = np.r_[0, np.cumsum(y[order])][above]
        tp = n_positive - below
        return cls(thresholds, tp, len(y) - above - tp, n_positive, len(y) - n_positive)


def _cannot_choose(cuts: _Cuts, unit: str) -> str:
    """Say why these data cannot choose a threshold, '' when they can."""
    n = cuts.n_positive + cuts.n_negative
    if not n:
        return f"no validation {unit} has a known answer"
    if not cuts.n_positive:
        return f"none of the {n} validation {unit}s is positive"
    if not cuts.n_negative:
        return f"none of the {n} validation {unit}s is negative"
    return "" if len(cuts.thresholds) else f"the {n} validation {unit}s all have the same score"


def _best(cuts: _Cuts, sides: _Sides, rule: str, unit: str) -> tuple[int, str]:
    """Return the place of the threshold to take, and why."""
    kind, numbers = parse_rule(rule)
    tn = cuts.n_negative - cuts.fp
    n = cuts.n_positive + cuts.n_negative
    if kind in ("youden", "robust"):
        # Whole numbers, so that equal sums are equal to the last digit.
        gain = cuts.tp * cuts.n_negative + tn * cuts.n_positive
        greatest = _first(gain, cuts.tp)
        smooth = _smooth_cut(cuts.thresholds, sides)
        if smooth is not None:
            return smooth, (
                "It gives the greatest sum of sensitivity and specificity where the log-odds of "
                f"either class are normally distributed as on {n:,} validation {unit}s."
            )
        return greatest, (
            f"It gives the greatest sum of sensitivity and specificity on {n:,} validation {unit}s."
        )
    if kind == "cost":
        missed, alarm = numbers
        cost = np.round(missed * (cuts.n_positive - cuts.tp) + alarm * cuts.fp, 9)
        best = _first(-cost, cuts.tp)
        cheaper = _cheaper(cuts, missed, alarm, cost[best], unit)
        return best, (
            f"It gives the least cost on {n:,} validation {unit}s, a missed positive counting "
            f"{missed:g} and a false alarm {alarm:g}{cheaper}."
        )
    kept, other = (cuts.tp, tn) if kind == "sensitivity" else (tn, cuts.tp)
    out_of = cuts.n_positive if kind == "sensitivity" else cuts.n_negative
    allowed = np.flatnonzero(kept >= numbers[0] * out_of - 1e-9)
    if not len(allowed):
        # Known only after training, so it must not lose the run: the nearest is taken and said.
        best = _first(kept, other)
        return best, (
            f"No threshold keeps '{rule}' on the {out_of} "
            f"{'positive' if kind == 'sensitivity' else 'negative'} validation {unit}s without "
            f"calling all {unit}s alike; the most that can be had, {kept[best] / out_of:.3f}, was "
            "taken."
        )
    best = int(allowed[_first(other[allowed], kept[allowed])])
    opposite = "specificity" if kind == "sensitivity" else "sensitivity"
    return best, (
        f"It gives the greatest {opposite} with a {kind} of at least {numbers[0]:g} on {n:,} "
        f"validation {unit}s."
    )


class _Sides(NamedTuple):
    """Scores of the negatives and of the positives, each rising."""

    negative: Floats
    positive: Floats

    @classmethod
    def of(cls, y: Ints, score: Floats) -> _Sides:
        return cls(np.sort(score[y == 0]), np.sort(score[y == 1]))

    def shares(self, thresholds: Floats) -> tuple[Floats, Floats]:
        """Return sensitivity and false-positive rate at each threshold, as counted."""
        negative, positive = (1 - np.searchsorted(side, thresholds) / len(side) for side in self)
        return positive, negative

    def youden(self, thresholds: Floats) -> Floats:
        """Return Youden's index, sensitivity + specificity - 1, as counted."""
        found, alarms = self.shares(thresholds)
        return found - alarms

    def error(self, thresholds: Floats) -> Floats:
        """Return the standard error of Youden's index."""
        found, alarms = self.shares(thresholds)
        of_found = found * (1 - found) / len(self.positive)
        return np.asarray(np.sqrt(of_found + alarms * (1 - alarms) / len(self.negative)))

    def smooth_youden(self, thresholds: Floats) -> Floats | None:
        """Return Youden's index of normal distributions of the log-odds, None where none fit.

        The place of the greatest index counted hangs on a few images near it. Normal distributions
        fitted to the log-odds of each class use all of them, and err less (Fluss, Faraggi and
        Reiser, Estimation of the Youden index and its associated cutoff point, Biometrical Journal
        2005).
        """
        if min(map(len, self)) < MIN_PER_CLASS:
            return None
        low, high = (_log_odds(side) for side in self)
        if high.mean() <= low.mean() or not min(low.std(), high.std()) > 0:
            return None
        # scipy.special costs 0.2 s, and prediction chooses no threshold.
        from scipy.special import ndtr

        places = _log_odds(thresholds)
        missed = ndtr((places - high.mean()) / high.std())
        alarms = ndtr((low.mean() - places) / low.std())
        return np.asarray(1 - missed - alarms)


def _smooth_cut(thresholds: Floats, sides: _Sides) -> int | None:
    """Find the cut nearest to the best one of two normal distributions.

    None where that costs more of what was counted than its standard error: then normal
    distributions fit badly, and what was counted has the word.
    """
    low, high = (float(_log_odds(side).mean()) for side in sides)
    between = np.linspace(low, high, N_BETWEEN)
    smooth = sides.smooth_youden(_probability(between))
    if smooth is None:
        return None
    best = int(np.abs(_log_odds(thresholds) - between[smooth.argmax()]).argmin())
    index = sides.youden(thresholds)
    is_alike = index.max() - index[best] <= sides.error(thresholds)[best]
    return best if is_alike else None


class _Changes(NamedTuple):
    """Checked labels of the changed samples, and their scores, a row a change."""

    y: Ints
    rows: Floats

    @classmethod
    def of(cls, changed: Changed | None, y: Ints) -> _Changes:
        if changed is None:
            return cls(y[:0], np.zeros((0, 0)))
        rows = np.asarray(changed.y_scores, dtype=np.float64)
        if rows.ndim != 2:
            raise DataError(f"y_scores has shape {rows.shape}: give (n_changes, n_samples).")
        _check_range(rows, "y_scores")
        return cls(_labels(np.asarray(changed.y_true), rows.T, "y_scores", 2), rows)

    def too_few(self, unit: str) -> str:
        """Say why they cannot choose a threshold, '' when they can.

        A few would outweigh all samples as they are, for there are many changes of each.
        """
        counts = [int((self.y == k).sum()) for k in (1, 0)]
        if len(self.rows) and min(counts) >= MIN_PER_CLASS:
            return ""
        return (
            f" The rule 'robust' needs {MIN_PER_CLASS} {unit}s of each class that were changed; "
            f"there were {counts[0]} positive and {counts[1]} negative ones."
        )


def _robust(y: Ints, score: Floats, own: Floats, changes: _Changes) -> float:
    """Find the threshold of the greatest mean index over samples as they are and as changed.

    What another scanner does to images may move the scores of both classes alike; then they can be
    parted as well as before, but not where they were parted best. The samples as they are count as
    one change, for elsewhere they are the exception; that they must keep their greatest index, but
    for its standard error, bounds the price of it.

    Parameters
    ----------
    own : float array
        Thresholds that part the samples as they are, rising.
    """
    sides = _Sides.of(y, score)
    parts = [sides, *(_Sides.of(changes.y, row) for row in changes.rows)]
    every = _Cuts.of(
        np.r_[y, np.tile(changes.y, len(changes.rows))], np.r_[score, changes.rows.ravel()]
    ).thresholds
    candidates = np.union1d(own, every[(every > score.min()) & (every < score.max())])
    index, error = sides.youden(candidates), sides.error(candidates)
    kept = index >= index.max() - error - ROUNDING
    candidates, error = candidates[kept], error[kept]
    # Rounded, so that equal sums are equal to the last digit: the lowest of them is taken.
    counted = np.mean([part.youden(candidates) for part in parts], axis=0).round(9)
    smooth = [part.smooth_youden(candidates) for part in parts]
    fitted = [each for each in smooth if each is not None]
    if len(fitted) == len(parts):
        best = int(np.mean(fitted, axis=0).argmax())
        if counted.max() - counted[best] <= error[best]:
            return float(candidates[best])
    return float(candidates[counted.argmax()])


def _robust_reason(n: int, changes: _Changes, unit: str) -> str:
    n_changes, n_changed = changes.rows.shape
    some = "the same" if n_changed == n else f"{n_changed:,} of them"
    return (
        f"It gives the greatest sum of sensitivity and specificity on {n:,} validation {unit}s as "
        f"they are and {some} under {n_changes} changes of exposure, sharpness and place, as the "
        "mean of all these; no less on those as they are than the binomial standard error allows."
    )


def _probability(log_odds: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-log_odds)))


def _log_odds(p: Floats) -> Floats:
    """Return log(p / (1 - p)), finite at 0 and 1."""
    inside = np.clip(p, ROUNDING, 1 - ROUNDING)
    return np.asarray(np.log(inside / (1 - inside)))


def _cheaper(cuts: _Cuts, missed: float, alarm: float, least: float, unit: str) -> str:
    """Say so where these costs want no classifier at all."""
    every, none = alarm * cuts.n_negative, missed * cuts.n_positive
    if min(every, none) >= least - 1e-9:
        return ""
    called = "positive" if every <= none else "negative"
    return f"; to call every {unit} {called} would cost less still"


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
