"""The first lines: what was made, how it was tested, and what came out, in plain English."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from hilum.report import words
from hilum.report.facts import Estimate, RunFacts, figures_on, main_figures


@dataclass(frozen=True)
class IntervalRow:
    """A figure as text and as a point with whiskers; positions in percent of the scale."""

    name: str
    text: str
    bounds: str
    n: str
    low: float | None = None
    point: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Scale:
    """The common axis of some interval rows."""

    low: float

    def place(self, value: float | None) -> float | None:
        """Put a value of [low, 1] on the axis, in percent of its length."""
        if value is None:
            return None
        return round(100 * min(1.0, max(0.0, (value - self.low) / (1 - self.low))), 2)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        step = 0.1 if self.low >= 0.5 else 0.2 if self.low >= 0.2 else 0.25
        n_steps = round((1 - self.low) / step)
        values = [1 - step * i for i in range(n_steps, -1, -1)]
        return [(self.place(value) or 0.0, f"{value:g}") for value in values]


@dataclass(frozen=True)
class FoundBar:
    """Images of one class in natural numbers: how many were named rightly."""

    name: str
    n: int
    n_right: int
    right: str
    wrong: str

    @property
    def share(self) -> float:
        return round(100 * self.n_right / self.n, 2) if self.n else 0.0


@dataclass(frozen=True)
class Answer:
    """The first screen."""

    title: str
    kicker: str
    paragraphs: tuple[Markup, ...]
    scale: Scale
    main: tuple[IntervalRow, ...]
    found: tuple[FoundBar, ...]
    also: tuple[tuple[str, str, str], ...] = ()  # name, text, where it is shown


def make_answer(facts: RunFacts) -> Answer:
    scale = common_scale([Estimate.of(facts.metrics["test"], key) for key in main_figures(facts)])
    paragraphs = [_what(facts), *_outcome(facts), _decision(facts)]
    return Answer(
        title=title(facts),
        kicker=" · ".join(
            (
                "Classification report",
                _data_name(facts),
                *_fold(facts),
                words.day(facts.run["finished"]),
            )
        ),
        paragraphs=tuple(paragraphs),
        scale=scale,
        main=tuple(
            interval_row(words.BY_KEY[key], Estimate.of(facts.metrics["test"], key), scale)
            for key in main_figures(facts)
        ),
        found=tuple(_found_bars(facts)),
        also=tuple(_also(facts)),
    )


def _also(facts: RunFacts) -> list[tuple[str, str, str]]:
    """Say in a line each what else a reader should know first, as far as the run has it."""
    found = []
    for name, other in facts.external.items():
        auroc = Estimate.of(dict(figures_on(other)), "auroc")
        text = f"AUROC {words.with_interval(auroc, percent=False)} on {name}"
        found.append(("Other data", text, "external"))
    for fold in _fold(facts):
        text = f"This is {fold}; all are together in the report of the folder above"
        found.append(("Cross-validation", text, "data"))
    test = facts.metrics["test"]
    rows = test.get("ppv_npv") or ()
    if rows:
        # The user's own prevalence, else one that is usual in screening of the ill.
        asked = [row for row in rows if row.get("wanted")]
        first = min(asked or rows, key=lambda row: abs(float(row["prevalence"]) - 0.1))
        share = f"{float(first['prevalence']) * 100:g}{words.THIN}%"
        ppv = words.with_interval(Estimate.of(dict(first), "ppv"), percent=True)
        text = f"Where {share} have it, {ppv} of the alarms are true"
        found.append((_how_common(float(first["prevalence"]), facts), text, "predictive"))
    referral = test.get("referral")
    if referral:
        share, kept = (
            words.estimate(Estimate.of(_shares(referral), key), percent=True)
            for key in ("share_referred", "accuracy_kept")
        )
        text = f"It would leave {share} to a person, and is right in {kept} of the rest"
        found.append(("Referral", text, "referral"))
    return found


def _how_common(share: float, facts: RunFacts) -> str:
    """Say how a prevalence lies to that of the test images."""
    counts = facts.run["splits"]["counts"]["test"]
    here = int(counts["classes"].get(facts.positive_class, 0)) / max(1, int(counts["n"]))
    if round(share, 2) == round(here, 2):
        return "As common as here"
    return "If rarer" if share < here else "If more common"


def _fold(facts: RunFacts) -> tuple[str, ...]:
    """Name the fold that this run is, where it is one."""
    fold = facts.run.get("fold")
    return (f"fold {fold['fold']} of {fold['n_folds']}",) if fold else ()


def _shares(found: dict[str, Any]) -> dict[str, Any]:
    """Read bare numbers as figures without interval."""
    return {
        key: {"value": value} if isinstance(value, int | float) else value
        for key, value in found.items()
    }


def common_scale(figures: Sequence[Estimate]) -> Scale:
    """Choose the lowest value of an axis to 1 that shows every interval."""
    lows = [low for f in figures for low in (f.ci_low, f.value) if low is not None]
    least = min(lows, default=0.0)
    return Scale(next(start for start in (0.5, 0.2, 0.0) if least >= start or start == 0.0))


def interval_row(term: words.Term, figure: Estimate, scale: Scale) -> IntervalRow:
    return IntervalRow(
        term.name,
        words.estimate(figure, percent=term.percent),
        words.interval(figure, percent=term.percent),
        words.count(figure.n),
        scale.place(figure.ci_low),
        scale.place(figure.value),
        scale.place(figure.ci_high),
    )


def title(facts: RunFacts) -> str:
    """Name the task."""
    if facts.positive_class is not None:
        return f"Telling {facts.positive_class} from {facts.negative_class}"
    return f"Telling {len(facts.class_names)} classes apart"


def _data_name(facts: RunFacts) -> str:
    path = str(facts.run["data"]["path"]).replace("\\", "/").rstrip("/")
    return path.rsplit("/", 1)[-1]


def _what(facts: RunFacts) -> Markup:
    counts = facts.run["splits"]["counts"]
    train, val, test = (
        Markup("<strong>{}</strong>{}").format(
            words.plural(int(counts[split]["n"]), "image"), _patients(counts[split]["n_patients"])
        )
        for split in ("train", "val", "test")
    )
    if facts.positive_class is not None:
        task = Markup("This classifier tells <strong>{}</strong> from <strong>{}</strong>.").format(
            facts.positive_class, facts.negative_class
        )
        val_use = "had its threshold set on"
    else:
        task = Markup("This classifier tells {} classes apart: {}.").format(
            len(facts.class_names), words.join([f"“{name}”" for name in facts.class_names])
        )
        val_use = "was chosen by"
    return Markup("{} It learnt from {}, {} {}, and was tested on {}{}").format(
        task, train, val_use, val, test, _independence(facts)
    )


def _patients(n_patients: int | None) -> str:
    return "" if n_patients is None else f" of {words.people(n_patients)}"


def _independence(facts: RunFacts) -> Markup:
    """Say how far the test is one of unseen patients, as the facts have it."""
    overlap = facts.overlap
    if overlap:
        n = overlap.n_patients
        return Markup(" – but <strong class='bad'>{} in {}</strong>.").format(
            "1 patient is" if n == 1 else f"{n:,} patients are",
            f"both {words.join(overlap.splits)}"
            if len(overlap.splits) == 2
            else "more than one split",
        )
    if facts.run["splits"]["counts"]["test"]["n_patients"] is None:
        return Markup(
            " not used for anything before. <strong class='bad'>Which patients the images come "
            "from is not known</strong>, so the same patient may be on both sides."
        )
    if len(facts.openings) > 1:
        return Markup(", none of whom it had learnt from.")
    if facts.run["patients"].get("n_without"):
        return Markup(
            ", none of whom had been used for anything before, as far as patients are known."
        )
    return Markup(", none of whom had been used for anything before.")


def _outcome(facts: RunFacts) -> list[Markup]:
    if facts.positive_class is None:
        return _outcome_of_many(facts)
    test = facts.metrics["test"]
    tp, fn, fp, tn = binary_counts(facts)
    positive, negative = facts.positive_class, facts.negative_class
    if not tp + fn or not fp + tn:
        absent = negative if tp + fn else positive
        return [
            Markup(
                "The test images hold <strong class='bad'>none labelled {}</strong>, so that no "
                "figure can say how well the two are told apart. It names {} of {} images rightly "
                "(accuracy {})."
            ).format(
                absent,
                words.count(tp + tn),
                words.count(int(test["n"])),
                _cited(test, "accuracy", first=True),
            )
        ]
    return [
        Markup(
            "It <strong>finds {} of {}</strong> images labelled {} and <strong>misses {}</strong> "
            "(sensitivity {}). It raises a <strong>false alarm in {} of {}</strong> labelled {} "
            "(specificity {}). Whatever the threshold, it gives a random image labelled {} a "
            "higher probability than one labelled {} {} of the time (AUROC {}); balanced accuracy "
            "is {}."
        ).format(
            words.count(tp),
            words.count(tp + fn),
            positive,
            words.count(fn),
            _cited(test, "sensitivity", first=True),
            words.count(fp),
            words.count(fp + tn),
            negative,
            _cited(test, "specificity"),
            positive,
            negative,
            words.estimate(Estimate.of(test, "auroc"), percent=True),
            _cited(test, "auroc"),
            _cited(test, "balanced_accuracy"),
        )
    ]


def _outcome_of_many(facts: RunFacts) -> list[Markup]:
    test = facts.metrics["test"]
    matrix = test["confusion_matrix"]
    n_right = sum(matrix[i][i] for i in range(len(matrix)))
    named = Markup(
        "It <strong>names {} of {} images rightly</strong> (accuracy {}). With every class "
        "counting the same, balanced accuracy is {}, and AUROC {}."
    ).format(
        words.count(n_right),
        words.count(int(test["n"])),
        _cited(test, "accuracy", first=True),
        _cited(test, "balanced_accuracy"),
        _cited(test, "auroc"),
    )
    bars = [bar for bar in _found_bars(facts) if bar.n]
    if not bars:
        return [named]
    best, worst = max(bars, key=lambda bar: bar.share), min(bars, key=lambda bar: bar.share)
    spread = Markup(
        "It knows “{}” best ({} of {}) and <strong>“{}” worst</strong> ({} of {})."
    ).format(
        best.name,
        words.count(best.n_right),
        words.count(best.n),
        worst.name,
        words.count(worst.n_right),
        words.count(worst.n),
    )
    return [named + " " + spread]


def _cited(figures: dict[str, Any], key: str, *, first: bool = False) -> Markup | str:
    """Return '95.9 %, 95 % interval 93.6–97.6 %'; the words only the first time."""
    term, figure = words.BY_KEY[key], Estimate.of(figures, key)
    text = words.estimate(figure, percent=term.percent)
    bounds = words.interval(figure, percent=term.percent)
    if not bounds:
        return text
    what = f"95{words.THIN}% interval " if first else ""
    return Markup('{}, {}<span class="nb">{}</span>').format(text, what, bounds)


def _decision(facts: RunFacts) -> Markup:
    point = facts.run.get("operating_point")
    if not point or facts.positive_class is None:
        return Markup(
            "Each image gets the class of highest probability; no threshold was chosen. The test "
            "images were first opened on {}."
        ).format(
            words.moment(str(facts.openings[0]["when"])) if facts.openings else "an unknown day"
        )
    return Markup(
        "An image is called {} when its probability is at least <strong>{:.3f}</strong>. This "
        "threshold was locked on {} by {}, on {}{}.{}"
    ).format(
        facts.positive_class,
        float(point["threshold"]),
        words.moment(str(point["locked"])),
        words.rule(str(point["rule"])),
        words.plural(int(point["n"]), "validation image"),
        ", before the test images were opened" if facts.locked_before_test else "",
        _if_not_kept(str(point.get("reason", ""))),
    )


def _if_not_kept(reason: str) -> Markup:
    """Say aloud when the rule could not be kept, or nothing could be chosen."""
    kept = not reason or reason.startswith(("It gives", "The threshold was given"))
    return Markup("") if kept else Markup(" <strong>{}</strong>").format(reason)


def binary_counts(facts: RunFacts) -> tuple[int, int, int, int]:
    """Count (found, missed, false alarms, rightly cleared) on test."""
    matrix = facts.metrics["test"]["confusion_matrix"]
    positive = facts.class_names.index(facts.positive_class or "")
    negative = 1 - positive
    return (
        int(matrix[positive][positive]),
        int(matrix[positive][negative]),
        int(matrix[negative][positive]),
        int(matrix[negative][negative]),
    )


def _found_bars(facts: RunFacts) -> list[FoundBar]:
    if facts.positive_class is not None and facts.negative_class is not None:
        tp, fn, fp, tn = binary_counts(facts)
        return [
            FoundBar(facts.positive_class, tp + fn, tp, f"{tp:,} found", f"{fn:,} missed"),
            FoundBar(
                facts.negative_class,
                fp + tn,
                tn,
                f"{tn:,} cleared",
                words.plural(fp, "false alarm"),
            ),
        ]
    return [
        FoundBar(name, sum(row), row[i], f"{row[i]:,} of {sum(row):,}", "")
        for i, (name, row) in enumerate(
            zip(facts.class_names, facts.metrics["test"]["confusion_matrix"], strict=True)
        )
    ]
