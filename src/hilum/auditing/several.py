"""The audit of images with several labels: what asks for one class an image is asked by label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.auditing.basics import (
    CHECKS_OF_CLASSES,
    CHECKS_OF_FILES,
    CHECKS_OF_THE_RAREST,
    find_small_classes,
    not_looked_for,
)
from hilum.auditing.findings import Found
from hilum.auditing.memory import Detector, Memory
from hilum.progress import Progress
from hilum.targets import members

MOST_LABELS = 4
"""Labels that detectors of pictures are asked about, since each takes as long as one data set of
two classes: the commonest."""

MOST_IMAGES = 20_000
"""Images, over all these labels, that detectors of pictures are asked about."""


def check_labels(samples: pd.DataFrame, names: Sequence[str]) -> Found:
    """Do the checks of the table: those of classes for each label by itself."""
    present = members(samples["label"], names)
    rows, labels = np.nonzero(present)
    shown = samples.iloc[rows].assign(label=np.array(names, dtype=object)[labels])
    rarest = _as_classes(samples, names[int(present.sum(axis=0).argmin())], names)
    findings = [finding for check in CHECKS_OF_FILES for finding in check(samples)]
    findings += find_small_classes(shown)
    findings += [finding for check in CHECKS_OF_THE_RAREST for finding in check(rarest)]
    for name in names:
        of_label = _as_classes(samples, name, names)
        findings += [
            replace(finding, message=f"Label '{name}': {finding.message}")
            for check in CHECKS_OF_CLASSES
            for finding in check(of_label)
        ]
    return Found(tuple(findings), not_looked_for(rarest))


def ask_by_label(
    detectors: Sequence[tuple[str, Detector]],
    samples: pd.DataFrame,
    looks: NDArray[np.uint8],
    names: Sequence[str],
    progress: Progress,
) -> list[Found]:
    """Ask detectors of pictures that need one class an image about each of the commonest labels.

    Parameters
    ----------
    detectors : sequence of (str, Detector)
        With the kind of finding that each looks for.
    """
    counts = members(samples["label"], names).sum(axis=0)
    commonest = [names[k] for k in np.argsort(-counts, kind="stable")[:MOST_LABELS]]
    if len(samples) * len(commonest) > MOST_IMAGES:
        why = (
            f"each of {len(names)} labels would have to be looked at by itself, which takes too "
            f"long for {len(samples):,} images"
        )
        return [Found(not_looked_for={kind: why for kind, _ in detectors})]
    found = []
    for name in commonest:
        of_label = _as_classes(samples, name, names)
        seen = looks[of_label.index.to_numpy()]
        memory = Memory(of_label.reset_index(drop=True), seen)
        for _, detector in detectors:
            one = memory.ask(detector, progress)
            told = [replace(f, message=f"Label '{name}': {f.message}") for f in one.findings]
            # Clues of several labels are no one answer.
            found.append(Found(tuple(told), one.not_looked_for))
    left = len(names) - len(commonest)
    if left:
        why = f"only in the {MOST_LABELS} commonest labels; it takes too long for {left} more"
        found.append(Found(not_looked_for={kind: why for kind, _ in detectors}))
    return found


def _as_classes(samples: pd.DataFrame, name: str, names: Sequence[str]) -> pd.DataFrame:
    """Return the samples of which a label is known, with its presence as their class."""
    k = list(names).index(name)
    known = ~members(samples["unknown"], names)[:, k]
    present = members(samples["label"], names)[:, k]
    return samples.assign(label=np.where(present, name, f"no {name}"))[known]
