"""A linear model on the features of a backbone that does not learn: minutes become seconds.

Every training image goes through the backbone once, and a logistic regression is fitted on what
comes out. Its weights become the network's head, so that the model folder and all that follows are
those of any other training. How strongly the regression is held back is chosen by cross-validation
between training patients.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from torch import nn

from hilum.augment import augment
from hilum.backbones import Backbone
from hilum.batches import Samples, to_tensor
from hilum.errors import SettingError
from hilum.files import write_csv
from hilum.hardware import keep_to_cores
from hilum.losses import class_weights, log_priors, validation_loss, validation_scores, why_no_auroc
from hilum.memory import keep_pages
from hilum.networks import Network, build_network
from hilum.pixels import Images
from hilum.pretrained import begin
from hilum.progress import Progress
from hilum.settings import Settings
from hilum.targets import Labels
from hilum.training import (
    HISTORY_COLUMNS,
    Trained,
    constants_of,
    make_fabric,
    n_at_once,
    network_logits,
    pixel_statistics,
)

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""Inverse strengths of the penalty that are tried, scikit-learn's C, on standardised features."""

PLAIN_STRENGTH = 0.01

N_FOLDS = 5
MOST_TRIED = 10_000
"""Images that the strength is chosen on, of whole patients at random; the last fit has all."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """A fitted linear model: scores are features @ weights.T + intercepts.

    Attributes
    ----------
    weights : float array of shape (n_outputs, n_features)
    intercepts : float array of shape (n_outputs,)
    """

    weights: Floats
    intercepts: Floats

    def scores(self, features: Floats) -> Floats:
        """Return the logits (n, n_outputs) of features (n, n_features)."""
        return features @ self.weights.T + self.intercepts


def train_probe(
    train: Samples,
    val: Samples,
    settings: Settings,
    class_names: Sequence[str],
    folder: Path,
    progress: Progress,
) -> Trained:
    """Fit the head of a network whose backbone stays as its weights make it.

    Parameters and errors are those of `training.train_network`. There is no checkpoint: a run that
    is resumed fits again, to the same weights.
    """
    keep_pages()
    keep_to_cores()
    started = time.monotonic()
    network = probe_network(settings, class_names, train.pixels)
    features, rows = find_features(network, train, settings, progress)
    labels = train.labels[rows]
    own = [str(row) for row in range(len(train))]
    groups = np.asarray(train.groups or own)[rows]
    strength, reason = choose_strength(features, labels, groups, settings)
    line = fit_line(features, labels, strength, settings, network_outputs(network))
    put_into_head(network, line)
    progress.say(reason)
    if unknown := why_no_auroc(val.labels, class_names):
        progress.say(unknown)
    priors = log_priors(train.labels, len(class_names), settings)
    known = line.scores(features[: len(train)]).astype(np.float32)  # of the images as they are
    train_scores, scores = (
        validation_scores(logits, part.labels, settings, priors)
        for logits, part in ((known, train), (network_logits(network, val.pixels), val))
    )
    elapsed_s = time.monotonic() - started
    row = {
        "member": 1,
        "epoch": 1,
        "train_loss": train_scores["val_loss"],
        **scores,
        "learning_rate": 0.0,
        "images_per_s": len(rows) / elapsed_s,
        "elapsed_s": elapsed_s,
    }
    history = pd.DataFrame([row], columns=list(HISTORY_COLUMNS))
    write_csv(folder / "history.csv", history)
    return Trained(network.cpu().eval(), (1,), history, reason)


def probe_network(settings: Settings, class_names: Sequence[str], pixels: Images) -> Network:
    """Build a network whose backbone is as its weights make it, on the device that is to be used.

    Parameters
    ----------
    pixels : Images
        Of training, for their mean and deviation where the weights bring none.
    """
    torch.manual_seed(settings.seed)
    mean, std = constants_of(settings, lambda: pixel_statistics(pixels))
    network = build_network(settings, len(class_names), mean=mean, std=std)
    begin(cast(Backbone, network.backbone), settings)
    return network.to(make_fabric(settings).device).eval()


@torch.no_grad()
def find_features(
    network: Network, train: Samples, settings: Settings, progress: Progress
) -> tuple[Floats, NDArray[np.int64]]:
    """Send every image through the backbone: once as it is, and `probe_passes` times augmented.

    Returns
    -------
    features : float array of shape (n, n_features)
    rows : int array of shape (n,)
        Which training image each comes from.
    """
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(settings.seed)
    n, parts = len(train), []
    at_once = n_at_once(settings.input_height, settings.input_width)
    n_passes = 1 + settings.probe_passes
    with progress.task("Features", n * n_passes) as task:
        for each in range(n_passes):
            for start in range(0, n, at_once):
                images = to_tensor(np.asarray(train.pixels[start : start + at_once]), device)
                if each:
                    images = augment(images, settings, generator)
                found = network.gather(network.feature_map(images))
                parts.append(found.cpu().double().numpy())
                task.advance(len(images))
    return np.concatenate(parts), np.tile(np.arange(n), n_passes)


def choose_strength(
    features: Floats, labels: Labels, groups: NDArray[Any], settings: Settings
) -> tuple[float, str]:
    """Choose how far the weights are let go, by the log loss on patients that were held out.

    Parameters
    ----------
    groups : array of str, of shape (n,)
        Patient of each row; copies of an image stay with it.

    Returns
    -------
    strength : float
        scikit-learn's C.
    reason : str
    """
    rows = _whole_patients(groups, settings.seed)
    x, y, g = features[rows], labels[rows], groups[rows]
    n_folds = min(N_FOLDS, len(set(g)))
    folds = (
        list(GroupKFold(n_folds, shuffle=True, random_state=settings.seed).split(x, groups=g))
        if n_folds > 1
        else []
    )
    # Of one class alone, which as many images of few patients may be, no line can be fitted.
    is_one_class = y.ndim == 1 and len(np.unique(y)) < 2
    if not folds or is_one_class or any(not holds_every_class(y[rest], y) for rest, _ in folds):
        return PLAIN_STRENGTH, (
            f"Linear model with C = {PLAIN_STRENGTH:g}, by default: too few patients to choose by."
        )
    losses = []
    for strength in STRENGTHS:
        held_out = []
        for rest, out in folds:
            line = fit_line(x[rest], y[rest], strength, settings, size_of_outputs(y, settings))
            scores = line.scores(x[out]).astype(np.float32)
            priors = log_priors(y[rest], n_classes_of(y, settings), settings)
            if priors is not None:
                scores = scores + priors.astype(np.float32)
            held_out.append((validation_loss(scores, y[out], settings), len(out)))
        values, counts = zip(*held_out, strict=True)
        losses.append(float(np.average(values, weights=counts)))
    if not np.isfinite(losses).any():
        return PLAIN_STRENGTH, (
            f"Linear model with C = {PLAIN_STRENGTH:g}, by default: no log loss of those tried is "
            "finite."
        )
    best = int(np.nanargmin(losses))
    return STRENGTHS[best], (
        f"Linear model with C = {STRENGTHS[best]:g}: the least log loss ({losses[best]:.3f}) of "
        f"{len(STRENGTHS)} tried, on held-out training patients in {n_folds} folds."
    )


def _whole_patients(groups: NDArray[Any], seed: int) -> NDArray[np.int64]:
    """Draw patients until there are enough images to choose by."""
    names, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    n_taken = max(2, int(np.searchsorted(counts[order].cumsum(), MOST_TRIED)) + 1)
    return np.flatnonzero(np.isin(inverse, order[:n_taken]))


def holds_every_class(part: Labels, whole: Labels) -> bool:
    """Tell whether a part has every class of the whole; of several labels, each and its absence."""
    if whole.ndim == 1:
        return set(np.unique(part)) == set(np.unique(whole))
    seen = [np.stack([(each == value).any(axis=0) for value in (0, 1)]) for each in (part, whole)]
    return bool(np.array_equal(seen[0], seen[1]))


def size_of_outputs(labels: Labels, settings: Settings) -> int:
    """Return how many scores tell these labels apart: one for two classes."""
    n_classes = n_classes_of(labels, settings)
    return 1 if n_classes == 2 and settings.target != "multilabel" else n_classes


def n_classes_of(labels: Labels, settings: Settings) -> int:
    """Count the classes, grades or labels that these are."""
    return int(labels.shape[1] if settings.target == "multilabel" else labels.max() + 1)


def fit_line(
    features: Floats, labels: Labels, strength: float, settings: Settings, n_outputs: int
) -> Line:
    """Fit a logistic regression; of several labels one each, on the images where it is known.

    Parameters
    ----------
    strength : float
        scikit-learn's C.
    n_outputs : int
        As the network has: 1 for two classes.
    """
    mean, scale = features.mean(axis=0), _scale(features)
    x = (features - mean) / scale
    if settings.target == "multilabel":
        columns = [labels[:, column] for column in range(n_outputs)]
        parts = [_fit_label(x[~np.isnan(y)], y[~np.isnan(y)], strength, settings) for y in columns]
        weights = np.concatenate([part.weights for part in parts])
        intercepts = np.concatenate([part.intercepts for part in parts])
    else:
        found = _regression(x, labels, strength, settings)
        weights, intercepts = found.coef_, found.intercept_
        if n_outputs > 1:
            weights, intercepts = _all_classes(found, n_outputs)
    # The standardising becomes part of the line, so that the head takes plain features.
    weights = weights / scale
    return Line(weights, intercepts - weights @ mean)


def _scale(features: Floats) -> Floats:
    """Return what features are divided by: the deviation of each, or the median one if greater.

    What hardly varies among some hundred images may vary a hundred times as much in the next one.
    """
    deviation = features.std(axis=0)
    scale = np.maximum(deviation, np.median(deviation))
    return np.asarray(np.where(scale > 1e-12, scale, 1.0))


def _fit_label(x: Floats, y: Labels, strength: float, settings: Settings) -> Line:
    """Fit one label; where all known answers are the same, that is what is learnt."""
    if len(np.unique(y)) < 2:
        sure = float(np.log(len(y) + 1))
        return Line(np.zeros((1, x.shape[1])), np.array([sure if y.sum() > 0 else -sure]))
    found = _regression(x, y.astype(np.int64), strength, settings)
    return Line(found.coef_, found.intercept_)


def _regression(x: Floats, y: Labels, strength: float, settings: Settings) -> LogisticRegression:
    weights = None
    if settings.class_weights != "none":  # of several labels each is as two classes
        as_classes = settings.model_copy(update={"target": "classes"})
        by_class = class_weights(y, int(y.max()) + 1, as_classes).tolist()
        weights = {k: by_class[k] for k in np.unique(y).tolist()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # near the optimum is near enough
        return LogisticRegression(C=strength, max_iter=300, class_weight=weights).fit(x, y)


def _all_classes(found: LogisticRegression, n_outputs: int) -> tuple[Floats, Floats]:
    """Give a class that no training image has a row, and a low score."""
    weights, intercepts = np.zeros((n_outputs, found.coef_.shape[1])), np.full(n_outputs, -10.0)
    if len(found.classes_) == 2:  # scikit-learn gives the second class's row alone
        weights[found.classes_[1]], intercepts[found.classes_] = found.coef_[0], 0.0
        intercepts[found.classes_[1]] = found.intercept_[0]
    else:
        weights[found.classes_], intercepts[found.classes_] = found.coef_, found.intercept_
    return weights, intercepts


def network_outputs(network: Network) -> int:
    """Return how many logits the network's head gives."""
    return _last_layer(network).out_features


def put_into_head(network: Network, line: Line) -> None:
    """Make a fitted line the last layer of the network."""
    layer = _last_layer(network)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(line.weights))
        layer.bias.copy_(torch.from_numpy(line.intercepts))


def _last_layer(network: Network) -> nn.Linear:
    layers = [layer for layer in network.head.modules() if isinstance(layer, nn.Linear)]
    if len(layers) != 1:
        raise SettingError("Setting probe = True cannot be used with dense_units: leave them out.")
    return layers[0]
