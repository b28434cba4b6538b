"""Which larger inputs are tried, and what a plan makes of what was found."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from hilum.budget import Budget, Pace
from hilum.fingerprint import Fingerprint, Resolution
from hilum.hardware import Hardware
from hilum.planning import make_plan
from hilum.probing import Probe
from hilum.settings import Settings

CPU = Hardware("cpu", "a processor", 2, has_bfloat16=False)


def large(n_train: int = 150, height: float = 600.0, width: float = 500.0) -> Fingerprint:
    counts = {"a": n_train // 2, "b": n_train // 2}
    return Fingerprint(
        n_train, counts, 9999.0, 9999.0, min(height, width), True, {"uint8": 255.0}, n_val=30
    )


SHOWN = Resolution(256, "Less than 256 pixels are clearly worse.", {128: 0.7, 256: 0.4})


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(settings: Settings, *_: object, **__: object) -> object:
        share = settings.input_height * settings.input_width / 128**2
        return {turn: Pace(0.3 * share, 0.0, 0.0, 0.0) for turn in settings.turns(5)}

    monkeypatch.setattr("hilum.planning.time_training", answer)
    for module in ("planning", "larger_inputs"):
        monkeypatch.setattr(
            f"hilum.{module}.probe",
            lambda *_, **__: Probe("float32", "channels_last", {"float32": 100.0}),
        )


@pytest.mark.usefixtures("fast")
def test_what_was_found_is_planned_and_every_network_gets_images_whole() -> None:
    asked: list[list[int]] = []

    def trial(candidates: Sequence[Settings], most: int, seconds: float) -> Resolution:
        asked.append([*(one.input_height for one in candidates), most, round(seconds)])
        return SHOWN

    budget = Budget(10, is_given=False)
    found = make_plan(large(), CPU, budget=budget, trial=trial)
    assert asked == [[128, 192, 256, 384, 256, 120]]  # 512 are more than half of the images have
    assert (found.settings.input_height, found.settings.input_width) == (256, 256)
    assert set(found.settings.kinds) == {"backbone"}
    assert set(found.settings.reductions) == {1}
    assert found.reasons["input_height"] == SHOWN.reason
    assert found.resolution == SHOWN
    enough = Resolution(128, "128 are enough.", {128: 0.4, 192: 0.4})
    small = make_plan(large(), CPU, budget=budget, trial=lambda *_: enough)
    assert small.settings.input_height == 128
    assert small.reasons["input_height"].endswith("128 at most. 128 are enough.")


@pytest.mark.usefixtures("fast")
def test_fewer_sides_are_tried_where_looking_takes_long() -> None:
    asked: list[list[int]] = []

    def trial(candidates: Sequence[Settings], most: int, _: float) -> Resolution:
        asked.append([*(one.input_height for one in candidates), most])
        return SHOWN

    # Of 45, 123 and 250 images that there would be time for, round numbers are tried.
    for read_s in (0.4, 0.1, 0.03):
        make_plan(large(), CPU, budget=Budget(10, is_given=False, read_s=read_s), trial=trial)
    assert asked == [[128, 192, 256, 40], [128, 192, 256, 384, 96], [128, 192, 256, 384, 192]]


@pytest.mark.usefixtures("fast")
def test_what_leaves_no_time_is_not_tried() -> None:
    def never(*_: object) -> Resolution:
        raise AssertionError("nothing was to be tried")

    budget = Budget(10, is_given=False)
    many = make_plan(large(50_000), CPU, budget=budget, trial=never)
    assert "there is no time to learn by them" in many.reasons["input_height"]
    slow = Budget(10, is_given=False, read_s=3.0)
    assert "no time" in make_plan(large(), CPU, budget=slow, trial=never).reasons["input_height"]
    folds = make_plan(large(), CPU, budget=Budget(10, is_given=False, n_folds=5))
    assert "every image is to be held out" in folds.reasons["input_height"]
    few = make_plan(large(30), CPU, budget=budget, trial=never)
    assert "less than 40 training images tell nothing" in few.reasons["input_height"]
    for chosen in ({"input_height": 96}, {"backbone": None}):
        make_plan(large(), CPU, chosen=chosen, budget=budget, trial=never)
    make_plan(large(height=150.0, width=900.0), CPU, budget=budget, trial=never)
    make_plan(large(), CPU, trial=never)


@pytest.mark.usefixtures("fast")
def test_what_a_busy_machine_timed_is_timed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def busy(*_: object, again: bool = False) -> Probe:
        asked.append(again)
        return Probe("float32", "channels_last", {"float32": 100.0 if again else 1.0})

    monkeypatch.setattr("hilum.larger_inputs.probe", busy)
    budget = Budget(10, is_given=False)
    found = make_plan(large(), CPU, budget=budget, trial=lambda *_: SHOWN)
    assert found.settings.input_height == 256
    assert asked == [False, True]


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("minutes", [1.5, 3])
def test_however_little_time_there_is_no_input_hides_the_signs(minutes: float) -> None:
    budget = Budget(minutes, is_given=False, n_test=10)
    found = make_plan(large(), CPU, budget=budget, trial=lambda *_: SHOWN)
    assert (found.settings.input_height, found.settings.members) == (256, 1)
    assert found.reasons["input_height"].startswith(SHOWN.reason)
    assert found.reasons["members"] == "There is no time for several."
    assert found.summary.startswith("Planned: input of 256 × 256 pixels, one network, ")
