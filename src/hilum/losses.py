"""What training makes small, and the scores of validation, for each kind of target.

Labels are class indices (n,) for classes and ordinal grades; for multi-label data a float matrix
(n, n_labels) of 0, 1 and NaN where unknown. What is unknown adds nothing to a loss or a score.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hilum.calibration import class_probabilities
from hilum.metrics import above_cuts, auroc, balanced_accuracy, macro_auroc
from hilum.networks import log_probabilities
from hilum.settings import Settings
from hilum.targets import Labels, median_grade

Loss = Callable[[Tensor, Tensor], Tensor]

POWERS = {"none": 0.0, "root": 0.5, "balanced": 1.0}
"""To what power of its rarity a class is weighted."""


def make_loss(settings: Settings, labels: Labels, n_classes: int, device: torch.device) -> Loss:
    """Make the loss that the settings ask for.

    Parameters
    ----------
    labels : array
        Of all training samples: what rarity is judged by where classes are weighed.
    n_classes : int
        Classes, grades, or labels an image.

    Returns
    -------
    callable
        (logits (n, n_outputs), labels of the same n samples) → scalar tensor.
    """
    weights = class_weights(labels, n_classes, settings).to(device)
    return lambda logits, some: loss_of(logits, some, weights, settings)


def loss_of(logits: Tensor, labels: Tensor, weights: Tensor, settings: Settings) -> Tensor:
    """Compute the loss of a batch by the kind of target; parameters are those of its functions.

    Weighted or not, losses are divided by their number: divided by the sum of a batch's weights,
    common classes would count more in batches that hold no rare one.
    """
    match settings.target:
        case "multilabel":
            return multilabel_loss(logits, labels, weights, settings)
        case "ordinal":
            return ordinal_loss(logits, labels, weights, settings)
        case "classes":
            return classification_loss(logits, labels, weights, settings)


def class_weights(labels: Labels, n_classes: int, settings: Settings) -> Tensor:
    """Weigh each class by the inverse of its frequency, by the root of that, or all alike.

    Returns
    -------
    float tensor of shape (n_classes,)
        With a mean of 1 over the images. For multi-label data (n_labels, 2): of absence and of
        presence, by label, among the images of which it is known.
    """
    if settings.target == "multilabel":
        counts = np.stack([(labels == 0).sum(axis=0), (labels == 1).sum(axis=0)], axis=1)
    else:
        counts = np.bincount(labels, minlength=n_classes)
    counts = np.maximum(counts, 1).astype(np.float64)
    weights = counts ** -POWERS[settings.class_weights]
    mean = (weights * counts).sum(axis=-1, keepdims=True) / counts.sum(axis=-1, keepdims=True)
    return torch.tensor(weights / mean, dtype=torch.float32)


def log_priors(labels: Labels, n_classes: int, settings: Settings) -> NDArray[np.float64] | None:
    """Say what weights take from the logits of a network that learns with them.

    Where each image counts w times, outputs become those of data in which the odds of its class
    are w times as high.

    Returns
    -------
    float array of shape (n_outputs,), or None
        To be added to logits for the probabilities of the training images as they come. Of more
        than two classes, the logarithm of what each is divided by, scaled to sum to 1. None where
        no class is weighted.
    """
    if settings.class_weights == "none":
        return None
    weights = class_weights(labels, n_classes, settings).double().numpy()
    if settings.target == "multilabel":
        taken = weights[:, 0] / weights[:, 1]
    elif n_classes == 2:
        taken = weights[:1] / weights[1:]
    else:
        taken = 1 / (weights * (1 / weights).sum())
    return np.asarray(np.log(taken), dtype=np.float64)


def classification_loss(
    logits: Tensor, labels: Tensor, weights: Tensor, settings: Settings
) -> Tensor:
    """Compute the loss of a batch of images of one class each.

    Parameters
    ----------
    logits : float32 tensor of shape (n, n_outputs)
    labels : int tensor of shape (n,)
    weights : float tensor of shape (n_classes,)

    Returns
    -------
    scalar tensor
        Cross-entropy, or the binary cross-entropy of each class's probability, averaged.
    """
    log_probs = log_probabilities(logits)
    smoothing = settings.label_smoothing * _smoothed_to(weights, settings)
    targets = F.one_hot(labels, len(weights)) * (1 - settings.label_smoothing) + smoothing
    if settings.loss == "cross_entropy":
        # Log-probabilities are their own log-softmax, so the usual function applies.
        by_image = F.cross_entropy(log_probs, targets, reduction="none")
    else:
        # log(1 - p), kept finite where p is 1.
        log_rest = torch.log1p(-log_probs.exp().clamp(max=1 - 1e-7))
        by_image = -(targets * log_probs + (1 - targets) * log_rest).mean(dim=1)
    return (by_image * weights[labels]).mean()


def _smoothed_to(weights: Tensor, settings: Settings) -> Tensor:
    """Return the shares of the classes that smoothing moves labels towards.

    All alike where none is weighted, as is customary; or else those that the classes have in the
    loss, so that no rare class has a floor in common with frequent ones: over its share of the
    images, by which weighted classes are called, that would be more than anything seen.
    """
    counted = torch.ones_like(weights)
    if power := POWERS[settings.class_weights]:
        counted = weights * weights ** (-1 / power)  # the latter are as the shares of the images
    return counted / counted.sum()


def ordinal_loss(logits: Tensor, labels: Tensor, weights: Tensor, settings: Settings) -> Tensor:
    """Compute the loss of a batch of graded images: `classification_loss` and beside it distance.

    The ranked probability score is added, the squared distance of the cumulative distributions,
    averaged over the cuts between grades: a grade far off costs more than its neighbour. Alone it
    is a proper score too, but flat where a network is sure and wrong; cross-entropy is not.

    Parameters
    ----------
    logits : float32 tensor of shape (n, n_grades)
    labels : int tensor of shape (n,)
        The grade, from 0.
    weights : float tensor of shape (n_grades,)

    References
    ----------
    Epstein, A scoring system for probability forecasts of ranked categories, 1969. Hou et al.,
    Squared earth mover's distance-based loss for training deep neural networks, 2016.
    """
    plain = classification_loss(logits, labels, weights, settings)
    reached = log_probabilities(logits).exp().cumsum(dim=1)[:, :-1]  # (n, cuts)
    cuts = torch.arange(reached.shape[1], device=labels.device)
    is_reached = (labels[:, None] <= cuts).to(reached.dtype)
    by_image = (reached - is_reached).square().mean(dim=1)
    return plain + (by_image * weights[labels]).mean()


def multilabel_loss(logits: Tensor, labels: Tensor, weights: Tensor, settings: Settings) -> Tensor:
    """Compute the loss of a batch of images with several labels: binary cross-entropy of the known.

    Parameters
    ----------
    logits : float32 tensor of shape (n, n_labels)
    labels : float32 tensor of shape (n, n_labels)
        0, 1, or NaN where unknown.
    weights : float tensor of shape (n_labels, 2)

    Returns
    -------
    scalar tensor
        Averaged over all that is known; 0 where nothing is.
    """
    known = ~labels.isnan()
    truth = labels.nan_to_num(0.0)  # NaN, even if not counted, would spoil the gradient
    chosen = torch.where(truth == 1, weights[:, 1], weights[:, 0]) * known
    smoothing = settings.label_smoothing
    targets = truth * (1 - smoothing) + smoothing / 2
    by_label = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (by_label * chosen).sum() / known.sum().clamp_min(1)


def validation_scores(
    logits: NDArray[np.float32],
    labels: Labels,
    settings: Settings,
    priors: NDArray[np.float64] | None = None,
) -> dict[str, float]:
    """Score validation samples: loss, AUROC, balanced accuracy; NaN once diverged.

    Parameters
    ----------
    logits : float array of shape (n, n_outputs)
    labels : array
        Of the same samples.
    priors : float array of shape (n_outputs,), optional
        What weights took from the logits in training, as `log_priors` returns it.

    Returns
    -------
    dict
        'val_loss' (of the images as they come, without smoothing), 'val_auroc' (of the positive
        class; the mean over classes, over cuts between grades, or over labels with both outcomes),
        'val_balanced_accuracy' (of the most probable class, over its share where classes were
        weighted; of the median grade; or the mean over labels at a probability of 0.5).
    """
    if priors is not None:
        logits = logits + priors.astype(np.float32)
    loss = validation_loss(logits, labels, settings)
    if not math.isfinite(loss):
        return {"val_loss": math.nan, "val_auroc": math.nan, "val_balanced_accuracy": math.nan}
    if settings.target == "multilabel":
        ranked, balanced = _score_labels(logits, labels)
    elif settings.target == "ordinal":
        ranked, balanced = _score_grades(logits, labels)
    else:
        even = logits
        if priors is not None:  # the logarithms of shares, to the power by which classes weigh
            even = logits - (priors / POWERS[settings.class_weights]).astype(np.float32)
        ranked, balanced = _score_classes(logits, even, labels)
    return {"val_loss": loss, "val_auroc": ranked, "val_balanced_accuracy": balanced}


def validation_loss(logits: NDArray[np.float32], labels: Labels, settings: Settings) -> float:
    """Compute the loss of samples as they come, without weights and smoothing."""
    plain = settings.model_copy(update={"label_smoothing": 0.0, "class_weights": "none"})
    n_classes = 2 if logits.shape[1] == 1 else logits.shape[1]
    if settings.target == "multilabel":
        n_classes = logits.shape[1]
    weights = class_weights(labels, n_classes, plain)
    return float(loss_of(torch.from_numpy(logits), torch.from_numpy(labels), weights, plain))


def why_no_auroc(labels: Labels, class_names: Sequence[str]) -> str:
    """Say why validation samples with these labels have no AUROC; '' where they have one."""
    if labels.ndim == 2:
        counts = zip((labels == 1).sum(axis=0), (labels == 0).sum(axis=0), strict=True)
        if any(present and absent for present, absent in counts):
            return ""
        what = "no label is present in some validation images and absent in others"
    elif len(np.unique(labels)) > 1:
        return ""
    else:
        what = f"all {len(labels):,} validation images are {class_names[int(labels[0])]}"
    return f"The AUROC on validation stays unknown (nan): {what}."


def _score_classes(
    logits: NDArray[np.float32], even: NDArray[np.float32], labels: Labels
) -> tuple[float, float]:
    """Score classes by their logits, and what is called by logits of classes as frequent."""
    probs = class_probabilities(logits)
    if len(np.unique(labels)) < 2:
        ranked = math.nan  # which `why_no_auroc` tells once, not each epoch
    elif probs.shape[1] == 2:
        ranked = auroc(labels, probs[:, 1])
    else:
        ranked = macro_auroc(labels, probs)
    called = class_probabilities(even).argmax(axis=1)
    return ranked, float(balanced_accuracy(labels, called))


def _score_grades(logits: NDArray[np.float32], labels: Labels) -> tuple[float, float]:
    probs = class_probabilities(logits)
    beyond = above_cuts(probs)
    cuts = [k for k in range(probs.shape[1] - 1) if 0 < (labels <= k).sum() < len(labels)]
    ranked = _mean([auroc(labels > k, beyond[:, k]) for k in cuts])
    return ranked, float(balanced_accuracy(labels, median_grade(probs)))


def _score_labels(logits: NDArray[np.float32], labels: Labels) -> tuple[float, float]:
    pairs = zip(logits.T, labels.T, strict=True)
    columns = [(z[~np.isnan(y)], y[~np.isnan(y)]) for z, y in pairs]
    both = [(z, y) for z, y in columns if 0 < y.sum() < len(y)]
    ranked = _mean([auroc(y, z) for z, y in both])
    return ranked, _mean([balanced_accuracy(y, z >= 0) for z, y in both])


def _mean(values: list[Any]) -> float:
    return float(np.mean(values)) if values else math.nan
