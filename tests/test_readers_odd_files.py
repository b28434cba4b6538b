"""The collection of broken, hostile and unusual files: each read or refused as its manifest says.

The manifest was made by running Pillow, pydicom and nibabel. Where it is wrong, `DISPUTED` says
why.
"""

from __future__ import annotations

import csv
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from hilum.errors import UnreadableError
from hilum.readers import read

DATA = Path(os.environ.get("HILUM_DATA") or Path(__file__).parents[2] / "shared" / "data")
ROOT = DATA / "odd-files"
pytestmark = pytest.mark.skipif(
    not ROOT.is_dir(), reason="needs real files in HILUM_DATA, with a folder odd-files"
)

MOST_S, MOST_MB = 2.0, 300.0

DISPUTED = {
    "pillow/hopper_bad_exif.jpg": (
        "refuse",
        "its picture data are corrupt: nearly all of its restart intervals hold more "
        "coefficients than a block has, or end early; Pillow shows garbage without a word",
    ),
    "image-png/bugfixes/x_interlaced_chck.png": (
        "refuse",
        "the checksum of its picture data is wrong, which Pillow does not look at; its own "
        "collection expects decoders to reject it",
    ),
}
OTHER_MODES = {
    "pngsuite/basn4a16.png": ("LA", "grey with alpha; Pillow widens it to RGBA"),
    "pngsuite/bggn4a16.png": ("LA", "grey with alpha; Pillow widens it to RGBA"),
}


def rows() -> list[dict[str, str]]:
    if not ROOT.is_dir():
        return []
    with (ROOT / "MANIFEST.csv").open(newline="") as file:
        return list(csv.DictReader(file))


ROWS = rows()
IMAGES = [row for row in ROWS if row["expect"] == "read" and row["path"] not in DISPUTED]


@pytest.mark.parametrize("row", IMAGES, ids=lambda row: str(row["path"]))
def test_read_with_size_and_mode(row: dict[str, str]) -> None:
    picture = read(ROOT / row["path"])
    n_frames, height, width, n_channels = picture.pixels.shape
    numbers = [int(n) for n in row["observed_size"].split("x")]
    if row["family"] == "image":
        turned = "after orientation" in row["expected"] and row["orientation"] in (
            "5",
            "6",
            "7",
            "8",
        )
        # The manifest gives TIFF as Pillow shows it, already turned.
        stored_turned = turned and not row["path"].endswith(("tif", "tiff"))
        assert (height, width) == tuple(numbers if stored_turned else numbers[::-1])
        mode, _ = OTHER_MODES.get(row["path"], (row["observed_mode"], ""))
        assert picture.facts.mode == mode
        grey = mode in ("1", "L", "LA", "I", "I;16", "F")
        assert n_channels == (1 if grey else 3)
    elif row["family"] == "dicom":
        stated = [n_frames] if n_frames > 1 else []
        in_colour = row["photometric"] not in ("MONOCHROME1", "MONOCHROME2")
        samples = [3] if in_colour and row["photometric"] != "PALETTE COLOR" else []
        assert [*stated, height, width, *samples] == numbers
        assert picture.facts.mode == row["photometric"]
        assert n_channels == (3 if in_colour else 1)
    else:
        columns, lines, *others = numbers
        assert (width, height) == (columns, lines)
        assert n_frames == others[0] * (others[1] if len(others) > 1 else 1)


@pytest.mark.parametrize(
    "path",
    [row["path"] for row in ROWS if row["expect"] == "refuse"] + sorted(DISPUTED),
)
def test_refused_by_one_message(path: str) -> None:
    with pytest.raises(UnreadableError) as caught:
        read(ROOT / path)
    message = str(caught.value)
    assert message.startswith(f"{ROOT / path}: ")
    assert len(caught.value.reason) > 10
    assert "\n" not in message


MEASURE = """
import json, os, sys, tempfile, time
import imagecodecs, nibabel, tifffile  # imported once, not in each of 403 children
from hilum.readers import _dicom
from hilum.errors import UnreadableError
from hilum.readers import read
root, paths = sys.argv[1], json.load(sys.stdin)
results = {}
for path in paths:
    ours, theirs = os.pipe()
    words = tempfile.TemporaryFile()
    child = os.fork()
    if child == 0:
        os.dup2(words.fileno(), 1)
        os.dup2(words.fileno(), 2)
        start = time.perf_counter()
        try:
            read(os.path.join(root, path))
        except UnreadableError:
            pass
        os.write(theirs, str(time.perf_counter() - start).encode())
        os._exit(0)
    os.close(theirs)
    _, status, usage = os.wait4(child, 0)
    spent = os.read(ours, 100)
    os.close(ours)
    words.seek(0)
    results[path] = [status, float(spent or -1), usage.ru_maxrss / 1024, words.read().decode()]
print(json.dumps(results))
"""


def test_each_within_time_and_memory_and_without_a_word() -> None:
    paths = [row["path"] for row in ROWS]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(ROOT)],
        input=json.dumps(paths).encode(),
        capture_output=True,
        check=True,
    )
    results = json.loads(done.stdout)
    assert len(results) == len(paths)
    for path, (status, spent, megabytes, words) in results.items():
        assert (status, words) == (0, ""), path
        assert 0 <= spent < MOST_S, path
        assert megabytes < MOST_MB, path


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".dcm", ".nii"])
def test_300_truncations_are_refused(suffix: str) -> None:
    whole = [
        (ROOT / row["path"]).read_bytes()
        for row in IMAGES
        if suffix in row["path"] and (ROOT / row["path"]).stat().st_size < 500_000
    ]
    rng = random.Random(0)
    for i in range(300):
        data = whole[i % len(whole)]
        with pytest.raises(UnreadableError):
            read(data[: rng.randrange(len(data))])


def test_single_bit_damage_in_300_pngs_is_refused() -> None:
    whole = [(ROOT / row["path"]).read_bytes() for row in IMAGES if row["path"].endswith(".png")]
    rng = random.Random(0)
    for i in range(300):
        data = bytearray(whole[i % len(whole)])
        at = rng.randrange(8 * len(data))
        data[at // 8] ^= 1 << at % 8
        with pytest.raises(UnreadableError):
            read(bytes(data))
