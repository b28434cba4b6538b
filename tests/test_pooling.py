from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import hilum
from hilum.calibration import class_probabilities, sigmoid
from hilum.calls import Target
from hilum.pooling import (
    POOLINGS,
    LockedPooling,
    Pooling,
    choose_pooling,
    count_mixed,
    number_patients,
    pool_labels,
    pool_probabilities,
    seal,
)

TWO, MANY = Target("classes", 1), Target("classes", None)
GRADES, SEVERAL = Target("ordinal", None), Target("multilabel", None)


def slowly(rows: list[list[float]], method: Pooling, target: Target) -> list[float]:
    """Pool the images of one patient by the definitions, one number after another."""
    n = len(rows[0])
    columns = [[row[k] for row in rows] for k in range(n)]
    if method == "mean_probability":
        return [sum(column) / len(column) for column in columns]
    if method == "mean_logits" and target.kind == "multilabel":
        logits = [sum(math.log(p / (1 - p)) for p in c) / len(c) for c in columns]
        return [1 / (1 + math.exp(-z)) for z in logits]
    if method == "mean_logits":
        raised = [math.prod(column) ** (1 / len(column)) for column in columns]
        return [value / sum(raised) for value in raised]
    if target.kind == "multilabel":
        return [max(column) for column in columns]
    if target.positive is not None:
        found = max(columns[target.positive])
        return [found if k == target.positive else 1 - found for k in range(n)]
    if target.kind == "ordinal":
        reached = [max(sum(row[k:]) for row in rows) for k in range(n)] + [0.0]
        return [reached[k] - reached[k + 1] for k in range(n)]
    highest = [max(column) for column in columns]
    return [value / sum(highest) for value in highest]


def some_probs(rng: np.random.Generator, n: int, k: int, target: Target) -> NDArray[np.float64]:
    if target.kind == "multilabel":
        return rng.uniform(0.01, 0.99, (n, k))
    raised = np.exp(rng.normal(size=(n, k)))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("method", POOLINGS)
@pytest.mark.parametrize(("target", "k"), [(TWO, 2), (MANY, 4), (GRADES, 4), (SEVERAL, 3)])
def test_scores_are_those_of_a_slow_loop(method: Pooling, target: Target, k: int) -> None:
    rng = np.random.default_rng(k)
    probs = some_probs(rng, 40, k, target)
    patients = np.r_[np.arange(9), rng.integers(0, 9, 31)]
    found = pool_probabilities(probs, patients, method, target)
    for patient in range(9):
        wanted = slowly(probs[patients == patient].tolist(), method, target)
        assert found[patient] == pytest.approx(wanted, abs=1e-12)
    if target.kind != "multilabel":
        assert found.sum(axis=1) == pytest.approx(1)


def test_two_classes_are_pooled_by_the_mean_of_their_logits() -> None:
    probs = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    found = pool_probabilities(probs, [0, 0, 1], "mean_logits", TWO)
    z = (math.log(0.1 / 0.9) + math.log(0.8 / 0.2)) / 2
    assert found[0, 1] == pytest.approx(1 / (1 + math.exp(-z)))
    assert found[1].tolist() == [0.6, 0.4]


@pytest.mark.parametrize("target", [TWO, MANY, GRADES, SEVERAL])
@pytest.mark.parametrize("method", ["mean_logits", "maximum"])
def test_patients_that_a_model_is_sure_of_stay_in_order(method: Pooling, target: Target) -> None:
    z = np.array([[40.0, 50], [41, 52], [45, 54], [90, 100], [92, 140]]).ravel()
    several = np.stack([-z, -z, z], axis=1)
    if target.kind == "multilabel":
        probs = sigmoid(several)
    else:
        probs = class_probabilities(z[:, None] if target is TWO else several / 2)
    found = pool_probabilities(probs, np.repeat(np.arange(5), 2), method, target)
    for k in range(found.shape[1]):
        steps = np.diff(found[:, k])
        assert (steps > 0).all() if k == found.shape[1] - 1 else (steps < 0).all()


@pytest.mark.parametrize("method", POOLINGS)
def test_a_single_image_keeps_its_probability_to_the_last_digit(method: Pooling) -> None:
    probs = np.array([[1.0, 0.0], [1e-12, 1 - 1e-12], [1 / 3, 2 / 3]])
    found = pool_probabilities(probs, [2, 0, 1], method, TWO)
    assert found[[2, 0, 1]].tolist() == probs.tolist()


