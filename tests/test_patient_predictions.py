from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import hilum
import tiny
from hilum.cli import app
from hilum.inference import Prediction
from hilum.model import ModelFacts
from hilum.patient_predictions import find_patients, pool_images


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_folder(tmp_path_factory.mktemp("data"), n_images=3, n_patients=15)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> hilum.Run:
    with pytest.MonkeyPatch.context() as patch:
        tiny.shorten(patch)
        return tiny.train_tiny(data, tmp_path_factory.mktemp("runs") / "one", epochs=2)


@pytest.fixture(scope="module")
def model(run: hilum.Run) -> hilum.Model:
    return hilum.load(run.folder)


def test_a_run_holds_figures_of_both_levels_and_the_locked_rule(
    run: hilum.Run, model: hilum.Model
) -> None:
    rows = rows_of(run.folder / "patients.csv")
    for split in ("val", "test"):
        found = run.metrics[split]["patients"]
        own = [row for row in rows if row["split"] == split]
        assert found["n"] == len(own)
        assert found["n_images"] == run.metrics[split]["n"] == 3 * len(own)
        threshold = model.facts.patient_point.threshold if model.facts.patient_point else None
        assert found["threshold"] == threshold
    assert run.facts["patient_rules"]["pooling"]["method"] == "mean_logits"
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "By patient: main figures on" in page
    assert "By image: main figures on" in page
    assert 'id="patients"' in page


def test_patients_of_the_run_are_answered_as_they_were_there(run: hilum.Run, data: Path) -> None:
    before = {row["patient"]: row for row in rows_of(run.folder / "patients.csv")}
    found = hilum.predict_patients(run.folder, data)
    assert found.note.startswith("Patients were read from the file names")
    assert len(found.images) == 90
    assert len(found.patients) == 30
    for each in found.patients:
        own = [p for p in found.images if Path(p.path).name.startswith(f"{each.patient}_")]
        assert each.n_images == len(own) == 3
        z = sum(math.log(p.probabilities[1] / p.probabilities[0]) for p in own) / 3
        assert each.probabilities[1] == pytest.approx(1 / (1 + math.exp(-z)), abs=1e-6)
        assert each.n_referred == sum(p.decision == "refer" for p in own)
        if each.patient in before:
            assert each.predicted == before[each.patient]["predicted"]


def test_files_may_come_from_an_iterator(run: hilum.Run, data: Path) -> None:
    listed = sorted((data / "clear").glob("*.png"))
    found = hilum.predict_patients(run.folder, iter(listed))
    assert len(found.images) == len(listed)
    assert found.patients == hilum.predict_patients(run.folder, listed).patients


def test_a_table_names_the_patients(run: hilum.Run, data: Path, tmp_path: Path) -> None:
    rows = ["path,who"]
    for number in range(3):
        Image.open(data / "clear" / f"case000_{number}.png").save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{'ann' if number < 2 else 'bob'}")
    (tmp_path / "t.csv").write_text("\n".join(rows), encoding="utf-8")
    found = hilum.predict_patients(run.folder, tmp_path / "t.csv", patient_column="who")
    assert [(each.patient, each.n_images) for each in found.patients] == [("ann", 2), ("bob", 1)]
    assert found.note == "Patients were read from the column 'who': 2 patients in 3 images."
    with pytest.raises(hilum.DataError) as wrong:
        hilum.predict_patients(run.folder, tmp_path / "t.csv", patient_column="whom")
    assert str(wrong.value) == (
        f"{tmp_path / 't.csv'} has no column 'whom'. Its columns are: path, who."
    )


def test_the_note_names_the_columns_that_patients_came_from(
    model: hilum.Model, tmp_path: Path
) -> None:
    tables = [tmp_path / f"{k}.csv" for k in range(3)]
    for table, column in zip(tables, ("PatientID", "subject", "PatientID"), strict=True):
        table.write_text(f"path,{column}\na.png,ann\nb.png,bob\n")
    _, note = find_patients(model.facts, tables[0])
    assert note == "Patients were read from the column 'PatientID': 2 patients in 2 images."
    _, note = find_patients(model.facts, tables)
    assert note == (
        "Patients were read from the column 'PatientID' or 'subject': 2 patients in 6 images."
    )


