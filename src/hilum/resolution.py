"""How many pixels do the signs need? Tried on some training patients, before a plan is made.

The network that training would begin with, as its weights make it, looks at images of one side
after another, and a linear model on its features tells the classes of held-out patients apart, as
well as it can. Where a small input hides the signs its log loss stays that of a guess, whatever
training does; where it does not, more pixels only cost time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

from hilum.cache_rooms import cache_room, code_digest
from hilum.calibration import log_losses
from hilum.dataset import Dataset
from hilum.decoded_samples import decode_samples
from hilum.errors import HilumError
from hilum.files import read_json, write_json
from hilum.fingerprint import Resolution
from hilum.linear_probe import (
    PLAIN_STRENGTH,
    Floats,
    find_features,
    fit_line,
    holds_every_class,
    n_classes_of,
    probe_network,
    size_of_outputs,
)
from hilum.losses import log_priors
from hilum.progress import Progress
from hilum.resampling import mean_error
from hilum.settings import Settings
from hilum.targets import Labels, truths

Trial = Callable[[Sequence[Settings], int, float], Resolution]
"""Settings with one input side each, the least first, the most images to try them on and the most
seconds → at which side the classes part."""

MOST_OF_A_PATIENT = 0.1
"""Share of a class's images that one patient may give: a patient has one look."""

N_FOLDS, LEAST_PATIENTS = 5, 20

CLEARLY = 3.0
"""Standard errors by which a loss must be greater than the least: a larger input costs much, and
larger sides are seldom to seem better by chance."""

Rows = NDArray[np.intp]


def try_sides(
    dataset: Dataset,
    samples: pd.DataFrame,
    progress: Progress,
    candidates: Sequence[Settings],
    most: int,
    seconds: float,
) -> Resolution:
    """Try input sides on some of the training patients.

    Parameters
    ----------
    samples : DataFrame
        As `scan` returns it, with the columns `split` and `group`. Only rows of the split 'train'
        are read.
    candidates : sequence of Settings
        With a backbone and its weights, and one input side each, the least first.
    most : int
        Images to try them on, about as many of each class.
    seconds : float
        After so many no further side is begun that would probably not end within them.

    Returns
    -------
    Resolution
    """
    train = samples[samples["split"] == "train"]
    labels = truths(train, dataset.class_names, candidates[0].target)
    groups = train["group"].to_numpy(dtype=str)
    rows = choose_rows(labels, groups, most, candidates[0].seed)
    train, labels, groups = train.iloc[rows], labels[rows], groups[rows]
    folds = make_folds(labels, groups, candidates[0].seed)
    if not folds:
        why = "there are too few patients for it, in all or of some class."
        return Resolution(None, f"Larger inputs were not tried: {why}")
    key = _key(train, labels, candidates)
    known = _recall(key)
    if known is not None:
        return known
    progress.say(
        f"Trying how many pixels the signs need: inputs of "
        f"{', '.join(str(one.input_height) for one in candidates)} on {len(rows)} training images."
    )
    losses: dict[int, Floats] = {}
    began = before = time.monotonic()
    for settings in candidates:
        now = time.monotonic()
        if losses:
            grows = (settings.input_height / max(losses)) ** 2
            if now - began + grows * (now - before) > seconds:
                break
        before = now
        tried = decode_samples(dataset, train, samples, settings, progress)
        with torch.random.fork_rng():  # the run's own numbers must not depend on a trial
            network = probe_network(settings, dataset.class_names, tried.pixels)
            features, _ = find_features(network, tried, settings, progress)
        losses[settings.input_height] = held_out_losses(features, labels, folds, settings)
    if len(losses) < min(2, len(candidates)):
        return Resolution(None, "Larger inputs were not tried: this machine was too busy for it.")
    found = compare_sides(losses, groups)
    if len(losses) < len(candidates):
        return replace(found, reason=f"{found.reason} More were not tried for want of time.")
    _keep(key, found)
    return found


def _key(train: pd.DataFrame, labels: Labels, candidates: Sequence[Settings]) -> str:
    """Name what an answer hangs on: the images, what is known of them, the networks, the code."""
    images = train[["sha256", "group"]].to_csv(index=False)
    networks = json.dumps([one.model_dump(mode="json") for one in candidates])
    key = hashlib.sha256(code_digest())
    for part in (images.encode("utf-8", "surrogateescape"), labels.tobytes(), networks.encode()):
        key.update(part)
    return key.hexdigest()


