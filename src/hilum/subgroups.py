"""Figures of parts of a split: by sex, band of age, view, hospital, or any column of the table.

Parts are small, and many of them are looked at: what rests on too few patients is left out with the
reason, and nothing here tests whether parts differ. docs/statistics.md says how to read them.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hilum.dataset import RESERVED
from hilum.errors import SettingError, did_you_mean
from hilum.estimates import Study, mean_of
from hilum.intervals import Estimate
from hilum.multilabel import LabelStudy
from hilum.resampling import Bools

# A figure of fewer patients than this would have an interval over most of its range.
MIN_PATIENTS = 5

# Of columns that nobody chose: each further one is a further chance to be misled.
MAX_COLUMNS = 8
MAX_LEVELS = 10

GRADED = ("quadratic_kappa", "mean_absolute_error")
"""Figures of ordinal grades that groups have."""

NOT_STATED = "(not stated)"
OTHERS = "(all others)"

# Share of numbers from which a column is one of numbers.
MOSTLY = 0.8

_AGES = (0, 18, 40, 60, 80)

# Units of DICOM's age strings.
_PER_YEAR = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}

CAUTION = (
    "These are {n_groups} groups of {columns}. By chance alone about 1 in 20 intervals "
    "misses the truth, so that a group may look different without being so: a difference seen here "
    "is a question for other data, not a result."
)


@dataclass(frozen=True)
class Subgroups:
    """Figures of groups, as metrics.json keeps them.

    Attributes
    ----------
    rows : list of dict
        'column', 'group', 'n', 'n_patients', 'prevalence' and figures.
    notes : list of str
        What was left out and why, and how to read the rest.
    """

    rows: list[dict[str, Any]]
    notes: list[str]


def describe_subgroups(
    study: Study, table: pd.DataFrame, *, columns: Sequence[str] | None = None
) -> Subgroups:
    """Give the figures of every group of every column.

    Parameters
    ----------
    study : Study
        The whole split.
    table : DataFrame
        A row for each image, in the same order; columns that are Hilum's own are left aside.
    columns : sequence of str, optional
        Columns to use. Otherwise the first 8 that have 2 to 10 values; numbers are put in bands.

    Raises
    ------
    SettingError
        If the table has no such column, or one that was chosen has too many values for groups.
    """
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    n_columns = 0
    for column in choose_columns(table, columns):
        levels, why = _levels(table[column].astype(str), column, chosen=columns is not None)
        if why or (columns is None and n_columns == MAX_COLUMNS):
            more = f"only {MAX_COLUMNS} columns are taken unless you choose them"
            notes.append(f"{column}: {why or more}.")
            continue
        n_columns += 1
        rows += [
            {"column": column, "group": group} | _figures(study.of(inside), group)
            for group, inside in levels
        ]
    return Subgroups(rows, _caution(rows) + notes)


def describe_label_subgroups(
    study: LabelStudy, table: pd.DataFrame, *, columns: Sequence[str] | None = None
) -> dict[str, Subgroups]:
    """Give the figures of every group for each of several labels; parameters as above."""
    return {
        name: describe_subgroups(part, table[study.known[:, k]], columns=columns)
        for k, (name, part) in enumerate(zip(study.label_names, study.parts, strict=True))
    }


def add_groups(found: Subgroups, rows: Sequence[dict[str, Any]], notes: Sequence[str]) -> Subgroups:
    """Put groups before those that were known, of which those by other columns are kept."""
    new = {row["column"] for row in found.rows}
    whole = [*found.rows, *(row for row in rows if row["column"] not in new)]
    kept = dict.fromkeys([*found.notes, *notes])
    told = [note for note in kept if note not in (*_caution(found.rows), *_caution(rows))]
    return Subgroups(whole, _caution(whole) + told)


def _caution(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Say what many groups do to intervals."""
    n = len({row["column"] for row in rows})
    columns = "1 column" if n == 1 else f"{n} columns"
    return [CAUTION.format(n_groups=len(rows), columns=columns)] if rows else []


def choose_columns(table: pd.DataFrame, columns: Sequence[str] | None) -> list[str]:
    """Return the columns whose groups have figures: those that are named, or all of the user's.

    Raises
    ------
    SettingError
        If there is no such column.
    """
    usable = [name for name in table.columns if name not in RESERVED]
    if columns is None:
        return usable
    for name in columns:
        if name not in usable:
            hint = did_you_mean(name, usable)
            there = ", ".join(usable) or "none"
            raise SettingError(
                f"--subgroup {name}: the data have no such column.{hint} Their own columns are: "
                f"{there}."
            )
    return list(dict.fromkeys(columns))


def check_columns(table: pd.DataFrame, columns: Sequence[str]) -> None:
    """Refuse columns that cannot part images, before hours of predicting them.

    Raises
    ------
    SettingError
        If there is no such column, or one has too many values for groups.
    """
    for column in choose_columns(table, columns):
        _levels(table[column].astype(str), column, chosen=True)


