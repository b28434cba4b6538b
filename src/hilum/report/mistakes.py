"""The errors on test, in the order of what they cost: a missed disease before a false alarm."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import pandas as pd

from hilum.report.cohort import Sample, missing_note
from hilum.report.facts import RunFacts
from hilum.report.gallery import Album, Thumbnail
from hilum.report.heat import Heat, heat_maps, make_heat

N_SHOWN = 48
N_ROWS = 5000


@dataclass(frozen=True)
class Case:
    """One test image with what it is and what it was taken for.

    Attributes
    ----------
    p_predicted, p_label : str
        Probability given to the answer and to the truth.
    """

    path: str
    patient: str
    label: str
    predicted: str
    p_predicted: str
    p_label: str
    p_positive: str
    is_wrong: bool


@dataclass(frozen=True)
class CaseGroup:
    """Errors of one kind, with pictures of the first, and heat maps where there are any."""

    title: str
    n: int
    shown: tuple[tuple[Case, Sample, Thumbnail | None], ...]


@dataclass(frozen=True)
class Mistakes:
    """The section on errors."""

    n_wrong: int
    n: int
    groups: tuple[CaseGroup, ...]
    cases: tuple[Case, ...]
    n_left_out: int
    positive_class: str | None
    note: str
    heat: Heat

    @property
    def has_heat(self) -> bool:
        return any(heat is not None for group in self.groups for _, _, heat in group.shown)


def make_mistakes(facts: RunFacts, album: Album) -> Mistakes:
    ordered = by_cost(facts)
    cases = [_case(row, facts) for row in ordered.to_dict("records")]
    wrong = [case for case in cases if case.is_wrong]
    groups = _groups(facts, wrong, album)
    return Mistakes(
        n_wrong=len(wrong),
        n=len(cases),
        groups=tuple(groups),
        cases=tuple(cases[:N_ROWS]),
        n_left_out=max(0, len(cases) - N_ROWS),
        positive_class=facts.positive_class,
        note=missing_note(album, [sample for group in groups for _, sample, _ in group.shown]),
        heat=make_heat(facts),
    )


def by_cost(facts: RunFacts) -> pd.DataFrame:
    """Sort the test predictions: the costliest error first, then what is right, by path.

    For two classes missed disease goes before false alarms; within each, and for more classes
    overall, the more confident error goes first.
    """
    table = facts.predicted("test")
    wrong = table["label"] != table["predicted"]
    missed = wrong & (table["label"] == facts.positive_class)
    confidence = pd.Series(
        [row[f"p_{row['predicted']}"] for row in table.to_dict("records")],
        index=table.index,
        dtype=float,
    )
    keys = pd.DataFrame(
        {
            "rank": 2 - wrong.astype(int) - missed.astype(int),
            "confidence": -confidence.where(wrong, 0.0),
            "path": table["path"],
        }
    )
    order = keys.sort_values(["rank", "confidence", "path"]).index
    return table.loc[order].reset_index(drop=True)


def _case(row: Mapping[Hashable, object], facts: RunFacts) -> Case:
    def prob(name: object) -> str:
        return f"{float(str(row[f'p_{name}'])):.3f}"

    label, predicted = str(row["label"]), str(row["predicted"])
    return Case(
        path=str(row["path"]),
        patient=str(row["patient"]),
        label=label,
        predicted=predicted,
        p_predicted=prob(predicted),
        p_label=prob(label),
        p_positive=prob(facts.positive_class) if facts.positive_class is not None else "",
        is_wrong=label != predicted,
    )


def _groups(facts: RunFacts, wrong: list[Case], album: Album) -> list[CaseGroup]:
    if facts.positive_class is None:
        parts = [("Named wrongly", wrong)]
    else:
        positive, negative = facts.positive_class, facts.negative_class
        missed = [case for case in wrong if case.label == positive]
        alarms = [case for case in wrong if case.label != positive]
        parts = [
            (f"Missed: {positive} called {negative}", missed),
            (f"False alarms: {negative} called {positive}", alarms),
        ]
    shown = [case for _, cases in parts for case in cases][:N_SHOWN]
    heat = heat_maps(facts.folder, album, [(case.path, case.predicted) for case in shown])
    groups, room = [], N_SHOWN
    for title, cases in parts:
        chosen = cases[:room]
        room -= len(chosen)
        pictures = tuple(
            (case, Sample(case.path, album.thumbnail(case.path)), heat.get(case.path))
            for case in chosen
        )
        groups.append(CaseGroup(title, len(cases), pictures))
    return [group for group in groups if group.n]
