"""Does a model notice images that are unlike its training data?

A finished run on `chest-xray` meets other data sets, noise, shapes, and its own validation images
inverted, turned, blurred. For each kind: the AUROC of the distance to the training images against
the run's validation images, and the share that the locked rule refers. The test split is not opened
here; the share of honest test images referred stands in the run's metrics.json, after the one
opening that every run has. Run from the root of the project, a minute:

    hilum train $HILUM_DATA/chest-xray --out RUN --recipe chest-xray --epochs 2
    python -m benchmarks.unlike RUN
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from sklearn.metrics import roc_auc_score

import hilum
from hilum.evaluation import figure_text
from hilum.folders import images_below
from hilum.neighbours import VIEWS, References, see

Pixels = NDArray[np.uint8]


def read_all(paths: list[Path], spec: hilum.PixelSpec) -> Pixels:
    return np.concatenate([hilum.prepare(hilum.read(path), spec)[:1] for path in paths])


def some(folder: Path, n: int, rng: np.random.Generator) -> list[Path]:
    """Choose images below a folder."""
    found = images_below(folder)[0]
    return [found[i] for i in np.sort(rng.permutation(len(found))[:n])]


def resized(image: Pixels, height: int, width: int) -> Pixels:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def shapes(rng: np.random.Generator, spec: hilum.PixelSpec) -> Pixels:
    """A photograph of rectangles and discs: even light from one side, grain."""
    picture = Image.new("L", (300, 300), int(rng.integers(0, 256)))
    pen = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(3, 12))):
        left, top, width, height = (*rng.integers(0, 300, 2), *rng.integers(20, 150, 2))
        draw = pen.rectangle if rng.random() < 0.5 else pen.ellipse
        draw((left, top, left + width, top + height), fill=int(rng.integers(0, 256)))
    light = np.linspace(rng.uniform(0.6, 1), 1, 300)
    grainy = np.asarray(picture) * light + rng.normal(0, 4, (300, 300))
    return resized(np.clip(grainy, 0, 255).astype(np.uint8), spec.height, spec.width)


def strangers(
    val: Pixels, spec: hilum.PixelSpec, data: Path, n: int
) -> dict[str, Callable[[], Pixels]]:
    """Name the kinds of images to meet, each made when asked for."""
    rng = np.random.default_rng(0)
    some_val = val[np.sort(rng.permutation(len(val))[:n])]
    size = (n, spec.height, spec.width, spec.channels)

    def spread(grey: list[Pixels]) -> Pixels:
        return np.repeat(np.stack(grey)[..., None], spec.channels, axis=-1)

    def smooth() -> Pixels:
        grids = [rng.integers(0, 256, (int(k), int(k)), dtype=np.uint8) for k in range(3, 20)]
        return spread([resized(grids[i % 17], spec.height, spec.width) for i in range(n)])

    def blurred(side: int) -> Pixels:
        small = [resized(image[..., 0], side, side) for image in some_val]
        return spread([resized(image, spec.height, spec.width) for image in small])

    return {
        "brain MRI": lambda: read_all(some(data / "brain-mri", n, rng), spec),
        "blood cells (malaria-cells)": lambda: read_all(some(data / "malaria-cells", n, rng), spec),
        "noise, uniform": lambda: rng.integers(0, 256, size, dtype=np.uint8),
        "noise, normal": lambda: np.clip(rng.normal(120, 40, size), 0, 255).astype(np.uint8),
        "noise, smooth": smooth,
        "shapes, photographed": lambda: spread([shapes(rng, spec) for _ in range(n)]),
        "blank": lambda: spread([np.full(size[1:3], v, np.uint8) for v in range(0, 256, 4)]),
        "chest inverted": lambda: 255 - some_val,
        "chest turned by 90°": lambda: np.ascontiguousarray(np.rot90(some_val, 1, (1, 2))),
        "chest turned by 180°": lambda: np.ascontiguousarray(some_val[:, ::-1, ::-1]),
        "chest blurred to 12×12": lambda: blurred(12),
        "chest of adults (covid-cxr)": lambda: read_all(some(data / "covid-cxr", n, rng), spec),
    }


def measure(model: hilum.Model, pixels: Pixels) -> dict[str, NDArray[np.float64]]:
    """Distances of images, together and by each view alone."""
    parts = [model.run(pixels[i : i + 64])[1] for i in range(0, len(pixels), 64)]
    views = see(np.concatenate(parts), pixels)
    references = model.references
    assert references is not None
    found = {"all": references.strangeness(views)}
    for view in VIEWS:
        alone = References(references.vectors, references.spread, {view: references.usual[view]})
        found[view] = alone.strangeness(views)
    return found


def auroc(honest: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    y = np.r_[np.zeros(len(honest)), np.ones(len(other))]
    return float(roc_auc_score(y, np.r_[honest, other]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a finished run on chest-xray")
    parser.add_argument("--images", type=int, default=200, help="of each kind")
    parser.add_argument("--data", type=Path, default=os.environ.get("HILUM_DATA", "../shared/data"))
    given = parser.parse_args()
    model = hilum.load(given.run)
    rules, spec = model.facts.referral, model.facts.preprocessing
    assert rules is not None, "the run was trained without rules"
    assert rules.strangeness is not None, "the run was trained with refer_unlike=none"
    samples = pd.read_csv(given.run / "samples.csv", dtype=str, keep_default_na=False)
    root = Path(json.loads((given.run / "run.json").read_text())["data"]["path"])
    root = root if root.is_dir() else root.parent
    val = read_all([root / path for path in samples["path"][samples["split"] == "val"]], spec)
    honest = measure(model, val)
    print(f"Referred as unlike: distance above {rules.strangeness:.2f}\n")
    print("| images | n | AUROC | by features | by edges | by thumbnail | referred |")
    print("|---|---|---|---|---|---|---|")
    for name, make in strangers(val, spec, given.data, given.images).items():
        found = measure(model, make())
        scores = [f"{auroc(honest[view], found[view]):.3f}" for view in ("all", *VIEWS)]
        referred = (found["all"] > rules.strangeness).mean()
        print(f"| {name} | {len(found['all'])} | {' | '.join(scores)} | {referred:.0%} |")
    metrics = json.loads((given.run / "metrics.json").read_text())
    for split in ("val", "test"):
        share = metrics[split]["referral"]["reasons"]["unlike the training data"]
        print(f"\nhonest {split} images referred as unlike: {figure_text(share)}, n = {share['n']}")


if __name__ == "__main__":
    main()
