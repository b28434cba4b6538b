from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hilum.backbones import MONAI_NETWORKS, Backbone
from hilum.calibrators import Calibrator
from hilum.errors import MissingExtraError, SettingError
from hilum.export import check_agreement, run_exported, to_graph, to_onnx
from hilum.fine_tuning import freeze
from hilum.heatmaps import GradientMaps, measure_grid
from hilum.networks import Network, build_network
from hilum.settings import Settings, make_settings
from hilum.training import network_logits

HAS = {name: importlib.util.find_spec(name) is not None for name in ("timm", "monai")}
needs_monai = pytest.mark.skipif(not HAS["monai"], reason="needs MONAI: pip install 'hilum[monai]'")
needs_timm = pytest.mark.skipif(not HAS["timm"], reason="needs timm: pip install 'hilum[timm]'")

TIMM = ("resnet18", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224")
MONAI = ("ResNet10", "DenseNet121", "EfficientNet-B0", "SEResNet50")
LITE0 = "hilum:efficientnet_lite0"

EXPORTED = [
    pytest.param(LITE0, id="efficientnet_lite0"),
    *(pytest.param(f"timm:{name}", marks=needs_timm, id=name) for name in TIMM),
    pytest.param("timm:swin_tiny_patch4_window7_224", marks=needs_timm, id="swin"),
]


def settings_of(backbone: str, **changes: Any) -> Settings:
    side = 224 if "swin" in backbone else 64
    values = {"backbone": backbone, "input_height": side, "input_width": side, "channels": 1}
    return make_settings(values | changes)


def build(backbone: str, **changes: Any) -> Network:
    torch.manual_seed(0)
    return build_network(settings_of(backbone, **changes), 2, mean=[100.0], std=[50.0]).eval()


def images_of(network: Network, n: int = 3) -> np.ndarray[Any, np.dtype[np.uint8]]:
    assert isinstance(network.backbone, Backbone)
    channels, height, width = network.backbone.input_shape
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, height, width, channels), dtype=np.uint8)


# Of MONAI's networks a whole run exports one, in test_pretrained.py.
@pytest.mark.parametrize("backbone", EXPORTED)
def test_a_backbone_is_exported_and_explained_as_any_network_is(backbone: str) -> None:
    settings, network = settings_of(backbone), build(backbone)
    pixels = images_of(network)
    exported = to_onnx(
        to_graph(network, settings, 2),
        settings.pixel_spec,
        ("a", "b"),
        calibrator=Calibrator(),
    )
    found = run_exported(exported, pixels)
    check_agreement(found, network_logits(network, pixels), Calibrator())
    maps = GradientMaps(network).maps(pixels, np.array([0, 1, 1]))
    assert GradientMaps(network).name == "Grad-CAM"
    assert maps.ndim == 3
    assert min(maps.shape[1:]) >= 2
    assert (maps.std(axis=(1, 2)) > 0).all()


def test_maps_of_a_published_network_weigh_channels_by_their_mean_gradient() -> None:
    """Grad-CAM by its definition, on what enters the last stage."""
    network = build("hilum:efficientnet_lite0").double().eval()
    assert isinstance(network.backbone, Backbone)
    pixels = images_of(network)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).double()
    features, seen = network.backbone.watched(network.normalise(images))
    (gradient,) = torch.autograd.grad(network.classify(seen)[:, 0].sum(), features)
    expected = np.zeros((len(pixels), *features.shape[2:]))
    for number, (map_of_one, slope) in enumerate(
        zip(features.detach().numpy(), gradient.numpy(), strict=True)
    ):
        for channel, plane in enumerate(map_of_one):
            expected[number] += slope[channel].mean() * plane
    found = GradientMaps(network.float()).maps(pixels, np.ones(len(pixels), dtype=np.int64))
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-5 * np.abs(expected).max())


@needs_monai
@pytest.mark.parametrize("name", MONAI)
def test_cutting_a_network_of_monai_changes_nothing(name: str) -> None:
    from monai.networks import nets

    network, family = build(f"monai:{name}"), MONAI_NETWORKS[name]
    whole = family.make(nets, name, 1).eval()
    assert isinstance(network.backbone, Backbone)
    head = network.head[-1]
    assert isinstance(head, nn.Linear)
    whole.load_state_dict(
        network.backbone.model.state_dict()
        | {f"{family.classifier}.weight": head.weight, f"{family.classifier}.bias": head.bias}
    )
    images = torch.rand(2, 1, 64, 64) * 255
    with torch.no_grad():
        expected = whole((images - 100) / 50)
        assert torch.allclose(network(images), expected, rtol=1e-4, atol=1e-4)


