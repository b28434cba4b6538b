"""What was planted, and how much of it an audit found."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from hilum.errors import DataError
from hilum.files import write_csv

FLAWS = (
    "unreadable",
    "exact_duplicates",
    "near_duplicates",
    "patients_across_splits",
    "shortcut",
    "label_errors",
    "contradictory_labels",
    "blank",
)
"""Kinds of flaws, named as the audit names what it finds."""

FILE_KINDS = ("unreadable", "label_errors", "blank")
"""Kinds that are counted by file; the others by group of files."""

TRUTH_COLUMNS = ("kind", "paths", "detail")
SEPARATOR = ";"


@dataclass(frozen=True)
class Flaw:
    """One planted flaw.

    Attributes
    ----------
    kind : str
        One of `FLAWS`.
    paths : tuple of str
        The files concerned, as the table names them: the one file that is broken, both files of a
        duplicate (the original first), all of a patient's files, every file with the marker.
    detail : str
        What was done, in a few words.
    """

    kind: str
    paths: tuple[str, ...]
    detail: str


@dataclass(frozen=True)
class Truth:
    """A phantom set and what is wrong with it.

    Attributes
    ----------
    table : Path
        The CSV to give to `audit` or `train`.
    n_images, n_patients : int
        Rows of the table, and patients that it names.
    flaws : tuple of Flaw
        Ordered by kind.
    """

    table: Path
    n_images: int
    n_patients: int
    flaws: tuple[Flaw, ...]

    def of_kind(self, *kinds: str) -> tuple[Flaw, ...]:
        return tuple(flaw for flaw in self.flaws if flaw.kind in kinds)

    def write(self) -> None:
        """Write `truth.csv` beside the table: one row a flaw, its files separated by ';'."""
        rows = [(flaw.kind, SEPARATOR.join(flaw.paths), flaw.detail) for flaw in self.flaws]
        write_csv(self.table.with_name("truth.csv"), pd.DataFrame(rows, columns=[*TRUTH_COLUMNS]))


def read_truth(folder: Path) -> Truth:
    """Read the truth about a phantom set that `make_phantoms` wrote.

    Raises
    ------
    DataError
        If the folder holds no phantom set.
    """
    table = folder / "table.csv"
    try:
        samples = pd.read_csv(table, dtype=str, keep_default_na=False)
        rows = pd.read_csv(table.with_name("truth.csv"), dtype=str, keep_default_na=False)
    except FileNotFoundError as error:
        raise DataError(
            f"{folder} holds no phantom set: {Path(error.filename).name} is missing. "
            "Make one with: hilum demo"
        ) from None
    flaws = tuple(
        Flaw(kind, tuple(paths.split(SEPARATOR)), detail)
        for kind, paths, detail in zip(*(rows[name] for name in TRUTH_COLUMNS), strict=True)
    )
    return Truth(table, len(samples), samples["patient"].nunique(), flaws)


def compare(truth: Truth, findings: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Compare an audit's findings with what was planted.

    Parameters
    ----------
    truth : Truth
    findings : iterable of mapping
        As `Finding.to_dict` gives them; of each, `kind` and `paths` are used. `paths` lists the
        things found, each as the list of its files, named as the table names them: one file
        (unreadable, blank, label error), the files that are copies of each other, a patient's
        files, or the files that carry a shortcut.

    Returns
    -------
    DataFrame
        One row for each of `FLAWS`: kind, planted, found, false_alarms, missed. Unreadable and
        blank files and label errors are counted by file. Copies and patients are found by a group
        that holds two of their files, a shortcut by one of whose files at least half carry it; a
        group that finds nothing planted is a false alarm. An identical file is a near duplicate
        too, and a patient with two classes has a label error.
        `missed` is a tuple of paths, the last of each flaw that was not found.
    """
    groups: dict[str, list[frozenset[str]]] = {kind: [] for kind in FLAWS}
    for finding in findings:
        if finding["kind"] in groups:
            groups[finding["kind"]] += map(frozenset, finding["paths"])
    return pd.DataFrame([_compare_kind(truth, kind, groups[kind]) for kind in FLAWS])


def _compare_kind(truth: Truth, kind: str, groups: list[frozenset[str]]) -> dict[str, Any]:
    planted, also = truth.of_kind(kind), list[Flaw]()
    if kind in FILE_KINDS:
        planted = tuple(Flaw(kind, (path,), "") for flaw in planted for path in flaw.paths)
        groups = [frozenset([path]) for path in sorted(set(itertools.chain(*groups)))]
    if kind == "near_duplicates":
        also = [*truth.of_kind("exact_duplicates")]
    if kind == "label_errors":
        # One image of such a patient has a wrong label, and which is not to be told.
        also = [
            Flaw(kind, (path,), "")
            for flaw in truth.of_kind("contradictory_labels")
            for path in flaw.paths
        ]
    missed = [flaw.paths[-1] for flaw in planted if not any(_finds(g, flaw) for g in groups)]
    true = [group for group in groups if any(_finds(group, flaw) for flaw in (*planted, *also))]
    return {
        "kind": kind,
        "planted": len(planted),
        "found": len(planted) - len(missed),
        "false_alarms": len(groups) - len(true),
        "missed": tuple(missed),
    }


def _finds(group: frozenset[str], flaw: Flaw) -> bool:
    shared = len(group.intersection(flaw.paths))
    if flaw.kind == "shortcut":
        return 2 * shared >= len(group) > 0
    return shared >= min(2, len(flaw.paths))
