"""Cross-validation: every patient held out once, by a network that never saw that patient.

Each fold is a complete run in a folder of its own. Its held-out patients stand for the test split;
calibration, threshold and any choice of the epoch come from a validation part of its other
patients. What is pooled here was decided in the folds, each image at the threshold of its own fold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hilum.dataset import Dataset
from hilum.evaluation import measure_decisions, now
from hilum.files import read_json, write_csv, write_json
from hilum.inference import load
from hilum.patient_figures import measure_patients, pool_predictions
from hilum.progress import Progress
from hilum.records import (
    Run,
    as_written,
    count_classes,
    data_facts,
    load_prepared,
    open_run,
    read_back,
)
from hilum.settings import Settings
from hilum.splits import (
    MIN_VAL_GROUPS,
    MIN_VAL_PER_CLASS,
    OUT_OF_FOLD,
    SPLITS,
    assign,
    check_strata,
    drawn_share,
    fold_name,
    make_strata,
)
from hilum.studies import describe_study, study_predictions
from hilum.targets import TargetKind

SPREAD_OF = (
    *("auroc", "sensitivity", "specificity", "balanced_accuracy", "accuracy"),
    *("average_precision", "precision", "f1", "brier", "ece"),
    *("quadratic_kappa", "mean_absolute_error", "ranked_probability_score", "exact_match"),
)  # fmt: skip
"""Figures whose spread over the folds is given, of those that the kind of target has."""

COPIED = (
    *("hilum", "command", "request", "class_names", "positive_class", "positive_reason"),
    *("target_kind", "patients", "findings", "looked_for", "not_looked_for", "clues"),
    *("pretrained", "fingerprint", "resolution", "seed", "hardware", "versions"),
)  # fmt: skip
"""Facts of run.json that the run of a fold shares with the whole."""


def work_folds(run: Run, work: Callable[[Run], None], progress: Progress) -> None:
    """Train and evaluate each fold that is not finished, then pool what they held out.

    Parameters
    ----------
    run : Run
        Prepared for cross-validation.
    work : function
        Trains and evaluates a prepared run, or goes on with it.
    """
    from hilum.report import write_report

    assert run.n_folds is not None
    dataset, samples, settings = load_prepared(run)
    for fold in range(1, run.n_folds + 1):
        folder = run.folder / fold_name(fold)
        begun = (folder / "run.json").exists()
        one = open_run(folder) if begun else _begin_fold(run, fold, dataset, samples, settings)
        if one.facts["status"] != "finished":
            progress.say(f"Fold {fold} of {run.n_folds}, in {folder}")
            work(one)
        elif not (folder / "report.html").exists():
            write_report(folder)  # all else is done: its test split is not opened again
    _pool(run, dataset, samples)


def _begin_fold(
    run: Run, fold: int, dataset: Dataset, samples: pd.DataFrame, settings: Settings
) -> Run:
    """Write the folder of a fold's run; run.json last, so that a folder that has it is whole."""
    assert run.n_folds is not None
    rows = fold_samples(samples, fold, settings, dataset.class_names)
    folder = run.folder / fold_name(fold)
    write_csv(folder / "samples.csv", as_written(rows))
    write_json(folder / "plan.json", read_json(run.folder / "plan.json"))
    one = Run(folder)
    request = run.facts["request"]
    whole = {name: run.facts.get(name) for name in COPIED}
    known = dataset.patients.n_patients is not None
    held_out = "its patients were" if known else "it was"
    others = rows["split"][rows["split"].isin(["train", "val"])]
    is_val = (others == "val").to_numpy(bool)
    share = drawn_share(is_val, settings.val_share, of="other samples")
    one.save(
        **whole | {"request": request | {"options": request["options"] | {"folds": None}}},
        status="prepared",
        started=now(),
        finished=None,
        elapsed_s=0.0,
        fold={"fold": fold, "n_folds": run.n_folds},
        data=data_facts(dataset, rows),
        splits={
            "source": "drawn",
            "reasons": [
                f"Fold {fold} of {run.n_folds} of a cross-validation: {held_out} held out, "
                "to be the test split here.",
                f"{share}{', whole patients,' if known else ''} were drawn for validation.",
            ],
            "overlap": None,
            "allowed_overlap": False,
            "counts": {name: count_classes(rows, name, dataset) for name in SPLITS},
        },
    )
    return one


def fold_samples(
    samples: pd.DataFrame, fold: int, settings: Settings, class_names: Sequence[str]
) -> pd.DataFrame:
    """Return the samples as one fold's run sees them.

    Parameters
    ----------
    samples : DataFrame
        Of the whole, with the columns `fold` and `split`.
    fold : int
        The one to hold out, counted from 1.

    Returns
    -------
    DataFrame
        Without the rows of a sealed test split. Those of the fold are in 'test', the others in
        'train' and 'val', groups whole.

    Raises
    ------
    DataError
        If a class is missing from training or validation.
    """
    rows = samples[samples["excluded"] | (samples["split"] == OUT_OF_FOLD)].copy()
    held_out = rows["fold"] == str(fold)
    others = rows[~rows["excluded"] & ~held_out]
    rows.loc[held_out, "split"] = "test"
    rows.loc[others.index, "split"] = assign(
        make_strata(others, class_names, settings.target),
        list(others["group"]),
        {"train": 1 - settings.val_share, "val": settings.val_share},
        seed=settings.seed + fold,
    )
    used = rows[~rows["excluded"]]
    check_strata(make_strata(used, class_names, settings.target), used["split"].to_numpy(str))
    return rows.drop(columns="fold")