def _recall(key: str) -> Resolution | None:
    """Return the answer that is kept of a whole trial of the same sides on the same images."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        kept = read_json(cache_room("trials") / f"{key}.json")
        losses = {int(side): float(loss) for side, loss in kept["losses"].items()}
        return Resolution(kept["needed"], kept["reason"], losses)
    return None


def _keep(key: str, found: Resolution) -> None:
    with contextlib.suppress(HilumError, OSError):  # a cache that cannot be written costs time
        write_json(cache_room("trials") / f"{key}.json", asdict(found))


def choose_rows(labels: Labels, groups: NDArray[np.str_], most: int, seed: int) -> Rows:
    """Take images of patients in random order, of each class as long as some are wanted.

    Parameters
    ----------
    labels : int array of shape (n,), or float array of shape (n, n_labels)
    groups : str array of shape (n,)
        Patients.

    Returns
    -------
    int array of shape (n_taken,), rising
        Empty where every class has too few images to be held out in turn.
    """
    is_of = _classes(labels)
    if not is_of.shape[1]:
        return np.array([], dtype=np.intp)
    wanted = most / is_of.shape[1]
    of_a_patient = max(1, round(MOST_OF_A_PATIENT * wanted))  # and of a class
    order = np.argsort(groups, kind="stable")
    _, starts = np.unique(groups[order], return_index=True)
    patients = np.split(order, starts[1:])
    counts, is_taken = np.zeros(is_of.shape[1]), np.zeros(len(labels), dtype=bool)
    for number in np.random.default_rng(seed).permutation(len(patients)):
        of_patient = patients[number]
        for k in np.flatnonzero(counts < wanted):
            rows = of_patient[is_of[of_patient, k]]
            if len(rows):
                spread = np.linspace(0, len(rows) - 1, of_a_patient).astype(np.intp)
                is_taken[rows[np.unique(spread)]] = True
        counts += is_of[of_patient[is_taken[of_patient]]].sum(axis=0)
    return np.flatnonzero(is_taken)


def _classes(labels: Labels) -> NDArray[np.bool_]:
    """Return which classes an image is of; of several labels those it has, and one for none.

    Left out are classes of too few images to be held out in turn, and images of which nothing is
    known.
    """
    if labels.ndim == 1:
        names, counts = np.unique(labels, return_counts=True)
        return np.asarray(labels[:, None] == names[counts >= N_FOLDS])
    has = labels == 1
    is_none = ~has.any(axis=1) & ~np.isnan(labels).all(axis=1)
    return np.column_stack([has, is_none])


def make_folds(labels: Labels, groups: NDArray[np.str_], seed: int) -> list[tuple[Rows, Rows]]:
    """Part patients into folds; none where a class would be missing from what is learnt from."""
    is_one_class = labels.ndim == 1 and len(np.unique(labels)) < 2
    if is_one_class or len(set(groups)) < LEAST_PATIENTS:
        return []
    if labels.ndim == 2:  # a label that is never there is fitted as such
        folding = GroupKFold(N_FOLDS, shuffle=True, random_state=seed)
        return list(folding.split(labels, groups=groups))
    # Of many classes few images each are tried, which by chance alone would come into one fold.
    most = int(np.unique(labels, return_counts=True)[1].max())
    if most < 2:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a class has less images than folds
        stratified = StratifiedGroupKFold(min(N_FOLDS, most), shuffle=True, random_state=seed)
        folds = list(stratified.split(labels, labels, groups))
    is_whole = all(holds_every_class(labels[rest], labels) for rest, _ in folds)
    return folds if is_whole else []


def held_out_losses(
    features: Floats, labels: Labels, folds: Sequence[tuple[Rows, Rows]], settings: Settings
) -> Floats:
    """Return the log loss of each image by a linear model that saw no image of its patient."""
    losses = np.zeros(len(labels))
    n_outputs = size_of_outputs(labels, settings)
    for rest, out in folds:
        line = fit_line(features[rest], labels[rest], PLAIN_STRENGTH, settings, n_outputs)
        priors = log_priors(labels[rest], n_classes_of(labels, settings), settings)
        scores = line.scores(features[out])
        losses[out] = log_losses(scores if priors is None else scores + priors, labels[out])
    return losses


def compare_sides(losses: dict[int, Floats], groups: NDArray[np.str_]) -> Resolution:
    """Choose the least side whose loss is not clearly greater than the least loss.

    Parameters
    ----------
    losses : dict of int → float array of shape (n,)
        Of the same images by side.
    groups : str array of shape (n,)
        Their patients, whose images do not count as apart.
    """
    means = {side: float(each.mean()) for side, each in losses.items()}
    best = min(means, key=means.__getitem__)
    needed = next(
        side
        for side in sorted(losses)
        if means[side] - means[best] <= CLEARLY * mean_error(losses[side] - losses[best], groups)
    )
    *some, last = (f"{means[side]:.2f} with {side}" for side in sorted(means))
    tried = (
        f"A linear model on {len(groups)} training images has a log loss of {', '.join(some)} and "
        f"{last} pixels, on held-out patients"
    )
    if needed == min(losses):
        return Resolution(needed, f"{tried}: with more than {needed} not clearly less.", means)
    return Resolution(needed, f"{tried}: with less than {needed} it is clearly worse.", means)
