"""The methods of a run in plain English, with figures and references, to paste into a paper.

Each sentence is drawn from plan.json, run.json and metrics.json. What only the authors know stands
in square brackets, to be filled in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hilum.pooling import IN_WORDS
from hilum.referral import DISAGREE, NONE_FITS, SEVERAL, UNCERTAIN, UNLIKE
from hilum.report import network_words, words
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
    "gradcam": "Selvaraju et al. Grad-CAM: visual explanations from deep networks via "
    "gradient-based localization. ICCV 2017.",
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
    "saerens": "Saerens, Latinne, Decaestecker. Adjusting the outputs of a classifier to new a "
    "priori probabilities. Neural Computation 2002.",
    "temperature": "Guo et al. On calibration of modern neural networks. ICML 2017.",
    "wilson": "Wilson. Probable inference, the law of succession, and statistical inference. "
    "JASA 1927.",
    "youden": "Youden. Index for rating diagnostic tests. Cancer 1950.",
    "zou": "Zou, Donner. Construction of confidence limits about effect measures. "
    "Statistics in Medicine 2008.",
}


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


def _data(facts: RunFacts, _: _Bibliography) -> list[str]:
    n_used = sum(int(counts["n"]) for counts in facts.run["splits"]["counts"].values())
    excluded = int(facts.run["data"]["n_excluded"])
    joined = {"multilabel": "with ", "ordinal": "of grade "}.get(facts.target, "")
    totals = [
        f"{sum(int(c['classes'].get(name, 0)) for c in facts.run['splits']['counts'].values()):,} "
        f"{joined}{name}"
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
        f"They were opened {words.times(len(facts.openings))} in all."
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


def _preprocessing(facts: RunFacts, _: _Bibliography) -> list[str]:
    return [
        network_words.preprocessing(facts),
        network_words.input_size(facts),
        "The same steps are part of the exported model and were applied to every set.",
    ]


def _network(facts: RunFacts, sources: _Bibliography) -> list[str]:
    return [
        network_words.network(facts, sources.cite),
        network_words.composition(facts, sources.cite),
        network_words.resolutions(facts),
    ]


def _training(facts: RunFacts, sources: _Bibliography) -> list[str]:
    return [
        network_words.training(facts, sources.cite),
        network_words.augmentation(facts),
        network_words.selection(facts),
    ]


def _calibration(facts: RunFacts, sources: _Bibliography) -> str:
    """Say how probabilities were calibrated; of several labels one by one."""
    if _is_uncalibrated(facts):
        if facts.accounts_for_weights:
            return (
                "Probabilities were not calibrated, beyond accounting for the weights of classes."
            )
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
        facts.setting("calibration") == "none"
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
    DISAGREE: "whose answer was not in their prediction set",
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
        if facts.class_shares:
            return (
                "Each image was given the class whose probability, divided by the share that the "
                f"class had of the training images{cite('saerens')}, was highest."
            )
        return "Each image was given the class of highest probability."
    source = _rule_sources([point], cite)
    cut = words.threshold(float(point["threshold"]))
    if str(point["rule"]).startswith("fixed:"):
        return (
            f"An image was called {facts.positive_class} at a probability of at least {cut}, a "
            "threshold that was given beforehand."
        )
    return (
        f"An image was called {facts.positive_class} at a probability of at least "
        f"{cut}, a threshold chosen on {int(point['n']):,} "
        f"validation images by {words.rule(str(point['rule']))}{source}"
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
        f"{name} {words.threshold(float(point['threshold']))}"
        for name, point in facts.points.items()
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
        f"{name} {words.threshold(float(point['threshold']))}"
        if facts.is_multilabel
        else words.threshold(float(point["threshold"]))
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
    if not facts.threshold_saw_changes:
        return ""
    return ", of which the middle one had helped to choose the threshold"


def _explanation(facts: RunFacts, sources: _Bibliography) -> str:
    if not facts.explanation:
        return ""
    kinds = {"Grad-CAM": "gradcam", "HiResCAM": "hirescam"}
    made = [f"{name}{sources.cite(key)}" for name, key in kinds.items() if name in facts.map_method]
    of_each = ", the latter of the CNNs" if len(made) > 1 else ""
    return (
        f"Heat maps were made by {words.join(made)}{of_each}, on the features that enter the "
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
