"""Patient-level stratified splits and folds.

The same seed gives the same split on every machine: patients are put in order by a hash of seed
and name, not by a random generator whose stream may change with a library.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hilum.errors import DataError, PatientOverlapError, SettingError
from hilum.names import quoted
from hilum.targets import TargetKind, truths

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "val", "test")
OUT_OF_FOLD = "oof"
"""Split of what cross-validation holds out once."""

# A validation split given with the data is believed when its rarest class has this many images:
# with 20, the 95 % interval of a sensitivity of 0.9 already spans 0.70 to 0.97 (Wilson).
MIN_VAL_PER_CLASS = 20

MIN_VAL_GROUPS = 5
"""Patients of a class in validation; with fewer, one odd patient moves the threshold."""

MIN_FOLD_GROUPS = 3

FAR_OFF = 0.05
"""Difference of a drawn share from the wanted one that is told: of few patients it may be large."""


@dataclass(frozen=True)
class Split:
    """Which split each sample is in, and why.

    Attributes
    ----------
    names : str array of shape (n_samples,)
        'train', 'val' or 'test'; for cross-validation 'oof' (out of fold) or 'test'.
    source : str
        'given' with the data, 'drawn' here, or 'mixed'.
    reasons : tuple of str
        One sentence for each choice.
    overlap : dict or None
        Patients in more than one split ('n_patients', 'examples'), where that was allowed.
    folds : int array of shape (n_samples,) or None
        For cross-validation: 1 to the number of folds; 0 in a sealed test split.
    """

    names: NDArray[np.str_]
    source: Literal["given", "drawn", "mixed"]
    reasons: tuple[str, ...]
    overlap: dict[str, Any] | None = None
    folds: NDArray[np.int_] | None = None


@dataclass(frozen=True)
class Strata:
    """What every split must have its share of, where an image may be of several.

    Attributes
    ----------
    names : tuple of str
        For several labels an image: each label, and its absence.
    has : bool array of shape (n_samples, n_strata)
    """

    names: tuple[str, ...]
    has: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.has)

    def of(self, rows: NDArray[Any]) -> Strata:
        return Strata(self.names, self.has[rows])

    def absent(self, rows: NDArray[np.bool_]) -> list[str]:
        """Name what some image has and none of these."""
        missing = np.asarray(self.has.any(axis=0) & ~self.has[rows].any(axis=0))
        return [name for name, lacks in zip(self.names, missing, strict=True) if lacks]


@dataclass(frozen=True)
class ClassStrata(Strata):
    """Classes: every image is of one."""


@dataclass(frozen=True)
class LabelStrata(Strata):
    """Labels and their absence, by turns; an image of which a label is unknown has neither."""


def class_strata(labels: Sequence[str]) -> ClassStrata:
    """Take classes as strata, in alphabetical order."""
    names, index = np.unique(np.asarray(labels), return_inverse=True)
    has = np.zeros((len(index), len(names)), dtype=bool)
    has[np.arange(len(index)), index] = True
    return ClassStrata(tuple(map(str, names)), has)


def label_strata(truth: NDArray[np.floating], label_names: Sequence[str]) -> LabelStrata:
    """Take labels (0, 1 or NaN, of shape (n_samples, n_labels)) as strata."""
    names = tuple(text for name in label_names for text in (name, f"no {name}"))
    has = np.stack([truth == 1, truth == 0], axis=2).reshape(len(truth), -1)
    return LabelStrata(names, has)


def make_strata(samples: pd.DataFrame, names: Sequence[str], target: TargetKind) -> Strata:
    """Take what the samples are labelled with as strata."""
    if target == "multilabel":
        return label_strata(truths(samples, names, target), names)
    return class_strata(list(samples["label"]))


def _as_strata(labels: Sequence[str] | Strata) -> Strata:
    return labels if isinstance(labels, Strata) else class_strata(labels)


def assign(
    labels: Sequence[str] | Strata, groups: Sequence[str], shares: dict[str, float], *, seed: int
) -> NDArray[np.str_]:
    """Share out whole groups so that every part has its share of every class.

    Parameters
    ----------
    labels, groups : sequences of length n_samples
        Class (or strata, for several labels an image) and group (patient) of each sample.
    shares : dict
        Wanted share of the samples by part, adding up to 1.
    seed : int

    Returns
    -------
    str array of shape (n_samples,)
        The part of each sample. A group is in one part.

    Notes
    -----
    Groups are taken in the order of their rarest class, then largest first, then by hash; each
    goes to the part that lacks the greatest fraction of what the group brings, among those that
    have room for it (after Sechidis et al., On the stratification of multi-label data, 2011).
    Fractions, not numbers, so that patients with many images are spread over all parts too. Where
    a part would come out without a class that has groups enough for all parts, each part first gets
    one of every such class as far as that goes, if it then lacks fewer.
    """
    if not len(labels):
        return np.empty(0, dtype=np.str_)
    has = _as_strata(labels).has
    has = has[:, has.any(axis=0)]
    group_names, group_index = np.unique(np.asarray(groups), return_inverse=True)
    counts = np.zeros((len(group_names), has.shape[1]))
    rows, strata = np.nonzero(has)
    np.add.at(counts, (group_index[rows], strata), 1)
    sizes = np.bincount(group_index).astype(float)
    totals = counts.sum(axis=0)
    parts = list(shares)
    order = _order(group_names, counts, sizes, totals, seed)
    share = np.array([shares[part] for part in parts])
    chosen = _share_out(order, counts, sizes, share, {})
    if any(_lacking(chosen, counts, share)):
        # Where a part has room for few groups, the first of them may all be of one class.
        first = _one_of_each(order, counts, sizes, share)
        again = _share_out(order, counts, sizes, share, first)
        chosen = min(chosen, again, key=lambda each: _lacking(each, counts, share))
    return np.asarray(parts)[chosen[group_index]]


def _share_out(
    order: Sequence[int],
    counts: NDArray[np.float64],
    sizes: NDArray[np.float64],
    share: NDArray[np.float64],
    given: dict[int, int],
) -> NDArray[np.intp]:
    """Give each group its part: those that are given, and then the others in order."""
    totals = counts.sum(axis=0)
    wanted = share[:, None] * totals  # (parts, strata)
    lacking, space = wanted.copy(), share * sizes.sum()
    chosen = np.empty(len(counts), dtype=np.intp)
    for group in [*given, *(group for group in order if group not in given)]:
        part = given.get(group)
        if part is None:
            # Weighing a class by its rarity keeps a rare class from drowning in a common one.
            need = (lacking / wanted * counts[group] / totals).sum(axis=1)
            room = space - sizes[group]
            # Rounded, since the last bits of a float sum may differ between machines.
            part = max(
                range(len(share)),
                key=lambda i: (round(float(room[i]), 6) > -0.5, round(float(need[i]), 9), -i),
            )
        chosen[group] = part
        lacking[part] -= counts[group]
        space[part] -= sizes[group]
    return chosen


def _lacking(
    chosen: NDArray[np.intp], counts: NDArray[np.float64], share: NDArray[np.float64]
) -> tuple[int, int]:
    """Count the classes with a group for every part that the largest part lacks, and all parts."""
    has = counts > 0
    enough = has.sum(axis=0) >= len(share)
    lacks = [int((~has[chosen == part].any(axis=0) & enough).sum()) for part in range(len(share))]
    return lacks[int(share.argmax())], sum(lacks)


def _one_of_each(
    order: Sequence[int],
    counts: NDArray[np.float64],
    sizes: NDArray[np.float64],
    share: NDArray[np.float64],
) -> dict[int, int]:
    """Give each part a group of each class that has enough, small ones to the smallest part.

    Classes of few groups go first, for others have more to choose from.
    """
    has = counts > 0
    smallest = sorted(order, key=lambda group: sizes[group])  # stable: equal ones as by hash
    given: dict[int, int] = {}
    for k in np.argsort(has.sum(axis=0), kind="stable"):
        if has[:, k].sum() < len(share):
            continue
        for part in np.argsort(share, kind="stable"):
            if any(has[group, k] for group, owner in given.items() if owner == part):
                continue
            free = next((g for g in smallest if has[g, k] and g not in given), None)
            if free is not None:
                given[free] = int(part)
    return given


def _order(
    group_names: NDArray[np.str_],
    counts: NDArray[np.float64],
    sizes: NDArray[np.float64],
    totals: NDArray[np.float64],
    seed: int,
) -> list[int]:
    rarest = np.where(counts > 0, totals, np.inf).min(axis=1, initial=np.inf)
    keys = [hashlib.sha256(f"{seed}:{name}".encode()).digest() for name in group_names]
    return sorted(range(len(group_names)), key=lambda i: (rarest[i], -sizes[i], keys[i]))


def folds(
    labels: Sequence[str] | Strata, groups: Sequence[str], n_folds: int, *, seed: int
) -> NDArray[np.int_]:
    """Give each sample its fold, 0 to `n_folds` - 1, whole groups together, classes balanced."""
    shares = {str(fold): 1 / n_folds for fold in range(n_folds)}
    return assign(labels, groups, shares, seed=seed).astype(int)


def fold_name(fold: int) -> str:
    """Name the folder of a fold's run inside that of the cross-validation."""
    return f"fold-{fold}"


