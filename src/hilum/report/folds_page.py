"""Cross-validation → its page: figures over all folds, each fold's, and how far they vary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

import hilum
from hilum.errors import RunError
from hilum.estimates import target_of
from hilum.files import read_json
from hilum.report import words
from hilum.report.checks_of_figures import WIDE, one_answers
from hilum.report.facts import Estimate, main_keys
from hilum.report.findings import Findings, show_findings
from hilum.report.gallery import Album
from hilum.report.reach import GroupRow, figure_row
from hilum.splits import OUT_OF_FOLD, fold_name

UNKNOWN = "unknown_patients"
SAID_HERE = (
    *("few_patients", "small_class", "patients_across_splits"),
    *("exact_duplicates", "near_duplicates"),  # folds keep them together
)
"""Findings that say no more against the figures than the page does by itself."""

LABEL_KEYS = ("auroc", "average_precision", "sensitivity", "specificity")

MUCH_SPREAD = 0.2  # between the lowest and the highest fold


@dataclass(frozen=True)
class FoldRow:
    """Figures of one fold; `report` is where its own report lies."""

    row: GroupRow
    report: str
    threshold: str


@dataclass(frozen=True)
class Doubt:
    """A reason to distrust the figures; `anchor` is where the page shows more, '' if nowhere."""

    title: str
    text: str
    is_serious: bool = False
    anchor: str = ""


@dataclass(frozen=True)
class FoldsPage:
    """Everything that the template shows."""

    title: str
    name: str
    source: str
    paragraphs: tuple[str, ...]
    doubts: tuple[Doubt, ...]
    heads: tuple[str, ...]
    pooled: GroupRow
    by_patient: GroupRow | None
    folds: tuple[FoldRow, ...]
    labels: tuple[GroupRow, ...]
    label_heads: tuple[str, ...]
    spread: tuple[str, ...]
    reasons: tuple[str, ...]
    findings: Findings
    version: str


def read_folds_page(folder: Path) -> FoldsPage:
    """Gather what the page of a finished cross-validation shows.

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
    return make_folds_page(run, metrics, samples)


def make_folds_page(
    run: Mapping[str, Any], metrics: Mapping[str, Any], samples: pd.DataFrame
) -> FoldsPage:
    """Gather what the page shows, from the files of the run."""
    pooled, folds = metrics[OUT_OF_FOLD], metrics["folds"]
    keys = main_keys(target_of(pooled), run["positive_class"])
    leading = words.BY_KEY[keys[0]]
    source = Path(run["data"]["path"])
    album = Album(source, run["data"]["kind"])
    findings = show_findings(
        run["findings"],
        samples,
        album,
        looked_for=tuple(run.get("looked_for") or ()),
        not_looked_for=run.get("not_looked_for"),
        clues=run.get("clues"),
    )
    known = run["patients"]["n_patients"] is not None
    held_out = "patients" if known else "images"
    unseen = "never seen its patient" if known else "not been trained on it"
    return FoldsPage(
        title=_title(metrics, leading, held_out),
        name=source.name,
        source=str(source),
        paragraphs=(
            _answer(pooled, run["positive_class"]),
            f"{words.plural(len(folds), 'network')} were trained, each on the other folds' "
            f"{held_out}: every one of {words.plural(pooled['n'], 'image')} "
            f"({words.people(pooled['n_patients'])}) was predicted once, by a network that had "
            f"{unseen}. Calibration and threshold came from validation {held_out} "
            "inside the training part of each fold."
            + _mean_of_folds(metrics["spread"][keys[0]], leading),
            "These figures say what this way of training is worth on such data. There is no "
            "single model here: to have one, train without folds on the same data.",
        ),
        doubts=tuple(
            sorted(_doubts(run, metrics, keys, findings), key=lambda doubt: not doubt.is_serious)
        ),
        heads=tuple(words.BY_KEY[key].name for key in keys),
        pooled=figure_row("All folds together", pooled, keys),
        by_patient=_by_patient(pooled, keys),
        folds=tuple(
            FoldRow(
                figure_row(f"Fold {fold['fold']}", fold, keys),
                f"{fold_name(fold['fold'])}/report.html",
                "–" if fold["threshold"] is None else words.threshold(float(fold["threshold"])),
            )
            for fold in folds
        ),
        labels=tuple(
            figure_row(name, found, LABEL_KEYS)
            for name, found in (pooled.get("labels") or {}).items()
        ),
        label_heads=tuple(words.BY_KEY[key].name for key in LABEL_KEYS),
        spread=tuple(_spread(metrics["spread"][key], words.BY_KEY[key].percent) for key in keys),
        reasons=tuple(run["splits"]["reasons"]),
        findings=findings,
        version=hilum.__version__,
    )


