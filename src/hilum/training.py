"""The training recipe: one function, top to bottom, on Lightning Fabric.

Training sees the train and val samples and nothing else. Every epoch ends with a checkpoint from
which the run goes on as if it had never stopped: shuffling, augmentation and dropout draw from
generators seeded by the run's seed and the epoch's number, so no generator state needs saving.
"""

from __future__ import annotations

import copy
import io
import logging
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
)

from hilum.backbones import Backbone
from hilum.batches import MEMORY_FORMATS, Samples, batches, epoch_seed, make_source, to_tensor
from hilum.errors import RunError, SettingError
from hilum.files import write_bytes, write_csv
from hilum.fine_tuning import freeze, parameter_groups
from hilum.hardware import keep_to_cores
from hilum.losses import log_priors, make_loss, validation_scores, why_no_auroc
from hilum.memory import keep_pages
from hilum.networks import Classifier, Ensemble, Member, Network, build_network
from hilum.pixels import Images
from hilum.pretrained import begin, normalisation_of
from hilum.progress import Progress
from hilum.settings import MONITORS_LOWER_IS_BETTER, Settings

NOTE_EVERY_S = 0.5


MOST_AT_ONCE = 64
"""Images of 128×128 pixels or less that go through a network at once where it does not learn."""

LEAST_WATCHED = 1000
"""Validation images that are scored after each epoch, where an epoch is a share of the images."""

HISTORY_COLUMNS = (
    *("member", "epoch", "train_loss", "val_loss", "val_auroc", "val_balanced_accuracy"),
    *("learning_rate", "images_per_s", "elapsed_s"),
)  # fmt: skip


@dataclass
class State:
    """Where a training stands; what a checkpoint holds beside weights."""

    epoch: int = 0
    best_epoch: int = 0
    best_score: float = -math.inf
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Trained:
    """The network of a training, or its ensemble, on the CPU, and how it came about.

    Attributes
    ----------
    best_epochs : tuple of int
        The epoch whose weights are kept, from 1, for each member.
    history : DataFrame
        One row an epoch and member.
    note : str or None
        How it came about, where there was something to choose.
    """

    network: Classifier
    best_epochs: tuple[int, ...]
    history: pd.DataFrame
    note: str | None = None


def train_network(
    train: Samples,
    val: Samples,
    settings: Settings,
    class_names: Sequence[str],
    folder: Path,
    progress: Progress,
) -> Trained:
    """Train a network, or the members of an ensemble one after another.

    Parameters
    ----------
    folder : Path
        The run's folder: `history.csv` and `checkpoints/` are written there after each epoch, and
        a training that they hold is taken up again.

    Returns
    -------
    Trained

    Raises
    ------
    RunError
        If the loss is no longer finite.
    SettingError
        If the epoch to keep is to be chosen by an AUROC that validation does not have.
    """
    assert not settings.probe, "a probe is fitted by linear_probe.train_probe"
    keep_pages()
    keep_to_cores()
    if unknown := why_no_auroc(val.labels, class_names):
        if settings.keep == "best" and settings.monitor == "val_auroc":
            raise SettingError(f"{unknown} No epoch can be chosen by it: set monitor=val_loss.")
        progress.say(unknown)
    statistics = cache(lambda: pixel_statistics(train.pixels))
    val = watched(val, settings, len(train))
    members: list[Member] = []
    best_epochs: list[int] = []
    rows: list[dict[str, float]] = []
    for number, turn in enumerate(settings.turns(), start=1):
        of_one, factor = settings.of(turn), turn.reduction
        reduced = train.reduced(factor), val.reduced(factor)
        place = Place(folder, number, settings.members, tuple(rows))
        network, state = _train_member(*reduced, of_one, class_names, statistics, place, progress)
        members.append(Member(network, factor))
        best_epochs.append(state.best_epoch)
        rows += state.history
    whole = members[0].network if len(members) == 1 else Ensemble(members)
    return Trained(whole, tuple(best_epochs), _history(rows))


