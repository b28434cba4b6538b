from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from hilum.batches import Samples
from hilum.calls import Target
from hilum.corruptions import CORRUPTIONS, corrupt, middle_level
from hilum.model import ModelFacts
from hilum.pixels import Images
from hilum.progress import LogProgress
from hilum.robustness import (
    LEAST_IMAGES,
    choose_levels,
    measure_robustness,
    predict_corrupted,
)
from making import pictures

ALL_LEVELS = choose_levels(10**6, for_curves=True, for_threshold=False)

FACTS = cast(
    ModelFacts,
    SimpleNamespace(
        positive_index=1,
        class_names=("clear", "opacity"),
        target="classes",
        thresholds=0.5,
        class_shares=None,
    ),
)


def by_brightness(pixels: Images) -> NDArray[np.float64]:
    """Call bright images ill."""
    ill = np.asarray(pixels).mean(axis=(1, 2, 3)) / 255
    return np.stack([1 - ill, ill], axis=1)


def test_figures_at_the_locked_threshold() -> None:
    images = pictures(40, seed=1)
    labels = (np.arange(40) % 2).astype(np.int64)
    images[labels == 1] += 20
    val = Samples(images, labels, tuple(f"p{i // 2}" for i in range(40)))
    predictions = predict_corrupted(
        by_brightness, by_brightness(images), val, ALL_LEVELS, LogProgress()
    )
    found = measure_robustness(predictions, FACTS, val)
    assert found["robustness_on"]["n"] == 40
    assert set(found["robustness"]) == set(CORRUPTIONS)
    for name, points in found["robustness"].items():
        assert [point["level"] for point in points] == [0, *CORRUPTIONS[name].levels]
        for point in points:
            pixels = corrupt(images, name, point["level"]) if point["level"] else images
            score = by_brightness(pixels)[:, 1]
            assert point["auroc"]["value"] == pytest.approx(roc_auc_score(labels, score))
            called = score >= 0.5
            assert point["sensitivity"]["value"] == pytest.approx(called[labels == 1].mean())
            assert point["specificity"]["value"] == pytest.approx((~called)[labels == 0].mean())


