"""Run folder → its facts, read and checked once; everything the report says comes from here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hilum.calls import over_shares
from hilum.errors import RunError
from hilum.estimates import target_of
from hilum.files import read_json
from hilum.multilabel import POSITIVE, two_classes, with_complement
from hilum.targets import TargetKind, members

SPLIT_NAMES = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval.

    Attributes
    ----------
    value, ci_low, ci_high : float or None
        None where it cannot be estimated.
    n : int
        Images that it rests on.
    reason : str
        Why there is no value, or no interval; else ''.
    method : str
        How the interval was found, '' where the run does not say.
    """

    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    reason: str = ""
    method: str = ""

    @classmethod
    def of(cls, figures: dict[str, Any], name: str) -> Estimate:
        """Take a figure out of a part of metrics.json."""
        found = figures.get(name)
        if found is None:
            return cls(None, None, None, 0, "it was not computed")
        return cls(
            found["value"],
            found.get("ci_low"),
            found.get("ci_high"),
            int(found.get("n", 0)),
            str(found.get("reason") or ""),
            str(found.get("method") or ""),
        )

    @property
    def lacks_interval(self) -> bool:
        """Whether there is a value and nothing that says how sure it is."""
        return self.value is not None and self.width is None

    @property
    def width(self) -> float | None:
        """Width of the interval, None without one."""
        if self.ci_low is None or self.ci_high is None:
            return None
        return self.ci_high - self.ci_low


@dataclass(frozen=True)
class Overlap:
    """Patients in more than one split, and the splits concerned."""

    n_patients: int
    names: tuple[str, ...]
    splits: tuple[str, ...]


