"""How often the 95 % intervals of `hilum.estimates.describe` hold the truth.

Studies are simulated from a population whose true figures are known: patients with 1 to 6 images
each, whose scores go together (half of the variance is the patient's). Each study is described, and
each interval is held against the truth: 'below' and 'above' are the shares of intervals that lie
wholly below or above it. Run from the root of the project, 15 minutes on one core:

    python benchmarks/intervals_hold.py --studies 1000

`--percentile` adds the plain percentile bootstrap for comparison.
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hilum import estimates, intervals, metrics, reliability

FIGURES = (
    "accuracy",
    "balanced_accuracy",
    "auroc",
    "average_precision",
    "sensitivity",
    "specificity",
    "precision",
    "f1",
    "brier",
    "ece",
)
# Figures of more than one place in metrics.json: where each stands, for two classes.
PREVALENCE = 0.02
RISKS = (0.1, 0.5, 0.8)
CALIBRATION = (
    *("calibration_slope", "calibration_intercept"),
    *("reliability", "resolution", "uncertainty"),
)
USE = ("ppv", "npv", *(f"net benefit at {risk}" for risk in RISKS))
BINNED = ("ece", "reliability", "resolution")
# Figures for which the percentile bootstrap is tried too, by their functions.
PERCENTILE = ("auroc", "average_precision", "sensitivity")


@dataclass(frozen=True)
class Scenario:
    """A population of patients and a classifier.

    Attributes
    ----------
    prior : tuple of float
        Share of patients by class.
    separation : float
        Distance of the classes; with two classes the AUROC is the normal distribution's value of
        it.
    sharpness : float
        1 for calibrated probabilities, above 1 for overconfident ones.
    alike : float in [0, 1)
        Share of the scores' variance that the images of a patient have in common.
    mixed : float in [0, 1]
        Share of images whose class is drawn anew, so that a patient has images of several classes.
    """

    prior: tuple[float, ...]
    separation: float
    sharpness: float = 1.0
    alike: float = 0.5
    mixed: float = 0.0

    @property
    def positive(self) -> int | None:
        return 1 if len(self.prior) == 2 else None

    @property
    def threshold(self) -> float | None:
        return 0.5 if len(self.prior) == 2 else None


SCENARIOS = {
    "usual": Scenario((0.6, 0.4), 1.4, sharpness=1.5),
    "calibrated, classes mixed within patients": Scenario((0.5, 0.5), 1.2, mixed=0.5),
    "strong classifier, rare class": Scenario((0.75, 0.25), 2.1, sharpness=1.3),
    "nearly perfect classifier": Scenario((0.6, 0.4), 3.2),
    "four classes": Scenario((0.4, 0.3, 0.2, 0.1), 1.6, sharpness=1.3),
}


@dataclass(frozen=True)
class Sample:
    """Images drawn from a scenario: patient, class and probabilities of each."""

    groups: NDArray[np.intp]
    y_true: NDArray[np.intp]
    probs: NDArray[np.float64]


def draw(scenario: Scenario, n_patients: int, rng: np.random.Generator) -> Sample:
    """Draw patients with 1 to 6 images each."""
    n_classes = len(scenario.prior)
    groups = np.repeat(np.arange(n_patients), rng.integers(1, 7, size=n_patients))
    n = len(groups)
    y = rng.choice(n_classes, size=n_patients, p=scenario.prior)[groups]
    anew = rng.random(n) < scenario.mixed
    y = np.where(anew, rng.choice(n_classes, size=n, p=scenario.prior), y)
    of_patient = rng.normal(size=(n_patients, n_classes))[groups]
    of_image = rng.normal(size=(n, n_classes))
    noise = math.sqrt(scenario.alike) * of_patient + math.sqrt(1 - scenario.alike) * of_image
    seen = scenario.separation * (y[:, None] == np.arange(n_classes)) + noise
    logits = scenario.separation * seen + np.log(scenario.prior)
    logits = scenario.sharpness * (logits - logits.max(axis=1, keepdims=True))
    probs = np.exp(logits)
    return Sample(groups, y, probs / probs.sum(axis=1, keepdims=True))


def truth(scenario: Scenario, population: Sample) -> dict[str, float]:
    """Figures of a population so large that chance hardly matters, but not calibration error."""
    k = scenario.positive
    y, probs = population.y_true, population.probs
    if k is not None and scenario.threshold is not None:
        pred = np.where(probs[:, k] >= scenario.threshold, k, 1 - k)
        classes, brier = [k], metrics.brier(y == k, probs[:, k])
    else:
        pred = probs.argmax(axis=1)
        classes, brier = list(range(probs.shape[1])), metrics.brier(y, probs)
    sides = [(y == c, probs[:, c], pred == c) for c in classes]
    by_class = {
        "auroc": [metrics.auroc(true, score) for true, score, _ in sides],
        "average_precision": [metrics.average_precision(true, score) for true, score, _ in sides],
        "sensitivity": [metrics.sensitivity(true, called) for true, _, called in sides],
        "specificity": [metrics.specificity(true, called) for true, _, called in sides],
        "precision": [metrics.precision(true, called) for true, _, called in sides],
        "f1": [metrics.f1(true, called) for true, _, called in sides],
    }
    found = {name: float(np.mean(values)) for name, values in by_class.items()}
    if k is not None:
        found |= true_use(y == k, probs[:, k], found["sensitivity"], found["specificity"])
    hit, stated = metrics.hits_and_stated(y, probs) if k is None else (1.0 * (y == k), probs[:, k])
    fit = reliability.recalibrate(hit, stated, intervals.Clusters.of(None, len(hit)))
    shares = np.bincount(y) / len(y)
    return found | {
        "calibration_slope": fit.slope.value,
        "calibration_intercept": fit.intercept.value,
        "uncertainty": float((shares * (1 - shares)).sum() / (1 if k is None else 2)),
        "accuracy": metrics.accuracy(y, pred),
        "balanced_accuracy": metrics.balanced_accuracy(y, pred),
        "brier": brier,
    }


def true_use(
    positive: NDArray[np.bool_], score: NDArray[np.float64], sensitivity: float, specificity: float
) -> dict[str, float]:
    """Predictive values at a prevalence, and net benefit at some risks."""
    hits, misses = PREVALENCE * sensitivity, PREVALENCE * (1 - sensitivity)
    false, cleared = (1 - PREVALENCE) * (1 - specificity), (1 - PREVALENCE) * specificity
    return {"ppv": hits / (hits + false), "npv": cleared / (cleared + misses)} | {
        f"net benefit at {risk}": float(
            np.mean((score >= risk) * np.where(positive, 1.0, -risk / (1 - risk)))
        )
        for risk in RISKS
    }


def true_binned(scenario: Scenario, population: Sample, n_samples: int) -> dict[str, float]:
    """Figures that depend on bins, for the population in as many bins as such a study uses."""
    n_bins = min(metrics.MAX_BINS, max(1, n_samples // metrics.MIN_PER_BIN))
    y, probs, k = population.y_true, population.probs, scenario.positive
    true, stated = (y, probs) if k is None else (y == k, probs[:, k])
    parts = metrics.brier_decomposition(true, stated, n_bins=n_bins)
    error = metrics.ece(true, stated, n_bins=n_bins)
    return {"ece": error, "reliability": parts.reliability, "resolution": parts.resolution}


def entries(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every figure of a description by its name here."""
    rows = {name: found[name] for name in (*FIGURES, *CALIBRATION[:2])}
    rows |= found["brier_decomposition"]
    for row in found.get("ppv_npv", []):
        if row["prevalence"] == PREVALENCE:
            rows |= {"ppv": row["ppv"], "npv": row["npv"]}
    curve = found.get("net_benefit", {})
    for risk in RISKS if curve else ():
        names = ("ci_low", "ci_high")
        if "model" not in curve:
            rows[f"net benefit at {risk}"] = dict.fromkeys(names)
            continue
        place = curve["thresholds"].index(risk)
        rows[f"net benefit at {risk}"] = {name: curve["model"][name][place] for name in names}
    return rows


