"""Where the figures hold: subgroups, changed images and other data.

Everything here stands in metrics.json or external/; what an older run lacks is absent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from hilum.report import figures, words
from hilum.report.decisions import bare, curve_of, numbers
from hilum.report.facts import Estimate, RunFacts, figures_on, main_figures, n_of_equal_name
from hilum.report.figures import Plot, Style, Trace


@dataclass(frozen=True)
class Cell:
    """A figure as text; `is_known` is False where there is none."""

    text: str
    bounds: str
    is_known: bool


@dataclass(frozen=True)
class GroupRow:
    """Figures of one subgroup, fold or data set; `note` instead of figures where too few."""

    name: str
    n: str
    n_patients: str
    cells: tuple[Cell, ...]
    note: str = ""


@dataclass(frozen=True)
class GroupTable:
    """Figures of several groups, under the names of the figures."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[GroupRow, ...]


@dataclass(frozen=True)
class LabelGroups:
    """Figures of subgroups for one label; `label` is '' where there is one question."""

    label: str
    key: str
    tables: tuple[GroupTable, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Drift:
    """What differs between the data trained on and other data."""

    name: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Reach:
    """The section on where the figures hold."""

    subgroups: tuple[LabelGroups, ...]
    robustness: tuple[Plot, ...]
    robustness_key: str
    robustness_on: str
    external: GroupTable | None
    drifts: tuple[Drift, ...]

    @property
    def has_any(self) -> bool:
        return bool(self.subgroups or self.robustness or self.external)


def make_reach(facts: RunFacts) -> Reach:
    keys = main_figures(facts)
    return Reach(
        subgroups=tuple(_groups_of(facts)),
        robustness=_robustness(facts.metrics),
        robustness_key=_robustness_key(facts),
        robustness_on=str((facts.metrics.get("robustness_on") or {}).get("reason") or ""),
        external=_external(facts, keys),
        drifts=tuple(
            Drift(name, (*_other_labels(facts, found), *_notes(found)))
            for name, found in facts.external.items()
        ),
    )


def _cells(figures_of: Mapping[str, Any], keys: Sequence[str]) -> tuple[Cell, ...]:
    cells = []
    for key in keys:
        term, figure = words.BY_KEY[key], Estimate.of(dict(figures_of), key)
        known = figure.value is not None
        text = words.estimate(figure, percent=term.percent) if known else figure.reason or "–"
        cells.append(Cell(text, words.interval(figure, percent=term.percent), known))
    return tuple(cells)


def figure_row(name: str, found: Mapping[str, Any], keys: Sequence[str]) -> GroupRow:
    """Put figures of one part of metrics.json into a row of a table."""
    n_patients = found.get("n_patients")
    reasons = {Estimate.of(dict(found), key).reason for key in keys}
    lost = all(Estimate.of(dict(found), key).value is None for key in keys)
    # One reason said once reads better than the same in every cell.
    note = str(found.get("reason") or next(iter(reasons))) if lost and len(reasons) == 1 else ""
    return GroupRow(
        name,
        words.count(int(found["n"])),
        "–" if n_patients is None else words.count(int(n_patients)),
        _cells(found, keys),
        note,
    )


def _groups_of(facts: RunFacts) -> Iterator[LabelGroups]:
    """Give the figures of subgroups: of the whole, or of each label."""
    for i, name in enumerate(facts.class_names if facts.is_multilabel else [""]):
        about = facts.about(name) if name else facts
        test = about.metrics["test"]
        rows, notes = test.get("subgroups") or (), test.get("subgroup_notes") or ()
        if rows or notes:
            tables = _subgroups(rows, main_figures(about))
            yield LabelGroups(name, str(i) if name else "", tables, tuple(map(str, notes)))


def _robustness_key(facts: RunFacts) -> str:
    """Say what the lines of the plots are."""
    if facts.target == "ordinal":
        return f"Solid: quadratic kappa with its 95{words.THIN}% band; dashed: AUROC."
    if facts.positive_class is None and not facts.is_multilabel:
        return (
            f"Solid: AUROC with its 95{words.THIN}% band; dashed: sensitivity; dotted: "
            "specificity, all means over the classes."
        )
    what, plural = ("means over the labels", "s") if facts.is_multilabel else ("both", "")
    chosen_by = (
        f" The middle degree of each change had helped to choose the threshold{plural}: "
        "sensitivity and specificity are a little too good there, as on the unchanged images."
    )
    return (
        f"Solid: AUROC with its 95{words.THIN}% band; dashed: sensitivity; dotted: specificity, "
        f"{what} at the locked threshold{plural}."
        f"{chosen_by if facts.threshold_saw_changes else ''}"
    )


def _subgroups(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> tuple[GroupTable, ...]:
    # A figure that no group has gets no column.
    wanted = dict.fromkeys((*keys, "accuracy"))
    known = [key for key in wanted if any(key in row for row in rows)]
    return tuple(
        GroupTable(
            column,
            _heads(known),
            tuple(figure_row(str(row["group"]) or "not stated", row, known) for row in part),
        )
        for column, part in groupby(rows, key=lambda row: str(row["column"]))
    )


def _heads(keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(words.BY_KEY[key].name for key in keys)


def _robustness(metrics: Mapping[str, Any]) -> tuple[Plot, ...]:
    units = (metrics.get("robustness_on") or {}).get("units") or {}
    return tuple(
        _change(f"robust{i}", key, str(units.get(key) or ""), points)
        for i, (key, points) in enumerate((metrics.get("robustness") or {}).items())
        if len(points) > 1
    )


def _change(name: str, key: str, unit: str, points: Sequence[Mapping[str, Any]]) -> Plot:
    """Draw AUROC, sensitivity and specificity as images are changed more and more."""
    x = numbers([point["level"] for point in points])
    styles: dict[str, Style] = {"auroc": "main", "sensitivity": "other", "specificity": "base"}
    if any("quadratic_kappa" in point for point in points):
        styles = {"quadratic_kappa": "main", "auroc": "other"}
    leading = next(iter(styles))
    traces = [
        Trace(words.BY_KEY[figure].name, style, curve if style == "main" else bare(curve))
        for figure, style in styles.items()
        if any(figure in point for point in points)
        for curve in [curve_of(x, [point.get(figure) for point in points])]
    ]
    ends = [Estimate.of(dict(point), leading) for point in (points[0], points[-1])]
    first, last = (words.with_interval(end, percent=False) for end in ends)
    title = words.corruption(key)
    return figures.draw_traces(
        name,
        traces,
        x_label="Level",
        y_label=words.BY_KEY[leading].name,
        title=f"{title} ({unit})" if unit else title,
        y_range=(-0.02, 1.02),
        small=True,
        alt=f"Figures on validation images against {title.lower()}: "
        f"{words.BY_KEY[leading].name} {first} to {last}.",
    )


def _external(facts: RunFacts, keys: Sequence[str]) -> GroupTable | None:
    if not facts.external:
        return None
    rows = [figure_row("This test split", facts.metrics["test"], keys)]
    rows += [figure_row(name, figures_on(found), keys) for name, found in facts.external.items()]
    return GroupTable("Other data", _heads(keys), tuple(rows))


def _other_labels(facts: RunFacts, found: Mapping[str, Any]) -> list[str]:
    """Say where means on other data are over other labels than those on test."""
    there = figures_on(found).get("mean_over")
    here = facts.metrics["test"].get("mean_over")
    if there is None or here is None or set(there) == set(here):
        return []
    means = f"over {words.join(there)}" if there else "over no label"
    lines = [
        f"Means here are {means}, those on test over {words.join(here)}: do not hold them against "
        "each other, but label by label."
    ]
    aside = (found.get("not_matched") or {}).get("here")
    if aside:
        lines.append(f"The model does not know {words.quoted(aside)}.")
    return lines


def _notes(found: Mapping[str, Any]) -> list[str]:
    """Say what must be known of other data: names taken for ours, images left out, drift."""
    lines = []
    renamed = {
        str(theirs): str(ours)
        for theirs, ours in (found.get("class_map") or {}).items()
        if theirs != ours
    }
    if renamed:
        pairs = [f"“{theirs}” was taken for {ours}" for theirs, ours in renamed.items()]
        lines.append(f"{words.join(pairs)}.")
    n_left_out = int((found.get("seen") or {}).get("n_left_out") or 0)
    if n_left_out:
        lines.append(
            f"{words.plural(n_left_out, 'image')} of patients that the run knows already "
            f"{'was' if n_left_out == 1 else 'were'} left out."
        )
    alike = words.of_equal_name(n_of_equal_name(found))
    if alike:
        lines.append(f"{alike}. If they are the same people, these figures are too good.")
    n_unread = int((found.get("data") or {}).get("n_excluded") or 0)
    if n_unread:
        lines.append(f"{words.plural(n_unread, 'file')} could not be read, and stand in no figure.")
    return [*lines, *_drift_lines(found)]


def _drift_lines(found: Mapping[str, Any]) -> list[str]:
    drift = found.get("drift")
    if isinstance(drift, Mapping):
        message = drift.get("message") or drift.get("reason")
        return [str(message)] if message else []
    if isinstance(drift, Sequence) and not isinstance(drift, str):
        return [str(item["message"]) for item in drift if isinstance(item, Mapping)]
    return [str(drift)] if drift else []
