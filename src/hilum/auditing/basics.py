"""What is wrong with the data by their table and the facts of each file."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.auditing.findings import N_EXAMPLES, NO_TRAIN_AND_TEST, Finding, number_of
from hilum.dataset import Dataset
from hilum.errors import did_you_mean
from hilum.intervals import change_of_share, wilson
from hilum.patients import patient_of_each
from hilum.resampling import Clusters
from hilum.splits import find_overlap

MOST_MIXED = 0.4  # share of patients with several classes up to which a patient has one as a rule
TELLING = 0.3  # Cramér's V
SURE = 0.001  # p-value by patient, times the number of shares compared
CLEAR = 0.05  # the same, for what is told besides
BLANK_DEVIATION = 1.0  # grey levels of a look, out of 255
DRAWN_TEST_SHARE = 0.2
EXPECTED = 0.9  # the figure for which widths are foretold
WIDTH_WANTED, WIDTH_BAD = 0.2, 0.35
Z = 1.96


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
            "splits that came with the data: where these are kept, what is tested was learnt. "
            "Remove the copies, or draw a new split with --new-split."
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
    given = samples[samples["given_split"].isin(["train", "test"])]
    table = pd.crosstab(given["given_split"], given["label"])
    if len(table) < 2:
        return []
    shares = table.div(table.sum(axis=1), axis=0)
    moved = {str(name): share.to_dict() for name, share in shares.items()}
    change = {name: abs(share["test"] - share["train"]) for name, share in moved.items()}
    name = max(change, key=lambda name: change[name])
    # Both large enough to matter and beyond chance.
    in_test = (given["given_split"] == "test").to_numpy()
    hits = (given["label"].astype(str) == name).to_numpy()
    p = change_of_share(hits, _patients(given), in_test, ~in_test) * max(1, len(change) - 1)
    if change[name] < 0.05 or p > SURE:
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


def _patients(samples: pd.DataFrame) -> Clusters:
    """Whose image each row is; where that is unknown, each counts for itself."""
    return Clusters.of(patient_of_each(samples).to_numpy(object), len(samples))


def find_small_classes(samples: pd.DataFrame) -> list[Finding]:
    """Find classes with few images, or few that are not of a test split that came with the data."""
    counts = samples["label"].value_counts()
    given = samples["given_split"] if "given_split" in samples else pd.Series("", samples.index)
    learnt = samples["label"][given != "test"].value_counts().reindex(counts.index, fill_value=0)
    small = learnt[learnt < 50]
    if small.empty:
        return []
    where, so = "", "Their figures will have wide intervals."
    if (counts > learnt).any():
        where, so = " outside the test split", "There is little to learn them from."
    return [
        Finding(
            "small_class",
            "medium",
            len(small),
            f"Classes with few images{where}: "
            + ", ".join(f"'{name}' ({n})" for name, n in small.items())
            + f". {so}"
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


def _patients_in_several_classes(samples: pd.DataFrame) -> list[Finding]:
    """Find patients with images of several classes, where a patient has one as a rule."""
    known = samples[samples["patient"] != ""]
    by_patient = known.groupby("patient", sort=True)["label"]
    several = by_patient.size()[by_patient.size() > 1].index
    mixed = [patient for patient in several if by_patient.get_group(patient).nunique() > 1]
    share = len(mixed) / max(1, len(several))
    # Where many are mixed, the label is that of an image (a cell, a lesion, a view).
    if not mixed or share > MOST_MIXED:
        return []
    groups = [known[known["patient"] == patient] for patient in mixed]
    return [
        Finding(
            "contradictory_labels",
            "medium" if share <= MOST_MIXED / 4 else "low",
            len(mixed),
            f"{number_of(len(mixed), 'patient')} of {len(several):,} with several images "
            f"{'has' if len(mixed) == 1 else 'have'} images in more than one class, while the "
            "others have one class each. That is right if the disease came or went between the "
            "images, or if the label is that of an image; otherwise a label is wrong, or two "
            "people bear one name. Look at them.",
            tuple(
                f"{group['patient'].iloc[0]}: "
                + ", ".join(f"{n} '{name}'" for name, n in group["label"].value_counts().items())
                for group in groups[:N_EXAMPLES]
            ),
            tuple(tuple(group["path"]) for group in groups),
            {"n_patients_with_several_images": len(several), "share": round(share, 4)},
        )
    ]


def _extreme_sizes(samples: pd.DataFrame) -> list[Finding]:
    height, width = (samples[name].to_numpy(float) for name in ("height", "width"))
    far = _far_off(np.log(height * width) / 2, math.log(3)) | _far_off(
        np.log(width / height), math.log(1.6)
    )
    if not far.any():
        return []
    typical = f"{np.median(width):.0f}×{np.median(height):.0f}"
    rows = samples[far]
    return [
        Finding(
            "extreme_size",
            "low",
            len(rows),
            f"{number_of(len(rows), 'image')} of a size or shape far from the rest, which "
            f"are about {typical} pixels: thumbnails, "
            "screenshots, cut-outs or other views. A network sees them enlarged or padded. Look "
            "at them, and leave out what is not meant.",
            tuple(
                f"{row.path}: {row.width:.0f}×{row.height:.0f}"
                for row in rows.head(N_EXAMPLES).itertuples()
            ),
            tuple((path,) for path in rows["path"]),
            {"median_width": float(np.median(width)), "median_height": float(np.median(height))},
        )
    ]


def _far_off(values: NDArray[np.float64], least: float) -> NDArray[np.bool_]:
    """Tell which values are far from the median: beyond `least` and six deviations (by MAD)."""
    away = np.abs(values - np.median(values))
    found: NDArray[np.bool_] = away > max(least, 6 * 1.4826 * float(np.median(away)))
    return found


def find_mixed_modes(samples: pd.DataFrame) -> list[Finding]:
    mode = (
        samples["mode"].astype(str)
        + np.where(samples["grey"].astype(bool), " in grey, ", " in colour, ")
        + samples["bits"].map(lambda bits: f"{bits:.0f} bits")
    )
    counts = mode.value_counts()
    if len(counts) < 2:
        return []
    link = _association(mode, samples["label"])
    tells = link >= TELLING and _clear(mode, samples)
    message = (
        f"Images are stored in {len(counts)} ways: "
        + ", ".join(f"{name} ({n:,})" for name, n in counts.items())
        + ". They probably come from several sources; the network sees them all alike."
    )
    if tells:
        message += (
            f" The way goes with the class (Cramér's V = {link:.2f}), so the sources do too: a "
            "classifier may learn the source. Look at the classes by source before you train."
        )
    rare = [str(samples["path"][mode == name].iloc[0]) for name in counts.index[::-1]]
    return [
        Finding(
            "mixed_modes",
            "medium" if tells else "low",
            len(samples) - int(counts.iloc[0]),
            message,
            tuple(f"{path}: {name}" for path, name in zip(rare, counts.index[::-1], strict=True))[
                :N_EXAMPLES
            ],
            tuple((path,) for path in samples["path"][mode != counts.index[0]]),
            {"counts": {str(k): int(n) for k, n in counts.items()}, "cramers_v": round(link, 3)},
        )
    ]


def _clear(mode: pd.Series, samples: pd.DataFrame) -> bool:
    """Tell whether classes differ between ways of storage beyond chance, by patient."""
    clusters = _patients(samples)
    pairs = [(way, name) for way in mode.unique() for name in samples["label"].unique()]
    return any(
        len(pairs)
        * change_of_share(
            (samples["label"] == name).to_numpy(),
            clusters,
            (mode == way).to_numpy(),
            (mode != way).to_numpy(),
        )
        <= CLEAR
        for way, name in pairs
    )


def _association(one: pd.Series, other: pd.Series) -> float:
    """Return Cramér's V, corrected for chance (Bergsma 2013); 0 for no association."""
    table = pd.crosstab(one, other).to_numpy(float)
    n, (rows, columns) = table.sum(), table.shape
    if min(rows, columns) < 2 or n < 2:
        return 0.0
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / n
    phi = (np.square(table - expected) / expected).sum() / n
    phi = max(0.0, phi - (rows - 1) * (columns - 1) / (n - 1))
    rows_left, columns_left = (k - (k - 1) ** 2 / (n - 1) for k in (rows, columns))
    return math.sqrt(phi / max(1e-9, min(rows_left - 1, columns_left - 1)))


