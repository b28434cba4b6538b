"""What of a plan its networks get, and what is said of the rest.

Rules choose before it is known how many networks there will be, and for images that are taken
whole. Here values that no network would get give way, and reasons are put right that would be true
of no network of the plan.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from hilum.rules.networks import sides_in_words
from hilum.settings import DEFAULT_REASON, Settings, Turn, default_reason

ALONE = {
    "reductions": "One network, which gets images whole.",
    "kinds": "One network, which begins with the weights.",
}
"""What is said of settings of an ensemble where there is one network."""

OF_CNNS = (
    *("network", "conv_channels", "blocks_per_stage", "stem_stride", "kernel_size", "padding"),
    *("batch_norm", "pool", "dropout_conv"),
)
"""Settings that describe a CNN and are of no use to a backbone."""

OF_STEPS = (
    *("optimizer", "learning_rate", "weight_decay", "schedule", "label_smoothing", "keep"),
    *("weight_averaging", "frozen_stages", "frozen_norms", "backbone_rate"),
)
"""Settings of a training that goes step by step."""

OF_CHANGES = (
    *("augmented_share", "rotation", "zoom", "shift", "stretch"),
    *("flip_horizontal", "flip_vertical", "flip_diagonal"),
    *("gamma", "contrast", "brightness", "blur", "noise", "low_resolution"),
)
"""Settings of changes that rules make to training images."""

NO_CNN = "Not used: every network is the backbone."
OWN_CONSTANTS = "Not used: the backbone takes off constants of its own."
NO_STEPS = "Not used: a linear model is fitted, and the backbone does not learn."
NO_CHANGES = "Not used: the linear model is fitted on the images as they are."

NONE_WHOLE = "For a CNN on whole images, of which there is none here."
ON_REDUCED = {
    "stem_stride": "On reduced images 1, which keeps the few pixels that are left.",
    "conv_channels": "On reduced images one stage more, first, of half as many channels.",
}
"""What `Settings.of` makes of a CNN that gets its images reduced."""

NOTES = (NO_CNN, OWN_CONSTANTS, NO_STEPS, NO_CHANGES, NONE_WHOLE, *ON_REDUCED.values())


def as_used(
    settings: Settings, reasons: Mapping[str, str], given: Container[str], *, by_rules: bool
) -> tuple[Settings, dict[str, str]]:
    """Leave nothing in a plan that none of its networks would get, unless somebody has set it.

    Parameters
    ----------
    given : names
        What the user has set.
    by_rules : bool
        Whether the rest is by the rules, and by no recipe or plan of a run.
    """
    settings, found = _in_turn(settings, reasons, given, by_rules=by_rules)
    instead, beside = _notes(settings)
    for name, reason in found.items():
        bare = _without_notes(reason)
        if bare.startswith(DEFAULT_REASON):
            continue
        if name in instead and by_rules and name not in given:
            found[name] = instead[name]
        else:
            note = instead.get(name) or beside.get(name)
            found[name] = f"{bare} {note}" if note else bare
    return settings, found


def _in_turn(
    settings: Settings, reasons: Mapping[str, str], given: Container[str], *, by_rules: bool
) -> tuple[Settings, dict[str, str]]:
    """Leave no reductions, kinds and rate in a plan that no turn of its networks comes to."""
    members = settings.members
    changes, found = dict[str, Any](), dict(reasons)
    for name, alone in ALONE.items():
        planned = getattr(settings, name)
        if len(planned) > members and name not in given:
            changes[name] = planned[:members]
            if members == 1:
                found[name] = alone
            elif name == "reductions" and by_rules:
                short = min(settings.input_height, settings.input_width)
                found[name] = sides_in_words(short, planned[:members])
    used = settings.model_copy(update=changes)
    if "random_rate" not in given and not _cnns(used):
        default = Settings.model_fields["random_rate"].default
        used = used.model_copy(update={"random_rate": default})
        found["random_rate"] = default_reason("random_rate")
    return used, found


def _cnns(settings: Settings) -> list[Turn]:
    return [turn for turn in settings.turns() if turn.kind == "network"]


def _notes(settings: Settings) -> tuple[dict[str, str], dict[str, str]]:
    """Return what is said in place of reasons, and what is said beside them."""
    cnns = _cnns(settings)
    instead = dict[str, str]()
    if not cnns:
        instead |= dict.fromkeys(OF_CNNS, NO_CNN)
        instead |= {"normalisation": OWN_CONSTANTS} if settings.is_own else {}
    if settings.probe:
        instead |= dict.fromkeys(OF_STEPS, NO_STEPS)
        instead |= {} if settings.probe_passes else dict.fromkeys(OF_CHANGES, NO_CHANGES)
    reduced = [turn for turn in cnns if turn.reduction > 1]
    if not reduced or settings.of(reduced[0]).stem_stride == settings.stem_stride:
        return instead, {}
    if len(reduced) < len(cnns):
        return instead, ON_REDUCED
    return instead | {name: f"{NONE_WHOLE} {note}" for name, note in ON_REDUCED.items()}, {}


def _without_notes(reason: str) -> str:
    """Take off what was noted of another plan: a run's that is taken over, with its reasons."""
    for note in NOTES:
        reason = reason.replace(f" {note}", "")
    return reason
