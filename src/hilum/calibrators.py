"""Logits → probabilities that mean what they say: temperature, Platt's line, an isotonic curve, and
the choice among them on validation data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from hilum.calibration import (
    LEAST_TEMPERATURE,
    MOST_TEMPERATURE,
    Floats,
    Ints,
    checked_logits,
    class_probabilities,
    fit_temperature,
    log_losses,
    log_probs,
    sigmoid,
    temperature_reason,
    too_few,
)
from hilum.resampling import mean_error
from hilum.targets import MOST_CLASSES

Method = Literal["none", "temperature", "platt", "isotonic"]

# Images of the smaller class that a line (two numbers) and a curve (many) need to be tried.
LEAST_OF_CLASS = {"platt": 50, "isotonic": 200}

N_FOLDS = 5

# Steps of the isotonic curve rest on no fewer images, so that it does not follow single ones.
MIN_STEP = 10

# A steeper curve would turn the rounding of float32 into visible differences of probability.
MOST_SLOPE = 20.0
MAX_KNOTS = 1000


class Calibrator(BaseModel):
    """How the network's logits become calibrated ones: a rising function, so no ranking changes.

    That of several classes may: a temperature weighs the others against each other anew.

    Attributes
    ----------
    method : str
    slope, intercept : float
        The calibrated logit is slope · logit + intercept; slope is 1 / temperature.
    priors : tuple of float
        Of more than two classes that were weighted in training, what the weights took from each
        one's logit, which is added too; empty where none was.
    knots : tuple of (logit, calibrated logit)
        'isotonic' only, in place of the line: straight between knots, rising throughout; beyond
        the outermost ones it goes on with a slope of 1/20, so that equal probabilities come of
        equal logits only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: Method = "none"
    slope: float = Field(1.0, gt=0)
    intercept: float = 0.0
    priors: tuple[float, ...] = Field((), max_length=MOST_CLASSES)
    knots: tuple[tuple[float, float], ...] = Field((), max_length=MAX_KNOTS)

    @model_validator(mode="after")
    def _fits_its_method(self) -> Self:
        if bool(self.knots) != (self.method == "isotonic"):
            raise ValueError("knots belong to an isotonic curve, and only to one")
        if self.priors and self.method == "isotonic":
            raise ValueError("priors are of more than two classes, and an isotonic curve of two")
        steps = np.diff(np.array(self.knots), axis=0) if self.knots else np.ones((0, 2))
        if not (steps > 0).all():
            raise ValueError("the isotonic curve does not rise throughout")
        return self

    @property
    def added(self) -> float | Floats:
        """What is added to logits; of weighted classes, to each its own (n_classes,)."""
        return self.intercept + np.array(self.priors) if self.priors else self.intercept

    @property
    def tail_slope(self) -> float:
        return 1 / MOST_TEMPERATURE

    @property
    def bends(self) -> list[tuple[float, float]]:
        """Where the isotonic curve changes its slope, and by how much."""
        steps = np.diff(np.array(self.knots), axis=0)
        slopes = [self.tail_slope, *(steps[:, 1] / steps[:, 0]).tolist(), self.tail_slope]
        return list(zip((x for x, _ in self.knots), np.diff(slopes).tolist(), strict=True))

    def logits(self, raw: ArrayLike) -> Floats:
        """Calibrate logits of any shape."""
        z = np.asarray(raw, dtype=np.float64)
        if self.method != "isotonic":
            return np.asarray(self.slope * z + self.added)
        first, level = self.knots[0]
        curve = level + self.tail_slope * (z - first)
        for at, bend in self.bends:
            curve = curve + bend * np.maximum(z - at, 0)
        return np.asarray(curve)

    def probabilities(self, raw: ArrayLike) -> Floats:
        """Turn logits (n, n_outputs) into probabilities (n, n_classes)."""
        return class_probabilities(self.logits(raw))


