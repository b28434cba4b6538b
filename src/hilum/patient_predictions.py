"""Images of patients → one answer a patient, by the rule that the model was locked with."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hilum.calls import decide
from hilum.errors import DataError, ModelError
from hilum.inference import TABLE_SUFFIXES, Model, Prediction, load, name_among, open_inputs
from hilum.model import ModelFacts
from hilum.names import REFER, REFUSED
from hilum.pooling import Floats, number_patients, pool_probabilities

Inputs = str | Path | Iterable[str | Path]


@dataclass(frozen=True)
class PatientPrediction:
    """What the model says of one patient.

    Attributes
    ----------
    patient : str
        An image without a patient is one of its own, by the name of its path.
    n_images : int
        Images (or frames) that were pooled; those that were refused are not among them.
    predicted : str
        The class; '' where every image was refused.
    confidence : float or None
        Pooled probability of that class; of several labels, of the least sure of them.
    probabilities : tuple of float
        Pooled, one a class, in the model's order; empty where every image was refused.
    decision : str
        The class; 'refer' where every image by itself is referred to a person; 'refused' where
        every image was.
    n_referred : int
        Images that would be referred to a person by themselves.
    error : str
        How many images were refused, with the first reason.
    """

    patient: str
    n_images: int
    predicted: str
    confidence: float | None
    probabilities: tuple[float, ...]
    decision: str
    n_referred: int = 0
    error: str = ""

    def row(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Return the row of a CSV file; bytes that are not UTF-8 are escaped."""
        probs: Sequence[float | None] = self.probabilities or (None,) * len(class_names)
        patient = os.fsencode(self.patient).decode("utf-8", "backslashreplace")
        cells: tuple[Any, ...] = (patient, self.n_images, self.predicted, self.confidence)
        cells += (*probs, self.decision, self.n_referred, self.error)
        return dict(zip(patient_columns(class_names), cells, strict=True))


class PatientPredictions(NamedTuple):
    """Answers by patient, and those by image that they were pooled from.

    Attributes
    ----------
    patients : list of PatientPrediction
        In the order in which patients come first.
    images : list of Prediction
        As `hilum.predict` gives them.
    note : str
        One sentence on how patients were recognised.
    """

    patients: list[PatientPrediction]
    images: list[Prediction]
    note: str


def patient_columns(class_names: Sequence[str]) -> list[str]:
    """Name the columns of a CSV file of patients."""
    probs = [f"p_{name}" for name in class_names]
    first = ["patient", "n_images", "predicted", "confidence"]
    return [*first, *probs, "decision", "n_referred", "error"]


def predict_patients(
    model: str | Path,
    inputs: Inputs,
    *,
    patient_pattern: str | None = None,
    patient_column: str | None = None,
) -> PatientPredictions:
    """Predict images, and pool those of each patient into one answer.

    Parameters
    ----------
    model : path
        A run folder or its model folder.
    inputs : path, or an iterable of them
        Tables with a column for patients, or files and folders whose names tell them.
    patient_pattern : str, optional
        A regular expression with a group `patient`, searched in file names; it goes before a
        column. Without either, the known ways of naming files are tried.
    patient_column : str, optional
        Column of a table that holds patients; by default 'patient' or another usual name.

    Returns
    -------
    PatientPredictions

    Raises
    ------
    ModelError
        If the model has no rule for patients, since none was known in its training data.
    DataError
        If it is not known which images belong to which patient, the pattern fits some only, or a
        table has no such column.
    SettingError
        If the pattern is not a regular expression.

    Examples
    --------
    >>> found = hilum.predict_patients("runs/cxr", "table.csv")  # doctest: +SKIP
    >>> found.patients[0].predicted  # doctest: +SKIP
    'PNEUMONIA'
    """
    loaded = load(model)
    inputs = inputs if isinstance(inputs, str | Path) else list(inputs)  # gone through twice
    names, note = find_patients(
        loaded.facts, inputs, patient_pattern=patient_pattern, patient_column=patient_column
    )
    images = list(loaded.predict_each(open_inputs(inputs)))
    return PatientPredictions(pool_images(loaded, images, names), images, note)


