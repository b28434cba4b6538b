"""Other data: the figures of a finished model on images from elsewhere, and what differs there.

Threshold and calibration stay as they were locked. The run's own test split is not opened: images
of the run, known by their hash, are not counted a second time.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.auditing.drift import describe, find_drift_between, judge
from hilum.columns import Columns, usual_columns
from hilum.dataset import Dataset, load_dataset
from hilum.errors import DataError, HilumError, RunError, SettingError, did_you_mean
from hilum.evaluation import measure, now, predict_split
from hilum.files import read_json, write_csv, write_json
from hilum.headers import add_header_columns
from hilum.inference import load
from hilum.looks import empty_looks, make_look
from hilum.names import quoted
from hilum.patient_figures import pool_predictions
from hilum.patients import patient_of_each
from hilum.preparation import DataOptions, check_unreadable, describe_data
from hilum.progress import Progress
from hilum.records import Run, data_facts, load_prepared
from hilum.scan import reading_notes, scan, unchanged_picture
from hilum.splits import join_groups
from hilum.subgroups import check_columns
from hilum.tables import SUFFIXES, read_table
from hilum.targets import label_columns, truths
from hilum.threads import in_threads
from hilum.utility import check_prevalences

SPLIT = "external"

MOST_LOOKS = 1000
"""Training images that other data are compared with."""


@dataclass(frozen=True)
class OtherData:
    """Data from elsewhere, and how they are to be taken.

    Attributes
    ----------
    data : path
    name : str or None
        What they are called in the report; the name of their file or folder by default.
    class_map : mapping
        Class of the data → class of the model, where the names differ.
    options : DataOptions
        How the data are to be read; what concerns splits is not used.
    skip_seen : bool
        Leave out patients with an image that the run holds, instead of refusing the data.
    """

    data: str | Path
    name: str | None = None
    class_map: Mapping[str, str] = field(default_factory=dict)
    options: DataOptions = field(default_factory=DataOptions)
    skip_seen: bool = False


def evaluate_on(
    run: Run,
    other: OtherData,
    *,
    prevalences: Sequence[float],
    subgroups: Sequence[str] | None,
    progress: Progress,
    command: Sequence[str],
) -> Path:
    """Evaluate the model of a finished run on other data.

    Returns
    -------
    Path
        external/NAME.json in the run folder; NAME.csv beside it holds the predictions.

    Raises
    ------
    DataError
        If classes do not match, files cannot be read, or the run holds some of the images.
    SettingError
        If a class of the map does not exist, or the name cannot name a file.
    RunError
        If the run holds figures of other data by this name.
    """
    check_prevalences(prevalences)  # before hours of reading and predicting
    data, options = other.data, other.options
    model = load(run.folder)
    several = model.facts.target == "multilabel"
    columns = options.columns
    if several:
        columns = _own_columns(Path(data), columns, model.class_names)
    chosen = _check_name(other.name or Path(data).resolve().stem)
    dataset = load_dataset(
        data,
        patient_pattern=options.patient_pattern,
        columns=columns,
        # Images of the ill alone have a sensitivity; what needs the others is null with a reason.
        min_classes=1,
        target="multilabel" if several else None,
    )
    if dataset.target_kind == "multilabel" and not several:
        raise DataError(
            f"{data} has several labels an image, and the model gives one class. Give one label an "
            "image."
        )
    match = match_labels if several else match_classes
    mapped = match(dataset.class_names, model.class_names, other.class_map, str(data))
    path = run.folder / "external" / f"{chosen}.json"
    _check_free(path, dataset)
    if options.dicom_columns:
        dataset = add_header_columns(dataset, progress)
    check_columns(dataset.table, subgroups or ())
    for line in describe_data(dataset):
        progress.say(line)
    scanned = scan(dataset, progress)
    samples = scanned.samples
    check_unreadable(samples, dataset, options)
    for line in reading_notes(samples):
        progress.say(line)
    samples["group"] = _groups(samples)
    samples = samples.assign(
        **map_labels(samples, dataset.class_names, mapped, model.class_names)
        if several
        else {"label": samples["label"].map(mapped)}
    )
    _, own, _ = load_prepared(run)
    seen = _find_seen(samples, own)
    if seen.any() and not other.skip_seen:
        raise DataError(_seen_message(samples[seen], own, str(data)))
    left_out = samples["group"].isin(set(samples["group"][seen])) & ~samples["excluded"]
    used = samples[~samples["excluded"] & ~left_out].assign(split=SPLIT)
    if used.empty:
        raise DataError(
            f"Every patient of {data} has an image in the run already ({int(seen.sum()):,} of "
            f"{len(samples):,} images). Give other data."
        )
    predictions = predict_split(model, dataset, used, SPLIT, progress)
    known = dataset.patients.n_patients is not None
    figures = measure(
        predictions,
        list(used["group"]),
        model,
        patients_known=known,
        columns=used,
        prevalences=prevalences,
        subgroups=subgroups,
    )
    shared = set(own["patient"]) & set(used["patient"]) - {""}
    found = {
        "name": chosen,
        "evaluated": now(),
        "command": shlex.join(command),
        "data": data_facts(dataset, samples),
        "patients": dataset.patients.to_dict(),
        "class_map": mapped,
        "not_matched": {
            "here": sorted(set(dataset.class_names) - set(mapped)),
            "in_model": sorted(set(model.class_names) - set(mapped.values())) if several else [],
        },
        "seen": {
            "n_images": int(seen.sum()),
            "n_left_out": int(left_out.sum()),
            "n_patients_of_equal_name": len(shared),
            "examples": sorted(shared)[:10],
        },
        "metrics": figures,
        "drift": compare_with_training(run, used, scanned.looks[used.index.to_numpy()], progress),
    }
    for line in notes(found):
        progress.say(line)
    write_csv(path.with_suffix(".csv"), predictions)
    if known and model.facts.patient_pooling is not None:
        by_patient = pool_predictions(predictions, model.facts)
        write_csv(path.with_name(f"{path.stem}-patients.csv"), by_patient)
    write_json(path, found)
    return path


def _own_columns(data: Path, columns: Columns | None, names: Sequence[str]) -> Columns | None:
    """Take the columns that bear the names of the model's labels, where none is named as label."""
    given = columns or Columns()
    if given.label or given.labels or data.suffix.lower() not in SUFFIXES or not data.is_file():
        return columns
    table = read_table(data)
    held = tuple(name for name in names if name in table.columns)
    if not held or usual_columns(table, "label"):
        return columns
    return replace(given, labels=held)


