"""Reasons against a run's figures that lie in the figures, and in what the model does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hilum.conformal import least_coverage
from hilum.multilabel import two_classes
from hilum.referral import UNLIKE
from hilum.report import words
from hilum.report.facts import Estimate, RunFacts, figures_on, main_figures, n_of_equal_name
from hilum.report.reason import N_EXAMPLES, Found

WIDE = 0.10  # width of a 95 % interval from which two classifiers can no longer be told apart
SMALL_CLASS = 30  # images; with fewer, one error moves a sensitivity by more than 3 points
BAD_CALIBRATION = 0.10  # calibration error that is never fine,
SURE_CALIBRATION = 0.03  # nor is one whose interval lies above this;
GOOD_CALIBRATION = 0.05  # in between, a small test leaves it open and nothing is said
OFF_SLOPE = 0.2  # distance of the calibration slope from 1 that is worth a word
MUCH_UNLIKE = 0.10  # share of test images unlike the training images
MUCH_REFERRED = 0.30
MUCH_HEAT = 1.5  # times the share of the area
LEAST_HEAT = 0.10  # and this much more than it
N_FALLS = 3
GOOD_AUROC, GOOD_KAPPA = 0.8, 0.6  # from which few patients, not the model, leave skill open


def check_skill(facts: RunFacts, found: Found) -> None:
    if facts.target == "ordinal":
        _check_agreement(facts, found)
        return
    auroc = Estimate.of(facts.metrics["test"], "auroc")
    if auroc.value is None or auroc.ci_low is None:
        found.unchecked.append(f"whether AUROC on test is above chance ({_why(auroc)})")
        return
    if auroc.ci_low <= 0.5:
        found.add(
            *_lack_of_skill(facts, is_good=auroc.value >= GOOD_AUROC),
            f"AUROC on test is {words.with_interval(auroc, percent=False)}; the interval holds "
            "0.5, the value of a coin.",
        )
    else:
        found.fine.append("AUROC on test is above chance")


def _lack_of_skill(facts: RunFacts, *, is_good: bool) -> tuple[str, str]:
    """Return the kind and the title of what is said where an interval holds chance."""
    if not is_good:
        return "no_skill", "No skill is shown"
    unit = "images" if facts.run["patients"]["n_patients"] is None else "patients"
    return "few_to_show", f"Too few {unit} to show skill"


def check_one_answer(facts: RunFacts, found: Found) -> None:
    """Look for a model that answers the same whatever it sees."""
    test = facts.metrics["test"]
    told = one_answers(test, facts.class_names)
    by_patient = one_answers(test.get("patients") or {}, facts.class_names)
    unit, answers = ("image", told) if told else ("patient", by_patient)
    if answers:
        found.add(
            "one_answer",
            f"It answers {words.quoted(answers)} to every test {unit}",
            "Whatever it is shown, the answer is the same, though others would have been right for "
            "some. Such answers are of no use, whatever share of them is right.",
        )


def check_missed_classes(facts: RunFacts, found: Found) -> None:
    """Name classes, of three or more, of which less than half is called so beyond chance."""
    classes = {} if facts.positive_class else facts.metrics["test"].get("classes") or {}
    shares = {name: Estimate.of(own, "sensitivity") for name, own in classes.items()}
    missed = {
        name: share
        for name, share in shares.items()
        if share.ci_high is not None and share.ci_high < 0.5
    }
    if missed:
        found.add(
            "missed_class",
            f"Most images labelled {words.join([f'“{name}”' for name in missed])} are missed",
            "Of the test images of each, so many were called so: "
            + "; ".join(
                f"“{name}” {words.with_interval(share, percent=True)}"
                for name, share in missed.items()
            )
            + ". Means over all classes hide that.",
        )


def one_answers(found: Mapping[str, Any], class_names: Sequence[str]) -> list[str]:
    """Name the answer, of each label or of the whole, that all get and not all should."""
    labels = found.get("labels")
    if labels is None:
        tables = [(list(class_names), found.get("confusion_matrix"))]
    else:
        tables = [(list(two_classes(k)), one["confusion_matrix"]) for k, one in labels.items()]
    answers = []
    for names, table in tables:
        if table is None:
            continue
        counts = np.asarray(table)
        called, true = (np.flatnonzero(counts.sum(axis=axis)) for axis in (0, 1))
        if len(called) == 1 and len(true) > 1:
            answers.append(f"“{names[called[0]]}”")
    return answers


def _check_agreement(facts: RunFacts, found: Found) -> None:
    kappa = Estimate.of(facts.metrics["test"], "quadratic_kappa")
    if kappa.value is None or kappa.ci_low is None:
        found.unchecked.append(f"whether grades on test agree beyond chance ({_why(kappa)})")
    elif kappa.ci_low <= 0:
        found.add(
            *_lack_of_skill(facts, is_good=kappa.value >= GOOD_KAPPA),
            f"Quadratic kappa on test is {words.with_interval(kappa, percent=False)}; the interval "
            "holds 0, the value of chance.",
        )
    else:
        found.fine.append("grades on test agree with the truth beyond chance")


def check_estimable(facts: RunFacts, found: Found) -> None:
    terms = words.terms_of(facts.target)
    figures = [(term, Estimate.of(facts.metrics["test"], term.key)) for term in terms]
    missing = [(term, figure) for term, figure in figures if figure.width is None]
    if missing:
        found.add(
            "not_estimable",
            f"{words.plural(len(missing), 'figure')} on test without value or interval",
            "How far they can be trusted is not known: "
            + "; ".join(
                f"{term.in_text} ({'no interval' if figure.lacks_interval else 'no value'}: "
                f"{figure.reason or 'no reason was given'})"
                for term, figure in missing
            )
            + ".",
        )


def check_drop(facts: RunFacts, found: Found) -> None:
    drops, compared = [], False
    for key in main_figures(facts):
        val, test = (Estimate.of(facts.metrics[split], key) for split in ("val", "test"))
        if val.ci_low is None or test.ci_high is None:
            continue
        compared = True
        term = words.BY_KEY[key]
        if _is_worse(test, val, term):
            drops.append((term, val, test))
    if drops:
        found.add(
            "drop",
            f"{words.join([term.name for term, _, _ in drops])} "
            f"{_gets_worse([term for term, _, _ in drops])} from validation to test",
            "By more than chance: "
            + "; ".join(
                f"{term.in_text} "
                f"{words.with_interval(val, percent=term.percent)} on validation, "
                f"{words.with_interval(test, percent=term.percent)} on test"
                for term, val, test in drops
            )
            + ". The test images differ from those it was made with; the next hospital’s may "
            "differ again.",
        )
    else:
        may_be_chance = _may_be_chance(facts)
        found.pass_if(
            compared and not may_be_chance,
            "no main figure falls from validation to test beyond its interval",
            "whether a main figure falls from validation to test",
            "on validation it may be at chance" if may_be_chance else NO_INTERVALS,
        )


def _may_be_chance(facts: RunFacts) -> bool:
    """Tell whether validation images may be told apart no better than by chance: nothing falls."""
    key, chance = ("quadratic_kappa", 0.0) if facts.target == "ordinal" else ("auroc", 0.5)
    low = Estimate.of(facts.metrics["val"], key).ci_low
    return low is not None and low <= chance


def _is_worse(one: Estimate, other: Estimate, term: words.Term) -> bool:
    """Tell whether a figure is worse than another beyond both intervals."""
    low, high = (one, other) if term.rises else (other, one)
    return low.ci_high is not None and high.ci_low is not None and low.ci_high < high.ci_low


def _gets_worse(terms: list[words.Term]) -> str:
    verb = "fall" if all(term.rises for term in terms) else "get worse"
    if len(terms) > 1:
        return verb
    return "falls" if terms[0].rises else "rises"


def check_width(facts: RunFacts, found: Found) -> None:
    test = facts.metrics["test"]
    figures = [
        (words.BY_KEY[key], Estimate.of(test, key))
        for key in main_figures(facts)
        # Of an error in grades 0.1 is little.
        if words.BY_KEY[key].rises
    ]
    wide = [(term, figure) for term, figure in figures if (figure.width or 0) > WIDE]
    if wide:
        found.add(
            "wide_interval",
            "The test is small: wide intervals",
            "On "
            + words.plural(int(test["n"]), "image")
            + words.of_people(facts.n_patients("test"))
            + ", "
            + "the truth may lie anywhere in these: "
            + "; ".join(
                f"{term.in_text} {words.interval(figure, percent=term.percent)}"
                for term, figure in wide
            )
            + ".",
        )
    else:
        found.pass_if(
            any(figure.width is not None for _, figure in figures),
            "the intervals of the main figures are narrower than 10 points",
            "how wide the intervals of the main figures are",
            "there are none",
        )
    counts = facts.run["splits"]["counts"]["test"]["classes"]
    missing = [name for name in facts.class_names if not int(counts.get(name, 0))]
    if missing and int(test["n"]):
        found.add(
            "missing_class",
            f"No test image is labelled {words.join(missing, last='or')}",
            "Whether such images are told from others was not tested"
            + (
                "."
                if facts.positive_class
                else ", and means over the classes are those of the others."
            ),
        )
    few = {name: int(n) for name, n in counts.items() if 0 < int(n) < SMALL_CLASS}
    if few:
        found.add(
            "small_class",
            f"Few test images labelled {words.join(list(few))}"
            if len(few) < min(4, len(counts))
            else f"Few test images in {len(few)} of {len(counts)} classes",
            "One image more or less moves their figures visibly: "
            + ", ".join(f"{n} labelled {name}" for name, n in few.items())
            + ".",
        )


def check_calibration(facts: RunFacts, found: Found) -> None:
    ece = Estimate.of(facts.metrics["test"], "ece")
    if ece.value is None:
        found.unchecked.append(f"calibration error on test ({_why(ece)})")
        return
    if ece.value > BAD_CALIBRATION or (ece.ci_low or 0) > SURE_CALIBRATION:
        found.add(
            "calibration",
            "Probabilities are off on test",
            f"They miss the observed shares by {ece.value * 100:.0f} points on average ("
            f"calibration error {words.with_interval(ece, percent=False)}). Use "
            "the answer, not the probability as a risk.",
        )
    else:
        found.pass_if(
            ece.value <= GOOD_CALIBRATION and (ece.ci_high or 1.0) <= BAD_CALIBRATION,
            "the calibration error on test is small",
            "whether probabilities agree with observed shares on test",
            "the test is too small to tell",
        )


def check_external(facts: RunFacts, found: Found) -> None:
    if not facts.external:
        return
    term = words.BY_KEY[main_figures(facts)[0]]
    test = Estimate.of(facts.metrics["test"], term.key)
    drops, compared = [], False
    for name, other in facts.external.items():
        there = Estimate.of(dict(figures_on(other)), term.key)
        if test.ci_low is None or there.ci_high is None:
            why = _why(test if test.ci_low is None else there)
            found.unchecked.append(f"whether {term.in_text} falls on {name} ({why})")
            continue
        compared = True
        if there.ci_high < test.ci_low:
            drops.append((name, there))
    if drops:
        found.add(
            "external_drop",
            f"{term.name} falls on {words.join([name for name, _ in drops])}",
            "By more than chance: "
            + "; ".join(
                f"{words.with_interval(there, percent=False)} on {name}" for name, there in drops
            )
            + f", {words.with_interval(test, percent=False)} on the test split. Expect the like "
            "elsewhere.",
            anchor="external",
        )
    elif compared:
        found.fine.append(f"{term.in_text} does not fall on other data beyond its interval")


def check_equal_names(facts: RunFacts, found: Found) -> None:
    alike = {
        name: words.of_equal_name(n)
        for name, other in facts.external.items()
        if (n := n_of_equal_name(other))
    }
    if alike:
        found.add(
            "equal_names",
            f"Patients of {words.join(list(alike))} may be patients of this run",
            "; ".join(f"{name}: {said}" for name, said in alike.items())
            + ". If they are the same people, the figures there are too good. Where numbers of "
            "patients begin anew in each hospital, they are others.",
            anchor="external",
        )


def check_subgroups(facts: RunFacts, found: Found) -> None:
    rows = facts.metrics["test"].get("subgroups") or ()
    gaps, compared = [], False
    for key in main_figures(facts):
        whole = Estimate.of(facts.metrics["test"], key)
        for row in rows:
            part = Estimate.of(row, key)
            if part.ci_high is None or whole.ci_low is None:
                continue
            compared = True
            if _is_worse(part, whole, words.BY_KEY[key]):
                gaps.append((f"{row['column']} {row['group']}", words.BY_KEY[key], part))
    if gaps:
        found.add(
            "subgroup_gap",
            "It is worse in some groups",
            "; ".join(
                f"{term.in_text} {words.with_interval(part, percent=term.percent)} in {name}"
                for name, term, part in gaps[:N_EXAMPLES]
            )
            + ". Among many groups one may be so by chance; among few it hardly is.",
            anchor="subgroups",
        )
    elif rows:
        found.pass_if(
            compared,
            "no subgroup is worse than the whole beyond its interval",
            "whether a subgroup is worse than the whole",
            "too few patients in each",
        )


def check_slope(facts: RunFacts, found: Found) -> None:
    slope = Estimate.of(facts.metrics["test"], "calibration_slope")
    if slope.value is None or slope.ci_low is None or slope.ci_high is None:
        return
    if not slope.ci_low <= 1 <= slope.ci_high and abs(slope.value - 1) >= OFF_SLOPE:
        kind = "too extreme" if slope.value < 1 else "too cautious"
        what = f"Probabilities are {kind} on test"
        if slope.value <= 0:
            what = "Surer answers are not more often right on test"
        found.add(
            "calibration_slope",
            what,
            f"Calibration slope {words.with_interval(slope, percent=False)}, where 1 is right.",
            anchor="calibration",
        )


def check_robustness(facts: RunFacts, found: Found) -> None:
    falls, compared = [], False
    curves = facts.metrics.get("robustness") or {}
    for name, points in curves.items():
        for key in ("auroc", "quadratic_kappa", "sensitivity", "specificity"):
            first, last = (Estimate.of(dict(point), key) for point in (points[0], points[-1]))
            if first.ci_low is None or last.ci_high is None:
                continue
            compared = True
            if last.ci_high >= first.ci_low:
                continue
            term = words.BY_KEY[key]
            ends = [words.estimate(end, percent=term.percent) for end in (first, last)]
            change = words.corruption(name)
            text = f"{change[:1].lower()}{change[1:]}: {term.in_text} {ends[0]} to {ends[1]}"
            falls.append(((first.value or 0) - (last.value or 0), text))
    if falls:
        falls.sort(key=lambda fall: -fall[0])
        more = f"; and {len(falls) - N_FALLS} more" if len(falls) > N_FALLS else ""
        found.add(
            "fragile",
            "It does not bear every change of the images",
            "On validation, by more than chance under the strongest change tried: "
            + "; ".join(text for _, text in falls[:N_FALLS])
            + f"{more}.",
            anchor="robustness",
        )
    elif curves:
        found.pass_if(
            compared,
            "changes of the images lower no main figure beyond its interval",
            "whether changes of the images lower a main figure",
            NO_INTERVALS,
        )


def check_heat_maps(facts: RunFacts, found: Found) -> None:
    check = facts.explanation.get("randomisation_check")
    if check is None:
        return
    passed = check.get("passed") if isinstance(check, dict) else check
    if passed is False:
        found.add(
            "heat_maps_fail",
            "Heat maps hardly depend on what was learnt",
            "With the weights replaced by random ones they look alike, so they show the image and "
            "not what the network uses. Do not read them.",
            anchor="explanation",
        )
    else:
        found.pass_if(
            passed is True,
            "heat maps change when the weights are randomised",
            "whether heat maps change when the weights are randomised",
            _reason_of(check),
        )


def check_heat_place(facts: RunFacts, found: Found) -> None:
    where = {"border": "on the border", "outside_body": "outside the body"}
    for key, place in where.items():
        part = facts.explanation.get(key)
        if not part:
            continue
        heat, area = part.get("heat_share"), part.get("area_share")
        if heat is None or area is None:
            found.unchecked.append(f"whether heat gathers {place} ({_reason_of(part)})")
            continue
        of_heat, of_area = (words.number(share, percent=True, digits=0) for share in (heat, area))
        if heat >= MUCH_HEAT * area and heat - area >= LEAST_HEAT:
            found.add(
                "heat_outside",
                f"Much heat lies {place}",
                f"{of_heat} of the heat, on {of_area} of the area: the answer may rest on "
                "something that is not the disease, such as a mark.",
                anchor="explanation",
            )
        else:
            found.fine.append(f"not much heat lies {place} ({of_heat}, on {of_area} of the area)")


def check_decisions(facts: RunFacts, found: Found) -> None:
    """Hold prediction sets and referral against what they promise."""
    _check_sets(facts, found)
    referral = facts.metrics["test"].get("referral") or {}
    unlike = _share((referral.get("reasons") or {}).get(UNLIKE))
    if unlike is not None and unlike >= MUCH_UNLIKE:
        found.add(
            "unlike_training",
            "Many test images are unlike the training images",
            f"{words.number(unlike, percent=True)} of them lie far from all training images in "
            "what the network sees: its answers there rest on nothing that it has learnt.",
            anchor="referral",
        )
    share = _share(referral.get("share_referred"))
    if share is not None and share >= MUCH_REFERRED:
        found.add(
            "much_referred",
            "It would leave much to a person",
            f"By its own rules it refers {words.number(share, percent=True)} of the test images.",
            anchor="referral",
        )


def _check_sets(facts: RunFacts, found: Found) -> None:
    sets = facts.metrics["test"].get("conformal")
    if not sets:
        return
    coverage, wanted = Estimate.of(sets, "coverage"), float(sets["coverage_wanted"])
    question = "whether prediction sets hold the truth as often as promised"
    if coverage.value is None or coverage.ci_high is None:
        found.unchecked.append(f"{question} ({_why(coverage)})")
    elif coverage.ci_high >= wanted:
        found.fine.append("prediction sets hold the truth as often as promised")
    elif coverage.value + _chance_of_sets(facts, coverage, wanted) >= wanted:
        found.unchecked.append(
            f"{question} (chance in test and validation patients may explain what is missing)"
        )
    else:
        found.add(
            "coverage",
            "Prediction sets hold the truth less often than promised",
            f"In {words.with_interval(coverage, percent=True)} of the test images, where "
            f"{words.number(wanted, percent=True, digits=0)} was wanted. That is more than chance "
            "explains: the test images may differ from the validation images.",
            anchor="sets",
        )


def _chance_of_sets(facts: RunFacts, coverage: Estimate, wanted: float) -> float:
    """Say how far below what was wanted chance alone may bring the coverage on test.

    The interval counts the chance of the test images; thresholds owe theirs to validation patients.
    """
    assert coverage.value is not None
    assert coverage.ci_high is not None
    labels, owners = facts.used("val")["label"], facts.owners("val")
    counts = facts.run["splits"]["counts"]["test"]
    parts = [coverage.ci_high - coverage.value]
    for name in facts.class_names:
        share = int(counts["classes"].get(name, 0)) / int(counts["n"])
        least = least_coverage(owners[labels == name].nunique(), wanted)
        parts.append(share * max(0.0, wanted - least))
    return math.hypot(*parts)


NO_INTERVALS = "the figures have no intervals"


def _why(figure: Estimate) -> str:
    """Say why a figure cannot be compared."""
    return (figure.reason or NO_INTERVALS).rstrip(".")


def _reason_of(part: Any) -> str:
    """Say why a check of heat maps gave nothing."""
    told = part.get("reason") if isinstance(part, dict) else None
    return str(told or "no reason was given").rstrip(".")


def _share(found: Any) -> float | None:
    """Read a share that is a number or a figure."""
    value = found.get("value") if isinstance(found, dict) else found
    return None if value is None else float(value)
