"""The methods of a run in plain English, with figures and references, to paste into a paper.

Each sentence is drawn from plan.json, run.json and metrics.json. What only the authors know stands
in square brackets, to be filled in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hilum.pooling import IN_WORDS
from hilum.referral import DISAGREE, NONE_FITS, SEVERAL, UNCERTAIN, UNLIKE
from hilum.report import words
from hilum.report.facts import SPLIT_NAMES, Estimate, RunFacts, main_figures

SOURCES = {
    "adam": "Kingma, Ba. Adam: a method for stochastic optimization. ICLR 2015.",
    "adamw": "Loshchilov, Hutter. Decoupled weight decay regularization. ICLR 2019.",
    "adebayo": "Adebayo et al. Sanity checks for saliency maps. NeurIPS 2018.",
    "batch_norm": "Ioffe, Szegedy. Batch normalization. ICML 2015.",
    "bootstrap": "Efron, Tibshirani. An introduction to the bootstrap. 1993.",
    "brier": "Brier. Verification of forecasts expressed in terms of probability. "
    "Monthly Weather Review 1950.",
    "cnn": "LeCun et al. Gradient-based learning applied to document recognition. "
    "Proceedings of the IEEE 1998.",
    "cohen": "Cohen. Weighted kappa. Psychological Bulletin 1968.",
    "conformal": "Vovk, Gammerman, Shafer. Algorithmic learning in a random world. 2005.",
    "decision_curve": "Vickers, Elkin. Decision curve analysis. Medical Decision Making 2006.",
    "delong": "DeLong, DeLong, Clarke-Pearson. Comparing the areas under two or more correlated "
    "ROC curves. Biometrics 1988.",
    "epstein": "Epstein. A scoring system for probability forecasts of ranked categories. "
    "Journal of Applied Meteorology 1969.",
    "fluss": "Fluss, Faraggi, Reiser. Estimation of the Youden index and its associated cutoff "
    "point. Biometrical Journal 2005.",
    "hirescam": "Draelos, Carin. Use HiResCAM instead of Grad-CAM for faithful explanations of "
    "convolutional neural networks. arXiv:2011.08891, 2020.",
    "korn": "Korn, Graubard. Confidence intervals for proportions with small expected number of "
    "positive counts estimated from survey data. Survey Methodology 1998.",
    "obuchowski": "Obuchowski. Nonparametric analysis of clustered ROC curve data. "
    "Biometrics 1997.",
    "one_cycle": "Smith, Topin. Super-convergence. SPIE 2019.",
    "pytorch": "Paszke et al. PyTorch. NeurIPS 2019.",
    "efficientnet": (
        "Tan and Le. EfficientNet: rethinking model scaling for convolutional neural networks. "
        "ICML 2019."
    ),
    "imagenet": "Deng et al. ImageNet: a large-scale hierarchical image database. CVPR 2009.",
    "resnet": "He et al. Deep residual learning for image recognition. CVPR 2016.",
    "temperature": "Guo et al. On calibration of modern neural networks. ICML 2017.",
    "wilson": "Wilson. Probable inference, the law of succession, and statistical inference. "
    "JASA 1927.",
    "youden": "Youden. Index for rating diagnostic tests. Cancer 1950.",
    "zou": "Zou, Donner. Construction of confidence limits about effect measures. "
    "Statistics in Medicine 2008.",
}

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


@dataclass(frozen=True)
class Paragraph:
    heading: str
    text: str


@dataclass(frozen=True)
class Methods:
    """A methods section: paragraphs, and references in the order of their numbers."""

    paragraphs: tuple[Paragraph, ...]
    references: tuple[str, ...]


@dataclass
class _Bibliography:
    keys: list[str] = field(default_factory=list)

    def cite(self, *keys: str) -> str:
        """Return ' [1,2]', numbering each source when it is first named."""
        self.keys += [key for key in keys if key not in self.keys]
        return " [" + ",".join(str(self.keys.index(key) + 1) for key in keys) + "]"


def make_methods(facts: RunFacts) -> Methods:
    """Write the methods section of a run."""
    sources = _Bibliography()
    paragraphs = tuple(
        Paragraph(heading, " ".join(sentence for sentence in write(facts, sources) if sentence))
        for heading, write in PARTS
    )
    return Methods(paragraphs, tuple(SOURCES[key] for key in sources.keys))


def n_members(facts: RunFacts) -> int:
    """Networks whose logits are averaged; 1 where there is no ensemble."""
    return int(setting(facts, "members") or 1)


def setting(facts: RunFacts, name: str) -> Any:
    """Return a planned setting's value, None where this run's version had none."""
    return facts.plan.get(name, {}).get("value")


def _data(facts: RunFacts, _: _Bibliography) -> list[str]:
    n_used = sum(int(counts["n"]) for counts in facts.run["splits"]["counts"].values())
    excluded = int(facts.run["data"]["n_excluded"])
    totals = [
        f"{sum(int(c['classes'].get(name, 0)) for c in facts.run['splits']['counts'].values()):,} "
        f"{'with ' if facts.is_multilabel else ''}{name}"
        for name in facts.class_names
    ]
    known = facts.run["patients"]["n_patients"]
    return [
        "[Source of the images, dates, setting, eligibility, ethical approval: to be added.]",
        f"{words.plural(n_used, 'image')}{_of_known(known)} were used ({words.join(totals)}).",
        f"{words.plural(excluded, 'file')} could not be used and "
        f"{'was' if excluded == 1 else 'were'} left out; nothing was imputed."
        if excluded
        else "All files could be read.",
        _patients(facts),
        "[How the reference standard was established, and by whom: to be added.]",
    ]


def _partitions(facts: RunFacts, _: _Bibliography) -> list[str]:
    counts = facts.run["splits"]["counts"]
    parts = [
        f"{name} ({words.plural(int(counts[split]['n']), 'image')}"
        f"{_of_known(counts[split]['n_patients'])})"
        for split, name in SPLIT_NAMES.items()
    ]
    return [
        f"The images were divided into {words.join(parts)}.",
        *map(str, facts.run["splits"]["reasons"]),
        _apart(facts),
        "The test images were opened after the decision "
        f"threshold{'s' if facts.is_multilabel else ''} had been locked."
        if facts.locked_before_test
        else "",
        f"They were opened {words.plural(len(facts.openings), 'time')} in all."
        if len(facts.openings) > 1
        else "",
    ]


def _of_known(n_patients: int | None) -> str:
    return "" if n_patients is None else words.of_people(n_patients)


def _patients(facts: RunFacts) -> str:
    """Say how patients were recognised, without the advice that the report gives."""
    found = facts.run["patients"]
    match found["source"]:
        case "none":
            return "Patients were not known; each image was taken for independent of the others."
        case "column":
            return f"Patients were given by the column “{found['column']}”."
        case _:
            return "Patients were recognised by the names of the files."


def _apart(facts: RunFacts) -> str:
    if facts.overlap:
        n = facts.overlap.n_patients
        return f"{words.plural(n, 'patient')} {'was' if n == 1 else 'were'} in more than one set."
    if facts.run["patients"]["n_patients"] is None:
        return "Patients were not known, so the sets are apart by image only."
    return "No patient was in more than one set."


def preprocessing(facts: RunFacts) -> str:
    """Say in one sentence how a file becomes the array that the network sees."""
    size = f"{setting(facts, 'input_height')} × {setting(facts, 'input_width')}"
    resize = str(setting(facts, "resize"))
    how = RESIZING.get(resize, "resized to {size} pixels (" + resize + ")").format(size=size)
    colour = "one grey channel" if setting(facts, "channels") == 1 else "three colour channels"
    start = pretrained(facts)
    source = "the training pixels"
    if setting(facts, "normalisation") == "image":
        source = "each image itself"
    if (start is not None and start["normalisation"]) or _is_efficientnet(facts):
        others = f", or of {source} for networks that began at random" if is_mixed(facts) else ""
        source = f"the data that the weights were made with{others}"
    return (
        f"Images were mapped to 8 bits in {colour}, {how}, and standardised by the mean and "
        f"standard deviation of {source}."
    )


def _is_efficientnet(facts: RunFacts) -> bool:
    return str(setting(facts, "backbone") or "").startswith("hilum:")


def pretrained(facts: RunFacts) -> Mapping[str, Any] | None:
    """Return what run.json says of the weights that the network began with; None if at random."""
    found: Mapping[str, Any] | None = facts.run.get("pretrained")
    return found if found and found.get("weights") else None


def _preprocessing(facts: RunFacts, _: _Bibliography) -> list[str]:
    return [
        preprocessing(facts),
        "The same steps are part of the exported model and were applied to every set.",
    ]


def network(facts: RunFacts) -> str:
    """Describe the network in one sentence."""
    return _network_words(facts, lambda *_: "")


def _network(facts: RunFacts, sources: _Bibliography) -> list[str]:
    at_random = f"trained from random weights (seed {facts.run['seed']})"
    began = f"was {at_random}"
    start = pretrained(facts)
    if start is not None:
        learnt = "made elsewhere"
        if setting(facts, "weights") == "imagenet":
            learnt = f"learnt from the photographs of ImageNet{sources.cite('imagenet')}"
        began = f"began with weights {learnt}: {weights(start)}"
    n = int(facts.run["n_parameters"])
    if n_members(facts) == 1:
        return [_network_words(facts, sources.cite), f"It has {n:,} parameters and {began}."]
    size = f"{n_members(facts)} such networks, of {n:,} parameters together, form an ensemble. "
    each = f"Each {began}.".replace("from random weights", "from random weights of its own")
    if is_mixed(facts):
        n_random = kinds_of(facts).count("network")
        size = (
            f"{n_members(facts)} networks, of {n:,} parameters together, form an ensemble: "
            f"{_numeral(n_members(facts) - n_random)} of the first kind, which "
            f"{'each ' if n_members(facts) - n_random > 1 else ''}{began}; "
        )
        each = f"and {_numeral(n_random)} of the second, {at_random}."
    return [_network_words(facts, sources.cite), f"{size}{each}", resolutions(facts)]


def is_mixed(facts: RunFacts) -> bool:
    """Whether some networks of the ensemble begin with weights and others at random."""
    return bool(setting(facts, "backbone")) and "network" in kinds_of(facts)


def kinds_of(facts: RunFacts) -> list[str]:
    """Return what each network of the ensemble is, 'backbone' or 'network', as it was planned."""
    return _in_turn(facts, setting(facts, "kinds") or ["backbone"])


def _in_turn(facts: RunFacts, planned: Sequence[Any]) -> list[Any]:
    """Return what each network of the ensemble gets, as `Settings.turns` deals it out."""
    return [planned[number % len(planned)] for number in range(n_members(facts))]


def resolutions(facts: RunFacts) -> str:
    """Say how large the networks of an ensemble get their images; '' where all get them whole."""
    factors = _in_turn(facts, setting(facts, "reductions") or [1])
    if set(factors) == {1}:
        return ""
    counts = Counter(factors)
    shares = [f"{_numeral(counts[factor])} {SHARES[factor]}" for factor in sorted(counts)]
    text = f"They see the images: {words.join(shares)} of their size"
    halving = setting(facts, "network") == "residual" and setting(facts, "stem_stride") == 2
    has_cnn = is_mixed(facts) or not setting(facts, "backbone")
    stem = "; on reduced images a stage at full resolution stands in place of the stem that halves"
    return f"{text}{stem if halving and has_cnn else ''}."


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
        f"{weights(start)}; {_numeral(n_random)} of {_numeral(n_members(facts))} networks with "
        f"random weights, seed {facts.run['seed']}"
    )


def _numeral(n: int) -> str:
    return NUMERALS[n] if n < len(NUMERALS) else str(n)


def _network_words(facts: RunFacts, cite: Callable[..., str]) -> str:
    backbone = setting(facts, "backbone")
    if not backbone:
        text = _cnn_words(facts, cite)
    else:
        library, _, name = str(backbone).partition(":")
        of = f" of {LIBRARIES[library]}" if library in LIBRARIES else cite("efficientnet")
        text = f"The network {OWN_BACKBONES.get(name, name)}{of}, with a head of its own"
    if is_mixed(facts):
        cnn = _cnn_words(facts, cite)
        text = f"{text}, together with {cnn[:1].lower()}{cnn[1:]}"
    dense = [str(n) for n in setting(facts, "dense_units") or ()]
    if dense:
        text += f", followed by a dense layer of {words.join(dense)} units"
    dropout = setting(facts, "dropout_dense")
    if dropout:
        text += f", with dropout of {dropout:g} before the {'dense layers' if dense else 'output'}"
    n = len(facts.class_names)
    if facts.is_multilabel:
        return f"{text}, gave {words.plural(n, 'label')} a probability each."
    if facts.target == "ordinal":
        return f"{text}, graded the images in {n} steps."
    return f"{text}, told the {'two' if n == 2 else n} classes apart."


def _cnn_words(facts: RunFacts, cite: Callable[..., str]) -> str:
    """Describe the CNN that begins at random, without its head."""
    channels = [f"{n}" for n in setting(facts, "conv_channels") or ()]
    activation = ACTIVATIONS.get(str(setting(facts, "activation")), "")
    kind = setting(facts, "network")
    blocks = _numeral(len(channels))
    if kind == "residual":
        each = int(setting(facts, "blocks_per_stage") or 1)
        return (
            f"A residual network{cite('resnet')} with {blocks} stages of "
            f"{words.plural(each, 'block')} ({words.join(channels)} channels), {activation} "
            f"activations, batch normalisation{cite('batch_norm')} and global average pooling"
        )
    if kind != "classic":
        return f"A network of the kind “{kind}”"
    side = setting(facts, "kernel_size")
    padding = "unpadded" if setting(facts, "padding") == "valid" else "padded"
    text = (
        f"A convolutional network{cite('cnn')} of {blocks} blocks ({words.join(channels)} "
        f"channels), each of {padding} {side} × {side} convolution, {activation}"
    )
    if setting(facts, "batch_norm"):
        text += f", batch normalisation{cite('batch_norm')}"
    return f"{text} and 2 × 2 {setting(facts, 'pool')}-pooling"


def _training(facts: RunFacts, sources: _Bibliography) -> list[str]:
    return [
        training(facts, sources.cite),
        augmentation(facts),
        selection(facts),
    ]


def _stages(facts: RunFacts) -> list[str]:
    """Say how a backbone with weights from elsewhere learnt otherwise than its head."""
    if pretrained(facts) is None:
        return []
    frozen, share = int(setting(facts, "frozen_epochs")), float(setting(facts, "backbone_rate"))
    stages = int(setting(facts, "frozen_stages") or 0)
    return [
        f"the backbone held still for the first {words.plural(frozen, 'epoch')}" if frozen else "",
        f"{'then ' if frozen else 'the backbone '}at {share:g} of that learning rate"
        if share < 1
        else "",
        f"the backbone's stem and first {words.plural(stages, 'stage')} held still"
        if stages
        else "",
        "the statistics of the backbone's batch normalisation kept"
        if setting(facts, "frozen_norms")
        else "",
    ]


def training(facts: RunFacts, cite: Callable[..., str] = lambda *_: "") -> str:
    """Say in one sentence how the network was trained."""
    if setting(facts, "probe"):
        return (
            "The backbone was not trained. Its features of each training image were computed once, "
            "and a logistic regression on them became the head. "
            f"{facts.run.get('training_note') or ''}"
        ).rstrip()
    optimizer = str(setting(facts, "optimizer"))
    named = OPTIMIZERS.get(optimizer, optimizer)
    source = cite(optimizer) if optimizer in ("adam", "adamw") else ""
    schedule = str(setting(facts, "schedule"))
    if schedule == "plateau":
        how = (
            f"the rate multiplied by {setting(facts, 'plateau_factor'):g} after "
            f"{words.plural(int(setting(facts, 'plateau_patience')), 'epoch')} without improvement"
        )
    else:
        how = SCHEDULES.get(schedule, f"the schedule “{schedule}”")
        how += cite("one_cycle") if schedule == "one_cycle" else ""
    loss = str(setting(facts, "loss")).replace("_", " ").replace("cross entropy", "cross-entropy")
    loss = {
        "multilabel": "binary cross-entropy of the known labels as",
        "ordinal": f"{loss} and ranked probability",
    }.get(facts.target, loss)
    extras = [
        f"weight decay {setting(facts, 'weight_decay'):g}"
        if setting(facts, "weight_decay")
        else "",
        f"label smoothing {setting(facts, 'label_smoothing'):g}"
        if setting(facts, "label_smoothing")
        else "",
        "classes weighted by the inverse of their frequency"
        if setting(facts, "class_weights") == "balanced"
        else "",
        f"gradients clipped at norm {setting(facts, 'gradient_clip'):g}"
        if setting(facts, "gradient_clip")
        else "",
        "weights averaged exponentially" if setting(facts, "weight_averaging") else "",
    ]
    extras += _stages(facts)
    more = "".join(f", {extra}" for extra in extras if extra)
    members = n_members(facts)
    begun = "It was trained for "
    if members > 1:
        begun = f"Its {members} networks, whose logits are averaged, were trained apart for "
    return (
        f"{begun}{words.plural(_epochs(facts), 'epoch')} in batches of "
        f"{setting(facts, 'batch_size')} with {named}{source} (learning rate "
        f"{setting(facts, 'learning_rate'):g}, {how}), {loss} loss{more}, in "
        f"{facts.run['hardware']['precision']} on {_device(facts)}."
    )


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
    found = [text.format(value) for name, text in AUGMENTATIONS if (value := setting(facts, name))]
    if not found:
        return "Training images were not augmented."
    share = float(setting(facts, "augmented_share") or 1)
    some = "" if share == 1 else f"; mirroring apart, each on {share:.0%} of the images"
    return f"Training images were varied at random by {words.join(found)}{some}."


def _epochs(facts: RunFacts) -> int:
    """Epochs of one network, the longest trained of an ensemble."""
    return int(facts.history["epoch"].max())


def selection(facts: RunFacts) -> str:
    """Say which epoch's weights were kept, and why."""
    if setting(facts, "keep") == "last":
        return "The weights of the last epoch were kept; none was chosen on validation images."
    monitor = str(setting(facts, "monitor"))
    stop = setting(facts, "early_stopping")
    stopped = _epochs(facts) < int(setting(facts, "epochs") or 0)
    verb = "stopped early" if stopped else "would have stopped"
    early = f" Training {verb} after {stop} epochs without improvement." if stop else ""
    kept = [str(epoch) for epoch in facts.run["best_epochs"]]
    which = "epoch " + kept[0] if len(kept) == 1 else f"epochs {words.join(kept)}"
    return (
        f"The weights of {which} were kept, which had "
        f"{MONITORS.get(monitor, monitor)} on validation.{early}"
    )


