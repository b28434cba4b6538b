"""How well a model bears images that are worse, or from elsewhere: figures under changes of degree.

Validation images are changed as other scanners, exposures and archives would change them, and
predicted by the exported model. The figures are those at the locked threshold, which the rule
'robust' chooses with some of these predictions. The test split is not opened for any of it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from hilum.estimates import Study, mean_of, study_of
from hilum.intervals import Estimate
from hilum.model import ModelFacts
from hilum.multilabel import POSITIVE, LabelStudy, label_study, mean_over_labels
from hilum.pixels import Images
from hilum.progress import Progress
from hilum.splits import Strata, assign, label_strata
from hilum.targets import Labels
from hilum.threads import in_threads

Pixels = NDArray[np.uint8]
Probs = NDArray[np.float64]

MOST_PIXELS = 800 * 150 * 150
"""Of all images together; beyond that a sample of patients is taken."""

MOST_WORK = 0.1
"""Predictions under all changes together, as a share of the images that training saw."""

LEAST_IMAGES = 64

FIGURES = ("auroc", "sensitivity", "specificity")


@dataclass(frozen=True)
class Change:
    """One way to change an image, in degrees; level 0 leaves it as it is.

    Attributes
    ----------
    unit : str
        What a level counts.
    levels : tuple of float
        Rising; without 0.
    apply : function
        (pixels of shape (h, w, c), level, seed) → pixels.
    """

    unit: str
    levels: tuple[float, ...]
    apply: Callable[[Pixels, float, int], Pixels]


def blur(pixels: Pixels, level: float, seed: int) -> Pixels:
    """Blur with a Gaussian whose sigma is a share of the shorter side."""
    del seed
    sigma = level / 100 * min(pixels.shape[:2])
    return _array(_image(pixels).filter(ImageFilter.GaussianBlur(sigma)), pixels)


def add_noise(pixels: Pixels, level: float, seed: int) -> Pixels:
    """Add Gaussian noise; the same image gets the same noise, stronger at a higher level."""
    drawn = np.random.default_rng(seed).standard_normal(pixels.shape, dtype=np.float32)
    return _clipped(pixels + drawn * np.float32(level / 100 * 255))


def scale_contrast(pixels: Pixels, level: float, seed: int, *, sign: int) -> Pixels:
    """Stretch or squeeze grey values about the image's mean."""
    del seed
    mean = float(pixels.mean())
    return _clipped((np.arange(256) - mean) * (1 + sign * level / 100) + mean)[pixels]


def shift_brightness(pixels: Pixels, level: float, seed: int, *, sign: int) -> Pixels:
    """Add a share of the range to every value."""
    del seed
    return _clipped(np.arange(256) + sign * level / 100 * 255)[pixels]


def bend_gamma(pixels: Pixels, level: float, seed: int, *, sign: int) -> Pixels:
    """Raise values, as shares of the range, to a power: 1 + level, or its inverse."""
    del seed
    power = (1 + level / 100) ** sign
    return _clipped(255 * (np.arange(256) / 255) ** power)[pixels]


def rotate(pixels: Pixels, level: float, seed: int) -> Pixels:
    """Turn by some degrees, every second image the other way; borders are repeated."""
    height, width = pixels.shape[:2]
    # A border this wide holds all that a turn of up to 45 degrees brings into the picture.
    rim = max(height, width) // 4 + 1
    wide = np.pad(pixels, ((rim, rim), (rim, rim), (0, 0)), mode="edge")
    angle = level if seed % 2 else -level
    turned = _array(_image(wide).rotate(angle, Image.Resampling.BILINEAR), wide)
    return turned[rim : rim + height, rim : rim + width]


def recompress(pixels: Pixels, level: float, seed: int) -> Pixels:
    """Save as a JPEG of quality 100 - level."""
    del seed
    stream = io.BytesIO()
    _image(pixels).save(stream, "JPEG", quality=int(100 - level))
    with Image.open(stream) as image:
        return _array(image, pixels)


def coarsen(pixels: Pixels, level: float, seed: int) -> Pixels:
    """Make smaller by a share of the side, and large again."""
    del seed
    height, width = pixels.shape[:2]
    factor = 1 - level / 100
    small = (max(1, round(width * factor)), max(1, round(height * factor)))
    image = _image(pixels).resize(small, Image.Resampling.BILINEAR)
    return _array(image.resize((width, height), Image.Resampling.BILINEAR), pixels)


