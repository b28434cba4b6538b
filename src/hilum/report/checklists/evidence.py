"""What a run folder says to the items of a checklist; what it does not say stays unsaid."""

from __future__ import annotations

from collections.abc import Callable

from hilum.auditing.shortcuts import PERSONAL
from hilum.report import methods, network_words, words
from hilum.report.checklists.items import Evidence
from hilum.report.facts import Estimate, RunFacts, main_figures

Answer = Callable[[RunFacts], Evidence | None]


def _goal(facts: RunFacts) -> Evidence:
    return Evidence(
        f"Development of a classifier made to {facts.task}, with internal testing",
        "answer",
        "hypotheses and clinical aim",
    )


def _data_source(facts: RunFacts) -> Evidence:
    return Evidence(
        f"{words.plural(int(facts.run['data']['n_files']), 'file')}, fixed by SHA-256",
        "repeat",
        "who collected them, why and when; links",
    )


def _eligibility(facts: RunFacts) -> Evidence:
    n = int(facts.run["data"]["n_excluded"])
    text = f"{words.plural(n, 'file')} left out, with reasons" if n else "No file was left out"
    return Evidence(text, "flow", "criteria by which people and images were chosen")


def _preprocessing(facts: RunFacts) -> Evidence:
    return Evidence(network_words.preprocessing(facts), "plan")


def _subsets(facts: RunFacts) -> Evidence:
    crop = facts.setting("resize") == "crop"
    text = "Images were cropped to the input" if crop else "The whole of every readable image"
    return Evidence(text, "plan", "selection made before the files were given")


def _deidentification(facts: RunFacts) -> Evidence | None:
    options = (facts.run.get("request") or {}).get("options") or {}
    if not options.get("dicom_columns"):
        return None
    return Evidence("Patients and studies from DICOM headers as pseudonyms", "data", "of the files")


def _missing_data(facts: RunFacts) -> Evidence:
    n = int(facts.run["data"]["n_excluded"])
    text = (
        f"{words.plural(n, 'unreadable file')} left out by name, nothing imputed"
        if n
        else "Every file could be read; nothing was imputed"
    )
    if facts.is_multilabel:
        text += "; labels that are not known were left out, not imputed"
    return Evidence(text, "flow")


def _acquisition(facts: RunFacts) -> Evidence | None:
    names = [
        name for name in ("manufacturer", "modality", "view", "laterality") if _has(facts, name)
    ]
    if not names:
        return None
    return Evidence(f"{words.join(names).capitalize()} of each image", "data", "protocol")


def _has(facts: RunFacts, column: str) -> bool:
    return column in facts.samples and bool((facts.samples[column] != "").any())


def _labels(facts: RunFacts) -> Evidence:
    return Evidence(
        f"Labels as given: {words.join(facts.class_names)}",
        "data",
        "how, when and by whom they were found",
    )


def _partitions(facts: RunFacts) -> Evidence:
    counts = facts.run["splits"]["counts"]
    parts = [f"{name} {int(counts[name]['n']):,}" for name in ("train", "val", "test")]
    return Evidence(f"{words.join(parts)} images; how they were drawn", "splits")


def _disjoint(facts: RunFacts) -> Evidence:
    if facts.overlap:
        return Evidence("Patients are in more than one partition", "distrust")
    if facts.run["patients"]["n_patients"] is None:
        return Evidence("By image only: patients are unknown", "distrust")
    return Evidence("By patient", "splits")


def _test_size(facts: RunFacts) -> Evidence:
    test = facts.metrics["test"]
    term = words.BY_KEY[main_figures(facts)[0]]
    bounds = words.interval(Estimate.of(test, term.key), percent=False)
    width = f"; {term.name} interval {bounds}" if bounds else ""
    text = f"{words.plural(int(test['n']), 'image')}{words.of_people(facts.n_patients('test'))}"
    return Evidence(text + width, "answer", "why this size was aimed at")


