"""Which heat maps point to the disease? Measured on phantoms, where its place is known.

Draws new phantoms with opacities, takes those that a model calls diseased, and compares ways of
making maps: how often the warmest place lies in an opacity (pointing game), the share of heat in
opacities, and the overlap of the opacities with the warmest area of the same size. Opacities
reach to where their shadow has half of its depth. No image of the run is used.

    python -m benchmarks.heatmaps RUN --patients 90 --seed 12

RUN is trained on phantoms, as `hilum demo` makes them. Of an ensemble each network is measured too.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import hilum
from hilum.backbones import Backbone
from hilum.efficientnet import STAGES
from hilum.heatmaps import (
    GradientMaps,
    Grid,
    Mapper,
    Occlusion,
    class_scores,
    find_grid,
    heat_at,
    last_stage,
    measure_grid,
)
from hilum.model import load_network
from hilum.networks import Ensemble, Network, ResidualBlock, members_of, reduce
from hilum.phantom import people
from hilum.phantom.chest import Blob, Person, Plane, Pose, _grid, _shadow, attenuation
from hilum.pixels import PixelSpec, resize
from hilum.placement import place

HALF_DEPTH = 0.5
DISEASED = "opacity"

LAST, CHOSEN = "last map", "where the last stage begins"

BATCH = 32


@dataclass(frozen=True)
class Case:
    """A phantom and where its opacities are."""

    pixels: NDArray[np.uint8]
    place: NDArray[np.bool_]


def draw_cases(n_patients: int, seed: int) -> list[Case]:
    """Draw phantoms with opacities, and catch where each opacity is drawn."""
    places: list[NDArray[np.bool_]] = []
    draw = attenuation

    def watched(
        person: Person,
        pose: Pose,
        opacities: tuple[Blob, ...],
        size: tuple[int, int],
        rng: np.random.Generator,
    ) -> Plane:
        u, v = _grid(size, pose)
        shadows = [_shadow(u, v, blob) > HALF_DEPTH * blob.depth for blob in opacities]
        places.append(np.any(shadows, axis=0) if shadows else np.zeros(size, dtype=bool))
        return draw(person, pose, opacities, size, rng)

    people.attenuation = watched  # type: ignore[attr-defined]
    try:
        names = [f"Q{number}" for number in range(n_patients)]
        profiles = people.draw_profiles(names, np.random.default_rng([seed, 0]))
        return [
            Case(sample.pixels, places[-1])
            for profile in profiles
            if profile.label == DISEASED
            for sample in people.draw_samples(profile, seed, 1.0)
        ]
    finally:
        people.attenuation = draw  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Cut:
    """A place in a network whose maps are compared.

    Attributes
    ----------
    watched : callable
        Normalised images → features at the place, and the last map computed from them.
    grid : Grid
        Where the cells of the features lie in the network's input.
    """

    name: str
    watched: Callable[[Tensor], tuple[Tensor, Tensor]]
    grid: Grid


def cuts(network: Network) -> list[Cut]:
    """Return the places that are compared, earliest last."""
    if isinstance(network.backbone, Backbone):
        return list(_cuts_of_published(network.backbone))
    layers = cast(nn.Sequential, network.backbone)
    found = {LAST: len(layers), CHOSEN: last_stage(layers)}
    pools = [i for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    blocks = [i for i, layer in enumerate(layers) if isinstance(layer, ResidualBlock)]
    if pools:
        found["before the last pooling"] = pools[-1]
    if len(blocks) > 2:
        found["one stage earlier"] = blocks[-2]
    elif len(pools) > 2:
        found["one stage earlier"] = pools[-3] + 1
    return [
        Cut(name, partial(_through, layers[:cut], layers[cut:]), find_grid(layers[:cut]))
        for name, cut in found.items()
    ]


def _through(early: nn.Module, late: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        features = early(images)
    features.requires_grad_()
    return features, late(features)


def _cuts_of_published(backbone: Backbone) -> Iterator[Cut]:
    """Cut EfficientNet-Lite before each halving, and behind its last block."""
    strides, n_blocks = [], 0
    for stage in STAGES:
        if stage.stride == 2:
            strides.append(n_blocks)
        n_blocks += stage.repeats
    steps = {n_blocks: 2 ** (len(strides) + 1)}
    steps |= {block: 2 ** (n + 1) for n, block in reversed(list(enumerate(strides)))}
    for block, step in steps.items():
        watched = copy(backbone)
        watched.entrance, watched.step = f"_blocks.{block - 1}", step
        is_chosen = watched.entrance == backbone.entrance
        name = CHOSEN if is_chosen else LAST if block == n_blocks else f"cells of {step} pixels"
        yield Cut(name, watched.watched, measure_grid(watched))


def gradient_maps(
    network: Network, cut: Cut, images: Tensor, classes: Tensor
) -> dict[str, NDArray[np.float32]]:
    """Make three kinds of maps from the features at one place."""
    parts: dict[str, list[Tensor]] = {"Grad-CAM": [], "HiResCAM": [], "LayerCAM": []}
    for some, chosen in zip(torch.split(images, BATCH), torch.split(classes, BATCH), strict=True):
        features, last_map = cut.watched(network.normalise(some))
        scores = class_scores(network.classify(last_map), chosen)
        (gradient,) = torch.autograd.grad(scores.sum(), features)
        features = features.detach()
        parts["Grad-CAM"].append((gradient.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1))
        parts["HiResCAM"].append((gradient * features).sum(dim=1))
        parts["LayerCAM"].append((gradient.clamp(min=0) * features).sum(dim=1))
    return {name: torch.cat(found).numpy() for name, found in parts.items()}


def score(signed: NDArray[np.float32], grid: Grid, case: Case, spec: PixelSpec) -> list[float]:
    """Return pointing (0 or 1), share of heat, and overlap of one map."""
    heat = heat_at(signed, grid, *place(case.place.shape, spec))
    if heat.max() <= 0:
        return [0.0, 0.0, 0.0]
    warmest = heat >= np.sort(heat.ravel())[-int(case.place.sum())]
    overlap = (warmest & case.place).sum() / (warmest | case.place).sum()
    pointed = case.place.ravel()[heat.argmax()]
    return [float(pointed), float(heat[case.place].sum() / heat.sum()), float(overlap)]


def measure(run: Path, n_patients: int, seed: int, n_occluded: int) -> Iterator[str]:
    model, network = hilum.load(run), load_network(run)
    spec = model.facts.preprocessing
    cases = draw_cases(n_patients, seed)
    pixels = np.stack([resize(case.pixels[..., None], spec) for case in cases])
    probs = np.concatenate([model.probabilities(part) for part in np.array_split(pixels, 8)])
    called = [model.decide(row) == DISEASED for row in probs]
    cases = [case for case, is_called in zip(cases, called, strict=True) if is_called]
    pixels = pixels[called]
    area = np.mean([case.place.mean() for case in cases])
    yield f"{run.name}: {len(called)} diseased phantoms, {len(cases)} called so"
    yield "| maps | n | pointing | share of heat | overlap | ms an image |"
    yield "|---|---|---|---|---|---|"
    yield f"| chance | | {area:.3f} | {area:.3f} | | |"
    classes = np.full(len(cases), model.class_names.index(DISEASED))
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()

    def row(name: str, maps: NDArray[np.float32], grid: Grid, one_s: float) -> str:
        kept = cases[: len(maps)]
        found = [score(one, grid, case, spec) for one, case in zip(maps, kept, strict=True)]
        cells = " | ".join(f"{value:.3f}" for value in np.mean(found, axis=0))
        return f"| {name} | {len(maps)} | {cells} | {1000 * one_s:.0f} |"

    for number, (member, reduction) in enumerate(members_of(network.eval()), start=1):
        whose = f"{number}: " if isinstance(network, Ensemble) else ""
        seen = reduce(images, reduction)
        for cut in cuts(member):
            started = time.perf_counter()
            made = gradient_maps(member, cut, seen, torch.from_numpy(classes))
            one_s = (time.perf_counter() - started) / len(images)
            grid = cut.grid.enlarged(reduction)
            for name, maps in made.items():
                size = f"{maps.shape[1]}×{maps.shape[2]}"
                yield row(f"{whose}{name}, {cut.name} ({size})", maps, grid, one_s)
    mapper: Mapper = GradientMaps(network)
    started = time.perf_counter()
    maps = mapper.maps(pixels, classes)
    one_s = (time.perf_counter() - started) / len(maps)
    yield row("as `hilum explain` makes them", maps, mapper.grid, one_s)
    yield row(f"the same, first {n_occluded}", maps[:n_occluded], mapper.grid, one_s)
    for share in (0.15, 0.25):
        started = time.perf_counter()
        mapper = Occlusion(model, share=share)
        maps = mapper.maps(pixels[:n_occluded], classes[:n_occluded])
        one_s = (time.perf_counter() - started) / len(maps)
        yield row(f"occlusion, {share}", maps, mapper.grid, one_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--patients", type=int, default=90)
    parser.add_argument("--seed", type=int, default=12)
    parser.add_argument("--occluded", type=int, default=24)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for line in measure(arguments.run, arguments.patients, arguments.seed, arguments.occluded):
        print(line, flush=True)


if __name__ == "__main__":
    main()