@dataclass(frozen=True)
class Place:
    """Where one member of an ensemble stands among the others, and on the disk.

    Attributes
    ----------
    folder : Path
        The run's.
    number : int
        From 1.
    earlier : tuple of dict
        Rows of the history of those before it.
    """

    folder: Path
    number: int
    of: int
    earlier: tuple[dict[str, float], ...]

    @property
    def checkpoints(self) -> Path:
        whole = self.folder / "checkpoints"
        return whole if self.of == 1 else whole / f"member-{self.number}"

    @property
    def name(self) -> str:
        return "" if self.of == 1 else f"Member {self.number} of {self.of}, "


Constants = tuple[list[float], list[float]]
"""Mean and deviation by channel, in [0, 255]."""


def _train_member(
    train: Samples,
    val: Samples,
    settings: Settings,
    class_names: Sequence[str],
    statistics: Callable[[], Constants],
    place: Place,
    progress: Progress,
) -> tuple[Network, State]:
    """Train one network from weights of its own and keep those of an epoch."""
    fabric = make_fabric(settings)
    torch.manual_seed(epoch_seed(settings, place.number, 0))
    mean, std = constants_of(settings, statistics)
    network = build_network(settings, len(class_names), mean=mean, std=std)
    if settings.weights is not None and not (place.checkpoints / "last.pt").exists():
        begin(cast(Backbone, network.backbone), settings)
    memory_format = MEMORY_FORMATS[settings.layout]
    network = network.to(memory_format=memory_format)  # type: ignore[call-overload]
    optimizer = make_optimizer(network, settings)
    averaged = copy.deepcopy(network) if settings.weight_averaging else None
    n_steps = settings.n_steps(len(train))
    scheduler = make_scheduler(optimizer, settings, n_steps)
    model, fabric_optimizer = fabric.setup(network, optimizer)
    if averaged is not None:
        averaged.to(fabric.device)
    compute_loss = make_loss(settings, train.labels, len(class_names), fabric.device)
    priors = log_priors(train.labels, len(class_names), settings)
    state = load_checkpoint(place, network, averaged, optimizer, scheduler)
    source = make_source(train, fabric.device)

    with progress.task(
        f"{place.name}Training steps".capitalize(), settings.epochs * n_steps
    ) as task:
        task.advance(state.epoch * n_steps)
        while state.epoch < settings.epochs and not _is_stopped(state, settings):
            started, noted = time.monotonic(), 0.0
            loss_sum = torch.zeros((), device=fabric.device)
            torch.manual_seed(epoch_seed(settings, place.number, state.epoch))
            model.train()
            freeze(network, state.epoch, settings)
            made = batches(source, settings, place.number, state.epoch)
            for step, batch in enumerate(made):
                with fabric.autocast():
                    logits = model(batch.images)
                loss = batch.loss(compute_loss, logits.float())
                fabric.backward(loss)
                if settings.gradient_clip:
                    fabric.clip_gradients(
                        model,
                        fabric_optimizer,
                        max_norm=settings.gradient_clip,
                        error_if_nonfinite=False,  # the loss will show it, and is looked at
                    )
                fabric_optimizer.step()
                fabric_optimizer.zero_grad(set_to_none=True)
                if isinstance(scheduler, OneCycleLR | CosineAnnealingLR):
                    scheduler.step()
                if averaged is not None:
                    average(averaged, network, settings, state.epoch * n_steps + step)
                loss_sum += loss.detach()
                task.advance()
                # To read a number off a device, one waits for it: not after every step.
                if (elapsed := time.monotonic() - started) - noted > NOTE_EVERY_S:
                    noted, rate = elapsed, (step + 1) * len(batch.images) / elapsed
                    task.advance(0, note=_note(state, loss_sum.item() / (step + 1), rate))
            train_loss = loss_sum.item() / n_steps
            trained_s = time.monotonic() - started
            scores = validate(averaged or network, val, settings, fabric, priors)
            check_finite((train_loss, scores["val_loss"]), state, settings, place)
            state.epoch += 1
            state.history.append(
                {
                    "member": place.number,
                    "epoch": state.epoch,
                    "train_loss": train_loss,
                    **scores,
                    "learning_rate": optimizer.param_groups[0]["lr"],
                    "images_per_s": n_steps * len(batch.images) / trained_s,
                    "elapsed_s": time.monotonic() - started,
                }
            )
            score = monitored(scores, settings)
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(score)
            is_best = settings.keep == "last" or score > state.best_score
            if is_best:
                state.best_epoch, state.best_score = state.epoch, score
            save_checkpoint(place, network, averaged, optimizer, scheduler, state, is_best)
            progress.say(place.name + _epoch_line(state, settings))

    best = build_network(settings, len(class_names), mean=mean, std=std)
    best.load_state_dict(_load(place.checkpoints / "best.pt")["network"])
    return best.eval(), state


