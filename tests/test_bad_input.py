"""Every way in which data can be at fault, with the exact text that its user reads.

One line that says what, where and what to do. `{at}` stands for the folder or file given.
"""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hilum
from hilum import (
    Columns,
    DataError,
    DataOptions,
    HilumError,
    PatientOverlapError,
    SettingError,
    UnreadableError,
)
from hilum.cli import main
from making import medmnist, write_folder, write_image, write_npz, write_table

Make = Callable[[Path], Path]


@dataclass(frozen=True)
class Case:
    """Data at fault.

    Attributes
    ----------
    name : str
    make : callable
        Makes the data in a folder and returns what is given to Hilum.
    text : str
        The whole message.
    options : dict
        Passed to `load_dataset`.
    """

    name: str
    make: Make
    text: str
    options: dict[str, Any]
    error: type[HilumError] = DataError


CASES: list[Case] = []


def case(
    name: str, text: str, *, error: type[HilumError] = DataError, **options: Any
) -> Callable[[Make], Make]:
    def add(make: Make) -> Make:
        CASES.append(Case(name, make, text, options, error))
        return make

    return add


# -- not data at all ----------------------------------------------------------------------------


@case(
    "missing folder",
    "{at} does not exist. Give a folder of class folders, a CSV table or an NPZ.",
)
def _missing(root: Path) -> Path:
    return root / "nowhere"


@case(
    "a single image",
    "{at} is not data that can be learnt from: '.png' is not one of .csv, .tsv, .parquet, .npz, "
    "nor a folder of class folders.",
)
def _image(root: Path) -> Path:
    return write_image(root / "x.png")


@case(
    "a file without suffix",
    "{at} is not data that can be learnt from: 'no suffix' is not one of .csv, .tsv, .parquet, "
    ".npz, nor a folder of class folders.",
)
def _no_suffix(root: Path) -> Path:
    (root / "data").write_text("")
    return root / "data"


# -- folders ------------------------------------------------------------------------------------


@case(
    "empty folder",
    "{at} holds no class folders. Put the images of each class into a folder named after the "
    "class, or give a CSV table with the columns path and label.",
)
def _empty(root: Path) -> Path:
    return root


@case(
    "images and a table",
    "{at} holds no class folders. Put the images of each class into a folder named after the "
    "class, or give a CSV table with the columns path and label. If {at}/labels.csv is the table "
    "of the images, give that.",
)
def _images_and_table(root: Path) -> Path:
    write_table(root / "labels.csv", [["path", "label"]], n_images=2)
    return root


@case("one class", "{at} holds one class only, 'a'. A classifier needs at least two.")
def _one_class(root: Path) -> Path:
    return write_folder(root, {"a": 2})


@case(
    "one folder beside a table",
    "{at} holds one class only, 'images'. A classifier needs at least two. If {at}/table.csv is "
    "the table of the images, give that.",
)
def _one_folder_and_table(root: Path) -> Path:
    write_table(root / "table.csv", [["path", "label"]])
    return write_folder(root, {"images": 2})


@case(
    "empty class",
    "The class folder {at}/b holds no images. Add images or remove the folder.",
)
def _empty_class(root: Path) -> Path:
    write_folder(root, {"a": 2})
    (root / "b").mkdir()
    (root / "b" / ".DS_Store").write_text("")
    return root


@case(
    "empty class in one split",
    "The class folder {at}/test/b holds no images. Add images or remove the folder.",
)
def _empty_class_in_split(root: Path) -> Path:
    write_folder(root, {"train/a": 1, "train/b": 1, "test/a": 1})
    (root / "test" / "b").mkdir()
    return root


@case(
    "loose images",
    "{at} holds images outside its class folders, such as 'x.png' (2 in all). Move each into the "
    "folder of its class.",
)
def _loose(root: Path) -> Path:
    write_folder(root, {"a": 1, "b": 1})
    write_image(root / "x.png")
    write_image(root / "y.JPG")
    return root


@case(
    "loose images in a split",
    "{at}/train holds images outside its class folders, such as 'x.png' (1 in all). Move each into "
    "the folder of its class.",
)
def _loose_in_split(root: Path) -> Path:
    write_folder(root, {"train/a": 1, "train/b": 1})
    write_image(root / "train" / "x.png")
    return root


