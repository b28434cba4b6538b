from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

import hilum
import tiny
from hilum import map_checks
from hilum.heatmaps import GradientMaps, Grid
from hilum.map_checks import (
    body_mask,
    border_mask,
    border_share,
    check_maps,
    check_randomisation,
    rank_correlation,
    redrawn,
    similarity,
)
from hilum.networks import Network, build_network
from hilum.pixels import PixelSpec, prepare
from hilum.placement import Axis, place
from hilum.settings import Settings


def make_network(**settings: Any) -> Network:
    torch.manual_seed(0)
    chosen = {"input_height": 32, "input_width": 32, "conv_channels": (8, 16, 16)} | settings
    return build_network(Settings(**chosen), 2, mean=[100.0], std=[50.0]).eval()


def test_rank_correlation_agrees_with_scipy_and_knows_no_order_in_a_flat_map() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, (6, 7)).astype(float), rng.normal(size=(6, 7))
    expected = spearmanr(a.ravel(), b.ravel()).statistic
    assert rank_correlation(a, b) == pytest.approx(expected)
    assert rank_correlation(a, np.zeros((6, 7))) is None


def test_similarity_agrees_with_window_after_window() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((11, 9)), rng.random((11, 9))
    # Reflected about its edge, as the filter sees it.
    wide_a, wide_b = (np.pad(p, 3, mode="symmetric") for p in (a, b))
    values = []
    for row in range(11):
        for column in range(9):
            u = wide_a[row : row + 7, column : column + 7].ravel()
            v = wide_b[row : row + 7, column : column + 7].ravel()
            shared = np.mean((u - u.mean()) * (v - v.mean()))
            top = (2 * u.mean() * v.mean() + 1e-4) * (2 * shared + 9e-4)
            below = (u.mean() ** 2 + v.mean() ** 2 + 1e-4) * (u.var() + v.var() + 9e-4)
            values.append(top / below)
    assert similarity(a, b) == pytest.approx(np.mean(values))
    assert similarity(a, a) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["classic", "residual"])
def test_weights_are_drawn_anew_as_large_as_they_were_and_none_falls_silent(kind: str) -> None:
    network = make_network(network=kind, dense_units=(32,))
    # As training can leave a dense layer: with others behind it, all of its units would be dead.
    dense = next(layer for layer in network.head.modules() if isinstance(layer, torch.nn.Linear))
    torch.nn.init.constant_(dense.weight, -0.2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 1), dtype=np.uint8)
    other, again = redrawn(network, images, 3), redrawn(network, images, 3)
    assert not other.training
    for (name, ours), theirs in zip(network.named_parameters(), other.parameters(), strict=True):
        if ours.ndim > 1:
            sizes = [float(values.detach().square().mean().sqrt()) for values in (ours, theirs)]
            assert sizes[1] == pytest.approx(sizes[0], rel=0.35), name
            assert not torch.equal(ours, theirs)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    for value, same in zip(other.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(value, same)
    assert (
        GradientMaps(other).maps(images, np.zeros(6, dtype=np.int64)).std(axis=(1, 2)) > 0
    ).all()


def test_maps_that_follow_the_image_alone_fail_and_those_of_weights_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = make_network()
    images = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 1), dtype=np.uint8)
    classes = np.zeros(6, dtype=np.int64)
    maps = GradientMaps(network).maps(images, classes)
    found = check_randomisation(network, images, classes, maps)
    assert found["passed"] is True
    assert found["rank_correlation"] < 0.5
    assert found["text"].startswith(
        "Passed: the maps change when what was learnt is destroyed (mean rank correlation 0."
    )

    # Maps that the image alone makes stay as they are, whatever the weights.
    class Blind:
        def __init__(self, _: Network) -> None:
            pass

        def maps(self, images: NDArray[np.uint8], _: NDArray[np.int64]) -> NDArray[np.float32]:
            return images[..., 0].astype(np.float32)

    blind = Blind(network).maps(images, classes)
    monkeypatch.setattr(map_checks, "GradientMaps", Blind)
    found = check_randomisation(network, images, classes, blind)
    assert found["passed"] is False
    assert found["rank_correlation"] == pytest.approx(1)
    assert found["ssim"] == pytest.approx(1)
    assert "do not rely on them" in found["text"]

    flat = check_randomisation(network, images, classes, np.zeros_like(blind))
    assert flat["passed"] is None
    assert flat["rank_correlation"] is None
    assert flat["reason"] in flat["text"]


# -- places ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["letterbox", "stretch", "crop"])
def test_the_border_is_the_outermost_twentieth_and_all_padding(mode: Any) -> None:
    spec = PixelSpec(height=40, width=40, resize=mode)
    mask = border_mask(*place((20, 40), spec))
    if mode == "letterbox":
        inside = np.zeros((40, 40), bool)
        inside[11:29, 2:38] = True
    else:
        inside = np.zeros((40, 40), bool)
        inside[2:38, 2:38] = True
    assert (mask == ~inside).all()


def test_the_share_of_heat_on_the_border_is_counted_pixel_by_pixel() -> None:
    axis = Axis(20, 20, 1, 0)
    signed = np.random.default_rng(0).normal(size=(20, 20))
    warm = np.maximum(signed, 0)
    on_border = sum(
        warm[i, j] for i in range(20) for j in range(20) if i in (0, 19) or j in (0, 19)
    )
    share = border_share(signed, Grid(), axis, axis)
    assert share == pytest.approx(on_border / warm.sum(), rel=1e-5)
    assert border_share(-np.abs(signed), Grid(), axis, axis) is None


def test_a_dark_lung_is_body_and_a_dark_corner_is_not() -> None:
    image = np.zeros((40, 40, 1), dtype=np.uint8)
    image[5:38, 8:32] = 180
    image[12:25, 14:20] = 3
    body = np.zeros((40, 40), bool)
    body[5:38, 8:32] = True
    found = body_mask(image)
    assert found is not None
    assert (found == body).all()


@pytest.mark.parametrize("level", [(90, 200), (0, 0)])
def test_no_body_is_told_where_nothing_is_dark_at_the_border_or_everything_is(
    level: tuple[int, int],
) -> None:
    image = np.full((30, 30, 1), level[0], dtype=np.uint8)
    image[:, :29] = level[1]
    image[3:5] = np.arange(30, dtype=np.uint8)[:, None] * (level[1] > 0)
    image[:, 0] = image[:, -1] = image[0] = image[-1] = level[1]
    assert body_mask(image) is None


# -- a run ----------------------------------------------------------------------------------------


def test_every_run_says_what_its_heat_maps_are_worth(tmp_path: Any) -> None:
    data = tiny.make_folder(tmp_path / "data")
    run = tiny.train_tiny(data, tmp_path / "run", epochs=2)
    found = run.facts["explanation"]
    n_val = run.facts["splits"]["counts"]["val"]["n"]
    assert found["n_images"] == min(32, n_val)
    assert found["randomisation_check"]["passed"] in (True, False)
    assert 0 <= found["border"]["heat_share"] <= 1
    assert 0 < found["border"]["area_share"] < 1
    outside = found["outside_body"]
    if outside["heat_share"] is None:
        assert outside["reason"] in outside["text"]
    else:
        assert 0 <= outside["heat_share"] <= 1

    spec = hilum.load(run.folder).facts.preprocessing
    paths = sorted((data / "clear").iterdir())[:5]
    pixels: NDArray[np.uint8] = np.concatenate([prepare(hilum.read(p), spec) for p in paths])
    again = [check_maps(run.folder, pixels, [(20, 24)] * 5) for _ in range(2)]
    assert again[0] == again[1]