@dataclass(frozen=True)
class LabelCalibrators:
    """How the logits of several labels become calibrated ones, each by a calibrator of its own.

    Attributes
    ----------
    parts : dict
        By label, in the order of the logits.
    """

    parts: dict[str, Calibrator]

    def logits(self, raw: ArrayLike) -> Floats:
        """Calibrate logits of shape (n, n_labels)."""
        columns = np.asarray(raw, dtype=np.float64).T
        parts = zip(self.parts.values(), columns, strict=True)
        return np.stack([calibrator.logits(column) for calibrator, column in parts], axis=1)

    def probabilities(self, raw: ArrayLike) -> Floats:
        """Turn logits into the probability of each label by itself, (n, n_labels)."""
        return sigmoid(self.logits(raw))


class Calibration(NamedTuple):
    """A calibrator, and in one sentence why it is this one."""

    calibrator: Calibrator
    reason: str


def choose_calibrator(
    logits: ArrayLike,
    y_true: ArrayLike,
    groups: ArrayLike,
    wanted: str = "auto",
    *,
    priors: ArrayLike | None = None,
) -> Calibration:
    """Fit the wanted calibrator, or the one that cross-validation prefers.

    Parameters
    ----------
    logits : float array of shape (n_samples, n_outputs)
        One column, the logit of class 1, for two classes.
    y_true : int array of shape (n_samples,)
    groups : array of shape (n_samples,)
        Patient of each sample; one is never on both sides of a fold.
    wanted : str
        'auto', 'temperature', 'platt', 'isotonic' or 'none'.
    priors : float array of shape (n_outputs,), optional
        Where classes were weighted in training, what the weights took from each logit, as
        `losses.log_priors` returns it. It is given back, and no less where calibration is off;
        Platt's line and the curve find it on their own.

    Returns
    -------
    Calibration

    Raises
    ------
    DataError
        If the lengths differ, a logit is not finite, or a label is not a class.

    Notes
    -----
    'auto' takes the temperature unless Platt's line, and then the isotonic curve, has a smaller log
    loss by more than one standard error (over patients) in five-fold cross-validation: the more a
    calibrator can bend, the more it must gain. What is asked for and cannot be had with these
    data gives way to the temperature, and the reason says so: a finished training must not be
    lost by it.
    """
    array = np.asarray(logits, dtype=np.float64)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    z, y = checked_logits(array, y_true)
    basis = _Basis(z, y, None if priors is None else np.asarray(priors, dtype=np.float64))
    found = _chosen(basis, np.asarray(groups).astype(str), wanted)
    if priors is None:
        return found
    return found._replace(
        reason=f"{found.reason} Classes were weighted in training, and how frequent each one was "
        "is taken into account again."
    )


class _Basis(NamedTuple):
    """Logits and labels that a calibrator is fitted on, and what weights took from the logits."""

    z: Floats
    y: Ints
    priors: Floats | None

    def of(self, inside: NDArray[np.bool_]) -> _Basis:
        return _Basis(self.z[inside], self.y[inside], self.priors)

    def straight(self, slope: float, method: Method = "none") -> Calibrator:
        """Make a calibrator that gives back what the weights took, and bends nothing."""
        if self.priors is None:
            return Calibrator(method=method, slope=slope)
        if self.z.ndim == 1:
            return Calibrator(method=method, slope=slope, intercept=float(self.priors[0]))
        return Calibrator(method=method, slope=slope, priors=tuple(self.priors.tolist()))


def _chosen(basis: _Basis, groups: NDArray[np.str_], wanted: str) -> Calibration:
    if wanted == "none":
        return Calibration(basis.straight(1.0), "Calibration is off.")
    y, plain = basis.y, _temperature(basis)
    if too_few(y) or wanted == "temperature":
        return plain
    if basis.z.ndim == 2:
        if wanted == "auto":
            return plain
        return _instead(plain, wanted, f"it is for two classes, and there are {basis.z.shape[1]}")
    smaller = int(np.bincount(y, minlength=2).min())
    if wanted == "auto":
        return _preferred(basis, groups, smaller, plain)
    least = LEAST_OF_CLASS[wanted]
    if smaller < least:
        why = f"it needs {least} validation images of each class, and there are {smaller}"
        return _instead(plain, wanted, why)
    fitted = _fit(wanted, basis)
    return Calibration(fitted, f"{_shown(fitted)}, as the user asked, on {len(y):,} images.")


