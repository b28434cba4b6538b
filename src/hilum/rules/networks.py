"""Rules on the network and the ensemble: its depth and width, and how many look at what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hilum.fingerprint import Fingerprint
from hilum.rules.pixels import PHOTO_SIDES
from hilum.rules.rule import AT_RANDOM, NEEDING_384, Case, Choices, Rule
from hilum.rules.start import begins_well
from hilum.settings import some_settings

MIXED_KINDS = ("backbone", "network")
"""An ensemble in which networks that begin with weights and such at random take turns."""

FULL_RESOLUTION = 64
"""Up to this side the first stage works at the resolution of the input."""

LEAST_FOR_FIVE = 24
"""Below this side a fifth stage would see the whole image as one place."""

REDUCTIONS, LEAST_REDUCED = (1, 2, 4), 32
"""By how much networks of an ensemble get their images reduced, and the least side that is left."""

MUCH_LARGER = 1.5
"""How many times the network's input images must measure, to be reduced further; a guess."""


def _buildable(widths: tuple[int, ...], so_far: Mapping[str, Any]) -> tuple[int, ...]:
    """Leave out blocks of a classic network, which halves in each, that have no pixel left."""
    if so_far.get("network") != "classic":
        return widths
    trimmed = some_settings(so_far, "kernel_size", "padding").trimmed
    side, n_blocks = min(so_far["input_height"], so_far["input_width"]), 0
    while (side := (side - trimmed) // 2) > 0:
        n_blocks += 1
    return widths[:n_blocks]


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
            "conv_channels": (
                _buildable(widths, so_far),
                "Few channels where there are many pixels.",
            ),
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
    if "network" in kinds and so_far["network"] == "classic":
        return found | {"reductions": ((1,), "Classic networks get the images whole.")}
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


RULES: tuple[Rule, ...] = (
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
                given=AT_RANDOM,
            ),
            Case(
                f"input of {LEAST_FOR_FIVE} to {FULL_RESOLUTION} pixels",
                "conv_channels",
                "Partly measured: 16 channels at first are as good as 32, in half of the time "
                "[Ablations of networks that begin at random]; twice as many in all are no better "
                "[Beside other tools]. The number of stages is a guess.",
                facts={"median_short": float(FULL_RESOLUTION)},
                given=AT_RANDOM,
            ),
            Case(
                f"input below {LEAST_FOR_FIVE} pixels",
                "conv_channels",
                "A guess: a fifth stage would see the whole image as one place.",
                facts={"median_short": LEAST_FOR_FIVE - 1.0},
                given=AT_RANDOM,
            ),
            Case(
                f"larger input than {FULL_RESOLUTION}",
                "stem_stride conv_channels",
                "A guess: for time; others were not compared at such sizes.",
                given=AT_RANDOM,
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
                facts=NEEDING_384,
            ),
            Case(
                f"it begins at random; images {MUCH_LARGER:g} times as large as the input or more",
                "reductions",
                "Measured: better together than networks on whole images, on brain slices by much, "
                f"on chest X-rays by little [Networks that see less]; {MUCH_LARGER:g} is a guess "
                "between these sets.",
                f"As far as {LEAST_REDUCED} pixels are left.",
                given=AT_RANDOM,
            ),
            Case(
                "it begins at random; other images",
                "reductions",
                "Measured: reducing lost what tells stand-ins and blood cells apart [Networks that "
                "see less].",
                facts={"median_short": 128.0},
                given=AT_RANDOM,
            ),
        ),
    ),
)
