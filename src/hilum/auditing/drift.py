"""How two sets of pictures differ: train from test, or one data set from another.

Nothing here looks at a test label for any purpose but to state its share; nothing of it flows into
training, calibration or a choice of model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.auditing.findings import NO_TRAIN_AND_TEST, Finding, Found, Severity
from hilum.auditing.quick_model import (
    Area,
    Looks,
    Study,
    area,
    early_stops,
    make_study,
    out_of_fold,
    patient_groups,
    picture_features,
)
from hilum.progress import Progress
from hilum.resampling import Clusters, Floats

MOST_IMAGES = 2000
"""Images of both sets together that are compared."""

N_PERMUTATIONS = 200
N_GREYS = 64
SHARES_MOVED = 0.05
"""Change of a class's share from which it moves grey levels by itself."""


def find_drift(samples: pd.DataFrame, looks: Looks, *, progress: Progress) -> Found:
    """Compare the test split with the training split that came with the data.

    Parameters
    ----------
    samples : DataFrame
        Readable samples, numbered from 0; `given_split` says which is which.
    looks : uint8 array of shape (n_samples, 64, 64)

    Returns
    -------
    Found
        One finding of kind 'drift' or none; `details` is what `find_drift_between` returns.
    """
    split = samples["given_split"].astype(str)
    train, test = (np.flatnonzero(split == name) for name in ("train", "test"))
    if not len(train) or not len(test):
        return Found(not_looked_for={"drift": NO_TRAIN_AND_TEST})
    drift = _drift(samples, looks, split.where(split.isin(["train", "test"]), ""))
    if "reason" in drift:
        progress.say(f"Drift between the splits was not looked for: {drift['reason']}.")
        return Found(not_looked_for={"drift": str(drift["reason"])})
    severity = judge(drift)
    if severity is None:
        return Found()
    message = describe(drift, "train", "test")
    return Found((Finding("drift", severity, int(drift["n"][1]), message, (), (), drift),))


def find_drift_between(
    samples_a: pd.DataFrame, looks_a: Looks, samples_b: pd.DataFrame, looks_b: Looks
) -> dict[str, Any]:
    """Compare the pictures of two data sets.

    Parameters
    ----------
    samples_a, samples_b : DataFrame
        With the columns `path`, `patient` (or `group`) and, to compare their shares, `label`. A
        patient of that name in both sets counts as one.
    looks_a, looks_b : uint8 array of shape (n_samples, 64, 64)

    Returns
    -------
    dict
        `auroc` of a small model that tells b from a, on patients it did not learn from (0.5: they
        cannot be told apart), and the same for pictures `at_equal_brightness`: {'value', 'ci_low',
        'ci_high', 'n'}. `grey_levels`: {'distance' (earth mover's, in grey values of 255),
        'by_chance' (95 % of random divisions of the patients stay below), 'p'}. `means`: mean grey
        value and mean contrast of a and b. `labels`: share of each class in a and b. `n`,
        `n_patients`: of a and b. `n_compared`: images that were looked at. Only `reason` where
        there are too few images or patients.
    """
    columns = ["path", "patient", "group", "sha256", "label"]
    parts = [part[[name for name in columns if name in part]] for part in (samples_a, samples_b)]
    samples = pd.concat(parts, ignore_index=True).fillna("")
    which = pd.Series(["a"] * len(samples_a) + ["b"] * len(samples_b))
    return _drift(samples, _Both(looks_a, looks_b), which)


class _Both:
    """Two arrays of looks, one after the other, without a copy of either."""

    def __init__(self, first: Looks, second: Looks) -> None:
        self.first, self.second = first, second

    def __getitem__(self, rows: NDArray[np.intp]) -> Looks:
        n = len(self.first)
        parts = (self.first[rows[rows < n]], self.second[rows[rows >= n] - n])
        return np.concatenate(parts)  # rows ascend


