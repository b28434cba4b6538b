"""Folders that are read; those that are refused stand in test_bad_input.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from hilum import DataError, UnreadableError, load_dataset
from hilum.folders import images_below, split_name
from making import counts, write_folder, write_image


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("Training", "Validation", "Testing"),
        ("TRAIN", "valid", "TEST"),
        ("train_set", "dev", "hold-out"),
        ("Train Set", " Valid ", "testset"),
    ],
)
def test_split_folders_in_any_usual_spelling(
    tmp_path: Path, train: str, val: str, test: str
) -> None:
    write_folder(tmp_path, {f"{split}/{c}": 1 for split in (train, val, test) for c in "ab"})
    assert counts(load_dataset(tmp_path)) == {
        (split, c): 1 for split in ("train", "val", "test") for c in "ab"
    }


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("Validation", "val"),
        ("TESTING", "test"),
        ("tests", None),
        ("", None),
        ("training_set", "train"),
        ("Testing Set", "test"),
        ("valset", "val"),
        ("test_data", None),
        ("dataset", None),
        ("trained", None),
    ],
)
def test_split_name(name: str, split: str | None) -> None:
    assert split_name(name) == split


def test_splits_may_lack_val_test_or_a_class(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train/a": 2, "train/b": 1, "test/b": 1})
    assert counts(load_dataset(tmp_path)) == {
        ("train", "a"): 2,
        ("train", "b"): 1,
        ("test", "b"): 1,
    }


def test_splits_inside_class_folders_are_read_and_told(tmp_path: Path) -> None:
    splits = {"normal": ("train", "val", "test"), "pneumonia": ("Training", "valid", "test")}
    write_folder(tmp_path, {f"{c}/{split}": 2 for c, names in splits.items() for split in names})
    write_folder(tmp_path, {"normal/train/p1": 1})
    (tmp_path / "normal" / "boxes").mkdir()
    (tmp_path / "normal" / "boxes" / "0.txt").write_text("no image")
    dataset = load_dataset(tmp_path)
    assert counts(dataset) == {
        (split, c): 2 + (split == "train" and c == "normal")
        for split in ("train", "val", "test")
        for c in ("normal", "pneumonia")
    }
    assert dataset.notes[0] == (
        "The folders 'Training', 'test', 'train', 'val', 'valid' inside the class folders were "
        "taken as splits."
    )


@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_splits_inside_any_number_of_class_folders(tmp_path: Path, n_classes: int) -> None:
    names = "abcd"[:n_classes]
    write_folder(tmp_path, {f"{c}/{s}": 1 for c in names for s in ("train", "test")})
    assert counts(load_dataset(tmp_path)) == {(s, c): 1 for c in names for s in ("train", "test")}


def test_splits_inside_class_folders_may_lack_one(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a/train": 1, "a/test": 1, "b/train": 1})
    (tmp_path / "b" / "test").mkdir()
    assert counts(load_dataset(tmp_path)) == {
        ("train", "a"): 1,
        ("test", "a"): 1,
        ("train", "b"): 1,
    }


def test_patients_inside_splits_inside_class_folders(tmp_path: Path) -> None:
    write_folder(tmp_path, {f"{c}/{s}/patient{s}{c}": 1 for c in "12" for s in ("train", "test")})
    write_folder(tmp_path, {"1/train/patient3": 1})
    dataset = load_dataset(tmp_path, patient_pattern=r"/(?P<patient>patient\w+)/")
    assert dataset.patients.n_patients == 5


def test_names_like_those_of_masks_without_an_image_beside(tmp_path: Path) -> None:
    for name in ("face_mask.png", "x_seg_1.png", "mask.png", "bitmask.png", "bit.png"):
        write_image(tmp_path / "a" / name)
    # Elsewhere, and so another image.
    write_image(tmp_path / "a" / "left" / "face.png")
    write_folder(tmp_path, {"masks of wood": 1, "b/unmasked": 1, "b/gtx": 1})
    write_folder(tmp_path, {"b/GT01": 1, "b/GT-012": 1, "b/seg_2": 1})  # patients, or segments
    assert len(load_dataset(tmp_path)) == 12


def test_wrapping_folders_are_opened_and_told(tmp_path: Path) -> None:
    root = tmp_path / "download"
    write_folder(root, {"archive/data/a": 1, "archive/data/b": 1, "__MACOSX/archive/._x": 1})
    (root / "LICENSE").write_text("free")
    dataset = load_dataset(root)
    assert dataset.class_names == ("a", "b")
    assert list(dataset.table["path"]) == ["archive/data/a/0.png", "archive/data/b/0.png"]
    assert dataset.notes == ("The folder 'archive/data' inside download was taken as the data.",)
    assert dataset.picture("archive/data/b/0.png").n_frames == 1


def test_wrapped_splits(tmp_path: Path) -> None:
    write_folder(tmp_path, {"x/y/train/a": 1, "x/y/train/b": 1})
    assert counts(load_dataset(tmp_path)) == {("train", "a"): 1, ("train", "b"): 1}


def test_hidden_files_and_litter_are_no_images(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 1, "b": 1, "a/.thumbnails": 1, "a/@eaDir": 1, ".git": 1})
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._0.png"):
        (tmp_path / "a" / name).write_bytes(b"litter")
        (tmp_path / name).write_bytes(b"litter")
    (tmp_path / "README").write_text("about")
    assert len(load_dataset(tmp_path)) == 2


def test_other_files_are_left_aside_and_told(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "a" / "notes.txt").write_text("about")
    assert load_dataset(tmp_path).notes == (
        "1 file was left aside, being no images by name: 'a/notes.txt'.",
    )
    (tmp_path / "b" / "boxes.json").write_text("{}")
    assert load_dataset(tmp_path).notes == (
        "2 files were left aside, being no images by name: 'a/notes.txt', 'b/boxes.json'.",
    )


def test_patient_folders_inside_a_class(tmp_path: Path) -> None:
    write_folder(tmp_path, {"ill/patient1/left": 2, "ill/patient2": 1, "well/patient3": 1})
    dataset = load_dataset(tmp_path)
    assert counts(dataset) == {("", "ill"): 3, ("", "well"): 1}
    assert list(dataset.table["patient"]) == ["patient1", "patient1", "patient2", "patient3"]


def test_one_class_folder_for_each_patient_of_both_classes(tmp_path: Path) -> None:
    patients = {f"{c}/p{n}": 1 for c in ("ill", "well") for n in range(3)}
    dataset = load_dataset(write_folder(tmp_path, patients), patient_pattern=r"/(?P<patient>p\d)/")
    assert dataset.class_names == ("ill", "well")
    assert dataset.patients.n_patients == 3


def test_links_are_followed(tmp_path: Path) -> None:
    store = write_folder(tmp_path / "store", {"x": 2, "y/deep": 1})
    data = write_folder(tmp_path / "data", {"a": 1, "b": 1})
    (data / "c").symlink_to(store / "x")
    (data / "a" / "more").symlink_to(store / "y")
    (data / "b" / "link.png").symlink_to(store / "x" / "0.png")
    assert counts(load_dataset(data)) == {("", "a"): 2, ("", "b"): 2, ("", "c"): 2}


def test_broken_link_is_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    data = write_folder(tmp_path, {"a": 1, "b": 1})
    (data / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    dataset = load_dataset(data)
    assert "a/gone.png" in list(dataset.table["path"])
    with pytest.raises(UnreadableError, match=r"^a/gone.png: no such file or directory$"):
        dataset.picture("a/gone.png")


def test_circle_of_single_folders_ends(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "again").symlink_to(tmp_path / "data")
    with pytest.raises(DataError):
        load_dataset(tmp_path / "data")


def test_images_below_tells_what_it_leaves(tmp_path: Path) -> None:
    write_folder(tmp_path, {"x/b": 1, "x/a": 2})
    (tmp_path / "x" / "scan").write_bytes(b"no suffix may be DICOM")
    (tmp_path / "x" / "volume.nii.gz").write_bytes(b"")
    (tmp_path / "x" / "table.csv").write_bytes(b"")
    images, left = images_below(tmp_path / "x")
    assert [path.relative_to(tmp_path / "x").as_posix() for path in images] == [
        *("scan", "volume.nii.gz", "a/0.png", "a/1.png", "b/0.png")
    ]
    assert left == ["x/table.csv"]
