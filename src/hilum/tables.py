"""A table of text, from CSV, TSV or Parquet: every cell as it is written, nothing guessed.

Everything stays text: '007' is a patient, and 'NA' may be a class.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from hilum.errors import DataError, MissingExtraError
from hilum.names import plain_text

SUFFIXES = (".csv", ".tsv", ".parquet")

Row = tuple[int, list[str]]


def read_table(source: Path) -> pd.DataFrame:
    """Read a table as text.

    Returns
    -------
    DataFrame
        Column names are stripped and on one line. The index is the row as a spreadsheet counts
        it: in a CSV the header is row 1 and blank rows count; in Parquet the first row is row 1.

    Raises
    ------
    DataError
        If it cannot be read, names a column twice, or a row has more cells than the header.
    MissingExtraError
        If pyarrow is needed and absent.
    """
    if source.suffix.lower() == ".parquet":
        return _read_parquet(source)
    return _read_csv(source)


def _read_csv(source: Path) -> pd.DataFrame:
    text = _text(source)
    rows = [row for row in _rows(source, text) if any(cell.strip() for cell in row[1])]
    if not rows:
        raise DataError(f"{source} is empty. It needs a header, such as path,label, and rows.")
    (_, header), *body = rows
    names = _names(source, header)
    long = [number for number, cells in body if any(cell.strip() for cell in cells[len(names) :])]
    if long:
        raise DataError(
            f"{source}: more cells than the header has columns ({len(names)}) in "
            f"{name_rows(long)}. Put a cell that holds the separator into quotes."
        )
    cells = [(row + [""] * len(names))[: len(names)] for _, row in body]
    index = pd.Index([number for number, _ in body], dtype="int64")
    table = pd.DataFrame(cells, columns=names, index=index, dtype=str)
    # Spreadsheets write separators for columns that were once in use.
    unused = [
        name
        for name, cell in zip(names, header, strict=True)
        if not cell.strip() and not table[name].str.strip().any()
    ]
    return table.drop(columns=unused)


def _text(source: Path) -> str:
    try:
        data = source.read_bytes()
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror or error}.") from None
    try:
        # Excel writes its 'Unicode text' in UTF-16; the mark at the start says so.
        is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{source} is not UTF-8 text: line {line} holds the byte 0x{data[error.start]:02x}. "
            "Save the table as 'CSV UTF-8'."
        ) from None
    if "\0" in text:
        raise DataError(f"{source} holds zero bytes, so it is no table of text. Save it as CSV.")
    return text


def _rows(source: Path, text: str) -> Iterator[Row]:
    """Number the rows of a CSV, the first being 1."""
    # Without newline="" a line break inside quotes would be changed.
    stream = io.StringIO(text, newline="")
    rows = csv.reader(stream, delimiter=_separator(source, text), strict=True)
    number = 0
    try:
        for number, cells in enumerate(rows, start=1):
            yield number, cells
    except csv.Error as error:
        raise DataError(
            f"{source} row {number + 1} cannot be read: {error}. Look for a quote that is not "
            "closed."
        ) from None


def _separator(source: Path, text: str) -> str:
    """A comma; a tab in .tsv; a semicolon or tab where the header has these and no comma."""
    if source.suffix.lower() == ".tsv":
        return "\t"
    header = text.lstrip().partition("\n")[0]
    # Spreadsheets of half of Europe write semicolons into what they call CSV.
    others = [other for other in (";", "\t") if other in header]
    return others[0] if len(others) == 1 and "," not in header else ","


def _names(source: Path, header: list[str]) -> list[str]:
    names = [plain_text(cell) or f"column {n}" for n, cell in enumerate(header, start=1)]
    _check_names(source, names)
    return names


def _check_names(source: Path, names: list[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{source} has more than one column '{twice[0]}'. Rename or remove one.")


def _read_parquet(source: Path) -> pd.DataFrame:
    try:
        import pyarrow
    except ImportError:
        raise MissingExtraError("pyarrow", "parquet", "Reading a Parquet table") from None
    try:
        raw = pd.read_parquet(source, engine="pyarrow")
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        words = " ".join(str(error).split())[:200]
        raise DataError(f"{source} cannot be read as Parquet: {words}.") from None
    if raw.index.names != [None]:
        raw = raw.reset_index()
    names = [plain_text(str(name)) for name in raw.columns]
    _check_names(source, names)
    columns = [_as_text(raw.iloc[:, number]) for number in range(len(names))]
    index = pd.RangeIndex(1, len(raw) + 1)
    return pd.DataFrame(dict(zip(names, columns, strict=True)), index=index, dtype=str)


def _as_text(column: pd.Series) -> list[str]:
    """Write a column's values as a CSV would; whole numbers with gaps are stored as floats."""
    if column.dtype.kind == "f":
        known = column.dropna()
        if (known % 1 == 0).all() and (known.abs() < 2**53).all():  # beyond every float is whole
            column = column.astype("Int64")
    return ["" if pd.api.types.is_scalar(v) and pd.isna(v) else str(v) for v in column]


def name_rows(rows: list[int]) -> str:
    """Return 'row 4' or '12 rows, such as 4, 7, 9'."""
    if len(rows) == 1:
        return f"row {rows[0]}"
    return f"{len(rows):,} rows, such as {', '.join(map(str, rows[:5]))}"
