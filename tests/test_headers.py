from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset as DicomDataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

import hilum
import tiny
from hilum.headers import _filled, add_header_columns, pseudonym
from hilum.progress import LogProgress


def write_dicom(path: Path, patient: str, pixels: np.ndarray, **fields: str) -> None:
    ds = DicomDataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
    ds.PatientID, ds.PatientName = patient, "Secret^Name"
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.PixelData = pixels.tobytes()
    for name, value in fields.items():
        setattr(ds, name, value)
    ds.save_as(path, enforce_file_format=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, 24 patients each, two images a patient, no patient in any name."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("clear", "opacity")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(48):
            write_dicom(
                tmp_path / "data" / name / f"{number}.dcm",
                f"secret-{label}-{number // 2}",
                tiny.draw(label, rng),
                Modality="DX",
                ViewPosition="PA",
                Manufacturer="Phantom Works",
                StudyInstanceUID="1.2.3.4567",
                BurnedInAnnotation="YES" if number == 0 else "NO",
            )
    return tmp_path / "data"


def test_columns_and_patients_come_from_the_headers(folder: Path) -> None:
    dataset = add_header_columns(hilum.load_dataset(folder), LogProgress())
    assert set(dataset.table["modality"]) == {"DX"}
    assert set(dataset.table["view"]) == {"PA"}
    assert dataset.patients.n_patients == 48
    assert dataset.patients.column == "PatientID (0010,0020)"
    assert (dataset.table.groupby("patient").size() == 2).all()


def test_files_without_a_header_stay_and_patients_of_the_table_go_first(folder: Path) -> None:
    Image.new("L", (9, 9)).save(folder / "clear" / "plain.png")
    dataset = add_header_columns(hilum.load_dataset(folder), LogProgress())
    row = dataset.table[dataset.table["path"] == "clear/plain.png"].iloc[0]
    assert (row["modality"], row["patient"]) == ("", "")
    assert dataset.patients.n_without == 1
    pattern = r"^(?P<patient>\d|plain)"
    named = hilum.load_dataset(folder, patient_pattern=pattern)
    assert add_header_columns(named, LogProgress()).patients == named.patients


def test_headers_go_before_a_guess_from_file_names(folder: Path) -> None:
    for path in sorted(folder.rglob("*.dcm")):
        path.rename(path.with_name(f"case_{path.parent.name}{path.stem}.dcm"))
    guessed = hilum.load_dataset(folder)
    assert add_header_columns(guessed, LogProgress()).patients.n_patients == 48


def test_images_whose_header_names_nobody_stay_with_their_patient(folder: Path) -> None:
    """As where headers were made anonymous, but for some."""
    for path in sorted(folder.rglob("*.dcm")):
        label, number = int(path.parent.name == "opacity"), int(path.stem)
        known = number in (0, 2)  # one image each of the first two patients
        write_dicom(
            path.with_name(f"case{label}{number // 2:02}_{number}.dcm"),
            f"secret-{label}-{number // 2}" if known else "",
            tiny.draw(label, np.random.default_rng(number)),
        )
        path.unlink()
    dataset = add_header_columns(hilum.load_dataset(folder), LogProgress())
    assert dataset.patients.n_patients == 48
    assert (dataset.table.groupby("patient").size() == 2).all()
    assert pseudonym("secret-1-1") in set(dataset.table["patient"])


def test_a_file_name_with_several_headers_is_one_patient_where_one_lacks_it() -> None:
    stated, guessed = ["X", "Y", "", "Z", ""], ["p1", "p1", "p1", "p2", "p3"]
    assert _filled(stated, guessed) == ["X", "X", "X", "Z", "p3"]
    assert _filled(["X", "Y"], ["p1", "p1"]) == ["X", "Y"]


def test_where_no_header_names_anybody_names_of_files_do(folder: Path) -> None:
    for path in sorted(folder.rglob("*.dcm")):
        number = int(path.stem)
        pixels = tiny.draw(0, np.random.default_rng(number))
        name = f"case{number // 2:02}_{number}.dcm"
        write_dicom(path.with_name(name), "", pixels, Modality="DX")
        path.unlink()
    dataset = hilum.load_dataset(folder)
    assert add_header_columns(dataset, LogProgress()).patients == dataset.patients


def test_no_identity_reaches_the_run_folder_and_burned_in_text_is_flagged(
    folder: Path, tmp_path: Path
) -> None:
    options = hilum.DataOptions(dicom_columns=True)
    run = hilum.train(folder, tmp_path / "run", settings=tiny.SETTINGS, options=options)
    assert run.facts["patients"]["n_patients"] == 48
    (finding,) = [f for f in run.facts["findings"] if f["kind"] == "burned_in"]
    assert finding["paths"] == [["clear/0.dcm"], ["opacity/0.dcm"]]
    for path in run.folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes().lower()
            assert b"secret-" not in content, path.name
            assert b"1.2.3.4567" not in content, path.name


def test_data_without_headers_are_refused(tmp_path: Path) -> None:
    dataset = hilum.load_dataset(tiny.make_folder(tmp_path / "data", n_patients=1))
    with pytest.raises(hilum.DataError) as error:
        add_header_columns(dataset, LogProgress())
    assert str(error.value) == (
        f"{tmp_path / 'data'} holds no DICOM file whose header could be read."
    )


def test_a_pseudonym_is_equal_for_equal_identities_alone() -> None:
    assert pseudonym("a") == pseudonym("a") != pseudonym("b")
    assert pseudonym("") == ""
