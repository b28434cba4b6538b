"""The results: every figure with its interval, the confusion matrix, and the curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hilum.report import curves, figures, words
from hilum.report.facts import Estimate, RunFacts
from hilum.report.figures import Plot
from hilum.report.scales import IntervalRow, Scale, common_scale, interval_row
from hilum.report.words import Term
from hilum.targets import TargetKind

CLASS_FIGURES = (
    "auroc",
    "average_precision",
    "sensitivity",
    "specificity",
    "precision",
    "f1",
)

DEEPEST = 0.42  # opacity of a full cell, light enough for its number to be read


@dataclass(frozen=True)
class FigureRow:
    """One figure on test and on validation."""

    test: IntervalRow
    val: IntervalRow
    on_scale: bool


@dataclass(frozen=True)
class ClassRow:
    name: str
    n: str
    cells: tuple[tuple[str, str, bool], ...]  # value, interval, whether there is a value


@dataclass(frozen=True)
class MatrixCell:
    n: str
    share: str
    opacity: float
    is_right: bool
    is_near: bool = False  # of grades: one step from the truth


@dataclass(frozen=True)
class Matrix:
    """Confusion matrix: rows are the truth; `distances` of grades: how far answers lie off."""

    names: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[MatrixCell, ...]], ...]  # name, n, cells
    distances: tuple[tuple[str, str, str], ...] = ()  # distance, n, share


@dataclass(frozen=True)
class Results:
    """The section on results."""

    method: str
    scale: Scale
    rows: tuple[FigureRow, ...]
    class_heads: tuple[str, ...]
    classes: tuple[ClassRow, ...]
    cuts: tuple[IntervalRow, ...]
    matrix: Matrix | None
    roc: tuple[Plot, ...]
    precision_recall: tuple[Plot, ...]
    history: tuple[Plot, ...]
    target: TargetKind
    is_binary: bool
    n_test: str
    n_val: str


def make_results(facts: RunFacts) -> Results:
    scale = common_scale(
        [
            Estimate.of(facts.metrics[split], term.key)
            for term in words.terms_of(facts.target)
            if term.rises
            for split in ("test", "val")
        ]
    )
    roc, precision_recall = _curves(facts)
    test, val = facts.metrics["test"], facts.metrics["val"]
    return Results(
        method=_method(facts),
        scale=scale,
        rows=tuple(_figure_row(facts, term, scale) for term in words.terms_of(facts.target)),
        class_heads=tuple(words.BY_KEY[key].name for key in CLASS_FIGURES),
        classes=tuple(_class_row(facts, name) for name in facts.class_names),
        cuts=tuple(
            interval_row(
                Term(row["cut"], str(row["cut"]), False, ""),
                Estimate.of({"auroc": row}, "auroc"),
                scale,
            )
            for row in test.get("auroc_by_cut") or ()
        ),
        matrix=None if facts.is_multilabel else _matrix(facts),
        roc=roc,
        precision_recall=precision_recall,
        history=_history(facts),
        target=facts.target,
        is_binary=facts.positive_class is not None,
        n_test=words.plural(int(test["n"]), "image") + words.of_people(facts.n_patients("test")),
        n_val=words.plural(int(val["n"]), "image") + words.of_people(facts.n_patients("val")),
    )


def _method(facts: RunFacts) -> str:
    """Say how the intervals were found: by figure where the run says so, else for all."""
    test = facts.metrics["test"]
    ci = test["ci"]
    by_method: dict[str, list[str]] = {}
    for term in words.terms_of(facts.target):
        method = Estimate.of(test, term.key).method
        if method:
            by_method.setdefault(method, []).append(term.in_text)
    how = "; ".join(f"{words.join(names)} by {method}" for method, names in by_method.items())
    return (
        f"Intervals at {float(ci['level']) * 100:g}{words.THIN}% on test: {how or ci['method']}. "
        f"{int(ci['n_resamples']):,} resamples, seed {ci['seed']}.{_joined(facts)}"
    )


def _joined(facts: RunFacts) -> str:
    """Explain that the figures rest on fewer patients than there are names, where they do."""
    named, counted = facts.n_patients("test"), facts.metrics["test"]["n_patients"]
    if named is None or counted is None or counted >= named:
        return ""
    return (
        f" Patients who share copies of an image count as one, which leaves {counted:,} of the "
        f"{named:,} on test."
    )


def _figure_row(facts: RunFacts, term: words.Term, scale: Scale) -> FigureRow:
    rows = [
        interval_row(term, Estimate.of(facts.metrics[split], term.key), scale)
        for split in ("test", "val")
    ]
    return FigureRow(rows[0], rows[1], term.rises)


def _class_row(facts: RunFacts, name: str) -> ClassRow:
    about = facts.about(name)
    found = about.metrics["test"]["classes"][name]
    cells = []
    for key in CLASS_FIGURES:
        percent = words.BY_KEY[key].percent
        figure = Estimate.of(found, key)
        cells.append(
            (
                words.estimate(figure, percent=percent),
                words.interval(figure, percent=percent),
                figure.value is not None,
            )
        )
    n = words.count(int(found["n"]))
    if facts.is_multilabel:
        n = f"{n} of {int(about.metrics['test']['n']):,}"
    return ClassRow(name, n, tuple(cells))


def _matrix(facts: RunFacts) -> Matrix:
    rows = []
    for i, counts in enumerate(facts.metrics["test"]["confusion_matrix"]):
        total = sum(counts)
        shares = [n / total if total else 0.0 for n in counts]
        cells = tuple(
            MatrixCell(
                words.count(n),
                words.number(share, percent=True, digits=0 if len(counts) > 4 else 1)
                if total
                else "",
                round(share * DEEPEST, 3),
                i == j,
                facts.target == "ordinal" and abs(i - j) == 1,
            )
            for j, (n, share) in enumerate(zip(counts, shares, strict=True))
        )
        rows.append((facts.class_names[i], words.count(total), cells))
    return Matrix(tuple(facts.class_names), tuple(rows), _distances(facts))


def _distances(facts: RunFacts) -> tuple[tuple[str, str, str], ...]:
    """Count answers by how many grades they lie from the truth."""
    if facts.target != "ordinal":
        return ()
    matrix = np.array(facts.metrics["test"]["confusion_matrix"])
    apart = np.abs(np.subtract.outer(range(len(matrix)), range(len(matrix))))
    n = max(1, int(matrix.sum()))
    return tuple(
        (
            "the right grade" if distance == 0 else f"{words.plural(distance, 'grade')} off",
            words.count(found),
            words.number(found / n, percent=True),
        )
        for distance in range(len(matrix))
        if (found := int(matrix[apart == distance].sum())) or distance < 2
    )


def _curves(facts: RunFacts) -> tuple[tuple[Plot, ...], tuple[Plot, ...]]:
    """Draw ROC and precision-recall: one of the positive class, or one a class against the rest."""
    names = [facts.positive_class] if facts.positive_class is not None else facts.class_names
    rocs, precision_recalls = [], []
    for i, name in enumerate(names):
        small = facts.positive_class is None
        roc, precision_recall = _curves_of(facts.about(name), name, i, small=small)
        rocs += [roc] if roc else []
        precision_recalls += [precision_recall] if precision_recall else []
    return tuple(rocs), tuple(precision_recalls)


def _curves_of(
    facts: RunFacts, name: str, i: int, *, small: bool
) -> tuple[Plot | None, Plot | None]:
    test, val = (curves.scores(facts, split, name) for split in ("test", "val"))
    if not test.has_both:
        return None, None
    figure = facts.metrics["test"]["classes"][name]
    sensitivity, specificity, precision = (
        Estimate.of(figure, key).value for key in ("sensitivity", "specificity", "precision")
    )
    roc_point = pr_point = None
    if sensitivity is not None and specificity is not None:
        roc_point = (1 - specificity, sensitivity)
    if sensitivity is not None and precision is not None:
        pr_point = (sensitivity, precision)
    title = ""
    if small:
        title = name
    auroc = words.with_interval(Estimate.of(figure, "auroc"), percent=False)
    ap = words.with_interval(Estimate.of(figure, "average_precision"), percent=False)
    return (
        figures.draw_roc(
            f"roc{i}",
            title,
            curves.roc(test, band=True),
            curves.roc(val, band=False) if val.has_both else None,
            roc_point,
            small=small,
            alt=f"ROC curve of {name} on test, with 95 % band. AUROC {auroc}.",
        ),
        figures.draw_precision_recall(
            f"pr{i}",
            title,
            curves.precision_recall(test, band=True),
            curves.precision_recall(val, band=False) if val.has_both else None,
            pr_point,
            float(test.y_true.mean()),
            small=small,
            alt=f"Precision-recall curve of {name} on test, with 95 % band. "
            f"Average precision {ap}.",
        ),
    )


def _history(facts: RunFacts) -> tuple[Plot, ...]:
    # Of an ensemble the first member's: the others learn alike.
    table, kept = facts.history, int(facts.run["best_epochs"][0])
    table = table[table["member"] == 1]
    loss = [("training", "train_loss", False), ("validation", "val_loss", True)]
    skill = [
        ("AUROC by cut" if facts.target == "ordinal" else "AUROC", "val_auroc", True),
        ("balanced accuracy", "val_balanced_accuracy", False),
    ]
    plots = []
    for name, columns, y_label in (
        ("losses", loss, "Loss"),
        ("skill", skill, "On validation"),
    ):
        lines = _lines(table, columns)
        if lines:
            plots.append(
                figures.draw_history(
                    name,
                    table["epoch"].to_numpy(dtype=float),
                    lines,
                    kept,
                    y_label=y_label,
                    alt=f"{y_label} by epoch: "
                    + "; ".join(f"{line.label} ends at {line.y[-1]:.3f}" for line in lines)
                    + f". Kept: epoch {kept}.",
                )
            )
    return tuple(plots)


def _lines(table: pd.DataFrame, columns: Sequence[tuple[str, str, bool]]) -> list[figures.Line]:
    found = []
    for label, column, is_main in columns:
        if column in table and len(table):
            y = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=float)
            if np.isfinite(y).any():
                found.append(figures.Line(label, y, is_main))
    return found
