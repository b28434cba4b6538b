"""The rules that make a plan from the facts of the data: one table, read from top to bottom.

Each rule sets some settings and says in one sentence why, with the numbers of these very data. A
rule sees the facts and what the rules above it have set. When it sets what, and what stands behind
that, an experiment of benchmarks/README.md, a paper or nothing but custom, are its cases: the rows
of docs/rules.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hilum.efficientnet import LITE0, PUBLISHED
from hilum.fingerprint import Fingerprint, Resolution
from hilum.pretrained import (
    IMAGENET,
    installed_file,
    is_from_elsewhere,
    seen_in_words,
    side_from_elsewhere,
)
from hilum.symmetry import MIRRORS, WHAT, Mirror, Side

Choices = dict[str, tuple[Any, str]]
"""Value and reason by setting."""

SIDES = (28, 32, 48, 64, 96, 128)
"""Input sides, pixels. More costs time by the square; that 128 are enough is a guess."""

OF_CNNS = (
    *("network", "conv_channels", "kernel_size", "padding", "activation", "batch_norm", "pool"),
    *("dropout_conv", "blocks_per_stage", "stem_stride", "normalisation"),
)
"""Settings that describe a network which begins at random: who gives one wants such a network."""

PHOTO_SIDES = (64, 96, 128)
"""Input sides of networks that begin with photographs' weights, which halve them five times."""

LARGER_SIDES = (192, 256, 384, 512)
"""Sides that such networks take where smaller ones were tried and hide the signs."""

LARGE_PIXELS = 256 * 256
"""Of an input; of larger ones 16 are taken at once, for memory."""

PHOTO_IMAGES_SEEN, PHOTO_SEEN_A_CLASS = 10_000, 500
"""As `IMAGES_SEEN` and `SEEN_A_CLASS`, where weights begin well."""

MIXED_KINDS = ("backbone", "network")
"""An ensemble in which networks that begin with weights and such at random take turns."""

FULL_RESOLUTION = 64
"""Up to this side the first stage works at the resolution of the input."""

LEAST_FOR_FIVE = 24
"""Below this side a fifth stage would see the whole image as one place."""

IMAGES_SEEN, SEEN_A_CLASS = 20_000, 1_000
"""What training of two classes sees in all epochs, and what each further class adds to it."""

REDUCTIONS, LEAST_REDUCED = (1, 2, 4), 32
"""By how much networks of an ensemble get their images reduced, and the least side that is left."""

MUCH_LARGER = 1.5
"""How many times the network's input images must measure, to be reduced further; a guess."""

LEAST_EPOCHS, MOST_EPOCHS = 6, 240

FEW_IMAGES = 300
"""Fewer get smaller batches, and networks that begin with weights a higher learning rate."""

FEW_RATE, PHOTO_RATE, RANDOM_RATE = 1.2e-3, 7e-4, 2e-3
"""Peaks of the learning rate: for few images and many with weights, and at random."""

BESIDE_RATE = 2.1e-3
"""The same for networks at random that stand beside some with weights."""

# Types whose full range is no range of any detector.
SIGNED_OR_WIDE = ("int8", "int16", "int32", "uint32")

# Values of these are physical units: what is bright in one patient is bright in all.
CALIBRATED = ("CT",)


@dataclass(frozen=True)
class Case:
    """When something is set to what, and what stands behind it: a row of docs/rules.md.

    The page gets the values from the rule itself, for the facts of an example. Where a condition
    has a limit the example lies just on its side of it, so that the page shows when that moves.

    Attributes
    ----------
    when : str
    sets : str
        Names of settings, parted by spaces.
    evidence : str
        One of `EVIDENCE`, and what was found; names of sections of benchmarks/README.md stand in
        square brackets.
    how : str
        How a value comes about that is not one value.
    facts : dict
        What is to be known of the data, beside what is plain, for this case to hold.
    given : dict
        What the user is to have set.
    """

    when: str
    sets: str
    evidence: str
    how: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)


EVIDENCE = {
    "Measured": "by an experiment here, on training patients or stand-ins.",
    "Partly measured": "an experiment here leaves open what is said beside it.",
    "By a paper": "others have measured it; here it was not measured.",
    "Customary": "many do so; here it was not measured.",
    "A guess": "here it was not measured.",
    "Follows": "from what the files, the machine or the user say.",
}
"""What stands behind a case, by the words that its evidence begins with."""


@dataclass(frozen=True)
class Rule:
    """One line of the table.

    Attributes
    ----------
    about : str
        What it decides.
    choose : callable
        (facts, settings so far) → value and reason by setting.
    cases : tuple of Case
        What it sets when, and why; every setting that it sets is in one of them.
    """

    about: str
    choose: Callable[[Fingerprint, Mapping[str, Any]], Choices]
    cases: tuple[Case, ...]


def apply_rules(facts: Fingerprint, given: Mapping[str, Any]) -> Choices:
    """Go through the table and collect what the rules choose.

    Parameters
    ----------
    given : mapping
        What the user has set, which the rules take into account.
    """
    found: Choices = {}
    for rule in RULES:
        so_far = {name: value for name, (value, _) in found.items()} | dict(given)
        found |= rule.choose(facts, so_far)
    return found


# -- what to begin with --------------------------------------------------------------------------