@case(
    "loose images beside splits",
    "{at} holds images outside its class folders, such as 'x.png' (1 in all). Move each into the "
    "folder of its class.",
)
def _loose_beside_splits(root: Path) -> Path:
    write_folder(root, {"train/a": 1, "train/b": 1})
    write_image(root / "x.png")
    return root


@case(
    "others beside splits",
    "{at} holds split folders (test, train) and others beside them (masks). Move the others away, "
    "or give the folder that holds the splits alone.",
)
def _others(root: Path) -> Path:
    return write_folder(root, {"train/a": 1, "train/b": 1, "test/a": 1, "masks": 1})


@case(
    "a split twice",
    "{at} holds two folders for the val split: 'val' and 'valid'. Keep one.",
)
def _split_twice(root: Path) -> Path:
    return write_folder(root, {f"{s}/{c}": 1 for s in ("train", "val", "valid") for c in "ab"})


@case(
    "split without classes",
    "{at}/test holds no class folders. Each split needs a folder for each class.",
)
def _split_without_classes(root: Path) -> Path:
    return write_folder(root, {"train/a": 1, "train/b": 1, "test": 3})


@case("no train", "{at} holds the splits test, val but no train folder. Add one.")
def _no_train(root: Path) -> Path:
    return write_folder(root, {f"{s}/{c}": 1 for s in ("test", "val") for c in "ab"})


@case(
    "splits in an unusual spelling",
    "{at} holds 'seg_train' and 'seg_test', which look like splits and not like classes. Name the "
    "folders train, val and test.",
)
def _unusual_splits(root: Path) -> Path:
    return write_folder(root, {f"seg_{s}/{c}": 1 for s in ("test", "train") for c in "ab"})


@case(
    "patients with classes inside",
    "The folders of {at} ('p1', 'p2', 'p3') all hold the same folders ('ill', 'well'), so which "
    "of them are classes would be a guess. Keep one level of folders, named after the classes, or "
    "give a CSV table with the columns path and label.",
)
def _patients_first(root: Path) -> Path:
    return write_folder(root, {f"p{n}/{c}": 1 for n in (1, 2, 3) for c in ("ill", "well")})


@case(
    "images beside masks",
    "The folders of {at} ('ill', 'well') all hold the same folders ('images', 'masks'), so which "
    "of them are classes would be a guess. Keep one level of folders, named after the classes, or "
    "give a CSV table with the columns path and label.",
)
def _masks(root: Path) -> Path:
    return write_folder(root, {f"{c}/{k}": 1 for c in ("ill", "well") for k in ("images", "masks")})


@case(
    "splits in an unusual spelling inside classes",
    "{at}/ill holds 'seg_train' and 'seg_test', which look like splits and not like parts of a "
    "class. Name the folders train, val and test.",
)
def _unusual_splits_inside(root: Path) -> Path:
    splits = ("seg_train", "seg_val", "seg_test")
    return write_folder(root, {f"{c}/{s}": 1 for c in ("ill", "well") for s in splits})


@case(
    "splits inside some classes",
    "{at} holds splits inside its class folders, such as 'normal/test', and images beside them, "
    "such as 'pneumonia/0.png' (2 in all). Put every image of a class into its train, val or test "
    "folder, or give a CSV table with the columns path, label and split.",
)
def _some_splits_inside(root: Path) -> Path:
    return write_folder(root, {"normal/train": 1, "normal/test": 1, "pneumonia": 2})


@case(
    "images beside splits inside classes",
    "{at} holds splits inside its class folders, such as 'a/test', and images beside them, such as "
    "'a/0.png' (2 in all). Put every image of a class into its train, val or test folder, or give "
    "a CSV table with the columns path, label and split.",
)
def _beside_splits_inside(root: Path) -> Path:
    write_folder(root, {f"{c}/{s}": 1 for c in "ab" for s in ("train", "test")})
    return write_folder(root, {"a": 1, "b/more": 1})


