"""Finished runs on tiny images, and a strict reader of pages, for the tests of reports."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from hilum.estimates import describe
from hilum.report import write_report
from hilum.settings import Settings

VOID = frozenset(("meta", "br", "img", "input", "link", "hr"))
SIZES = {"train": 12, "val": 40, "test": 40}  # images of each class


class Page(HTMLParser):
    """A strict reader: every tag is closed in order, and elements are kept with their text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


def make_run(
    folder: Path,
    class_names: Sequence[str] = ("ill", "well"),
    positive: str | None = "ill",
    *,
    suffix: str = ".png",
    with_patients: bool = True,
) -> Path:
    """Write a finished run on tiny images, with probabilities that are mostly right."""
    rng = np.random.default_rng(0)
    data, run = folder / "data", folder / "run"
    run.mkdir(parents=True)
    samples = _samples(data, class_names, suffix, rng, with_patients=with_patients)
    predictions = [
        _predict(samples, split, class_names, positive, rng) for split in ("val", "test")
    ]
    index = {name: i for i, name in enumerate(class_names)}
    metrics: dict[str, Any] = {"class_names": list(class_names), "positive_class": positive}
    for table in predictions:
        metrics[str(table["split"][0])] = describe(
            table["label"].map(index).to_numpy(),
            table[[f"p_{name}" for name in class_names]].to_numpy(),
            class_names=class_names,
            positive=None if positive is None else index[positive],
            threshold=None if positive is None else 0.5,
            groups=list(table["patient"]) if with_patients else None,
            n_resamples=50,
        )
    write_json(run / "metrics.json", metrics)
    pd.concat(predictions).to_csv(run / "predictions.csv", index=False)
    samples.to_csv(run / "samples.csv", index=False)
    write_json(run / "run.json", _run_facts(data, samples, class_names, positive, with_patients))
    settings = Settings().model_dump(mode="json")
    plan = {name: {"value": value, "reason": "The default."} for name, value in settings.items()}
    plan["epochs"] = {"value": 3, "reason": "Enough for <three> tiny images."}
    write_json(run / "plan.json", plan)
    pd.DataFrame(
        {
            "member": [1, 1, 1],
            "epoch": [1, 2, 3],
            "train_loss": [0.7, 0.5, 0.4],
            "val_loss": [0.7, 0.6, 0.5],
            "val_auroc": [0.6, None, 0.8],
            "val_balanced_accuracy": [0.5, 0.6, 0.7],
        }
    ).to_csv(run / "history.csv", index=False)
    opening = {"when": "2026-01-02T03:05:00+00:00", "command": "hilum train", "n": 80}
    opening |= {"purpose": "to report", "operating_point_sha256": "ab" if positive else None}
    (run / "openings.jsonl").write_text(json.dumps(opening) + "\n", encoding="utf-8")
    return run


def _samples(
    data: Path,
    class_names: Sequence[str],
    suffix: str,
    rng: np.random.Generator,
    *,
    with_patients: bool,
) -> pd.DataFrame:
    rows: list[tuple[str, ...]] = []
    for k, name in enumerate(class_names):
        for split, n in SIZES.items():
            (data / f"class{k}").mkdir(parents=True, exist_ok=True)
            for i in range(n):
                path = f"class{k}/{split}{i}{suffix}"
                pixels = rng.integers(0, 256, (12, 10), dtype=np.uint8)
                Image.fromarray(pixels).save(data / path, format="PNG")
                patient = f"P{k}{split}{i // 2}" if with_patients else ""
                rows.append((path, f"sha{len(rows)}", name, patient, split))
    table = pd.DataFrame(rows, columns=["path", "sha256", "label", "patient", "split"])
    table["given_split"] = table["split"]
    table["excluded"], table["reason"] = False, ""
    table["format"], table["height"], table["width"] = "PNG", 12, 10
    return table


def _predict(
    samples: pd.DataFrame,
    split: str,
    class_names: Sequence[str],
    positive: str | None,
    rng: np.random.Generator,
) -> pd.DataFrame:
    table = samples[samples["split"] == split][["path", "patient", "split", "label"]]
    table = table.reset_index(drop=True)
    logits = rng.normal(size=(len(table), len(class_names)))
    logits[np.arange(len(table)), [list(class_names).index(name) for name in table["label"]]] += 2
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    predicted = probs.argmax(axis=1)
    if positive is not None:  # at a threshold of 0.5, ties go to the positive class
        k = list(class_names).index(positive)
        predicted = np.where(probs[:, k] >= 0.5, k, 1 - k)
    table["predicted"] = [class_names[k] for k in predicted]
    for k, name in enumerate(class_names):
        table[f"p_{name}"] = probs[:, k]
    return table


