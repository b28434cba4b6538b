"""Which training settings hold when images come from elsewhere? Chosen without test data.

Trains variants of a recipe on the training patients and scores the validation patients as they
are and under corruptions that imitate other scanners and exposures. The test split is not opened.

    python benchmarks/shift.py DATA RECIPE --epochs 5 VARIANT...

A VARIANT is a name and settings: 'plain', 'averaged:weight_averaging=0.99'.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hilum.metrics import auroc
from hilum.preparation import prepare
from hilum.progress import LogProgress
from hilum.runs import split_samples
from hilum.settings import parse_assignments
from hilum.training import Samples, network_logits, train_network

Corruption = Callable[[Tensor], Tensor]


def blur(images: Tensor, radius: int) -> Tensor:
    return F.avg_pool2d(images, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)


def coarse(images: Tensor, factor: float) -> Tensor:
    small = F.interpolate(images, scale_factor=factor, mode="bilinear", antialias=True)
    return F.interpolate(small, size=images.shape[-2:], mode="bilinear")


def noise(images: Tensor, sigma: float) -> Tensor:
    drawn = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return images + sigma * 255 * drawn


def about_mean(images: Tensor, factor: float) -> Tensor:
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - mean) * factor + mean


CORRUPTIONS: dict[str, Corruption] = {
    "none": lambda x: x,
    "dark": lambda x: x * 0.7,
    "bright": lambda x: x * 0.7 + 75,
    "gamma 0.6": lambda x: 255 * (x / 255) ** 0.6,
    "gamma 1.6": lambda x: 255 * (x / 255) ** 1.6,
    "contrast 0.5": lambda x: about_mean(x, 0.5),
    "contrast 1.5": lambda x: about_mean(x, 1.5),
    "blur": lambda x: blur(x, 2),
    "coarse": lambda x: coarse(x, 0.35),
    "noise": lambda x: noise(x, 0.06),
}


def corrupt(pixels: np.ndarray, change: Corruption) -> np.ndarray:
    images = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float()
    changed = change(images).clamp(0, 255).round().byte()
    return changed.permute(0, 2, 3, 1).numpy()


def score(data: str, recipe: str | None, sets: list[str], seed: int) -> dict[str, float]:
    prepared = prepare(data, recipe=recipe, settings=parse_assignments(sets) | {"seed": seed})
    samples = prepared.samples.fillna({"split": ""})
    settings, names = prepared.plan.settings, prepared.dataset.class_names
    train, val = (
        split_samples(prepared.dataset, samples, split, settings, LogProgress())
        for split in ("train", "val")
    )
    with tempfile.TemporaryDirectory() as folder:
        trained = train_network(train, val, settings, names, Path(folder), LogProgress())
    found = {}
    for name, change in CORRUPTIONS.items():
        changed = Samples(corrupt(val.pixels, change), val.labels)
        found[name] = auroc(val.labels, network_logits(trained.network, changed.pixels)[:, 0])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("data")
    parser.add_argument("recipe", help="a recipe, or - for the plan made from the data")
    parser.add_argument("variants", nargs="+", help="name:setting=value,setting=value")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    print("| variant | seed | " + " | ".join(CORRUPTIONS) + " | mean of corrupted |")
    print("|---|---|" + "---|" * (len(CORRUPTIONS) + 1))
    for variant in arguments.variants:
        name, _, text = variant.partition(":")
        sets = [f"epochs={arguments.epochs}", *filter(None, text.split(","))]
        for seed in range(arguments.seeds):
            recipe = None if arguments.recipe == "-" else arguments.recipe
            found = score(arguments.data, recipe, sets, seed)
            corrupted = [value for key, value in found.items() if key != "none"]
            values = [*found.values(), float(np.mean(corrupted))]
            cells = " | ".join(f"{v:.3f}" for v in values)
            print(f"| {name} | {seed} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