def test_images_of_no_patient_in_two_tables_are_not_one_patient(
    model: hilum.Model, tmp_path: Path
) -> None:
    for folder, patient in (("north", "ann"), ("south", "bob")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "t.csv").write_text(f"path,patient\na.png,\nb.png,{patient}\n")
    names, _ = find_patients(model.facts, sorted(tmp_path.glob("*/t.csv")))
    loose = [str(tmp_path / folder / "a.png") for folder in ("north", "south")]
    assert names == [loose[0], "ann", loose[1], "bob"]


def test_images_of_no_known_patient_are_refused(run: hilum.Run, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((20, 20), dtype=np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(hilum.DataError) as error:
        hilum.predict_patients(run.folder, tmp_path / "a.png")
    assert str(error.value) == (
        "Which of the 1 images belong to one patient is not known. Give a table with a column "
        "'patient', or --patient-pattern."
    )


def test_a_model_that_knew_no_patients_has_no_rule_for_them() -> None:
    values: dict[str, Any] = {"patient_pooling": None}
    with pytest.raises(hilum.ModelError, match="The model has no rule for patients: no patient"):
        find_patients(ModelFacts.model_construct(**values), "x")


def test_refused_and_referred_images(model: hilum.Model) -> None:
    def image(path: str, p: float = 0.4, decision: str = "clear", error: str = "") -> Prediction:
        probs = () if error else (1 - p, p)
        return Prediction(path, 0, "clear", 1 - p, probs, decision, error)

    images = [
        image("a1"), image("a2", error="it is empty", decision="refused"),
        image("b1", error="it is gone", decision="refused"),
        image("c1", decision="refer"), image("c2", decision="refer"),
        image("d1", decision="refer"), image("d2"),
    ]  # fmt: skip
    a, b, c, d = pool_images(model, images, ["a", "a", "b", "c", "c", "d", "d"])
    assert (a.n_images, a.error) == (1, "1 of 2 images refused; a2: it is empty")
    assert a.probabilities == (0.6, 0.4)
    assert (b.decision, b.predicted, b.confidence, b.n_images) == ("refused", "", None, 0)
    assert (c.decision, c.n_referred) == ("refer", 2)
    assert (d.decision, d.n_referred) == (d.predicted, 1)
    assert list(b.row(("clear", "opacity")).values()) == [
        *("b", 0, "", None, None, None, "refused", 0, "1 of 1 images refused; b1: it is gone")
    ]


def test_frames_of_a_file_are_images_of_its_patient(model: hilum.Model) -> None:
    images = [
        Prediction(path, frame, "clear", 0.6, (0.6, 0.4), "clear")
        for path, frame in (("a", 0), ("a", 1), ("b", 0), ("b", 0))
    ]
    found = pool_images(model, images, ["x", "y", "y"])
    assert [(each.patient, each.n_images) for each in found] == [("x", 2), ("y", 2)]


def test_the_command_writes_both_tables(
    run: hilum.Run, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del capsys
    ask: Callable[..., Any] = lambda *more: CliRunner().invoke(  # noqa: E731
        app, ["predict", str(run.folder), str(data / "clear"), *more]
    )
    assert ask("--patients", "--out", str(tmp_path / "p.csv")).exit_code == 0
    patients = rows_of(tmp_path / "p-patients.csv")
    images = rows_of(tmp_path / "p.csv")
    assert (len(patients), len(images)) == (15, 45)
    assert list(patients[0]) == [
        *("patient", "n_images", "predicted", "confidence", "p_clear", "p_opacity"),
        *("decision", "n_referred", "error"),
    ]
    told = json.loads(ask("--patients", "--json").stdout)
    assert [len(told["patients"]), len(told["images"])] == [15, 45]
    printed = ask("--patients").stdout.splitlines()
    assert len(printed) == 16
    assert "needs --patients" in str(ask("--patient-column", "x").exception)
    assert ask("--patients", "--out", str(tmp_path / "p.csv")).exit_code == 0