def _calibration(facts: RunFacts, sources: _Bibliography) -> str:
    """Say how probabilities were calibrated; of several labels one by one."""
    if _is_uncalibrated(facts):
        return "Probabilities were not calibrated."
    found = facts.run.get("calibration") or {}
    if not found:
        return ""
    labels = found.get("labels")
    if labels:
        each = [f"{name} by {_calibrator(one, sources)}" for name, one in labels.items()]
        return f"Probabilities were calibrated label by label on validation: {'; '.join(each)}."
    return f"Probabilities were calibrated by {_calibrator(found, sources)} on validation."


def _is_uncalibrated(facts: RunFacts) -> bool:
    """Tell whether probabilities are on record as what the network gave."""
    found = facts.run.get("calibration") or {}
    labels = found.get("labels") or {}
    return (
        setting(facts, "calibration") == "none"
        or found.get("method") == "none"
        or (bool(labels) and all(one["method"] == "none" for one in labels.values()))
    )


def _calibrator(found: Mapping[str, Any], sources: _Bibliography) -> str:
    """Name a way of calibration."""
    method, temperature = str(found["method"]), found.get("temperature")
    if method == "temperature":
        value = "" if temperature is None else f" (temperature {float(temperature):.2f})"
        return f"temperature scaling{sources.cite('temperature')}{value}"
    names = {"platt": "Platt scaling", "isotonic": "isotonic regression", "none": "nothing"}
    return names.get(method, method)


