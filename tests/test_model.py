from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hilum.calibrators import Calibrator
from hilum.errors import ModelError
from hilum.model import (
    LockedPoint,
    ModelFacts,
    TrainingData,
    find_model,
    load_facts,
    read_part,
    seal_point,
    write_model,
)
from hilum.operating_points import OperatingPoint, choose_operating_point, lock
from hilum.pixels import PixelSpec

CHOSEN = OperatingPoint("youden", 0.4, 0.9, 0.8, n=50, n_positive=20, reason="It is best.")
POINT = LockedPoint(
    rule="youden", threshold=0.4, sensitivity=0.9, specificity=0.8, n=50, reason="It is best.",
    locked="2026-01-01T00:00:00+00:00", sha256=lock(CHOSEN),
)  # fmt: skip


def facts(**changes: Any) -> ModelFacts:
    values: dict[str, Any] = {
        "hilum": "0.1.0",
        "created": "2026-01-01T00:00:00+00:00",
        "class_names": ("clear", "opacity"),
        "positive_class": "opacity",
        "preprocessing": PixelSpec(height=16, width=16),
        "calibration": Calibrator(method="temperature", slope=0.5),
        "operating_point": POINT,
        "referral": None,
        "network": {"network": "residual"},
        "mean": (120.0,),
        "std": (50.0,),
        "n_parameters": 10,
        "training_data": TrainingData(sha256="0" * 64, n_train=5, n_val=2, n_patients=None),
        "files": {},
    }
    return ModelFacts(**(values | changes))


def change(folder: Path, **changes: Any) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_model(tmp_path / "model", facts(), weights=b"weights", onnx=b"onnx")
    return tmp_path / "model"


def test_what_was_written_is_read_again(folder: Path) -> None:
    loaded = load_facts(folder)
    assert loaded.model_copy(update={"files": {}}) == facts()
    assert read_part(folder, loaded, "model.onnx") == b"onnx"
    assert read_part(folder, loaded, "weights.safetensors") == b"weights"


def test_a_run_folder_and_its_model_folder_are_the_same_model(folder: Path) -> None:
    assert find_model(folder) == find_model(folder.parent) == folder


def test_what_holds_no_model_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"x")
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{}")
    hint = "Give a run folder or its model folder."
    for path, message in (
        (tmp_path / "no", f"does not exist. {hint}"),
        (file, f"is a file, and a model is a folder with model.json in it. {hint}"),
        (tmp_path, "holds no model: there is no model.json in it."),
        (run, f"is a run that has not come to a model yet. Finish it with: hilum resume {run}"),
    ):
        with pytest.raises(ModelError) as error:
            find_model(path)
        assert str(error.value) == f"{path} {message}"


def test_a_damaged_part_is_refused(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"onny")
    (folder / "weights.safetensors").unlink()
    with pytest.raises(ModelError, match=r"is not the file that model\.json names: it was damaged"):
        read_part(folder, load_facts(folder), "model.onnx")
    with pytest.raises(ModelError, match=r"is missing. Copy the whole model folder again\."):
        read_part(folder, load_facts(folder), "weights.safetensors")