def choose_label_calibrators(
    logits: NDArray[np.floating],
    truth: NDArray[np.floating],
    groups: ArrayLike,
    names: Sequence[str],
    wanted: str = "auto",
    *,
    priors: NDArray[np.floating] | None = None,
) -> tuple[LabelCalibrators, dict[str, str]]:
    """Fit a calibrator for each label, on the images of which it is known.

    Parameters
    ----------
    logits : float array of shape (n_samples, n_labels)
    truth : float array of shape (n_samples, n_labels)
        0, 1, or NaN where unknown.
    groups, wanted, priors
        As in `choose_calibrator`.

    Returns
    -------
    (LabelCalibrators, dict)
        And why each is the one that it is, by label.
    """
    owners = np.asarray(groups).astype(str)
    found = {}
    for k, name in enumerate(names):
        known = ~np.isnan(truth[:, k])
        y = truth[known, k].astype(np.int64)
        taken = None if priors is None else priors[k : k + 1]
        found[name] = choose_calibrator(
            logits[known, k : k + 1], y, owners[known], wanted, priors=taken
        )
    parts = {name: each.calibrator for name, each in found.items()}
    return LabelCalibrators(parts), {name: each.reason for name, each in found.items()}


def fit_platt(logits: ArrayLike, y_true: ArrayLike) -> Calibrator:
    """Fit slope and intercept by least log loss.

    Parameters
    ----------
    logits : float array of shape (n_samples,)
    y_true : int array of shape (n_samples,)
        With both classes.

    Notes
    -----
    Labels are drawn in a little, as Platt does, so that the fit is finite where the classes are
    apart; the slope keeps to the bounds of the temperature, and is never negative.

    References
    ----------
    Platt, Probabilistic outputs for support vector machines, 1999.
    """
    from scipy.optimize import minimize

    z, y = checked_logits(logits, y_true)
    target = _drawn_in(y)

    def loss(line: Floats) -> tuple[float, Floats]:
        calibrated = line[0] * z + line[1]
        gap = np.exp(log_probs(calibrated)) - target
        value = np.logaddexp(0, calibrated) - target * calibrated
        return float(value.mean()), np.array([(gap * z).mean(), gap.mean()])

    bounds = [(1 / MOST_TEMPERATURE, 1 / LEAST_TEMPERATURE), (None, None)]
    found = minimize(
        loss, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-14}
    )
    return Calibrator(method="platt", slope=float(found.x[0]), intercept=float(found.x[1]))


