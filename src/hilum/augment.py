"""Augmentation of a whole batch as tensor operations, on whatever device trains.

Mirroring is exact. All other geometry is one resampling, so that rotation, zoom, shift and shear
blur the image once. Intensity changes imitate what differs between scanners. Every image gets its
own draw from the generator given, but for the loss of resolution, which is one for a batch: images
that shrink to different sizes are no tensor. The same generator state gives the same batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from hilum.settings import Settings

SHADE_POINTS = 4
"""A side, between which a bias field is interpolated."""


def augment(images: Tensor, settings: Settings, generator: Generator) -> Tensor:
    """Change a batch at random.

    Parameters
    ----------
    images : float tensor of shape (n, c, h, w)
        Values in [0, 255].
    generator : Generator
        On the CPU, so that every device draws the same.

    Returns
    -------
    float tensor of the same shape, values in [0, 255]
    """
    images = _mirror(images, settings, generator)
    if settings.augmented_share == 1:
        for is_wanted, change in CHANGES:
            if is_wanted(settings):
                images = change(images, settings, generator)
        return images
    images = images.clone()
    for is_wanted, change in CHANGES:
        if is_wanted(settings):
            chosen = torch.rand(len(images), generator=generator) < settings.augmented_share
            rows = chosen.nonzero()[:, 0].to(images.device)
            if len(rows):
                images[rows] = change(images[rows], settings, generator)
    return images


def _moves(settings: Settings) -> bool:
    return bool(
        settings.rotation or settings.zoom or settings.shift or settings.shear or settings.stretch
    )


def _uniform(n: int, low: float, high: float, generator: Generator, like: Tensor) -> Tensor:
    """Draw (n, 1, 1, 1) numbers in [low, high)."""
    drawn = torch.rand(n, generator=generator) * (high - low) + low
    return drawn.to(like.device, like.dtype).view(n, 1, 1, 1)


def _mirror(images: Tensor, settings: Settings, generator: Generator) -> Tensor:
    """Mirror half of the images in each way that is wanted; no pixel is computed anew."""

    def half() -> Tensor:
        return torch.rand(len(images), generator=generator).lt(0.5).to(images.device)

    if settings.flip_horizontal:
        images = torch.where(half()[:, None, None, None], images.flip(-1), images)
    if settings.flip_vertical:
        images = torch.where(half()[:, None, None, None], images.flip(-2), images)
    if settings.flip_diagonal:
        images = torch.where(half()[:, None, None, None], images.transpose(-1, -2), images)
    return images


def _affine(images: Tensor, settings: Settings, generator: Generator) -> Tensor:
    n, _, height, width = images.shape

    def draw(limit: float) -> Tensor:
        return (torch.rand(n, generator=generator) * 2 - 1) * limit

    angle, shear = (
        torch.deg2rad(draw(settings.rotation)),
        torch.tan(torch.deg2rad(draw(settings.shear))),
    )
    zoom = 1 + draw(settings.zoom)
    stretch = torch.exp(draw(-math.log(1 - settings.stretch)))
    shift_x, shift_y = draw(settings.shift) * 2, draw(settings.shift) * 2
    # The grid's coordinates run from -1 to 1 on both sides: a true rotation needs the aspect.
    aspect = width / height
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    rows = [
        [cos * stretch, (shear * cos - sin) / aspect * stretch, shift_x],
        [sin * aspect / stretch, (shear * sin + cos) / stretch, shift_y],
    ]
    theta = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)  # (n, 2, 3)
    grid = _sampling_grid(theta.to(images.device, images.dtype), height, width)
    return F.grid_sample(images, grid, mode="bilinear", align_corners=False)


def _sampling_grid(theta: Tensor, height: int, width: int) -> Tensor:
    """Return where each output pixel is taken from, of shape (n, h, w, 2), within the image.

    The same numbers as `affine_grid`, clamped. Its two planes are made apart and lie apart in
    memory, which takes a sixth of the time: the sums are separable.
    """
    ys = (torch.arange(height, device=theta.device) * 2 + 1) / height - 1
    xs = (torch.arange(width, device=theta.device) * 2 + 1) / width - 1
    planes = []
    for axis, size in ((0, width), (1, height)):
        by_x, by_y, start = (theta[:, axis, k].view(-1, 1, 1) for k in range(3))
        plane = torch.addcmul(by_y * ys.view(1, -1, 1) + start, by_x, xs.view(1, 1, -1))
        # Beyond the edge the image's own border goes on, as in letterboxing. Held at the centres
        # of the outermost pixels here, since not every device knows padding_mode="border".
        planes.append(plane.clamp_(1 / size - 1, 1 - 1 / size))
    return torch.stack(planes).permute(1, 2, 3, 0)


def _intensity(images: Tensor, settings: Settings, generator: Generator) -> Tensor:
    """Gamma, then contrast about the image's own mean, then brightness."""
    n = len(images)
    unit = images / 255
    if settings.gamma:
        spread = -math.log(1 - settings.gamma)
        unit = unit.clamp(0, 1) ** _uniform(n, -spread, spread, generator, images).exp()
    if settings.contrast:
        mean = unit.mean(dim=(1, 2, 3), keepdim=True)
        factor = _uniform(n, 1 - settings.contrast, 1 + settings.contrast, generator, images)
        unit = (unit - mean) * factor + mean
    if settings.brightness:
        unit = unit + _uniform(n, -settings.brightness, settings.brightness, generator, images)
    return unit.clamp(0, 1) * 255