THREE = {"class_names": ["a", "b", "c"], "positive_class": None, "operating_point": None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"calibration": {"slope": 0}}, "calibration.slope: Input should be greater than 0"),
        ({"calibration": {"method": "isotonic"}}, "knots belong to an isotonic curve"),
        ({"surprise": 1}, "surprise: Extra inputs are not permitted"),
        ({"class_names": ["a"]}, "class_names: Tuple should have at least 2 items"),
        ({"class_names": ["opacity", "opacity"]}, "two classes have the same name"),
        ({"positive_class": "other"}, "the positive class is not one of the classes"),
        ({"positive_class": None}, "a positive class belongs to two classes"),
        ({"operating_point": None}, "two classes need a threshold"),
        (
            {"class_names": ["a", "b", "c"], "positive_class": None},
            "two classes need a threshold, and only two classes",
        ),
        ({"class_shares": [0.9, 0.1]}, "shares belong to more than two classes"),
        (THREE | {"class_shares": [0.9, 0.1]}, "there is not one share above 0 for each class"),
        (THREE | {"class_shares": [0.9, 0.1, 0]}, "there is not one share above 0 for each class"),
        (
            THREE | {"target": "ordinal", "class_shares": [0.5, 0.3, 0.2]},
            "shares belong to more than two classes",
        ),
        (THREE | {"class_shares": [0.5, 0.3, 0.2]}, "a calibrator has not one prior for each"),
        (THREE | {"calibration": {"priors": [-1.0, -2.0]}}, "a calibrator has not one prior for"),
        ({"calibration": {"priors": [-1.0, -2.0]}}, "priors belong to more than two classes, or"),
        (
            {"target": "ordinal", "positive_class": None, "operating_point": None},
            "two grades are classes",
        ),
        ({"network": {"channels": 3}}, "the network's channels is not that of the model"),
        ({"network": {"input_width": 32}}, "the network's input_width is not that of the model"),
        ({"network": {"target": "multilabel"}}, "the network's target is not that of the model"),
        ({"mean": [1.0, 2.0]}, "mean and deviation are not one for each channel"),
        (
            {"operating_point": POINT.model_dump() | {"threshold": 0.9}},
            "the threshold is not the one that was locked",
        ),
        (
            {"format_version": 1},
            "is in format 1, written by hilum 0.1.0, and this version reads format",
        ),
    ],
)
def test_facts_that_cannot_be_are_refused(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    change(folder, **changes)
    with pytest.raises(ModelError) as error:
        load_facts(folder)
    assert str(folder / "model.json") in str(error.value)
    assert message in str(error.value)


def test_the_margin_of_weighted_classes_is_that_of_their_shares() -> None:
    shares = (0.6, 0.3, 0.1)
    calibrator = Calibrator(priors=tuple(np.log(shares).tolist()))
    weighted = facts(**THREE, class_shares=shares, calibration=calibrator)
    probs = np.array([[0.6, 0.3, 0.1], [0.6, 0.2, 0.2]])
    assert weighted.margins(probs) == pytest.approx([0, np.log(2)])
    assert facts(**THREE).margins(probs) == pytest.approx([np.log(2), np.log(3)])


@pytest.mark.parametrize("content", [b"", b"\0" * 99, b"[" * 20_000, b'{"a": NaN}', b"\xff\xfe"])
def test_what_is_no_json_is_refused(folder: Path, content: bytes) -> None:
    (folder / "model.json").write_bytes(content)
    with pytest.raises(ModelError, match="is not a model description that this version can use"):
        load_facts(folder)


def test_a_model_of_thousands_of_labels_is_read_again(tmp_path: Path) -> None:
    names = [f"label {k}" for k in range(2000)]
    several = facts(
        class_names=names,
        target="multilabel",
        positive_class=None,
        operating_point=None,
        operating_points=dict.fromkeys(names, POINT),
        calibration=None,
        calibrations=dict.fromkeys(names, Calibrator(method="temperature", slope=0.5)),
    )
    write_model(tmp_path / "model", several, weights=b"", onnx=b"")
    assert load_facts(tmp_path / "model").class_names == tuple(names)


def test_what_cannot_be_estimated_is_sealed_as_null() -> None:
    point = choose_operating_point([], [])
    sealed = seal_point(point, now="2026-01-01T00:00:00+00:00")
    assert (sealed.threshold, sealed.sensitivity, sealed.specificity) == (0.5, None, None)
    assert sealed.reason == "No validation image has a known answer; the threshold stays at 0.5."
    assert sealed.sha256 == lock(point) == lock(sealed)


def test_another_pixel_path_is_refused(folder: Path) -> None:
    change(folder, pixel_path_version=999)
    with pytest.raises(ModelError, match="was made with version 999 of the pixel path"):
        load_facts(folder)