CHANGES: dict[str, Change] = {
    "blur": Change("sigma, % of the side", (0.5, 1, 2), blur),
    "noise": Change("standard deviation, % of the range", (2, 5, 10), add_noise),
    "less_contrast": Change("%", (20, 40, 60), partial(scale_contrast, sign=-1)),
    "more_contrast": Change("%", (20, 40, 80), partial(scale_contrast, sign=1)),
    "darker": Change("% of the range", (10, 20, 30), partial(shift_brightness, sign=-1)),
    "brighter": Change("% of the range", (10, 20, 30), partial(shift_brightness, sign=1)),
    "gamma_above_1": Change("% above 1", (20, 50, 100), partial(bend_gamma, sign=1)),
    "gamma_below_1": Change("% above 1, inverted", (20, 50, 100), partial(bend_gamma, sign=-1)),
    "rotation": Change("degrees", (5, 10, 20), rotate),
    "jpeg": Change("100 - quality", (50, 75, 90), recompress),
    "resolution": Change("% of the side lost", (50, 65, 80), coarsen),
}


def changed(pixels: Images, name: str, level: float) -> Pixels:
    """Change prepared images.

    Parameters
    ----------
    pixels : uint8 images of shape (n, height, width, channels)
    name : str
        One of `CHANGES`.
    level : float
        As `CHANGES` lists them, or any between.

    Returns
    -------
    uint8 array of shape (n, height, width, channels)
        The same for the same input.
    """
    apply = CHANGES[name].apply
    seeds = range(len(pixels))
    return np.stack(list(in_threads(lambda seed: apply(pixels[seed], level, seed), seeds)))


@dataclass(frozen=True)
class UnderChange:
    """How a model answers some validation images, as they are and changed.

    Attributes
    ----------
    chosen : int array of shape (n_chosen,)
        Their places among the validation images.
    reason : str
        Why these, and why at these levels.
    unchanged : float array of shape (n_chosen, n_classes)
        Probabilities of the images as they are.
    changed : dict
        Change → level → probabilities of the same shape.
    """

    chosen: NDArray[np.intp]
    reason: str
    unchanged: Probs
    changed: dict[str, dict[float, Probs]]

    @property
    def middling(self) -> Probs:
        """Probabilities under each change at its middle level, (n_changes, n_chosen, n_classes)."""
        return np.stack([found[middle_level(name)] for name, found in self.changed.items()])