def join_groups(groups: Sequence[str], twins: Sequence[str]) -> list[str]:
    """Join groups that share a twin: patients with an identical file count as one patient.

    Parameters
    ----------
    groups, twins : sequences of length n_samples
        Group of each sample, and a key (a file's hash) that is equal for twins.

    Returns
    -------
    list of str
        For each sample the alphabetically first group of those joined to its own.
    """
    parent = {group: group for group in groups}

    def root(group: str) -> str:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    first: dict[str, str] = {}
    for group, twin in zip(groups, twins, strict=True):
        low, high = sorted((root(group), root(first.setdefault(twin, group))))
        parent[high] = low
    return [root(group) for group in groups]


def make_split(
    labels: Sequence[str] | Strata,
    groups: Sequence[str],
    given: Sequence[str],
    *,
    patients: Sequence[str],
    val_share: float = 0.15,
    test_share: float = 0.2,
    seed: int = 0,
    allow_overlap: bool = False,
) -> Split:
    """Keep the splits that came with the data where they can be used, and draw the rest.

    Parameters
    ----------
    labels, groups, given, patients : sequences of length n_samples
        Class (or strata, for several labels an image); group to keep together; 'train', 'val',
        'test' or '', which counts as train (tables of which some rows have it are refused before);
        patient or ''.
    val_share, test_share : float in (0, 1)
        Share of the samples outside test, and of all samples (or those apart from a validation
        split that is kept), where a split must be drawn.
    allow_overlap : bool
        Go on although given splits share patients.

    Raises
    ------
    PatientOverlapError
        If given splits share patients and that is not allowed.
    DataError
        If a class has no sample in training or validation, or too few patients for both and the
        test split, or a label has none in training.
    """
    names = np.asarray(given, dtype="<U5")
    strata, group_array = _as_strata(labels), np.asarray(groups)
    present = set(names)
    names[names == ""] = "train"
    known = any(patients)
    whole = "whole patients and " if known else ""
    reason = _why_draw_val(strata, names, val_share)
    if reason:
        # Drawn again below; what it shared with training does not matter then.
        names[names == "val"] = "train"
    overlap = find_overlap(patients, list(names))
    if overlap and not allow_overlap:
        raise PatientOverlapError(_overlap_message(overlap))
    reasons: list[str] = []
    n_val = int((names == "val").sum())
    if "test" in present:
        reasons.append("The test split that came with the data was kept and sealed.")
    else:
        apart = ~np.isin(group_array, group_array[names == "val"])
        if overlap or strata.absent(apart):
            # What validation shares with training would be missing from a test drawn beside it.
            apart[:] = True
        shares = {"rest": 1 - test_share, "test": test_share}
        test = assign(strata.of(apart), list(group_array[apart]), shares, seed=seed) == "test"
        names[np.flatnonzero(apart)[test]] = "test"
        of = "samples" if apart.all() else "samples apart from validation"
        reasons.append(
            f"There was no test split to keep: {drawn_share(test, test_share, of=of)}, {whole}"
            "every class in its share, were drawn and sealed."
        )
    absent = strata.absent(names == "test")
    if absent:
        classes = ", ".join(f"'{name}'" for name in absent)
        reasons.append(
            f"The test split holds no image of {classes}: figures that need it cannot be estimated."
        )
    # A test split drawn just now may have left too little of the one for validation.
    reason = reason or _why_draw_val(strata, names, val_share)
    if reason:
        rest = names != "test"
        names[rest] = assign(
            strata.of(rest), list(group_array[rest]), {"train": 1 - val_share, "val": val_share},
            seed=seed + 1,
        )  # fmt: skip
        _check_enough(
            strata, group_array, names, is_test_drawn="test" not in present, patients_known=known
        )
        share = drawn_share(names[rest] == "val", val_share, of="samples outside test")
        reasons.append(reason.format(share=f"{share}{', whole patients,' if known else ''}"))
    else:
        reasons.append(_kept_val(n_val, int((names == "val").sum())))
    reasons += check_strata(strata, names)
    kept = bool(present & {"val", "test"})
    drawn = "test" not in present or bool(reason)
    source: Literal["given", "drawn", "mixed"] = (
        "mixed" if kept and drawn else "given" if kept else "drawn"
    )
    return Split(names, source, tuple(reasons), find_overlap(patients, list(names)))


