"""All that comes before training: read, check, split, plan. Only the cache is written to here."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hilum.auditing import Finding, Found, find_flaws
from hilum.backbones import check_backbone
from hilum.budget import DEFAULT_MINUTES, Budget, check_minutes
from hilum.columns import Columns
from hilum.dataset import Dataset, load_dataset
from hilum.errors import DataError, SettingError, did_you_mean
from hilum.fingerprint import take_fingerprint
from hilum.hardware import find_hardware
from hilum.headers import add_header_columns
from hilum.memory import exhausted_as
from hilum.names import quoted
from hilum.patients import patient_of_each
from hilum.planning import Plan, make_plan
from hilum.presets import load_preset
from hilum.pretrained import find_weights, read_tensors
from hilum.progress import LogProgress, Progress
from hilum.resolution import try_sides
from hilum.rules.start import choose_start
from hilum.scan import reading_notes, scan
from hilum.settings import Settings, make_settings, with_both_sides
from hilum.splits import OUT_OF_FOLD, Split, join_groups, make_folds, make_split, make_strata
from hilum.targets import TargetKind, truths

# Bare names for the absence of disease; the other of two classes is then the positive one.
HEALTHY = frozenset(
    (
        *("normal", "healthy", "negative", "neg", "no", "none", "control", "controls", "benign"),
        *("clear", "uninfected", "absent", "other", "others", "nofinding"),
    )
)

# Put before a class's name, or into it, they make the name of its absence.
NEGATIONS = ("no", "non", "not", "without")


TARGET_REASONS: dict[TargetKind, str] = {
    "classes": "Each image has one class; of grades in order say so with --target ordinal.",
    "ordinal": "Each image has a grade.",
    "multilabel": "The data have several labels an image.",
}


OPTION_TYPES: tuple[tuple[tuple[str, ...], tuple[type, ...], str], ...] = (
    (("classes",), (tuple, list), "a tuple of names"),
    (("positive", "patient_pattern", "target"), (str,), "a text"),
    (("columns",), (Columns,), "hilum.Columns"),
    (("new_split", "allow_patient_overlap"), (bool,), "True or False"),
    (("skip_unreadable", "dicom_columns"), (bool,), "True or False"),
    (("folds",), (int,), "a whole number"),
)
"""Options, the types that each may have, and these in words."""


@dataclass(frozen=True)
class DataOptions:
    """How data are to be read and split; what the user agreed to.

    Attributes
    ----------
    classes : tuple of str or None
        Order of the classes.
    positive : str or None
        For two classes, the one to be found.
    patient_pattern : str or None
        A regular expression with a group `patient`, searched in file names and then in paths, which
        goes before a column of patients. None tries the known ways of naming files.
    columns : Columns or None
        Names of a table's columns; None takes the usual ones.
    new_split : bool
        Leave the split that came with the data, and draw one.
    allow_patient_overlap : bool
        Train although patients are in more than one split; the report says so.
    skip_unreadable : bool
        Go on without files that cannot be read.
    dicom_columns : bool
        Take patients and metadata from DICOM headers, patients as pseudonyms.
    folds : int or None
        Cross-validate over this many folds instead of training once.
    target : str or None
        'classes', 'ordinal' or 'multilabel'; None takes what the data show.

    Raises
    ------
    SettingError
        If an option is of another type.
    """

    classes: tuple[str, ...] | None = None
    positive: str | None = None
    patient_pattern: str | None = None
    columns: Columns | None = None
    new_split: bool = False
    allow_patient_overlap: bool = False
    skip_unreadable: bool = False
    dicom_columns: bool = False
    folds: int | None = None
    target: TargetKind | None = None

    def __post_init__(self) -> None:
        for names, types, wanted in OPTION_TYPES:
            for name in names:
                value = getattr(self, name)
                is_left = value is None and bool not in types
                # A bool is an int to Python, and no number of folds.
                fits = isinstance(value, types) and isinstance(value, bool) == (bool in types)
                if not (is_left or fits):
                    raise SettingError(f"DataOptions: {name} is {value!r}. Give {wanted}.")
        if any(not isinstance(name, str) for name in self.classes or ()):
            raise SettingError(f"DataOptions: classes is {self.classes!r}. Give a tuple of names.")
        if self.target is not None and self.target not in TARGET_REASONS:
            raise SettingError(
                f"DataOptions: target is {self.target!r}. Give one of {quoted(TARGET_REASONS)}."
            )


def checked_options(options: DataOptions | None) -> DataOptions:
    """Return the options, or the defaults where there are none.

    Raises
    ------
    SettingError
        If they are something else.
    """
    if not isinstance(options, DataOptions | None):
        raise SettingError(f"options is {options!r}. Give hilum.DataOptions(…).")
    return options or DataOptions()


@dataclass(frozen=True)
class Prepared:
    """Data read, checked and split, with the plan made for them."""

    dataset: Dataset
    samples: pd.DataFrame
    split: Split
    found: Found
    plan: Plan
    positive: str | None
    positive_reason: str


def prepare(
    data: str | Path,
    *,
    recipe: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    minutes: float | None = None,
    options: DataOptions | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Do all that comes before training: read, check, split, plan.

    Only the cache is written to, with decoded pixels and with what was found of the images.

    Parameters
    ----------
    minutes : float, optional
        Time for the whole command, which begins here: the epochs that fit are planned. Without it
        the plan asks for what it needs, up to about 10 minutes.

    Raises
    ------
    DataError, SettingError
    """
    started = time.monotonic()
    options, progress = checked_options(options), progress or LogProgress()
    chosen = dict(settings or {})
    preset = load_preset(recipe) if recipe else None
    # So that a slip is told before the images are read; presets name all that they begin with.
    start = {name: value for name, (value, _) in choose_start(chosen).items()}
    said = (dict(preset.beside(chosen).values) if preset else start) | with_both_sides(chosen)
    given = make_settings(said)
    _check_start(given)
    check_minutes(minutes)
    hardware = find_hardware(given.accelerator)
    dataset = load_dataset(
        data,
        classes=options.classes,
        patient_pattern=options.patient_pattern,
        columns=options.columns,
        target=options.target or chosen.get("target") or _grades(said.get("target")),
    )
    if options.dicom_columns:
        dataset = add_header_columns(dataset, progress)
    by_user = options.target is not None or "target" in chosen
    _check_target(dataset.target_kind, said.get("target"), by_user=by_user)
    chosen["target"] = dataset.target_kind
    positive, positive_reason = choose_positive(
        dataset.class_names, options.positive, dataset.target_kind
    )
    for line in describe_data(dataset):
        progress.say(line)
    if positive is not None:
        progress.say(f"The class to be found is '{positive}': {positive_reason}")
    reading = time.monotonic()
    scanned = scan(dataset, progress)
    read_s = (time.monotonic() - reading) / max(1, len(dataset))
    samples = scanned.samples
    check_unreadable(samples, dataset, options)
    for line in reading_notes(samples):
        progress.say(line)
    # A split that is left aside has no flaws.
    checked = scanned.without_given_splits() if options.new_split else scanned
    found = find_flaws(dataset, checked, progress, in_folds=options.folds is not None)
    grouping = _group(samples, found.findings)
    split = _split(samples, given, options, dataset)
    if grouping and split.source != "given":
        split = replace(split, reasons=(*split.reasons, grouping))
    samples.loc[~samples["excluded"], "split"] = split.names
    if split.folds is not None:
        samples["fold"] = ""
        samples.loc[~samples["excluded"], "fold"] = [str(fold or "") for fold in split.folds]
    for reason in split.reasons:
        progress.say(reason)
    progress.say("Planning, which may time some training steps.")
    too_little = SettingError(
        f"There is too little memory for what planning tries on {hardware.name}. Ask for less: "
        "--set batch_size=…, or --set input_height=…."
    )
    # Where folds take turns, one plan is made of all that any of them may train on.
    facts = take_fingerprint(samples.replace({"split": {OUT_OF_FOLD: "train"}}), scanned.looks)
    with exhausted_as(too_little):
        plan = make_plan(
            facts,
            hardware,
            recipe=preset,
            chosen=chosen,
            budget=Budget(
                minutes=minutes or DEFAULT_MINUTES[hardware.device],
                is_given=minutes is not None,
                elapsed_s=time.monotonic() - started,
                read_s=read_s,
                n_test=int((samples["split"] == "test").sum()),
                n_folds=options.folds or 1,
            ),
            trial=None if options.folds else partial(try_sides, dataset, samples, progress),
        )
    if not by_user:
        reason = TARGET_REASONS[dataset.target_kind]
        plan = replace(plan, reasons=plan.reasons | {"target": reason})
    progress.say(plan.summary)
    return Prepared(dataset, samples, split, found, plan, positive, positive_reason)


