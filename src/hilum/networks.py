"""The CNNs: the classic sequential one of the Keras tutorials, a residual one, those of others.

All take images of shape (n, c, h, w) in [0, 255] as float, normalise them by constants kept
among their weights, or each image by itself, and return logits of shape (n, n_outputs): one output
for two classes (the logit of the second), else one for each class; for multi-label data one for
each label.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.backbones import build_backbone
from hilum.efficientnet import PHOTO_MEAN, PHOTO_STD
from hilum.errors import SettingError
from hilum.settings import Settings
from hilum.targets import TargetKind

NETWORK_SETTINGS = (
    *("target", "input_height", "input_width", "channels", "normalisation", "network"),
    *("conv_channels", "kernel_size", "stem_stride"),
    *("padding", "activation", "batch_norm", "pool", "dropout_conv", "dense_units"),
    *("dropout_dense", "blocks_per_stage", "backbone", "members", "reductions"),
    "kinds",
)
"""The settings that a network is built from; stored with its weights."""

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


class Normalise(nn.Module):
    """Subtract a mean and divide by a deviation, by channel.

    Of the training pixels, or those that a backbone's weights were learnt with.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return (images - cast(Tensor, self.mean)) / cast(Tensor, self.std)


class StandardiseEach(nn.Module):
    """Subtract each image's own mean and divide by its own deviation, over all channels at once.

    What a scanner's gain and offset do to all pixels alike is gone; colours keep their proportions.
    """

    # In grey levels: an image with no more contrast than this is noise, and stays small.
    LEAST_DEVIATION = 1.0

    def forward(self, images: Tensor) -> Tensor:
        centred = images - images.mean(dim=(1, 2, 3), keepdim=True)
        variance = centred.square().mean(dim=(1, 2, 3), keepdim=True)
        return centred / (variance + self.LEAST_DEVIATION**2).sqrt()


