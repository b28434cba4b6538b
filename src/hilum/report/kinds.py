"""Kinds of findings for those who do not know their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class KindWords:
    """A kind of finding for those who do not know its name.

    Attributes
    ----------
    title : str
        What was found.
    effect, action : str
        What it does to the result; what to do.
    looked_for : str
        What was looked for, for the list of what was not found.
    """

    title: str
    effect: str
    action: str
    looked_for: str


KIND_WORDS = {
    "unreadable": KindWords(
        "Files that cannot be read",
        "Left out; if they are not a random choice, the figures hold for the others alone",
        "Replace or remove each, or pass --skip-unreadable",
        "files that cannot be read, or only in part",
    ),
    "unknown_patients": KindWords(
        "Images without a patient",
        "One patient may lie on both sides of a split: figures too good, intervals too narrow",
        "Name the patients with a column or --patient-pattern",
        "images without a patient",
    ),
    "exact_duplicates": KindWords(
        "Identical files",
        "Across splits, what is tested was learnt; within one, copies count twice",
        "Remove the copies, or draw a new split with --new-split",
        "identical files",
    ),
    "near_duplicates": KindWords(
        "Copies that are not the same file",
        "As identical files: across splits, what is tested was learnt",
        "Look at each pair; remove the copies, or draw a new split with --new-split",
        "copies that were resized, recompressed, turned, mirrored or brightened",
    ),
    "contradictory_labels": KindWords(
        "One image, or one patient, with different labels",
        "Where it is one image, at least one label is wrong, and others may be",
        "Look at each; correct or remove what is wrong",
        "identical images with different labels",
    ),
    "patients_across_splits": KindWords(
        "Patients in more than one split",
        "The test is partly of patients it has learnt from: figures are too good",
        "Draw a new split with --new-split",
        "patients in more than one split",
    ),
    "prevalence_shift": KindWords(
        "Classes not as frequent in test as in training",
        "Precision, accuracy and probabilities do not carry over",
        "Ask why; give the predictive values at the share that you expect",
        "classes that are more frequent in one split than in another",
    ),
    "small_class": KindWords(
        "Classes with few images",
        "Wide intervals; a rare class may not be learnt at all",
        "Collect more, or join classes where that makes sense",
        "classes with few images",
    ),
    "burned_in": KindWords(
        "Text drawn into the pixels",
        "It may name a person, or give the class away",
        "Look at each, and blank the text",
        "text drawn into the pixels (as the DICOM header says)",
    ),
    "blank": KindWords(
        "Blank images",
        "Nothing can be learnt from them, and their labels are noise",
        "Remove them, or find the images that were meant",
        "blank images",
    ),
    "extreme_size": KindWords(
        "Images of an extreme size or shape",
        "Scaled to the input they lose what matters, or are distorted",
        "Look at each; crop or remove",
        "images of an extreme size or shape",
    ),
    "mixed_modes": KindWords(
        "Mixed colour modes or bit depths",
        "Where they go with the class, they give it away",
        "Ask where the kinds come from",
        "mixed colour modes and bit depths",
    ),
    "few_patients": KindWords(
        "Too few patients for a precise answer",
        "The interval will be wide, whatever the network can do",
        "Collect more patients, or take the figures as a first guess",
        "too few patients for a precise answer",
    ),
    "shortcut": KindWords(
        "Shortcuts: the class can be told without the disease",
        "The network may learn the shortcut; it will fail where the shortcut is absent",
        "Find out where it comes from; remove the mark, crop, or balance the sources",
        "shortcuts: file size, image size, header fields, borders, corner marks",
    ),
    "label_errors": KindWords(
        "Labels that look wrong",
        "Learnt as they are; in the test, they make figures too bad or too good",
        "Have the first ones read again by an expert who does not see the label",
        "labels that look wrong",
    ),
    "drift": KindWords(
        "Test images differ from training images",
        "Figures on this test may not be those of a test of the same kind",
        "Ask how the two were collected",
        "differences between the images of training and test",
    ),
}

TOGETHER = frozenset(
    ("exact_duplicates", "near_duplicates", "contradictory_labels", "patients_across_splits")
)
"""Kinds whose images belong together in groups; those of others stand alone."""


IN_PART = {"shortcut_columns": "shortcuts in some columns of the table"}
"""What of a kind could not be looked for, while the rest of it was."""


def could_not_be_looked_for(why: Mapping[str, str]) -> tuple[str, ...]:
    """Write each kind that could not be looked for in these data, with the reason."""
    names = {kind: each.looked_for for kind, each in KIND_WORDS.items()} | IN_PART
    return tuple(f"{names[kind]} ({reason})" for kind, reason in why.items() if kind in names)


def title_of(finding: Mapping[str, Any]) -> str:
    """Name what was found as people would, and of which label where it was found of one."""
    kind, details = str(finding["kind"]), finding.get("details") or {}
    title = kind.replace("_", " ").capitalize()
    if kind == "shortcut":
        title = _shortcut_title(details)
    elif kind in KIND_WORDS:
        title = KIND_WORDS[kind].title
    return f"“{details['label']}”: {title[:1].lower()}{title[1:]}" if "label" in details else title


SHORTCUTS = {
    "restated": (
        "None by itself: no network sees the column",
        "Do not use it as a subgroup or an input",
    ),
    "column": (
        "The network may see what the column stands for, and learn that",
        "Report figures for each of its values, or balance the classes in it",
    ),
    "mark": (
        "The network may learn the mark; it will fail where there is none",
        "Look at them; crop or cover the mark in every image",
    ),
}
"""What a shortcut does and what to do, where its kind says more than the general words."""


def effect_and_action(finding: Mapping[str, Any]) -> tuple[str, str]:
    """Say what a finding does to the result, and what to do."""
    kind = str(finding["kind"])
    if kind == "shortcut":
        clue = str((finding.get("details") or {}).get("clue") or "").partition(":")[0]
        if clue in SHORTCUTS:
            return SHORTCUTS[clue]
    found = KIND_WORDS.get(kind)
    return (found.effect, found.action) if found else ("", "")


def _shortcut_title(details: Mapping[str, Any]) -> str:
    found = details.get("clue")
    if found == "mark":
        return "A mark at the edge gives the class away"
    if found == "restated":
        return "Columns that say the label in other words"
    named = [str(clue["words"]) for clue in details.get("clues") or () if clue["name"] == found]
    return f"The class can be told by {named[0]}" if named else KIND_WORDS["shortcut"].title
