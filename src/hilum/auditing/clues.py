"""How well the label is predicted, in cross-validation by patient, from what is not the anatomy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.auditing.quick_model import (
    Area,
    Looks,
    Study,
    area,
    early_stops,
    flat_features,
    out_of_fold,
    picture_features,
    shrink,
)
from hilum.columns import nearly_usual
from hilum.dataset import RESERVED
from hilum.resampling import Floats
from hilum.threads import in_threads, one_blas_thread

RIM = 4  # pixels of a look that count as its border: 6 % of a side
CORNER = 16
HIDDEN = 40  # side of the square that is hidden in the middle
THUMBNAIL = 16

OF_PICTURES, OF_FEW_VALUES = 0.03, 0.3  # strengths of the models that tell the label

N_BINS = 12
LEAST_HOLDERS = 3  # patients that must share a value of a column before it can be learnt from
FEW_ALIKE = 10  # images with one value: where most have fewer, they may be those of a patient
LEAST_NAMES = 20  # values of a column that may name patients: sites and devices are fewer

Family = Literal["file", "column", "rim", "coarse"]

CORNERS = {
    "upper left": (slice(0, CORNER), slice(0, CORNER)),
    "upper right": (slice(0, CORNER), slice(-CORNER, None)),
    "lower left": (slice(-CORNER, None), slice(0, CORNER)),
    "lower right": (slice(-CORNER, None), slice(-CORNER, None)),
}

# Columns that by their name say what the image shows, as the label does.
DIAGNOSES = re.compile(
    r"^(finding|diagnos|label|class|target|disease|patholog|dx|outcome|categor|condition|tumou?r|"
    r"grade|stage|ground.?truth|y$|result)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Clue:
    """One thing that is not the anatomy, and how well it predicts the label.

    Attributes
    ----------
    name : str
        For programs, such as 'file_size', 'column:view' or 'corner:upper left'.
    words : str
        For people.
    family : str
        'file', 'column', 'rim' (parts of the picture), 'coarse' (all of it, hardly visible).
    """

    name: str
    words: str
    family: Family
    area: Area

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "words": self.words, "auroc": self.area.to_dict()}


@dataclass(frozen=True)
class Trial:
    """A clue that is not measured yet.

    Attributes
    ----------
    features : function
        Returns what the label is to be told by, a row an image, or None where that says nothing;
        called when it is its turn, so that not all are held at once.
    strength : float
        As `out_of_fold` takes it.
    """

    name: str
    words: str
    family: Family
    features: Callable[[], NDArray[Any] | None]
    strength: float

    def measure(self, study: Study) -> Clue | None:
        features = self.features()
        if features is None:
            return None
        measured = _measure(features, study, self.strength)
        return Clue(self.name, self.words, self.family, measured)


@dataclass(frozen=True)
class Clues:
    """What each clue gives, against what the image itself gives.

    Attributes
    ----------
    picture : Area
        Of a small model on the whole look.
    restated : tuple of str
        Metadata columns that say the label in other words.
    naming : tuple of str
        Metadata columns that may name patients where none is known, and were not measured.
    """

    study: Study
    picture: Area
    clues: tuple[Clue, ...]
    restated: tuple[str, ...]
    naming: tuple[str, ...] = ()

    def share(self, clue: Clue) -> float:
        """How much of what can be predicted at all the clue predicts, 0 to 1."""
        most = max(self.picture.value, clue.area.value) - 0.5
        return max(0.0, clue.area.value - 0.5) / most if most > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        return {
            "n": len(self.study),
            "n_all": self.study.n_all,
            "n_patients": self.study.clusters.n,
            "picture": self.picture.to_dict(),
            "clues": [clue.to_dict() | {"share": self.share(clue)} for clue in self.clues],
            "restated": list(self.restated),
        }


def measure_clues(samples: pd.DataFrame, seen: Looks, study: Study) -> Clues:
    """Measure how well each clue predicts the label, in cross-validation by patient.

    Parameters
    ----------
    samples : DataFrame
    seen : uint8 array of shape (n, 64, 64)
        The looks of the study's images.
    study : Study
    """
    rows = samples.iloc[study.rows]
    naming = _naming_columns(samples)
    columns, restated = _column_trials(rows, study, naming)
    naming = [name for name in naming if name not in restated]
    trials = [*_file_trials(rows, study), *_picture_trials(seen), *columns, _whole(seen)]
    # Limited here once: threads that set and restore the limit each might leave it behind.
    with early_stops(), one_blas_thread():
        measured = list(in_threads(lambda trial: trial.measure(study), trials))
    clues = [clue for clue in measured if clue is not None]
    return Clues(study, clues[-1].area, tuple(clues[:-1]), tuple(restated), tuple(naming))


def _measure(features: NDArray[Any], study: Study, strength: float) -> Area:
    probs = out_of_fold(features, study.y, study.fold, len(study.names), strength=strength)
    return area(study.y, probs, study.clusters)


# -- clues beside the picture ---------------------------------------------------------------------


def _file_trials(rows: pd.DataFrame, study: Study) -> Iterator[Trial]:
    height, width = (rows[name].to_numpy(float) for name in ("height", "width"))
    quality = pd.to_numeric(rows["jpeg_quality"], errors="coerce").to_numpy(float)
    kinds = rows[["format", "mode", "bits"]].astype(str).agg(" ".join, axis=1)
    tried: dict[str, tuple[str, NDArray[np.float32] | None]] = {
        "file_size": ("the size of the file", _bins(rows["file_size"].to_numpy(float))),
        "image_size": (
            "height, width and aspect ratio",
            _joined(_bins(height), _bins(width), _bins(height / width)),
        ),
        "jpeg_quality": ("the JPEG quality", _bins(quality)),
        "format": ("format, colour mode and bit depth", _values(kinds, study)),
    }
    for name, (words, features) in tried.items():
        yield Trial(name, words, "file", partial(_given, features), OF_FEW_VALUES)


def _column_trials(
    rows: pd.DataFrame, study: Study, naming: list[str]
) -> tuple[list[Trial], list[str]]:
    """Return what to try of the data's own columns, and those that say the label."""
    trials, restated = [], []
    for column in (name for name in rows.columns if name not in RESERVED):
        values = rows[column].astype(str).str.strip()
        if _restates(column, values, study):
            restated.append(str(column))
            continue
        if column in naming:
            continue
        features, words = partial(_column_features, values, study), f"the column '{column}'"
        trials.append(Trial(f"column:{column}", words, "column", features, OF_FEW_VALUES))
    return trials, restated