def find_few_patients(samples: pd.DataFrame, *, in_folds: bool) -> list[Finding]:
    """Say how wide intervals will be with the test patients there are, or would be.

    Parameters
    ----------
    in_folds : bool
        Cross-validation holds each patient out once, but for those of a given test split.
    """
    found = _test_patients(samples, in_folds)
    if found is None:
        return []
    counts, n_all = found
    name, n = str(counts.idxmin()), max(1.0, float(counts.min()))
    low, high = wilson(EXPECTED, n, Z)
    if high - low <= WIDTH_WANTED:
        return []
    area = 2 * Z * hanley_mcneil(EXPECTED, n, max(1.0, n_all - n))
    counted = "patients" if (samples["patient"] != "").any() else "images"
    return [
        Finding(
            "few_patients",
            "medium" if high - low > WIDTH_BAD else "low",
            round(n),
            f"{_tested_on(samples, in_folds)} {n:.0f} {counted} of class '{name}': a sensitivity "
            f"of {EXPECTED:.0%} would have a 95 % interval from {low:.0%} to {high:.0%}, "
            f"and an AUROC of {EXPECTED} one {min(1.0, area):.2f} wide. For a width of "
            f"{WIDTH_WANTED} it takes about {_patients_needed()} {counted} of each class"
            + (
                ". Gather more."
                if in_folds
                else " in the test split. Gather more, or use cross-validation (--folds 5), which "
                f"tests on all {counted}."
            ),
            (),
            (),
            {
                "class": name, "n_patients": round(n, 1), "ci_low": round(low, 3),
                "ci_high": round(high, 3), "auroc_width": round(min(1.0, area), 3),
                "needed": _patients_needed(),
            },
        )
    ]  # fmt: skip