def _grades(target: TargetKind | None) -> TargetKind | None:
    """Return the one kind of target that data do not tell, if it is that."""
    return target if target == "ordinal" else None


def _check_target(found: TargetKind, planned: TargetKind | None, *, by_user: bool) -> None:
    """Refuse a plan for another kind of target."""
    if planned not in (None, found) and not by_user:
        raise SettingError(
            f"The plan that is to be taken is for the target '{planned}', and these data have the "
            f"target '{found}'. Leave --recipe out, so that a plan is made for them."
        )


def _check_start(settings: Settings) -> None:
    """Refuse a backbone that is not there, or a file that holds no weights."""
    if settings.backbone is None:
        return
    check_backbone(settings.backbone)
    weights = find_weights(settings)
    if weights is not None:
        read_tensors(Path(weights.path))


def plan(
    data: str | Path,
    *,
    recipe: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    minutes: float | None = None,
    options: DataOptions | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Show the plan that `train` would follow on these data, with the reason of each setting.

    All that comes before training is done; only the cache is written to.

    Parameters
    ----------
    data : path
        A folder of class folders, the same under train, val, test, a table or an NPZ.
    recipe : str, optional
        A named recipe, or the folder of a run whose plan is to be taken as it is.
    settings : mapping, optional
        Settings that override recipe and plan, by name.
    minutes : float, optional
        Time for all of training, as `train` takes it.
    options : DataOptions, optional

    Returns
    -------
    Plan

    Raises
    ------
    DataError, SettingError
    """
    prepared = prepare(
        data,
        recipe=recipe,
        settings=settings,
        minutes=minutes,
        options=options,
        progress=progress,
    )
    return prepared.plan


def describe_data(dataset: Dataset) -> list[str]:
    """Say how the data were understood, so that a wrong guess is seen before it costs hours."""
    names, n = dataset.class_names, f"{len(dataset):,} images"
    match dataset.target_kind:
        case "classes":
            first = f"{n}, {len(names)} classes: {quoted(names)}."
        case "ordinal":
            first = f"{n}, {len(names)} grades in this order: {', '.join(names)}."
        case "multilabel":
            first = f"{n}, each with any of {len(names)} labels: {_counted(dataset)}."
    return [first, *dataset.notes, *dataset.patients.lines()]


def _counted(dataset: Dataset) -> str:
    """Say of how many images each label is known, and in how many it is present."""
    truth = truths(dataset.table, dataset.class_names, "multilabel")
    return ", ".join(
        f"'{name}' (in {int((column == 1).sum()):,} of {int((~np.isnan(column)).sum()):,} known)"
        for name, column in zip(dataset.class_names, truth.T, strict=True)
    )


def choose_positive(
    names: Sequence[str], wanted: str | None, target: TargetKind = "classes"
) -> tuple[str | None, str]:
    """Say which of two classes is the one to be found, and why.

    Raises
    ------
    SettingError
        If `wanted` is not one of them, or there are not two classes.
    """
    if target == "multilabel":
        if wanted is not None:
            raise SettingError(f"--positive {wanted}: of several labels each is to be found.")
        return None, "Several labels an image: each is to be found, at a threshold of its own."
    if target == "ordinal":
        if wanted is not None:
            raise SettingError(f"--positive {wanted}: of grades in order there is none.")
        return None, "Grades in order: the answer is the median grade."
    if len(names) != 2:
        if wanted is not None:
            raise SettingError(f"--positive {wanted}: with {len(names)} classes there is none.")
        return None, "More than two classes: each is held against the others."
    if wanted is not None:
        if wanted not in names:
            raise SettingError(
                f"--positive {wanted} is not one of the classes {quoted(names)}."
                f"{did_you_mean(wanted, names)}"
            )
        return wanted, "Chosen by the user."
    ill = [name for name in names if _bare(name) not in HEALTHY]
    if len(ill) != 1:
        ill = [name for name, other in (names, names[::-1]) if _negates(other, name)]
    if len(ill) == 1:
        other = names[1 - names.index(ill[0])]
        return ill[0], f"'{other}' names the absence of it. Choose with --positive."
    return names[1], "The second of the two by order. Choose with --positive."


def _negates(name: str, other: str) -> bool:
    """Tell whether a name is the other with a negation, as 'CT_NonCOVID' is of 'CT_COVID'."""
    negated, plain = _bare(name), _bare(other)
    return any(
        negated == plain[:place] + word + plain[place:]
        for word in NEGATIONS
        for place in range(len(plain) + 1)
    )


def _bare(name: str) -> str:
    """Leave letters and digits of a name, in one case."""
    return re.sub(r"[\W_]", "", name).casefold()


def check_unreadable(samples: pd.DataFrame, dataset: Dataset, options: DataOptions) -> None:
    """Go on without unreadable files only as the user agreed, and with every class.

    Raises
    ------
    DataError
    """
    bad = samples[samples["excluded"]]
    if len(bad) == len(samples):
        raise DataError(
            f"None of the {len(samples):,} files of {dataset.source} can be read. The first is "
            f"{bad['path'].iloc[0]}: {bad['reason'].iloc[0]}."
            + (" Paths are relative to the folder of the table." if dataset.kind == "table" else "")
        )
    if len(bad) and not options.skip_unreadable:
        number, them = ("1 file", "it") if len(bad) == 1 else (f"{len(bad):,} files", "them")
        first = "; ".join(
            f"{path}: {reason}"
            for path, reason in zip(bad["path"][:3], bad["reason"][:3], strict=True)
        )
        more = f"; and {len(bad) - 3:,} more" if len(bad) > 3 else ""
        raise DataError(
            f"{number} of {len(samples):,} in {dataset.source} cannot be read: {first}{more}. "
            f"Replace or remove {them}, or pass --skip-unreadable to go on without {them}."
        )
    if dataset.target_kind == "multilabel":
        return  # the split sees to it that each label can be learnt
    left = set(samples["label"][~samples["excluded"]])
    for name in dataset.class_names:
        if name not in left:
            raise DataError(
                f"The class '{name}' of {dataset.source} has no readable image. Replace its files, "
                "or remove the class."
            )


def _group(samples: pd.DataFrame, findings: Sequence[Finding]) -> str | None:
    """Add the column `group`, what must stay together; say what near duplicates changed in it."""
    samples["group"] = patient_of_each(samples)
    readable = samples[~samples["excluded"]]
    by_file = join_groups(list(readable["group"]), list(readable["sha256"]))
    clusters = [
        paths for each in findings if each.kind == "near_duplicates" for paths in each.paths
    ]
    cluster_of = {path: f"{n}" for n, paths in enumerate(clusters) for path in paths}
    # No path begins with a space, so that none is taken for a cluster.
    twins = [f" {cluster_of[path]}" if path in cluster_of else path for path in readable["path"]]
    joined = join_groups(by_file, twins)
    samples.loc[readable.index, "group"] = joined
    before, after = len(set(by_file)), len(set(joined))
    if before == after:
        return None
    return (
        f"Near duplicates were kept together: {before:,} patients (or images without one) became "
        f"{after:,} groups, named in samples.csv."
    )


def _split(
    samples: pd.DataFrame, settings: Settings, options: DataOptions, dataset: Dataset
) -> Split:
    """Split the readable samples by the column `group`."""
    readable = samples[~samples["excluded"]]
    strata = make_strata(readable, dataset.class_names, dataset.target_kind)
    given = [""] * len(readable) if options.new_split else list(readable["given_split"])
    if options.folds is not None:
        return make_folds(
            strata,
            list(readable["group"]),
            given,
            patients=list(readable["patient"]),
            n_folds=options.folds,
            seed=settings.seed,
            allow_overlap=options.allow_patient_overlap,
        )
    return make_split(
        strata,
        list(readable["group"]),
        given,
        patients=list(readable["patient"]),
        val_share=settings.val_share,
        test_share=settings.test_share,
        seed=settings.seed,
        allow_overlap=options.allow_patient_overlap,
    )