def middle_level(name: str) -> float:
    """Return the level of a change that is seen in practice: neither slight nor the greatest."""
    levels = CHANGES[name].levels
    return levels[len(levels) // 2]


def predict_changed(
    predict: Callable[[Pixels], Probs],
    unchanged: Probs,
    pixels: Images,
    labels: Labels,
    groups: Sequence[str],
    progress: Progress,
    *,
    n_trained: int,
    for_curves: bool = True,
    for_threshold: bool = False,
) -> UnderChange:
    """Predict validation images under every change.

    Parameters
    ----------
    predict : callable
        uint8 images of shape (n, height, width, channels) → probabilities (n, n_classes).
    unchanged : float array of shape (n, n_classes)
        What it gives for the images as they are.
    pixels : uint8 images of shape (n, height, width, channels)
        Prepared validation images.
    labels : array
        Class of each image, or 0, 1 and NaN of shape (n, n_labels).
    groups : sequence of str
        Patient of each.
    n_trained : int
        Images that training saw, in all epochs together; the work here is bounded by it.
    for_curves, for_threshold : bool
        What the predictions are for: curves take all levels where there is time, a threshold the
        middle one of each change.
    """
    levels, n_affordable = choose_levels(
        n_trained, for_curves=for_curves, for_threshold=for_threshold
    )
    chosen, why = _sample(pixels, labels, groups, n_affordable)
    if for_curves and any(levels[name] != change.levels for name, change in CHANGES.items()):
        why += " After so short a training, without the slightest changes."
    images = np.asarray(pixels[chosen])
    found: dict[str, dict[float, Probs]] = {name: {} for name in levels}
    with progress.task("Changing validation images", sum(map(len, levels.values()))) as task:
        for name, kept in levels.items():
            for level in kept:
                found[name][level] = predict(changed(images, name, level))
                task.advance()
    return UnderChange(chosen, why, unchanged[chosen], found)


def measure_robustness(
    found: UnderChange, facts: ModelFacts, labels: Labels, groups: Sequence[str]
) -> dict[str, Any]:
    """Measure a model on validation images under every change at every level.

    Parameters
    ----------
    facts : ModelFacts
        With the thresholds, which are locked.
    labels, groups
        Of all validation images, as for `predict_changed`.

    Returns
    -------
    dict
        'robustness': {change: [{'level', 'auroc', 'sensitivity', 'specificity'}]}, each beginning
        with level 0; 'robustness_on': how many images, and which.
    """
    true, names = labels[found.chosen], np.asarray(groups)[found.chosen]
    unchanged = {"level": 0.0} | _figures(facts, found.unchanged, true, names)
    curves = {
        name: [
            unchanged,
            *(
                {"level": float(level)} | _figures(facts, probs, true, names)
                for level, probs in by_level.items()
            ),
        ]
        for name, by_level in found.changed.items()
    }
    about = {
        "split": "val",
        "n": len(found.chosen),
        "reason": found.reason,
        "units": {name: change.unit for name, change in CHANGES.items()},
    }
    return {"robustness": curves, "robustness_on": about}


def choose_levels(
    n_trained: int, *, for_curves: bool, for_threshold: bool
) -> tuple[dict[str, tuple[float, ...]], int]:
    """Choose levels of every change, and how many images can be predicted at all of them.

    The strongest levels tell whether a model bears a change. The others, which show how it gives
    way, are left out where so few predictions would leave too few images; the middle ones stay
    where a threshold is chosen by them.

    Parameters
    ----------
    n_trained, for_curves, for_threshold
        As for `predict_changed`.
    """
    n_predictions = int(MOST_WORK * n_trained)
    most = max(len(change.levels) for change in CHANGES.values()) if for_curves else 0
    for n_strongest in range(most, -1, -1):
        levels = {
            name: tuple(
                level
                for place, level in enumerate(change.levels)
                if place >= len(change.levels) - n_strongest
                or (for_threshold and level == middle_level(name))
            )
            for name, change in CHANGES.items()
        }
        n_affordable = n_predictions // max(1, sum(map(len, levels.values())))
        if n_affordable >= LEAST_IMAGES or n_strongest == 1:
            break
    return levels, n_affordable


def _sample(
    pixels: Images, labels: Labels, groups: Sequence[str], n_affordable: int
) -> tuple[NDArray[np.intp], str]:
    """Choose the images to change, whole patients with every class in its share, and say why."""
    n = len(pixels)
    n_room = MOST_PIXELS // (pixels.shape[1] * pixels.shape[2])
    most = max(LEAST_IMAGES, min(n_affordable, n_room))
    if n <= most:
        return np.arange(n), "All validation images."
    share = most / n
    strata: list[str] | Strata = (
        label_strata(labels, [str(k) for k in range(labels.shape[1])])
        if labels.ndim == 2
        else labels.astype(str).tolist()
    )
    parts = assign(strata, list(groups), {"in": share, "out": 1 - share}, seed=0)
    chosen = np.flatnonzero(parts == "in")
    return chosen, (
        f"A sample of {len(chosen):,} of {n:,} validation images, whole patients, to keep this "
        "short beside training."
    )


def _figures(
    facts: ModelFacts, probs: Probs, labels: Labels, groups: NDArray[np.str_]
) -> dict[str, Any]:
    if isinstance(facts.thresholds, dict):
        several = label_study(
            labels, probs, label_names=facts.class_names, thresholds=facts.thresholds, groups=groups
        )
        return _means_over_labels(several)
    study = study_of(
        labels,
        probs,
        class_names=facts.class_names,
        positive=facts.positive_index,
        threshold=facts.thresholds,
        groups=groups,
        ordinal=facts.target == "ordinal",
    )
    found = _three_figures(study)
    return found | {"quadratic_kappa": study.kappa().as_json()} if study.ordinal else found


def _means_over_labels(study: LabelStudy) -> dict[str, Any]:
    """AUROC, sensitivity, specificity: means over the labels with both outcomes."""
    parts = [study.parts[k] for k in study.both]
    columns = zip(*(_of_class(part, POSITIVE) for part in parts), strict=True)
    return {
        name: mean_over_labels(
            name,
            [(figure, part.block) for figure, part in zip(column, parts, strict=True)],
            n=study.n,
            n_patients=study.clusters.n,
            fewest=study.fewest,
            n_blocks=study.n_blocks,
        ).as_json()
        for name, column in zip(FIGURES, columns, strict=False)
    }


def _three_figures(study: Study) -> dict[str, Any]:
    """AUROC, sensitivity, specificity: of the positive class, or means over those present."""
    classes = study.present if study.positive is None else [study.positive]
    found = [_of_class(study, k) for k in classes]
    if study.positive is not None:
        return {name: figure.as_json() for name, figure in zip(FIGURES, found[0], strict=True)}
    columns = zip(*found, strict=True)
    return {
        name: mean_of(list(column), study.n).as_json()
        for name, column in zip(FIGURES, columns, strict=True)
    }


def _of_class(study: Study, k: int) -> tuple[Estimate, Estimate, Estimate]:
    true, called = study.true == k, study.pred == k
    name = study.class_names[k]
    sensitivity = study.share(called, true, f"no {name} among the {study.images}")
    specificity = study.share(~called, ~true, f"all {study.images} are {name}")
    if true.all() or not true.any():
        reason = sensitivity.reason or specificity.reason
        return Estimate.undefined(reason, study.n), sensitivity, specificity
    return study.area(true, study.probs[:, k]), sensitivity, specificity


# -- pixels ----------------------------------------------------------------------------------------


def _image(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _array(image: Image.Image, like: Pixels) -> Pixels:
    return np.asarray(image).reshape(like.shape)


def _clipped(values: NDArray[Any]) -> Pixels:
    clipped: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return clipped
