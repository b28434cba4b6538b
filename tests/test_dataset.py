"""Folders, tables and NPZ that are read; those that are refused stand in test_bad_input.py."""

from __future__ import annotations

import codecs
import os
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum import Columns, DataError, Dataset, MissingExtraError, UnreadableError, load_dataset
from hilum.dataset import FACTS, open_picture
from hilum.folders import images_below, split_name
from hilum.readers import read_arrays
from making import medmnist, write_folder, write_image, write_npz, write_table


def counts(dataset: Dataset) -> dict[tuple[str, str], int]:
    return dict(dataset.table.groupby(["given_split", "label"]).size())


# -- folders ------------------------------------------------------------------------------------


def test_class_folders(tmp_path: Path) -> None:
    dataset = load_dataset(write_folder(tmp_path, {"ill": 2, "healthy": 3}))
    assert (dataset.kind, dataset.target_kind) == ("folder", "classes")
    assert dataset.class_names == ("healthy", "ill")
    assert list(dataset.table["path"]) == [
        *("healthy/0.png", "healthy/1.png", "healthy/2.png", "ill/0.png", "ill/1.png")
    ]
    assert counts(dataset) == {("", "healthy"): 3, ("", "ill"): 2}
    assert len(dataset) == 5
    assert dataset.notes == ()
    assert dataset.picture("ill/0.png").pixels.shape == (1, 8, 8, 1)


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
    [("train", "train"), ("Validation", "val"), ("TESTING", "test"), ("tests", None), ("", None)],
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


@pytest.mark.parametrize(
    "name", ["No finding", "<b>ill</b>", "größe", "肺炎", "a & b, c", "'quoted'", "100%"]
)
def test_class_names_of_all_kinds(tmp_path: Path, name: str) -> None:
    # '<b>ill</b>' is a folder named '<b>ill<' with one named 'b>' inside.
    dataset = load_dataset(write_folder(tmp_path, {name: 1, "other": 1}))
    assert sorted(dataset.class_names) == sorted([name.partition("/")[0], "other"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "Refer",
            "the very word by which a model says that it gives no answer ('refer' to a person, "
            "'refused' as unreadable). Call the class otherwise, such as 'referable'.",
        ),
        (
            "refused",
            "the very word by which a model says that it gives no answer ('refer' to a person, "
            "'refused' as unreadable). Call the class otherwise, such as 'referable'.",
        ),
        (
            "a|b",
            "and '|' stands between the classes of a prediction set. Call the class otherwise, "
            "such as 'a-b'; or, if it joins several labels of an image, pass --target multilabel.",
        ),
    ],
)
def test_names_that_answers_could_not_be_told_from(tmp_path: Path, name: str, message: str) -> None:
    table = tmp_path / "t.csv"
    write_table(table, [["path", "label"], ["0.png", name], ["1.png", "well"]], n_images=2)
    npz = write_npz(tmp_path / "x.npz", **medmnist(2))
    for source, classes in ((table, None), (npz, ("well", name))):
        with pytest.raises(DataError) as error:
            load_dataset(source, classes=classes)
        assert str(error.value) == f"{source} holds the class '{name}', {message}"
    assert name in load_dataset(table, min_classes=1).class_names


def test_accents_stored_in_two_ways_are_one_class(tmp_path: Path) -> None:
    composed, parted = (unicodedata.normalize(form, "Läsion") for form in ("NFC", "NFD"))
    write_folder(tmp_path, {f"train/{composed}": 1, f"test/{parted}": 1, "train/b": 1, "test/b": 1})
    dataset = load_dataset(tmp_path)
    assert dataset.class_names == (composed, "b") or dataset.class_names == ("b", composed)
    assert all(dataset.picture(path).n_frames == 1 for path in dataset.table["path"])
    ordered = load_dataset(tmp_path, classes=[parted, "b"])
    assert ordered.class_names == (composed, "b")


def test_numbers_are_ordered_by_value(tmp_path: Path) -> None:
    write_folder(tmp_path, {str(n): 1 for n in range(12)} | {"none": 1})
    assert load_dataset(tmp_path).class_names == (*map(str, range(12)), "none")


def test_classes_give_the_order(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 1, "b": 1, "c": 1})
    dataset = load_dataset(tmp_path, classes=["c", "a", "b"])
    assert (dataset.class_names, dataset.target_kind) == (("c", "a", "b"), "classes")


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


def test_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path, {"a": 1, "b": 1})
    monkeypatch.chdir(tmp_path)
    dataset = load_dataset(".")
    assert list(dataset.table["path"]) == ["a/0.png", "b/0.png"]
    assert dataset.picture("a/0.png").n_frames == 1


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


