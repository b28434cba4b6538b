from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hilum import HilumError
from hilum.looks import LOOK_SIDE, averaged, empty_looks, make_look
from hilum.readers import read


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_averages_are_means_of_squares(factor: int) -> None:
    looks = np.random.default_rng(0).integers(0, 256, (3, 8, 12), dtype=np.uint8)
    found = averaged(looks, factor)
    assert found.shape == (3, 8 // factor, 12 // factor)
    for n, row, column in np.ndindex(found.shape):
        down, right = factor * row, factor * column
        square = looks[n, down : down + factor, right : right + factor]
        assert found[n, row, column] == square.mean()


def test_look_is_grey_and_stretched(tmp_path: Path) -> None:
    pixels = np.zeros((200, 100, 3), np.uint8)
    pixels[:, 50:] = (0, 255, 0)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    look = make_look(read(tmp_path / "x.png"))
    assert look.shape == (LOOK_SIDE, LOOK_SIDE)
    assert set(look[:, :31].ravel()) == {0}
    assert set(look[:, 33:].ravel()) == {150}  # green by Rec. 601


def test_looks_lie_in_a_file_without_a_name() -> None:
    looks = empty_looks(3)
    looks[1] = 7
    assert looks.shape == (3, LOOK_SIDE, LOOK_SIDE)
    assert looks.sum() == 7 * LOOK_SIDE**2
    assert list((Path(os.environ["HILUM_CACHE"]) / "looks").iterdir()) == []


def test_no_looks() -> None:
    assert empty_looks(0).shape == (0, LOOK_SIDE, LOOK_SIDE)


def test_cache_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HILUM_CACHE", str(tmp_path / "file"))
    with pytest.raises(HilumError) as caught:
        empty_looks(512)
    assert str(caught.value) == (
        f"{tmp_path / 'file' / 'looks'} cannot hold 2 MiB of small pictures: Not a directory. Free "
        "some space, or name another folder by HILUM_CACHE."
    )


@pytest.mark.parametrize("fallocate", [True, False])
def test_room_is_taken_before_it_is_mapped(
    monkeypatch: pytest.MonkeyPatch, fallocate: bool
) -> None:
    if not fallocate:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    taken: list[tuple[int, int]] = []
    mapped = np.memmap

    def map_file(stream: Any, *args: Any, **kwargs: Any) -> Any:
        state = os.fstat(stream.fileno())
        taken.append((state.st_size, state.st_blocks * 512))
        return mapped(stream, *args, **kwargs)

    monkeypatch.setattr(np, "memmap", map_file)
    looks = empty_looks(600)
    assert looks.shape == (600, LOOK_SIDE, LOOK_SIDE)
    assert not looks.any()
    ((size, on_disk),) = taken
    assert size == looks.size
    assert on_disk >= size


def test_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(HilumError, match="cannot hold 2 MiB of small pictures: No space left on"):
        empty_looks(512)
