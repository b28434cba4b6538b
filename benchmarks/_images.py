"""Folders of images to measure on: some of the real ones, or small ones made on the spot."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image


def copy_classes(source: Path, target: Path, n_images: int | None) -> Path:
    """Copy class folders, or as many images of them as wanted, in proportion."""
    files = {
        folder.name: sorted(path for path in folder.iterdir() if path.is_file())
        for folder in sorted(source.iterdir())
        if folder.is_dir()
    }
    total = sum(map(len, files.values()))
    share = min(1.0, (n_images or total) / total)
    for name, paths in files.items():
        (target / name).mkdir(parents=True)
        for path in paths[: max(1, round(len(paths) * share))]:
            shutil.copy(path, target / name / path.name)
    return target


def make_classes(target: Path, n_images: int, *, side: int = 64, form: str = "jpg") -> Path:
    """Make images of two classes: noise that is coarse or fine, each of another patient."""
    rng = np.random.default_rng(0)
    for label in ("coarse", "fine"):
        (target / label).mkdir(parents=True)
    for number in range(n_images):
        label, grain = (("coarse", 8), ("fine", 2))[number % 2]
        small = rng.integers(0, 256, (side // grain, side // grain), np.uint8)
        image = Image.fromarray(small).resize((side, side), Image.Resampling.BILINEAR)
        image.save(target / label / f"patient{number:06d}.{form}")
    return target
