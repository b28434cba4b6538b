"""Numbers of a run: validation, the locked threshold, and the opening of the test split.

The test split is opened here and nowhere else, after the threshold is locked; each opening is
written down before the first test image is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.calls import Target
from hilum.conformal import describe_sets, prediction_sets
from hilum.dataset import Dataset
from hilum.errors import DataError
from hilum.files import append_line
from hilum.inference import Model, Prediction
from hilum.model import LockedPoint, ModelFacts
from hilum.patient_figures import measure_patients
from hilum.progress import Progress
from hilum.referral import LockedRules, choose_rules, describe_referral, lock_rules
from hilum.scan import unchanged_picture
from hilum.settings import Settings
from hilum.studies import describe_study, study_predictions
from hilum.targets import members, truths
from hilum.utility import check_prevalences

OPENINGS_FILE = "openings.jsonl"


def predict_split(
    model: Model, dataset: Dataset, samples: pd.DataFrame, split: str, progress: Progress
) -> pd.DataFrame:
    """Predict all samples of one split, by the same path as any later prediction.

    Parameters
    ----------
    samples : DataFrame
        With the columns path, sha256, patient, label, split.

    Returns
    -------
    DataFrame
        path, patient, split, label, (of several labels) unknown, predicted, a probability for each
        class, decision, prediction_set, reason.

    Raises
    ------
    DataError
        If a file has changed, or can no longer be read.
    """
    rows = samples[samples["split"] == split]
    openers = [
        (path, partial(unchanged_picture, dataset, path, digest))
        for path, digest in zip(rows["path"], rows["sha256"], strict=True)
    ]
    found: list[Prediction] = []
    with progress.task(f"Predicting {split}", len(rows)) as task:
        for prediction in model.predict_each(openers):
            if prediction.error:
                raise DataError(
                    f"{prediction.path} could be read before and cannot be now: "
                    f"{prediction.error}. Restore the file and resume."
                )
            found.append(prediction)
            task.advance()
    return as_table(model, rows, found)


def as_table(model: Model, rows: pd.DataFrame, found: Sequence[Prediction]) -> pd.DataFrame:
    """Lay out the predictions of these samples as `predict_split` does."""
    table = rows[["path", "patient", "split", "label"]].reset_index(drop=True)
    if model.facts.target == "multilabel":
        table["unknown"] = list(rows["unknown"])
    table["predicted"] = [prediction.predicted for prediction in found]
    for index, name in enumerate(model.class_names):
        table[f"p_{name}"] = [prediction.probabilities[index] for prediction in found]
    table["decision"] = [prediction.decision for prediction in found]
    table["prediction_set"] = [prediction.set_text for prediction in found]
    table["reason"] = [prediction.reason for prediction in found]
    return table


def lock_referral(
    y_true: NDArray[Any],
    probs: NDArray[np.float64],
    groups: Sequence[str],
    settings: Settings,
    *,
    target: Target,
    threshold: float | Sequence[float] | None,
    strangeness: NDArray[np.float64] | None,
    patients_known: bool,
) -> LockedRules:
    """Fix prediction sets and rules of referral on validation data, and seal them.

    Parameters
    ----------
    y_true : array
        As `targets.truths` returns it.
    probs : float array of shape (n_samples, n_classes)
    groups : sequence of str
        Patient of each sample.
    threshold : float, sequence of float or None
        Two classes: the threshold that is locked. Several labels: that of each.
    strangeness : float array of shape (n_samples,) or None
        Distance to the training images.
    patients_known : bool
        Without, reasons speak of images alone.
    """
    rules, reasons = choose_rules(
        y_true,
        probs,
        groups,
        target=target,
        threshold=threshold,
        strangeness=strangeness,
        patients_known=patients_known,
        set_coverage=settings.set_coverage,
        uncertain_share=settings.refer_uncertain,
        unlike_share=settings.refer_unlike,
    )
    return LockedRules(
        **rules.model_dump(), reasons=reasons, locked=now(), sha256=lock_rules(rules)
    )


def open_test(folder: Path, n: int, facts: ModelFacts, *, command: str) -> None:
    """Write down that the test split is opened, and by which locked rules, before it is."""
    purpose = "to report" if n_openings(folder) == 0 else "to report again"
    pooling, referral = facts.patient_pooling, facts.referral
    entry = {
        "when": now(),
        "command": command,
        "n": n,
        "purpose": purpose,
        "operating_point_sha256": _hashes(facts.operating_points or facts.operating_point),
        "pooling_sha256": pooling.sha256 if pooling else None,
        "patient_point_sha256": _hashes(facts.patient_points or facts.patient_point),
        "class_shares": facts.class_shares,
        "referral_sha256": referral.sha256 if referral else None,
    }
    append_line(folder / OPENINGS_FILE, json.dumps(entry, ensure_ascii=False))


def _hashes(
    points: Mapping[str, LockedPoint] | LockedPoint | None,
) -> dict[str, str] | str | None:
    """Return the seal of a threshold, or of that of each label."""
    if isinstance(points, Mapping):
        return {name: point.sha256 for name, point in points.items()}
    return points.sha256 if points else None


def n_openings(folder: Path) -> int:
    """Count how often the test split was opened."""
    path = folder / OPENINGS_FILE
    return len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0


def measure(
    predictions: pd.DataFrame,
    groups: Sequence[str],
    model: Model,
    *,
    patients_known: bool,
    columns: pd.DataFrame | None = None,
    prevalences: Sequence[float] = (),
    subgroups: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Compute the figures of one split, as metrics.json holds them.

    Parameters
    ----------
    predictions : DataFrame
        As `predict_split` returns it.
    groups : sequence of str
        Patient of each row, with patients joined that share an identical file or, in a run, a
        nearly identical one.
    patients_known : bool
        Without, `n_patients` is null, and what is said is of images; such files stay together in
        the intervals all the same.
    columns : DataFrame, optional
        What samples.csv holds of each row, for figures of subgroups.
    prevalences : sequence of float
        Prevalences to give predictive values and net benefit at, besides the usual ones.
    subgroups : sequence of str, optional
        Columns to part images by; without, those that suit.
    """
    facts = model.facts
    study = study_predictions(
        predictions,
        facts.class_names,
        facts.target,
        positive=facts.positive_index,
        groups=np.asarray(groups),
        patients_known=patients_known,
    )
    found = describe_study(
        study,
        facts.thresholds,
        check_prevalences(prevalences),
        columns=columns,
        subgroups=subgroups,
    )
    found |= measure_patients(
        [(predictions, model.facts)],
        groups,
        patients_known=patients_known,
        prevalences=check_prevalences(prevalences),
    )
    return found | measure_decisions([(predictions, model)], groups)


