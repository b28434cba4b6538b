"""The errors on test, in the order of what they cost: a missed disease before a false alarm."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hilum.names import NONE, SET_SEPARATOR
from hilum.report import words
from hilum.report.cohort import Sample, missing_note
from hilum.report.facts import RunFacts
from hilum.report.gallery import Album, Thumbnail
from hilum.report.heat import Heat, heat_maps, make_heat
from hilum.targets import members

N_SHOWN = 48
LEAST_SHOWN = 2  # of each kind of error of each label
N_ROWS = 5000


@dataclass(frozen=True)
class Case:
    """One test image with what it is and what it was taken for.

    Attributes
    ----------
    p_text : str
        What was said of it, for the line below a picture.
    ps : tuple of str
        The same as numbers, under `Mistakes.p_heads`.
    """

    path: str
    patient: str
    label: str
    predicted: str
    p_text: str
    ps: tuple[str, ...]
    is_wrong: bool


@dataclass(frozen=True)
class CaseGroup:
    """Errors of one kind, with pictures of the first, and heat maps where there are any.

    Attributes
    ----------
    of : str
        The class whose score the heat maps explain; '' for that of each answer.
    """

    title: str
    n: int
    shown: tuple[tuple[Case, Sample, Thumbnail | None], ...]
    of: str = ""


@dataclass(frozen=True)
class Mistakes:
    """The section on errors."""

    n_wrong: int
    n: int
    groups: tuple[CaseGroup, ...]
    cases: tuple[Case, ...]
    n_left_out: int
    summary: str
    p_heads: tuple[str, ...]
    note: str
    heat: Heat

    @property
    def has_heat(self) -> bool:
        return any(heat is not None for group in self.groups for _, _, heat in group.shown)


def make_mistakes(facts: RunFacts, album: Album) -> Mistakes:
    cases = _cases(facts)
    wrong = [case for case in cases if case.is_wrong]
    kinds = _kinds_of_labels(facts) if facts.is_multilabel else _kinds(facts, wrong)
    groups = _groups(facts, kinds, album)
    return Mistakes(
        n_wrong=len(wrong),
        n=len(cases),
        groups=tuple(groups),
        cases=tuple(cases[:N_ROWS]),
        n_left_out=max(0, len(cases) - N_ROWS),
        summary=_summary(facts, len(wrong), len(cases)),
        p_heads=_p_heads(facts),
        note=missing_note(album, [sample for group in groups for _, sample, _ in group.shown]),
        heat=make_heat(facts),
    )


def by_cost(facts: RunFacts) -> pd.DataFrame:
    """Sort the test predictions: the costliest error first, then what is right, by path.

    For two classes missed disease goes before false alarms, and of grades the farther off before
    the nearer; within each, and for other classes overall, the more confident error goes first.
    """
    table = facts.predicted("test")
    wrong = table["label"] != table["predicted"]
    missed = wrong & (table["label"] == facts.positive_class)
    confidence = facts.sureness(table)
    cost = wrong.astype(int) + missed.astype(int)
    if facts.target == "ordinal":
        grade = {name: i for i, name in enumerate(facts.class_names)}
        cost = (table["label"].map(grade) - table["predicted"].map(grade)).abs()
    keys = pd.DataFrame(
        {
            "rank": -cost,
            "confidence": -confidence.where(wrong, 0.0),
            "path": table["path"],
        }
    )
    order = keys.sort_values(["rank", "confidence", "path"]).index
    return table.loc[order].reset_index(drop=True)


def _cases(facts: RunFacts) -> list[Case]:
    """Give every test image, the worst first."""
    if not facts.is_multilabel:
        return [_case(row, facts) for row in by_cost(facts).to_dict("records")]
    table = facts.predicted("test")
    names = facts.class_names
    truth, called = (members(table[column], names) for column in ("label", "predicted"))
    n_wrong = ((truth != called) & ~members(table["unknown"], names)).sum(axis=1)
    order = np.lexsort([table["path"].to_numpy(str), -n_wrong])
    rows = table.to_dict("records")
    return [
        Case(
            str(rows[i]["path"]),
            str(rows[i]["patient"]),
            set_text(rows[i]["label"], rows[i]["unknown"]),
            set_text(rows[i]["predicted"]),
            "",
            (str(n_wrong[i]),),
            bool(n_wrong[i]),
        )
        for i in order.tolist()
    ]


def set_text(cell: object, unknown: object = "") -> str:
    """Write a cell of labels for people, and after it those of which it is not known."""
    text = str(cell).replace(SET_SEPARATOR, ", ") or NONE
    lost = str(unknown).replace(SET_SEPARATOR, ", ")
    return f"{text} (not known: {lost})" if lost else text


def _summary(facts: RunFacts, n_wrong: int, n: int) -> str:
    """Say how many are wrong, and in which order they are shown."""
    images = words.plural(n, "test image")
    if facts.is_multilabel:
        return (
            f"In {words.count(n_wrong)} of {images} at least one label is wrong. Below, label by "
            "label: what was missed before false alarms, and the surest error first."
        )
    what = "grade" if facts.target == "ordinal" else "class"
    text = f"{words.count(n_wrong)} of {images} got the wrong {what}"
    if facts.class_shares:
        text += " (called by probability over share, which also says how sure an answer is)"
    if not n_wrong:
        return f"{text}."
    if facts.positive_class is not None:
        return (
            f"{text}, shown by what they cost: a missed {facts.positive_class} before a false "
            "alarm, and the surest error first."
        )
    if facts.target == "ordinal":
        return (
            f"{text}, shown by what they cost: the farther off before the nearer, and the "
            "surest error first."
        )
    return f"{text}, shown by what they cost: the surest error first."


def _p_heads(facts: RunFacts) -> tuple[str, ...]:
    if facts.is_multilabel:
        return ("labels wrong",)
    return (f"p({facts.positive_class})",) if facts.positive_class is not None else ("p", "p(true)")


def _case(row: Mapping[Hashable, object], facts: RunFacts) -> Case:
    def prob(name: object) -> str:
        return f"{float(str(row[f'p_{name}'])):.3f}"

    label, predicted = str(row["label"]), str(row["predicted"])
    if facts.positive_class is None:
        ps: tuple[str, ...] = (prob(predicted), prob(label))
        text = f"p {ps[0]}, truth {ps[1]}"
    else:
        ps = (prob(facts.positive_class),)
        text = f"p({facts.positive_class}) {ps[0]}"
    return Case(
        str(row["path"]), str(row["patient"]), label, predicted, text, ps, label != predicted
    )


@dataclass(frozen=True)
class _Kind:
    """Errors of one kind; `of` is the class whose score explains them, '' for the answer's."""

    title: str
    cases: list[Case]
    n_shown: int
    of: str = ""