def choose_start(given: Mapping[str, Any]) -> Choices:
    """Choose what a network begins with, before anything is known of the data.

    Parameters
    ----------
    given : mapping
        What the user has set.
    """
    start, published = f"hilum:{LITE0}", PUBLISHED[LITE0]
    weights = given.get("weights", IMAGENET)
    if given.get("backbone", start) != start or weights is None:
        return {}
    if "backbone" not in given and "weights" not in given:
        described = next((name for name in OF_CNNS if name in given), None)
        if described is not None:
            return {"backbone": (None, f"{described} describes a network that begins at random.")}
        if installed_file(LITE0) is None:
            package = published.package.replace("_", "-")
            return {"backbone": (None, f"No weights to begin with: {package} is not installed.")}
    why = (
        "Edges, textures and shapes that were learnt from a million photographs need not be learnt "
        "from these images again."
    )
    found: Choices = {"backbone": (start, "Small, and fast on a processor.")}
    if weights == IMAGENET:
        found |= {
            "weights": (IMAGENET, f"{why} Installed with Hilum; nothing is fetched."),
            "weights_sha256": (published.sha256, "That of the published file."),
        }
    return found | {
        "frozen_stages": (
            3,
            "Edges and textures stay as they are: faster, and learnt by heart less.",
        ),
        "frozen_norms": (True, "Few images at a time tell statistics worse than a million did."),
    }


def _start(_: Fingerprint, given: Mapping[str, Any]) -> Choices:
    return choose_start(given)


def begins_well(so_far: Mapping[str, Any]) -> bool:
    """Tell whether settings are of Hilum's own network with the weights that it is given."""
    return so_far.get("weights") is not None and so_far.get("backbone") == f"hilum:{LITE0}"


# -- pixels --------------------------------------------------------------------------------------


def _colours(facts: Fingerprint, _: Mapping[str, Any]) -> Choices:
    if facts.grey:
        return {"channels": (1, "Every image is grey.")}
    return {"channels": (3, "At least one image has colours.")}


def _input_size(facts: Fingerprint, so_far: Mapping[str, Any]) -> Choices:
    short = facts.median_short
    sides: tuple[int, ...] = SIDES
    least = max(8, round(short))
    if begins_well(so_far):
        sides, least = PHOTO_SIDES, PHOTO_SIDES[0]
    side = max((s for s in sides if s <= short), default=least)
    why = (
        f"The shorter side of half of the images has {short:.0f} pixels or more; "
        f"{side} is the next size not above it, {sides[-1]} at most."
    )
    if side > short:
        why = (
            f"The shorter side of half of the images has {short:.0f} pixels or more; they are "
            f"enlarged to {side}, for the network halves them five times."
        )
    tried = facts.resolution
    if tried is not None and begins_well(so_far):
        needed = tried.needed or side
        why = tried.reason if needed > side else f"{why} {tried.reason}"
        side = max(side, needed)
    if is_from_elsewhere(so_far):
        side, why = side_from_elsewhere(so_far, side)
    return {
        "input_height": (side, why),
        "input_width": (side, why),
        "resize": ("letterbox", "Keeps the aspect ratio and cuts nothing off."),
    }


def pixel_ranges(facts: Fingerprint, _: Mapping[str, Any] | None = None) -> Choices:
    """Find images that use a small part of what their type allows, and would come out flat."""
    ranges, reasons = {}, []
    highest = facts.highest.get("uint16")
    if highest is not None and highest < 2**15:
        white = next(2**bits - 1 for bits in range(8, 16) if highest < 2**bits)
        ranges["uint16"] = (0.0, float(white))
        reasons.append(
            f"The 16-bit images that state no range hold values up to {highest:.0f} only: {white} "
            "shows as white, so that grey levels are kept."
        )
    for dtype in SIGNED_OR_WIDE:
        low, high = (found.get(dtype) for found in (facts.lowest, facts.highest))
        if low is not None and high is not None and low < high:
            ranges[dtype] = (low, high)
            reasons.append(
                f"The {dtype} images state no range and hold {low:.0f} to {high:.0f} outside the "
                "test split: these show as black and white."
            )
    return {"ranges": (ranges, " ".join([*reasons, "Stored with the model."]))} if ranges else {}


def _normalisation(facts: Fingerprint, so_far: Mapping[str, Any]) -> Choices:
    of_weights = ""
    if str(so_far.get("backbone")).startswith("hilum:"):
        of_weights = " The backbone takes off constants of its own instead."
    calibrated = sum(facts.modalities.get(name, 0) for name in CALIBRATED)
    if calibrated:
        why = (
            f"{calibrated:,} images are CT, whose values are physical: brightness tells something."
        )
        return {"normalisation": ("dataset", why + of_weights)}
    varied = ""
    if facts.intensity is not None:
        spread = facts.intensity.mean_spread
        varied = f" Mean brightness varies by {spread:.0%} of the range among these images."
    why = "What a scanner's gain and exposure do to a whole image is taken off before it is seen."
    return {"normalisation": ("image", why + varied + of_weights)}


# -- network -------------------------------------------------------------------------------------


