"""The figures of a split by patient: the images of each patient pooled by the locked rule.

The rule is locked here too, on validation patients. Figures are those of `hilum.estimates`, and n
counts patients; those by image stay beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.calls import Target, decide
from hilum.estimates import Study, study_of
from hilum.model import LockedPoint, ModelFacts, PatientRules
from hilum.multilabel import LabelStudy, label_study
from hilum.patients import patient_of_each
from hilum.pooling import (
    NO_LABEL,
    LockedPooling,
    Pooling,
    choose_pooling,
    count_mixed,
    number_patients,
    pool_labels,
    pool_probabilities,
    seal,
)
from hilum.robustness import CorruptedPredictions
from hilum.settings import Settings
from hilum.targets import Labels, label_columns, truths
from hilum.thresholds import Scored, lock_point

MOST_MIXED = 0.05
"""Share of the patients that may be left out of the figures for having no one label."""

UNKNOWN = "no patient is known"
ONE_IMAGE_EACH = "each patient has one image: the figures by patient are those by image"


def lock_patients(
    samples: pd.DataFrame,
    val_probs: NDArray[np.float64],
    class_names: Sequence[str],
    target: Target,
    settings: Settings,
    *,
    corrupted: CorruptedPredictions | None,
    now: str,
) -> PatientRules:
    """Fix on validation patients how images are pooled, and the threshold for patients.

    Parameters
    ----------
    samples : DataFrame
        samples.csv: path, patient, label, split, and for several labels unknown.
    val_probs : float array of shape (n_val, n_classes)
        Calibrated probabilities of the validation images, in their order.
    corrupted : CorruptedPredictions, optional
        How some of them are answered under corruptions, for the rule 'robust'. Not used where the
        maximum is taken and images of those patients are missing: that of fewer is lower.
    now : str
        When it is locked.

    Returns
    -------
    PatientRules
    """
    known = samples[samples["split"].isin(["train", "val"])]
    _, index = number_patients(patient_names(known))
    chosen = choose_pooling(
        truths(known, class_names, target.kind), index, target, settings.pooling
    )
    val = known[known["split"] == "val"]
    names, index = number_patients(patient_names(val))
    labels = truths(val, class_names, target.kind)
    pooled = _Pooled.of(labels, val_probs, index, chosen.method, target)
    pooled_corrupted = None
    if corrupted is not None and (corrupted.is_whole or chosen.method != "maximum"):
        _, some = number_patients(patient_names(val.iloc[corrupted.chosen]))
        parts = [
            _Pooled.of(labels[corrupted.chosen], probs, some, chosen.method, target)
            for probs in corrupted.at_middle_level
        ]
        pooled_corrupted = _Pooled(parts[0].labels, np.stack([part.probs for part in parts]))
    pooling = LockedPooling(
        method=chosen.method,
        reason=chosen.reason,
        n_images=len(val),
        n_patients=len(names),
        locked=now,
        sha256=seal(chosen.method, len(val), len(names)),
    )

    def lock(k: int) -> LockedPoint:
        some = None if pooled_corrupted is None else pooled_corrupted.scored(k, target)
        rule = settings.operating_point
        return lock_point(pooled.scored(k, target), some, rule, now=now, unit="patient")

    if target.kind == "multilabel":
        return PatientRules(pooling, None, {name: lock(k) for k, name in enumerate(class_names)})
    point = None if target.positive is None else lock(target.positive)
    return PatientRules(pooling, point, None)


class _Pooled(NamedTuple):
    """Labels of patients, and their probabilities of shape (..., n_patients, n_classes)."""

    labels: NDArray[Any]
    probs: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        labels: Labels,
        probs: NDArray[np.float64],
        index: NDArray[np.intp],
        method: Pooling,
        target: Target,
    ) -> _Pooled:
        return cls(
            pool_labels(labels, index, target), pool_probabilities(probs, index, method, target)
        )

    def scored(self, k: int, target: Target) -> Scored:
        """Return who has class or label k, and its probabilities."""
        of_label = self.labels[:, k] if target.kind == "multilabel" else self.labels == k
        return Scored(of_label.astype(np.float64), self.probs[..., k])


def patient_names(rows: pd.DataFrame) -> list[str]:
    """Return the patient of each row; an image without one is a patient of its own."""
    return list(patient_of_each(rows))


def pool_predictions(predictions: pd.DataFrame, facts: ModelFacts) -> pd.DataFrame:
    """Pool the predictions of images by the model's locked rule.

    Parameters
    ----------
    predictions : DataFrame
        Of one split, as `hilum.evaluation.predict_split` returns them.
    facts : ModelFacts
        With a way of pooling.

    Returns
    -------
    DataFrame
        patient, split, n_images, label ('' where its images make none), for several labels
        unknown, predicted, and a probability for each class. A patient of no name bears the path
        of its image after '#'.
    """
    assert facts.patient_pooling is not None
    class_names, target = facts.class_names, facts.meaning
    names, index = number_patients(patient_names(predictions))
    columns = [f"p_{name}" for name in class_names]
    probs = pool_probabilities(
        predictions[columns].to_numpy(dtype=float), index, facts.patient_pooling.method, target
    )
    labels = pool_labels(truths(predictions, class_names, target.kind), index, target)
    first = np.unique(index, return_index=True)[1]
    table = pd.DataFrame({"patient": names})
    for name in ("split", "fold"):
        if name in predictions:
            table[name] = predictions[name].to_numpy()[first]
    table["n_images"] = np.bincount(index, minlength=len(names))
    if target.kind == "multilabel":
        table = table.assign(**label_columns(labels, class_names))
    else:
        table["label"] = ["" if k == NO_LABEL else class_names[k] for k in labels]
    table["predicted"] = decide(probs, class_names, target, facts.patient_thresholds)
    table[columns] = probs
    return table


def measure_patients(
    parts: Sequence[tuple[pd.DataFrame, ModelFacts]],
    groups: Sequence[str],
    *,
    patients_known: bool,
    prevalences: tuple[float, ...] = (),
) -> dict[str, Any]:
    """Compute the figures by patient, as metrics.json holds them beside those by image.

    Parameters
    ----------
    parts : sequence of (DataFrame, ModelFacts)
        Predictions, and the model that made them; several where folds are taken together.
    groups : sequence of str
        Patient of each row of all parts, with patients joined that share an identical file or, in
        a run, a nearly identical one.
    patients_known : bool
    prevalences : tuple of float

    Returns
    -------
    dict
        'patients': the figures, n counting patients, with 'pooling', 'n_images', 'n_several'
        (patients with several images), 'n_mixed' (patients whose images have different labels) and
        'n_left_out' (those without a label, whom n, 'n_images' and 'n_several' leave out). None
        where there is nothing to pool, and then 'patients_reason' says why.
    """
    reason = _nothing_to_pool(parts, patients_known)
    if reason:
        return {"patients": None, "patients_reason": reason}
    rows = pd.concat([table for table, _ in parts], ignore_index=True)
    pooled = pd.concat([pool_predictions(*part) for part in parts], ignore_index=True)
    facts = parts[0][1]
    target = facts.meaning
    n_mixed = _n_mixed(parts)
    undefined = pooled["label"] == "" if target.kind != "multilabel" else pooled["label"].isna()
    if undefined.mean() > MOST_MIXED:
        return {
            "patients": None,
            "patients_reason": f"{n_mixed:,} of {len(pooled):,} patients have images of different "
            "classes, and no class goes before another, so that they have no one label",
        }
    group_of = dict(zip(patient_names(rows), groups, strict=True))
    whole = np.array([group_of[name] for name in pooled["patient"]])
    study = _study(
        pooled[~undefined], whole[~undefined], facts.class_names, target, facts.patient_thresholds
    )
    one = facts if len(parts) == 1 else None
    methods = {each.patient_pooling.method for _, each in parts if each.patient_pooling}
    n_images = pooled["n_images"][~undefined]
    return {
        "patients": {
            "pooling": methods.pop() if len(methods) == 1 else None,
            "n_images": int(n_images.sum()),
            "n_several": int((n_images > 1).sum()),
            "n_mixed": n_mixed,
            "n_left_out": int(undefined.sum()),
            "note": _note(target, n_mixed, int(undefined.sum())),
        }
        | _described(study, one, facts.class_names, prevalences)
    }


def _nothing_to_pool(
    parts: Sequence[tuple[pd.DataFrame, ModelFacts]], patients_known: bool
) -> str | None:
    """Say why there are no figures by patient beside those by image."""
    if not patients_known:
        return UNKNOWN
    if any(facts.patient_pooling is None for _, facts in parts):
        return "no patient was known in the training data, so that no rule was locked"
    for table, facts in parts:
        pooled = pool_predictions(table, facts)
        # Of one image each, patients may still be called by another threshold.
        if len(pooled) < len(table) or list(pooled["predicted"]) != list(table["predicted"]):
            return None
    return ONE_IMAGE_EACH


def _n_mixed(parts: Sequence[tuple[pd.DataFrame, ModelFacts]]) -> int:
    total = 0
    for table, facts in parts:
        _, index = number_patients(patient_names(table))
        total += count_mixed(truths(table, facts.class_names, facts.target), index)
    return total


def _note(target: Target, n_mixed: int, n_left_out: int) -> str | None:
    """Say what was made of patients whose images differ."""
    if not n_mixed:
        return None
    have = "1 patient has" if n_mixed == 1 else f"{n_mixed:,} patients have"
    if n_left_out:
        return f"{have} images of different classes, and so no one label: left out here."
    became = {
        "classes": "is positive by any positive image",
        "ordinal": "has the highest grade of its images",
        "multilabel": "has each label that one of its images has",
    }[target.kind]
    return f"{have} images of different labels; a patient {became}."


def _study(
    pooled: pd.DataFrame,
    groups: NDArray[np.str_],
    class_names: Sequence[str],
    target: Target,
    thresholds: Sequence[float] | None,
) -> Study | LabelStudy:
    """Make a study of patients; what was called stands, whatever threshold each part had."""
    probs = pooled[[f"p_{name}" for name in class_names]].to_numpy(dtype=float)
    true: Labels = truths(pooled, class_names, target.kind)
    if target.kind == "multilabel":
        assert thresholds is not None
        labels = label_study(
            true,
            probs,
            label_names=class_names,
            thresholds=dict(zip(class_names, thresholds, strict=True)),
            groups=groups,
        )
        called = truths(
            pooled.assign(label=pooled["predicted"], unknown=""), class_names, "multilabel"
        )
        parts = [
            replace(part, pred=called[labels.known[:, k], k].astype(np.intp), unit="patient")
            for k, part in enumerate(labels.parts)
        ]
        return replace(labels, parts=tuple(parts))
    study = study_of(
        true,
        probs,
        class_names=class_names,
        positive=target.positive,
        threshold=None if thresholds is None else thresholds[0],
        groups=groups,
        ordinal=target.kind == "ordinal",
    )
    called = truths(pooled.assign(label=pooled["predicted"]), class_names, target.kind)
    return replace(study.called(called), unit="patient")


def _described(
    study: Study | LabelStudy,
    facts: ModelFacts | None,
    class_names: Sequence[str],
    prevalences: tuple[float, ...],
) -> dict[str, Any]:
    """Describe a study; over folds there is no one threshold."""
    thresholds = facts.patient_thresholds if facts is not None else None
    if isinstance(study, LabelStudy):
        cuts = thresholds if thresholds is not None else [None] * len(class_names)
        return study.describe(dict(zip(class_names, cuts, strict=True)), prevalences)
    return study.describe(None if thresholds is None else thresholds[0], prevalences)
