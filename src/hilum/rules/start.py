"""Rules on what to begin with: weights of photographs, or a network at random."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hilum.efficientnet import LITE0, PUBLISHED
from hilum.fingerprint import Fingerprint
from hilum.pretrained import IMAGENET, installed_file
from hilum.rules.rule import Case, Choices, Rule

OF_CNNS = (
    *("network", "conv_channels", "kernel_size", "padding", "activation", "batch_norm", "pool"),
    *("dropout_conv", "blocks_per_stage", "stem_stride", "normalisation"),
)
"""Settings that describe a network which begins at random: who gives one wants such a network."""


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
)
