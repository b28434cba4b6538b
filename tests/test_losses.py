from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from hilum.losses import (
    class_weights,
    classification_loss,
    log_priors,
    make_loss,
    multilabel_loss,
    ordinal_loss,
    validation_scores,
    why_no_auroc,
)
from hilum.settings import Settings

SETTINGS = Settings()
NAN = math.nan


def slow_loss(
    logits: list[list[float]],
    labels: list[int],
    weights: list[float],
    towards: list[float],
    smoothing: float,
    loss: str,
) -> float:
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        exps = [math.exp(value) for value in ([0.0, *row] if len(row) == 1 else row)]
        probs = [value / sum(exps) for value in exps]
        k = len(probs)
        target = [(1 - smoothing) * (i == label) + smoothing * towards[i] for i in range(k)]
        pairs = list(zip(target, probs, strict=True))
        if loss == "cross_entropy":
            of_image = -sum(t * math.log(p) for t, p in pairs)
        else:
            of_image = -sum(t * math.log(p) + (1 - t) * math.log(1 - p) for t, p in pairs) / k
        total += weights[label] * of_image
    return total / len(labels)


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("logits", [[[0.3], [-2.0], [1.5]], [[1.0, 2, -1], [0, 0, 0], [3, -3, 1]]])
@pytest.mark.parametrize("rarity", ["none", "root", "balanced"])
def test_loss_agrees_with_a_slow_one(
    loss: str, smoothing: float, logits: list[list[float]], rarity: str
) -> None:
    settings = Settings(loss=loss, label_smoothing=smoothing, class_weights=rarity)
    n_classes = max(2, len(logits[0]))
    labels, counts = [0, 1, n_classes - 1], [16, 4, 1][:n_classes]
    of_training = np.repeat(np.arange(n_classes), counts)
    compute = make_loss(settings, of_training, n_classes, torch.device("cpu"))
    found = compute(torch.tensor(logits), torch.tensor(labels))
    rarities = [n ** -{"none": 0.0, "root": 0.5, "balanced": 1.0}[rarity] for n in counts]
    mean = sum(map(math.prod, zip(rarities, counts, strict=True))) / sum(counts)
    weights = [each / mean for each in rarities]
    in_loss = [w * n / sum(counts) for w, n in zip(weights, counts, strict=True)]
    towards = in_loss if rarity != "none" else [1 / n_classes] * n_classes
    expected = slow_loss(logits, labels, weights, towards, smoothing, loss)
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_binary_cross_entropy_stays_finite_when_sure() -> None:
    settings = SETTINGS.model_copy(update={"loss": "binary_cross_entropy"})
    logits = torch.tensor([[90.0], [-90.0]], requires_grad=True)
    loss = classification_loss(logits, torch.tensor([0, 1]), torch.ones(2), settings)
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_balanced_weights_make_every_class_count_alike() -> None:
    labels = np.array([0] * 9 + [1] * 3)
    settings = SETTINGS.model_copy(update={"class_weights": "balanced"})
    weights = class_weights(labels, 2, settings)
    assert 9 * weights[0] == pytest.approx(float(3 * weights[1]))
    assert class_weights(labels, 2, SETTINGS).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
