"""Several labels an image, as tables write them: a column for each, or one cell that joins them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.errors import DataError, did_you_mean
from hilum.names import NONE, SET_SEPARATOR, plain_text, quoted
from hilum.tables import name_rows

PRESENT, ABSENT = ("1", "1.0", "true"), ("0", "0.0", "false")
UNKNOWN = ("", "-1", "-1.0", "nan")

# What a joined cell says where it names no label, in lower case.
NO_LABEL = ("", NONE, "no finding", "no findings")


class Several(NamedTuple):
    """Labels of their own.

    Attributes
    ----------
    names : tuple of str
    targets : float array of shape (n_samples, n_labels)
        0, 1, or NaN where unknown.
    notes : tuple of str
        What was taken for what.
    """

    names: tuple[str, ...]
    targets: NDArray[np.float32]
    notes: tuple[str, ...]


def labels_in_columns(raw: pd.DataFrame, columns: Sequence[str], source: Path) -> Several:
    """Read one column a label: 1, 0, or empty (or -1) where it is unknown.

    Raises
    ------
    DataError
        If a column is missing or named twice, or a cell holds anything else.
    """
    for name in columns:
        if name not in raw.columns:
            raise DataError(
                f"{source} has no column '{name}'.{did_you_mean(name, raw.columns)} Its columns "
                f"are: {', '.join(raw.columns)}. Correct --labels."
            )
    if len(set(columns)) < len(columns):
        twice = next(name for name in columns if list(columns).count(name) > 1)
        raise DataError(f"--labels names the column '{twice}' twice. Name each once.")
    targets = np.full((len(raw), len(columns)), np.nan, dtype=np.float32)
    faults = []
    for k, name in enumerate(columns):
        cells = raw[name].str.strip().str.lower()
        targets[cells.isin(PRESENT), k], targets[cells.isin(ABSENT), k] = 1, 0
        wrong = ~cells.isin((*PRESENT, *ABSENT, *UNKNOWN))
        values = raw[name].map(plain_text)
        for value in values[wrong].unique()[:3]:
            rows = [int(row) for row in raw.index[wrong & (values == value)]]
            faults.append(f"column '{name}' holds '{value}' in {name_rows(rows)}")
    if faults:
        raise DataError(
            f"{source}: {'; '.join(faults)}. With --labels a cell is 1 (present), 0 (absent), or "
            "empty or -1 (unknown). Correct the cells or leave the column out."
        )
    return Several(tuple(columns), targets, ())


def labels_in_cells(
    cells: Sequence[str], classes: Sequence[str] | None, source: Path, places: Sequence[str]
) -> Several:
    """Read one column whose cells join the labels of an image by '|'.

    Parameters
    ----------
    classes : sequence of str, optional
        The labels in order; alphabetical where not given.
    places : sequence of str
        Names each row in messages.

    Raises
    ------
    DataError
        If no cell names a label, one names a label that `classes` does not, or says both that there
        is one and that there is none; or if labels are one but for their spelling.
    """
    parts = [[plain_text(part) for part in cell.split(SET_SEPARATOR)] for cell in cells]
    held = [[part for part in row if part.lower() not in NO_LABEL] for row in parts]
    found = sorted({name for row in held for name in row}, key=natural)
    names = tuple(found) if classes is None else tuple(map(plain_text, classes))
    if not found:
        raise DataError(
            f"{source}: no cell of the label column names a label; every one was taken for none. "
            "Name labels joined by '|', or give a column for each with --labels."
        )
    check_spellings(found, source, "labels")
    _check_joints(held, found, source, places)
    for cell, row, place in zip(parts, held, places, strict=True):
        none = next((part for part in cell if part and part not in row), None)
        if row and none:
            raise DataError(
                f"{source}, {place}: '{none}' says that there is no label, beside '{row[0]}'. Fix "
                "the cell."
            )
        for name in row:
            if name not in names:
                raise DataError(
                    f"{source}, {place}: label '{name}' is not one of {quoted(names)}."
                    f"{did_you_mean(name, names)} Fix the label or --classes."
                )
    index = {name: k for k, name in enumerate(names)}
    targets = np.zeros((len(cells), len(names)), dtype=np.float32)
    for number, row in enumerate(held):
        targets[number, [index[name] for name in row]] = 1
    return Several(names, targets, _note(parts, held))


def check_spellings(found: Iterable[str], source: Path, what: str) -> None:
    """Refuse names that differ in case alone, or spell one number in two ways.

    One class would be learnt as two.

    Parameters
    ----------
    what : str
        'classes' or 'labels', as messages call them.

    Raises
    ------
    DataError
    """
    first: dict[tuple[str, ...], str] = {}
    for name in found:
        other = first.setdefault(_without_spelling(name), name)
        if other != name:
            alike = name.casefold() == other.casefold()
            how = "differ in case alone" if alike else "spell one number in two ways"
            raise DataError(
                f"{source} holds the {what} '{other}' and '{name}', which {how}. Give them one "
                "spelling."
            )


def _without_spelling(name: str) -> tuple[str, ...]:
    """Write a name so that '0' and '0.0', or 'KL 1' and 'kl 1.0', are one.

    In a code, such as 'C50.10' or 'A01', each zero may count.
    """
    folded = name.casefold()
    number = re.fullmatch(r"(\D*\s)?0*(\d+)(?:\.0*)?", folded)
    return (folded,) if number is None else number.groups(default="")


def _check_joints(
    held: Sequence[Sequence[str]], found: Sequence[str], source: Path, places: Sequence[str]
) -> None:
    """Refuse labels that join others by another sign than '|': they would be learnt as one more."""
    known = set(found)
    for row, place in zip(held, places, strict=True):
        for name in row:
            for sign in (";", ",", "/", "+"):
                parts = [plain_text(part) for part in name.split(sign)]
                if len(parts) > 1 and known.issuperset(parts):
                    raise DataError(
                        f"{source}, {place}: '{name}' joins labels by '{sign}'. Join them by '|': "
                        f"'{SET_SEPARATOR.join(parts)}'."
                    )


def _note(parts: list[list[str]], held: list[list[str]]) -> tuple[str, ...]:
    """Say which cells were taken for none of the labels."""
    empty = [" ".join(row) for row, names in zip(parts, held, strict=True) if not names]
    if not empty:
        return ()
    spelled = ", ".join(f"'{text}'" if text else "an empty cell" for text in sorted(set(empty)))
    return (
        f"{len(empty):,} image{' has' if len(empty) == 1 else 's have'} none of the labels "
        f"(written as {spelled}).",
    )


def check_several(read: Several, source: Path, *, to_learn: bool) -> None:
    """Refuse labels that are no several, or of which there is nothing to learn.

    Raises
    ------
    DataError
        If a label is named twice, there is one alone, or, to learn from, one is present in no image
        or absent from none.
    """
    twice = [name for name, count in Counter(read.names).items() if count > 1]
    if twice:
        raise DataError(f"--classes names '{twice[0]}' more than once. Name each label once.")
    # A model of several labels may be evaluated on data that know one of them.
    if to_learn and len(read.names) < 2:
        raise DataError(
            f"{source}: one label, '{read.names[0]}', is two classes. Give its column with "
            "--label-column, without --target and without the rows in which it is unknown."
        )
    for k, name in enumerate(read.names):
        for value, missing in ((1, "present in"), (0, "absent from")):
            # A model may be evaluated on images that all lack a label.
            if to_learn and not (read.targets[:, k] == value).any():
                raise DataError(
                    f"{source}: the label '{name}' is known to be {missing} no image, so "
                    "it cannot be learnt. Leave it out, or add such images."
                )


def grade_order(found: Sequence[str], source: Path) -> tuple[str, ...]:
    """Put grades in the order of the number that each holds.

    Raises
    ------
    DataError
        If their names do not tell an order.
    """
    numbers = [re.findall(r"\d+(?:\.\d+)?", name) for name in found]
    if all(len(each) == 1 for each in numbers):
        values = [float(number) for (number,) in numbers]
        if len(set(values)) == len(values):
            return tuple(name for _, name in sorted(zip(values, found, strict=True)))
    raise DataError(
        f"{source} holds {quoted(found)}, whose names do not tell their order. Give the grades "
        "from the least to the greatest with --classes a,b,c."
    )


def natural(name: str) -> tuple[int, int, str]:
    """Numbers by value, before words by letter."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)
