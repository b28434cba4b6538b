"""Which column of a table is what, and whether its rows can be samples."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from hilum.errors import DataError, did_you_mean
from hilum.folders import split_name
from hilum.names import UNWRITABLE, plain_text
from hilum.tables import name_rows

# A patient that goes unnoticed makes figures too good, so this column has more than one name.
COLUMN_SPELLINGS = {
    "patient": (
        *("patient", "patientid", "patientnumber", "patientno", "subject", "subjectid"),
        *("participant", "participantid"),
    )
}


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns; None takes the usual name where there is one.

    Attributes
    ----------
    labels : tuple of str or None
        In place of `label`: one column for each of several labels an image.
    """

    path: str | None = None
    label: str | None = None
    patient: str | None = None
    split: str | None = None
    labels: tuple[str, ...] | None = None


def usual_columns(raw: pd.DataFrame, usual: str) -> list[str]:
    """Return the columns that bear a usual name, such as path, in any spelling."""
    wanted = COLUMN_SPELLINGS.get(usual, (usual,))
    return [name for name in raw.columns if _bare(name) in wanted]


def nearly_usual(names: Iterable[str], usual: str) -> list[str]:
    """Return the names that are a slip away from a usual one, as 'patiant' from 'patient'."""
    wanted = COLUMN_SPELLINGS.get(usual, (usual,))
    return [
        name
        for name in names
        if not _is_another(_bare(name), wanted)
        and difflib.get_close_matches(_bare(name), wanted, n=1, cutoff=0.85)
    ]


def _is_another(name: str, usual: Iterable[str]) -> bool:
    """Whether more stands about a usual name than numbers it: 'inpatient' and 'patient_sd' do."""
    return any(
        word in name and not re.fullmatch(rf"{word}(s|no|nr|nos|ids)", name) for word in usual
    )


def _bare(name: str) -> str:
    return re.sub(r"[\s_.-]", "", name.lower())


def required_column(raw: pd.DataFrame, given: str | None, usual: str, source: Path) -> str:
    """Find a column as `find_column` does, and refuse a table that lacks it."""
    name = find_column(raw, given, usual, source)
    if name is None:
        more = ", or several, one a label, with --labels COLUMN,COLUMN" if usual == "label" else ""
        raise _no_column(raw, usual, source, f" Name it with --{usual}-column{more}.")
    return name


def find_column(raw: pd.DataFrame, given: str | None, usual: str, source: Path) -> str | None:
    """Find a column by the name given, or by its usual name in any spelling."""
    if given is not None:
        if given not in raw.columns:
            raise _no_column(raw, given, source, "")
        return given
    found = usual_columns(raw, usual)
    if len(found) > 1:
        raise DataError(
            f"{source} has several columns that may be the {usual}: {', '.join(found)}. Choose "
            f"one with --{usual}-column."
        )
    return found[0] if found else None


def _no_column(raw: pd.DataFrame, name: str, source: Path, option: str) -> DataError:
    hint = did_you_mean(name, raw.columns)
    return DataError(
        f"{source} has no column '{name}'.{hint} Its columns are: {', '.join(raw.columns)}.{option}"
    )


def plain_path(text: str) -> str:
    """Write a path with forward slashes and without './'; '' stays ''."""
    text = text.strip().replace("\\", "/")
    return PurePosixPath(text).as_posix() if text else ""


def check_rows(
    raw: pd.DataFrame,
    paths: pd.Series,
    label: str | None,
    split: str | None,
    source: Path,
    *,
    may_be_empty: bool,
) -> None:
    """Collect every fault of the rows, then refuse them together."""
    if raw.empty:
        raise DataError(f"{source} has no rows.")
    labels = raw[label].str.strip() if label else pd.Series("", raw.index)
    faults = {
        "path missing": paths == "",
        # Of several labels an empty cell says something; what says nothing is told elsewhere.
        "label missing": (labels == "") & (not may_be_empty),
        "path named twice": paths.duplicated() & (paths != ""),
        "line break or control character": (paths + labels).map(
            lambda text: UNWRITABLE.search(text) is not None
        ),
    }
    if split:
        faults["split missing"] = raw[split].str.strip() == ""
        known = raw[split].map(lambda value: split_name(value) is not None)
        wrong = ~known & ~faults["split missing"]
        values = raw[split].map(plain_text)
        for value in values[wrong].unique()[:3]:
            faults[f"split is '{value}', not train, val or test,"] = wrong & (values == value)
    found = [
        f"{fault} in {name_rows([int(row) for row in raw.index[rows]])}"
        for fault, rows in faults.items()
        if rows.any()
    ]
    if found:
        raise DataError(f"{source}: {'; '.join(found)}. Fix or remove these rows.")
