"""What is wrong with the data by their table and the facts of each file."""

from __future__ import annotations

import re
from collections.abc import Callable

import pandas as pd

from hilum.auditing.findings import N_EXAMPLES, Finding, number_of
from hilum.dataset import Dataset
from hilum.errors import did_you_mean
from hilum.splits import find_overlap


def find_unreadable(samples: pd.DataFrame) -> list[Finding]:
    bad = samples[samples["excluded"].astype(bool)]
    if bad.empty:
        return []
    lines = [f"{path}: {reason}" for path, reason in zip(bad["path"], bad["reason"], strict=True)]
    return [
        Finding(
            "unreadable",
            "medium",
            len(bad),
            f"{number_of(len(bad), 'file')} of {len(samples):,} cannot be read. Replace or remove "
            "each, or go on without them with --skip-unreadable.",
            tuple(lines[:N_EXAMPLES]),
            tuple((path,) for path in bad["path"]),
        )
    ]


def find_unknown_patients(dataset: Dataset) -> list[Finding]:
    if dataset.patients.n_without == 0:
        return []
    return [
        Finding(
            "unknown_patients", "medium", dataset.patients.n_without,
            dataset.patients.description, ()
        )
    ]  # fmt: skip


def _exact_duplicates(samples: pd.DataFrame) -> list[Finding]:
    groups = _identical(samples)
    if not groups:
        return []
    split = dict(zip(samples["path"], samples["given_split"], strict=True))
    across = [group for group in groups if len({split[path] for path in group} - {""}) > 1]
    n_copies = sum(len(group) - 1 for group in groups)
    message = (
        f"{number_of(len(groups), 'group')} of identical files "
        f"({n_copies:,} {'copy' if n_copies == 1 else 'copies'} beyond the first). Copies count "
        "twice in training and in figures. A split drawn here keeps them together."
    )
    if across:
        message += (
            f" {number_of(len(across), 'group')} {'lies' if len(across) == 1 else 'lie'} across "
            "splits that came with the data: what is tested was learnt. Remove the copies, or draw "
            "a new split with --new-split."
        )
    return [
        Finding(
            "exact_duplicates",
            "high" if across else "low",
            len(groups),
            message,
            tuple(" = ".join(group) for group in (across or groups)[:N_EXAMPLES]),
            tuple(groups),
        )
    ]


def _contradictory_labels(samples: pd.DataFrame) -> list[Finding]:
    label = dict(zip(samples["path"], samples["label"], strict=True))
    groups = [group for group in _identical(samples) if len({label[path] for path in group}) > 1]
    if not groups:
        return []
    return [
        Finding(
            "contradictory_labels",
            "high",
            len(groups),
            f"{number_of(len(groups), 'group')} of identical files with different labels: at least "
            "one label of each is wrong. Correct or remove them.",
            tuple(
                " = ".join(f"{path} ({label[path]})" for path in group)
                for group in groups[:N_EXAMPLES]
            ),
            tuple(groups),
        )
    ]


def _identical(samples: pd.DataFrame) -> list[tuple[str, ...]]:
    repeated = samples[samples.duplicated("sha256", keep=False)]
    return [tuple(rows) for _, rows in repeated.groupby("sha256", sort=True)["path"]]


def _patients_across_splits(samples: pd.DataFrame) -> list[Finding]:
    overlap = find_overlap(list(samples["patient"]), list(samples["given_split"]))
    if overlap is None:
        return []
    names = overlap["examples"]
    shared = samples[samples["patient"].isin(names)]
    return [
        Finding(
            "patients_across_splits",
            "high",
            len(names),
            f"{number_of(len(names), 'patient')} of the splits that came with the data "
            f"{'is' if len(names) == 1 else 'are'} in more than one of them "
            f"({', '.join(overlap['splits'])}): figures would be too good. Draw a new split with "
            "--new-split.",
            tuple(names[:N_EXAMPLES]),
            tuple(tuple(rows) for _, rows in shared.groupby("patient", sort=True)["path"]),
        )
    ]


def _prevalence_shift(samples: pd.DataFrame) -> list[Finding]:
    from scipy.stats import chi2_contingency

    given = samples[samples["given_split"].isin(["train", "test"])]
    table = pd.crosstab(given["given_split"], given["label"])
    if len(table) < 2:
        return []
    shares = table.div(table.sum(axis=1), axis=0)
    moved = {str(name): share.to_dict() for name, share in shares.items()}
    change = {name: abs(share["test"] - share["train"]) for name, share in moved.items()}
    name = max(change, key=lambda name: change[name])
    # Both large enough to matter and beyond chance.
    if change[name] < 0.05 or chi2_contingency(table).pvalue > 0.001:
        return []
    before, after = moved[name]["train"], moved[name]["test"]
    return [
        Finding(
            "prevalence_shift",
            "medium",
            len(given),
            f"'{name}' makes up {before:.1%} of train and {after:.1%} of test: the two were not "
            "drawn alike, so the test images may differ in more than that. Predictive values and "
            "calibration from validation do not carry over.",
            (),
        )
    ]


def _small_classes(samples: pd.DataFrame) -> list[Finding]:
    counts = samples["label"].value_counts()
    small = counts[counts < 50]
    if small.empty:
        return []
    return [
        Finding(
            "small_class",
            "medium",
            len(small),
            "Classes with few images: "
            + ", ".join(f"'{name}' ({n})" for name, n in small.items())
            + ". Their figures will have wide intervals."
            + _slip_of_the_pen(counts),
            tuple(str(name) for name in small.index),
        )
    ]  # fmt: skip


def _slip_of_the_pen(counts: pd.Series) -> str:
    """Ask whether a rare class is a common one misspelt."""
    names = [str(name) for name in counts.index]  # the most frequent first
    for place, name in enumerate(names):
        hint = did_you_mean(name, names[:place])
        if hint and not re.search(r"\d", name) and counts.iloc[place] <= 5:
            return f" Is '{name}' meant to be another?{hint}"
    return ""


def _burned_in(samples: pd.DataFrame) -> list[Finding]:
    paths = list(samples["path"][samples["burned_in"].astype(bool)])
    if not paths:
        return []
    return [
        Finding(
            "burned_in",
            "high",
            len(paths),
            f"{number_of(len(paths), 'file')} by the DICOM header with text drawn into the pixels "
            "(BurnedInAnnotation = YES): it may identify a person, or give the class away. Look "
            "at each, and blank the text.",
            tuple(paths[:N_EXAMPLES]),
            tuple((path,) for path in paths),
        )
    ]


BASIC_CHECKS: tuple[Callable[[pd.DataFrame], list[Finding]], ...] = (
    *(_exact_duplicates, _contradictory_labels, _patients_across_splits),
    *(_prevalence_shift, _small_classes, _burned_in),
)
"""Each looks at the readable samples."""
