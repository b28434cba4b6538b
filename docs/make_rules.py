"""Write docs/rules.md from the rules themselves; a test fails when it is stale.

What is decided outside the table of `hilum.rules`, by the time that there is, for backbones from
elsewhere and after training, has its cases here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hilum import budget, larger_inputs, pooling, resolution
from hilum.calibrators import LEAST_OF_CLASS, N_FOLDS
from hilum.fingerprint import Fingerprint
from hilum.pretrained import LEAST_SIDE, PRETRAINED_IMAGES_SEEN, choose_for_backbone
from hilum.probing import LEAST_GAIN
from hilum.rules import RULES, apply_rules
from hilum.rules.networks import FULL_RESOLUTION
from hilum.rules.pixels import LARGER_SIDES, SIDES
from hilum.rules.rule import EVIDENCE, Case

PAGE = Path(__file__).with_name("rules.md")
MEASURED = "../benchmarks/README.md"

PLAIN = Fingerprint(
    n_train=1000,
    class_counts={"a": 500, "b": 500},
    median_height=224.0,
    median_width=224.0,
    median_short=224.0,
    grey=True,
    highest={},
)
"""Facts of the examples, where a case says nothing else."""

OTHERS = {"backbone": "monai:ResNet18", "weights": "mine.safetensors"}
"""What the user sets, in examples of a backbone from elsewhere with weights."""

MOST_SHOWN = 30  # characters of a value

INTRODUCTION = f"""# Rules of planning

Made by `make reference` from `hilum.rules` and `docs/make_rules.py`. The values are those that the
rules give for an example of each case: 1,000 grey images of 224 pixels in two classes, but for what
is said. What you set goes first; a recipe sets what it names, and no rule of the first table then
applies but that for black and white. `hilum plan DATA` shows what is chosen for these data, and
why; `hilum settings` says what each setting is; how it works together is in
[planning.md](planning.md).

The evidence begins with one of these:

{{legend}}