# -- tables -------------------------------------------------------------------------------------

ROWS = [["path", "label"], ["0.png", "ill"], ["1.png", "well"]]


def test_table(tmp_path: Path) -> None:
    rows = [
        ["path", "label", "patient", "split", "age"],
        ["0.png", "ill", "007", "Train", "61"],
        ["1.png", "NA", "7", "valid", ""],
        ["2.png", "ill", "", "TEST", "NA"],
    ]
    dataset = load_dataset(write_table(tmp_path / "t.csv", rows, n_images=3))
    assert dataset.kind == "table"
    assert dataset.class_names == ("NA", "ill")
    assert list(dataset.table["patient"]) == ["007", "7", ""]
    assert list(dataset.table["given_split"]) == ["train", "val", "test"]
    assert list(dataset.table["age"]) == ["61", "", "NA"]
    assert dataset.picture("2.png").n_frames == 1


@pytest.mark.parametrize(
    "data",
    [
        b"path,label\n0.png,ill\n1.png,well\n",
        codecs.BOM_UTF8 + b"path,label\r\n0.png,ill\r\n1.png,well\r\n",
        "path\tlabel\n0.png\till\n1.png\twell\n".encode("utf-16"),
        b"path;label\n0.png;ill\n1.png;well\n",
        b"path\tlabel\n0.png\till\n1.png\twell",
        b'"path","label"\n"0.png","ill"\n"1.png","well"\n',
        b"\n\npath,label\n\n0.png,ill\n,\n1.png,well\n\n",
        b"path,label,,\n0.png,ill,,\n1.png,well,,\n",
        b"path,label\n0.png,ill,\n1.png,well,\n",
        b" path , label \n 0.png , ill \n./1.png,well\n",
        b"Path,LABEL\n0.png,ill\n1.png,well\n",
        b"path,label\r0.png,ill\r1.png,well\r",
    ],
    ids=[
        *("plain", "excel utf-8", "utf-16", "semicolons", "tabs", "quotes", "blank rows"),
        *("empty columns", "comma at the end", "spaces", "capitals", "old mac"),
    ],
)
def test_tables_as_programs_write_them(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(data)
    dataset = load_dataset(tmp_path / "t.csv")
    assert list(dataset.table["path"]) == ["0.png", "1.png"]
    assert list(dataset.table["label"]) == ["ill", "well"]


def test_tsv_with_commas_in_cells(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("path\tlabel\tplace\n0.png\till\tGoyang, Seoul\n1.png\tb\t\n")
    assert list(load_dataset(tmp_path / "t.tsv").table["place"]) == ["Goyang, Seoul", ""]


def test_quoted_cells_with_separators_and_line_breaks(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('path,label,note\n0.png,ill,"a,\nb"\n1.png,"very ""well""",\n')
    table = load_dataset(tmp_path / "t.csv").table
    assert list(table["note"]) == ["a,\nb", ""]
    assert table["label"][1] == 'very "well"'


@pytest.mark.parametrize("name", ["patient", "Patient", "PatientID", "patient_id", "Subject-ID"])
def test_patient_column_is_found_in_any_spelling(tmp_path: Path, name: str) -> None:
    rows = [["path", "label", name], ["0.png", "ill", "p1"], ["1.png", "well", "p1"]]
    dataset = load_dataset(write_table(tmp_path / "t.csv", rows))
    assert (dataset.patients.source, dataset.patients.n_patients) == ("column", 1)
    assert dataset.patients.column == name


def test_columns_by_name(tmp_path: Path) -> None:
    rows = [["file", "finding", "case", "set", "label"], ["0.png", "x", "c", "train", "1"]]
    rows.append(["1.png", "y", "c", "train", "2"])
    columns = Columns(path="file", label="finding", patient="case", split="set")
    dataset = load_dataset(write_table(tmp_path / "t.csv", rows), columns=columns)
    assert dataset.class_names == ("x", "y")
    assert dataset.patients.n_patients == 1
    # A column of the user's that bears the name of one of ours is kept under another.
    assert list(dataset.table.columns) == ["path", "label", "patient", "given_split", "table_label"]


def test_metadata_never_collide(tmp_path: Path) -> None:
    names = ["path", "label", "format", "table_format", "table_table_format", "", "burned_in"]
    rows = [names, ["0.png", "x", *"12345"], ["1.png", "y", *"12345"]]
    table = load_dataset(write_table(tmp_path / "t.csv", rows)).table
    assert table.columns.is_unique
    assert set(table.columns) >= {
        "table_format",
        "table_table_format",
        "column 6",
        "table_burned_in",
    }
    assert not set(FACTS) & set(table.columns)


def test_paths_absolute_and_with_backslashes(tmp_path: Path) -> None:
    elsewhere = write_image(tmp_path / "elsewhere" / "x.png")
    rows = [["path", "label"], [str(elsewhere), "a"], ["sub\\0.png", "b"]]
    write_image(tmp_path / "t" / "sub" / "0.png")
    dataset = load_dataset(write_table(tmp_path / "t" / "t.csv", rows))
    assert list(dataset.table["path"]) == [elsewhere.as_posix(), "sub/0.png"]
    assert all(dataset.picture(path).n_frames == 1 for path in dataset.table["path"])


def test_labels_as_numbers(tmp_path: Path) -> None:
    rows = [["path", "label"], *([f"{n}.png", str(n % 11)] for n in range(22))]
    assert load_dataset(write_table(tmp_path / "t.csv", rows)).class_names == tuple(
        map(str, range(11))
    )


SOUND = b'path,label,patient,split\n0.png,a,p1,train\n1.png,b,p2,test\n"x,y.png",c,,val\n'
CHANGES = (b",", b";", b"\t", b'"', b"\n", b"\r", b"\0", b"\xff", codecs.BOM_UTF8, b"path", b"")


@settings(max_examples=150, derandomize=True, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, len(SOUND)), st.integers(0, 6), st.sampled_from(CHANGES)),
        min_size=1,
        max_size=4,
    )
)
def test_no_table_brings_anything_but_an_answer_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int, bytes]]
) -> None:
    data = SOUND
    for at, n_removed, added in changes:
        data = data[:at] + added + data[at + n_removed :]
    path = tmp_path_factory.getbasetemp() / "changed.csv"
    path.write_bytes(data)
    message = ""
    try:
        load_dataset(path)
    except DataError as error:
        message = str(error)
    assert len(message.splitlines()) <= 1


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "t.parquet").write_bytes(b"")
    with pytest.raises(MissingExtraError) as caught:
        load_dataset(tmp_path / "t.parquet")
    assert str(caught.value) == (
        "Reading a Parquet table needs the package 'pyarrow', which is not installed. Install it "
        "with: pip install 'hilum[parquet]'"
    )