def _run_facts(
    data: Path,
    samples: pd.DataFrame,
    class_names: Sequence[str],
    positive: str | None,
    with_patients: bool,
) -> dict[str, Any]:
    def counts(split: str) -> dict[str, Any]:
        rows = samples[samples["split"] == split]
        return {
            "n": len(rows),
            "n_patients": int(rows["patient"].nunique()) if with_patients else None,
            "classes": {name: int((rows["label"] == name).sum()) for name in class_names},
        }

    point = {"rule": "youden", "threshold": 0.5, "sensitivity": 0.9, "specificity": 0.9, "n": 80}
    point |= {"locked": "2026-01-02T03:04:05+00:00", "sha256": "ab"}
    n_patients = int(samples["patient"].nunique()) if with_patients else None
    return {
        "hilum": "0.1.0",
        "command": ["hilum", "train", "data", "--out", "a run"],
        "status": "finished",
        "data": {
            "path": str(data), "kind": "folder", "sha256": "f" * 64, "n_files": len(samples),
            "n_samples": len(samples), "n_excluded": 0, "notes": ["2 files were left aside."],
        },
        "class_names": list(class_names),
        "positive_class": positive,
        "positive_reason": "Chosen by the user.",
        "target_kind": "multiclass" if positive is None else "binary",
        "patients": {
            "source": "column" if with_patients else "none",
            "description": "Patients were read." if with_patients else "No patient is known.",
            "pattern": None, "column": "patient", "n_patients": n_patients, "n_without": 0,
            "images_per_patient": {"median": 2.0, "max": 2.0} if with_patients else None,
            "examples": [["class0/train0.png", "P0train0"]] if with_patients else [],
        },
        "splits": {
            "source": "given", "reasons": ["The test split was kept."], "overlap": None,
            "allowed_overlap": False,
            "counts": {split: counts(split) for split in ("train", "val", "test")},
        },
        "findings": [],
        "seed": 0,
        "hardware": {"device": "cpu", "precision": "float32", "cpu": "A CPU", "n_cores": 2},
        "versions": {"hilum": "0.1.0"},
        "started": "2026-01-02T03:00:00+00:00",
        "finished": "2026-01-02T03:06:00+00:00",
        "elapsed_s": 360.0,
        "best_epochs": [3],
        "n_parameters": 1234567,
        "epochs_done": 3,
        "operating_point": None if positive is None else point,
    }  # fmt: skip


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def page_of(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def figure(value: float, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    """Make a figure of metrics.json, with an interval of ±0.01 unless it is given."""
    bounds = (value - 0.01 if low is None else low, value + 0.01 if high is None else high)
    return {"value": value, "ci_low": bounds[0], "ci_high": bounds[1], "n": 80}


def enrich(run: Path) -> None:
    """Add to a run of two classes everything that a whole run holds."""
    metrics = json.loads((run / "metrics.json").read_text())
    facts = json.loads((run / "run.json").read_text())
    names = ("auroc", "sensitivity", "specificity", "balanced_accuracy")
    good = {name: figure(0.9) for name in names}
    nothing = {"value": None, "ci_low": None, "ci_high": None, "n": 2, "reason": "too few patients"}
    group = {"column": "sex", "n_patients": 20}
    metrics["test"] |= {
        "conformal": {
            "coverage_wanted": 0.9,
            "coverage": figure(0.91),
            "mean_set_size": figure(1.2),
            "sets": {"0": figure(0.01), "1": figure(0.78), "2": figure(0.21)},
        },
        "referral": {
            "share_referred": figure(0.2),
            "reasons": {"low confidence": figure(0.15), "several classes fit": figure(0.05)},
            "accuracy_kept": figure(0.95),
            "curve": [
                {"share_referred": share, "accuracy": figure(0.9 + share / 10)}
                for share in (0.0, 0.1, 0.2)
            ],
        },
        "subgroups": [
            group | {"group": "F", "n": 40} | good,
            group | {"group": "M", "n": 2} | dict.fromkeys(names, nothing),
        ],
    }
    points = [{"level": level, "auroc": figure(0.9 - level / 20)} for level in range(3)]
    metrics["robustness"] = {"blur": points, "noise": points}
    clue = {"name": "image_size", "words": "height and width", "auroc": figure(0.94)}
    told = {"clue": "image_size", "clues": [clue], "picture": figure(0.97)}
    facts |= {
        "looked_for": ["shortcut", "blank"],
        "explanation": {
            "randomisation_check": {"passed": True, "text": "Passed: maps change."},
            "border": {"heat_share": 0.1, "area_share": 0.2, "text": "Little heat on the border."},
        },
        "findings": [
            {
                "kind": "shortcut", "severity": "high", "count": 1,
                "message": "The size gives it away.", "examples": ["image size: 0.94"],
                "paths": [], "details": told,
            },
            {
                "kind": "near_duplicates", "severity": "medium", "count": 1,
                "message": "1 pair of copies.", "examples": [], "details": {},
                "paths": [["class0/train0.png", "class1/test0.png"]],
            },
        ],
    }  # fmt: skip
    write_json(run / "metrics.json", metrics)
    write_json(run / "run.json", facts)
    (run / "external").mkdir()
    write_json(run / "external" / "elsewhere.json", {"n": 90, "n_patients": 45} | good)