def test_weighted_classes_are_called_over_their_shares() -> None:
    """At 0.7, 0.2 and 0.1 the rare class is called, though the common one is the likeliest."""
    shares = (0.8, 0.15, 0.05)
    facts = cast(
        ModelFacts,
        SimpleNamespace(
            positive_index=None, class_names=("a", "b", "c"), target="classes", thresholds=None,
            class_shares=shares, meaning=Target("classes", None, shares),
        ),
    )  # fmt: skip
    labels = (np.arange(30) % 3).astype(np.int64)
    val = Samples(pictures(30, seed=1), labels)

    def say(pixels: Images) -> NDArray[np.float64]:
        is_rare = np.arange(len(pixels)) % 3 == 2
        return np.where(is_rare[:, None], [0.7, 0.2, 0.1], [0.9, 0.05, 0.05])

    few = choose_levels(0, for_curves=True, for_threshold=False)
    predictions = predict_corrupted(say, say(val.pixels), val, few, LogProgress())
    for points in measure_robustness(predictions, facts, val)["robustness"].values():
        for point in points:  # all of a and of c are found, none of b
            assert point["sensitivity"]["value"] == pytest.approx(2 / 3)


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
    monkeypatch.setattr("hilum.robustness.CORRUPTIONS", {"darker": CORRUPTIONS["darker"]})
    predicted: list[int] = []

    def counting(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        predicted.append(len(pixels))
        return by_brightness(pixels)

    val = of_patients(400)
    levels = choose_levels(n_trained, for_curves=True, for_threshold=False)
    found = predict_corrupted(counting, by_brightness(val.pixels), val, levels, LogProgress())
    assert len(found.chosen) == n
    assert sum(predicted) == n_levels * n
    assert list(found.corrupted["darker"]) == list(CORRUPTIONS["darker"].levels[-n_levels:])
    sample = (
        "All validation images."
        if n == 400
        else f"A sample of {n} of 400 validation images, whole patients, to keep this short beside "
        "training."
    )
    few = "" if n_levels == 3 else " After so short a training, without the slightest changes."
    assert found.reason == sample + few


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("n_patients", [2, 6, 50])
def test_patients_of_many_images_give_some_of_them(n_patients: int, mixed: bool) -> None:
    """Whole ones would make the work as many times too long, or leave out a class."""
    patients = np.repeat(np.arange(n_patients), 3000 // n_patients)
    # Of one class each, or the first image of each patient ill.
    labels = np.r_[1, np.diff(patients)] if mixed else patients % 2
    val = Samples(pictures(len(labels), side=4), labels, tuple(f"p{k}" for k in patients))
    levels = choose_levels(30_000, for_curves=True, for_threshold=False)
    found = predict_corrupted(by_brightness, by_brightness(val.pixels), val, levels, LogProgress())
    n, chosen = len(found.chosen), found.chosen
    assert levels.n_affordable == 71
    assert 30 <= n <= 75  # a patient more, as what belongs together stays so
    assert not found.is_whole
    assert len(set(patients[chosen])) >= min(n_patients, 17)
    assert set(labels[chosen]) == {0, 1}
    if not mixed:
        assert np.ptp(np.diff(chosen)[np.diff(patients[chosen]) == 0]) <= 1
    assert found.reason == (
        f"A sample of {n} of 3,000 validation images, of patients with many some, evenly spaced, "
        "to keep this short beside training."
    )


def test_patients_of_more_classes_than_their_part_has_images_are_not_fewer() -> None:
    patients, labels = np.arange(3000) // 100, np.arange(3000) % 50
    val = Samples(pictures(3000, side=4), labels, tuple(f"p{k}" for k in patients))
    levels = choose_levels(30_000, for_curves=True, for_threshold=False)
    probs = np.full((3000, 50), 1 / 50)
    found = predict_corrupted(
        lambda images: probs[: len(images)], probs, val, levels, LogProgress()
    )
    assert len(found.chosen) <= 75
    assert len(set(patients[found.chosen])) >= 17


def test_middle_levels_stay_however_short_the_training() -> None:
    kept = {
        (for_curves, for_threshold): choose_levels(
            0, for_curves=for_curves, for_threshold=for_threshold
        ).by_corruption["blur"]
        for for_curves in (True, False)
        for for_threshold in (True, False)
    }
    _, middle, strongest = CORRUPTIONS["blur"].levels
    assert kept == {
        (True, True): (middle, strongest),
        (True, False): (strongest,),
        (False, True): (middle,),
        (False, False): (),
    }


def of_patients(n: int) -> Samples:
    """Images with labels in turns, and patients of four images each."""
    labels = (np.arange(n) % 2).astype(np.int64)
    return Samples(pictures(n, side=8), labels, tuple(f"p{i // 4}" for i in range(n)))


@pytest.mark.parametrize(("n_trained", "for_curves"), [(10**6, True), (0, True), (10**6, False)])
def test_a_threshold_is_chosen_at_the_middle_level(n_trained: int, for_curves: bool) -> None:
    val = of_patients(80)
    levels = choose_levels(n_trained, for_curves=for_curves, for_threshold=True)
    found = predict_corrupted(by_brightness, by_brightness(val.pixels), val, levels, LogProgress())
    assert found.at_middle_level.shape == (len(CORRUPTIONS), len(found.chosen), 2)
    for name, probs in zip(CORRUPTIONS, found.at_middle_level, strict=True):
        again = by_brightness(corrupt(val.pixels[found.chosen], name, middle_level(name)))
        assert np.array_equal(probs, again)
    if not for_curves:
        assert all(len(levels) == 1 for levels in found.corrupted.values())
        assert found.reason == "All validation images."


def test_where_no_patient_is_known_each_image_is_one_of_its_own() -> None:
    val = of_patients(400)
    levels = choose_levels(0, for_curves=True, for_threshold=False)
    alone = Samples(val.pixels, val.labels)
    named = Samples(val.pixels, val.labels, tuple(str(i) for i in range(400)))
    found, again = (
        predict_corrupted(by_brightness, by_brightness(each.pixels), each, levels, LogProgress())
        for each in (alone, named)
    )
    assert np.array_equal(found.chosen, again.chosen)
    figures = measure_robustness(found, FACTS, alone)
    assert figures == measure_robustness(again, FACTS, named)


@pytest.mark.parametrize("images", [1, 200])
def test_of_unknown_patients_nothing_is_said(images: int) -> None:
    """Copies of one file stay together as images of a patient do, without being called one."""
    val = Samples(
        pictures(400, side=8), np.arange(400) % 2, tuple(f"{i // images}" for i in range(400))
    )
    levels = choose_levels(0, for_curves=True, for_threshold=False)
    found = predict_corrupted(
        by_brightness,
        by_brightness(val.pixels),
        val,
        levels,
        LogProgress(),
        patients_known=False,
    )
    assert found.reason == (
        f"A sample of {len(found.chosen)} of 400 validation images, to keep this short beside "
        "training. After so short a training, without the slightest changes."
    )
