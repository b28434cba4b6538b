from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import hilum
from hilum.heatmaps import (
    METHODS,
    GradientMaps,
    Grid,
    Occlusion,
    find_grid,
    heat_at,
    last_stage,
    log_odds,
    make_mapper,
    regrid,
)
from hilum.inference import Model
from hilum.networks import Ensemble, Member, Network, build_network, reduce
from hilum.pixels import PixelSpec
from hilum.placement import Axis, place
from hilum.settings import Settings

NETWORKS: dict[str, dict[str, Any]] = {
    "flat": {"network": "classic", "conv_channels": (3, 4, 5)},
    "unpadded, dense head": {
        "network": "classic",
        "conv_channels": (3, 4),
        "padding": "valid",
        "dense_units": (6, 5),
        "dropout_dense": 0.5,
        "dropout_conv": 0.3,
    },
    "residual": {"network": "residual", "conv_channels": (4, 6, 8), "activation": "silu"},
    "deep residual": {"network": "residual", "conv_channels": (3, 4), "blocks_per_stage": 2},
    "one block": {"network": "classic", "conv_channels": (4,), "pool": "average"},
    "one stage": {"network": "residual", "conv_channels": (4,)},
}


def make(name: str, n_classes: int = 2, *, side: int = 24) -> Network:
    """Build a network with all of its parts at work: statistics of batch norm, scales of 1."""
    torch.manual_seed(0)
    settings = Settings(input_height=side, input_width=side + 8, **NETWORKS[name])
    network = build_network(settings, n_classes, mean=[120.0], std=[60.0])
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return network.train()


def draw(n: int, side: int = 24) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (n, side, side + 8, 1), dtype=np.uint8)


def layers_of(network: Network) -> nn.Sequential:
    return cast(nn.Sequential, network.backbone)


def split(network: Network) -> tuple[nn.Module, nn.Module]:
    layers = layers_of(network)
    at = last_stage(layers)
    return layers[:at], nn.Sequential(layers[at:], network.gather, network.head)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_maps_agree_with_finite_differences(name: str, n_classes: int) -> None:
    network = make(name, n_classes).double()
    images, classes = draw(2), np.array([1, 0])
    maps = GradientMaps(network).maps(images, classes)
    early, late = split(network)
    prepared = torch.from_numpy(images).permute(0, 3, 1, 2).double()
    with torch.no_grad():
        features = early(network.normalise(prepared))
        for image, index in enumerate(classes):
            for row, column in ((0, 0), (1, 2), (features.shape[2] - 1, features.shape[3] - 1)):
                slope = 0.0
                for channel in range(features.shape[1]):
                    values = []
                    for change in (1e-5, -1e-5):
                        moved = features[image : image + 1].clone()
                        moved[0, channel, row, column] += change
                        logits = late(moved)[0].tolist()
                        values.append(
                            logits[index] if n_classes > 2 else (1 if index else -1) * logits[0]
                        )
                    gradient = (values[0] - values[1]) / 2e-5
                    slope += gradient * float(features[image, channel, row, column])
                assert maps[image, row, column] == pytest.approx(slope, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("name", NETWORKS)
def test_maps_agree_with_captum(name: str) -> None:
    captum = pytest.importorskip("captum.attr", reason="needs captum (the extra dev)")
    network = make(name, 3)
    images, classes = draw(4), np.array([0, 1, 2, 1])
    maps = GradientMaps(network).maps(images, classes)
    early, late = split(network)
    prepared = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    first = nn.Sequential(network.normalise, early)
    whole = nn.Sequential(first, late)
    found = captum.LayerGradientXActivation(whole, first).attribute(
        prepared, target=torch.from_numpy(classes)
    )
    torch.testing.assert_close(torch.from_numpy(maps), found.sum(dim=1).detach())


@pytest.mark.parametrize("name", NETWORKS)
def test_what_raises_one_of_two_classes_lowers_the_other(name: str) -> None:
    mapper = GradientMaps(make(name))
    images = draw(3)
    first, second = (mapper.maps(images, np.full(3, index)) for index in (0, 1))
    assert np.abs(second).max() > 0
    assert first == pytest.approx(-second)


def test_more_images_than_a_batch_get_the_maps_that_each_gets_alone() -> None:
    mapper, images, classes = GradientMaps(make("flat")), draw(70), np.arange(70) % 2
    alone = [mapper.maps(images[i : i + 1], classes[i : i + 1])[0] for i in (0, 33, 69)]
    assert mapper.maps(images, classes)[[0, 33, 69]] == pytest.approx(np.stack(alone), abs=1e-5)


def test_the_map_of_an_ensemble_is_the_mean_of_its_members_on_the_finest_grid() -> None:
    whole, half = make("residual"), make("residual", side=12)
    images, classes = draw(3), np.array([0, 1, 1])
    small = reduce(torch.from_numpy(images).permute(0, 3, 1, 2).float(), 2)
    small_images = small.permute(0, 2, 3, 1).numpy().astype(np.uint8)
    mapper = GradientMaps(Ensemble([Member(whole, 1), Member(half, 2)]))
    fine, coarse = GradientMaps(whole), GradientMaps(half)
    assert mapper.grid == fine.grid
    maps = fine.maps(images, classes)
    spread = regrid(
        coarse.maps(small_images, classes), coarse.grid.enlarged(2), fine.grid, *maps.shape[1:]
    )
    assert mapper.maps(images, classes) == pytest.approx((maps + spread) / 2, abs=1e-6)


def test_a_map_on_another_grid_lies_in_the_same_place_and_adds_up_to_as_much() -> None:
    coarse, fine = Grid(start=3.5, step=8), Grid(start=1.5, step=4)
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(2, 5, 6)).astype(np.float32)
    found = regrid(maps, coarse, fine, 10, 12)
    for row, column in np.ndindex(10, 12):
        # Bilinear between the four cells around, the outermost beyond them.
        at = [np.clip((1.5 + 4 * k - 3.5) / 8, 0, n - 1) for k, n in ((row, 5), (column, 6))]
        low = [int(np.floor(a)) for a in at]
        high = [min(k + 1, n - 1) for k, n in zip(low, (5, 6), strict=True)]
        down, across = at[0] - low[0], at[1] - low[1]
        above, below = (
            (1 - across) * maps[:, k, low[1]] + across * maps[:, k, high[1]]
            for k in (low[0], high[0])
        )
        value = (1 - down) * above + down * below
        assert found[:, row, column] == pytest.approx(value / 4, abs=1e-6)
    even = regrid(np.ones((1, 5, 6), np.float32), coarse, fine, 10, 12)
    assert even.sum() == pytest.approx(30)
    assert np.array_equal(regrid(maps, coarse, coarse, 5, 6), maps)


