from __future__ import annotations

from typing import Any, get_args

import pytest

from hilum import SettingError
from hilum.settings import Settings, make_settings, parse_assignments

NAMES = tuple(Settings.model_fields)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_found_again_when_misspelt(name: str) -> None:
    slip = name[1:]
    with pytest.raises(SettingError) as caught:
        make_settings({slip: 1})
    assert str(caught.value) == (
        f"Unknown setting '{slip}'. Did you mean '{name}'? See all settings with: hilum settings"
    )


def test_a_name_like_no_other() -> None:
    with pytest.raises(SettingError) as caught:
        make_settings({"qqq": 1})
    assert str(caught.value) == "Unknown setting 'qqq'. See all settings with: hilum settings"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            {"epochs": 0},
            "Setting epochs = 0 cannot be used: it must be at least 1.",
        ),
        (
            {"learning_rate": 0},
            "Setting learning_rate = 0 cannot be used: it must be greater than 0.",
        ),
        (
            {"learning_rate": float("nan")},
            "Setting learning_rate = nan cannot be used: it must be a finite number.",
        ),
        (
            {"batch_size": "many"},
            "Setting batch_size = 'many' cannot be used: it must be a whole number (images).",
        ),
        (
            {"kinds": ["cnn"]},
            "Setting kinds cannot hold 'cnn': it must be 'backbone' or 'network' (what these "
            "networks are where there is a backbone, in turn: that, or the CNN described by "
            "`network`; the backbone at first).",
        ),
        (
            {"channels": 4},
            "Setting channels = 4 cannot be used: it must be 1 or 3 (1 grey, 3 RGB).",
        ),
        (
            {"network": "resnet"},
            "Setting network = 'resnet' cannot be used: it must be 'classic' or 'residual' "
            "(kind of CNN).",
        ),
        (
            {"target": "ordinale"},
            "Setting target = 'ordinale' cannot be used: it must be 'classes', 'multilabel' "
            "or 'ordinal' (one class an image, several labels, or grades in order). Did you mean "
            "'ordinal'?",
        ),
        (
            {"rotation": 200},
            "Setting rotation = 200 cannot be used: it must be at most 180 (degrees, either way).",
        ),
        (
            {"val_share": 0.5},
            "Setting val_share = 0.5 cannot be used: it must be less than 0.5 (of the "
            "samples outside test).",
        ),
        (
            {"conv_channels": 64},
            "Setting conv_channels = 64 cannot be used: it must be a list, such as [a, b] "
            "(channels of each block).",
        ),
        (
            {"conv_channels": [32, 0]},
            "The settings do not fit together: conv_channels holds 0; 1 to 8192 is possible.",
        ),
        (
            {"dense_units": [100_000]},
            "The settings do not fit together: dense_units holds 100000; 1 to 8192 is possible.",
        ),
        (
            {"reductions": [2, 1]},
            "The settings do not fit together: reductions must begin with 1: the first network "
            "gets images whole.",
        ),
        (
            {"reductions": [1, 4], "input_height": 150, "input_width": 152},
            "The settings do not fit together: reductions holds 4, which does not divide the "
            "input of 150×152 pixels.",
        ),
        (
            {"reductions": [1, 2], "backbone": "timm:resnet18"},
            "The settings do not fit together: such a backbone has an input of one size, so leave "
            "reductions [1].",
        ),
        (
            {"kinds": ["network", "backbone"]},
            "The settings do not fit together: kinds must begin with backbone: the first network "
            "is the backbone.",
        ),
        (
            {"ranges": {"uint16": [5, 5]}},
            "The settings do not fit together: ranges of uint16 is (5, 5); black must be below "
            "white.",
        ),
        (
            {"ranges": {"uint16": [0, float("inf")]}},
            "Setting ranges cannot hold inf: it must be a finite number ((black, white) "
            "by pixel type, in place of the file's).",
        ),
        (
            {"seed": -1},
            "Setting seed = -1 cannot be used: it must be at least 0.",
        ),
        (
            {"early_stopping": -1},
            "Setting early_stopping = -1 cannot be used: it must be at least "
            "1 (epochs without improvement).",
        ),
    ],
)
def test_impossible_values(values: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingError) as caught:
        make_settings(values)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    "rule", ["youden", "sensitivity:0.95", "specificity:0.9", "fixed:0.5", "cost:5:1"]
)
def test_rules_of_the_threshold(rule: str) -> None:
    assert make_settings({"operating_point": rule}).operating_point == rule


@pytest.mark.parametrize("rule", ["yuden", "sensitivity", "sensitivity:95", "cost:1", ""])
def test_rules_are_checked_before_training(rule: str) -> None:
    with pytest.raises(SettingError, match=f"^Setting operating_point = '{rule}' cannot be used: "):
        make_settings({"operating_point": rule})


