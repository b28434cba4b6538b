from __future__ import annotations

import pytest
import torch
from torch import nn

from hilum.fine_tuning import freeze, parameter_groups
from hilum.networks import Network
from hilum.settings import Settings
from hilum.training import make_optimizer
from test_backbones import LITE0, build, needs_monai, settings_of


@needs_monai
def test_the_backbone_has_its_share_of_the_learning_rate() -> None:
    network = build("monai:ResNet10")
    settings = settings_of("monai:ResNet10", learning_rate=0.01, backbone_rate=0.1)
    groups = parameter_groups(network, settings)
    assert [group["lr"] for group in groups] == pytest.approx([0.01, 0.01, 0.001, 0.001])
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))
    assert {id(p) for p in network.head.parameters()} == {
        id(p) for group in groups[:2] for p in group["params"]
    }


def step(network: Network, settings: Settings, epoch: int) -> list[str]:
    """Learn once from four images; return the names of what has changed."""
    optimizer = make_optimizer(network, settings)
    images, labels = torch.rand(4, 1, 64, 64) * 255, torch.tensor([[0.0], [1.0], [0.0], [1.0]])
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    freeze(network, epoch, settings)
    nn.functional.binary_cross_entropy_with_logits(network(images), labels).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    after = network.state_dict()
    return [name for name, value in before.items() if not torch.equal(value, after[name])]


@needs_monai
def test_a_frozen_backbone_stays_as_it_is_batch_norm_and_all() -> None:
    settings = settings_of(
        "monai:ResNet10", weights="made.safetensors", frozen_epochs=1, learning_rate=0.1
    )
    network = build("monai:ResNet10")
    first, second = (step(network, settings, epoch) for epoch in (0, 1))
    assert first
    assert all(name.startswith("head.") for name in first)
    assert any(name.startswith("backbone.") for name in second)


def test_first_stages_and_statistics_can_be_held_still() -> None:
    settings = settings_of(
        LITE0, weights="imagenet", frozen_stages=3, frozen_norms=True, learning_rate=0.1
    )
    network = build(LITE0)
    changed = set(step(network, settings, epoch=0))
    before = "backbone.model."
    held = (f"{before}_conv_stem", f"{before}_bn0", *(f"{before}_blocks.{n}." for n in range(5)))
    assert not [name for name in changed if name.startswith(held) or "running_" in name]
    learnt = {name for name, _ in network.named_parameters() if not name.startswith(held)}
    assert changed == learnt

    free = settings.model_copy(update={"frozen_stages": 0, "frozen_norms": False})
    assert f"{before}_conv_stem.weight" in step(build(LITE0), free, epoch=0)