@case(
    "one split in two folders of a class",
    "{at}/a holds two folders for the val split: 'val' and 'valid'. Keep one.",
)
def _two_folders_inside(root: Path) -> Path:
    return write_folder(root, {f"{c}/{s}": 1 for c in "ab" for s in ("train", "val", "valid")})


@case(
    "no train inside classes",
    "{at} holds the splits test, val inside its class folders but no train folder. Add one to "
    "each.",
)
def _no_train_inside(root: Path) -> Path:
    return write_folder(root, {f"{c}/{s}": 1 for c in "ab" for s in ("test", "val")})


@case(
    "splits inside patients inside classes",
    "The folder {at}/a/p1/test is named like a split where none is read. Put train, val and test "
    "above the class folders or directly inside each, or rename it.",
)
def _splits_too_deep(root: Path) -> Path:
    return write_folder(root, {f"{c}/p1/{s}/left": 1 for c in "ab" for s in ("train", "test")})


@case(
    "splits inside the classes of splits",
    "The folder {at}/train/a/val is named like a split where none is read. Put train, val and test "
    "above the class folders or directly inside each, or rename it.",
)
def _splits_in_splits(root: Path) -> Path:
    return write_folder(root, {"train/a": 1, "train/a/val": 1, "train/b": 1})


@case(
    "images beside masks and overlays",
    "{at} holds images in folders named like masks or overlays inside its classes, such as "
    "'ill/masks/0.png' (4 in all). Move them out of {at}, rename what is no mask, or give a CSV "
    "table with the columns path and label.",
)
def _masks_and_overlays(root: Path) -> Path:
    kinds = ("images", "masks", "overlays")
    return write_folder(root, {f"{c}/{k}": 1 for c in ("ill", "well") for k in kinds})


@case(
    "a folder of masks beside the images of a split",
    "{at} holds images in folders named like masks or overlays inside its classes, such as "
    "'train/a/Lung Masks/p1/0.png' (1 in all). Move them out of {at}, rename what is no mask, or "
    "give a CSV table with the columns path and label.",
)
def _masks_in_split(root: Path) -> Path:
    return write_folder(root, {"train/a": 1, "train/b": 1, "train/a/Lung Masks/p1": 1})


@case(
    "masks beside their images",
    "4 files are named like masks or overlays of images beside them in {at}, such as "
    "'benign/benign (1)_mask.png' of 'benign/benign (1).png'. Move them out of {at}, rename what "
    "is no mask, or give a CSV table with the columns path and label.",
)
def _masks_beside(root: Path) -> Path:
    for name in ("benign (1)", "benign (1)_mask", "benign (1)_mask_1", "benign (2)"):
        write_image(root / "benign" / f"{name}.png")
    for name in ("A.png", "a-Segmentation.png", "b.c.png", "b.c mask (2).tif"):
        write_image(root / "malignant" / name)
    return root


@case(
    "one mask beside its image",
    "1 file is named like a mask or overlay of an image beside it in {at}, such as "
    "'test/b/x_seg.nii.gz' of 'test/b/x.nii.gz'. Move them out of {at}, rename what is no mask, or "
    "give a CSV table with the columns path and label.",
)
def _mask_beside(root: Path) -> Path:
    write_folder(root, {"train/a": 1, "train/b": 1, "test/b": 1})
    for name in ("x.nii.gz", "x_seg.nii.gz"):
        (root / "test" / "b" / name).write_bytes(b"")
    return root


@case(
    "classes that differ in case",
    "{at} holds the classes 'Normal' and 'normal', which differ in case alone. Give them one "
    "spelling.",
)
def _case(root: Path) -> Path:
    return write_folder(root, {"train/Normal": 1, "train/ill": 1, "test/normal": 1, "test/ill": 1})


@case(
    "classes that are one number",
    "{at} holds the classes '0' and '0.0', which spell one number in two ways. Give them one "
    "spelling.",
)
def _number(root: Path) -> Path:
    return write_folder(root, {"0": 1, "0.0": 1, "1": 1})


@case(
    "a class named as a decision",
    "{at} holds the class 'refer', the very word by which a model says that it gives no answer "
    "('refer' to a person, 'refused' as unreadable). Call the class otherwise, such as "
    "'referable'.",
)
def _refer(root: Path) -> Path:
    return write_folder(root, {"refer": 1, "well": 1})


