"""Numbers, times and rules as a reader expects to see them in print."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hilum.report.facts import Estimate, parse_time
from hilum.targets import TargetKind

THIN = "\u202f"  # narrow no-break space: before % and units
EN_DASH = "\u2013"
MINUS = "\u2212"


@dataclass(frozen=True)
class Term:
    """A figure of merit: what it is called and what it means.

    Attributes
    ----------
    key : str
        Its name in metrics.json.
    percent : bool
        Shown as a percentage.
    meaning : str
        One sentence for a doctor.
    rises : bool
        Higher is better.
    """

    key: str
    name: str
    percent: bool
    meaning: str
    rises: bool = True

    @property
    def in_text(self) -> str:
        """The name inside a sentence."""
        return self.name if self.key in ("auroc", "f1", "brier") else self.name.lower()


TERMS = (
    Term(
        "auroc",
        "AUROC",
        False,
        "The chance that a random image of the class gets a higher probability than a random "
        "image of another class: 0.5 is a coin, 1 is perfect. It needs no threshold.",
    ),
    Term(
        "sensitivity",
        "Sensitivity",
        True,
        "Of the images that show the class, the share that is found.",
    ),
    Term(
        "specificity",
        "Specificity",
        True,
        "Of the images that do not show the class, the share that is rightly cleared.",
    ),
    Term(
        "balanced_accuracy",
        "Balanced accuracy",
        True,
        "The mean of the shares found of each class, so that a common class does not drown a rare "
        "one.",
    ),
    Term("accuracy", "Accuracy", True, "The share of all images that get the right class."),
    Term(
        "precision",
        "Precision",
        True,
        "Of the images called by the class, the share that shows it (positive predictive value). "
        "It falls where the class is rarer than in this test.",
    ),
    Term("f1", "F1", False, "The harmonic mean of precision and sensitivity."),
    Term(
        "average_precision",
        "Average precision",
        False,
        "The area under the precision-recall curve: precision averaged over all thresholds. "
        "Without any skill it equals the share of the class.",
    ),
    Term(
        "brier",
        "Brier score",
        False,
        "The mean squared distance of probability and truth: 0 is perfect, and lower is better.",
        rises=False,
    ),
    Term(
        "ece",
        "Calibration error",
        False,
        "How far stated probabilities lie from observed shares, on average over bins: of images "
        "called with 80%, 80% should be right. Lower is better.",
        rises=False,
    ),
)

GRADE_TERMS = (
    Term(
        "quadratic_kappa",
        "Quadratic kappa",
        False,
        "Agreement of given and true grades beyond chance, where a miss by two grades counts four "
        "times one by one grade: 0 is what chance gives, 1 is perfect.",
    ),
    Term(
        "mean_absolute_error",
        "Mean error in grades",
        False,
        "How many grades the answer lies from the truth, on average. Lower is better.",
        rises=False,
    ),
    Term(
        "ranked_probability_score",
        "Ranked probability score",
        False,
        "The Brier score of “above this grade”, averaged over the cuts between grades: probability "
        "put far from the truth costs more. 0 is perfect.",
        rises=False,
    ),
)
LABEL_TERMS = (
    Term(
        "exact_match",
        "All labels right",
        True,
        "The share of images of which every known label was called rightly. It falls with the "
        "number of labels.",
    ),
)

BY_KEY = {term.key: term for term in (*TERMS, *GRADE_TERMS, *LABEL_TERMS)}


def terms_of(target: TargetKind) -> tuple[Term, ...]:
    """Name the figures of merit that a kind of target has, in their order."""
    if target == "ordinal":
        return (*GRADE_TERMS, *TERMS)
    return (*TERMS, *LABEL_TERMS) if target == "multilabel" else TERMS


def nouns(target: TargetKind) -> tuple[str, str]:
    """Name what an image is told by, one and several: 'class' and 'classes'."""
    found = {"multilabel": ("label", "labels"), "ordinal": ("grade", "grades")}
    return found.get(target, ("class", "classes"))


def count(number: int) -> str:
    return f"{number:,}"


def plural(number: int, noun: str, nouns: str | None = None) -> str:
    """Return '1 image', '2 images'."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def times(number: int) -> str:
    """Return 'once', 'twice', '3 times'."""
    return {1: "once", 2: "twice"}.get(number, f"{number:,} times")


def threshold(value: float) -> str:
    """Write a threshold with three decimals, or more where it would read as 0 or 1."""
    least = min(value, 1 - value)
    decimals = 1 - math.floor(math.log10(least)) if 0 < least < 0.001 else 3
    return f"{value:.{decimals}f}"


