"""Runs and readers → what each said of the same test images, matched by content.

What is read was written before: predictions.csv of runs, and tables of readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hilum.errors import DataError, RunError, SettingError
from hilum.estimates import target_of
from hilum.evaluation import n_openings
from hilum.files import read_json
from hilum.names import NONE, SET_SEPARATOR, quoted
from hilum.patient_figures import patient_names
from hilum.resampling import Floats, Ints
from hilum.splits import join_groups
from hilum.targets import TargetKind, members


@dataclass(frozen=True)
class Rater:
    """What one model or reader said of the images, a row each, in the order of the others.

    Attributes
    ----------
    name : str
    kind : str
        'run' or 'reader'.
    called : int array of shape (n_samples,) or None
        Class that is called; of two classes at the threshold locked on validation data. Of several
        labels (n_samples, n_labels), 1 where one is called.
    probs : float array of shape (n_samples, n_classes) or None
        Probabilities; of a reader with scores, (n_samples, 1) with the score of the positive class.
    facts : dict
        'threshold' and 'n_openings' of a run.
    """

    name: str
    kind: str
    called: Ints | None
    probs: Floats | None
    facts: dict[str, Any]


@dataclass(frozen=True)
class Patients:
    """Test patients of a run, as it pooled their images.

    Attributes
    ----------
    table : DataFrame
        A row each, with the columns of a sheet's; the key is the first of the images' keys.
    owner : Series
        Key of the patient, by the key of each image.
    """

    table: pd.DataFrame
    owner: pd.Series[str]


@dataclass(frozen=True)
class Sheet:
    """Test images of one rater: columns key, path, sha256, label, group, and what was said."""

    name: str
    kind: str
    source: Path
    table: pd.DataFrame
    class_names: tuple[str, ...]
    positive: str | None
    patients_known: bool
    facts: dict[str, Any]
    target: TargetKind
    patients: Patients | None = None
    no_patients: str = "it is no run"

    def rater(self, keys: Sequence[str], class_names: Sequence[str]) -> Rater:
        """Give what was said of the images with these keys, in this order of keys and classes.

        Another run may hold the same classes in another order.
        """
        rows = self.table.set_index("key").loc[list(keys)]
        called = probs = None
        if "called" in rows:
            called = (
                members(rows["called"], class_names).astype(np.intp)
                if self.target == "multilabel"
                else np.array([class_names.index(c) for c in rows["called"]], dtype=np.intp)
            )
        if "score" in rows:
            probs = rows[["score"]].to_numpy(dtype=np.float64)
        elif self.kind == "run":
            columns = [f"p_{name}" for name in class_names]
            probs = rows[columns].to_numpy(dtype=np.float64)
        return Rater(self.name, self.kind, called, probs, self.facts)


def run_sheet(folder: Path) -> Sheet:
    """Read the test rows of a finished run."""
    needed = ("run.json", "predictions.csv", "samples.csv", "metrics.json")
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        raise RunError(
            f"{folder} is not a finished run: there is no {missing[0]} in it. Finish it with: "
            f"hilum resume {folder}"
        )
    metrics = read_json(folder / "metrics.json")
    if "test" not in metrics:
        raise RunError(
            f"{folder} has no test split: "
            + ("it is a cross-validation. " if "oof" in metrics else "metrics.json has no 'test'. ")
            + "Runs are compared on the same test images: train without --folds, with a test split."
        )
    predictions = _table(folder / "predictions.csv")
    samples = _table(folder / "samples.csv").set_index("path")
    test = predictions[predictions["split"] == "test"].reset_index(drop=True)
    known = samples.loc[test["path"], ["sha256", "group"]].reset_index(drop=True)
    table = pd.concat([test.drop(columns="split"), known], axis=1)
    target = target_of(metrics["test"])
    table = _keyed(_in_one_order(table, target))
    return Sheet(
        folder.name or str(folder),
        "run",
        folder,
        table,
        tuple(metrics["class_names"]),
        metrics["positive_class"],
        metrics["test"]["n_patients"] is not None,
        {"threshold": metrics["test"]["threshold"], "n_openings": n_openings(folder)},
        target,
        _pooled(folder, table, target) if metrics["test"].get("patients") else None,
        str(metrics["test"].get("patients_reason") or "its patients were not pooled"),
    )


def _in_one_order(table: pd.DataFrame, target: TargetKind) -> pd.DataFrame:
    """Name what was called, and write labels in an order that no run chose."""
    table = table.rename(columns={"predicted": "called"})
    for column in ("label", "unknown", "called") if target == "multilabel" else ():
        table[column] = [SET_SEPARATOR.join(sorted(c.split(SET_SEPARATOR))) for c in table[column]]
    return table


def _pooled(folder: Path, images: pd.DataFrame, target: TargetKind) -> Patients:
    """Read the test patients of a run, known by their images."""
    rows = _table(folder / "patients.csv")
    # Patients whose images have different classes have no one label, and no figures.
    wanted = (rows["split"] == "test") & ((rows["label"] != "") | (target == "multilabel"))
    named = images.assign(patient=patient_names(images))
    first = named.groupby("patient").agg(key=("key", "min"), group=("group", "first"))
    table = _in_one_order(rows[wanted].reset_index(drop=True), target)
    of_table = first.loc[table["patient"]].reset_index(drop=True)
    owner = pd.Series(first.loc[named["patient"], "key"].to_numpy(), index=named["key"])
    return Patients(pd.concat([table, of_table], axis=1), owner)


def _table(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise DataError(f"{path} is neither a run folder nor a table. Check the path.") from None
    except (ValueError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path} cannot be read as a CSV table: {error}.") from None


def _keyed(table: pd.DataFrame) -> pd.DataFrame:
    """Name each image by its content; copies of one file are told apart by label and order."""
    ordered = table.sort_values(["sha256", "label", "path"], kind="stable")
    number = ordered.groupby("sha256").cumcount().astype(str)
    return ordered.assign(key=ordered["sha256"] + ":" + number)


def reader_sheets(path: Path, run: Sheet) -> list[Sheet]:
    """Read a table of readers, each reader a sheet."""
    table = _table(path)
    said = [name for name in ("score", "decision") if name in table.columns]
    if "path" not in table.columns or not said:
        raise DataError(
            f"{path} has the columns {quoted(table.columns)}: a table of readers needs path, and "
            "score or decision."
        )
    if "score" in said and run.positive is None:
        raise DataError(
            f"{path} has scores, and {run.source} has {len(run.class_names)} classes: a score is "
            "for one class against another. Give decisions."
        )
    readers = table["reader"] if "reader" in table.columns else pd.Series(path.stem, table.index)
    return [
        _reader_sheet(path, str(name), rows, said, run)
        for name, rows in table.groupby(readers, sort=True)
    ]


def _reader_sheet(
    path: Path, name: str, rows: pd.DataFrame, said: Sequence[str], run: Sheet
) -> Sheet:
    known = run.table.set_index("path")
    strange = sorted(set(rows["path"]) - set(known.index))
    if strange:
        raise DataError(
            f"{path} names {len(strange):,} images that are not test images of {run.source}: "
            f"{quoted(strange)}. Write paths as in its predictions.csv."
        )
    twice = rows["path"][rows["path"].duplicated()]
    if len(twice):
        raise DataError(
            f"{path} has several rows of reader {name} for {quoted(set(twice))}. Keep one, or name "
            "the readers in a column reader."
        )
    kept = [name for name in ("key", "sha256", "label", "unknown", "group") if name in known]
    table = known.loc[rows["path"], kept].reset_index()
    if "decision" in said:
        several = run.target == "multilabel"
        decisions = {
            part
            for cell in set(rows["decision"])
            for part in (cell.split(SET_SEPARATOR) if several else [cell])
        }
        wrong = sorted(decisions - set(run.class_names) - ({"", NONE} if several else set()))
        if wrong:
            raise DataError(
                f"{path} has the decisions {quoted(wrong)}, which are no classes of {run.source}. "
                f"They are: {', '.join(run.class_names)}."
            )
        table["called"] = rows["decision"].to_numpy()
    if "score" in said:
        table["score"] = pd.to_numeric(rows["score"], errors="coerce").to_numpy()
        bad = table["path"][~np.isfinite(table["score"])]
        if len(bad):
            raise DataError(f"{path} has no number as score for {quoted(bad)}. Give one for each.")
    return Sheet(
        name,
        "reader",
        path,
        table,
        run.class_names,
        run.positive,
        run.patients_known,
        {},
        run.target,
    )


def with_names(sheets: list[Sheet]) -> list[Sheet]:
    """Let no two have one name."""
    names = [sheet.name for sheet in sheets]
    return [
        _renamed(sheet, _full_name(sheet)) if names.count(sheet.name) > 1 else sheet
        for sheet in sheets
    ]


def _full_name(sheet: Sheet) -> str:
    """Name a run by its folder, and a reader with the file, which may hold several."""
    return str(sheet.source) if sheet.kind == "run" else f"{sheet.name} ({sheet.source})"


def _renamed(sheet: Sheet, name: str) -> Sheet:
    return Sheet(**{**sheet.__dict__, "name": name})


def matched(sheets: list[Sheet], *, shared_only: bool) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Images that all have, with one label and one patient each; or refuse."""
    base = sheets[0]
    runs = [sheet.source for sheet in sheets if sheet.kind == "run"]
    for source in runs:
        if runs.count(source) > 1:
            raise SettingError(f"{source} is given twice: a run cannot be compared with itself.")
    for sheet in sheets[1:]:
        _same_question(base, sheet)
    sets = [set(sheet.table["key"]) for sheet in sheets]
    shared = set.intersection(*sets)
    counts = {
        "shared": len(shared),
        "left_out": {s.name: len(keys - shared) for s, keys in zip(sheets, sets, strict=True)},
    }
    if any(keys != shared for keys in sets) and not (shared_only and shared):
        each = "; ".join(f"{s.name} has {len(k):,}" for s, k in zip(sheets, sets, strict=True))
        advice = "Compare on these alone with --shared." if shared else "There is nothing to pair."
        raise DataError(
            f"The test images differ: {each}; {len(shared):,} are the same by content. {advice}"
        )
    table = base.table[base.table["key"].isin(shared)].sort_values("path").reset_index(drop=True)
    groups = list(table["group"])
    for sheet in sheets[1:]:
        rows = sheet.table.set_index("key").loc[table["key"]]
        wrong = np.flatnonzero(
            np.any(
                [
                    rows[c].to_numpy() != table[c].to_numpy()
                    for c in ("label", "unknown")
                    if c in table
                ],
                axis=0,
            )
        )
        if len(wrong):
            k = wrong[0]
            raise DataError(
                f"The labels differ for {len(wrong):,} images: {table['path'][k]} is "
                f"'{table['label'][k]}' in {base.name} and '{rows['label'].iloc[k]}' in "
                f"{sheet.name}. Find out which is right."
            )
        # Images that either takes for one patient's stay together.
        groups = join_groups(groups, list(rows["group"]))
    return table.assign(group=groups), counts


def _same_question(base: Sheet, sheet: Sheet) -> None:
    if base.target == sheet.target == "ordinal" and base.class_names != sheet.class_names:
        raise DataError(
            f"{base.name} has the grades {', '.join(base.class_names)} and {sheet.name} has "
            f"{', '.join(sheet.class_names)}: models are compared on one order of grades."
        )
    if set(base.class_names) != set(sheet.class_names):
        raise DataError(
            f"{base.name} has the classes {', '.join(base.class_names)} and {sheet.name} has "
            f"{', '.join(sheet.class_names)}: models are compared on one question."
        )
    if base.target != sheet.target:
        raise DataError(
            f"{base.name} has the target '{base.target}' and {sheet.name} has '{sheet.target}': "
            "models are compared on one question."
        )
    if base.positive != sheet.positive:
        raise DataError(
            f"{base.name} looks for '{base.positive}' and {sheet.name} for '{sheet.positive}'. "
            "Train one of them again with --positive."
        )
