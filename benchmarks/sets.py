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

`--alarms` counts instead how often coverage on test would be called too low where nothing has
changed: by the interval on test alone, and as the report does.
"""

from __future__ import annotations

import argparse

import numpy as np
from benchmarks.intervals_hold import SCENARIOS, Sample, Scenario, draw
from numpy.typing import NDArray
from scipy.special import softmax

from hilum.calibrators import Calibrator, choose_calibrator
from hilum.conformal import least_coverage, prediction_sets, set_thresholds
from hilum.intervals import share
from hilum.resampling import Clusters

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


def draw_two_classes(n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], Floats]:
    """Draw n patients of either class with an image each: classes, and probabilities."""
    y_true = np.repeat([0, 1], n)
    scores = rng.normal(size=(2 * n, 2))
    scores[np.arange(2 * n), y_true] += 1.5
    return y_true, softmax(1.5 * scores, axis=1)


def count_alarms(n_val: int, n_test: int, coverage: float, studies: int) -> Floats:
    """Share of studies with an alarm, by the interval on test alone and with the thresholds'.

    Parameters
    ----------
    n_val, n_test : int
        Patients of either class.
    """
    rng = np.random.default_rng(0)
    of_sets = (coverage - least_coverage(n_val, coverage)) / 2  # of either class, half of the test
    alarms = np.zeros(2)
    for _ in range(studies):
        y_true, probs = draw_two_classes(n_val, rng)
        thresholds = set_thresholds(y_true, probs, np.arange(len(probs)), coverage)
        y_true, probs = draw_two_classes(n_test, rng)
        held = prediction_sets(probs, thresholds)[np.arange(len(probs)), y_true]
        everyone = np.ones(len(held), dtype=bool)
        above = share(held, Clusters.of(None, len(held)), everyone).ci_high - held.mean()
        alarms += (
            held.mean() + np.array([above, np.hypot(above, np.hypot(of_sets, of_sets))]) < coverage
        )
    return alarms / studies


def print_alarms(coverage: float, studies: int) -> None:
    print(f"Wanted {coverage:.0%}; {studies:,} studies in which nothing has changed")
    print("| patients a class, validation | test | by the test alone, % | by both, % |")
    print("|---|---|---|---|")
    for n_val, n_test in ((24, 40), (24, 200), (50, 100), (100, 300)):
        alone, both = 100 * count_alarms(n_val, n_test, coverage, studies)
        print(f"| {n_val} | {n_test} | {alone:.1f} | {both:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--patients", type=int, nargs="+", default=[100, 300])
    parser.add_argument("--coverage", type=float, default=0.9)
    parser.add_argument("--alarms", action="store_true")
    given = parser.parse_args()
    if given.alarms:
        print_alarms(given.coverage, given.studies)
        return
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
