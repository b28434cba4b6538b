"""Which column of a table is what; tables that are refused stand in test_bad_input.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from hilum import Columns, load_dataset
from hilum.columns import nearly_usual
from making import write_table


@pytest.mark.parametrize(
    "name", ["patient", "Patient", "PatientID", "patient_id", "Subject-ID", "participant_id"]
)
def test_patient_column_is_found_in_any_spelling(tmp_path: Path, name: str) -> None:
    rows = [["path", "label", name], ["0.png", "ill", "p1"], ["1.png", "well", "p1"]]
    dataset = load_dataset(write_table(tmp_path / "t.csv", rows))
    assert (dataset.patients.source, dataset.patients.n_patients) == ("column", 1)
    assert dataset.patients.column == name


def test_columns_by_name(tmp_path: Path) -> None:
    rows = [["file", "finding", "case", "set", "label"], ["0.png", "x", "c", "train", "1"]]
    rows.append(["1.png", "y", "c", "train", "2"])
    columns = Columns(path="file", label="finding", patient="case", split="set")
    dataset = load_dataset(write_table(tmp_path / "t.csv", rows), columns=columns)
    assert dataset.class_names == ("x", "y")
    assert dataset.patients.n_patients == 1
    # A column of the user's that bears the name of one of ours is kept under another.
    assert list(dataset.table.columns) == ["path", "label", "patient", "given_split", "table_label"]


def test_slips_in_the_name_of_the_patient_column() -> None:
    slips = ["patiant", "Pateint", "patients", "Patinet ID", "subjet", "patient-nr"]
    slips += ["particpant_id"]
    others = [
        "inpatient",
        "n_patients",
        "patient_sd",
        "patient_age",
        "participant_age",
        "PatientSex",
        "path",
        "site",
        "pathology",
        "object",
    ]
    assert nearly_usual([*others, *slips], "patient") == slips


@pytest.mark.parametrize(("name", "option"), [("patiant", "patiant"), ("patient s", "'patient s'")])
def test_a_slip_in_it_is_asked_about_and_not_taken(tmp_path: Path, name: str, option: str) -> None:
    rows = [["path", "label", "age", name], ["0.png", "ill", "9", "p"], ["1.png", "well", "8", "p"]]
    patients = load_dataset(write_table(tmp_path / "t.csv", rows)).patients
    assert (patients.source, patients.n_patients) == ("none", None)
    assert patients.description.endswith(
        f"a column or --patient-pattern. Did you mean --patient-column {option}?"
    )
    given = load_dataset(tmp_path / "t.csv", columns=Columns(patient=name)).patients
    assert "Did you mean" not in given.description