def number(value: float, *, percent: bool, digits: int | None = None) -> str:
    """Return '0.964', '95.9 %' or '−0.120'."""
    if percent:
        return f"{value * 100:.{1 if digits is None else digits}f}{THIN}%"
    return f"{value:.{3 if digits is None else digits}f}".replace("-", MINUS)


def estimate(figure: Estimate, *, percent: bool) -> str:
    """Return the value alone, or why there is none."""
    if figure.value is None:
        return f"not estimable: {figure.reason or 'no reason was given'}"
    text = number(figure.value, percent=percent)
    if not 0 < figure.value < 1:
        return text
    # What is not perfect must not read so: sensitivity beside a missed case, say.
    least = 0.001
    if text == number(1, percent=percent):
        return f">{number(1 - least, percent=percent)}"
    return f"<{number(least, percent=percent)}" if text == number(0, percent=percent) else text


def interval(figure: Estimate, *, percent: bool) -> str:
    """Return '0.951–0.975', 'no interval' for a value without one, '' without a value."""
    if figure.ci_low is None or figure.ci_high is None:
        return "no interval" if figure.lacks_interval else ""
    if percent:
        return f"{figure.ci_low * 100:.1f}{EN_DASH}{figure.ci_high * 100:.1f}{THIN}%"
    bounds = [number(bound, percent=False) for bound in (figure.ci_low, figure.ci_high)]
    # A dash between numbers below 0 would read as one more minus.
    return (" to " if figure.ci_low < 0 else EN_DASH).join(bounds)


def with_interval(figure: Estimate, *, percent: bool) -> str:
    """Return '0.964 (0.951–0.975)'."""
    bounds = interval(figure, percent=percent)
    return estimate(figure, percent=percent) + (f" ({bounds})" if bounds else "")


def people(n_patients: int | None) -> str:
    return "patients unknown" if n_patients is None else plural(n_patients, "patient")


def of_equal_name(n_patients: int) -> str:
    """Return '2 patients there bear the name of a patient of the run', '' for none."""
    if not n_patients:
        return ""
    verb = "bears" if n_patients == 1 else "bear"
    return f"{people(n_patients)} there {verb} the name of a patient of the run"


def of_people(n_patients: int | None) -> str:
    """Return ' of 12 patients', ' (patients unknown)'."""
    return " (patients unknown)" if n_patients is None else f" of {people(n_patients)}"


def capitalised(text: str) -> str:
    """Begin with a capital letter and leave the rest as it is."""
    return text[:1].upper() + text[1:]


def join(items: Sequence[str], last: str = "and") -> str:
    """Return 'a, b and c'."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"


def quoted(items: Sequence[str], limit: int = 3) -> str:
    """Return “a, b, c and 7 more”."""
    shown = ", ".join(items[:limit])
    rest = len(items) - limit
    return f"{shown} and {rest:,} more" if rest > 0 else shown


def moment(text: str) -> str:
    """Return '21 November 2026, 10:42 UTC' for an ISO time; anything else as it is."""
    time = parse_time(text)
    if time is None:
        return text
    return f"{time.day} {time:%B %Y, %H:%M} UTC"


def day(text: str) -> str:
    time = parse_time(text)
    return text if time is None else f"{time.day} {time:%B %Y}"


def duration(seconds: float) -> str:
    """Return '48 seconds', '12 minutes', '3 h 20 min'."""
    if seconds < 99.5:
        return plural(max(1, round(seconds)), "second")
    if seconds < 99.5 * 60:
        return plural(round(seconds / 60), "minute")
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,}{THIN}h {minutes}{THIN}min"


def rule(text: str) -> str:
    """Say in words how a threshold was chosen."""
    name, _, wanted = text.partition(":")
    if name == "youden":
        return "Youden's rule (the largest sum of sensitivity and specificity)"
    if name == "robust":
        return (
            "the rule “robust” (the largest sum of sensitivity and specificity, as the mean over "
            "images as they are and changed as by another scanner)"
        )
    if name in ("sensitivity", "specificity") and wanted:
        return f"the rule “{name} of at least {wanted} on validation”"
    return f"the rule “{text}”"


CORRUPTIONS = {
    "less_contrast": "Less contrast",
    "more_contrast": "More contrast",
    "gamma_above_1": "Darker mid-tones, gamma",
    "gamma_below_1": "Brighter mid-tones, gamma",
    "rotation": "Turning",
    "larger": "Enlarging",
    "wider": "Stretching in width",
    "taller": "Stretching in height",
    "jpeg": "JPEG compression",
    "resolution": "Loss of resolution",
}


def corruption(key: str) -> str:
    """Name a change of the images."""
    return CORRUPTIONS.get(key, key.replace("_", " ").capitalize())