class Network(nn.Module):
    """Normalisation, backbone and head.

    Parameters
    ----------
    mean, std : sequences of float, one a channel
        Of the training pixels, in [0, 255]; for backbones that take pixels so.
    """

    def __init__(
        self, settings: Settings, n_classes: int, *, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.normalise = _normalisation(settings, mean, std)
        self.backbone: nn.Module
        self.backbone, self.gather, n_features = build_parts(settings)
        self.head = dense_head(settings, n_features, n_outputs(n_classes, settings.target))

    def feature_map(self, images: Tensor) -> Tensor:
        """Return what the last block makes of the images, of shape (n, channels, h, w)."""
        return cast(Tensor, self.backbone(self.normalise(images)))

    def classify(self, seen: Tensor) -> Tensor:
        """Turn the last feature map, (n, channels, h, w), into logits, (n, n_outputs)."""
        return cast(Tensor, self.head(self.gather(seen)))

    def examine(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits, (n, n_outputs), and the last map's spatial mean, (n, channels)."""
        seen = self.feature_map(images)
        return self.classify(seen), seen.mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.feature_map(images))


def _normalisation(settings: Settings, mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    if settings.backbone is not None and settings.is_own:
        return Normalise([PHOTO_MEAN] * settings.channels, [PHOTO_STD] * settings.channels)
    return StandardiseEach() if settings.normalisation == "image" else Normalise(mean, std)


def build_parts(settings: Settings) -> tuple[nn.Module, nn.Module, int]:
    """Build backbone and gathering, with the number of features that the latter returns."""
    if settings.backbone is not None:
        return build_backbone(settings)
    return {"classic": classic_backbone, "residual": residual_backbone}[settings.network](settings)


def reduce(images: Tensor, factor: int) -> Tensor:
    """Make images (n, c, h, w) of whole grey levels smaller, as `pixels.ReducedImages` does."""
    return images if factor == 1 else F.avg_pool2d(images, factor).round()


class Member(NamedTuple):
    """A network of an ensemble, and the factor by which it gets its images reduced."""

    network: Network
    reduction: int


class Ensemble(nn.Module):
    """Networks that were trained apart, some on reduced images; its logits are the mean of theirs.

    Parameters
    ----------
    members : sequence of Member
    """

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__()
        self.members = nn.ModuleList(member.network for member in members)
        self.reductions = tuple(member.reduction for member in members)

    def examine(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean of the logits, and the members' features one behind the other."""
        found = [m.network.examine(reduce(images, m.reduction)) for m in members_of(self)]
        logits, features = zip(*found, strict=True)
        return torch.stack(logits).mean(dim=0), torch.cat(features, dim=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.examine(images)[0]


Classifier = Network | Ensemble
"""What is trained, exported and stored as one model."""


def members_of(network: Classifier) -> list[Member]:
    """Return the networks whose logits are averaged: one, where it is no ensemble."""
    if isinstance(network, Network):
        return [Member(network, 1)]
    networks = (cast(Network, each) for each in network.members)
    return [Member(*pair) for pair in zip(networks, network.reductions, strict=True)]


def build_network(
    settings: Settings,
    n_classes: int,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Network:
    """Build one network that the settings describe, weights drawn from the global generator.

    Raises
    ------
    SettingError
        If the input is too small for the number of blocks.
    """
    unit_mean, unit_std = [0.0] * settings.channels, [255.0] * settings.channels
    return Network(settings, n_classes, mean=mean or unit_mean, std=std or unit_std)


def build_classifier(settings: Settings, n_classes: int) -> Classifier:
    """Build what a model holds: the network, or as many as the settings want members.

    Errors are those of `build_network`.
    """
    members = [
        Member(build_network(settings.of(turn), n_classes), turn.reduction)
        for turn in settings.turns()
    ]
    return members[0].network if len(members) == 1 else Ensemble(members)


def n_outputs(n_classes: int, target: TargetKind = "classes") -> int:
    """Two classes need one logit, more need one each, and so does every label of its own."""
    return 1 if n_classes == 2 and target != "multilabel" else n_classes


def n_parameters(network: Classifier) -> int:
    """Count weights and batch-norm statistics, as Keras does; not the normalisation constants."""
    statistics = sum(
        buffer.numel()
        for name, buffer in network.named_buffers()
        if name.endswith(("running_mean", "running_var"))
    )
    return statistics + sum(parameter.numel() for parameter in network.parameters())


def layers(network: Classifier) -> list[str]:
    """Name the layers in order, one line each, for people."""
    leaves = [module for module in network.modules() if not list(module.children())]
    return [
        _describe(module)
        for module in leaves
        if not isinstance(module, Normalise | StandardiseEach)
    ]


def _describe(module: nn.Module) -> str:
    if isinstance(module, nn.Conv2d):
        kernel, stride = module.kernel_size[0], module.stride[0]
        padding = "unpadded" if module.padding in ("valid", (0, 0)) else "padded"
        strided = f", stride {stride}" if stride > 1 else ""
        return f"convolution {kernel}×{kernel}, {module.out_channels} channels, {padding}{strided}"
    if isinstance(module, nn.Linear):
        return f"dense, {module.out_features} units"
    if isinstance(module, nn.BatchNorm2d):
        return "batch norm"
    if isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
        kind = "max" if isinstance(module, nn.MaxPool2d) else "average"
        return f"{kind}-pooling 2×2"
    if isinstance(module, nn.Dropout | nn.Dropout2d):
        return f"dropout {module.p:g}"
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return "global average pooling"
    return type(module).__name__.lower()


def dense_head(settings: Settings, n_features: int, outputs: int) -> nn.Sequential:
    """Hidden dense layers with dropout before each, then the output layer."""
    parts: list[nn.Module] = []
    for units in settings.dense_units:
        parts += _dropout(settings.dropout_dense)
        parts += [nn.Linear(n_features, units), ACTIVATIONS[settings.activation]()]
        n_features = units
    parts += [*_dropout(settings.dropout_dense), nn.Linear(n_features, outputs)]
    return nn.Sequential(*parts)


def _dropout(share: float) -> list[nn.Module]:
    return [nn.Dropout(share)] if share else []


class ClassicBackbone(nn.Sequential):
    """Layers one after another; in training, ReLU, batch norm and max-pooling as one function."""

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and x.device.type == "cpu"):
            return cast(Tensor, super().forward(x))  # type: ignore[no-untyped-call]
        # Numba takes half a second to import, and prediction never needs it.
        from hilum.kernels import is_fusable, relu_norm_pool

        layers = list(self)
        while layers:
            if is_fusable(layers[:3], x):
                x = relu_norm_pool(x, cast(nn.BatchNorm2d, layers[1]))
                layers = layers[3:]
            else:
                x = layers.pop(0)(x)
        return x


def classic_backbone(settings: Settings) -> tuple[nn.Sequential, nn.Module, int]:
    """Blocks of convolution, activation, batch norm, 2×2 pooling, dropout; then flatten."""
    parts: list[nn.Module] = []
    channels: int = settings.channels
    height, width = settings.input_height, settings.input_width
    for out in settings.conv_channels:
        height, width = (height - settings.trimmed) // 2, (width - settings.trimmed) // 2
        if min(height, width) < 1:
            raise SettingError(
                f"The input of {settings.input_height}×{settings.input_width} pixels is too small "
                f"for {len(settings.conv_channels)} blocks. Raise input_height and input_width, "
                "or shorten conv_channels."
            )
        parts.append(nn.Conv2d(channels, out, settings.kernel_size, padding=settings.padding))
        parts.append(ACTIVATIONS[settings.activation]())
        if settings.batch_norm:
            parts.append(nn.BatchNorm2d(out))
        parts.append(nn.MaxPool2d(2) if settings.pool == "max" else nn.AvgPool2d(2))
        if settings.dropout_conv:
            parts.append(nn.Dropout(settings.dropout_conv))
        channels = out
    return ClassicBackbone(*parts), nn.Flatten(), channels * height * width


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut (He et al., Deep residual learning, 2016)."""

    def __init__(self, channels: int, out: int, *, stride: int, activation: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.activation = ACTIVATIONS[activation]()
        # Averaging before the 1×1 convolution keeps what a strided one would skip (He et al.,
        # Bag of tricks, 2019).
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels != out:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity(),
                nn.Conv2d(channels, out, 1, bias=False),
                nn.BatchNorm2d(out),
            )
        # A block that begins as the identity trains more steadily.
        nn.init.zeros_(self.norm2.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return cast(Tensor, self.activation(y + self.shortcut(x)))


def residual_backbone(settings: Settings) -> tuple[nn.Sequential, nn.Module, int]:
    """A stem and stages of residual blocks, each stage at half the resolution of the one before.

    The first stage has the resolution that the stem leaves: halving there would blur away what
    fills a few pixels only.
    """
    first, *_ = settings.conv_channels
    stem = nn.Conv2d(
        settings.channels, first, 3, stride=settings.stem_stride, padding=1, bias=False
    )
    parts: list[nn.Module] = [stem, nn.BatchNorm2d(first), ACTIVATIONS[settings.activation]()]
    channels = first
    for stage, out in enumerate(settings.conv_channels):
        for block in range(settings.blocks_per_stage):
            stride = 2 if block == 0 and stage > 0 else 1
            parts.append(
                ResidualBlock(channels, out, stride=stride, activation=settings.activation)
            )
            channels = out
    gather = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*parts), gather, channels


def log_probabilities(logits: Tensor) -> Tensor:
    """Turn logits (n, n_outputs) of classes or grades into log-probabilities (n, n_classes)."""
    if logits.shape[1] == 1:
        return torch.cat([F.logsigmoid(-logits), F.logsigmoid(logits)], dim=1)
    return F.log_softmax(logits, dim=1)
