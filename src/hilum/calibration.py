"""From logits to probabilities that mean what they say: the temperature, fitted on validation data,
and the checks that labels and scores belong together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hilum.errors import DataError, SettingError

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

# Where no validation image is on the wrong side, ever sharper probabilities fit ever better; these
# bounds keep them from certainty that so few images cannot support.
LEAST_TEMPERATURE = 0.25
MOST_TEMPERATURE = 20.0

# Fewer say nothing of a temperature, which is drawn towards 1 where images are few.
LEAST_FOR_TEMPERATURE = 3

# What is thought of the logarithm of a temperature beforehand: 0, with this deviation. On held-out
# patients of small sets it had less log loss than what was fitted without (benchmarks/README.md).
TEMPERATURE_SPREAD = 0.5

# Nearer to 1 than this, a probability tells of two images only which is the surer one: what is
# missing would soon round to nothing, and its logarithm takes its place.
NEAR_ONE = 1e-7

# No probability of a model is less: 0, which only single precision gives, has no logarithm.
LEAST_PROBABILITY = 1e-300
SINGLE_LEAST = 1e-8
MOST_LOG_ODDS = 700.0

# Scores closer than this differ by rounding: another device or ONNX Runtime may swap their order.
ROUNDING = 1e-6
LOGIT_ROUNDING = 1e-4  # of log-odds


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
        Sigmoid of one column, softmax of more, as `sigmoid` and `softmax` write them.

    Raises
    ------
    SettingError
        If the temperature is not a positive number.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise SettingError(f"A temperature is a positive number; got {temperature}.")
    z = np.asarray(logits, dtype=np.float64) / temperature
    return sigmoid(z) if z.ndim == 1 else softmax(z)


def sigmoid(z: ArrayLike) -> Floats:
    """Turn log-odds of any shape into probabilities that have the same order.

    1 / (1 + exp(-z)) is exactly 1 from z = 37 on, and in single precision from 17 on: a network
    that is sure of many images would rank none of them. Within 10⁻⁷ of 1 probabilities are
    therefore written as `below_one` says, and no value changes by more than that.
    """
    array = np.asarray(z, dtype=np.float64)
    odds = np.exp(-np.abs(array))
    rest = np.maximum(odds / (1 + odds), LEAST_PROBABILITY)
    return np.where(array > 0, below_one(rest), rest)


def softmax(z: ArrayLike) -> Floats:
    """Turn logits (n_samples, n_classes) into probabilities, whose columns rank as log-odds do."""
    probs = np.exp(log_probs(np.asarray(z, dtype=np.float64)))
    return keep_order(np.maximum(probs, LEAST_PROBABILITY))


def class_probabilities(logits: ArrayLike) -> Floats:
    """Turn logits (n_samples, n_outputs) into probabilities (n_samples, n_classes).

    One output is the log-odds of the second of two classes. Either is exact where it is small.
    """
    z = np.asarray(logits, dtype=np.float64)
    return softmax(z) if z.shape[1] > 1 else sigmoid(np.concatenate([-z, z], axis=1))


def keep_order(probs: Floats) -> Floats:
    """Write probabilities near 1 by what is left for the other classes, which is exact.

    Parameters
    ----------
    probs : float array of shape (n_samples, n_classes)
    """
    is_top = probs > 0.5
    rest = np.where(is_top, 0.0, probs).sum(axis=1, keepdims=True)
    return np.where(is_top & (rest < NEAR_ONE), below_one(rest), probs)


def below_one(rest: Floats) -> Floats:
    """Return 1 - rest, held apart from 1 and in order however small the rest is.

    A rest r below c = 10⁻⁷ counts as c / (1 + log(c / r)), which falls with it, from c on.
    """
    small = np.clip(rest, LEAST_PROBABILITY, NEAR_ONE)
    return np.asarray(
        1 - np.where(rest > NEAR_ONE, rest, NEAR_ONE / (1 + np.log(NEAR_ONE / small)))
    )


def log_odds(probs: ArrayLike) -> Floats:
    """Return the log-odds of probabilities, as `sigmoid` takes them.

    What is exactly 0 or 1 was in single precision, and counts as 10⁻⁸ from there.
    """
    p = np.asarray(probs, dtype=np.float64)
    rest = 1 - p
    tiny = np.finfo(np.float64).tiny
    near = math.log(NEAR_ONE) + 1 - NEAR_ONE / np.clip(rest, NEAR_ONE / MOST_LOG_ODDS, NEAR_ONE)
    log_rest = np.where(rest >= NEAR_ONE, np.log(np.maximum(rest, tiny)), near)
    log_rest = np.where(rest > 0, log_rest, math.log(SINGLE_LEAST))
    return np.asarray(log_probability(np.maximum(p, 0)) - log_rest)


def log_probability(probs: ArrayLike) -> Floats:
    """Return logarithms, where 0 counts as the least that single precision tells from it."""
    p = np.asarray(probs, dtype=np.float64)
    return np.log(np.where(p > 0, p, SINGLE_LEAST))


def fit_temperature(logits: ArrayLike, y_true: ArrayLike, priors: ArrayLike = 0.0) -> float:
    """Find the temperature whose probabilities fit the labels best, near 1 where these are few.

    Parameters
    ----------
    logits : float array of shape (n_samples,) or (n_samples, n_classes)
        One column: logit of class 1.
    y_true : int array of shape (n_samples,)
    priors : float, or float array of shape (n_classes,)
        Added to logits once they are divided by the temperature.

    Returns
    -------
    float
        In [0.25, 20]. 1, which changes nothing, where fewer than two classes have 3 images.

    Raises
    ------
    DataError
        If the lengths differ, a logit is not finite, or a label is not a class.

    Notes
    -----
    The sum of log losses and of (log temperature)² / (2 · 0.5²) is least: the most probable
    temperature, were logarithms of temperatures normally distributed with a deviation of 0.5. Some
    hundred images outweigh that; twenty, of which none or two happen to be on the wrong side, would
    else make probabilities certain or flat.

    References
    ----------
    Guo et al., On calibration of modern neural networks, ICML 2017.
    """
    z, y = checked_logits(logits, y_true)
    if too_few(y):
        return 1.0
    columns = z[:, None] if z.ndim == 1 else z
    added = np.asarray(priors, dtype=np.float64)

    def cost(log_temperature: float) -> float:
        losses = log_losses(columns * math.exp(-log_temperature) + added, y)
        return float(losses.sum()) + (log_temperature / TEMPERATURE_SPREAD) ** 2 / 2

    # There may be two valleys, so that the lowest is looked for among places close together.
    places = np.linspace(math.log(LEAST_TEMPERATURE), math.log(MOST_TEMPERATURE), 60)
    low, high = np.clip(int(np.argmin([cost(t) for t in places])) + np.array([-1, 1]), 0, 59)
    found = math.exp(_least(cost, float(places[low]), float(places[high])))
    return min(max(found, LEAST_TEMPERATURE), MOST_TEMPERATURE)


def _least(cost: Callable[[float], float], low: float, high: float) -> float:
    """Find where a function with one valley between two places is least, by thirds."""
    while high - low > 1e-6:
        third = (high - low) / 3
        if cost(low + third) < cost(high - third):
            high -= third
        else:
            low += third
    return (low + high) / 2


def temperature_reason(temperature: float, y_true: ArrayLike) -> str:
    """Say in one sentence why `fit_temperature` found this temperature for these labels."""
    y = np.asarray(y_true)
    if too_few(y):
        return (
            "Probabilities are left as they are: fewer than two classes have "
            f"{LEAST_FOR_TEMPERATURE} validation images to correct them by."
        )
    if temperature <= LEAST_TEMPERATURE * 1.001:
        return (
            f"Sharper probabilities would fit the {len(y):,} validation images better still; they "
            "are sharpened only as far as the bound allows."
        )
    too = "confident" if temperature > 1 else "cautious"
    return (
        f"Fitted on {len(y):,} validation images (least log loss, the nearer to 1 the fewer they "
        f"are): the network was too {too} there."
    )


def too_few(y: NDArray[Any]) -> bool:
    """Tell whether fewer than two classes have enough images to learn anything from."""
    counts = np.unique(y, return_counts=True)[1]
    return int((counts >= LEAST_FOR_TEMPERATURE).sum()) < 2


def log_probs(z: Floats) -> Floats:
    """Logarithms of sigmoid or softmax, without overflow."""
    if z.ndim == 1:
        return -np.logaddexp(0.0, -z)
    shifted = z - z.max(axis=1, keepdims=True, initial=-np.inf)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def log_losses(scores: Floats, labels: NDArray[Any]) -> Floats:
    """Return the log loss of each image.

    Parameters
    ----------
    scores : float array of shape (n, n_outputs)
        Logits; one alone is that of the second of two classes.
    labels : int array of shape (n,), or float array of shape (n, n_outputs)
        Of several labels, 0, 1 or NaN, the known ones count; an image without any loses nothing.
    """
    if labels.ndim == 2:
        signed = np.where(np.isnan(labels), np.inf, scores * (2 * labels - 1))
        n_known = np.maximum(1, (~np.isnan(labels)).sum(axis=1))
        return np.asarray(np.logaddexp(0, -signed).sum(axis=1) / n_known)
    if scores.shape[1] == 1:
        scores = np.c_[np.zeros(len(scores)), scores]
    return np.asarray(-log_probs(scores)[np.arange(len(labels)), labels])


def checked_logits(logits: ArrayLike, y_true: ArrayLike) -> tuple[Floats, Ints]:
    """Logits as floats and labels as indices, after checks that they belong together."""
    z, y = np.asarray(logits, dtype=np.float64), np.asarray(y_true)
    if z.ndim not in (1, 2):
        raise DataError(f"logits has shape {z.shape}: give (n_samples,) or (n_samples, n_classes).")
    n_classes = 2 if z.ndim == 1 else z.shape[1]
    return z, checked_labels(y, z, "logits", n_classes)


def checked_labels(y: NDArray[Any], scores: Floats, name: str, n_classes: int) -> Ints:
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


def check_probabilities(scores: Floats, name: str) -> None:
    """Refuse what is no probability; rounding may carry one over the bounds."""
    if scores.size and (scores.min() < -ROUNDING or scores.max() > 1 + ROUNDING):
        raise DataError(
            f"{name} reaches from {scores.min():.4g} to {scores.max():.4g}: give probabilities in "
            "[0, 1], not logits."
        )
