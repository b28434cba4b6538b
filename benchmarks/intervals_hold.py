"""How often the 95 % intervals of `hilum.estimates.describe` hold the truth.

Studies are simulated from a population whose true figures are known: patients with 1 to 6 images
each, whose scores go together (half of the variance is the patient's). Each study is described, and
each interval is held against the truth: 'below' and 'above' are the shares of intervals that lie
wholly below or above it. Run from the root of the project, 15 minutes on one core:

    python -m benchmarks.intervals_hold --studies 1000

`--percentile` adds the plain percentile bootstrap for comparison. `--target ordinal` and
`--target multilabel` simulate grades, and several labels of which some are unknown.
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hilum import estimates, metrics, multilabel, reliability, resampling
from hilum.targets import median_grade

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
    fit = reliability.recalibrate(hit, stated, resampling.Clusters.of(None, len(hit)))
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


Rows = dict[str, tuple[float, Tally]]
"""Truth and outcome of each figure."""


def simulate(
    scenario: Scenario,
    *,
    n_patients: int,
    n_studies: int,
    n_resamples: int = 600,
    percentile: bool = False,
    n_population: int = 300_000,
) -> Rows:
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


# -- grades and labels -----------------------------------------------------------------------------

GRADED = {"usual grades": 1.2, "strong classifier of grades": 2.5}
"""Distance of neighbouring grades, in standard deviations of what is seen of an image."""

GRADE_SHARES = (0.4, 0.25, 0.15, 0.12, 0.08)
LABEL_SHARES = (0.4, 0.3, 0.2, 0.15, 0.1)
UNKNOWN = 0.1
OVERCONFIDENT = 1.3


def draw_grades(step: float, n_patients: int, rng: np.random.Generator) -> Sample:
    """Draw patients with one grade and 1 to 6 images each; half of the noise is the patient's."""
    groups = np.repeat(np.arange(n_patients), rng.integers(1, 7, size=n_patients))
    grades = np.arange(len(GRADE_SHARES))
    y = rng.choice(len(grades), size=n_patients, p=GRADE_SHARES)[groups]
    noise = rng.normal(size=n_patients)[groups] + rng.normal(size=len(groups))
    seen = step * y + noise / math.sqrt(2)
    logits = np.log(GRADE_SHARES) - (seen[:, None] - step * grades) ** 2 / 2
    probs = np.exp(OVERCONFIDENT * (logits - logits.max(axis=1, keepdims=True)))
    return Sample(groups, y, probs / probs.sum(axis=1, keepdims=True))