def _shade(images: Tensor, settings: Settings, generator: Generator) -> Tensor:
    """Multiply by a smooth field, as coils and X-ray tubes do (a bias field)."""
    n, _, height, width = images.shape
    drawn = torch.randn(n, 1, SHADE_POINTS, SHADE_POINTS, generator=generator)
    points = (drawn * settings.bias_field).to(images.device, images.dtype)
    field = F.interpolate(points, [height, width], mode="bilinear", align_corners=True)
    return (images * field.exp()).clamp(0, 255)


def _noise(images: Tensor, settings: Settings, generator: Generator) -> Tensor:
    sigma = _uniform(len(images), 0, settings.noise * 255, generator, images)
    drawn = torch.randn(images.shape, generator=generator).to(images.device, images.dtype)
    return (images + drawn * sigma).clamp(0, 255)


def _blur(images: Tensor, settings: Settings, generator: Generator) -> Tensor:
    """Blur each image by its own Gaussian, rows then columns, as one grouped convolution."""
    n, c, height, width = images.shape
    radius = min(math.ceil(2 * settings.blur), min(height, width) - 1)
    sigma = _uniform(n, 0, settings.blur, generator, images).clamp(min=1e-3)
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernels = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernels = (kernels / kernels.sum(dim=-1, keepdim=True)).repeat_interleave(c, dim=0)
    flat = F.pad(images.reshape(1, n * c, height, width), [radius] * 4, mode="replicate")
    flat = F.conv2d(flat, kernels.view(n * c, 1, 1, -1), groups=n * c)
    flat = F.conv2d(flat, kernels.view(n * c, 1, -1, 1), groups=n * c)
    return flat.view(n, c, height, width)


def _low_resolution(images: Tensor, settings: Settings, generator: Generator) -> Tensor:
    """Shrink by one factor for the batch, so that it stays one tensor, and enlarge again."""
    factor = 1 - settings.low_resolution * float(torch.rand((), generator=generator))
    height, width = images.shape[-2:]
    size = [max(4, round(height * factor)), max(4, round(width * factor))]
    small = F.interpolate(images, size, mode="bilinear", antialias=True)
    return F.interpolate(small, [height, width], mode="bilinear")


def _erase(images: Tensor, settings: Settings, generator: Generator) -> Tensor:
    """Fill a rectangle of each image with its own mean (Zhong et al., 2020)."""
    n, _, height, width = images.shape

    def inside(size: int) -> Tensor:
        """Mark which of `size` places lie in a stretch at random, of shape (n, size)."""
        length = torch.rand(n, 1, generator=generator) * settings.erasing * size
        start = torch.rand(n, 1, generator=generator) * (size - length)
        places = torch.arange(size) + 0.5
        return (places > start) & (places < start + length)

    rows, columns = inside(height), inside(width)
    patch = (rows[:, None, :, None] & columns[:, None, None, :]).to(images.device)
    return torch.where(patch, images.mean(dim=(2, 3), keepdim=True), images)


Change = Callable[[Tensor, Settings, Generator], Tensor]

CHANGES: tuple[tuple[Callable[[Settings], object], Change], ...] = (
    (_moves, _affine),
    (lambda settings: settings.low_resolution, _low_resolution),
    (lambda settings: settings.blur, _blur),
    (lambda settings: settings.gamma or settings.contrast or settings.brightness, _intensity),
    (lambda settings: settings.bias_field, _shade),
    (lambda settings: settings.noise, _noise),
    (lambda settings: settings.erasing, _erase),
)
"""What may change a batch, in this order, each with whether the settings want it."""
