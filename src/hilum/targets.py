"""The kinds of target: one class an image, a grade of an order, or several labels of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hilum.names import NONE, SET_SEPARATOR

if TYPE_CHECKING:
    import pandas as pd

TargetKind = Literal["classes", "multilabel", "ordinal"]

MOST_CLASSES = 10_000
"""Classes, grades or labels of one model."""

Labels = NDArray[Any]
"""Class indices (n,), or for multi-label data 0, 1 and NaN (unknown) of shape (n, n_labels)."""


def median_grade(probs: ArrayLike) -> NDArray[np.intp]:
    """Return the grade that half of the probability reaches: the least expected distance.

    Parameters
    ----------
    probs : float array of shape (n_samples, n_grades)

    Returns
    -------
    int array of shape (n_samples,)
    """
    reached = np.cumsum(np.asarray(probs, dtype=np.float64), axis=1)
    # The last is 1 but for rounding.
    return np.asarray((reached[:, :-1] < 0.5).sum(axis=1), dtype=np.intp)


def truths(table: pd.DataFrame, names: Sequence[str], target: TargetKind) -> Labels:
    """Return what is true of each row of samples.csv or predictions.csv, for training and figures.

    Parameters
    ----------
    table : DataFrame
        With the column `label`, and for multi-label data `unknown`.
    names : sequence of str
        Classes, grades or labels in order.

    Returns
    -------
    array
        int64 (n,): the index of the class; for multi-label data float32 (n, n_labels): 0, 1, or
        NaN where unknown.
    """
    if target == "multilabel":
        unknown = members(table["unknown"], names)
        return np.where(unknown, np.nan, members(table["label"], names)).astype(np.float32)
    index = {name: number for number, name in enumerate(names)}
    return np.array([index[label] for label in table["label"]], dtype=np.int64)


def members(cells: Iterable[str], names: Sequence[str]) -> NDArray[np.bool_]:
    """Tell which of the names each cell holds, of shape (n_cells, n_names).

    A cell holds names joined by '|', or 'none', or nothing.
    """
    # Few combinations are many rows.
    unique, rows = np.unique(np.array(list(cells), dtype=str), return_inverse=True)
    index = {name: number for number, name in enumerate(names)}
    held = np.zeros((len(unique), len(names)), dtype=bool)
    for row, cell in enumerate(unique.tolist()):
        if cell not in ("", NONE):
            held[row, [index[name] for name in cell.split(SET_SEPARATOR)]] = True
    return held[rows]


def joined_cells(held: NDArray[np.bool_], names: Sequence[str], *, empty: str = NONE) -> list[str]:
    """Write the names that each row holds into one cell; `members` reads it back."""
    unique, rows = np.unique(held, axis=0, return_inverse=True)
    cells = [
        SET_SEPARATOR.join(name for name, has in zip(names, row, strict=True) if has) or empty
        for row in unique
    ]
    return [cells[row] for row in rows.ravel().tolist()]


def label_columns(targets: NDArray[np.floating], names: Sequence[str]) -> dict[str, list[str]]:
    """Write multi-label targets (0, 1, NaN) as the columns `label` and `unknown` of a table."""
    return {
        "label": joined_cells(targets == 1, names),
        "unknown": joined_cells(np.isnan(targets), names, empty=""),
    }
