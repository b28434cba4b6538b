"""What holds for every format: names, limits, silence, isolation."""

from __future__ import annotations

import gzip
import io
import json
import logging
import os
import pickle
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hilum.errors import UnreadableError
from hilum.readers import Limits, read, read_arrays, read_header, read_isolated
from hilum.readers._quiet import quiet

CONVERT = "Convert it to PNG, TIFF or DICOM"
FORMATS = "PNG, JPEG, TIFF, DICOM, NIfTI, NPZ, NPY"


def saved(form: str, size: tuple[int, int] = (5, 4)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (1, 2, 3)).save(file, form)
    return file.getvalue()


def refusal(source: bytes | Path, **options: object) -> str:
    with pytest.raises(UnreadableError) as caught:
        read(source, **options)  # type: ignore[arg-type]
    return caught.value.reason


# What a file is ----------------------------------------------------------------------------------


def test_the_message_names_the_file_and_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "scan.png"
    path.write_bytes(b"")
    with pytest.raises(UnreadableError) as caught:
        read(path)
    assert str(caught.value) == f"{path}: the file is empty"
    with pytest.raises(UnreadableError, match=r"^upload\.png: the file is empty$"):
        read(b"", name="upload.png")


@pytest.mark.parametrize(
    ("form", "name"),
    [("GIF", "GIF"), ("BMP", "BMP"), ("WEBP", "WebP"), ("PPM", "Netpbm (PBM, PGM, PPM)"),
     ("JPEG2000", "JPEG 2000"), ("ICO", "ICO"), ("SGI", "SGI"), ("DDS", "DDS"), ("PDF", "PDF")],
)  # fmt: skip
def test_other_formats_are_named_with_what_to_do(form: str, name: str) -> None:
    assert refusal(saved(form)) == (
        f"{name} is not a format that Hilum reads. Convert it to PNG, TIFF or DICOM"
    )


def test_content_decides_but_a_name_must_not_promise_a_header(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.tif", "a"):
        (tmp_path / name).write_bytes(saved("PNG"))
        assert read(tmp_path / name).facts.format == "PNG"
    assert refusal(saved("PNG"), name="a.dcm") == (
        "named as DICOM, but its content is PNG. Export it again, or rename it if PNG is right"
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"hello", f"not an image in any format that Hilum reads ({FORMATS})"),
        (bytes(4096), "nothing but zero bytes, as after a power failure or a failed copy"),
        (b"<html><body>", "SVG or HTML is not a format that Hilum reads. " + CONVERT),
        (pickle.dumps([1]), "a Python pickle is not a format that Hilum reads. " + CONVERT),
        (
            gzip.compress(b"hello", mtime=0),
            "a gzip file; only NIfTI is read compressed (.nii.gz). Unpack it first",
        ),
    ],
)  # fmt: skip
def test_what_is_no_image(data: bytes, reason: str) -> None:
    assert refusal(data) == reason


def test_what_is_no_file(tmp_path: Path) -> None:
    assert refusal(tmp_path) == "a folder, not a file"
    assert refusal(tmp_path / "none.png") == "no such file or directory"
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe") == "not a regular file"


def test_only_dicom_has_a_header_and_only_archives_have_arrays() -> None:
    with pytest.raises(UnreadableError, match="a PNG file has no DICOM header"):
        read_header(saved("PNG"), ["PatientID"])
    with pytest.raises(UnreadableError, match="PNG holds no named arrays"):
        read_arrays(saved("PNG"))


# Limits ------------------------------------------------------------------------------------------


def test_limits_are_stated_in_the_message() -> None:
    wide = saved("PNG", (60, 2))
    assert refusal(wide, limits=Limits(max_edge=50)) == (
        "2 × 60 pixels: the longer edge exceeds the limit of 50 pixels. Cut or shrink the picture"
    )
    assert refusal(wide, limits=Limits(max_pixels=100)) == (
        "2 × 60 pixels exceed the limit of 100 pixels a frame. Shrink the picture"
    )
    assert refusal(wide, limits=Limits(max_bytes=100)) == (
        "0 MiB of pixels exceed the limit of 0 MiB. Split or shrink the file"
    )