@pytest.mark.parametrize(
    ("assignment", "name", "value"),
    [
        ("learning_rate=1e-6", "learning_rate", 1e-6),
        ("learning_rate=1E-06", "learning_rate", 1e-6),
        ("learning_rate=-1e3", "learning_rate", -1000.0),
        ("learning-rate=0.1", "learning_rate", 0.1),
        (" epochs = 5 ", "epochs", 5),
        ("conv_channels=[32, 64]", "conv_channels", [32, 64]),
        ("gradient_clip=null", "gradient_clip", None),
        ("gradient_clip=none", "gradient_clip", None),
        ("early_stopping=None", "early_stopping", None),
        ("class_weights=none", "class_weights", "none"),
        ("calibration=none", "calibration", "none"),
        ("flip_horizontal=true", "flip_horizontal", True),
        ("operating_point=sensitivity:0.95", "operating_point", "sensitivity:0.95"),
        ("operating_point=cost:5:1", "operating_point", "cost:5:1"),
        ("ranges={uint16: [0, 4095]}", "ranges", {"uint16": [0, 4095]}),
    ],
)
def test_assignments(assignment: str, name: str, value: Any) -> None:
    assert parse_assignments([assignment]) == {name: value}


def test_later_assignments_win() -> None:
    assert parse_assignments(["epochs=1", "epochs=2"]) == {"epochs": 2}


@pytest.mark.parametrize(
    ("assignment", "text"),
    [
        ("epochs", "--set epochs has no '='. Write it as --set name=value."),
        ("epochs=[1", "--set epochs=[1: '[1' is not a value."),
    ],
)
def test_assignments_that_are_none(assignment: str, text: str) -> None:
    with pytest.raises(SettingError) as caught:
        parse_assignments([assignment])
    assert str(caught.value) == text


def test_settings_survive_json() -> None:
    given = make_settings({"ranges": {"uint16": [0, 4095]}, "conv_channels": [8, 16]})
    assert make_settings(given.model_dump(mode="json")) == given


def test_networks_of_an_ensemble_take_their_turns_in_reductions() -> None:
    settings = Settings(members=5, reductions=(1, 2, 4), blur=1.0, input_height=64)
    assert settings.turns() == [("network", factor) for factor in (1, 2, 4, 1, 2)]
    whole, quarter = settings.of(settings.turn(1)), settings.of(settings.turn(3))
    assert whole == settings.model_copy(update={"members": 1, "reductions": (1,)})
    assert (quarter.input_height, quarter.input_width) == (16, 32)
    assert quarter.blur == 0.25  # pixels, of which there are fewer
    assert (quarter.stem_stride, quarter.conv_channels) == (1, (16, 32, 64, 128, 256))
    kept = Settings(members=2, reductions=(1, 2), stem_stride=1, conv_channels=(8, 16))
    half = kept.of(kept.turn(2))
    assert (half.stem_stride, half.conv_channels) == (1, (8, 16))


def test_networks_that_begin_with_weights_and_at_random_take_their_turns() -> None:
    mixed = make_settings(
        {
            "backbone": "hilum:efficientnet_lite0",
            "weights": "imagenet",
            "kinds": ["backbone", "network"],
            "reductions": [1, 2, 2],
            "members": 4,
            "frozen_stages": 3,
            "frozen_norms": True,
            "backbone_rate": 0.5,
            "learning_rate": 5e-4,
            "random_rate": 4,
        }
    )
    turns = [("backbone", 1), ("network", 2), ("backbone", 2), ("network", 1)]
    assert mixed.turns() == turns
    begun, at_random, smaller, _ = map(mixed.of, mixed.turns())
    assert begun.members == 1
    assert (begun.backbone, begun.weights, begun.frozen_stages) == (
        mixed.backbone,
        "imagenet",
        3,
    )
    assert (at_random.backbone, at_random.weights, at_random.input_height) == (None, None, 64)
    assert (at_random.frozen_stages, at_random.backbone_rate) == (0, 1.0)
    assert begun.learning_rate == 5e-4
    assert at_random.learning_rate == pytest.approx(2e-3)
    assert at_random.of(at_random.turn(1)).learning_rate == at_random.learning_rate
    assert at_random.stem_stride == 1
    assert (smaller.backbone, smaller.input_height) == (mixed.backbone, 64)
    assert smaller.stem_stride == mixed.stem_stride
    assert make_settings(at_random.model_dump(mode="json")) == at_random


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        make_settings({}).epochs = 3  # type: ignore[misc]


def test_none_switches_off_and_minus_one_never_does() -> None:
    for name, field in Settings.model_fields.items():
        assert field.default != -1, name
        if field.default is None:
            assert type(None) in get_args(field.annotation)


def test_pixel_spec() -> None:
    spec = make_settings({"input_height": 64, "channels": 3, "resize": "crop"}).pixel_spec
    assert (spec.height, spec.width, spec.channels, spec.resize) == (64, 128, 3, "crop")


def test_a_rate_for_networks_beside_a_backbone_is_refused_without_one() -> None:
    with pytest.raises(SettingError, match="random_rate is for networks beside a backbone"):
        make_settings({"random_rate": 2})
