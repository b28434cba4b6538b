from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from hilum.auditing.findings import Finding
from hilum.auditing.shortcuts import find_shortcuts
from hilum.progress import LogProgress
from looks_made import make_looks

Looks = NDArray[np.uint8]


class Said(LogProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def find(samples: pd.DataFrame, looks: Looks) -> list[Finding]:
    """Find all but this: a thumbnail tells the place of a disc as well as the picture does."""
    found = find_shortcuts(samples, looks, progress=LogProgress()).findings
    return [each for each in found if each.details["clue"] != "thumbnail"]


def test_a_thumbnail_that_tells_the_class_is_worth_a_word() -> None:
    samples, looks, _ = make_looks(100)
    [found] = find_shortcuts(samples, looks, progress=LogProgress()).findings
    assert (found.severity, found.details["clue"]) == ("low", "thumbnail")
    assert "That may be the disease itself" in found.message


def of_clue(findings: list[Finding], clue: str) -> Finding:
    [found] = [each for each in findings if each.details["clue"] == clue]
    return found


def test_clean_pictures_raise_no_alarm() -> None:
    samples, looks, _ = make_looks(100)
    assert find(samples, looks) == []


def test_sizes_of_images_that_tell_the_class() -> None:
    samples, looks, y = make_looks(100)
    rng = np.random.default_rng(0)
    odd = np.where(rng.uniform(size=len(y)) < 0.9, y, 1 - y)
    samples["height"] = np.where(odd == 1, 512, 500)
    found = of_clue(find(samples, looks), "image_size")
    assert found.severity == "high"
    assert found.message.startswith(
        "From height, width and aspect ratio alone the label is predicted with an AUROC of "
    )
    assert found.paths == ()
    assert found.count == 200


@pytest.mark.parametrize(
    ("column", "values", "clue"),
    [
        ("jpeg_quality", (75, 95), "jpeg_quality"),
        ("mode", ("L", "RGB"), "format"),
        ("file_size", (1000, 3000), "file_size"),
        ("scanner", ("A", "B"), "column:scanner"),
    ],
)
def test_other_things_that_tell_the_class(column: str, values: Any, clue: str) -> None:
    samples, looks, y = make_looks(100)
    samples[column] = [values[k] for k in y]
    found = find(samples, looks)
    assert [(each.severity, each.details["clue"]) for each in found] == [("high", clue)]
    json.dumps(found[0].to_dict())


def test_sex_and_age_may_go_with_a_disease() -> None:
    samples, looks, y = make_looks(100)
    samples["age"] = 40 + 20 * y + np.arange(len(y)) % 19
    assert of_clue(find(samples, looks), "column:age").severity == "low"


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("finding", ("nothing to see", "shadows")),
        ("text", ("Class-0, left", "class 1 (sure)")),
        ("is_class 1", ("0", "1")),
        ("table_label", ("4", "7")),
    ],
)
def test_a_column_that_says_the_label_is_told_as_such(column: str, values: Any) -> None:
    samples, looks, y = make_looks(60)
    samples[column] = [values[k] for k in y]
    [found] = find(samples, looks)
    assert (found.severity, found.details["clue"]) == ("low", "restated")
    assert found.message == (
        f"The column '{column}' says the label in other words. No image gives it away and no "
        "network sees it, so that is no fault; but do not use it as a subgroup or an input."
    )
    assert found.examples == (column,)


def test_a_column_of_names_tells_nothing() -> None:
    samples, looks, _ = make_looks(60)
    samples["url"] = [f"https://example.org/{i}" for i in range(len(samples))]
    assert find(samples, looks) == []


@pytest.mark.parametrize(("column", "n_images"), [("person", 3), ("patiant", 12)])
def test_a_column_that_may_name_patients_is_no_shortcut_where_none_is_known(
    column: str, n_images: int
) -> None:
    samples, looks, _ = make_looks(240 // n_images, n_images=n_images)
    names = samples["patient"]
    samples = samples.assign(patient="", **{column: names})
    said = Said()
    found = find_shortcuts(samples, looks, progress=said)
    assert f"column:{column}" not in [clue["name"] for clue in found.clues["clues"]]
    why = (
        f"'{column}' may name patients while none is known, and those learnt from would be "
        f"recognised. If it does, pass --patient-column {column}"
    )
    assert found.not_looked_for == {"shortcut_columns": why}
    assert said.lines == [f"Not every column was looked at for shortcuts: {why}."]
    known = find_shortcuts(samples.assign(patient=names), looks, progress=said)
    assert known.not_looked_for == {}


def test_sites_ages_and_diagnoses_name_no_patients() -> None:
    samples, looks, y = make_looks(100)
    site = [f"site {k}" for k in np.arange(len(y)) % 20]
    age = 20 + np.arange(len(y)) % 70
    finding = [f"{k} {n // 7}" for n, k in enumerate(y)]
    samples = samples.assign(patient="", site=site, age=age, finding=finding)
    found = find_shortcuts(samples, looks, progress=LogProgress())
    assert found.not_looked_for == {}
    assert found.clues["restated"] == ["finding"]
    names = [clue["name"] for clue in found.clues["clues"]]
    assert {"column:site", "column:age"} <= set(names)


def test_borders_that_tell_the_class_are_a_question() -> None:
    samples, looks, y = make_looks(100)
    looks[y == 1, :10] -= np.minimum(looks[y == 1, :10], 30)
    found = find(samples, looks)
    assert [each.severity for each in found] == ["medium"]
    assert "may be anatomy" in found[0].message
    assert any("6 %" in example for example in found[0].examples)


@pytest.mark.parametrize("n_classes", [3, 6])
def test_more_classes(n_classes: int) -> None:
    samples, looks, y = make_looks(150, n_classes=n_classes)
    assert [each for each in find(samples, looks) if each.severity == "high"] == []
    samples["width"] = 64 + y
    assert of_clue(find(samples, looks), "image_size").severity == "high"


def test_only_a_sample_of_many_images_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hilum.auditing.shortcuts.MOST_IMAGES", 100)
    samples, looks, y = make_looks(100)
    samples["height"] = 500 + 12 * y
    found = of_clue(find(samples, looks), "image_size")
    assert found.count == 100
    assert found.message.endswith("(Looked at: 100 of 200 images, whole patients, drawn.)")


def test_too_few_images_are_not_looked_at() -> None:
    samples, looks, _ = make_looks(20)
    said = Said()
    assert find_shortcuts(samples, looks, progress=said).findings == ()
    assert said.lines == ["Shortcuts were not looked for: there are 40 images, fewer than 50."]
    found = find_shortcuts(samples, looks, progress=said)
    assert found.not_looked_for == {"shortcut": "there are 40 images, fewer than 50"}
    assert found.clues == {}


def test_clues_are_kept_without_an_alarm() -> None:
    samples, looks, _ = make_looks(100, contrast=0)
    found = find_shortcuts(samples, looks, progress=LogProgress())
    assert found.findings == ()
    assert "border" in [clue["name"] for clue in found.clues["clues"]]


def test_nothing_is_changed() -> None:
    samples, looks, _ = make_looks(40)
    table, pictures = samples.copy(), looks.copy()
    find(samples, looks)
    pd.testing.assert_frame_equal(samples, table)
    assert (looks == pictures).all()
