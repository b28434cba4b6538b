"""Names of classes: their order, slips of spelling, and names that no answer could be told from."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from hilum.errors import DataError, did_you_mean
from hilum.labels import check_spellings, natural
from hilum.names import NONE, REFER, REFUSED, SET_SEPARATOR, UNWRITABLE, plain_text, quoted
from hilum.targets import MOST_CLASSES, TargetKind

FEW_IMAGES = 3
"""Of a class that may be another's name misspelt."""


def class_order(
    labels: pd.Series,
    classes: Sequence[str] | None,
    source: Path,
    min_classes: int,
    *,
    places: Sequence[str],
    hint: str = "",
) -> tuple[str, ...]:
    """Check the labels and put the classes in order.

    Parameters
    ----------
    classes : sequence of str or None
        The order; alphabetical, numerical for numbers, where not given.
    min_classes : int
        Fewer are refused.
    places : sequence of str
        Names each sample in messages.
    hint : str
        Added where there are too few classes.

    Raises
    ------
    DataError
        If there are too few, two are one but for their spelling, or they are not those of
        `classes`.
    """
    found = sorted(set(labels), key=natural)
    if len(found) < min_classes:
        raise DataError(
            f"{source} holds one class only, '{found[0]}'. A classifier needs at least two.{hint}"
        )
    check_spellings(found, source, "classes")
    if classes is None:
        return tuple(found)
    wanted = tuple(plain_text(name) for name in classes)
    twice = [name for name, count in Counter(wanted).items() if count > 1]
    if twice:
        raise DataError(f"--classes names '{twice[0]}' more than once. Name each class once.")
    _check_unknown(labels, wanted, source, places)
    absent = [name for name in wanted if name not in found]
    if absent:
        raise DataError(
            f"--classes names '{absent[0]}', which {source} does not hold."
            f"{did_you_mean(absent[0], found)} It holds: {', '.join(found)}."
        )
    return wanted


def ask_of_slips(labels: pd.Series, places: Sequence[str]) -> list[str]:
    """Ask of each class of very few images whether it is a larger one's name misspelt."""
    counts = labels.value_counts()
    if len(counts) > MOST_CLASSES:  # no classes, as will be said; each with each would take minutes
        return []
    large = [name for name in counts.index if counts[name] > FEW_IMAGES]
    found = []
    for name in sorted(counts.index[counts <= FEW_IMAGES]):
        near = did_you_mean(name, [other for other in large if _is_alike(name, other)])
        if near:
            where = [place for place, own in zip(places, labels, strict=True) if own == name]
            found.append(
                f"The class '{name}' has {len(where)} image{'' if len(where) == 1 else 's'} "
                f"({', '.join(where)}).{near}"
            )
    return found


def _is_alike(one: str, other: str) -> bool:
    """Whether names are one but for a slip; other digits are other grades, as 'T1' and 'T2'."""
    if re.findall(r"\d+", one) != re.findall(r"\d+", other):
        return False
    return difflib.SequenceMatcher(None, one.casefold(), other.casefold()).ratio() >= 0.8


def check_class_names(names: Sequence[str], source: Path, target_kind: TargetKind) -> None:
    """Refuse names that a model's answers could not be told from, and more than a model holds."""
    if len(names) > MOST_CLASSES:
        raise DataError(
            f"{source} holds {len(names):,} classes or labels, and a model "
            f"holds {MOST_CLASSES:,} at most. Is the right column named?"
        )
    for name in names:
        if not name or UNWRITABLE.search(name):
            raise DataError(
                f"{source} holds the class or label {name!r}, which is empty or has "
                "control characters. Give it a name of letters."
            )
        if name.casefold() in (REFER, REFUSED):
            raise DataError(
                f"{source} holds the class '{name}', the very word by which a model says "
                f"that it gives no answer ('{REFER}' to a person, '{REFUSED}' as unreadable). Call "
                "the class otherwise, such as 'referable'."
            )
        if SET_SEPARATOR in name:
            raise DataError(
                f"{source} holds the class '{name}', and '{SET_SEPARATOR}' stands between "
                "the classes of a prediction set. Call the class otherwise, such as "
                f"'{name.replace(SET_SEPARATOR, '-')}'; or, if it joins several labels of an "
                "image, pass --target multilabel."
            )
        if target_kind == "multilabel" and name.casefold() == NONE:
            raise DataError(
                f"{source} holds the label '{name}', the very word that stands for an "
                "image with none of the labels. Leave the label out, or call it otherwise."
            )


def _check_unknown(
    labels: pd.Series, wanted: Sequence[str], source: Path, places: Sequence[str]
) -> None:
    """Refuse labels that the user's list of classes does not have, each with its place."""
    first: dict[str, str] = {}
    for name, place in zip(labels, places, strict=True):
        if name not in wanted:
            first.setdefault(name, place)
    if not first:
        return
    faults = [
        f"{source}, {place}: class '{name}' is not one of {quoted(wanted)}."
        + did_you_mean(name, wanted)
        for name, place in list(first.items())[:5]
    ]
    raise DataError(f"{' '.join(faults)} Fix the label or --classes.")
