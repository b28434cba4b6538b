"""What a plan says of settings that its networks do not get, or not so."""

from __future__ import annotations

from typing import Any

import pytest

from hilum.fingerprint import Fingerprint
from hilum.hardware import Hardware
from hilum.planning import Plan, make_plan
from hilum.presets import Preset
from hilum.probing import Probe
from hilum.usage import OF_CHANGES, OF_STEPS

CPU = Hardware("cpu", "a processor", 2, has_bfloat16=False)
LARGE = Fingerprint(1000, {"a": 500, "b": 500}, 500.0, 500.0, 500.0, True, {"uint8": 255.0})
OWN = "hilum:efficientnet_lite0"

NO_CNN = "Not used: every network is the backbone."
REDUCED = {
    "stem_stride": "On reduced images 1, which keeps the few pixels that are left.",
    "conv_channels": "On reduced images one stage more, first, of half as many channels.",
}


@pytest.fixture(autouse=True)
def _nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    probed = Probe("float32", "channels_last", {"float32": 9.0})
    monkeypatch.setattr("hilum.planning.probe", lambda *_: probed)


def plan(recipe: Preset | None = None, **chosen: Any) -> Plan:
    return make_plan(LARGE, CPU, chosen=chosen, recipe=recipe)


@pytest.mark.parametrize("chosen", [{"members": 1}, {"members": 3, "kinds": ["backbone"]}])
def test_without_a_cnn_nothing_is_said_for_one(chosen: dict[str, Any]) -> None:
    reasons = plan(**chosen).reasons
    for name in ("network", "conv_channels", "blocks_per_stage", "stem_stride"):
        assert reasons[name] == NO_CNN
    assert reasons["normalisation"] == "Not used: the backbone takes off constants of its own."
    assert reasons["pool"].startswith("The default; ")


def test_what_the_user_set_for_no_network_is_told() -> None:
    reasons = plan(backbone=OWN, members=1, conv_channels=[8, 16], rotation=5).reasons
    assert reasons["conv_channels"] == f"Set by the user. {NO_CNN}"
    assert reasons["rotation"] == "Set by the user."


def test_a_cnn_that_sees_reduced_images_alone_is_another() -> None:
    mixed, own = plan(members=3), plan(members=3, backbone=None)
    for name, note in REDUCED.items():
        none_whole = "For a CNN on whole images, of which there is none here."
        assert mixed.reasons[name] == f"{none_whole} {note}"
        assert own.reasons[name].endswith(f". {note}")
        assert none_whole not in own.reasons[name]
    one = plan(members=1, backbone=None)
    assert not [name for name, note in REDUCED.items() if note in one.reasons[name]]
    small = plan(members=3, input_height=64)
    assert small.settings.stem_stride == 1  # already: nothing of it changes on reduced images
    assert not [name for name, note in REDUCED.items() if note in small.reasons[name]]


def test_sides_that_no_network_sees_are_not_named() -> None:
    two = plan(members=2, backbone=None)
    assert two.settings.reductions == (1, 2)
    assert two.reasons["reductions"].startswith("Networks that see 128 and 64 pixels err")


def test_what_a_linear_model_does_not_use_is_told() -> None:
    for passes in (0, 2):
        reasons = plan(probe=True, probe_passes=passes).reasons
        for name in OF_STEPS:
            assert reasons[name].startswith("Not used: a linear model is fitted"), name
        for name in OF_CHANGES:
            is_used = not reasons[name].startswith("Not used: the linear model is fitted on")
            assert is_used is (passes > 0), name
        assert not reasons["class_weights"].startswith("Not used")


def test_a_plan_that_is_taken_over_keeps_no_note_that_is_not_so_any_more() -> None:
    values = {"backbone": OWN, "weights": "imagenet", "network": "residual", "stem_stride": 2}
    told = dict.fromkeys(values, "By the plan of a. Good.") | {
        "network": f"By the plan of a. {NO_CNN}"
    }
    alone = plan(Preset(values, told))
    assert alone.reasons["network"] == f"By the plan of a. {NO_CNN}"
    assert alone.reasons["stem_stride"] == f"By the plan of a. Good. {NO_CNN}"
    mixed = plan(Preset(values, told), kinds=["backbone", "network"], members=2)
    assert mixed.reasons["network"] == "By the plan of a."
    assert mixed.reasons["stem_stride"] == "By the plan of a. Good."
