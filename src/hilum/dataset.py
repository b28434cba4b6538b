"""Folder, table or NPZ → the table of samples.

A `Dataset` says what there is (paths, labels, patients, the splits that came with the data); it
reads no pixels until asked for a picture.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.errors import DataError, UnreadableError, did_you_mean
from hilum.folders import find_images, images_below, split_name
from hilum.labels import Several, grade_order, labels_in_cells, labels_in_columns, natural
from hilum.names import NONE, REFER, REFUSED, SET_SEPARATOR, UNWRITABLE, plain_text, quoted
from hilum.patients import Patients, recognise
from hilum.readers import LIMITS, AtLeast, Facts, Picture, read, read_arrays
from hilum.splits import SPLITS
from hilum.tables import SUFFIXES as TABLE_SUFFIXES
from hilum.tables import name_rows, read_table
from hilum.targets import MOST_CLASSES, TargetKind, label_columns

__all__ = [
    "FACTS",
    "RESERVED",
    "Columns",
    "Dataset",
    "Kind",
    "images_below",
    "load_dataset",
    "npz_paths",
    "open_picture",
    "plain_path",
    "split_name",
    "usual_columns",
]

Kind = Literal["folder", "table", "npz"]

# Greater numbers name no class, and the greatest are no longer told apart as floats.
MOST_NUMBER = 999_999_999

# A patient that goes unnoticed makes figures too good, so this column has more than one name.
COLUMN_SPELLINGS = {
    "patient": ("patient", "patientid", "patientnumber", "patientno", "subject", "subjectid")
}


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


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns; None takes the usual name where there is one.

    Attributes
    ----------
    labels : tuple of str or None
        In place of `label`: one column for each of several labels an image.
    """

    path: str | None = None
    label: str | None = None
    patient: str | None = None
    split: str | None = None
    labels: tuple[str, ...] | None = None


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
        _check_names(dataset)
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
        return _npz_picture(Path(source), path)
    base = Path(source) if kind == "folder" else Path(source).parent
    return read(base / path, name=path, at_least=at_least)


# -- folders ------------------------------------------------------------------------------------


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
    names = _class_order(table, classes, source, min_classes, hint=found.hint)
    owners, patients = recognise(
        paths,
        pattern=pattern,
        # What stands above an image's class cannot tell its patient.
        inner=[path.relative_to(folder).as_posix() for path, folder, _ in found.images],
    )
    table.insert(2, "patient", pd.Series(owners, dtype=str))
    notes = tuple(found.notes)
    if classes is None:
        notes += tuple(_slips(table["label"], paths))
    return Dataset(source, "folder", table, names, "classes", patients, notes)