@pytest.mark.parametrize("target", ["classes", "ordinal"])
@pytest.mark.parametrize("rarity", ["balanced", "root"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_priors_make_the_best_outputs_those_of_the_images_as_they_come(
    loss: str, target: str, rarity: str, smoothing: float
) -> None:
    """Of images that look alike, each class has its share among them; few of a batch are rare."""
    labels = torch.tensor([0] * 12 + [1] * 3 + [2])
    settings = Settings(loss=loss, target=target, class_weights=rarity, label_smoothing=smoothing)
    priors = log_priors(labels.numpy(), 3, settings)
    assert priors is not None
    taken = np.array([12, 3, 1]) ** {"balanced": 1, "root": 0.5}[rarity]
    assert np.exp(priors) == pytest.approx(taken / taken.sum())
    compute = make_loss(settings, labels.numpy(), 3, torch.device("cpu"))
    logits = (torch.tensor([12 / 16, 3 / 16, 1 / 16]).log() - torch.tensor(priors)).float()
    logits.requires_grad_()
    for batch in torch.split(labels, 4):
        compute(logits.expand(4, 3), batch).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.allclose(logits.grad, torch.zeros(3), atol=1e-5)


def test_smoothing_leaves_the_call_of_a_surely_common_image() -> None:
    """A floor in common would, over the share of a class of one in 500, be more than anything."""
    labels = torch.tensor([0] * 355 + [1] * 144 + [2])
    settings = Settings(class_weights="root", label_smoothing=0.05)
    priors = log_priors(labels.numpy(), 3, settings)
    assert priors is not None
    compute = make_loss(settings, labels.numpy(), 3, torch.device("cpu"))
    logits = torch.zeros(1, 3, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=100)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = compute(logits, torch.tensor([0]))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(step)  # type: ignore[no-untyped-call]
    probs = np.exp(logits.detach().numpy()[0] + priors)
    shares = np.array([355, 144, 1]) / 500
    over_shares = probs / probs.sum() / shares
    assert over_shares[0] > 10 * over_shares[1:].max()


def test_priors_of_two_classes_and_of_labels() -> None:
    balanced = Settings(class_weights="balanced")
    assert log_priors(np.array([0] * 9 + [1] * 3), 2, balanced) == pytest.approx([np.log(3 / 9)])
    several = Settings(target="multilabel", class_weights="balanced")
    labels = np.array([[1, 0], [0, NAN], [0, 1], [0, 0], [NAN, NAN]], dtype=np.float32)
    assert log_priors(labels, 2, several) == pytest.approx(np.log([1 / 3, 1 / 2]))
    assert log_priors(labels, 2, Settings(target="multilabel")) is None


def test_root_weights_lie_between() -> None:
    labels = np.array([0] * 9 + [1])
    weights = class_weights(labels, 2, Settings(class_weights="root")).numpy()
    assert weights[1] / weights[0] == pytest.approx(3)
    assert weights[labels].mean() == pytest.approx(1)


def test_multilabel_weights_are_those_of_two_classes_among_the_known() -> None:
    settings = Settings(target="multilabel", class_weights="balanced")
    labels = np.array([[1, 0], [0, NAN], [0, 1], [0, 0], [NAN, NAN]], dtype=np.float32)
    weights = class_weights(labels, 2, settings)
    assert weights.flatten().tolist() == pytest.approx([4 / 6, 4 / 2, 3 / 4, 3 / 2])
    plain = class_weights(labels, 2, Settings(target="multilabel"))
    assert torch.equal(plain, torch.ones(2, 2))


def slow_multilabel_loss(
    logits: list[list[float]], labels: list[list[float]], weights: torch.Tensor, smoothing: float
) -> float:
    total, n_known = 0.0, 0
    for row, truths in zip(logits, labels, strict=True):
        for k, (value, truth) in enumerate(zip(row, truths, strict=True)):
            if math.isnan(truth):
                continue
            p = 1 / (1 + math.exp(-value))
            target = truth * (1 - smoothing) + smoothing / 2
            weight = float(weights[k, int(truth)])
            total -= weight * (target * math.log(p) + (1 - target) * math.log(1 - p))
            n_known += 1
    return total / n_known


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_multilabel_loss_agrees_with_a_slow_one_and_spares_the_unknown(smoothing: float) -> None:
    settings = Settings(target="multilabel", label_smoothing=smoothing)
    logits = [[0.3, -1.0, 2.0], [4.0, 0.0, -2.0], [-0.5, 1.5, 0.2]]
    labels = [[1.0, NAN, 0.0], [NAN, NAN, NAN], [0.0, 1.0, 1.0]]
    weights = torch.tensor([[1.0, 2.0], [0.5, 3.0], [1.0, 1.0]])
    z = torch.tensor(logits, requires_grad=True)
    found = multilabel_loss(z, torch.tensor(labels), weights, settings)
    assert found.item() == pytest.approx(
        slow_multilabel_loss(logits, labels, weights, smoothing), rel=1e-5
    )
    found.backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    known = ~torch.tensor(labels).isnan()
    assert torch.isfinite(z.grad).all()
    assert (z.grad[~known] == 0).all()
    assert (z.grad[known] != 0).all()


def test_a_batch_of_which_nothing_is_known_costs_nothing() -> None:
    logits = torch.tensor([[0.3, -1.0]], requires_grad=True)
    settings = Settings(target="multilabel")
    loss = multilabel_loss(logits, torch.full((1, 2), NAN), torch.ones(2, 2), settings)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_ordinal_loss_agrees_with_a_slow_one() -> None:
    settings = Settings(target="ordinal")
    logits, labels = [[1.0, 2.0, -1.0, 0.5], [0.0, 3.0, 0.0, 0.0]], [3, 1]
    weights = [1.0, 2.0, 0.5, 4.0]
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        exps = [math.exp(value) for value in row]
        probs = [value / sum(exps) for value in exps]
        distance = sum((sum(probs[: k + 1]) - float(label <= k)) ** 2 for k in range(3)) / 3
        total += weights[label] * (distance - math.log(probs[label]))
    found = ordinal_loss(
        torch.tensor(logits), torch.tensor(labels), torch.tensor(weights), settings
    )
    assert float(found) == pytest.approx(total / 2, rel=1e-5)


def test_a_grade_far_off_costs_more_than_its_neighbour() -> None:
    loss = make_loss(Settings(target="ordinal"), np.arange(4), 4, torch.device("cpu"))
    logits = torch.tensor([[6.0, 0.0, 0.0, 0.0]])
    costs = [float(loss(logits, torch.tensor([grade]))) for grade in range(4)]
    assert costs == sorted(costs)
    assert len(set(costs)) == 4


def test_make_loss_weighs_by_all_training_labels() -> None:
    settings = Settings(class_weights="balanced")
    labels = np.array([0] * 9 + [1] * 3)
    loss = make_loss(settings, labels, 2, torch.device("cpu"))
    logits, some = torch.tensor([[0.4], [-0.1]]), torch.tensor([0, 1])
    weights = class_weights(labels, 2, settings)
    assert torch.equal(loss(logits, some), classification_loss(logits, some, weights, settings))


def sigmoid(z: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-z.astype(np.float64))))


