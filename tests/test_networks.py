from __future__ import annotations

import numpy as np
import pytest
import torch

from hilum.errors import SettingError
from hilum.networks import (
    Ensemble,
    build_classifier,
    build_network,
    layers,
    log_probabilities,
    members_of,
    n_parameters,
    reduce,
)
from hilum.pixels import ReducedImages
from hilum.settings import Settings

CLASSIC = Settings(
    network="classic",
    input_height=150,
    input_width=150,
    padding="valid",
    conv_channels=(32, 64, 128, 256),
    dense_units=(128,),
)


def test_classic_network_has_the_parameters_counted_by_hand() -> None:
    convolutions = 32 * 9 + 32 + 64 * 32 * 9 + 64 + 128 * 64 * 9 + 128 + 256 * 128 * 9 + 256
    batch_norms = 4 * (32 + 64 + 128 + 256)
    dense = 7 * 7 * 256 * 128 + 128 + 128 + 1
    assert n_parameters(build_network(CLASSIC, 2)) == convolutions + batch_norms + dense == 1995649


def test_layers_are_named_in_order() -> None:
    assert layers(build_network(CLASSIC, 2))[:4] == [
        "convolution 3×3, 32 channels, unpadded",
        "relu",
        "batch norm",
        "max-pooling 2×2",
    ]


@pytest.mark.parametrize("network", ["classic", "residual"])
@pytest.mark.parametrize("size", [(28, 28), (32, 48), (96, 64)])
@pytest.mark.parametrize(("n_classes", "n_outputs"), [(2, 1), (3, 3), (20, 20)])
def test_any_input_size_gives_logits(
    network: str, size: tuple[int, int], n_classes: int, n_outputs: int
) -> None:
    settings = Settings(
        network=network,
        input_height=size[0],
        input_width=size[1],
        channels=3,
        conv_channels=(4, 8),
    )
    logits = build_network(settings, n_classes)(torch.rand(2, 3, *size) * 255)
    assert logits.shape == (2, n_outputs)


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_tensors_and_stored_images_are_reduced_to_the_same_grey_levels(factor: int) -> None:
    pixels = np.random.default_rng(factor).integers(0, 256, (9, 16, 24, 3), dtype=np.uint8)
    reduced = reduce(torch.from_numpy(pixels).permute(0, 3, 1, 2).float(), factor)
    expected = ReducedImages(pixels, factor)[:] if factor > 1 else pixels
    assert np.array_equal(reduced.permute(0, 2, 3, 1).numpy(), expected)


def test_an_ensemble_gives_the_mean_of_the_logits_and_all_features() -> None:
    torch.manual_seed(0)
    settings = Settings(
        input_height=32, input_width=48, conv_channels=(4, 8), members=3, reductions=(1, 2, 4)
    )
    ensemble = build_classifier(settings, 3).eval()
    assert isinstance(ensemble, Ensemble)
    images = torch.randint(256, (5, 1, 32, 48)).float()
    # A reduced network has a stage at full resolution instead of the stem that halves.
    stems = [layers(network)[0] for network, _ in members_of(ensemble)]
    halving, keeping = (f"convolution 3×3, {channels} channels, padded" for channels in (4, 2))
    assert stems == [f"{halving}, stride 2", keeping, keeping]
    parts = [network.examine(reduce(images, f)) for network, f in members_of(ensemble)]
    logits, features = ensemble.examine(images)
    torch.testing.assert_close(logits, sum(part[0] for part in parts) / 3)
    torch.testing.assert_close(features, torch.cat([part[1] for part in parts], dim=1))
    torch.testing.assert_close(ensemble(images), logits)


def test_one_network_is_no_ensemble() -> None:
    settings = Settings(input_height=32, input_width=32, reductions=(1, 2))
    network = build_classifier(settings, 2)
    assert not isinstance(network, Ensemble)
    assert members_of(network) == [(network, 1)]


def test_input_too_small_for_the_blocks_is_refused() -> None:
    settings = CLASSIC.model_copy(update={"input_height": 16, "input_width": 150})
    with pytest.raises(SettingError) as error:
        build_network(settings, 2)
    assert str(error.value) == (
        "The input of 16×150 pixels is too small for 4 blocks. Raise input_height and "
        "input_width, or shorten conv_channels."
    )


def test_normalisation_is_part_of_the_network() -> None:
    settings = Settings(input_height=16, input_width=16, conv_channels=(4,))
    torch.manual_seed(0)
    plain = build_network(settings, 2, mean=[0.0], std=[1.0]).eval()
    shifted = build_network(settings, 2, mean=[100.0], std=[50.0]).eval()
    shifted.backbone, shifted.head = plain.backbone, plain.head
    images = torch.rand(2, 1, 16, 16) * 255
    torch.testing.assert_close(shifted(images), plain((images - 100) / 50))


def test_log_probabilities_agree_with_softmax_over_two_logits() -> None:
    logits = torch.tensor([[-3.0], [0.0], [5.0]])
    both = torch.cat([torch.zeros_like(logits), logits], dim=1)
    torch.testing.assert_close(log_probabilities(logits), torch.log_softmax(both, dim=1))
    assert torch.isfinite(log_probabilities(torch.tensor([[-500.0], [500.0]]))).all()


def test_an_image_standardised_by_itself_bears_gain_and_offset() -> None:
    settings = Settings(normalisation="image", input_height=16, input_width=16, conv_channels=(4,))
    network = build_network(settings, 2).eval()
    images = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 200
    # One grey level of noise is held against contrast, so the two are equal but for that.
    torch.testing.assert_close(network(images * 0.5 + 20), network(images), rtol=0, atol=1e-3)


def test_a_flat_image_is_standardised_to_nothing() -> None:
    settings = Settings(normalisation="image", input_height=16, input_width=16, conv_channels=(4,))
    flat = torch.full((1, 1, 16, 16), 77.0)
    assert not build_network(settings, 2).normalise(flat).any()


def test_a_stem_without_stride_keeps_the_resolution() -> None:
    sizes = {}
    for stride in (1, 2):
        settings = Settings(
            stem_stride=stride, input_height=32, input_width=32, conv_channels=(4, 8)
        )
        network = build_network(settings, 2).eval()
        sizes[stride] = network.feature_map(torch.zeros(1, 1, 32, 32)).shape[-1]
    assert sizes == {1: 16, 2: 8}