def _decisions(facts: RunFacts, sources: _Bibliography) -> list[str]:
    return [
        _calibration(facts, sources),
        threshold(facts, sources.cite),
        patients(facts),
        _prediction_sets(facts, sources),
        _referral(facts),
    ]


REFERRED = {
    UNCERTAIN: "whose answer was not confident",
    UNLIKE: "unlike those it learnt from",
    SEVERAL: "that several answers fitted",
    NONE_FITS: "that no answer fitted",
    DISAGREE: "on which threshold and prediction set disagreed",
}


def _referral(facts: RunFacts) -> str:
    """Say which images were referred: rules that no test image met are not told."""
    found = facts.metrics["test"].get("referral")
    if not found:
        return ""
    given = found.get("reasons") or {}
    met = [
        text for name, text in REFERRED.items() if name in given and Estimate.of(given, name).value
    ]
    if not met:
        return "By rules locked on validation data, no test image was referred to a person."
    return (
        f"By rules locked on validation data, test images {words.join(met, 'or')} were referred "
        "to a person; figures are over all images."
    )


def threshold(facts: RunFacts, cite: Callable[..., str] = lambda *_: "") -> str:
    """Say how probabilities become decisions."""
    if facts.is_multilabel:
        return _thresholds(facts, cite)
    point = facts.run.get("operating_point")
    if not point or facts.positive_class is None:
        if facts.target == "ordinal":
            return (
                "Each image was given the median grade of its probabilities, which has the least "
                "expected distance from the truth."
            )
        return "Each image was given the class of highest probability."
    source = _rule_sources([point], cite)
    return (
        f"An image was called {facts.positive_class} at a probability of at least "
        f"{float(point['threshold']):.3f}, a threshold chosen on {int(point['n']):,} validation "
        f"images by {words.rule(str(point['rule']))}{source}"
        f"{' and locked before the test' if facts.locked_before_test else ''}."
    )


