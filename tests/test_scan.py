from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hilum import load_dataset
from hilum.dataset import RESERVED
from hilum.progress import LogProgress, Task
from hilum.readers import read_bytes
from hilum.scan import FACTS, reading_notes, scan
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


def test_what_readers_note_is_kept_and_told_by_kind(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 3, "b": 2})
    for path, n_bytes in (("a/0.png", 7), ("a/2.png", 1234), ("b/1.png", 56)):
        with (tmp_path / path).open("ab") as file:
            file.write(bytes(n_bytes))
    pages = [Image.new("L", (size, size)) for size in (9, 5, 5)]
    for n, name in ((1, "b/two.tif"), (2, "b/three.tif")):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1 : n + 1])
    (tmp_path / "b" / "words.png").write_bytes(b"no image at all")
    samples = scan(load_dataset(tmp_path), LogProgress()).samples
    kept = samples.set_index("path")["notes"]
    assert kept["a/2.png"] == "1,234 bytes after the end of the PNG were ignored"
    assert kept["a/1.png"] == ""
    told = (
        "3 images, such as a/0.png: 7 to 1,234 bytes after the end of the PNG were ignored.",
        "2 images, such as b/three.tif: pages left out, of another size or kind than the first: "
        "1 to 2.",
    )
    assert reading_notes(samples) == told
    # As they come back from samples.csv, and from one of before notes were kept.
    samples.to_csv(tmp_path / "samples.csv", index=False)
    again = pd.read_csv(tmp_path / "samples.csv", dtype=str, keep_default_na=False)
    again["excluded"] = again["excluded"] == "True"
    assert reading_notes(again) == told
    assert reading_notes(again.drop(columns="notes")) == ()


def test_each_note_of_an_image_is_told_apart() -> None:
    both = (
        "CT without a window: shown from -1024 to 3071 Hounsfield units; "
        "the header states a window of width {}, which was ignored"
    )
    rows = [("0.dcm", both.format(0)), ("1.dcm", both.format(0.5)), ("2.dcm", both.format("1e-05"))]
    samples = pd.DataFrame(rows, columns=["path", "notes"]).assign(excluded=False)
    assert reading_notes(samples) == (
        "3 images, such as 0.dcm: CT without a window: shown from -1024 to 3071 Hounsfield units.",
        "3 images, such as 0.dcm: the header states a window of width 0 to 0.5, which was ignored.",
    )


def test_kinds_of_notes_are_few_however_many_the_images() -> None:
    """And an image that has one kind twice counts once."""
    rows = [
        (f"{n}.jpg", f"{n + 2} stray bytes between markers were ignored; 9 stray bytes between "
         "markers were ignored")
        for n in range(2000)
    ]  # fmt: skip
    samples = pd.DataFrame(rows, columns=["path", "notes"]).assign(excluded=False)
    assert reading_notes(samples) == (
        "2,000 images, such as 0.jpg: 2 to 2001 stray bytes between markers were ignored.",
    )