def measure_decisions(
    parts: Sequence[tuple[pd.DataFrame, Model]], groups: Sequence[str]
) -> dict[str, Any]:
    """Compute the figures of prediction sets and referral, by the rules that the models hold.

    Parameters
    ----------
    parts : sequence of (DataFrame, Model)
        Predictions, and the model that made them; several where folds are taken together.
    groups : sequence of str
        Patient of each row of all parts.

    Returns
    -------
    dict
        'conformal' where every model has prediction sets, 'referral' where every one has rules.
        An answer of several labels is right where every known label is; of an image without a known
        label it is neither right nor wrong.
    """
    rules = [model.facts.referral for _, model in parts]
    if any(each is None for each in rules):
        return {}
    facts = parts[0][1].facts
    names, positive = facts.class_names, facts.positive_index
    predictions = pd.concat([table for table, _ in parts])
    known = None
    if facts.target == "multilabel":
        truth = truths(predictions, names, "multilabel")
        called = members(predictions["predicted"], names)
        wrong = (called != (truth == 1)) & ~np.isnan(truth)
        y_true, called = np.zeros(len(wrong), dtype=np.intp), wrong.any(axis=1).astype(np.intp)
        known = ~np.isnan(truth).all(axis=1)
    else:
        y_true, called = (
            np.array([names.index(name) for name in predictions[column]])
            for column in ("label", "predicted")
        )
    sets = [_sets(table, model) for table, model in parts]
    whole = [each for each in sets if each is not None]
    margins = np.concatenate([_margins(table, model) for table, model in parts])
    coverage = rules[0].set_coverage if rules[0] else None
    found: dict[str, Any] = {}
    if len(whole) == len(parts) and coverage is not None:
        found["conformal"] = describe_sets(
            y_true, np.concatenate(whole), groups, class_names=list(names), coverage=coverage
        )
    found["referral"] = describe_referral(
        y_true,
        called,
        list(predictions["reason"]),
        margins,
        groups,
        positive=positive,
        known=known,
    )
    return found


def _probabilities(predictions: pd.DataFrame, model: Model) -> NDArray[np.float64]:
    return predictions[[f"p_{name}" for name in model.class_names]].to_numpy(dtype=float)


def _sets(predictions: pd.DataFrame, model: Model) -> NDArray[np.bool_] | None:
    rules = model.facts.referral
    if rules is None or rules.set_thresholds is None:
        return None
    return prediction_sets(_probabilities(predictions, model), rules.set_thresholds)


def _margins(predictions: pd.DataFrame, model: Model) -> NDArray[np.float64]:
    return model.facts.margins(_probabilities(predictions, model))


def figure_text(figure: dict[str, Any]) -> str:
    """Write a figure with its interval, or why it cannot be had, in one line."""
    if figure["value"] is None:
        return f"not estimable: {figure.get('reason', '')}"
    text = f"{figure['value']:.3f}"
    if 0 < figure["value"] < 1:
        # What is not perfect must not read so: sensitivity beside a missed case, say.
        text = {"1.000": ">0.999", "0.000": "<0.001"}.get(text, text)
    low, high = figure["ci_low"], figure["ci_high"]
    if low is None:
        return f"{text} (no interval: {figure.get('reason', '')})"
    return f"{text} (95 % CI {low:.3f} to {high:.3f})"


def now() -> str:
    """Return the time as ISO 8601, UTC, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")
