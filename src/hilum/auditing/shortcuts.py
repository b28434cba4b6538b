"""How well the label is predicted from what is not the anatomy, and marks that give it away.

Labels of all splits are looked at, test included: this judges data, and nothing of it flows into
training, calibration or a choice of model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.auditing.findings import N_EXAMPLES, Finding, Found, Severity, number_of
from hilum.auditing.quick_model import (
    CLEAR,
    Area,
    Looks,
    Study,
    area,
    early_stops,
    flat_features,
    make_study,
    out_of_fold,
    picture_features,
    shrink,
)
from hilum.dataset import RESERVED
from hilum.intervals import Floats, wilson
from hilum.names import quoted
from hilum.progress import Progress
from hilum.threads import in_threads, one_blas_thread

MOST_IMAGES = 3000
"""Images that are looked at: more would sharpen intervals that are narrow enough."""

RIM = 4  # pixels of a look that count as its border: 6 % of a side
CORNER = 16
HIDDEN = 40  # side of the square that is hidden in the middle
THUMBNAIL = 16
MARK = 7  # marks are found that are thinner than this, in pixels of a look

OF_PICTURES, OF_FEW_VALUES = 0.03, 0.3  # strengths of the models that tell the label

N_BINS = 12
LEAST_HOLDERS = 3  # patients that must share a value of a column before it can be learnt from

Family = Literal["file", "column", "rim", "coarse"]

CORNERS = {
    "upper left": (slice(0, CORNER), slice(0, CORNER)),
    "upper right": (slice(0, CORNER), slice(-CORNER, None)),
    "lower left": (slice(-CORNER, None), slice(0, CORNER)),
    "lower right": (slice(-CORNER, None), slice(-CORNER, None)),
}
EDGES = {
    "top": (slice(0, CORNER), slice(CORNER, -CORNER)),
    "bottom": (slice(-CORNER, None), slice(CORNER, -CORNER)),
    "left": (slice(CORNER, -CORNER), slice(0, CORNER)),
    "right": (slice(CORNER, -CORNER), slice(-CORNER, None)),
}

# Columns that by their name say what the image shows, as the label does.
DIAGNOSES = re.compile(
    r"^(finding|diagnos|label|class|target|disease|patholog|dx|outcome|categor|condition|tumou?r|"
    r"grade|stage|ground.?truth|y$|result)",
    re.IGNORECASE,
)
# Columns about the person: a disease may well go with them.
PERSONAL = re.compile(r"^(sex|gender|age|birth|ethnic|race|weight|height|bmi)", re.IGNORECASE)


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
    """

    study: Study
    picture: Area
    clues: tuple[Clue, ...]
    restated: tuple[str, ...]

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


def find_shortcuts(samples: pd.DataFrame, looks: Looks, *, progress: Progress) -> Found:
    """Find what predicts the label without being the anatomy.

    Parameters
    ----------
    samples : DataFrame
        Readable samples, numbered from 0, with the columns of `scan`.
    looks : uint8 array of shape (n_samples, 64, 64)

    Returns
    -------
    Found
        Findings of kind 'shortcut'. `paths` is given for marks alone: one group, the images that
        bear it. `clues` holds every clue's AUROC, alarming or not, and so do the `details`.
    """
    study = make_study(samples, samples["label"], most=MOST_IMAGES)
    if isinstance(study, str):
        progress.say(f"Shortcuts were not looked for: {study}.")
        return Found(not_looked_for={"shortcut": study})
    seen = np.asarray(looks[study.rows])
    found = measure_clues(samples, seen, study)
    marks = [*_marks(samples, seen, found)]
    findings = (*marks, *_alarms(found, bool(marks)), *_restatements(found))
    return Found(findings, clues=found.to_dict())


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
    columns, restated = _column_trials(rows, study)
    trials = [*_file_trials(rows, study), *_picture_trials(seen), *columns, _whole(seen)]
    # Limited here once: threads that set and restore the limit each might leave it behind.
    with early_stops(), one_blas_thread():
        measured = list(in_threads(lambda trial: trial.measure(study), trials))
    clues = [clue for clue in measured if clue is not None]
    return Clues(study, clues[-1].area, tuple(clues[:-1]), tuple(restated))


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