def test_cells_of_a_reduced_image_lie_in_the_middle_of_the_pixels_they_stand_for() -> None:
    # Pixels 0 and 1 of a reduced image stand for 0 to 3 and 4 to 7 of the whole one.
    assert [*Grid().enlarged(4).centres(2)] == [1.5, 5.5]
    assert Grid(start=1, step=2).enlarged(2) == Grid(start=2.5, step=4)


def test_the_last_stage_begins_after_the_last_but_one_halving() -> None:
    stages = {name: last_stage(layers_of(make(name))) for name in NETWORKS}
    # Convolution, activation, batch norm, pooling and in one of them dropout for each stage.
    assert stages == {
        "flat": 8,
        "unpadded, dense head": 4,
        "residual": 5,
        "deep residual": 5,
        "one block": 4,
        "one stage": 4,
    }


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("side", [32, 49, 96])
def test_the_grid_is_where_the_cells_look(name: str, side: int) -> None:
    """With equal weights everywhere, each cell's gradient is centred on what it looks at."""
    torch.manual_seed(0)
    settings = Settings(
        input_height=side,
        input_width=side,
        stem_stride=1 if side < 48 else 2,
        **{**NETWORKS[name], "pool": "average"},
    )
    backbone = layers_of(build_network(settings, 2).eval())
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    for part in (backbone[: last_stage(backbone)], backbone):
        image = torch.full((1, 1, side, side), 100.0, requires_grad=True)
        cells, grid = part(image), find_grid(part)
        n_cells = cells.shape[2]
        for cell in range(n_cells // 3, n_cells - n_cells // 3):
            (gradient,) = torch.autograd.grad(
                cells[0, :, cell, n_cells // 2].sum(), image, retain_graph=True
            )
            profile = gradient[0, 0].sum(dim=1).numpy()
            centre = (profile * np.arange(side)).sum() / profile.sum()
            assert abs(grid.start + cell * grid.step - centre) <= 0.15 * grid.step


# -- occlusion -----------------------------------------------------------------------------------


class BrightSpot:
    """Answers by how bright one place is."""

    facts = SimpleNamespace(preprocessing=PixelSpec(height=20, width=30), target="classes")

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        odds = pixels[:, 12:16, 4:9, 0].mean(axis=(1, 2)) / 50.0
        positive = 1 / (1 + np.exp(-odds))
        return np.stack([1 - positive, positive], axis=1)


@pytest.mark.parametrize("index", [0, 1])
def test_occlusion_agrees_with_covering_place_after_place(index: int) -> None:
    image = np.random.default_rng(0).integers(0, 80, (20, 30, 1), dtype=np.uint8)
    image[12:16, 4:9] = 200
    fake = BrightSpot()
    mapper = Occlusion(cast(Model, fake), share=0.3)
    (found,) = mapper.maps(image[None], np.array([index]))
    step, half = int(mapper.grid.step), 3
    assert (mapper.grid.start, step, found.shape) == (0, 3, (7, 10))

    def odds(pixels: NDArray[np.uint8]) -> float:
        probs = fake.probabilities(pixels[None])[0]
        return float(np.log(probs[index] / probs[1 - index]))

    for i in range(7):
        for j in range(10):
            covered = image.copy()
            for row in range(20):
                for column in range(30):
                    if abs(row - i * step) <= half and abs(column - j * step) <= half:
                        covered[row, column] = round(float(image.mean()))
            assert found[i, j] == pytest.approx(odds(image) - odds(covered), abs=1e-5)
    assert (found[4, 2] > 0) == (index == 1)


def test_log_odds_of_certainty_are_finite() -> None:
    probs = np.array([[0.0, 1.0, 0.0], [0.2, 0.5, 0.3]])
    assert np.isfinite(log_odds(probs, 0)).all()
    assert log_odds(probs, 1)[1] == pytest.approx(0)


def test_log_odds_of_a_label_leave_the_other_labels_out() -> None:
    """Where another label falls, nothing has changed for this one."""
    before, after = np.array([[0.5, 0.9]]), np.array([[0.5, 0.1]])
    assert log_odds(before, 0, alone=True) == log_odds(after, 0, alone=True) == 0
    assert log_odds(np.array([[1.0, 0.0]]), 0, alone=True)[0] > 50


# -- onto the picture -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["letterbox", "stretch", "crop"])
@pytest.mark.parametrize("shape", [(40, 25), (11, 90), (24, 32)])
def test_heat_on_the_picture_agrees_with_looking_up_every_pixel(
    mode: Any, shape: tuple[int, int]
) -> None:
    spec = PixelSpec(height=24, width=32, resize=mode)
    signed = np.random.default_rng(0).normal(size=(5, 7))
    grid = Grid(1.5, 4.0)
    rows, columns = place(shape, spec)
    found = heat_at(signed, grid, rows, columns)
    warm = np.maximum(signed, 0)

    def at(row: float, column: float) -> float:
        r = min(max((row - 1.5) / 4, 0), 4)
        c = min(max((column - 1.5) / 4, 0), 6)
        r0, c0 = int(r), int(c)
        r1, c1 = min(r0 + 1, 4), min(c0 + 1, 6)
        top = warm[r0, c0] * (1 - c + c0) + warm[r0, c1] * (c - c0)
        bottom = warm[r1, c0] * (1 - c + c0) + warm[r1, c1] * (c - c0)
        return float(top * (1 - r + r0) + bottom * (r - r0))

    for i in range(0, shape[0], 3):
        for j in range(0, shape[1], 3):
            seen = rows.is_seen[i] and columns.is_seen[j]
            expected = at(rows.positions[i], columns.positions[j]) if seen else 0.0
            assert found[i, j] == pytest.approx(expected, abs=1e-5)


def test_what_lowers_the_score_has_no_heat() -> None:
    axis = Axis(9, 9, 1, 0)
    assert not heat_at(-np.ones((3, 3)), Grid(1, 3), axis, axis).any()


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(hilum.SettingError) as error:
        make_mapper(Path("nowhere"), "gradcamm")
    assert str(error.value) == (
        "There is no method 'gradcamm' of making heat maps. Did you mean 'gradcam'? "
        f"The methods are: {', '.join(METHODS)}."
    )
