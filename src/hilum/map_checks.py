"""Whether a model's heat maps can be believed: do they follow the weights, and stay on the body.

A map that looks the same when all that was learnt is destroyed shows the image and not the model
(Adebayo et al., Sanity checks for saliency maps, 2018). Measured once for each model, on
validation images.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hilum.heatmaps import GradientMaps, Grid, heat_at
from hilum.model import find_model, load_facts, load_network
from hilum.pixels import Images, PixelSpec, to_channels
from hilum.placement import Axis, place

if TYPE_CHECKING:
    from hilum.networks import Classifier

MOST_IMAGES, LEAST_IMAGES = 32, 8
MOST_PIXELS = 32 * 160 * 160
"""Of all images together; larger images are fewer, so that the check takes seconds."""

N_REDRAWN = 5
MOST_ALIKE = 0.5
"""Mean rank correlation, without its sign, above which maps count as blind to the weights."""

BORDER = 0.05
"""Share of the picture's height and width that is its border, on each side."""

DARK = 0.1
"""Share of the image's range below which a place joined to the border is no body."""

LEAST_BACKGROUND = 0.02


def check_maps(model: Path, pixels: Images, sizes: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Measure a model's heat maps on validation images, for `explanation` in run.json.

    Parameters
    ----------
    model : Path
        A run folder or its model folder.
    pixels : uint8 array of shape (n, height, width, channels)
        Prepared validation images; at most `MOST_IMAGES` of them, evenly chosen, are used.
    sizes : sequence of (height, width)
        Of the pictures that they were made from.

    Returns
    -------
    dict
        method, name, n_images, randomisation_check, border, outside_body; a figure that cannot be
        had is null with a reason.
    """
    folder = find_model(model)
    network, spec = load_network(folder), load_facts(folder).preprocessing
    n = int(np.clip(MOST_PIXELS // (spec.height * spec.width), LEAST_IMAGES, MOST_IMAGES))
    chosen = np.unique(np.linspace(0, len(pixels) - 1, n).astype(int))
    images = np.asarray(pixels[chosen])
    classes = _predicted(network, images)
    mapper = GradientMaps(network)
    maps = mapper.maps(images, classes)
    axes = [place(sizes[i], spec) for i in chosen]
    return {
        "method": "gradcam",
        "name": mapper.name,
        "n_images": len(images),
        "randomisation_check": check_randomisation(network, images, classes, maps),
        "border": _border(maps, mapper.grid, axes),
        "outside_body": _outside_body(maps, mapper.grid, images, spec),
    }


def _predicted(network: Classifier, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the class with the greatest raw logit: one to draw maps of, whatever is called."""
    from hilum.training import network_logits

    logits = network_logits(network, images)
    if logits.shape[1] == 1:
        return (logits[:, 0] > 0).astype(np.int64)
    return np.asarray(logits.argmax(axis=1))


# -- randomisation ---------------------------------------------------------------------------------


def check_randomisation(
    network: Classifier,
    images: NDArray[np.uint8],
    classes: NDArray[np.int64],
    maps: NDArray[np.float32],
) -> dict[str, Any]:
    """Compare maps with those of networks whose weights are drawn anew.

    Correlations lose their sign: a map turned around shows the image as well.
    """
    ranks, ssims = [], []
    for seed in range(N_REDRAWN):
        others = GradientMaps(redrawn(network, images, seed)).maps(images, classes)
        for ours, theirs in zip(maps, others, strict=True):
            ranks.append(rank_correlation(ours, theirs))
            ssims.append(similarity(_heat(ours), _heat(theirs)))
    known = [abs(rank) for rank in ranks if rank is not None]
    found: dict[str, Any] = {"n_networks": N_REDRAWN, "limit": MOST_ALIKE}
    if not known:
        reason = "The maps do not vary from place to place."
        empty = {"passed": None, "rank_correlation": None, "ssim": None, "reason": reason}
        return found | empty | {"text": f"Not checked: {reason}"}
    alike = float(np.mean(known))
    passed = alike <= MOST_ALIKE
    numbers = f"mean rank correlation {alike:.2f}, at most {MOST_ALIKE} is asked"
    text = (
        f"Passed: the maps change when what was learnt is destroyed ({numbers})."
        if passed
        else f"Failed: the maps look much the same when what was learnt is destroyed ({numbers}). "
        "They show the image more than the model; do not rely on them."
    )
    figures = {"rank_correlation": round(alike, 4), "ssim": round(float(np.mean(ssims)), 4)}
    return found | {"passed": passed} | figures | {"text": text}


def redrawn(network: Classifier, images: NDArray[np.uint8], seed: int) -> Classifier:
    """Copy a network with weights drawn at random, as large in each layer as they are.

    Batch norm begins anew with the statistics of the images: with those of training a random
    network would fall silent, and a silent one proves nothing.
    """
    import torch
    from torch import nn

    other = copy.deepcopy(network).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in other.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                size = float(layer.weight.square().mean().sqrt())
                layer.weight.normal_(0, size, generator=generator)
                if layer.bias is not None:
                    layer.bias.zero_()
            if isinstance(layer, nn.BatchNorm2d):
                layer.reset_parameters()
        norms = [layer for layer in other.modules() if isinstance(layer, nn.BatchNorm2d)]
        batch = torch.from_numpy(images).permute(0, 3, 1, 2).float()
        for norm in norms:
            norm.momentum = None
            norm.train()
        other(batch)
    return other.eval()


def rank_correlation(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> float | None:
    """Return Spearman's correlation of two maps, None where one is the same everywhere."""
    from scipy.stats import rankdata

    ranks = [rankdata(plane).astype(float) for plane in (a.ravel(), b.ravel())]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return None
    return float(np.corrcoef(*ranks)[0, 1])


def similarity(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> float:
    """Return the mean structural similarity of two maps in [0, 1] (Wang et al., 2004).

    With flat windows of 7×7 cells, or the whole of smaller maps.
    """
    from scipy.ndimage import uniform_filter

    size = min(7, *a.shape)

    def mean(plane: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        return np.asarray(uniform_filter(np.asarray(plane, dtype=np.float64), size))

    mean_a, mean_b = mean(a), mean(b)
    # Differences of large means can turn out a hair below 0.
    var_a, var_b = (np.maximum(mean(p * p) - m * m, 0) for p, m in ((a, mean_a), (b, mean_b)))
    shared = mean(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * mean_a * mean_b + c1) * (2 * shared + c2)
    return float((top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean())


def _heat(signed: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what would be shown: what raises the score, in proportion to its greatest."""
    heat = np.maximum(signed, 0)
    return heat / heat.max() if heat.max() > 0 else heat


# -- places ----------------------------------------------------------------------------------------


def border_share(
    signed: NDArray[np.floating[Any]], grid: Grid, rows: Axis, columns: Axis
) -> float | None:
    """Return the share of a map's heat that lies on the border of the picture or on padding.

    None where there is no heat.
    """
    heat = _input_heat(signed, grid, rows.target, columns.target)
    total = heat.sum()
    return float(heat[border_mask(rows, columns)].sum() / total) if total > 0 else None


def border_mask(rows: Axis, columns: Axis) -> NDArray[np.bool_]:
    """Return what of the network's input is the picture's border, padding included."""
    return ~(_inside(rows)[:, None] & _inside(columns)[None])


def _inside(axis: Axis) -> NDArray[np.bool_]:
    inside = axis.is_picture
    within = np.flatnonzero(inside)
    margin = max(1, round(BORDER * len(within)))
    inside[within[:margin]] = inside[within[-margin:]] = False
    return inside


def body_mask(image: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    """Tell the body from dark surroundings: whatever is not dark and joined to the border.

    Parameters
    ----------
    image : uint8 array of shape (height, width, 1 or 3)

    Returns
    -------
    bool array of shape (height, width), or None
        None where hardly anything is dark at the border, or nearly everything is.
    """
    from scipy.ndimage import binary_opening, label

    grey = to_channels(image, 1)[..., 0].astype(float)
    low, high = np.percentile(grey, (1, 99))
    dark = np.pad(grey <= low + DARK * (high - low), 2, mode="edge")
    # Without opening, dark specks of noise along the border would count as surroundings.
    places, _ = label(binary_opening(dark)[2:-2, 2:-2])
    edge = np.concatenate([places[0], places[-1], places[:, 0], places[:, -1]])
    background = np.isin(places, edge[edge > 0])
    if not LEAST_BACKGROUND <= background.mean() <= 1 - LEAST_BACKGROUND:
        return None
    return ~background


def _input_heat(
    signed: NDArray[np.floating[Any]], grid: Grid, height: int, width: int
) -> NDArray[np.float32]:
    """Spread a map over the network's input."""
    return heat_at(signed, grid, Axis(height, height, 1, 0), Axis(width, width, 1, 0))


def _border(
    maps: NDArray[np.float32], grid: Grid, axes: Sequence[tuple[Axis, Axis]]
) -> dict[str, Any]:
    shares = [
        (border_share(signed, grid, *pair), float(border_mask(*pair).mean()))
        for signed, pair in zip(maps, axes, strict=True)
    ]
    return _compare(
        [(heat, area) for heat, area in shares if heat is not None],
        "on the outermost 5 % of the picture on each side or on padding",
        "No map has any heat.",
    )


def _outside_body(
    maps: NDArray[np.float32], grid: Grid, images: NDArray[np.uint8], spec: PixelSpec
) -> dict[str, Any]:
    shares = []
    for signed, image in zip(maps, images, strict=True):
        heat, body = _input_heat(signed, grid, spec.height, spec.width), body_mask(image)
        if body is not None and heat.sum() > 0:
            outside = ~body
            shares.append((float(heat[outside].sum() / heat.sum()), float(outside.mean())))
    return _compare(
        shares,
        "outside the body, in what is dark and joined to the border",
        "No image has dark surroundings that can be told from a body.",
    )


def _compare(shares: Sequence[tuple[float, float]], where: str, reason: str) -> dict[str, Any]:
    """Set the mean share of heat somewhere beside the share that chance would put there."""
    if not shares:
        empty = {"heat_share": None, "area_share": None, "n": 0, "reason": reason}
        return empty | {"text": f"Share of heat {where}: not known. {reason}"}
    heat, area = (float(value) for value in np.mean(shares, axis=0))
    compared = "more" if heat > area else "no more"
    text = (
        f"{100 * heat:.0f} % of the heat lies {where}: {compared} than the {100 * area:.0f} % that "
        f"it would be by area alone (n = {len(shares)})."
    )
    numbers = {"heat_share": round(heat, 4), "area_share": round(area, 4), "n": len(shares)}
    return numbers | {"text": text}
