from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hilum import SettingError
from hilum.budget import (
    DEFAULT_MINUTES,
    ENOUGH_BEGUN,
    ENOUGH_TOGETHER,
    FEW_MEMBERS,
    LEAST_EPOCHS,
    LEAST_SEEN,
    LONGEST,
    MOST_MEMBERS,
    STARVED,
    TRACED_S,
    Budget,
    Pace,
    Paces,
    Sizes,
    check_minutes,
    choose_epochs,
    choose_members,
    enough,
    in_words,
    overrun,
    sizes_of,
    surely_fits,
    time_one,
    time_training,
    whole_s,
)
from hilum.cache_rooms import cache_folder
from hilum.fingerprint import Fingerprint
from hilum.hardware import Hardware
from hilum.networks import build_network
from hilum.planning import make_plan
from hilum.probing import Probe
from hilum.settings import Settings, Turn, make_settings

CPU = Hardware("cpu", "a processor", 2, has_bfloat16=False)
SIZES = Sizes(n_train=960, n_val=120, n_test=240)
PACE = Pace(step_s=0.2, validation_s=0.004, checkpoint_s=0.1, predict_s=0.004)
WHOLE, HALF, QUARTER = (Turn("network", factor) for factor in (1, 2, 4))
PACES = {WHOLE: PACE}
EPOCH_S = 1.05 * (30 * 0.2 + 120 * 0.004 + 0.1)


def settings(**changes: object) -> Settings:
    usual: dict[str, object] = {"epochs": 20, "batch_size": 32, "precision": "float32"}
    return make_settings({**usual, "layout": "channels_last", "accelerator": "cpu", **changes})


def tiny(**changes: object) -> Settings:
    return settings(
        **{
            "network": "classic", "conv_channels": (4,), "batch_size": 8, "channels": 1,
            "input_height": 16, "input_width": 16, "gamma": 0.3, **changes,
        }
    )  # fmt: skip


# -- choosing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("minutes", [1, 2, 4, 8, 30])
def test_the_most_epochs_that_fit_are_taken(minutes: float) -> None:
    """Held against trying one after another."""
    budget = Budget(minutes, is_given=True, elapsed_s=12, read_s=0.002, n_test=240)
    chosen = choose_epochs(PACES, SIZES, settings(), budget)
    tried = LEAST_EPOCHS
    while (
        tried < 20 * LONGEST
        and whole_s(PACES, SIZES, settings(), tried + 1, budget) <= 60 * minutes
    ):
        tried += 1
    assert chosen.epochs == tried
    assert chosen.expected_s == whole_s(PACES, SIZES, settings(), tried, budget)


def test_an_epoch_costs_its_steps_validation_and_checkpoint() -> None:
    budget = Budget(10, is_given=True)
    # So many that robustness has reached its limit: what is left is the epoch itself.
    more, fewer = (whole_s(PACES, SIZES, settings(), epochs, budget) for epochs in (301, 300))
    assert more - fewer == pytest.approx(EPOCH_S)
    assert PACE.epoch_s(SIZES, settings()) == pytest.approx(EPOCH_S)


def test_time_that_is_gone_is_not_spent_again() -> None:
    fresh, late = (
        choose_epochs(PACES, SIZES, settings(), Budget(4, is_given=True, elapsed_s=gone)).epochs
        for gone in (0.0, 10 * EPOCH_S)
    )
    assert 7 <= fresh - late <= 10  # robustness shrinks with the epochs


def test_a_limit_is_not_filled_but_a_given_budget_is() -> None:
    assert choose_epochs(PACES, SIZES, settings(), Budget(60, is_given=False)).epochs == 20
    given = choose_epochs(PACES, SIZES, settings(), Budget(4, is_given=True))
    assert 20 < given.epochs < 20 * LONGEST
    assert 3.7 * 60 < given.expected_s <= 4 * 60
    endless = choose_epochs(PACES, SIZES, settings(), Budget(600, is_given=True))
    assert endless.epochs == 20 * LONGEST
    assert endless.reason.startswith("0.2 s a step, 30 steps an epoch: 40 epochs are done in ")
    assert endless.reason.endswith(
        " of 600 minutes; more than 2 times the 20 of the plan are not trained."
    )


