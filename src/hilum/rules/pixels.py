"""Rules on what networks see of an image: channels, size, range of values, normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hilum.fingerprint import Fingerprint
from hilum.pretrained import is_from_elsewhere, side_from_elsewhere
from hilum.rules.rule import AT_RANDOM, NEEDING_384, Case, Choices, Rule
from hilum.rules.start import begins_well

SIDES = (28, 32, 48, 64, 96, 128)
"""Input sides, pixels. More costs time by the square; that 128 are enough is a guess."""

PHOTO_SIDES = (64, 96, 128)
"""Input sides of networks that begin with photographs' weights, which halve them five times."""

LEAST_SIDE = 8
"""Of an input, pixels."""

LARGER_SIDES = (192, 256, 384, 512)
"""Sides that such networks take where smaller ones were tried and hide the signs."""


# Types whose full range is no range of any detector.
SIGNED_OR_WIDE = ("int8", "int16", "int32", "uint32")


# Values of these are physical units: what is bright in one patient is bright in all.
CALIBRATED = ("CT",)


def _colours(facts: Fingerprint, _: Mapping[str, Any]) -> Choices:
    if facts.grey:
        return {"channels": (1, "Every image is grey.")}
    return {"channels": (3, "At least one image has colours.")}


def _input_size(facts: Fingerprint, so_far: Mapping[str, Any]) -> Choices:
    short = facts.median_short
    sides: tuple[int, ...] = SIDES
    least = max(LEAST_SIDE, int(short))
    if begins_well(so_far):
        sides, least = PHOTO_SIDES, PHOTO_SIDES[0]
    side = max((s for s in sides if s <= short), default=least)
    why = (
        f"The shorter side of half of the images has {short:.0f} pixels or more; "
        f"{side} is the next size not above it, {sides[-1]} at most."
    )
    if side < sides[0]:
        why = f"About the shorter side of half of the images, {short:.0f} pixels or more."
    if side > short:
        halved = ", for the network halves them five times" if begins_well(so_far) else ""
        why = (
            f"The shorter side of half of the images has {short:.0f} pixels or more; they are "
            f"enlarged to {side}, the least{halved}."
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


RULES: tuple[Rule, ...] = (
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
                facts=NEEDING_384,
            ),
            Case(
                "it begins at random",
                "input_height input_width",
                "Partly measured: 96 and 128 pixels are as good as 64 on chest X-rays [How long, "
                "how large, how many]; that 128 are enough elsewhere is a guess.",
                f"The greatest of {', '.join(map(str, SIDES))} that is not above the shorter side "
                "of half of the images; here 224.",
                given=AT_RANDOM,
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
)
