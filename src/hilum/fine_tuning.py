"""Which weights learn, how fast and with what decay; a backbone's apart from its head's."""

from __future__ import annotations

from typing import Any, cast

from torch import nn

from hilum.backbones import Backbone
from hilum.efficientnet import EfficientNetLite
from hilum.networks import Network
from hilum.settings import Settings


def parameter_groups(network: Network, settings: Settings) -> list[dict[str, Any]]:
    """Part the weights by learning rate and weight decay, which spares biases and norms.

    The head comes first, with the learning rate that the settings name; a backbone has its share.
    """
    rate = settings.learning_rate
    parts: list[tuple[list[nn.Parameter], float]] = [(list(network.parameters()), rate)]
    if settings.backbone is not None:
        backbone = list(network.backbone.parameters())
        inside = set(map(id, backbone))
        head = [p for p in network.parameters() if id(p) not in inside]
        parts = [(head, rate), (backbone, rate * settings.backbone_rate)]
    return [
        {
            "params": [p for p in parameters if (p.ndim > 1) == is_decayed],
            "lr": lr,
            "weight_decay": settings.weight_decay if is_decayed else 0.0,
        }
        for parameters, lr in parts
        for is_decayed in (True, False)
    ]


def freeze(network: Network, epoch: int, settings: Settings) -> None:
    """Hold the backbone still, or parts of it: weights, and the statistics of batch norm.

    To be called in each epoch after `train()`, which would let batch norm learn.
    """
    if settings.weights is None:
        return
    backbone = network.backbone
    if settings.frozen_epochs:
        is_frozen = epoch < settings.frozen_epochs
        backbone.requires_grad_(not is_frozen)
        if is_frozen:
            backbone.eval()
    if settings.frozen_norms:
        _hold_norms(backbone)
    if settings.frozen_stages:
        own = cast(EfficientNetLite, cast(Backbone, backbone).model)
        for part in own.first_stages(settings.frozen_stages):
            _hold_norms(part.requires_grad_(False))


def _hold_norms(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eval()
