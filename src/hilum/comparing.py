"""Two models, or a model and readers, on the same test images: paired differences.

Nothing is predicted here and no test split is opened: what runs and readers said of the same files
(by SHA-256) is read from predictions.csv and from tables. docs/statistics.md gives the methods.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hilum import resampling
from hilum.errors import DataError, RunError, SettingError
from hilum.estimates import Study, fewer_patients, target_of
from hilum.evaluation import n_openings
from hilum.files import read_json
from hilum.intervals import Estimate
from hilum.metrics import rank_losses
from hilum.multilabel import POSITIVE, mean_over_labels, two_classes
from hilum.names import NONE, SET_SEPARATOR, quoted
from hilum.paired import (
    Difference,
    Sides,
    compare_areas,
    compare_kappas,
    mean_difference,
)
from hilum.patient_figures import patient_names
from hilum.resampling import Bools, Clusters, Floats, Ints
from hilum.splits import join_groups
from hilum.targets import TargetKind, members, truths

N_RESAMPLES = 2000

# Figures that rest on decisions alone.
_DECIDED = ("sensitivity", "specificity", "balanced_accuracy", "accuracy")

# Figures of ordinal grades; the last rests on probabilities.
_GRADED = ("quadratic_kappa", "mean_absolute_error", "ranked_probability_score")


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
class Comparison:
    """Paired comparisons on the same images.

    Attributes
    ----------
    facts : dict
        JSON-able: 'n', 'n_patients', 'n_shared', 'class_names', 'positive_class', 'raters',
        'comparisons' (each with 'a', 'b' and figures {'a', 'b', 'difference', 'p'}; 'patients'
        holds the same by patient, or is None, and 'patients_reason' says why), 'warnings', 'notes'.
    """

    facts: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return self.facts


def compare(
    first: str | Path, second: str | Path, *others: str | Path, shared_only: bool = False
) -> Comparison:
    """Compare models, or a model and readers, on the same test images.

    Each pair is compared: AUROC (DeLong, by patient), and at the locked thresholds sensitivity,
    specificity, balanced accuracy, accuracy, and the Brier score; of ordinal grades also quadratic
    kappa and the mean error in grades; of several labels each, and the means over them. No test
    split is opened: the predictions that the runs wrote are read. Where patients have several
    images, two runs are also compared by patient, each by its own pooling and threshold.

    Parameters
    ----------
    first : path
        A finished run.
    second, others : path
        Further runs, or tables of readers (CSV) with the column path and score (higher is more
        likely the positive class), decision (a class), or both; with a column reader, each reader
        counts for itself.
    shared_only : bool
        Compare on the images that all have, where the sets differ; otherwise that is refused.

    Raises
    ------
    RunError
        If a folder is no finished run.
    DataError
        If the images differ, or their labels do, or a table is at fault.

    Examples
    --------
    >>> hilum.compare("runs/a", "runs/b").to_dict()["comparisons"][0]["auroc"]  # doctest: +SKIP
    {'a': {…}, 'b': {…}, 'difference': {'value': 0.02, 'ci_low': 0.01, …}, 'p': 0.004}
    """
    if not (Path(first) / "run.json").is_file():
        raise RunError(
            f"{first} is not a run folder. The first argument is a run, whose test images and "
            "labels the others are held against."
        )
    sheets = [_run_sheet(Path(first))]
    for path in (Path(second), *map(Path, others)):
        sheets += [_run_sheet(path)] if path.is_dir() else _reader_sheets(path, sheets[0])
    sheets = _with_names(sheets)
    base, counts = _matched(sheets, shared_only=shared_only)
    names, positive = sheets[0].class_names, sheets[0].positive
    clusters = Clusters.of(base["group"].to_numpy(), len(base))
    raters = [sheet.rater(list(base["key"]), names) for sheet in sheets]
    bench = _bench(base, sheets[0], clusters)
    whole = not any(counts["left_out"].values())
    pairs = [
        bench.compare(a, b) | _by_patient(*two, whole=whole)
        for (a, b), two in zip(
            itertools.combinations(raters, 2), itertools.combinations(sheets, 2), strict=True
        )
    ]
    return Comparison(
        {
            "n": len(base),
            "n_patients": clusters.n if sheets[0].patients_known else None,
            "n_shared": counts,
            "class_names": list(names),
            "positive_class": positive,
            "target": sheets[0].target,
            "raters": [{"name": r.name, "kind": r.kind, **r.facts} for r in raters],
            "comparisons": pairs,
            "warnings": _warnings(raters, pairs, counts),
            "notes": [
                "Read from predictions.csv; no test split was opened.",
                "A difference is the first minus the second.",
            ],
        }
    )


# -- reading ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Patients:
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
class _Sheet:
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
    patients: _Patients | None = None
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


def _run_sheet(folder: Path) -> _Sheet:
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
    return _Sheet(
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


def _pooled(folder: Path, images: pd.DataFrame, target: TargetKind) -> _Patients:
    """Read the test patients of a run, known by their images."""
    rows = _table(folder / "patients.csv")
    # Patients whose images have different classes have no one label, and no figures.
    wanted = (rows["split"] == "test") & ((rows["label"] != "") | (target == "multilabel"))
    named = images.assign(patient=patient_names(images))
    first = named.groupby("patient").agg(key=("key", "min"), group=("group", "first"))
    table = _in_one_order(rows[wanted].reset_index(drop=True), target)
    of_table = first.loc[table["patient"]].reset_index(drop=True)
    owner = pd.Series(first.loc[named["patient"], "key"].to_numpy(), index=named["key"])
    return _Patients(pd.concat([table, of_table], axis=1), owner)


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


def _reader_sheets(path: Path, run: _Sheet) -> list[_Sheet]:
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
    path: Path, name: str, rows: pd.DataFrame, said: Sequence[str], run: _Sheet
) -> _Sheet:
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
    return _Sheet(
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


def _with_names(sheets: list[_Sheet]) -> list[_Sheet]:
    """Let no two have one name."""
    names = [sheet.name for sheet in sheets]
    return [
        _renamed(sheet, _full_name(sheet)) if names.count(sheet.name) > 1 else sheet
        for sheet in sheets
    ]


def _full_name(sheet: _Sheet) -> str:
    """Name a run by its folder, and a reader with the file, which may hold several."""
    return str(sheet.source) if sheet.kind == "run" else f"{sheet.name} ({sheet.source})"


def _renamed(sheet: _Sheet, name: str) -> _Sheet:
    return _Sheet(**{**sheet.__dict__, "name": name})


def _matched(sheets: list[_Sheet], *, shared_only: bool) -> tuple[pd.DataFrame, dict[str, Any]]:
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


def _same_question(base: _Sheet, sheet: _Sheet) -> None:
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


def _warnings(
    raters: Sequence[Rater], pairs: Sequence[dict[str, Any]], counts: dict[str, Any]
) -> list[str]:
    found = [
        f"The test split of {rater.name} was opened {rater.facts['n_openings']} times: whoever "
        "chose between models by it has used it up, and its figures flatter what was chosen."
        for rater in raters
        if rater.facts.get("n_openings", 1) > 1
    ]
    if len(pairs) > 1:
        found.append(
            f"{len(pairs)} pairs are compared, with several figures each. By chance alone 1 in 20 "
            "p-values is below 0.05: name one comparison before you look, or divide 0.05 by their "
            "number."
        )
    elif pairs:
        found.append(
            "Several figures are compared: name the one that decides before you look. The others "
            "explain it."
        )
    if any(counts["left_out"].values()):
        left = ", ".join(f"{n:,} of {name}" for name, n in counts["left_out"].items() if n)
        found.append(f"Images that not all have were left out: {left}.")
    return found


# -- by patient ------------------------------------------------------------------------------------


def _by_patient(a: _Sheet, b: _Sheet, *, whole: bool) -> dict[str, Any]:
    """Compare two runs by patient, each by its own pooling and threshold, or say why not."""
    if a.patients is None or b.patients is None:
        lost = a if a.patients is None else b
        return {"patients": None, "patients_reason": f"{lost.name}: {lost.no_patients}"}
    reason = _not_by_patient(a.patients, b.patients, whole=whole)
    if reason:
        return {"patients": None, "patients_reason": reason}
    base = a.patients.table.sort_values("key").reset_index(drop=True)
    keys = list(base["key"])
    groups = [
        list(sheet.set_index("key").loc[keys, "group"])
        for sheet in (a.patients.table, b.patients.table)
    ]
    clusters = Clusters.of(join_groups(*groups), len(base))
    raters = [
        replace(sheet, table=found.table).rater(keys, a.class_names)
        for sheet, found in ((a, a.patients), (b, b.patients))
    ]
    found = _bench(base, a, clusters).compare(*raters)
    figures = {name: value for name, value in found.items() if name not in ("a", "b")}
    return {"patients": {"n": len(base)} | figures}


def _not_by_patient(a: _Patients, b: _Patients, *, whole: bool) -> str:
    """Say why two runs cannot be compared by patient, '' where they can."""
    if not whole:
        return "images were left out that the runs pooled"
    if not a.owner.equals(b.owner.loc[a.owner.index]):
        return "the two runs do not take the same images for one patient's"
    if set(a.table["key"]) != set(b.table["key"]):
        return "the two runs do not give the same patients a label"
    return ""


# -- figures ---------------------------------------------------------------------------------------


def _bench(rows: pd.DataFrame, sheet: _Sheet, clusters: Clusters) -> _Bench | _LabelBench:
    """Lay out images, or patients, with their labels."""
    names, positive = sheet.class_names, sheet.positive
    true = truths(rows, names, sheet.target)
    if sheet.target == "multilabel":
        return _LabelBench(true, clusters, names)
    k = names.index(positive) if positive else None
    return _Bench(true, clusters, names, k, sheet.target == "ordinal")


@dataclass(frozen=True)
class _Bench:
    """The images that raters are held against each other on."""

    true: Ints
    clusters: Clusters
    class_names: tuple[str, ...]
    positive: int | None
    ordinal: bool = False
    block: Ints | None = None

    @property
    def present(self) -> list[int]:
        """Classes that figures are means over."""
        if self.positive is not None:
            return [self.positive]
        return [int(k) for k in np.unique(self.true)]

    def compare(self, a: Rater, b: Rater) -> dict[str, Any]:
        """Compare two raters by every figure that both have."""
        own = [self.own(rater) for rater in (a, b)]
        n = len(self.true)
        found: dict[str, Any] = {"a": a.name, "b": b.name}
        for name, difference in self.differences(a, b).items():
            parts = [
                figures.get(name, Estimate.undefined(_lacking(name, rater), n))
                for rater, figures in zip((a, b), own, strict=True)
            ]
            found[name] = {
                "a": parts[0].as_json(),
                "b": parts[1].as_json(),
                "difference": difference.estimate.as_json(),
                "p": difference.p,
            }
        return found

    def own(self, rater: Rater) -> dict[str, Estimate]:
        """Figures of one rater on these images."""
        n, n_classes = len(self.true), len(self.class_names)
        found: dict[str, Estimate] = {}
        if rater.called is not None:
            probs = rater.probs if rater.kind == "run" else None
            study = self.study(np.zeros((n, n_classes)) if probs is None else probs, rater.called)
            names: tuple[str, ...] = (
                _DECIDED if probs is None else (*_DECIDED, "auroc", "brier", *_GRADED)
            )
            if self.ordinal and probs is None:
                names = (*_DECIDED, *_GRADED[:2])
            found = {name: value for name, value in study.figures.items() if name in names}
        if rater.kind == "reader" and rater.probs is not None and not self.one_sided():
            study = self.study(np.zeros((n, n_classes)), np.zeros(n, dtype=np.intp))
            found["auroc"] = study.area(self.true == self.positive, rater.probs[:, 0])
        return found

    def study(self, probs: Floats, called: Ints) -> Study:
        names, positive = self.class_names, self.positive
        return Study(
            self.true,
            probs,
            called,
            names,
            positive,
            self.clusters,
            0,
            N_RESAMPLES,
            self.ordinal,
            self.block,
        )

    def one_sided(self) -> bool:
        return any((self.true == k).all() or not (self.true == k).any() for k in self.present)

    def differences(self, a: Rater, b: Rater) -> dict[str, Difference]:
        """Every figure's difference, in the order in which they are shown."""
        everyone = [np.ones(len(self.true), dtype=bool)]
        # Of two classes both are needed: the mean of one would be a sensitivity or a specificity.
        of = np.unique(self.true) if self.positive is None else np.arange(len(self.class_names))
        classes = [self.true == k for k in of]
        finding = [self.true == k for k in self.present]
        return {
            "auroc": self.areas(a, b),
            "sensitivity": self.shares("sensitivity", a, b, finding),
            "specificity": self.cleared(a, b),
            "balanced_accuracy": self.shares("balanced_accuracy", a, b, classes),
            "accuracy": self.shares("accuracy", a, b, everyone),
            "brier": self.briers(a, b),
            **(self.graded(a, b) if self.ordinal else {}),
        }

    def graded(self, a: Rater, b: Rater) -> dict[str, Difference]:
        """Differences of the figures that count how far answers lie from the truth."""
        kappa, error = _GRADED[:2]
        everyone = np.ones(len(self.true), dtype=bool)
        if a.called is None or b.called is None:
            found = {name: self.undecided(name, a, b) for name in (kappa, error)}
        else:
            off = [
                np.abs(r.called - self.true).astype(np.float64)
                for r in (a, b)
                if r.called is not None
            ]
            found = {
                kappa: compare_kappas(self.true, a.called, b.called, self.clusters),
                error: mean_difference([off[0]], [off[1]], [everyone], self.clusters),
            }
        losses = []
        for rater in (a, b):
            if rater.kind != "run" or rater.probs is None:
                lost = Difference.undefined(_lacking("brier", rater), len(self.true))
                return found | {_GRADED[2]: lost}
            losses.append(rank_losses(self.true, rater.probs))
        return found | {
            _GRADED[2]: mean_difference([losses[0]], [losses[1]], [everyone], self.clusters)
        }

    def areas(self, a: Rater, b: Rater) -> Difference:
        """Difference of AUROCs; for many classes of their means."""
        for rater in (a, b):
            if rater.probs is None:
                return Difference.undefined(_lacking("auroc", rater), len(self.true))
        scores = [(self.column(a, k), self.column(b, k)) for k in self.present]
        sides = [Sides(self.true == k, self.true != k) for k in self.present]
        return compare_areas(sides, scores, self.clusters)

    def column(self, rater: Rater, k: int) -> Floats:
        assert rater.probs is not None
        return rater.probs[:, 0] if rater.kind == "reader" else rater.probs[:, k]

    def cleared(self, a: Rater, b: Rater) -> Difference:
        """Difference of specificities: the share of the others that is not called so."""
        if a.called is None or b.called is None:
            return self.undecided("specificity", a, b)
        first, second = ([r.called != k for k in self.present] for r in (a, b))
        return self.paired(first, second, [self.true != k for k in self.present])

    def shares(self, name: str, a: Rater, b: Rater, among: list[Bools]) -> Difference:
        """Difference of the mean share that is right among each of some sets of images."""
        if a.called is None or b.called is None:
            return self.undecided(name, a, b)
        first, second = ([np.asarray(r.called == self.true)] * len(among) for r in (a, b))
        return self.paired(first, second, among)

    def undecided(self, name: str, a: Rater, b: Rater) -> Difference:
        return Difference.undefined(_lacking(name, a if a.called is None else b), len(self.true))

    def paired(self, a: list[Any], b: list[Any], among: list[Bools]) -> Difference:
        """Difference of means of shares, from what each patient adds to it."""
        if not among or not all(part.any() for part in among):
            return Difference.undefined("no image has the class, or all have it", len(self.true))
        inside = [
            [np.where(part, hits, 0.0) for hits, part in zip(rows, among, strict=True)]
            for rows in (a, b)
        ]
        return mean_difference(inside[0], inside[1], among, self.clusters)

    def briers(self, a: Rater, b: Rater) -> Difference:
        """Difference of Brier scores; a reader's scores are no probabilities."""
        losses = []
        for rater in (a, b):
            if rater.kind != "run" or rater.probs is None:
                return Difference.undefined(_lacking("brier", rater), len(self.true))
            squares = (rater.probs - (self.true[:, None] == np.arange(len(self.class_names)))) ** 2
            losses.append(
                squares.sum(axis=1) if self.positive is None else squares[:, self.positive]
            )
        everyone = np.ones(len(self.true), dtype=bool)
        return mean_difference([losses[0]], [losses[1]], [everyone], self.clusters)