def _column_trials(rows: pd.DataFrame, study: Study) -> tuple[list[Trial], list[str]]:
    """Return what to try of the data's own columns, and those that say the label."""
    trials, restated = [], []
    for column in (name for name in rows.columns if name not in RESERVED):
        values = rows[column].astype(str).str.strip()
        if _restates(column, values, study):
            restated.append(str(column))
            continue
        features, words = partial(_column_features, values, study), f"the column '{column}'"
        trials.append(Trial(f"column:{column}", words, "column", features, OF_FEW_VALUES))
    return trials, restated


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
    numbers = pd.to_numeric(values.where(values != ""), errors="coerce")
    if numbers.notna().sum() == (values != "").sum() and numbers.nunique() > N_BINS:
        return _bins(numbers.to_numpy(float))
    return _values(values, study)


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
    if DIAGNOSES.match(column):
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


# -- alarms ---------------------------------------------------------------------------------------


def _alarms(found: Clues, is_marked: bool) -> Iterator[Finding]:
    for clue in found.clues:
        severity = _severity(clue, found.share(clue), is_marked)
        if severity is not None and clue.family in ("file", "column"):
            yield _finding(severity, [clue], found)
    rim = [clue for clue in found.clues if clue.family == "rim"]
    loud = [clue for clue in rim if _severity(clue, found.share(clue), is_marked)]
    if loud:
        loud.sort(key=lambda clue: -clue.area.value)
        yield _finding("medium", loud, found)
    for clue in found.clues:
        severity = _severity(clue, found.share(clue), is_marked)
        if severity is not None and clue.family == "coarse" and not loud:
            yield _finding(severity, [clue], found)


def _severity(clue: Clue, share: float, is_marked: bool) -> Severity | None:
    """Judge a clue: beyond chance, large enough to matter, and near what the picture gives."""
    value = clue.area.value
    if not clue.area.is_clear or value < 0.65:
        return None
    if clue.family == "rim":
        # A mark that was found explains what its corner gives.
        return "medium" if value >= 0.75 and share >= 0.6 and not is_marked else None
    if clue.family == "coarse":
        return "low" if value >= 0.8 and share >= 0.85 else None
    if clue.family == "column" and PERSONAL.match(clue.name.partition(":")[2]):
        return "low"
    # What a picture shows decides how well it compresses, so the size of a file may be innocent.
    strong = 0.9 if clue.name == "file_size" else 0.8
    if value >= strong and share >= 0.6:
        return "high"
    return "medium" if share >= 0.3 else None


def _finding(severity: Severity, clues: list[Clue], found: Clues) -> Finding:
    best = clues[0]
    several = "; ".join(f"{clue.words} {clue.area}" for clue in clues[1:4])
    message = (
        f"From {best.words} alone the label is predicted with an AUROC of {best.area}"
        f"{f' (from {several})' if several else ''}; from the whole picture a small model gives "
        f"{found.picture}. {_meaning(best)}{found.study.sampled()}"
    )
    return Finding(
        "shortcut",
        severity,
        len(found.study),
        message,
        tuple(f"{clue.words}: AUROC {clue.area}" for clue in clues[:N_EXAMPLES]),
        (),
        {"clue": best.name, **found.to_dict()},
    )


