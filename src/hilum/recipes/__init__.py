"""The named recipes: settings with their source and what to expect of them, one YAML file each."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml

from hilum.errors import SettingError, did_you_mean
from hilum.settings import Settings, make_settings


@dataclass(frozen=True)
class Recipe:
    """A named configuration.

    Attributes
    ----------
    title, source, input, time, expected : str
        For people.
    n_classes : int
        Of the source; the data's own number is used in training.
    settings : Settings
    chosen : tuple of str
        The settings that the recipe names; the rest are defaults.
    """

    name: str
    title: str
    source: str
    input: str
    time: str
    expected: str
    n_classes: int
    settings: Settings
    chosen: tuple[str, ...]


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
            f"There are: {', '.join(recipe_names())}."
        )
    text = resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    facts = yaml.safe_load(text)
    return Recipe(
        **{key: facts[key] for key in ("name", "title", "source", "input", "time", "expected")},
        n_classes=facts["classes"],
        settings=make_settings(facts["settings"]),
        chosen=tuple(facts["settings"]),
    )


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
