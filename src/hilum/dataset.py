"""Folder, table or NPZ → the table of samples.

A `Dataset` says what there is (paths, labels, patients, the splits that came with the data); it
reads no pixels until asked for a picture.
"""

from __future__ import annotations

import functools
import os
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.errors import DataError, MissingExtraError, UnreadableError, did_you_mean
from hilum.patients import Patients, recognise
from hilum.readers import Facts, Picture, read

Kind = Literal["folder", "table", "npz"]
TargetKind = Literal["binary", "multiclass", "multilabel"]

SPLITS = ("train", "val", "test")
SPLIT_SPELLINGS = {
    "train": ("train", "training", "train_set", "trainset"),
    "val": ("val", "valid", "validation", "validate", "dev", "val_set", "validation_set"),
    "test": ("test", "testing", "test_set", "testset", "holdout", "hold-out"),
}

# Files that stand beside images and are none; anything else is offered to the readers, which
# refuse by name what they cannot read.
NOT_IMAGES = frozenset((
    *(".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".md", ".rst", ".html", ".htm", ".pdf"),
    *(".xls", ".xlsx", ".ods", ".doc", ".docx", ".py", ".ipynb", ".yaml", ".yml", ".toml"),
    *(".ini", ".cfg", ".log", ".sqlite", ".db", ".h5", ".hdf5", ".pkl", ".pt", ".pth", ".parquet"),
    *(".sha256", ".md5", ".zip", ".tar", ".gz", ".rar", ".7z"),
))  # fmt: skip
JUNK = frozenset(("thumbs.db", "desktop.ini", "__macosx", "$recycle.bin"))


@dataclass(frozen=True)
class Dataset:
    """Samples of one source.

    Attributes
    ----------
    source : Path
        What the user named: a folder, a table or an NPZ.
    table : DataFrame
        One row a sample: path, label, patient, given_split ('' where none), then metadata.
    class_names : tuple of str
        In the order of the network's outputs.
    targets : float array of shape (n_samples, n_classes) or None
        For multi-label data alone: 0, 1, or NaN where unknown; `label` is then ''.
    notes : tuple of str
        What was left aside, and why.
    """

    source: Path
    kind: Kind
    table: pd.DataFrame
    class_names: tuple[str, ...]
    target_kind: TargetKind
    patients: Patients
    targets: NDArray[np.float32] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.table)

    def picture(self, path: str) -> Picture:
        return open_picture(self.source, self.kind, path)


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns; None takes the usual name where there is one."""

    path: str | None = None
    label: str | None = None
    patient: str | None = None
    split: str | None = None


def load_dataset(
    data: str | Path,
    *,
    classes: Sequence[str] | None = None,
    patient_pattern: str | None = None,
    columns: Columns | None = None,
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

    Raises
    ------
    DataError
        If there is no such data, fewer than two classes, or anything that would be a guess.
    """
    source = Path(data)
    if not source.exists():
        raise DataError(
            f"{source} does not exist. Give a folder of class folders, a CSV table or an NPZ."
        )
    if columns is not None and (source.is_dir() or source.suffix.lower() == ".npz"):
        raise DataError(f"{source} has no columns to name: only a CSV or Parquet table has.")
    if source.is_dir():
        return _load_folder(source, classes, patient_pattern)
    suffix = source.suffix.lower()
    if suffix == ".npz":
        return _load_npz(source, classes, patient_pattern)
    if suffix in (".csv", ".tsv", ".parquet"):
        return _load_table(source, classes, patient_pattern, columns or Columns())
    raise DataError(
        f"{source} is not data that can be learnt from: '{suffix or 'no suffix'}' is not one of "
        ".csv, .tsv, .parquet, .npz, nor a folder of class folders."
    )


def open_picture(source: str | Path, kind: Kind, path: str) -> Picture:
    """Read one sample's image.

    Parameters
    ----------
    source, kind
        As in `Dataset`.
    path : str
        The sample's path: relative to the folder or to the table's folder, or 'split/row' in an
        NPZ.

    Raises
    ------
    UnreadableError
        If it cannot be read.
    """
    if kind == "npz":
        return _npz_picture(Path(source), path)
    base = Path(source) if kind == "folder" else Path(source).parent
    return read(base / path, name=path)


# -- folders ------------------------------------------------------------------------------------


