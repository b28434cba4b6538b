"""Columns from DICOM headers, when the user asks for them: patients, views, scanners.

Patients and studies come as pseudonyms, so that nothing which identifies a person enters a run
folder, a report or a log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from hilum.dataset import Dataset
from hilum.errors import DataError, UnreadableError
from hilum.patients import recognise
from hilum.progress import Progress
from hilum.readers import dicom_columns
from hilum.threads import in_threads

COLUMNS = ("study", "laterality", "view", "modality", "manufacturer")
IDENTIFYING = ("patient", "study")


def add_header_columns(dataset: Dataset, progress: Progress) -> Dataset:
    """Add study, laterality, view, modality and manufacturer, and patients unless named already.

    Files that are not DICOM, or cannot be read, get empty cells; reading the images names them.

    Raises
    ------
    DataError
        If the data set is an NPZ, no file of it is DICOM, or a column is there already.
    """
    if dataset.kind == "npz":
        raise DataError(f"{dataset.source} holds arrays, which have no DICOM headers.")
    taken = [name for name in COLUMNS if name in dataset.table.columns]
    if taken:
        raise DataError(
            f"{dataset.source} has a column '{taken[0]}' already. Rename it, or leave out "
            "--dicom-columns."
        )
    base = dataset.source if dataset.kind == "folder" else dataset.source.parent

    def one(path: str) -> dict[str, str]:
        try:
            return dicom_columns(base / path, name=path)
        except UnreadableError:
            return {}

    rows = []
    with progress.task("Reading headers", len(dataset)) as task:
        for row in in_threads(one, dataset.table["path"]):
            rows.append(
                {name: pseudonym(row.get(name, "")) for name in IDENTIFYING}
                | {name: row.get(name, "") for name in COLUMNS if name not in IDENTIFYING}
            )
            task.advance()
    found = pd.DataFrame(rows, index=dataset.table.index, dtype=str)
    if not any(any(row.values()) for row in rows):
        raise DataError(f"{dataset.source} holds no DICOM file whose header could be read.")
    table = dataset.table.join(found[list(COLUMNS)])
    # Patients that the user named go first; a guess from file names gives way to the header.
    if dataset.patients.source in ("column", "pattern"):
        return replace(dataset, table=table)
    if not (found["patient"] != "").any():
        return replace(dataset, table=table)
    stated, guessed = list(found["patient"]), list(dataset.table["patient"])
    column = _filled(stated, guessed)
    is_filled = any(name and not header for name, header in zip(column, stated, strict=True))
    names, patients = recognise(
        list(table["path"]),
        column=column,
        column_name="PatientID (0010,0020)" + (", or else by the file name" if is_filled else ""),
    )
    return replace(dataset, table=table.assign(patient=names), patients=patients)


def _filled(stated: Sequence[str], guessed: Sequence[str]) -> list[str]:
    """Fill headers that name nobody by what file names tell, so that no patient falls apart.

    Where other images of the same name have a header, theirs is taken; where they have several,
    these are taken for one patient's, for the image may be of any of them.
    """
    by_guess: dict[str, set[str]] = {}
    for header, guess in zip(stated, guessed, strict=True):
        if guess:
            by_guess.setdefault(guess, set()).add(header)
    one = {
        header: min(headers - {""})
        for headers in by_guess.values()
        if "" in headers and len(headers) > 1
        for header in headers - {""}
    }
    named = [
        header or min(by_guess.get(guess, set()) - {""}, default=guess)
        for header, guess in zip(stated, guessed, strict=True)
    ]
    return [one.get(name, name) for name in named]


def pseudonym(identity: str) -> str:
    """Replace an identity by a short hash, equal for equal ones; '' stays ''.

    It keeps names out of sight. It is no anonymisation: who knows the identity can compute it.
    """
    return hashlib.sha256(identity.encode()).hexdigest()[:12] if identity else ""