def _network(facts: RunFacts) -> Evidence:
    return Evidence(f"{network_words.network(facts)} Every setting is listed", "plan")


def _software(facts: RunFacts) -> Evidence:
    return Evidence(f"{len(facts.run['versions'])} packages with versions", "repeat")


def _initial_weights(facts: RunFacts) -> Evidence:
    start = network_words.pretrained(facts)
    if start is not None:
        return Evidence(f"Made elsewhere: {network_words.beginnings(facts, start)}", "paper")
    return Evidence(f"Random, seed {facts.run['seed']}; no pretrained weights", "paper")


def _training(facts: RunFacts) -> Evidence:
    return Evidence(
        f"{words.plural(int(facts.run['epochs_done']), 'epoch')} in all, augmentation and every "
        "setting with its reason; training curves",
        "plan",
    )


def _selection(facts: RunFacts) -> Evidence:
    return Evidence(network_words.selection(facts), "plan")


def _ensemble(facts: RunFacts) -> Evidence:
    n_members = network_words.n_members(facts)
    if n_members > 1:
        seen = network_words.resolutions(facts)
        text = f"{n_members} networks trained apart, their logits averaged"
        return Evidence(f"{text}. {seen.removesuffix('.')}" if seen else text, "plan")
    if facts.setting("weight_averaging"):
        return Evidence("One network, its weights averaged over training; no ensemble", "plan")
    return Evidence("One network, no ensemble", "plan")


def _measures(_: RunFacts) -> Evidence:
    return Evidence(
        "Each figure with its meaning; ROC, precision-recall, calibration",
        "results",
        "comparison with published models",
    )


def _uncertainty(facts: RunFacts) -> Evidence:
    unit = "images" if facts.run["patients"]["n_patients"] is None else "patients"
    return Evidence(f"95{words.THIN}% intervals over {unit}, method by figure", "results")


def _robustness(facts: RunFacts) -> Evidence | None:
    found = facts.metrics.get("robustness")
    if not found:
        return None
    return Evidence(f"{words.plural(len(found), 'change')} of the images, as curves", "robustness")


def _explanation(facts: RunFacts) -> Evidence | None:
    if not facts.explanation:
        return None
    return Evidence("Heat maps with a check by randomised weights", "explanation")


def _internal_test(facts: RunFacts) -> Evidence:
    n = len(facts.openings)
    return Evidence(f"Test split, opened {words.times(n)}, beside validation", "results")


def _external_test(facts: RunFacts) -> Evidence | None:
    if not facts.external:
        return None
    return Evidence(f"On {words.join(list(facts.external))}", "external")


def _flow(_: RunFacts) -> Evidence:
    return Evidence("From files to patients to partitions", "flow")


def _demographics(facts: RunFacts) -> Evidence | None:
    columns = {name for name in facts.subgroup_columns if PERSONAL.match(name)}
    if not columns:
        return None
    return Evidence(
        f"Test images by {words.join(sorted(columns))}", "subgroups", "the other partitions"
    )


def _performance(facts: RunFacts) -> Evidence:
    test = facts.metrics["test"]
    missing = ""
    if not facts.subgroup_columns:
        parts = list(test["labels"].values()) if facts.is_multilabel else [test]
        notes = [
            str(note).rstrip(".") for part in parts for note in part.get("subgroup_notes") or ()
        ]
        told = "; ".join(dict.fromkeys(notes)) or "the data hold no column for them"
        missing = f"subgroups: {told}"
    return Evidence("All figures with intervals on test and validation", "results", missing)


def _accuracy(facts: RunFacts) -> Evidence:
    if facts.positive_class is None:
        term = words.BY_KEY[main_figures(facts)[0]]
        figure = Estimate.of(facts.metrics["test"], term.key)
        return Evidence(f"{term.name} {words.with_interval(figure, percent=False)}", "results")
    parts = [
        f"{key} {words.with_interval(Estimate.of(facts.metrics['test'], key), percent=True)}"
        for key in ("sensitivity", "specificity")
    ]
    return Evidence("; ".join(parts), "answer")