@dataclass(frozen=True)
class _LabelBench:
    """The images that raters of several labels are held against each other on.

    Attributes
    ----------
    true : float array of shape (n_samples, n_labels)
        1, 0, or NaN where unknown.
    """

    true: Floats
    clusters: Clusters
    class_names: tuple[str, ...]

    def compare(self, a: Rater, b: Rater) -> dict[str, Any]:
        """Compare two raters on each label, and by the means over those with both outcomes."""
        labels = {}
        rows: list[tuple[_Bench, tuple[Rater, Rater]]] = []
        blocks = resampling.blocks(self.clusters.n, 0)
        for k, name in enumerate(self.class_names):
            known = ~np.isnan(self.true[:, k])
            bench = _Bench(
                self.true[known, k].astype(np.intp),
                self.clusters.of_part(known),
                two_classes(name),
                POSITIVE,
                block=blocks[0][np.unique(self.clusters.index[known])],
            )
            pair = (_on_label(a, k, known), _on_label(b, k, known))
            found = bench.compare(*pair)
            labels[name] = {key: value for key, value in found.items() if key not in ("a", "b")}
            if len(np.unique(bench.true)) == 2:
                rows.append((bench, pair))
        whole: dict[str, Any] = {"a": a.name, "b": b.name}
        differences = self.differences(a, b)
        own = [[bench.own(pair[side]) for bench, pair in rows] for side in (0, 1)]
        for figure, difference in differences.items():
            parts = [
                self.mean(figure, rater, [bench for bench, _ in rows], mine, blocks[1])
                for rater, mine in zip((a, b), own, strict=True)
            ]
            whole[figure] = {
                "a": parts[0].as_json(),
                "b": parts[1].as_json(),
                "difference": difference.estimate.as_json(),
                "p": difference.p,
            }
        return whole | {"labels": labels}

    def mean(
        self,
        figure: str,
        rater: Rater,
        benches: list[_Bench],
        own: list[dict[str, Estimate]],
        n_blocks: int,
    ) -> Estimate:
        """Mean of a rater's figure over labels."""
        n = len(self.true)
        if any(figure not in figures for figures in own):
            return Estimate.undefined(_lacking(figure, rater), n)
        fewest = (fewer_patients(bench.true == POSITIVE, bench.clusters) for bench in benches)
        return mean_over_labels(
            figure,
            [(figures[figure], bench.block) for bench, figures in zip(benches, own, strict=True)],
            n=n,
            n_patients=self.clusters.n,
            fewest=min(fewest, default=0),
            n_blocks=n_blocks,
        )

    def differences(self, a: Rater, b: Rater) -> dict[str, Difference]:
        """Differences of means over labels, from what each patient adds to all of them."""
        sides = [Sides(y == 1, y == 0) for y in self.true.T]
        both = [k for k, (with_it, without) in enumerate(sides) if with_it.any() and without.any()]
        asked = [sides[k] for k in both]
        known = [side.positive | side.negative for side in asked]
        n = len(self.true)
        found = {}
        if a.probs is not None and b.probs is not None:
            scores = [(a.probs[:, k], b.probs[:, k]) for k in both]
            found["auroc"] = compare_areas(asked, scores, self.clusters)
            losses = [
                [
                    np.where(part, (r.probs[:, k] - (self.true[:, k] == 1)) ** 2, 0.0)
                    for k, part in zip(both, known, strict=True)
                ]
                for r in (a, b)
                if r.probs is not None
            ]
            found["brier"] = mean_difference(losses[0], losses[1], known, self.clusters)
        else:
            lost = a if a.probs is None else b
            for name in ("auroc", "brier"):
                found[name] = Difference.undefined(_lacking(name, lost), n)
        with_it, without = ([side[i] for side in asked] for i in (0, 1))
        sets = {
            "sensitivity": (both, with_it),
            "specificity": (both, without),
            "balanced_accuracy": (both * 2, with_it + without),
            "accuracy": (both, known),
        }
        for name, (columns, among) in sets.items():
            if a.called is None or b.called is None:
                lost = a if a.called is None else b
                found[name] = Difference.undefined(_lacking(name, lost), n)
                continue
            right = [
                [
                    np.where(part, 1.0 * (called[:, k] == self.true[:, k]), 0.0)
                    for k, part in zip(columns, among, strict=True)
                ]
                for called in (a.called, b.called)
            ]
            found[name] = mean_difference(right[0], right[1], among, self.clusters)
        return {name: found[name] for name in ("auroc", *_DECIDED, "brier")}


def _on_label(rater: Rater, k: int, known: Bools) -> Rater:
    """Give what a rater said of one label, on the images of which it is known."""
    called = None if rater.called is None else rater.called[known, k]
    probs = None
    if rater.probs is not None:
        p = rater.probs[known, k]
        probs = np.stack([1 - p, p], axis=1)
    return Rater(rater.name, rater.kind, called, probs, rater.facts)


def _lacking(figure: str, rater: Rater) -> str:
    """Say why a rater has no such figure."""
    if figure == "brier":
        return f"{rater.name} gave no probabilities"
    if figure == "auroc":
        return f"{rater.name} gave decisions and no scores"
    return f"{rater.name} gave scores and no decisions"
