"""How well a model bears images that are worse, or from elsewhere: figures under corruptions.

Validation images are corrupted more and more and predicted by the exported model. The figures are
those at the locked threshold, which the rule 'robust' chooses with some of these predictions. The
test split is not opened for any of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hilum.calls import called_classes
from hilum.corruptions import CORRUPTIONS, Pixels, corrupt, middle_level
from hilum.estimates import Study, mean_of, study_of
from hilum.intervals import Estimate
from hilum.model import ModelFacts
from hilum.multilabel import POSITIVE, LabelStudy, label_study, mean_over_labels
from hilum.progress import Progress
from hilum.resampling import few_of_each
from hilum.splits import Strata, assign, class_strata, label_strata
from hilum.targets import Labels

if TYPE_CHECKING:
    # Figures by patient come here too, and shall not wait for PyTorch.
    from hilum.batches import Samples

Probs = NDArray[np.float64]

MOST_PIXELS = 800 * 150 * 150
"""Of all images together; beyond that a sample is taken."""

MOST_WORK = 0.1
"""Predictions under all corruptions together, as a share of the images that training saw."""

LEAST_IMAGES = 64

LEAST_PATIENTS = 20
"""Whom a sample is spread over, where there are as many: the threshold of patients needs ten of
each class. Of those with too many images some are taken, for fewer patients would say less."""

FIGURES = ("auroc", "sensitivity", "specificity")


@dataclass(frozen=True)
class CorruptedPredictions:
    """How a model answers some validation images, as they are and under every corruption.

    Attributes
    ----------
    chosen : int array of shape (n_chosen,)
        Their places among the validation images.
    is_whole : bool
        Whether all images of their patients are among them.
    reason : str
        Why these, and why at these levels.
    clean : float array of shape (n_chosen, n_classes)
        Probabilities of the images as they are.
    corrupted : dict
        Corruption → level → probabilities of the same shape.
    """

    chosen: NDArray[np.intp]
    is_whole: bool
    reason: str
    clean: Probs
    corrupted: dict[str, dict[float, Probs]]

    @property
    def at_middle_level(self) -> Probs:
        """Probabilities under each corruption, (n_corruptions, n_chosen, n_classes)."""
        return np.stack([found[middle_level(name)] for name, found in self.corrupted.items()])


class Levels(NamedTuple):
    """Levels of every corruption, and how many images can be predicted at all of them."""

    by_corruption: dict[str, tuple[float, ...]]
    n_affordable: int

    @property
    def n(self) -> int:
        return sum(map(len, self.by_corruption.values()))

    @property
    def curves_lack_some(self) -> bool:
        """Whether there are curves, which end in the strongest level, that lack a weaker one."""
        return any(
            kept != CORRUPTIONS[name].levels and CORRUPTIONS[name].levels[-1] in kept
            for name, kept in self.by_corruption.items()
        )


def choose_levels(n_trained: int, *, for_curves: bool, for_threshold: bool) -> Levels:
    """Choose the levels at which images are predicted.

    The strongest levels tell whether a model bears a corruption. The others, which show how it
    gives way, are left out where so few predictions would leave too few images; the middle ones
    stay where a threshold is chosen by them.

    Parameters
    ----------
    n_trained : int
        Images that training saw, in all epochs of all networks together; the work here is bounded
        by it.
    for_curves, for_threshold : bool
        What the predictions are for: curves take all levels where there is time, a threshold the
        middle one of each corruption.
    """
    n_predictions = int(MOST_WORK * n_trained)
    most = max(len(each.levels) for each in CORRUPTIONS.values()) if for_curves else 0
    for n_strongest in range(most, -1, -1):
        levels = {
            name: tuple(
                level
                for place, level in enumerate(each.levels)
                if place >= len(each.levels) - n_strongest
                or (for_threshold and level == middle_level(name))
            )
            for name, each in CORRUPTIONS.items()
        }
        n_affordable = n_predictions // max(1, sum(map(len, levels.values())))
        if n_affordable >= LEAST_IMAGES or n_strongest == 1:
            break
    return Levels(levels, n_affordable)


def predict_corrupted(
    predict: Callable[[Pixels], Probs],
    clean: Probs,
    val: Samples,
    levels: Levels,
    progress: Progress,
    *,
    patients_known: bool = True,
) -> CorruptedPredictions:
    """Predict validation images under every corruption.

    Parameters
    ----------
    predict : callable
        uint8 images of shape (n, height, width, channels) → probabilities (n, n_classes).
    clean : float array of shape (n, n_classes)
        What it gives for the images as they are.
    val : Samples
        Validation images; where no patient is known, each is one of its own.
    levels : Levels
        As `choose_levels` returns them.
    patients_known : bool
        Without, the reason speaks of images alone.
    """
    chosen, is_whole = _sample(val, levels.n_affordable)
    why = _reason(len(chosen), len(val), is_whole=is_whole, patients_known=patients_known)
    if levels.curves_lack_some:
        why += " After so short a training, without the slightest changes."
    images = np.asarray(val.pixels[chosen])
    found: dict[str, dict[float, Probs]] = {name: {} for name in levels.by_corruption}
    with progress.task("Changing validation images", levels.n) as task:
        for name, kept in levels.by_corruption.items():
            for level in kept:
                found[name][level] = predict(corrupt(images, name, level))
                task.advance()
    return CorruptedPredictions(chosen, is_whole, why, clean[chosen], found)


def measure_robustness(
    found: CorruptedPredictions, facts: ModelFacts, val: Samples
) -> dict[str, Any]:
    """Measure a model on validation images under every corruption at every level.

    Parameters
    ----------
    facts : ModelFacts
        With the thresholds, which are locked.
    val : Samples
        All validation images, as for `predict_corrupted`.

    Returns
    -------
    dict
        'robustness': {corruption: [{'level', 'auroc', 'sensitivity', 'specificity'}]}, each
        beginning with level 0; 'robustness_on': how many images, and which.
    """
    true, names = val.labels[found.chosen], np.asarray(_patients(val))[found.chosen]
    clean = {"level": 0.0} | _figures(facts, found.clean, true, names)
    curves = {
        name: [
            clean,
            *(
                {"level": float(level)} | _figures(facts, probs, true, names)
                for level, probs in by_level.items()
            ),
        ]
        for name, by_level in found.corrupted.items()
    }
    about = {
        "split": "val",
        "n": len(found.chosen),
        "reason": found.reason,
        "units": {name: each.unit for name, each in CORRUPTIONS.items()},
    }
    return {"robustness": curves, "robustness_on": about}


def _patients(val: Samples) -> list[str]:
    return list(val.groups or map(str, range(len(val))))


def _sample(val: Samples, n_affordable: int) -> tuple[NDArray[np.intp], bool]:
    """Choose the images to corrupt, and tell whether their patients are whole."""
    n, patients = len(val), np.asarray(_patients(val))
    n_room = MOST_PIXELS // (val.pixels.shape[1] * val.pixels.shape[2])
    most = max(LEAST_IMAGES, min(n_affordable, n_room))
    if n <= most:
        return np.arange(n), True
    strata = _strata(val.labels)
    # What a patient may fill of the sample.
    part = max(most // len(set(patients)), math.ceil(most / LEAST_PATIENTS))
    chosen = _few_of_each_patient(patients, strata, part)
    if len(chosen) > most:
        share = most / len(chosen)
        shares = {"in": share, "out": 1 - share}
        parts = assign(strata.of(chosen), list(patients[chosen]), shares, seed=0)
        chosen = chosen[parts == "in"]
    if len(chosen) > most + part:  # where so many classes have one patient each
        chosen = chosen[np.linspace(0, len(chosen) - 1, most).astype(np.intp)]
    return chosen, bool(len(chosen) == np.isin(patients, patients[chosen]).sum())


def _reason(n_chosen: int, n: int, *, is_whole: bool, patients_known: bool) -> str:
    """Say why so many images, and which."""
    if n_chosen == n:
        return "All validation images."
    which = " whole patients," if is_whole else " of patients with many some, evenly spaced,"
    return (
        f"A sample of {n_chosen:,} of {n:,} validation images,{which if patients_known else ''} to "
        "keep this short beside training."
    )


def _strata(labels: Labels) -> Strata:
    if labels.ndim == 2:
        return label_strata(labels, [str(k) for k in range(labels.shape[1])])
    return class_strata(labels.astype(str).tolist())


def _few_of_each_patient(patients: NDArray[np.str_], strata: Strata, part: int) -> NDArray[np.intp]:
    """Take of a patient with more images than `part` as many, all classes in like number."""
    _, patient, sizes = np.unique(patients, return_inverse=True, return_counts=True)
    kind = np.unique(strata.has, axis=0, return_inverse=True)[1].reshape(-1)
    pairs, pair = np.unique(patient * (kind.max() + 1) + kind, return_inverse=True)
    n_kinds = np.bincount(pairs // (kind.max() + 1))  # of each patient
    few = np.where(sizes > part, np.maximum(1, part // n_kinds), sizes)
    chosen = few_of_each(pair, few[patient])
    return chosen[few_of_each(patient[chosen], part)]


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
    if facts.class_shares is not None:
        study = study.called(called_classes(probs, facts.meaning, None))
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
