from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wasserstein_distance

from hilum.auditing.drift import (
    N_GREYS,
    earth_movers_distance,
    find_drift,
    find_drift_between,
    judge,
)
from hilum.progress import LogProgress
from looks_made import make_looks
from test_auditing_shortcuts import Said


def split_by_patient(samples: pd.DataFrame, share: float = 0.3) -> pd.DataFrame:
    number = samples["patient"].str[1:].astype(int)
    names = np.where((number // 2) % 10 < 10 * share, "test", "train")
    return samples.assign(given_split=names)


def test_earth_movers_distance_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.dirichlet(np.ones(N_GREYS), size=2)
    middles = (np.arange(N_GREYS) + 0.5) * 256 / N_GREYS
    expected = wasserstein_distance(middles, middles, first, second)
    assert earth_movers_distance(first, second) == pytest.approx(expected)


def test_splits_drawn_alike_do_not_differ() -> None:
    samples, looks, _ = make_looks(120)
    assert find_drift(split_by_patient(samples), looks, progress=LogProgress()).findings == ()


def test_other_pictures_in_the_test_split_are_found() -> None:
    samples, looks, _ = make_looks(120)
    samples = split_by_patient(samples)
    test = (samples["given_split"] == "test").to_numpy()
    looks[test] = (looks[test] * 0.6 + 60).astype(np.uint8)  # flatter and brighter
    [found] = find_drift(samples, looks, progress=LogProgress()).findings
    assert (found.kind, found.severity, found.count) == ("drift", "medium", int(test.sum()))
    assert "even within a class, with an AUROC of" in found.message
    means = found.details["means"]
    assert means[0]["grey"] == pytest.approx(looks[~test].mean())
    assert means[1]["grey"] == pytest.approx(looks[test].mean())
    assert found.details["grey_levels"]["p"] < 0.01
    assert found.details["n"] == [int((~test).sum()), int(test.sum())]
    json.dumps(found.to_dict())


def drift_of_shares(samples: pd.DataFrame, looks: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Compare two sets: class 1 is most of the first, class 0 of the second."""
    often, early = np.arange(len(y)) % 40 < 4, np.arange(len(y)) < 240
    first, second = early & ((y == 1) | often), ~early & ((y == 0) | often)
    return find_drift_between(
        samples[first].reset_index(drop=True), looks[first],
        samples[second].reset_index(drop=True), looks[second],
    )  # fmt: skip


def test_a_change_of_shares_alone_is_no_drift_within_classes() -> None:
    samples, looks, y = make_looks(240, contrast=100)
    drift = drift_of_shares(samples, looks, y)
    assert drift["auroc"]["value"] > 0.6
    assert drift["auroc_within_classes"]["ci_low"] < 0.5
    assert drift["labels"]["class 1"][0] > 0.8
    assert drift["labels"]["class 1"][1] < 0.2


def test_grey_levels_that_a_change_of_shares_moves_are_no_drift() -> None:
    """One class is much brighter, and rarer in the second set."""
    samples, looks, y = make_looks(240)
    looks = np.clip(looks // 2 + 100 * (y == 1)[:, None, None], 0, 255).astype(np.uint8)
    drift = drift_of_shares(samples, looks, y)
    assert abs(drift["means"][0]["grey"] - drift["means"][1]["grey"]) > 30
    assert drift["grey_levels"]["distance"] > 10
    assert judge(drift) is None


def test_two_data_sets_of_one_kind_cannot_be_told_apart() -> None:
    (a, looks_a, _), (b, looks_b, _) = make_looks(60), make_looks(60, seed=1)
    b["patient"] = "q" + b["patient"]
    drift = find_drift_between(a, looks_a, b, looks_b)
    assert judge(drift) is None
    assert drift["auroc"]["ci_low"] < 0.5
    assert drift["grey_levels"]["p"] > 0.02
    assert (drift["n"], drift["n_patients"]) == ([120, 120], [60, 60])


def test_two_data_sets_with_other_labels() -> None:
    (a, looks_a, _), (b, looks_b, _) = make_looks(60), make_looks(60, seed=1)
    b["label"] = "unheard of"
    looks_b = np.ascontiguousarray(255 - looks_b)
    drift = find_drift_between(a, looks_a, b, looks_b)
    assert drift["auroc_within_classes"] is None
    assert drift["auroc"]["value"] > 0.95
    assert judge(drift) == "medium"


def test_data_sets_without_labels_or_patients() -> None:
    (a, looks_a, _), (b, looks_b, _) = make_looks(40), make_looks(40, seed=1)
    drift = find_drift_between(a[["path"]].assign(patient=""), looks_a, b, looks_b)
    assert drift["n_patients"] == [80, 40]


def test_too_few_images_are_not_compared() -> None:
    samples, looks, _ = make_looks(10)
    a, b = samples[:10].reset_index(drop=True), samples[10:].reset_index(drop=True)
    drift = find_drift_between(a, looks[:10], b, looks[10:])
    assert drift == {"reason": "there are 20 images, fewer than 50"}
    said = Said()
    assert find_drift(split_by_patient(samples), looks, progress=said).findings == ()
    assert said.lines == [
        "Drift between the splits was not looked for: there are 20 images, fewer than 50."
    ]


def test_no_given_split_is_no_drift() -> None:
    samples, looks, _ = make_looks(40)
    found = find_drift(samples, looks, progress=LogProgress())
    assert found.findings == ()
    assert found.not_looked_for == {"drift": "there is no given split into training and test"}
