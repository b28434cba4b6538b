"""Labels that are probably wrong: confident learning on predictions for patients not learnt from.

Images of all splits are ranked alike and their split is stated. A wrong label in the test split is
worth correcting by someone who looks at the image; nothing of this flows into training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hilum.auditing.findings import N_EXAMPLES, Finding, Found, number_of
from hilum.auditing.quick_model import (
    CAREFUL,
    Area,
    Encoder,
    Looks,
    Study,
    area,
    early_stops,
    make_study,
    out_of_fold,
    picture_features,
)
from hilum.progress import Progress
from hilum.resampling import Floats, Ints

LEAST_AUROC = 0.8
"""Of the small model, on patients not learnt from: a weaker one calls hard images wrong ones."""

MANY_IMAGES, N_TRIED, LEAST_TRIED = 20_000, 10_000, 0.75
"""Of many images so many are tried first: where the model has less on them, by all of its interval,
it would not be strong enough on all."""

LEAST_EVIDENCE = 2.0
"""Twice the gain in penalised log-likelihood by allowing for wrong labels; docs/audit.md says how
often chance reaches it."""

USUAL_SHARE = 0.05
"""Of wrong labels, where little is known: an expectation that data soon overrule. Without one, a
hundred patients of whom some are hard to tell may pass for a tenth of wrong labels."""

LEAST_DOUBT = 0.3
"""A label is listed when it is wrong with this probability at least."""

MOST_LISTED = 1000
FEW_IMAGES = 1500  # up to so many are looked at more carefully
STRENGTH = 0.1


@dataclass(frozen=True)
class Noise:
    """How often labels are wrong, judged by what a model of other patients expects.

    The model's scores become probabilities by a temperature T; a label is then wrong with
    probability `share`, in favour of any other class. Both are fitted by maximum likelihood, the
    share with an exponential prior of mean `USUAL_SHARE`.

    Attributes
    ----------
    temperature, share : float
    evidence : float
        Twice the gain in penalised log-likelihood over no wrong label.
    probs : float array of shape (n_units, n_classes)
        Probability of each true class before its label is known.
    doubt : float array of shape (n_units,)
        Probability that the given label is wrong.
    """

    temperature: float
    share: float
    evidence: float
    probs: Floats
    doubt: Floats


@dataclass(frozen=True)
class Suspects:
    """Images whose label is probably wrong, the surest first.

    Attributes
    ----------
    places : int array of shape (n_suspects,)
        In the study.
    suggested : int array of shape (n_suspects,)
    doubt : float array of shape (n_suspects,)
        Probability that the label is wrong.
    prob : float array of shape (n_suspects,)
        Of the suggested class, out of fold.
    noise : Noise
    """

    places: Ints
    suggested: Ints
    doubt: Floats
    prob: Floats
    noise: Noise


def find_label_errors(samples: pd.DataFrame, looks: Looks, *, progress: Progress) -> Found:
    """Find images whose label a model of other patients' images confidently contradicts.

    Parameters
    ----------
    samples : DataFrame
        Readable samples, numbered from 0.
    looks : uint8 array of shape (n_samples, 64, 64)

    Returns
    -------
    Found
        One finding of kind 'label_errors' or none. `details['suspects']` lists path, split, label,
        suggested label, its probability and the probability that the given label is wrong.
        Nothing is found where the model is weak, or where chance would give as much.
    """
    study = make_study(samples, samples["label"], most=None)
    if isinstance(study, str):
        progress.say(f"Wrong labels were not looked for: {study}.")
        return Found(not_looked_for={"label_errors": study})
    if len(study) > MANY_IMAGES:
        part = make_study(samples, samples["label"], most=N_TRIED)
        assert isinstance(part, Study)
        tried, _ = _try(looks, part)
        if tried.ci_high < LEAST_TRIED:
            return _too_weak(tried, part, progress)
    quality, probs = _try(looks, study)
    if quality.value < LEAST_AUROC:
        return _too_weak(quality, study, progress)
    suspects = find_suspects(study, probs)
    if suspects.noise.evidence < LEAST_EVIDENCE or not len(suspects.places):
        return Found()
    return Found((_finding(samples, study, suspects, quality),))


def _try(looks: Looks, study: Study) -> tuple[Area, Floats]:
    """Return how well the small model tells the labels, and what it predicts."""
    seen = looks if len(study) == len(looks) else looks[study.rows]
    with early_stops():
        probs = predict_labels(seen, study)
    return area(study.y, probs, study.clusters), probs


def _too_weak(quality: Area, study: Study, progress: Progress) -> Found:
    why = (
        "the small model that would contradict them has an AUROC of "
        f"{quality.value:.2f} on patients not learnt from, less than {LEAST_AUROC}"
        + (f", tried on {len(study):,} of {study.n_all:,} images" if study.is_sample else "")
    )
    progress.say(f"Wrong labels were not looked for: {why}.")
    return Found(not_looked_for={"label_errors": why})


def predict_labels(seen: Looks, study: Study) -> Floats:
    """Predict each image's class by models of other patients, (n, n_classes)."""
    n_classes = len(study.names)
    if len(study) > FEW_IMAGES:
        features = picture_features(seen)
        return out_of_fold(features, study.y, study.fold, n_classes, strength=STRENGTH)
    plain: list[Floats] = []
    with_mirror: list[Floats] = []
    for scale in CAREFUL:
        encoder = Encoder.of(seen, scale)
        features, mirrored = encoder(seen), encoder(seen, mirrored=True)
        for parts, view in ((plain, None), (with_mirror, mirrored)):
            probs = out_of_fold(
                features, study.y, study.fold, n_classes, strength=STRENGTH, mirrored=view
            )
            parts.append(probs)
    # Mirror images are more to learn from, unless left and right are what tells the classes.
    means = [np.asarray(np.mean(parts, axis=0)) for parts in (plain, with_mirror)]
    return max(means, key=lambda probs: area(study.y, probs, study.clusters).value)


