"""The report: true to the run folder, whole in one file, safe with any name."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hilum.errors import RunError
from hilum.referral import UNLIKE
from hilum.report import write_report
from hilum.report.answer import make_answer
from hilum.report.cards import model_card, to_markdown
from hilum.report.checks_of_figures import one_answers
from hilum.report.facts import RunFacts, read_run
from hilum.report.gallery import Album
from hilum.report.mistakes import by_cost
from hilum.report.reason import WEIGHTS
from hilum.report.reasons import judge
from hilum.report.setup import GROUPS, value_text
from hilum.report.words import TERMS, duration, moment, rule
from hilum.settings import Settings
from reporting import Page, figure, make_run, page_of, write_json


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("binary"))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    names = [f"disease {k}" for k in range(8)]
    return make_run(tmp_path_factory.mktemp("many"), names, None)


@pytest.fixture(scope="module")
def clean(binary: Path) -> RunFacts:
    """Facts against which nothing is to be said: sharp, equal and well calibrated."""
    facts = copy.deepcopy(read_run(binary))
    for split in ("val", "test"):
        for term in TERMS:
            value = 0.95 if term.rises else 0.02
            facts.metrics[split][term.key] = figure(value, value - 0.01, value + 0.01)
        facts.metrics[split]["calibration_slope"] = figure(1.1, 0.9, 1.3)
    return facts


# -- the file --------------------------------------------------------------------------------------


def test_two_classes_give_one_whole_file(binary: Path) -> None:
    path = write_report(binary)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert path == binary / "report.html"
    assert not list(binary.glob(".*.tmp"))
    assert "http://" not in text
    assert "https://" not in text
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "action", "data"):
            target = attributes.get(name)
            assert target is None or target.startswith(("data:image/jpeg;base64,", "#")), (
                tag,
                name,
            )
    assert [tag for tag, _ in page.tags if tag in ("link", "iframe", "object", "form")] == []
    assert "Noted while reading 2 files were left aside." in page.text


def test_many_classes_give_one_whole_file(many: Path) -> None:
    page = page_of(many)
    assert "Telling 8 classes apart" in page.text
    assert "no threshold was chosen" in page.text
    # One ROC and one precision-recall curve a class, one of calibration, two of training.
    assert sum(tag == "svg" for tag, _ in page.tags) == 8 + 8 + 1 + 2


def test_the_answer_tells_that_rare_classes_are_called_by_their_share(tmp_path: Path) -> None:
    run = make_run(tmp_path, ["a", "b", "c"], None)
    told = "once each is divided by its share of the training images (c 0.02, b 0.08, a 0.9)"
    assert told not in page_of(run).text
    facts = json.loads((run / "run.json").read_text())
    facts["class_shares"] = [0.9, 0.08, 0.02]
    (run / "run.json").write_text(json.dumps(facts))
    assert told in page_of(run).text


def test_same_run_gives_same_bytes(binary: Path) -> None:
    first = write_report(binary).read_bytes()
    assert write_report(binary).read_bytes() == first


def test_ids_are_unique_and_plots_speak(binary: Path) -> None:
    page = page_of(binary)
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    used = {
        a["href"][1:] for _, a in page.tags if (a.get("href") or "").startswith("#") and a["href"]
    }
    assert used <= set(ids)
    plots = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(plots) == 6
    assert all(plot["role"] == "img" and plot["aria-label"] for plot in plots)
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    assert "False alarms (1 − specificity)" in page.text  # text of a plot stays text


def test_plots_take_the_colours_of_thepage_of(binary: Path) -> None:
    text = write_report(binary).read_text(encoding="utf-8")
    plots = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert "var(--accent)" in plots
    assert set(re.findall(r"(?:fill|stroke): (#\w+)", plots)) == set()


def test_only_our_script_may_run(binary: Path) -> None:
    text = write_report(binary).read_text(encoding="utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;" in text or f"'sha256-{digest}'" in text


def test_names_are_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>$x_1$"
    run = make_run(
        tmp_path, (evil, 'b"><img src=x>&amp;'), evil, suffix="<img src=x onerror=alert(1)>.png"
    )
    page = page_of(run)
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert all(a["src"] != "x" for tag, a in page.tags if tag == "img")
    assert f"Telling {evil} from" in page.text
    assert "onerror=alert(1)>.png" in page.text
    assert "Enough for <three> tiny images." in page.text


# -- what it says ----------------------------------------------------------------------------------


def test_first_lines_count_as_the_table_does(binary: Path) -> None:
    table = pd.read_csv(binary / "predictions.csv")
    test = table[table["split"] == "test"]
    found = int(((test["label"] == "ill") & (test["p_ill"] >= 0.5)).sum())
    alarms = int(((test["label"] == "well") & (test["p_ill"] >= 0.5)).sum())
    text = page_of(binary).text
    assert f"It finds {found} of 40 images labelled ill and misses {40 - found} (" in text
    assert f"It raises a false alarm in {alarms} of 40 labelled well (" in text
    assert (
        "It learnt from 24 images of 12 patients, had its threshold set on 80 images of 40 "
        "patients, and was tested on 80 images of 40 patients, none of whom had been used for "
        "anything before."
    ) in text
    assert (
        "This threshold was locked on 2 January 2026, 03:04 UTC by Youden's rule (the largest sum "
        "of sensitivity and specificity), on 80 validation images, before the test "
        "images were opened."
    ) in text


def test_every_test_image_is_in_the_table(many: Path) -> None:
    page, table = page_of(many), pd.read_csv(many / "predictions.csv")
    for path in table["path"][table["split"] == "test"]:
        assert path in page.text
    n_wrong = int((table["label"] != table["predicted"])[table["split"] == "test"].sum())
    assert f"{n_wrong} of 320 test images got the wrong class" in page.text


def test_missed_disease_comes_first(binary: Path) -> None:
    rows = read_run(binary).predicted("test").to_dict("records")

    def cost(row: dict[Any, Any]) -> tuple[int, float, str]:
        """Slow and plain: 0 missed, 1 false alarm, 2 right; the surest first."""
        if row["label"] == row["predicted"]:
            return 2, 0.0, row["path"]
        kind = 0 if row["label"] == "ill" else 1
        return kind, -row[f"p_{row['predicted']}"], row["path"]

    expected = [row["path"] for row in sorted(rows, key=cost)]
    assert list(by_cost(read_run(binary))["path"]) == expected


def test_surest_error_comes_first_with_many_classes(many: Path) -> None:
    table = by_cost(read_run(many))
    wrong = (table["label"] != table["predicted"]).to_numpy()
    n_wrong = int(wrong.sum())
    assert wrong[:n_wrong].all()
    sure = [row[f"p_{row['predicted']}"] for row in table[:n_wrong].to_dict("records")]
    assert sure == sorted(sure, reverse=True)


def test_figure_that_cannot_be_estimated_says_why(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    metrics = json.loads((run / "metrics.json").read_text())
    nothing = {"value": None, "ci_low": None, "ci_high": None, "n": 0, "reason": "no ill image"}
    metrics["test"]["auroc"] = metrics["test"]["classes"]["ill"]["auroc"] = nothing
    write_json(run / "metrics.json", metrics)
    text = page_of(run).text
    assert "not estimable: no ill image" in text
    assert "1 figure on test without value or interval" in text


def test_test_split_of_one_class(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    table = pd.read_csv(run / "predictions.csv")
    table = table[(table["split"] == "val") | (table["label"] == "well")]
    table.to_csv(run / "predictions.csv", index=False)
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["test"]["confusion_matrix"][0] = [0, 0]
    write_json(run / "metrics.json", metrics)
    text = page_of(run).text
    assert "The test images hold none labelled ill" in text
    assert "the test images are all of one class" in text


def test_unknown_patients_are_said_on_the_first_page(tmp_path: Path) -> None:
    run = make_run(tmp_path, with_patients=False)
    text = page_of(run).text
    assert "Which patients the images come from is not known" in text
    assert "80 images (patients unknown)" in text
    assert text.index("Patients are unknown") < text.index("From files to patients")


def test_gone_images_are_noted(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    for path in (tmp_path / "data").rglob("*.png"):
        path.unlink()
    text = page_of(run).text
    assert "12 images could not be shown. The first: class0/train0.png: " in text


def test_npz_images_are_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    images = np.zeros((80, 8, 8), np.uint8)
    labels = np.zeros((80, 1), np.uint8)
    arrays = {f"{split}_{what}": array for split in ("train", "val", "test")
              for what, array in (("images", images), ("labels", labels))}  # fmt: skip
    np.savez(tmp_path / "data.npz", **arrays)  # type: ignore[arg-type]
    facts = json.loads((run / "run.json").read_text())
    facts["data"] |= {"path": str(tmp_path / "data.npz"), "kind": "npz"}
    write_json(run / "run.json", facts)
    for name in ("samples.csv", "predictions.csv"):
        table = pd.read_csv(run / name, keep_default_na=False)
        table["path"] = table["split"] + "/" + table.groupby("split").cumcount().astype(str)
        table.to_csv(run / name, index=False)
    page = page_of(run)
    assert "could not be shown" not in page.text
    assert sum(tag == "img" for tag, _ in page.tags) > 12


def test_thumbnails_are_small_and_keep_their_shape(tmp_path: Path) -> None:
    Image.new("RGB", (640, 320), (200, 30, 30)).save(tmp_path / "wide.png")
    image = Album(tmp_path, "folder").thumbnail("wide.png")
    assert image is not None
    assert (image.width, image.height) == (160, 80)
    assert len(image.uri) < 4000


# -- reasons for distrust --------------------------------------------------------------------------

Change = Callable[[RunFacts], None]


def _set(**values: Any) -> Change:
    return lambda facts: facts.run.update(values)


def _patients(**values: Any) -> Change:
    return lambda facts: facts.run["patients"].update(values)


def _figure(split: str, key: str, value: float, low: float, high: float) -> Change:
    figure = {"value": value, "ci_low": low, "ci_high": high, "n": 80}
    return lambda facts: facts.metrics[split].update({key: figure})


def _sample(row: int | slice, **values: Any) -> Change:
    def change(facts: RunFacts) -> None:
        for name, value in values.items():
            facts.samples.loc[row, name] = value

    return change


def _unpredict(row: int) -> Change:
    def change(facts: RunFacts) -> None:
        facts.predictions.loc[row, "split"] = ""

    return change


def _opening(**values: Any) -> Change:
    return lambda facts: facts.openings.append({**facts.openings[0], **values})


def _more(**values: Any) -> Change:
    """Add what newer runs hold to the figures on test."""
    return lambda facts: facts.metrics["test"].update(copy.deepcopy(values))


def _fragile(facts: RunFacts) -> None:
    points = [{"level": 0, "auroc": figure(0.95, 0.94, 0.96)}, {"level": 1, "auroc": figure(0.8)}]
    facts.metrics["robustness"] = {"noise": points}


def _heat(key: str, **values: Any) -> Change:
    return lambda facts: facts.run.update(explanation={key: values})


NAMESAKES = {"seen": {"n_patients_of_equal_name": 2}, "metrics": {"auroc": figure(0.95)}}
SUBGROUP = {"column": "sex", "group": "F", "n": 40, "n_patients": 20, "auroc": figure(0.8)}


def _finding(severity: str) -> Change:
    finding = {"kind": "shortcut", "severity": severity, "count": 1, "message": "A marker tells."}
    return _set(findings=[{**finding, "examples": ["a.png"]}])


def _copies(*paths: str) -> Change:
    finding = {"kind": "near_duplicates", "severity": "medium", "count": 1, "message": "Copies."}
    return _set(findings=[{**finding, "examples": [], "paths": [list(paths)]}])


CASES = (
    ("no_skill", _figure("test", "auroc", 0.55, 0.49, 0.6)),
    ("few_to_show", _figure("test", "auroc", 0.85, 0.4, 0.99)),
    ("one_answer", _more(confusion_matrix=[[0, 40], [0, 40]])),
    ("overlap", _sample(0, patient="P0test0")),
    ("opened_before_lock", lambda facts: facts.openings[0].update(when="2026-01-01T00:00:00")),
    ("other_threshold", _opening(operating_point_sha256="cd")),
    ("patients_unknown", _patients(source="none", n_patients=None)),
    ("predictions_incomplete", _unpredict(159)),
    ("duplicates_across_splits", _sample(0, sha256="sha60")),
    ("copies_across_splits", _copies("class0/train0.png", "class0/test0.png")),
    ("finding_high", _finding("high")),
    ("no_opening", lambda facts: facts.openings.clear()),
    ("label_conflicts", _sample(0, sha256="sha92")),
    ("patients_partly_unknown", _patients(n_without=3)),
    ("opened_again", _opening(purpose="to report again")),
    ("drop", _figure("test", "specificity", 0.8, 0.75, 0.85)),
    ("finding_medium", _finding("medium")),
    ("calibration", _figure("test", "ece", 0.12, 0.02, 0.2)),
    ("prevalence", lambda f: f.run["splits"]["counts"]["train"]["classes"].update(ill=1, well=23)),
    ("many_excluded", _sample(slice(0, 20), excluded=True, split="")),
    ("some_excluded", _sample(0, excluded=True, split="", reason="truncated")),
    ("wide_interval", _figure("test", "sensitivity", 0.95, 0.84, 0.96)),
    ("few_val", _sample(slice(12, 40), split="train")),
    ("missing_class", lambda f: f.run["splits"]["counts"]["test"]["classes"].update(ill=0)),
    ("small_class", lambda f: f.run["splits"]["counts"]["test"]["classes"].update(ill=29)),
    ("patients_guessed", _patients(source="known_pattern")),
    ("drawn_test", lambda facts: facts.samples.__setitem__("given_split", "")),
    ("external_drop", lambda facts: facts.external.update(there={"auroc": figure(0.8)})),
    ("equal_names", lambda facts: facts.external.update(ward=NAMESAKES)),
    ("subgroup_gap", _more(subgroups=[SUBGROUP])),
    ("calibration_slope", _more(calibration_slope=figure(0.5, 0.4, 0.6))),
    ("fragile", _fragile),
    ("heat_maps_fail", _heat("randomisation_check", passed=False)),
    ("heat_outside", _heat("border", heat_share=0.5, area_share=0.2)),
    ("coverage", _more(conformal={"coverage_wanted": 0.95, "coverage": figure(0.8)})),
    ("unlike_training", _more(referral={"reasons": {UNLIKE: figure(0.2)}})),
    ("much_referred", _more(referral={"share_referred": figure(0.4)})),
)


@pytest.mark.parametrize(("kind", "change"), CASES, ids=[kind for kind, _ in CASES])
def test_each_reason_shows_when_it_applies(clean: RunFacts, kind: str, change: Change) -> None:
    facts = copy.deepcopy(clean)
    change(facts)
    verdict = judge(facts)
    assert kind in [reason.kind for reason in verdict.reasons]
    weights = [reason.weight for reason in verdict.reasons]
    assert weights == sorted(weights, reverse=True)


def test_copies_that_a_new_draw_has_brought_together_are_no_reason(clean: RunFacts) -> None:
    """The audit saw them across the splits that came with the data, which were not kept."""
    facts = copy.deepcopy(clean)
    _copies("class0/train0.png", "class0/train1.png")(facts)
    (finding,) = facts.findings
    finding |= {"severity": "high", "details": {"n_across_splits": 1, "n_across_classes": 0}}
    verdict = judge(facts)
    assert "finding_high" not in [reason.kind for reason in verdict.reasons]
    assert "no copies of an image in two splits" in verdict.fine
    # Labels that contradict one another are in doubt wherever the copies lie.
    finding["details"]["n_across_classes"] = 1
    assert "finding_high" in [reason.kind for reason in judge(facts).reasons]


def test_a_falling_slope_is_not_called_extreme(clean: RunFacts) -> None:
    facts = copy.deepcopy(clean)
    _more(calibration_slope=figure(-0.4, -0.6, -0.2))(facts)
    (reason,) = [each for each in judge(facts).reasons if each.kind == "calibration_slope"]
    assert reason.title == "Surer answers are not more often right on test"


def test_what_so_few_images_cannot_tell_is_not_found_in_order(clean: RunFacts) -> None:
    facts = copy.deepcopy(clean)
    as_frequent = "classes are as frequent in test as in training"
    assert as_frequent in judge(facts).fine
    # A spread of 0.18 from eight test images: chance alone may part shares by 0.46.
    facts.samples.loc[facts.used("test").index[8:], "split"] = "train"
    facts.run["splits"]["counts"]["test"] = {"n": 8, "classes": {"ill": 0, "well": 8}}
    verdict = judge(facts)
    assert as_frequent not in verdict.fine
    assert any(line.startswith("whether classes are as frequent") for line in verdict.unchecked)
    (missing,) = [reason for reason in verdict.reasons if reason.kind == "missing_class"]
    assert missing.title == "No test image is labelled ill"
    assert missing.is_serious


def test_a_class_that_is_mostly_missed_is_named(clean: RunFacts, many: Path) -> None:
    missed = {"sensitivity": figure(0.3, 0.2, 0.45)}
    facts = read_run(many)
    name = facts.class_names[1]
    facts.metrics["test"]["classes"][name] |= missed
    (reason,) = [reason for reason in judge(facts).reasons if reason.kind == "missed_class"]
    assert reason.title == f"Most images labelled “{name}” are missed"
    assert f"“{name}” 30.0\u202f% (20.0–45.0\u202f%)" in reason.text
    # Of two classes that is what the locked threshold was chosen to trade.
    both = copy.deepcopy(clean)
    both.metrics["test"]["classes"] = {"well": missed}
    assert "missed_class" not in [reason.kind for reason in judge(both).reasons]


def test_coverage_is_held_against_the_chance_of_test_and_of_validation(clean: RunFacts) -> None:
    facts = copy.deepcopy(clean)
    sets = {"coverage_wanted": 0.95, "coverage": figure(0.9, 0.86, 0.94)}
    facts.metrics["test"]["conformal"] = sets
    # Thresholds of 20 patients a class may cover 0.12 less by chance, of both classes 0.08.
    verdict = judge(facts)
    assert verdict.reasons == ()
    assert (
        "whether prediction sets hold the truth as often as promised (chance in test and "
        "validation patients may explain what is missing)"
    ) in verdict.unchecked
    sets["coverage"] = figure(0.85, 0.81, 0.89)
    (reason,) = judge(facts).reasons
    assert reason.text == (
        "In 85.0\u202f% (81.0–89.0\u202f%) of the test images, where 95\u202f% was wanted. That is "
        "more than chance explains: the test images may differ from the validation images."
    )


def test_patients_of_equal_name_are_told_wherever_figures_on_other_data_are(
    clean: RunFacts,
) -> None:
    facts = copy.deepcopy(clean)
    facts.external["ward"] = NAMESAKES
    alike = "2 patients there bear the name of a patient of the run"
    (reason,) = judge(facts).reasons
    assert reason.title == "Patients of ward may be patients of this run"
    assert reason.text.startswith(f"ward: {alike}. If they are the same people, ")
    (line,) = [text for _, text, where in make_answer(facts).also if where == "external"]
    assert line.endswith(f"on ward; too good if people are the same: {alike}")
    assert f"0.950 (0.940–0.960); {alike}" in to_markdown(model_card(facts), "a run")


def test_one_answer_to_all_is_named_of_patients_too(clean: RunFacts) -> None:
    facts = copy.deepcopy(clean)
    facts.metrics["test"]["patients"] = {"confusion_matrix": [[20, 0], [20, 0]]}
    titles = [reason.title for reason in judge(facts).reasons]
    assert titles == ["It answers “ill” to every test patient"]
    facts.metrics["test"]["patients"] = {"confusion_matrix": [[20, 0], [0, 0]]}
    assert judge(facts).reasons == ()  # the truth is one, too


def test_one_answer_is_named_of_each_label() -> None:
    labels = {
        "mass": {"confusion_matrix": [[9, 0], [3, 0]]},
        "air": {"confusion_matrix": [[9, 1], [0, 2]]},
    }
    assert one_answers({"labels": labels}, ["mass", "air"]) == ["“no mass”"]


def test_every_reason_has_a_case() -> None:
    apart = {"not_estimable", "missed_class"}  # have tests of their own
    assert set(WEIGHTS) - {kind for kind, _ in CASES} == apart


def test_clean_run_has_no_reason(clean: RunFacts) -> None:
    verdict = judge(clean)
    assert verdict.reasons == ()
    assert verdict.fine == (
        "no patient is in two splits",
        "patients come from the column “patient”",
        "no identical files in two splits",
        "the threshold was locked before the test was opened",
        "the test split was opened once",
        "every test image has exactly one prediction",
        "AUROC on test is above chance",
        "no main figure falls from validation to test beyond its interval",
        "the intervals of the main figures are narrower than 10 points",
        "the calibration error on test is small",
        "classes are as frequent in test as in training",
        "every file could be read",
        "the audit of the files found nothing else of weight",
    )


def test_a_check_that_could_not_be_made_is_not_passed(clean: RunFacts) -> None:
    facts = copy.deepcopy(clean)
    bare = {
        "value": 0.9,
        "ci_low": None,
        "ci_high": None,
        "n": 8,
        "reason": "fewer than 3 patients",
    }
    nothing = bare | {"value": None, "reason": "no positive image"}
    for split in ("val", "test"):
        for name in ("auroc", "sensitivity", "specificity", "balanced_accuracy"):
            facts.metrics[split][name] = bare
    facts.metrics["test"] |= {
        "ece": nothing,
        "subgroups": [SUBGROUP | dict.fromkeys(("auroc", "sensitivity"), nothing)],
        "conformal": {"coverage_wanted": 0.9, "coverage": nothing},
    }
    facts.metrics["robustness"] = {"noise": [{"level": level, "auroc": bare} for level in (0, 1)]}
    facts.external["ward"] = {"metrics": {"auroc": nothing}}
    facts.run["explanation"] = {
        "randomisation_check": {"passed": None, "reason": "The maps do not vary."},
        "border": {"heat_share": None, "area_share": None, "reason": "No map has any heat."},
    }
    for split in ("train", "test"):
        facts.run["splits"]["counts"][split]["n"] = 0
    verdict = judge(facts)
    assert verdict.fine == (
        "no patient is in two splits",
        "patients come from the column “patient”",
        "no identical files in two splits",
        "the threshold was locked before the test was opened",
        "the test split was opened once",
        "every test image has exactly one prediction",
        "every file could be read",
        "the audit of the files found nothing else of weight",
    )
    assert verdict.unchecked == (
        "whether AUROC on test is above chance (fewer than 3 patients)",
        "whether a main figure falls from validation to test (the figures have no intervals)",
        "how wide the intervals of the main figures are (there are none)",
        "calibration error on test (no positive image)",
        "whether classes are as frequent in test as in training (a split is empty)",
        "whether AUROC falls on ward (fewer than 3 patients)",
        "whether a subgroup is worse than the whole (too few patients in each)",
        "whether changes of the images lower a main figure (the figures have no intervals)",
        "whether heat maps change when the weights are randomised (The maps do not vary)",
        "whether heat gathers on the border (No map has any heat)",
        "whether prediction sets hold the truth as often as promised (no positive image)",
    )


def test_nothing_can_fall_from_chance(clean: RunFacts) -> None:
    facts = copy.deepcopy(clean)
    facts.metrics["val"]["auroc"] = figure(0.52, 0.4, 0.64)
    verdict = judge(facts)
    assert not any("falls from validation" in line for line in verdict.fine)
    assert verdict.unchecked == (
        "whether a main figure falls from validation to test (on validation it may be at chance)",
    )
    facts.metrics["test"]["sensitivity"] = figure(0.3, 0.2, 0.4)  # what falls all the same is said
    assert "drop" in [reason.kind for reason in judge(facts).reasons]


def test_what_the_audit_could_not_look_for_is_not_checked(clean: RunFacts) -> None:
    facts = copy.deepcopy(clean)
    facts.run["not_looked_for"] = {"label_errors": "there are 20 images", "prevalence_shift": "x"}
    # Classes of the splits as used are checked here, whatever the audit could do.
    assert judge(facts).unchecked == ("labels that look wrong (there are 20 images)",)


def test_what_could_not_be_checked_is_on_the_first_page(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["test"]["ece"] = {"value": None, "n": 0, "reason": "no image"}
    write_json(run / "metrics.json", metrics)
    assert "Could not be checked: calibration error on test (no image)." in page_of(run).text


def test_overlap_is_in_the_first_lines(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    facts = json.loads((run / "run.json").read_text())
    facts["splits"] |= {
        "overlap": {"n_patients": 2, "examples": ["A", "B"], "splits": ["train", "test"]},
        "allowed_overlap": True,
    }
    write_json(run / "run.json", facts)
    text = page_of(run).text
    assert "but 2 patients are in both training and test." in text
    assert "This was allowed by hand (--allow-patient-overlap). A, B" in text
    assert "none of whom" not in text


def test_own_check_goes_before_the_audit(clean: RunFacts) -> None:
    """The audit sees the split that came with the data; what counts is the split that was used."""
    facts = copy.deepcopy(clean)
    finding = {"kind": "patients_across_splits", "severity": "high", "count": 1, "message": "x"}
    facts.run["findings"] = [finding]
    assert judge(facts).reasons == ()
    _sample(0, patient="P0test0")(facts)
    assert [reason.kind for reason in judge(facts).reasons] == ["overlap"]


def test_copies_within_a_split_are_passed_on_as_found(clean: RunFacts) -> None:
    facts = copy.deepcopy(clean)
    _copies("class0/train0.png", "class0/train1.png")(facts)
    verdict = judge(facts)
    assert [reason.kind for reason in verdict.reasons] == ["finding_medium"]
    assert "no copies of an image in two splits" in verdict.fine


def test_many_classes_have_no_threshold_to_doubt(many: Path) -> None:
    facts = read_run(many)
    facts.samples.loc[12:40, "split"] = "train"
    (reason,) = [reason for reason in judge(facts).reasons if reason.kind == "few_val"]
    assert reason.title == "There was little to choose the epoch by"
    assert "threshold" not in reason.text


def test_names_of_classes_are_told_from_numbers(tmp_path: Path) -> None:
    text = page_of(make_run(tmp_path, ("0", "1", "2"), None)).text
    assert "tells 3 classes apart: “0”, “1” and “2”." in text
    assert re.search(r"It knows “\d” best \(\d+ of 40\) and “\d” worst", text)


@pytest.mark.parametrize(
    ("share", "said"), [(0.1, "If rarer"), (0.9, "If more common"), (0.5, "As common as here")]
)
def test_prevalence_is_held_against_the_test(binary: Path, share: float, said: str) -> None:
    facts = read_run(binary)
    row = {"prevalence": share, "ppv": figure(0.5), "npv": figure(0.5), "wanted": True}
    facts.metrics["test"]["ppv_npv"] = [row]
    assert (said, "predictive") in [(name, anchor) for name, _, anchor in make_answer(facts).also]


def test_value_without_interval_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["test"]["auroc"] |= {"ci_low": None, "ci_high": None, "reason": "too few patients"}
    write_json(run / "metrics.json", metrics)
    text = page_of(run).text
    assert "no interval" in text
    assert "AUROC (no interval: too few patients)" in text


# -- a run that cannot be reported -----------------------------------------------------------------


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError) as error:
        write_report(tmp_path / "nothing")
    assert str(error.value) == (
        f"{tmp_path / 'nothing'} is not a run folder. Give the folder that training wrote to."
    )


def test_unfinished_run(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"status": "trained"})
    with pytest.raises(RunError) as error:
        write_report(tmp_path)
    assert str(error.value) == (
        f"{tmp_path} is not finished: its status is 'trained'. "
        f"Finish it with: hilum resume {tmp_path}"
    )


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("plan.json", None, "is missing, so no report can be written."),
        ("metrics.json", "{}", "cannot be used: it has no figures of the val split."),
        ("metrics.json", "[]", "cannot be used: it holds no object."),
        ("predictions.csv", "path\n", "cannot be used: the column 'patient' is missing."),
        ("openings.jsonl", "{", "cannot be used: "),
    ],
)
def test_damaged_run(tmp_path: Path, name: str, content: str | None, problem: str) -> None:
    run = make_run(tmp_path)
    (run / name).unlink()
    if content is not None:
        (run / name).write_text(content, encoding="utf-8")
    with pytest.raises(RunError) as error:
        write_report(run)
    assert str(error.value).startswith(f"{run / name} {problem}")
    assert str(error.value).endswith("Train again into a new folder.")
    assert not (run / "report.html").exists()


# -- words -----------------------------------------------------------------------------------------


def test_every_setting_has_its_place() -> None:
    placed = [key for _, keys in GROUPS for key in keys]
    assert sorted(placed) == sorted(Settings.model_fields)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        (True, "yes"),
        (0.0003, "0.0003"),
        ([32, 64], "32, 64"),
        ({"uint16": [0, 4095.0]}, "uint16: 0, 4095"),
        ("one_cycle", "one cycle"),
    ],
)
def test_values_read_well(value: Any, text: str) -> None:
    assert value_text(value) == text


def test_times_and_rules_read_well() -> None:
    assert moment("2026-11-21T11:42:00+01:00") == "21 November 2026, 10:42 UTC"
    assert moment("someday") == "someday"
    assert [duration(s) for s in (0.2, 48, 720, 12000)] == [
        "1 second", "48 seconds", "12 minutes", "3\u202fh 20\u202fmin",
    ]  # fmt: skip
    assert rule("sensitivity:0.95") == "the rule “sensitivity of at least 0.95 on validation”"
