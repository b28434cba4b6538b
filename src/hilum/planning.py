"""Fingerprint → plan: every setting with one sentence that says why it has its value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from hilum.budget import (
    LEAST_MEMBERS,
    STARVED,
    Budget,
    choose_epochs,
    choose_members,
    in_words,
    sizes_of,
    surely_fits,
    time_training,
)
from hilum.fingerprint import Fingerprint
from hilum.hardware import Hardware
from hilum.networks import build_network
from hilum.pretrained import choose_for_backbone, find_weights
from hilum.probing import probe
from hilum.recipes import Recipe
from hilum.rules import FULL_RESOLUTION, SIDES, Choices, apply_rules, pixel_ranges
from hilum.settings import Settings, make_settings

PROBED = ("precision", "layout")
"""Settings that are timed unless the user gives them."""


@dataclass(frozen=True)
class Plan:
    """Settings and the reason of each."""

    settings: Settings
    reasons: dict[str, str]

    def to_dict(self) -> dict[str, dict[str, Any]]:
        values = self.settings.model_dump(mode="json")
        return {
            name: {"value": value, "reason": self.reasons[name]} for name, value in values.items()
        }


def make_plan(
    fingerprint: Fingerprint,
    hardware: Hardware,
    *,
    recipe: Recipe | None = None,
    chosen: Mapping[str, Any] | None = None,
    budget: Budget | None = None,
) -> Plan:
    """Choose every setting: the user's word first, then the recipe's, then the rules.

    Parameters
    ----------
    budget : Budget, optional
        Time for the whole command; without one nothing but precision and layout is timed.

    Raises
    ------
    SettingError
        If the user's settings are unknown or impossible, alone or together.
    """
    given = dict(chosen or {})
    plan = _propose(fingerprint, hardware, recipe, given)
    if budget is None or plan.settings.probe:
        return plan
    by_whom = "user" if "epochs" in given else "recipe" if recipe is not None else "rules"
    fitted = _within(plan, fingerprint, hardware, budget, by_whom, given)
    while (smaller := _smaller_side(plan, fitted, by_whom, given)) is not None:
        why = (
            f"{smaller} pixels, less than these images have: with {plan.settings.input_height} "
            f"only {fitted.settings.epochs} of {plan.settings.epochs} epochs would fit in the time."
        )
        sides = dict.fromkeys(("input_height", "input_width"), smaller)
        plan = _propose(fingerprint, hardware, recipe, given | sides)
        plan = Plan(plan.settings, plan.reasons | dict.fromkeys(sides, why))
        fitted = _within(plan, fingerprint, hardware, budget, by_whom, given)
    return fitted


def _propose(
    fingerprint: Fingerprint, hardware: Hardware, recipe: Recipe | None, given: dict[str, Any]
) -> Plan:
    """Make the plan that such data ask for, whatever the time that it takes."""
    found = apply_rules(fingerprint, given) if recipe is None else _of_recipe(fingerprint, recipe)
    if recipe is None:
        found |= choose_for_backbone(given, found, fingerprint)
    found["accelerator"] = (hardware.device, f"The fastest device found is {hardware.name}.")
    values = {name: value for name, (value, _) in found.items()}
    settings = make_settings({**values, **given})
    _check_network(settings, len(fingerprint.class_counts))
    reasons = {name: _default_reason(name) for name in Settings.model_fields} | {
        name: reason for name, (_, reason) in found.items()
    }
    reasons |= dict.fromkeys(given, "Set by the user.")
    return _resolved(Plan(settings, reasons), len(fingerprint.class_counts), hardware)


def _smaller_side(plan: Plan, fitted: Plan, by_whom: str, given: Mapping[str, Any]) -> int | None:
    """Return the next smaller input where time starves the training, None where it does not."""
    free = by_whom == "rules" and not {"input_height", "input_width", "backbone"} & given.keys()
    if not free or fitted.settings.epochs >= STARVED * plan.settings.epochs:
        return None
    # Smaller ones would not be much faster, and blind to more.
    sides = [s for s in SIDES if FULL_RESOLUTION <= s < plan.settings.input_height]
    return max(sides, default=None)


def _within(
    plan: Plan,
    fingerprint: Fingerprint,
    hardware: Hardware,
    budget: Budget,
    by_whom: str,
    given: Mapping[str, Any],
) -> Plan:
    """Fit the epochs into the time that there is, unless the user or a recipe has set them."""
    settings, n_classes = plan.settings, len(fingerprint.class_counts)
    if by_whom == "user":
        if not budget.is_given:
            return plan
        why = "Set by the user; how long that takes is not held against --minutes."
        return Plan(settings, plan.reasons | {"epochs": why})
    if not budget.is_given:
        if by_whom == "recipe":
            return plan
        members = settings.members if "members" in given else LEAST_MEMBERS
        seen = members * settings.epochs * fingerprint.n_train * budget.n_folds
        if surely_fits(seen, probe(settings, n_classes, hardware), budget):
            limit = f"Well within {in_words(budget.minutes)}, the limit by default on this machine."
            reasons = plan.reasons | {"epochs": f"{plan.reasons['epochs']} {limit}"}
            return _with_members(Plan(settings, reasons), members, given)
    sizes = sizes_of(fingerprint.n_train, fingerprint.n_val, budget, settings)
    pace = time_training(settings, n_classes, sizes)
    if by_whom == "rules":
        plan = _with_members(plan, choose_members(pace, sizes, settings, budget), given)
    choice = choose_epochs(pace, sizes, plan.settings, budget)
    found = plan.settings.model_copy(update={"epochs": choice.epochs})
    return Plan(found, plan.reasons | {"epochs": choice.reason})


def _with_members(plan: Plan, members: int, given: Mapping[str, Any]) -> Plan:
    """Make an ensemble of a plan where there is time for one and the user has not said."""
    if members == 1 or "members" in given or plan.settings.probe:
        return plan
    why = f"There is time for {members}, and their mean errs less than one of them."
    settings = plan.settings.model_copy(update={"members": members})
    return Plan(settings, plan.reasons | {"members": why})


def _check_network(settings: Settings, n_classes: int) -> None:
    """Build the network without memory, so that one that cannot be is told before training."""
    with torch.device("meta"):
        build_network(settings, n_classes)


def _resolved(plan: Plan, n_classes: int, hardware: Hardware) -> Plan:
    """Put what 'auto' stands for in its place, so that a plan means one thing."""
    settings, reasons = plan.settings, dict(plan.reasons)
    found: dict[str, Any] = {}
    weights = find_weights(settings)
    if weights is not None:
        found |= {"weights": weights.path, "weights_sha256": weights.sha256}
        reasons |= {"weights": weights.describe(), "weights_sha256": "That of the file just named."}
    if settings.accelerator == "auto":
        found["accelerator"] = hardware.device
    open_choices = [name for name in PROBED if getattr(settings, name) == "auto"]
    if open_choices:
        timed = probe(settings, n_classes, hardware)
        found |= {name: getattr(timed, name) for name in open_choices}
        reasons |= dict.fromkeys(open_choices, timed.reason)
    return Plan(settings.model_copy(update=found), reasons)


def _default_reason(name: str) -> str:
    about = Settings.model_fields[name].description
    return f"The default; {about}." if about else "The default."


def _of_recipe(fingerprint: Fingerprint, recipe: Recipe) -> Choices:
    values = recipe.settings.model_dump()
    why = f"The recipe {recipe.name} sets it."
    return {name: (values[name], why) for name in recipe.chosen} | pixel_ranges(fingerprint)
