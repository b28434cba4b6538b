"""Which settings of the plan hold? Variants compared on training patients; no test split is opened.

Some patients are held out and scored, as their images are and under corruptions such as another
scanner or exposure brings; the rest are learnt from. With --shift the images to score are those
whose path matches: another source, another kind of case. A test split that comes with the data is
left aside.

    python -m benchmarks.ablation DATA --images 300 VARIANT...

A VARIANT is a name and settings: 'plan', 'no blur:blur=0;low_resolution=0'.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from hilum import metrics
from hilum.batches import Samples
from hilum.calibration import apply_temperature
from hilum.calibrators import choose_calibrator
from hilum.calls import Target, called_classes, over_shares
from hilum.corruptions import CORRUPTIONS, corrupt, middle_level
from hilum.dataset import Dataset, load_dataset
from hilum.decoded_samples import split_samples
from hilum.fingerprint import take_fingerprint
from hilum.hardware import find_hardware
from hilum.linear_probe import train_probe
from hilum.losses import log_priors, validation_scores
from hilum.networks import Classifier
from hilum.pixels import Images
from hilum.planning import make_plan
from hilum.progress import LogProgress
from hilum.robustness import choose_levels, predict_corrupted
from hilum.scan import scan
from hilum.settings import Settings, parse_assignments
from hilum.splits import assign, join_groups
from hilum.targets import Labels, TargetKind
from hilum.thresholds import Scored, lock_point
from hilum.training import network_logits, train_network

MOST_SCORED = 1500
MOST_CORRUPTED = 500


@dataclass(frozen=True)
class Cohort:
    """Samples of which some are learnt from and some are scored."""

    dataset: Dataset
    samples: pd.DataFrame
    looks: Any


def read_cohort(data: str, pattern: str | None, target: TargetKind | None) -> Cohort:
    """Read all that is no test image of its source."""
    dataset = load_dataset(data, patient_pattern=pattern, target=target)
    scanned = scan(dataset, LogProgress())
    usable = (~scanned.samples["excluded"]) & (scanned.samples["given_split"] != "test")
    samples = scanned.samples[usable].reset_index(drop=True)
    samples["group"] = join_groups(list(_groups(samples)), list(samples["sha256"]))
    return Cohort(dataset, samples, scanned.looks[np.flatnonzero(usable)])


def _groups(samples: pd.DataFrame) -> pd.Series[Any]:
    return samples["patient"].where(samples["patient"] != "", "#" + samples["path"])


def divide(cohort: Cohort, n_images: int | None, shift: str | None, seed: int) -> pd.DataFrame:
    """Give each sample a split: 'train', 'val', 'scored', or '' where it is not used."""
    samples = cohort.samples.copy()
    labels, groups = list(samples["label"]), list(samples["group"])
    if shift is None:
        names = assign(labels, groups, {"train": 0.7, "scored": 0.3}, seed=seed)
    else:
        is_other = samples["path"].map(lambda path: re.search(shift, path) is not None)
        names = np.where(is_other, "scored", "train")
    samples["split"] = names
    _thin(samples, "scored", MOST_SCORED, seed)
    if n_images is not None:
        _thin(samples, "train", n_images, seed)
    rest = samples["split"] == "train"
    samples.loc[rest, "split"] = assign(
        list(samples["label"][rest]), list(samples["group"][rest]),
        {"train": 0.85, "val": 0.15}, seed=seed,
    )  # fmt: skip
    return samples


def _thin(samples: pd.DataFrame, split: str, most: int, seed: int) -> None:
    """Leave whole patients of a split unused until no more images than that are left."""
    rows = samples["split"] == split
    if rows.sum() > most:
        share = most / int(rows.sum())
        kept = assign(
            list(samples["label"][rows]), list(samples["group"][rows]),
            {split: share, "": 1 - share}, seed=seed,
        )  # fmt: skip
        samples.loc[rows, "split"] = kept


def try_variant(
    cohort: Cohort,
    samples: pd.DataFrame,
    chosen: dict[str, Any],
    blind: Sequence[str] = (),
    *,
    viewed: bool = False,
) -> dict[str, float]:
    """Train as the plan says, but for what was chosen, and score."""
    started = time.monotonic()
    facts = take_fingerprint(samples, cohort.looks)
    chosen = {"target": cohort.dataset.target_kind} | chosen
    settings = make_plan(facts, find_hardware(), chosen=chosen).settings
    train, val, scored = (
        split_samples(cohort.dataset, samples, split, settings, LogProgress())
        for split in ("train", "val", "scored")
    )
    with tempfile.TemporaryDirectory() as folder:
        names = cohort.dataset.class_names
        learn = train_probe if settings.probe else train_network
        trained = learn(train, val, settings, names, Path(folder), LogProgress())

    def scores(samples: Samples) -> dict[str, float]:
        return validation_scores(
            network_logits(trained.network, samples.pixels), samples.labels, settings
        )

    some = np.unique(np.linspace(0, len(scored) - 1, MOST_CORRUPTED).astype(int))
    pixels, labels = scored.pixels[some], scored.labels[some]
    worse = [
        scores(Samples(corrupt(pixels, name, middle_level(name)), labels))["val_auroc"]
        for name in CORRUPTIONS
    ]
    found = scores(scored)
    views = of_views(trained.network, settings, scored.pixels, scored.labels) if viewed else {}
    return {
        "n": len(train),
        "AUROC": found["val_auroc"],
        "balanced accuracy": found["val_balanced_accuracy"],
        "log loss": found["val_loss"],
        "AUROC changed": float(np.mean(worse)),
        "worst change": float(min(worse)),
        **views,
        **as_stated(trained.network, settings, train, val, scored),
        **at_thresholds(trained.network, val, scored, some, blind),
        "minutes": (time.monotonic() - started) / 60,
    }


def as_stated(
    network: Classifier, settings: Settings, train: Samples, val: Samples, scored: Samples
) -> dict[str, float]:
    """Score what a model folder would state and call, calibrated on validation images.

    Of more than two classes, or of grades. "weights left in" is of probabilities that do not give
    back what weights of classes took; "over shares" calls the class of the greatest probability
    over its share (of grades, the median), "likeliest" of the greatest.
    """
    logits, y = network_logits(network, scored.pixels), scored.labels
    if settings.target == "multilabel" or logits.shape[1] == 1:
        return {}
    val_logits = network_logits(network, val.pixels)
    groups = val.groups or [str(number) for number in range(len(val))]
    priors = log_priors(train.labels, logits.shape[1], settings)

    def calibrated(given: NDArray[np.float64] | None) -> NDArray[np.float64]:
        found = choose_calibrator(val_logits, val.labels, groups, priors=given).calibrator
        return found.probabilities(logits)

    probs, left_in = calibrated(priors), calibrated(None)
    counts = np.bincount(train.labels, minlength=logits.shape[1])
    shares = tuple((np.maximum(counts, 1) / counts.sum()).tolist())
    target = Target(settings.target)
    called, likeliest = (
        called_classes(over_shares(probs, given), target, None) for given in (shares, None)
    )
    rows = np.arange(len(y))
    found = {
        "log loss, calibrated": float(-np.log(probs[rows, y]).mean()),
        "weights left in": float(-np.log(left_in[rows, y]).mean()),
        "balanced accuracy, over shares": metrics.balanced_accuracy(y, called),
        "likeliest": metrics.balanced_accuracy(y, likeliest),
    }
    if settings.target == "ordinal":
        found |= {
            "kappa, over shares": metrics.quadratic_kappa(y, called),
            "kappa": metrics.quadratic_kappa(y, likeliest),
            "mean error, over shares": float(np.abs(y - called).mean()),
            "mean error": float(np.abs(y - likeliest).mean()),
            "RPS": metrics.ranked_probability_score(y, probs),
        }
    return found


def of_views(
    network: Classifier, settings: Settings, pixels: Images, labels: Labels
) -> dict[str, float]:
    """Score means of logits over views of an image: test-time augmentation.

    Views are the image, its corners and middle (nine tenths of each side), and all of these
    mirrored where training mirrors.

    References
    ----------
    Krizhevsky et al., ImageNet classification with deep convolutional neural networks, 2012.
    """
    whole = np.asarray(pixels)
    corners = [*product((0.0, 0.1), (0.0, 0.1)), (0.05, 0.05)]
    views = [whole, *(cropped(whole, left=x, top=y, shown=0.9) for x, y in corners)]
    if settings.flip_horizontal:
        views += [view[:, :, ::-1] for view in views]
    logits = np.mean([network_logits(network, view) for view in views], axis=0)
    found = validation_scores(logits.astype(np.float32), labels, settings)
    names = {"AUROC": "val_auroc", "log loss": "val_loss"}
    return {f"{name}, {len(views)} views": found[key] for name, key in names.items()}


def at_thresholds(
    network: Classifier,
    val: Samples,
    scored: Samples,
    some: NDArray[np.intp],
    blind: Sequence[str],
) -> dict[str, float]:
    """Return balanced accuracies at thresholds that either rule chooses on validation images.

    Of the scored images as they are ("youden", "robust"), and of some of them corrupted at the
    strongest level ("strong") and in ways that no rule has seen ("moved"): as means over the
    changes. Nothing where there are more than two classes.

    Parameters
    ----------
    blind : sequence of str
        Corruptions that "blind" does not see, which else is as "robust".
    """
    if val.labels.ndim == 2 or np.concatenate([val.labels, scored.labels]).max() > 1:
        return {}

    def probs(pixels: Images) -> NDArray[np.float64]:
        return apply_temperature(network_logits(network, pixels)[:, 0], 1.0)

    as_columns = predict_corrupted(
        lambda pixels: probs(pixels)[:, None],
        probs(val.pixels)[:, None],
        Samples(val.pixels, val.labels),
        choose_levels(10**9, for_curves=False, for_threshold=True),
        LogProgress(),
    )
    truth = val.labels[as_columns.chosen].astype(np.float64)
    scores = as_columns.at_middle_level[..., 0]
    sighted = np.array([name not in blind for name in as_columns.corrupted])
    rules = {"youden": ("youden", scores), "robust": ("robust", scores)}
    if blind:
        rules["blind"] = ("robust", scores[sighted])
    own = Scored(val.labels.astype(np.float64), probs(val.pixels))
    pixels, labels = np.asarray(scored.pixels[some]), scored.labels[some]
    strong = [probs(corrupt(pixels, name, one.levels[-1])) for name, one in CORRUPTIONS.items()]
    moved = [probs(move(pixels)) for move in MOVES.values()]
    found: dict[str, float] = {}
    for rule, (asked, seen) in rules.items():
        cut = lock_point(own, Scored(truth, seen), asked, now="").threshold
        found[rule] = balanced(scored.labels, probs(scored.pixels) >= cut)
        for name, parts in (("strong", strong), ("moved", moved)):
            shares = [balanced(labels, part >= cut) for part in parts]
            found[f"{rule}, {name}"] = float(np.mean(shares))
    return found


def balanced(labels: NDArray[np.int64], called: NDArray[np.bool_]) -> float:
    return float((called[labels == 1].mean() + (~called[labels == 0]).mean()) / 2)


def cropped(
    pixels: NDArray[np.uint8], *, left: float, top: float, shown: float = 0.85
) -> NDArray[np.uint8]:
    """Show a share of the width and of the height, beginning at a share of either."""
    height, width = pixels.shape[1:3]
    box = (left * width, top * height, (left + shown) * width, (top + shown) * height)
    parts = [
        Image.fromarray(image.squeeze()).resize((width, height), Image.Resampling.BILINEAR, box)
        for image in pixels
    ]
    return np.stack([np.asarray(part).reshape(pixels.shape[1:]) for part in parts])


def sheared(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lean images to one side: by 0.15 pixels a row, borders repeated."""
    height, width = pixels.shape[1:3]
    rows, columns = np.mgrid[:height, :width]
    leant = np.rint(columns + 0.15 * (rows - height / 2)).astype(int)
    return pixels[:, rows, leant.clip(0, width - 1)]