@case(
    "one class in two folders",
    "{at} holds two folders for the class 'ill': 'ill' and 'ill '. Join them.",
)
def _two_folders(root: Path) -> Path:
    return write_folder(root, {"ill": 1, "ill ": 1, "well": 1})


@case(
    "accents stored in two ways in one place",
    "{at} holds two folders for the class 'lé': 'le\\u0301' and 'l\\xe9'. Join them.",
)
def _two_accents(root: Path) -> Path:
    names = [unicodedata.normalize(form, "lé") for form in ("NFC", "NFD")]
    write_folder(root, {names[0]: 1, "b": 1})
    return write_folder(root, {names[1]: 1})


@case(
    "a circle of links",
    "{at}/a/again/a leads to {at}/a, which was read already. Remove the link on the way.",
)
def _circle(root: Path) -> Path:
    write_folder(root, {"a": 1, "b": 1})
    (root / "a" / "again").symlink_to(root)
    return root


@case(
    "names that no table can hold",
    "2 files have names in {at} with a line break, a control character or bytes that are not "
    "UTF-8, such as 'a/caf\\udce9.png'. Rename each.",
)
def _names(root: Path) -> Path:
    write_folder(root, {"a": 1, "b": 1})
    source = os.fsencode(root / "a" / "0.png")
    os.link(source, os.fsencode(root / "a") + b"/caf\xe9.png")
    os.link(source, os.fsencode(root / "a") + b"/two\nlines.png")
    return root


@case(
    "class not in --classes",
    "{at}, c/0.png: class 'c' is not one of 'a', 'b'. Fix the label or --classes.",
    classes=["a", "b"],
)
def _not_listed(root: Path) -> Path:
    return write_folder(root, {"a": 1, "b": 1, "c": 2})


@case(
    "--classes not in the data",
    "--classes names 'bening', which {at} does not hold. Did you mean 'benign'? It holds: benign, "
    "malignant.",
    classes=["benign", "malignant", "bening"],
)
def _not_held(root: Path) -> Path:
    return write_folder(root, {"benign": 1, "malignant": 1})


@case(
    "--classes twice",
    "--classes names 'a' more than once. Name each class once.",
    classes=["a", "b", "a"],
)
def _classes_twice(root: Path) -> Path:
    return write_folder(root, {"a": 1, "b": 1})


@case(
    "columns of a folder",
    "{at} has no columns to name: only a CSV or Parquet table has.",
    columns=Columns(label="x"),
)
def _columns_of_folder(root: Path) -> Path:
    return write_folder(root, {"a": 1, "b": 1})


# -- tables -------------------------------------------------------------------------------------