def test_validation_scores_of_two_classes() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(40, 1)).astype(np.float32), rng.integers(0, 2, 40)
    scores = validation_scores(logits, labels, SETTINGS)
    p = sigmoid(logits[:, 0])
    assert scores["val_auroc"] == pytest.approx(roc_auc_score(labels, p))
    assert scores["val_balanced_accuracy"] == balanced_accuracy_score(labels, p > 0.5)
    assert scores["val_loss"] == pytest.approx(
        -np.log(np.where(labels == 1, p, 1 - p)).mean(), rel=1e-5
    )


def test_validation_scores_of_several_labels_spare_the_unknown_and_the_one_sided() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(60, 3)).astype(np.float32)
    labels = rng.integers(0, 2, (60, 3)).astype(np.float32)
    labels[rng.random((60, 3)) < 0.3] = NAN
    labels[:, 2] = np.where(np.isnan(labels[:, 2]), NAN, 0)  # never present
    smoothed = Settings(target="multilabel", label_smoothing=0.1, class_weights="balanced")
    scores = validation_scores(logits, labels, smoothed)
    rows = [~np.isnan(labels[:, k]) for k in range(2)]
    pairs = [(labels[rows[k], k], logits[rows[k], k]) for k in range(2)]
    assert scores["val_auroc"] == pytest.approx(np.mean([roc_auc_score(*pair) for pair in pairs]))
    assert scores["val_balanced_accuracy"] == pytest.approx(
        np.mean([balanced_accuracy_score(y, z >= 0) for y, z in pairs])
    )
    known = ~np.isnan(labels)
    p = np.where(labels == 1, sigmoid(logits), 1 - sigmoid(logits))[known]
    assert scores["val_loss"] == pytest.approx(-np.log(p).mean(), rel=1e-5)