def _meaning(clue: Clue) -> str:
    """Say what a clue does to the result and what to do."""
    if clue.family == "coarse":
        return (
            "The classes differ in layout or brightness at large. That may be the disease itself; "
            "it may be exposure, position or age. Figures may not carry over to another "
            "hospital: test on other data."
        )
    if clue.family == "rim":
        return (
            "That may be anatomy that reaches the edge, or position, collimation, marks or black "
            "bars that differ between the classes, which a network would learn in place of the "
            "disease. Look at images of both classes side by side, look at the heat maps, and "
            "crop the edge where it holds no anatomy."
        )
    if clue.family == "column":
        name = clue.name.partition(":")[2]
        if PERSONAL.match(name):
            return (
                "The disease may well go with it; but a network that reads it off the picture "
                f"looks better than it is. Report figures for each '{name}'."
            )
        return (
            "The network does not see the column, but may see what it stands for (device, site, "
            f"position) and learn that. Report figures for each '{name}', or balance the classes "
            "in it."
        )
    if clue.name == "file_size":
        return (
            "What a picture shows decides in part how well it compresses; if the classes were "
            "also saved by other software or settings, a network learns their traces. Save all "
            "images alike from their originals."
        )
    return (
        "The classes were acquired, exported or saved differently, and a network can learn the "
        "traces of that (resampling, compression, aspect) in place of the disease: figures on "
        "such data say nothing about other images. Export all images alike from their originals, "
        "or get both classes from the same source."
    )


def _restatements(found: Clues) -> Iterator[Finding]:
    if found.restated:
        names = quoted(found.restated)
        one = len(found.restated) == 1
        yield Finding(
            "shortcut",
            "low",
            len(found.restated),
            f"{'The column' if one else 'The columns'} {names} {'says' if one else 'say'} the "
            "label in other words. No image gives it away and no network sees it, so that is no "
            f"fault; but do not use {'it' if one else 'them'} as a subgroup or an input.",
            tuple(found.restated),
            (),
            {"clue": "restated", **found.to_dict()},
        )


# -- marks ----------------------------------------------------------------------------------------

LEAST_MARKED_PATIENTS = 8
LEAST_COVERED = 0.05  # share of its class that must bear a mark
MARK_QUANTILES = (*np.arange(0.5, 0.95, 0.025), 0.95, 0.96, 0.97, 0.98, 0.99)
LEAST_CONTRAST = 20.0  # grey values


@dataclass(frozen=True)
class Rule:
    """Something thin stands out in a place, by more than a threshold: then it is a class."""

    place: str
    threshold: float
    z: float


def _marks(samples: pd.DataFrame, seen: Looks, found: Clues) -> Iterator[Finding]:
    """Find thin marks near the edge that nearly always go with one class.

    A rule is chosen on all folds but one and judged on that one, for patients it does not know.
    """
    study = found.study
    contrast = mark_contrast(seen)
    for k in range(len(study.names)):
        is_class = study.y == k
        above = np.full(len(study), -np.inf)
        rules = []
        for fold in np.unique(study.fold):
            rule = _best_rule(contrast, is_class, study.fold != fold)
            if rule is not None:
                ask = study.fold == fold
                above[ask] = contrast[rule.place][ask] - rule.threshold
                rules.append(rule)
        finding = _judge_mark(samples, found, k, above, rules)
        if finding is not None:
            yield finding


def mark_contrast(seen: Looks) -> dict[str, Floats]:
    """Measure how much something thin stands out, bright or dark, by place near the edge.

    Returns
    -------
    dict of float arrays of shape (n,)
        In grey values, by 'bright, upper right corner' and the like.
    """
    contrast: dict[str, Floats] = {}
    least, most = _extreme(seen, np.minimum), _extreme(seen, np.maximum)
    for kind, around in (
        ("bright", seen - _extreme(least, np.maximum)),
        ("dark", _extreme(most, np.minimum) - seen),
    ):
        for name, place in (CORNERS | EDGES).items():
            part = around[:, *place].reshape(len(seen), -1)
            # The six highest: one pixel may be noise, and a letter has more.
            top = np.partition(part, part.shape[1] - 6, axis=1)[:, -6:]
            where = "corner" if name in CORNERS else "edge"
            contrast[f"{kind}, {name} {where}"] = top.mean(axis=1, dtype=np.float64)
        corners = np.stack([contrast[f"{kind}, {name} corner"] for name in CORNERS])
        contrast[f"{kind}, any corner"] = corners.max(axis=0)
        every = np.stack([values for name, values in contrast.items() if name.startswith(kind)])
        contrast[f"{kind}, anywhere near the edge"] = every.max(axis=0)
    return contrast


