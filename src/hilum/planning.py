"""Fingerprint → plan: every setting with one sentence that says why it has its value."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from hilum.budget import (
    FEW_MEMBERS,
    LEAST_EPOCHS,
    LEAST_MEMBERS,
    MOST_MEMBERS,
    Budget,
    Paces,
    Sizes,
    choose_epochs,
    choose_members,
    enough,
    in_words,
    sizes_of,
    surely_fits,
    time_training,
)
from hilum.errors import SettingError
from hilum.fingerprint import Fingerprint, Resolution
from hilum.hardware import Hardware
from hilum.larger_inputs import look_closer
from hilum.networks import build_network
from hilum.presets import Preset
from hilum.pretrained import IMAGENET, choose_for_backbone, find_weights
from hilum.probing import probe
from hilum.resolution import Trial
from hilum.rules import apply_rules
from hilum.rules.networks import FULL_RESOLUTION
from hilum.rules.pixels import SIDES, pixel_ranges
from hilum.rules.rule import Choices
from hilum.rules.training import images_wanted
from hilum.settings import (
    MOST_NETWORKS,
    SIDES_OF_INPUT,
    Settings,
    default_reason,
    make_settings,
    with_both_sides,
)
from hilum.usage import as_used

PROBED = ("precision", "layout")
"""Settings that are timed unless the user gives them."""

SQUARE = "As long as the other side, which the user has set alone."
"""What is said of a side of the input that `with_both_sides` has added."""

UNTIMED = "One: what set epochs take is not timed. --set members=3 makes an ensemble."
"""What is said of the number of networks where time would have said it."""


@dataclass(frozen=True)
class Plan:
    """Settings and the reason of each.

    Attributes
    ----------
    fingerprint : Fingerprint or None
        The facts of the data that it was made from; None while it is being made.
    hardware : Hardware or None
        The machine that it was made for; None while it is being made.
    minutes : float or None
        Time for the whole command that it was fitted into; None where it takes what it takes.
    """

    settings: Settings
    reasons: dict[str, str]
    fingerprint: Fingerprint | None = None
    hardware: Hardware | None = None
    minutes: float | None = None

    @property
    def resolution(self) -> Resolution | None:
        """What was found of how many pixels the signs need; None where that was not asked."""
        return None if self.fingerprint is None else self.fingerprint.resolution

    @property
    def summary(self) -> str:
        """The plan in a line, to be read before it takes its time."""
        one = self.settings
        networks = "one network" if one.members == 1 else f"{one.members} networks"
        return (
            f"Planned: input of {one.input_height} × {one.input_width} pixels, {networks}, "
            f"{one.epochs} epoch{'s' if one.epochs > 1 else ''}. {self.reasons['epochs']}"
        )

    def to_dict(self) -> dict[str, dict[str, Any]]:
        values = self.settings.model_dump(mode="json")
        return {
            name: {"value": value, "reason": self.reasons[name]} for name, value in values.items()
        }


def make_plan(
    fingerprint: Fingerprint,
    hardware: Hardware,
    *,
    recipe: Preset | None = None,
    chosen: Mapping[str, Any] | None = None,
    budget: Budget | None = None,
    trial: Trial | None = None,
) -> Plan:
    """Choose every setting: the user's word first, then the recipe's or, without one, the rules'.

    What a recipe does not name is left at its default.

    Parameters
    ----------
    fingerprint : Fingerprint
        Where folds take turns, of all images that any of them may learn from.
    budget : Budget, optional
        Time for the whole command; without one nothing but precision and layout is timed.
    trial : callable, optional
        Tries input sides on training images, as `hilum.resolution.try_sides`. None where images
        that will be held out are among them.

    Raises
    ------
    SettingError
        If the user's settings are unknown or impossible, alone or together.
    """
    chosen = chosen or {}
    asked = _Asked(fingerprint, hardware, recipe, with_both_sides(chosen))
    started = time.monotonic()
    if budget is not None:
        asked = _looked_closer(asked, budget, trial)
        budget = replace(budget, elapsed_s=budget.elapsed_s + time.monotonic() - started)
    plan = _choose(asked, budget)
    settings, reasons = as_used(plan.settings, plan.reasons, asked.given, by_rules=recipe is None)
    squared = dict.fromkeys(asked.given.keys() - chosen.keys(), SQUARE)
    limit = _limit(settings, asked, budget)
    return Plan(settings, reasons | squared, asked.facts, hardware, limit)


def _limit(settings: Settings, asked: _Asked, budget: Budget | None) -> float | None:
    """Return the minutes that epochs are fitted into, where they are free."""
    if budget is None or settings.probe or "epochs" in asked.given:
        return None
    return budget.minutes if budget.is_given or asked.recipe is None else None


def _looked_closer(asked: _Asked, budget: Budget, trial: Trial | None) -> _Asked:
    """Find out how many pixels the signs need, unless a recipe says how many to take."""
    if asked.recipe is not None:
        return asked
    plan = _propose(asked).settings
    found = look_closer(plan, asked.facts, asked.hardware, asked.given, budget, trial)
    return replace(asked, facts=replace(asked.facts, resolution=found))


def _choose(asked: _Asked, budget: Budget | None) -> Plan:
    """Propose a plan and fit it into the time, where there is a limit."""
    plan, fingerprint = _propose(asked), asked.facts
    if budget is None:
        return plan
    if plan.settings.probe:
        why = f"{plan.reasons['epochs']} How long it takes is not held against --minutes."
        return replace(plan, reasons=plan.reasons | {"epochs": why}) if budget.is_given else plan
    sizes = sizes_of(fingerprint.n_train, fingerprint.n_val, budget, plan.settings)
    if budget.n_folds > 1:
        asked = replace(asked, facts=replace(fingerprint, n_train=sizes.n_train))
        plan = _propose(asked)
    return _within(plan, asked, sizes, budget)


@dataclass(frozen=True)
class _Asked:
    """What a plan is made from.

    Attributes
    ----------
    facts : Fingerprint
        Its training images are those that one training learns from.
    """

    facts: Fingerprint
    hardware: Hardware
    recipe: Preset | None
    given: dict[str, Any]

    @property
    def needs_pixels(self) -> bool:
        """Whether inputs of the usual sizes hide the signs, which no time or ensemble mends."""
        tried = self.facts.resolution
        return tried is not None and (tried.needed or 0) > SIDES[-1]

    def leaves_members(self, settings: Settings) -> bool:
        """Tell whether it is the time that says how many networks there are."""
        is_said = self.recipe is not None or "members" in self.given
        return settings.is_own and not settings.probe and not is_said

    @property
    def n_classes(self) -> int:
        return len(self.facts.class_counts)


def _propose(asked: _Asked) -> Plan:
    """Make the plan that such data ask for, whatever the time that it takes."""
    facts, recipe, given = asked.facts, asked.recipe, asked.given
    found = apply_rules(facts, given) if recipe is None else _of_preset(asked, recipe)
    if recipe is None:
        found |= choose_for_backbone(given, found, facts)
    device = asked.hardware.device
    found["accelerator"] = (device, f"The fastest device found is {asked.hardware.name}.")
    values = {name: value for name, (value, _) in found.items()}
    settings = make_settings({**values, **given})
    _check_network(settings, asked.n_classes)
    reasons = {name: default_reason(name) for name in Settings.model_fields} | {
        name: reason for name, (_, reason) in found.items()
    }
    reasons |= dict.fromkeys(given, "Set by the user.")
    return _resolved(Plan(settings, reasons), asked.n_classes, asked.hardware)


def _within(plan: Plan, asked: _Asked, sizes: Sizes, budget: Budget) -> Plan:
    """Fit epochs, networks and input into the time that there is, where they are free."""
    if "epochs" in asked.given:
        told = {"members": UNTIMED} if asked.leaves_members(plan.settings) else {}
        if budget.is_given:
            why = "Set by the user; how long that takes is not held against --minutes."
            told["epochs"] = why
        return Plan(plan.settings, plan.reasons | told)
    if asked.recipe is not None:
        if not budget.is_given:
            return plan
        return _fit(plan, _time(plan, asked, sizes, budget), asked, sizes, budget).plan
    if not budget.is_given:
        members = FEW_MEMBERS if asked.leaves_members(plan.settings) else plan.settings.members
        n_seen = members * sizes.n_seen(plan.settings) * budget.n_folds
        n_read = sizes.n_train + sizes.n_val + sizes.n_test
        probed = probe(plan.settings, asked.n_classes, asked.hardware)
        if surely_fits(n_seen, n_read, probed, budget):
            limit = f"Well within {in_words(budget.minutes)}, the limit by default on this machine."
            reasons = plan.reasons | {"epochs": f"{plan.reasons['epochs']} {limit}"}
            return _with_members(Plan(plan.settings, reasons), members, asked)
    return _largest_that_fits(plan, asked, sizes, budget)


@dataclass(frozen=True)
class _Fitted:
    """A plan within the time.

    Attributes
    ----------
    is_starved : bool
        A network gets less than most of the epochs, and of the images, that it wants.
    """

    plan: Plan
    is_starved: bool

    @property
    def is_ensemble(self) -> bool:
        return self.plan.settings.members >= LEAST_MEMBERS


def _largest_that_fits(plan: Plan, asked: _Asked, sizes: Sizes, budget: Budget) -> Plan:
    """Choose the largest input that an ensemble can learn from in the time, or else one network.

    Where not even one can, the smallest: others would learn from more pixels too little.
    """
    started = time.monotonic()

    def left() -> Budget:
        return replace(budget, elapsed_s=budget.elapsed_s + time.monotonic() - started)

    def is_over() -> bool:
        return left().elapsed_s > 60 * budget.minutes

    timed: list[tuple[Plan, Paces]] = []
    for candidate in _smaller_and_smaller(plan, asked, is_over):
        timed.append((candidate, _time(candidate, asked, sizes, budget)))
        fitted = _fit(*timed[-1], asked, sizes, left())
        is_as_many = fitted.is_ensemble or not asked.leaves_members(candidate.settings)
        if not fitted.is_starved and is_as_many:
            return _told_smaller(fitted.plan, plan, asked)
    # The timing of all of them has taken time too.
    again = [_fit(*each, asked, sizes, left()) for each in timed]
    found = next((fitted for fitted in again if not fitted.is_starved), again[-1])
    return _told_smaller(found.plan, plan, asked)


def _told_smaller(plan: Plan, wanted: Plan, asked: _Asked) -> Plan:
    """Say why a plan has a smaller input than was wanted, where it has: what does not fit there."""
    side, whole = (each.settings.input_height for each in (plan, wanted))
    if side == whole:
        return plan
    members, epochs = plan.settings.members, wanted.settings.epochs
    is_free = asked.leaves_members(plan.settings) and members > 1
    n = LEAST_MEMBERS if is_free else members
    least = max(min(LEAST_EPOCHS, epochs), math.ceil(enough(plan.settings, n) * epochs))
    networks = "one network" if n == 1 else f"{n} networks"
    why = (
        f"{side} pixels, less than these images have: with {whole} there is no time for {networks} "
        f"of {least} epochs, where {epochs} are wanted."
    )
    return replace(plan, reasons=plan.reasons | dict.fromkeys(SIDES_OF_INPUT, why))


def _smaller_and_smaller(plan: Plan, asked: _Asked, is_over: Callable[[], bool]) -> Iterator[Plan]:
    """Yield the plan, then those for smaller inputs, where they are free and show the signs.

    Once the time is over, the last of them alone, for it is the one that will be taken.
    """
    yield plan
    is_given = bool({*SIDES_OF_INPUT} & asked.given.keys())
    if asked.needs_pixels or is_given or not plan.settings.is_own:
        return
    whole = plan.settings.input_height
    # Still smaller ones would not be much faster, and blind to more.
    sides = sorted((s for s in SIDES if FULL_RESOLUTION <= s < whole), reverse=True)
    for side in sides:
        if is_over() and side != sides[-1]:
            continue
        both = dict.fromkeys(SIDES_OF_INPUT, side)
        try:
            smaller = _propose(replace(asked, given=asked.given | both))
        except SettingError:
            return  # the network that the user has described cannot be built for it
        yield smaller


def _time(plan: Plan, asked: _Asked, sizes: Sizes, budget: Budget) -> Paces:
    """Time what the networks that the plan may come to have would cost."""
    possible = MOST_MEMBERS if budget.is_given else FEW_MEMBERS
    most = possible if asked.leaves_members(plan.settings) else plan.settings.members
    return time_training(plan.settings, asked.n_classes, sizes, most_members=most)


def _fit(plan: Plan, paces: Paces, asked: _Asked, sizes: Sizes, budget: Budget) -> _Fitted:
    """Fit networks and epochs of a plan into the time; those of a recipe's ensemble are its own."""
    if asked.leaves_members(plan.settings):
        plan = _with_members(plan, choose_members(paces, sizes, plan.settings, budget), asked)
        if plan.settings.members == 1:
            alone = {"members": "There is no time for several."}
            plan = replace(plan, reasons=plan.reasons | alone)
    is_said = "steps_per_epoch" in asked.given
    choice = choose_epochs(paces, sizes, plan.settings, budget, whole=is_said)
    found = plan.settings.model_copy(update={"epochs": choice.epochs})
    reasons = plan.reasons | {"epochs": choice.reason}
    if choice.steps_per_epoch is not None:
        found = found.model_copy(update={"steps_per_epoch": choice.steps_per_epoch})
        reasons["steps_per_epoch"] = _share_in_words(found, sizes)
    share = enough(found, found.members)
    lacks_epochs = choice.epochs < share * plan.settings.epochs
    # Of large data few epochs are many images.
    wanted = images_wanted(asked.n_classes, found.model_dump())
    lacks_images = sizes.n_seen(found) < share * wanted
    is_less = lacks_epochs or choice.steps_per_epoch is not None
    return _Fitted(Plan(found, reasons), is_starved=is_less and lacks_images)


