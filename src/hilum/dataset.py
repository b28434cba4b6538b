"""Folder, table or NPZ → the table of samples.

A `Dataset` says what there is (paths, labels, patients, the splits that came with the data); it
reads no pixels until asked for a picture.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from hilum.class_names import ask_of_slips, check_class_names, class_order
from hilum.columns import (
    Columns,
    check_rows,
    find_column,
    nearly_usual,
    plain_path,
    required_column,
)
from hilum.errors import DataError
from hilum.folders import find_images, split_name
from hilum.labels import (
    Several,
    check_several,
    grade_order,
    labels_in_cells,
    labels_in_columns,
)
from hilum.names import plain_text, quoted
from hilum.npz import named_labels, npz_labels, npz_paths, npz_picture
from hilum.patients import Patients, recognise
from hilum.readers import AtLeast, Picture, read
from hilum.tables import SUFFIXES as TABLE_SUFFIXES
from hilum.tables import read_table
from hilum.targets import TargetKind, label_columns

Kind = Literal["folder", "table", "npz"]

FACTS = (
    *("sha256", "format", "mode", "bits", "height", "width", "grey", "dtype", "low", "high"),
    *("range_from", "burned_in", "spacing_mm", "notes", "file_size", "jpeg_quality"),
)  # fmt: skip
"""Columns that the scan of the files adds to the table of samples."""

RESERVED = (
    *("path", "label", "unknown", "patient", "group", "given_split", "split", "fold"),
    *("excluded", "reason"),
    *FACTS,
)  # fmt: skip
"""Columns that Hilum writes into samples.csv itself."""


@dataclass(frozen=True)
class Dataset:
    """Samples of one source.

    Attributes
    ----------
    source : Path
        What the user named: a folder, a table or an NPZ.
    table : DataFrame
        One row a sample: path, label, patient, given_split ('' where none), then metadata. For
        multi-label data `label` joins those present by '|' ('none' where none is), and a column
        `unknown` those of which it is not known.
    class_names : tuple of str
        Classes, grades or labels in the order of the network's outputs.
    target_kind : str
        'classes', 'ordinal' or 'multilabel'.
    notes : tuple of str
        What was left aside, and why.
    """

    source: Path
    kind: Kind
    table: pd.DataFrame
    class_names: tuple[str, ...]
    target_kind: TargetKind
    patients: Patients
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.table)

    def picture(self, path: str) -> Picture:
        return open_picture(self.source, self.kind, path)


def load_dataset(
    data: str | Path,
    *,
    classes: Sequence[str] | None = None,
    patient_pattern: str | None = None,
    columns: Columns | None = None,
    target: TargetKind | None = None,
    min_classes: int = 2,
) -> Dataset:
    """Find the samples in a folder, a table or an NPZ.

    Parameters
    ----------
    data : path
        A folder of class folders; the same under train, val, test; a CSV or Parquet table with
        the columns path and label (optional: patient, split); a MedMNIST-style NPZ.
    classes : sequence of str, optional
        The order of the classes; alphabetical (numerical for numbers) where not given. For an NPZ,
        the names of the labels 0, 1, ….
    patient_pattern : str, optional
        Regular expression with a group named `patient`.
    columns : Columns, optional
        Names of a table's columns where they are not the usual ones.
    target : str, optional
        'classes', 'ordinal' (grades in the order of their numbers, or of `classes`) or 'multilabel'
        (several labels an image); without it what the data show: several labels for an NPZ whose
        labels have several columns and for a table whose label columns are named, else classes.
    min_classes : int
        Two to learn from; a model may be evaluated on images of one.

    Raises
    ------
    DataError
        If there is no such data, fewer classes, or anything that would be a guess.
    """
    source = Path(data)
    if not source.exists():
        raise DataError(
            f"{source} does not exist. Give a folder of class folders, a CSV table or an NPZ."
        )
    if columns is not None and (source.is_dir() or source.suffix.lower() == ".npz"):
        raise DataError(f"{source} has no columns to name: only a CSV or Parquet table has.")
    suffix = source.suffix.lower()
    if source.is_dir():
        dataset = _load_folder(source, classes, patient_pattern, min_classes)
    elif suffix == ".npz":
        dataset = _load_npz(source, classes, patient_pattern, min_classes)
    elif suffix in TABLE_SUFFIXES:
        named = columns or Columns()
        several = target == "multilabel" or named.labels is not None
        dataset = _load_table(source, classes, patient_pattern, named, min_classes, several=several)
    else:
        raise DataError(
            f"{source} is not data that can be learnt from: '{suffix or 'no suffix'}' is not one "
            "of .csv, .tsv, .parquet, .npz, nor a folder of class folders."
        )
    dataset = _as_target(dataset, target, classes)
    # Data to evaluate on may map their classes to those of the model; labels are joined before.
    if min_classes > 1 or dataset.target_kind == "multilabel":
        check_class_names(dataset.class_names, source, dataset.target_kind)
    return dataset


def _as_target(
    dataset: Dataset, target: TargetKind | None, classes: Sequence[str] | None
) -> Dataset:
    """Hold the data against the kind of target that is wanted."""
    source, found = dataset.source, dataset.target_kind
    if target is None or target == found:
        return dataset
    if found == "multilabel":
        raise DataError(
            f"{source} has several labels an image, so its target is 'multilabel' and cannot be "
            f"'{target}'. Leave --target out, or give one label an image."
        )
    if target == "multilabel":
        raise DataError(
            f"{source} has one label an image. For --target multilabel give a table with a column "
            "for each label (--labels a,b,c) or a label column whose cells join them by '|', or "
            "an NPZ with labels of shape (n, number of labels)."
        )
    if len(dataset.class_names) < 3:
        raise DataError(
            f"{source} has two grades, {quoted(dataset.class_names)}, and two are classes: order "
            "says nothing more. Leave --target ordinal out."
        )
    names = dataset.class_names if classes else grade_order(dataset.class_names, source)
    return dataclasses.replace(dataset, target_kind="ordinal", class_names=names)


def open_picture(
    source: str | Path, kind: Kind, path: str, *, at_least: AtLeast | None = None
) -> Picture:
    """Read one sample's image.

    Parameters
    ----------
    source, kind
        As in `Dataset`.
    path : str
        The sample's path: relative to the folder or to the table's folder, or 'split/row' in an
        NPZ.
    at_least : AtLeast, optional
        As in `hilum.read`.

    Raises
    ------
    UnreadableError
        If it cannot be read.
    """
    if kind == "npz":
        return npz_picture(Path(source), path)
    base = Path(source) if kind == "folder" else Path(source).parent
    return read(base / path, name=path, at_least=at_least)


def _load_folder(
    source: Path, classes: Sequence[str] | None, pattern: str | None, min_classes: int
) -> Dataset:
    found = find_images(source)
    paths = [path.relative_to(source).as_posix() for path, _, _ in found.images]
    table = pd.DataFrame(
        {
            "path": paths,
            "label": [plain_text(folder.name) for _, folder, _ in found.images],
            "given_split": [split for _, _, split in found.images],
        },
        dtype=str,
    )
    names = class_order(table["label"], classes, source, min_classes, places=paths, hint=found.hint)
    owners, patients = recognise(
        paths,
        pattern=pattern,
        # What stands above an image's class cannot tell its patient.
        inner=[path.relative_to(folder).as_posix() for path, folder, _ in found.images],
    )
    table.insert(2, "patient", pd.Series(owners, dtype=str))
    notes = tuple(found.notes)
    if classes is None:
        notes += tuple(ask_of_slips(table["label"], paths))
    return Dataset(source, "folder", table, names, "classes", patients, notes)


def _load_table(
    source: Path,
    classes: Sequence[str] | None,
    pattern: str | None,
    columns: Columns,
    min_classes: int,
    *,
    several: bool,
) -> Dataset:
    raw = read_table(source)
    path = required_column(raw, columns.path, "path", source)
    label = None
    if columns.labels is None:
        label = required_column(raw, columns.label, "label", source)
    elif columns.label is not None or classes is not None:
        raise DataError(
            "--labels names a column for each label, in order, so that --label-column and "
            "--classes have no use. Leave them out."
        )
    patient = find_column(raw, columns.patient, "patient", source)
    split = find_column(raw, columns.split, "split", source)
    paths = raw[path].map(plain_path)
    check_rows(raw, paths, label, split, source, may_be_empty=several)
    places = [f"row {row}" for row in raw.index]
    read = None
    if columns.labels is not None:
        read = labels_in_columns(raw, columns.labels, source)
    elif several:
        read = labels_in_cells(list(raw[str(label)]), classes, source, places)
    used = (path, label, patient, split, *(columns.labels or ()))
    rest = raw.drop(columns=[name for name in used if name])
    found, patients = recognise(
        list(paths),
        pattern=pattern,
        column=list(raw[patient]) if patient else None,
        column_name=patient,
        nearly_named=nearly_usual(rest.columns, "patient"),
    )
    table = pd.DataFrame(
        {
            "path": list(paths),
            "label": "" if read else [plain_text(value) for value in raw[str(label)]],
            "patient": found,
            "given_split": [split_name(value) for value in raw[split]] if split else "",
        },
        dtype=str,
    )
    table = table.join(_renamed(rest).reset_index(drop=True))
    if read is not None:
        several_of = Dataset(source, "table", table, read.names, "multilabel", patients)
        return _multilabel(several_of, read, min_classes)
    names = class_order(table["label"], classes, source, min_classes, places=places)
    notes = tuple(ask_of_slips(table["label"], places)) if classes is None else ()
    return Dataset(source, "table", table, names, "classes", patients, notes)


def _renamed(rest: pd.DataFrame) -> pd.DataFrame:
    """Keep a user's column that bears the name of one of ours under another."""
    names: dict[str, str] = {}
    taken = {*RESERVED, *rest.columns}
    for name in rest.columns:
        new = name
        while new in taken and name in RESERVED:
            new = f"table_{new}"
        names[name] = new
        taken.add(new)
    return rest.rename(columns=names)