def table(text: str | bytes, name: str = "t.csv") -> Make:
    def make(root: Path) -> Path:
        (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return root / name

    return make


TABLES: Sequence[tuple[str, str | bytes, str, dict[str, Any]]] = (
    (
        "empty table",
        "",
        "{at} is empty. It needs a header, such as path,label, and rows.",
        {},
    ),
    ("header alone", "path,label\n\n", "{at} has no rows.", {}),
    (
        "no path column",
        "file,label\n0.png,a\n",
        "{at} has no column 'path'. Its columns are: file, label. Name it with --path-column.",
        {},
    ),
    (
        "no label column",
        "path,lable\n0.png,a\n",
        "{at} has no column 'label'. Did you mean 'lable'? Its columns are: path, lable. Name it "
        "with --label-column, or several, one a label, with --labels COLUMN,COLUMN.",
        {},
    ),
    (
        "two wrong splits",
        "path,label,split\n0.png,a,tain\n1.png,b,tset\n2.png,b,tain\n",
        "{at}: split is 'tain', not train, val or test, in 2 rows, such as 2, 4; split is 'tset', "
        "not train, val or test, in row 3. Fix or remove these rows.",
        {},
    ),
    (
        "unknown column",
        "path,label,Patient name\n0.png,a,x\n",
        "{at} has no column 'patient name'. Did you mean 'Patient name'? Its columns are: path, "
        "label, Patient name.",
        {"columns": Columns(patient="patient name")},
    ),
    (
        "no header",
        "0.png,a\n1.png,b\n",
        "{at} has no column 'path'. Its columns are: 0.png, a. Name it with --path-column.",
        {},
    ),
    (
        "a column twice",
        "path,label,label\n0.png,a,b\n",
        "{at} has more than one column 'label'. Rename or remove one.",
        {},
    ),
    (
        "two columns of patients",
        "path,label,patient_id,Subject\n0.png,a,1,2\n",
        "{at} has several columns that may be the patient: patient_id, Subject. Choose one with "
        "--patient-column.",
        {},
    ),
    (
        "label missing",
        "path,label\n0.png,a\n1.png,\n2.png,b\n3.png\n",
        "{at}: label missing in 2 rows, such as 3, 5. Fix or remove these rows.",
        {},
    ),
    (
        "blank rows are counted as a spreadsheet counts them",
        "path,label\n\n0.png,a\n\n1.png,\n",
        "{at}: label missing in row 5. Fix or remove these rows.",
        {},
    ),
    (
        "every fault of the rows at once",
        "path,label,split\n0.png,a,train\n,b,train\n./0.png,,tset\n1.png,b,\n",
        "{at}: path missing in row 3; label missing in row 4; path named twice in row 4; split "
        "missing in row 5; split is 'tset', not train, val or test, in row 4. Fix or remove these "
        "rows.",
        {},
    ),
    (
        "line break in a path",
        'path,label\n"a\nb.png",x\n1.png,y\n',
        "{at}: line break or control character in row 2. Fix or remove these rows.",
        {},
    ),
    (
        "too many cells",
        "path,label\n0.png,a, very ill\n1.png,b\n",
        "{at}: more cells than the header has columns (2) in row 2. Put a cell that holds the "
        "separator into quotes.",
        {},
    ),
    (
        "a quote that is not closed",
        'path,label\n0.png,"a\n1.png,b\n',
        "{at} row 2 cannot be read: unexpected end of data. Look for a quote that is not closed.",
        {},
    ),
    (
        "latin-1",
        "path,label\n0.png,a\n1.png,Läsion\n".encode("latin-1"),
        "{at} is not UTF-8 text: line 3 holds the byte 0xe4. Save the table as 'CSV UTF-8'.",
        {},
    ),
    (
        "zero bytes",
        b"path,label\n0.png,\0a\n",
        "{at} holds zero bytes, so it is no table of text. Save it as CSV.",
        {},
    ),
    (
        "line breaks in the header and a split",
        'path,"la\nbel",split\n0.png,a,"of\nno use"\n1.png,b,train\n',
        "{at}: split is 'of no use', not train, val or test, in row 2. Fix or remove these rows.",
        {"columns": Columns(label="la bel")},
    ),
    (
        "one class in a table",
        "path,label\n0.png,a\n1.png,a\n",
        "{at} holds one class only, 'a'. A classifier needs at least two.",
        {},
    ),
    (
        "misspelt labels",
        "path,label\n0.png,benign\n1.png,malignant\n2.png,bening\n3.png,bening\n4.png,?\n",
        "{at}, row 4: class 'bening' is not one of 'benign', 'malignant'. Did you mean 'benign'? "
        "{at}, row 6: class '?' is not one of 'benign', 'malignant'. Fix the label or --classes.",
        {"classes": ["benign", "malignant"]},
    ),
    (
        "pattern that fits some paths",
        "path,label\nx1.png,a\ny2.png,b\n",
        r"--patient-pattern '(?P<patient>x\d)' does not fit 1 of 2 files, such as 'y2.png'. Widen "
        "the pattern, or give a table with a column 'patient'.",
        {"patient_pattern": r"(?P<patient>x\d)"},
    ),
)
CASES += [Case(name, table(text), told, options) for name, text, told, options in TABLES]


# -- NPZ ----------------------------------------------------------------------------------------


def npz(**changes: Any) -> Make:
    """Write a sound NPZ with some arrays changed, or left out where None."""

    def make(root: Path) -> Path:
        arrays = {**medmnist(4), **changes}
        kept = {name: array for name, array in arrays.items() if array is not None}
        return write_npz(root / "x.npz", **kept)

    return make


NPZS: Sequence[tuple[str, Make, str, dict[str, Any]]] = (
    (
        "no training images",
        npz(train_images=None),
        "{at} holds no array 'train_images'. A MedMNIST-style NPZ has train_images, train_labels "
        "and the same for val and test.",
        {},
    ),
    (
        "no labels",
        npz(val_labels=None),
        "{at}: val has 4 images and no labels. Give each image its label.",
        {},
    ),
    (
        "float images",
        npz(train_images=np.zeros((4, 8, 8), np.float32)),
        "{at}: train_images is of type float32; uint8 and uint16 are read. Convert the images to "
        "one of these.",
        {},
    ),
    (
        "channels first",
        npz(train_images=np.zeros((4, 3, 8, 8), np.uint8)),
        "{at}: train_images has the shape (4, 3, 8, 8); expected (n, height, width) or (n, height, "
        "width, 3).",
        {},
    ),
    (
        "an empty split",
        npz(val_images=np.zeros((0, 8, 8), np.uint8), val_labels=np.zeros((0, 1), np.uint8)),
        "{at}: val_images has the shape (0, 8, 8), which is no image. Leave the split out or fill "
        "it.",
        {},
    ),
    (
        "images without pixels",
        npz(train_images=np.zeros((4, 0, 8), np.uint8)),
        "{at}: train_images has the shape (4, 0, 8), which is no image. Leave the split out or "
        "fill it.",
        {},
    ),
    (
        "a lone number for labels",
        npz(train_labels=np.uint8(1)),
        "{at}: train has 4 images and 1 labels. Give each image its label.",
        {},
    ),
    (
        "negative label",
        npz(train_labels=np.array([0, 1, -1, 0])),
        "{at}: train_labels holds -1 in row 2; whole numbers from 0 to 999,999,999 are read.",
        {},
    ),
    (
        "label that is no number",
        npz(train_labels=np.array([0, 1, np.nan, 0])),
        "{at}: train_labels holds nan in row 2; whole numbers from 0 to 999,999,999 are read.",
        {},
    ),
    (
        "label between numbers",
        npz(train_labels=np.array([0, 1, 0.5, 0])),
        "{at}: train_labels holds 0.5 in row 2; whole numbers from 0 to 999,999,999 are read.",
        {},
    ),
    (
        "several labels that are not 0 and 1",
        npz(**{f"{s}_labels": np.array([[0, 1]] * 3 + [[2, 0]]) for s in ("train", "val", "test")}),
        "{at}: train_labels holds 2 in row 3; with several labels an image, 0, 1 and NaN for "
        "unknown are read.",
        {},
    ),
    (
        "different numbers of labels",
        npz(test_labels=np.zeros((4, 3), np.uint8)),
        "{at}: the splits have different numbers of labels an image (1 and 3). Give each the same.",
        {},
    ),
    (
        "too few names for several labels",
        npz(**{f"{s}_labels": np.zeros((4, 3), np.uint8) for s in ("train", "val", "test")}),
        "{at} has 3 labels an image, but --classes names 2. Name each, in order.",
        {"classes": ["a", "b"]},
    ),
    (
        "names that do not fit the labels",
        npz(),
        "{at} has the labels 0, 1, which --classes a,b,c does not name: it must name each of 0 to "
        "1.",
        {"classes": ["a", "b", "c"]},
    ),
    (
        "one class in an NPZ",
        npz(**{f"{s}_labels": np.zeros(4, np.uint8) for s in ("train", "val", "test")}),
        "{at} holds one class only, '0'. A classifier needs at least two.",
        {},
    ),
    (
        "pattern for an NPZ",
        npz(),
        "{at} holds arrays without names, so --patient-pattern has no use.",
        {"patient_pattern": "(?P<patient>x)"},
    ),
    (
        "columns for an NPZ",
        npz(),
        "{at} has no columns to name: only a CSV or Parquet table has.",
        {"columns": Columns(path="x")},
    ),
)
CASES += [Case(name, make, told, options) for name, make, told, options in NPZS]


@case(
    "objects in an NPZ",
    "{at}: array 'train_images': it holds Python objects (a pickle), which could run code. Save "
    "plain numbers",
    error=UnreadableError,
)
def _pickle(root: Path) -> Path:
    return npz(train_images=np.array([{"x": 1}], dtype=object))(root)


@case(
    "truncated NPZ",
    "{at}: truncated or damaged NPZ: its table of contents is missing",
    error=UnreadableError,
)
def _truncated(root: Path) -> Path:
    path = npz()(root)
    path.write_bytes(path.read_bytes()[:-60])
    return path


@case("labels for fewer images", "{at}: 4 train_images but 3 train_labels", error=UnreadableError)
def _fewer(root: Path) -> Path:
    return npz(train_labels=np.zeros((3, 1), np.uint8))(root)


@case("no NPZ", "{at}: PNG holds no named arrays. Give an NPZ or NPY file", error=UnreadableError)
def _png_as_npz(root: Path) -> Path:
    return write_image(root / "x.png").rename(root / "x.npz")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_data_at_fault(case: Case, tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    at = case.make(root)
    with pytest.raises(HilumError) as caught:
        hilum.load_dataset(at, **case.options)
    assert type(caught.value) is case.error
    assert str(caught.value) == case.text.replace("{at}", str(at))
    assert "\n" not in str(caught.value)


def test_folder_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path, {"a/locked": 1, "b": 1})
    real = os.scandir

    def scandir(path: Any) -> Any:
        if os.fspath(path).endswith("locked"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError) as caught:
        hilum.load_dataset(tmp_path)
    assert str(caught.value) == (
        f"The folder {tmp_path}/a/locked cannot be opened: Permission denied. Change its "
        "permissions or move it away."
    )


# -- found when the images are read -------------------------------------------------------------


def sound(root: Path) -> Path:
    return write_folder(root, {"a": 20, "b": 20})


def test_unreadable_images(tmp_path: Path) -> None:
    sound(tmp_path)
    for n in range(5):
        (tmp_path / "a" / f"x{n}.png").write_bytes(b"" if n else b"\0" * 100)
    with pytest.raises(DataError) as caught:
        hilum.plan(tmp_path)
    assert str(caught.value) == (
        f"5 files of 45 in {tmp_path} cannot be read: a/x0.png: nothing but zero bytes, as after a "
        "power failure or a failed copy; a/x1.png: the file is empty; a/x2.png: the file is empty; "
        "and 2 more. Replace or remove them, or pass --skip-unreadable to go on without them."
    )


def test_nothing_readable(tmp_path: Path) -> None:
    rows = [["path", "label"], ["0.png", "a"], ["1.png", "b"]]
    path = write_table(tmp_path / "t.csv", rows)
    with pytest.raises(DataError) as caught:
        hilum.plan(path, options=DataOptions(skip_unreadable=True))
    assert str(caught.value) == (
        f"None of the 2 files of {path} can be read. The first is 0.png: no such file or "
        "directory. Paths are relative to the folder of the table."
    )


def test_class_without_readable_images(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 5})
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.png").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        hilum.plan(tmp_path, options=DataOptions(skip_unreadable=True))
    assert str(caught.value) == (
        f"The class 'b' of {tmp_path} has no readable image. Replace its files, or remove the "
        "class."
    )