def test_the_size_of_the_file_is_limited(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(saved("PNG"))
    reason = refusal(path, limits=Limits(max_file_bytes=10))
    assert reason == "0 MiB exceed the limit of 0 MiB a file"


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bombs() -> dict[str, bytes]:
    """Return small files that promise or inflate to far more than they should."""
    zeros = zlib.compress(bytes(64 * 2**20), 1)
    start = b"\x89PNG\r\n\x1a\n"
    huge = start + chunk(b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 1, 0, 0, 0, 0))
    blank = start + chunk(b"IHDR", struct.pack(">IIBBBBB", 8000, 8000, 8, 2, 0, 0, 0))
    small = start + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
    end = chunk(b"IEND", b"")
    text = chunk(b"zTXt", b"k\0\0" + zeros)
    nifti = bytearray(352)
    nifti[:4], nifti[344:348] = struct.pack("<i", 348), b"n+1\0"
    struct.pack_into("<8h", nifti, 40, 3, 30000, 30000, 2, 1, 1, 1, 1)
    struct.pack_into("<hh", nifti, 70, 4, 16)
    struct.pack_into("<f", nifti, 108, 352)
    archive = io.BytesIO()
    np.savez_compressed(archive, images=np.zeros((64, 1024, 1024), np.uint8))
    jpeg = bytearray(saved("JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
    return {
        "huge header": huge + chunk(b"IDAT", b"") + end,
        "blank": blank + chunk(b"IDAT", zlib.compress(bytes(8000 * 24001), 1)) + end,
        "more than promised": small + chunk(b"IDAT", zeros) + end,
        "compressed text": small + text + chunk(b"IDAT", zlib.compress(bytes(72))) + end,
        "gzip": gzip.compress(bytes(nifti) + bytes(96 * 2**20), 1),
        "plain NIfTI": bytes(nifti),
        "archive": archive.getvalue(),
        "jpeg": bytes(jpeg),
        "many scans": saved("JPEG")[:-2] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" * 10**5,
    }


MEASURE = """
import json, resource, sys, time
from pathlib import Path
import imagecodecs, nibabel, pydicom, tifffile
from hilum.errors import UnreadableError
from hilum.readers import read
rows = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    try:
        read(path)
        reason = ""
    except UnreadableError as error:
        reason = error.reason
    spent = time.perf_counter() - start
    extra = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    rows[path.name] = [spent, extra / 1024, reason]
print(json.dumps(rows))
"""


def test_bombs_cost_neither_time_nor_memory(tmp_path: Path) -> None:
    for name, data in bombs().items():
        (tmp_path / name).write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, check=True
    )
    assert done.stderr == b""
    rows = json.loads(done.stdout)
    assert len(rows) == len(bombs())
    for name, (spent, megabytes, reason) in rows.items():
        assert spent < 1, name
        assert megabytes < 200, name
        assert reason, name


# Silence -----------------------------------------------------------------------------------------


def test_threads_leave_the_users_warnings_as_they_were() -> None:
    before = list(warnings.filters)
    inside = threading.Barrier(2)

    def one(first_out: bool) -> None:
        with quiet():
            inside.wait()
            if first_out:
                return
            warnings.warn("not heard", stacklevel=1)

    threads = [threading.Thread(target=one, args=(i == 0,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before
    assert not logging.getLogger("pydicom").disabled


def test_reading_in_threads_gives_the_same() -> None:
    data = saved("PNG", (64, 64))
    found: list[bool] = []

    def many() -> None:
        found.extend(bool((read(data).pixels == [1, 2, 3]).all()) for _ in range(20))

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 80


def test_importing_is_light() -> None:
    code = (
        "import sys, hilum.readers; heavy = {'pydicom', 'tifffile', 'imagecodecs', 'nibabel', "
        "'pandas', 'torch'}; print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"


# Isolation ---------------------------------------------------------------------------------------


def test_isolated_reading_gives_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(saved("PNG"))
    for source in (path, path.read_bytes()):
        here, there = read(source), read_isolated(source)
        np.testing.assert_array_equal(here.pixels, there.pixels)
        assert (here.value_range, here.facts) == (there.value_range, there.facts)
        there.pixels[:] = 0  # writable, as read's are


def test_isolated_refusals_are_the_same() -> None:
    with pytest.raises(UnreadableError, match=r"^upload: the file is empty$"):
        read_isolated(b"", name="upload")
    with pytest.raises(UnreadableError, match="no such file"):
        read_isolated(Path("none.png"))


def test_a_child_that_hangs_grows_or_dies_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved("PNG", (3000, 3000))
    with pytest.raises(UnreadableError, match=r"took longer than 0\.01 s$"):
        read_isolated(data, timeout_s=0.01)
    with pytest.raises(UnreadableError, match="memory"):
        read_isolated(data, memory_mb=40)
    killed = (sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    monkeypatch.setattr("hilum.readers._isolated.CHILD", killed)
    with pytest.raises(UnreadableError) as caught:
        read_isolated(data, name="upload")
    assert str(caught.value) == (
        "upload: reading it crashed or ran out of memory in a separate process"
    )