def test_the_loss_on_validation_is_of_the_images_as_they_come() -> None:
    """By a network that learnt weighted classes, and knows nothing else of the images."""
    labels = np.array([0] * 12 + [1] * 3 + [2])
    balanced = Settings(class_weights="balanced")
    even = np.zeros((16, 3), dtype=np.float32)
    loss = validation_scores(even, labels, balanced, log_priors(labels, 3, balanced))["val_loss"]
    shares = np.array([12, 3, 1]) / 16
    assert loss == pytest.approx(-(shares * np.log(shares)).sum())
    assert validation_scores(even, labels, balanced)["val_loss"] == pytest.approx(np.log(3))


@pytest.mark.parametrize("rarity", ["root", "balanced"])
def test_on_validation_weighted_classes_are_called_over_their_shares(rarity: str) -> None:
    """Of probabilities of 0.6, 0.25 and 0.15 the last says the most, whatever weights took."""
    labels = np.array([0] * 12 + [1] * 3 + [2])
    settings = Settings(class_weights=rarity)
    priors = log_priors(labels, 3, settings)
    assert priors is not None
    natural = np.tile(np.log([0.6, 0.25, 0.15]), (16, 1))
    raw = (natural - priors).astype(np.float32)
    scores = validation_scores(raw, labels, settings, priors)
    assert scores["val_balanced_accuracy"] == pytest.approx(1 / 3)
    only_rare = validation_scores(raw[-1:], labels[-1:], settings, priors)
    assert only_rare["val_balanced_accuracy"] == 1


def test_validation_scores_of_grades() -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(50, 4)).astype(np.float32)
    labels = rng.integers(0, 4, 50)
    scores = validation_scores(logits, labels, Settings(target="ordinal"))
    exps = np.exp(logits.astype(np.float64))
    probs = exps / exps.sum(axis=1, keepdims=True)
    cuts = [roc_auc_score(labels >= k, probs[:, k:].sum(axis=1)) for k in (1, 2, 3)]
    assert scores["val_auroc"] == pytest.approx(np.mean(cuts))
    expected = [  # least expected distance
        min(range(4), key=lambda g: sum(p * abs(g - k) for k, p in enumerate(row))) for row in probs
    ]
    assert scores["val_balanced_accuracy"] == balanced_accuracy_score(labels, expected)


def test_the_auroc_of_very_sure_networks_is_that_of_their_logits() -> None:
    logits, labels = np.array([[18.0], [19.0]], dtype=np.float32), np.array([0, 1])
    assert validation_scores(logits, labels, SETTINGS)["val_auroc"] == 1
    three = np.array([[0, 0, 40], [0, 0, 39], [41, 0, 0], [0, 42, 0]], dtype=np.float32)
    assert validation_scores(three, np.array([2, 1, 0, 1]), SETTINGS)["val_auroc"] == 1
    graded = SETTINGS.model_copy(update={"target": "ordinal"})
    grades = np.array([2, 1, 0, 1])
    assert validation_scores(three, grades, graded)["val_auroc"] == 1


def test_an_unknown_auroc_is_told_in_words_and_not_warned_of() -> None:
    logits = np.zeros((3, 1), dtype=np.float32)
    assert math.isnan(validation_scores(logits, np.ones(3, dtype=int), SETTINGS)["val_auroc"])
    assert why_no_auroc(np.array([1, 1, 1]), ["cat", "dog"]) == (
        "The AUROC on validation stays unknown (nan): all 3 validation images are dog."
    )
    assert why_no_auroc(np.array([[1, np.nan], [np.nan, 0]]), ["a", "b"]) == (
        "The AUROC on validation stays unknown (nan): no label is present in some validation "
        "images and absent in others."
    )
    assert why_no_auroc(np.array([0, 1]), ["cat", "dog"]) == ""
    assert why_no_auroc(np.array([[1, 1], [0, 1]]), ["a", "b"]) == ""


@pytest.mark.parametrize("target", ["classes", "ordinal", "multilabel"])
def test_scores_are_no_numbers_once_training_diverged(target: str) -> None:
    labels = np.array([0, 1, 2]) if target != "multilabel" else np.eye(3, dtype=np.float32)
    settings = SETTINGS.model_copy(update={"target": target})
    scores = validation_scores(np.full((3, 3), np.nan, dtype=np.float32), labels, settings)
    assert all(math.isnan(value) for value in scores.values())
