"""Cards, methods and checklists: drawn from the run, blank where only a person knows."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import numpy as np
import pytest

from hilum.dataset import RESERVED
from hilum.report import write_report
from hilum.report.cards import BLANK, data_card, model_card, to_markdown
from hilum.report.checklists import CHECKLISTS, fill_checklists
from hilum.report.checklists.evidence import EVIDENCE
from hilum.report.facts import RunFacts, read_run
from hilum.report.methods import SOURCES, make_methods
from hilum.report.network_words import network, selection
from reporting import enrich, make_run, page_of, write_json


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> RunFacts:
    return read_run(make_run(tmp_path_factory.mktemp("plain")))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFacts:
    run = make_run(tmp_path_factory.mktemp("whole"))
    enrich(run)
    return read_run(run)


# -- checklists ------------------------------------------------------------------------------------


def test_checklists_have_the_published_numbers_of_items() -> None:
    sizes = {checklist.key: checklist.items for checklist in CHECKLISTS}
    assert {key: len(items) for key, items in sizes.items()} == {
        "claim": 44, "tripod": 52, "stard": 48,
    }  # fmt: skip
    whole_numbers = {
        key: {int(re.sub(r"\D", "", item.number)) for item in items} for key, items in sizes.items()
    }
    assert whole_numbers == {
        "claim": set(range(1, 45)), "tripod": set(range(1, 28)), "stard": set(range(1, 41)),
    }  # fmt: skip


def test_every_piece_of_evidence_is_used_and_exists() -> None:
    used = {item.evidence for checklist in CHECKLISTS for item in checklist.items} - {None}
    assert used == set(EVIDENCE)


def test_methods_tell_how_the_input_size_was_chosen(whole: RunFacts) -> None:
    facts = copy.deepcopy(whole)

    def text() -> str:
        return " ".join(paragraph.text for paragraph in make_methods(facts).paragraphs)

    assert "input size was chosen" not in text()
    untried: dict[str, object] = {
        "needed": None,
        "reason": "Larger inputs were not tried.",
        "losses": {},
    }
    facts.run["resolution"] = untried
    assert "input size was chosen" not in text()
    losses = {"128": 0.7, "256": 0.4}
    facts.run["resolution"] = {"needed": 256, "reason": "256 show more.", "losses": losses}
    assert "The input size was chosen before training, on training images. 256 show more." in text()


def test_methods_name_the_rules_that_referred_test_images(whole: RunFacts) -> None:
    facts = copy.deepcopy(whole)
    text = " ".join(paragraph.text for paragraph in make_methods(facts).paragraphs)
    assert "test images whose answer was not confident or that several answers fitted were" in text
    for reason in facts.metrics["test"]["referral"]["reasons"].values():
        reason["value"] = 0.0
    text = " ".join(paragraph.text for paragraph in make_methods(facts).paragraphs)
    assert "no test image was referred to a person" in text
    assert "not confident" not in text


def test_what_only_a_person_knows_is_blank(whole: RunFacts) -> None:
    for filled in fill_checklists(whole):
        blank = {item.topic for item, evidence in filled.rows if evidence is None}
        for word in ("Funding", "Registration", "registration", "Ethic", "annotated"):
            for item, evidence in filled.rows:
                if word in item.topic and "fairness" not in item.topic:
                    assert evidence is None, item
        assert blank


def test_counts_add_up_and_grow_with_the_run(facts: RunFacts, whole: RunFacts) -> None:
    for plain, more in zip(fill_checklists(facts), fill_checklists(whole), strict=True):
        assert plain.n_whole + plain.n_partly + plain.n_blank == plain.n
        assert more.n_blank < plain.n_blank


def test_a_flaw_is_not_passed_off_as_an_answer(tmp_path: Path) -> None:
    run = make_run(tmp_path, with_patients=False)
    claim = fill_checklists(read_run(run))[0]
    (evidence,) = (evidence for item, evidence in claim.rows if item.number == "20")
    assert evidence is not None
    assert evidence.text == "By image only: patients are unknown"


def test_evidence_rests_on_facts(whole: RunFacts) -> None:
    changed = copy.deepcopy(whole)
    subgroups = changed.metrics["test"]["subgroups"]
    assert "sex" in _evidence(changed, "demographics")
    for row in subgroups:
        row["column"] = "scanner"
    assert _evidence(changed, "demographics") == ""
    assert "locked before the test" in _evidence(changed, "updating")
    changed.openings.append(changed.openings[0] | {"operating_point_sha256": "cd"})
    assert _evidence(changed, "updating") == ""


def test_subgroups_that_were_left_out_are_said(facts: RunFacts) -> None:
    changed = copy.deepcopy(facts)
    test = changed.metrics["test"]
    test.pop("subgroups", None)
    test["subgroup_notes"] = ["site: it has 40 values, more than 10."]
    found = EVIDENCE["performance"](changed)
    assert found is not None
    assert found.missing == "subgroups: site: it has 40 values, more than 10"


def _evidence(facts: RunFacts, name: str) -> str:
    found = EVIDENCE[name](facts)
    return "" if found is None else found.text


def test_report_counts_the_items(whole: RunFacts) -> None:
    text = page_of(whole.folder).text
    claim = fill_checklists(whole)[0]
    assert (
        f"{claim.n_whole} of 44 filled, {claim.n_partly} in part, {claim.n_blank} for a person"
        in text
    )


# -- methods ---------------------------------------------------------------------------------------


def test_methods_hold_the_figures_of_the_run(facts: RunFacts) -> None:
    text = " ".join(paragraph.text for paragraph in make_methods(facts).paragraphs)
    assert "training (24 images of 12 patients), validation (80 images of 40 patients)" in text
    assert "184 images of 92 patients were used (92 ill and 92 well)." in text
    assert "128 × 128 pixels" in text
    assert "1,234,567 parameters" in text
    assert "for 3 epochs in batches of 32 with AdamW" in text
    assert "at a probability of at least 0.500" in text
    assert "locked before the test" in text
    auroc = facts.metrics["test"]["auroc"]["value"]
    assert f"AUROC {auroc:.3f} (" in text


def test_a_threshold_that_was_given_is_not_said_to_be_chosen(facts: RunFacts) -> None:
    changed = copy.deepcopy(facts)
    changed.run["operating_point"]["rule"] = "fixed:0.5"
    text = " ".join(paragraph.text for paragraph in make_methods(changed).paragraphs)
    assert "a probability of at least 0.500, a threshold that was given beforehand." in text
    assert "a threshold chosen on" not in text


def test_an_epoch_that_was_a_share_of_the_images_is_told(facts: RunFacts) -> None:
    """24 images are three batches of 8."""
    changed = copy.deepcopy(facts)
    changed.plan["batch_size"]["value"] = 8
    for n_steps, told in ((2, ", each on 16 of the 24 training images,"), (3, ""), (9, "")):
        changed.plan["steps_per_epoch"]["value"] = n_steps
        text = " ".join(paragraph.text for paragraph in make_methods(changed).paragraphs)
        assert f"for 3 epochs{told} in batches of 8 with AdamW" in text


def test_early_stopping_is_told_as_it_was(facts: RunFacts) -> None:
    changed = copy.deepcopy(facts)
    changed.plan["early_stopping"] = {"value": 2, "reason": ""}
    whole = "Training would have stopped after 2 epochs without improvement."
    assert selection(changed).endswith(whole)
    changed.plan["epochs"]["value"] = 9
    assert selection(changed).endswith("stopped early after 2 epochs without improvement.")
    changed.plan["keep"]["value"] = "last"
    assert selection(changed) == (
        "The weights of the last epoch were kept. Training stopped early after 2 epochs without "
        "improvement."
    )
    assert changed.epoch_is_chosen
    del changed.plan["early_stopping"]
    assert "stopped" not in selection(changed)
    assert not changed.epoch_is_chosen


def test_dropout_stands_where_it_is(facts: RunFacts) -> None:
    changed = copy.deepcopy(facts)
    changed.plan["dropout_dense"] = {"value": 0.3, "reason": ""}
    changed.plan["dense_units"] = {"value": [64], "reason": ""}
    assert "with dropout of 0.3 before the dense layers, told" in network(changed)
    changed.plan["dense_units"]["value"] = []
    assert "with dropout of 0.3 before the output, told" in network(changed)


def test_citations_match_the_references(whole: RunFacts) -> None:
    methods = make_methods(whole)
    text = " ".join(paragraph.text for paragraph in methods.paragraphs)
    cited = [int(n) for group in re.findall(r"\[([\d,]+)\]", text) for n in group.split(",")]
    # Numbered as they are first named, each with its source.
    firsts = list(dict.fromkeys(cited))
    assert firsts == list(range(1, len(methods.references) + 1))
    assert set(methods.references) <= set(SOURCES.values())


def test_heat_maps_are_named_as_what_they_are(whole: RunFacts) -> None:
    methods = make_methods(whole)
    text = " ".join(paragraph.text for paragraph in methods.paragraphs)
    (number,) = re.findall(r"Heat maps were made by HiResCAM\s*\[(\d+)\]", text)
    assert methods.references[int(number) - 1].startswith("Draelos, Carin.")
    assert "Grad-CAM" not in text
    facts = copy.deepcopy(whole)
    facts.run["explanation"]["name"] = "Grad-CAM and HiResCAM"
    methods = make_methods(facts)
    text = " ".join(paragraph.text for paragraph in methods.paragraphs)
    found = re.findall(r"by Grad-CAM \[(\d+)\] and HiResCAM \[(\d+)\], the latter of the", text)
    first, second = (methods.references[int(number) - 1] for number in found[0])
    assert first.startswith("Selvaraju")
    assert second.startswith("Draelos")


def test_what_the_authors_must_add_is_in_brackets(facts: RunFacts) -> None:
    text = " ".join(paragraph.text for paragraph in make_methods(facts).paragraphs)
    assert (
        "[Source of the images, dates, setting, eligibility, ethical approval: to be added.]"
        in text
    )
    assert "None" not in text


def test_methods_do_not_claim_a_lock_that_came_late(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    opening = json.loads((run / "openings.jsonl").read_text())
    opening["when"] = "2026-01-01T00:00:00+00:00"
    (run / "openings.jsonl").write_text(json.dumps(opening) + "\n")
    text = " ".join(paragraph.text for paragraph in make_methods(read_run(run)).paragraphs)
    assert "locked before the test" not in text
    assert "after the decision threshold had been locked" not in text


def test_methods_of_many_classes(tmp_path: Path) -> None:
    run = make_run(tmp_path, ["a", "b", "c"], None)
    text = " ".join(paragraph.text for paragraph in make_methods(read_run(run)).paragraphs)
    assert "Each image was given the class of highest probability." in text
    assert "told the 3 classes apart" in text


def test_methods_tell_that_a_rare_class_is_called_by_its_share(tmp_path: Path) -> None:
    run = make_run(tmp_path, ["a", "b", "c"], None)
    facts = read_run(run)
    facts.plan["class_weights"] = {"value": "balanced", "reason": "One is rare."}
    plain = " ".join(paragraph.text for paragraph in make_methods(facts).paragraphs)
    assert "highest probability." in plain
    assert "account" not in plain
    facts.run["calibration"] = {"method": "none", "priors": np.log([0.9, 0.08, 0.02]).tolist()}
    facts.run["class_shares"] = [0.9, 0.08, 0.02]
    found = make_methods(facts)
    text = " ".join(paragraph.text for paragraph in found.paragraphs)
    assert "divided by the share that the class had of the training images" in text
    assert "which probabilities account for" in text
    assert "not calibrated, beyond accounting for the weights of classes" in text
    assert any(line.startswith("Saerens") for line in found.references)


# -- cards -----------------------------------------------------------------------------------------


def test_cards_lie_in_the_run_folder(facts: RunFacts) -> None:
    write_report(facts.folder)
    model = (facts.folder / "model" / "README.md").read_text(encoding="utf-8")
    data = (facts.folder / "data_card.md").read_text(encoding="utf-8")
    assert model.startswith("# Model card: Telling ill from well\n")
    assert f"- **Intended use**: {BLANK}" in model
    filled = model.replace(BLANK, "To read *films*.\n\n# 2 of them\n- **Note**: so.", 1)
    again = to_markdown(model_card(facts), "Telling ill from well", filled)
    assert again == filled
    assert again.count(BLANK) == model.count(BLANK) - 1
    assert f"- **Consent and ethical approval**: {BLANK}" in data
    assert "ill: 92 images; well: 92 images" in data
    assert f"SHA-256**: {'f' * 64}" in data


def test_model_card_names_no_patient_and_no_file(whole: RunFacts) -> None:
    text = to_markdown(model_card(whole), "x")
    for row in whole.samples.to_dict("records"):
        assert str(row["patient"]) not in text
        assert str(row["path"]) not in text


def test_age_and_sex_are_summed_up_where_they_are_known(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert _entry(read_run(run), "Age and sex") == ""
    facts = read_run(run)
    facts.samples["sex"] = ["F", "M"] * 91 + ["", ""]
    facts.samples["age"] = ["30", "70.5"] * 91 + ["", "unknown"]
    assert _entry(facts, "Age and sex") == (
        "F 91, M 91; sex unknown 2; age 30 to 70.5, known of 182 (images)"
    )


def _entry(facts: RunFacts, name: str) -> str:
    entries = [entry for part in data_card(facts).parts for entry in part.entries]
    return next(entry.text for entry in entries if entry.name == name)


def test_columns_of_our_own_are_none_of_the_data(tmp_path: Path) -> None:
    facts = read_run(make_run(tmp_path))
    for name in (*RESERVED, "site"):
        facts.samples[name] = facts.samples.get(name, "")
    assert _entry(facts, "Columns") == "site"


def test_names_cannot_become_markdown(tmp_path: Path) -> None:
    evil = "<script>*bold*</script>"
    run = make_run(tmp_path, (evil, "b](http:x)"), evil)
    facts = json.loads((run / "run.json").read_text())
    write_json(run / "run.json", facts)
    text = to_markdown(data_card(read_run(run)), evil)
    assert "<script>" not in text
    assert "*bold*" not in text.replace("\\*", "")
    assert "](" not in text.replace("\\]", "")
