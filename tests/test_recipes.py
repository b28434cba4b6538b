from __future__ import annotations

import json
import re
from importlib import resources

import pytest
import torch

from hilum import SettingError, describe_recipe, recipe_names
from hilum.networks import build_network
from hilum.recipes import load_recipe

NAMES = ("binary", "chest-xray", "general", "hospital", "papilloma")


def test_names() -> None:
    assert recipe_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_file_opens_with_source_and_input(name: str) -> None:
    text = resources.files("hilum.recipes").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    header = re.match(r"(#.*\n)+", text)
    assert header is not None
    assert re.search(r"^# Source: \S", header[0], re.MULTILINE)
    assert re.search(r"^# Input: \S", header[0], re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_recipe_builds_and_answers(name: str) -> None:
    recipe = load_recipe(name)
    settings = recipe.settings
    assert recipe.name == name
    assert all((recipe.title, recipe.source, recipe.input, recipe.time))
    network = build_network(settings, recipe.n_classes).eval()
    shape = (2, settings.channels, settings.input_height, settings.input_width)
    with torch.no_grad():
        logits = network(torch.zeros(shape))
    assert logits.shape == (2, 1 if recipe.n_classes == 2 else recipe.n_classes)


@pytest.mark.parametrize("name", NAMES)
def test_description_is_whole_and_json(name: str) -> None:
    told = describe_recipe(name)
    assert list(told) == [
        *("name", "title", "source", "input", "layers", "n_parameters", "training"),
        *("time", "expected"),
    ]
    assert json.loads(json.dumps(told)) == told


def test_chest_xray_is_the_classic_network() -> None:
    told = describe_recipe("chest-xray")
    assert told["n_parameters"] == 1_995_649
    expected = []
    for n in (32, 64, 128, 256):
        expected += [f"convolution 3×3, {n} channels, unpadded", "relu", "batch norm"]
        expected += ["max-pooling 2×2"]
    expected += ["dense, 128 units", "relu", "dense, 1 units"]
    assert [layer for layer in told["layers"] if layer != "flatten"] == expected
    training = told["training"]
    assert (training["input_height"], training["input_width"], training["channels"]) == (
        150,
        150,
        1,
    )
    assert (training["batch_size"], training["epochs"], training["optimizer"]) == (32, 15, "adam")
    assert all(training[name] for name in ("rotation", "zoom", "shift", "flip_horizontal"))


@pytest.mark.parametrize(
    ("name", "shape", "n_classes"),
    [
        ("hospital", (230, 250, 1), 8),
        ("general", (32, 32, 3), 10),
        ("binary", (64, 64, 3), 2),
    ],
)
def test_inputs_of_the_sources(name: str, shape: tuple[int, int, int], n_classes: int) -> None:
    recipe = load_recipe(name)
    settings = recipe.settings
    assert (settings.input_height, settings.input_width, settings.channels) == shape
    assert recipe.n_classes == n_classes


def test_hospital_really_uses_its_callbacks() -> None:
    settings = load_recipe("hospital").settings
    assert settings.early_stopping is not None
    assert settings.schedule == "plateau"
    assert settings.early_stopping > settings.plateau_patience
    assert (settings.epochs, settings.loss, len(settings.dense_units)) == (30, "cross_entropy", 2)


def test_unknown_recipe() -> None:
    with pytest.raises(SettingError) as caught:
        load_recipe("chestxray")
    assert str(caught.value) == (
        "There is no recipe 'chestxray'. Did you mean 'chest-xray'? There are: binary, chest-xray, "
        "general, hospital, papilloma."
    )


def test_no_name_leads_out_of_the_folder() -> None:
    with pytest.raises(SettingError, match=r"^There is no recipe '\.\./recipes/binary'"):
        load_recipe("../recipes/binary")