def _load_folder(source: Path, classes: Sequence[str] | None, pattern: str | None) -> Dataset:
    root, notes = _unwrap(source)
    folders = _subfolders(root)
    if not folders:
        raise DataError(
            f"{root} holds no class folders. Put the images of each class into a folder named "
            "after the class, or give a CSV table with the columns path and label."
        )
    by_split = {folder: split_name(folder.name) for folder in folders}
    if any(by_split.values()):
        rows, ignored = _split_folders(root, by_split)
    else:
        rows, ignored = _class_folders(root, folders, "")
    if ignored:
        notes.append(
            f"{len(ignored)} files are not images by their names and were left aside, such as "
            f"'{ignored[0]}'."
        )
    table = pd.DataFrame(rows, columns=["path", "label", "given_split"], dtype=str)
    table["path"] = [
        PurePosixPath(path).relative_to(PurePosixPath(source.as_posix())).as_posix()
        for path in table["path"]
    ]
    table = table.sort_values("path", ignore_index=True)
    names = _class_order(table, classes, source)
    found, patients = recognise(list(table["path"]), pattern=pattern)
    table.insert(2, "patient", pd.Series(found, dtype=str))
    return Dataset(source, "folder", table, names, _kind(names), patients, notes=tuple(notes))


def _unwrap(source: Path) -> tuple[Path, list[str]]:
    """Step into a folder that holds one folder and nothing else, as archives often unpack."""
    root = source
    while True:
        folders = _subfolders(root)
        if len(folders) != 1 or split_name(folders[0].name) or not _subfolders(folders[0]):
            break
        if any(_is_image(path) for path in root.iterdir()):
            break
        root = folders[0]
    if root == source:
        return root, []
    inner = root.relative_to(source).as_posix()
    return root, [f"The folder '{inner}' inside {source.name} was taken as the data."]


def _split_folders(
    root: Path, by_split: dict[Path, str | None]
) -> tuple[list[tuple[str, str, str]], list[str]]:
    others = [folder.name for folder, split in by_split.items() if split is None]
    if others:
        splits = [folder.name for folder, split in by_split.items() if split]
        raise DataError(
            f"{root} holds split folders ({', '.join(splits)}) and others beside them "
            f"({', '.join(others)}). Move the others away, or give the folder that holds the "
            "splits alone."
        )
    rows: list[tuple[str, str, str]] = []
    ignored: list[str] = []
    seen: dict[str, str] = {}
    for folder, split in by_split.items():
        assert split is not None
        if split in seen:
            raise DataError(
                f"{root} holds two folders for the {split} split: '{seen[split]}' and "
                f"'{folder.name}'. Keep one."
            )
        seen[split] = folder.name
        class_folders = _subfolders(folder)
        if not class_folders:
            raise DataError(
                f"{folder} holds no class folders. Each split needs a folder for each class."
            )
        more, left = _class_folders(folder, class_folders, split)
        rows += more
        ignored += left
    if "train" not in seen:
        raise DataError(
            f"{root} holds the splits {', '.join(seen.values())} but no train folder. Add one."
        )
    return rows, ignored


def _class_folders(
    root: Path, folders: Iterable[Path], split: str
) -> tuple[list[tuple[str, str, str]], list[str]]:
    loose = sorted(path.name for path in root.iterdir() if _is_image(path))
    if loose:
        raise DataError(
            f"{root} holds images outside its class folders, such as '{loose[0]}' "
            f"({len(loose)} in all). Move each into the folder of its class."
        )
    rows: list[tuple[str, str, str]] = []
    ignored: list[str] = []
    for folder in folders:
        images, left = images_below(folder)
        ignored += left
        if not images:
            raise DataError(
                f"The class folder {folder} holds no images. Add images or remove the folder."
            )
        rows += [(path.as_posix(), folder.name, split) for path in images]
    return rows, ignored


def _subfolders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not _is_hidden(path.name))


def images_below(folder: Path) -> tuple[list[Path], list[str]]:
    """List the images in a folder and all below it, sorted, and what was left aside."""
    images: list[Path] = []
    ignored: list[str] = []
    for parent, subfolders, files in os.walk(folder):
        subfolders[:] = sorted(name for name in subfolders if not _is_hidden(name))
        for name in sorted(files):
            path = Path(parent) / name
            if _is_image(path):
                images.append(path)
            elif not _is_hidden(name):
                ignored.append(path.relative_to(folder.parent).as_posix())
    return images, ignored


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in JUNK


def _is_image(path: Path) -> bool:
    """Whether a file is meant as an image, by its name alone."""
    name = path.name.lower()
    if _is_hidden(path.name) or not path.is_file():
        return False
    return name.endswith(".nii.gz") or path.suffix.lower() not in NOT_IMAGES


def split_name(name: str) -> str | None:
    """Return 'train', 'val' or 'test' for any usual spelling of it, else None."""
    plain = name.strip().lower().replace(" ", "_")
    for split, spellings in SPLIT_SPELLINGS.items():
        if plain in spellings:
            return split
    return None


# -- tables -------------------------------------------------------------------------------------


