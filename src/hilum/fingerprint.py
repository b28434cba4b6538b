"""The facts that a plan is made from, taken from the samples outside the test split alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pandas as pd


@dataclass(frozen=True)
class Fingerprint:
    """What the plan is made from: facts of the training and validation samples alone.

    Attributes
    ----------
    n_train : int
    class_counts : dict
        Training images of each class.
    median_height, median_width : float
        Pixels.
    grey : bool
        Every image is grey, whether stored as grey or as RGB.
    highest, lowest : dict
        Greatest value by pixel type, of the types whose files never say which values they use.
    """

    n_train: int
    class_counts: dict[str, int]
    median_height: float
    median_width: float
    grey: bool
    highest: dict[str, float]
    lowest: dict[str, float] = field(default_factory=dict)


def take_fingerprint(samples: pd.DataFrame) -> Fingerprint:
    """Measure the samples outside the test split.

    Parameters
    ----------
    samples : DataFrame
        As `scan` returns it, with the column `split`; excluded samples have none.
    """
    train = samples[samples["split"] == "train"]
    seen = samples[samples["split"].isin(["train", "val"])]
    return Fingerprint(
        n_train=len(train),
        class_counts={str(k): int(v) for k, v in train["label"].value_counts().items()},
        median_height=float(seen["height"].median()),
        median_width=float(seen["width"].median()),
        grey=bool(seen["grey"].astype(bool).all()),
        highest=_by_type(seen, "high", "max"),
        lowest=_by_type(seen, "low", "min"),
    )


def _by_type(seen: pd.DataFrame, column: str, extreme: Literal["min", "max"]) -> dict[str, float]:
    """Find the extreme of each pixel type whose files state no range themselves."""
    # A file that states its bits or window is believed, so its type needs no range from here.
    unstated = (seen["range_from"] == "type").groupby(seen["dtype"]).all()
    found = seen[column].astype(float).groupby(seen["dtype"]).agg(extreme)[unstated]
    return {str(dtype): float(value) for dtype, value in found.items()}
