from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from hilum.jpeg_quality import jpeg_quality


@pytest.mark.parametrize("quality", [1, 2, 10, 37, 49, 50, 75, 90, 95, 99, 100])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_quality_as_saved(tmp_path: Path, quality: int, mode: str) -> None:
    Image.radial_gradient("L").convert(mode).save(tmp_path / "x.jpg", quality=quality)
    assert jpeg_quality((tmp_path / "x.jpg").read_bytes()) == quality


def test_progressive_with_metadata(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description with \xff\xdb in it"
    image = Image.radial_gradient("L")
    image.save(tmp_path / "x.jpg", quality=64, progressive=True, exif=exif)
    assert jpeg_quality((tmp_path / "x.jpg").read_bytes()) == 64


def test_nearest_quality_of_another_encoder(tmp_path: Path) -> None:
    image = Image.radial_gradient("L")
    image.save(tmp_path / "x.jpg", quality=80)
    with Image.open(tmp_path / "x.jpg") as saved:
        tables = saved.quantization  # type: ignore[attr-defined]
    changed = {0: [value + i % 2 for i, value in enumerate(tables[0])]}
    image.save(tmp_path / "y.jpg", qtables=changed)
    assert jpeg_quality((tmp_path / "y.jpg").read_bytes()) in range(76, 83)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xdb\x00\x05\x00ab", b"words"])
def test_no_table(data: bytes) -> None:
    assert jpeg_quality(data) == ""