def _network(_: Fingerprint, so_far: Mapping[str, Any]) -> Choices:
    side = min(so_far["input_height"], so_far["input_width"])
    found: Choices = {
        "network": (
            "residual",
            "Far better than a classic one on blood cells, level on 45 and 250 chest X-rays.",
        ),
        "blocks_per_stage": (
            1,
            "Two, with four times the channels and a stem that halves, learnt no more: an AUROC "
            "of .985 against .987 on chest X-rays of another source, at 32 pixels.",
        ),
        "dropout_dense": (
            0.0,
            "Off: with 0.3, networks that begin at random had an AUROC of .993 against .994 on 250 "
            "chest X-rays.",
        ),
    }
    if side <= FULL_RESOLUTION:
        kept = f"An input of {side} pixels: halved at once, small signs would be lost."
        widths = (16, 32, 64, 128, 256) if side >= LEAST_FOR_FIVE else (16, 32, 64, 128)
        return found | {
            "stem_stride": (1, kept),
            "conv_channels": (widths, "Few channels where there are many pixels."),
        }
    halved = f"An input of {side} pixels: halved once, an epoch takes a quarter of the time."
    return found | {
        "stem_stride": (2, halved),
        "conv_channels": ((32, 64, 128, 256), "Four stages, each at half the resolution."),
    }


def _ensemble(facts: Fingerprint, so_far: Mapping[str, Any]) -> Choices:
    if begins_well(so_far):
        return _mixed(facts, so_far)
    if so_far.get("backbone") or so_far["network"] != "residual":
        return {}  # only residual networks can be built for any size
    if not _comes_much_larger(facts, so_far):
        why = "These images are taken at about their own size, and every pixel of it may count."
        return {"reductions": ((1,), why)}
    height, width = so_far["input_height"], so_far["input_width"]
    short = min(height, width)
    factors = tuple(
        factor
        for factor in REDUCTIONS
        if factor == 1
        or (short >= factor * LEAST_REDUCED and height % factor == width % factor == 0)
    )
    if len(factors) == 1:
        return {"reductions": (factors, "Reduced further, these images would show too little.")}
    return {"reductions": (factors, sides_in_words(short, factors))}


def sides_in_words(short: int, factors: Sequence[int]) -> str:
    """Say why networks get images reduced by these factors, of which there are several."""
    *more, last = dict.fromkeys(f"{short // factor}" for factor in factors)
    sides = f"{', '.join(more)} and {last}"
    return f"Networks that see {sides} pixels err less alike; the smaller cost less."


def _mixed(facts: Fingerprint, so_far: Mapping[str, Any]) -> Choices:
    """Put CNNs that begin at random between networks that begin with weights, and reduce images."""
    kinds = so_far.get("kinds", MIXED_KINDS)
    found: Choices = {}
    height, width = so_far["input_height"], so_far["input_width"]
    tried = facts.resolution
    if tried is not None and (tried.needed or 0) >= min(height, width) > PHOTO_SIDES[-1]:
        return _needing_pixels(so_far)
    if "kinds" not in so_far:
        why = "Networks that begin with weights and such at random err least alike."
        found = {"kinds": (kinds, why)}
    short, comes = min(height, width), facts.median_short
    whole: Choices = {"reductions": ((1,), "Every network sees as much as it can.")}
    if height % 2 or width % 2:
        return found | whole
    if short >= 2 * PHOTO_SIDES[0]:
        halves = (1, 2, 2)
        return found | {"reductions": (halves, sides_in_words(short, halves))}
    is_loss = short / 2 < comes < MUCH_LARGER * short  # of pixels that the images really have
    if "network" not in kinds or is_loss or short < 2 * LEAST_REDUCED:
        return found | whole
    why = f"CNNs that begin at random see {short // 2} pixels: they err less alike, and cost less."
    return found | {"reductions": ((1, 2), why)}


def _needing_pixels(so_far: Mapping[str, Any]) -> Choices:
    """Let every network begin with weights and get images whole: smaller ones hide the signs."""
    whole: Choices = {"reductions": ((1,), "Smaller images hide what tells the classes apart.")}
    if "kinds" in so_far:
        return whole
    why = "Networks that begin at random would take long, and were not tried on so many pixels."
    return whole | {"kinds": (("backbone",), why)}


def _comes_much_larger(facts: Fingerprint, so_far: Mapping[str, Any]) -> bool:
    taken: int = min(so_far["input_height"], so_far["input_width"])
    return facts.median_short >= MUCH_LARGER * taken


# -- training ------------------------------------------------------------------------------------


def images_wanted(n_classes: int, so_far: Mapping[str, Any]) -> int:
    """Return how many images training is to see in all epochs; of large data it sees more."""
    seen, of_class = IMAGES_SEEN, SEEN_A_CLASS
    if begins_well(so_far):
        seen, of_class = PHOTO_IMAGES_SEEN, PHOTO_SEEN_A_CLASS
    return seen + of_class * max(0, n_classes - 2)


def _steps(facts: Fingerprint, so_far: Mapping[str, Any]) -> Choices:
    n, n_classes = facts.n_train, len(facts.class_counts)
    seen = images_wanted(n_classes, so_far)
    epochs = min(MOST_EPOCHS, max(LEAST_EPOCHS, round(seen / n)))
    batch = _batch(n, so_far)
    if so_far.get("probe"):
        why = "Not used: the backbone goes over the images once."
        return {"epochs": (1, why), "batch_size": (batch[0], why)}
    what = "labels" if so_far.get("target") == "multilabel" else "classes"
    return {
        "epochs": (epochs, seen_in_words(epochs, n, seen, f"for {n_classes} {what}")),
        "batch_size": batch,
    }


