from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from hilum.cache import StoredImages, stored_images
from hilum.cache_rooms import cache_room
from hilum.calibration import log_losses
from hilum.dataset import Dataset, load_dataset
from hilum.fingerprint import Resolution
from hilum.preparation import DataOptions, plan
from hilum.progress import LogProgress
from hilum.resolution import (
    CLEARLY,
    choose_rows,
    compare_sides,
    held_out_losses,
    make_folds,
    try_sides,
)
from hilum.scan import scan
from hilum.settings import Settings, make_settings

MOST = 256

BEGUN = {"backbone": "hilum:efficientnet_lite0", "weights": "imagenet", "accelerator": "cpu"}


def draw_rings(folder: Path, n: int) -> Path:
    """Draw dots on 512 pixels, each image a patient's own; those of one class are thin rings."""
    folder.mkdir()
    rows = []
    for number in range(n):
        rng, label = np.random.default_rng(number), ("dot", "ring")[number % 2]
        image = Image.new("L", (512, 512), 40)
        draw = ImageDraw.Draw(image)
        for x, y in rng.integers(30, 480, (12, 2)):
            box = (x - 8, y - 8, x + 8, y + 8)
            if label == "ring":
                draw.ellipse(box, outline=220, width=2)
            else:
                draw.ellipse(box, fill=117)  # of about the same mean
        image.save(folder / f"{number}.png")
        rows.append({"path": f"{number}.png", "label": label, "patient": f"P{number}"})
    pd.DataFrame(rows).to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


def read_rings(folder: Path) -> tuple[Dataset, pd.DataFrame]:
    """Read 48 of them, all to be trained on."""
    dataset = load_dataset(draw_rings(folder / "rings", 48))
    samples = scan(dataset, LogProgress()).samples
    return dataset, samples.assign(split="train", group=samples["patient"])


def of_sides(*sides: int) -> list[Settings]:
    given = make_settings({**BEGUN, "channels": 1})
    return [given.model_copy(update={"input_height": n, "input_width": n}) for n in sides]


def test_a_side_that_hides_the_signs_is_told_from_one_that_shows_them(tmp_path: Path) -> None:
    dataset, samples = read_rings(tmp_path)
    candidates = of_sides(32, 256)
    busy = try_sides(dataset, samples, LogProgress(), candidates, 256, 0.0)
    assert (busy.needed, busy.losses) == (None, {})
    assert "too busy" in busy.reason
    found = try_sides(dataset, samples, LogProgress(), candidates, 256, 600.0)
    assert found.needed == 256
    assert found.losses[32] > 0.5 > found.losses[256]
    assert "48 training images" in found.reason


def test_no_image_outside_the_training_split_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, samples = read_rings(tmp_path)
    samples.loc[::3, "split"], samples.loc[1::8, "split"] = "test", "val"
    read: set[str] = set()

    def noted(of: Dataset, paths: Sequence[str], *others: Any, **more: Any) -> StoredImages:
        read.update(paths)
        return stored_images(of, paths, *others, **more)

    monkeypatch.setattr("hilum.decoded_samples.stored_images", noted)
    small = of_sides(32, 64)
    assert try_sides(dataset, samples, LogProgress(), small, 256, 600.0).losses
    assert read == set(samples["path"][samples["split"] == "train"])


def test_what_was_found_once_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, samples = read_rings(tmp_path)
    small = of_sides(32, 64)
    assert not try_sides(dataset, samples, LogProgress(), small, 256, 0.0).losses
    # Which is not kept, for it hangs on the time that there was.
    found = try_sides(dataset, samples, LogProgress(), small, 256, 600.0)
    assert found.losses

    def again(*_: object, **__: object) -> None:
        raise AssertionError("tried again")

    monkeypatch.setattr("hilum.resolution.find_features", again)
    assert try_sides(dataset, samples, LogProgress(), small, 256, 600.0) == found
    relabelled = samples.assign(label=list(reversed(samples["label"])))
    regrouped = samples.assign(group=[f"P{row // 2}" for row in range(len(samples))])
    others = [one.model_copy(update={"seed": 1}) for one in small]
    for table, candidates in ((relabelled, small), (regrouped, small), (samples, others)):
        with pytest.raises(AssertionError, match="tried again"):
            try_sides(dataset, table, LogProgress(), candidates, 256, 600.0)
    for kept in cache_room("trials").iterdir():
        kept.write_text("{}")
    with pytest.raises(AssertionError, match="tried again"):
        try_sides(dataset, samples, LogProgress(), small, 256, 600.0)


