from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.fft
from PIL import Image

from hilum.auditing.alignment import (
    FIRST_SIDE,
    NEAR,
    Laying,
    Motion,
    _near_heights,
    detail,
    moved,
)
from hilum.auditing.duplicates import find_near_duplicates, least_agreement
from hilum.auditing.findings import Finding
from hilum.auditing.likeness import LEAST_COSINE, neighbours
from hilum.looks import LOOK_SIDE
from hilum.phantom import draw_chest
from hilum.preparation import prepare
from hilum.progress import LogProgress

N = 60


def look(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    image = Image.fromarray(pixels).resize((LOOK_SIDE, LOOK_SIDE), Image.Resampling.BILINEAR)
    return np.asarray(image)


def chests(n: int = N, *, size: tuple[int, int] = (160, 128)) -> list[np.ndarray[Any, Any]]:
    return [draw_chest(np.random.default_rng(seed), size=size) for seed in range(n)]


def table(n: int, **columns: list[str]) -> pd.DataFrame:
    samples = pd.DataFrame(
        {
            "path": [f"{i}.png" for i in range(n)],
            "label": "a",
            "patient": [f"p{i}" for i in range(n)],
            "given_split": "",
            "sha256": [f"hash{i}" for i in range(n)],
            "height": 160,
            "width": 128,
        }
    )
    return samples.assign(**columns)


def find(samples: pd.DataFrame, images: list[np.ndarray[Any, Any]]) -> Finding | None:
    looks = np.stack([look(image) for image in images])
    found = find_near_duplicates(samples, looks, progress=LogProgress()).findings
    return found[0] if found else None


def turned(pixels: np.ndarray[Any, Any], angle: float) -> np.ndarray[Any, Any]:
    return np.asarray(Image.fromarray(pixels).rotate(angle, Image.Resampling.BILINEAR))


def recompressed(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=40)
    return np.asarray(Image.open(stream))


def shifted(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    moved = np.zeros_like(pixels)
    moved[10:, :-8] = pixels[:-10, 8:]
    return moved


def test_chests_alone_are_no_copies() -> None:
    assert find(table(N), chests()) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x[:, ::-1], "flipped"),
        (lambda x: x[::-1], "flipped, turned by 180°"),
        (lambda x: turned(x, 10), "turned by 10°"),
        (lambda x: turned(x[:, ::-1], -7), "flipped, turned by 7°"),
        (recompressed, "same place"),
        (lambda x: np.clip(x * 0.7 + 40, 0, 255).astype(np.uint8), "same place"),
        (shifted, "shifted"),
        (lambda x: np.asarray(Image.fromarray(x).resize((80, 100))), "same place"),
    ],
)
def test_changed_copies_are_found(change: Any, words: str) -> None:
    images = chests()
    images[41] = change(images[7])
    found = find(table(N), images)
    assert found is not None
    assert (found.count, found.severity) == (1, "medium")
    assert found.paths == (("7.png", "41.png"),)
    assert found.examples == (f"7.png ~ 41.png ({words})",)


def test_what_a_cluster_crosses_decides_how_grave_it_is() -> None:
    images = chests()
    images[1], images[3] = turned(images[0], 5), turned(images[2], 5)
    patients = [f"p{i}" for i in range(N)]
    one = find(table(N, patient=["p", "p", "q", "q", *patients[4:]]), images)
    assert one is not None
    assert (one.severity, one.details["n_across_patients"]) == ("low", 0)
    splits = ["train", "train", "train", "test", *["train"] * (N - 4)]
    across = find(table(N, given_split=splits), images)
    assert across is not None
    assert (across.severity, across.details["n_across_splits"]) == ("high", 1)
    assert across.paths[0] == ("2.png", "3.png")
    assert (
        " 1 cluster lies across splits that came with the data: where these are kept, what is "
        "tested was learnt. Draw a new split with --new-split, which keeps copies together."
    ) in across.message
    classes = find(table(N, label=["a", "b", *["a"] * (N - 2)]), images)
    assert classes is not None
    assert (classes.severity, classes.details["n_across_classes"]) == ("high", 1)


def test_a_cluster_holds_all_files_of_one_original() -> None:
    images = chests()
    images[1], images[2], images[3] = images[0], turned(images[0], 6), images[0][:, ::-1]
    samples = table(N)
    samples.loc[1, "sha256"] = "hash0"
    found = find(samples, images)
    assert found is not None
    assert found.paths == (("0.png", "1.png", "2.png", "3.png"),)


