from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from hilum import DataError, SettingError, load_dataset
from hilum.patients import KNOWN_PATTERNS, patient_of_each, recognise


def test_known_patterns_are_regular_expressions_with_a_patient() -> None:
    for _, pattern in KNOWN_PATTERNS:
        assert "patient" in re.compile(pattern).groupindex


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("person1000_bacteria_2931.jpeg", "person1000_bacteria"),
        ("person1_virus_6.jpeg", "person1_virus"),
        ("IM-0115-0001.jpeg", "IM-0115"),
        ("IM-0618-0001-0002.jpeg", "IM-0618"),
        ("NORMAL2-IM-1427-0001.jpeg", "NORMAL2-IM-1427"),
        ("C100P61ThinF_IMG_20150918_144104_cell_162.png", "C100P61"),
        ("C37BP2_thinF_IMG_20150620_131804a_cell_1.png", "C37BP2"),
        ("C6NThinF_IMG_20150609_122042_cell_1.png", "C6N"),
        ("sub-01/anat/sub-01_T1w.nii.gz", "sub-01"),
        ("patient00001/study1/view1_frontal.jpg", "patient00001"),
        ("TCGA-AB-1234-01A.tif", "TCGA-AB-1234"),
        ("00000013_005.png", "00000013"),
        ("Case_12_slice3.png", "Case_12"),
        ("scans/subject 7/a.png", "subject 7"),
    ],
)
def test_known_ways_of_naming(name: str, patient: str) -> None:
    other = re.sub(r"\d(?=\D*$)", "9", patient)  # a second patient, named in the same way
    if patient == other:
        other = patient[:-1] + "Z"
    found, patients = recognise([name, name.replace(patient, other)])
    assert found[0] == patient
    assert patients.source == "known_pattern"
    assert patients.n_patients == 2


@pytest.mark.parametrize(
    "names",
    [
        ["20200101_001.png", "20200102_001.png"],  # dates, not patients
        ["1 no.jpeg", "Y10.jpg"],
        ["person1_virus_6.jpeg", "other.jpeg"],  # one file does not fit
        ["case1/a.png", "case1/b.png"],  # one patient in all is no patient
        [],
    ],
)
def test_nothing_is_guessed(names: list[str]) -> None:
    found, patients = recognise(names)
    assert found == [""] * len(names)
    assert (patients.source, patients.n_patients) == ("none", None)
    assert patients.n_without == len(names)
    assert patients.description == (
        "No patient is known: every image was taken for a patient of its own. If a patient has "
        "several images, figures on validation and test data are too good. Name the patients with "
        "a column or --patient-pattern."
    )


def test_class_folders_are_no_patients() -> None:
    paths = ["case 1/a.png", "case 2/b.png"]
    _, patients = recognise(paths, inner=["a.png", "b.png"])
    assert patients.source == "none"


def test_column() -> None:
    found, patients = recognise(
        ["a.png", "b.png", "c.png", "d.png"],
        column=["007", " 007 ", "7", ""],
        column_name="patient",
    )
    assert found == ["007", "007", "7", ""]
    assert patients.source == "column"
    assert (patients.n_patients, patients.n_without) == (2, 1)
    assert patients.images_per_patient == {"median": 1.5, "max": 2.0}
    assert patients.description == (
        "Patients were read from the column 'patient': 2 patients in 4 images. 1 image has no "
        "patient and counts as one."
    )


def test_accents_stored_in_two_ways_are_one_patient() -> None:
    found, _ = recognise(["a.png", "b.png"], column=["Ren\u00e9", "Rene\u0301"], column_name="p")
    assert found[0] == found[1]


def test_an_image_without_a_patient_is_of_one_that_no_other_is_of() -> None:
    samples = pd.DataFrame({"path": ["p1", "b.png", "c.png"], "patient": ["", "p1", "p1"]})
    assert list(patient_of_each(samples)) == ["#p1", "p1", "p1"]


def test_empty_column_is_no_column() -> None:
    _, patients = recognise(["a.png", "b.png"], column=["", " "], column_name="patient")
    assert patients.source == "none"
    assert patients.description.startswith("No patient is known (the column 'patient' is empty): ")


def test_pattern_goes_before_column_and_is_searched_in_names_first() -> None:
    paths = ["x1/a1_0.png", "x1/a2_0.png", "x2/a1_1.png"]
    found, patients = recognise(
        paths, pattern=r"^(?P<patient>a\d)_", column=["p", "p", "p"], column_name="patient"
    )
    assert found == ["a1", "a2", "a1"]
    assert patients.description == (
        "Patients were read from the pattern given: 2 patients in 3 images."
    )
    assert recognise(paths, pattern=r"(?P<patient>x\d)/")[0] == ["x1", "x1", "x2"]


def test_examples_are_spread_over_the_patients() -> None:
    paths = [f"p{n}_0.png" for n in range(100)]
    _, patients = recognise(paths, pattern=r"(?P<patient>p\d+)_")
    assert patients.examples == (
        ("p0_0.png", "p0"),
        ("p20_0.png", "p20"),
        ("p40_0.png", "p40"),
        ("p60_0.png", "p60"),
        ("p80_0.png", "p80"),
    )


@pytest.mark.parametrize(
    ("pattern", "error", "text"),
    [
        (
            "(",
            SettingError,
            "--patient-pattern '(' is not a regular expression: missing ), unterminated "
            r"subpattern at position 0. An example: '^(?P<patient>case\d+)_'.",
        ),
        (
            r"(case\d+)",
            SettingError,
            r"--patient-pattern '(case\d+)' has no group named 'patient'. Put (?P<patient>…) "
            r"around the part of the name that tells the patient, as in '^(?P<patient>case\d+)_'.",
        ),
        (
            r"(?P<patient>a\d)",
            DataError,
            r"--patient-pattern '(?P<patient>a\d)' does not fit 1 of 2 files, such as 'b2.png'. "
            "Widen the pattern, or give a table with a column 'patient'.",
        ),
        (
            r"(?P<patient>\s*)",
            DataError,
            r"--patient-pattern '(?P<patient>\s*)' does not fit 2 of 2 files, such as 'a1.png', "
            "'b2.png'. Widen the pattern, or give a table with a column 'patient'.",
        ),
    ],
)
def test_pattern_faults(pattern: str, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        recognise(["a1.png", "b2.png"], pattern=pattern)
    assert str(caught.value) == text


def test_chest_xray_patients(hilum_data: Path) -> None:
    dataset = load_dataset(hilum_data / "chest-xray")
    table, patients = dataset.table, dataset.patients
    assert patients.source == "known_pattern"
    assert patients.n_without == 0
    splits = table.groupby("patient")["given_split"].nunique()
    assert splits.max() == 1  # by the full key no patient spans two splits


def test_malaria_patients(hilum_data: Path) -> None:
    pattern = r"^(?P<patient>C\d+[A-Z0-9]*?)_?[Tt]hin"
    by_pattern = load_dataset(hilum_data / "malaria-cells", patient_pattern=pattern)
    assert by_pattern.patients.n_patients == 29
    guessed = load_dataset(hilum_data / "malaria-cells")
    assert list(guessed.table["patient"]) == list(by_pattern.table["patient"])
