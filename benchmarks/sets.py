"""How often prediction sets hold the class of a new patient's image, in simulated studies.

Patients have 1 to 6 images that resemble each other (as in benchmarks/intervals_hold.py). Each
study has
a validation part, on which thresholds are set, and 200 new patients, on whom coverage is counted:
of a random image of a random patient, class by class. Three ways are compared:

    ours         the patient is the unit; the images that fitted the calibrator set the thresholds
    split        half of the validation patients fit the calibrator, half set the thresholds
    by image     every image is taken for a patient of its own

Run from the root of the project, a minute on one core:

    python -m benchmarks.sets --studies 1000
"""

from __future__ import annotations

import argparse

import numpy as np
from benchmarks.intervals_hold import SCENARIOS, Sample, Scenario, draw
from numpy.typing import NDArray

from hilum.calibrators import Calibrator, choose_calibrator
from hilum.conformal import prediction_sets, set_thresholds

N_NEW = 200

Floats = NDArray[np.float64]


def logits(sample: Sample) -> Floats:
    """What a network would have given for these probabilities."""
    logs = np.log(np.clip(sample.probs, 1e-12, None))
    return logs[:, 1:] - logs[:, :1] if logs.shape[1] == 2 else logs


def patients(sample: Sample, mine: NDArray[np.bool_]) -> Sample:
    return Sample(sample.groups[mine], sample.y_true[mine], sample.probs[mine])


def fixed(way: str, val: Sample, coverage: float) -> tuple[Calibrator, tuple[float, ...]]:
    """Fix calibrator and thresholds of the sets."""
    fit = setting = val
    if way == "split":
        half = val.groups % 2 == 0
        fit, setting = patients(val, half), patients(val, ~half)
    calibrator = choose_calibrator(logits(fit), fit.y_true, fit.groups, "temperature").calibrator
    probs = calibrator.probabilities(logits(setting))
    groups = np.arange(len(probs)) if way == "by image" else setting.groups
    return calibrator, set_thresholds(setting.y_true, probs, groups, coverage)


def count(scenario: Scenario, way: str, n: int, coverage: float, studies: int) -> list[Floats]:
    """Coverage of each class, and shares of sets that are empty or hold several, by study."""
    rng = np.random.default_rng(0)
    n_classes = len(scenario.prior)
    found = []
    for _ in range(studies):
        val, new = draw(scenario, n, rng), draw(scenario, N_NEW, rng)
        calibrator, thresholds = fixed(way, val, coverage)
        sets = prediction_sets(calibrator.probabilities(logits(new)), thresholds)
        held = sets[np.arange(len(sets)), new.y_true]
        weight = 1 / np.bincount(new.groups, minlength=N_NEW)[new.groups]
        sizes = sets.sum(axis=1)
        by_class = []
        for k in range(n_classes):
            # A patient counts once in each class that the patient has images of.
            mine = new.y_true == k
            own = np.bincount(new.groups[mine], minlength=N_NEW)[new.groups[mine]]
            by_class.append(np.average(held[mine], weights=1 / own) if mine.any() else np.nan)
        shares = [np.average(sizes == 0, weights=weight), np.average(sizes > 1, weights=weight)]
        found.append(np.array([*by_class, *shares]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--patients", type=int, nargs="+", default=[100, 300])
    parser.add_argument("--coverage", type=float, default=0.9)
    given = parser.parse_args()
    print(f"Wanted {given.coverage:.0%}; {given.studies:,} studies")
    print("| population | patients | way | by class, % | lowest tenth | empty, % | several, % |")
    print("|---|---|---|---|---|---|---|")
    for name, scenario in SCENARIOS.items():
        for n in given.patients:
            for way in ("ours", "split", "by image"):
                found = np.array(count(scenario, way, n, given.coverage, given.studies)) * 100
                *classes, empty, several = np.nanmean(found, axis=0)
                low = np.nanquantile(found[:, :-2], 0.1, axis=0).min()
                text = ", ".join(f"{value:.1f}" for value in classes)
                print(
                    f"| {name} | {n} | {way} | {text} | {low:.0f} | {empty:.1f} | {several:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
