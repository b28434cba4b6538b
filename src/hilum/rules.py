"""The rules that make a plan from the facts of the data: one table, read from top to bottom.

Each rule sets some settings and says in one sentence why, with the numbers of these very data; what
stands behind the rule itself, an experiment of benchmarks/README.md or a paper, is its source. A
rule sees the facts and what the rules above it have set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hilum.efficientnet import LITE0, PUBLISHED
from hilum.fingerprint import Fingerprint
from hilum.pretrained import (
    IMAGENET,
    installed_file,
    is_from_elsewhere,
    seen_in_words,
    side_from_elsewhere,
)
from hilum.symmetry import WHAT, Mirror

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

# Types whose full range is no range of any detector.
SIGNED_OR_WIDE = ("int8", "int16", "int32", "uint32")

# Values of these are physical units: what is bright in one patient is bright in all.
CALIBRATED = ("CT",)


@dataclass(frozen=True)
class Rule:
    """One line of the table.

    Attributes
    ----------
    about : str
        What it decides.
    choose : callable
        (facts, settings so far) → value and reason by setting.
    source : str
        The experiment or paper behind it, or that it is a guess.
    """

    about: str
    choose: Callable[[Fingerprint, Mapping[str, Any]], Choices]
    source: str


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
        "backbone_rate": (0.5, "The weights begin well, and are to move less than the new head."),
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
        "network": ("residual", "Learnt more than the classic one from 45, 250 and 1,000 images."),
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


def _steps(facts: Fingerprint, so_far: Mapping[str, Any]) -> Choices:
    n, n_classes = facts.n_train, len(facts.class_counts)
    seen, of_class = IMAGES_SEEN, SEEN_A_CLASS
    if begins_well(so_far):
        seen, of_class = PHOTO_IMAGES_SEEN, PHOTO_SEEN_A_CLASS
    seen += of_class * max(0, n_classes - 2)
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
    batch = 16 if n < 300 or is_large else 32
    why = "A customary number; others were not compared."
    if is_large:
        why = (
            "Half of the customary 32, for memory: with 16 images of 384×384 pixels a training "
            "took 3.1 GB."
        )
    elif n < 300:
        why = "Half of the customary 32: more steps with few images; not compared."
    return batch, f"{why} {_steps_in_words(max(1, n // batch))} an epoch for {n:,} images."


def _steps_in_words(n: int) -> str:
    return f"{n:,} step" + ("s" if n > 1 else "")


def _optimizer(_: Fingerprint, so_far: Mapping[str, Any]) -> Choices:
    return _rates(so_far) | {
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


def _rates(so_far: Mapping[str, Any]) -> Choices:
    peak = "The peak of the one-cycle schedule"
    if so_far.get("schedule", "one_cycle") != "one_cycle":
        peak = "Tried as the peak of a one-cycle schedule alone"
    if not begins_well(so_far):
        return {"learning_rate": (2e-3, f"{peak}.")}
    rates: Choices = {
        "learning_rate": (
            7e-4,
            f"{peak}. With more, networks that begin with weights may lose what they know before "
            "faint or rare signs teach them.",
        ),
        "gradient_clip": (
            None,
            "Off: where such networks failed, at a rate of 0.002 with 24 ill blood cells, clipping "
            "at norm 1 left nearly one score for all.",
        ),
    }
    if "network" in so_far.get("kinds", ()) and "learning_rate" not in so_far:
        rates["random_rate"] = (
            3.0,
            "Networks that begin at random learn at 0.0021: they learnt more by it than by half of "
            "it, and lost nothing.",
        )
    return rates


def _weights(_: Fingerprint, so_far: Mapping[str, Any]) -> Choices:
    rests = so_far["schedule"] in ("one_cycle", "cosine")
    lead = "The schedule ends at rest, and the" if rests else "The"
    return {
        "weight_averaging": (0.99, "The mean of late weights errs less than the last ones."),
        "keep": (
            "last",
            f"{lead} best of many epochs on few validation images is best by luck: they stay fresh "
            "for threshold and calibration.",
        ),
    }


def _imbalance(facts: Fingerprint, given: Mapping[str, Any]) -> Choices:
    if given.get("target") == "multilabel":
        why = "Each label has a threshold of its own, and weights would distort its probabilities."
        return {"class_weights": ("none", why)}
    n_classes, ratio = len(facts.class_counts), facts.imbalance
    if n_classes > 2 and ratio > 5:
        why = f"The largest class has {ratio:.0f} times the images of the smallest."
        return {"class_weights": ("balanced", why)}
    why = (
        "Weights would distort the probabilities, and the threshold is set on validation data."
        if n_classes == 2
        else f"The largest class has {ratio:.1f} times the images of the smallest: no need."
    )
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


RULES: tuple[Rule, ...] = (
    Rule("what to begin with", _start, "benchmarks/README.md, Ablations"),
    Rule("channels", _colours, "what the files hold"),
    Rule(
        "input size",
        _input_size,
        "benchmarks/README.md, How many pixels; up to 128 a guess that holds time down",
    ),
    Rule("black and white", pixel_ranges, "what the files hold"),
    Rule("normalisation", _normalisation, "benchmarks/README.md, Ablations"),
    Rule("network", _network, "He et al., 2016; benchmarks/README.md, Ablations"),
    Rule("networks of an ensemble", _ensemble, "benchmarks/README.md, Ablations"),
    Rule("epochs and batch", _steps, "benchmarks/README.md, Ablations"),
    Rule(
        "optimizer",
        _optimizer,
        "Loshchilov and Hutter, 2019; Smith, 2018; benchmarks/README.md, How fast",
    ),
    Rule(
        "weights that are kept", _weights, "Izmailov et al., 2018; benchmarks/README.md, Ablations"
    ),
    Rule("imbalance", _imbalance, "van den Goorbergh et al., 2022"),
    Rule("threshold", _threshold, "benchmarks/README.md, What moves the threshold"),
    Rule("placing", _placing, "common practice"),
    Rule("flips", _flips, "`hilum.symmetry`: a permutation test on the training images"),
    Rule(
        "acquisition",
        _acquisition,
        "Isensee et al., nnU-Net, 2021; benchmarks/README.md, Ablations",
    ),
)
