"""Rules on how images are changed in training, as patients are placed and devices differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hilum.fingerprint import Fingerprint
from hilum.rules.networks import FULL_RESOLUTION
from hilum.rules.rule import SQUARE, Case, Choices, Rule, mirrored
from hilum.symmetry import WHAT, Mirror


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
                facts=SQUARE,
            ),
            Case(
                "they have sizes of their own",
                "stretch",
                "Measured: on brain slices and blood cells stretching decides nothing better "
                "[Placed more differently].",
                facts=SQUARE | {"max_width": 225.0},
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
                facts=mirrored("symmetric"),
            ),
            Case(
                "it finds a side",
                "flip_horizontal flip_vertical flip_diagonal",
                "Partly measured: the same.",
                facts=mirrored("sided"),
            ),
            Case(
                "it cannot tell: too few images, or fewer than ten patients",
                "flip_horizontal flip_vertical flip_diagonal",
                "Follows: what is not known to be harmless is not done.",
                facts=mirrored("undecided"),
            ),
            Case(
                "the input is not square",
                "flip_diagonal",
                "Follows: rows cannot become columns.",
                facts=mirrored("symmetric"),
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