def _levels(
    values: pd.Series[str], column: str, *, chosen: bool
) -> tuple[list[tuple[str, Bools]], str]:
    """Groups of a column with the rows in each; or why it has none."""
    stated = values[values.str.strip() != ""]
    numbers = _numbers(stated, column)
    banded = values.where(values.str.strip() != "", NOT_STATED)
    n_values = int(stated.nunique())
    if n_values > MAX_LEVELS and numbers.notna().mean() >= MOSTLY:
        # A word among numbers ("unknown") states none.
        banded.loc[stated.index] = NOT_STATED
        numbers = numbers.dropna()
        banded.update(pd.Series(_bands(numbers, column), index=numbers.index))
    elif n_values > MAX_LEVELS and not chosen:
        sizes = stated.value_counts()
        common = sizes[sizes >= MIN_PATIENTS].head(MAX_LEVELS - 1)
        if common.sum() < len(stated) / 2:
            return [], f"{n_values:,} different values are too many for groups"
        banded = banded.where(banded.isin([*common.index, NOT_STATED]), OTHERS)
    last = (OTHERS, NOT_STATED)
    names = sorted(set(banded), key=lambda name: (name in last, _natural(name)))
    if len(names) < 2:
        return [], "one value for all images" if n_values else "no value for any image"
    if len(names) > 5 * MAX_LEVELS:
        raise SettingError(
            f"--subgroup {column}: {len(names):,} different values are too many for groups. Put "
            "them in bands first."
        )
    column_values = banded.to_numpy()
    return [(name, np.asarray(column_values == name)) for name in names], ""


def _numbers(stated: pd.Series[str], column: str) -> pd.Series[float]:
    """Read a column's numbers, of ages also as DICOM writes them ("045Y"), in years; else NaN."""
    numbers = pd.to_numeric(stated, errors="coerce").replace([np.inf, -np.inf], np.nan)
    if not _is_age(column):
        return numbers
    parts = stated.str.strip().str.extract(r"^(\d{1,3})([DWMY])$")
    return numbers.fillna(parts[0].astype(float) / parts[1].map(_PER_YEAR))


def _is_age(column: str) -> bool:
    """Tell whether a column's name has the word age: "Patient Age", "age_years", not "stage"."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column).lower()
    return re.search(r"(?<![a-z])ages?(?![a-z])", words) is not None


def _bands(numbers: pd.Series[float], column: str) -> list[str]:
    """Name the band of each number: decades of life for ages, else quarters of the images."""
    if _is_age(column) and 0 <= numbers.min() <= numbers.max() <= 120:
        place = np.searchsorted(_AGES, numbers.to_numpy(), side="right") - 1
        return [
            f"{_AGES[k]}–{_AGES[k + 1] - 1}" if k + 1 < len(_AGES) else f"{_AGES[k]} and over"
            for k in place
        ]
    edges = np.unique(np.quantile(numbers, [0.25, 0.5, 0.75]))
    place = np.searchsorted(edges, numbers.to_numpy(), side="left")
    # As many digits as it takes to tell the edges apart, and dates written as numbers whole.
    is_whole = bool((edges % 1 == 0).all())
    shown = [f"{edge:.0f}" if is_whole else f"{edge:.12g}" for edge in edges]
    names = [f"up to {shown[0]}"]
    names += [f"above {low} to {high}" for low, high in itertools.pairwise(shown)]
    names.append(f"above {shown[-1]}")
    return [names[k] for k in place]


def _natural(name: str) -> tuple[float, int, str]:
    """Order of groups: bands by their first number, then words."""
    head = name.removeprefix("up to ").removeprefix("above ").split("–")[0].split(" ")[0]
    try:
        return float(head), int(name.startswith("above ")), name
    except ValueError:
        return float("inf"), 0, name


def _figures(study: Study, group: str) -> dict[str, Any]:
    """Figures of the images of one group."""
    names, k = study.class_names, study.positive
    counts = np.bincount(study.true, minlength=len(names))
    if k is not None:
        parts = {
            "auroc": [_area(study, k)],
            "sensitivity": [_found(study, k)],
            "specificity": [_found(study, 1 - k)],
        }
    else:
        parts = {
            "auroc": [_area(study, c) for c in study.present],
            "sensitivity": [_found(study, c) for c in study.present],
            "specificity": [_cleared(study, c) for c in study.present],
        }
    figures = {
        name: rows[0] if k is not None else mean_of(rows, study.n) for name, rows in parts.items()
    }
    everyone = np.ones(study.n, dtype=bool)
    figures["accuracy"] = _share(study, study.pred == study.true, everyone, group)
    if study.ordinal:
        reason = _too_few(study, everyone, group)
        graded = {name: figure for name, figure in study.of_grades().items() if name in GRADED}
        figures |= {
            name: Estimate.undefined(reason, study.n) if reason else figure
            for name, figure in graded.items()
        }
    return {
        "n": study.n,
        "n_patients": study.clusters.n if study.clusters.known else None,
        "prevalence": {
            name: float(count / study.n) for name, count in zip(names, counts, strict=True)
        },
        **{name: figure.as_json() for name, figure in figures.items()},
    }


def _found(study: Study, k: int) -> Estimate:
    return _share(study, study.pred == k, study.true == k, study.class_names[k])


def _cleared(study: Study, k: int) -> Estimate:
    others = f"anything but {study.class_names[k]}"
    return _share(study, study.pred != k, study.true != k, others)


def _share(study: Study, hits: Bools, among: Bools, of: str) -> Estimate:
    """Share of hits among some images, or that they are too few."""
    reason = _too_few(study, among, of)
    if reason:
        return Estimate.undefined(reason, int(among.sum()))
    return study.share(hits, among, "")


def _area(study: Study, k: int) -> Estimate:
    """AUROC of a class against the others, or that either are too few."""
    true, name = study.true == k, study.class_names[k]
    others = study.class_names[1 - k] if len(study.class_names) == 2 else f"anything but {name}"
    reason = _too_few(study, true, name) or _too_few(study, ~true, others)
    return Estimate.undefined(reason, study.n) if reason else study.area(true, study.probs[:, k])


def _too_few(study: Study, among: Bools, of: str) -> str:
    """Say that too few patients (or images) are there, '' when there are enough."""
    n = int((study.clusters.totals(among) > 0).sum())
    if n >= MIN_PATIENTS:
        return ""
    what = "patient" if study.clusters.known else "image"
    return f"too few: {n} {what}{'s' if n != 1 else ''} with {of}"
