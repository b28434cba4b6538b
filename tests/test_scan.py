from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hilum import load_dataset
from hilum.dataset import RESERVED
from hilum.progress import LogProgress, Task
from hilum.readers import read_bytes
from hilum.scan import FACTS, scan
from making import medmnist, write_folder, write_image, write_npz, write_table


def test_facts_of_every_sample(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 1})
    write_image(tmp_path / "b" / "colour.png", size=9, channels=3)
    Image.fromarray(np.full((4, 6), 3000, np.uint16)).save(tmp_path / "b" / "deep.png")
    samples = scan(load_dataset(tmp_path), LogProgress()).samples.set_index("path")
    assert list(samples["grey"]) == [True, False, True]
    assert list(samples["dtype"]) == ["uint8", "uint8", "uint16"]
    assert list(samples["height"]) == [8, 9, 4]
    assert list(samples["width"]) == [8, 9, 6]
    assert list(samples["bits"]) == [8, 8, 16]
    assert set(samples["format"]) == {"PNG"}
    assert set(samples["range_from"]) == {"type"}
    assert samples["low"]["b/deep.png"] == samples["high"]["b/deep.png"] == 3000.0
    expected = hashlib.sha256((tmp_path / "b" / "deep.png").read_bytes()).hexdigest()
    assert samples["sha256"]["b/deep.png"] == expected
    assert not samples["excluded"].any()


def test_unreadable_files_are_named_with_the_reason(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 1, "b": 1})
    (tmp_path / "a" / "empty.png").write_bytes(b"")
    (tmp_path / "a" / "words.png").write_bytes(b"no image at all")
    (tmp_path / "b" / "gone.png").symlink_to(tmp_path / "nowhere")
    samples = scan(load_dataset(tmp_path), LogProgress()).samples.set_index("path")
    bad = samples[samples["excluded"]]
    assert list(bad.index) == ["a/empty.png", "a/words.png", "b/gone.png"]
    assert bad["reason"]["a/empty.png"] == "the file is empty"
    assert bad["reason"]["b/gone.png"] == "no such file or directory"
    assert bad["sha256"]["b/gone.png"] == ""
    assert samples["reason"][~samples["excluded"]].eq("").all()


def test_several_frames_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 1, "b": 1})
    frames = [Image.new("L", (8, 8), n) for n in range(3)]
    frames[0].save(tmp_path / "a" / "stack.tif", save_all=True, append_images=frames[1:])
    samples = scan(load_dataset(tmp_path), LogProgress()).samples.set_index("path")
    assert samples["reason"]["a/stack.tif"] == (
        "it holds 3 frames, and a label belongs to one image: write each frame that is meant into "
        "a file of its own"
    )


def test_npz_is_hashed_by_pixels(tmp_path: Path) -> None:
    arrays = medmnist(2)
    arrays["test_images"][1] = arrays["train_images"][0]
    dataset = load_dataset(write_npz(tmp_path / "x.npz", **arrays))
    samples = scan(dataset, LogProgress()).samples.set_index("path")
    assert samples["sha256"]["train/0"] == samples["sha256"]["test/1"]
    assert samples["sha256"].nunique() == 5


def test_each_file_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And removed at once: whatever asks for it a second time would fail."""
    write_folder(tmp_path, {"a": 2})
    Image.radial_gradient("L").save(tmp_path / "a" / "photo.jpg", quality=64)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "words.png").write_bytes(b"no image at all")
    dataset = load_dataset(tmp_path)
    contents = {path: (tmp_path / path).read_bytes() for path in dataset.table["path"]}

    def read_and_remove(file: Path, *, name: str) -> bytes:
        data = read_bytes(file, name=name)
        file.unlink()
        return data

    monkeypatch.setattr("hilum.scan.read_bytes", read_and_remove)
    samples = scan(dataset, LogProgress()).samples.set_index("path")
    assert list(samples.index[samples["excluded"]]) == ["b/words.png"]
    assert samples["jpeg_quality"]["a/photo.jpg"] == 64
    assert samples["file_size"]["a/photo.jpg"] == len(contents["a/photo.jpg"])
    for path, data in contents.items():
        assert samples["sha256"][path] == hashlib.sha256(data).hexdigest()


def test_columns_of_a_table_stay_beside_the_facts(tmp_path: Path) -> None:
    rows = [["path", "label", "mode", "age"], ["0.png", "a", "PA", "3"], ["1.png", "b", "AP", ""]]
    samples = scan(
        load_dataset(write_table(tmp_path / "t.csv", rows, n_images=2)), LogProgress()
    ).samples
    assert list(samples["mode"]) == ["L", "L"]
    assert list(samples["table_mode"]) == ["PA", "AP"]
    assert samples.columns.is_unique
    assert set(FACTS) <= set(RESERVED)


def test_progress_is_told_of_every_file(tmp_path: Path) -> None:
    steps: list[int] = []

    class Counting:
        def advance(self, n: int = 1, note: str = "") -> None:
            steps.append(n)

    class Telling(LogProgress):
        @contextmanager
        def task(self, name: str, total: int) -> Iterator[Task]:
            assert (name, total) == ("Reading images", 5)
            yield Counting()

    scan(load_dataset(write_folder(tmp_path, {"a": 2, "b": 3})), Telling())
    assert sum(steps) == 5
