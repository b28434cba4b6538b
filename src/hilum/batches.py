"""Images in memory or in a store → batches, shuffled and changed as the seed alone says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hilum.augment import augment
from hilum.cache import subset
from hilum.losses import Loss
from hilum.pixels import Images, ReducedImages
from hilum.settings import Settings
from hilum.targets import Labels
from hilum.threads import ahead

MEMORY_FORMATS = {
    "auto": torch.channels_last,
    "channels_last": torch.channels_last,
    "contiguous": torch.contiguous_format,
}

CHUNK = 256  # images copied to a device at once


@dataclass(frozen=True)
class Samples:
    """Pixels with their labels.

    Attributes
    ----------
    pixels : uint8 images of shape (n, height, width, channels)
    labels : array
        Index of the class or grade, int64 of shape (n,); or, for multi-label data, 0, 1 and NaN
        where unknown, float32 of shape (n, n_labels).
    groups : tuple of str or None
        Patient of each.
    """

    pixels: Images
    labels: Labels
    groups: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def reduced(self, factor: int) -> Samples:
        """Return the samples with their images made smaller."""
        return self if factor == 1 else replace(self, pixels=ReducedImages(self.pixels, factor))

    def take(self, rows: NDArray[np.intp]) -> Samples:
        """Return some of the samples, unread where they lie in a store."""
        groups = None if self.groups is None else tuple(self.groups[row] for row in rows)
        return Samples(subset(self.pixels, rows), self.labels[rows], groups)


@dataclass(frozen=True)
class Source:
    """Where batches come from: samples on the disk, or a copy of them on the device."""

    images: Images | Tensor
    labels: Tensor
    device: torch.device

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return images as `to_tensor` gives them, and their labels, on the device."""
        if isinstance(self.images, Tensor):
            pixels, rows = self.images, rows.to(self.device)
            return _to_float(pixels[rows]), self.labels[rows]
        images = to_tensor(self.images[rows.numpy()], self.device)
        return images, self.labels[rows.to(self.device)]


def make_source(samples: Samples, device: torch.device) -> Source:
    """Put the samples on a GPU if they fill no more than half of its free memory."""
    labels = torch.from_numpy(samples.labels).to(device)
    images: Images | Tensor = samples.pixels
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if math.prod(samples.pixels.shape) < free / 2:
            images = torch.empty(samples.pixels.shape, dtype=torch.uint8, device=device)
            for start in range(0, len(samples), CHUNK):  # so that no second copy lies in memory
                part = samples.pixels[start : start + CHUNK]
                images[start : start + CHUNK] = torch.from_numpy(_writable(part))
    return Source(images, labels, device)


@dataclass(frozen=True)
class Batch:
    """Images as the network takes them, with the labels that they were made from.

    Attributes
    ----------
    images : float tensor of shape (n, c, h, w)
        In [0, 255]; blended from two each where `share` is below 1.
    labels, others : tensors of shape (n,) or (n, n_labels)
        Of the first and of the second of the two.
    share : float
        Of the first.
    """

    images: Tensor
    labels: Tensor
    others: Tensor
    share: float = 1.0

    def loss(self, compute: Loss, logits: Tensor) -> Tensor:
        """Weigh the losses against the labels of both images as the images were weighed."""
        loss = compute(logits, self.labels)
        if self.share == 1:
            return loss
        return self.share * loss + (1 - self.share) * compute(logits, self.others)


def batches(source: Source, settings: Settings, member: int, epoch: int) -> Iterator[Batch]:
    """Yield shuffled, augmented batches.

    Lap after lap goes through the images, each in another order and without the last, smaller
    batch. An epoch is a lap, or where it is a share of one goes on where the epoch before ended.

    The next batch is made while a GPU works on the one before. A processor that trains has no core
    to spare for that.

    Parameters
    ----------
    member, epoch : int
        From 1 and from 0. They alone say which images come and how they are changed, so that a
        training can be taken up after any epoch.
    """
    made = _batches(source, settings, member, epoch)
    return made if source.device.type == "cpu" else ahead(made)


def _batches(source: Source, settings: Settings, member: int, epoch: int) -> Iterator[Batch]:
    size = min(settings.batch_size, len(source))
    _, generator = _shuffled(len(source), epoch_seed(settings, member, epoch))
    for lap, places in _places(len(source), settings, epoch):
        order, _ = _shuffled(len(source), epoch_seed(settings, member, lap))
        for place in places:
            # Sorted, a map on disk is read forward; the order inside a batch does not matter.
            rows = order[place * size : (place + 1) * size].sort().values
            images, labels = source.batch(rows)
            changed = augment(images, settings, generator)
            changed = changed.contiguous(memory_format=MEMORY_FORMATS[settings.layout])
            yield mixed(changed, labels, settings, generator)


def _places(n: int, settings: Settings, epoch: int) -> Iterator[tuple[int, range]]:
    """Yield the laps through the images that an epoch has a part in, and its batches of each."""
    n_steps, of_all = settings.n_steps(n), settings.steps_of_all(n)
    step, end = epoch * n_steps, (epoch + 1) * n_steps
    while step < end:
        lap, first = divmod(step, of_all)
        last = min(of_all, first + end - step)
        yield lap, range(first, last)
        step += last - first


def _shuffled(n: int, seed: int) -> tuple[Tensor, torch.Generator]:
    """Draw an order of n images; the generator that drew it goes on with their augmentation."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(n, generator=generator), generator


def mixed(images: Tensor, labels: Tensor, settings: Settings, generator: torch.Generator) -> Batch:
    """Blend each image with another of its batch (Zhang et al., mixup, 2018), where wanted."""
    if not settings.mixup:
        return Batch(images, labels, labels)
    seed = int(torch.randint(2**31, (), generator=generator))
    share = float(np.random.default_rng(seed).beta(settings.mixup, settings.mixup))
    order = torch.randperm(len(images), generator=generator).to(images.device)
    return Batch(torch.lerp(images[order], images, share), labels, labels[order], share)


def to_tensor(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Turn (n, h, w, c) uint8 into (n, c, h, w) float in [0, 255], channels last in memory."""
    return _to_float(torch.from_numpy(_writable(pixels)).to(device))


def _writable(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Copy pixels that a map on the disk lends: a tensor must not stand on read-only memory."""
    return pixels if pixels.flags.writeable else pixels.copy()


def _to_float(pixels: Tensor) -> Tensor:
    return pixels.permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)


def epoch_seed(settings: Settings, member: int, epoch: int) -> int:
    """Return a number of its own for each seed, member (from 1) and epoch (from 0)."""
    return settings.seed * 1_000_003 + (member - 1) * 10_007 + epoch
