"""Cross-validation → its page: figures over all folds, each fold's, and how far they vary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import hilum
from hilum.errors import RunError
from hilum.files import read_json
from hilum.report import words
from hilum.report.facts import Estimate
from hilum.report.findings import Findings, show_findings
from hilum.report.gallery import Album
from hilum.report.page import render_template
from hilum.report.reach import GroupRow, figure_row
from hilum.splits import OUT_OF_FOLD, fold_name


@dataclass(frozen=True)
class FoldRow:
    """Figures of one fold; `report` is where its own report lies."""

    row: GroupRow
    report: str
    threshold: str


@dataclass(frozen=True)
class FoldsPage:
    """Everything that the template shows."""

    title: str
    name: str
    source: str
    paragraphs: tuple[str, ...]
    heads: tuple[str, ...]
    pooled: GroupRow
    folds: tuple[FoldRow, ...]
    spread: tuple[str, ...]
    reasons: tuple[str, ...]
    findings: Findings
    version: str


def render_folds_page(folder: Path) -> str:
    """Return the page of a finished cross-validation.

    Raises
    ------
    RunError
        If it is not finished, or a file of it is missing or damaged.
    """
    try:
        run = read_json(folder / "run.json")
        if run["status"] != "finished":
            raise RunError(f"{folder} is not finished. Finish it with: hilum resume {folder}")
        metrics = read_json(folder / "metrics.json")
        samples = pd.read_csv(folder / "samples.csv", dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise RunError(
            f"A file of {folder} is missing or damaged: {error}. Write it anew with: hilum resume "
            f"{folder}"
        ) from None
    samples["excluded"] = samples["excluded"] == "true"
    return render_template("folds.html", page=make_folds_page(run, metrics, samples))


def make_folds_page(
    run: Mapping[str, Any], metrics: Mapping[str, Any], samples: pd.DataFrame
) -> FoldsPage:
    """Gather what the page shows."""
    keys = _keys(run["positive_class"])
    pooled, folds = metrics[OUT_OF_FOLD], metrics["folds"]
    source = Path(run["data"]["path"])
    album = Album(source, run["data"]["kind"])
    auroc = Estimate.of(pooled, "auroc")
    return FoldsPage(
        title=f"AUROC {words.with_interval(auroc, percent=False)} out of fold",
        name=source.name,
        source=str(source),
        paragraphs=(
            f"{words.plural(len(folds), 'network')} were trained, each on the other folds' "
            f"patients: every one of {words.plural(pooled['n'], 'image')} "
            f"({words.people(pooled['n_patients'])}) was predicted once, by a network that had "
            "never seen its patient. Best epoch, calibration and threshold came from validation "
            "patients inside the training part of each fold.",
            "These figures say what this way of training is worth on such data. There is no "
            "single model here: to have one, train without folds on the same data.",
        ),
        heads=tuple(words.BY_KEY[key].name for key in keys),
        pooled=figure_row("All folds together", pooled, keys),
        folds=tuple(
            FoldRow(
                figure_row(f"Fold {fold['fold']}", fold, keys),
                f"{fold_name(fold['fold'])}/report.html",
                "–"
                if fold["threshold"] is None
                else words.number(fold["threshold"], percent=False),
            )
            for fold in folds
        ),
        spread=tuple(_spread(metrics["spread"][key], words.BY_KEY[key].percent) for key in keys),
        reasons=tuple(run["splits"]["reasons"]),
        findings=show_findings(run["findings"], samples, album),
        version=hilum.__version__,
    )


def _keys(positive_class: str | None) -> tuple[str, ...]:
    """Name the figures that the table has."""
    if positive_class is None:
        return ("auroc", "balanced_accuracy", "accuracy")
    return ("auroc", "sensitivity", "specificity", "balanced_accuracy")


def _spread(found: Mapping[str, Any], percent: bool) -> str:
    """Return 'mean 0.95, SD 0.02, 0.93 to 0.97'."""
    if found["mean"] is None:
        return f"not estimable: {found['reason']}"
    mean, sd, low, high = (
        words.number(found[key], percent=percent) for key in ("mean", "sd", "lowest", "highest")
    )
    return f"mean {mean}, SD {sd}; {low} to {high}"