def _load_table(
    source: Path, classes: Sequence[str] | None, pattern: str | None, columns: Columns
) -> Dataset:
    raw = _read_table(source)
    path = _column(raw, columns.path, "path", source, required=True)
    label = _column(raw, columns.label, "label", source, required=True)
    patient = _column(raw, columns.patient, "patient", source)
    split = _column(raw, columns.split, "split", source)
    assert path is not None
    assert label is not None
    _check_rows(raw, path, label, split, source)
    paths = [PurePosixPath(value.replace("\\", "/")).as_posix() for value in raw[path]]
    found, patients = recognise(
        paths,
        pattern=pattern,
        column=list(raw[patient]) if patient else None,
        column_name=patient,
    )
    table = pd.DataFrame(
        {
            "path": paths,
            "label": raw[label].str.strip(),
            "patient": found,
            "given_split": [split_name(value) or "" for value in raw[split]] if split else "",
        },
        dtype=str,
    )
    # A user's column may bear the name of one of ours; it is kept under another.
    rest = raw.drop(columns=[name for name in (path, label, patient, split) if name])
    table = table.join(rest.rename(columns={name: f"table_{name}" for name in RESERVED}))
    names = _class_order(table, classes, source)
    return Dataset(source, "table", table, names, _kind(names), patients)


RESERVED = (
    *("path", "sha256", "label", "patient", "group", "given_split", "split", "excluded"),
    *("reason", "format", "mode", "bits", "height", "width", "grey", "dtype", "low", "high"),
)  # fmt: skip
"""Columns that Hilum writes into samples.csv itself."""


def _read_table(source: Path) -> pd.DataFrame:
    try:
        if source.suffix.lower() == ".parquet":
            return _read_parquet(source)
        separator = "\t" if source.suffix.lower() == ".tsv" else ","
        # Everything stays text: '007' is a patient, and 'NA' may be a class.
        raw = pd.read_csv(source, sep=separator, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{source} cannot be read as a table: {str(error).strip()}.") from None
    return raw.fillna("")


def _read_parquet(source: Path) -> pd.DataFrame:
    try:
        import pyarrow  # noqa: F401 - only to see whether it is there
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet", "Reading a Parquet table") from None
    raw = pd.read_parquet(source)
    return raw.astype("string").fillna("").astype(str)


def _column(
    raw: pd.DataFrame, given: str | None, usual: str, source: Path, *, required: bool = False
) -> str | None:
    name = given or usual
    if name in raw.columns:
        return name
    if given is None and not required:
        return None
    hint = did_you_mean(name, raw.columns)
    option = "" if given else f" Name it with --{usual}-column."
    raise DataError(
        f"{source} has no column '{name}'.{hint} Its columns are: {', '.join(raw.columns)}.{option}"
    )


def _check_rows(raw: pd.DataFrame, path: str, label: str, split: str | None, source: Path) -> None:
    """Collect every fault of the rows, then refuse them together."""
    if raw.empty:
        raise DataError(f"{source} has no rows.")
    faults = []
    for what, column in (("path", path), ("label", label)):
        empty = raw.index[raw[column].str.strip() == ""]
        if len(empty):
            faults.append(f"{what} missing in {_rows(empty)}")
    repeated = raw.index[raw[path].duplicated() & (raw[path].str.strip() != "")]
    if len(repeated):
        faults.append(f"path named twice in {_rows(repeated)}")
    if split:
        wrong = raw.index[[split_name(value) is None for value in raw[split]]]
        if len(wrong):
            value = raw[split][wrong[0]]
            faults.append(f"split is '{value}', not train, val or test, in {_rows(wrong)}")
    if faults:
        raise DataError(f"{source}: {'; '.join(faults)}. Fix or remove these rows.")


def _rows(index: pd.Index) -> str:
    # A table's first row of data is line 2 of the file, after the header.
    lines = ", ".join(str(int(row) + 2) for row in index[:5])
    return f"{'row' if len(index) == 1 else f'{len(index)} rows, such as'} {lines}"


# -- NPZ ----------------------------------------------------------------------------------------


def _load_npz(source: Path, classes: Sequence[str] | None, pattern: str | None) -> Dataset:
    if pattern is not None:
        raise DataError(f"{source} holds arrays without names, so --patient-pattern has no use.")
    arrays = _npz_arrays(source, source.stat().st_mtime_ns)
    labels = {split: _npz_labels(arrays[f"{split}_labels"]) for split in _npz_splits(arrays)}
    n_labels = {array.shape[1] for array in labels.values()}
    if len(n_labels) != 1:
        raise DataError(f"{source}: the splits have different numbers of labels ({n_labels}).")
    multilabel = n_labels != {1}
    paths = npz_paths(source)
    stacked = np.concatenate(list(labels.values()))
    values = [""] * len(stacked) if multilabel else [str(int(value)) for value in stacked[:, 0]]
    table = pd.DataFrame(
        {
            "path": paths,
            "label": values,
            "patient": "",
            "given_split": [path.split("/")[0] for path in paths],
        },
        dtype=str,
    )
    _, patients = recognise([])
    patients = Patients(**{**patients.to_dict(), "n_without": len(table)})
    if multilabel:
        names = tuple(classes or map(str, range(stacked.shape[1])))
        if len(names) != stacked.shape[1]:
            raise DataError(f"{source} has {stacked.shape[1]} labels, but {len(names)} names.")
        return Dataset(source, "npz", table, names, "multilabel", patients, stacked)
    if classes is not None:
        table["label"] = _rename(table["label"], classes, source)
    names = _class_order(table, classes, source)
    return Dataset(source, "npz", table, names, _kind(names), patients)


def npz_paths(source: Path) -> list[str]:
    """Name every image of an NPZ: 'split/row'."""
    arrays = _npz_arrays(source, source.stat().st_mtime_ns)
    return [
        f"{split}/{row}"
        for split in _npz_splits(arrays)
        for row in range(len(arrays[f"{split}_images"]))
    ]


def _npz_splits(arrays: dict[str, NDArray[Any]]) -> list[str]:
    return [split for split in SPLITS if f"{split}_images" in arrays]


def _npz_labels(array: NDArray[Any]) -> NDArray[np.float32]:
    return array.reshape(len(array), -1).astype(np.float32)


def _rename(labels: pd.Series, classes: Sequence[str], source: Path) -> list[str]:
    numbers = sorted(set(labels), key=int)
    if numbers != [str(i) for i in range(len(classes))]:
        raise DataError(
            f"{source} has the labels {', '.join(numbers)}, which --classes {','.join(classes)} "
            f"does not name: it must name each of 0 to {numbers[-1]}."
        )
    return [classes[int(label)] for label in labels]


@functools.lru_cache(maxsize=2)
def _npz_arrays(source: Path, mtime_ns: int) -> dict[str, NDArray[Any]]:  # noqa: ARG001
    """Load and check all arrays; `mtime_ns` makes a changed file a new one."""
    try:
        with np.load(source, allow_pickle=False) as archive:
            wanted = [
                f"{split}_{part}"
                for split in SPLITS
                for part in ("images", "labels")
                if f"{split}_{part}" in archive.files
            ]
            arrays = {name: archive[name] for name in wanted}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"{source} cannot be read as an NPZ without pickle: {error}.") from None
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
    if labels is None or len(labels) != len(images):
        n_labels = "no" if labels is None else len(labels)
        raise DataError(f"{source}: {split} has {len(images)} images and {n_labels} labels.")
    if not (images.ndim == 3 or (images.ndim == 4 and images.shape[-1] in (1, 3))):
        raise DataError(
            f"{source}: {split}_images has the shape {images.shape}; expected (n, height, width) "
            "or (n, height, width, 3)."
        )
    if images.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"{source}: {split}_images is of type {images.dtype}; uint8 and uint16 are read."
        )
    if labels.dtype.kind not in "iub":
        raise DataError(
            f"{source}: {split}_labels is of type {labels.dtype}; whole numbers are read."
        )


