"""What a whole run adds to the report, and what an older one leaves out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from markupsafe import Markup
from matplotlib.figure import Figure

from hilum.report import figures, words
from hilum.report.decisions import curve_of, numbers, predictive
from hilum.report.facts import Estimate, read_run
from hilum.report.figures import Curve, Trace
from hilum.report.reach import make_reach
from hilum.report.reason import Reason
from hilum.report.reasons import Verdict, judge
from hilum.report.setup import epochs_kept, make_setup
from reporting import Page, enrich, figure, make_run, page_of, write_json


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("whole"))
    enrich(run)
    return run


@pytest.fixture(scope="module")
def page(whole: Path) -> Page:
    return page_of(whole)


def test_every_link_leads_somewhere(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    targets = {a["href"] for _, a in page.tags if a.get("href")}
    assert {target[1:] for target in targets if target} <= set(ids)
    named = [a["aria-labelledby"] for _, a in page.tags if a.get("aria-labelledby")]
    assert set(named) <= set(ids)


@pytest.mark.parametrize(
    "said",
    [
        "on test they hold it in 91.0 % (90.0–92.0 %)",
        "refer 20.0 % (19.0–21.0 %) of the test images to a person",
        "Low confidence",
        "too few patients",
        "elsewhere",
        "Passed: maps change. Little heat on the border.",
        "They are no evidence of cause.",
        "The size gives it away.",
        "The class can be told by height and width",
        "The image itself, by a small model",
        "Looked for and not found: blank images.",
        "Never looked for:",
    ],
)
def test_what_a_whole_run_says(page: Page, said: str) -> None:
    assert said in page.text


def test_columns_left_out_of_subgroups_are_said(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["test"] |= {"subgroups": [], "subgroup_notes": ["site: it has 40 values."]}
    write_json(run / "metrics.json", metrics)
    assert "Subgroups site: it has 40 values." in page_of(run).text


def test_copies_are_shown_beside_each_other(whole: Path, page: Page) -> None:
    assert "1 pair of copies." in page.text
    bundles = [a for tag, a in page.tags if tag == "div" and a.get("class") == "bundle"]
    assert len(bundles) == 1


def test_an_older_run_lacks_the_sections(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    metrics = json.loads((run / "metrics.json").read_text())
    for split in ("val", "test"):
        for key in ("calibration_slope", "calibration_intercept", "brier_decomposition"):
            metrics[split].pop(key, None)
        for key in ("ppv_npv", "net_benefit", "reliability_diagram", "subgroups"):
            metrics[split].pop(key, None)
    write_json(run / "metrics.json", metrics)
    text = page_of(run).text
    for absent in (
        "Where it holds",
        "Prediction sets",
        "Referral",
        "Calibration slope",
        "Heat map",
        "Facts of the training",
    ):
        assert absent not in text
    assert "Looked for and not found" not in text  # it does not say what it looked for


def test_a_figure_is_read_with_its_reason(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["test"]["net_benefit"] = {"reason": "there is no positive image"}
    write_json(run / "metrics.json", metrics)
    assert "Decision curve" not in page_of(run).text


def test_curves_are_read_in_all_their_forms() -> None:
    x = numbers([0, 1])
    assert curve_of(x, [0.5, None]).y.tolist()[0] == 0.5
    banded = curve_of(x, [figure(0.5), figure(0.6)])
    assert banded.low is not None
    assert banded.low.tolist() == [0.49, 0.59]
    lists = curve_of(x, {"value": [1, 2], "ci_low": [0, 1], "ci_high": [2, 3]})
    assert lists.high is not None
    assert lists.high.tolist() == [2, 3]


def test_no_legend_lies_over_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []

    def keep(figure: Figure, *_: str) -> Markup:
        drawn.append(figure)
        return Markup("")

    monkeypatch.setattr(figures, "to_svg", keep)
    curve = Curve(np.array([0.0, 0.5, 1.0]), np.array([0.9, 0.95, 1.0]))
    names = ("accuracy", "sensitivity", "specificity")
    traces = [Trace(name, "main", curve) for name in names]
    figures.draw_traces("x", traces, x_label="Share", y_label="On those kept", alt="")
    (axes,) = drawn[0].axes
    drawn[0].draw_without_rendering()
    legend = axes.get_legend()
    assert legend is not None
    box = legend.get_window_extent()
    assert box.y0 >= axes.get_window_extent().y1
    assert box.y1 <= drawn[0].bbox.y1
    assert [text.get_text() for text in legend.get_texts()] == list(names)
    assert all(text.get_window_extent().x1 <= drawn[0].bbox.x1 for text in legend.get_texts())


def test_a_run_is_repeated_by_its_plan_as_it_was_begun(whole: Path) -> None:
    facts = read_run(whole)
    for command, said in (
        (["hilum", "train", "data", "--out", "a"], f'--recipe "{whole}"'),
        (["hilum.train"], f"recipe={str(whole)!r}"),
        (["hilum", "demo", "--out", "demo"], ""),
    ):
        facts.run["command"] = command
        assert make_setup(facts).same_plan == said


def test_numbers_below_nought_and_near_one_read_well() -> None:
    below = Estimate(-2.987, -3.553, -2.421, 10)
    assert words.estimate(below, percent=False) == "−2.987"
    assert words.interval(below, percent=False) == "−3.553 to −2.421"
    rows = [
        {"prevalence": 0.01, "ppv": figure(0.05), "npv": figure(0.99952, 0.9991, 0.9998)},
        {"prevalence": 0.5, "ppv": figure(0.9), "npv": figure(0.9)},
    ]
    rows.append({"prevalence": 0.5, "ppv": figure(1.0, 0.003, 1.0), "npv": figure(0.9)})
    rows.append({"prevalence": 0.5, "ppv": figure(1.0, 0.538, 1.0), "npv": figure(0.9)})
    rare, common, vague, least = predictive(rows)
    assert least.in_words == "54 to 100 of 100 alarms are true"
    assert vague.in_words == "too uncertain to tell"
    assert (rare.npv, rare.npv_bounds) == ("99.95\u202f%", "99.91–99.98\u202f%")
    assert rare.in_words == "1 of 20 alarms is true"
    assert common.npv == "90.0\u202f%"
    assert common.in_words == "90 of 100 alarms are true"


def test_the_epoch_of_all_networks_is_written_once() -> None:
    assert epochs_kept([17, 17]) == "17, of each of 2 networks"
    assert epochs_kept([17]) == "17"
    assert epochs_kept([12, 17]) == "12, 17"


def test_heaviest_reasons_are_unfolded_and_all_are_named() -> None:
    reasons = tuple(Reason("drop", f"Reason {i}", "word " * 60) for i in range(12))
    shown = Verdict(reasons, ()).shown
    assert [reason for reason, _ in shown] == list(reasons)
    is_open = [is_open for _, is_open in shown]
    assert is_open == sorted(is_open, reverse=True)
    assert 3 <= sum(is_open) < 12


def test_page_stays_light(whole: Path, page: Page) -> None:
    assert (whole / "report.html").stat().st_size < 2_000_000
    assert not re.search(r"https?://", (whole / "report.html").read_text(encoding="utf-8"))


def test_found_in_order_is_said(whole: Path) -> None:
    fine = judge(read_run(whole)).fine
    assert "heat maps change when the weights are randomised" in fine
    assert any(line.startswith("not much heat lies on the border (") for line in fine)
    assert "prediction sets hold the truth as often as promised" in fine


def test_robustness_tells_where_the_threshold_has_seen_the_changes(whole: Path) -> None:
    facts = read_run(whole)
    seen = " The middle degree of each change had helped to choose the threshold: sensitivity and "
    assert seen not in make_reach(facts).robustness_key
    facts.run["operating_point"] |= {"rule": "robust"}
    assert seen in make_reach(facts).robustness_key