@pytest.mark.parametrize(
    ("minutes", "members"), [(1, 1), (2, 1), (3, 2), (4, 3), (9, 3), (12, 4), (60, 5)]
)
def test_a_longer_budget_buys_an_ensemble(minutes: float, members: int) -> None:
    budget = Budget(minutes, is_given=True)
    assert choose_members(PACES, SIZES, settings(), budget) == members
    ensemble = settings(members=members)
    epochs = 20 if members > FEW_MEMBERS else math.ceil(20 * ENOUGH_TOGETHER)
    if members > 1:
        assert whole_s(PACES, SIZES, ensemble, epochs, budget) <= 60 * minutes
    by_default = choose_members(PACES, SIZES, settings(), Budget(minutes, is_given=False))
    assert by_default == min(members, FEW_MEMBERS)


@pytest.mark.parametrize("minutes", [1.5, 2, 2.5, 3, 4])
def test_no_network_is_planned_for_which_the_least_epochs_do_not_fit(minutes: float) -> None:
    few = settings(epochs=6, backbone="hilum:efficientnet_lite0", weights="imagenet")
    paces = {Turn("backbone", 1): PACE}
    budget = Budget(minutes, is_given=False)
    members = choose_members(paces, SIZES, few, budget)
    ensemble = few.model_copy(update={"members": members})
    chosen = choose_epochs(paces, SIZES, ensemble, budget)
    assert members == 1 or chosen.expected_s <= 60 * minutes


def test_what_begins_well_is_sooner_learnt_enough() -> None:
    begun = settings(backbone="hilum:efficientnet_lite0", weights="imagenet")
    assert enough(begun, 1) == enough(begun, 3) == ENOUGH_BEGUN
    assert (enough(settings(), 1), enough(settings(), 2)) == (STARVED, ENOUGH_TOGETHER)
    assert enough(begun, 3) < enough(settings(), 3) < enough(settings(), 1)


def test_networks_that_see_less_cost_what_they_cost() -> None:
    """Held against adding up by hand: 2 of 1, 2 of 1/2 and 1 of 1/4 of the side."""
    paces = {
        WHOLE: PACE,
        HALF: Pace(0.05, 0.001, 0.1, 0.001),
        QUARTER: Pace(0.01, 0.0002, 0.1, 0.0002),
    }
    five = settings(members=5, reductions=(1, 2, 4))
    budget = Budget(10, is_given=True)
    more, fewer = (whole_s(paces, SIZES, five, epochs, budget) for epochs in (301, 300))
    epochs_s = [paces[turn].epoch_s(SIZES, five) for turn in (WHOLE, HALF, QUARTER, WHOLE, HALF)]
    assert more - fewer == pytest.approx(sum(epochs_s))
    predicted, alone = (
        whole_s(timed, SIZES, each, 0, budget)
        - whole_s(dict.fromkeys(timed, Pace(0, 0, 0, 0)), SIZES, each, 0, budget)
        for timed, each in ((paces, five), (PACES, settings()))
    )
    assert predicted / alone == pytest.approx((0.004 + 0.001) * 2 / 0.004 + 0.0002 / 0.004)


def test_networks_are_traced_once_for_all_folds() -> None:
    free = dict.fromkeys((WHOLE, Turn("backbone", 1)), Pace(0, 0, 0, 0))
    mixed = settings(backbone="hilum:efficientnet_lite0", kinds=("backbone", "network"), members=3)
    for n_folds in (1, 5):
        budget = Budget(10, is_given=True, n_folds=n_folds)
        whole, alone = (whole_s(free, SIZES, each, 0, budget) for each in (mixed, settings()))
        assert whole - alone == 2 * TRACED_S["backbone"]


