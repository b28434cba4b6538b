from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.ndimage import grey_closing, grey_opening

from hilum.auditing.findings import Finding
from hilum.auditing.quick_model import Study, make_study
from hilum.auditing.shortcuts import MARK, find_shortcuts, mark_contrast, measure_clues
from hilum.progress import LogProgress
from looks_made import make_looks

Looks = NDArray[np.uint8]
LETTER = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [1, 1, 1]], dtype=bool)


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


def stamp(look: Looks, row: int, column: int, grey: int = 235) -> None:
    look[row : row + 4, column : column + 3][LETTER] = grey


def test_clean_pictures_raise_no_alarm() -> None:
    samples, looks, _ = make_looks(100)
    assert find(samples, looks) == []


@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize("grey", [235, 0])
def test_a_mark_on_a_part_of_one_class_is_found(share: float, grey: int) -> None:
    samples, looks, y = make_looks(120)
    marked = (y == 1) & (np.random.default_rng(1).uniform(size=len(y)) < share)
    for i in np.flatnonzero(marked):
        stamp(looks[i], 3, 57, grey)
    found = of_clue(find(samples, looks), "mark")
    assert found.severity == "high"
    assert found.details["class"] == "class 1"
    [paths] = found.paths
    expected = set(samples["path"][marked])
    assert len(expected & set(paths)) >= 0.9 * len(expected)
    assert len(set(paths) - expected) <= 0.1 * len(paths)
    assert found.count == len(paths)


def test_a_mark_in_changing_corners_is_found() -> None:
    samples, looks, y = make_looks(120)
    rng = np.random.default_rng(2)
    marked = (y == 0) & (rng.uniform(size=len(y)) < 0.5)
    for i in np.flatnonzero(marked):
        stamp(looks[i], *((3, 3), (3, 57), (56, 3), (56, 57))[rng.integers(4)])
    found = of_clue(find(samples, looks), "mark")
    assert found.details["class"] == "class 0"
    assert "corner" in found.details["place"] or "anywhere" in found.details["place"]


def test_the_plainest_marks_stand_first() -> None:
    samples, looks, y = make_looks(120)
    ill = np.flatnonzero(y == 1)
    for i in ill:
        stamp(looks[i], 4, 55, 190)
    plain = ill[-10:]  # the last in the table
    for i in plain:
        stamp(looks[i], 4, 55, 255)
    found = of_clue(find(samples, looks), "mark")
    assert set(found.paths[0][:8]) <= set(samples["path"].iloc[plain])
    assert found.examples == found.paths[0][:10]


def test_a_mark_on_both_classes_alike_is_none() -> None:
    samples, looks, _ = make_looks(100)
    for look in looks[::3]:
        stamp(look, 3, 57)
    assert find(samples, looks) == []


def test_contrast_of_marks_is_large_where_they_are() -> None:
    looks = np.full((2, 64, 64), 100, np.uint8)
    stamp(looks[0], 3, 57, grey=200)
    contrast = mark_contrast(looks)
    # The letter has six pixels.
    assert contrast["bright, upper right corner"] == pytest.approx([100, 0])
    assert contrast["bright, any corner"] == pytest.approx([100, 0])
    assert contrast["bright, lower left corner"] == pytest.approx([0, 0])
    assert contrast["dark, upper right corner"][1] == 0


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
    [("finding", ("nothing to see", "shadows")), ("text", ("Class-0, left", "class 1 (sure)"))],
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


def test_every_clue_is_given_against_the_picture() -> None:
    samples, looks, _ = make_looks(100)
    study = make_study(samples, samples["label"], most=None)
    assert isinstance(study, Study)
    found = measure_clues(samples, looks, study).to_dict()
    names = [clue["name"] for clue in found["clues"]]
    assert names == [
        *("file_size", "border"),
        *(
            f"corner:{place}"
            for place in ("upper left", "upper right", "lower left", "lower right")
        ),
        *("centre_hidden", "thumbnail"),
    ]
    assert found["picture"]["value"] > 0.9
    by_name = {clue["name"]: clue for clue in found["clues"]}
    assert by_name["thumbnail"]["auroc"]["value"] > 0.8
    assert by_name["border"]["auroc"]["ci_low"] < 0.55
    assert set(by_name["border"]["auroc"]) == {"value", "ci_low", "ci_high", "n"}
    json.dumps(found)


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


def test_marks_stand_out_by_opening_and_closing() -> None:
    looks = np.random.default_rng(0).integers(0, 256, (5, 64, 64), dtype=np.uint8)
    window = (1, MARK, MARK)
    bright = (looks - grey_opening(looks, size=window))[:, :16, :16].reshape(5, -1)
    dark = (grey_closing(looks, size=window) - looks)[:, :16, :16].reshape(5, -1)
    found = mark_contrast(looks)
    for kind, expected in (("bright", bright), ("dark", dark)):
        six = np.sort(expected, axis=1)[:, -6:].mean(axis=1)
        assert found[f"{kind}, upper left corner"] == pytest.approx(six)
