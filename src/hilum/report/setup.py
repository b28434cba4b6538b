"""The plan with its reasons, the model's facts, and how to repeat the run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hilum.fingerprint import facts_in_words
from hilum.report import words
from hilum.report.facts import RunFacts
from hilum.settings import DEFAULT_REASON

GROUPS = (
    ("Question", ("target",)),
    ("Pixels", ("input_height", "input_width", "channels", "resize", "ranges")),
    (
        "Network",
        (
            *(
                "normalisation",
                "network",
                "stem_stride",
                "conv_channels",
                "kernel_size",
                "padding",
                "activation",
                "batch_norm",
            ),
            *("pool", "dropout_conv", "dense_units", "dropout_dense", "blocks_per_stage"),
        ),
    ),
    (
        "Network that begins with weights",
        (
            *("backbone", "weights", "weights_sha256", "frozen_epochs", "frozen_stages"),
            *("frozen_norms", "backbone_rate", "random_rate", "probe", "probe_passes"),
        ),
    ),
    (
        "Training",
        (
            *("epochs", "steps_per_epoch", "batch_size", "optimizer"),
            *("learning_rate", "weight_decay", "momentum"),
            *("schedule", "plateau_patience", "plateau_factor", "loss", "class_weights"),
            *("label_smoothing", "mixup", "gradient_clip", "weight_averaging", "members"),
            *("kinds", "reductions", "early_stopping", "monitor", "keep"),
        ),
    ),
    (
        "Augmentation",
        (
            *("augmented_share", "rotation", "zoom", "shift", "stretch", "shear"),
            *("flip_horizontal", "flip_vertical", "flip_diagonal"),
            *(
                "brightness",
                "contrast",
                "gamma",
                "bias_field",
                "noise",
                "blur",
                "low_resolution",
                "erasing",
            ),
        ),
    ),
    (
        "Decision",
        (
            *("calibration", "operating_point", "pooling"),
            *("set_coverage", "refer_uncertain", "refer_unlike"),
        ),
    ),
    ("Splits", ("val_share", "test_share")),
    ("Machine", ("seed", "precision", "layout", "accelerator")),
)
OTHER = "Other"

# Where the setting's own name does not read well.
NAMES = {
    "channels": "Colour channels",
    "conv_channels": "Channels of each block",
    "dense_units": "Dense layers",
    "dropout_conv": "Dropout after blocks",
    "dropout_dense": "Dropout before dense layers",
    "backbone_rate": "The backbone's share of the learning rate",
    "random_rate": "Times the learning rate, where a network begins at random",
    "frozen_epochs": "Epochs with the backbone held still",
    "frozen_stages": "First stages held still",
    "frozen_norms": "Statistics of batch norm kept",
    "flip_horizontal": "Flip left–right",
    "flip_vertical": "Flip up–down",
    "flip_diagonal": "Rows and columns exchanged",
    "augmented_share": "Share of images that each change is made to",
    "keep": "Weights kept",
    "low_resolution": "Loss of resolution",
    "members": "Networks in the ensemble",
    "kinds": "They are, in turn",
    "reductions": "They get images reduced by",
    "monitor": "Epochs compared by",
    "operating_point": "Rule for the threshold",
    "pool": "Pooling",
    "pooling": "Images of a patient pooled by",
    "target": "What is told of an image",
    "probe": "Linear model on features",
    "probe_passes": "Augmented copies for the linear model",
    "ranges": "Black and white by pixel type",
    "resize": "Resizing",
    "schedule": "Learning-rate schedule",
    "steps_per_epoch": "Steps of an epoch, at most",
    "test_share": "Share drawn for test",
    "val_share": "Share drawn for validation",
    "weights_sha256": "SHA-256 of the weights",
}


@dataclass(frozen=True)
class Setting:
    """One setting as read by a person; `key` is its name in --set."""

    key: str
    name: str
    value: str
    reason: str
    is_default: bool


@dataclass(frozen=True)
class SettingGroup:
    name: str
    chosen: tuple[Setting, ...]
    defaults: tuple[Setting, ...]


@dataclass(frozen=True)
class Opening:
    when: str
    purpose: str
    command: str
    n: str


@dataclass(frozen=True)
class Setup:
    """The sections on the plan and on repeating it.

    Attributes
    ----------
    losses_note : str
        What the losses of training and validation do not have in common; '' where they have all.
    """

    fingerprint: tuple[tuple[str, str], ...]
    groups: tuple[SettingGroup, ...]
    model: tuple[tuple[str, str], ...]
    losses_note: str
    command: str
    same_plan: str
    predict: str
    facts: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    openings: tuple[Opening, ...]


def make_setup(facts: RunFacts) -> Setup:
    run = facts.run
    fingerprint = run.get("fingerprint")  # earlier versions kept none
    return Setup(
        fingerprint=tuple(facts_in_words(fingerprint).items()) if fingerprint else (),
        groups=_groups(facts.plan),
        model=_model(run),
        losses_note=(
            " Losses: of weighted classes on training, of images as they come on validation."
            if facts.accounts_for_weights
            else ""
        ),
        command=shlex.join(map(str, run["command"])),
        same_plan=_same_plan(facts),
        predict=shlex.join(
            ["hilum", "predict", str(facts.folder), "new-image.png", "--out", "predictions.csv"]
        ),
        facts=(
            ("Data", str(run["data"]["path"])),
            ("SHA-256 of the data", str(run["data"]["sha256"])),
            ("Seed", str(run["seed"])),
            ("Started", words.moment(str(run["started"]))),
            ("Finished", words.moment(str(run["finished"]))),
        ),
        versions=tuple((str(name), str(version)) for name, version in run["versions"].items()),
        openings=tuple(
            Opening(
                words.moment(str(opening["when"])),
                str(opening["purpose"]),
                str(opening["command"]),
                words.count(int(opening["n"])),
            )
            for opening in facts.openings
        ),
    )


def _same_plan(facts: RunFacts) -> str:
    """Write what makes the run's command take its plan, as it was given: typed, or in Python.

    Nothing where that command takes no plan, as the demonstration's.
    """
    match [str(word) for word in facts.run["command"]]:
        case ["hilum", "train", *_]:
            return f'--recipe "{facts.folder}"'
        case ["hilum.train"]:
            return f"recipe={str(facts.folder)!r}"
    return ""


def _groups(plan: Mapping[str, Mapping[str, Any]]) -> tuple[SettingGroup, ...]:
    known = {key for _, keys in GROUPS for key in keys}
    layout = (*GROUPS, (OTHER, tuple(key for key in plan if key not in known)))
    groups = []
    for name, keys in layout:
        settings = [_setting(key, plan[key]) for key in keys if key in plan]
        chosen = tuple(setting for setting in settings if not setting.is_default)
        defaults = tuple(setting for setting in settings if setting.is_default)
        if settings:
            groups.append(SettingGroup(name, chosen, defaults))
    return tuple(groups)


def _setting(key: str, entry: Mapping[str, Any]) -> Setting:
    name = NAMES.get(key, key.replace("_", " ").capitalize())
    reason = str(entry.get("reason") or "")
    is_default = reason.startswith(DEFAULT_REASON)
    return Setting(key, name, value_text(entry["value"]), reason, is_default)


def value_text(value: Any) -> str:
    """Write a setting's value as a person would."""
    if value is None or value in ([], {}):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return ", ".join(value_text(item) for item in value)
    if isinstance(value, dict):
        return "; ".join(f"{key}: {value_text(item)}" for key, item in value.items())
    return str(value).replace("_", " ")


def _model(run: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    hardware = run["hardware"]
    cores = words.plural(int(hardware["n_cores"]), "core")
    found = run.get("calibration")
    calibration = (("Calibration", str(found["reason"])),) if found else ()
    return (
        *calibration,
        ("Parameters", words.count(int(run["n_parameters"]))),
        ("Epochs trained", words.count(int(run["epochs_done"]))),
        ("Epoch kept", epochs_kept(run["best_epochs"])),
        ("Time", words.duration(float(run["elapsed_s"]))),
        ("Device", f"{hardware['device']}, {hardware['precision']}"),
        ("Processor", f"{hardware['cpu']}, {cores}"),
    )


def epochs_kept(best_epochs: Sequence[int]) -> str:
    """Write the epoch that each network is of, once where it is the same."""
    each = [words.count(int(epoch)) for epoch in best_epochs]
    alike = len(each) > 1 and len(set(each)) == 1
    return f"{each[0]}, of each of {len(each)} networks" if alike else ", ".join(each)
