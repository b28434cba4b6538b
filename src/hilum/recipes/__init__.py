"""The named recipes: settings with their source and what to expect of them, one YAML file each.

The plan of an earlier run can be taken like one of them, to repeat the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from hilum.errors import SettingError, did_you_mean
from hilum.files import read_json
from hilum.settings import Settings, make_settings

PLAN_FILE = "plan.json"

OF_THE_MACHINE = "accelerator"
"""The setting of a plan that another machine does not take over: it has its own."""


@dataclass(frozen=True)
class Preset:
    """Settings that are taken together, in place of a plan made from the data.

    Attributes
    ----------
    settings : Settings
    chosen : tuple of str
        The settings that it names; the rest are defaults.
    reason : str
        Why those that it names are what they are.
    """

    settings: Settings
    chosen: tuple[str, ...]
    reason: str

    @property
    def named(self) -> dict[str, Any]:
        """The settings that it names, by name."""
        return {name: getattr(self.settings, name) for name in self.chosen}


@dataclass(frozen=True)
class Recipe(Preset):
    """A named configuration.

    Attributes
    ----------
    title, source, input, time, expected : str
        For people.
    n_classes : int
        Of the source; the data's own number is used in training.
    """

    name: str
    title: str
    source: str
    input: str
    time: str
    expected: str
    n_classes: int


def recipe_names() -> tuple[str, ...]:
    """Return the names of all recipes, sorted."""
    files = resources.files(__name__).iterdir()
    return tuple(sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml")))


def load_recipe(name: str) -> Recipe:
    """Load one recipe.

    Raises
    ------
    SettingError
        If there is no recipe of this name.
    """
    if name not in recipe_names():
        raise SettingError(
            f"There is no recipe '{name}'.{did_you_mean(name, recipe_names())} "
            f"There are: {', '.join(recipe_names())}; or give a run folder, whose plan is taken."
        )
    text = resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    facts = yaml.safe_load(text)
    return Recipe(
        **{key: facts[key] for key in ("name", "title", "source", "input", "time", "expected")},
        n_classes=facts["classes"],
        settings=make_settings(facts["settings"]),
        chosen=tuple(facts["settings"]),
        reason=f"The recipe {name} sets it.",
    )


def load_preset(name: str) -> Preset:
    """Load a recipe by its name, or the plan of a run by its folder.

    Raises
    ------
    SettingError
        If there is neither, or the plan is damaged.
    """
    path = Path(name) / PLAN_FILE
    if name in recipe_names() or not path.exists():
        return load_recipe(name)
    try:
        values = {name: entry["value"] for name, entry in read_json(path).items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        raise SettingError(f"{path} is damaged, or no plan of a run.") from None
    values.pop(OF_THE_MACHINE, None)
    return Preset(make_settings(values), tuple(values), f"The plan of {name} sets it.")


def describe_recipe(name: str) -> dict[str, Any]:
    """Describe one recipe with its layers and number of parameters, ready for JSON."""
    from hilum.networks import build_network, layers, n_parameters

    recipe = load_recipe(name)
    network = build_network(recipe.settings, recipe.n_classes)
    return {
        "name": recipe.name,
        "title": recipe.title,
        "source": recipe.source,
        "input": recipe.input,
        "layers": layers(network),
        "n_parameters": n_parameters(network),
        "training": {key: recipe.settings.model_dump(mode="json")[key] for key in recipe.chosen},
        "time": recipe.time,
        "expected": recipe.expected,
    }
