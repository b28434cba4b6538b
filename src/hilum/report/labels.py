"""Several labels of an image: what is told of each, a row or a folded part a label."""

from __future__ import annotations

from dataclasses import dataclass

from hilum.report import words
from hilum.report.facts import Estimate, RunFacts
from hilum.report.scales import IntervalRow, Scale, common_scale, interval_row


@dataclass(frozen=True)
class LabelRow:
    """What came out for one label on test.

    Attributes
    ----------
    n_with, n_known : str
        Images with the label, of those of which it is known.
    found, alarms : str
        '28 of 33': images with it that were found, and images without it that were called so.
    sensitivity, specificity : IntervalRow
    threshold : str
    """

    name: str
    n_with: str
    n_known: str
    auroc: IntervalRow
    found: str
    sensitivity: IntervalRow
    alarms: str
    specificity: IntervalRow
    threshold: str


@dataclass(frozen=True)
class LabelTable:
    """All labels on one axis of AUROC."""

    scale: Scale
    rows: tuple[LabelRow, ...]
    note: str


def make_table(facts: RunFacts) -> LabelTable:
    """Put what came out for each label into one row."""
    labels = facts.metrics["test"]["labels"]
    scale = common_scale([Estimate.of(labels[name], "auroc") for name in facts.class_names])
    return LabelTable(
        scale, tuple(_row(facts, name, scale) for name in facts.class_names), _note(facts)
    )


def _row(facts: RunFacts, name: str, scale: Scale) -> LabelRow:
    found = facts.metrics["test"]["labels"][name]
    (cleared, alarms), (missed, hits) = found["confusion_matrix"]
    rows = [
        interval_row(words.BY_KEY[key], Estimate.of(found, key), scale)
        for key in ("auroc", "sensitivity", "specificity")
    ]
    threshold = found["threshold"]
    return LabelRow(
        name,
        words.count(hits + missed),
        words.count(int(found["n"])),
        rows[0],
        f"{hits:,} of {hits + missed:,}",
        rows[1],
        f"{alarms:,} of {alarms + cleared:,}",
        rows[2],
        "–" if threshold is None else words.threshold(float(threshold)),
    )


def _note(facts: RunFacts) -> str:
    """Say what is unknown, and which labels are in no mean."""
    test = facts.metrics["test"]
    n_unknown = {name: int(found["n_unknown"]) for name, found in test["labels"].items()}
    parts = []
    if any(n_unknown.values()):
        parts.append("Images of which a label is not known are left out of its row.")
    if test["not_in_mean"]:
        lost = [f"{name} ({why})" for name, why in test["not_in_mean"].items()]
        parts.append(f"Not in the means: {words.join(lost)}.")
    return " ".join(parts)
