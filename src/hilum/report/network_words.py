"""The network of a run in plain English: what it sees, what it began with, how it was trained.

Sentences for the methods section, the model card and the checklists, drawn from plan.json and
run.json. `cite` numbers a reference; without it none is named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hilum.report import words
from hilum.report.facts import RunFacts
from hilum.settings import Settings

ACTIVATIONS = {
    "relu": "ReLU",
    "leaky_relu": "leaky ReLU",
    "elu": "ELU",
    "gelu": "GELU",
    "silu": "SiLU",
}
OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "sgd": "stochastic gradient descent",
              "rmsprop": "RMSprop"}  # fmt: skip
SCHEDULES = {
    "constant": "a constant rate",
    "one_cycle": "a one-cycle schedule",
    "cosine": "a cosine schedule",
}
WEIGHED = {
    "root": "the root of the inverse of their frequency",
    "balanced": "the inverse of their frequency",
}
RESIZING = {
    "stretch": "stretched to {size} pixels, which does not keep the aspect ratio",
    "crop": "scaled and cropped to {size} pixels with the aspect ratio kept",
    "letterbox": "scaled to fit {size} pixels with the aspect ratio kept and the rest padded",
}
MONITORS = {
    "val_loss": "the least loss",
    "val_auroc": "the highest AUROC",
    "val_balanced_accuracy": "the highest balanced accuracy",
}
LIBRARIES = {"timm": "timm", "monai": "MONAI"}
OWN_BACKBONES = {"efficientnet_lite0": "EfficientNet-Lite0"}
SHARES = {1: "whole", 2: "at half", 4: "at a quarter", 8: "at an eighth"}
NUMERALS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def n_members(facts: RunFacts) -> int:
    """Networks whose logits are averaged; 1 where there is no ensemble."""
    return int(facts.setting("members") or 1)


def preprocessing(facts: RunFacts) -> str:
    """Say in one sentence how a file becomes the array that the network sees."""
    size = f"{facts.setting('input_height')} × {facts.setting('input_width')}"
    resize = str(facts.setting("resize"))
    how = RESIZING.get(resize, "resized to {size} pixels (" + resize + ")").format(size=size)
    colour = "one grey channel" if facts.setting("channels") == 1 else "three colour channels"
    start = pretrained(facts)
    source = "the training pixels"
    if facts.setting("normalisation") == "image":
        source = "each image itself"
    if (start is not None and start["normalisation"]) or _is_efficientnet(facts):
        others = f", or of {source} for networks that began at random" if is_mixed(facts) else ""
        source = f"the data that the weights were made with{others}"
    return (
        f"Images were mapped to 8 bits in {colour}, {how}, and standardised by the mean and "
        f"standard deviation of {source}."
    )


def input_size(facts: RunFacts) -> str:
    """Say what the input size was chosen by, '' where no sides were tried."""
    found = facts.run.get("resolution") or {}
    if not found.get("losses"):
        return ""
    return f"The input size was chosen before training, on training images. {found['reason']}"


def _is_efficientnet(facts: RunFacts) -> bool:
    return str(facts.setting("backbone") or "").startswith("hilum:")


def pretrained(facts: RunFacts) -> Mapping[str, Any] | None:
    """Return what run.json says of the weights that the network began with; None if at random."""
    found: Mapping[str, Any] | None = facts.run.get("pretrained")
    return found if found and found.get("weights") else None


def composition(facts: RunFacts, cite: Callable[..., str] = lambda *_: "") -> str:
    """Say how many networks there are, how large, and what they began with."""
    at_random = f"trained from random weights (seed {facts.run['seed']})"
    began = f"was {at_random}"
    start = pretrained(facts)
    if start is not None:
        learnt = "made elsewhere"
        if facts.setting("weights") == "imagenet":
            learnt = f"learnt from the photographs of ImageNet{cite('imagenet')}"
        began = f"began with weights {learnt}: {weights(start)}"
    n, n_parameters = n_members(facts), f"{int(facts.run['n_parameters']):,} parameters"
    if n == 1:
        return f"It has {n_parameters} and {began}."
    if not is_mixed(facts):
        each = f"Each {began}.".replace("from random weights", "from random weights of its own")
        return f"{n} such networks, of {n_parameters} together, form an ensemble. {each}"
    n_random = kinds_of(facts).count("network")
    return (
        f"{n} networks, of {n_parameters} together, form an ensemble: {numeral(n - n_random)} of "
        f"the first kind, which {'each ' if n - n_random > 1 else ''}{began}; and "
        f"{numeral(n_random)} of the second, {at_random}."
    )


def is_mixed(facts: RunFacts) -> bool:
    """Whether some networks of the ensemble begin with weights and others at random."""
    return bool(facts.setting("backbone")) and "network" in kinds_of(facts)


def kinds_of(facts: RunFacts) -> list[str]:
    """Return what each network of the ensemble is, 'backbone' or 'network'."""
    return [turn.kind for turn in _planned(facts).turns()]


def _planned(facts: RunFacts) -> Settings:
    """Return the plan's settings as they stand: another version may have had other rules."""
    known = {name: facts.setting(name) for name in facts.plan if name in Settings.model_fields}
    return Settings.model_construct(**known)


