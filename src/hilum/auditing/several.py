"""The audit of images with several labels: what asks for one class an image is asked by label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.auditing.basics import (
    CHECKS_OF_CLASSES,
    CHECKS_OF_FILES,
    find_few_patients,
    find_mixed_modes,
    find_small_classes,
    not_looked_for,
)
from hilum.auditing.findings import Finding, Found
from hilum.auditing.memory import Detector, Memory
from hilum.names import quoted
from hilum.progress import Progress
from hilum.targets import members

MOST_LABELS = 4
"""Labels that detectors of pictures are asked about, since each takes as long as one data set of
two classes: the commonest."""

MOST_IMAGES = 20_000
"""Images, over all these labels, that detectors of pictures are asked about."""


def check_labels(samples: pd.DataFrame, names: Sequence[str], *, in_folds: bool) -> Found:
    """Do the checks of the table: those of classes for each label by itself."""
    present = members(samples["label"], names)
    rows, labels = np.nonzero(present)
    shown = samples.iloc[rows].assign(label=np.array(names, dtype=object)[labels])
    rarest = _as_classes(samples, names[int(present.sum(axis=0).argmin())], names)
    findings = [finding for check in CHECKS_OF_FILES for finding in check(samples)]
    findings += find_small_classes(shown)
    # What these say is much the same of all labels.
    findings += [*find_mixed_modes(rarest), *find_few_patients(rarest, in_folds=in_folds)]
    for name in names:
        of_label = _as_classes(samples, name, names)
        findings += [
            _of_label(finding, name) for check in CHECKS_OF_CLASSES for finding in check(of_label)
        ]
    return Found(tuple(findings), not_looked_for(rarest, in_folds=in_folds))


def ask_by_label(
    detectors: Sequence[tuple[str, Detector]],
    samples: pd.DataFrame,
    looks: NDArray[np.uint8],
    names: Sequence[str],
    progress: Progress,
) -> Found:
    """Ask detectors of pictures that need one class an image about each of the commonest labels.

    Parameters
    ----------
    detectors : sequence of (str, Detector)
        With the kind of finding that each looks for.

    Returns
    -------
    Found
        Messages name their label; the clues of each label are in clues['by_label'].
    """
    counts = members(samples["label"], names).sum(axis=0)
    commonest = [names[k] for k in np.argsort(-counts, kind="stable")[:MOST_LABELS]]
    if len(samples) * len(commonest) > MOST_IMAGES:
        why = (
            f"each of {len(names)} labels would have to be looked at by itself, which takes too "
            f"long for {len(samples):,} images"
        )
        return Found(not_looked_for={kind: why for kind, _ in detectors})
    findings: list[Finding] = []
    left_out: dict[str, dict[str, str]] = {kind: {} for kind, _ in detectors}
    clues: dict[str, Any] = {}
    for name in commonest:
        of_label = _as_classes(samples, name, names)
        seen = looks[of_label.index.to_numpy()]
        memory = Memory(of_label.reset_index(drop=True), seen)
        for _, detector in detectors:
            one = memory.ask(detector, progress)
            findings += [_of_label(finding, name) for finding in one.findings]
            for kind, why in one.not_looked_for.items():
                left_out.setdefault(kind, {})[name] = why
            if one.clues:
                clues[name] = one.clues
    others = [name for name in names if name not in commonest]
    for reasons in left_out.values():
        reasons |= dict.fromkeys(others, "it takes too long for all but the commonest labels")
    why_not = {kind: _by_reason(reasons, names) for kind, reasons in left_out.items() if reasons}
    return Found(tuple(findings), why_not, {"by_label": clues} if clues else {})


def _by_reason(reasons: Mapping[str, str], names: Sequence[str]) -> str:
    """Say for which labels a kind was not looked for, each reason once."""
    if len(reasons) == len(names) and len(set(reasons.values())) == 1:
        return next(iter(reasons.values()))
    labels: dict[str, list[str]] = {}
    for name, why in reasons.items():
        labels.setdefault(why, []).append(name)
    return "; ".join(f"for {quoted(some)}: {why}" for why, some in labels.items())


def _of_label(finding: Finding, name: str) -> Finding:
    """Say of which label something was found."""
    return replace(
        finding,
        message=f"Label '{name}': {finding.message}",
        details=finding.details | {"label": name},
    )


def _as_classes(samples: pd.DataFrame, name: str, names: Sequence[str]) -> pd.DataFrame:
    """Return the samples of which a label is known, with its presence as their class."""
    k = list(names).index(name)
    known = ~members(samples["unknown"], names)[:, k]
    present = members(samples["label"], names)[:, k]
    return samples.assign(label=np.where(present, name, f"no {name}"))[known]
