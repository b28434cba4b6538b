"""Order and names of classes; more that is refused stands in test_bad_input.py."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pandas as pd
import pytest

from hilum import DataError, load_dataset
from hilum.class_names import ask_of_slips
from hilum.labels import natural
from hilum.targets import TargetKind
from making import medmnist, write_folder, write_npz, write_table


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


def test_labels_as_numbers(tmp_path: Path) -> None:
    rows = [["path", "label"], *([f"{n}.png", str(n % 11)] for n in range(22))]
    assert load_dataset(write_table(tmp_path / "t.csv", rows)).class_names == tuple(
        map(str, range(11))
    )


@pytest.mark.parametrize(("one", "other"), [("0", "0.0"), ("1", "01"), ("KL 2", "kl 2.0")])
@pytest.mark.parametrize("target", [None, "ordinal"])
def test_two_spellings_of_a_number_are_refused(
    tmp_path: Path, one: str, other: str, target: TargetKind | None
) -> None:
    rows = [["path", "label"], *([f"{n}.png", name] for n, name in enumerate([one, other, "7"]))]
    table = write_table(tmp_path / "t.csv", rows)
    with pytest.raises(DataError) as error:
        load_dataset(table, target=target)
    names = " and ".join(f"'{name}'" for name in sorted([one, other], key=natural))
    assert str(error.value) == (
        f"{table} holds the classes {names}, which spell one number in two ways. Give them one "
        "spelling."
    )


def test_other_numbers_are_other_classes(tmp_path: Path) -> None:
    names = [
        "1",
        "10",
        "1.1",
        "1.01",
        "-1",
        "T1",
        "1.2.1",
        "1.2.10",
        "C50.1",
        "C50.10",
        "A1",
        "A01",
    ]
    rows = [["path", "label"], *([f"{n}.png", name] for n, name in enumerate(names))]
    assert set(load_dataset(write_table(tmp_path / "t.csv", rows)).class_names) == set(names)


def test_too_many_classes_are_not_compared_with_each_other() -> None:
    labels = pd.Series([f"text {k}" for k in range(10_001)] + ["text 1"] * 9)
    assert ask_of_slips(labels, [str(k) for k in range(len(labels))]) == []


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