def _check_enough(
    strata: Strata,
    groups: NDArray[np.str_],
    names: NDArray[np.str_],
    *,
    is_test_drawn: bool,
    patients_known: bool,
) -> None:
    """Say how many patients are needed where a class has too few for what had to be drawn."""
    missing = {*strata.absent(names == "train"), *strata.absent(names == "val")}
    # Without a label in validation there is a run all the same.
    if not missing or not isinstance(strata, ClassStrata):
        return
    inside = np.ones(len(names), dtype=bool) if is_test_drawn else names != "test"
    counts = {
        name: len(np.unique(groups[inside & has]))
        for name, has in zip(strata.names, strata.has.T, strict=True)
    }
    needed = 3 if is_test_drawn else 2
    few = {name: n for name, n in counts.items() if 0 < n < needed}
    if missing.isdisjoint(few):
        return
    counted = "patients" if patients_known else "images"
    leave_out = " or leave such classes out" if len(counts) - len(few) >= 2 else ""
    raise DataError(
        f"There are too few {counted} to split{'' if is_test_drawn else ' outside test'}: "
        + ", ".join(f"{n} of class '{name}'" for name, n in list(few.items())[:5])
        + f"{', …' if len(few) > 5 else ''}. Each class needs {needed} at least, one to train on, "
        "one to choose the threshold by"
        + (", one to test on" if is_test_drawn else "")
        + f". Add {counted}{leave_out}."
    )


