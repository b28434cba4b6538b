"""From probability to decision: calibration, predictive values, benefit, sets and referral.

Everything here stands in metrics.json; what an older run lacks is absent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hilum.report import curves, figures, words
from hilum.report.facts import Estimate, RunFacts
from hilum.report.figures import Array, Curve, Plot, Trace


@dataclass(frozen=True)
class Line:
    """A figure on test and on validation, with its meaning."""

    name: str
    test: str
    test_bounds: str
    val: str
    val_bounds: str
    meaning: str


@dataclass(frozen=True)
class PredictiveRow:
    prevalence: str
    ppv: str
    ppv_bounds: str
    npv: str
    npv_bounds: str
    in_words: str


@dataclass(frozen=True)
class Share:
    """A part of the whole, for a bar."""

    name: str
    text: str
    percent: float


@dataclass(frozen=True)
class Sets:
    """Prediction sets: how often they hold the truth, and how large they are."""

    text: str
    shares: tuple[Share, ...]


@dataclass(frozen=True)
class Referral:
    """Images that should go to a person: by which rules, how many, and what it buys."""

    text: str
    rules: tuple[str, ...]
    reasons: tuple[Share, ...]
    plot: Plot | None


@dataclass(frozen=True)
class Decisions:
    """What is to be known of the probabilities of one question, and of decisions by them.

    `label` is '' where there is one question, and `key` keeps the ids of several apart.
    """

    label: str
    summary: str
    key: str
    reliability: Plot
    reliability_caption: str
    positive: str
    calibration: tuple[Line, ...]
    predictive: tuple[PredictiveRow, ...]
    predictive_note: str
    net_benefit: Plot | None
    sets: Sets | None
    referral: Referral | None


VAGUE = 0.5  # width of an interval that leaves a share of alarms open
SOME = 0.3  # and one that leaves open how many of 100

CALIBRATION = (
    (
        "calibration_slope",
        "Calibration slope",
        "1 is right; below 1 the probabilities are too extreme, above 1 too cautious.",
    ),
    (
        "calibration_intercept",
        "Calibration intercept",
        "0 is right; below 0 the probabilities are too high on the whole, above 0 too low.",
    ),
    ("ece", "Calibration error", "Mean distance of stated and observed, in bins of equal size."),
    ("brier", "Brier score", "Mean squared distance of probability and truth; 0 is perfect."),
)
BRIER = (
    ("reliability", "– of it: miscalibration", "Lower is better; 0 if calibrated."),
    ("resolution", "– taken off: resolution", "Higher is better: how far answers part the cases."),
    ("uncertainty", "– of it: uncertainty of the task", "From the share of the class alone."),
)


def make_decisions(facts: RunFacts) -> tuple[Decisions, ...]:
    """Tell of each label by itself where there are several, else of the whole."""
    if not facts.is_multilabel:
        return (_decisions(facts),)
    return tuple(
        _decisions(facts.about(name), name, str(i)) for i, name in enumerate(facts.class_names)
    )


def _decisions(facts: RunFacts, label: str = "", key: str = "") -> Decisions:
    test = facts.metrics["test"]
    return Decisions(
        label=label,
        summary=_summary(facts) if label else "",
        key=key,
        reliability=_reliability(facts, key),
        reliability_caption=_reliability_words(facts)[2],
        positive=facts.positive_class or "",
        calibration=tuple(_calibration(facts)),
        predictive=tuple(predictive(test.get("ppv_npv") or ())),
        predictive_note=_predictive_note(facts),
        net_benefit=_net_benefit(facts, test.get("net_benefit"), key),
        sets=_sets(test.get("conformal"), *words.nouns(facts.target)),
        referral=_referral(test.get("referral"), facts.run.get("referral") or {}, key),
    )


def _summary(facts: RunFacts) -> str:
    """Say in a line how far the probabilities of a label can be believed."""
    test = facts.metrics["test"]
    error, slope = (Estimate.of(test, name) for name in ("ece", "calibration_slope"))
    return (
        f"calibration error {words.with_interval(error, percent=False)}, slope "
        f"{words.with_interval(slope, percent=False)}"
    )


def _reliability(facts: RunFacts, key: str) -> Plot:
    x_label, y_label, _ = _reliability_words(facts)
    ece = words.with_interval(Estimate.of(facts.metrics["test"], "ece"), percent=False)
    return figures.draw_reliability(
        f"reliability{key}",
        curves.reliability(facts),
        x_label=x_label,
        y_label=y_label,
        alt=f"{y_label} against {x_label.lower()} on test. Calibration error {ece}.",
    )


def _reliability_words(facts: RunFacts) -> tuple[str, str, str]:
    if facts.positive_class is None:
        return (
            "Probability of the answer",
            "Share that is right",
            "Of images answered with a given probability, the share that was right.",
        )
    return (
        f"Probability of {facts.positive_class}",
        f"Share that is {facts.positive_class}",
        f"Of images given a certain probability of {facts.positive_class}, the share that had it.",
    )


def _calibration(facts: RunFacts) -> list[Line]:
    test, val = facts.metrics["test"], facts.metrics["val"]
    lines = []
    if any(key in test for key in ("calibration_slope", "brier_decomposition")):
        lines += [_line(test, val, *row) for row in CALIBRATION if row[0] in test]
        parts = [part.get("brier_decomposition") or {} for part in (test, val)]
        lines += [_line(parts[0], parts[1], *row) for row in BRIER if row[0] in parts[0]]
    return lines


def _line(
    test: Mapping[str, Any], val: Mapping[str, Any], key: str, name: str, meaning: str
) -> Line:
    on_test, on_val = (Estimate.of(_as_figures(part), key) for part in (test, val))
    return Line(
        name,
        words.estimate(on_test, percent=False),
        words.interval(on_test, percent=False),
        words.estimate(on_val, percent=False),
        words.interval(on_val, percent=False),
        meaning,
    )


def _as_figures(part: Mapping[str, Any]) -> dict[str, Any]:
    """Read a bare number as a figure without interval."""
    return {
        key: {"value": value, "n": 0} if isinstance(value, int | float) else value
        for key, value in part.items()
    }


def predictive(rows: Iterable[Mapping[str, Any]]) -> list[PredictiveRow]:
    """Write predictive values at each prevalence."""
    found = []
    for row in rows:
        ppv, npv = (Estimate.of(dict(row), key) for key in ("ppv", "npv"))
        share = float(row["prevalence"])
        found.append(
            PredictiveRow(
                words.number(share, percent=True),
                words.estimate(ppv, percent=True),
                words.interval(ppv, percent=True),
                *_nearly_all(npv),
                _true_alarms(ppv),
            )
        )
    return found


def _nearly_all(figure: Estimate) -> tuple[str, str]:
    """Write a share near 1 with as many digits as keep it apart from 1."""
    bounds = (figure.value, figure.ci_low, figure.ci_high)
    if None in bounds or figure.value is None or figure.value < 0.999 or figure.value == 1:
        return words.estimate(figure, percent=True), words.interval(figure, percent=True)
    digits = 2 if figure.value < 0.9999 else 3
    value, low, high = (f"{100 * bound:.{digits}f}" for bound in bounds if bound is not None)
    unit = f"{words.THIN}%"
    return f"{value}{unit}", f"{low}{words.EN_DASH}{high}{unit}"


def _true_alarms(ppv: Estimate) -> str:
    """Say in natural numbers how many alarms are true, where that can be told."""
    if ppv.value is None:
        return ""
    if ppv.width is not None and ppv.width > VAGUE:
        return "too uncertain to tell"
    if ppv.ci_low is not None and ppv.ci_high is not None and (ppv.width or 0) > SOME:
        return f"{100 * ppv.ci_low:.0f} to {100 * ppv.ci_high:.0f} of 100 alarms are true"
    if 0.995 <= ppv.value < 1:
        return "more than 99 of 100 alarms are true"
    if ppv.value >= 0.2:
        return f"{ppv.value * 100:.0f} of 100 alarms are true"
    return f"1 of {1 / ppv.value:.0f} alarms is true" if ppv.value > 0 else "no alarm is true"


def _predictive_note(facts: RunFacts) -> str:
    if facts.positive_class is None:
        return ""
    return (
        f"The share of {facts.positive_class} among your patients decides how many alarms are "
        "true. These values follow from the sensitivity and specificity on test, if those hold "
        "where you are. For another share: hilum evaluate RUN --prevalence P."
    )


def _net_benefit(facts: RunFacts, found: Mapping[str, Any] | None, key: str) -> Plot | None:
    if not found or not found.get("thresholds"):
        return None
    x = numbers(found["thresholds"])
    traces = [
        Trace("this classifier", "main", curve_of(x, found["model"])),
        Trace("act on all", "other", bare(curve_of(x, found["all"]))),
        Trace("act on none", "base", bare(curve_of(x, found["none"]))),
    ]
    best = traces[0].curve.y
    prevalence = float(np.nanmax(best)) if np.isfinite(best).any() else 0.0
    top = max(0.05, prevalence)
    return figures.draw_traces(
        f"benefit{key}",
        traces,
        x_label="Probability from which one would act",
        y_label="Net benefit",
        y_range=(-0.25 * top, 1.1 * top),
        alt="Decision curve on test: net benefit of acting on the classifier, on all and on none"
        f", for {facts.positive_class}.",
    )


def bare(curve: Curve) -> Curve:
    """Leave the band out, so that only one is in a plot."""
    return Curve(curve.x, curve.y)


def numbers(values: Sequence[Any]) -> Array:
    """Read numbers, null as NaN."""
    return np.array([math.nan if value is None else float(value) for value in values])


def curve_of(x: Array, values: Sequence[Any] | Mapping[str, Sequence[Any]]) -> Curve:
    """Read a curve: lists of values and bounds, or a list of numbers or of figures."""
    if isinstance(values, Mapping):
        y, low, high = (numbers(values[name]) for name in ("value", "ci_low", "ci_high"))
        return Curve(x, y, low, high)
    if not any(isinstance(value, Mapping) for value in values):
        return Curve(x, numbers(values))
    found = [Estimate.of({"y": value}, "y") for value in values]
    y, low, high = (
        numbers([getattr(figure, name) for figure in found])
        for name in ("value", "ci_low", "ci_high")
    )
    return Curve(x, y, low, high) if np.isfinite(low).any() else Curve(x, y)


def _sets(found: Mapping[str, Any] | None, noun: str, nouns: str) -> Sets | None:
    if not found:
        return None
    coverage, size = (Estimate.of(_as_figures(found), key) for key in ("coverage", "mean_set_size"))
    wanted = words.number(float(found["coverage_wanted"]), percent=True, digits=0)
    return Sets(
        f"A prediction set names every {noun} that cannot be excluded. Sets were made on "
        f"validation to hold the truth in {wanted} of images; on test they hold it in "
        f"{words.with_interval(coverage, percent=True)}, with "
        f"{words.estimate(size, percent=False)} {nouns} on average. A set of one {noun} is an "
        f"answer; a larger one says that the image leaves it open, an empty one that no {noun} "
        "fits.",
        tuple(
            _share(words.plural(int(size), noun, nouns), value)
            for size, value in sorted((found.get("sets") or {}).items(), key=lambda s: int(s[0]))
        ),
    )


def _share(name: str, value: Any) -> Share:
    figure = Estimate.of(_as_figures({"share": value}), "share")
    return Share(
        name,
        words.with_interval(figure, percent=True),
        round(100 * (figure.value or 0.0), 2),
    )


def make_referral(facts: RunFacts) -> Referral | None:
    """Tell of images left to a person, where the answer is one of several labels."""
    if not facts.is_multilabel:
        return None
    test = facts.metrics["test"]
    found = _referral(test.get("referral"), facts.run.get("referral") or {}, "")
    if found is None:
        return None
    text = found.text.replace("it is right in", "every known label is right in")
    return replace(found, text=text)


def _referral(
    found: Mapping[str, Any] | None, rules: Mapping[str, Any], key: str
) -> Referral | None:
    if not found:
        return None
    parts = _as_figures({k: v for k, v in found.items() if k not in ("reasons", "curve")})
    share, kept = (Estimate.of(parts, key) for key in ("share_referred", "accuracy_kept"))
    right = f"on the others it is right in {words.with_interval(kept, percent=True)}"
    if kept.value is None:
        right = "how often it is right on others cannot be told"
    text = (
        f"With its own rules the model would refer {words.with_interval(share, percent=True)} of "
        f"the test images to a person; {right}. All other figures of this report are over all "
        "images."
    )
    reasons = tuple(
        _share(words.capitalised(str(name)), value)
        for name, value in (found.get("reasons") or {}).items()
        if Estimate.of(_as_figures({"share": value}), "share").value
    )
    told = tuple(map(str, rules.get("reasons") or ()))
    return Referral(text, told, reasons, _referral_plot(found.get("curve") or (), key))


def _referral_plot(points: Sequence[Mapping[str, Any]], key: str) -> Plot | None:
    if len(points) < 2:
        return None
    x = numbers([point["share_referred"] for point in points])
    keys = [
        key
        for key in ("accuracy", "sensitivity", "specificity")
        if any(point.get(key) is not None for point in points)
    ]
    styles: dict[str, Any] = {"accuracy": "main", "sensitivity": "other", "specificity": "base"}
    traces = [
        Trace(
            key.replace("_", " "),
            styles.get(key, "base"),
            curve if key == "accuracy" else bare(curve),
        )
        for key in keys[:3]
        for curve in [curve_of(x, [point.get(key) for point in points])]
    ]
    return figures.draw_traces(
        f"referral{key}",
        traces,
        x_label="Share of the images referred, the least sure first",
        y_label="Figure on those kept",
        alt="Accuracy on the images kept, against the share that is referred to a person.",
    )
