"""Reports of runs with several labels an image, and of ordinal grades."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import hilum
from hilum.estimates import describe
from hilum.multilabel import describe_labels
from hilum.report import write_report
from hilum.report.answer import make_answer
from hilum.report.audit_page import make_audit_page
from hilum.report.checklists.evidence import EVIDENCE
from hilum.report.facts import RunFacts, read_run
from hilum.report.kinds import title_of
from hilum.report.methods import make_methods
from hilum.report.patients import make_by_patient
from hilum.report.reach import make_reach
from hilum.report.reasons import Verdict, judge
from hilum.report.words import join
from hilum.targets import joined_cells, label_columns, median_grade, truths
from reporting import Page, make_run, write_json

LABELS = ["Effusion", "Mass", "Nodule"]
GRADES = ["none", "mild", "severe"]
POINT = {"rule": "youden", "threshold": 0.4, "sensitivity": 0.9, "specificity": 0.9, "n": 80}
POINT |= {"locked": "2026-01-02T03:04:05+00:00", "sha256": "ab", "reason": ""}


def label_run(folder: Path) -> Path:
    """Turn a run of classes into one of three labels: told well, hardly, and too rare."""
    run = make_run(folder, ("a", "b", "c"), None)
    rng = np.random.default_rng(0)
    samples = pd.read_csv(run / "samples.csv", dtype=str, keep_default_na=False)
    patient = np.unique(samples["patient"], return_inverse=True)[1]
    y = (rng.random((patient.max() + 1, 3)) < [0.5, 0.4, 0.0])[patient].astype(float)
    y[samples.index[samples["split"] == "test"][0], 2] = 1
    logits = rng.normal(size=y.shape) + np.array([4, 0, 1]) * (y - 0.5)
    probs = 1 / (1 + np.exp(-logits))
    y[rng.random(y.shape) < 0.1] = np.nan
    samples = samples.assign(**label_columns(y, LABELS), sex=np.where(patient % 2, "F", "M"))
    samples.to_csv(run / "samples.csv", index=False)
    rows = samples["split"].isin(["val", "test"]).to_numpy()
    table = samples.loc[rows, ["path", "patient", "split", "label", "unknown"]].assign(
        predicted=joined_cells(probs[rows] >= 0.4, LABELS),
        **{f"p_{name}": probs[rows, k] for k, name in enumerate(LABELS)},
    )
    table.to_csv(run / "predictions.csv", index=False)
    metrics: dict[str, Any] = {"class_names": LABELS, "positive_class": None}
    for split in ("val", "test"):
        part = table[table["split"] == split]
        metrics[split] = describe_labels(
            truths(part, LABELS, "multilabel"),
            part[[f"p_{name}" for name in LABELS]].to_numpy(),
            label_names=LABELS,
            thresholds=dict.fromkeys(LABELS, 0.4),
            groups=list(part["patient"]),
            n_resamples=50,
        )
    write_json(run / "metrics.json", metrics)
    facts = json.loads((run / "run.json").read_text())
    for split, counts in facts["splits"]["counts"].items():
        present = y[samples["split"] == split] == 1
        counts["classes"] = dict(zip(LABELS, present.sum(axis=0).tolist(), strict=True))
    facts |= {"class_names": LABELS, "operating_points": dict.fromkeys(LABELS, POINT)}
    write_json(run / "run.json", facts)
    opening = json.loads((run / "openings.jsonl").read_text())
    opening["operating_point_sha256"] = dict.fromkeys(LABELS, "ab")
    (run / "openings.jsonl").write_text(json.dumps(opening) + "\n")
    return run


def grade_run(folder: Path) -> Path:
    run = make_run(folder, GRADES, None)
    table = pd.read_csv(run / "predictions.csv")
    columns = [f"p_{name}" for name in GRADES]
    table["predicted"] = [GRADES[k] for k in median_grade(table[columns].to_numpy())]
    table.to_csv(run / "predictions.csv", index=False)
    metrics = json.loads((run / "metrics.json").read_text())
    for split in ("val", "test"):
        part = table[table["split"] == split]
        metrics[split] = describe(
            truths(part, GRADES, "ordinal"),
            part[columns].to_numpy(),
            class_names=GRADES,
            positive=None,
            threshold=None,
            groups=list(part["patient"]),
            ordinal=True,
            n_resamples=50,
        )
    write_json(run / "metrics.json", metrics)
    return run


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return label_run(tmp_path_factory.mktemp("labels"))


@pytest.fixture(scope="module")
def label_page(labels: Path) -> Page:
    return Page(write_report(labels).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def grades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return grade_run(tmp_path_factory.mktemp("grades"))


@pytest.fixture(scope="module")
def grade_page(grades: Path) -> Page:
    return Page(write_report(grades).read_text(encoding="utf-8"))


def test_the_first_page_has_a_row_for_each_label(labels: Path, label_page: Page) -> None:
    test = json.loads((labels / "metrics.json").read_text())["test"]
    assert "Looking for 3 labels, each by itself" in label_page.text
    for name in LABELS:
        found = test["labels"][name]
        (_, alarms), (missed, hits) = found["confusion_matrix"]
        assert f"{name} {hits + missed} of {found['n']}" in label_page.text
        assert f"{hits} of {hits + missed}" in label_page.text
        assert f"{alarms} of {found['n'] - hits - missed}" in label_page.text
    assert "Images of which a label is not known are left out of its row." in label_page.text


def test_every_page_names_the_labels_and_no_class_matrix(label_page: Page) -> None:
    for words in (
        "Mass: missed",
        "Mass: false alarms",
        "gave 3 labels a probability each",
        "threshold of its own (Effusion 0.400; Mass 0.400; Nodule 0.400)",
        "best epoch, calibrations and thresholds",
    ):
        assert words in label_page.text
    assert "Confusion matrix on test" not in label_page.text
    assert not {"None", "nan"} & set(label_page.text.split())


def test_reasons_say_of_which_label(labels: Path) -> None:
    verdict = judge(read_run(labels))
    titles = [reason.title for reason in verdict.reasons]
    assert "No skill is shown: “Mass”" in titles
    assert any("without value or interval: “Nodule”" in title for title in titles)
    assert "AUROC on test is above chance (“Effusion”)" in verdict.fine
    assert "the thresholds were locked before the test was opened" in verdict.fine
    assert "other_threshold" not in {reason.kind for reason in verdict.reasons}


def test_what_holds_for_all_labels_is_said_once(labels: Path) -> None:
    facts = copy.deepcopy(read_run(labels))
    for name in LABELS:
        auroc = {"value": 0.5, "ci_low": 0.4, "ci_high": 0.6, "n": 9}
        facts.metrics["test"]["labels"][name]["auroc"] = auroc
    verdict = _of_kind(judge(facts), "no_skill")
    assert [reason.title for reason in verdict] == ["No skill is shown: every label"]
    assert verdict[0].text.endswith("Likewise Nodule.")


def _of_kind(verdict: Verdict, kind: str) -> list[Any]:
    return [reason for reason in verdict.reasons if reason.kind == kind]


def test_a_label_is_a_run_of_two_classes(labels: Path) -> None:
    facts: RunFacts = read_run(labels)
    mass = facts.about("Mass")
    assert (mass.class_names, mass.positive_class) == (["no Mass", "Mass"], "Mass")
    known = ~facts.predicted("test")["unknown"].str.split("|").map(lambda cell: "Mass" in cell)
    assert list(mass.predicted("test")["path"]) == list(facts.predicted("test")["path"][known])
    assert mass.metrics["test"]["n"] == len(mass.predicted("test"))
    assert mass.run["splits"]["counts"]["test"]["n"] == int(known.sum())
    assert mass.about("Mass") is mass


def test_images_surest_to_be_without_a_label_keep_their_order(labels: Path) -> None:
    facts = copy.deepcopy(read_run(labels))
    facts.predictions["p_Mass"] = np.geomspace(1e-40, 1e-17, len(facts.predictions))
    assert (np.diff(facts.about("Mass").predictions["p_no Mass"]) < 0).all()


def test_the_model_card_gives_each_label(labels: Path, label_page: Page) -> None:
    del label_page  # it is written with the report
    text = (labels / "model" / "README.md").read_text(encoding="utf-8")
    assert "Say of Effusion, Mass and Nodule, of each by itself, whether it is there" in text
    assert "- **Mass**: In " in text


def test_the_first_page_of_grades_counts_how_far_off(grades: Path, grade_page: Page) -> None:
    matrix = np.array(json.loads((grades / "metrics.json").read_text())["test"]["confusion_matrix"])
    apart = np.abs(np.subtract.outer(range(3), range(3)))
    assert "Grading from none to severe" in grade_page.text
    right, near, far = (int(matrix[apart == distance].sum()) for distance in range(3))
    assert f"It gives {right} of {matrix.sum()} images the right grade" in grade_page.text
    assert f"{near} miss by one grade and {far} by more" in grade_page.text
    for words in ("Quadratic kappa", "Mean error in grades", "severe or more", "median grade"):
        assert words in grade_page.text


def test_the_worst_grades_come_first(grade_page: Page) -> None:
    assert grade_page.text.index("2 grades off") < grade_page.text.rindex("1 grade off")


def test_grades_without_skill_are_told_by_kappa(grades: Path) -> None:
    facts = copy.deepcopy(read_run(grades))
    facts.metrics["test"]["quadratic_kappa"] |= {"value": 0.7, "ci_low": -0.1}
    (reason,) = _of_kind(judge(facts), "few_to_show")
    assert reason.title == "Too few patients to show skill"
    facts.metrics["test"]["quadratic_kappa"] |= {"value": 0.3}
    (reason,) = _of_kind(judge(facts), "no_skill")
    assert "the interval holds 0, the value of chance" in reason.text
    error = {"value": 0.9, "ci_low": 0.8, "ci_high": 1.0, "n": 9}
    facts.metrics["test"]["mean_absolute_error"] = error
    facts.metrics["val"]["mean_absolute_error"] = error | {"ci_low": 0.1, "ci_high": 0.2}
    (drop,) = _of_kind(judge(facts), "drop")
    assert drop.title == "Mean error in grades rises from validation to test"


def test_no_epoch_is_said_to_be_chosen_where_the_last_is_kept(grades: Path) -> None:
    facts = copy.deepcopy(read_run(grades))
    facts.plan["keep"] = {"value": "last", "reason": ""}
    facts.plan["members"] = {"value": 3, "reason": ""}
    text = " ".join(map(str, make_answer(facts).paragraphs))
    assert "had its probabilities calibrated on" in text
    assert "was chosen by" not in text
    assert _evidence("building", facts).endswith("no epoch was chosen on validation")
    assert _evidence("ensemble", facts) == "3 networks trained apart, their logits averaged"
    assert "3 such networks, of 1,234,567 parameters together, form an ensemble" in _methods(facts)
    assert "Each was trained from random weights of its own (seed 0)" in _methods(facts)
    assert "Its 3 networks, whose logits are averaged, were trained apart" in _methods(facts)
    assert "see the images" not in _methods(facts)
    facts.plan["reductions"] = {"value": [1, 2], "reason": ""}
    seen = "They see the images: two whole and one at half of their size"
    assert f"{seen}; on reduced images a stage" in _methods(facts) or f"{seen}." in _methods(facts)
    assert seen in _evidence("ensemble", facts)
    facts.plan["reductions"] = {"value": [1, 2, 4], "reason": ""}
    seen = "They see the images: one whole, one at half and one at a quarter of their size"
    assert seen in _methods(facts)
    val = facts.samples["split"] == "val"
    facts = replace(facts, samples=facts.samples.drop(facts.samples.index[val][3:]))
    (few,) = _of_kind(judge(facts), "few_val")
    assert few.title == "There was little to calibrate by"
    assert "another calibration, and so other probabilities" in few.text


def test_the_rate_of_networks_that_begin_at_random_is_told(grades: Path) -> None:
    facts = copy.deepcopy(read_run(grades))
    mixed = {"backbone": "hilum:efficientnet_lite0", "kinds": ["backbone", "network"], "members": 2}
    rates = {"learning_rate": 7e-4, "random_rate": 3.0}
    for name, value in (mixed | rates).items():
        facts.plan[name] = {"value": value, "reason": ""}
    told = "(learning rate 0.0007, and 0.0021 for networks initialised at random, "
    assert told in _methods(facts)
    facts.plan["kinds"]["value"] = ["backbone"]
    assert "(learning rate 0.0007, " in _methods(facts)
    assert "initialised at random, " not in _methods(facts)


def test_a_cnn_is_described_as_it_was_trained(grades: Path) -> None:
    """Whole, reduced alone, both, and beside a backbone that was trained by itself."""
    facts = copy.deepcopy(read_run(grades))
    four = "four stages of 1 block (32, 64, 128 and 256 channels)"
    five = "five stages of 1 block (16, 32, 64, 128 and 256 channels)"
    stem = "on reduced images a stage at full resolution stands in place of the stem that halves"

    def told(**changes: Any) -> str:
        for name, value in changes.items():
            facts.plan[name] = {"value": value, "reason": ""}
        return _methods(facts)

    assert four in told()
    both = told(members=2, reductions=[1, 2])
    assert (four in both, stem in both) == (True, True)
    mixed = {"backbone": "hilum:efficientnet_lite0", "kinds": ["backbone", "network"]}
    reduced = told(**mixed)
    assert five in reduced
    assert (four in reduced, stem in reduced) == (False, False)
    assert "one whole and one at half of their size." in reduced
    assert "residual" not in told(members=1)


def _evidence(item: str, facts: RunFacts) -> str:
    found = EVIDENCE[item](facts)
    assert found is not None
    return found.text


def test_weights_from_elsewhere_are_no_random_ones(grades: Path) -> None:
    facts = copy.deepcopy(read_run(grades))
    assert _evidence("initial_weights", facts) == "Random, seed 0; no pretrained weights"
    found = {"source": "w.pt", "revision": "", "sha256": "ab", "licence": "MIT"}
    facts.run["pretrained"] = {"weights": found, "notes": [], "normalisation": None}
    assert _evidence("initial_weights", facts).startswith("Made elsewhere: w.pt (SHA-256 ab")


def test_methods_name_the_calibration_of_each_label(labels: Path) -> None:
    facts = copy.deepcopy(read_run(labels))
    none = {"method": "none", "temperature": None, "reason": ""}
    parts = {name: dict(none) for name in LABELS}
    facts.run["calibration"] = {"method": "by label", "temperature": None, "labels": parts}
    facts.plan["calibration"] = {"value": "auto", "reason": ""}
    assert "Probabilities were not calibrated." in _methods(facts)
    parts["Mass"]["method"] = "platt"
    assert "Effusion by nothing; Mass by Platt scaling; Nodule by nothing." in _methods(facts)


def _methods(facts: RunFacts) -> str:
    return " ".join(part.text for part in make_methods(facts).paragraphs)


def test_patients_with_several_labels(labels: Path) -> None:
    facts = copy.deepcopy(read_run(labels))
    test = facts.metrics["test"]
    test["patients"] = test | {"n_several": 2, "n_images": test["n"], "pooling": "maximum"}
    facts.run["patient_rules"] = {
        "pooling": {"method": "maximum", "reason": "Why."},
        "points": dict.fromkeys(LABELS, POINT | {"threshold": 0.3}),
    }
    rows = [
        ["P1", "test", 2, "Mass", "Effusion", "Effusion|Mass"],  # right where it is known
        ["P2", "test", 1, "Mass|Nodule", "", "none"],
        ["P3", "test", 1, "none", "Mass", "Effusion"],
    ]
    columns = ["patient", "split", "n_images", "label", "unknown", "predicted"]
    table = pd.DataFrame(rows, columns=columns).assign(**{f"p_{name}": 0.5 for name in LABELS})
    found = make_by_patient(replace(facts, patients=table))
    assert found is not None
    assert [(row.name, row.label, row.measure) for row in found.wrong] == [
        ("P2", "Mass, Nodule", "2"),
        ("P3", "none (not known: Mass)", "1"),
    ]
    assert "Effusion 0.300; Mass 0.300; Nodule 0.300" in " ".join(found.how)
    assert "on average over the labels" in found.summary
    assert "were pooled by the image that speaks most for it" in _methods(facts)
    facts.run["patient_rules"]["pooling"]["method"] = "mean_logits"
    assert "were pooled by the mean of the calibrated logits" in _methods(facts)
    facts.run["calibration"] = {"method": "none"}
    assert "were pooled by the mean of the logits" in _methods(facts)
    assert "By patient, on" in _methods(facts)


def test_a_finding_of_one_label_is_titled_by_it(tmp_path: Path) -> None:
    finding = {"kind": "label_errors", "details": {"label": "Mass"}}
    assert title_of(finding) == "“Mass”: labels that look wrong"
    audit = hilum.audit(_label_table(tmp_path), target="multilabel", classes=("a", "b"))
    page = make_audit_page(audit)
    assert [(row.name, row.n, row.n_patients) for row in page.classes] == [
        ("a", "7", "7"),
        ("b", "6", "6"),
    ]
    assert page.noun == "label"
    assert "labels a and b." in page.paragraphs[0]


def _label_table(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = []
    for i, label in enumerate(["a", "b", "a|b", "none"] * 4):
        if i < 13:
            pixels = rng.integers(0, 256, (12, 12), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
            rows.append({"path": f"{i}.png", "patient": f"P{i}", "label": label})
    pd.DataFrame(rows).to_csv(folder / "t.csv", index=False)
    return folder / "t.csv"


def test_captions_name_grades_and_labels(label_page: Page, grade_page: Page) -> None:
    for page, noun in ((label_page, "label"), (grade_page, "grade against the rest")):
        assert f"ROC curve of each {noun}: sensitivity" in page.text
        assert f"of each {noun}. Dotted: its share in this test." in page.text
    assert "Training images with each label, spread" in label_page.text
    assert "Training images of each grade, spread" in grade_page.text
    assert "got the wrong grade" in grade_page.text
    assert "Share of each grade in each set" in grade_page.text


def test_means_over_other_labels_are_told_apart(labels: Path) -> None:
    facts = copy.deepcopy(read_run(labels))
    test = facts.metrics["test"]
    there = test | {"mean_over": test["mean_over"][:1]}
    facts.external["clinic"] = {"metrics": there, "not_matched": {"here": ["air"], "in_model": []}}
    (drift,) = make_reach(facts).drifts
    assert drift.lines == (
        f"Means here are over {LABELS[0]}, those on test over {join(test['mean_over'])}: do not "
        "hold them against each other, but label by label.",
        "The model does not know air.",
    )
    also = {name: text for name, text, _ in make_answer(facts).also}
    assert also["Other data"].endswith(f"on clinic, the mean over {LABELS[0]}")
    facts.external["clinic"]["metrics"] = test
    assert make_reach(facts).drifts[0].lines == ()


def test_a_smoothed_threshold_is_called_so(labels: Path) -> None:
    facts = copy.deepcopy(read_run(labels))
    assert "smoothed" not in _methods(facts)
    why = "It gives the greatest sum where either class are normally distributed."
    facts.run["operating_points"]["Mass"] = POINT | {"reason": why}
    assert "smoothed for those that bear it by normal distributions of the log-odds" in _methods(
        facts
    )
    assert any(source.startswith("Fluss") for source in make_methods(facts).references)
