"""Which inputs larger than planned are tried, and on how many images, in the time that there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hilum.budget import ENOUGH_NEEDED, LEAST_EPOCHS, Budget
from hilum.fingerprint import Fingerprint, Resolution
from hilum.hardware import Hardware
from hilum.probing import probe
from hilum.resolution import Trial
from hilum.rules.pixels import LARGER_SIDES
from hilum.rules.start import begins_well
from hilum.settings import Settings

TRIED = (40, 64, 96, 128, 192, 256)
"""Numbers of images to try larger inputs on: few, so that a plan does not hang on how busy the
machine was in the second in which it was made."""

MOST_OF_TRIALS, LONGEST_TRIALS = 0.1, 0.2
"""Share of the time that such trials may take as they are planned, and after which they end."""

_UNTRIED = "Larger inputs were not tried: "


def look_closer(
    plan: Settings,
    facts: Fingerprint,
    hardware: Hardware,
    given: Mapping[str, Any],
    budget: Budget,
    trial: Trial | None,
) -> Resolution | None:
    """Find out how many pixels the signs need, where the images have more than are planned.

    Parameters
    ----------
    plan : Settings
        What is planned as long as nothing is known of larger inputs.
    facts : Fingerprint
    hardware : Hardware
    given : mapping of str to any
        Settings that the user has made.
    budget : Budget
        For the whole command; trials may take a share of it.
    trial : callable or None
        As `make_plan` takes it.

    Returns
    -------
    Resolution or None
        None where the images have no more pixels, the user has set the size, or training does not
        begin with weights whose features could be looked at.
    """
    larger = [side for side in LARGER_SIDES if side <= facts.median_short]
    is_given = bool({"input_height", "input_width"} & given.keys())
    if not larger or is_given or not begins_well(plan.model_dump()):
        return None
    if trial is None:
        return Resolution(None, f"{_UNTRIED}every image is to be held out.")
    if facts.n_train < TRIED[0]:
        return Resolution(None, f"{_UNTRIED}less than {TRIED[0]} training images tell nothing.")
    epochs = max(LEAST_EPOCHS, ENOUGH_NEEDED * plan.epochs)
    if "epochs" in given:
        epochs = plan.epochs
    pace = _Pace.of(plan, facts, hardware, budget)
    sides = pace.leaving_time(larger, epochs)
    if not sides:  # or the machine was busy when it was timed
        pace = _Pace.of(plan, facts, hardware, budget, again=True)
        sides = pace.leaving_time(larger, epochs)
    if not sides:
        return Resolution(None, f"{_UNTRIED}there is no time to learn by them.")
    found = trial(
        _candidates(plan, sides),
        max(n for n in TRIED if n <= pace.affordable(sides)),
        LONGEST_TRIALS * 60 * budget.minutes,
    )
    if len(sides) == len(larger) or not found.losses:
        return found
    return replace(found, reason=f"{found.reason} There was no time to learn by more.")


def _candidates(plan: Settings, sides: Sequence[int]) -> list[Settings]:
    """Return the settings of the plan's first network, at its own side and at these."""
    one = plan.of(plan.turn(1)).model_copy(update={"probe_passes": 0})
    return [
        one.model_copy(update={"input_height": side, "input_width": side})
        for side in (plan.input_height, *sides)
    ]


@dataclass(frozen=True)
class _Pace:
    """How fast one network learns from images of the planned size, and in what time.

    Attributes
    ----------
    rate : float
        Images a second.
    """

    plan: Settings
    facts: Fingerprint
    budget: Budget
    rate: float

    @classmethod
    def of(
        cls,
        plan: Settings,
        facts: Fingerprint,
        hardware: Hardware,
        budget: Budget,
        *,
        again: bool = False,
    ) -> _Pace:
        probed = probe(plan, len(facts.class_counts), hardware, again=again)
        return cls(plan, facts, budget, probed.rate)

    def leaving_time(self, larger: Sequence[int], epochs: float) -> list[int]:
        """Return those sides by which networks could learn, and that there is time to try."""
        sides = [side for side in larger if self.leaves_time(side, epochs)]
        while sides and self.affordable(sides) < TRIED[0]:
            sides.pop()
        return sides

    def leaves_time(self, side: int, epochs: float) -> bool:
        """Tell whether all networks could learn by this side in half of the time left."""
        n_seen = self.plan.members * epochs * self.facts.n_train
        n_seen += self.facts.n_val + self.budget.n_test
        needed_s = self._slower(side) * n_seen / self.rate
        return needed_s <= (60 * self.budget.minutes - self.budget.elapsed_s) / 2

    def affordable(self, sides: Sequence[int]) -> int:
        """Count the images that can be read and looked at on all these sides."""
        # A training step costs more than a look: what is left of the time is training's.
        areas = [self._slower(side) for side in (self.plan.input_height, *sides)]
        one_s = sum(self.budget.read_s + area / self.rate for area in areas)
        return int(60 * self.budget.minutes * MOST_OF_TRIALS / one_s)

    def _slower(self, side: int) -> float:
        return (side / self.plan.input_height) ** 2
