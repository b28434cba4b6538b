"""Figures of a run that the user asks for besides those that every run has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from hilum.evaluation import measure
from hilum.inference import Model
from hilum.subgroups import Subgroups, add_groups


class Asked(NamedTuple):
    """What metrics.json is to hold besides the figures that every run has."""

    prevalences: Sequence[float]
    subgroups: Sequence[str]


def asked_before(figures: Mapping[str, Any], plain: Mapping[str, Any]) -> Asked:
    """Say what the user had added to figures of before, held against those made anew without.

    Parameters
    ----------
    figures, plain : mapping
        As metrics.json has them.
    """
    prevalences, columns = set[float](), dict[str, None]()
    for old, new in zip(_parts(figures), _parts(plain), strict=True):
        rows, groups = old.get("ppv_npv", ()), _groups(new)
        prevalences |= {row["prevalence"] for row in rows if row["wanted"]}
        # A column that is asked for may be parted more finely than one that is not.
        columns |= {name: None for name, own in _groups(old).items() if own != groups.get(name)}
    return Asked(sorted(prevalences), list(columns))


def _parts(metrics: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Go through the figures of both splits and of each label of theirs."""
    for split in ("val", "test"):
        yield metrics[split]
        yield from (metrics[split].get("labels") or {}).values()


def _groups(figures: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the groups by each column that has some."""
    found: dict[str, list[str]] = {}
    for row in figures.get("subgroups", ()):
        found.setdefault(row["column"], []).append(row["group"])
    return found


def add_asked(
    metrics: dict[str, Any],
    asked: Asked,
    predictions: pd.DataFrame,
    samples: pd.DataFrame,
    model: Model,
) -> None:
    """Add what the user asks for, if anything, to the figures of both splits.

    Parameters
    ----------
    metrics : dict
        As metrics.json has them; changed.
    predictions : DataFrame
        Of both splits, as predictions.csv has them.
    samples : DataFrame
        As samples.csv has them.
    """
    if not (asked.prevalences or asked.subgroups):
        return
    samples = samples.set_index("path", drop=False)
    for split in ("val", "test"):
        table = predictions[predictions["split"] == split]
        rows = samples.loc[table["path"]]
        found = measure(
            table,
            list(rows["group"]),
            model,
            patients_known=metrics[split]["n_patients"] is not None,
            columns=rows,
            prevalences=asked.prevalences,
            subgroups=asked.subgroups,
        )
        _add_to_part(metrics[split], found, asked)
        for name, of_label in (found.get("labels") or {}).items():
            _add_to_part(metrics[split]["labels"][name], of_label, asked)


def _add_to_part(before: dict[str, Any], found: dict[str, Any], asked: Asked) -> None:
    """Add to the figures of a split, or of one label of it, what was asked for."""
    if asked.prevalences:
        kinds = ("ppv_npv", "net_benefit", "patients")
        before |= {key: found[key] for key in kinds if key in found}
    if asked.subgroups and "subgroups" in found:
        parts = add_groups(
            Subgroups(found["subgroups"], found["subgroup_notes"]),
            before.get("subgroups", []),
            before.get("subgroup_notes", []),
        )
        before |= {"subgroups": parts.rows, "subgroup_notes": parts.notes}
