"""The facts that a plan is made from, taken from the samples outside the test split alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.names import NONE, SET_SEPARATOR
from hilum.patients import count_named, patient_of_each
from hilum.symmetry import WHAT, Mirror, Side, find_sides

CHUNK = 1024  # looks read at once

MOST_NAMED = 8
"""Classes whose images are counted one by one, in words."""


@dataclass(frozen=True)
class Intensity:
    """Brightness and contrast of training images, as shares of the range from black to white.

    Attributes
    ----------
    mean, mean_spread : float
        Mean over the images of an image's mean, and the standard deviation of it: how unlike in
        brightness the images are.
    contrast, contrast_spread : float
        The same of an image's standard deviation.
    """

    mean: float
    mean_spread: float
    contrast: float
    contrast_spread: float


@dataclass(frozen=True)
class Resolution:
    """How many pixels the signs need, as tried on some training patients.

    Attributes
    ----------
    needed : int or None
        Least input side that is not clearly worse than the best; None where none was tried.
    reason : str
        What was found, or why nothing was tried.
    losses : dict
        Mean log loss on held-out patients by input side.
    """

    needed: int | None
    reason: str
    losses: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Fingerprint:
    """What the plan is made from: facts of the training and validation samples alone.

    Attributes
    ----------
    n_train : int
    class_counts : dict
        Training images of each class; of multi-label data, with each label.
    median_height, median_width, median_short : float
        Pixels; the last of the shorter sides.
    grey : bool
        Every image is grey, whether stored as grey or as RGB.
    highest, lowest : dict
        Greatest and least value by pixel type, of the files that do not say which values they use.
    n_patients : int or None
        Named ones of the training images; None where none is.
    n_val : int
        Validation images.
    min_height, max_height, min_width, max_width : float
        Pixels.
    median_aspect, min_aspect, max_aspect : float
        Width over height.
    share_grey : float
        Of the images.
    bits : dict
        Images by bits a value.
    modalities : dict
        Images by modality, where the table has such a column; DICOM headers fill it when asked to.
    spacings_mm : tuple of float or None
        Least, median and greatest distance between rows, where the files give it.
    share_spaced : float
        Of the images, those whose files give the distance between rows and between columns.
    intensity : Intensity or None
        None where no looks were given.
    sides : dict
        By mirror ('horizontal', 'vertical', 'transpose'), whether it would make images that do not
        occur; empty where no looks were given.
    resolution : Resolution or None
        None where the images are no larger than what is planned anyway.
    """

    n_train: int
    class_counts: dict[str, int]
    median_height: float
    median_width: float
    median_short: float
    grey: bool
    highest: dict[str, float]
    lowest: dict[str, float] = field(default_factory=dict)
    n_patients: int | None = None
    n_val: int = 0
    min_height: float = 0.0
    max_height: float = 0.0
    min_width: float = 0.0
    max_width: float = 0.0
    median_aspect: float = 1.0
    min_aspect: float = 1.0
    max_aspect: float = 1.0
    share_grey: float = 1.0
    bits: dict[str, int] = field(default_factory=dict)
    modalities: dict[str, int] = field(default_factory=dict)
    spacings_mm: tuple[float, float, float] | None = None
    share_spaced: float = 0.0
    intensity: Intensity | None = None
    sides: Mapping[Mirror, Side] = field(default_factory=dict)
    resolution: Resolution | None = None

    @property
    def imbalance(self) -> float:
        """Training images of the largest class over those of the smallest."""
        counts = self.class_counts.values()
        return max(counts) / max(1, min(counts))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def take_fingerprint(samples: pd.DataFrame, looks: NDArray[np.uint8] | None = None) -> Fingerprint:
    """Measure the samples outside the test split.

    Parameters
    ----------
    samples : DataFrame
        As `scan` returns it, with the column `split`; excluded samples have none.
    looks : uint8 array of shape (n_samples, side, side), optional
        A look at each sample; those of training samples are read.
    """
    is_train = (samples["split"] == "train").to_numpy()
    train = samples[is_train]
    seen = samples[samples["split"].isin(["train", "val"])]
    height, width = seen["height"].astype(float), seen["width"].astype(float)
    aspect = width / height
    grey = seen["grey"].astype(bool)
    labels, spacings = _labels(train), _spacings(seen)
    return Fingerprint(
        n_train=len(train),
        class_counts={str(k): int(v) for k, v in labels.explode().dropna().value_counts().items()},
        median_height=float(height.median()),
        median_width=float(width.median()),
        median_short=float(seen[["height", "width"]].astype(float).min(axis=1).median()),
        grey=bool(grey.all()),
        highest=_by_type(seen, "high", "max"),
        lowest=_by_type(seen, "low", "min"),
        n_patients=count_named(train["patient"]) or None if "patient" in train else None,
        n_val=len(seen) - len(train),
        min_height=float(height.min()),
        max_height=float(height.max()),
        min_width=float(width.min()),
        max_width=float(width.max()),
        median_aspect=float(aspect.median()),
        min_aspect=float(aspect.min()),
        max_aspect=float(aspect.max()),
        share_grey=float(grey.mean()),
        bits=_counts(seen, "bits"),
        modalities=_counts(seen, "modality"),
        spacings_mm=_least_median_greatest(spacings),
        share_spaced=len(spacings) / max(1, len(seen)),
        intensity=None if looks is None else measure_intensity(looks, np.flatnonzero(is_train)),
        sides={}
        if looks is None
        else find_sides(looks, np.flatnonzero(is_train), list(_groups(train)), list(labels)),
    )


def facts_in_words(facts: Mapping[str, Any]) -> dict[str, str]:
    """Put facts into words for people, each by its name.

    Parameters
    ----------
    facts : mapping
        As `Fingerprint.to_dict` returns them, and run.json keeps them.
    """
    n_patients, spacings, intensity = (
        facts[name] for name in ("n_patients", "spacings_mm", "intensity")
    )
    found = {
        "images": f"{facts['n_train']:,} to learn from"
        + (f", {facts['n_val']:,} to validate by" if facts["n_val"] else ", in turn"),
        "patients": "not known" if n_patients is None else f"{n_patients:,} to learn from",
        "classes": _classes_in_words(facts["class_counts"]),
        "height": f"{_span(facts, 'height', ',.0f')} pixels",
        "width": f"{_span(facts, 'width', ',.0f')} pixels",
        "shorter side": f"median {facts['median_short']:,.0f} pixels",
        "width / height": _span(facts, "aspect", ".2f"),
        "channels": _channels_in_words(facts["share_grey"], is_grey=facts["grey"]),
        "bits a value": _listed(facts["bits"]) or "not known",
        "values": _values_in_words(facts["lowest"], facts["highest"]),
        "modality": _listed(facts["modalities"]) or "not stated",
        "pixel spacing": "not stated",
    }
    if spacings is not None:
        found["pixel spacing"] = "{0:.3g} to {2:.3g} mm, median {1:.3g}".format(*spacings)
    if intensity is not None:
        for name, key in (("brightness", "mean"), ("contrast", "contrast")):
            differing = f"differing by {intensity[f'{key}_spread']:.0%} between images"
            found[name] = f"{intensity[key]:.0%} of the range, {differing}"
    if facts["sides"]:
        sides = (f"{WHAT[mirror]} {side['kind']}" for mirror, side in facts["sides"].items())
        found["symmetry"] = ", ".join(sides)
    return found


def _classes_in_words(counts: Mapping[str, int]) -> str:
    most, least = max(counts.values()), min(counts.values())
    named = ", ".join(f"{name} {n:,}" for name, n in list(counts.items())[:MOST_NAMED])
    more = f" and {len(counts) - MOST_NAMED:,} more" if len(counts) > MOST_NAMED else ""
    return f"{named}{more}; the largest is {most / least:.1f} times the smallest"


def _channels_in_words(share_grey: float, *, is_grey: bool) -> str:
    if is_grey:
        return "all images are grey"
    return f"{1 - share_grey:.0%} of the images have colours"


def _values_in_words(lowest: Mapping[str, float], highest: Mapping[str, float]) -> str:
    """Say which values there are, of the files that do not say themselves which they use."""
    spans = [f"{dtype} {lowest.get(dtype, 0):,.0f} to {highest[dtype]:,.0f}" for dtype in highest]
    return "; ".join(spans) or "in the range that each file states"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} in {n:,} images" for name, n in counts.items())


def _span(facts: Mapping[str, Any], name: str, form: str) -> str:
    least, median, most = (facts[f"{which}_{name}"] for which in ("min", "median", "max"))
    if least == most:
        return f"{most:{form}}"
    return f"{least:{form}} to {most:{form}}, median {median:{form}}"


def measure_intensity(looks: NDArray[np.uint8], rows: NDArray[np.intp]) -> Intensity:
    """Measure brightness and contrast of the looks at `rows`, a few at a time."""
    means, contrasts = [], []
    for start in range(0, len(rows), CHUNK):
        part = looks[rows[start : start + CHUNK]].astype(np.float32) / 255
        means.append(part.mean(axis=(1, 2)))
        contrasts.append(part.std(axis=(1, 2)))
    mean, contrast = np.concatenate(means), np.concatenate(contrasts)
    return Intensity(
        *(float(x) for x in (mean.mean(), mean.std(), contrast.mean(), contrast.std()))
    )


def _labels(train: pd.DataFrame) -> pd.Series[Any]:
    """Return the classes of each sample as a list; multi-label tables have a column `unknown`."""
    if "unknown" not in train.columns:
        return train["label"].map(lambda label: [label])
    several = train["label"].str.split(SET_SEPARATOR, regex=False)
    return several.map(lambda labels: [label for label in labels if label not in ("", NONE)])


def _groups(train: pd.DataFrame) -> pd.Series[Any]:
    """Return what belongs together: near duplicates too, where they were looked for."""
    if "group" in train.columns:
        return train["group"]
    if "patient" in train.columns:
        return patient_of_each(train)
    return train["path"]


def _counts(seen: pd.DataFrame, column: str) -> dict[str, int]:
    """Count the images by a column, the most frequent first; empty cells count for nothing."""
    if column not in seen.columns:
        return {}
    # Beside files that could not be read, whole numbers have become decimal ones.
    values = seen[column].dropna().convert_dtypes().astype(str)
    return {str(k): int(v) for k, v in values[values != ""].value_counts().items()}


def _spacings(seen: pd.DataFrame) -> pd.Series[float]:
    """Return the distances between pixels of the images whose files give them."""
    if "spacing_mm" not in seen.columns:
        return pd.Series(dtype=float)
    return pd.to_numeric(seen["spacing_mm"], errors="coerce").dropna()


def _least_median_greatest(values: pd.Series[float]) -> tuple[float, float, float] | None:
    if values.empty:
        return None
    return float(values.min()), float(values.median()), float(values.max())


def _by_type(seen: pd.DataFrame, column: str, extreme: Literal["min", "max"]) -> dict[str, float]:
    """Find the extreme of each pixel type among the files that state no range themselves."""
    # A file that states its bits or window is believed, and needs no range from here.
    silent = seen[seen["range_from"] == "type"]
    found = silent[column].astype(float).groupby(silent["dtype"]).agg(extreme)
    return {str(dtype): float(value) for dtype, value in found.items()}