def _failures(facts: RunFacts) -> Evidence:
    counts = "Errors of each label" if facts.is_multilabel else "Confusion matrix"
    return Evidence(f"{counts}; every error, the costliest first, with images", "errors")


def _limitations(_: RunFacts) -> Evidence:
    return Evidence("What to distrust", "distrust", "limits of the design and of the setting")


def _technical_detail(_: RunFacts) -> Evidence:
    return Evidence("Command, seed, settings, versions, data hash", "repeat", "study protocol")


def _availability(facts: RunFacts) -> Evidence:
    return Evidence(
        f"Software: Hilum {facts.run['hilum']}, Apache-2.0", "repeat", "of the data and the model"
    )


def _data_hash(_: RunFacts) -> Evidence:
    return Evidence("SHA-256 of the data", "repeat", "whether and where they can be had")


def _preparation(facts: RunFacts) -> Evidence:
    n = len(facts.findings)
    return Evidence(
        f"Preprocessing of every image alike; audit of the files: {words.plural(n, 'finding')}",
        "findings",
    )


def _predictors(_: RunFacts) -> Evidence:
    return Evidence("The pixels of the image alone; no other column is used", "data")


def _predictor_assessors(_: RunFacts) -> Evidence:
    return Evidence("None: pixels need no interpretation", "data")


def _building(facts: RunFacts) -> Evidence:
    if facts.epoch_is_chosen:
        return Evidence("Network, training, choice of the epoch on validation", "plan")
    return Evidence("Network and training; no epoch was chosen on validation", "plan")


def _clusters_method(facts: RunFacts) -> Evidence:
    unit = "image" if facts.run["patients"]["n_patients"] is None else "patient"
    return Evidence(f"Intervals take the {unit} as the unit", "results", "differences of centres")


def _clusters(facts: RunFacts) -> Evidence | None:
    columns = facts.subgroup_columns
    names = ("location", "site", "centre", "center", "hospital", "manufacturer", "scanner")
    found = sorted({name for name in columns if name.lower() in names})
    return Evidence(f"By {words.join(found)}", "subgroups") if found else None


def _updating(facts: RunFacts) -> Evidence | None:
    if not facts.locked_before_test:
        return None
    used = [opening.get("operating_point_sha256") for opening in facts.openings]
    if any(sha256 != facts.locked_hash for sha256 in used):
        return None
    return Evidence(
        f"The threshold{'s were' if facts.is_multilabel else ' was'} locked before the test, "
        "and the same in every opening",
        "repeat",
        "any change of the model after it",
    )


def _prediction(_: RunFacts) -> Evidence:
    return Evidence("Command and model file", "repeat")


def _imbalance(facts: RunFacts) -> Evidence:
    if facts.setting("class_weights") in network_words.WEIGHED:
        corrected = "" if facts.accounts_for_weights else "not "
        return Evidence(
            f"Classes weighted by {network_words.WEIGHED[str(facts.setting('class_weights'))]}; "
            f"probabilities {corrected}corrected for it",
            "plan",
        )
    return Evidence("None was used", "plan")


def _threshold(facts: RunFacts) -> Evidence:
    return Evidence(methods.threshold(facts), "answer")


def _set_differences(facts: RunFacts) -> Evidence:
    nouns = words.capitalised(words.nouns(facts.target)[1])
    return Evidence(f"{nouns} and numbers of each set", "flow", "setting and eligibility")


def _numbers(facts: RunFacts) -> Evidence:
    return Evidence(f"Images, patients and {words.nouns(facts.target)[1]} of each set", "flow")


def _full_model(_: RunFacts) -> Evidence:
    return Evidence("Model folder: weights, preprocessing, threshold", "card", "terms of access")


def _poor_input(facts: RunFacts) -> Evidence:
    referral = (
        "; unsure or unlike images can be referred" if facts.metrics["test"].get("referral") else ""
    )
    return Evidence(f"Unreadable images are refused by name{referral}", "card")


