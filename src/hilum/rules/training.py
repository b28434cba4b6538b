"""Rules on how long and how fast networks learn, from which loss, and how they are decided by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hilum.fingerprint import Fingerprint
from hilum.pretrained import seen_in_words
from hilum.rules.rule import AT_RANDOM, Case, Choices, Rule
from hilum.rules.start import begins_well
from hilum.settings import some_settings

LARGE_PIXELS = 256 * 256
"""Of an input; of larger ones 16 are taken at once, for memory."""

PHOTO_IMAGES_SEEN, PHOTO_SEEN_A_CLASS = 10_000, 500
"""As `IMAGES_SEEN` and `SEEN_A_CLASS`, where weights begin well."""

IMAGES_SEEN, SEEN_A_CLASS = 20_000, 1_000
"""What training of two classes sees in all epochs, and what each further class adds to it."""

LEAST_EPOCHS, MOST_EPOCHS = 6, 240

FEW_IMAGES = 300
"""Fewer get smaller batches, and networks that begin with weights a higher learning rate."""

FEW_RATE, PHOTO_RATE, RANDOM_RATE = 1.2e-3, 7e-4, 2e-3
"""Peaks of the learning rate: for few images and many with weights, and at random."""

BESIDE_RATE = 2.1e-3
"""The same for networks at random that stand beside some with weights."""


def images_wanted(n_classes: int, so_far: Mapping[str, Any]) -> int:
    """Return how many images training is to see in all epochs; of large data it sees more."""
    seen, of_class = IMAGES_SEEN, SEEN_A_CLASS
    if begins_well(so_far):
        seen, of_class = PHOTO_IMAGES_SEEN, PHOTO_SEEN_A_CLASS
    return seen + of_class * max(0, n_classes - 2)


def _steps(facts: Fingerprint, so_far: Mapping[str, Any]) -> Choices:
    n, n_classes = facts.n_train, len(facts.class_counts)
    batch = _batch(n, so_far)
    if so_far.get("probe"):
        why = "Not used: the backbone goes over the images once."
        return {"epochs": (1, why), "batch_size": (batch[0], why)}
    wanted = images_wanted(n_classes, so_far)
    steps = {"batch_size": batch[0]} | dict(so_far)
    n_seen = some_settings(steps, "batch_size", "steps_per_epoch").n_seen(n)
    epochs = min(MOST_EPOCHS, max(LEAST_EPOCHS, round(wanted / n_seen)))
    what = "labels" if so_far.get("target") == "multilabel" else "classes"
    why = seen_in_words(epochs, n_seen, n, wanted, f"for {n_classes} {what}")
    return {"epochs": (epochs, why), "batch_size": batch}


def _batch(n: int, so_far: Mapping[str, Any]) -> tuple[int, str]:
    """Choose how many of n images are taken at once."""
    is_large = so_far["input_height"] * so_far["input_width"] > LARGE_PIXELS
    batch = 16 if n < FEW_IMAGES or is_large else 32
    why = "A customary number; others were not compared."
    if is_large:
        why = (
            "Half of the customary 32, for memory: with 16 images of 384×384 pixels a training "
            "took 3.1 GB."
        )
    elif n < FEW_IMAGES:
        why = "Half of the customary 32: more steps with few images; not compared."
    return batch, f"{why} {_steps_in_words(max(1, n // batch))} an epoch of all {n:,} images."


def _steps_in_words(n: int) -> str:
    return f"{n:,} step" + ("s" if n > 1 else "")


def _optimizer(facts: Fingerprint, so_far: Mapping[str, Any]) -> Choices:
    return _rates(facts, so_far) | {
        "optimizer": ("adamw", "Adam with decoupled weight decay needs the least tuning."),
        "weight_decay": (0.02, "Holds weights small; mild, as augmentation does the most."),
        "schedule": ("one_cycle", "Warms up, then falls to zero by the last epoch."),
        "label_smoothing": (0.05, "Labels of the field are rarely certain."),
        "mixup": (
            0.0,
            "Off: with 0.4, networks that begin at random had an AUROC of .9934 against .9913 on "
            "chest X-rays, no more than chance, and earlier ones .862 against .944 on blood cells.",
        ),
    }


def _rates(facts: Fingerprint, so_far: Mapping[str, Any]) -> Choices:
    peak = "The peak of the one-cycle schedule"
    if so_far.get("schedule", "one_cycle") != "one_cycle":
        peak = "Tried as the peak of a one-cycle schedule alone"
    if not begins_well(so_far):
        return {"learning_rate": (RANDOM_RATE, f"{peak}.")}
    moves = "The weights begin well, and are to move less than the new head"
    if facts.n_train < FEW_IMAGES:
        rate, why = FEW_RATE, f"{facts.n_train} images make few steps, which then go further."
        share = 0.25, f"{moves}; at half of its rate so few images with faint signs taught nothing."
    else:
        share = 0.5, f"{moves}."
        rate, why = (
            PHOTO_RATE,
            "With more, networks that begin with weights may lose what they know before faint or "
            "rare signs teach them.",
        )
    rates: Choices = {
        "learning_rate": (rate, f"{peak}. {why}"),
        "backbone_rate": share,
        "gradient_clip": (
            None,
            "Off: where such networks failed, at a rate of 0.002 with 24 ill blood cells, clipping "
            "at norm 1 left nearly one score for all.",
        ),
    }
    if "network" in so_far.get("kinds", ()) and "learning_rate" not in so_far:
        rates["random_rate"] = (
            round(BESIDE_RATE / rate, 3),
            f"Networks that begin at random learn at {BESIDE_RATE:g}: they learnt more by it than "
            "by half of it, and lost nothing.",
        )
    return rates


def _weights(_: Fingerprint, so_far: Mapping[str, Any]) -> Choices:
    rests = so_far["schedule"] in ("one_cycle", "cosine")
    lead = "The schedule ends at rest, and the" if rests else "The"
    return {
        "weight_averaging": (
            0.99,
            "The mean of late weights, customary: no gain and no loss was found by it here.",
        ),
        "keep": (
            "last",
            f"{lead} best of many epochs on few validation images is best by luck: they stay fresh "
            "for threshold and calibration.",
        ),
    }


def _imbalance(facts: Fingerprint, so_far: Mapping[str, Any]) -> Choices:
    n_classes, ratio = len(facts.class_counts), facts.imbalance
    if so_far.get("target") == "multilabel":
        why = "Each label has a threshold of its own, which does what weights would."
    elif so_far.get("target") == "ordinal":
        why = "The median grade is called, and weights brought it no nearer to the truth."
    elif n_classes == 2:
        why = "The threshold, which is set on validation data, does what weights would."
    elif ratio > 5:
        return {
            "class_weights": (
                "root",
                f"The largest class has {ratio:.0f} times the images of the smallest, which would "
                "hardly be learnt and called. By the root of their rarity images count more, and "
                "each class is called by its probability over its share; the probabilities "
                "themselves stay those of the images as they come.",
            )
        }
    else:
        why = f"The largest class has {ratio:.1f} times the images of the smallest: no need."
    return {"class_weights": ("none", why)}


def _threshold(facts: Fingerprint, so_far: Mapping[str, Any]) -> Choices:
    if len(facts.class_counts) != 2 and so_far.get("target") != "multilabel":
        return {}
    why = (
        "Other scanners move the scores of both classes: a threshold that was best for unchanged "
        "images alone is easily too low or too high there."
    )
    return {"operating_point": ("robust", why)}


RULES: tuple[Rule, ...] = (
    Rule(
        "epochs and batch, before the time is looked at",
        _steps,
        (
            Case(
                "it begins with weights",
                "epochs",
                "A guess: 4,000 and 8,000 images seen were enough to measure by [Weights to begin "
                "with]; more were not compared.",
                f"{PHOTO_IMAGES_SEEN:,} images seen, {PHOTO_SEEN_A_CLASS} more for each class "
                f"beyond two, in {LEAST_EPOCHS} to {MOST_EPOCHS} epochs; here of 1,000 images and "
                "two classes.",
            ),
            Case(
                "it begins at random",
                "epochs",
                "Partly measured: three times as many are no better, and 20 classes need more [How "
                f"long, how large, how many]; {LEAST_EPOCHS} and {MOST_EPOCHS} are guesses.",
                f"{IMAGES_SEEN:,} images seen, {SEEN_A_CLASS:,} more for each class beyond two, in "
                f"{LEAST_EPOCHS} to {MOST_EPOCHS} epochs; here of 1,000 images and two classes.",
                given=AT_RANDOM,
            ),
            Case(
                "a linear model on features (`probe`)",
                "epochs",
                "Follows: the images are gone over once.",
                given={"probe": True},
            ),
            Case(
                "fewer than 300 images to learn from",
                "batch_size",
                "Customary, not measured here: an epoch is to have some steps. Masters and Luschi, "
                "2018, speak for small batches.",
                facts={"n_train": 299},
            ),
            Case(
                "input of more than 256 × 256 pixels",
                "batch_size",
                "Partly measured: for memory, 3.1 GB at 384 pixels [Stand-ins]; what it does to "
                "learning was not compared.",
                given={"input_height": 288, "input_width": 288},
            ),
            Case("else", "batch_size", "Customary, not measured here.", facts={"n_train": 300}),
        ),
    ),
    Rule(
        "optimizer",
        _optimizer,
        (
            Case(
                "it begins with weights; 300 images to learn from or more",
                "learning_rate",
                "Measured: three times as much failed on faint signs and rare classes, a little "
                "less was no better [How fast].",
                facts={"n_train": 300},
            ),
            Case(
                "it begins with weights; fewer",
                "learning_rate",
                "Partly measured: with the backbone's share as good as 0.0007 or better on seven "
                "sets of 126 to 255 images, by less than chance on most [How fast]. Where few "
                "images end is a guess.",
                facts={"n_train": 299},
            ),
            Case(
                "it begins with weights; 300 images to learn from or more",
                "backbone_rate",
                "Partly measured: smaller shares were tried at the learning rate of before alone, "
                "and helped where it was too high [How fast].",
                facts={"n_train": 300},
            ),
            Case(
                "it begins with weights; fewer",
                "backbone_rate",
                "Partly measured: at 0.5 a network learnt nothing from 255 images with faint "
                "shadows, at either rate [How fast].",
                facts={"n_train": 299},
            ),
            Case(
                "the same, with CNNs at random in the ensemble, and no rate is given",
                "random_rate",
                "Partly measured: on one task half of it was worse, and nothing failed [How fast].",
                "Times the learning rate.",
            ),
            Case(
                "it begins at random",
                "learning_rate",
                "Partly measured: on blood cells half of it was worse [How fast], 2.5 times of it "
                "no different [Ablations of networks that begin at random].",
                given=AT_RANDOM,
            ),
            Case(
                "it begins with weights",
                "gradient_clip",
                "Partly measured: did not mend a learning rate that was too high [How fast].",
            ),
            Case(
                "always",
                "mixup",
                "Partly measured: within chance on chest X-rays, worse on blood cells "
                "with networks of before [Ablations of networks that begin at random].",
            ),
            Case("always", "optimizer", "By a paper: Loshchilov and Hutter, 2019."),
            Case("always", "weight_decay", "A guess, not measured here."),
            Case("always", "schedule", "By a paper: Smith, 2018."),
            Case(
                "always",
                "label_smoothing",
                "Partly measured: one network without it did better, at a learning rate that "
                "failed with it [How fast]. Szegedy et al., 2016, have 0.1; half of it is a guess.",
            ),
        ),
    ),
    Rule(
        "weights that are kept",
        _weights,
        (
            Case(
                "always",
                "weight_averaging",
                "Partly measured: no gain in the one experiment here, with the recipe's network, "
                ".964 against .965 under changes and .993 against .992 as they are [Does "
                "augmentation of exposure hold under shift?]. It rests on papers: Polyak and "
                "Juditsky, 1992; Izmailov et al., 2018.",
            ),
            Case(
                "always",
                "keep",
                "Measured: the best epoch by 45 validation images was clearly worse [Ablations of "
                "networks that begin at random].",
            ),
        ),
    ),
    Rule(
        "imbalance",
        _imbalance,
        (
            Case(
                "two classes",
                "class_weights",
                "Partly measured: on one rare class weights helped at a learning rate that failed, "
                "and showing it more often did not at a lower one [How fast]. Van den Goorbergh et "
                "al., 2022, for logistic regression.",
            ),
            Case(
                "more classes, the largest more than 5 times the smallest",
                "class_weights",
                "Partly measured: on two stand-ins rare classes were found as often as with "
                "whole weights or more so, than without weights mostly more often; the order of "
                "images was as good, their probabilities a little worse where a rare class had ten "
                "images [Weighted classes]. The ratio is a guess.",
                facts={"class_counts": {"a": 501, "b": 300, "c": 100}},
            ),
            Case(
                "more classes, else",
                "class_weights",
                "Customary, not measured here.",
                facts={"class_counts": {"a": 500, "b": 300, "c": 100}},
            ),
            Case(
                "grades",
                "class_weights",
                "Measured: on a stand-in weights brought the median no nearer to the truth "
                "[Weighted classes].",
                facts={"class_counts": {"a": 501, "b": 300, "c": 100}},
                given={"target": "ordinal"},
            ),
            Case(
                "several labels an image",
                "class_weights",
                "A guess: as for two classes, label by label.",
                facts={"class_counts": {"a": 501, "b": 300, "c": 100}},
                given={"target": "multilabel"},
            ),
        ),
    ),
    Rule(
        "threshold",
        _threshold,
        (
            Case(
                "two classes, or several labels (of more classes the likeliest is called, over "
                "their shares where they are weighted, and of grades the median: there is no "
                "threshold)",
                "operating_point",
                "Measured: with two classes it decides changed and moved X-rays better and costs "
                "little or nothing as they are, but .02 on brain slices, where few images choose "
                "[What moves the threshold]. With several labels it was not measured.",
            ),
        ),
    ),
)
