from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from hilum import SettingError
from hilum.fingerprint import Fingerprint
from hilum.hardware import Hardware, find_hardware
from hilum.pixels import PixelSpec, prepare
from hilum.planning import make_plan
from hilum.presets import Preset, load_preset
from hilum.probing import Probe
from hilum.readers import read
from hilum.recipes import recipe_names
from hilum.rules.training import MOST_EPOCHS
from hilum.settings import Settings

CPU = Hardware("cpu", "a processor", 2, has_bfloat16=False)
FAST = Hardware("cpu", "a newer processor", 2, has_bfloat16=True)


def fingerprint(**changes: Any) -> Fingerprint:
    facts: dict[str, Any] = {
        "n_train": 1000,
        "class_counts": {"a": 500, "b": 500},
        "median_height": 224.0,
        "median_width": 200.0,
        "grey": True,
        "highest": {"uint8": 255.0},
    }
    found = {**facts, **changes}
    found.setdefault("median_short", min(found["median_height"], found["median_width"]))
    return Fingerprint(**found)


@pytest.fixture(autouse=True)
def _nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(settings: Settings, n_classes: int, hardware: Hardware) -> Probe:
        return Probe(
            "bfloat16" if hardware.has_bfloat16 else "float32", "channels_last", {"float32": 9.0}
        )

    monkeypatch.setattr("hilum.planning.probe", answer)


# -- plan ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", [None, *recipe_names()])
@pytest.mark.parametrize("chosen", [{}, {"epochs": 3, "noise": 0.2}])
def test_every_setting_has_a_value_and_a_reason(recipe: str | None, chosen: dict[str, Any]) -> None:
    loaded = load_preset(recipe) if recipe else None
    plan = make_plan(fingerprint(), CPU, recipe=loaded, chosen=chosen)
    told = plan.to_dict()
    assert list(told) == list(Settings.model_fields)
    for name, entry in told.items():
        assert entry["reason"].strip().endswith("."), name
        assert set(entry) == {"value", "reason"}
    for name, value in chosen.items():
        assert told[name] == {"value": value, "reason": "Set by the user."}
    if loaded:
        for name in set(loaded.values) - set(chosen):
            assert told[name]["reason"] == f"The recipe {recipe} sets it."
            assert getattr(plan.settings, name) == loaded.values[name]


def test_of_a_preset_the_range_of_grey_values_is_filled_up_from_the_data() -> None:
    facts = fingerprint(highest={"uint16": 4000.0})
    for ranges, expected in (
        ({}, {"uint16": (0.0, 4095.0)}),
        ({"int16": (0.0, 9.0)}, {"uint16": (0.0, 4095.0), "int16": (0.0, 9.0)}),
        ({"uint16": (0.0, 255.0)}, {"uint16": (0.0, 255.0)}),
    ):
        preset = Preset({"ranges": ranges}, {"ranges": "So it was."})
        plan = make_plan(facts, CPU, recipe=preset)
        assert plan.settings.ranges == expected
        assert (plan.reasons["ranges"] == "So it was.") == (expected == ranges)


def test_a_preset_for_bfloat16_is_not_emulated() -> None:
    preset = Preset({"precision": "bfloat16"}, {"precision": "So it was."})
    assert make_plan(fingerprint(), FAST, recipe=preset).settings.precision == "bfloat16"
    assert make_plan(fingerprint(), CPU, recipe=preset).settings.precision == "float32"


def test_auto_is_put_into_words() -> None:
    plan = make_plan(fingerprint(), FAST)
    assert (plan.settings.accelerator, plan.settings.precision) == ("cpu", "bfloat16")
    chosen = {"accelerator": "auto", "precision": "auto"}
    plan = make_plan(fingerprint(), CPU, chosen=chosen)
    assert (plan.settings.accelerator, plan.settings.precision) == ("cpu", "float32")


@pytest.mark.parametrize(
    ("height", "width", "side"),
    [(28, 28, 28), (32, 40, 32), (50, 50, 48), (2000, 100, 96), (1024, 1024, 128), (5, 9, 8)],
)
def test_input_size_of_networks_that_begin_at_random(
    height: float, width: float, side: int
) -> None:
    facts = fingerprint(median_height=height, median_width=width)
    plan = make_plan(facts, CPU, chosen={"backbone": None})
    assert (plan.settings.input_height, plan.settings.input_width) == (side, side)
    assert ("enlarged to 8, the least." in plan.reasons["input_height"]) is (side > height)