def check_folds(
    samples: pd.DataFrame, settings: Settings, n_folds: int, class_names: Sequence[str]
) -> str | None:
    """Say what is weak about the validation parts that the folds will have, before any trains.

    Parameters are those of `fold_samples`.

    Returns
    -------
    str or None
        A sentence, where a class has few images or patients to choose a threshold by.

    Raises
    ------
    DataError
        If a class is missing from training or validation of a fold.
    """
    known = (samples["patient"] != "").any()
    counts: dict[str, list[tuple[int, int]]] = {}
    for fold in range(1, n_folds + 1):
        rows = fold_samples(samples, fold, settings, class_names)
        val = rows[rows["split"] == "val"]
        strata = make_strata(val, class_names, settings.target)
        for name, has in zip(strata.names, strata.has.T, strict=True):
            part = val[has]
            counts.setdefault(name, []).append((len(part), part["group"].nunique()))
    few = [
        f"'{name}' with {_range([n for n, _ in pairs])} images"
        + (f" of {_range([n for _, n in pairs])} patients" if known else "")
        for name, pairs in counts.items()
        if min(n for n, _ in pairs) < MIN_VAL_PER_CLASS or min(n for _, n in pairs) < MIN_VAL_GROUPS
    ]
    if not few:
        return None
    return (
        "Each fold has little to calibrate and to choose thresholds by: in validation "
        f"{' and '.join(few)}, where {MIN_VAL_PER_CLASS} images of {MIN_VAL_GROUPS} patients are "
        "the least to rely on. Sensitivity and specificity may stray from fold to fold by that "
        "alone. Gather more patients, or pass --set val_share=0.3."
    )


def _range(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low}" if low == high else f"{low} to {high}"


# -- what the folds held out -----------------------------------------------------------------------


def _pool(run: Run, dataset: Dataset, samples: pd.DataFrame) -> None:
    """Write predictions.csv and metrics.json of the whole."""
    assert run.n_folds is not None
    folders = {fold: run.folder / fold_name(fold) for fold in range(1, run.n_folds + 1)}
    tables = [_held_out(folder, fold) for fold, folder in folders.items()]
    predictions = pd.concat(tables, ignore_index=True)
    rows = samples.set_index("path", drop=False).loc[predictions["path"]]
    models = [load(folder) for folder in folders.values()]
    assert sorted(predictions["path"]) == sorted(
        samples["path"][samples["split"] == OUT_OF_FOLD]
    ), "every image is held out once"
    write_csv(run.folder / "predictions.csv", predictions)
    by_patient = [
        pool_predictions(table, model.facts)
        for table, model in zip(tables, models, strict=True)
        if model.facts.patient_pooling is not None
    ]
    if by_patient:
        write_csv(run.folder / "patients.csv", pd.concat(by_patient, ignore_index=True))
    folds = [
        {"fold": fold} | read_json(folder / "metrics.json")["test"]
        for fold, folder in folders.items()
    ]
    metrics = {
        "class_names": list(dataset.class_names),
        "positive_class": run.facts["positive_class"],
        OUT_OF_FOLD: measure_pooled(
            predictions,
            rows.drop(columns="fold"),
            dataset.class_names,
            run.facts["positive_class"],
            patients_known=dataset.patients.n_patients is not None,
            target=models[0].facts.target,
        )
        | measure_patients(
            [(table, model.facts) for table, model in zip(tables, models, strict=True)],
            list(rows["group"]),
            patients_known=dataset.patients.n_patients is not None,
        )
        | measure_decisions(list(zip(tables, models, strict=True)), list(rows["group"])),
        "folds": folds,
        "spread": {
            name: _spread([fold[name]["value"] for fold in folds])
            for name in SPREAD_OF
            if name in folds[0]
        },
    }
    write_json(run.folder / "metrics.json", metrics)


def _held_out(folder: Path, fold: int) -> pd.DataFrame:
    """Return the test rows of a fold's predictions.csv, marked with the fold."""
    table: pd.DataFrame = read_back(folder / "predictions.csv")
    table = table[table["split"] == "test"].assign(split=OUT_OF_FOLD)
    table.insert(list(table.columns).index("split") + 1, "fold", str(fold))
    return table


def measure_pooled(
    predictions: pd.DataFrame,
    rows: pd.DataFrame,
    class_names: tuple[str, ...],
    positive_class: str | None,
    *,
    patients_known: bool,
    target: TargetKind = "classes",
) -> dict[str, Any]:
    """Compute the figures of all out-of-fold predictions together.

    Parameters
    ----------
    predictions : DataFrame
        Rows of predictions.csv; `predicted` was decided at the threshold of each row's fold.
    rows : DataFrame
        What samples.csv holds of each, in the same order: `group`, and columns for subgroups.

    Returns
    -------
    dict
        As for one split; `threshold` is null, since each fold has its own.
    """
    study = study_predictions(
        predictions,
        class_names,
        target,
        positive=None if positive_class is None else class_names.index(positive_class),
        groups=rows["group"].to_numpy(str),
        patients_known=patients_known,
    )
    return describe_study(study, None, columns=rows)


def _spread(values: list[float | None]) -> dict[str, Any]:
    """Say how a figure varies over the folds; folds that lack it are not counted."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        empty = dict.fromkeys(("mean", "sd", "lowest", "highest"))
        return {**empty, "n_folds": len(known), "reason": "fewer than two folds have this figure"}
    return {
        "mean": float(np.mean(known)),
        "sd": float(np.std(known, ddof=1)),
        "lowest": min(known),
        "highest": max(known),
        "n_folds": len(known),
    }