def _rule_sources(points: Iterable[Mapping[str, Any]], cite: Callable[..., str]) -> str:
    """Cite where the rules of thresholds come from, and say where one was smoothed."""
    known = list(points)
    if not any(str(point["rule"]) in ("youden", "robust") for point in known):
        return ""
    source = cite("youden")
    if any("normally distributed" in str(point.get("reason", "")) for point in known):
        some = "" if len(known) == 1 else " for those that bear it"
        source += f", smoothed{some} by normal distributions of the log-odds{cite('fluss')}"
    return source


def _thresholds(facts: RunFacts, cite: Callable[..., str]) -> str:
    """Say how the probability of each label becomes a decision."""
    if not facts.points:
        return "The thresholds of the labels are not on record."
    rules = list(dict.fromkeys(str(point["rule"]) for point in facts.points.values()))
    source = _rule_sources(facts.points.values(), cite)
    each = "; ".join(
        f"{name} {float(point['threshold']):.3f}" for name, point in facts.points.items()
    )
    return (
        f"A label was given where its probability reached a threshold of its own ({each})"
        f", chosen on the validation images of which it was known by "
        f"{words.join([words.rule(rule) for rule in rules])}{source}"
        f"{' and locked before the test' if facts.locked_before_test else ''}."
    )


def patients(facts: RunFacts) -> str:
    """Say how the images of a patient became one answer; '' where each has one image."""
    rules = facts.run.get("patient_rules") or {}
    if not facts.metrics["test"].get("patients") or not rules:
        return ""
    how = IN_WORDS[rules["pooling"]["method"]]
    if _is_uncalibrated(facts):
        how = how.replace("calibrated ", "")
    text = f"The images of a patient were pooled by {how}"
    points = patient_points(facts)
    if not points:
        return f"{text}, and the patient was answered as an image is."
    each = "; ".join(
        f"{name} {float(point['threshold']):.3f}"
        if facts.is_multilabel
        else f"{float(point['threshold']):.3f}"
        for name, point in points.items()
    )
    own = "thresholds of their own" if len(points) > 1 else "a threshold of their own"
    few = min(int(point["n"]) for point in points.values())
    at_least = "at least " if len({int(point["n"]) for point in points.values()}) > 1 else ""
    return (
        f"{text}, and patients were decided on by {own} ({each}), locked on "
        f"{at_least}{words.plural(few, 'validation patient')}."
    )