@pytest.mark.parametrize("side", [8, 15, 21.5, 28, 31, 64, 128])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_classic_network_has_as_many_blocks_as_its_input_can_be_halved(
    side: float, padding: str
) -> None:
    facts = fingerprint(median_height=side, median_width=side)
    plan = make_plan(facts, CPU, chosen={"network": "classic", "padding": padding})
    assert plan.settings.input_height <= side
    assert 2 <= len(plan.settings.conv_channels) <= 5 or side < 28


@pytest.mark.parametrize(
    ("highest", "white"),
    [
        (200.0, 255.0),
        (255.0, 255.0),
        (256.0, 511.0),
        (512.0, 1023.0),
        (1024.0, 2047.0),
        (4095.0, 4095.0),
        (4180.0, 8191.0),
        (8192.0, 16383.0),
        (16384.0, 32767.0),
        (32768.0, None),
        (65535.0, None),
    ],
)
def test_bits_of_16_that_are_used(highest: float, white: float | None) -> None:
    plan = make_plan(fingerprint(highest={"uint8": 255.0, "uint16": highest}), CPU)
    assert plan.settings.ranges == ({} if white is None else {"uint16": (0.0, white)})


def test_reason_of_the_range() -> None:
    plan = make_plan(fingerprint(highest={"uint16": 4000.0}), CPU)
    assert plan.reasons["ranges"] == (
        "The 16-bit images that state no range hold values up to 4000 only: 4095 shows as white, "
        "so that grey levels are kept. Stored with the model."
    )


def test_channels_follow_the_images() -> None:
    assert make_plan(fingerprint(grey=True), CPU).settings.channels == 1
    assert make_plan(fingerprint(grey=False), CPU).settings.channels == 3


@pytest.mark.parametrize(
    ("class_counts", "weights"),
    [
        ({"a": 900, "b": 10}, "none"),
        ({"a": 500, "b": 400, "c": 90}, "root"),
        ({"a": 500, "b": 400, "c": 300}, "none"),
    ],
)
def test_class_weights(class_counts: dict[str, int], weights: str) -> None:
    facts = fingerprint(class_counts=class_counts)
    assert make_plan(facts, CPU).settings.class_weights == weights
    graded = make_plan(facts, CPU, chosen={"target": "ordinal"})
    assert graded.settings.class_weights == "none"


def test_few_images_still_make_a_plan() -> None:
    plan = make_plan(fingerprint(n_train=2, class_counts={"a": 1, "b": 1}), CPU)
    assert plan.settings.epochs == MOST_EPOCHS
    assert plan.reasons["batch_size"] == (
        "Half of the customary 32: more steps with few images; not compared. 1 step an epoch of "
        "all 2 images."
    )


def test_network_that_cannot_be_built_is_told_before_training() -> None:
    chosen = {"network": "classic", "input_height": 8, "conv_channels": [4, 4, 4, 4]}
    with pytest.raises(SettingError) as caught:
        make_plan(fingerprint(), CPU, chosen=chosen)
    assert str(caught.value) == (
        "The input of 8×8 pixels is too small for 4 blocks. Raise input_height and input_width, "
        "or shorten conv_channels."
    )


# -- hardware -----------------------------------------------------------------------------------


def test_hardware_is_described() -> None:
    found = find_hardware("cpu")
    assert found.device == "cpu"
    assert found.name
    assert found.n_cores >= 1


@pytest.mark.parametrize("wanted", ["cuda", "mps"])
def test_device_that_is_not_there(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(SettingError) as caught:
        find_hardware(wanted)
    assert str(caught.value) == (
        f"Setting accelerator = '{wanted}' cannot be used: no such device was found. Leave it at "
        "auto, or use cpu."
    )


def test_signed_images_without_a_range_keep_their_grey_levels(tmp_path: Path) -> None:
    """A CT of 12 bits as int16 TIFF uses a sixteenth of its type."""
    ramp = np.linspace(-1024, 3071, 64 * 64).astype(np.int16).reshape(64, 64)
    tifffile.imwrite(tmp_path / "ramp.tif", ramp)
    picture = read(tmp_path / "ramp.tif")
    assert picture.facts.range_from == "type"
    plan = make_plan(fingerprint(highest={"int16": 3071.0}, lowest={"int16": -1024.0}), CPU)
    assert plan.settings.ranges == {"int16": (-1024.0, 3071.0)}
    assert plan.reasons["ranges"] == (
        "The int16 images state no range and hold -1024 to 3071 outside the test split: these show "
        "as black and white. Stored with the model."
    )
    spec = PixelSpec(height=64, width=64, ranges=plan.settings.ranges)
    assert len(np.unique(prepare(picture, spec))) >= 250
