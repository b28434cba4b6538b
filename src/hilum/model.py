"""The model folder: all that is needed to predict, as data that is checked before use.

model.json holds the classes, the preprocessing, the threshold and the hashes of its neighbours;
weights.safetensors the network for PyTorch; model.onnx the same with preprocessing and
calibration inside; references.safetensors, where images unlike the training data are referred,
what these are told by. Nothing in the folder is executed or unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hilum.calibrators import Calibrator
from hilum.calls import Target
from hilum.errors import ModelError, SettingError
from hilum.files import write_bytes, write_text
from hilum.operating_points import OperatingPoint, lock
from hilum.pixels import PIXEL_PATH_VERSION, PixelSpec
from hilum.pooling import LockedPooling
from hilum.referral import LockedRules, certainty
from hilum.targets import MOST_CLASSES, TargetKind

if TYPE_CHECKING:
    from torch import Tensor

    from hilum.networks import Classifier

FACTS_FILE = "model.json"
ONNX_FILE = "model.onnx"
WEIGHTS_FILE = "weights.safetensors"
REFERENCES_FILE = "references.safetensors"

FORMAT_VERSION = 3

# Thousands of labels, each with a calibrator and two thresholds, fill some megabytes.
MAX_FACTS_BYTES = 64 << 20
MAX_MODEL_BYTES = 4 << 30


class LockedPoint(BaseModel):
    """The decision threshold, fixed on validation data before the test data were opened."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rule: str
    threshold: float = Field(ge=0, le=1)
    sensitivity: float | None
    specificity: float | None
    n: int
    reason: str
    locked: str
    sha256: str

    @model_validator(mode="after")
    def _is_what_was_locked(self) -> Self:
        if lock(self) != self.sha256:
            raise ValueError("the threshold is not the one that was locked")
        return self


def seal_point(point: OperatingPoint, *, now: str) -> LockedPoint:
    """Seal a chosen threshold with the time and a hash; null stands for what is not estimable."""
    return LockedPoint(
        rule=point.rule,
        threshold=point.threshold,
        sensitivity=None if math.isnan(point.sensitivity) else point.sensitivity,
        specificity=None if math.isnan(point.specificity) else point.specificity,
        n=point.n,
        reason=point.reason,
        locked=now,
        sha256=lock(point),
    )


class PatientRules(NamedTuple):
    """How a patient is answered from several images, as model.json holds it."""

    pooling: LockedPooling | None
    point: LockedPoint | None
    points: dict[str, LockedPoint] | None