def _naming_columns(samples: pd.DataFrame) -> list[str]:
    """Return the columns that may name patients, where nothing else does.

    There each image counts as a patient of its own, so that images of one person are learnt from
    and asked about: such a column tells the label by who it is, a shortcut that no network has.
    """
    if (samples["patient"] != "").any():
        return []
    own = [str(name) for name in samples.columns if name not in RESERVED]
    slips = nearly_usual(own, "patient")
    return [name for name in own if name in slips or _parts_finely(samples[name])]


def _parts_finely(column: pd.Series) -> bool:
    """Whether a column parts images as patients do, most into groups of a few.

    A device, site or view has many images each. Numbers of many values are no names, but ages and
    measurements: they are judged in bins, each of a twelfth of all images.
    """
    values = column.astype(str).str.strip()
    stated = values[values != ""]
    if _numbers(values) is not None:
        return False
    alike = stated.map(stated.value_counts())
    # Where no value has enough images to be learnt from, there is nothing to leave out.
    return bool(
        stated.nunique() >= LEAST_NAMES
        and alike.max() >= LEAST_HOLDERS
        and alike.median() < FEW_ALIKE
    )


def _given(features: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    return features


def _bins(values: Floats) -> NDArray[np.float32] | None:
    """Turn numbers into bins of about equal size, NaN into one of its own; None if all alike."""
    known = values[np.isfinite(values)]
    if not len(known) or (len(known) == len(values) and known.min() == known.max()):
        return None
    edges = np.unique(np.quantile(known, np.linspace(0, 1, N_BINS + 1)[1:-1]))
    place = np.where(np.isfinite(values), np.searchsorted(edges, values, side="left"), -1)
    return _one_hot(place)


def _values(values: pd.Series, study: Study) -> NDArray[np.float32] | None:
    """Turn words into columns of 0 and 1; those of few patients become one word."""
    words = values.to_numpy(dtype=object)
    held = pd.DataFrame({"word": words, "patient": study.clusters.index})
    holders = held.groupby("word")["patient"].nunique()
    common = set(holders.index[holders >= LEAST_HOLDERS])
    codes = pd.factorize(np.array([word if word in common else "" for word in words], object))[0]
    return _one_hot(codes) if len(np.unique(codes)) > 1 else None


def _one_hot(codes: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(codes[:, None] == np.unique(codes)[None], dtype=np.float32)


def _joined(*parts: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    there = [part for part in parts if part is not None]
    return np.hstack(there) if there else None


def _column_features(values: pd.Series, study: Study) -> NDArray[np.float32] | None:
    numbers = _numbers(values)
    return _values(values, study) if numbers is None else _bins(numbers.to_numpy(float))


def _numbers(values: pd.Series) -> pd.Series | None:
    """Read a column's numbers, NaN where it is empty; None where it has words or few values."""
    numbers = pd.to_numeric(values.where(values != ""), errors="coerce")
    all_are = numbers.notna().sum() == (values != "").sum()
    return numbers if all_are and numbers.nunique() > N_BINS else None


def _restates(column: str, values: pd.Series, study: Study) -> bool:
    """Whether a column says the label: each of its values belongs to one class, and its name or
    its values tell that they mean it."""
    known = values.to_numpy() != ""
    pairs = pd.DataFrame({"value": values.to_numpy(), "y": study.y})[known]
    if pairs["value"].nunique() < 2 or known.mean() < 0.5:
        return False
    counts = pd.crosstab(pairs["value"], pairs["y"])
    pure = float(counts.max(axis=1).sum()) / len(pairs)
    prior = float(counts.sum(axis=0).max()) / len(pairs)
    if pure < 0.98 or pure - prior < 0.5 * (1 - prior):
        return False
    bare = column.removeprefix("table_")  # put before a user's column that bears a name of ours
    named = _plain(re.sub(r"^(is|has)[ _.-]", "", bare, flags=re.IGNORECASE))
    if DIAGNOSES.match(bare) or named in {_plain(name) for name in study.names} - {""}:
        return True
    # Or a class is named by many of the values that go with it.
    said = 0
    for k in counts.columns:
        word = _plain(study.names[int(k)])
        naming = [word != "" and word in _plain(str(value)) for value in counts.index]
        said += int(counts[k][naming].sum())
    return said >= 0.3 * len(pairs)


def _plain(text: str) -> str:
    plain = re.sub(r"[^a-z0-9]", "", text.lower())
    return plain if len(plain) > 1 else ""


# -- clues in the picture -------------------------------------------------------------------------


def _picture_trials(seen: Looks) -> Iterator[Trial]:
    parts: list[tuple[str, str, Family, Callable[[Looks], NDArray[np.float32]]]] = [
        ("border", "the outermost 6 % at each edge", "rim", _border_features),
        *(
            (f"corner:{name}", f"the {name} corner", "rim", partial(_corner_features, place=place))
            for name, place in CORNERS.items()
        ),
        ("centre_hidden", "the picture with its middle 40 % hidden", "rim", _outer_features),
        ("thumbnail", "a thumbnail of 16×16 pixels", "coarse", _thumbnail_features),
    ]
    for name, words, family, describe in parts:
        yield Trial(name, words, family, partial(describe, seen), OF_PICTURES)


def _whole(seen: Looks) -> Trial:
    """What all clues are held against: what the picture itself gives."""
    return Trial("", "the whole picture", "coarse", partial(picture_features, seen), OF_PICTURES)


def _border_features(seen: Looks) -> NDArray[np.float32]:
    edge = np.ones(seen.shape[1:], dtype=bool)
    edge[RIM:-RIM, RIM:-RIM] = False
    return flat_features(seen[:, edge].astype(np.float32))


def _corner_features(seen: Looks, place: tuple[slice, slice]) -> NDArray[np.float32]:
    return flat_features(seen[:, *place].reshape(len(seen), -1).astype(np.float32))


def _outer_features(seen: Looks) -> NDArray[np.float32]:
    hidden = seen.copy()
    inner = slice((hidden.shape[1] - HIDDEN) // 2, (hidden.shape[1] + HIDDEN) // 2)
    hidden[:, inner, inner] = 128
    return picture_features(hidden)


def _thumbnail_features(seen: Looks) -> NDArray[np.float32]:
    return flat_features(shrink(seen, THUMBNAIL).reshape(len(seen), -1))