def _batch(n: int, so_far: Mapping[str, Any]) -> tuple[int, str]:
    """Choose how many of n images are taken at once."""
    is_large = so_far["input_height"] * so_far["input_width"] > LARGE_PIXELS
    batch = 16 if n < FEW_IMAGES or is_large else 32
    why = "A customary number; others were not compared."
    if is_large:
        why = (
            "Half of the customary 32, for memory: with 16 images of 384×384 pixels a training "
            "took 3.1 GB."
        )
    elif n < FEW_IMAGES:
        why = "Half of the customary 32: more steps with few images; not compared."
    return batch, f"{why} {_steps_in_words(max(1, n // batch))} an epoch of all {n:,} images."


def _steps_in_words(n: int) -> str:
    return f"{n:,} step" + ("s" if n > 1 else "")


def _optimizer(facts: Fingerprint, so_far: Mapping[str, Any]) -> Choices:
    return _rates(facts, so_far) | {
        "optimizer": ("adamw", "Adam with decoupled weight decay needs the least tuning."),
        "weight_decay": (0.02, "Holds weights small; mild, as augmentation does the most."),
        "schedule": ("one_cycle", "Warms up, then falls to zero by the last epoch."),
        "label_smoothing": (0.05, "Labels of the field are rarely certain."),
        "mixup": (
            0.0,
            "Off: with 0.4, networks that begin at random had an AUROC of .9934 against .9913 on "
            "chest X-rays, no more than chance, and earlier ones .862 against .944 on blood cells.",
        ),
    }


def _rates(facts: Fingerprint, so_far: Mapping[str, Any]) -> Choices:
    peak = "The peak of the one-cycle schedule"
    if so_far.get("schedule", "one_cycle") != "one_cycle":
        peak = "Tried as the peak of a one-cycle schedule alone"
    if not begins_well(so_far):
        return {"learning_rate": (RANDOM_RATE, f"{peak}.")}
    moves = "The weights begin well, and are to move less than the new head"
    if facts.n_train < FEW_IMAGES:
        rate, why = FEW_RATE, f"{facts.n_train} images make few steps, which then go further."
        share = 0.25, f"{moves}; at half of its rate so few images with faint signs taught nothing."
    else:
        share = 0.5, f"{moves}."
        rate, why = (
            PHOTO_RATE,
            "With more, networks that begin with weights may lose what they know before faint or "
            "rare signs teach them.",
        )
    rates: Choices = {
        "learning_rate": (rate, f"{peak}. {why}"),
        "backbone_rate": share,
        "gradient_clip": (
            None,
            "Off: where such networks failed, at a rate of 0.002 with 24 ill blood cells, clipping "
            "at norm 1 left nearly one score for all.",
        ),
    }
    if "network" in so_far.get("kinds", ()) and "learning_rate" not in so_far:
        rates["random_rate"] = (
            round(BESIDE_RATE / rate, 3),
            f"Networks that begin at random learn at {BESIDE_RATE:g}: they learnt more by it than "
            "by half of it, and lost nothing.",
        )
    return rates


def _weights(_: Fingerprint, so_far: Mapping[str, Any]) -> Choices:
    rests = so_far["schedule"] in ("one_cycle", "cosine")
    lead = "The schedule ends at rest, and the" if rests else "The"
    return {
        "weight_averaging": (
            0.99,
            "The mean of late weights, customary: no gain and no loss was found by it here.",
        ),
        "keep": (
            "last",
            f"{lead} best of many epochs on few validation images is best by luck: they stay fresh "
            "for threshold and calibration.",
        ),
    }


def _imbalance(facts: Fingerprint, so_far: Mapping[str, Any]) -> Choices:
    n_classes, ratio = len(facts.class_counts), facts.imbalance
    if so_far.get("target") == "multilabel":
        why = "Each label has a threshold of its own, and weights would distort its probabilities."
    elif n_classes == 2:
        why = (
            "Weights would distort the probabilities, and the threshold is set on validation data."
        )
    elif ratio > 5:
        return {
            "class_weights": (
                "balanced",
                f"The largest class has {ratio:.0f} times the images of the smallest, which would "
                "hardly be called. So each is called by its probability over its share; the "
                "probabilities themselves stay those of the images as they come.",
            )
        }
    else:
        why = f"The largest class has {ratio:.1f} times the images of the smallest: no need."
    return {"class_weights": ("none", why)}


def _threshold(facts: Fingerprint, so_far: Mapping[str, Any]) -> Choices:
    if len(facts.class_counts) != 2 and so_far.get("target") != "multilabel":
        return {}
    why = (
        "Other scanners move the scores of both classes: a threshold that was best for unchanged "
        "images alone is easily too low or too high there."
    )
    return {"operating_point": ("robust", why)}


# -- augmentation --------------------------------------------------------------------------------


def _placing(facts: Fingerprint, _: Mapping[str, Any]) -> Choices:
    placing = "Patients are placed a little differently each time."
    return {
        "rotation": (10.0, placing),
        "zoom": (0.1, placing),
        "shift": (0.05, placing),
        "stretch": _stretch(facts),
    }