@needs_timm
@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "convnext_atto"])
def test_cutting_a_network_of_timm_changes_nothing(name: str) -> None:
    import timm

    network = build(f"timm:{name}")
    assert isinstance(network.backbone, Backbone)
    whole = timm.create_model(name, pretrained=False, in_chans=1, num_classes=0).eval()
    whole.load_state_dict(network.backbone.model.state_dict())
    images = torch.rand(2, 1, 64, 64) * 255
    with torch.no_grad():
        expected = network.head(whole((images - 100) / 50))
        assert torch.allclose(network(images), expected, rtol=1e-4, atol=1e-4)


@needs_monai
def test_every_named_network_of_monai_is_there() -> None:
    from monai.networks import nets

    for name in MONAI_NETWORKS:
        if not name.startswith("EfficientNet"):
            assert hasattr(nets, name if name.startswith(("SE", "Dense")) else name.lower()), name


@needs_monai
@pytest.mark.parametrize("name", MONAI)
def test_maps_are_of_twice_the_resolution_of_the_last(name: str) -> None:
    network = build(f"monai:{name}")
    maps = GradientMaps(network).maps(images_of(network), np.array([0, 1, 1]))
    assert maps.shape == (3, 4, 4)
    assert (maps.std(axis=(1, 2)) > 0).all()


@needs_monai
def test_cells_lie_where_odd_padded_convolutions_put_them() -> None:
    network = build("monai:ResNet10", input_height=128, input_width=128)
    assert isinstance(network.backbone, Backbone)
    grid = measure_grid(network.backbone)
    assert grid.step == 16
    assert abs(grid.start) < 3  # each of its layers is centred on a pixel that it is given


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"backbone": "timm:hf-hub:someone/net"},
            "Setting backbone = 'timm:hf-hub:someone/net' cannot be used: it must be a library "
            "and a network of it, such as timm:resnet18 or monai:ResNet18 (hilum:NAME, "
            "timm:NAME or monai:NAME, in place of the network above).",
        ),
        (
            {"weights": "w.safetensors"},
            "The settings do not fit together: weights belong to a backbone, and none is set.",
        ),
        (
            {"backbone": "monai:ResNet10", "probe": True},
            "The settings do not fit together: probe holds a backbone still, which makes sense "
            "only with weights.",
        ),
        (
            {"backbone": "monai:ResNet10", "weights": "w.safetensors", "frozen_stages": 1},
            "The settings do not fit together: frozen_stages are known of Hilum's own backbones "
            "alone.",
        ),
        (
            {"backbone": "hilum:efficientnet_lite0", "frozen_norms": True},
            "The settings do not fit together: frozen_norms holds a backbone still, which makes "
            "sense only with weights.",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError) as caught:
        make_settings(values)
    assert str(caught.value) == message


def test_unknown_names_are_refused() -> None:
    with pytest.raises(SettingError, match=r"no such network\. Did you mean 'ResNet18'\? There"):
        build("monai:resnet18")
    if not HAS["timm"]:
        with pytest.raises(MissingExtraError, match=r"pip install 'hilum\[timm\]'"):
            build("timm:resnet18")
        return
    with pytest.raises(SettingError, match=r"has no network 'resnet_18'\. Did you mean 'resnet"):
        build("timm:resnet_18")
    with pytest.raises(SettingError, match="knows no weights 'a9' of resnet18"):
        build("timm:resnet18.a9")
    assert build("timm:resnet18.a1_in1k").head is not None


@needs_timm
def test_a_network_without_a_map_is_refused() -> None:
    with pytest.raises(SettingError, match="it ends in no map of places"):
        build("timm:pit_ti_224", input_height=224, input_width=224)


def test_held_statistics_make_norm_and_convolution_one_step_of_the_same_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Held against the network as it is exported, which takes the two one after the other."""
    settings = settings_of(LITE0, weights="imagenet", frozen_norms=True)
    network = build(LITE0).double()
    with torch.no_grad():
        for name, value in network.named_buffers():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif name.endswith("running_mean"):
                value.normal_(0, 0.1)
    images = torch.rand(3, 1, 64, 64, dtype=torch.float64) * 255

    def gradients() -> tuple[torch.Tensor, list[torch.Tensor]]:
        network.zero_grad(set_to_none=True)
        logits = network(images)
        logits.sum().backward()
        return logits.detach(), [p.grad for p in network.parameters() if p.grad is not None]

    network.eval()
    with monkeypatch.context() as patch:
        patch.setattr("torch.compiler.is_exporting", lambda: True)
        wanted, wanted_gradients = gradients()
    network.train()
    freeze(network, 0, settings)
    found, found_gradients = gradients()
    assert torch.allclose(found, wanted, rtol=1e-9, atol=1e-12)
    assert len(found_gradients) == len(wanted_gradients) == len(list(network.parameters()))
    for one, other in zip(found_gradients, wanted_gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-6, atol=1e-9)
