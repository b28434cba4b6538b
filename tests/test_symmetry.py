from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from hilum import symmetry
from hilum.dataset import load_dataset
from hilum.progress import LogProgress
from hilum.scan import scan
from hilum.symmetry import MIRRORS, PLACES, Side, compact, find_sides, mirrored

SIDE = 64
Looks = NDArray[np.uint8]


def blobs(places: Sequence[tuple[float, float]], rng: np.random.Generator) -> Looks:
    """Draw one bright blob an image, centred at (row, column), on a noisy ground."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    looks = np.empty((len(places), SIDE, SIDE), np.uint8)
    for number, (row, column) in enumerate(places):
        blob = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 200)
        looks[number] = np.clip(60 + 150 * blob + rng.normal(0, 15, blob.shape), 0, 255)
    return looks


def tell(looks: Looks, classes: Sequence[str] | None = None) -> dict[str, Side]:
    n = len(looks)
    named = [[name] for name in classes or ["a"] * n]
    found = find_sides(looks, np.arange(n), [f"{k}" for k in range(n)], named)
    assert tuple(found) == MIRRORS
    return {str(mirror): side for mirror, side in found.items()}


def kinds(found: dict[str, Side]) -> tuple[str, str, str]:
    return found["horizontal"].kind, found["vertical"].kind, found["transpose"].kind


def centred(n: int, rng: np.random.Generator) -> list[tuple[float, float]]:
    return [(31.5 + dy, 31.5 + dx) for dy, dx in rng.normal(0, 2, (n, 2))]


def test_a_heart_on_the_left_is_a_side() -> None:
    rng = np.random.default_rng(0)
    places = [(row, column - 6) for row, column in centred(100, rng)]
    assert kinds(tell(blobs(places, rng))) == ("sided", "symmetric", "sided")


def test_what_lies_above_is_no_side_from_left_to_right() -> None:
    rng = np.random.default_rng(1)
    places = [(row - 6, column) for row, column in centred(100, rng)]
    assert kinds(tell(blobs(places, rng))) == ("symmetric", "sided", "sided")


def test_round_cells_have_no_side() -> None:
    rng = np.random.default_rng(2)
    assert kinds(tell(blobs(centred(400, rng), rng))) == ("symmetric",) * 3


def test_patches_that_do_not_line_up_have_none_however_few() -> None:
    rng = np.random.default_rng(3)
    looks = np.stack([blobs(rng.uniform(0, SIDE, (1, 2)).tolist(), rng)[0] for _ in range(40)])
    found = tell(looks)
    assert "sided" not in kinds(found)


def test_too_few_to_tell() -> None:
    rng = np.random.default_rng(4)
    found = tell(blobs(centred(9, rng), rng))
    assert kinds(found) == ("undecided",) * 3
    assert found["horizontal"].reason == (
        "9 training patients with anything to see are too few to tell whether the images have a "
        "side left to right."
    )
    wide = [(31.5 + dy, 31.5 + dx) for dy, dx in rng.normal(0, 5, (14, 2))]
    assert tell(blobs(wide, rng))["horizontal"].reason == (
        "The training images line up, and are too few to tell whether they have a side left to "
        "right."
    )


def test_classes_that_are_each_other_mirrored_are_told_apart() -> None:
    """A left and a right knee: all together have no side, and a flip would exchange the classes."""
    rng = np.random.default_rng(5)
    left = [(row, column - 8) for row, column in centred(60, rng)]
    right = [(row, column + 8) for row, column in centred(60, rng)]
    looks = blobs(left + right, rng)
    assert tell(looks)["horizontal"].kind != "sided"
    assert tell(looks, ["left"] * 60 + ["right"] * 60)["horizontal"].kind == "sided"


@pytest.mark.parametrize(
    ("pixels", "share", "kind"),
    [
        (4, 1.0, "sided"),
        (4, 0.75, "sided"),
        (6, 0.5, "sided"),
        (4, 0.25, "symmetric"),
        (2, 1.0, "symmetric"),
    ],
)
def test_a_bright_marker_in_a_corner_is_a_side_where_it_is_large_and_in_most_images(
    pixels: int, share: float, kind: str
) -> None:
    """Of images that have no side else; the limits stand in docs/planning.md."""
    rng = np.random.default_rng(12)
    looks = blobs(centred(400, rng), rng)
    looks[rng.random(400) < share, 3 : 3 + pixels, 3 : 3 + pixels] = 255
    assert tell(looks)["horizontal"].kind == kind


def test_images_of_one_patient_are_one_witness() -> None:
    """Eleven patients with a blob on whichever side, thirty images each, are no 330 patients."""
    rng = np.random.default_rng(6)
    columns = [23, 40, 23, 40, 23, 40, 23, 23, 40, 23, 23]  # seven of eleven on the left
    looks = blobs([(31.5, column) for column in columns for _ in range(30)], rng)
    groups = [f"{patient}" for patient in range(11) for _ in range(30)]
    names = [["a"]] * len(looks)
    by_patient = find_sides(looks, np.arange(len(looks)), groups, names)["horizontal"]
    by_image = find_sides(looks, np.arange(len(looks)), [f"{k}" for k in range(len(looks))], names)[
        "horizontal"
    ]
    assert by_image.kind == "sided"
    assert by_patient.kind == "undecided"
    assert by_patient.p is not None
    assert by_patient.p > 0.1


@pytest.mark.parametrize("most", [12, 60, 100])
def test_of_patients_with_many_images_some_are_looked_at(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty patients, thirty images each: whole ones would be too few to tell."""
    monkeypatch.setattr(symmetry, "MOST_IMAGES", most)
    rng = np.random.default_rng(12)
    places = [(row, column - 6) for row, column in centred(20, rng)]
    looks = blobs([place for place in places for _ in range(30)], rng)
    groups = [f"{patient}" for patient in range(20) for _ in range(30)]
    seen: list[int] = []

    def counting(looks: Looks) -> NDArray[np.float32]:
        seen.append(len(looks))
        return compact(looks)

    monkeypatch.setattr(symmetry, "compact", counting)
    found = find_sides(looks, np.arange(len(looks)), groups, [["a"]] * len(looks))
    assert found["horizontal"].kind == "sided"
    assert seen == [most]