def patient_points(facts: RunFacts) -> dict[str, Mapping[str, Any]]:
    """Return the locked thresholds for patients, by the label or the positive class."""
    rules = facts.run.get("patient_rules") or {}
    if rules.get("point"):
        return {str(facts.positive_class): rules["point"]}
    return dict(rules.get("points") or {})


def _prediction_sets(facts: RunFacts, sources: _Bibliography) -> str:
    found = facts.metrics["test"].get("conformal")
    if not found:
        return ""
    return (
        f"Prediction sets were formed by conformal prediction{sources.cite('conformal')} with a "
        f"wanted coverage of {float(found['coverage_wanted']):.0%}, set on validation."
    )


def _statistics(facts: RunFacts, sources: _Bibliography) -> list[str]:
    test = facts.metrics["test"]
    used = " ".join(Estimate.of(test, term.key).method for term in words.terms_of(facts.target))
    unit = "images" if facts.run["patients"]["n_patients"] is None else "patients"
    kinds = []
    if "Wilson" in used:
        kinds.append(
            "Wilson’s with an effective number of images for shares"
            + sources.cite("wilson", "korn")
        )
    if "jackknife over" in used:
        kinds.append(
            f"a jackknife over {unit} on the logit scale for AUROC and average precision"
            + sources.cite("delong", "obuchowski")
        )
    if "bootstrap" in used:
        kinds.append(
            f"the bootstrap over {unit} for the Brier score and the calibration error"
            + sources.cite("brier", "bootstrap")
        )
    if "Fisher" in used:
        kinds.append(
            f"a jackknife over {unit} on Fisher’s scale for quadratic kappa{sources.cite('cohen')}"
        )
    if "correlation by jackknife" in used:
        kinds.append("variance estimates recovery for means" + sources.cite("zou"))
    level = f"{float(test['ci']['level']) * 100:g}{words.THIN}%"
    return [
        f"Figures are given with {level} confidence intervals that take the "
        f"{'patient' if unit == 'patients' else 'image'} as the unit"
        + (f": {'; '.join(kinds)}." if kinds else "."),
        f"Resampling used {int(test['ci']['n_resamples']):,} draws (seed {test['ci']['seed']}).",
        "" if unit == "patients" else "Patients were not known, so intervals may be too narrow.",
        f"Net benefit was computed by decision curve analysis{sources.cite('decision_curve')}."
        if (test.get("net_benefit") or {}).get("thresholds")
        else "",
        "Images of which a label is not known were left out of the figures of that label; means "
        "over labels keep the patients of all labels together."
        if facts.is_multilabel
        else "",
        f"The ranked probability score{sources.cite('epstein')} is the mean over the cuts between "
        "grades."
        if facts.target == "ordinal"
        else "",
        _subgroups(facts),
        _robustness(facts),
        _explanation(facts, sources),
    ]