MOVES = {
    "upper left": partial(cropped, left=0.0, top=0.0),
    "lower right": partial(cropped, left=0.15, top=0.15),
    "sheared": sheared,
}
"""Changes of place that `hilum.corruptions` does not make."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("data")
    parser.add_argument("variants", nargs="+", help="name:setting=value;setting=value")
    parser.add_argument("--images", type=int, help="images to learn from, at most")
    parser.add_argument("--shift", help="score the images whose path matches, learn from the rest")
    parser.add_argument("--patient-pattern")
    parser.add_argument("--target", choices=get_args(TargetKind))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--blind",
        nargs="+",
        default=[],
        choices=list(CORRUPTIONS),
        help="corruptions that a threshold beside that of 'robust' does not see",
    )
    parser.add_argument(
        "--views", action="store_true", help="score means over views of an image too"
    )
    arguments = parser.parse_args()
    cohort = read_cohort(arguments.data, arguments.patient_pattern, arguments.target)
    head = ""
    for seed in arguments.seeds:
        samples = divide(cohort, arguments.images, arguments.shift, seed)
        for variant in arguments.variants:
            name, _, text = variant.partition(":")
            chosen = parse_assignments([part for part in text.split(";") if part])
            found = try_variant(
                cohort, samples, {"seed": seed, **chosen}, arguments.blind, viewed=arguments.views
            )
            if not head:
                head = f"| variant | seed | {' | '.join(found)} |"
                print(head + "\n|" + "---|" * (len(found) + 2))
            cells = " | ".join(f"{value:.4g}" for value in found.values())
            print(f"| {name} | {seed} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