def test_identical_files_are_left_to_another_check() -> None:
    images = chests()
    images[1] = images[0]
    samples = table(N)
    samples.loc[1, "sha256"] = "hash0"
    assert find(samples, images) is None


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5])
def test_few_images(n: int) -> None:
    looks = np.stack([look(image) for image in chests(5)])[:n]
    assert find_near_duplicates(table(n), looks, progress=LogProgress()).findings == ()


def test_blank_images_are_not_copies_of_each_other() -> None:
    images = chests()
    images[3:6] = [np.full((160, 128), value, np.uint8) for value in (0, 90, 255)]
    assert find(table(N), images) is None


@pytest.mark.parametrize(("n", "n_owners"), [(2, 1), (40, 40), (40, 1), (300, 300), (300, 20)])
@pytest.mark.parametrize("n_to_bound", [16, 4096])
def test_the_nearest_are_found_as_by_sorting_all(
    n: int, n_owners: int, n_to_bound: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of a few rows, and bounds from few columns."""
    monkeypatch.setattr("hilum.auditing.likeness.MOST_CELLS", 7 * n)
    monkeypatch.setattr("hilum.auditing.likeness.N_TO_BOUND", n_to_bound)
    rng = np.random.default_rng(n)
    vectors = rng.standard_normal((n, 12)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    owners = rng.permutation(np.arange(n) % n_owners)
    expected = set()
    cosines = vectors @ vectors.T
    for i in range(n):
        order = [j for j in np.argsort(-cosines[i]) if j != i and cosines[i, j] > LEAST_COSINE]
        others = [j for j in order if owners[j] != owners[i]][:5]
        same = [j for j in order if owners[j] == owners[i]][:2]
        expected |= {(min(i, j), max(i, j)) for j in (*others, *same)}
    found = neighbours(vectors, owners, (5, 2), LogProgress())
    assert [tuple(pair) for pair in found.tolist()] == sorted(expected)


def test_no_images_have_no_neighbours() -> None:
    empty = neighbours(np.empty((0, 12), np.float32), np.empty(0, int), (5, 2), LogProgress())
    assert empty.shape == (0, 2)


def test_threshold_follows_what_is_usual() -> None:
    rng = np.random.default_rng(0)
    assert least_agreement(np.tanh(rng.normal(0.0, 0.05, 300))) == 0.75
    assert least_agreement(np.tanh(rng.normal(0.1, 0.6, 300))) == 0.97
    middling = least_agreement(np.tanh(rng.normal(0.1, 0.2, 300)))
    assert middling == pytest.approx(np.tanh(0.95), abs=0.06)
    assert least_agreement(np.full(10, 0.2)) == 0.9


def test_copies_stay_in_one_split(tmp_path: Path) -> None:
    for n, pixels in enumerate(chests()):
        folder = tmp_path / "ab"[n % 2]
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{n}.png")
        if n < 20:
            Image.fromarray(turned(pixels, 6)).save(folder / f"{n}_copy.png")
    prepared = prepare(tmp_path)
    samples = prepared.samples.set_index("path")
    n_together = 0
    for n in range(20):
        pair = samples.loc[[f"{'ab'[n % 2]}/{n}{end}.png" for end in ("", "_copy")]]
        n_together += pair["group"].nunique() == 1
        assert pair["group"].nunique() > 1 or pair["split"].nunique() == 1
    assert n_together >= 17
    assert prepared.split.reasons[-1] == (
        "Near duplicates were kept together: 80 patients (or images without one) became "
        f"{80 - n_together} groups, named in samples.csv."
    )


def test_heights_at_near_shifts_are_those_of_the_whole_transform() -> None:
    rng = np.random.default_rng(0)
    spectra = scipy.fft.rfft2(rng.normal(size=(3, FIRST_SIDE, FIRST_SIDE)).astype(np.float32))
    whole = scipy.fft.irfft2(spectra)
    assert _near_heights(spectra) == pytest.approx(whole[:, NEAR][:, :, NEAR], abs=1e-5)


def test_a_search_taken_up_again_for_some_pairs_ends_where_it_would_have() -> None:
    rng = np.random.default_rng(0)
    firsts = detail(rng.normal(size=(4, 64, 64)).astype(np.float32), 0.7, 4.0)
    n = len(firsts)
    motion = Motion(np.full(n, 0.05), np.zeros(n), np.zeros((n, 2)), np.zeros(n, bool), np.ones(n))
    seconds = moved(firsts, motion)
    still = dataclasses.replace(motion, angle=np.zeros(n))
    whole = Laying(firsts, seconds, still).go_on(12)
    assert whole.angle == pytest.approx(motion.angle, abs=0.005)
    begun = Laying(firsts, seconds, still)
    begun.go_on(4)
    chosen = np.array([True, False, True, False])
    assert np.array_equal(begun.take(chosen).go_on(8).angle, whole.angle[chosen])
