"""A time budget: real epochs are timed, and as many are planned as end the whole command in time.

What is timed is the training function itself, on made-up images: network, augmentation, optimizer,
validation and checkpoint cost what they will cost. What comes after training is estimated from the
number of images. A plan that was made is not changed again, so that the same plan and seed give the
same weights however busy the machine is.
"""

from __future__ import annotations

import math
import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hilum import map_checks, robustness
from hilum.batches import Samples
from hilum.cache import StoredImages
from hilum.cache_rooms import cache_room
from hilum.errors import SettingError
from hilum.hardware import Device
from hilum.neighbours import MAX_REFERENCES
from hilum.networks import build_network
from hilum.probing import Probe
from hilum.progress import Task
from hilum.settings import Settings, Turn
from hilum.targets import Labels
from hilum.training import n_watched, network_logits, train_network

DEFAULT_MINUTES: dict[Device, float] = {"cpu": 10.0, "mps": 10.0, "cuda": 10.0}
"""Of the whole command, where the user gives none: what a person waits for without planning to."""

FIRST_STEPS = 2
TIMED_S = 2.0
"""About how long the timed steps are to take, after those that warm up."""

MOST_TIMED_VALIDATION = 128
N_MADE_UP = 64
N_PREDICTED = 16

# Beside what grows with the images, in seconds on one core of 2023: Python and its libraries;
# export; the report with its plots. Of a fold too, whose figures are then pooled.
START_S = 3.0
EXPORT_S = 2.0
REPORT_S = 4.0

TRACED_S = {"backbone": 6.0, "network": 3.0}
"""To trace a network for its export, by what it is. All folds have the same: once is enough."""

# A heat map and those of the networks drawn anew, in forward passes.
PASSES_A_MAP = 15

# Intervals and figures, seconds an image that is predicted.
FIGURES_S = 0.001

CLEARLY = 0.25
"""Share of the time that the bare steps may take at most for a plan to fit untimed."""

SLOWER = 1.05
"""Training for minutes is a little slower than for seconds."""

LEAST_EPOCHS = 3
"""With fewer a schedule cannot rise and fall: where so many do not fit, each is a share of the
images."""

LEAST_SEEN = 1000
"""Images that a network sees in all epochs at least, however little time there is; a guess."""

LONGEST = 2
"""How many times the epochs of the rules a longer budget may buy; what is left buys members."""

LEAST_MEMBERS, FEW_MEMBERS, MOST_MEMBERS = 2, 3, 5
"""Networks of an ensemble: the least, what is planned by default, what a given budget buys."""

STARVED = 2 / 3
"""Share of the wanted epochs below which one network had better get a smaller input; a guess."""

ENOUGH_BEGUN = 0.25
"""The same, for one network or a few, where they begin with weights.

On brain slices 2,000 images seen at 128 pixels were better than 4,000 at 64; elsewhere a guess."""

ENOUGH_NEEDED = 0.1
"""The same, for one network whose input must be large, for smaller ones hide the signs.

Of stand-ins with a tiny sign 1,030 images seen at 384 pixels were enough; at 128 none are."""

ENOUGH_TOGETHER = 0.4
"""Share of the wanted epochs with which a few networks go before one with all.

On brain slices 8,000 images seen by each of three were better than 14,000 seen by one; elsewhere it
is a guess."""


@dataclass(frozen=True)
class Budget:
    """Time for a whole command, and what is known of it before the plan is made.

    Attributes
    ----------
    minutes : float
    is_given : bool
        By the user: then it is filled; otherwise it is a limit.
    elapsed_s : float
        Since the command began.
    read_s : float
        To read one image with every check, all cores at work.
    n_test : int
        Test images, which are predicted at the end.
    n_folds : int
        Trainings that share the time.
    """

    minutes: float
    is_given: bool
    elapsed_s: float = 0.0
    read_s: float = 0.0
    n_test: int = 0
    n_folds: int = 1