def _cnns(facts: RunFacts) -> list[Settings]:
    """Return what each CNN of the plan that begins at random is built from."""
    planned = _planned(facts)
    return [planned.of(turn) for turn in planned.turns() if turn.kind == "network"]


def resolutions(facts: RunFacts) -> str:
    """Say how large the networks of an ensemble get their images; '' where all get them whole."""
    counts = Counter(turn.reduction for turn in _planned(facts).turns())
    if set(counts) == {1}:
        return ""
    shares = [f"{numeral(counts[factor])} {SHARES[factor]}" for factor in sorted(counts)]
    text = f"They see the images: {words.join(shares)} of their size"
    stem = "; on reduced images a stage at full resolution stands in place of the stem that halves"
    differ = len({one.stem_stride for one in _cnns(facts)}) > 1
    return f"{text}{stem if differ else ''}."


def weights(start: Mapping[str, Any]) -> str:
    """Say where weights came from, exactly, under which licence, and what did not fit."""
    found = start["weights"]
    revision = f", revision {found['revision']}" if found["revision"] else ""
    notes = "".join(f"; {note[:1].lower()}{note[1:-1]}" for note in start["notes"])
    return (
        f"{found['source']}{revision} (SHA-256 {found['sha256']}; licence: {found['licence']})"
        f"{notes}"
    )


def beginnings(facts: RunFacts, start: Mapping[str, Any]) -> str:
    """Say what the networks began with; of an ensemble of two kinds, both."""
    if not is_mixed(facts):
        return weights(start)
    n_random = kinds_of(facts).count("network")
    return (
        f"{weights(start)}; {numeral(n_random)} of {numeral(n_members(facts))} networks with "
        f"random weights, seed {facts.run['seed']}"
    )


def numeral(n: int) -> str:
    """Return a small number as a word."""
    return NUMERALS[n] if n < len(NUMERALS) else str(n)


def network(facts: RunFacts, cite: Callable[..., str] = lambda *_: "") -> str:
    """Describe the network in one sentence."""
    backbone = facts.setting("backbone")
    if not backbone:
        text = _cnn_words(_cnns(facts)[0], cite)
    else:
        library, _, name = str(backbone).partition(":")
        of = f" of {LIBRARIES[library]}" if library in LIBRARIES else cite("efficientnet")
        text = f"The network {OWN_BACKBONES.get(name, name)}{of}, with a head of its own"
    if is_mixed(facts):
        cnn = _cnn_words(_cnns(facts)[0], cite)
        text = f"{text}, together with {cnn[:1].lower()}{cnn[1:]}"
    dense = [str(n) for n in facts.setting("dense_units") or ()]
    if dense:
        text += f", followed by a dense layer of {words.join(dense)} units"
    dropout = facts.setting("dropout_dense")
    if dropout:
        text += f", with dropout of {dropout:g} before the {'dense layers' if dense else 'output'}"
    n = len(facts.class_names)
    if facts.is_multilabel:
        return f"{text}, gave {words.plural(n, 'label')} a probability each."
    if facts.target == "ordinal":
        return f"{text}, graded the images in {n} steps."
    return f"{text}, told the {'two' if n == 2 else n} classes apart."