def test_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs the extra 'parquet'")
    import pandas as pd

    table = pd.DataFrame(
        {
            "path": ["0.png", "1.png"],
            "label": [0, 1],
            "patient": [12.0, None],
            "split": pd.Categorical(["train", "train"]),
        }
    )
    table.to_parquet(tmp_path / "t.parquet")
    dataset = load_dataset(tmp_path / "t.parquet")
    assert list(dataset.table["patient"]) == ["12", ""]
    assert dataset.class_names == ("0", "1")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        load_dataset(tmp_path / "t.parquet")


# -- NPZ ----------------------------------------------------------------------------------------


def test_npz(tmp_path: Path) -> None:
    arrays = medmnist(4)
    dataset = load_dataset(write_npz(tmp_path / "x.npz", **arrays))
    assert (dataset.kind, dataset.class_names) == ("npz", ("0", "1"))
    assert counts(dataset) == {(s, c): 2 for s in ("train", "val", "test") for c in "01"}
    assert dataset.patients.source == "none"
    assert dataset.patients.n_without == 12
    picture = dataset.picture("val/2")
    assert np.array_equal(picture.pixels[0, :, :, 0], arrays["val_images"][2])
    assert picture.value_range == (0.0, 255.0)
    with pytest.raises(UnreadableError, match=r"^val/9: there is no such image in x.npz$"):
        dataset.picture("val/9")