def test_only_the_named_rows_are_read() -> None:
    rng = np.random.default_rng(7)
    train = blobs(centred(50, rng), rng)
    test = blobs([(10, 10)] * 50, rng)
    args = ([f"{k}" for k in range(50)], [["a"]] * 50)
    alone = find_sides(train, np.arange(50), *args)
    beside = find_sides(np.concatenate([test, train]), np.arange(50, 100), *args)
    assert alone == beside


def test_images_without_contrast_tell_nothing() -> None:
    found = tell(np.full((30, SIDE, SIDE), 7, np.uint8))
    assert kinds(found) == ("undecided",) * 3
    assert found["vertical"].p is None


def test_the_p_value_is_that_of_all_sign_changes() -> None:
    """Held against every way to mirror ten patients, by a plain loop; one class, so no maximum."""
    rng = np.random.default_rng(8)
    looks = blobs([(32, 32 + shift) for shift in rng.normal(3, 6, 10)], rng)
    found = tell(looks)["horizontal"]
    seen = compact(looks)
    exact = []
    for signs in itertools.product((False, True), repeat=10):
        flipped = [
            image[:, ::-1] if sign else image for image, sign in zip(seen, signs, strict=True)
        ]
        mean = np.mean(flipped, axis=0)
        exact.append(((mean - mean[:, ::-1]) ** 2).sum())
    p = float(np.mean(np.array(exact) >= exact[0] * (1 - 1e-5)))
    assert found.p == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / 999) + 1e-3)


def test_false_alarms_are_as_rare_as_stated() -> None:
    rng = np.random.default_rng(9)
    sided = 0
    for _ in range(60):
        looks = blobs(centred(25, rng), rng)
        sided += tell(looks, ["a", "b", "c", "d", "e"] * 5)["horizontal"].kind == "sided"
    assert sided <= 3  # .01 of 60; four or more have a chance of .003


def test_compact_looks_have_no_brightness_of_their_own() -> None:
    rng = np.random.default_rng(10)
    looks = blobs(centred(3, rng), rng)
    small = compact(looks)
    assert small.shape == (3, PLACES, PLACES)
    np.testing.assert_allclose(small.mean(axis=(1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(small.std(axis=(1, 2)), 1, atol=1e-5)
    np.testing.assert_allclose(compact(looks // 2), small, atol=0.1)


@pytest.mark.parametrize("mirror", MIRRORS)
def test_mirrored_twice_is_as_before(mirror: str) -> None:
    images = np.random.default_rng(11).normal(size=(2, 8, 8)).astype(np.float32)
    once = mirrored(images, mirror)  # type: ignore[arg-type]
    assert not np.array_equal(once, images)
    np.testing.assert_array_equal(mirrored(once, mirror), images)  # type: ignore[arg-type]


# -- real training images ------------------------------------------------------------------------


def _some(path: Path, n: int) -> tuple[pd.DataFrame, Looks]:
    """Scan about n images of a folder, spread over its classes and patients."""
    dataset = load_dataset(path)
    table = dataset.table.sort_values("path").iloc[:: max(1, len(dataset) // n)]
    scanned = scan(replace(dataset, table=table), LogProgress())
    return scanned.samples, scanned.looks


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("chest-xray/train", ("sided", "sided", "sided")),
        ("malaria-cells", ("symmetric", "symmetric", "symmetric")),
        ("brain-mri", ("symmetric", "sided", "sided")),
    ],
)
def test_real_anatomy(hilum_data: Path, folder: str, expected: tuple[str, ...]) -> None:
    samples, looks = _some(hilum_data / folder, 300)
    patients = samples["patient"].where(samples["patient"] != "", samples["path"])
    rows = np.flatnonzero(~samples["excluded"])
    named = [[name] for name in samples["label"].iloc[rows]]
    found = find_sides(looks, rows, list(patients.iloc[rows]), named)
    assert tuple(side.kind for side in found.values()) == expected
