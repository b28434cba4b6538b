"""Copies of one original that are no longer the same file."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.auditing.findings import Finding
from hilum.progress import Progress


def find_near_duplicates(
    samples: pd.DataFrame,  # noqa: ARG001
    looks: NDArray[np.uint8],  # noqa: ARG001
    *,
    progress: Progress,  # noqa: ARG001
) -> list[Finding]:
    """Find images made from one original by software."""
    return []
