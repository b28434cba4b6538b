"""Which way of pooling ranks patients best, by the share of their images that show the disease.

Simulated: no image is read. `python -m benchmarks.pooling` prints a table in Markdown; the rule
`hilum.pooling.LEAST_SHARE` and docs/patients.md stand on it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from hilum.calls import Target
from hilum.pooling import POOLINGS, pool_probabilities

CHANCES = (1.0, 0.8, 0.6, 0.4, 0.2)
DISTANCES = (1.5, 3.0)  # of the means of positive and negative images, standard deviations
CORRELATIONS = (0.0, 0.5)  # of the images of a patient
N_PATIENTS, N_DRAWS = 300, 40
TWO = Target("classes", 1)


def draw_patients(
    chance: float, distance: float, correlation: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.bool_], float]:
    """Draw probabilities of images, the patient of each, who is ill, and the share that shows it.

    Patients have two to six images; of an ill one the first is positive, the others by chance.
    """
    ill = np.arange(N_PATIENTS) < N_PATIENTS // 2
    patients = np.repeat(np.arange(N_PATIENTS), rng.integers(2, 7, N_PATIENTS))
    first = np.r_[True, np.diff(patients) > 0]
    positive = ill[patients] & (first | (rng.random(len(patients)) < chance))
    common = rng.normal(size=N_PATIENTS)[patients]
    noise = np.sqrt(correlation) * common
    noise += np.sqrt(1 - correlation) * rng.normal(size=len(patients))
    logits = distance * (distance * positive + noise) - distance**2 / 2
    p = 1 / (1 + np.exp(-logits))
    share = np.bincount(patients, positive)[ill] / np.bincount(patients)[ill]
    return np.stack([1 - p, p], axis=1), patients, ill, float(share.mean())


def measure(chance: float, distance: float, correlation: float, seed: int = 0) -> list[float]:
    """Return the share of positive images, and the mean AUROC by patient of each pooling."""
    rng = np.random.default_rng(seed)
    areas = []
    for _ in range(N_DRAWS):
        probs, patients, ill, share = draw_patients(chance, distance, correlation, rng)
        areas.append(
            [share]
            + [
                roc_auc_score(ill, pool_probabilities(probs, patients, method, TWO)[:, 1])
                for method in POOLINGS
            ]
        )
    return [float(area) for area in np.mean(areas, axis=0)]


def main() -> None:
    """Print the table."""
    print("| share positive | distance | correlation | " + " | ".join(POOLINGS) + " |")
    print("|---|---|---|" + "---|" * len(POOLINGS))
    for chance in CHANCES:
        for distance in DISTANCES:
            for correlation in CORRELATIONS:
                share, *found = measure(chance, distance, correlation)
                cells = " | ".join(f"{area:.3f}" for area in found)
                print(f"| {share:.0%} | {distance:g} | {correlation:g} | {cells} |")


if __name__ == "__main__":
    main()