def _subgroups(facts: RunFacts) -> str:
    columns = facts.subgroup_columns
    return f"Figures are also given by {words.join(columns)}." if columns else ""


def _robustness(facts: RunFacts) -> str:
    changes = facts.metrics.get("robustness")
    if not changes:
        return ""
    n = (facts.metrics.get("robustness_on") or {}).get("n")
    on = f"{int(n):,} validation images" if n else "validation images"
    return (
        f"Robustness was measured on {on} changed in {words.plural(len(changes), 'way')}, each in "
        f"several degrees{_chose_threshold(facts)}."
    )


def _chose_threshold(facts: RunFacts) -> str:
    """Say that a threshold rests on some of the changed images, where it does."""
    if not any(point["rule"] == "robust" for point in facts.points.values()):
        return ""
    return ", of which the middle one had helped to choose the threshold"


def _explanation(facts: RunFacts, sources: _Bibliography) -> str:
    if not facts.explanation:
        return ""
    return (
        f"Heat maps were made by HiResCAM{sources.cite('hirescam')} on the features that enter the "
        f"network's last stage, and checked by randomising the weights{sources.cite('adebayo')}; "
        "they are no evidence of cause."
    )


def _software(facts: RunFacts, sources: _Bibliography) -> list[str]:
    versions = facts.run["versions"]
    named = [
        f"{name} {versions[name]}" for name in ("hilum", "torch", "python") if name in versions
    ]
    return [
        f"The software was {words.join(named)}{sources.cite('pytorch')}. "
        f"SHA-256 of the data: {facts.run['data']['sha256']}."
    ]