def find_patients(
    facts: ModelFacts,
    inputs: Inputs,
    *,
    patient_pattern: str | None = None,
    patient_column: str | None = None,
) -> tuple[list[str], str]:
    """Name the patient of each file of some inputs, in their order, and say how.

    Parameters, errors as for `predict_patients`.
    """
    from hilum.patients import recognise

    if facts.patient_pooling is None:
        raise ModelError(
            "The model has no rule for patients: no patient was known in its training data. Train "
            "on data that name them, by a column 'patient' or --patient-pattern."
        )
    items = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    paths: list[str] = []
    shown: list[str] = []
    stated: list[str] = []
    columns: list[str] = []
    for item in items:
        names = [name for name, _ in open_inputs(item)]
        paths += names
        shown += names if len(items) == 1 else [name_among(item, name) for name in names]
        values, column = _stated(Path(item), len(names), patient_column)
        stated += values
        columns += [column] if column else []
    found, told = recognise(
        [path.replace("\\", "/") for path in paths],
        pattern=patient_pattern,
        column=stated,
        column_name="' or '".join(dict.fromkeys(columns)),  # each table may have its own
    )
    if told.source == "none":
        raise DataError(
            f"Which of the {len(paths):,} images belong to one patient is not known. Give a table "
            "with a column 'patient', or --patient-pattern."
        )
    # Images of no patient are patients of their own, though two inputs may name them alike.
    pairs = zip(found, shown, strict=True)
    return [patient or path for patient, path in pairs], told.description


def _stated(path: Path, n: int, wanted: str | None) -> tuple[list[str], str]:
    """Return the patient that a table states for each of its images, and the column; '' if none."""
    if path.suffix.lower() not in TABLE_SUFFIXES or not path.is_file():
        return [""] * n, ""
    from hilum.columns import usual_columns
    from hilum.tables import read_table

    table = read_table(path)
    if wanted is not None:
        if wanted not in table.columns:
            raise DataError(
                f"{path} has no column '{wanted}'. Its columns are: {', '.join(table.columns)}."
            )
        return [str(value) for value in table[wanted]], wanted
    columns = usual_columns(table, "patient")
    if len(columns) > 1:
        raise DataError(
            f"{path} has several columns that may be the patient: {', '.join(columns)}. Say which "
            "by --patient-column."
        )
    if not columns:
        return [""] * n, ""
    return [str(value) for value in table[columns[0]]], columns[0]


def pool_images(
    model: Model, images: Sequence[Prediction], names: Sequence[str]
) -> list[PatientPrediction]:
    """Pool predictions into one for each patient.

    Parameters
    ----------
    images : sequence of Prediction
        One a frame, in the order of the files.
    names : sequence of str
        Patient of each file.
    """
    facts = model.facts
    assert facts.patient_pooling is not None
    # Frames of one file count up from 0.
    file_of = np.cumsum([image.frame == 0 for image in images]) - 1
    patients, index = number_patients([names[number] for number in file_of.tolist()])
    answered = np.array([not image.error for image in images], dtype=bool)
    present, place = np.unique(index[answered], return_inverse=True)
    target = facts.meaning
    probs = pool_probabilities(
        np.array([image.probabilities for image in images if not image.error]).reshape(
            -1, len(facts.class_names)
        ),
        place,
        facts.patient_pooling.method,
        target,
    )
    called = decide(probs, facts.class_names, target, facts.patient_thresholds)
    rows = {patient: row for row, patient in enumerate(present.tolist())}
    images_of: list[list[Prediction]] = [[] for _ in patients]
    for image, number in zip(images, index.tolist(), strict=True):
        images_of[number].append(image)
    found = []
    for number, (name, own) in enumerate(zip(patients, images_of, strict=True)):
        row = rows.get(number)
        if row is None:
            found.append(PatientPrediction(name, 0, "", None, (), REFUSED, 0, _refused(own)))
        else:
            found.append(_answer(name, own, probs[row], called[row], model))
    return found


def _answer(
    name: str,
    own: Sequence[Prediction],
    probs: Floats,
    predicted: str,
    model: Model,
) -> PatientPrediction:
    read = [image for image in own if not image.error]
    n_referred = sum(image.decision == REFER for image in read)
    return PatientPrediction(
        patient=name,
        n_images=len(read),
        predicted=predicted,
        confidence=model.confidence(probs.tolist(), predicted),
        probabilities=tuple(probs.tolist()),
        decision=REFER if n_referred == len(read) else predicted,
        n_referred=n_referred,
        error=_refused(own),
    )


def _refused(own: Sequence[Prediction]) -> str:
    """Say how many images of a patient were refused, and why the first was; '' if none."""
    refused = [image for image in own if image.error]
    if not refused:
        return ""
    return f"{len(refused)} of {len(own)} images refused; {refused[0].path}: {refused[0].error}"
