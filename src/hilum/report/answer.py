"""The first lines: what was made, how it was tested, and what came out, in plain English."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from hilum.calls import shares_in_words
from hilum.report import labels, words
from hilum.report.decisions import VAGUE
from hilum.report.facts import Estimate, RunFacts, figures_on, main_figures, n_of_equal_name
from hilum.report.labels import LabelTable
from hilum.report.scales import IntervalRow, Scale, common_scale, interval_row


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
    labels: LabelTable | None = None
    also: tuple[tuple[str, str, str], ...] = ()  # name, text, where it is shown


def make_answer(facts: RunFacts) -> Answer:
    scale = common_scale(
        [
            Estimate.of(facts.metrics["test"], key)
            for key in main_figures(facts)
            if words.BY_KEY[key].rises
        ]
    )
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
        found=() if facts.is_multilabel else tuple(_found_bars(facts)),
        labels=labels.make_table(facts) if facts.is_multilabel else None,
        also=tuple(_also(facts)),
    )


def _also(facts: RunFacts) -> list[tuple[str, str, str]]:
    """Say in a line each what else a reader should know first, as far as the run has it."""
    found = []
    for name, other in facts.external.items():
        figures = dict(figures_on(other))
        auroc = words.with_interval(Estimate.of(figures, "auroc"), percent=False)
        text = f"AUROC {auroc} on {name}"
        if facts.is_multilabel:
            text += f", the mean over {words.join(figures['mean_over']) or 'no label'}"
        if alike := words.of_equal_name(n_of_equal_name(other)):
            text += f"; too good if people are the same: {alike}"
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
        ppv = Estimate.of(dict(first), "ppv")
        told = words.with_interval(ppv, percent=True)
        text = f"Where {share} have it, {told} of the alarms are true"
        if ppv.value is None:
            text = f"Where {share} have it, nothing tells how many alarms are true: {ppv.reason}"
        elif (ppv.width or 0) > VAGUE:
            bounds = words.interval(ppv, percent=True)
            text = (
                f"Where {share} have it, too few patients tell how many alarms are true: {bounds}"
            )
        found.append((_how_common(float(first["prevalence"]), facts), text, "predictive"))
    referral = test.get("referral")
    if referral:
        share, kept = (
            words.estimate(Estimate.of(_shares(referral), key), percent=True)
            for key in ("share_referred", "accuracy_kept")
        )
        right = "has every known label right" if facts.is_multilabel else "is right"
        text = f"It would leave {share} to a person"
        if Estimate.of(_shares(referral), "accuracy_kept").value is not None:
            text += f", and {right} in {kept} of the rest"
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


def title(facts: RunFacts) -> str:
    """Name the task."""
    if facts.positive_class is not None:
        return f"Telling {facts.positive_class} from {facts.negative_class}"
    if facts.is_multilabel:
        return f"Looking for {words.plural(len(facts.class_names), 'label')}, each by itself"
    if facts.target == "ordinal":
        return f"Grading from {facts.class_names[0]} to {facts.class_names[-1]}"
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
    task, val_use = _task(facts)
    return Markup("{} It learnt from {}, {} {}, and was tested on {}{}").format(
        task, train, val_use, val, test, _independence(facts)
    )


def _task(facts: RunFacts) -> tuple[Markup, str]:
    """Say what the classifier does, and what validation images were for."""
    names = words.join([f"“{name}”" for name in facts.class_names])
    if facts.positive_class is not None:
        text = Markup("This classifier tells <strong>{}</strong> from <strong>{}</strong>.")
        return text.format(facts.positive_class, facts.negative_class), "had its threshold set on"
    if facts.is_multilabel:
        text = Markup(
            "This classifier looks for {} in each image, every one by itself: {}. An image may "
            "have several of them, or none."
        )
        return text.format(words.plural(len(facts.class_names), "label"), names), (
            "had a threshold for each set on"
        )
    if facts.target == "ordinal":
        text = Markup("This classifier grades images in {} steps: {}.")
    else:
        text = Markup("This classifier tells {} classes apart: {}.")
    val_use = "was chosen by" if facts.epoch_is_chosen else "had its probabilities calibrated on"
    return text.format(len(facts.class_names), names), val_use


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
    if facts.is_multilabel:
        return [_outcome_of_labels(facts)]
    if facts.target == "ordinal":
        return [_outcome_of_grades(facts)]
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


def _outcome_of_labels(facts: RunFacts) -> Markup:
    test = facts.metrics["test"]
    n_over, n = len(test["mean_over"]), len(facts.class_names)
    whole = Markup(
        "On average over {}, it gives an image with the label a higher probability than one "
        "without {} of the time (AUROC {}); it finds {} of what is there and rightly clears {} of "
        "what is not. {} had every known label right."
    ).format(
        f"the {n} labels" if n_over == n else f"{n_over} of the {n} labels",
        words.estimate(Estimate.of(test, "auroc"), percent=True),
        _cited(test, "auroc", first=True),
        _cited_share(test, "sensitivity"),
        _cited_share(test, "specificity"),
        words.capitalised(f"{_cited_share(test, 'exact_match')} of the images"),
    )
    areas = {
        name: figure
        for name in test["mean_over"]
        if (figure := Estimate.of(test["labels"][name], "auroc")).value is not None
    }
    if len({figure.value for figure in areas.values()}) < 2:
        return whole
    ends = [pick(areas, key=lambda name: areas[name].value or 0.0) for pick in (max, min)]
    return whole + Markup(
        " It knows “{}” best (AUROC {}) and <strong>“{}” worst</strong> (AUROC {})."
    ).format(*(part for name in ends for part in (name, _cited(test["labels"][name], "auroc"))))


def _cited_share(figures: dict[str, Any], key: str) -> str:
    return words.with_interval(Estimate.of(figures, key), percent=True)


def _outcome_of_grades(facts: RunFacts) -> Markup:
    test = facts.metrics["test"]
    matrix = test["confusion_matrix"]
    off = [
        sum(n for i, row in enumerate(matrix) for j, n in enumerate(row) if abs(i - j) == distance)
        for distance in range(len(matrix))
    ]
    return Markup(
        "It gives <strong>{} of {} images the right grade</strong> (accuracy {}); {} miss by one "
        "grade and <strong>{} by more</strong>. On average an answer lies {} grades from the truth "
        "({}). Agreement beyond chance, which counts far misses more, is {} (quadratic kappa; 1 is "
        "perfect, 0 chance)."
    ).format(
        words.count(off[0]),
        words.count(int(test["n"])),
        _cited(test, "accuracy", first=True),
        words.count(off[1]),
        words.count(sum(off[2:])),
        words.estimate(Estimate.of(test, "mean_absolute_error"), percent=False),
        words.interval(Estimate.of(test, "mean_absolute_error"), percent=False),
        _cited(test, "quadratic_kappa"),
    )


def _cited(figures: dict[str, Any], key: str, *, first: bool = False) -> Markup | str:
    """Return '95.9 %, 95 % interval 93.6–97.6 %'; the words only the first time."""
    term, figure = words.BY_KEY[key], Estimate.of(figures, key)
    text = words.estimate(figure, percent=term.percent)
    bounds = words.interval(figure, percent=term.percent)
    if not bounds or figure.lacks_interval:
        return f"{text}, no interval" if bounds else text
    what = f"95{words.THIN}% interval " if first else ""
    return Markup('{}, {}<span class="nb">{}</span>').format(text, what, bounds)


def _decision(facts: RunFacts) -> Markup:
    if facts.is_multilabel:
        return _decision_on_labels(facts)
    point = facts.run.get("operating_point")
    if not point or facts.positive_class is None:
        how = (
            "the grade in the middle of its probabilities, with half at it or below and half at it "
            "or above"
            if facts.target == "ordinal"
            else "the class of highest probability"
        )
        if facts.class_shares:
            how += (
                ", once each is divided by its share of the training images "
                f"({shares_in_words(facts.class_names, facts.class_shares)}), so that rare classes "
                "are found too; it need not be the most probable"
            )
        return Markup(
            "Each image gets {}; no threshold was chosen. The test images were first opened on {}."
        ).format(
            how,
            words.moment(str(facts.openings[0]["when"])) if facts.openings else "an unknown day",
        )
    return Markup(
        "An image is called {} when its probability is at least <strong>{}</strong>. This "
        "threshold was locked on {} by {}, on {}{}.{}"
    ).format(
        facts.positive_class,
        words.threshold(float(point["threshold"])),
        words.moment(str(point["locked"])),
        words.rule(str(point["rule"])),
        words.plural(int(point["n"]), "validation image"),
        ", before the test images were opened" if facts.locked_before_test else "",
        _if_not_kept(str(point.get("reason", ""))),
    )


def _decision_on_labels(facts: RunFacts) -> Markup:
    if not facts.points:
        return Markup("No thresholds of the labels are on record.")
    rules = list(dict.fromkeys(words.rule(str(point["rule"])) for point in facts.points.values()))
    locked = max(str(point["locked"]) for point in facts.points.values())
    kept = [_if_not_kept(str(point.get("reason", ""))) for point in facts.points.values()]
    lost = [name for name, text in zip(facts.points, kept, strict=True) if text]
    return Markup("A label is named when its probability reaches its own threshold.{}{}").format(
        Markup(" The thresholds were locked on {} by {}, on validation images{}.").format(
            words.moment(locked),
            words.join(rules),
            ", before the test images were opened" if facts.locked_before_test else "",
        ),
        Markup(" <strong>The rule could not be kept for {}.</strong>").format(words.join(lost))
        if lost
        else "",
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
