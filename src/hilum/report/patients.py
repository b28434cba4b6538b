"""Figures by patient beside those by image: what a doctor decides on is the patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from hilum.patient_figures import ONE_IMAGE_EACH, UNKNOWN
from hilum.pooling import IN_WORDS
from hilum.report import methods, words
from hilum.report.facts import Estimate, RunFacts, figures_on, main_figures
from hilum.report.mistakes import set_text
from hilum.report.reach import GroupTable, figure_row
from hilum.report.scales import IntervalRow, Scale, common_scale, interval_row
from hilum.targets import members

MOST_SHOWN = 200
"""Patients named wrongly that are listed."""


@dataclass(frozen=True)
class LevelRow:
    """One figure of the test split by patient and by image."""

    by_patient: IntervalRow
    by_image: IntervalRow
    on_scale: bool


@dataclass(frozen=True)
class WrongPatient:
    """A test patient who was called wrongly.

    Attributes
    ----------
    measure : str
        How wrong, under `ByPatient.measure`.
    """

    name: str
    n_images: str
    label: str
    predicted: str
    measure: str


@dataclass(frozen=True)
class ByPatient:
    """The section, and what the first page says of it.

    Attributes
    ----------
    summary : Markup
        For the first page.
    main : tuple of IntervalRow
        The main figures by patient.
    matrix : tuple of (name, n, cells)
        Patients by truth in rows and answer in columns; empty for several labels.
    other : GroupTable or None
        Figures by patient on other data.
    """

    summary: Markup
    caption: str
    how: tuple[str, ...]
    scale: Scale
    main: tuple[IntervalRow, ...]
    rows: tuple[LevelRow, ...]
    class_names: tuple[str, ...]
    matrix: tuple[tuple[str, str, tuple[str, ...]], ...]
    wrong: tuple[WrongPatient, ...]
    n_wrong: int
    measure: str
    other: GroupTable | None
    reason: str = ""


def make_by_patient(facts: RunFacts) -> ByPatient | None:
    """Gather what is said by patient; None where there is nothing to say.

    Where patients are known and have no figures for another reason than that each has one image,
    `reason` says it and all else is empty.
    """
    test = facts.metrics["test"]
    found = test.get("patients")
    if found is None:
        reason = str(test.get("patients_reason") or "")
        if reason in ("", UNKNOWN, ONE_IMAGE_EACH):
            return None
        return ByPatient(Markup(""), "", (), Scale(0.0), (), (), (), (), (), 0, "", None, reason)
    keys = main_figures(facts)
    figures = [Estimate.of(part, key) for part in (found, test) for key in keys]
    scale = common_scale(figures)
    wrong = _wrong(facts)
    return ByPatient(
        summary=_summary(facts, found),
        caption=f"By patient: main figures on {words.plural(int(found['n']), 'test patient')}"
        + (", means over the labels" if facts.is_multilabel else ""),
        how=tuple(_how(facts, found)),
        scale=scale,
        main=tuple(interval_row(words.BY_KEY[key], Estimate.of(found, key), scale) for key in keys),
        rows=tuple(
            LevelRow(
                interval_row(term, Estimate.of(found, term.key), scale),
                interval_row(term, Estimate.of(test, term.key), scale),
                term.rises,
            )
            for term in words.terms_of(facts.target)
        ),
        class_names=tuple(facts.class_names),
        matrix=() if facts.is_multilabel else _matrix(facts, found),
        wrong=tuple(wrong[:MOST_SHOWN]),
        n_wrong=len(wrong),
        measure=_measure(facts),
        other=_other(facts, found),
    )


def _summary(facts: RunFacts, found: Mapping[str, Any]) -> Markup:
    """Say on the first page what came out by patient."""
    n, several = int(found["n"]), int(found["n_several"])
    have = Markup("Of {}, {} {} several images, which are pooled into one answer.").format(
        words.plural(n, "test patient"),
        "all" if several == n else words.count(several) if several else "none",
        "has" if several == 1 and n > 1 else "have",
    )
    if facts.is_multilabel:
        shares = [
            words.with_interval(Estimate.of(dict(found), key), percent=True)
            for key in ("sensitivity", "specificity")
        ]
        return have + Markup(
            " <strong>By patient, it finds {} of what is there</strong> and rightly clears {} of "
            "what is not, on average over the labels."
        ).format(*shares)
    matrix = found["confusion_matrix"]
    n_right = sum(matrix[k][k] for k in range(len(matrix)))
    if facts.positive_class is None:
        what = "grade" if facts.target == "ordinal" else "class"
        return have + Markup(" <strong>{} of {} get the right {}</strong>.").format(
            words.count(n_right), words.plural(n, "patient"), what
        )
    positive = facts.class_names.index(facts.positive_class)
    ill, well = matrix[positive], matrix[1 - positive]
    return have + Markup(
        " <strong>By patient, it finds {} of {}</strong> labelled {} and <strong>misses {}</strong>"
        ", and raises a false alarm in {} of {} labelled {}."
    ).format(
        words.count(ill[positive]),
        words.count(sum(ill)),
        facts.positive_class,
        words.count(ill[1 - positive]),
        words.count(well[positive]),
        words.count(sum(well)),
        facts.negative_class,
    )


def _measure(facts: RunFacts) -> str:
    """Name what is shown of a patient who was called wrongly."""
    if facts.is_multilabel:
        return "Labels wrong"
    return f"p({facts.positive_class})" if facts.positive_class else "p(called)"


def _how(facts: RunFacts, found: Mapping[str, Any]) -> list[str]:
    """Say how images were pooled, by what threshold, and how well calibrated that is."""
    rules = facts.run.get("patient_rules") or {}
    pooling = rules.get("pooling") or {}
    method = found.get("pooling")
    lines = [
        f"The images of a patient are pooled by {_in_words(method)}. {pooling.get('reason', '')}"
    ]
    point = rules.get("point")
    if facts.is_multilabel and methods.patient_points(facts):
        each = "; ".join(
            f"{name} {words.threshold(float(one['threshold']))}"
            for name, one in methods.patient_points(facts).items()
        )
        lines.append(
            "A label is named when its pooled probability reaches its threshold for patients, "
            f"locked on validation patients: {each}."
        )
    if point:
        reason = str(point.get("reason") or "")
        lines.append(
            f"A patient is called {facts.positive_class} when the pooled probability is at least "
            f"{words.threshold(float(point['threshold']))}, locked by "
            f"{words.rule(str(point['rule']))}, on "
            f"{words.plural(int(point['n']), 'validation patient')}."
            + ("" if reason.startswith("It gives") else f" {reason}")
        )
    ece, slope = (Estimate.of(dict(found), key) for key in ("ece", "calibration_slope"))
    calibration = (
        "Probabilities were calibrated by image and are pooled as they are: by patient, the "
        f"calibration error is {words.with_interval(ece, percent=False)}"
    )
    if slope.value is not None:
        calibration += (
            f", and the calibration slope {words.with_interval(slope, percent=False)} (above 1: "
            "too cautious)"
        )
    return [*lines, f"{calibration}.", *([str(found["note"])] if found.get("note") else [])]


def _in_words(method: str | None) -> str:
    return next(
        (text for name, text in IN_WORDS.items() if name == method), "the rule of each fold"
    )


def _matrix(
    facts: RunFacts, found: Mapping[str, Any]
) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    return tuple(
        (name, words.count(sum(row)), tuple(words.count(n) for n in row))
        for name, row in zip(facts.class_names, found["confusion_matrix"], strict=True)
    )


def _wrong(facts: RunFacts) -> list[WrongPatient]:
    """List the test patients who were called wrongly, the surest first."""
    table = facts.patients
    if table is None:
        return []
    rows = table[(table["split"] == "test") & (table["label"] != "")]
    if facts.is_multilabel:
        return _wrong_labels(facts, rows)
    rows = rows[rows["label"] != rows["predicted"]]
    rows = rows.assign(sure=facts.sureness(rows)).sort_values(
        "sure", ascending=False, kind="stable"
    )
    return [
        WrongPatient(
            name=str(row["patient"]),
            n_images=words.count(int(row["n_images"])),
            label=str(row["label"]),
            predicted=str(row["predicted"]),
            measure=words.number(
                float(row[f"p_{facts.positive_class or row['predicted']}"]), percent=False
            ),
        )
        for _, row in rows.iterrows()
    ]


def _wrong_labels(facts: RunFacts, rows: pd.DataFrame) -> list[WrongPatient]:
    """List patients with a known label that was called wrongly, those with the most first."""
    names = facts.class_names
    truth, called, unknown = (
        members(rows[column], names) for column in ("label", "predicted", "unknown")
    )
    n_wrong = ((truth != called) & ~unknown).sum(axis=1)
    records = rows.to_dict("records")
    return [
        WrongPatient(
            name=str(records[i]["patient"]),
            n_images=words.count(int(records[i]["n_images"])),
            label=set_text(records[i]["label"], records[i]["unknown"]),
            predicted=set_text(records[i]["predicted"]),
            measure=str(n_wrong[i]),
        )
        for i in np.argsort(-n_wrong, kind="stable").tolist()
        if n_wrong[i]
    ]


def _other(facts: RunFacts, found: Mapping[str, Any]) -> GroupTable | None:
    """Put the figures by patient on other data below those of the test split."""
    keys = main_figures(facts)
    parts = {"This test split": found}
    for name, other in facts.external.items():
        by_patient = figures_on(other).get("patients")
        if by_patient:
            parts[name] = by_patient
    if len(parts) == 1:
        return None
    heads = tuple(words.BY_KEY[key].name for key in keys)
    rows = tuple(
        replace(
            figure_row(name, part, keys),
            n=words.count(int(part["n_images"])),
            n_patients=words.count(int(part["n"])),
        )
        for name, part in parts.items()
    )
    return GroupTable("Other data", heads, rows)
