"""Fingerprint → plan: every setting with one sentence that says why it has its value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from hilum.budget import Budget, choose_epochs, sizes_of, surely_fits, time_training
from hilum.fingerprint import Fingerprint
from hilum.hardware import Hardware
from hilum.networks import build_network
from hilum.probing import probe
from hilum.recipes import Recipe
from hilum.settings import Settings, make_settings

# Input sides. That 128 pixels are enough is a guess that holds time down: it grows with the square.
SIDES = (32, 48, 64, 96, 128)

# Types whose full range is no range of any detector.
SIGNED_OR_WIDE = ("int8", "int16", "int32", "uint32")

# Below this many training images the classic network is planned. Tried at 141 and 208 images only,
# where the residual one learnt less in the same steps; where between there and 5,000 is a guess.
SMALL_SET = 1000

# How many training images the network sees in all, by default.
IMAGES_SEEN = 60_000


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
    found = _rules(fingerprint) if recipe is None else _recipe_rules(fingerprint, recipe)
    found["accelerator"] = (hardware.device, f"The fastest device found is {hardware.name}.")
    values = {name: value for name, (value, _) in found.items()}
    settings = make_settings({**values, **(chosen or {})})
    _check_network(settings, len(fingerprint.class_counts))
    reasons = {name: _default_reason(name) for name in Settings.model_fields} | {
        name: reason for name, (_, reason) in found.items()
    }
    reasons |= dict.fromkeys(chosen or {}, "Set by the user.")
    plan = _resolved(Plan(settings, reasons), len(fingerprint.class_counts), hardware)
    if budget is None:
        return plan
    by_whom = "user" if "epochs" in (chosen or {}) else "recipe" if recipe is not None else "rules"
    return _within(plan, fingerprint, hardware, budget, by_whom)


def _within(
    plan: Plan, fingerprint: Fingerprint, hardware: Hardware, budget: Budget, by_whom: str
) -> Plan:
    """Fit the epochs into the time that there is, unless the user or a recipe has set them."""
    settings, n_classes = plan.settings, len(fingerprint.class_counts)
    if by_whom == "user":
        if not budget.is_given:
            return plan
        why = "Set by the user; how long that takes is not held against --minutes."
        return Plan(settings, plan.reasons | {"epochs": why})
    if not budget.is_given:
        seen = settings.members * settings.epochs * fingerprint.n_train * budget.n_folds
        if by_whom == "recipe" or surely_fits(seen, probe(settings, n_classes, hardware), budget):
            return plan
    sizes = sizes_of(fingerprint.n_train, fingerprint.n_val, budget, settings)
    pace = time_training(settings, n_classes, sizes)
    choice = choose_epochs(pace, sizes, settings, budget)
    found = settings.model_copy(update={"epochs": choice.epochs})
    return Plan(found, plan.reasons | {"epochs": choice.reason})


def _check_network(settings: Settings, n_classes: int) -> None:
    """Build the network without memory, so that one that cannot be is told before training."""
    with torch.device("meta"):
        build_network(settings, n_classes)


def _resolved(plan: Plan, n_classes: int, hardware: Hardware) -> Plan:
    """Put what 'auto' stands for in its place, so that a plan means one thing."""
    settings, reasons = plan.settings, dict(plan.reasons)
    found: dict[str, Any] = {}
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


def _recipe_rules(fingerprint: Fingerprint, recipe: Recipe) -> dict[str, tuple[Any, str]]:
    values = recipe.settings.model_dump()
    why = f"The recipe {recipe.name} sets it."
    found: dict[str, tuple[Any, str]] = {name: (values[name], why) for name in recipe.chosen}
    found |= _ranges(fingerprint)
    return found


def _rules(fingerprint: Fingerprint) -> dict[str, tuple[Any, str]]:
    n = fingerprint.n_train
    found = _input_rules(fingerprint) | _ranges(fingerprint)
    found |= _network_rules(n)
    epochs = min(100, max(12, round(IMAGES_SEEN / n)))
    found["epochs"] = epochs, f"About {IMAGES_SEEN:,} images seen in all, at most 100 epochs."
    batch = 16 if n < 300 else 32
    found["batch_size"] = batch, f"{max(1, n // batch)} or more steps an epoch for {n:,} images."
    found["optimizer"] = "adamw", "Adam with decoupled weight decay needs the least tuning."
    found["weight_decay"] = 0.02, "Holds weights small; mild, as augmentation does the most."
    found["weight_averaging"] = 0.99, "The mean of late weights errs less than the last ones."
    found["schedule"] = "one_cycle", "Warms up, then falls to zero by the last epoch."
    found["label_smoothing"] = 0.05, "Labels of the field are rarely certain."
    found |= _augmentation_rules()
    found |= _imbalance_rules(fingerprint)
    return found


def _network_rules(n: int) -> dict[str, tuple[Any, str]]:
    """Choose the network; see "Small sets" in benchmarks/README.md for the experiment."""
    peak = "The peak of the one-cycle schedule."
    if n < SMALL_SET:
        why = (
            f"{n:,} training images: max-pooling and a flat head learn from so few in fewer steps."
        )
        return {
            "network": ("classic", why),
            "conv_channels": ((32, 64, 128), f"{n:,} training images: a narrow network."),
            "dropout_dense": (0.4, "Holds the flat head back from learning images by heart."),
            "learning_rate": (1e-3, peak),
        }
    return {
        "network": ("residual", f"{n:,} training images are enough for it."),
        "conv_channels": ((32, 64, 128, 256), f"{n:,} training images: enough for four stages."),
        "learning_rate": (2e-3, peak),
    }


def _input_rules(fingerprint: Fingerprint) -> dict[str, tuple[Any, str]]:
    short = min(fingerprint.median_height, fingerprint.median_width)
    side = max((s for s in SIDES if s <= short), default=max(8, round(short)))
    why = (
        f"The shorter side of half of the images has {short:.0f} pixels or more; "
        f"{side} is the next size not above it, {SIDES[-1]} at most."
    )
    grey = "Every image is grey." if fingerprint.grey else "At least one image has colours."
    return {
        "input_height": (side, why),
        "input_width": (side, why),
        "channels": (1 if fingerprint.grey else 3, grey),
        "resize": ("letterbox", "Keeps the aspect ratio and cuts nothing off."),
        "stem_stride": (1, f"{side} pixels: halved at once, small signs would be lost.")
        if side < 48
        else (2, f"{side} pixels: halved once, an epoch takes a quarter of the time."),
    }


def _ranges(fingerprint: Fingerprint) -> dict[str, tuple[Any, str]]:
    """Find images that use a small part of what their type allows, and would come out flat."""
    ranges, reasons = {}, []
    highest = fingerprint.highest.get("uint16")
    if highest is not None and highest < 2**15:
        white = next(2**bits - 1 for bits in (8, 10, 12, 14, 15) if highest < 2**bits)
        ranges["uint16"] = (0.0, float(white))
        reasons.append(
            f"The 16-bit images hold values up to {highest:.0f} only: {white} shows as white, so "
            "that grey levels are kept."
        )
    for dtype in SIGNED_OR_WIDE:
        low, high = (found.get(dtype) for found in (fingerprint.lowest, fingerprint.highest))
        if low is not None and high is not None and low < high:
            ranges[dtype] = (low, high)
            reasons.append(
                f"The {dtype} images state no range and hold {low:.0f} to {high:.0f} outside the "
                "test split: these show as black and white."
            )
    return {"ranges": (ranges, " ".join([*reasons, "Stored with the model."]))} if ranges else {}


def _augmentation_rules() -> dict[str, tuple[Any, str]]:
    placing = "Patients are placed a little differently each time."
    scanner = "Scanners and exposures differ, above all between hospitals and years."
    flips = "Off: left and right may matter, and nothing here tells."
    return {
        "rotation": (10.0, placing),
        "zoom": (0.1, placing),
        "shift": (0.05, placing),
        "flip_horizontal": (False, flips),
        "flip_vertical": (False, flips),
        "gamma": (0.3, scanner),
        "contrast": (0.3, scanner),
        "brightness": (0.1, scanner),
        "blur": (1.0, scanner),
        "noise": (0.05, scanner),
        "low_resolution": (0.5, scanner),
    }


def _imbalance_rules(fingerprint: Fingerprint) -> dict[str, tuple[Any, str]]:
    counts = fingerprint.class_counts.values()
    ratio = max(counts) / min(counts)
    if len(counts) > 2 and ratio > 5:
        why = f"The largest class has {ratio:.0f} times the images of the smallest."
        return {"class_weights": ("balanced", why)}
    why = (
        "Weights would distort the probabilities, and the threshold is set on validation data."
        if len(counts) == 2
        else f"The largest class has {ratio:.1f} times the images of the smallest: no need."
    )
    return {"class_weights": ("none", why)}
