"""Small data sets for tests, made on the spot."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hilum import Dataset
from hilum.settings import Settings


def counts(dataset: Dataset) -> dict[tuple[str, str], int]:
    """Count the samples of each split and class."""
    return dict(dataset.table.groupby(["given_split", "label"]).size())


def write_image(path: Path, seed: int = 0, *, size: int = 8, channels: int = 1) -> Path:
    """Write noise; equal seeds give identical files."""
    rng = np.random.default_rng(seed)
    shape = (size, size) if channels == 1 else (size, size, channels)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(path)
    return path


def write_folder(root: Path, counts: Mapping[str, int], *, name: str = "{n}.png") -> Path:
    """Write `counts` images, all different, into each folder; `name` may use {n} and {seed}."""
    seed = sum(1 for _ in root.rglob("*")) * 1000 if root.exists() else 0
    for folder, count in counts.items():
        for n in range(count):
            seed += 1
            write_image(root / folder / name.format(n=n, seed=seed), seed)
    return root


def write_table(path: Path, rows: Sequence[Sequence[str]], *, n_images: int = 0) -> Path:
    """Write a CSV as given, and the images 0.png, 1.png, … beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(",".join(row) + "\n" for row in rows), encoding="utf-8")
    for n in range(n_images):
        write_image(path.parent / f"{n}.png", n)
    return path


def write_npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def medmnist(n: int = 6, *, n_classes: int = 2, size: int = 8, seed: int = 0) -> dict[str, Any]:
    """Return the arrays of a MedMNIST-style NPZ with all three splits."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, Any] = {}
    for split in ("train", "val", "test"):
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, size, size), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(n) % n_classes)[:, None].astype(np.uint8)
    return arrays


def pictures(n: int, side: int = 24, channels: int = 1, seed: int = 0) -> NDArray[np.uint8]:
    """Noise of middle greys, of shape (n, side, side, channels)."""
    rng = np.random.default_rng(seed)
    return rng.integers(60, 190, (n, side, side, channels), dtype=np.uint8)


def write_plan(folder: Path, settings: Settings) -> Path:
    """Write the plan of a run, as run folders hold it."""
    values = settings.model_dump(mode="json").items()
    folder.mkdir()
    plan = {name: {"value": value, "reason": "So it was."} for name, value in values}
    (folder / "plan.json").write_text(json.dumps(plan))
    return folder