def _drift(samples: pd.DataFrame, looks: Looks | _Both, which: pd.Series) -> dict[str, Any]:
    """Compare two parts of one table; `which` names the part of each row, '' for neither."""
    study = make_study(samples, which, most=MOST_IMAGES)
    if isinstance(study, str):
        return {"reason": study.replace("classes have", "sets have")}
    # Names in order of the alphabet: 'a' before 'b', but 'test' before 'train'.
    is_second = study.y == study.names.index("b" if "b" in study.names else "test")
    seen = np.asarray(looks[study.rows])
    grey = _histograms(seen)
    features = np.hstack([picture_features(seen), np.sqrt(grey)])
    with early_stops():
        probs = out_of_fold(features, is_second.astype(np.intp), study.fold, 2)
    labels = _labels(samples)
    known = which.to_numpy(dtype=object) != ""
    second = which.to_numpy(dtype=object) == study.names[int(study.y[is_second][0])]
    groups = patient_groups(samples)
    parts = (known & ~second, known & second)
    return {
        "n": [int(part.sum()) for part in parts],
        "n_patients": [len(set(groups[part])) for part in parts],
        "n_compared": len(study),
        "auroc": area(is_second.astype(np.intp), probs, study.clusters).to_dict(),
        "auroc_within_classes": _within_classes(is_second, probs, study, labels[study.rows]),
        "grey_levels": _grey_levels(grey, is_second, study.clusters),
        "means": [
            {"grey": float(part.mean()), "contrast": float(part.std(axis=(1, 2)).mean())}
            for part in (seen[~is_second], seen[is_second])
        ],
        "labels": _shares(labels, parts),
    }


def _labels(samples: pd.DataFrame) -> NDArray[Any]:
    if "label" not in samples:
        return np.full(len(samples), "", dtype=object)
    return samples["label"].astype(str).to_numpy(dtype=object)


def _shares(
    labels: NDArray[Any], parts: tuple[NDArray[np.bool_], NDArray[np.bool_]]
) -> dict[str, list[float]]:
    """Share of each class in either part."""
    names = sorted(set(labels[parts[0] | parts[1]]) - {""})
    return {name: [float((labels[part] == name).mean()) for part in parts] for name in names}


def _within_classes(
    is_second: NDArray[np.bool_], probs: Floats, study: Study, labels: NDArray[Any]
) -> dict[str, float | int] | None:
    """AUROC among images of one class, averaged: what a change of prevalence cannot explain.

    None where no class has ten images of three patients on either side.
    """
    areas: list[Area] = []
    for name in sorted(set(labels) - {""}):
        among = labels == name
        sides = [among & (is_second == side) for side in (False, True)]
        patients = study.clusters.index
        if any(s.sum() < 10 or len(np.unique(patients[s])) < 3 for s in sides):
            continue
        clusters = Clusters.of([int(c) for c in patients[among]], int(among.sum()))
        areas.append(area(is_second[among].astype(np.intp), probs[among], clusters))
    if not areas:
        return None
    weights = np.array([part.n for part in areas]) / sum(part.n for part in areas)
    low, value, high = (
        weights @ [getattr(part, name) for part in areas] for name in ("ci_low", "value", "ci_high")
    )
    # The classes' images are of other patients, nearly: errors add as squares.
    below = np.sqrt((weights**2) @ [(part.value - part.ci_low) ** 2 for part in areas])
    above = np.sqrt((weights**2) @ [(part.ci_high - part.value) ** 2 for part in areas])
    return {
        "value": float(value),
        "ci_low": float(max(low, value - below)),
        "ci_high": float(min(high, value + above)),
        "n": sum(part.n for part in areas),
    }


# -- grey levels ----------------------------------------------------------------------------------


