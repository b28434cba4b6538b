"""Trained network → model folder: calibrated, exported, its thresholds and rules locked.

Training and validation images alone come here. What test images are answered by is all fixed in
what is returned, before any of them is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import safetensors.torch
from numpy.typing import NDArray
from onnx import ModelProto

import hilum
from hilum.batches import Samples
from hilum.cache import subset
from hilum.calibrators import (
    Calibrator,
    LabelCalibrators,
    choose_calibrator,
    choose_label_calibrators,
)
from hilum.calls import Target
from hilum.dataset import Dataset
from hilum.evaluation import lock_referral, now
from hilum.export import (
    Outputs,
    check_agreement,
    check_resizing,
    predictor,
    probabilities_of,
    run_exported,
    run_graph,
    to_graph,
    to_onnx,
)
from hilum.losses import log_priors
from hilum.model import LockedPoint, ModelFacts, PatientRules, TrainingData, write_model
from hilum.neighbours import References, choose_references, make_references, see
from hilum.networks import NETWORK_SETTINGS, Classifier, members_of, n_parameters
from hilum.patient_figures import lock_patients
from hilum.patients import count_named
from hilum.progress import Progress
from hilum.referral import LockedRules
from hilum.robustness import (
    CorruptedPredictions,
    choose_levels,
    measure_robustness,
    predict_corrupted,
)
from hilum.settings import Settings
from hilum.thresholds import Scored, lock_point
from hilum.training import network_logits

N_COMPARED = 64
"""Validation images, evenly chosen, on which exported and trained model must agree."""

N_ORIGINALS = 8
"""Validation images, as they came, that the exported graph must resize as training did."""


@dataclass(frozen=True)
class Basis:
    """What a model is made from, beside its network.

    Attributes
    ----------
    table : DataFrame
        samples.csv.
    positive : str or None
        Of two classes, the one to be found.
    sha256 : str
        Of the data.
    """

    dataset: Dataset
    table: pd.DataFrame
    train: Samples
    val: Samples
    settings: Settings
    positive: str | None
    sha256: str

    @property
    def names(self) -> tuple[str, ...]:
        return self.dataset.class_names

    @property
    def positive_index(self) -> int | None:
        return None if self.positive is None else self.names.index(self.positive)

    @cached_property
    def log_priors(self) -> NDArray[np.float64] | None:
        """What weighting took from each logit; None where no class was weighted."""
        return log_priors(self.train.labels, len(self.names), self.settings)

    @property
    def meaning(self) -> Target:
        """What probabilities mean, and how one is called.

        Weighted classes are called as if they were as frequent, so that rare ones are found; of
        two, and of several labels, thresholds see to that. Of grades the median has the least
        expected distance, however frequent they are.
        """
        if self.log_priors is None or self.has_thresholds or self.settings.target == "ordinal":
            return Target(self.settings.target, self.positive_index)
        counts = np.maximum(np.bincount(self.train.labels, minlength=len(self.names)), 1)
        return Target(self.settings.target, None, tuple((counts / counts.sum()).tolist()))

    @property
    def has_thresholds(self) -> bool:
        """Two classes have one, and several labels one each."""
        return self.positive is not None or self.settings.target == "multilabel"

    @property
    def val_rows(self) -> pd.DataFrame:
        """Rows of the validation images, in their order."""
        return self.table[self.table["split"] == "val"]

    @property
    def patients_known(self) -> bool:
        return self.dataset.patients.n_patients is not None


@dataclass(frozen=True)
class Release:
    """A model folder that is not written yet.

    Attributes
    ----------
    calibration : dict
        How probabilities were calibrated, and why so, for run.json.
    val : Outputs
        What the exported model gives for the validation images, so that it need not be asked twice.
    robustness : dict
        Figures of validation images under corruptions, as `measure_robustness` returns them; empty
        where none were asked for.
    """

    facts: ModelFacts
    weights: bytes
    onnx: bytes
    references: bytes | None
    calibration: dict[str, Any]
    val: Outputs
    robustness: dict[str, Any]

    def write(self, folder: Path) -> None:
        write_model(
            folder, self.facts, weights=self.weights, onnx=self.onnx, references=self.references
        )


class Thresholds(NamedTuple):
    """The locked threshold of two classes, or those of several labels."""

    point: LockedPoint | None
    points: dict[str, LockedPoint] | None

    @property
    def cuts(self) -> float | list[float] | None:
        if self.points is not None:
            return [point.threshold for point in self.points.values()]
        return None if self.point is None else self.point.threshold


def _n_patients(basis: Basis) -> int | None:
    """Count the patients whom the model has learnt from; None where none is known."""
    if basis.dataset.patients.n_patients is None:
        return None
    used = basis.table[basis.table["split"].isin(["train", "val"])]
    return count_named(used["patient"])


def make_release(
    network: Classifier, basis: Basis, progress: Progress, *, n_trained: int, curves: bool
) -> Release:
    """Export, calibrate on validation data, lock thresholds and rules.

    Validation images go through the exported network once; calibration, thresholds, rules and
    the figures of the run rest on what it gives.

    Parameters
    ----------
    n_trained : int
        Images that training saw, in all epochs of all networks together.
    curves : bool
        Measure validation images under corruptions at several levels.

    Raises
    ------
    ModelError
        If the exported model does not agree with the network on real images.
    """
    settings, val = basis.settings, basis.val
    graph = to_graph(network, settings, len(basis.names))
    seen = run_graph(graph, val.pixels)
    calibrator, calibration = _calibrate(seen.raw_logits, basis)
    onnx = to_onnx(graph, settings.pixel_spec, basis.names, calibrator=calibrator)
    found = Outputs(seen.raw_logits, probabilities_of(onnx, seen.raw_logits), seen.features)
    _compare(network, onnx, found, calibrator, val)
    originals = [basis.dataset.picture(path) for path in basis.val_rows["path"][:N_ORIGINALS]]
    check_resizing(onnx, originals, settings.pixel_spec)
    for_threshold = settings.operating_point == "robust" and basis.has_thresholds
    corrupted = None
    if curves or for_threshold:
        levels = choose_levels(n_trained, for_curves=curves, for_threshold=for_threshold)
        corrupted = predict_corrupted(
            predictor(onnx),
            found.probabilities,
            val,
            levels,
            progress,
            patients_known=basis.patients_known,
        )
    choosing = corrupted if for_threshold else None
    thresholds = _lock_thresholds(found.probabilities, choosing, basis)
    rules, references = _lock_rules(graph, found, thresholds, basis)
    patients = _lock_patients(found.probabilities, choosing, basis)
    facts = ModelFacts(
        hilum=hilum.__version__,
        created=now(),
        class_names=basis.names,
        target=settings.target,
        positive_class=basis.positive,
        preprocessing=settings.pixel_spec,
        calibration=calibrator if isinstance(calibrator, Calibrator) else None,
        calibrations=calibrator.parts if isinstance(calibrator, LabelCalibrators) else None,
        class_shares=basis.meaning.shares,
        operating_point=thresholds.point,
        operating_points=thresholds.points,
        patient_pooling=patients.pooling,
        patient_point=patients.point,
        patient_points=patients.points,
        referral=rules,
        network=settings.model_dump(mode="json", include=set(NETWORK_SETTINGS)),
        mean=_pixel_constant(network, "mean"),
        std=_pixel_constant(network, "std"),
        n_parameters=n_parameters(network),
        training_data=TrainingData(
            sha256=basis.sha256,
            n_train=len(basis.train),
            n_val=len(val),
            n_patients=_n_patients(basis),
        ),
        files={},
    )
    return Release(
        facts,
        weights=safetensors.torch.save(network.state_dict()),
        onnx=onnx,
        references=None if references is None else references.to_bytes(),
        calibration=calibration,
        val=found,
        robustness=measure_robustness(corrupted, facts, val)
        if corrupted is not None and curves
        else {},
    )


def _compare(
    network: Classifier,
    onnx: bytes,
    found: Outputs,
    calibrator: Calibrator | LabelCalibrators,
    val: Samples,
) -> None:
    """Hold the whole exported model, and what was found by its parts, against PyTorch."""
    chosen = np.unique(np.linspace(0, len(val) - 1, N_COMPARED).astype(int))
    pixels = val.pixels[chosen]
    logits = network_logits(network, pixels)
    check_agreement(run_exported(onnx, pixels), logits, calibrator)
    check_agreement(Outputs(*(part[chosen] for part in found)), logits, calibrator)


def _calibrate(
    logits: NDArray[np.float32], basis: Basis
) -> tuple[Calibrator | LabelCalibrators, dict[str, Any]]:
    """Fit the calibrator, or that of each label, and describe it for run.json."""
    labels, groups, wanted = basis.val.labels, basis.val_rows["group"], basis.settings.calibration
    priors = basis.log_priors
    told = {"priors": None if priors is None else priors.tolist()}
    if basis.settings.target != "multilabel":
        calibrator, why = choose_calibrator(logits, labels, groups, wanted, priors=priors)
        return calibrator, _describe(calibrator, why) | told
    several, reasons = choose_label_calibrators(
        logits, labels, groups, basis.names, wanted, priors=priors
    )
    parts = {name: _describe(each, reasons[name]) for name, each in several.parts.items()}
    reason = " ".join(f"'{name}': {text}" for name, text in reasons.items())
    described = {"method": "by label", "temperature": None, "reason": reason, "labels": parts}
    return several, described | told


def _describe(calibrator: Calibrator, why: str) -> dict[str, Any]:
    temperature = 1 / calibrator.slope if calibrator.method == "temperature" else None
    return {"method": calibrator.method, "temperature": temperature, "reason": why}


def _lock_thresholds(
    probs: NDArray[np.float64], corrupted: CorruptedPredictions | None, basis: Basis
) -> Thresholds:
    names, rule = basis.names, basis.settings.operating_point

    def lock(truth: NDArray[np.floating], column: int) -> LockedPoint:
        some = None
        if corrupted is not None:
            some = Scored(truth[corrupted.chosen], corrupted.at_middle_level[..., column])
        return lock_point(Scored(truth, probs[:, column]), some, rule, now=now())

    labels = basis.val.labels
    if basis.settings.target == "multilabel":
        return Thresholds(None, {name: lock(labels[:, k], k) for k, name in enumerate(names)})
    if basis.positive_index is None:
        return Thresholds(None, None)
    has = (labels == basis.positive_index).astype(np.float64)
    return Thresholds(lock(has, basis.positive_index), None)


def _lock_rules(
    graph: ModelProto, found: Outputs, thresholds: Thresholds, basis: Basis
) -> tuple[LockedRules, References | None]:
    """Lock prediction sets and referral, with the training images that unlike ones are told by."""
    references, strangeness = None, None
    if basis.settings.refer_unlike is not None:
        views = see(found.features, basis.val.pixels)
        chosen = choose_references(
            len(basis.train), views["features"].shape[1], seed=basis.settings.seed
        )
        pixels = subset(basis.train.pixels, chosen)
        features = run_graph(graph, pixels).features
        references = make_references(see(features, pixels), views)
        strangeness = references.strangeness(views)
    rules = lock_referral(
        basis.val.labels,
        found.probabilities,
        list(basis.val_rows["group"]),
        basis.settings,
        target=basis.meaning,
        threshold=thresholds.cuts,
        strangeness=strangeness,
        patients_known=basis.patients_known,
    )
    return rules, references


def _lock_patients(
    probs: NDArray[np.float64], corrupted: CorruptedPredictions | None, basis: Basis
) -> PatientRules:
    """Lock the rules for patients with several images, where patients are known."""
    if not basis.patients_known:
        return PatientRules(None, None, None)
    return lock_patients(
        basis.table,
        probs,
        basis.names,
        basis.meaning,
        basis.settings,
        corrupted=corrupted,
        now=now(),
    )


def _pixel_constant(network: Classifier, name: str) -> tuple[float, ...]:
    """Return a constant of the normalisation by channel; () where each image has its own."""
    found = getattr(members_of(network)[0].network.normalise, name, None)
    return () if found is None else tuple(found.flatten().tolist())
