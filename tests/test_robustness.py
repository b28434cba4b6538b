from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from hilum.model import ModelFacts
from hilum.progress import LogProgress
from hilum.robustness import (
    CHANGES,
    LEAST_IMAGES,
    changed,
    choose_levels,
    measure_robustness,
    middle_level,
    predict_changed,
)

FACTS = cast(
    ModelFacts,
    SimpleNamespace(
        positive_index=1, class_names=("clear", "opacity"), target="classes", thresholds=0.5
    ),
)


def by_brightness(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Call bright images ill."""
    ill = pixels.mean(axis=(1, 2, 3)) / 255
    return np.stack([1 - ill, ill], axis=1)


def pictures(n: int, side: int = 24, channels: int = 1, seed: int = 0) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return rng.integers(60, 190, (n, side, side, channels), dtype=np.uint8)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_change_grows_with_its_level_and_repeats(name: str, channels: int) -> None:
    images = pictures(4, channels=channels)
    before = images.copy()
    far = []
    for level in CHANGES[name].levels:
        found = changed(images, name, level)
        assert found.shape == images.shape
        assert found.dtype == np.uint8
        assert np.array_equal(found, changed(images, name, level))
        far.append(float(np.abs(found.astype(int) - images).mean()))
    assert far[0] > 0
    # Turning noise further makes it no more unlike itself.
    assert far == sorted(far) or name == "rotation"
    assert np.array_equal(images, before)


def test_brightness_contrast_and_gamma_by_hand() -> None:
    image = np.array([[[[10], [100]], [[200], [250]]]], dtype=np.uint8)  # mean 140
    assert changed(image, "darker", 20).ravel().tolist() == [0, 49, 149, 199]
    assert changed(image, "brighter", 20).ravel().tolist() == [61, 151, 251, 255]
    assert changed(image, "less_contrast", 40).ravel().tolist() == [62, 116, 176, 206]
    expected = np.rint(255 * (image / 255) ** 2).ravel().tolist()
    assert changed(image, "gamma_above_1", 100).ravel().tolist() == expected


def test_figures_at_the_locked_threshold() -> None:
    images = pictures(40, seed=1)
    labels = (np.arange(40) % 2).astype(np.int64)
    images[labels == 1] += 20
    groups = [f"p{i // 2}" for i in range(40)]
    under_change = predict_changed(
        by_brightness, by_brightness(images), images, labels, groups, LogProgress(), n_trained=10**6
    )
    found = measure_robustness(under_change, FACTS, labels, groups)
    assert found["robustness_on"]["n"] == 40
    assert set(found["robustness"]) == set(CHANGES)
    for name, points in found["robustness"].items():
        assert [point["level"] for point in points] == [0, *CHANGES[name].levels]
        for point in points:
            pixels = changed(images, name, point["level"]) if point["level"] else images
            score = by_brightness(pixels)[:, 1]
            assert point["auroc"]["value"] == pytest.approx(roc_auc_score(labels, score))
            called = score >= 0.5
            assert point["sensitivity"]["value"] == pytest.approx(called[labels == 1].mean())
            assert point["specificity"]["value"] == pytest.approx((~called)[labels == 0].mean())


@pytest.mark.parametrize(
    ("n_trained", "most_pixels", "n", "n_levels"),
    [
        (10**6, 10**9, 400, 3),
        (0, 10**9, LEAST_IMAGES, 1),
        (10**6, 0, LEAST_IMAGES, 3),
        # A tenth of 4,000 images, over 3 predictions an image.
        (4000, 10**9, 132, 3),
        # A tenth of 1,500 is too little for 3 predictions of 64 images.
        (1500, 10**9, 76, 2),
        (800, 10**9, 80, 1),
        (10**6, 120 * 8 * 8, 120, 3),
    ],
)
def test_work_is_bounded_by_a_sample_of_patients(
    monkeypatch: pytest.MonkeyPatch, n_trained: int, most_pixels: int, n: int, n_levels: int
) -> None:
    monkeypatch.setattr("hilum.robustness.MOST_PIXELS", most_pixels)
    monkeypatch.setattr("hilum.robustness.CHANGES", {"darker": CHANGES["darker"]})
    predicted: list[int] = []

    def counting(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        predicted.append(len(pixels))
        return by_brightness(pixels)

    images, labels, groups = pictures(400, side=8), *of_patients(400)
    found = predict_changed(
        counting, by_brightness(images), images, labels, groups, LogProgress(), n_trained=n_trained
    )
    assert len(found.chosen) == n
    assert sum(predicted) == n_levels * n
    assert list(found.changed["darker"]) == list(CHANGES["darker"].levels[-n_levels:])
    sample = (
        "All validation images."
        if n == 400
        else f"A sample of {n} of 400 validation images, whole patients, to keep this short beside "
        "training."
    )
    few = "" if n_levels == 3 else " After so short a training, without the slightest changes."
    assert found.reason == sample + few


def test_middle_levels_stay_however_short_the_training() -> None:
    kept = {
        (for_curves, for_threshold): choose_levels(
            0, for_curves=for_curves, for_threshold=for_threshold
        )[0]["blur"]
        for for_curves in (True, False)
        for for_threshold in (True, False)
    }
    _, middle, strongest = CHANGES["blur"].levels
    assert kept == {
        (True, True): (middle, strongest),
        (True, False): (strongest,),
        (False, True): (middle,),
        (False, False): (),
    }


def of_patients(n: int) -> tuple[NDArray[np.int64], list[str]]:
    """Labels in turns, and patients of four images each."""
    return (np.arange(n) % 2).astype(np.int64), [f"p{i // 4}" for i in range(n)]


@pytest.mark.parametrize(("n_trained", "for_curves"), [(10**6, True), (0, True), (10**6, False)])
def test_a_threshold_is_chosen_at_the_middle_level(n_trained: int, for_curves: bool) -> None:
    images, labels, groups = pictures(80, side=8), *of_patients(80)
    found = predict_changed(
        *(by_brightness, by_brightness(images), images, labels, groups, LogProgress()),
        n_trained=n_trained,
        for_curves=for_curves,
        for_threshold=True,
    )
    assert found.middling.shape == (len(CHANGES), len(found.chosen), 2)
    for name, probs in zip(CHANGES, found.middling, strict=True):
        again = by_brightness(changed(images[found.chosen], name, middle_level(name)))
        assert np.array_equal(probs, again)
    if not for_curves:
        assert all(len(levels) == 1 for levels in found.changed.values())