@dataclass(frozen=True)
class RunFacts:
    """All files of a finished run.

    Attributes
    ----------
    folder : Path
    run, plan, metrics : dict
        run.json, plan.json, metrics.json.
    samples, history, predictions : DataFrame
        samples.csv (all text, `excluded` as bool), history.csv, predictions.csv.
    openings : list of dict
        openings.jsonl, oldest first.
    external : dict
        Figures on other data, by their name: external/<name>.json.
    patients : DataFrame or None
        patients.csv; None where no patient is known.
    """

    folder: Path
    run: dict[str, Any]
    plan: dict[str, Any]
    metrics: dict[str, Any]
    samples: pd.DataFrame
    history: pd.DataFrame
    predictions: pd.DataFrame
    openings: list[dict[str, Any]]
    external: dict[str, dict[str, Any]] = field(default_factory=dict)
    patients: pd.DataFrame | None = None

    def setting(self, name: str) -> Any:
        """Return a planned setting's value, None where this run's version had none."""
        return self.plan.get(name, {}).get("value")

    @property
    def explanation(self) -> dict[str, Any]:
        """What was found when heat maps were checked; empty where none were made."""
        return dict(self.run.get("explanation") or {})

    @property
    def map_method(self) -> str:
        """What the heat maps are called, 'HiResCAM' in runs that do not say."""
        return str(self.explanation.get("name", "HiResCAM"))

    @property
    def findings(self) -> list[dict[str, Any]]:
        """What the audit found, the worst first."""
        return list(self.run.get("findings") or ())

    @property
    def locked_before_test(self) -> bool:
        """Whether the times say that each threshold was fixed before the test was opened."""
        if not self.points or not self.openings:
            return False
        opened = parse_time(str(self.openings[0]["when"]))
        locked = [parse_time(str(point["locked"])) for point in self.points.values()]
        return opened is not None and all(time is not None and opened >= time for time in locked)

    @property
    def points(self) -> dict[str, dict[str, Any]]:
        """The locked operating points, by the label or the positive class."""
        point = self.run.get("operating_point")
        if point:
            return {str(self.positive_class): point}
        return dict(self.run.get("operating_points") or {})

    @property
    def threshold_saw_changes(self) -> bool:
        """Whether a threshold was chosen with the middle level of each corruption."""
        return any(point["rule"] == "robust" for point in self.points.values())

    @property
    def locked_hash(self) -> str | dict[str, str] | None:
        """SHA-256 of the locked point, or of that of each label, as openings.jsonl holds it."""
        if self.is_multilabel:
            return {name: str(point["sha256"]) for name, point in self.points.items()}
        return next((str(point["sha256"]) for point in self.points.values()), None)

    @property
    def target(self) -> TargetKind:
        return target_of(self.metrics["test"])

    @property
    def task(self) -> str:
        """What the classifier does, as an infinitive: 'tell A and B apart'."""
        names = ", ".join(self.class_names[:-1]) + f" and {self.class_names[-1]}"
        if self.target == "multilabel":
            return f"say of {names}, of each by itself, whether it is there"
        if self.target == "ordinal":
            return f"grade as {names}, in this order"
        return f"tell {names} apart"

    @property
    def epoch_is_chosen(self) -> bool:
        """Whether validation images chose the epoch whose weights were kept, or ended training."""
        is_chosen = self.setting("keep") != "last" or bool(self.setting("early_stopping"))
        return is_chosen and not self.setting("probe")

    @property
    def is_multilabel(self) -> bool:
        return self.target == "multilabel"

    @property
    def accounts_for_weights(self) -> bool:
        """Whether classes were weighted in training, and probabilities are corrected for it."""
        return bool((self.run.get("calibration") or {}).get("priors"))

    @property
    def class_shares(self) -> tuple[float, ...] | None:
        """The shares that probabilities are held against when a class is called."""
        shares = self.run.get("class_shares")
        return tuple(shares) if shares else None

    def sureness(self, rows: pd.DataFrame) -> pd.Series[float]:
        """Say how sure each answer is: the probability of what is called, with even shares."""
        columns = [f"p_{name}" for name in self.class_names]
        even = over_shares(rows[columns].to_numpy(dtype=float), self.class_shares)
        called = [self.class_names.index(name) for name in rows["predicted"]]
        return pd.Series(even[np.arange(len(rows)), called], index=rows.index, dtype=float)

    @property
    def class_names(self) -> list[str]:
        return [str(name) for name in self.run["class_names"]]

    @property
    def positive_class(self) -> str | None:
        """The class that a positive answer means; None for more than two classes."""
        positive = self.run.get("positive_class")
        return None if positive is None else str(positive)

    @property
    def negative_class(self) -> str | None:
        if self.positive_class is None:
            return None
        return next(name for name in self.class_names if name != self.positive_class)

    @property
    def subgroup_columns(self) -> list[str]:
        """Columns by which figures of the test are given too."""
        parts = [self.metrics["test"]]
        if self.is_multilabel:
            parts = list(parts[0]["labels"].values())
        rows = [row for part in parts for row in part.get("subgroups") or ()]
        return list(dict.fromkeys(str(row["column"]) for row in rows))

    def about(self, name: str) -> RunFacts:
        """Give the facts of one class or label, by which all that is said of it can be told.

        Of several labels each is a run of two classes, on the images of which it is known; a class
        among others needs no facts of its own.
        """
        return self._by_label[name] if self.is_multilabel else self

    @cached_property
    def _by_label(self) -> dict[str, RunFacts]:
        return {name: _of_label(self, name) for name in self.class_names}

    def predicted(self, split: str) -> pd.DataFrame:
        """Predictions of one split, rows numbered from 0."""
        chosen = self.predictions["split"] == split
        return self.predictions[chosen].reset_index(drop=True)

    def used(self, split: str) -> pd.DataFrame:
        """Samples of one split."""
        return self.samples[self.samples["split"] == split]

    def owners(self, split: str) -> pd.Series[str]:
        """Name whom each sample of one split counts for; images of no patient for themselves."""
        used = self.used(split)
        if "group" in used:
            return used["group"]
        return used["patient"].where(used["patient"] != "", used["path"])

    def n_patients(self, split: str) -> int | None:
        """Count the patients of one split; None where none is known."""
        found = self.run["splits"]["counts"][split]["n_patients"]
        return None if found is None else int(found)

    def shared(self, column: str) -> dict[str, list[str]]:
        """Find values of a samples' column that occur in several splits, with these splits."""
        used = self.samples[(self.samples["split"] != "") & (self.samples[column] != "")]
        pairs = used[[column, "split"]].drop_duplicates()
        # Before they are grouped: most have one split, and a group for each would take a while.
        several = pairs[pairs[column].duplicated(keep=False)]
        groups = several.groupby(column)["split"].agg(list)
        return {str(value): splits for value, splits in groups.items()}

    @property
    def overlap(self) -> Overlap | None:
        """Patients in more than one split: as the samples show it, or as the run says."""
        shared = self.shared("patient")
        told = self.run["splits"].get("overlap") or {}
        if not shared and not told:
            return None
        names = sorted(shared) or [str(name) for name in told.get("examples", [])]
        where = {split for splits in shared.values() for split in splits}
        where |= set(told.get("splits", []))
        return Overlap(
            max(len(shared), int(told.get("n_patients", 0))),
            tuple(names),
            tuple(name for split, name in SPLIT_NAMES.items() if split in where),
        )