def _histograms(seen: Looks) -> NDArray[np.float32]:
    """Share of the pixels of each look in each of 64 grey levels, (n, 64)."""
    out = np.empty((len(seen), N_GREYS), dtype=np.float32)
    for i, look in enumerate(seen):
        counts = np.bincount(look.ravel() // (256 // N_GREYS), minlength=N_GREYS)
        out[i] = counts / look.size
    return out


def _grey_levels(
    grey: NDArray[np.float32], is_second: NDArray[np.bool_], clusters: Clusters
) -> dict[str, float]:
    """Earth mover's distance of the mean histograms, against random divisions of the patients."""
    # A patient on both sides counts once on each.
    unit = np.unique(clusters.index * 2 + is_second, return_inverse=True)[1]
    n_units = int(unit.max()) + 1
    sums, sizes = np.zeros((n_units, N_GREYS)), np.bincount(unit).astype(np.float64)
    np.add.at(sums, unit, grey)
    side = np.zeros(n_units, dtype=bool)
    side[unit] = is_second
    observed = earth_movers_distance(_mean(sums, sizes, side), _mean(sums, sizes, ~side))
    rng = np.random.default_rng(0)
    by_chance = np.empty(N_PERMUTATIONS)
    for i in range(N_PERMUTATIONS):
        drawn = rng.permutation(side)
        by_chance[i] = earth_movers_distance(_mean(sums, sizes, drawn), _mean(sums, sizes, ~drawn))
    return {
        "distance": observed,
        "by_chance": float(np.quantile(by_chance, 0.95)),
        "p": float((1 + (by_chance >= observed).sum()) / (1 + N_PERMUTATIONS)),
    }


def _mean(sums: Floats, sizes: Floats, chosen: NDArray[np.bool_]) -> Floats:
    return np.asarray(sums[chosen].sum(axis=0) / sizes[chosen].sum())


def earth_movers_distance(first: Floats, second: Floats) -> float:
    """How far grey values must move to turn one histogram into the other, in grey values of 255."""
    return float(np.abs(np.cumsum(first - second)).sum() * (256 / N_GREYS))


# -- what it means --------------------------------------------------------------------------------


def judge(drift: dict[str, Any]) -> Severity | None:
    """Say how much a drift weighs: None for none, or one too small to matter."""
    told = drift["auroc_within_classes"] or drift["auroc"]
    grey = drift["grey_levels"]
    # Where classes have other shares, grey levels differ by that alone; a network that looks within
    # classes sees grey levels too.
    moved = max((abs(a - b) for a, b in drift["labels"].values()), default=0.0)
    is_of_shares = moved >= SHARES_MOVED and drift["auroc_within_classes"] is not None
    if (told["ci_low"] > 0.6 and told["value"] >= 0.7) or (
        grey["distance"] >= 10 and grey["p"] < 0.01 and not is_of_shares
    ):
        return "medium"
    if told["ci_low"] > 0.55 and told["value"] >= 0.6:
        return "low"
    return None


def describe(drift: dict[str, Any], first: str, second: str) -> str:
    """Say to a person how two sets differ, what it does to figures, and what to do."""
    within = drift["auroc_within_classes"]
    told, grey = within or drift["auroc"], drift["grey_levels"]
    dark, bright = (part["grey"] for part in drift["means"])
    said = f"Pictures of {first} and {second} can be told apart"
    if told["ci_low"] <= 0.5:
        said = f"Pictures of {first} and {second} differ in brightness, though hardly told apart"
    return (
        f"{said}{', even within a class,' if within else ''} with an AUROC of {told['value']:.2f} "
        f"(95 % {told['ci_low']:.2f} to {told['ci_high']:.2f}; 0.50 if both were drawn alike). "
        f"Grey levels differ by {grey['distance']:.1f} of 255 (up to {grey['by_chance']:.1f} by "
        f"chance; mean {dark:.0f} and {bright:.0f}). The two come from other people, devices or "
        f"times: figures measured on images like {first} do not hold for {second}, and thresholds "
        "and probabilities chosen there may be off. Compare pictures of both side by side, and "
        f"trust the figures of {second} alone for images like these."
    )