def _groups(samples: pd.DataFrame) -> list[str]:
    """Return the patient of each image, an image of its own where none is known."""
    # What cannot be read has no content to share.
    contents = samples["sha256"].where(~samples["excluded"], "#" + samples["path"])
    return join_groups(list(patient_of_each(samples)), list(contents))


def match_classes(
    theirs: Sequence[str], ours: Sequence[str], class_map: Mapping[str, str], source: str
) -> dict[str, str]:
    """Say which class of the model each class of the data is; nothing is guessed.

    Raises
    ------
    DataError
        If a class has no counterpart, with what to pass.
    SettingError
        If the map names a class that does not exist.
    """
    for other, own in class_map.items():
        if other not in theirs:
            raise SettingError(
                f"--map {other}={own}: {source} has no class '{other}'."
                f"{did_you_mean(other, theirs)} It holds {quoted(theirs)}."
            )
        if own not in ours:
            raise SettingError(
                f"--map {other}={own}: the model has no class '{own}'.{did_you_mean(own, ours)} "
                f"Its classes are {quoted(ours)}."
            )
    found = {other: class_map.get(other, other) for other in theirs}
    lost = [other for other, own in found.items() if own not in ours]
    if lost:
        folded = {own.casefold(): own for own in ours}
        pairs = [f"{other}={folded.get(other.casefold(), 'CLASS')}" for other in lost]
        maps = " ".join(f"--map {shlex.quote(pair)}" for pair in pairs)
        raise DataError(
            f"{source} holds {'the class' if len(lost) == 1 else 'the classes'} {quoted(lost)}, "
            f"and the model knows {quoted(ours)}. Say what they are to the model, if that is so, "
            f"by: {maps}"
        )
    return found


def match_labels(
    theirs: Sequence[str], ours: Sequence[str], label_map: Mapping[str, str], source: str
) -> dict[str, str]:
    """Say which label of the model each label of the data is, of those that both have.

    Raises
    ------
    DataError
        If none is in both, or one is but for its spelling.
    SettingError
        If the map names a label that does not exist.
    """
    shared = [name for name in theirs if name in ours or name in label_map]
    folded = {own.casefold() for own in ours}
    alike = [name for name in theirs if name not in shared and name.casefold() in folded]
    if alike or not shared:
        # Refused in the words for classes, which name what to pass.
        return match_classes(alike or theirs, ours, label_map, source)
    for name in label_map:
        if name not in theirs:
            return match_classes(theirs, ours, label_map, source)
    return match_classes(shared, ours, label_map, source)


