from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hilum.cache import StoredImages, empty_cache, list_cache, stored_images
from hilum.cache_rooms import cache_folder
from hilum.dataset import Dataset, load_dataset
from hilum.errors import DataError, HilumError
from hilum.pixels import PixelSpec, prepare
from hilum.progress import LogProgress
from hilum.scan import unchanged_picture

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


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def build(dataset: Dataset, spec: PixelSpec = SPEC, *, only: int | None = None) -> StoredImages:
    paths = list(dataset.table["path"])
    hashes = [sha256(dataset.source / path) for path in paths]
    chosen = slice(None, only)
    return stored_images(dataset, paths[chosen], hashes[chosen], spec, LogProgress(), among=hashes)


def stores() -> list[Path]:
    return sorted((cache_folder() / "pixels").iterdir())


def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note the path of every file that is decoded from now on."""
    seen: list[str] = []

    def spy(dataset: Dataset, path: str, *args: Any, **options: Any) -> Any:
        seen.append(path)
        return unchanged_picture(dataset, path, *args, **options)

    monkeypatch.setattr("hilum.cache.unchanged_picture", spy)
    return seen


def test_a_store_holds_what_the_pixel_path_makes(dataset: Dataset) -> None:
    images = build(dataset)
    expected = np.stack([prepare(dataset.picture(path), SPEC)[0] for path in dataset.table["path"]])
    np.testing.assert_array_equal(images[:], expected)
    np.testing.assert_array_equal(images[np.array([4, 0, 4])], expected[[4, 0, 4]])
    np.testing.assert_array_equal(np.stack(list(images)), expected)
    assert images.shape == expected.shape
    assert images.store.dtype == np.uint8
    assert not images.store.flags.writeable


def test_each_image_is_decoded_once(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = decoded(monkeypatch)
    build(dataset, only=2)
    assert seen == ["a/0.png", "a/1.png"]
    build(dataset)
    build(dataset)
    assert sorted(seen) == sorted(dataset.table["path"])
    assert len(stores()) == 1
    build(dataset, SPEC.model_copy(update={"resize": "crop"}))
    assert len(stores()) == 2


def test_identical_files_are_stored_once(dataset: Dataset) -> None:
    shutil.copy(dataset.source / "a" / "0.png", dataset.source / "b" / "0.png")
    images = build(dataset)
    assert len(images) == 6
    assert len(images.store) == 5
    np.testing.assert_array_equal(images[0], images[3])


def test_a_file_that_changed_is_named_and_what_was_decoded_before_it_stays(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = list(dataset.table["path"])
    hashes = [sha256(dataset.source / path) for path in paths]
    original = (dataset.source / "b" / "1.png").read_bytes()
    Image.new("L", (30, 20)).save(dataset.source / "b" / "1.png")
    with pytest.raises(DataError) as error:
        stored_images(dataset, paths, hashes, SPEC, LogProgress())
    assert str(error.value) == (
        "b/1.png has changed since the data were read. Start a new run on the data as they are now."
    )
    (dataset.source / "b" / "1.png").write_bytes(original)
    seen = decoded(monkeypatch)
    stored_images(dataset, paths, hashes, SPEC, LogProgress())
    assert seen == ["b/1.png", "b/2.png"]


@pytest.mark.parametrize("name", ["pixels.bin", "checksums.bin"])
@pytest.mark.parametrize("size", [0, 20])
def test_a_store_that_was_cut_short_is_made_anew(dataset: Dataset, name: str, size: int) -> None:
    whole = build(dataset)[:]
    path = stores()[0] / name
    path.write_bytes(path.read_bytes()[:size])
    np.testing.assert_array_equal(build(dataset)[:], whole)


def test_a_damaged_image_is_decoded_again(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = build(dataset)[:]
    path = stores()[0] / "pixels.bin"
    data = bytearray(path.read_bytes())
    data[2 * whole[0].size + 5] ^= 1
    path.write_bytes(data)
    seen = decoded(monkeypatch)
    with caplog.at_level("INFO"):
        np.testing.assert_array_equal(build(dataset)[:], whole)
    assert seen == ["a/2.png"]
    assert "1 image of the cache is damaged and is decoded again." in caplog.text


FILL = """
import hashlib
import sys
from hilum.cache import stored_images
from hilum.dataset import load_dataset
from hilum.pixels import PixelSpec
from hilum.progress import LogProgress
from hilum.scan import unchanged_picture

dataset = load_dataset(sys.argv[1])
paths = list(dataset.table["path"])
files = [dataset.source / path for path in paths]
hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
stored_images(dataset, paths, hashes, PixelSpec(height=12, width=16), LogProgress())
"""


def test_two_processes_may_fill_one_store(dataset: Dataset) -> None:
    for number in range(3, 40):
        pixels = np.random.default_rng(number).integers(0, 256, (90, 90), dtype=np.uint8)
        Image.fromarray(pixels).save(dataset.source / "b" / f"{number}.png")
    command = [sys.executable, "-c", FILL, str(dataset.source)]
    both = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    grown = load_dataset(dataset.source)
    expected = np.stack([prepare(grown.picture(path), SPEC)[0] for path in grown.table["path"]])
    np.testing.assert_array_equal(build(grown)[:], expected)
    assert len(stores()) == 1


def test_a_full_disk_is_an_error_and_no_crash(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("hilum.cache._write_at", full)
    with pytest.raises(HilumError, match="No space left on device"):
        build(dataset)


def test_the_cache_is_listed_and_emptied(dataset: Dataset) -> None:
    assert list_cache() == []
    build(dataset, only=2)
    build(dataset, SPEC.model_copy(update={"channels": 3}))
    newest, oldest = list_cache()
    assert newest.last_used >= oldest.last_used
    first = next(store for store in (newest, oldest) if store.channels == 1)
    assert (first.height, first.width, first.n_images, first.n_decoded) == (12, 16, 6, 2)
    assert first.source == str(dataset.source.resolve())
    assert empty_cache() >= newest.n_bytes + oldest.n_bytes > 0
    assert list_cache() == []
    assert empty_cache() == 0


def test_a_cache_that_cannot_be_written_is_named(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HILUM_CACHE", str(tmp_path / "file"))
    with pytest.raises(HilumError, match="Not a directory"):
        build(dataset)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_the_images_are_their_owners_alone(dataset: Dataset) -> None:
    build(dataset)
    assert (cache_folder() / "pixels").stat().st_mode & 0o777 == 0o700


def test_old_leftovers_are_cleared_and_young_ones_kept(dataset: Dataset) -> None:
    folder = cache_folder() / "pixels"
    folder.mkdir(parents=True)
    old, young = folder / ".a.0.tmp", folder / ".b.0.tmp"
    for path in (old, young):
        path.mkdir()
    yesterday = time.time() - 25 * 3600
    os.utime(old, (yesterday, yesterday))
    build(dataset)
    assert not old.exists()
    assert young.exists()


def test_a_cache_that_is_emptied_meanwhile_serves_what_was_decoded(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may empty the cache and begin a store of the same name."""
    seen: list[str] = []

    def emptied(dataset: Dataset, path: str, *args: Any, **options: Any) -> Any:
        if path == "a/2.png" and path not in seen:
            seen.append(path)
            empty_cache()
            build(dataset, only=1)
        return unchanged_picture(dataset, path, *args, **options)

    expected = np.stack([prepare(dataset.picture(path), SPEC)[0] for path in dataset.table["path"]])
    monkeypatch.setattr("hilum.cache.unchanged_picture", emptied)
    np.testing.assert_array_equal(build(dataset)[:], expected)
    assert seen == ["a/2.png"]
