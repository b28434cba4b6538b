"""Settings that are taken together in place of a plan made from the data: a recipe, a run's plan.

A plan is fitted to the time that it had on its machine; taken from its run it repeats the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hilum.errors import SettingError
from hilum.files import read_json
from hilum.recipes import load_recipe, recipe_names
from hilum.settings import DEFAULT_REASON, Settings, make_settings

PLAN_FILE = "plan.json"

OF_THE_MACHINE = "accelerator"
"""The setting of a plan that is not taken over: each machine has its own."""

OF_A_BACKBONE = (
    *("backbone", "weights", "weights_sha256", "frozen_epochs", "frozen_stages", "frozen_norms"),
    *("backbone_rate", "random_rate", "probe", "probe_passes", "kinds", "normalisation"),
    "reductions",
)
"""What goes with a backbone, and cannot stay where the user names another."""

_BY = "By the plan of "


@dataclass(frozen=True)
class Preset:
    """Settings that are taken together.

    Attributes
    ----------
    values : dict
        The settings that it names; the rest are defaults.
    reasons : dict
        Why each of them is what it is.
    """

    values: Mapping[str, Any]
    reasons: Mapping[str, str]

    def beside(self, chosen: Mapping[str, Any]) -> Preset:
        """Leave out what cannot hold beside what the user has chosen."""
        without: tuple[str, ...] = ()
        if "backbone" in chosen:
            without = OF_A_BACKBONE
        elif "weights" in chosen:
            without = ("weights_sha256",)
        values = {name: value for name, value in self.values.items() if name not in without}
        return replace(self, values=values)


def load_preset(name: str | Path) -> Preset:
    """Load a recipe by its name, or the plan of a run by its folder.

    Raises
    ------
    SettingError
        If there is neither, or the plan cannot be taken.
    """
    name, folder = str(name), Path(name)
    if name not in recipe_names() and folder.is_dir():
        return _plan_of(folder)
    if name not in recipe_names() and len(folder.parts) > 1:
        raise SettingError(f"{folder} is no run folder, and no recipe has such a name.")
    recipe = load_recipe(name)
    values = {name: getattr(recipe.settings, name) for name in recipe.chosen}
    return Preset(values, dict.fromkeys(values, f"The recipe {name} sets it."))


def _plan_of(folder: Path) -> Preset:
    path = folder / PLAN_FILE
    try:
        plan = read_json(path)
        values = {name: entry["value"] for name, entry in plan.items()}
        reasons = {name: _retold(entry["reason"], folder) for name, entry in plan.items()}
    except FileNotFoundError:
        raise SettingError(
            f"{folder} holds no {PLAN_FILE}: it is no run folder, or its run has not got so far."
        ) from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise SettingError(f"{path} cannot be read as a plan. Take another run's.") from None
    strange = sorted(values.keys() ^ Settings.model_fields.keys())
    if strange:
        raise SettingError(
            f"{path} was written by another version of Hilum: it differs in the setting "
            f"'{strange[0]}'. Take the plan of a run made by this one."
        )
    values.pop(OF_THE_MACHINE)
    checked = make_settings(values)
    return Preset({name: getattr(checked, name) for name in values}, reasons)


def _retold(reason: str, folder: Path) -> str:
    """Say once whose plan it was, however often it is taken over; defaults stay defaults."""
    if reason.startswith((_BY, DEFAULT_REASON)):
        return reason
    return f"{_BY}{folder}. {reason}"