def _kinds(facts: RunFacts, wrong: list[Case]) -> list[_Kind]:
    if facts.target == "ordinal":
        names = facts.class_names
        far = {
            distance: [
                case
                for case in wrong
                if abs(names.index(case.label) - names.index(case.predicted)) == distance
            ]
            for distance in range(len(names) - 1, 0, -1)
        }
        return [
            _Kind(f"{words.capitalised(words.plural(distance, 'grade'))} off", cases, N_SHOWN)
            for distance, cases in far.items()
        ]
    if facts.positive_class is None:
        return [_Kind("Named wrongly", wrong, N_SHOWN)]
    positive, negative = facts.positive_class, facts.negative_class
    missed = [case for case in wrong if case.label == positive]
    alarms = [case for case in wrong if case.label != positive]
    return [
        _Kind(f"Missed: {positive} called {negative}", missed, N_SHOWN),
        _Kind(f"False alarms: {negative} called {positive}", alarms, N_SHOWN),
    ]


def _kinds_of_labels(facts: RunFacts) -> list[_Kind]:
    """Give the errors of every label, a few of each kind."""
    found = []
    for name in facts.class_names:
        about = facts.about(name)
        wrong = [case for case in _cases(about) if case.is_wrong]
        missed = [case for case in wrong if case.label == name]
        alarms = [case for case in wrong if case.label != name]
        few = max(LEAST_SHOWN, N_SHOWN // (2 * len(facts.class_names)))
        found += [
            _Kind(f"{name}: missed", missed, few, name),
            _Kind(f"{name}: false alarms", alarms, few, name),
        ]
    return found


def _groups(facts: RunFacts, kinds: list[_Kind], album: Album) -> list[CaseGroup]:
    groups, room = [], N_SHOWN if not facts.is_multilabel else sum(kind.n_shown for kind in kinds)
    chosen = []
    for kind in kinds:
        cases = kind.cases[: min(room, kind.n_shown)]
        room -= len(cases)
        chosen.append(cases)
    heat = {
        of: heat_maps(
            facts.folder,
            album,
            [
                (case.path, of or case.predicted)
                for kind, cases in zip(kinds, chosen, strict=True)
                if kind.of == of
                for case in cases
            ],
        )
        for of in dict.fromkeys(kind.of for kind in kinds)
    }
    for kind, cases in zip(kinds, chosen, strict=True):
        pictures = tuple(
            (case, Sample(case.path, album.thumbnail(case.path)), heat[kind.of].get(case.path))
            for case in cases
        )
        groups.append(CaseGroup(kind.title, len(kind.cases), pictures, kind.of))
    return [group for group in groups if group.n]