def test_each_kind_of_network_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hilum.budget.TIMED_S", 0.0)
    mixed = settings(
        backbone="hilum:efficientnet_lite0", input_height=64, input_width=64, channels=1,
        kinds=("backbone", "network"), reductions=(1, 2, 2), batch_size=4,
    )  # fmt: skip
    paces = time_training(mixed, 2, Sizes(8, 2, 2), most_members=3)
    assert list(paces) == [("backbone", 1), ("network", 2), ("backbone", 2)]


def test_reasons_say_the_numbers() -> None:
    chosen = choose_epochs(PACES, SIZES, settings(), Budget(4, is_given=True))
    whole = whole_s(PACES, SIZES, settings(), chosen.epochs, Budget(4, is_given=True))
    kept = (whole - chosen.epochs * PACE.epoch_s(SIZES, settings())) / 60
    assert chosen.reason == (
        f"0.2 s a step, 30 steps an epoch: {chosen.epochs} epochs fit in 4 minutes, of which "
        f"{kept:.1f} are kept for all but training."
    )
    by_default = choose_epochs(PACES, SIZES, settings(), Budget(1.5, is_given=False))
    assert " epochs fit in 1.5 minutes, the limit by default, of which " in by_default.reason


def test_a_budget_that_nothing_fits_takes_the_least_and_says_so() -> None:
    """The least are 1,000 images, or three epochs of few images."""
    chosen = choose_epochs(PACES, SIZES, settings(), Budget(0.1, is_given=True))
    assert (chosen.epochs, chosen.steps_per_epoch) == (LEAST_EPOCHS, 11)
    assert 3 * 11 * 32 >= LEAST_SEEN > 3 * 10 * 32
    assert chosen.reason == (
        "0.2 s a step, 30 steps an epoch of all images: 3 epochs of 11 steps, the least worth "
        f"training, take about {chosen.expected_s / 60:.1f} minutes in all and not 0.1."
    )
    few = Sizes(n_train=330, n_val=40, n_test=80)
    chosen = choose_epochs(PACES, few, settings(), Budget(0.1, is_given=True, elapsed_s=90))
    assert (chosen.epochs, chosen.steps_per_epoch) == (LEAST_EPOCHS, None)
    assert chosen.reason == (
        "0.2 s a step, 10 steps an epoch: 3 epochs, the least worth training, take about "
        f"{chosen.expected_s / 60:.1f} minutes in all and not 0.1. Reading, checks and planning "
        "had taken 1.5 by then."
    )
    one = choose_epochs(PACES, SIZES, settings(epochs=1), Budget(0.1, is_given=True))
    assert one.epochs == 1


LARGE = Sizes(n_train=78_468, n_val=11_219, n_test=22_433)


@pytest.mark.parametrize("minutes", [6, 9, 12, 20])
def test_where_the_least_epochs_do_not_fit_each_has_the_most_steps_that_do(minutes: float) -> None:
    """Held against trying one number of steps after another."""
    budget = Budget(minutes, is_given=True, elapsed_s=60, read_s=0.0005, n_test=LARGE.n_test)
    chosen = choose_epochs(PACES, LARGE, settings(epochs=6), budget)

    def needed(n_steps: int) -> float:
        return whole_s(PACES, LARGE, settings(steps_per_epoch=n_steps), LEAST_EPOCHS, budget)

    assert chosen.epochs == LEAST_EPOCHS
    tried = max(n for n in range(11, 2452) if needed(n) <= 60 * minutes)
    assert chosen.steps_per_epoch == tried
    assert chosen.expected_s == needed(tried)
    assert chosen.reason.startswith(
        f"0.2 s a step, 2,452 steps an epoch of all images: 3 epochs of {tried:,} steps fit in "
        f"{minutes} minutes, of which "
    )
    kept = choose_epochs(PACES, LARGE, settings(epochs=6), budget, whole=True)
    assert kept.steps_per_epoch is None
    assert " 3 epochs, the least worth training, take about " in kept.reason


