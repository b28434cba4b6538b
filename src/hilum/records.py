"""The files of a run folder: written whole, read back with every doubt named.

Here is what a later step, session or reader needs of a run: run.json, samples.csv, plan.json.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from hilum.auditing import KINDS
from hilum.dataset import Dataset
from hilum.errors import RunError, SettingError
from hilum.evaluation import now
from hilum.files import read_json, write_csv, write_json
from hilum.hardware import find_hardware
from hilum.patients import Patients, count_named
from hilum.preparation import DataOptions, Prepared
from hilum.pretrained import describe_start, find_weights
from hilum.scan import reading_notes
from hilum.settings import Settings, make_settings
from hilum.splits import OUT_OF_FOLD, SPLITS, fold_name
from hilum.targets import members

VERSIONS_OF = ("hilum", "torch", "lightning-fabric", "onnxruntime", "numpy", "pillow", "pydicom")

NEEDED = ("path", "sha256", "label", "patient", "group", "split", "excluded", "reason")
"""Columns of samples.csv that a later step cannot do without."""


@dataclass
class Run:
    """A run folder.

    Attributes
    ----------
    folder : Path
    facts : dict
        Content of run.json.
    """

    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)

    def save(self, **facts: Any) -> None:
        """Add facts and write run.json; what is kept is what a later reader will find there."""
        write_json(self.folder / "run.json", self.facts | facts)
        self.facts = read_json(self.folder / "run.json")

    def begin_session(self, command: Sequence[str], accelerator: str) -> None:
        """Write down when, by which command, on what and with which versions work goes on.

        Raises
        ------
        RunError
            If the device that the run was planned for is not there.
        """
        try:
            hardware = find_hardware(accelerator)
        except SettingError:
            raise RunError(
                f"{self.folder} was planned for the device '{accelerator}', and none was found. "
                "Go on where there is one, or start a new run here: 'hilum train' with another "
                "--out, and the same plan by --recipe and the folder of the whole run."
            ) from None
        session = {
            "started": now(),
            "command": list(command),
            "hardware": hardware.to_dict(),
            "versions": versions(),
        }
        self.save(sessions=[*self.facts.get("sessions", []), session])

    @property
    def n_folds(self) -> int | None:
        """Folds of a cross-validation; None for a run that trains once."""
        n_folds: int | None = self.facts["request"]["options"].get("folds")
        return n_folds

    @property
    def reasons(self) -> list[str]:
        """Titles of the reasons to distrust the figures, the gravest first."""
        from hilum.report import list_reasons

        return list_reasons(self.folder)

    @property
    def metrics(self) -> dict[str, Any]:
        """Content of metrics.json."""
        metrics: dict[str, Any] = read_json(self.folder / "metrics.json")
        return metrics

    @property
    def external(self) -> dict[str, dict[str, Any]]:
        """Figures on other data by their name, each the content of external/NAME.json."""
        paths = sorted((self.folder / "external").glob("*.json"))
        return {path.stem: read_json(path) for path in paths}


def open_run(folder: str | Path) -> Run:
    """Open a run folder.

    Raises
    ------
    RunError
        If it is none, or its run.json is damaged.
    """
    path = Path(folder)
    if not (path / "run.json").is_file():
        raise RunError(f"{path} is not a run folder: there is no run.json in it.")
    facts = read_back(path / "run.json")
    if not isinstance(facts, dict) or "status" not in facts:
        raise RunError(f"{path / 'run.json'} is not the record of a run. Start a new run.")
    return Run(path, facts)


def finished_run(folder: str | Path) -> Run:
    """Open the folder of a finished run.

    Raises
    ------
    RunError
        If it is none, or not finished.
    """
    run = open_run(folder)
    if run.facts["status"] != "finished":
        raise RunError(f"{folder} is not finished. Finish it with: hilum resume {folder}")
    return run


def several_models(folder: Path, command: str) -> str:
    """Say that a cross-validation has no one model, and what to do."""
    return (
        f"{folder} is a cross-validation: it says what this way of training is worth, and holds a "
        f"model for each fold but none of all data. Take one of them (hilum {command} "
        f"{folder / fold_name(1)}), or train one model with: hilum train, without --folds."
    )


def save_prepared(run: Run, prepared: Prepared, options: DataOptions, **facts: Any) -> None:
    """Write down what was prepared; `facts` are more that run.json is to hold."""
    dataset, samples, split = prepared.dataset, prepared.samples, prepared.split
    samples["split"] = samples["split"].fillna("")
    reasons = list(split.reasons)
    if options.new_split and (samples["given_split"] != "").any():
        reasons.insert(0, "The split that came with the data was left aside, as the user asked.")
    write_csv(run.folder / "samples.csv", as_written(samples))
    write_json(run.folder / "plan.json", prepared.plan.to_dict())
    settings = prepared.plan.settings
    assert prepared.plan.fingerprint is not None
    fingerprint = prepared.plan.fingerprint.to_dict()
    hardware = find_hardware(settings.accelerator)
    run.save(
        status="prepared",
        data=data_facts(dataset, samples),
        class_names=list(dataset.class_names),
        positive_class=prepared.positive,
        positive_reason=prepared.positive_reason,
        target_kind=dataset.target_kind,
        patients=dataset.patients.to_dict(),
        splits={
            "source": split.source,
            "reasons": reasons,
            "overlap": split.overlap,
            "allowed_overlap": options.allow_patient_overlap,
            "counts": {
                name: count_classes(samples, name, dataset)
                for name in (*SPLITS, OUT_OF_FOLD)
                if name in SPLITS or split.folds is not None
            },
        },
        **prepared.found.to_dict(),
        looked_for=list(KINDS),
        seed=settings.seed,
        pretrained=describe_start(settings, find_weights(settings)),
        resolution=fingerprint.pop("resolution"),
        fingerprint=fingerprint,
        hardware={
            "device": hardware.device,
            "precision": settings.precision,
            "cpu": hardware.name,
            "n_cores": hardware.n_cores,
        },
        versions=versions(),
        finished=None,
        **facts,
    )


def as_written(samples: pd.DataFrame) -> pd.DataFrame:
    """Return samples as samples.csv holds them."""
    return samples.assign(excluded=samples["excluded"].map({True: "true", False: "false"}))


def data_facts(dataset: Dataset, samples: pd.DataFrame) -> dict[str, Any]:
    """Say what data a run stands on, for run.json."""
    return {
        # Links are not followed: the paths in a table are those beside the link to it.
        "path": os.path.abspath(dataset.source),
        "kind": dataset.kind,
        "sha256": data_hash(samples),
        "n_files": len(samples),
        "n_samples": int((~samples["excluded"]).sum()),
        "n_excluded": int(samples["excluded"].sum()),
        "notes": [*dataset.notes, *reading_notes(samples)],
    }


def data_hash(samples: pd.DataFrame) -> str:
    """Hash all readable files of a data set: their paths and contents."""
    readable = samples[~samples["excluded"]].sort_values("path")
    lines = [
        f"{digest}  {path}\n"
        for path, digest in zip(readable["path"], readable["sha256"], strict=True)
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def count_classes(samples: pd.DataFrame, split: str, dataset: Dataset) -> dict[str, Any]:
    rows = samples[samples["split"] == split]
    return {
        "n": len(rows),
        "n_patients": count_named(rows["patient"]) if dataset.patients.n_patients else None,
        "classes": _counts(rows, dataset),
    }


def _counts(rows: pd.DataFrame, dataset: Dataset) -> dict[str, int]:
    """Count the images of each class, or those known to show each label."""
    names = dataset.class_names
    if dataset.target_kind == "multilabel":
        return dict(zip(names, members(rows["label"], names).sum(axis=0).tolist(), strict=True))
    return {name: int((rows["label"] == name).sum()) for name in names}


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in VERSIONS_OF:
        found[package] = importlib.metadata.version(package)
    return found


def load_prepared(run: Run) -> tuple[Dataset, pd.DataFrame, Settings]:
    """Read back what `save_prepared` wrote."""
    samples = read_back(run.folder / "samples.csv")
    missing = [name for name in NEEDED if name not in samples]
    if missing:
        raise RunError(
            f"{run.folder / 'samples.csv'} is damaged: the column '{missing[0]}' is missing. Start "
            "a new run."
        )
    samples["excluded"] = samples["excluded"] == "true"
    plan = read_back(run.folder / "plan.json")
    settings = make_settings({name: entry["value"] for name, entry in plan.items()})
    facts = run.facts
    source = Path(facts["data"]["path"])
    if not source.exists():
        raise RunError(f"The data of this run, {source}, are not there any more. Put them back.")
    dataset = Dataset(
        source,
        facts["data"]["kind"],
        samples,
        tuple(facts["class_names"]),
        facts["target_kind"],
        Patients(**facts["patients"]),
    )
    return dataset, samples, settings


def read_back(path: Path) -> Any:
    """Read a JSON or CSV file that a run wrote.

    Raises
    ------
    RunError
        If it is missing or damaged.
    """
    try:
        if path.suffix == ".csv":
            return pd.read_csv(path, dtype=str, keep_default_na=False)
        return read_json(path)
    except FileNotFoundError:
        raise RunError(
            f"{path} is missing, and the run cannot go on without it. Start a new run."
        ) from None
    except (ValueError, pd.errors.ParserError, pd.errors.EmptyDataError):
        raise RunError(f"{path} is damaged: it cannot be read. Start a new run.") from None