def draw_labels(
    n_patients: int, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Draw patients with labels that go together: patients, labels without NaN, probabilities."""
    groups = np.repeat(np.arange(n_patients), rng.integers(1, 7, size=n_patients))
    shares, n_labels, step = np.array(LABEL_SHARES), len(LABEL_SHARES), 1.6

    def together() -> NDArray[np.float64]:
        both = math.sqrt(0.4) * rng.normal(size=(n_patients, 1))
        return both + math.sqrt(0.6) * rng.normal(size=(n_patients, n_labels))

    cuts = np.array([NormalDist().inv_cdf(1 - share) for share in LABEL_SHARES])
    y = (together() > cuts)[groups].astype(float)
    noise = (together()[groups] + rng.normal(size=y.shape)) / math.sqrt(2)
    logits = step * (step * (y - 0.5) + noise) + np.log(shares / (1 - shares))
    return groups, y, 1 / (1 + np.exp(-OVERCONFIDENT * logits))


def simulate_grades(step: float, *, n_patients: int, n_studies: int, n_resamples: int) -> Rows:
    """Return truth and tally of what grades have besides classes; the same every time."""
    population = draw_grades(step, 200_000, np.random.default_rng(1))
    y, probs = population.y_true, population.probs
    called = median_grade(probs)
    true = {
        "quadratic kappa": metrics.quadratic_kappa(y, called),
        "mean absolute error": metrics.mean_absolute_error(y, called),
        "ranked probability score": metrics.ranked_probability_score(y, probs),
    }
    cuts = enumerate(metrics.auroc_by_cut(y, probs), start=1)
    true |= {f"AUROC, grade {cut} or more": area for cut, area in cuts}
    tallies = {name: Tally() for name in true}
    for study in range(n_studies):
        sample = draw_grades(step, n_patients, np.random.default_rng([3, n_patients, study]))
        found = estimates.study_of(
            sample.y_true,
            sample.probs,
            class_names=[str(k) for k in range(len(GRADE_SHARES))],
            positive=None,
            threshold=None,
            groups=sample.groups,
            ordinal=True,
            seed=study,
            n_resamples=n_resamples,
        )
        rows = {name: figure.as_json() for name, figure in found.of_grades().items()}
        rows |= {
            f"AUROC, grade {row['grade']} or more": row for row in found.by_cut()["auroc_by_cut"]
        }
        for name, row in rows.items():
            name = name.replace("_", " ")
            tallies[name].add(row["ci_low"], row["ci_high"], true[name])
    return {name: (true[name], tally) for name, tally in tallies.items()}


def simulate_labels(*, n_patients: int, n_studies: int, n_resamples: int) -> Rows:
    """Return truth and tally of the means over labels; the same every time."""
    threshold, names = 0.3, [str(k) for k in range(len(LABEL_SHARES))]
    figures = tuple(name for name in multilabel.MACRO if name != "ece")

    def studied(
        groups: NDArray[np.intp], y: NDArray[np.float64], probs: NDArray[np.float64], seed: int
    ) -> multilabel.LabelStudy:
        return multilabel.label_study(
            y,
            probs,
            label_names=names,
            thresholds=dict.fromkeys(names, threshold),
            groups=groups,
            seed=seed,
            n_resamples=n_resamples,
        )

    _, y, probs = draw_labels(200_000, np.random.default_rng(1))
    true = true_means(y.astype(np.intp), probs, threshold)
    tallies = {name: Tally() for name in figures}
    for study in range(n_studies):
        rng = np.random.default_rng([4, n_patients, study])
        groups, y, probs = draw_labels(n_patients, rng)
        y[rng.random(y.shape) < UNKNOWN] = np.nan
        for name, figure in studied(groups, y, probs, study).means(figures).items():
            row = figure.as_json()
            tallies[name].add(row["ci_low"], row["ci_high"], true[name])
    return {name: (true[name], tally) for name, tally in tallies.items()}


def true_means(
    y: NDArray[np.intp], probs: NDArray[np.float64], threshold: float
) -> dict[str, float]:
    """Means over labels of the figures of a population."""
    columns = [(t, p, (p >= threshold).astype(np.intp)) for t, p in zip(y.T, probs.T, strict=True)]
    scored = (metrics.auroc, metrics.average_precision, metrics.brier)
    decided = (
        *(metrics.accuracy, metrics.balanced_accuracy, metrics.sensitivity, metrics.specificity),
        *(metrics.precision, metrics.f1),
    )
    found = {of.__name__: np.mean([of(t, p) for t, p, _ in columns]) for of in scored}
    found |= {of.__name__: np.mean([of(t, c) for t, _, c in columns]) for of in decided}
    return {name: float(value) for name, value in found.items()}


def percentiles(
    sample: Sample, n_resamples: int, seed: int
) -> Iterator[tuple[str, float | None, float | None]]:
    """Plain percentile bootstrap over patients, two classes."""
    clusters = resampling.Clusters.of(sample.groups, len(sample.groups))
    score = sample.probs[:, 1]
    weights = resampling.draw_patients(clusters.n, n_resamples, seed)[:][:, clusters.index]
    called = (score >= 0.5).astype(int)
    for name, of in zip(PERCENTILE, (score, score, called), strict=True):
        figure = getattr(metrics, name)
        with warnings.catch_warnings(action="ignore", category=metrics.UndefinedFigureWarning):
            drawn = np.array([figure(sample.y_true, of, weights=row) for row in weights])
        drawn = drawn[np.isfinite(drawn)]
        low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (None, None)
        yield name, low, high


def report(title: str, rows: Rows) -> None:
    print(f"\n{title}")
    print(
        f"{'figure':32}{'truth':>8}{'coverage':>10}{'below':>8}{'above':>8}{'width':>8}{'none':>6}"
    )
    for figure, (true, tally) in rows.items():
        n = max(1, len(tally.widths))
        print(
            f"{figure:32}{true:8.3f}{tally.coverage:10.3f}{tally.too_low / n:8.3f}"
            f"{tally.too_high / n:8.3f}{np.mean(tally.widths or [0]):8.3f}{tally.missing:6}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Coverage of the 95 % intervals, by simulation.")
    parser.add_argument("--studies", type=int, default=1000, help="simulated studies")
    parser.add_argument("--patients", type=int, nargs="+", default=[40, 100, 300])
    parser.add_argument("--resamples", type=int, default=600)
    parser.add_argument("--percentile", action="store_true", help="two classes only")
    parser.add_argument("--scenario", choices=SCENARIOS, nargs="+", default=list(SCENARIOS))
    parser.add_argument("--target", choices=("classes", "ordinal", "multilabel"), default="classes")
    options = parser.parse_args()
    asked: dict[str, Any] = {"n_studies": options.studies, "n_resamples": options.resamples}
    for n_patients in options.patients:
        about = f"{n_patients} patients, {options.studies} studies"
        if options.target == "multilabel":
            report(f"labels, {about}", simulate_labels(n_patients=n_patients, **asked))
        elif options.target == "ordinal":
            for name, step in GRADED.items():
                rows = simulate_grades(step, n_patients=n_patients, **asked)
                report(f"{name}, {about}", rows)
        else:
            for name in options.scenario:
                scenario = SCENARIOS[name]
                percentile = options.percentile and scenario.positive is not None
                rows = simulate(scenario, n_patients=n_patients, percentile=percentile, **asked)
                report(f"{name}, {about}", rows)


if __name__ == "__main__":
    main()