# -- pieces of the step --------------------------------------------------------------------------


def make_fabric(settings: Settings) -> Fabric:
    """Set up the device and the precision."""
    precision = "bf16-mixed" if settings.precision == "bfloat16" else "32-true"
    # Fabric tells of the precision, and advises on workers and devices that are not used here.
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Fabric(accelerator=settings.accelerator, devices=1, precision=cast(Any, precision))


def constants_of(
    settings: Settings, statistics: Callable[[], Constants]
) -> Constants | tuple[None, None]:
    """Return the mean and deviation by channel that a network takes off its images.

    Those of its weights, or else what `statistics` counts over the training images; none where
    each image is standardised by itself.
    """
    known = normalisation_of(settings)
    if known is None and settings.normalisation == "image":
        return None, None
    return known or statistics()


def pixel_statistics(pixels: Images) -> Constants:
    """Return mean and standard deviation by channel, in [0, 255]; the latter at least 1."""
    counts = np.zeros((pixels.shape[-1], 256), dtype=np.int64)
    # Counted image by image: exact, and no copy of the data set in memory.
    for image in pixels:
        for channel in range(image.shape[-1]):
            counts[channel] += np.bincount(image[..., channel].ravel(), minlength=256)
    levels, n = np.arange(256), counts.sum(axis=1)
    mean = counts @ levels / n
    variance = counts @ levels**2 / n - mean**2
    return mean.tolist(), np.sqrt(np.maximum(variance, 1.0)).tolist()


def make_optimizer(network: Network, settings: Settings) -> Optimizer:
    """Make the optimizer; weight decay spares biases and batch norm."""
    groups = parameter_groups(network, settings)
    rate, momentum = settings.learning_rate, settings.momentum
    match settings.optimizer:
        case "adam":
            return torch.optim.Adam(groups, lr=rate, fused=True)
        case "adamw":
            return torch.optim.AdamW(groups, lr=rate, fused=True)
        case "sgd":
            return torch.optim.SGD(
                groups, lr=rate, momentum=momentum, nesterov=momentum > 0, fused=True
            )
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr=rate, momentum=momentum)


def make_scheduler(
    optimizer: Optimizer, settings: Settings, n_steps: int
) -> LRScheduler | ReduceLROnPlateau:
    """Make the schedule; one-cycle and cosine count steps, plateau counts epochs."""
    total = settings.epochs * n_steps
    match settings.schedule:
        case "constant":
            return ConstantLR(optimizer, factor=1.0, total_iters=0)
        case "plateau":
            return ReduceLROnPlateau(
                optimizer,
                mode="max",
                factor=settings.plateau_factor,
                # A relative bar would lie below a negative best, and never be missed.
                threshold_mode="abs",
                patience=settings.plateau_patience,
            )
        case "one_cycle":
            return OneCycleLR(
                optimizer,
                [group["lr"] for group in optimizer.param_groups],
                total_steps=max(total, 2),
                cycle_momentum=False,
            )
        case "cosine":
            return CosineAnnealingLR(optimizer, T_max=total)