def make_folds(
    labels: Sequence[str] | Strata,
    groups: Sequence[str],
    given: Sequence[str],
    *,
    patients: Sequence[str],
    n_folds: int,
    seed: int = 0,
    allow_overlap: bool = False,
) -> Split:
    """Share out all samples outside a given test split, so that each is held out exactly once.

    Parameters are those of `make_split`; `n_folds` is at least 2.

    Raises
    ------
    SettingError
        If there are fewer than two folds.
    PatientOverlapError
        If the given test split shares patients with the rest and that is not allowed.
    DataError
        If a class comes from too few patients.
    """
    if n_folds < 2:
        raise SettingError(f"--folds {n_folds} is no cross-validation: give 2 or more, such as 5.")
    strata, group_array = _as_strata(labels), np.asarray(groups)
    names = np.where(np.asarray(given) == "test", "test", OUT_OF_FOLD)
    overlap = find_overlap(patients, list(names))
    if overlap and not allow_overlap:
        raise PatientOverlapError(_overlap_message(overlap))
    rest = names == OUT_OF_FOLD
    _check_folds(strata, group_array, rest, n_folds)
    found = np.zeros(len(names), dtype=int)
    found[rest] = 1 + folds(strata.of(rest), list(group_array[rest]), n_folds, seed=seed)
    served = (
        "No test split is kept apart: every image serves cross-validation."
        if rest.all()
        else "The test split that came with the data was kept sealed: no fold holds any of it."
    )
    whole = "whole patients and " if any(patients) else ""
    reason = f"{n_folds} folds were drawn, {whole}every class in its share; each is held out once."
    return Split(names, "drawn", (served, reason), overlap, found)


def _check_folds(
    strata: Strata, groups: NDArray[np.str_], rest: NDArray[np.bool_], n_folds: int
) -> None:
    """Have each class in every fold, and besides in training and in validation."""
    for name, has in zip(strata.names, strata.has.T, strict=True):
        n = len(np.unique(groups[rest & has]))
        if n < MIN_FOLD_GROUPS:
            raise DataError(
                f"The class '{name}' comes from {n} patient{'' if n == 1 else 's'} outside the "
                f"test split, and cross-validation needs {MIN_FOLD_GROUPS}: one to train on, one "
                "to choose the threshold by, one to hold out. Add patients or leave the class out."
            )
        if n < n_folds:
            raise DataError(
                f"--folds {n_folds}: the class '{name}' comes from {n} patients outside the test "
                f"split, too few to have one in each fold. Pass --folds {n} or fewer."
            )


