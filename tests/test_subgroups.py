"""Figures of groups against the same figures of the images alone, and what is left out."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hilum.errors import SettingError
from hilum.estimates import Study, describe, study_of
from hilum.subgroups import check_columns, describe_subgroups
from studies import study

NAMES = ("normal", "pneumonia")


def parts() -> tuple[Study, Any, Any, Any]:
    y, p, groups = study(60)
    found = study_of(
        y,
        np.stack([1 - p, p], axis=1),
        class_names=NAMES,
        positive=1,
        threshold=0.5,
        groups=groups,
        n_resamples=50,
    )
    return found, y, p, groups


def test_a_group_has_the_figures_of_its_images() -> None:
    whole, y, p, groups = parts()
    sex = np.where(groups % 3 == 0, "F", "M")
    table = pd.DataFrame({"path": "x", "sex": sex, "height": 5})
    found = describe_subgroups(whole, table)
    assert [(row["column"], row["group"]) for row in found.rows] == [("sex", "F"), ("sex", "M")]
    for row in found.rows:
        mine = sex == row["group"]
        alone = describe(
            y[mine],
            np.stack([1 - p[mine], p[mine]], axis=1),
            class_names=NAMES,
            positive=1,
            threshold=0.5,
            groups=groups[mine],
            n_resamples=50,
        )
        assert (row["n"], row["n_patients"]) == (alone["n"], alone["n_patients"])
        for name in ("auroc", "sensitivity", "specificity", "accuracy"):
            assert row[name] == pytest.approx(alone[name]), name
    assert found.notes[0].startswith("These are 2 groups of 1 column.")
    json.dumps(found.rows, allow_nan=False)


def test_too_few_patients_have_a_reason_and_no_number() -> None:
    whole, y, _, groups = parts()
    ill = sorted(set(groups[y == 1].tolist()))[:3]
    view = np.where(np.isin(groups, ill), "AP", "PA")
    row = describe_subgroups(whole, pd.DataFrame({"view": view})).rows[0]
    assert row["group"] == "AP"
    n = int((view == "AP").sum())
    nothing = {"value": None, "ci_low": None, "ci_high": None}
    assert row["sensitivity"] == {
        **nothing, "n": n, "reason": "too few: 3 patients with pneumonia",
    }  # fmt: skip
    assert row["specificity"] == {**nothing, "n": 0, "reason": "too few: 0 patients with normal"}
    assert row["accuracy"]["reason"] == "too few: 3 patients with AP"


def test_ages_and_numbers_are_put_in_bands() -> None:
    whole, _, _, groups = parts()
    age = (groups * 1.5).round().astype(int).astype(str)
    dose = groups.astype(str)
    age[:2] = ""
    found = describe_subgroups(whole, pd.DataFrame({"age": age, "dose": dose}))
    ages = [row["group"] for row in found.rows if row["column"] == "age"]
    assert ages == ["0–17", "18–39", "40–59", "60–79", "80 and over", "(not stated)"]
    doses = [row for row in found.rows if row["column"] == "dose"]
    assert doses[0]["group"].startswith("up to ")
    assert len(doses) == 4
    assert sum(row["n"] for row in doses) == whole.n


def test_bands_of_large_numbers_have_names_of_their_own() -> None:
    whole, _, _, groups = parts()
    dates = (20240100 + groups % 28 + 1).astype(str)
    found = describe_subgroups(whole, pd.DataFrame({"study_date": dates}))
    names = [row["group"] for row in found.rows]
    assert len(names) == len(set(names)) == 4
    assert all("e+" not in name for name in names)
    assert sum(row["n"] for row in found.rows) == whole.n


@pytest.mark.parametrize("column", ["Patient Age", "PatientAge", "age_years", "AGE"])
def test_a_word_among_ages_is_not_stated_and_dicom_ages_are_years(column: str) -> None:
    whole, _, _, groups = parts()
    years = (groups * 1.5).round().astype(int)
    wanted = describe_subgroups(whole, pd.DataFrame({"age": years.astype(str)})).rows
    bands = ["0–17", "18–39", "40–59", "60–79", "80 and over"]
    assert [row["group"] for row in wanted] == bands
    as_dicom = np.array([f"{year:03d}Y" if year > 1 else f"{12 * year:03d}M" for year in years])
    found = describe_subgroups(whole, pd.DataFrame({column: as_dicom})).rows
    assert [row | {"column": "age"} for row in found] == wanted
    as_dicom[:3] = "unknown"
    found = describe_subgroups(whole, pd.DataFrame({column: as_dicom})).rows
    assert [(row["group"]) for row in found] == [*bands, "(not stated)"]
    assert found[-1]["n"] == 3


def test_the_end_of_another_word_is_no_age() -> None:
    whole, _, _, groups = parts()
    for column in ("stage", "dosage", "image_number"):
        rows = describe_subgroups(whole, pd.DataFrame({column: groups.astype(str)})).rows
        assert rows[0]["group"].startswith("up to "), column


def test_columns_that_part_nothing_are_named() -> None:
    whole, _, _, groups = parts()
    table = pd.DataFrame(
        {
            "patient": groups.astype(str),
            "site": "here",
            "empty": "",
            "note": [f"n{k}" for k in range(whole.n)],
            "town": np.where(groups < 30, "York", np.array([f"t{k}" for k in range(whole.n)])),
        }
    )
    found = describe_subgroups(whole, table)
    assert [row["group"] for row in found.rows] == ["York", "(all others)"]
    assert found.notes[1:] == [
        "site: one value for all images.",
        "empty: no value for any image.",
        f"note: {whole.n} different values are too many for groups.",
    ]


def test_only_some_columns_are_taken_unless_chosen() -> None:
    whole, _, _, groups = parts()
    table = pd.DataFrame({f"c{k}": (groups % 2).astype(str) for k in range(10)})
    found = describe_subgroups(whole, table)
    assert len({row["column"] for row in found.rows}) == 8
    assert found.notes[-1] == "c9: only 8 columns are taken unless you choose them."
    chosen = describe_subgroups(whole, table, columns=["c9"])
    assert {row["column"] for row in chosen.rows} == {"c9"}
    with pytest.raises(SettingError, match="--subgroup sex: the data have no such column"):
        describe_subgroups(whole, table, columns=["sex"])


def test_columns_are_checked_as_they_will_be_parted() -> None:
    table = pd.DataFrame({"site": [f"s{k}" for k in range(60)], "dose": np.arange(60)})
    check_columns(table, ["dose"])
    check_columns(table[:50], ["site"])
    for columns, wrong in ((["sex"], "no such column"), (["dose", "site"], "60 different values")):
        with pytest.raises(SettingError, match=wrong):
            check_columns(table, columns)


def test_many_classes_are_averaged() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 120)
    probs = rng.dirichlet([1, 1, 1], 120) + 0.5 * np.eye(3)[y]
    probs /= probs.sum(axis=1, keepdims=True)
    side = rng.choice(["left", "right"], 120)
    options: dict[str, Any] = {"class_names": "abc", "positive": None, "threshold": None}
    whole = study_of(y, probs, **options, n_resamples=20)
    for row in describe_subgroups(whole, pd.DataFrame({"side": side})).rows:
        mine = side == row["group"]
        alone = describe(y[mine], probs[mine], **options, n_resamples=20)
        assert row["n_patients"] is None
        for name in ("auroc", "sensitivity", "specificity", "accuracy"):
            assert row[name] == pytest.approx(alone[name]), name
