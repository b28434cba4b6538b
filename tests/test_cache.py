from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hilum.cache import cache_folder, pixel_store
from hilum.dataset import Dataset, load_dataset
from hilum.errors import DataError, HilumError
from hilum.files import sha256
from hilum.pixels import PixelSpec, prepare
from hilum.progress import LogProgress

SPEC = PixelSpec(height=12, width=16)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(3):
            pixels = rng.integers(0, 256, (20, 30), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{number}.png")
    return load_dataset(tmp_path / "data")


def build(dataset: Dataset, spec: PixelSpec = SPEC) -> np.ndarray:
    paths = list(dataset.table["path"])
    hashes = [sha256(dataset.source / path) for path in paths]
    return pixel_store(dataset, paths, hashes, spec, LogProgress())


def stores() -> list[Path]:
    return sorted((cache_folder() / "pixels").iterdir())


def test_a_store_holds_what_the_pixel_path_makes(dataset: Dataset) -> None:
    store = build(dataset)
    expected = [prepare(dataset.picture(path), SPEC)[0] for path in dataset.table["path"]]
    np.testing.assert_array_equal(store, np.stack(expected))
    assert store.dtype == np.uint8
    assert not store.flags.writeable


def test_a_store_is_made_once_for_what_it_holds(dataset: Dataset) -> None:
    build(dataset)
    (first,) = stores()
    stamp = first.stat().st_mtime_ns
    build(dataset)
    assert [path.stat().st_mtime_ns for path in stores()] == [stamp]
    build(dataset, SPEC.model_copy(update={"resize": "crop"}))
    assert len(stores()) == 2


def test_a_file_that_changed_is_named_and_nothing_is_kept(dataset: Dataset) -> None:
    paths = list(dataset.table["path"])
    hashes = [sha256(dataset.source / path) for path in paths]
    Image.new("L", (30, 20)).save(dataset.source / "b" / "1.png")
    with pytest.raises(DataError) as error:
        pixel_store(dataset, paths, hashes, SPEC, LogProgress())
    assert str(error.value) == (
        "b/1.png has changed since the data were read. Start a new run on the data as they are now."
    )
    assert stores() == []


@pytest.mark.parametrize("size", [0, 20, 300])
def test_a_store_that_was_cut_short_is_made_anew(dataset: Dataset, size: int) -> None:
    whole = np.array(build(dataset))
    (path,) = stores()
    path.write_bytes(path.read_bytes()[:size])
    np.testing.assert_array_equal(build(dataset), whole)


def test_a_store_of_another_shape_is_made_anew(dataset: Dataset) -> None:
    whole = np.array(build(dataset))
    np.save(stores()[0], whole[1:])
    np.testing.assert_array_equal(build(dataset), whole)


def test_a_cache_that_cannot_be_written_is_named(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HILUM_CACHE", str(tmp_path / "file"))
    with pytest.raises(HilumError, match="HILUM_CACHE names the folder of the cache"):
        build(dataset)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_the_images_are_their_owners_alone(dataset: Dataset) -> None:
    build(dataset)
    assert (cache_folder() / "pixels").stat().st_mode & 0o777 == 0o700


def test_old_leftovers_are_cleared_and_young_ones_kept(dataset: Dataset) -> None:
    folder = cache_folder() / "pixels"
    folder.mkdir(parents=True)
    old, young = folder / ".a.npy.0.tmp", folder / ".b.npy.0.tmp"
    for path in (old, young):
        path.touch()
    yesterday = time.time() - 25 * 3600
    os.utime(old, (yesterday, yesterday))
    build(dataset)
    assert not old.exists()
    assert young.exists()