def map_labels(
    samples: pd.DataFrame, theirs: Sequence[str], mapped: Mapping[str, str], ours: Sequence[str]
) -> dict[str, list[str]]:
    """Write the labels of the data as those of the model; what the data lack is unknown.

    Where two labels of the data are one of the model, it is there when either is.
    """
    given = truths(samples, theirs, "multilabel")
    wanted = np.full((len(samples), len(ours)), np.nan)
    for k, own in enumerate(ours):
        columns = given[:, [j for j, name in enumerate(theirs) if mapped.get(name) == own]]
        if columns.shape[1]:
            there = (columns == 1).any(axis=1)
            unknown = np.isnan(columns).any(axis=1) & ~there
            wanted[:, k] = np.where(unknown, np.nan, there)
    return label_columns(wanted, ours)


def notes(found: Mapping[str, Any]) -> list[str]:
    """Say in sentences what a reader of the figures must know."""
    seen, lines = found["seen"], []
    apart = found.get("not_matched") or {}
    if apart.get("here"):
        lines.append(f"Left aside, since the model does not know them: {quoted(apart['here'])}.")
    if apart.get("in_model"):
        lines.append(f"Not known of these images: {quoted(apart['in_model'])}.")
    if seen["n_left_out"]:
        lines.append(
            f"{seen['n_images']:,} images are in the run already; {seen['n_left_out']:,} images, "
            "all of those patients, were left out."
        )
    if seen["n_patients_of_equal_name"]:
        lines.append(
            f"{seen['n_patients_of_equal_name']:,} patients bear the name of a patient of the run "
            f"({', '.join(seen['examples'][:3])}). If they are the same people, the figures are "
            "too good."
        )
    drift = found["drift"].get("message")
    return [*lines, drift] if drift else lines


def _check_name(name: str) -> str:
    if not re.fullmatch(r"[^\W_][\w .-]*", name):
        raise SettingError(
            f"'{name}' cannot name the data in the report: begin with a letter or digit, and go on "
            "with letters, digits, space, '.', '-' or '_'. Pass --name."
        )
    return name


def _check_free(path: Path, dataset: Dataset) -> None:
    """Refuse to overwrite the figures of other data; the same data may be evaluated again."""
    if not path.exists():
        return
    there = read_json(path)["data"]["path"]
    if Path(there).resolve() != dataset.source.resolve():
        raise RunError(f"{path} holds the figures of {there}. Pass another name by --name.")


# -- what the run has seen -------------------------------------------------------------------------


def _find_seen(samples: pd.DataFrame, own: pd.DataFrame) -> pd.Series:
    """Mark readable images whose content the run holds, in whatever split."""
    hashes = set(own["sha256"][~own["excluded"]])
    return samples["sha256"].isin(hashes) & ~samples["excluded"]


def _seen_message(rows: pd.DataFrame, own: pd.DataFrame, source: str) -> str:
    splits = own.drop_duplicates("sha256").set_index("sha256")["split"]
    counts = splits[rows["sha256"]].value_counts()
    where = ", ".join(f"{n:,} in {split}" for split, n in counts.items())
    verb = "image is" if len(rows) == 1 else "images are"
    return (
        f"{len(rows):,} {verb} in both {source} and the run ({where}): "
        f"{quoted(list(rows['path']))}. Figures on them would not be those of other data. Remove "
        "them, or pass --skip-seen to leave out all images of their patients."
    )


# -- drift -----------------------------------------------------------------------------------------


def compare_with_training(
    run: Run, samples: pd.DataFrame, looks: NDArray[np.uint8], progress: Progress
) -> dict[str, Any]:
    """Say how other images differ from those trained on, with `message` for people.

    Training images are read again; where that cannot be, there is a reason instead.
    """
    try:
        dataset, own, _ = load_prepared(run)
        train = own[own["split"] == "train"]
        rows = np.unique(np.linspace(0, len(train) - 1, MOST_LOOKS).astype(int))
        train = train.iloc[rows]
        seen = empty_looks(len(train))

        def one(sample: tuple[str, str]) -> NDArray[np.uint8]:
            return make_look(unchanged_picture(dataset, *sample))

        pairs = list(zip(train["path"], train["sha256"], strict=True))
        with progress.task("Reading training images", len(pairs)) as task:
            for place, look in enumerate(in_threads(one, pairs)):
                seen[place] = look
                task.advance()
    except HilumError as error:
        return {"reason": f"The training images could not be read again: {error}"}
    found = find_drift_between(train, seen, samples, looks)
    if "reason" in found:
        return found | {
            "message": f"What differs from the training images is not known: {found['reason']}."
        }
    if judge(found) is None:
        return found | {
            "message": "No difference from the training images that would matter was found."
        }
    return found | {"message": describe(found, "the training data", "these data")}