@dataclass
class Tally:
    """Outcome of many intervals of one figure."""

    held: int = 0
    too_high: int = 0
    too_low: int = 0
    missing: int = 0
    widths: list[float] = field(default_factory=list)

    def add(self, low: float | None, high: float | None, true: float) -> None:
        if low is None or high is None:
            self.missing += 1
            return
        self.held += low <= true <= high
        self.too_high += true < low
        self.too_low += true > high
        self.widths.append(high - low)

    @property
    def coverage(self) -> float:
        return self.held / max(1, len(self.widths))


def simulate(
    scenario: Scenario,
    *,
    n_patients: int,
    n_studies: int,
    n_resamples: int = 600,
    percentile: bool = False,
    n_population: int = 300_000,
) -> dict[str, tuple[float, Tally]]:
    """Return the truth and the tally of each figure; the same every time."""
    population = draw(scenario, n_population, np.random.default_rng(1))
    true = truth(scenario, population)
    binned: dict[int, dict[str, float]] = {}
    names = (*FIGURES, *CALIBRATION, *(USE if scenario.positive is not None else ()))
    tallies = {name: Tally() for name in names}
    plain = {name: Tally() for name in PERCENTILE} if percentile else {}
    for study in range(n_studies):
        sample = draw(scenario, n_patients, np.random.default_rng([2, n_patients, study]))
        n_bins = min(metrics.MAX_BINS, len(sample.y_true) // metrics.MIN_PER_BIN)
        if n_bins not in binned:
            binned[n_bins] = true_binned(scenario, population, len(sample.y_true))
        found = estimates.describe(
            sample.y_true,
            sample.probs,
            class_names=[str(k) for k in range(len(scenario.prior))],
            positive=scenario.positive,
            threshold=scenario.threshold,
            groups=sample.groups,
            seed=study,
            n_resamples=n_resamples,
        )
        for name, entry in entries(found).items():
            target = binned[n_bins][name] if name in BINNED else true[name]
            tallies[name].add(entry["ci_low"], entry["ci_high"], target)
        if plain:
            for name, low, high in percentiles(sample, n_resamples, study):
                plain[name].add(low, high, true[name])
    for name in BINNED:
        true[name] = float(np.mean([row[name] for row in binned.values()]))
    rows = {name: (true[name], tally) for name, tally in tallies.items()}
    return rows | {f"{name} (percentile)": (true[name], tally) for name, tally in plain.items()}


def percentiles(
    sample: Sample, n_resamples: int, seed: int
) -> Iterator[tuple[str, float | None, float | None]]:
    """Plain percentile bootstrap over patients, two classes."""
    clusters = intervals.Clusters.of(sample.groups, len(sample.groups))
    score = sample.probs[:, 1]
    weights = intervals.draw_patients(clusters.n, n_resamples, seed)[:][:, clusters.index]
    called = (score >= 0.5).astype(int)
    for name, of in zip(PERCENTILE, (score, score, called), strict=True):
        figure = getattr(metrics, name)
        with warnings.catch_warnings(action="ignore", category=metrics.UndefinedFigureWarning):
            drawn = np.array([figure(sample.y_true, of, weights=row) for row in weights])
        drawn = drawn[np.isfinite(drawn)]
        low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (None, None)
        yield name, low, high


def main() -> None:
    parser = argparse.ArgumentParser(description="Coverage of the 95 % intervals, by simulation.")
    parser.add_argument("--studies", type=int, default=1000, help="simulated studies")
    parser.add_argument("--patients", type=int, nargs="+", default=[40, 100, 300])
    parser.add_argument("--resamples", type=int, default=600)
    parser.add_argument("--percentile", action="store_true", help="two classes only")
    parser.add_argument("--scenario", choices=SCENARIOS, nargs="+", default=list(SCENARIOS))
    options = parser.parse_args()
    for name in options.scenario:
        scenario = SCENARIOS[name]
        for n_patients in options.patients:
            print(f"\n{name}, {n_patients} patients, {options.studies} studies")
            print(
                f"{'figure':32}{'truth':>8}{'coverage':>10}{'below':>8}{'above':>8}{'width':>8}{'none':>6}"
            )
            rows = simulate(
                scenario,
                n_patients=n_patients,
                n_studies=options.studies,
                n_resamples=options.resamples,
                percentile=options.percentile and scenario.positive is not None,
            )
            for figure, (true, tally) in rows.items():
                n = max(1, len(tally.widths))
                print(
                    f"{figure:32}{true:8.3f}{tally.coverage:10.3f}{tally.too_low / n:8.3f}"
                    f"{tally.too_high / n:8.3f}{np.mean(tally.widths or [0]):8.3f}{tally.missing:6}"
                )


if __name__ == "__main__":
    main()