def _results(facts: RunFacts, _: _Bibliography) -> list[str]:
    test = facts.metrics["test"]
    by_patient = test.get("patients")
    means = ", as means over the labels" if facts.is_multilabel else ""
    return [
        f"On the {words.plural(int(test['n']), 'test image')}"
        f"{_of_known(facts.n_patients('test'))}{means}: {_listed(facts, test)} "
        f"(95{words.THIN}% intervals).",
        f"By patient, on {words.plural(int(by_patient['n']), 'test patient')}{means}: "
        f"{_listed(facts, by_patient)}."
        if by_patient
        else "",
        *(_result_of_label(facts, name) for name in facts.class_names if facts.is_multilabel),
    ]


def _listed(facts: RunFacts, found: dict[str, Any]) -> str:
    """List the main figures of a part of metrics.json."""
    keys = dict.fromkeys((*main_figures(facts), *([] if facts.is_multilabel else ["accuracy"])))
    parts = []
    for key in keys:
        term, figure = words.BY_KEY[key], Estimate.of(found, key)
        parts.append(f"{term.in_text} {words.with_interval(figure, percent=term.percent)}")
    return "; ".join(parts)


def _result_of_label(facts: RunFacts, name: str) -> str:
    test = facts.about(name).metrics["test"]
    auroc = words.with_interval(Estimate.of(test, "auroc"), percent=False)
    return f"{name}: AUROC {auroc}, in {int(test['classes'][name]['n']):,} of {int(test['n']):,}."


PARTS: tuple[tuple[str, Callable[[RunFacts, _Bibliography], list[str]]], ...] = (
    ("Data", _data),
    ("Partitions", _partitions),
    ("Preprocessing", _preprocessing),
    ("Network", _network),
    ("Training", _training),
    ("Calibration and decisions", _decisions),
    ("Statistics", _statistics),
    ("Software", _software),
    ("Results", _results),
)