def _stretch(facts: Fingerprint) -> tuple[float, str]:
    """Stretch images that somebody may have made square: the proportions would be lost in it."""
    sizes = {facts.min_height, facts.max_height, facts.min_width, facts.max_width}
    if len(sizes) > 1 or facts.min_height == 0:
        return 0.0, "The images are not all squares of one size: their proportions are kept."
    square = f"All images are {facts.min_height:.0f} pixels high and wide"
    if facts.share_spaced == 1:
        return 0.0, (
            f"{square}, and their headers give the distance between rows and between columns, so "
            "that this is probably how they were taken."
        )
    silent = "not every header gives" if facts.share_spaced else "no header gives"
    return 0.15, (
        f"{square}, and {silent} the distance between pixels: probably they were resized, and "
        "proportions lost in it can give a class away, or differ elsewhere. Of tiles and square "
        "detectors that is not so: --set stretch=0."
    )


def _flips(facts: Fingerprint, so_far: Mapping[str, Any]) -> Choices:
    def flip(mirror: Mirror) -> tuple[bool, str]:
        side = facts.sides.get(mirror)
        if side is None:
            why = f"Off: nothing here tells whether images mirrored {WHAT[mirror]} occur."
            return False, why
        return side.kind == "symmetric", side.reason

    return {
        "flip_horizontal": flip("horizontal"),
        "flip_vertical": flip("vertical"),
        "flip_diagonal": flip("transpose")
        if so_far["input_height"] == so_far["input_width"]
        else (False, "Off: the input is not square."),
    }


def _acquisition(_: Fingerprint, so_far: Mapping[str, Any]) -> Choices:
    exposure = "Scanners and exposures differ, above all between hospitals and years."
    detail = "Sharpness and noise differ between scanners."
    share = "Most images keep their detail, which every change of place or sharpness blurs."
    return {
        "augmented_share": (0.3, share),
        "gamma": (0.3, exposure),
        "contrast": (0.3, exposure),
        "brightness": (0.1, exposure),
        "blur": (
            1.0 if min(so_far["input_height"], so_far["input_width"]) > FULL_RESOLUTION else 0.5,
            detail,
        ),
        "noise": (0.05, detail),
        "low_resolution": (0.5, detail),
        "bias_field": (
            0.0,
            "Off: with 0.3, networks that begin at random had an AUROC of .987 on chest X-rays of "
            "another source, as without, and of .989 against .988 under changes.",
        ),
        "erasing": (
            0.0,
            "Off: small signs may be what is erased. With 0.4, networks that begin at random had "
            "an AUROC of .990 against .988 on changed chest X-rays of another source; no other "
            "images were tried.",
        ),
    }


# -- the table -----------------------------------------------------------------------------------

_AT_RANDOM = {"backbone": None}
_NEEDING_384 = {"median_short": 1024.0, "resolution": Resolution(384, "It was tried.", {384: 0.1})}
_SQUARE = dict.fromkeys(("min_height", "max_height", "min_width", "max_width"), 224.0)


def _mirrored(kind: Literal["sided", "symmetric", "undecided"]) -> dict[str, Any]:
    return {"sides": {mirror: Side(kind, None, None, "It was tried.") for mirror in MIRRORS}}