class TrainingData(BaseModel):
    """What the model has learnt from, in numbers and hashes, naming no one.

    `n_patients` are those that the data name, None where they name none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    n_train: int
    n_val: int
    n_patients: int | None


class ModelFacts(BaseModel):
    """Content of model.json.

    Attributes
    ----------
    class_names : tuple of str
        Classes, grades or labels in the order of the probabilities.
    target : str
        'classes'; 'ordinal', grades of which the median is called; 'multilabel', labels each of
        which is called by itself.
    positive_class : str or None
        For two classes, the one whose probability is held against the threshold.
    calibration : Calibrator or None
        How logits are calibrated before they become probabilities.
    calibrations : dict or None
        Of several labels, the calibrator of each.
    class_shares : tuple of float or None
        Of more than two classes that were weighted in training: the share that each
        had of the images, which its probability is held against when one is called.
    operating_point : LockedPoint or None
        Of two classes, the threshold of the positive one.
    operating_points : dict or None
        Of several labels, the threshold of each.
    patient_pooling : LockedPooling or None
        How the images of a patient become one score; None where no patient was known.
    patient_point : LockedPoint or None
        Of two classes, the threshold for the pooled probability of a patient.
    patient_points : dict or None
        Of several labels, the threshold of each for a patient.
    referral : LockedRules
        Prediction sets, and when an image is referred to a person.
    network : dict
        The settings that build the network in PyTorch.
    mean, std : tuple of float
        What the first network takes off and divides by, by channel, in [0, 255]; empty where each
        image has its own.
    files : dict
        SHA-256 of each neighbouring file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal["hilum-model"] = "hilum-model"
    format_version: Literal[3] = 3
    hilum: str
    created: str
    class_names: tuple[str, ...] = Field(min_length=2, max_length=MOST_CLASSES)
    positive_class: str | None
    target: TargetKind = "classes"
    preprocessing: PixelSpec
    pixel_path_version: int = PIXEL_PATH_VERSION
    calibration: Calibrator | None
    calibrations: dict[str, Calibrator] | None = None
    class_shares: tuple[float, ...] | None = None
    operating_point: LockedPoint | None
    operating_points: dict[str, LockedPoint] | None = None
    patient_pooling: LockedPooling | None = None
    patient_point: LockedPoint | None = None
    patient_points: dict[str, LockedPoint] | None = None
    referral: LockedRules | None
    network: dict[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    n_parameters: int
    training_data: TrainingData
    files: dict[str, str]

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if len(set(self.class_names)) != len(self.class_names):
            raise ValueError("two classes have the same name")
        two = self.target == "classes" and len(self.class_names) == 2
        if (self.positive_class is not None) != two:
            raise ValueError("a positive class belongs to two classes, and only to two")
        self._check_labels()
        self._check_shares()
        if self.positive_class is not None and self.positive_class not in self.class_names:
            raise ValueError("the positive class is not one of the classes")
        if (self.positive_class is None) != (self.operating_point is None):
            raise ValueError("two classes need a threshold, and only two classes")
        if self.target == "ordinal" and len(self.class_names) < 3:
            raise ValueError("two grades are classes")
        thresholds = self.referral.set_thresholds if self.referral else None
        if thresholds is not None and len(thresholds) != len(self.class_names):
            raise ValueError("the prediction sets have not one threshold for each class")
        self._check_patients()
        self._check_network()
        return self

    def _check_network(self) -> None:
        """Check that the network in PyTorch is given what the exported one is."""
        spec = self.preprocessing
        for name, wanted in (
            *(("input_height", spec.height), ("input_width", spec.width)),
            *(("channels", spec.channels), ("target", self.target)),
        ):
            if self.network.get(name, wanted) != wanted:
                raise ValueError(f"the network's {name} is not that of the model")
        if not len(self.mean) == len(self.std) in (0, spec.channels):
            raise ValueError("mean and deviation are not one for each channel")

    def _check_shares(self) -> None:
        """Check that weighted classes are called by the shares that their probabilities have."""
        n = len(self.class_names)
        if self.class_shares is not None:
            if self.target != "classes" or n == 2:
                raise ValueError("shares belong to more than two classes")
            if len(self.class_shares) != n or min(self.class_shares) <= 0:
                raise ValueError("there is not one share above 0 for each class")
        priors = self.calibration.priors if self.calibration is not None else ()
        if len(priors) not in (0, n) or (self.class_shares is not None and not priors):
            raise ValueError("a calibrator has not one prior for each class")
        if priors and n == 2:
            raise ValueError("priors belong to more than two classes, or grades")
        if any(each.priors for each in (self.calibrations or {}).values()):
            raise ValueError("priors belong to more than two classes, or grades")

    def _check_labels(self) -> None:
        """Check that what is kept by label is kept of every label, and of labels alone."""
        names = set(self.class_names) if self.target == "multilabel" else None
        for what, kept in (
            ("a calibrator", self.calibrations),
            ("a threshold", self.operating_points),
        ):
            if names != (None if kept is None else set(kept)):
                raise ValueError(f"several labels need {what} each, and only these")
        if (self.calibration is None) != (names is not None):
            raise ValueError("classes need one calibrator, and several labels one each")
        if names is not None and self.referral is not None and self.referral.set_thresholds:
            raise ValueError("several labels have no prediction sets")

    def margins(self, probs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Say how far each answer, of shape (n,), is from changing, in log-odds."""
        cut = self.thresholds
        return certainty(
            probs,
            self.meaning,
            [cut[name] for name in self.class_names] if isinstance(cut, dict) else cut,
        )

    def _check_patients(self) -> None:
        """Check that the rules for patients fit the classes."""
        if self.patient_pooling is None:
            if self.patient_point is not None or self.patient_points is not None:
                raise ValueError("a threshold for patients needs a way of pooling")
            return
        if (self.patient_point is None) != (self.positive_class is None):
            raise ValueError("a threshold for patients belongs to two classes, and only to two")
        names = set(self.class_names) if self.target == "multilabel" else None
        if names != (None if self.patient_points is None else set(self.patient_points)):
            raise ValueError("several labels need a threshold for patients each, and only these")

    @property
    def thresholds(self) -> float | dict[str, float] | None:
        """The locked threshold, or that of each label; None where one class is called without."""
        if self.operating_points is not None:
            return {name: point.threshold for name, point in self.operating_points.items()}
        return None if self.operating_point is None else self.operating_point.threshold

    @property
    def patient_thresholds(self) -> tuple[float, ...] | None:
        """The threshold for patients, or those of the labels in their order."""
        if self.patient_points is not None:
            return tuple(self.patient_points[name].threshold for name in self.class_names)
        return None if self.patient_point is None else (self.patient_point.threshold,)

    @property
    def meaning(self) -> Target:
        """What the probabilities mean, and how one is called."""
        return Target(self.target, self.positive_index, self.class_shares)

    @property
    def positive_index(self) -> int | None:
        if self.positive_class is None:
            return None
        return self.class_names.index(self.positive_class)


def write_model(
    folder: Path, facts: ModelFacts, *, weights: bytes, onnx: bytes, references: bytes | None = None
) -> None:
    """Write a model folder; model.json last, so that a folder that has it is whole."""
    parts = {WEIGHTS_FILE: weights, ONNX_FILE: onnx}
    if references is not None:
        parts[REFERENCES_FILE] = references
    for name, data in parts.items():
        write_bytes(folder / name, data)
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in parts.items()}
    whole = facts.model_copy(update={"files": hashes})
    write_text(folder / FACTS_FILE, whole.model_dump_json(indent=2) + "\n")


def describe_graph(
    class_names: Sequence[str], preprocessing: PixelSpec, *, several: bool = False
) -> dict[str, str]:
    """Write what an ONNX graph says of itself, which model.json must say too."""
    return {
        "probabilities": "of each label by itself" if several else "of classes, adding up to 1",
        "class_names": json.dumps(list(class_names)),
        "preprocessing": json.dumps(preprocessing.model_dump(mode="json"), sort_keys=True),
    }


def find_model(path: str | Path) -> Path:
    """Return the model folder that a run folder holds, or the folder itself.

    Raises
    ------
    ModelError
        If there is no model.
    """
    folder = Path(path)
    if not folder.exists():
        raise ModelError(f"{folder} does not exist. Give a run folder or its model folder.")
    if not folder.is_dir():
        raise ModelError(
            f"{folder} is a file, and a model is a folder with {FACTS_FILE} in it. Give a run "
            "folder or its model folder."
        )
    for candidate in (folder / "model", folder):
        if (candidate / FACTS_FILE).is_file():
            return candidate
    if (folder / "fold-1").is_dir():
        raise ModelError(
            f"{folder} is a cross-validation: it holds a model for each fold and none of all data. "
            f"Give one of them, such as {folder / 'fold-1'}, or train one model without --folds."
        )
    if (folder / "run.json").is_file():
        raise ModelError(
            f"{folder} is a run that has not come to a model yet. Finish it with: "
            f"hilum resume {folder}"
        )
    raise ModelError(f"{folder} holds no model: there is no {FACTS_FILE} in it.")


def load_facts(folder: Path) -> ModelFacts:
    """Read and check model.json.

    Raises
    ------
    ModelError
        If it is not what this version of Hilum can use.
    """
    path = folder / FACTS_FILE
    if path.stat().st_size > MAX_FACTS_BYTES:
        raise ModelError(f"{path} is larger than any model description. It was not read.")
    data = path.read_bytes()
    _check_version(data, path)
    try:
        facts = ModelFacts.model_validate_json(data)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"]) or "the file"
        raise ModelError(
            f"{path} is not a model description that this version can use: {where}: {fault['msg']}."
        ) from None
    if facts.pixel_path_version != PIXEL_PATH_VERSION:
        raise ModelError(
            f"{path} was made with version {facts.pixel_path_version} of the pixel path, and this "
            f"is version {PIXEL_PATH_VERSION}: predictions would differ. Use hilum "
            f"{facts.hilum} with it."
        )
    return facts


def _check_version(data: bytes, path: Path) -> None:
    """Tell a model of another version from a damaged one."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return  # what is wrong with it is told by whoever reads all of it
    version = found.get("format_version") if isinstance(found, dict) else None
    if isinstance(version, int) and version != FORMAT_VERSION:
        made = found.get("hilum", "another version")
        raise ModelError(
            f"{path} is in format {version}, written by hilum {made}, and this version reads "
            f"format {FORMAT_VERSION}. Use that version with it, or train again."
        )


def read_part(folder: Path, facts: ModelFacts, name: str) -> bytes:
    """Read a neighbour of model.json and check its hash.

    Raises
    ------
    ModelError
        If it is missing or not the file that model.json names.
    """
    path = folder / name
    if not path.is_file():
        raise ModelError(f"{path} is missing. Copy the whole model folder again.")
    if path.stat().st_size > MAX_MODEL_BYTES:
        raise ModelError(f"{path} is larger than any model of ours. It was not read.")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != facts.files.get(name):
        raise ModelError(
            f"{path} is not the file that {FACTS_FILE} names: it was damaged or exchanged. Copy "
            "the whole model folder again."
        )
    return data


def load_network(folder: Path) -> Classifier:
    """Build the network of a model in PyTorch, with its weights, in evaluation mode.

    Raises
    ------
    ModelError
        If the weights are missing, damaged, or not those of the network that model.json describes.
    """
    import safetensors
    import safetensors.torch
    import torch

    from hilum.networks import build_classifier
    from hilum.settings import make_settings

    found = find_model(folder)
    facts = load_facts(found)
    data = read_part(found, facts, WEIGHTS_FILE)
    try:
        # Without memory until the weights are known to fit: a file must not claim what it lacks.
        with torch.device("meta"):
            network = build_classifier(make_settings(facts.network), len(facts.class_names))
        weights, wanted = safetensors.torch.load(data), network.state_dict()
        _check_types(weights, wanted)
        network.load_state_dict(weights, assign=True)
        if any(constant.is_meta for constant in network.buffers()):
            # Constants that are no weights, of networks from elsewhere: built anew, now that it
            # is known to need no more memory than the file has.
            network = build_classifier(make_settings(facts.network), len(facts.class_names))
            network.load_state_dict(weights)
    except (SettingError, RuntimeError, safetensors.SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"{found / WEIGHTS_FILE} does not hold the weights of the network that {FACTS_FILE} "
            f"describes: {reason}"
        ) from None
    return network.eval()


def _check_types(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Refuse tensors of another type, which PyTorch would put in place as they are."""
    for name, tensor in weights.items():
        if name in wanted and tensor.dtype != wanted[name].dtype:
            raise RuntimeError(f"'{name}' is {tensor.dtype}, not {wanted[name].dtype}")