def _cnn_words(one: Settings, cite: Callable[..., str]) -> str:
    """Describe a CNN that begins at random, without its head."""
    channels = [f"{n}" for n in one.conv_channels]
    activation = ACTIVATIONS.get(one.activation, "")
    blocks = numeral(len(channels))
    kind: str = one.network  # of other versions it may be another
    if kind == "residual":
        return (
            f"A residual network{cite('resnet')} with {blocks} stages of "
            f"{words.plural(one.blocks_per_stage, 'block')} ({words.join(channels)} channels), "
            f"{activation} activations, batch normalisation{cite('batch_norm')} and global "
            "average pooling"
        )
    if kind != "classic":
        return f"A network of the kind “{kind}”"
    side = one.kernel_size
    padding = "unpadded" if one.padding == "valid" else "padded"
    text = (
        f"A convolutional network{cite('cnn')} of {blocks} blocks ({words.join(channels)} "
        f"channels), each of {padding} {side} × {side} convolution, {activation}"
    )
    if one.batch_norm:
        text += f", batch normalisation{cite('batch_norm')}"
    return f"{text} and 2 × 2 {one.pool}-pooling"


def _stages(facts: RunFacts) -> list[str]:
    """Say how a backbone with weights from elsewhere learnt otherwise than its head."""
    if pretrained(facts) is None:
        return []
    frozen, share = int(facts.setting("frozen_epochs")), float(facts.setting("backbone_rate"))
    stages = int(facts.setting("frozen_stages") or 0)
    return [
        f"the backbone held still for the first {words.plural(frozen, 'epoch')}" if frozen else "",
        f"{'then ' if frozen else 'the backbone '}at {share:g} of its head's learning rate"
        if share < 1
        else "",
        f"the backbone's stem and first {words.plural(stages, 'stage')} held still"
        if stages
        else "",
        "the statistics of the backbone's batch normalisation kept"
        if facts.setting("frozen_norms")
        else "",
    ]


def training(facts: RunFacts, cite: Callable[..., str] = lambda *_: "") -> str:
    """Say in one sentence how the network was trained."""
    if facts.setting("probe"):
        return (
            "The backbone was not trained. Its features of each training image were computed once, "
            "and a logistic regression on them became the head. "
            f"{facts.run.get('training_note') or ''}"
        ).rstrip()
    optimizer = str(facts.setting("optimizer"))
    named = OPTIMIZERS.get(optimizer, optimizer)
    source = cite(optimizer) if optimizer in ("adam", "adamw") else ""
    schedule = str(facts.setting("schedule"))
    if schedule == "plateau":
        how = (
            f"the rate multiplied by {facts.setting('plateau_factor'):g} after "
            f"{words.plural(int(facts.setting('plateau_patience')), 'epoch')} without improvement"
        )
    else:
        how = SCHEDULES.get(schedule, f"the schedule “{schedule}”")
        how += cite("one_cycle") if schedule == "one_cycle" else ""
    loss = str(facts.setting("loss")).replace("_", " ").replace("cross entropy", "cross-entropy")
    loss = {
        "multilabel": "binary cross-entropy of the known labels as",
        "ordinal": f"{loss} and ranked probability",
    }.get(facts.target, loss)
    extras = [
        f"weight decay {facts.setting('weight_decay'):g}" if facts.setting("weight_decay") else "",
        f"label smoothing {facts.setting('label_smoothing'):g}"
        if facts.setting("label_smoothing")
        else "",
        f"classes weighted by {WEIGHED[str(facts.setting('class_weights'))]}"
        + (", which probabilities account for" if facts.accounts_for_weights else "")
        if facts.setting("class_weights") in WEIGHED
        else "",
        f"gradients clipped at norm {facts.setting('gradient_clip'):g}"
        if facts.setting("gradient_clip")
        else "",
        "weights averaged exponentially" if facts.setting("weight_averaging") else "",
    ]
    extras += _stages(facts)
    more = "".join(f", {extra}" for extra in extras if extra)
    members = n_members(facts)
    begun = "It was trained for "
    if members > 1:
        begun = f"Its {members} networks, whose logits are averaged, were trained apart for "
    return (
        f"{begun}{_span(_epochs(facts))}{share_of_images(facts)} in batches of "
        f"{facts.setting('batch_size')} with {named}{source} (learning rate "
        f"{_rates(facts)}, {how}), {loss} loss{more}, in "
        f"{facts.run['hardware']['precision']} on {_device(facts)}."
    )


