"""Looks and tables of samples that tests make for themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter


def make_looks(
    n_patients: int = 80,
    *,
    n_images: int = 2,
    n_classes: int = 2,
    contrast: float = 60.0,
    seed: int = 0,
) -> tuple[pd.DataFrame, NDArray[np.uint8], NDArray[np.intp]]:
    """Make clouds with a bright disc in the middle, whose place is the class.

    Returns
    -------
    samples, looks (n, 64, 64), y (n,)
    """
    rng = np.random.default_rng(seed)
    n = n_patients * n_images
    patient = np.repeat(np.arange(n_patients), n_images)
    y = (patient % n_classes).astype(np.intp)
    clouds = gaussian_filter(rng.normal(size=(n, 64, 64)), (0, 4, 4)) * 300
    rows, columns = np.mgrid[:64, :64]
    for i in range(n):
        angle = 2 * np.pi * y[i] / n_classes
        at = 32 + 9 * np.sin(angle), 32 + 9 * np.cos(angle)
        at = at[0] + rng.normal(0, 1.5), at[1] + rng.normal(0, 1.5)
        clouds[i] += contrast * np.exp(-((rows - at[0]) ** 2 + (columns - at[1]) ** 2) / 50)
    noise = rng.normal(0, 3, (n, 64, 64))
    looks = np.clip(110 + clouds + noise, 0, 255).astype(np.uint8)
    return make_samples(patient, y), looks, y


def make_samples(patient: NDArray[Any], y: NDArray[Any], **columns: Any) -> pd.DataFrame:
    """Make the table that a scan would make of such images; `columns` go over or beside it."""
    n = len(y)
    table: dict[str, Any] = {
        "path": [f"{i}.png" for i in range(n)],
        "label": [f"class {k}" for k in y],
        "patient": [f"p{p}" for p in patient],
        "given_split": [""] * n,
        "sha256": [f"{i:064x}" for i in range(n)],
        "format": ["PNG"] * n,
        "mode": ["L"] * n,
        "bits": [8] * n,
        "height": [64] * n,
        "width": [64] * n,
        "file_size": [1000 + (7919 * i) % 97 for i in range(n)],
        "jpeg_quality": [""] * n,
    }
    return pd.DataFrame(table | columns)