def _npz_picture(source: Path, path: str) -> Picture:
    arrays = _npz_arrays(source, source.stat().st_mtime_ns)
    split, _, row = path.partition("/")
    images = arrays.get(f"{split}_images")
    if images is None or not row.isdecimal() or int(row) >= len(images):
        raise UnreadableError(path, f"there is no such image in {source.name}")
    pixels = images[int(row)]
    pixels = pixels[None, :, :, None] if pixels.ndim == 2 else pixels[None]
    bits = pixels.dtype.itemsize * 8
    mode = "L" if pixels.shape[-1] == 1 else "RGB"
    return Picture(pixels, (0.0, float(2**bits - 1)), Facts("NPZ", mode, bits))


# -- classes ------------------------------------------------------------------------------------


def _class_order(
    table: pd.DataFrame, classes: Sequence[str] | None, source: Path
) -> tuple[str, ...]:
    found = sorted(set(table["label"]), key=_natural)
    if len(found) < 2:
        raise DataError(
            f"{source} holds one class only, '{found[0]}'. A classifier needs at least two."
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
    for name in found:
        if name not in classes:
            raise DataError(
                f"{source} holds the class '{name}', which is not one of --classes "
                f"{', '.join(classes)}.{did_you_mean(name, classes)}"
            )
    absent = [name for name in classes if name not in found]
    if absent:
        raise DataError(
            f"--classes names '{absent[0]}', which {source} does not hold."
            f"{did_you_mean(absent[0], found)}"
        )
    return tuple(classes)


def _natural(name: str) -> tuple[int, int, str]:
    """Numbers by value, before words by letter."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)


def _kind(names: Sequence[str]) -> TargetKind:
    return "binary" if len(names) == 2 else "multiclass"