@dataclass(frozen=True)
class Sizes:
    """Images of one training."""

    n_train: int
    n_val: int
    n_test: int

    def n_steps(self, settings: Settings) -> int:
        """Return the steps of an epoch."""
        return settings.n_steps(self.n_train)

    def n_seen(self, settings: Settings) -> int:
        """Return the training images that one network sees in all epochs."""
        return settings.epochs * settings.n_seen(self.n_train)

    def n_watched(self, settings: Settings) -> int:
        """Return the validation images that are scored after each epoch."""
        return n_watched(self.n_train, self.n_val, settings)


@dataclass(frozen=True)
class Pace:
    """What training costs here, timed.

    Attributes
    ----------
    step_s : float
        A step with its batch, augmentation and optimizer.
    validation_s : float
        An image of validation.
    checkpoint_s : float
        Writing the checkpoints of an epoch.
    predict_s : float
        An image predicted on the processor in float32, as exported models do.
    """

    step_s: float
    validation_s: float
    checkpoint_s: float
    predict_s: float

    def epoch_s(self, sizes: Sizes, settings: Settings) -> float:
        n_steps = sizes.n_steps(settings)
        return SLOWER * (
            n_steps * self.step_s
            + sizes.n_watched(settings) * self.validation_s
            + self.checkpoint_s
        )


Paces = Mapping[Turn, Pace]
"""What training costs by what a network of the ensemble is and how much its images are reduced."""


@dataclass(frozen=True)
class Choice:
    """Epochs that were chosen, and why, with the seconds that the whole command will take.

    Attributes
    ----------
    steps_per_epoch : int or None
        Where an epoch is to be a share of the images.
    """

    epochs: int
    reason: str
    expected_s: float
    steps_per_epoch: int | None = None


def check_minutes(minutes: float | None) -> None:
    """Refuse a time that is none, before images are read or anything is written.

    Raises
    ------
    SettingError
    """
    if isinstance(minutes, bool) or not isinstance(minutes, int | float | None):
        raise SettingError(f"minutes is {minutes!r}. Give a number above 0, such as 5.")
    if minutes is not None and not (math.isfinite(minutes) and minutes > 0):
        raise SettingError(f"{minutes:g} minutes are no time to train in. Give a number above 0.")


def in_words(minutes: float) -> str:
    return f"{minutes:g} minute{'' if minutes == 1 else 's'}"


def overrun(minutes: float | None, took_s: float, *, is_given: bool) -> str | None:
    """Say it where a command took more than a tenth longer than it had, or None.

    Parameters
    ----------
    minutes : float or None
        Given by the user, or else what the plan was held to.
    """
    if minutes is None or took_s <= 66 * minutes:
        return None
    by_user = "the epochs were set by the user, a linear model was fitted, " if is_given else ""
    return (
        f"This took {took_s / 60:.1f} minutes, and {minutes:g} "
        f"{'were asked for' if is_given else 'are the limit by default'}. plan.json says what was "
        f"planned: either not even the least fits, {by_user}or the machine was busier than while "
        "steps were timed."
    )


def sizes_of(n_train: int, n_val: int, budget: Budget, settings: Settings) -> Sizes:
    """Return the images of one training: of the only one, or of each fold.

    Parameters
    ----------
    n_train : int
        All images that folds share, where there are folds.
    """
    if budget.n_folds == 1:
        return Sizes(n_train, n_val, budget.n_test)
    held_out = n_train // budget.n_folds
    n_val = max(1, round((n_train - held_out) * settings.val_share))
    return Sizes(max(1, n_train - held_out - n_val), n_val, held_out)


# -- timing --------------------------------------------------------------------------------------


def time_training(settings: Settings, n_classes: int, sizes: Sizes, *, most_members: int) -> Paces:
    """Time training of each kind of network of an ensemble, at the resolution that it sees.

    Parameters
    ----------
    settings : Settings
        Resolved: nothing is 'auto'.
    most_members : int
        Networks that the ensemble may come to have.

    Returns
    -------
    mapping of Turn to Pace
    """
    turns = dict.fromkeys(settings.turns(most_members))
    return {turn: time_one(settings.of(turn), n_classes, sizes) for turn in turns}


