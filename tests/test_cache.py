from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hilum.cache import cache_folder, pixel_store
from hilum.dataset import Dataset, load_dataset
from hilum.errors import DataError
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