def _load_npz(
    source: Path, classes: Sequence[str] | None, pattern: str | None, min_classes: int
) -> Dataset:
    classes = None if classes is None else [plain_text(name) for name in classes]
    if pattern is not None:
        raise DataError(f"{source} holds arrays without names, so --patient-pattern has no use.")
    labels, paths = npz_labels(source), npz_paths(source)
    multilabel = labels.shape[1] > 1
    table = pd.DataFrame(
        {
            "path": paths,
            "label": [""] * len(labels) if multilabel else [str(int(v)) for v in labels[:, 0]],
            "patient": "",
            "given_split": [path.split("/")[0] for path in paths],
        },
        dtype=str,
    )
    _, patients = recognise(paths)
    if multilabel:
        names = tuple(classes or map(str, range(labels.shape[1])))
        if len(names) != labels.shape[1]:
            raise DataError(
                f"{source} has {labels.shape[1]} labels an image, but --classes names "
                f"{len(names)}. Name each, in order."
            )
        read = Several(names, labels.astype(np.float32), ())
        return _multilabel(
            Dataset(source, "npz", table, names, "multilabel", patients), read, min_classes
        )
    if classes is not None:
        table["label"] = named_labels(list(table["label"]), classes, source)
    names = class_order(table["label"], classes, source, min_classes, places=paths)
    return Dataset(source, "npz", table, names, "classes", patients)


def _multilabel(dataset: Dataset, read: Several, min_classes: int) -> Dataset:
    """Write the labels into the table, after checks of each."""
    check_several(read, dataset.source, to_learn=min_classes > 1)
    columns = label_columns(read.targets, read.names)
    unknown = np.isnan(read.targets).all(axis=1)
    notes = list(read.notes)
    if min_classes > 1 and ((read.targets == 1).sum(axis=1) == 1).all():
        notes.append(
            "Every image has exactly one of the labels, as of classes: if that is what they are, "
            "give the class of each image in one column."
        )
    if unknown.any():
        n = int(unknown.sum())
        notes.append(
            f"No label is known of {n:,} image{'' if n == 1 else 's'}: nothing is learnt of such."
        )
    return dataclasses.replace(
        dataset, table=dataset.table.assign(**columns), notes=(*dataset.notes, *notes)
    )