def time_one(settings: Settings, n_classes: int, sizes: Sizes) -> Pace:
    """Time an epoch of the real training on made-up images, after one that warms up.

    Parameters
    ----------
    settings : Settings
        Resolved: nothing is 'auto'.
    sizes : Sizes
        No more steps than an epoch has are timed.

    Returns
    -------
    Pace
    """
    n_steps = min(FIRST_STEPS, sizes.n_steps(settings))
    pace = _timed(settings, n_classes, sizes, n_steps)
    enough = min(sizes.n_steps(settings), math.ceil(TIMED_S / pace.step_s))
    return _timed(settings, n_classes, sizes, enough) if enough > 2 * n_steps else pace


@dataclass
class _Clock:
    """Progress that is shown to nobody: notes when each epoch was done and saved."""

    epochs_done: list[float] = field(default_factory=list)

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:  # noqa: ARG002
        yield self

    def advance(self, n: int = 1, note: str = "") -> None:
        """Nothing to show."""

    def say(self, text: str) -> None:  # noqa: ARG002
        self.epochs_done.append(time.monotonic())


def _timed(settings: Settings, n_classes: int, sizes: Sizes, n_steps: int) -> Pace:
    # Made-up images must not make the loss diverge; every epoch must be run, and every layer learn.
    once: dict[str, Any] = {"epochs": 2, "steps_per_epoch": None, "early_stopping": None}
    once |= {"frozen_epochs": 0, "keep": "last", "learning_rate": 1e-6}
    quiet = settings.model_copy(update=once)
    n_val = max(2, min(sizes.n_val, MOST_TIMED_VALIDATION))  # of one there is no AUROC
    train = _made_up(settings, n_classes, min(sizes.n_train, n_steps * settings.batch_size))
    val = _made_up(settings, n_classes, n_val)
    names = [f"{k}" for k in range(n_classes)]
    clock = _Clock()
    with (
        torch.random.fork_rng(),  # the run's own numbers must not depend on a timing
        tempfile.TemporaryDirectory(dir=cache_room("probes")) as folder,
    ):
        trained = train_network(train, val, quiet, names, Path(folder), clock)
    last = trained.history.iloc[-1]
    per_epoch = min(settings.batch_size, len(train)) * max(1, len(train) // settings.batch_size)
    steps_s = per_epoch / float(last["images_per_s"])
    epoch_s = float(last["elapsed_s"])
    return Pace(
        step_s=steps_s / max(1, len(train) // settings.batch_size),
        validation_s=max(0.0, epoch_s - steps_s) / n_val,
        checkpoint_s=max(0.0, clock.epochs_done[-1] - clock.epochs_done[-2] - epoch_s),
        predict_s=_predict_s(settings, n_classes),
    )


def _predict_s(settings: Settings, n_classes: int) -> float:
    """Time an image of a small batch, after one that warms up."""
    with torch.random.fork_rng():
        network = build_network(settings, n_classes).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pixels = _made_up(settings, n_classes, N_PREDICTED).pixels
    network_logits(network, pixels)
    started = time.perf_counter()
    network_logits(network, pixels)
    return (time.perf_counter() - started) / N_PREDICTED


def _made_up(settings: Settings, n_classes: int, n: int) -> Samples:
    """Make n samples of few images, so that they take no memory."""
    rng = np.random.default_rng(0)
    shape = (N_MADE_UP, settings.input_height, settings.input_width, settings.channels)
    store = rng.integers(0, 256, shape).astype(np.uint8)
    labels: Labels = np.arange(n, dtype=np.int64) % n_classes
    if settings.target == "multilabel":
        labels = (np.arange(n)[:, None] % 2).repeat(n_classes, axis=1).astype(np.float32)
    return Samples(StoredImages(store, np.arange(n) % N_MADE_UP), labels)


# -- choosing ------------------------------------------------------------------------------------


def of_all(paces: Paces, settings: Settings, cost_s: Callable[[Pace], float]) -> float:
    """Add up what something costs with each network of the ensemble, in seconds."""
    return sum(cost_s(paces[turn]) for turn in settings.turns())


def after_s(paces: Paces, sizes: Sizes, settings: Settings, epochs: int, budget: Budget) -> float:
    """Estimate the seconds from the end of one training to the end of its report."""
    n_passes = _n_passes(sizes, settings, epochs, budget)
    passes_s = of_all(paces, settings, lambda pace: n_passes * pace.predict_s)
    # Test images are read anew.
    of_images = sizes.n_test * budget.read_s + (sizes.n_val + sizes.n_test) * FIGURES_S
    return EXPORT_S + REPORT_S + of_images + passes_s


def _n_passes(sizes: Sizes, settings: Settings, epochs: int, budget: Budget) -> float:
    """Count the images that a network is run on after it was trained."""
    area = settings.input_height * settings.input_width
    n_maps = np.clip(
        map_checks.MOST_PIXELS // area, map_checks.LEAST_IMAGES, map_checks.MOST_IMAGES
    )
    found = (
        sizes.n_val
        + sizes.n_test
        + min(sizes.n_train, MAX_REFERENCES)
        + PASSES_A_MAP * min(sizes.n_val, int(n_maps))
    )
    levels, n_affordable = robustness.choose_levels(
        settings.members * epochs * settings.n_seen(sizes.n_train),
        for_curves=budget.n_folds == 1,
        for_threshold=settings.operating_point == "robust",
    )
    most = max(robustness.LEAST_IMAGES, min(n_affordable, robustness.MOST_PIXELS / area))
    return found + sum(map(len, levels.values())) * min(sizes.n_val, most)


def training_s(paces: Paces, sizes: Sizes, settings: Settings, epochs: int) -> float:
    """Estimate the seconds of one training, of all networks."""
    return of_all(paces, settings, lambda pace: epochs * pace.epoch_s(sizes, settings))


def whole_s(paces: Paces, sizes: Sizes, settings: Settings, epochs: int, budget: Budget) -> float:
    """Estimate the seconds of the whole command, from its beginning."""
    decoding = (sizes.n_train + sizes.n_val) * budget.read_s
    training = training_s(paces, sizes, settings, epochs)
    one = training + after_s(paces, sizes, settings, epochs, budget)
    if budget.n_folds > 1:
        decoding += sizes.n_test * budget.read_s
        one = budget.n_folds * one + REPORT_S
    traced = sum(TRACED_S[turn.kind] for turn in settings.turns())
    return START_S + budget.elapsed_s + decoding + traced + one


def surely_fits(n_seen: int, n_read: int, probed: Probe, budget: Budget) -> bool:
    """Tell whether training so clearly ends in time that nothing need be timed.

    Parameters
    ----------
    n_seen : int
        Images that training sees, in all epochs, networks and folds.
    n_read : int
        Images that are still to be decoded.
    """
    left_s = 60 * budget.minutes - budget.elapsed_s - n_read * budget.read_s
    return n_seen / probed.rate < left_s * CLEARLY


def enough(settings: Settings, members: int) -> float:
    """Return the share of the wanted epochs below which so many networks are starved."""
    if settings.weights is not None:
        return ENOUGH_BEGUN
    return STARVED if members == 1 else ENOUGH_TOGETHER


def choose_members(paces: Paces, sizes: Sizes, settings: Settings, budget: Budget) -> int:
    """Choose how many networks there is time for.

    A few may have fewer epochs than are wanted; more networks may not. A given budget is filled;
    the limit by default allows a few.
    """
    most = MOST_MEMBERS if budget.is_given else FEW_MEMBERS

    def fits(members: int) -> bool:
        share = enough(settings, members) if members <= FEW_MEMBERS else 1.0
        least = min(LEAST_EPOCHS, settings.epochs)  # fewer are never planned
        epochs = max(least, math.ceil(share * settings.epochs))
        ensemble = settings.model_copy(update={"members": members})
        return whole_s(paces, sizes, ensemble, epochs, budget) <= 60 * budget.minutes

    return max((m for m in range(LEAST_MEMBERS, most + 1) if fits(m)), default=1)


def choose_epochs(
    paces: Paces, sizes: Sizes, settings: Settings, budget: Budget, *, whole: bool = False
) -> Choice:
    """Choose how many epochs to train, and where the least do not fit, how many steps each has.

    Parameters
    ----------
    settings : Settings
        With the epochs that the rules want without a limit in time. A given budget is filled, with
        up to `LONGEST` times as many; any other is a limit.
    whole : bool
        Epochs shall keep their steps, whatever they take.
    """
    wanted, room = settings.epochs, 60 * budget.minutes
    most = LONGEST * wanted if budget.is_given else wanted

    def needed(epochs: int) -> float:
        return whole_s(paces, sizes, settings, epochs, budget)

    least = min(LEAST_EPOCHS, wanted)
    fitting = [epochs for epochs in range(least, most + 1) if needed(epochs) <= room]
    if not fitting:
        return _fewer_steps(paces, sizes, settings, budget, epochs=least, whole=whole)
    epochs = fitting[-1]
    expected = needed(epochs)
    if epochs < most:
        why = f"{epochs} epochs fit in {_kept(paces, sizes, settings, epochs, budget)}"
    elif budget.is_given:
        why = (
            f"{epochs} epochs are done in {expected / 60:.1f} of {in_words(budget.minutes)}; more "
            f"than {LONGEST} times the {wanted} of the plan are not trained."
        )
    else:
        why = f"{epochs} epochs are done in about {expected / 60:.1f} minutes."
    return Choice(epochs, f"{_rate(paces, sizes, settings, budget)}: {why}", expected)


def _fewer_steps(
    paces: Paces, sizes: Sizes, settings: Settings, budget: Budget, *, epochs: int, whole: bool
) -> Choice:
    """Choose how many steps each of the least epochs may have, which do not fit with all of them.

    How many epochs there are matters little then, for the schedule counts steps.
    """
    of_all = sizes.n_steps(settings)
    enough = math.ceil(LEAST_SEEN / (epochs * settings.batch_size))
    least = of_all if whole else min(of_all, enough)

    def with_steps(n_steps: int) -> Settings:
        return settings.model_copy(update={"steps_per_epoch": n_steps})

    def needed(n_steps: int) -> float:
        return whole_s(paces, sizes, with_steps(n_steps), epochs, budget)

    n_fitting = bisect_right(range(least, of_all), 60 * budget.minutes, key=needed)
    n_steps = max(least, least + n_fitting - 1)
    found, expected = with_steps(n_steps), needed(n_steps)
    share = f" of {n_steps:,} steps" if n_steps < of_all else ""
    if n_fitting:
        why = f"{epochs} epochs{share} fit in {_kept(paces, sizes, found, epochs, budget)}"
    else:
        why = (
            f"{epochs} epochs{share}, the least worth training, take about {expected / 60:.1f} "
            f"minutes in all and not {budget.minutes:g}."
        )
        if budget.elapsed_s > 6 * budget.minutes:  # a tenth
            why += f" Reading, checks and planning had taken {budget.elapsed_s / 60:.1f} by then."
    rate = _rate(paces, sizes, settings, budget) + (" of all images" if share else "")
    return Choice(epochs, f"{rate}: {why}", expected, n_steps if share else None)


def _rate(paces: Paces, sizes: Sizes, settings: Settings, budget: Budget) -> str:
    """Say how fast training is, and how much there is of it."""
    first, *others = settings.turns()
    differ = any(other != first for other in others)
    return (
        f"{paces[first].step_s:.2g} s a step, {sizes.n_steps(settings):,} steps an epoch"
        + (f", {settings.members} networks" if settings.members > 1 else "")
        + (" of different speeds" if differ else "")
        + (f", {budget.n_folds} folds" if budget.n_folds > 1 else "")
    )


def _kept(paces: Paces, sizes: Sizes, settings: Settings, epochs: int, budget: Budget) -> str:
    """Say of the time into which so many epochs fit how much is for all but training."""
    expected = whole_s(paces, sizes, settings, epochs, budget)
    kept = (expected - budget.n_folds * training_s(paces, sizes, settings, epochs)) / 60
    limit = f"{in_words(budget.minutes)}, " + ("" if budget.is_given else "the limit by default, ")
    return f"{limit}of which {kept:.1f} are kept for all but training."
