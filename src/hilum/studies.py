"""A table of predictions → its figures, whatever the kind of target.

What the table calls stands: it was decided at the locked threshold, in folds at each fold's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from hilum.estimates import Study, study_of
from hilum.multilabel import LabelStudy, label_study
from hilum.subgroups import describe_label_subgroups, describe_subgroups
from hilum.targets import TargetKind, members, truths


def study_predictions(
    predictions: pd.DataFrame,
    class_names: Sequence[str],
    target: TargetKind,
    *,
    positive: int | None,
    groups: ArrayLike,
    patients_known: bool,
) -> Study | LabelStudy:
    """Turn rows of predictions.csv into a study.

    Parameters
    ----------
    predictions : DataFrame
        With the columns label, predicted, a probability for each class, and for several labels
        unknown.
    positive : int or None
        Of two classes, the one that is looked for.
    groups : array of shape (n_samples,)
        Patient of each row, with patients joined that share an identical file or, in a run, a
        nearly identical one.
    patients_known : bool
        Without, what is said is of images.
    """
    probs = predictions[[f"p_{name}" for name in class_names]].to_numpy(dtype=float)
    true = truths(predictions, class_names, target)
    if target == "multilabel":
        called = members(predictions["predicted"], class_names)
        return label_study(
            true,
            probs,
            label_names=class_names,
            thresholds=dict.fromkeys(class_names, 0.5),  # what is called by it is replaced
            groups=groups,
            patients_known=patients_known,
        ).called(called)
    study = study_of(
        true,
        probs,
        class_names=class_names,
        positive=positive,
        threshold=None if positive is None else 0.5,  # what is called by it is replaced
        groups=groups,
        patients_known=patients_known,
        ordinal=target == "ordinal",
    )
    index = {name: k for k, name in enumerate(class_names)}
    pred = np.array([index[name] for name in predictions["predicted"]], dtype=np.intp)
    return study.called(pred)


def describe_study(
    study: Study | LabelStudy,
    thresholds: float | Mapping[str, float] | None,
    prevalences: tuple[float, ...] = (),
    *,
    columns: pd.DataFrame | None = None,
    subgroups: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Give the figures of a study as metrics.json holds them.

    Parameters
    ----------
    thresholds : float, mapping or None
        The locked one, or that of each label; None where there is no one, as over folds.
    columns : DataFrame, optional
        What samples.csv holds of each row, for figures of groups.
    subgroups : sequence of str, optional
        Columns to part images by; without, those that suit.
    """
    if isinstance(study, LabelStudy):
        given = thresholds if isinstance(thresholds, Mapping) else {}
        found = study.describe({name: given.get(name) for name in study.label_names}, prevalences)
        if columns is not None:
            groups = describe_label_subgroups(study, columns, columns=subgroups)
            for name, parts in groups.items():
                found["labels"][name] |= {"subgroups": parts.rows, "subgroup_notes": parts.notes}
        return found
    assert not isinstance(thresholds, Mapping)
    found = study.describe(thresholds, prevalences)
    if columns is not None:
        parts = describe_subgroups(study, columns, columns=subgroups)
        found |= {"subgroups": parts.rows, "subgroup_notes": parts.notes}
    return found
