from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from hilum.inference import Model
from hilum.progress import LogProgress
from hilum.robustness import CHANGES, LEAST_IMAGES, changed, measure_robustness


class Point:
    threshold = 0.5


class Facts:
    operating_point = Point()
    positive_index = 1
    class_names = ("clear", "opacity")
    target = "classes"
    thresholds = Point.threshold


class ByBrightness:
    """A model that calls bright images ill."""

    facts = Facts()
    class_names = ("clear", "opacity")

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
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
    model = cast(Model, ByBrightness())
    found = measure_robustness(model, images, labels, groups, LogProgress(), n_trained=10**6)
    assert found["robustness_on"]["n"] == 40
    assert set(found["robustness"]) == set(CHANGES)
    for name, points in found["robustness"].items():
        assert [point["level"] for point in points] == [0, *CHANGES[name].levels]
        for point in points:
            pixels = changed(images, name, point["level"]) if point["level"] else images
            score = model.probabilities(pixels)[:, 1]
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
        # A tenth of 4,000 images, over 4 predictions an image.
        (4000, 10**9, 100, 3),
        # A tenth of 2,000 is too little for 4 predictions of 64 images.
        (2040, 10**9, 68, 2),
        (1600, 10**9, 80, 1),
        (10**6, 120 * 8 * 8, 120, 3),
    ],
)
def test_work_is_bounded_by_a_sample_of_patients(
    monkeypatch: pytest.MonkeyPatch, n_trained: int, most_pixels: int, n: int, n_levels: int
) -> None:
    monkeypatch.setattr("hilum.robustness.MOST_PIXELS", most_pixels)
    monkeypatch.setattr("hilum.robustness.CHANGES", {"darker": CHANGES["darker"]})
    predicted: list[int] = []

    class Counting(ByBrightness):
        def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
            predicted.append(len(pixels))
            return super().probabilities(pixels)

    images = pictures(400, side=8)
    labels = (np.arange(400) % 2).astype(np.int64)
    groups = [f"p{i // 4}" for i in range(400)]
    found: dict[str, Any] = measure_robustness(
        cast(Model, Counting()), images, labels, groups, LogProgress(), n_trained=n_trained
    )
    about = found["robustness_on"]
    assert about["n"] == n
    assert sum(predicted) == (1 + n_levels) * n
    levels = [point["level"] for point in found["robustness"]["darker"]]
    assert levels == [0, *CHANGES["darker"].levels[-n_levels:]]
    sample = (
        "All validation images."
        if n == 400
        else f"A sample of {n} of 400 validation images, whole patients, to keep this short beside "
        "training."
    )
    few = "" if n_levels == 3 else " After so short a training, the strongest changes alone."
    assert about["reason"] == sample + few