@torch.no_grad()
def average(averaged: nn.Module, network: nn.Module, settings: Settings, step: int) -> None:
    """Move the averaged weights towards the network's; quickly at first."""
    assert settings.weight_averaging is not None
    decay = min(settings.weight_averaging, (1 + step) / (10 + step))
    new = network.state_dict()
    for name, value in averaged.state_dict().items():
        if value.dtype.is_floating_point:
            value.lerp_(new[name], 1 - decay)
        else:
            value.copy_(new[name])


def n_at_once(height: int, width: int) -> int:
    """Return how many images of this size go through a network at once, where none is learnt from.

    As many as fill the memory of `MOST_AT_ONCE` of 128×128 pixels, and no more of smaller ones.
    """
    return max(1, min(MOST_AT_ONCE, MOST_AT_ONCE * 128 * 128 // (height * width)))


def network_logits(network: nn.Module, pixels: Images) -> NDArray[np.float32]:
    """Run a network over images in evaluation mode.

    Returns
    -------
    float32 array of shape (n, n_outputs)
    """
    device = next(network.parameters()).device
    n = n_at_once(*pixels.shape[1:3])
    was_training = network.training
    network.eval()
    with torch.no_grad():
        parts = [
            network(to_tensor(pixels[start : start + n], device)).float().cpu().numpy()
            for start in range(0, len(pixels), n)
        ]
    network.train(was_training)
    return np.concatenate(parts)


def n_watched(n_train: int, n_val: int, settings: Settings) -> int:
    """Return about how many validation images are scored after each epoch.

    As great a share of them as the epoch is of the training images; `LEAST_WATCHED` at least.
    """
    share = settings.n_steps(n_train) / settings.steps_of_all(n_train)
    return min(n_val, max(LEAST_WATCHED, math.ceil(share * n_val)))


def watched(val: Samples, settings: Settings, n_train: int) -> Samples:
    """Choose the validation images that are scored after each epoch; always the same ones.

    Of each class, or combination of labels, the same share is drawn, and one image at least.
    """
    n = n_watched(n_train, len(val), settings)
    if n == len(val):
        return val
    order = np.random.default_rng(settings.seed).permutation(len(val))
    _, kind = np.unique(np.nan_to_num(val.labels[order], nan=-1), axis=0, return_inverse=True)
    kinds = pd.Series(kind.ravel())
    quota = np.ceil(n / len(val) * kinds.groupby(kinds).transform("size"))
    chosen = order[kinds.groupby(kinds).cumcount() < quota]
    return val.take(np.sort(chosen))


def validate(
    network: nn.Module,
    val: Samples,
    settings: Settings,
    fabric: Fabric,
    priors: NDArray[np.float64] | None,
) -> dict[str, float]:
    """Score the validation samples: loss, AUROC, balanced accuracy; NaN once diverged."""
    with fabric.autocast():
        logits = network_logits(network, val.pixels)
    return validation_scores(logits, val.labels, settings, priors)


def check_finite(losses: Sequence[float], state: State, settings: Settings, place: Place) -> None:
    """Stop a training that has diverged, before its weights replace better ones.

    Raises
    ------
    RunError
        If a loss is not finite.
    """
    if not all(map(math.isfinite, losses)):
        clipped = "" if settings.gradient_clip else ", or with --set gradient_clip=1"
        raise RunError(
            f"The loss is no longer finite in epoch {state.epoch + 1}"
            f"{f' of network {place.number}' if place.of > 1 else ''}. Start a new run with a "
            f"lower learning rate than plan.json has, --set learning_rate=…{clipped}."
        )


def monitored(scores: Mapping[str, float], settings: Settings) -> float:
    """Return the score that chooses the best epoch; higher is better."""
    value = scores[settings.monitor]
    return -value if settings.monitor in MONITORS_LOWER_IS_BETTER else value


def _is_stopped(state: State, settings: Settings) -> bool:
    """Tell whether so many epochs as are patiently awaited have passed since the best one.

    Whichever epoch's weights are kept: with the last ones `best_epoch` is always the last.
    """
    if settings.early_stopping is None or not state.history:
        return False
    scores = np.nan_to_num([monitored(row, settings) for row in state.history], nan=-np.inf)
    return len(scores) - 1 - int(scores.argmax()) >= settings.early_stopping


# -- checkpoints ---------------------------------------------------------------------------------


def save_checkpoint(
    place: Place,
    network: nn.Module,
    averaged: nn.Module | None,
    optimizer: Optimizer,
    scheduler: LRScheduler | ReduceLROnPlateau,
    state: State,
    is_best: bool,
) -> None:
    """Write the history and the last, and if it is that the best, checkpoint.

    The last checkpoint comes last: what it says is done is not done again.
    """
    checkpoints = place.checkpoints
    if is_best:
        best = {"network": (averaged or network).state_dict(), "epoch": state.epoch}
        write_bytes(checkpoints / "best.pt", _dump(best))
    write_csv(place.folder / "history.csv", _history([*place.earlier, *state.history]))
    last = {
        "network": network.state_dict(),
        "averaged": averaged.state_dict() if averaged is not None else None,
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "state": vars(state),
    }
    write_bytes(checkpoints / "last.pt", _dump(last))


def load_checkpoint(
    place: Place,
    network: nn.Module,
    averaged: nn.Module | None,
    optimizer: Optimizer,
    scheduler: LRScheduler | ReduceLROnPlateau,
) -> State:
    """Take up the last checkpoint, if there is one."""
    path = place.checkpoints / "last.pt"
    if not path.exists():
        return State()
    last = _load(path)
    network.load_state_dict(last["network"])
    if averaged is not None:
        averaged.load_state_dict(last["averaged"])
    optimizer.load_state_dict(last["optimizer"])
    scheduler.load_state_dict(last["scheduler"])
    return State(**last["state"])


def _dump(value: Mapping[str, Any]) -> bytes:
    stream = io.BytesIO()
    torch.save(dict(value), stream)
    return stream.getvalue()


def _load(path: Path) -> dict[str, Any]:
    try:
        return cast(dict[str, Any], torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError:
        raise RunError(
            f"{path} is missing, and with it the weights that were kept. Delete {path.parent} and "
            "resume: training starts again, with the same data and plan."
        ) from None
    except Exception as error:
        # torch.load raises whatever its parts raise: IndexError, RuntimeError, UnpicklingError, …
        raise RunError(
            f"{path} cannot be read ({type(error).__name__}). Delete {path.parent} and resume: "
            "training starts again, with the same data and plan."
        ) from None


def _history(rows: Sequence[Mapping[str, float]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(HISTORY_COLUMNS))


def _note(state: State, loss: float, rate: float) -> str:
    known = state.history[-1]["val_auroc"] if state.history else None
    auroc_note = f", val AUROC {known:.3f}" if known is not None else ""
    return f"epoch {state.epoch + 1}, loss {loss:.3f}{auroc_note}, {rate:.0f} images/s"


def _epoch_line(state: State, settings: Settings) -> str:
    row = state.history[-1]
    is_best = settings.keep == "best" and state.best_epoch == state.epoch
    best = " (best so far)" if is_best else ""
    auroc = "AUROC by cut" if settings.target == "ordinal" else "AUROC"
    return (
        f"Epoch {state.epoch}/{settings.epochs}: loss {row['train_loss']:.3f}, validation loss "
        f"{row['val_loss']:.3f}, {auroc} {row['val_auroc']:.3f}, balanced accuracy "
        f"{row['val_balanced_accuracy']:.3f}, {row['images_per_s']:.0f} images/s{best}"
    )
