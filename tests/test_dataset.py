"""Data of each kind as one table of samples; those that are refused stand in test_bad_input.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from hilum import load_dataset
from hilum.dataset import FACTS
from making import counts, write_folder, write_image, write_table


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


def test_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path, {"a": 1, "b": 1})
    monkeypatch.chdir(tmp_path)
    dataset = load_dataset(".")
    assert list(dataset.table["path"]) == ["a/0.png", "b/0.png"]
    assert dataset.picture("a/0.png").n_frames == 1


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