def parse_time(text: str) -> datetime | None:
    """Read an ISO time; one without a zone is taken for UTC."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def read_run(folder: Path) -> RunFacts:
    """Read a finished run.

    Raises
    ------
    RunError
        If the run is not finished, or a file of it is missing or damaged.
    """
    if not folder.is_dir():
        raise RunError(f"{folder} is not a run folder. Give the folder that training wrote to.")
    run = _json(folder / "run.json")
    if run.get("status") != "finished":
        raise RunError(
            f"{folder} is not finished: its status is '{run.get('status')}'. "
            f"Finish it with: hilum resume {folder}"
        )
    facts = RunFacts(
        folder=folder,
        run=run,
        plan=_json(folder / "plan.json"),
        metrics=_json(folder / "metrics.json"),
        samples=_samples(folder / "samples.csv"),
        history=_table(folder / "history.csv", text=False),
        predictions=_predictions(folder / "predictions.csv", run),
        openings=_openings(folder / "openings.jsonl"),
        external={path.stem: _json(path) for path in sorted((folder / "external").glob("*.json"))},
        patients=_table(folder / "patients.csv", text=True)
        if (folder / "patients.csv").exists()
        else None,
    )
    _check_metrics(facts)
    return facts


def _json(path: Path) -> dict[str, Any]:
    try:
        value = read_json(path)
    except (OSError, ValueError) as error:
        raise RunError(_broken(path, error)) from None
    if not isinstance(value, dict):
        raise RunError(_broken(path, "it holds no object"))
    return value


def _table(path: Path, *, text: bool) -> pd.DataFrame:
    try:
        # As text, a patient '007' stays '007' and a class 'NA' stays a class.
        if text:
            return pd.read_csv(path, dtype=str, keep_default_na=False)
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise RunError(_broken(path, error)) from None


def _samples(path: Path) -> pd.DataFrame:
    table = _table(path, text=True)
    _need_columns(
        path, table, ("path", "sha256", "label", "patient", "split", "excluded", "reason")
    )
    table["excluded"] = table["excluded"].str.lower() == "true"
    for name in ("height", "width"):
        if name in table:
            # Beside an unreadable file, which has no size, a table keeps sizes as '288.0'.
            table[name] = table[name].str.removesuffix(".0")
    return table


def _predictions(path: Path, run: dict[str, Any]) -> pd.DataFrame:
    table = _table(path, text=True)
    probs = [f"p_{name}" for name in run["class_names"]]
    _need_columns(path, table, ("path", "patient", "split", "label", "predicted", *probs))
    try:
        table[probs] = table[probs].astype(float)
    except ValueError as error:
        raise RunError(_broken(path, error)) from None
    return table


def _openings(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise RunError(_broken(path, error)) from None


def _need_columns(path: Path, table: pd.DataFrame, names: tuple[str, ...]) -> None:
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise RunError(_broken(path, f"the column '{missing[0]}' is missing"))


def _check_metrics(facts: RunFacts) -> None:
    for split in ("val", "test"):
        if split not in facts.metrics:
            path = facts.folder / "metrics.json"
            raise RunError(_broken(path, f"it has no figures of the {split} split"))


def _broken(path: Path, problem: object) -> str:
    if isinstance(problem, FileNotFoundError):
        return f"{path} is missing, so no report can be written. Train again into a new folder."
    return (
        f"{path} cannot be used: {str(problem).strip().rstrip('.')}. Train again into a new folder."
    )


def _of_label(facts: RunFacts, label: str) -> RunFacts:
    """Turn a run of several labels into one of two classes, of the images of which one is known."""
    names, k = two_classes(label), facts.class_names.index(label)
    samples = _told_apart(facts.samples, facts.class_names, k, keep=facts.samples["excluded"])
    predictions = _told_apart(facts.predictions, facts.class_names, k)
    called = members(predictions["predicted"], facts.class_names)[:, k]
    predictions["predicted"] = np.where(called, names[POSITIVE], names[1 - POSITIVE])
    probs = predictions[f"p_{label}"].to_numpy(dtype=float)
    predictions[[f"p_{name}" for name in names]] = with_complement(probs)
    run = {
        **facts.run,
        "class_names": names,
        "positive_class": label,
        "operating_point": facts.points.get(label),
        "splits": facts.run["splits"] | {"counts": _counts(facts, samples, names)},
    }
    return replace(
        facts,
        run=run,
        metrics={split: facts.metrics[split]["labels"][label] for split in ("val", "test")},
        samples=samples,
        predictions=predictions,
        external={
            name: {**found, "metrics": labels[label]}
            for name, found in facts.external.items()
            if label in (labels := figures_on(found).get("labels") or {})
        },
    )


def _told_apart(
    table: pd.DataFrame, labels: list[str], k: int, keep: pd.Series[bool] | None = None
) -> pd.DataFrame:
    """Keep the rows of which a label is known, and say in `label` whether it is there."""
    known = ~members(table["unknown"], labels)[:, k]
    names = two_classes(labels[k])
    said = np.where(members(table["label"], labels)[:, k], names[POSITIVE], names[1 - POSITIVE])
    kept = known if keep is None else known | keep.to_numpy(bool)
    return table.assign(label=said)[kept].reset_index(drop=True)


def _counts(
    facts: RunFacts, samples: pd.DataFrame, names: tuple[str, str]
) -> dict[str, dict[str, Any]]:
    counts = {}
    for split, whole in facts.run["splits"]["counts"].items():
        rows = samples[samples["split"] == split]
        known = rows["patient"][rows["patient"] != ""]
        counts[split] = {
            "n": len(rows),
            "n_patients": None if whole["n_patients"] is None else int(known.nunique()),
            "classes": {name: int((rows["label"] == name).sum()) for name in names},
        }
    return counts


def main_figures(facts: RunFacts) -> tuple[str, ...]:
    """Name the figures of the first page."""
    return main_keys(facts.target, facts.positive_class)


def main_keys(target: TargetKind, positive_class: str | None) -> tuple[str, ...]:
    """Name the figures that come first, by what is asked of an image."""
    if target == "multilabel":
        return ("auroc", "average_precision", "sensitivity", "specificity")
    if target == "ordinal":
        return ("quadratic_kappa", "mean_absolute_error", "balanced_accuracy", "accuracy")
    if positive_class is None:
        return ("auroc", "balanced_accuracy", "accuracy")
    return ("auroc", "sensitivity", "specificity", "balanced_accuracy")


def figures_on(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """Find the figures in external/<name>.json."""
    for key in ("metrics", "figures", "test"):
        if isinstance(found.get(key), Mapping):
            return dict(found[key])
    return found


def n_of_equal_name(found: Mapping[str, Any]) -> int:
    """Count the patients of external/<name>.json that bear the name of one of the run's."""
    return int((found.get("seen") or {}).get("n_patients_of_equal_name") or 0)
