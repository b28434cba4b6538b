from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from hilum.batches import Samples
from hilum.errors import SettingError
from hilum.linear_probe import (
    PLAIN_STRENGTH,
    STRENGTHS,
    choose_strength,
    fit_line,
    train_probe,
)
from hilum.losses import validation_loss
from hilum.networks import Network
from hilum.progress import LogProgress
from hilum.settings import Settings, make_settings
from hilum.training import network_logits

PLAIN = Settings(accelerator="cpu")


def draw(n: int = 200, n_classes: int = 2, seed: int = 0) -> tuple[Any, Any]:
    """Features of very different sizes, one of them empty, and classes that they tell somewhat."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    features = rng.normal(size=(n, 6)) + 0.8 * np.eye(6)[labels]
    features = features * [1, 10, 1e-3, 100, 1, 0] + [0, 5, 0, -300, 1, 2]
    return features, labels.astype(np.int64)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("strength", [0.01, 10.0])
def test_a_line_says_what_a_regression_on_standardised_features_says(
    n_classes: int, strength: float
) -> None:
    features, labels = draw(n_classes=n_classes)
    line = fit_line(features, labels, strength, PLAIN, 1 if n_classes == 2 else n_classes)
    scores = features @ line.weights.T + line.intercepts
    # What varies less than half of the features do is not blown up to their size.
    deviation = features.std(axis=0)
    plain = (
        features
        * np.minimum(deviation / np.median(deviation), 1)
        / np.where(deviation > 0, deviation, 1)
    )
    scaler = StandardScaler(with_std=False)
    expected = make_pipeline(scaler, LogisticRegression(C=strength, max_iter=300))
    expected.fit(plain, labels)
    found = expected.decision_function(plain).reshape(len(labels), -1)
    assert np.allclose(scores, found, atol=1e-6)


def test_a_feature_that_hardly_varied_does_not_decide() -> None:
    features, labels = draw()
    features[:, 4] = 2 + 1e-6 * features[:, 4]
    line = fit_line(features, labels, 10.0, PLAIN, 1)
    other = features[0].copy()
    other[4] += 0.1
    moved = (other - features[0]) @ line.weights.T
    assert np.abs(moved).max() < 0.5


def test_labels_of_their_own_are_fitted_where_they_are_known() -> None:
    settings = PLAIN.model_copy(update={"target": "multilabel"})
    features, first = draw()
    labels = np.stack([first, 1 - first, np.ones(len(first))], axis=1).astype(np.float32)
    labels[::3, 1] = np.nan
    line = fit_line(features, labels, 1.0, settings, 3)
    known = ~np.isnan(labels[:, 1])
    alone = fit_line(features[known], (1 - first)[known], 1.0, PLAIN, 1)
    scores = features @ line.weights.T + line.intercepts
    # Standardised on other images, the penalty differs a little.
    assert np.corrcoef(scores[:, 1], (features @ alone.weights.T)[:, 0])[0, 1] > 0.999
    assert (scores[:, 2] > 3).all()  # always there, so far


def test_a_class_without_a_training_image_scores_low() -> None:
    features, labels = draw(n_classes=3)
    for absent in ([0, 1], [0, 2]):
        rows = np.isin(labels, absent)
        line = fit_line(features[rows], labels[rows], 1.0, PLAIN, 4)
        scores = features @ line.weights.T + line.intercepts
        assert set(scores.argmax(axis=1)) == set(absent)


def test_patients_with_many_copies_do_not_choose_a_free_model() -> None:
    rng = np.random.default_rng(1)
    # Noise that names the patient: only patients held out whole tell that nothing is learnt.
    patients, labels = rng.normal(size=(40, 30)), rng.integers(0, 2, 40)
    rows = np.repeat(np.arange(40), 5)
    features = patients[rows] + 0.01 * rng.normal(size=(200, 30))
    features /= features.std(axis=0)  # none varies more than another
    groups = rows.astype(str)
    strength, reason = choose_strength(features, labels[rows], groups, PLAIN)
    free, _ = choose_strength(features, labels[rows], np.arange(200).astype(str), PLAIN)
    assert strength <= 1e-3 < 1 <= free
    assert f"{len(STRENGTHS)} tried, on held-out training patients in 5 folds" in reason


def test_too_few_patients_are_said_to_be() -> None:
    features, labels = draw(4)
    strength, reason = choose_strength(features, labels, np.array(["a", "a", "b", "b"]), PLAIN)
    assert (strength, "too few patients" in reason) == (0.01, True) or strength in STRENGTHS
    one = choose_strength(features, labels, np.array(["a"] * 4), PLAIN)
    assert one == (0.01, "Linear model with C = 0.01, by default: too few patients to choose by.")


def test_held_out_patients_of_one_class_are_no_reason_to_warn() -> None:
    features, labels = draw()
    patients = np.array([f"{label}-{i % 3}" for i, label in enumerate(labels)])
    strength, reason = choose_strength(features, labels, patients, PLAIN)
    assert strength in STRENGTHS
    assert "least log loss" in reason


def test_images_of_one_class_or_an_unknown_label_leave_the_strength_as_it_is() -> None:
    features, labels = draw()
    patients = np.arange(len(labels)).astype(str)
    one_class = choose_strength(features, np.ones_like(labels), patients, PLAIN)
    several = Settings(accelerator="cpu", target="multilabel")
    truth = np.stack([labels, np.full(len(labels), np.nan)], axis=1).astype(np.float32)
    assert one_class[0] == PLAIN_STRENGTH
    assert choose_strength(features, truth, patients, several)[0] in STRENGTHS


def test_images_go_through_the_backbone_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    plain = Network.feature_map

    def counted(network: Network, images: Tensor) -> Tensor:
        seen.append(len(images))
        return plain(network, images)

    monkeypatch.setattr(Network, "feature_map", counted)
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 1), dtype=np.uint8)
    labels = np.arange(24) % 2
    train, val = Samples(pixels[:16], labels[:16]), Samples(pixels[16:], labels[16:])
    begun = {"backbone": "hilum:efficientnet_lite0", "weights": "imagenet", "accelerator": "cpu"}
    settings = Settings(**begun, probe=True, input_height=32, input_width=32, channels=1)
    trained = train_probe(train, val, settings, ["a", "b"], tmp_path, LogProgress())
    assert sum(seen) == 24
    logits = network_logits(trained.network, train.pixels)
    expected = validation_loss(logits, train.labels, settings)
    assert trained.history["train_loss"][0] == pytest.approx(expected, rel=1e-4)


def test_a_probe_is_one_network() -> None:
    with pytest.raises(SettingError, match="probe fits one model, since each would be the same"):
        make_settings({"backbone": "timm:x", "weights": "w", "probe": True, "members": 2})
