"""Numbers of a run: validation, the locked threshold, and the opening of the test split.

The test split is opened here and nowhere else, after the threshold is locked; each opening is
written down before the first test image is read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hilum.calibration import choose_operating_point, lock
from hilum.dataset import Dataset
from hilum.errors import DataError
from hilum.estimates import describe
from hilum.files import append_line
from hilum.inference import Model, Prediction
from hilum.model import LockedPoint
from hilum.progress import Progress
from hilum.scan import unchanged_picture

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
        path, patient, split, label, predicted, then a probability for each class.

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
    table = rows[["path", "patient", "split", "label"]].reset_index(drop=True)
    table["predicted"] = [prediction.predicted for prediction in found]
    for index, name in enumerate(model.class_names):
        table[f"p_{name}"] = [prediction.probabilities[index] for prediction in found]
    return table


def lock_operating_point(
    labels: Sequence[str], positive_probs: Sequence[float], positive: str, rule: str
) -> LockedPoint:
    """Choose the threshold on validation data by a rule, and seal it with the time and a hash."""
    y_true = (np.asarray(labels) == positive).astype(int)
    point = choose_operating_point(y_true, np.asarray(positive_probs), rule)
    return LockedPoint(
        rule=point.rule,
        threshold=point.threshold,
        sensitivity=point.sensitivity,
        specificity=point.specificity,
        n=point.n,
        reason=point.reason,
        locked=now(),
        sha256=lock(point),
    )


def open_test(folder: Path, n: int, point: LockedPoint | None, *, command: str) -> None:
    """Write down that the test split is opened, before it is."""
    purpose = "to report" if n_openings(folder) == 0 else "to report again"
    entry = {
        "when": now(),
        "command": command,
        "n": n,
        "purpose": purpose,
        "operating_point_sha256": point.sha256 if point else None,
    }
    append_line(folder / OPENINGS_FILE, json.dumps(entry, ensure_ascii=False))


def n_openings(folder: Path) -> int:
    """Count how often the test split was opened."""
    path = folder / OPENINGS_FILE
    return len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0


def measure(
    predictions: pd.DataFrame, groups: Sequence[str], model: Model, *, patients_known: bool
) -> dict[str, Any]:
    """Compute the figures of one split, as metrics.json holds them.

    Parameters
    ----------
    predictions : DataFrame
        As `predict_split` returns it.
    groups : sequence of str
        Patient of each row, with patients joined that share an identical file.
    patients_known : bool
        Without, `n_patients` is null.
    """
    names = model.class_names
    y_true = np.array([names.index(label) for label in predictions["label"]])
    probs = predictions[[f"p_{name}" for name in names]].to_numpy(dtype=float)
    point = model.facts.operating_point
    found = describe(
        y_true,
        probs,
        class_names=list(names),
        positive=model.facts.positive_index,
        threshold=point.threshold if point else None,
        groups=np.asarray(groups),
    )
    # Identical files stay together in the intervals also where no patient is known.
    return found | ({} if patients_known else {"n_patients": None})


def figure_text(figure: dict[str, Any]) -> str:
    """Write a figure with its interval, or why it cannot be had, in one line."""
    if figure["value"] is None:
        return f"not estimable: {figure.get('reason', '')}"
    if figure["ci_low"] is None:
        return f"{figure['value']:.3f} (no interval: {figure.get('reason', '')})"
    low, high = figure["ci_low"], figure["ci_high"]
    return f"{figure['value']:.3f} (95 % CI {low:.3f} to {high:.3f})"


def now() -> str:
    """Return the time as ISO 8601, UTC, whole seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")
