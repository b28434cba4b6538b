"""What to distrust: reasons against a run's figures, each drawn from a fact of the run folder.

Every check answers with reasons, with one sentence that says what it found in order, or with one
that says why it could not be made. A reason that does not apply is not shown; nothing is shown that
no fact supports, and nothing counts as found in order that was not compared.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hilum.intervals import kish
from hilum.referral import UNLIKE
from hilum.report import words
from hilum.report.facts import (
    SPLIT_NAMES,
    Estimate,
    RunFacts,
    figures_on,
    main_figures,
    parse_time,
)
from hilum.report.kinds import could_not_be_looked_for, title_of
from hilum.splits import MIN_VAL_GROUPS, MIN_VAL_PER_CLASS

# Highest first; the order in which reasons are read. From SERIOUS on, a reason can make the main
# figures wrong by itself; below, it limits what they mean.
WEIGHTS = {
    "no_skill": 100,
    "overlap": 98,
    "opened_before_lock": 96,
    "other_threshold": 95,
    "patients_unknown": 94,
    "predictions_incomplete": 92,
    "duplicates_across_splits": 90,
    "copies_across_splits": 89,
    "finding_high": 85,
    "no_opening": 80,
    "label_conflicts": 72,
    "patients_partly_unknown": 71,
    "opened_again": 70,
    "external_drop": 66,
    "not_estimable": 62,
    "drop": 60,
    "unlike_training": 58,
    "subgroup_gap": 57,
    "finding_medium": 55,
    "heat_outside": 53,
    "heat_maps_fail": 52,
    "calibration": 50,
    "calibration_slope": 49,
    "fragile": 48,
    "coverage": 47,
    "prevalence": 45,
    "many_excluded": 44,
    "much_referred": 42,
    "wide_interval": 40,
    "few_val": 39,
    "small_class": 38,
    "patients_guessed": 35,
    "drawn_test": 25,
    "some_excluded": 20,
}
SERIOUS = 70

WIDE = 0.10  # width of a 95 % interval from which two classifiers can no longer be told apart
SMALL_CLASS = 30  # images; with fewer, one error moves a sensitivity by more than 3 points
MUCH_EXCLUDED = 0.05
LEAST_SHIFT = 0.03  # difference of class shares that a reader would care about
Z_SHIFT = 2.58  # and that chance gives once in a hundred, by patient
BAD_CALIBRATION = 0.10  # calibration error that is never fine,
SURE_CALIBRATION = 0.03  # nor is one whose interval lies above this;
GOOD_CALIBRATION = 0.05  # in between, a small test leaves it open and nothing is said
LINES_ON_SCREEN = 46  # of the column of reasons, on a screen of 1200 by 1500
OFF_SLOPE = 0.2  # distance of the calibration slope from 1 that is worth a word
MUCH_UNLIKE = 0.10  # share of test images unlike the training images
MUCH_REFERRED = 0.30
MUCH_HEAT = 1.5  # times the share of the area
LEAST_HEAT = 0.10  # and this much more than it
N_EXAMPLES = 3
N_FALLS = 3


@dataclass(frozen=True)
class Reason:
    """One reason for distrust.

    Attributes
    ----------
    kind : str
        Key of `WEIGHTS`.
    title, text : str
        What is the matter; what it means and what to do.
    examples : tuple of str
    anchor : str
        Id of the place in the report that shows more; '' where there is none.
    """

    kind: str
    title: str
    text: str
    examples: tuple[str, ...] = ()
    anchor: str = ""

    @property
    def weight(self) -> int:
        return WEIGHTS[self.kind]

    @property
    def is_serious(self) -> bool:
        return self.weight >= SERIOUS


@dataclass(frozen=True)
class Verdict:
    """All reasons, heaviest first; what was found in order; what could not be checked, and why."""

    reasons: tuple[Reason, ...]
    fine: tuple[str, ...]
    unchecked: tuple[str, ...] = ()

    @property
    def shown(self) -> tuple[tuple[Reason, bool], ...]:
        """Reasons, and whether each is unfolded: the heaviest, as many as fit on one screen."""
        found, room = [], float(LINES_ON_SCREEN)
        for reason in self.reasons:
            room -= 2.5 + len(reason.title + reason.text) / 54 + len(reason.examples)
            found.append((reason, room >= 0))
        return tuple(found)


@dataclass
class _Found:
    reasons: list[Reason] = field(default_factory=list)
    fine: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    def pass_if(self, compared: bool, said: str, question: str, why: str) -> None:
        """Say that something is in order, or, where nothing was compared, that it stays open."""
        if compared:
            self.fine.append(said)
        else:
            self.unchecked.append(f"{question} ({why})")

    def add(
        self, kind: str, title: str, text: str, examples: Iterable[str] = (), anchor: str = ""
    ) -> None:
        self.reasons.append(Reason(kind, title, text, tuple(examples), anchor))

    @property
    def kinds(self) -> set[str]:
        return {reason.kind for reason in self.reasons}


def judge(facts: RunFacts) -> Verdict:
    """Run every check."""
    found = _Found()
    for check in CHECKS:
        if facts.is_multilabel and check in BY_LABEL:
            _check_labels(facts, check, found)
        else:
            check(facts, found)
    reasons = sorted(found.reasons, key=lambda reason: -reason.weight)
    return Verdict(tuple(reasons), tuple(found.fine), tuple(found.unchecked))


def _check_labels(
    facts: RunFacts, check: Callable[[RunFacts, _Found], None], found: _Found
) -> None:
    """Run a check on each label, and say once what is found of several, with their names."""
    by_label = {name: _Found() for name in facts.class_names}
    for name, mine in by_label.items():
        check(facts.about(name), mine)
    kinds = dict.fromkeys(kind for mine in by_label.values() for kind in mine.kinds)
    for kind in sorted(kinds, key=lambda kind: -WEIGHTS[kind]):
        told = {
            name: reason
            for name, mine in by_label.items()
            for reason in mine.reasons
            if reason.kind == kind
        }
        found.reasons.append(_of_labels(kind, told, len(by_label)))
    found.fine += _lines_of({name: mine.fine for name, mine in by_label.items()})
    found.unchecked += _lines_of({name: mine.unchecked for name, mine in by_label.items()})


def _lines_of(said: dict[str, list[str]]) -> list[str]:
    """Write each line once, with the labels of which it was said."""
    lines: dict[str, list[str]] = {}
    for name, mine in said.items():
        for line in mine:
            lines.setdefault(line, []).append(name)
    return [f"{line} ({_labels(names, len(said))})" for line, names in lines.items()]


LABEL_TITLES = {
    "no_skill": "No skill is shown",
    "not_estimable": "Figures on test without value or interval",
    "drop": "Figures fall from validation to test",
    "external_drop": "AUROC falls on other data",
    "subgroup_gap": "It is worse in some groups",
    "calibration": "Probabilities are off on test",
    "calibration_slope": "Probabilities are too extreme or too cautious on test",
    "prevalence": "Not as frequent in test as in training",
    "wide_interval": "The test is small: wide intervals",
    "few_val": "There was little to choose the threshold by",
    "small_class": "Few test images with or without it",
}


def _of_labels(kind: str, told: dict[str, Reason], n_labels: int) -> Reason:
    """Take the reasons of several labels together: the first in full, the others in a sentence."""
    names, reasons = list(told), list(told.values())
    texts = [reasons[0].text, *(SENTENCE.split(reason.text)[0] for reason in reasons[1:2])]
    text = " ".join(
        f"“{name}”: {text.rstrip('.')}." for name, text in zip(names, texts, strict=False)
    )
    rest = names[2:]
    if rest:
        text += f" Likewise {words.quoted(rest, limit=6)}."
    title = f"{LABEL_TITLES[kind]}: {_labels(names, n_labels)}"
    return Reason(kind, title, text, reasons[0].examples, reasons[0].anchor)


def _labels(names: list[str], n_labels: int) -> str:
    if len(names) == n_labels:
        return "every label"
    return words.quoted([f"“{name}”" for name in names])


def _check_skill(facts: RunFacts, found: _Found) -> None:
    if facts.target == "ordinal":
        _check_agreement(facts, found)
        return
    auroc = Estimate.of(facts.metrics["test"], "auroc")
    if auroc.value is None or auroc.ci_low is None:
        found.unchecked.append(f"whether AUROC on test is above chance ({_why(auroc)})")
        return
    if auroc.ci_low <= 0.5:
        found.add(
            "no_skill",
            "No skill is shown",
            f"AUROC on test is {words.with_interval(auroc, percent=False)}; the interval holds "
            "0.5, the value of a coin.",
        )
    else:
        found.fine.append("AUROC on test is above chance")


def _check_agreement(facts: RunFacts, found: _Found) -> None:
    kappa = Estimate.of(facts.metrics["test"], "quadratic_kappa")
    if kappa.value is None or kappa.ci_low is None:
        found.unchecked.append(f"whether grades on test agree beyond chance ({_why(kappa)})")
    elif kappa.ci_low <= 0:
        found.add(
            "no_skill",
            "No skill is shown",
            f"Quadratic kappa on test is {words.with_interval(kappa, percent=False)}; the interval "
            "holds 0, the value of chance.",
        )
    else:
        found.fine.append("grades on test agree with the truth beyond chance")


def _check_overlap(facts: RunFacts, found: _Found) -> None:
    overlap = facts.overlap
    if overlap:
        verb = "is" if overlap.n_patients == 1 else "are"
        allowed = (
            " This was allowed by hand (--allow-patient-overlap)."
            if facts.run["splits"].get("allowed_overlap")
            else ""
        )
        found.add(
            "overlap",
            f"{words.plural(overlap.n_patients, 'patient')} {verb} in more than one split",
            f"The splits concerned: {words.join(overlap.splits) or 'unknown'}. What is measured on "
            "them was partly learnt by heart, so the figures are too good by an unknown amount."
            f"{allowed}",
            [words.quoted(overlap.names, limit=12)],
        )
    elif _patients_known(facts):
        found.fine.append("no patient is in two splits")


def _check_patients(facts: RunFacts, found: _Found) -> None:
    patients = facts.run["patients"]
    if not _patients_known(facts):
        found.add(
            "patients_unknown",
            "Patients are unknown",
            "Each image was taken for a patient of its own. If a patient has several images, they "
            "may lie on both sides of a split: figures are then too good and intervals too narrow.",
        )
        return
    n_without = int(patients.get("n_without") or 0)
    if n_without:
        found.add(
            "patients_partly_unknown",
            f"{words.plural(n_without, 'image')} without a patient",
            "Each of them was taken for a patient of its own, which may be wrong.",
        )
    if patients["source"] == "column":
        found.fine.append(f"patients come from the column “{patients['column']}”")
        return
    how = (
        "guessed from a known way of naming files"
        if patients["source"] == "known_pattern"
        else "read from file names by the pattern given"
    )
    found.add(
        "patients_guessed",
        "Patients were read from file names",
        f"They were {how}: {words.plural(int(patients['n_patients']), 'patient')}"
        f"{_images_a_patient(patients)}. Check that these names are what a patient is; if two "
        "patients share a name or one has two, the splits are wrong.",
        [f"{path} → {patient}" for path, patient in patients["examples"][:3]],
    )


def _check_duplicates(facts: RunFacts, found: _Found) -> None:
    samples = facts.samples[(facts.samples["sha256"] != "") & (facts.samples["split"] != "")]
    if samples.empty:
        return
    shared = facts.shared("sha256")
    if shared:
        pairs = [
            " = ".join(samples[samples["sha256"] == digest]["path"][:3])
            for digest in list(shared)[:3]
        ]
        found.add(
            "duplicates_across_splits",
            f"{words.plural(len(shared), 'image')} in more than one split",
            f"Files that are identical lie in {words.join(_where(shared))}: what is tested was "
            "partly learnt by heart.",
            pairs,
        )
    else:
        found.fine.append("no identical files in two splits")
    labels = samples.groupby("sha256")["label"].nunique()
    conflicts = list(labels[labels > 1].index)
    if conflicts:
        found.add(
            "label_conflicts",
            f"{words.plural(len(conflicts), 'identical image')} with different labels",
            "At least one of the labels is wrong, and others may be.",
            [
                " = ".join(
                    f"{row.path} ({row.label})"
                    for row in samples[samples["sha256"] == digest].head(3).itertuples()
                )
                for digest in conflicts[:3]
            ],
        )


def _check_copies(facts: RunFacts, found: _Found) -> None:
    """Hold the copies that the audit found against the splits as they were used."""
    groups = [
        [str(path) for path in group]
        for finding in facts.findings
        if finding["kind"] == "near_duplicates"
        for group in finding.get("paths") or ()
    ]
    if not groups:
        return
    split = dict(zip(facts.samples["path"], facts.samples["split"], strict=True))
    across = [group for group in groups if len({split.get(path, "") for path in group} - {""}) > 1]
    if across:
        found.add(
            "copies_across_splits",
            f"Copies of {words.plural(len(across), 'image')} in more than one split",
            "They were resized, recompressed, turned or brightened and are not the same file, but "
            "what is tested on them was partly learnt by heart. Look at them; if they are copies, "
            "draw a new split.",
            [" ~ ".join(group[:3]) for group in across[:N_EXAMPLES]],
            "findings",
        )
    else:
        found.fine.append("no copies of an image in two splits")


def _check_openings(facts: RunFacts, found: _Found) -> None:
    if not facts.openings:
        found.add(
            "no_opening",
            "No opening of the test split is recorded",
            "Figures on test exist, but openings.jsonl is empty: it cannot be told how often the "
            "test images were looked at.",
        )
        return
    _check_lock(facts, found)
    n_openings = len(facts.openings)
    if n_openings > 1:
        found.add(
            "opened_again",
            f"The test split was opened {n_openings} times",
            "If anything was changed after looking at the test figures, they are no longer those "
            "of unseen data.",
            map(_opening, facts.openings[:6]),
        )
    else:
        found.fine.append("the test split was opened once")


def _check_lock(facts: RunFacts, found: _Found) -> None:
    if not facts.points:
        return
    opened = parse_time(str(facts.openings[0]["when"]))
    times = [str(point["locked"]) for point in facts.points.values()]
    late = [text for text in times if opened and (locked := parse_time(text)) and opened < locked]
    if late:
        found.add(
            "opened_before_lock",
            "The test split was opened before "
            f"{'every' if facts.is_multilabel else 'the'} threshold was locked",
            f"Opened {words.moment(str(facts.openings[0]['when']))}, locked "
            f"{words.moment(max(late))}: sensitivity and specificity may be tuned to "
            "the test images.",
        )
    else:
        what = "thresholds were" if facts.is_multilabel else "threshold was"
        found.fine.append(f"the {what} locked before the test was opened")
    others = [
        opening
        for opening in facts.openings
        if opening.get("operating_point_sha256") not in (None, "", facts.locked_hash)
    ]
    if others:
        found.add(
            "other_threshold",
            "The test split was also opened with another threshold",
            f"{words.plural(len(others), 'opening')} used an operating point that is not the one "
            "locked here.",
            map(_opening, others[:3]),
        )


def _opening(opening: dict[str, Any]) -> str:
    return f"{words.moment(str(opening['when']))}: {opening['purpose']}"


def _check_predictions(facts: RunFacts, found: _Found) -> None:
    wanted, got = set(facts.used("test")["path"]), list(facts.predicted("test")["path"])
    missing = sorted(wanted - set(got))
    extra = sorted(set(got) - wanted)
    if missing or extra or len(got) != len(set(got)):
        found.add(
            "predictions_incomplete",
            "Predictions and test images do not match",
            f"{words.plural(len(wanted), 'test image')}, {words.plural(len(got), 'prediction')}: "
            f"{len(missing):,} without a prediction, {len(extra):,} that are not test images.",
            (missing + extra)[:5],
        )
    else:
        found.fine.append("every test image has exactly one prediction")


def _check_estimable(facts: RunFacts, found: _Found) -> None:
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


def _check_drop(facts: RunFacts, found: _Found) -> None:
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
        found.pass_if(
            compared,
            "no main figure falls from validation to test beyond its interval",
            "whether a main figure falls from validation to test",
            NO_INTERVALS,
        )


def _is_worse(one: Estimate, other: Estimate, term: words.Term) -> bool:
    """Tell whether a figure is worse than another beyond both intervals."""
    low, high = (one, other) if term.rises else (other, one)
    return low.ci_high is not None and high.ci_low is not None and low.ci_high < high.ci_low


def _gets_worse(terms: list[words.Term]) -> str:
    verb = "fall" if all(term.rises for term in terms) else "get worse"
    if len(terms) > 1:
        return verb
    return "falls" if terms[0].rises else "rises"


def _check_width(facts: RunFacts, found: _Found) -> None:
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
    few = {name: int(n) for name, n in counts.items() if int(n) < SMALL_CLASS}
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


def _check_validation(facts: RunFacts, found: _Found) -> None:
    val = facts.samples[facts.samples["split"] == "val"]
    owner = (
        val["group"] if "group" in val else val["patient"].where(val["patient"] != "", val.index)
    )
    few = []
    for name, rows in val.groupby("label"):
        n, n_groups = len(rows), owner[rows.index].nunique()
        if n < MIN_VAL_PER_CLASS or n_groups < MIN_VAL_GROUPS:
            of_whom = words.of_people(n_groups) if _patients_known(facts) else ""
            few.append(f"{words.plural(n, 'image')}{of_whom} labelled {name}")
    if few:
        title, results = "There was little to calibrate by", "other probabilities"
        chosen = ["calibration"]
        if facts.epoch_is_chosen:
            title, results = "There was little to choose the epoch by", "other figures"
            chosen = ["epoch", *chosen]
        if facts.positive_class is not None:
            title = "There was little to choose the threshold by"
            results = "another sensitivity and specificity"
            chosen.append("threshold")
        found.add(
            "few_val",
            title,
            f"Validation holds {words.join(few)}: another draw of them would have given another "
            f"{words.join(chosen)}, and so {results}.",
        )


def _check_calibration(facts: RunFacts, found: _Found) -> None:
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


def _alike(facts: RunFacts, split: str) -> float:
    """How many images of a split count for one, if those of a patient are fully alike."""
    rows = facts.samples[facts.samples["split"] == split]
    sizes = rows.groupby("group" if "group" in rows else "path").size()
    return max(1.0, len(rows) / kish(np.asarray(sizes, dtype=np.float64))) if len(rows) else 1.0


def _check_prevalence(facts: RunFacts, found: _Found) -> None:
    counts = facts.run["splits"]["counts"]
    shifts, compared = [], False
    for name in [facts.positive_class] if facts.positive_class else facts.class_names:
        (k_train, n_train), (k_test, n_test) = (
            (int(counts[split]["classes"].get(name, 0)), int(counts[split]["n"]))
            for split in ("train", "test")
        )
        if not n_train or not n_test:
            continue
        compared = True
        difference = k_test / n_test - k_train / n_train
        pooled = (k_train + k_test) / (n_train + n_test)
        independent = _alike(facts, "train") / n_train + _alike(facts, "test") / n_test
        spread = math.sqrt(pooled * (1 - pooled) * independent)
        if abs(difference) >= LEAST_SHIFT and abs(difference) > Z_SHIFT * spread:
            shifts.append((abs(difference), name, k_train / n_train, k_test / n_test))
    if not shifts:
        found.pass_if(
            compared,
            "classes are as frequent in test as in training",
            "whether classes are as frequent in test as in training",
            "a split is empty",
        )
        return
    _, name, in_train, in_test = max(shifts, key=lambda shift: shift[0])
    found.add(
        "prevalence",
        "Classes are not as frequent in test as in training",
        f"{name}: {words.number(in_train, percent=True)} of the training images, "
        f"{words.number(in_test, percent=True)} of the test images. Precision, accuracy and "
        "probabilities hold for a test with these shares and no other.",
    )


def _check_excluded(facts: RunFacts, found: _Found) -> None:
    excluded = facts.samples[facts.samples["excluded"]]
    if excluded.empty:
        found.fine.append("every file could be read")
        return
    share = len(excluded) / len(facts.samples)
    reasons = excluded["reason"].replace("", "no reason given").value_counts()
    found.add(
        "many_excluded" if share > MUCH_EXCLUDED else "some_excluded",
        f"{words.plural(len(excluded), 'file')} left out",
        f"{words.number(share, percent=True)} of the files could not be used: "
        + "; ".join(f"{reason} ({n:,})" for reason, n in list(reasons.items())[:3])
        + ". If they are not a random choice, the figures hold for the others alone.",
        list(excluded["path"])[:3],
    )


def _check_test_origin(facts: RunFacts, found: _Found) -> None:
    test = facts.used("test")
    if "given_split" not in test or not (test["given_split"] == "test").any():
        found.add(
            "drawn_test",
            "Tested on its own collection only",
            "The test images were drawn from the same collection as the training images. Other "
            "scanners, hospitals and patients may give lower figures.",
        )


# The audit looks at the data as they came; a check above has looked at the splits as they were
# used, which may have been drawn anew, and its word stands.
CHECKED_HERE = frozenset(
    (
        *("unreadable", "unknown_patients", "exact_duplicates", "contradictory_labels"),
        *("patients_across_splits", "prevalence_shift", "few_patients"),
    )
)


def _check_findings(facts: RunFacts, found: _Found) -> None:
    """Pass on what the audit found of weight, in its own words."""
    findings = [
        finding
        for finding in facts.findings
        if finding["severity"] in ("high", "medium") and not _is_checked_here(finding, found)
    ]
    for finding in findings:
        found.add(
            f"finding_{finding['severity']}",
            title_of(finding),
            str(finding["message"]),
            [str(example) for example in (finding.get("examples") or ())[:N_EXAMPLES]],
            "findings",
        )
    if not findings:
        found.fine.append("the audit of the files found nothing else of weight")
    left_out = facts.run.get("not_looked_for") or {}
    found.unchecked += could_not_be_looked_for(
        {kind: why for kind, why in left_out.items() if kind not in CHECKED_HERE}
    )


def _is_checked_here(finding: dict[str, Any], found: _Found) -> bool:
    if finding["kind"] == "contradictory_labels":
        # Identical images are checked here; one patient's labels are not.
        return "label_conflicts" in found.kinds
    if finding["kind"] == "near_duplicates":
        return "copies_across_splits" in found.kinds
    return finding["kind"] in CHECKED_HERE


def _check_external(facts: RunFacts, found: _Found) -> None:
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


def _check_subgroups(facts: RunFacts, found: _Found) -> None:
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


def _check_slope(facts: RunFacts, found: _Found) -> None:
    slope = Estimate.of(facts.metrics["test"], "calibration_slope")
    if slope.value is None or slope.ci_low is None or slope.ci_high is None:
        return
    if not slope.ci_low <= 1 <= slope.ci_high and abs(slope.value - 1) >= OFF_SLOPE:
        kind = "too extreme" if slope.value < 1 else "too cautious"
        found.add(
            "calibration_slope",
            f"Probabilities are {kind} on test",
            f"Calibration slope {words.with_interval(slope, percent=False)}, where 1 is right.",
            anchor="calibration",
        )


def _check_robustness(facts: RunFacts, found: _Found) -> None:
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


def _check_heat_maps(facts: RunFacts, found: _Found) -> None:
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


def _check_heat_place(facts: RunFacts, found: _Found) -> None:
    where = {"border": "on the border", "outside_body": "outside the body"}
    for key, place in where.items():
        part = facts.explanation.get(key)
        if not part:
            continue
        heat, area = part.get("heat_share"), part.get("area_share")
        if heat is None or area is None:
            found.unchecked.append(f"whether heat gathers {place} ({_reason_of(part)})")
            continue
        if heat >= MUCH_HEAT * area and heat - area >= LEAST_HEAT:
            found.add(
                "heat_outside",
                f"Much heat lies {place}",
                f"{words.number(heat, percent=True, digits=0)} of the heat, on "
                f"{words.number(area, percent=True, digits=0)} of the area: the answer may rest on "
                "something that is not the disease, such as a mark.",
                anchor="explanation",
            )
        else:
            found.fine.append(f"heat does not gather {place}")


def _check_decisions(facts: RunFacts, found: _Found) -> None:
    """Hold prediction sets and referral against what they promise."""
    sets = facts.metrics["test"].get("conformal") or {}
    coverage = Estimate.of(sets, "coverage")
    if sets and coverage.ci_high is None:
        found.unchecked.append(
            f"whether prediction sets hold the truth as often as promised ({_why(coverage)})"
        )
    if coverage.ci_high is not None:
        if coverage.ci_high < float(sets["coverage_wanted"]):
            found.add(
                "coverage",
                "Prediction sets hold the truth less often than promised",
                f"In {words.with_interval(coverage, percent=True)} of the test images, where "
                f"{words.number(float(sets['coverage_wanted']), percent=True, digits=0)} was "
                "wanted: the test images differ from the validation images.",
                anchor="sets",
            )
        else:
            found.fine.append("prediction sets hold the truth as often as promised")
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


CHECKS: tuple[Callable[[RunFacts, _Found], None], ...] = (
    _check_overlap,
    _check_patients,
    _check_duplicates,
    _check_copies,
    _check_openings,
    _check_predictions,
    _check_skill,
    _check_estimable,
    _check_drop,
    _check_width,
    _check_validation,
    _check_calibration,
    _check_prevalence,
    _check_excluded,
    _check_test_origin,
    _check_findings,
    _check_external,
    _check_subgroups,
    _check_slope,
    _check_robustness,
    _check_heat_maps,
    _check_heat_place,
    _check_decisions,
)


BY_LABEL = frozenset(
    (
        *(_check_skill, _check_estimable, _check_drop, _check_width, _check_validation),
        *(_check_calibration, _check_prevalence, _check_external, _check_subgroups, _check_slope),
    )
)
"""Checks that are made of each label by itself."""

SENTENCE = re.compile(r"(?<=[^.\d])\. (?=[A-Z])")


def _patients_known(facts: RunFacts) -> bool:
    patients = facts.run["patients"]
    return patients["source"] != "none" and patients.get("n_patients") is not None


def _where(shared: dict[str, list[str]]) -> list[str]:
    """Name the splits concerned, in their usual order."""
    present = {split for splits in shared.values() for split in splits}
    return [name for split, name in SPLIT_NAMES.items() if split in present]


def _images_a_patient(patients: dict[str, Any]) -> str:
    sizes = patients.get("images_per_patient")
    if not sizes:
        return ""
    noun = "image" if sizes["median"] == 1 else "images"
    return f", a median of {sizes['median']:g} {noun} each and {int(sizes['max']):,} at most"