@pytest.mark.parametrize(
    "labels",
    [
        np.array([0, 1, 0, 1]),
        np.array([[0.0], [1.0], [0.0], [1.0]]),
        np.array([False, True, False, True]),
        np.array([0, 1, 0, 1], dtype=np.int8)[:, None, None],
    ],
)
def test_npz_labels_of_any_number_type(tmp_path: Path, labels: Any) -> None:
    images = medmnist(4)["train_images"]
    dataset = load_dataset(write_npz(tmp_path / "x.npz", train_images=images, train_labels=labels))
    assert list(dataset.table["label"]) == ["0", "1", "0", "1"]


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2"])
@pytest.mark.parametrize("shape", [(4, 8, 9), (4, 8, 9, 1), (4, 8, 9, 3)])
def test_npz_images(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    labels = np.array([0, 1, 0, 1])
    dataset = load_dataset(write_npz(tmp_path / "x.npz", train_images=images, train_labels=labels))
    picture = dataset.picture("train/3")
    assert np.array_equal(picture.pixels.reshape(shape[1:]), images[3])
    assert picture.pixels.dtype.isnative
    assert picture.value_range[1] == 2 ** (8 * np.dtype(dtype).itemsize) - 1


def test_npz_class_names(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "x.npz", **medmnist(4))
    dataset = load_dataset(path, classes=["normal", "pneumonia"])
    assert dataset.class_names == ("normal", "pneumonia")
    assert list(dataset.table["label"][:2]) == ["normal", "pneumonia"]


def test_npz_class_names_are_plain_text(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "x.npz", **medmnist(4))
    dataset = load_dataset(path, classes=["no  finding", " ill"])
    assert dataset.class_names == ("no finding", "ill")
    assert list(dataset.table["label"][:2]) == ["no finding", "ill"]


def test_threads_share_one_loading_of_an_npz(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_npz(tmp_path / "x.npz", **medmnist(4))
    loaded: list[Path] = []

    def slow(source: Path, **limits: Any) -> dict[str, Any]:
        loaded.append(source)
        time.sleep(0.05)
        return read_arrays(source, **limits)

    monkeypatch.setattr("hilum.npz.read_arrays", slow)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda row: open_picture(path, "npz", f"train/{row % 4}"), range(8)))
    assert loaded == [path]


def test_npz_of_several_labels_an_image(tmp_path: Path) -> None:
    arrays = medmnist(3)
    for split in ("train", "val", "test"):
        arrays[f"{split}_labels"] = np.array([[0, 1, np.nan], [1, 1, 0], [0, 0, 1]])
    dataset = load_dataset(write_npz(tmp_path / "x.npz", **arrays), classes=["a", "b", "c"])
    assert (dataset.target_kind, dataset.class_names) == ("multilabel", ("a", "b", "c"))
    assert list(dataset.table["label"][:3]) == ["b", "a|b", "c"]
    assert list(dataset.table["unknown"][:3]) == ["c", "", ""]


def test_changed_npz_is_read_anew(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "x.npz", **medmnist(4))
    assert len(load_dataset(path)) == 12
    write_npz(path, **medmnist(6))
    os.utime(path, ns=(1, 1))
    assert len(load_dataset(path)) == 18


def test_odd_npz_files_are_refused_in_one_line(hilum_data: Path) -> None:
    files = sorted((hilum_data / "odd-files").rglob("*.npz"))
    assert files
    for path in files:
        with pytest.raises(DataError) as caught:
            load_dataset(path)
        assert "\n" not in str(caught.value)


def test_real_data(hilum_data: Path) -> None:
    chest = load_dataset(hilum_data / "chest-xray")
    assert counts(chest) == {
        ("train", "NORMAL"): 1341,
        ("train", "PNEUMONIA"): 3875,
        ("val", "NORMAL"): 8,
        ("val", "PNEUMONIA"): 8,
        ("test", "NORMAL"): 234,
        ("test", "PNEUMONIA"): 390,
    }
    assert len(load_dataset(hilum_data / "brain-mri")) == 253
    mnist = load_dataset(hilum_data / "pneumoniamnist.npz", classes=["normal", "pneumonia"])
    assert counts(mnist)["test", "pneumonia"] == 390
    covid = load_dataset(hilum_data / "covid-cxr" / "table.csv")
    assert (len(covid), covid.patients.n_patients) == (269, 156)
    assert "location" in covid.table


def test_classes_that_may_be_slips_are_asked_about(tmp_path: Path) -> None:
    labels = ["benign"] * 5 + ["malignant"] * 5 + ["T1"] * 5 + ["bening", "malignat", "T2", "cyst"]
    rows = [["path", "label"], *([f"{n}.png", label] for n, label in enumerate(labels))]
    dataset = load_dataset(write_table(tmp_path / "t.csv", rows))
    assert dataset.notes == (
        "The class 'bening' has 1 image (row 17). Did you mean 'benign'?",
        "The class 'malignat' has 1 image (row 18). Did you mean 'malignant'?",
    )
    chosen = load_dataset(tmp_path / "t.csv", classes=sorted(set(labels)))
    assert chosen.notes == ()
    folder = write_folder(tmp_path / "folder", {"normal": 5, "ill": 5, "norml": 2})
    assert load_dataset(folder).notes == (
        "The class 'norml' has 2 images (norml/0.png, norml/1.png). Did you mean 'normal'?",
    )