def test_overlap(tmp_path: Path) -> None:
    write_folder(
        tmp_path, {f"{s}/{c}": 1 for s in ("train", "test") for c in "ab"}, name="case7.png"
    )
    write_folder(tmp_path, {"train/a": 1, "train/b": 1}, name="case8.png")
    with pytest.raises(PatientOverlapError) as caught:
        hilum.plan(tmp_path)
    assert str(caught.value) == (
        "1 patient is in more than one split (train and test): case7. Figures would be too good. "
        "Pass --new-split to draw a split by patient, or --allow-patient-overlap to train all the "
        "same; the report will say so."
    )


@pytest.mark.parametrize(
    ("settings", "recipe", "options", "text"),
    [
        (
            {"epoch": 3}, None, {},
            "Unknown setting 'epoch'. Did you mean 'epochs'? See all settings with: hilum settings",
        ),
        ({}, "chest", {}, None),
        (
            {}, None, {"positive": "c"},
            "--positive c is not one of the classes 'a', 'b'.",
        ),
    ],
)  # fmt: skip
def test_settings_at_fault(
    tmp_path: Path,
    settings: dict[str, Any],
    recipe: str | None,
    options: dict[str, Any],
    text: str | None,
) -> None:
    with pytest.raises(SettingError) as caught:
        hilum.plan(
            sound(tmp_path), settings=settings, recipe=recipe, options=DataOptions(**options)
        )
    assert text is None or str(caught.value) == text


