"""Tiny data sets and runs that tests make for themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import hilum
from hilum.auditing import Found

SETTINGS: dict[str, Any] = {
    "input_height": 16, "input_width": 16, "conv_channels": [4, 8], "epochs": 6,
    "batch_size": 8, "learning_rate": 1e-2, "accelerator": "cpu", "precision": "float32",
}  # fmt: skip


def draw(label: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Noise with a bright square whose place is the class; learnt in seconds, not perfectly."""
    pixels = rng.integers(0, 150, (20, 24), dtype=np.uint8)
    row, column = divmod(label, 2)
    pixels[10 * row + 2 : 10 * row + 8, 12 * column + 3 : 12 * column + 9] += 90
    return pixels


def make_folder(
    folder: Path,
    *,
    classes: Sequence[str] = ("clear", "opacity"),
    n_patients: int = 30,
    n_images: int = 2,
    seed: int = 0,
) -> Path:
    """Write class folders of PNGs, named so that a pattern finds each patient."""
    rng = np.random.default_rng(seed)
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for patient in range(n_patients):
            for image in range(n_images):
                path = folder / name / f"case{label}{patient:02d}_{image}.png"
                Image.fromarray(draw(label, rng)).save(path)
    return folder


def shorten(patch: pytest.MonkeyPatch, *, report: bool = True) -> None:
    """Leave out of a run what takes long and has tests of its own; the report too, if wanted."""
    patch.setattr("hilum.preparation.find_flaws", lambda *_, **__: Found())
    patch.setattr("hilum.release.predict_corrupted", lambda *_, **__: None)
    patch.setattr("hilum.runs.check_maps", lambda *_: {})
    if not report:
        patch.setattr("hilum.runs._report", lambda run: (run.folder / "report.html").write_text(""))


def train_tiny(data: Path, out: Path, **changes: Any) -> hilum.Run:
    """Train briefly on a tiny data set."""
    return hilum.train(data, out, settings=SETTINGS | changes)