def find_suspects(study: Study, probs: Floats) -> Suspects:
    """Rank the images whose label is confidently contradicted.

    Images of a patient with one label are judged together: they are wrong together.

    Parameters
    ----------
    study : Study
    probs : float array of shape (n, n_classes)
        Out-of-fold probabilities.
    """
    unit = _units(study)
    scores = np.zeros((int(unit.max()) + 1, probs.shape[1]))
    np.add.at(scores, unit, np.log(np.clip(probs, 1e-6, 1)))
    scores /= np.bincount(unit)[:, None]
    y = np.empty(len(scores), dtype=np.intp)
    y[unit] = study.y
    noise = fit_noise(scores, y)
    pooled = noise.probs[unit]
    confident = confident_class(study.y, pooled)
    doubt = noise.doubt[unit]
    found = np.flatnonzero((confident >= 0) & (confident != study.y) & (doubt >= LEAST_DOUBT))
    order = found[np.argsort(-doubt[found], kind="stable")]
    suggested = confident[order]
    return Suspects(order, suggested, doubt[order], pooled[order, suggested], noise)


def _units(study: Study) -> Ints:
    """Number what is judged together: images of a patient whose labels agree, else each image."""
    table = pd.DataFrame({"patient": study.clusters.index, "y": study.y})
    agrees = table.groupby("patient")["y"].transform("nunique").to_numpy() == 1
    own = study.clusters.n + np.arange(len(study))
    keys = np.where(agrees, study.clusters.index, own)
    return np.unique(keys, return_inverse=True)[1].astype(np.intp)


