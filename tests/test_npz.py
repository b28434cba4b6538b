"""NPZ that are read; those that are refused stand in test_bad_input.py."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hilum import DataError, UnreadableError, load_dataset
from hilum.dataset import open_picture
from hilum.readers import read_arrays
from making import counts, medmnist, write_npz


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
