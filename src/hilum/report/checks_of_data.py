"""Reasons against a run's figures that lie in its data, its splits and how the test was opened."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hilum.report import words
from hilum.report.facts import SPLIT_NAMES, RunFacts, parse_time
from hilum.report.kinds import could_not_be_looked_for, title_of
from hilum.report.reason import N_EXAMPLES, Found
from hilum.resampling import kish
from hilum.splits import MIN_VAL_GROUPS, MIN_VAL_PER_CLASS

MUCH_EXCLUDED = 0.05
LEAST_SHIFT = 0.03  # difference of class shares that a reader would care about
Z_SHIFT = 2.58  # and that chance gives once in a hundred, by patient
MOST_SEEN = 0.1  # difference of shares that nobody would call none, chance or not
MOST_HIDDEN = 0.35  # difference of shares that may stay hidden where none is found
NO_COPIES = "no copies of an image in two splits"  # said where the audit found some


def check_overlap(facts: RunFacts, found: Found) -> None:
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


def check_patients(facts: RunFacts, found: Found) -> None:
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


def check_duplicates(facts: RunFacts, found: Found) -> None:
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


def check_copies(facts: RunFacts, found: Found) -> None:
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
        found.fine.append(NO_COPIES)


def check_openings(facts: RunFacts, found: Found) -> None:
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
            f"The test split was opened {words.times(n_openings)}",
            "If anything was changed after looking at the test figures, they are no longer those "
            "of unseen data.",
            map(_opening, facts.openings[:6]),
        )
    else:
        found.fine.append("the test split was opened once")


def _check_lock(facts: RunFacts, found: Found) -> None:
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


def check_predictions(facts: RunFacts, found: Found) -> None:
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


def check_validation(facts: RunFacts, found: Found) -> None:
    val, owner = facts.used("val"), facts.owners("val")
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


def _alike(facts: RunFacts, split: str) -> float:
    """How many images of a split count for one, if those of a patient are fully alike."""
    rows = facts.samples[facts.samples["split"] == split]
    sizes = rows.groupby("group" if "group" in rows else "path").size()
    return max(1.0, len(rows) / kish(np.asarray(sizes, dtype=np.float64))) if len(rows) else 1.0


def check_prevalence(facts: RunFacts, found: Found) -> None:
    counts = facts.run["splits"]["counts"]
    shifts, seen, hidden = [], [0.0], []
    for name in [facts.positive_class] if facts.positive_class else facts.class_names:
        (k_train, n_train), (k_test, n_test) = (
            (int(counts[split]["classes"].get(name, 0)), int(counts[split]["n"]))
            for split in ("train", "test")
        )
        if not n_train or not n_test:
            continue
        difference = k_test / n_test - k_train / n_train
        pooled = (k_train + k_test) / (n_train + n_test)
        independent = _alike(facts, "train") / n_train + _alike(facts, "test") / n_test
        spread = math.sqrt(pooled * (1 - pooled) * independent)
        seen.append(abs(difference))
        hidden.append(Z_SHIFT * spread)
        if abs(difference) >= LEAST_SHIFT and abs(difference) > Z_SHIFT * spread:
            shifts.append((abs(difference), name, k_train / n_train, k_test / n_test))
    if not shifts:
        found.pass_if(
            bool(hidden) and max(hidden) <= MOST_HIDDEN and max(seen) < MOST_SEEN,
            "classes are as frequent in test as in training",
            "whether classes are as frequent in test as in training",
            f"there are so few that a difference of {max(hidden):.0%} could be chance"
            if hidden
            else "a split is empty",
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


def check_excluded(facts: RunFacts, found: Found) -> None:
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


def check_test_origin(facts: RunFacts, found: Found) -> None:
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


def check_findings(facts: RunFacts, found: Found) -> None:
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


def _is_checked_here(finding: dict[str, Any], found: Found) -> bool:
    if finding["kind"] == "contradictory_labels":
        # Identical images are checked here; one patient's labels are not.
        return "label_conflicts" in found.kinds
    if finding["kind"] == "near_duplicates":
        if NO_COPIES in found.fine:
            # Copies that lie together may still bear different labels.
            return (finding.get("details") or {}).get("n_across_classes") == 0
        return "copies_across_splits" in found.kinds
    return finding["kind"] in CHECKED_HERE


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
