"""Does the tuned step cost accuracy? The same recipe in plain float32 and as tuned, seed by seed.

    python -m benchmarks.precision DATA [--recipe chest-xray] [--epochs 3] [--seeds 5]

'float32' trains by PyTorch's own layers one by one; 'tuned' in the precision and layout that are
fastest here, with the layers of a classic network in one sweep. Both see the same images in the
same order. Validation patients are drawn anew for each seed; a test split stays closed.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
from benchmarks._timing import command_line, parser
from scipy import stats

from hilum.batches import Samples
from hilum.console import make_progress
from hilum.decoded_samples import split_samples
from hilum.metrics import auroc
from hilum.networks import log_probabilities
from hilum.preparation import prepare
from hilum.settings import Settings
from hilum.training import network_logits, train_network


def score(
    train: Samples, val: Samples, settings: Settings, names: tuple[str, ...]
) -> dict[str, float]:
    """Train, and return the best epoch's validation AUROC and the rate of the last epoch."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        trained = train_network(train, val, settings, names, Path(folder), make_progress())
    logits = torch.from_numpy(network_logits(trained.network, val.pixels))
    probs = log_probabilities(logits).exp().numpy()[:, 1]
    rate = float(trained.history["images_per_s"].iloc[-1])
    return {"auroc": float(auroc(val.labels, probs)), "rate": rate}


def never(*_: object) -> bool:
    """Stand for `is_fusable`; a mock would keep every map that it is asked about."""
    return False


def main() -> None:
    options = parser(__doc__, rounds=1)
    options.add_argument("data", type=Path)
    options.add_argument("--recipe", default="chest-xray")
    options.add_argument("--epochs", type=int, default=3)
    options.add_argument("--seeds", type=int, default=5)
    arguments = options.parse_args()
    found: dict[str, list[dict[str, float]]] = {"float32": [], "tuned": []}
    for seed in range(arguments.seeds):
        prepared = prepare(
            arguments.data,
            recipe=arguments.recipe,
            settings={"epochs": arguments.epochs, "seed": seed},
            progress=make_progress(),
        )
        tuned, names = prepared.plan.settings, prepared.dataset.class_names
        train, val = (
            split_samples(prepared.dataset, prepared.samples, split, tuned, make_progress())
            for split in ("train", "val")
        )
        plain = tuned.model_copy(update={"precision": "float32"})
        with mock.patch("hilum.kernels.is_fusable", new=never):
            found["float32"].append(score(train, val, plain, names))
        found["tuned"].append(score(train, val, tuned, names))
        print(json.dumps({side: scores[-1] for side, scores in found.items()}), flush=True)
    plain_scores, tuned_scores = (
        np.array([each["auroc"] for each in found[side]]) for side in ("float32", "tuned")
    )
    difference = tuned_scores - plain_scores
    half = stats.t.ppf(0.975, len(difference) - 1) * stats.sem(difference)
    print(json.dumps(found))
    print(f"\nValidation AUROC, {arguments.recipe}, {arguments.epochs} epochs: {command_line()}\n")
    print("| seed | float32 | tuned | difference |\n|---|---|---|---|")
    for seed, (one, other) in enumerate(zip(plain_scores, tuned_scores, strict=True)):
        print(f"| {seed} | {one:.4f} | {other:.4f} | {other - one:+.4f} |")
    print(
        f"| mean | {plain_scores.mean():.4f} | {tuned_scores.mean():.4f} | "
        f"{difference.mean():+.4f} ({difference.mean() - half:+.4f} to "
        f"{difference.mean() + half:+.4f}) |"
    )


if __name__ == "__main__":
    main()