# -- tables -------------------------------------------------------------------------------------


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
    path = _required(raw, columns.path, "path", source)
    label = None
    if columns.labels is None:
        label = _required(raw, columns.label, "label", source)
    elif columns.label is not None or classes is not None:
        raise DataError(
            "--labels names a column for each label, in order, so that --label-column and "
            "--classes have no use. Leave them out."
        )
    patient = _column(raw, columns.patient, "patient", source)
    split = _column(raw, columns.split, "split", source)
    paths = raw[path].map(plain_path)
    _check_rows(raw, paths, label, split, source, may_be_empty=several)
    places = [f"row {row}" for row in raw.index]
    read = None
    if columns.labels is not None:
        read = labels_in_columns(raw, columns.labels, source)
    elif several:
        read = labels_in_cells(list(raw[str(label)]), classes, source, places)
    found, patients = recognise(
        list(paths),
        pattern=pattern,
        column=list(raw[patient]) if patient else None,
        column_name=patient,
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
    used = (path, label, patient, split, *(columns.labels or ()))
    rest = raw.drop(columns=[name for name in used if name])
    table = table.join(_renamed(rest).reset_index(drop=True))
    if read is not None:
        several_of = Dataset(source, "table", table, read.names, "multilabel", patients)
        return _multilabel(several_of, read, min_classes)
    names = _class_order(table, classes, source, min_classes, places=places)
    notes = tuple(_slips(table["label"], places)) if classes is None else ()
    return Dataset(source, "table", table, names, "classes", patients, notes)


def _multilabel(dataset: Dataset, read: Several, min_classes: int) -> Dataset:
    """Write the labels into the table, after checks of each."""
    twice = [name for name, count in Counter(read.names).items() if count > 1]
    if twice:
        raise DataError(f"--classes names '{twice[0]}' more than once. Name each label once.")
    if len(read.names) < 2:
        raise DataError(
            f"{dataset.source}: one label, '{read.names[0]}', is two classes. Give its column with "
            "--label-column, without --target and without the rows in which it is unknown."
        )
    for k, name in enumerate(read.names):
        for value, missing in ((1, "present in"), (0, "absent from")):
            # A model may be evaluated on images that all lack a label.
            if min_classes > 1 and not (read.targets[:, k] == value).any():
                raise DataError(
                    f"{dataset.source}: the label '{name}' is known to be {missing} no image, so "
                    "it cannot be learnt. Leave it out, or add such images."
                )
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


FACTS = (
    *("sha256", "format", "mode", "bits", "height", "width", "grey", "dtype", "low", "high"),
    *("range_from", "burned_in", "spacing_mm", "file_size", "jpeg_quality"),
)  # fmt: skip
"""Columns that the scan of the files adds to the table of samples."""

RESERVED = (
    *("path", "label", "unknown", "patient", "group", "given_split", "split", "fold"),
    *("excluded", "reason"),
    *FACTS,
)  # fmt: skip
"""Columns that Hilum writes into samples.csv itself."""


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


def usual_columns(raw: pd.DataFrame, usual: str) -> list[str]:
    """Return the columns that bear a usual name, such as path, in any spelling."""
    wanted = COLUMN_SPELLINGS.get(usual, (usual,))
    return [name for name in raw.columns if re.sub(r"[\s_.-]", "", name.lower()) in wanted]


def _required(raw: pd.DataFrame, given: str | None, usual: str, source: Path) -> str:
    name = _column(raw, given, usual, source)
    if name is None:
        more = ", or several, one a label, with --labels COLUMN,COLUMN" if usual == "label" else ""
        raise _no_column(raw, usual, source, f" Name it with --{usual}-column{more}.")
    return name


def _column(raw: pd.DataFrame, given: str | None, usual: str, source: Path) -> str | None:
    """Find a column by the name given, or by its usual name in any spelling."""
    if given is not None:
        if given not in raw.columns:
            raise _no_column(raw, given, source, "")
        return given
    found = usual_columns(raw, usual)
    if len(found) > 1:
        raise DataError(
            f"{source} has several columns that may be the {usual}: {', '.join(found)}. Choose "
            f"one with --{usual}-column."
        )
    return found[0] if found else None


def _no_column(raw: pd.DataFrame, name: str, source: Path, option: str) -> DataError:
    hint = did_you_mean(name, raw.columns)
    return DataError(
        f"{source} has no column '{name}'.{hint} Its columns are: {', '.join(raw.columns)}.{option}"
    )


def plain_path(text: str) -> str:
    """Write a path with forward slashes and without './'; '' stays ''."""
    text = text.strip().replace("\\", "/")
    return PurePosixPath(text).as_posix() if text else ""


def _check_rows(
    raw: pd.DataFrame,
    paths: pd.Series,
    label: str | None,
    split: str | None,
    source: Path,
    *,
    may_be_empty: bool,
) -> None:
    """Collect every fault of the rows, then refuse them together."""
    if raw.empty:
        raise DataError(f"{source} has no rows.")
    labels = raw[label].str.strip() if label else pd.Series("", raw.index)
    faults = {
        "path missing": paths == "",
        # Of several labels an empty cell says something; what says nothing is told elsewhere.
        "label missing": (labels == "") & (not may_be_empty),
        "path named twice": paths.duplicated() & (paths != ""),
        "line break or control character": (paths + labels).map(_is_unwritable),
    }
    if split:
        faults["split missing"] = raw[split].str.strip() == ""
        known = raw[split].map(lambda value: split_name(value) is not None)
        wrong = ~known & ~faults["split missing"]
        values = raw[split].map(plain_text)
        for value in values[wrong].unique()[:3]:
            faults[f"split is '{value}', not train, val or test,"] = wrong & (values == value)
    found = [
        f"{fault} in {name_rows([int(row) for row in raw.index[rows]])}"
        for fault, rows in faults.items()
        if rows.any()
    ]
    if found:
        raise DataError(f"{source}: {'; '.join(found)}. Fix or remove these rows.")


def _is_unwritable(text: str) -> bool:
    return UNWRITABLE.search(text) is not None


# -- NPZ ----------------------------------------------------------------------------------------


def _load_npz(
    source: Path, classes: Sequence[str] | None, pattern: str | None, min_classes: int
) -> Dataset:
    classes = None if classes is None else [plain_text(name) for name in classes]
    if pattern is not None:
        raise DataError(f"{source} holds arrays without names, so --patient-pattern has no use.")
    arrays = _npz_arrays(source)
    labels = {split: _npz_labels(arrays, split, source) for split in _npz_splits(arrays)}
    widths = sorted({array.shape[1] for array in labels.values()})
    if len(widths) != 1:
        raise DataError(
            f"{source}: the splits have different numbers of labels an image "
            f"({' and '.join(map(str, widths))}). Give each the same."
        )
    multilabel = widths != [1]
    paths = npz_paths(source)
    stacked = np.concatenate(list(labels.values()))
    table = pd.DataFrame(
        {
            "path": paths,
            "label": [""] * len(stacked) if multilabel else [str(int(v)) for v in stacked[:, 0]],
            "patient": "",
            "given_split": [path.split("/")[0] for path in paths],
        },
        dtype=str,
    )
    _, patients = recognise(paths)
    if multilabel:
        names = tuple(classes or map(str, range(stacked.shape[1])))
        if len(names) != stacked.shape[1]:
            raise DataError(
                f"{source} has {stacked.shape[1]} labels an image, but --classes names "
                f"{len(names)}. Name each, in order."
            )
        read = Several(names, stacked.astype(np.float32), ())
        return _multilabel(
            Dataset(source, "npz", table, names, "multilabel", patients), read, min_classes
        )
    if classes is not None:
        table["label"] = _rename(table["label"], classes, source)
    names = _class_order(table, classes, source, min_classes)
    return Dataset(source, "npz", table, names, "classes", patients)


def npz_paths(source: Path) -> list[str]:
    """Name every image of an NPZ: 'split/row'."""
    arrays = _npz_arrays(source)
    return [
        f"{split}/{row}"
        for split in _npz_splits(arrays)
        for row in range(len(arrays[f"{split}_images"]))
    ]


def _npz_splits(arrays: dict[str, NDArray[Any]]) -> list[str]:
    return [split for split in SPLITS if f"{split}_images" in arrays]


def _npz_labels(arrays: dict[str, NDArray[Any]], split: str, source: Path) -> NDArray[np.float64]:
    """Return labels of shape (n, labels an image): whole numbers, or 0, 1 and NaN for several."""
    labels = arrays[f"{split}_labels"]
    labels = labels.reshape(len(labels), -1).astype(np.float64)
    if labels.shape[1] == 1:
        good = (labels >= 0) & (labels <= MOST_NUMBER)
        good[good] = labels[good] % 1 == 0
        wanted = f"whole numbers from 0 to {MOST_NUMBER:,} are read"
    else:
        good = np.isnan(labels) | (labels == 0) | (labels == 1)
        wanted = "with several labels an image, 0, 1 and NaN for unknown are read"
    if not good.all():
        row, column = np.argwhere(~good)[0]
        raise DataError(
            f"{source}: {split}_labels holds {labels[row, column]:g} in row {row}; {wanted}."
        )
    return labels


def _rename(labels: pd.Series, classes: Sequence[str], source: Path) -> list[str]:
    numbers = sorted(set(labels), key=int)
    if numbers != [str(i) for i in range(len(classes))]:
        raise DataError(
            f"{source} has the labels {', '.join(numbers)}, which --classes {','.join(classes)} "
            f"does not name: it must name each of 0 to {numbers[-1]}."
        )
    return [classes[int(label)] for label in labels]


# A data set is larger than a picture. What memory is taken for is still bounded by the file:
# every array is as long as its header says, and no more than the readers' ratio of what is stored.
NPZ_LIMITS = dataclasses.replace(LIMITS, max_file_bytes=2**36, max_bytes=2**36)


_NPZ_LOCK = threading.Lock()


def _npz_arrays(source: Path) -> dict[str, NDArray[Any]]:
    """Return all arrays, checked; threads that ask at the same time wait for one loading."""
    with _NPZ_LOCK:
        return _loaded_arrays(source, source.stat().st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _loaded_arrays(source: Path, mtime_ns: int) -> dict[str, NDArray[Any]]:  # noqa: ARG001
    """Load and check all arrays; `mtime_ns` makes a changed file a new one."""
    arrays = read_arrays(source, limits=NPZ_LIMITS)
    if "train_images" not in arrays:
        raise DataError(
            f"{source} holds no array 'train_images'. A MedMNIST-style NPZ has train_images, "
            "train_labels and the same for val and test."
        )
    for split in _npz_splits(arrays):
        _check_npz_split(arrays, split, source)
    return arrays


def _check_npz_split(arrays: dict[str, NDArray[Any]], split: str, source: Path) -> None:
    images, labels = arrays[f"{split}_images"], arrays.get(f"{split}_labels")
    if not (images.ndim == 3 or (images.ndim == 4 and images.shape[-1] in (1, 3))):
        raise DataError(
            f"{source}: {split}_images has the shape {images.shape}; expected (n, height, width) "
            "or (n, height, width, 3)."
        )
    if 0 in images.shape:
        raise DataError(
            f"{source}: {split}_images has the shape {images.shape}, which is no image. Leave the "
            "split out or fill it."
        )
    if labels is None or not labels.ndim or len(labels) != len(images) or not labels.size:
        n_labels = "no" if labels is None or not labels.size else labels.size
        raise DataError(
            f"{source}: {split} has {len(images)} images and {n_labels} labels. Give each image "
            "its label."
        )
    if images.dtype.kind != "u" or images.dtype.itemsize > 2:
        raise DataError(
            f"{source}: {split}_images is of type {images.dtype}; uint8 and uint16 are read. "
            "Convert the images to one of these."
        )


def _npz_picture(source: Path, path: str) -> Picture:
    arrays = _npz_arrays(source)
    split, _, row = path.partition("/")
    images = arrays.get(f"{split}_images")
    if images is None or not row.isdecimal() or int(row) >= len(images):
        raise UnreadableError(path, f"there is no such image in {source.name}")
    pixels = images[int(row)]
    pixels = pixels[None, :, :, None] if pixels.ndim == 2 else pixels[None]
    bits = pixels.dtype.itemsize * 8
    pixels = pixels.astype(f"uint{bits}", copy=False)  # in this machine's byte order
    mode = "L" if pixels.shape[-1] == 1 else "RGB"
    return Picture(pixels, (0.0, float(2**bits - 1)), Facts("NPZ", mode, bits))


# -- classes ------------------------------------------------------------------------------------


def _class_order(
    table: pd.DataFrame,
    classes: Sequence[str] | None,
    source: Path,
    min_classes: int,
    *,
    places: Sequence[str] | None = None,
    hint: str = "",
) -> tuple[str, ...]:
    """Check the labels and put the classes in order; `places` name the samples in messages."""
    found = sorted(set(table["label"]), key=natural)
    if len(found) < min_classes:
        raise DataError(
            f"{source} holds one class only, '{found[0]}'. A classifier needs at least two.{hint}"
        )
    folded: dict[str, str] = {}
    for name in found:
        other = folded.setdefault(name.casefold(), name)
        if other != name:
            raise DataError(
                f"{source} holds the classes '{other}' and '{name}', which differ in case alone. "
                "Give them one spelling."
            )
    if classes is None:
        return tuple(found)
    wanted = tuple(plain_text(name) for name in classes)
    twice = [name for name, count in Counter(wanted).items() if count > 1]
    if twice:
        raise DataError(f"--classes names '{twice[0]}' more than once. Name each class once.")
    _check_unknown(table, wanted, source, list(table["path"]) if places is None else places)
    absent = [name for name in wanted if name not in found]
    if absent:
        raise DataError(
            f"--classes names '{absent[0]}', which {source} does not hold."
            f"{did_you_mean(absent[0], found)} It holds: {', '.join(found)}."
        )
    return wanted


FEW_IMAGES = 3
"""Of a class that may be another's name misspelt."""


def _slips(labels: pd.Series, places: Sequence[str]) -> list[str]:
    """Ask of each class of very few images whether it is a larger one's name misspelt."""
    counts = labels.value_counts()
    large = [name for name in counts.index if counts[name] > FEW_IMAGES]
    found = []
    for name in sorted(counts.index[counts <= FEW_IMAGES]):
        near = did_you_mean(name, [other for other in large if _is_alike(name, other)])
        if near:
            where = [place for place, own in zip(places, labels, strict=True) if own == name]
            found.append(
                f"The class '{name}' has {len(where)} image{'' if len(where) == 1 else 's'} "
                f"({', '.join(where)}).{near}"
            )
    return found


def _is_alike(one: str, other: str) -> bool:
    """Whether names are one but for a slip; other digits are other grades, as 'T1' and 'T2'."""
    if re.findall(r"\d+", one) != re.findall(r"\d+", other):
        return False
    return difflib.SequenceMatcher(None, one.casefold(), other.casefold()).ratio() >= 0.8


def _check_names(dataset: Dataset) -> None:
    """Refuse names that a model's answers could not be told from, and more than a model holds."""
    if len(dataset.class_names) > MOST_CLASSES:
        raise DataError(
            f"{dataset.source} holds {len(dataset.class_names):,} classes or labels, and a model "
            f"holds {MOST_CLASSES:,} at most. Is the right column named?"
        )
    for name in dataset.class_names:
        if not name or _is_unwritable(name):
            raise DataError(
                f"{dataset.source} holds the class or label {name!r}, which is empty or has "
                "control characters. Give it a name of letters."
            )
        if name.casefold() in (REFER, REFUSED):
            raise DataError(
                f"{dataset.source} holds the class '{name}', the very word by which a model says "
                f"that it gives no answer ('{REFER}' to a person, '{REFUSED}' as unreadable). Call "
                "the class otherwise, such as 'referable'."
            )
        if SET_SEPARATOR in name:
            raise DataError(
                f"{dataset.source} holds the class '{name}', and '{SET_SEPARATOR}' stands between "
                "the classes of a prediction set. Call the class otherwise, such as "
                f"'{name.replace(SET_SEPARATOR, '-')}'; or, if it joins several labels of an "
                "image, pass --target multilabel."
            )
        if dataset.target_kind == "multilabel" and name.casefold() == NONE:
            raise DataError(
                f"{dataset.source} holds the label '{name}', the very word that stands for an "
                "image with none of the labels. Leave the label out, or call it otherwise."
            )


def _check_unknown(
    table: pd.DataFrame, wanted: Sequence[str], source: Path, places: Sequence[str]
) -> None:
    """Refuse labels that the user's list of classes does not have, each with its place."""
    first: dict[str, str] = {}
    for name, place in zip(table["label"], places, strict=True):
        if name not in wanted:
            first.setdefault(name, place)
    if not first:
        return
    faults = [
        f"{source}, {place}: class '{name}' is not one of {quoted(wanted)}."
        + did_you_mean(name, wanted)
        for name, place in list(first.items())[:5]
    ]
    raise DataError(f"{' '.join(faults)} Fix the label or --classes.")