def _devices(facts: RunFacts) -> Evidence:
    missing = "" if _has(facts, "manufacturer") else "devices that took the images"
    return Evidence("Software with versions", "repeat", missing)


def _acquisition_and_preprocessing(facts: RunFacts) -> Evidence:
    return Evidence(network_words.preprocessing(facts), "plan", "how images were acquired")


def _development(_: RunFacts) -> Evidence:
    return Evidence("Training, validation and test with their sizes; plan with reasons", "flow")


def _blinded_index(_: RunFacts) -> Evidence:
    return Evidence("The network saw pixels only: no label, no clinical information", "data")


def _indeterminate(facts: RunFacts) -> Evidence:
    if facts.metrics["test"].get("referral"):
        return Evidence("Figures are over all images; referral is shown beside them", "referral")
    return Evidence("None: every image got an answer", "results")


def _variability(facts: RunFacts) -> Evidence | None:
    if facts.subgroup_columns:
        return Evidence("Subgroups", "subgroups", "which were planned beforehand")
    return None


def _fairness_analysis(facts: RunFacts) -> Evidence:
    if facts.subgroup_columns:
        return Evidence("Every error; figures by subgroup", "subgroups", "fairness")
    return Evidence("Every error, with images", "errors", "bias and fairness")


def _class_shares(facts: RunFacts) -> Evidence:
    noun = words.nouns(facts.target)[0]
    return Evidence(f"Share of each {noun} in each set", "flow", "shares in intended use")


def _external_differences(facts: RunFacts) -> Evidence | None:
    if not facts.external:
        return None
    return Evidence("External data beside the test", "external")


def _cross_table(facts: RunFacts) -> Evidence:
    if facts.is_multilabel:
        return Evidence("Found, missed and false alarms of each label", "answer")
    return Evidence("Confusion matrix", "matrix")


def _auditable(_: RunFacts) -> Evidence:
    return Evidence("predictions.csv holds every test image; openings are logged", "repeat")


EVIDENCE: dict[str, Answer] = {
    "accuracy": _accuracy,
    "acquisition": _acquisition,
    "acquisition_and_preprocessing": _acquisition_and_preprocessing,
    "auditable": _auditable,
    "availability": _availability,
    "blinded_index": _blinded_index,
    "building": _building,
    "class_shares": _class_shares,
    "clusters": _clusters,
    "clusters_method": _clusters_method,
    "cross_table": _cross_table,
    "data_hash": _data_hash,
    "data_source": _data_source,
    "deidentification": _deidentification,
    "demographics": _demographics,
    "development": _development,
    "devices": _devices,
    "disjoint": _disjoint,
    "eligibility": _eligibility,
    "ensemble": _ensemble,
    "explanation": _explanation,
    "external_differences": _external_differences,
    "external_test": _external_test,
    "failures": _failures,
    "fairness_analysis": _fairness_analysis,
    "flow": _flow,
    "full_model": _full_model,
    "goal": _goal,
    "imbalance": _imbalance,
    "indeterminate": _indeterminate,
    "initial_weights": _initial_weights,
    "internal_test": _internal_test,
    "labels": _labels,
    "limitations": _limitations,
    "measures": _measures,
    "missing_data": _missing_data,
    "network": _network,
    "numbers": _numbers,
    "partitions": _partitions,
    "performance": _performance,
    "poor_input": _poor_input,
    "predictor_assessors": _predictor_assessors,
    "prediction": _prediction,
    "predictors": _predictors,
    "preparation": _preparation,
    "preprocessing": _preprocessing,
    "robustness": _robustness,
    "selection": _selection,
    "set_differences": _set_differences,
    "software": _software,
    "subsets": _subsets,
    "technical_detail": _technical_detail,
    "test_size": _test_size,
    "threshold": _threshold,
    "training": _training,
    "uncertainty": _uncertainty,
    "updating": _updating,
    "variability": _variability,
}