def test_a_share_of_the_images_costs_its_share() -> None:
    """Steps and validation; the rest is as before."""
    few = settings(steps_per_epoch=613)  # a quarter
    assert LARGE.n_watched(few) == math.ceil(613 / 2452 * 11_219)
    assert PACE.epoch_s(LARGE, few) == pytest.approx(
        1.05 * (613 * 0.2 + LARGE.n_watched(few) * 0.004 + 0.1)
    )
    assert LARGE.n_seen(few) == 20 * 613 * 32
    assert LARGE.n_seen(settings()) == 20 * (78_468 // 32) * 32


def test_members_and_folds_share_the_time() -> None:
    budget = Budget(5, is_given=True)
    alone = choose_epochs(PACES, SIZES, settings(), budget).epochs
    three = choose_epochs(PACES, SIZES, settings(members=3), budget)
    assert three.epochs < alone / 2
    assert ", 3 networks: " in three.reason
    budget = Budget(5, is_given=True, n_folds=5)
    sizes = sizes_of(1320, 0, budget, settings(val_share=0.15))
    assert sizes == Sizes(n_train=898, n_val=158, n_test=264)
    folds = choose_epochs(PACES, sizes, settings(), budget)
    assert folds.epochs < alone / 4
    assert ", 5 folds: " in folds.reason
    assert folds.expected_s <= 5 * 60


def test_each_of_the_fewest_images_in_folds_is_timed() -> None:
    budget = Budget(1, is_given=True, n_folds=2)
    assert sizes_of(6, 0, budget, settings(val_share=0.15)) == Sizes(2, 1, 3)


def test_without_folds_the_sizes_are_those_of_the_split() -> None:
    budget = Budget(8, is_given=True, n_test=7)
    assert sizes_of(100, 20, budget, settings()) == Sizes(100, 20, 7)


@pytest.mark.parametrize("minutes", [0.0, -1.0, math.inf, math.nan])
def test_a_time_that_is_none_is_refused(minutes: float) -> None:
    check_minutes(None)
    check_minutes(0.5)
    with pytest.raises(SettingError) as caught:
        check_minutes(minutes)
    assert str(caught.value) == (
        f"{minutes:g} minutes are no time to train in. Give a number above 0."
    )


@pytest.mark.parametrize("minutes", ["2", True])
def test_a_time_of_another_type_is_refused(minutes: Any) -> None:
    with pytest.raises(SettingError) as caught:
        check_minutes(minutes)
    assert str(caught.value) == f"minutes is {minutes!r}. Give a number above 0, such as 5."


def test_what_is_sure_to_fit_need_not_be_timed() -> None:
    probed = Probe("float32", "channels_last", {"a": 50.0, "b": 100.0})
    assert surely_fits(10_000, 0, probed, Budget(10, is_given=False))
    assert not surely_fits(100_000, 0, probed, Budget(10, is_given=False))
    assert not surely_fits(10_000, 0, probed, Budget(10, is_given=False, elapsed_s=500))
    assert not surely_fits(10_000, 2_000, probed, Budget(10, is_given=False, read_s=0.15))


def test_one_minute_is_no_minutes() -> None:
    assert (in_words(1), in_words(1.5)) == ("1 minute", "1.5 minutes")


def test_a_late_end_is_told() -> None:
    assert overrun(None, 1e9, is_given=False) is None
    for is_given in (True, False):
        assert overrun(2, 131, is_given=is_given) is None
    assert overrun(2, 180, is_given=True) == (
        "This took 3.0 minutes, and 2 were asked for. plan.json says what was planned: either not "
        "even the least fits, the epochs were set by the user, a linear model was fitted, or the "
        "machine was busier than while steps were timed."
    )
    assert overrun(10, 720, is_given=False) == (
        "This took 12.0 minutes, and 10 are the limit by default. plan.json says what was planned: "
        "either not even the least fits, or the machine was busier than while steps were timed."
    )


# -- timing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["classes", "ordinal", "multilabel"])
def test_a_training_of_any_kind_can_be_timed(target: str) -> None:
    pace = time_one(tiny(target=target), 3, Sizes(20, 5, 5))
    for name, seconds in vars(pace).items():
        assert 0 <= seconds < 5, name
    assert pace.step_s > 0
    assert pace.predict_s > 0


@pytest.mark.parametrize("target", ["classes", "ordinal", "multilabel"])
def test_one_validation_image_does_not_end_the_timing(target: str) -> None:
    time_one(tiny(target=target, keep="best", monitor="val_auroc"), 3, Sizes(20, 1, 5))


def test_each_resolution_of_an_ensemble_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hilum.budget.TIMED_S", 0.2)
    whole = tiny(input_height=128, input_width=128, reductions=(1, 4, 1), batch_size=32)
    assert list(time_training(whole, 2, Sizes(64, 4, 4), most_members=1)) == [WHOLE]
    paces = time_training(whole, 2, Sizes(64, 4, 4), most_members=5)
    assert list(paces) == [WHOLE, QUARTER]
    assert paces[WHOLE].step_s > 2 * paces[QUARTER].step_s


def test_timing_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setenv("HILUM_CACHE", str(tmp_path))
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    time_training(tiny(), 2, Sizes(16, 4, 4), most_members=1)
    assert torch.equal(torch.rand(3), expected)
    assert not list((cache_folder() / "probes").iterdir())


def test_a_larger_batch_takes_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hilum.budget.TIMED_S", 0.2)
    small, large = (
        time_one(tiny(input_height=64, input_width=64, batch_size=n), 2, Sizes(512, 4, 4))
        for n in (4, 128)
    )
    assert large.step_s > 2 * small.step_s


# -- in the plan ---------------------------------------------------------------------------------


def facts(n_train: int = 960) -> Fingerprint:
    counts = {"a": n_train // 2, "b": n_train // 2}
    return Fingerprint(n_train, counts, 64.0, 64.0, 64.0, True, {"uint8": 255.0}, n_val=120)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Time nothing, and tell what was to be timed; networks begin at random."""
    calls: list[str] = []
    monkeypatch.setattr("hilum.rules.start.installed_file", lambda _: None)

    def answer(settings: Settings, *_: object, **__: object) -> Paces:
        calls.append("training")
        return dict.fromkeys(settings.turns(MOST_MEMBERS), PACE)

    monkeypatch.setattr("hilum.planning.time_training", answer)
    monkeypatch.setattr(
        "hilum.planning.probe", lambda *_: Probe("float32", "channels_last", {"float32": 1000.0})
    )
    return calls


def test_the_plan_keeps_to_the_budget(timed: list[str]) -> None:
    plan = make_plan(facts(), CPU, budget=Budget(2, is_given=True, n_test=240))
    assert timed == ["training"]
    free = make_plan(facts(), CPU)
    assert plan.settings.epochs != free.settings.epochs
    assert " epochs fit in 2 minutes, of which " in plan.reasons["epochs"]
    same = plan.settings.model_copy(update={"epochs": free.settings.epochs})
    assert same == free.settings


def test_time_to_spare_is_spent_on_an_ensemble(timed: list[str]) -> None:
    plan = make_plan(facts(), CPU, budget=Budget(300, is_given=True))
    assert plan.settings.members == MOST_MEMBERS
    assert "There is time for 5," in plan.reasons["members"]
    alone = make_plan(facts(), CPU, chosen={"members": 1}, budget=Budget(300, is_given=True))
    assert alone.settings.members == 1


def test_a_backbone_from_elsewhere_is_trained_alone(
    timed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hilum.planning._check_network", lambda *_: None)
    chosen = {"backbone": "monai:ResNet10", "reductions": [1]}
    for is_given in (True, False):
        plan = make_plan(facts(), CPU, chosen=chosen, budget=Budget(300, is_given=is_given))
        assert plan.settings.members == 1
        assert plan.reasons["members"] == "One network: a backbone from elsewhere is large."


def test_a_linear_model_is_not_held_against_the_time(timed: list[str]) -> None:
    chosen = {"backbone": "hilum:efficientnet_lite0", "probe": True}
    by_time = make_plan(facts(), CPU, chosen=chosen, budget=Budget(1, is_given=True))
    assert by_time.reasons["epochs"].endswith(" How long it takes is not held against --minutes.")
    free = make_plan(facts(), CPU, chosen=chosen, budget=Budget(10, is_given=False))
    assert by_time.settings == free.settings
    assert timed == []


def test_where_time_starves_the_training_the_input_is_smaller(
    timed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps that cost by the pixel; images large enough for every side."""

    def by_pixels(settings: Settings, *_: object, **__: object) -> Paces:
        share = settings.input_height * settings.input_width / 128**2
        return {
            turn: Pace(6 * share / turn.reduction**2, 0.0, 0.0, 0.0)
            for turn in settings.turns(MOST_MEMBERS)
        }

    monkeypatch.setattr("hilum.planning.time_training", by_pixels)
    large = replace(facts(), median_short=500.0)
    budget = Budget(10, is_given=True)
    plan = make_plan(large, CPU, budget=budget)
    assert plan.settings.input_height == plan.settings.input_width == 64
    assert plan.settings.stem_stride == 1  # the rules saw the size that is used
    assert (plan.settings.members, plan.settings.epochs) == (2, 9)
    assert plan.reasons["input_height"] == plan.reasons["input_width"]
    assert plan.reasons["input_height"] == (
        "64 pixels, less than these images have: with 128 there is no time for 2 networks of 9 "
        "epochs, where 21 are wanted."
    )
    one = make_plan(large, CPU, chosen={"members": 1}, budget=budget)
    assert one.reasons["input_height"] == (
        "64 pixels, less than these images have: with 128 there is no time for one network of 14 "
        "epochs, where 21 are wanted."
    )
    kept = make_plan(large, CPU, chosen={"input_height": 128}, budget=budget)
    assert kept.settings.input_height == 128


def test_an_ensemble_on_smaller_images_goes_before_one_network_on_larger_ones(
    timed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_pixels(settings: Settings, *_: object, **__: object) -> Paces:
        share = settings.input_height * settings.input_width / 128**2
        return {
            turn: Pace(share / turn.reduction**2, 0.0, 0.0, 0.0)
            for turn in settings.turns(MOST_MEMBERS)
        }

    monkeypatch.setattr("hilum.planning.time_training", by_pixels)
    large = replace(facts(), median_short=500.0)
    found = {
        minutes: make_plan(large, CPU, budget=Budget(minutes, is_given=True)).settings
        for minutes in (4, 8, 11, 16)
    }
    sides = {minutes: settings.input_height for minutes, settings in found.items()}
    networks = {minutes: settings.members for minutes, settings in found.items()}
    assert sides == {4: 96, 8: 128, 11: 128, 16: 128}
    assert networks == {4: 2, 8: 3, 11: 3, 16: 3}
    one = make_plan(large, CPU, chosen={"members": 1}, budget=Budget(11, is_given=True))
    assert (one.settings.input_height, one.settings.members) == (128, 1)


def test_what_the_user_has_set_is_timed_once_and_alone(timed: list[str]) -> None:
    large = replace(facts(), median_short=500.0)
    plan = make_plan(large, CPU, chosen={"members": 1}, budget=Budget(5, is_given=True))
    assert timed == ["training"]
    assert plan.settings.reductions == (1,)
    assert plan.reasons["reductions"] == "One network, which gets images whole."
    assert (plan.settings.kinds, plan.settings.random_rate) == (("backbone",), 1)
    assert plan.reasons["random_rate"].startswith("The default")
    whole = make_plan(large, CPU, chosen={"members": 2}).settings
    assert (whole.input_height, whole.reductions) == (128, (1, 2))


@pytest.mark.parametrize("channels", [[32, 64, 128, 256], [8, 16, 32, 64, 128]])
def test_classic_networks_get_images_whole_and_sizes_that_they_can_be_built_for(
    timed: list[str], channels: list[int]
) -> None:
    large = replace(facts(), median_short=500.0)
    chosen = {"network": "classic", "padding": "valid", "conv_channels": channels}
    plan = make_plan(large, CPU, chosen=chosen, budget=Budget(1, is_given=True))
    assert plan.settings.reductions == (1,)
    build_network(plan.settings, 2)
    with pytest.raises(SettingError, match="The input of 32×32 pixels is too small"):
        make_plan(large, CPU, chosen={**chosen, "reductions": [1, 4]})


def test_time_that_timing_took_is_not_spent_again(
    timed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that goes on by 5 s with each look: three sizes are timed, and none fits."""
    large = replace(facts(), median_short=500.0)
    budget = Budget(1.4, is_given=True)
    still = make_plan(large, CPU, chosen={"members": 1}, budget=budget).settings.epochs
    ticks = iter(range(0, 10_000, 5))
    monkeypatch.setattr("hilum.planning.time", SimpleNamespace(monotonic=lambda: next(ticks)))
    late = make_plan(large, CPU, budget=budget).settings
    assert late.members == 1
    assert late.epochs < still


def test_where_the_time_is_over_sizes_between_are_not_timed(
    timed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sides: list[int] = []

    def answer(settings: Settings, *_: object, **__: object) -> Paces:
        sides.append(settings.input_height)
        return dict.fromkeys(settings.turns(MOST_MEMBERS), PACE)

    monkeypatch.setattr("hilum.planning.time_training", answer)
    large = replace(facts(), median_short=500.0)
    for elapsed_s, expected in ((0.0, [128, 96, 64]), (31.0, [128, 64])):
        sides.clear()
        budget = Budget(0.5, is_given=True, elapsed_s=elapsed_s)
        assert make_plan(large, CPU, budget=budget).settings.input_height == 64
        assert sides == expected


def test_each_of_the_folds_learns_for_as_long_as_if_it_were_alone(timed: list[str]) -> None:
    """Of 960 images in five folds, less a validation split, 653 are learnt from."""
    whole, folds = (
        make_plan(facts(), CPU, budget=Budget(300, is_given=False, n_folds=n)) for n in (1, 5)
    )
    assert whole.settings.epochs == 21
    assert folds.settings.epochs == 31
    assert "20 steps an epoch of all 653 images" in folds.reasons["batch_size"]


def test_epochs_of_the_user_stay(timed: list[str]) -> None:
    plan = make_plan(facts(), CPU, chosen={"epochs": 7}, budget=Budget(1, is_given=True))
    assert plan.settings.epochs == 7
    assert plan.reasons["epochs"] == (
        "Set by the user; how long that takes is not held against --minutes."
    )
    by_default = make_plan(facts(), CPU, chosen={"epochs": 7}, budget=Budget(1, is_given=False))
    for each in (plan, by_default):
        assert each.settings.members == 1
        assert each.reasons["members"] == (
            "One: what set epochs take is not timed. --set members=3 makes an ensemble."
        )
    chosen = {"epochs": 7, "members": 1}
    said = make_plan(facts(), CPU, chosen=chosen, budget=Budget(1, is_given=True))
    assert said.reasons["members"] == "Set by the user."
    assert timed == []


def test_by_default_a_plan_that_surely_fits_is_not_timed(timed: list[str]) -> None:
    limit = Budget(DEFAULT_MINUTES["cpu"], is_given=False)
    few = make_plan(facts(60), CPU, budget=limit)
    free = make_plan(facts(60), CPU)
    assert few.settings == free.settings.model_copy(update={"members": FEW_MEMBERS})
    one = make_plan(facts(60), CPU, chosen={"members": 1}, budget=limit)
    assert one.settings == free.settings
    assert few.reasons["epochs"] == (
        f"{free.reasons['epochs']} Well within 10 minutes, the limit by default on this machine."
    )
    assert timed == []
    many = make_plan(facts(50_000), CPU, budget=limit)
    assert timed == ["training"]
    assert "the limit by default" in many.reasons["epochs"] or "not 10" in many.reasons["epochs"]


def paces_at(rate: float, settings: Settings) -> Paces:
    """Make up what networks cost that learn from so many images a second at 64 pixels."""
    area = settings.input_height * settings.input_width / 64**2
    paces = {}
    for turn in settings.turns(MOST_MEMBERS):
        image_s = area / turn.reduction**2 / rate
        paces[turn] = Pace(settings.batch_size * image_s, image_s / 3, 0.1, image_s / 2)
    return paces


@pytest.mark.parametrize("minutes", [None, 2.0, 10.0, 60.0])  # None is the limit by default
@pytest.mark.parametrize("short", [28.0, 224.0])
@pytest.mark.parametrize("begins_at_random", [False, True])
def test_plans_for_any_size_end_in_time_or_say_that_none_does(
    minutes: float | None, short: float, begins_at_random: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hilum.planning._check_network", lambda *_: None)  # takes long
    if begins_at_random:
        monkeypatch.setattr("hilum.rules.start.installed_file", lambda _: None)
    for n_train in (60, 960, 5_000, 20_000, 78_000, 200_000, 1_000_000):
        images = replace(facts(n_train), n_val=n_train // 7, median_short=short)
        budget = Budget(
            minutes or DEFAULT_MINUTES["cpu"],
            is_given=minutes is not None,
            elapsed_s=n_train / 2_000,
            read_s=0.0002,
            n_test=n_train // 4,
        )
        sizes = Sizes(n_train, images.n_val, budget.n_test)
        for rate in (20, 100, 400, 2_000):

            def paces(settings: Settings, *_: object, rate: float = rate, **__: object) -> Paces:
                return paces_at(rate, settings)

            probed = Probe("float32", "channels_last", {"a": rate})
            monkeypatch.setattr("hilum.planning.probe", lambda *_, found=probed: found)
            monkeypatch.setattr("hilum.planning.time_training", paces)
            plan = make_plan(images, CPU, budget=budget)
            found, why = plan.settings, plan.reasons["epochs"]
            taken_s = whole_s(paces(found), sizes, found, found.epochs, budget)
            row = f"{n_train:,} images, {rate} a second: {taken_s:.0f} s. {why}"
            if ", the least worth training, take " in why:
                assert taken_s > 60 * budget.minutes, row
                assert found.members == 1, row
                assert sizes.n_seen(found) <= max(LEAST_EPOCHS * n_train, 1_100), row
            else:
                assert taken_s <= 60 * budget.minutes, row
            if found.steps_per_epoch is None:
                assert plan.reasons["steps_per_epoch"].startswith("The default"), row
            else:
                assert found.epochs == LEAST_EPOCHS, row
                assert sizes.n_seen(found) >= LEAST_SEEN, row
                assert plan.reasons["steps_per_epoch"].startswith("There is no time for 3"), row


def test_made_up_labels_hold_every_class() -> None:
    from hilum.budget import _made_up

    assert set(np.unique(_made_up(tiny(), 3, 9).labels)) == {0, 1, 2}