RULES: tuple[Rule, ...] = (
    Rule(
        "what to begin with",
        _start,
        (
            Case(
                "nothing is said of the network",
                "backbone weights weights_sha256",
                "Measured: tells brain slices and blood cells apart better than CNNs that begin at "
                "random, and chest X-rays as well [Weights to begin with]. No other such network "
                "was tried (this one: Tan and Le, 2019).",
            ),
            Case(
                "the same, and the package of these weights is not installed",
                "",
                "Follows: nothing is fetched.",
                "`backbone` = `null`: it begins at random.",
            ),
            Case(
                "it begins with weights",
                "frozen_stages",
                "Measured: no worse than learning in all stages, in half of the time; four stages "
                "are no better, five and six worse [Weights to begin with].",
            ),
            Case(
                "it begins with weights",
                "frozen_norms",
                "Partly measured: no loss on chest X-rays, the one pair that differs in nothing "
                "else [Weights to begin with]. At the learning rate of before, where such networks "
                "failed on a rare class, statistics that were learnt did better [How fast].",
            ),
            Case(
                "`network`, `conv_channels` or another setting of CNNs is given, and no backbone",
                "backbone",
                "Follows: who describes a CNN wants one.",
                given={"network": "classic"},
            ),
        ),
    ),
    Rule(
        "channels",
        _colours,
        (
            Case("every image is grey", "channels", "Follows: it is in the files."),
            Case(
                "at least one has colours",
                "channels",
                "Follows: it is in the files.",
                facts={"grey": False},
            ),
        ),
    ),
    Rule(
        "input size",
        _input_size,
        (
            Case(
                "it begins with weights; half of the images have a shorter side of 128 pixels or "
                "more",
                "input_height input_width",
                "Partly measured: 160 pixels were no better, 64 worse on brain slices and as good "
                "on chest X-rays [Weights to begin with]; that 128 are enough where nothing larger "
                "was tried is a guess.",
                facts={"median_short": 128.0},
            ),
            Case(
                "the same; 96 to 127 pixels",
                "input_height input_width",
                "A guess: what the images have, between two sizes that were measured.",
                facts={"median_short": 127.0},
            ),
            Case(
                "the same; less than 96",
                "input_height input_width",
                "Partly measured: chest X-rays of 28 pixels, enlarged, are told apart a little "
                "better than by a CNN at their own size [Weights to begin with].",
                "Smaller images are enlarged to it.",
                facts={"median_short": 95.0},
            ),
            Case(
                "it begins with weights, and larger inputs were tried (below): more pixels are "
                "needed",
                "input_height input_width",
                "Measured: on a stand-in and four real sets [How many pixels].",
                "The least side that is not clearly worse than the best; here 384 was found.",
                facts=_NEEDING_384,
            ),
            Case(
                "it begins at random",
                "input_height input_width",
                "Partly measured: 96 and 128 pixels are as good as 64 on chest X-rays [How long, "
                "how large, how many]; that 128 are enough elsewhere is a guess.",
                f"The greatest of {', '.join(map(str, SIDES))} that is not above the shorter side "
                "of half of the images; here 224.",
                given=_AT_RANDOM,
            ),
            Case(
                "always",
                "resize",
                "Customary, not measured here: proportions are kept, and nothing is cut off.",
            ),
        ),
    ),
    Rule(
        "black and white",
        pixel_ranges,
        (
            Case(
                "16-bit images that state no range stay below 32,768",
                "ranges",
                "Follows: 8 bits of the whole range would leave few grey levels.",
                "White is the next power of two, less one; here they reach 4,000.",
                facts={"highest": {"uint16": 4000.0}},
            ),
            Case(
                f"images of {', '.join(SIGNED_OR_WIDE)} state no range",
                "ranges",
                "Follows: their type has no range that means anything.",
                "From the least to the greatest value outside the test split; here −1,000 and "
                "3,000.",
                facts={"lowest": {"int16": -1000.0}, "highest": {"int16": 3000.0}},
            ),
        ),
    ),
    Rule(
        "normalisation of CNNs that begin at random",
        _normalisation,
        (
            Case(
                "an image is CT",
                "normalisation",
                "By a paper: Isensee et al., 2021 (nnU-Net), who treat CT by the whole set.",
                facts={"modalities": {"CT": 1}},
            ),
            Case(
                "none is",
                "normalisation",
                "Measured: as good on images as they are, mostly better under changes [Ablations "
                "of networks that begin at random] [Beside other tools].",
            ),
            Case(
                "a network begins with weights",
                "",
                "Measured: on brain slices standardising each image was worse [Weights to begin "
                "with].",
                "It takes off constants of its own, whatever `normalisation` is.",
            ),
        ),
    ),
    Rule(
        "network of CNNs that begin at random",
        _network,
        (
            Case(
                "always",
                "network",
                "Partly measured: far better than a classic one on blood cells, level on 45 and "
                "250 chest X-rays [Ablations of networks that begin at random]; He et al., 2016.",
            ),
            Case(
                "always",
                "dropout_dense",
                "Partly measured: with 0.3 level on 250 chest X-rays [Ablations of networks that "
                "begin at random].",
            ),
            Case(
                "always",
                "blocks_per_stage",
                "Partly measured: two were no better on chest X-rays of 32 pixels, tried together "
                "with four times the channels and a stem that halves [Beside other tools].",
            ),
            Case(
                f"input of {FULL_RESOLUTION} pixels or less",
                "stem_stride",
                "Partly measured: better on blood cells, no different on 250 chest X-rays "
                "[Ablations of networks that begin at random].",
                facts={"median_short": float(FULL_RESOLUTION)},
                given=_AT_RANDOM,
            ),
            Case(
                f"input of {LEAST_FOR_FIVE} to {FULL_RESOLUTION} pixels",
                "conv_channels",
                "Partly measured: 16 channels at first are as good as 32, in half of the time "
                "[Ablations of networks that begin at random]; twice as many in all are no better "
                "[Beside other tools]. The number of stages is a guess.",
                facts={"median_short": float(FULL_RESOLUTION)},
                given=_AT_RANDOM,
            ),
            Case(
                f"input below {LEAST_FOR_FIVE} pixels",
                "conv_channels",
                "A guess: a fifth stage would see the whole image as one place.",
                facts={"median_short": LEAST_FOR_FIVE - 1.0},
                given=_AT_RANDOM,
            ),
            Case(
                f"larger input than {FULL_RESOLUTION}",
                "stem_stride conv_channels",
                "A guess: for time; others were not compared at such sizes.",
                given=_AT_RANDOM,
            ),
        ),
    ),
    Rule(
        "networks of an ensemble",
        _ensemble,
        (
            Case(
                "it begins with weights",
                "kinds",
                "Measured: better than one network on chest X-rays of another source; on brain "
                "slices better in one of two divisions [Weights to begin with].",
            ),
            Case(
                f"the same; input of {2 * PHOTO_SIDES[0]} pixels or more",
                "reductions",
                "Measured: the mean of these three is as good as that of the first two, on the "
                "same sets [Weights to begin with].",
            ),
            Case(
                "the same; smaller input, and images that are "
                f"{MUCH_LARGER:g} times as large or more, or half as large or less",
                "reductions",
                "Partly measured: on chest X-rays of 28 pixels [Weights to begin with], and with "
                "CNNs alone [Networks that see less]; the limits are guesses.",
                facts={"median_short": PHOTO_SIDES[0] / 2},
            ),
            Case(
                "the same; smaller input, other images",
                "reductions",
                "Measured: with CNNs alone, where reducing loses pixels that the images have "
                "[Networks that see less].",
                facts={"median_short": float(PHOTO_SIDES[0])},
            ),
            Case(
                "larger inputs were tried, and more pixels are needed",
                "kinds reductions",
                "Follows: what smaller inputs hide no ensemble shows. Ensembles were not compared "
                "there.",
                facts=_NEEDING_384,
            ),
            Case(
                f"it begins at random; images {MUCH_LARGER:g} times as large as the input or more",
                "reductions",
                "Measured: better together than networks on whole images, on brain slices by much, "
                f"on chest X-rays by little [Networks that see less]; {MUCH_LARGER:g} is a guess "
                "between these sets.",
                f"As far as {LEAST_REDUCED} pixels are left.",
                given=_AT_RANDOM,
            ),
            Case(
                "it begins at random; other images",
                "reductions",
                "Measured: reducing lost what tells stand-ins and blood cells apart [Networks that "
                "see less].",
                facts={"median_short": 128.0},
                given=_AT_RANDOM,
            ),
        ),
    ),
    Rule(
        "epochs and batch, before the time is looked at",
        _steps,
        (
            Case(
                "it begins with weights",
                "epochs",
                "A guess: 4,000 and 8,000 images seen were enough to measure by [Weights to begin "
                "with]; more were not compared.",
                f"{PHOTO_IMAGES_SEEN:,} images seen, {PHOTO_SEEN_A_CLASS} more for each class "
                f"beyond two, in {LEAST_EPOCHS} to {MOST_EPOCHS} epochs; here of 1,000 images and "
                "two classes.",
            ),
            Case(
                "it begins at random",
                "epochs",
                "Partly measured: three times as many are no better, and 20 classes need more [How "
                f"long, how large, how many]; {LEAST_EPOCHS} and {MOST_EPOCHS} are guesses.",
                f"{IMAGES_SEEN:,} images seen, {SEEN_A_CLASS:,} more for each class beyond two, in "
                f"{LEAST_EPOCHS} to {MOST_EPOCHS} epochs; here of 1,000 images and two classes.",
                given=_AT_RANDOM,
            ),
            Case(
                "a linear model on features (`probe`)",
                "epochs",
                "Follows: the images are gone over once.",
                given={"probe": True},
            ),
            Case(
                "fewer than 300 images to learn from",
                "batch_size",
                "Customary, not measured here: an epoch is to have some steps. Masters and Luschi, "
                "2018, speak for small batches.",
                facts={"n_train": 299},
            ),
            Case(
                "input of more than 256 × 256 pixels",
                "batch_size",
                "Partly measured: for memory, 3.1 GB at 384 pixels [Stand-ins]; what it does to "
                "learning was not compared.",
                given={"input_height": 288, "input_width": 288},
            ),
            Case("else", "batch_size", "Customary, not measured here.", facts={"n_train": 300}),
        ),
    ),
    Rule(
        "optimizer",
        _optimizer,
        (
            Case(
                "it begins with weights; 300 images to learn from or more",
                "learning_rate",
                "Measured: three times as much failed on faint signs and rare classes, a little "
                "less was no better [How fast].",
                facts={"n_train": 300},
            ),
            Case(
                "it begins with weights; fewer",
                "learning_rate",
                "Partly measured: with the backbone's share as good as 0.0007 or better on seven "
                "sets of 126 to 255 images, by less than chance on most [How fast]. Where few "
                "images end is a guess.",
                facts={"n_train": 299},
            ),
            Case(
                "it begins with weights; 300 images to learn from or more",
                "backbone_rate",
                "Partly measured: smaller shares were tried at the learning rate of before alone, "
                "and helped where it was too high [How fast].",
                facts={"n_train": 300},
            ),
            Case(
                "it begins with weights; fewer",
                "backbone_rate",
                "Partly measured: at 0.5 a network learnt nothing from 255 images with faint "
                "shadows, at either rate [How fast].",
                facts={"n_train": 299},
            ),
            Case(
                "the same, with CNNs at random in the ensemble, and no rate is given",
                "random_rate",
                "Partly measured: on one task half of it was worse, and nothing failed [How fast].",
                "Times the learning rate.",
            ),
            Case(
                "it begins at random",
                "learning_rate",
                "Partly measured: on blood cells half of it was worse [How fast], 2.5 times of it "
                "no different [Ablations of networks that begin at random].",
                given=_AT_RANDOM,
            ),
            Case(
                "it begins with weights",
                "gradient_clip",
                "Partly measured: did not mend a learning rate that was too high [How fast].",
            ),
            Case(
                "always",
                "mixup",
                "Partly measured: within chance on chest X-rays, worse on blood cells "
                "with networks of before [Ablations of networks that begin at random].",
            ),
            Case("always", "optimizer", "By a paper: Loshchilov and Hutter, 2019."),
            Case("always", "weight_decay", "A guess, not measured here."),
            Case("always", "schedule", "By a paper: Smith, 2018."),
            Case(
                "always",
                "label_smoothing",
                "Partly measured: one network without it did better, at a learning rate that "
                "failed with it [How fast]. Szegedy et al., 2016, have 0.1; half of it is a guess.",
            ),
        ),
    ),
    Rule(
        "weights that are kept",
        _weights,
        (
            Case(
                "always",
                "weight_averaging",
                "Partly measured: no gain in the one experiment here, with the recipe's network, "
                ".964 against .965 under changes and .993 against .992 as they are [Does "
                "augmentation of exposure hold under shift?]. It rests on papers: Polyak and "
                "Juditsky, 1992; Izmailov et al., 2018.",
            ),
            Case(
                "always",
                "keep",
                "Measured: the best epoch by 45 validation images was clearly worse [Ablations of "
                "networks that begin at random].",
            ),
        ),
    ),
    Rule(
        "imbalance",
        _imbalance,
        (
            Case(
                "two classes",
                "class_weights",
                "Partly measured: on one rare class weights helped at a learning rate that failed, "
                "and showing it more often did not at a lower one [How fast]. Van den Goorbergh et "
                "al., 2022, for logistic regression.",
            ),
            Case(
                "more classes, the largest more than 5 times the smallest",
                "class_weights",
                "Partly measured: with 11 of 168 images in the rarest class both AUROC and "
                "balanced accuracy were higher; blood cells were told apart perfectly either way "
                "[Weighted classes]. The ratio is a guess.",
                facts={"class_counts": {"a": 501, "b": 300, "c": 100}},
            ),
            Case(
                "more classes, else",
                "class_weights",
                "Customary, not measured here.",
                facts={"class_counts": {"a": 500, "b": 300, "c": 100}},
            ),
            Case(
                "several labels an image",
                "class_weights",
                "A guess: as for two classes, label by label.",
                facts={"class_counts": {"a": 501, "b": 300, "c": 100}},
                given={"target": "multilabel"},
            ),
        ),
    ),
    Rule(
        "threshold",
        _threshold,
        (
            Case(
                "two classes, or several labels (of more classes the likeliest is called, of "
                "grades the median: there is no threshold)",
                "operating_point",
                "Measured: with two classes it decides changed and moved X-rays better and costs "
                "little or nothing as they are, but .02 on brain slices, where few images choose "
                "[What moves the threshold]. With several labels it was not measured.",
            ),
        ),
    ),
    Rule(
        "augmentation: place",
        _placing,
        (
            Case(
                "always",
                "rotation zoom shift",
                "Partly measured: more of it gains on moved images and blurs classes that size "
                "tells apart [Placed more differently]; these very sizes are customary.",
            ),
            Case(
                "all images have one square size",
                "stretch",
                "Measured: decides stretched images better, costs .003 of AUROC on others; more is "
                "no better [What moves the threshold].",
                facts=_SQUARE,
            ),
            Case(
                "they have sizes of their own",
                "stretch",
                "Measured: on brain slices and blood cells stretching decides nothing better "
                "[Placed more differently].",
                facts=_SQUARE | {"max_width": 225.0},
            ),
        ),
    ),
    Rule(
        "augmentation: flips",
        _flips,
        (
            Case(
                "a permutation test on the training images finds them symmetric in this way",
                "flip_horizontal flip_vertical flip_diagonal",
                "Partly measured: the test was held against five sets "
                "([Flips that would lie](planning.md#flips-that-would-lie)); that flips help where "
                "they are allowed is customary. Mirrored chest X-rays, where they are not, gained "
                "and lost nothing [Beside other tools].",
                facts=_mirrored("symmetric"),
            ),
            Case(
                "it finds a side",
                "flip_horizontal flip_vertical flip_diagonal",
                "Partly measured: the same.",
                facts=_mirrored("sided"),
            ),
            Case(
                "it cannot tell: too few images, or fewer than ten patients",
                "flip_horizontal flip_vertical flip_diagonal",
                "Follows: what is not known to be harmless is not done.",
                facts=_mirrored("undecided"),
            ),
            Case(
                "the input is not square",
                "flip_diagonal",
                "Follows: rows cannot become columns.",
                facts=_mirrored("symmetric"),
                given={"input_height": 64, "input_width": 96},
            ),
        ),
    ),
    Rule(
        "augmentation: exposure, sharpness, noise",
        _acquisition,
        (
            Case(
                "always",
                "augmented_share",
                "Partly measured: every image changed is no better at random [Ablations of "
                "networks that begin at random], and worse with weights [Weights to begin with]; "
                "six in ten are no different [Placed more differently]. Three in ten were not "
                "searched for.",
            ),
            Case(
                "always",
                "gamma contrast brightness",
                "Measured: with the recipe's network AUROC under changes is .978 with it, .965 "
                "without [Does augmentation of exposure hold under shift?]; more is no better "
                "[Placed more differently].",
            ),
            Case(
                "always",
                "noise low_resolution",
                "Partly measured: without blur and loss of resolution blood cells are told apart "
                "less well under changes [Ablations of networks that begin at random], and without "
                "noise too chest X-rays are decided less well [Beside other tools]. Kinds of "
                "change after Isensee et al., 2021 (nnU-Net); these sizes are guesses.",
            ),
            Case(
                f"input of more than {FULL_RESOLUTION} pixels",
                "blur",
                "Partly measured: the same.",
            ),
            Case(
                f"input of {FULL_RESOLUTION} pixels or less",
                "blur",
                "Partly measured: the same.",
                facts={"median_short": float(FULL_RESOLUTION)},
            ),
            Case(
                "always",
                "bias_field erasing",
                "Partly measured: on chest X-rays of another source alone, no different; what is "
                "erased may be a small sign [Ablations of networks that begin at random].",
            ),
        ),
    ),
)
