from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from hilum.auditing.labels import (
    confident_class,
    find_label_errors,
    fit_noise,
    predict_labels,
)
from hilum.auditing.quick_model import Study
from hilum.progress import LogProgress
from looks_made import make_looks
from test_auditing_shortcuts import Said


def confident_by_the_paper(y: list[int], probs: list[list[float]]) -> list[int]:
    """Find the class of each image one at a time, as the definition reads."""
    n_classes = len(probs[0])
    threshold = []
    for k in range(n_classes):
        own = [row[k] for row, label in zip(probs, y, strict=True) if label == k]
        threshold.append(sum(own) / len(own))
    found = []
    for row in probs:
        reached = [k for k in range(n_classes) if row[k] >= threshold[k]]
        found.append(max(reached, key=lambda k: row[k]) if reached else -1)
    return found


def noisy(
    n: int, n_classes: int, share: float, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.bool_]]:
    """Draw true classes, well calibrated scores for them, and labels some of which are wrong."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(n, n_classes)) * 4
    probs = np.exp(scores - scores.max(axis=1, keepdims=True))
    probs /= probs.sum(axis=1, keepdims=True)
    true = (rng.uniform(size=(n, 1)) > probs.cumsum(axis=1)).sum(axis=1)
    wrong = rng.uniform(size=n) < share
    other = (true + rng.integers(1, n_classes, size=n)) % n_classes
    return scores, np.where(wrong, other, true).astype(np.intp), wrong


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_the_confident_class_is_that_of_the_paper(n_classes: int) -> None:
    scores, y, _ = noisy(300, n_classes, 0.1, seed=n_classes)
    probs = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    by_the_paper = confident_by_the_paper(y.tolist(), probs.tolist())
    assert confident_class(y, probs).tolist() == by_the_paper


def test_a_confident_class_by_hand() -> None:
    y = np.array([0, 0, 0, 1, 1], dtype=np.intp)
    probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.3, 0.7], [0.45, 0.55]])
    # Means: 0.6 for class 0 and 0.625 for class 1; the last image reaches neither.
    assert confident_class(y, probs).tolist() == [0, 0, 1, 1, -1]


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("share", [0.02, 0.08])
def test_the_share_of_wrong_labels_is_recovered(n_classes: int, share: float) -> None:
    # Scores are half of what they should be, as a careful model's are.
    scores, y, wrong = noisy(4000, n_classes, share, seed=1)
    noise = fit_noise(scores / 2, y)
    assert noise.temperature == pytest.approx(0.5, rel=0.15)
    assert noise.share == pytest.approx(share, rel=0.4)
    assert noise.evidence > 20
    assert noise.doubt.sum() == pytest.approx(wrong.sum(), rel=0.3)
    # Doubts are probabilities: of those above one half, so many are wrong.
    sure = noise.doubt > 0.5
    assert wrong[sure].mean() == pytest.approx(noise.doubt[sure].mean(), abs=0.12)


def test_right_labels_seldom_give_evidence() -> None:
    alarms = sum(fit_noise(*noisy(200, 2, 0.0, seed)[:2]).evidence >= 2.0 for seed in range(40))
    assert alarms <= 4


def test_wrong_labels_are_found() -> None:
    samples, looks, y = make_looks(200, contrast=100)
    wrong = np.random.default_rng(3).choice(200, 8, replace=False) * 2  # one image of a patient
    labels = samples["label"].to_numpy(dtype=object).copy()
    labels[wrong] = [f"class {1 - y[i]}" for i in wrong]
    samples["label"] = labels
    samples["given_split"] = np.where(np.arange(400) % 4 < 2, "train", "test")
    [found] = find_label_errors(samples, looks, progress=LogProgress()).findings
    assert (found.kind, found.severity) == ("label_errors", "medium")
    expected = {f"{i}.png" for i in wrong}
    paths = [path for (path,) in found.paths]
    assert len(expected & set(paths)) >= 7
    assert len(set(paths) - expected) <= 2
    assert found.count == len(paths)
    first = found.details["suspects"][0]
    row = samples.set_index("path").loc[first["path"]]
    assert (first["label"], first["split"]) == (row["label"], row["given_split"])
    assert first["suggested"] != first["label"]
    assert first["doubt"] >= found.details["suspects"][-1]["doubt"] >= 0.3
    assert found.details["expected_wrong"] == pytest.approx(8, abs=3)
    assert f"{first['path']} ({first['label']}, {first['split']}): rather" in found.examples[0]
    json.dumps(found.to_dict())


def test_images_of_a_patient_with_one_label_are_judged_together() -> None:
    samples, looks, _ = make_looks(160, n_images=3, contrast=140)
    other = {"class 0": "class 1", "class 1": "class 0"}
    ill = samples["patient"].isin(["p7", "p20", "p33", "p58", "p91", "p120"])
    samples["label"] = samples["label"].where(~ill, samples["label"].map(other))
    [found] = find_label_errors(samples, looks, progress=LogProgress()).findings
    suspects = found.details["suspects"]
    assert {one["path"] for one in suspects} >= set(samples["path"][ill])
    owner = dict(zip(samples["path"], samples["patient"], strict=True))
    doubts: dict[str, set[float]] = {}
    for one in suspects:
        doubts.setdefault(owner[one["path"]], set()).add(one["doubt"])
    assert all(len(values) == 1 for values in doubts.values())


@pytest.mark.parametrize("n_classes", [2, 4])
def test_right_labels_are_left_in_peace(n_classes: int) -> None:
    samples, looks, _ = make_looks(120, n_classes=n_classes, contrast=80)
    assert find_label_errors(samples, looks, progress=LogProgress()).findings == ()


def test_a_weak_model_accuses_nobody() -> None:
    samples, looks, _ = make_looks(80, contrast=0)
    said = Said()
    assert find_label_errors(samples, looks, progress=said).findings == ()
    [line] = said.lines
    assert line.startswith(
        "Wrong labels were not looked for: the small model that would contradict them has an AUROC"
    )
    why = find_label_errors(samples, looks, progress=said).not_looked_for["label_errors"]
    assert line == f"Wrong labels were not looked for: {why}."


@pytest.mark.parametrize("contrast", [0, 80])
def test_of_many_images_a_part_is_tried_first(
    contrast: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hilum.auditing.labels.MANY_IMAGES", 300)
    monkeypatch.setattr("hilum.auditing.labels.N_TRIED", 200)
    asked: list[int] = []

    def predict(looks: NDArray[np.uint8], study: Study) -> NDArray[np.float64]:
        asked.append(len(study))
        return predict_labels(looks, study)

    monkeypatch.setattr("hilum.auditing.labels.predict_labels", predict)
    samples, looks, _ = make_looks(200, contrast=contrast)
    found = find_label_errors(samples, looks, progress=LogProgress())
    if contrast:
        assert asked == [200, 400]
        assert found.not_looked_for == {}
        return
    assert asked == [200]
    why = found.not_looked_for["label_errors"]
    assert why.endswith(", less than 0.8, tried on 200 of 400 images")


def test_too_few_images_are_not_judged() -> None:
    samples, looks, _ = make_looks(20)
    said = Said()
    assert find_label_errors(samples, looks, progress=said).findings == ()
    assert said.lines == ["Wrong labels were not looked for: there are 40 images, fewer than 50."]
    found = find_label_errors(samples, looks, progress=said)
    assert found.not_looked_for == {"label_errors": "there are 40 images, fewer than 50"}