def _tested_on(samples: pd.DataFrame, in_folds: bool) -> str:
    if in_folds:
        return "Cross-validation tests on"
    given = (samples["given_split"] == "test").any()
    return f"The test split {'has' if given else 'drawn from these data would have'} about"


def _test_patients(samples: pd.DataFrame, in_folds: bool) -> tuple[pd.Series, float] | None:
    """Count the test patients, there or to be drawn, by class and in all; None of one class."""
    given = samples["given_split"] == "test"
    if in_folds:
        test, share = samples[~given], 1.0
    else:
        test, share = (samples[given], 1.0) if given.any() else (samples, DRAWN_TEST_SHARE)
    own = patient_of_each(test)
    counts = own.groupby(test["label"]).nunique() * share
    if len(counts) < 2:
        return None
    return counts, own.nunique() * share


def hanley_mcneil(auroc: float, n_positive: float, n_negative: float) -> float:
    """Return the standard error of an AUROC.

    References
    ----------
    Hanley and McNeil, The meaning and use of the area under a ROC curve, Radiology 143, 1982.
    """
    same_positive, same_negative = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    variance = auroc * (1 - auroc)
    variance += (n_positive - 1) * (same_positive - auroc**2)
    variance += (n_negative - 1) * (same_negative - auroc**2)
    return math.sqrt(variance / (n_positive * n_negative))


def _patients_needed() -> int:
    return next(n for n in range(1, 10_000) if np.diff(wilson(EXPECTED, n, Z))[0] <= WIDTH_WANTED)


def find_blank(samples: pd.DataFrame, looks: NDArray[np.uint8]) -> list[Finding]:
    """Find images of one value, or nearly so."""
    flat = (samples["low"] == samples["high"]).to_numpy(bool, copy=True)
    for start in range(0, len(looks), 4096):
        part = looks[start : start + 4096].reshape(-1, looks.shape[1] * looks.shape[2])
        flat[start : start + 4096] |= part.std(axis=1, dtype=np.float32) < BLANK_DEVIATION
    rows = samples[flat]
    if rows.empty:
        return []
    return [
        Finding(
            "blank",
            "medium",
            len(rows),
            f"{number_of(len(rows), 'image')} of {len(samples):,} "
            f"{'shows' if len(rows) == 1 else 'show'} nothing: all pixels have nearly one value. "
            "The class cannot be seen in them, yet they count in training and in figures. Export "
            "them again, or leave them out.",
            tuple(f"{row.path}: '{row.label}'" for row in rows.head(N_EXAMPLES).itertuples()),
            tuple((path,) for path in rows["path"]),
        )
    ]


def not_looked_for(samples: pd.DataFrame, *, in_folds: bool) -> dict[str, str]:
    """Say which checks of the table have nothing to look at in these samples, and why."""
    why: dict[str, str] = {}
    given = set(samples["given_split"].astype(str)) - {""}
    if not (samples["patient"] != "").any():
        why["patients_across_splits"] = "no patient is known"
    elif len(given) < 2:
        why["patients_across_splits"] = "there are no given splits to compare"
    if not {"train", "test"} <= given:
        why["prevalence_shift"] = NO_TRAIN_AND_TEST
    if not (samples["format"].astype(str).str.upper() == "DICOM").any():
        why["burned_in"] = "no file is DICOM"
    if _test_patients(samples, in_folds) is None:
        why["few_patients"] = "there are not two classes to test"
    return why


Checks = tuple[Callable[[pd.DataFrame], list[Finding]], ...]

BASIC_CHECKS: Checks = (
    *(_exact_duplicates, _contradictory_labels, _patients_across_splits),
    *(_patients_in_several_classes, _prevalence_shift, find_small_classes, _burned_in),
    *(_extreme_sizes, find_mixed_modes),
)
"""Each looks at the readable samples."""

CHECKS_OF_FILES: Checks = (_exact_duplicates, _patients_across_splits, _burned_in, _extreme_sizes)
"""Those that ask for no label."""

CHECKS_OF_CLASSES: Checks = (_contradictory_labels, _prevalence_shift)
"""Those that several labels an image are given to one by one."""