def test_losses_are_those_of_their_definition() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(20, 3)), rng.integers(0, 3, 20)
    probs = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    expected = [-np.log(row[label]) for row, label in zip(probs, labels, strict=True)]
    assert np.allclose(log_losses(scores, labels), expected)
    one, two = rng.normal(size=(20, 1)), rng.integers(0, 2, 20)
    sure = 1 / (1 + np.exp(-one[:, 0]))
    assert np.allclose(log_losses(one, two), -np.log(np.where(two == 1, sure, 1 - sure)))


def test_unknown_labels_lose_nothing() -> None:
    scores = np.array([[2.0, -1.0], [0.5, 3.0], [1.0, 1.0]])
    labels = np.array([[1, np.nan], [0, 1], [np.nan, np.nan]], dtype=np.float32)

    def loss(score: float, label: int) -> float:
        prob = 1 / (1 + np.exp(-score))
        return float(-np.log(prob if label else 1 - prob))

    expected = [loss(2.0, 1), (loss(0.5, 0) + loss(3.0, 1)) / 2, 0.0]
    assert np.allclose(log_losses(scores, labels), expected)


def test_each_image_is_judged_by_a_model_that_never_saw_its_patient() -> None:
    """Features name the patient and nothing else: what is held out cannot be told."""
    patients = np.arange(40)
    labels = np.random.default_rng(0).integers(0, 2, 40)
    features = np.repeat(np.eye(40), 5, axis=0)
    rows = np.repeat(patients, 5)
    whole = [(np.flatnonzero(rows % 5 != k), np.flatnonzero(rows % 5 == k)) for k in range(5)]
    losses = held_out_losses(features, labels[rows], whole, Settings(accelerator="cpu"))
    assert losses.mean() > 0.6


