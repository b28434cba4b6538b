"""Which column of a table is what; tables that are refused stand in test_bad_input.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from hilum import Columns, load_dataset
from making import write_table


@pytest.mark.parametrize("name", ["patient", "Patient", "PatientID", "patient_id", "Subject-ID"])
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