def find_overlap(patients: Sequence[str], splits: Sequence[str]) -> dict[str, Any] | None:
    """Find patients that are in more than one split.

    Returns
    -------
    dict or None
        'n_patients', 'examples' (all their names, sorted) and 'splits' (which they share).
    """
    seen: dict[str, set[str]] = {}
    for patient, split in zip(patients, splits, strict=True):
        if patient and split:
            seen.setdefault(patient, set()).add(split)
    shared = {patient: where for patient, where in seen.items() if len(where) > 1}
    if not shared:
        return None
    where = sorted(set().union(*shared.values()), key=(*SPLITS, OUT_OF_FOLD).index)
    return {"n_patients": len(shared), "examples": sorted(shared), "splits": where}


def _overlap_message(overlap: dict[str, Any]) -> str:
    names = overlap["examples"]
    shown = ", ".join(names[:30]) + (f" and {len(names) - 30} more" if len(names) > 30 else "")
    splits = " and ".join(overlap["splits"]).replace(OUT_OF_FOLD, "the rest")
    number = "1 patient is" if len(names) == 1 else f"{len(names)} patients are"
    return (
        f"{number} in more than one split ({splits}): {shown}. Figures would be too good. "
        "Pass --new-split to draw a split by patient, or --allow-patient-overlap to train "
        "all the same; the report will say so."
    )


def drawn_share(is_drawn: NDArray[np.bool_], wanted: float, *, of: str = "samples") -> str:
    """Say in numbers how much was drawn, and why where that is far from what was wanted."""
    n, n_all = int(is_drawn.sum()), len(is_drawn)
    share = n / max(1, n_all)
    told = f"{share:.0%}"
    if abs(share - wanted) > FAR_OFF:
        told += (
            f" where {wanted:.0%} was wanted: what belongs together stays so, and every class is "
            "to be there"
        )
    return f"{n:,} of the {n_all:,} {of} ({told})"


def _why_draw_val(strata: Strata, names: NDArray[np.str_], val_share: float) -> str | None:
    """Say why validation is to be drawn, with room for the `share`; None where it is not."""
    val = strata.has[names == "val"]
    if not len(val):
        return "There was no validation split to keep: {share} were drawn."
    counts = strata.has[names != "test"].sum(axis=0)
    least = int(val.sum(axis=0)[counts > 0].min())
    could = float(val_share * counts[counts > 0].min())
    if least >= MIN_VAL_PER_CLASS or least >= could / 2:
        return None
    return (
        f"The validation split that came with the data has {len(val)} "
        f"image{'' if len(val) == 1 else 's'}, {least} of its rarest class: too few to choose a "
        "threshold by. It was merged into training, and {share} were drawn anew."
    )


def _kept_val(n_given: int, n_kept: int) -> str:
    if n_kept == n_given:
        return "The validation split that came with the data was kept."
    return (
        f"Of the validation split that came with the data {n_kept:,} of {n_given:,} images were "
        "kept: the others are sealed, with what belongs to them."
    )


def check_strata(strata: Strata, names: NDArray[np.str_]) -> list[str]:
    """Have every class in training and in validation; every label in training at least.

    Returns
    -------
    list of str
        What validation lacks, a sentence.

    Raises
    ------
    DataError
        If a class is missing from training or validation, or a label has no image in training with
        it or without it, or there is no label at all that validation can judge.
    """
    missing = {split: strata.absent(names == split) for split in ("train", "val")}
    if isinstance(strata, ClassStrata):
        for split, what in (("train", "learnt"), ("val", "given a threshold")):
            if missing[split]:
                raise DataError(
                    f"The class '{missing[split][0]}' has no image in the {split} split, so it "
                    f"cannot be {what}. Add images (from several patients) or leave the class out."
                )
        return []
    # A label whose every image was unreadable is in no split, and cannot be learnt all the same.
    unseen = ~strata.has[names == "train"].any(axis=0)
    missing["train"] = [name for name, lacks in zip(strata.names, unseen, strict=True) if lacks]
    if missing["train"]:
        raise DataError(
            f"No image of the train split is known to show '{missing['train'][0]}', so the label "
            "cannot be learnt. Add such images (from several patients) or leave the label out."
        )
    judged = strata.has[names == "val"].any(axis=0).reshape(-1, 2).all(axis=1)
    if not judged.any():
        raise DataError(
            "The validation split has no label that is known to be present in some of its images "
            "and absent from others, so no epoch and no threshold can be chosen. Add images (from "
            "several patients), or raise val_share."
        )
    if not missing["val"]:
        return []
    return [
        f"No validation image is known to show {quoted(missing['val'])}: the threshold of such a "
        "label stays at 0.5."
    ]