def fit_noise(scores: Floats, y: Ints) -> Noise:
    """Fit temperature and share of wrong labels by maximum likelihood.

    Parameters
    ----------
    scores : float array of shape (n_units, n_classes)
        Logarithms of probabilities, up to a constant for each unit.
    y : int array of shape (n_units,)
    """
    from scipy.optimize import minimize

    others = scores.shape[1] - 1

    def of_given(log_temperature: float) -> Floats:
        return _softmax(scores / math.exp(log_temperature))[np.arange(len(y)), y]

    def cost(log_temperature: float, share: float) -> float:
        given = of_given(log_temperature)
        likelihood = (1 - share) * given + share * (1 - given) / others
        fit = float(np.log(np.clip(likelihood, 1e-12, 1)).sum())
        return share / USUAL_SHARE - fit

    def with_noise(at: Floats) -> float:
        return cost(float(at[0]), _logistic(float(at[1])))

    temperatures = np.linspace(math.log(0.1), math.log(5), 40)
    start = min(temperatures, key=lambda t: cost(float(t), 0.0))
    clean = minimize(lambda at: cost(float(at[0]), 0.0), [start], method="Nelder-Mead")
    # From two sides: few sure mistakes, or many under a sharper model.
    starts = ([float(clean.x[0]), -5.0], [float(clean.x[0]) - 0.7, -3.0])
    noisy = min(
        (minimize(with_noise, at, method="Nelder-Mead") for at in starts), key=lambda fit: fit.fun
    )
    gain = max(0.0, float(clean.fun - noisy.fun))
    log_temperature, share = float(noisy.x[0]), _logistic(float(noisy.x[1]))
    probs = _softmax(scores / math.exp(log_temperature))
    given = probs[np.arange(len(y)), y]
    wrong, right = share * (1 - given) / others, (1 - share) * given
    doubt = wrong / np.maximum(wrong + right, 1e-300)
    return Noise(math.exp(log_temperature), share, 2 * gain, probs, doubt)


def _softmax(scores: Floats) -> Floats:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-max(-500.0, min(500.0, x))))


def confident_class(y: Ints, probs: Floats) -> Ints:
    """Return the class that each image is confidently counted for, -1 for none.

    An image counts for the classes whose probability reaches the mean that this class gets on
    images labelled with it; of several, for the most probable.

    References
    ----------
    Northcutt, Jiang & Chuang, Confident learning: estimating uncertainty in dataset labels,
    Journal of Artificial Intelligence Research, 2021, equations 1 and 2.
    """
    n_classes = probs.shape[1]
    usual = np.array(
        [probs[y == k, k].mean() if (y == k).any() else np.inf for k in range(n_classes)]
    )
    reached = probs >= usual
    best = np.where(reached, probs, -1.0).argmax(axis=1)
    return np.where(reached.any(axis=1), best, -1).astype(np.intp)


def _finding(samples: pd.DataFrame, study: Study, suspects: Suspects, quality: Area) -> Finding:
    rows = study.rows[suspects.places]
    paths = [str(path) for path in samples["path"].iloc[rows]]
    listed: list[dict[str, Any]] = [
        {
            "path": path,
            "split": str(samples["given_split"].iloc[row]),
            "label": study.names[study.y[place]],
            "suggested": study.names[suggested],
            "probability": round(float(prob), 4),
            "doubt": round(float(doubt), 4),
        }
        for path, row, place, suggested, prob, doubt in zip(
            paths, rows, suspects.places, suspects.suggested, suspects.prob, suspects.doubt,
            strict=True,
        )
    ]  # fmt: skip
    n, expected = len(listed), float(suspects.doubt.sum())
    share = n / len(study)
    message = (
        f"{number_of(n, 'image')} of {len(study):,} with a label that a small model of other "
        f"patients' images contradicts; about {expected:.0f} of them may be wrong if its doubts "
        f"are right (its AUROC is {quality}), the others are merely unusual. Wrong labels blur "
        "what is learnt and make figures too low, or too high where the mistakes have a system. "
        "Look at each, the first in the list first, without the label in view, and correct what is "
        "wrong by the source; do not drop images because a model disagrees."
    )
    return Finding(
        "label_errors",
        "medium" if share >= 0.005 else "low",
        n,
        message,
        tuple(_example(one) for one in listed[:N_EXAMPLES]),
        tuple((path,) for path in paths[:MOST_LISTED]),
        {
            "auroc": quality.to_dict(),
            "expected_wrong": expected,
            "share_wrong": suspects.noise.share,
            "evidence": suspects.noise.evidence,
            "suspects": listed[:MOST_LISTED],
        },
    )


def _example(one: dict[str, Any]) -> str:
    split = f", {one['split']}" if one["split"] else ""
    return (
        f"{one['path']} ({one['label']}{split}): rather '{one['suggested']}', "
        f"wrong with probability {one['doubt']:.2f}"
    )