def _extreme(seen: Looks, of_two: np.ufunc) -> Looks:
    """Take the least or greatest value of the window of `MARK` pixels a side around each pixel."""
    for axis in (1, 2):
        padding = [(MARK // 2,) * 2 if axis == each else (0, 0) for each in range(3)]
        # Of 2, 4 and 7 neighbours in three sweeps.
        found = np.moveaxis(np.pad(seen, padding, mode="symmetric"), axis, 0)
        for step in (1, 2, 3):
            found = of_two(found[:-step], found[step:])
        seen = np.moveaxis(found, 0, axis)
    return seen


def _best_rule(
    contrast: dict[str, Floats], is_class: NDArray[np.bool_], learn: NDArray[np.bool_]
) -> Rule | None:
    """Choose the place and threshold whose images belong most surely to the class."""
    best: Rule | None = None
    truth = is_class[learn]
    prior = float(truth.mean())
    for place, values in contrast.items():
        here = values[learn]
        for threshold in np.unique(np.quantile(here, MARK_QUANTILES)):
            over = here > threshold
            n = int(over.sum())
            if n < LEAST_MARKED_PATIENTS or threshold < LEAST_CONTRAST:
                continue
            z = (float(truth[over].sum()) - n * prior) / np.sqrt(n * prior * (1 - prior))
            if best is None or z > best.z:
                best = Rule(place, float(threshold), float(z))
    return best


def _judge_mark(
    samples: pd.DataFrame, found: Clues, k: int, above: Floats, rules: list[Rule]
) -> Finding | None:
    """Judge the images whose contrast is above that of the rule made without them."""
    study, name = found.study, found.study.names[k]
    marked = above > 0
    hits = marked & (study.y == k)
    patients = study.clusters.index
    n_patients = len(np.unique(patients[hits]))
    covered = hits.sum() / (study.y == k).sum()
    if n_patients < LEAST_MARKED_PATIENTS or covered < LEAST_COVERED:
        return None
    prior = float((study.y == k).mean())
    purity = float(hits.sum() / marked.sum())
    # Marked patients, not images, are what chance draws.
    low, _ = wilson(purity, float(len(np.unique(patients[marked]))), CLEAR)
    if purity < 0.85 or low < prior + 0.3 * (1 - prior):
        return None
    place = max({rule.place for rule in rules}, key=lambda p: sum(r.place == p for r in rules))
    # The plainest first: they show what it is.
    order = np.argsort(-above, kind="stable")[: int(marked.sum())]
    paths = [str(samples["path"].iloc[row]) for row in study.rows[order]]
    kind, _, where = place.partition(", ")
    return Finding(
        "shortcut",
        "high",
        int(marked.sum()),
        f"{number_of(int(marked.sum()), 'image')} with something small and {kind} at the edge "
        f"({where}): {purity:.0%} of them are '{name}', which makes up {prior:.0%} of all; "
        f"{covered:.0%} of '{name}' have it. It may be a mark or text, which a network learns in "
        "place of the disease, and figures will not hold where the mark is absent. Look at the "
        "examples; if it is no anatomy, crop or cover it in every image, and train again."
        + study.sampled(),
        tuple(paths[:N_EXAMPLES]),
        (tuple(paths),),
        {
            "clue": "mark", "class": name, "place": place, "purity": purity,
            "covered": float(covered), "prevalence": prior, "n_patients": n_patients,
            **found.to_dict(),
        },
    )  # fmt: skip