def _title(metrics: Mapping[str, Any], term: words.Term, held_out: str) -> str:
    """Name the leading figure; of the folds, where putting them together makes it worse."""
    pooled = metrics[OUT_OF_FOLD]
    whole = words.with_interval(Estimate.of(pooled, term.key), percent=term.percent)
    spread = _within_folds(metrics, term.key)
    if spread is None:
        return f"{_mean(pooled, term)} {whole} on {held_out} held out"
    mean, low, high = (
        words.number(spread[key], percent=False) for key in ("mean", "lowest", "highest")
    )
    return (
        f"{_mean(pooled, term)} {mean} within folds ({low} to {high}), on {held_out} held out; "
        f"{whole} together, as the scores of the folds’ networks are not on one scale"
    )


def _within_folds(metrics: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    """Return how a figure varies over the folds, where putting them together makes it worse."""
    # Decisions, on which other figures stand, are each fold's own.
    is_worse = key == "auroc" and _lies_below(metrics[OUT_OF_FOLD], metrics["folds"])
    spread: Mapping[str, Any] = metrics["spread"][key]
    return spread if is_worse and spread["mean"] is not None else None


def _lies_below(pooled: Mapping[str, Any], folds: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether the AUROC of all folds together is lower than that of each fold.

    Within folds images are ranked by one network; together, by several on scales of their own.
    """
    each = [Estimate.of(dict(fold), "auroc").value for fold in folds]
    whole = Estimate.of(dict(pooled), "auroc").value
    known = [value for value in each if value is not None]
    return whole is not None and len(known) > 1 and whole < min(known)


def _mean(pooled: Mapping[str, Any], term: words.Term) -> str:
    """Name a figure, as a mean over the labels where there are several."""
    return f"Mean {term.in_text}" if target_of(pooled) == "multilabel" else term.name


def _mean_of_folds(found: Mapping[str, Any], term: words.Term) -> str:
    """Say the mean of the folds' own figures, which no scale across folds can spoil."""
    if found["mean"] is None:
        return ""
    mean, low, high = (
        words.number(found[key], percent=term.percent) for key in ("mean", "lowest", "highest")
    )
    return f" The mean of the folds’ {term.in_text} is {mean} ({low} to {high})."


def _by_patient(pooled: Mapping[str, Any], keys: Sequence[str]) -> GroupRow | None:
    """Make the row of figures by patient, where patients have several images."""
    found = pooled.get("patients")
    if not found:
        return None
    return replace(
        figure_row("All folds together, by patient", found, keys),
        n=words.count(int(found["n_images"])),
        n_patients=words.count(int(found["n"])),
    )


def _answer(pooled: Mapping[str, Any], positive: str | None) -> str:
    """Say in a sentence what was found of the class looked for, and what was rightly not."""
    target = target_of(pooled)
    names: tuple[str, ...] = ("sensitivity", "specificity")
    if target != "multilabel" and positive is None:
        names = ("accuracy",)
    shares = [words.with_interval(Estimate.of(dict(pooled), name), percent=True) for name in names]
    if target == "multilabel":
        return (
            f"On average over the labels, {shares[0]} of what was there was found, and "
            f"{shares[1]} of what was not was rightly cleared."
        )
    if positive is None:
        what = "grade" if target == "ordinal" else "class"
        return f"Of all images, {shares[0]} were given their {what}."
    return (
        f"Of the images labelled {positive}, {shares[0]} were called so; of the others, "
        f"{shares[1]} were not."
    )


def _doubts(
    run: Mapping[str, Any], metrics: Mapping[str, Any], keys: Sequence[str], findings: Findings
) -> Iterator[Doubt]:
    """Say what to distrust."""
    pooled, known = metrics[OUT_OF_FOLD], run["patients"]["n_patients"] is not None
    yield from _doubts_of_scale(metrics)
    yield from _doubts_of_skill(metrics)
    yield from _doubts_of_answers(pooled, run["class_names"])
    overlap = run["splits"]["overlap"]
    if overlap:
        yield Doubt(
            f"{words.plural(overlap['n_patients'], 'patient')} are in more than one split",
            "They are in the sealed test split and in folds. This was allowed by hand.",
            True,
        )
    if not known:
        yield Doubt(
            "Patients are unknown",
            "Each image was taken for a patient of its own. Where a patient has several, networks "
            "may have seen patients that they were tested on: figures are then too good.",
            True,
        )
    yield from _doubts_of_findings(findings, SAID_HERE if known else (*SAID_HERE, UNKNOWN))
    if run.get("validation_note"):
        yield Doubt("There was little to choose thresholds by", run["validation_note"])
    strays = [
        f"{words.BY_KEY[key].in_text} {words.number(found['lowest'], percent=True)} to "
        f"{words.number(found['highest'], percent=True)}"
        for key in keys
        if words.BY_KEY[key].percent
        for found in [metrics["spread"][key]]
        if found["mean"] is not None and found["highest"] - found["lowest"] > MUCH_SPREAD
    ]
    if strays:
        yield Doubt(
            "The folds differ",
            f"Between folds: {'; '.join(strays)}. One model trained on such data may lie anywhere "
            "there.",
            anchor="folds",
        )
    wide = [_wide(metrics, words.BY_KEY[key]) for key in keys if words.BY_KEY[key].rises]
    if any(wide):
        yield Doubt(
            "Few patients: wide intervals",
            f"The truth may lie anywhere in these: {'; '.join(filter(None, wide))}.",
        )


def _wide(metrics: Mapping[str, Any], term: words.Term) -> str:
    """Name a figure with its wide interval; not AUROC that leads by the folds, which has none."""
    figure = Estimate.of(metrics[OUT_OF_FOLD], term.key)
    if (figure.width or 0) <= WIDE or _within_folds(metrics, term.key) is not None:
        return ""
    return f"{term.in_text} {words.interval(figure, percent=term.percent)}"


def _doubts_of_scale(metrics: Mapping[str, Any]) -> Iterator[Doubt]:
    """Say where the folds are better than all of them together, which no skill explains."""
    pooled, folds = metrics[OUT_OF_FOLD], metrics["folds"]
    names = [
        name
        for name, found in (pooled.get("labels") or {}).items()
        if _lies_below(found, [fold["labels"][name] for fold in folds])
    ]
    if not names and not _lies_below(pooled, folds):
        return
    of_whom = f" of {words.quoted(names)}" if names else ""
    yield Doubt(
        "The folds’ scores are not on one scale",
        f"AUROC{of_whom} is lower over all folds together than in every fold: the scores of the "
        "folds’ networks are not on one scale, as happens where folds have too few validation "
        "images to calibrate. Read the folds’ own figures, and their mean.",
        anchor="folds",
    )


def _doubts_of_answers(pooled: Mapping[str, Any], class_names: Sequence[str]) -> Iterator[Doubt]:
    answers = one_answers(pooled, class_names)
    if answers:
        text = "Every network answers the same, whatever it is shown."
        yield Doubt(f"{words.quoted(answers)} is the answer to every image", text, True)


def _doubts_of_skill(metrics: Mapping[str, Any]) -> Iterator[Doubt]:
    """Say where the figures of all folds may be chance; not by folds on scales of their own."""
    pooled, folds = metrics[OUT_OF_FOLD], metrics["folds"]
    title = "No skill is shown"
    labels: Mapping[str, Any] = pooled.get("labels") or {}
    lost = [
        name
        for name, found in labels.items()
        if _may_be_chance(found, "auroc", 0.5)
        and not _lies_below(found, [fold["labels"][name] for fold in folds])
    ]
    if lost:
        text = f"The interval of AUROC holds 0.5, the value of a coin, for {words.quoted(lost)}."
        yield Doubt(title, text, True)
    elif target_of(pooled) == "ordinal" and _may_be_chance(pooled, "quadratic_kappa", 0.0):
        yield Doubt(title, "The interval of quadratic kappa holds 0, the value of chance.", True)
    elif not labels and _may_be_chance(pooled, "auroc", 0.5):
        if not _lies_below(pooled, folds):
            yield Doubt(title, "The interval of AUROC holds 0.5, the value of a coin.", True)
        elif all(_may_be_chance(fold, "auroc", 0.5) for fold in folds):
            text = "In every fold by itself, the interval of AUROC holds 0.5, the value of a coin."
            yield Doubt("Too few patients in each fold to show skill", text, True)


def _may_be_chance(found: Mapping[str, Any], key: str, chance: float) -> bool:
    low = Estimate.of(dict(found), key).ci_low
    return low is not None and low <= chance


def _doubts_of_findings(findings: Findings, said: Sequence[str]) -> Iterator[Doubt]:
    """Say each kind of finding once, under its gravest; not those that the page has said."""
    told = [
        finding
        for finding in findings.found
        if finding.severity != "low" and finding.kind not in said
    ]
    for kind in dict.fromkeys(finding.kind for finding in told):
        first, *others = [finding for finding in told if finding.kind == kind]
        also = (
            f" Likewise: {'; '.join(_lowered(other.title) for other in others)}." if others else ""
        )
        yield Doubt(first.title, f"{first.effect}.{also}", first.severity == "high", "findings")


def _lowered(title: str) -> str:
    return title[:1].lower() + title[1:]


def _spread(found: Mapping[str, Any], percent: bool) -> str:
    """Return 'mean 0.95, SD 0.02, 0.93 to 0.97'."""
    if found["mean"] is None:
        return f"not estimable: {found['reason']}"
    mean, sd, low, high = (
        words.number(found[key], percent=percent) for key in ("mean", "sd", "lowest", "highest")
    )
    return f"mean {mean}, SD {sd}; {low} to {high}"