def _span(epochs: Sequence[int]) -> str:
    """Write '50 epochs', or '20 to 50 epochs' where networks were trained for different ones."""
    least, most = min(epochs), max(epochs)
    return words.plural(most, "epoch") if least == most else f"{least} to {most} epochs"


def share_of_images(facts: RunFacts) -> str:
    """Say how many images an epoch saw, where it was not all; else ''."""
    n = int(facts.run["splits"]["counts"]["train"]["n"])
    size, n_steps = int(facts.setting("batch_size")), facts.setting("steps_per_epoch")
    if n_steps is None or n_steps >= n // size:
        return ""
    return f", each on {words.count(n_steps * size)} of the {words.count(n)} training images,"


def _rates(facts: RunFacts) -> str:
    rate, times = float(facts.setting("learning_rate")), float(facts.setting("random_rate") or 1)
    if times == 1 or not is_mixed(facts):
        return f"{rate:g}"
    return f"{rate:g}, and {times * rate:g} for networks initialised at random"


def _device(facts: RunFacts) -> str:
    hardware = facts.run["hardware"]
    cpu = f"{hardware['cpu']} ({words.plural(int(hardware['n_cores']), 'core')})"
    return cpu if hardware["device"] == "cpu" else f"{hardware['device']} with {cpu}"


# name of the setting, how its value reads
AUGMENTATIONS: tuple[tuple[str, str], ...] = (
    ("rotation", "rotation (up to {:g}°)"),
    ("zoom", "zoom (up to {:.0%})"),
    ("shift", "shift (up to {:.0%})"),
    ("stretch", "stretching of an axis (±{:.0%})"),
    ("shear", "shear (up to {:g}°)"),
    ("flip_horizontal", "left–right flips"),
    ("flip_vertical", "up–down flips"),
    ("flip_diagonal", "exchange of rows and columns"),
    ("brightness", "brightness (±{:.0%})"),
    ("contrast", "contrast (±{:.0%})"),
    ("gamma", "gamma (±{:.0%})"),
    ("bias_field", "uneven brightness (a bias field)"),
    ("noise", "noise"),
    ("blur", "blur"),
    ("low_resolution", "loss of resolution"),
    ("erasing", "erased patches (up to {:.0%} of the side)"),
)


def augmentation(facts: RunFacts) -> str:
    """Say in one sentence how training images were varied."""
    found = [text.format(value) for name, text in AUGMENTATIONS if (value := facts.setting(name))]
    copies = int(facts.setting("probe_passes") or 0)
    if not found or (facts.setting("probe") and not copies):
        return "Training images were not augmented."
    share = float(facts.setting("augmented_share") or 1)
    some = "" if share == 1 else f"; mirroring apart, each on {share:.0%} of the images"
    further = f", in {words.plural(copies, 'further copy', 'further copies')} of each"
    return (
        f"Training images were varied at random by {words.join(found)}{some}"
        f"{further if facts.setting('probe') else ''}."
    )


def _epochs(facts: RunFacts) -> list[int]:
    """Return the epochs of each network."""
    return [int(epochs) for epochs in facts.history.groupby("member")["epoch"].max()]


def _early_stopping(facts: RunFacts) -> str:
    """Say in a sentence how early stopping went, where it was on; else ''."""
    stop = facts.setting("early_stopping")
    if not stop:
        return ""
    epochs = _epochs(facts)
    n_stopped = sum(each < int(facts.setting("epochs") or 0) for each in epochs)
    verb = "stopped early" if n_stopped else "would have stopped"
    of = f" of {n_stopped} of {len(epochs)} networks" if 0 < n_stopped < len(epochs) else ""
    return f" Training{of} {verb} after {stop} epochs without improvement."


def selection(facts: RunFacts) -> str:
    """Say which epoch's weights were kept, and why."""
    if facts.setting("probe"):
        return "There was no epoch to choose."
    monitor, early = str(facts.setting("monitor")), _early_stopping(facts)
    if facts.setting("keep") == "last":
        last = "The weights of the last epoch were kept"
        return f"{last}.{early}" if early else f"{last}; none was chosen on validation images."
    kept = [str(epoch) for epoch in facts.run["best_epochs"]]
    which = "epoch " + kept[0] if len(kept) == 1 else f"epochs {words.join(kept)}"
    return (
        f"The weights of {which} were kept, which had "
        f"{MONITORS.get(monitor, monitor)} on validation.{early}"
    )