Links lead to sections of [benchmarks/README.md]({MEASURED}), which have numbers, data and commands.
Most experiments are of one or a few sets and seeds.
"""

OUTSIDE: dict[str, dict[str, tuple[Case, ...]]] = {
    "By the time that there is": {
        "the limit": (
            Case(
                "`--minutes` is not given",
                "",
                "A guess: what a person waits for without planning to.",
                f"{budget.DEFAULT_MINUTES['cpu']:g} minutes for the whole command. Where the bare "
                f"steps take less than {budget.CLEARLY:.0%} of it nothing is timed.",
            ),
        ),
        "number of networks": (
            Case(
                "without `--minutes`",
                "",
                "Measured: mostly better than one, though not on one of two divisions of the brain "
                "slices, nor at half and a quarter of the size where images come small [Weights to "
                "begin with] [Networks that see less] [How long, how large, how many].",
                f"`members` = as many as fit with enough epochs each, up to {budget.FEW_MEMBERS}",
            ),
            Case(
                "with `--minutes`",
                "",
                "A guess: more than three were not compared.",
                f"Time goes to {budget.FEW_MEMBERS} networks with enough epochs each, then to all "
                f"epochs of the rules, then to {budget.MOST_MEMBERS} networks, then to up to "
                f"{budget.LONGEST} times the epochs.",
            ),
            Case(
                "a recipe, `members`, `epochs`, `probe` or a backbone from elsewhere is given",
                "",
                "Follows: what is given is kept.",
                "`members` stays as it is given, 1 by default.",
            ),
        ),
        "enough epochs": (
            Case(
                "networks begin with weights",
                "",
                "Partly measured: on brain slices 2,000 images seen at 128 pixels were better than "
                "4,000 at 64 [Weights to begin with]; elsewhere a guess.",
                f"{budget.ENOUGH_BEGUN:.0%} of those that the rules ask for",
            ),
            Case(
                "two or three begin at random",
                "",
                "Partly measured: on brain slices three that saw 8,000 images each were better "
                "than one that saw 14,000 [Networks that see less]; elsewhere a guess.",
                f"{budget.ENOUGH_TOGETHER:.0%}",
            ),
            Case(
                "one begins at random", "", "A guess, not measured here.", f"{budget.STARVED:.0%}"
            ),
        ),
        "smaller input": (
            Case(
                f"no ensemble fits; input of more than {FULL_RESOLUTION} pixels that is neither "
                "given nor found to be needed",
                "",
                "Partly measured: a larger input with fewer images seen was better on brain slices "
                f"[Weights to begin with]; that {FULL_RESOLUTION} are the least is a guess.",
                f"The next smaller of {', '.join(str(s) for s in SIDES if s >= FULL_RESOLUTION)} "
                "where an ensemble has enough epochs",
            ),
            Case(
                "it fits at none",
                "",
                "A guess, not measured here.",
                "One network, at the largest where it has enough epochs, else the least; where "
                "epochs are on a part of the images, enough of those that the rules ask for.",
            ),
        ),
        "least epochs": (
            Case(
                "fewer fit",
                "",
                "A guess: with fewer a schedule cannot rise and fall.",
                f"`epochs` = {budget.LEAST_EPOCHS}, each on a part of the images in turn: "
                "`steps_per_epoch` = as many as fit.",
            ),
            Case(
                f"not even {budget.LEAST_SEEN:,} images in all, or three epochs of fewer",
                "",
                "A guess, not measured here.",
                "So many, and the plan says how long that takes.",
            ),
        ),
        "larger input": (
            Case(
                f"half of the images have {LARGER_SIDES[0]} pixels or more; the network begins "
                "with Hilum's weights; neither input nor recipe is given, there are no folds, "
                f"{larger_inputs.TRIED[0]} images and {resolution.LEAST_PATIENTS} patients or more "
                "to learn from, and time to learn from it",
                "",
                "Measured: on a stand-in and four real sets [How many pixels].",
                f"128, {', '.join(map(str, LARGER_SIDES[:-1]))} and {LARGER_SIDES[-1]} pixels are "
                f"tried on up to {larger_inputs.TRIED[-1]} training images: the least side is "
                "taken whose log loss on held-out training patients is not greater than the least "
                f"by more than {resolution.CLEARLY:g} standard errors.",
            ),
            Case(
                "time to learn from it",
                "",
                "Partly measured: of a stand-in 1,030 images seen at 384 pixels were enough [How "
                "many pixels]; the shares of the time are guesses.",
                f"{budget.ENOUGH_NEEDED:.0%} of the epochs of the rules, and {budget.LEAST_EPOCHS} "
                "at the least, in half of the time; the trial itself takes "
                f"{larger_inputs.MOST_OF_TRIALS:.0%} of the time, as planned.",
            ),
        ),
    },
    "For a backbone of timm or MONAI": {
        "input size": (
            Case(
                "with weights, and timm states their input size",
                "",
                "Follows: it is what they were made for.",
                "`input_height` and `input_width` = that size",
            ),
            Case(
                "with weights, else",
                "input_height input_width",
                "Customary, not measured here.",
                given=OTHERS,
            ),
            Case(
                "without weights",
                "input_height input_width",
                "A guess: such networks halve their input five times.",
                f"As for a CNN at random, but {LEAST_SIDE} at the least; here images of 28 pixels.",
                facts={"median_short": 28.0},
                given={"backbone": "monai:ResNet18"},
            ),
        ),
        "network": (
            Case(
                "always",
                "members dense_units normalisation",
                "Customary, not measured here: one network, for it is large; one linear layer; "
                "mean and deviation that timm states for the weights, else those of the training "
                "images.",
                given=OTHERS,
            ),
        ),
        "training": (
            Case(
                "with weights",
                "epochs",
                "A guess, not measured here.",
                f"{PRETRAINED_IMAGES_SEEN:,} images seen, in 5 to 30 epochs; here of 1,000.",
                given=OTHERS,
            ),
            Case(
                "with weights",
                "learning_rate backbone_rate",
                "Customary, not measured here; that the backbone is to move less than the head is "
                "Howard and Ruder's, 2018.",
                given=OTHERS,
            ),
            Case(
                "with weights",
                "frozen_epochs",
                "By a paper: Kumar et al., 2022, who fit the head before the rest learns.",
                given=OTHERS,
            ),
            Case(
                "with weights, and a linear model (`probe`)",
                "epochs frozen_epochs",
                "Follows: the backbone does not learn.",
                given=OTHERS | {"probe": True},
            ),
            Case(
                "without weights",
                "epochs learning_rate",
                "Customary: as for a CNN at random, with which alone they were measured.",
                given={"backbone": "monai:ResNet18"},
            ),
        ),
    },
    "By the machine": {
        "device": (
            Case(
                "a GPU is there",
                "",
                "Follows: it is the fastest.",
                "`accelerator` = `cuda` or `mps`",
            ),
        ),
        "precision and layout": (
            Case(
                "`auto`",
                "",
                "Measured: steps are timed on the machine itself; one epoch in bfloat16 cost no "
                "accuracy [Does the tuned step cost accuracy?], longer trainings were not "
                "compared.",
                "The fastest of `float32` and `bfloat16`, `channels_last` and `contiguous`; others "
                f"than the first only if {LEAST_GAIN - 1:.0%} faster.",
            ),
        ),
    },
    "On validation data, after training": {
        "`calibration` = `auto`": (
            Case(
                "always",
                "",
                "By a paper: Guo et al., 2017.",
                "The temperature.",
            ),
            Case(
                f"two classes of {LEAST_OF_CLASS['platt']} validation images each, "
                f"{2 * N_FOLDS} patients each",
                "",
                "By a paper: Platt, 1999; the limits are guesses.",
                "Platt's line, if its log loss is smaller by more than one standard error in "
                f"{N_FOLDS} folds by patient.",
            ),
            Case(
                f"two classes of {LEAST_OF_CLASS['isotonic']} validation images each",
                "",
                "By a paper: Zadrozny and Elkan, 2002; the limits are guesses.",
                "The isotonic curve, if it is better than the line in the same way.",
            ),
        ),
        "`pooling` = `auto`": (
            Case(
                f"of positive patients' images {pooling.LEAST_SHARE:.0%} or more are positive, or "
                "no class goes before another",
                "",
                "Partly measured: in a simulation "
                "([Patients](patients.md#from-images-to-one-score)).",
                "`mean_logits`",
            ),
            Case("fewer are", "", "Partly measured: the same.", "`maximum`"),
        ),
    },
}


def make_rules() -> str:
    """Return the page."""
    legend = "\n".join(f"- **{word}**: {meaning}" for word, meaning in EVIDENCE.items())
    tables = {"By the data": {rule.about: rule.cases for rule in RULES}, **OUTSIDE}
    parts = [INTRODUCTION.format(legend=legend)]
    for title, rules in tables.items():
        rows = [row for about, cases in rules.items() for row in _rows(about, cases)]
        head = _line(("", "when", "what is set", "evidence"))
        parts.append("\n".join([f"## {title}\n", head, "|---|---|---|---|", *rows, ""]))
    return "\n".join(parts)


def _rows(about: str, cases: Sequence[Case]) -> Iterable[str]:
    for case in cases:
        word = next(word for word in EVIDENCE if case.evidence.startswith(word))
        evidence = f"**{word}**{_linked(case.evidence.removeprefix(word))}"
        yield _line((f"**{about}**" if case is cases[0] else "", case.when, _set(case), evidence))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _set(case: Case) -> str:
    """Write what is set for the example of a case."""
    found = apply_rules(replace(PLAIN, **case.facts), case.given)
    found |= choose_for_backbone(case.given, found, replace(PLAIN, **case.facts))
    parts = [f"`{name}` = `{_value(found[name][0])}`" for name in case.sets.split()]
    return ". ".join(part for part in (", ".join(parts), case.how) if part)


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:8]}…"


def _linked(text: str) -> str:
    """Make links of names of sections in square brackets."""

    def link(match: re.Match[str]) -> str:
        return f"[{match[1]}]({MEASURED}#{anchor(match[1])})"

    return re.sub(r"\[([^\]]+)\](?!\()", link, text)


def anchor(heading: str) -> str:
    """Return the name under which GitHub has a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


if __name__ == "__main__":
    PAGE.write_text(make_rules(), encoding="utf-8")