# -- on the command line ------------------------------------------------------------------------


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str, list[str]]]]:
    """Run `main` as the console script does: exit code, stdout, lines of stderr."""

    def run(*arguments: object) -> tuple[int, str, list[str]]:
        monkeypatch.setattr(sys, "argv", ["hilum", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        code = caught.value.code
        assert isinstance(code, int)
        return code, out, err.splitlines()

    yield run
    logging.captureWarnings(False)


def fails(outcome: tuple[int, str, list[str]], text: str) -> bool:
    """Whether the command ended with 1, nothing on stdout and one line of error, the last."""
    code, out, lines = outcome
    errors = [line for line in lines if line.startswith("Error: ")]
    assert (code, out, len(errors)) == (1, "", 1), outcome
    assert lines[-1] == f"Error: {text}"
    return True


def test_command_missing_folder(command: Any, tmp_path: Path) -> None:
    at = tmp_path / "nowhere"
    text = f"{at} does not exist. Give a folder of class folders, a CSV table or an NPZ."
    assert fails(command("audit", at), text)
    assert fails(command("plan", at), text)
    assert fails(command("train", at, "--out", tmp_path / "run"), text)
    assert not (tmp_path / "run").exists()


def test_command_one_class(command: Any, tmp_path: Path) -> None:
    text = f"{tmp_path} holds one class only, 'a'. A classifier needs at least two."
    assert fails(command("plan", write_folder(tmp_path, {"a": 2})), text)


def test_command_unknown_column(command: Any, tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.csv", [["path", "label"], ["0.png", "a"]])
    assert fails(
        command("audit", path, "--patient-column", "pat"),
        f"{path} has no column 'pat'. Did you mean 'path'? Its columns are: path, label.",
    )


def test_command_label_missing(command: Any, tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.csv", [["path", "label"], ["0.png", "a"], ["1.png", ""]])
    assert fails(
        command("plan", path), f"{path}: label missing in row 3. Fix or remove these rows."
    )


def test_command_unreadable_image(command: Any, tmp_path: Path) -> None:
    sound(tmp_path)
    (tmp_path / "b" / "x.png").write_bytes(b"")
    assert fails(
        command("plan", tmp_path),
        f"1 file of 41 in {tmp_path} cannot be read: b/x.png: the file is empty. Replace or remove "
        "it, or pass --skip-unreadable to go on without it.",
    )


def test_command_no_space(command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound(tmp_path / "data")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert fails(
        command("train", tmp_path / "data", "--out", tmp_path / "run"),
        f"{tmp_path}/run/run.json cannot be written: No space left on device. Free some space "
        "or choose another folder.",
    )
    assert not any((tmp_path / "run").rglob("*"))


def test_command_in_a_process_of_its_own(tmp_path: Path) -> None:
    at = tmp_path / "nowhere"
    done = subprocess.run(
        [sys.executable, "-m", "hilum.cli", "audit", str(at)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"Error: {at} does not exist. Give a folder of class folders, a CSV table or an NPZ.\n"
    )


def test_page_on_data_quotes_messages_as_they_are() -> None:
    page = (Path(__file__).parents[1] / "docs" / "data.md").read_text(encoding="utf-8")
    rows = page.partition("| Message | Why |\n|---|---|\n")[2].splitlines()
    quoted = [row.split(" | ")[0].removeprefix("| ") for row in rows]
    assert len(quoted) >= 20
    assert set(quoted) <= {case.text.replace("{at}", "DATA") for case in CASES}