def fit_isotonic(logits: ArrayLike, y_true: ArrayLike) -> Calibrator:
    """Fit a rising curve through the observed shares.

    Parameters
    ----------
    logits : float array of shape (n_samples,)
    y_true : int array of shape (n_samples,)
        With both classes.

    Notes
    -----
    The steps of isotonic regression give many images the same probability, so that a threshold
    cannot part them and the ranking suffers. Here each step keeps its level at its centre, and
    straight lines (on the logit scale) join the centres. Steps hold at least 10 images.

    References
    ----------
    Zadrozny & Elkan, Transforming classifier scores into accurate multiclass probability estimates,
    2002. Oron & Flournoy, Centered isotonic regression, 2017.
    """
    from sklearn.isotonic import isotonic_regression

    z, y = checked_logits(logits, y_true)
    order = np.argsort(z, kind="stable")
    parts = np.array_split(order, max(1, len(z) // MIN_STEP))
    sizes = np.array([len(part) for part in parts], dtype=np.float64)
    centres = np.array([z[part].mean() for part in parts])
    target = _drawn_in(y)
    shares = np.array([target[part].mean() for part in parts])
    levels = isotonic_regression(shares, sample_weight=sizes)
    steps: list[tuple[float, float, float]] = []  # size, centre, level
    for step in zip(sizes.tolist(), centres.tolist(), levels.tolist(), strict=True):
        steps.append(step)
        while len(steps) > 1 and _too_steep(steps[-2], steps[-1]):
            steps[-2:] = [_joined(steps[-2], steps[-1])]
    return Calibrator(method="isotonic", knots=tuple((x, _logit(p)) for _, x, p in steps))


Step = tuple[float, float, float]


def _too_steep(left: Step, right: Step) -> bool:
    """Tell steps of one level, and those so near that the curve would jump."""
    rise = _logit(right[2]) - _logit(left[2])
    return rise <= 1e-9 or rise > MOST_SLOPE * (right[1] - left[1])


def _joined(left: Step, right: Step) -> Step:
    size = left[0] + right[0]
    centre = (left[0] * left[1] + right[0] * right[1]) / size
    return size, centre, (left[0] * left[2] + right[0] * right[2]) / size


def _logit(p: float) -> float:
    return math.log(p / (1 - p))


def _drawn_in(y: Ints) -> Floats:
    """Labels as probabilities that so many images can support (Platt 1999)."""
    n_positive = int(y.sum())
    n_negative = len(y) - n_positive
    return np.where(y == 1, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))


def _fit(kind: str, basis: _Basis) -> Calibrator:
    z, y, priors = basis
    if kind == "platt":
        return fit_platt(z, y)
    if kind == "isotonic":
        return fit_isotonic(z, y)
    temperature = fit_temperature(z, y, 0.0 if priors is None else priors)
    return basis.straight(1 / temperature, "temperature")


def _temperature(basis: _Basis) -> Calibration:
    if too_few(basis.y):
        return Calibration(basis.straight(1.0), temperature_reason(1.0, basis.y))
    calibrator = _fit("temperature", basis)
    reason = temperature_reason(1 / calibrator.slope, basis.y)
    return Calibration(calibrator, f"{_shown(calibrator)}. {reason}")


def _instead(plain: Calibration, wanted: str, why: str) -> Calibration:
    return Calibration(plain.calibrator, f"{plain.reason} Not {wanted}: {why}.")


def _preferred(
    basis: _Basis, groups: NDArray[np.str_], smaller: int, plain: Calibration
) -> Calibration:
    """Try what there are images enough for, the stiffest first."""
    from hilum.splits import folds  # brings pandas, which prediction need not wait for

    y = basis.y
    kinds = [kind for kind, least in LEAST_OF_CLASS.items() if smaller >= least]
    if not kinds:
        needed = LEAST_OF_CLASS["platt"]
        return _instead(
            plain, "platt or isotonic", f"fewer than {needed} validation images are of one class"
        )
    n_patients = min(len(set(groups[y == k])) for k in (0, 1))
    if n_patients < 2 * N_FOLDS:
        return _instead(
            plain, "platt or isotonic", f"only {n_patients} patients are there to try them on"
        )
    fold = folds(y.astype(str).tolist(), groups.tolist(), N_FOLDS, seed=0)
    losses = {kind: _losses(kind, basis, fold) for kind in ("temperature", *kinds)}
    best = "temperature"
    for kind in kinds:
        gain = losses[best] - losses[kind]
        if gain.mean() > mean_error(gain, groups):
            best = kind
    tried = ", ".join(f"{kind} {losses[kind].mean():.4f}" for kind in losses)
    judged = f"log loss in {N_FOLDS}-fold cross-validation by patient: {tried}"
    if best == "temperature":
        return Calibration(
            plain.calibrator,
            f"{plain.reason} Nothing that bends more was better by more than its standard error "
            f"({judged}).",
        )
    fitted = _fit(best, basis)
    return Calibration(
        fitted,
        f"{_shown(fitted)}, on {len(y):,} validation images: it was better than what bends less by "
        f"more than its standard error ({judged}).",
    )


def _losses(kind: str, basis: _Basis, fold: NDArray[np.int_]) -> Floats:
    """Log loss of each sample by a calibrator that has not seen its patient."""
    losses = np.empty(len(basis.y))
    for k in range(N_FOLDS):
        out = fold == k
        calibrated = _fit(kind, basis.of(~out)).logits(basis.z[out])
        losses[out] = log_losses(calibrated[:, None], basis.y[out])
    return losses


def _shown(calibrator: Calibrator) -> str:
    if calibrator.method == "temperature":
        return f"Temperature {1 / calibrator.slope:.2f}"
    if calibrator.method == "platt":
        line = f"slope {calibrator.slope:.2f}, intercept {calibrator.intercept:+.2f}"
        return f"Platt scaling, {line}"
    return f"Isotonic curve through {len(calibrator.knots)} points"