def _share_in_words(settings: Settings, sizes: Sizes) -> str:
    n_watched = sizes.n_watched(settings)
    scored = f"; {n_watched:,} of {sizes.n_val:,} validation images are scored after each"
    return (
        f"There is no time for {settings.epochs} epochs of all {sizes.n_train:,} images: each sees "
        f"{settings.n_seen(sizes.n_train):,}, others than before until all were seen"
        f"{scored if n_watched < sizes.n_val else ''}."
    )


def _with_members(plan: Plan, members: int, asked: _Asked) -> Plan:
    """Make an ensemble of a plan where there is time for one and the user has not said."""
    if members == 1 or not asked.leaves_members(plan.settings):
        return plan
    why = f"There is time for {members}, and their mean errs less than one of them."
    settings = plan.settings.model_copy(update={"members": members})
    return Plan(settings, plan.reasons | {"members": why})


def _check_network(settings: Settings, n_classes: int) -> None:
    """Build the networks without memory, so that one that cannot be is told before training."""
    most = min(MOST_NETWORKS, math.lcm(len(settings.reductions), len(settings.kinds)))
    with torch.device("meta"):
        for turn in dict.fromkeys(settings.turns(most)):
            build_network(settings.of(turn), n_classes)


def _resolved(plan: Plan, n_classes: int, hardware: Hardware) -> Plan:
    """Put what 'auto' stands for in its place, so that a plan means one thing."""
    settings, reasons = plan.settings, dict(plan.reasons)
    found: dict[str, Any] = {}
    weights = find_weights(settings)
    if weights is not None:
        if settings.weights != IMAGENET:  # those that are installed are known by that name
            found["weights"] = weights.path
        found["weights_sha256"] = weights.sha256
        reasons |= {
            "weights": f"{reasons['weights']} {weights.describe()}",
            "weights_sha256": "That of the file just named.",
        }
    if settings.accelerator == "auto":
        found["accelerator"] = hardware.device
    open_choices = [name for name in PROBED if getattr(settings, name) == "auto"]
    if open_choices:
        timed = probe(settings, n_classes, hardware)
        found |= {name: getattr(timed, name) for name in open_choices}
        reasons |= dict.fromkeys(open_choices, timed.reason)
    return Plan(settings.model_copy(update=found), reasons)


def _of_preset(asked: _Asked, preset: Preset) -> Choices:
    """Take what a recipe or the plan of a run names, as far as it holds for these data, here."""
    preset = preset.beside(asked.given)
    found = {name: (value, preset.reasons[name]) for name, value in preset.values.items()}
    if preset.values.get("precision") == "bfloat16" and not asked.hardware.has_bfloat16:
        del found["precision"]  # emulated it is slower than what it was chosen for
    of_data = pixel_ranges(asked.facts)
    if "ranges" in found and of_data:
        taken, of_types = preset.values["ranges"], of_data["ranges"]
        if of_types[0].keys() - taken.keys():
            found["ranges"] = (of_types[0] | taken, of_types[1])
    return of_data | found