def test_certain_images_leave_a_finite_score() -> None:
    probs = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [1.0, 0.0]])
    found = pool_probabilities(probs, [0, 0, 1, 1], "mean_logits", TWO)
    assert np.isfinite(found).all()
    assert found[1] == pytest.approx([0.5, 0.5])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_pooled_score_lies_among_those_of_the_images_and_no_order_matters(data: Any) -> None:
    n = data.draw(st.integers(1, 12))
    p = np.array(data.draw(st.lists(st.floats(0, 1), min_size=n, max_size=n)))
    patients = np.array(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    patients = np.unique(patients, return_inverse=True)[1]
    probs = np.stack([1 - p, p], axis=1)
    shuffled = data.draw(st.permutations(range(n)))
    for method in POOLINGS:
        found = pool_probabilities(probs, patients, method, TWO)[:, 1]
        for patient, score in enumerate(found):
            own = p[patients == patient]
            assert own.min() - 1e-6 <= score <= own.max() + 1e-6
        again = pool_probabilities(probs[shuffled], patients[shuffled], method, TWO)[:, 1]
        assert again == pytest.approx(found, abs=1e-12)


def test_what_cannot_be_pooled_is_refused() -> None:
    with pytest.raises(hilum.SettingError) as unknown:
        pool_probabilities(np.ones((1, 2)) / 2, [0], "mean_logit", TWO)  # type: ignore[arg-type]
    assert str(unknown.value) == (
        "Unknown pooling 'mean_logit'. Did you mean 'mean_logits'? It is one of mean_logits, "
        "mean_probability, maximum."
    )
    with pytest.raises(hilum.DataError, match="give numbers in"):
        pool_probabilities(np.array([[2.0, -1.0]]), [0], "maximum", TWO)
    with pytest.raises(hilum.DataError, match="holds what is no probability"):
        pool_probabilities(np.array([[np.nan, 0.5]]), [0], "maximum", TWO)
    with pytest.raises(hilum.DataError, match="one row of probabilities for each image"):
        pool_probabilities(np.ones((2, 2)) / 2, [0], "maximum", TWO)


def test_labels_that_all_images_share_and_those_that_differ() -> None:
    patients = [0, 0, 1, 1, 2]
    assert pool_labels([1, 1, 0, 0, 1], patients, TWO).tolist() == [1, 0, 1]
    assert pool_labels([0, 1, 0, 0, 1], patients, TWO).tolist() == [1, 0, 1]
    # The positive class may be the first.
    assert pool_labels([0, 1, 1, 1, 1], patients, Target("classes", 0)).tolist() == [0, 1, 1]
    assert pool_labels([2, 0, 1, 1, 0], patients, GRADES).tolist() == [2, 1, 0]
    assert pool_labels([2, 0, 1, 1, 0], patients, MANY).tolist() == [-1, 1, 0]
    assert count_mixed([2, 0, 1, 1, 0], patients) == 1


def test_several_labels_are_present_by_one_image_and_absent_by_all() -> None:
    nan = np.nan
    labels = np.array([[1, 0, nan], [0, 0, 0], [nan, nan, 1], [0, nan, nan]])
    found = pool_labels(labels, [0, 0, 1, 1], SEVERAL)
    np.testing.assert_equal(found, [[1, 0, nan], [nan, nan, 1]])
    assert count_mixed(labels, [0, 0, 1, 1]) == 1
    assert count_mixed([], []) == 0


def test_pooling_is_chosen_by_how_many_images_show_what_the_patient_has() -> None:
    patients = np.repeat(np.arange(4), 4)
    alike = np.repeat([1, 1, 0, 0], 4)
    assert choose_pooling(alike, patients, TWO) == (
        "mean_logits",
        "Of 2 positive patients with several images, 100% of the images are positive: each is one "
        "more look at the same.",
    )
    one_of_four = np.array([1, 0, 0, 0, 0, 1, 0, 0, *[0] * 8])
    assert choose_pooling(one_of_four, patients, TWO) == (
        "maximum",
        "Of 2 positive patients with several images, 25% of the images are positive: the patient "
        "is so by these alone.",
    )
    assert choose_pooling(one_of_four + alike, patients, GRADES).reason == (
        "Of 2 patients with several images and more than the lowest grade, 25% of the images have "
        "the grade of their patient: the patient is so by these alone."
    )
    assert choose_pooling(one_of_four, patients, TWO, "mean_probability").method == (
        "mean_probability"
    )
    assert choose_pooling(one_of_four, patients, MANY).method == "mean_logits"
    assert choose_pooling([0, 1], [0, 1], TWO).reason == (
        "No positive patient has several images to go by."
    )


def test_grades_and_several_labels_choose_likewise() -> None:
    patients = [0, 0, 0, 1, 1]
    assert choose_pooling([2, 0, 0, 0, 0], patients, GRADES).method == "maximum"
    assert choose_pooling([2, 2, 2, 0, 0], patients, GRADES).method == "mean_logits"
    rare = np.array([[1.0, 0], [0, 0], [0, 1], [np.nan, 0], [0, 0]])
    found = choose_pooling(rare, patients, SEVERAL)
    assert found.method == "maximum"
    assert found.reason.startswith("Of 1 positive patient with several images, 33%")


def test_patients_are_numbered_as_they_come() -> None:
    names, index = number_patients(["b", "a", "b"])
    assert names == ["b", "a"]
    assert index.tolist() == [0, 1, 0]


def test_a_rule_that_was_changed_is_noticed() -> None:
    values = {"method": "maximum", "n_images": 9, "n_patients": 4}
    whole = values | {"reason": "So.", "locked": "now", "sha256": seal("maximum", 9, 4)}
    assert LockedPooling.model_validate(whole).method == "maximum"
    with pytest.raises(ValueError, match="is not the one that was locked"):
        LockedPooling.model_validate(whole | {"method": "mean_logits"})
