"""What is wrong with the data, in findings that a person can act on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.auditing.basics import (
    BASIC_CHECKS,
    find_blank,
    find_few_patients,
    find_unknown_patients,
    find_unreadable,
    not_looked_for,
)
from hilum.auditing.drift import find_drift
from hilum.auditing.duplicates import find_near_duplicates
from hilum.auditing.findings import KINDS, Finding, Found, joined
from hilum.auditing.labels import find_label_errors
from hilum.auditing.memory import Detector, Memory
from hilum.auditing.several import ask_by_label, check_labels
from hilum.auditing.shortcuts import find_shortcuts
from hilum.columns import Columns
from hilum.dataset import Dataset, load_dataset
from hilum.headers import add_header_columns
from hilum.looks import empty_looks
from hilum.patients import Patients
from hilum.progress import LogProgress, Progress
from hilum.scan import Scan, reading_notes, scan
from hilum.targets import TargetKind

__all__ = ["KINDS", "NOT_LOOKED_FOR", "Audit", "Finding", "Found", "audit", "find_flaws"]

NOT_LOOKED_FOR = (
    "what the images do not show: whom they stand for, and how they were chosen",
    "labels that are wrong in the same way throughout",
    "several images of one patient under different names",
)
"""What can make figures wrong and this version does not find; reports say so."""

DETECTORS: tuple[Detector, ...] = (
    *(find_near_duplicates, find_shortcuts, find_label_errors, find_drift),
)
"""What looks at the pictures; each is called as detector(samples, looks, progress=progress)."""

OF_CLASSES: tuple[tuple[str, Detector], ...] = (
    ("shortcut", find_shortcuts),
    ("label_errors", find_label_errors),
)
"""Those of them that need one class an image, with the kind that they find."""


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes
    ----------
    class_names : tuple of str
    patients : Patients
        How patients were recognised, with examples that show a wrong guess.
    unreadable : tuple of dict
        `path` and `reason` of each file that cannot be read.
    notes : tuple of str
        What was left aside, and why; what a person should know of how files were read, of how many
        of them.
    not_looked_for : dict of str to str
        Why a kind could not be looked for in these data.
    clues : dict
        How well the label is told by what is not the anatomy, alarming or not; as `Found` has it,
        of several labels under 'by_label'.
    dataset : Dataset
        What was looked at, for those who show its images.
    """

    class_names: tuple[str, ...]
    patients: Patients
    notes: tuple[str, ...]
    n_files: int
    n_read: int
    unreadable: tuple[dict[str, str], ...]
    findings: tuple[Finding, ...]
    not_looked_for: dict[str, str]
    clues: dict[str, Any]
    dataset: Dataset = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return what was found, as `audit --json` prints it."""
        kept = {each.name: getattr(self, each.name) for each in fields(self)}
        del kept["dataset"]
        kept["patients"] = self.patients.to_dict()
        kept["findings"] = tuple(finding.to_dict() for finding in self.findings)
        return kept


def audit(
    data: str | Path,
    *,
    classes: Sequence[str] | None = None,
    patient_pattern: str | None = None,
    columns: Columns | None = None,
    target: TargetKind | None = None,
    dicom_columns: bool = False,
    progress: Progress | None = None,
) -> Audit:
    """Read all images of a data set and look for what would make a classifier's figures wrong.

    Parameters
    ----------
    data, classes, patient_pattern, columns, target
        As in `load_dataset`.
    dicom_columns : bool
        Take patients and metadata from DICOM headers, patients as pseudonyms.

    Returns
    -------
    Audit
    """
    dataset = load_dataset(
        data, classes=classes, patient_pattern=patient_pattern, columns=columns, target=target
    )
    progress = progress or LogProgress()
    if dicom_columns:
        dataset = add_header_columns(dataset, progress)
    scanned = scan(dataset, progress)
    samples = scanned.samples
    bad = samples[samples["excluded"]]
    found = find_flaws(dataset, scanned, progress)
    return Audit(
        class_names=dataset.class_names,
        patients=dataset.patients,
        notes=(*dataset.notes, *reading_notes(samples)),
        n_files=len(samples),
        n_read=len(samples) - len(bad),
        unreadable=tuple(
            {"path": str(path), "reason": str(reason)}
            for path, reason in zip(bad["path"], bad["reason"], strict=True)
        ),
        findings=found.findings,
        not_looked_for=found.not_looked_for,
        clues=found.clues,
        dataset=dataset,
    )


def find_flaws(
    dataset: Dataset, scanned: Scan, progress: Progress, *, in_folds: bool = False
) -> Found:
    """Look for flaws in scanned samples, the worst first.

    Parameters
    ----------
    in_folds : bool
        They are to be cross-validated, so that no test split is drawn.
    """
    samples, looks = readable(scanned)
    findings = [*find_unreadable(scanned.samples), *find_unknown_patients(dataset)]
    findings += find_blank(samples, looks)
    memory = Memory(samples, looks)
    if dataset.target_kind == "multilabel":
        names = dataset.class_names
        unlabelled = Memory(samples.drop(columns="label"), looks)
        return joined(
            (
                Found(tuple(findings)),
                check_labels(samples, names, in_folds=in_folds),
                memory.ask(find_near_duplicates, progress),
                unlabelled.ask(find_drift, progress),
                ask_by_label(OF_CLASSES, samples, looks, names, progress),
            )
        )
    for check in BASIC_CHECKS:
        findings += check(samples)
    findings += find_few_patients(samples, in_folds=in_folds)
    return joined(
        (
            Found(tuple(findings), not_looked_for(samples, in_folds=in_folds)),
            *(memory.ask(detector, progress) for detector in DETECTORS),
        )
    )


def readable(scanned: Scan) -> tuple[pd.DataFrame, NDArray[np.uint8]]:
    """Return the samples that can be read, numbered from 0, and their looks."""
    good = ~scanned.samples["excluded"].to_numpy(bool)
    if good.all():
        return scanned.samples.reset_index(drop=True), scanned.looks  # no copy of either
    samples = scanned.samples[good].reset_index(drop=True)
    looks = empty_looks(len(samples))
    for place, row in enumerate(np.flatnonzero(good)):
        looks[place] = scanned.looks[row]
    return samples, looks