@pytest.mark.parametrize("n_patients", [30, 3000])
def test_patients_are_taken_whole_until_each_class_has_enough(n_patients: int) -> None:
    rng = np.random.default_rng(0)
    of_patient = (rng.random(n_patients) < 0.1).astype(np.int64)
    groups = np.repeat([f"P{k}" for k in range(n_patients)], 3)
    labels = np.repeat(of_patient, 3)
    rows = choose_rows(labels, groups, MOST, 0)
    assert np.array_equal(rows, np.sort(rows))
    assert set(np.unique(groups[rows], return_counts=True)[1]) == {3}
    wanted = np.minimum(np.bincount(labels), MOST // 2)
    assert (np.abs(np.bincount(labels[rows]) - wanted) <= 3).all()
    assert np.array_equal(rows, choose_rows(labels, groups, MOST, 0))


def test_of_patients_with_both_classes_those_images_are_taken_that_are_wanted() -> None:
    """Twelve healthy images and an ill one a patient, as slices are."""
    groups = np.repeat([f"P{k}" for k in range(200)], 13)
    labels = np.tile(np.arange(13) == 6, 200).astype(np.int64)
    rows = choose_rows(labels, groups, MOST, 0)
    counts = np.bincount(labels[rows])
    assert (np.abs(counts - MOST / 2) < 13).all()


def test_classes_of_too_few_images_are_left_out() -> None:
    labels = np.r_[np.zeros(60), np.ones(60), [2, 2]].astype(np.int64)
    rows = choose_rows(labels, np.arange(122).astype(str), MOST, 0)
    assert set(labels[rows]) == {0, 1}
    unknown = np.full((4, 2), np.nan, dtype=np.float32)
    several = np.r_[np.eye(2, dtype=np.float32).repeat(5, axis=0), unknown]
    assert choose_rows(several, np.arange(14).astype(str), MOST, 0).tolist() == list(range(10))


def test_where_no_class_has_enough_images_none_is_taken() -> None:
    labels = np.arange(12).repeat(4).astype(np.int64)
    assert choose_rows(labels, np.arange(48).astype(str), MOST, 0).size == 0


def test_a_patient_with_very_many_images_gives_some() -> None:
    groups = np.array(["many"] * 500 + [f"P{k}" for k in range(20)])
    labels = np.arange(520) % 2
    rows = choose_rows(labels, groups, MOST, 0)
    assert (groups[rows] == "many").sum() == 2 * round(MOST / 2 / 10)
    several = np.stack([labels, np.zeros(520)], axis=1).astype(np.float32)
    assert 20 < len(choose_rows(several, groups, MOST, 0)) <= 38


@pytest.mark.parametrize(("n_classes", "n_each"), [(20, 2), (60, 5), (100, 3)])
def test_many_classes_of_few_images_can_be_held_out_in_turn(n_classes: int, n_each: int) -> None:
    labels = np.arange(n_classes).repeat(n_each)
    groups = np.arange(len(labels)).astype(str)
    folds = make_folds(labels, groups, 0)
    assert len(folds) == min(5, n_each)
    assert sorted(np.concatenate([out for _, out in folds])) == list(range(len(labels)))
    for rest, _ in folds:
        assert set(labels[rest]) == set(labels)


def test_a_class_of_one_patient_cannot_be_held_out() -> None:
    labels = np.array([0, 1] * 20 + [2] * 6)
    groups = np.array([f"P{k}" for k in range(40)] + ["one"] * 6)
    assert make_folds(labels, groups, 0) == []
    assert make_folds(np.arange(60), np.arange(60).astype(str), 0) == []


def test_the_least_side_is_taken_that_is_not_clearly_worse() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(scale=0.1, size=(3, 200))
    groups = np.arange(200).astype(str)
    losses = {128: 0.70 + noise[0], 192: 0.41 + noise[1], 384: 0.40 + noise[2]}
    found = compare_sides(losses, groups)
    error = (losses[192] - losses[384]).std() / np.sqrt(200)
    assert losses[192].mean() - losses[384].mean() < CLEARLY * error
    assert found.needed == 192
    assert "0.70 with 128, 0.40 with 192 and 0.40 with 384 pixels" in found.reason
    assert found.reason.endswith("with less than 192 it is clearly worse.")
    alike = compare_sides({128: losses[192], 192: losses[384]}, groups)
    assert (alike.needed, alike.reason[-17:]) == (128, "not clearly less.")


def test_many_images_of_few_patients_prove_little() -> None:
    rng = np.random.default_rng(1)
    by_patient = rng.normal(scale=1.0, size=6)
    rows = np.repeat(np.arange(6), 100)
    losses = {128: 0.9 + by_patient[rows], 256: np.full(600, 0.5)}
    assert compare_sides(losses, np.arange(600).astype(str)).needed == 256
    assert compare_sides(losses, rows.astype(str)).needed == 128


def test_with_folds_no_held_out_image_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def noted(_: object, samples: pd.DataFrame, *__: object, **___: object) -> Resolution:
        tried.append(len(samples))
        return Resolution(None, "Noted.")

    monkeypatch.setattr("hilum.preparation.try_sides", noted)
    quick = {"epochs": 1}
    data = draw_rings(tmp_path / "rings", 80)
    plan(data, settings=quick, options=DataOptions(folds=3))
    assert not tried
    assert plan(data, settings=quick).resolution == Resolution(None, "Noted.")
    assert tried == [80]
