from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.numpy
from PIL import Image

import hilum
import tiny
from hilum import tables
from hilum.inference import (
    BATCH_SIZE,
    TABLE_SUFFIXES,
    Prediction,
    find_inputs,
    open_inputs,
    row_columns,
)
from hilum.model import REFERENCES_FILE, describe_graph, load_facts, write_model
from hilum.pixels import PixelSpec
from hilum.printing import write_rows
from hilum.referral import UNLIKE


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_folder(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> hilum.Run:
    return tiny.train_tiny(data, tmp_path_factory.mktemp("runs") / "one")


@pytest.fixture(scope="module")
def model(run: hilum.Run) -> hilum.Model:
    return hilum.load(run.folder)


def probs_of(predictions: list[Prediction]) -> list[float]:
    return [prediction.probabilities[1] for prediction in predictions]


def test_a_path_its_pixels_and_its_bytes_in_another_form_predict_the_same(
    model: hilum.Model, data: Path, tmp_path: Path
) -> None:
    path = data / "opacity" / "case100_0.png"
    pixels = np.asarray(Image.open(path))
    Image.fromarray(pixels).save(tmp_path / "same.tif")
    Image.fromarray(pixels).convert("RGB").save(tmp_path / "colour.png")
    np.save(tmp_path / "same.npy", pixels)
    inputs: list[Any] = [path, pixels, pixels[:, :, None], *sorted(tmp_path.iterdir())]
    found = model.predict(inputs)
    assert [p.error for p in found] == [""] * 6
    assert probs_of(found) == pytest.approx([probs_of(found)[0]] * 6, abs=1e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_eight_orientations_of_one_picture_predict_the_same(
    model: hilum.Model, data: Path, tmp_path: Path, orientation: int
) -> None:
    upright = np.asarray(Image.open(data / "opacity" / "case100_0.png"))
    # How the sensor stored what the tag turns upright again (EXIF 2.32, tag 0x0112).
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    image = Image.fromarray(np.ascontiguousarray(stored))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "turned.png", exif=exif)
    turned, straight = model.predict([tmp_path / "turned.png", upright])
    assert turned.probabilities == pytest.approx(straight.probabilities, abs=1e-6)


def test_the_number_of_inputs_changes_no_answer(model: hilum.Model, data: Path) -> None:
    everything = model.predict(data)
    assert len(everything) == 120 > BATCH_SIZE
    alone = [model.predict(data / path)[0] for path in ("clear/case000_0.png",)]
    assert probs_of(alone)[0] == pytest.approx(probs_of(everything)[0], abs=1e-6)


def test_each_frame_is_answered(model: hilum.Model, data: Path) -> None:
    frames = np.stack([np.asarray(Image.open(p)) for p in sorted((data / "clear").iterdir())[:3]])
    found = model.predict(frames[..., None])
    assert [p.frame for p in found] == [0, 1, 2]
    one_by_one = [model.predict(frame)[0] for frame in frames]
    assert probs_of(found) == pytest.approx(probs_of(one_by_one), abs=1e-6)


def test_what_cannot_be_read_is_refused_among_answers(
    model: hilum.Model, data: Path, tmp_path: Path
) -> None:
    good = data / "clear" / "case000_0.png"
    (tmp_path / "bad.png").write_bytes(b"nonsense")
    float_array = np.zeros((5, 5))
    strange = np.zeros((5, 5, 7), dtype=np.uint8)
    found = model.predict([good, tmp_path / "bad.png", float_array, strange, good])
    assert [p.decision == "refused" for p in found] == [False, True, True, True, False]
    assert found[0].probabilities == found[4].probabilities
    assert found[2].error == "an array of type float64 has no stated range: give uint8 or uint16"
    assert found[3].error == (
        "an array of shape (5, 5, 7) is no image: expected (height, width), (height, width, 1 or "
        "3) or (frames, height, width, 1 or 3)"
    )


def test_decisions_follow_the_locked_threshold(model: hilum.Model, data: Path) -> None:
    point = model.facts.operating_point
    assert point is not None
    for prediction in model.predict(data):
        positive = prediction.probabilities[1] >= point.threshold
        assert prediction.predicted == ("clear", "opacity")[positive]
        assert prediction.decision == ("refer" if prediction.reason else prediction.predicted)
        assert prediction.confidence == prediction.probabilities[int(positive)]


def test_a_file_of_many_frames_goes_through_in_batches(
    model: hilum.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (75, 16, 16, 1), dtype=np.uint8)
    sizes: list[int] = []
    whole = model.probabilities(frames)
    compute = model.run

    def counted(pixels: Any) -> Any:
        sizes.append(len(pixels))
        return compute(pixels)

    monkeypatch.setattr(model, "run", counted)
    found = model.predict(frames)
    whole_batches, left = divmod(75, BATCH_SIZE)
    assert sorted(sizes) == [left] + [BATCH_SIZE] * whole_batches  # computed side by side
    assert [p.frame for p in found] == list(range(75))
    assert probs_of(found) == pytest.approx(whole[:, 1].tolist(), abs=1e-6)


def test_whole_batches_of_what_cannot_be_read_keep_their_places(
    model: hilum.Model, data: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nonsense")
    good = sorted((data / "clear").iterdir())[: BATCH_SIZE + 3]
    mixed = [*good[:3], *[bad] * (3 * BATCH_SIZE), *good[3:]]
    opened = [list(model.predict_each(open_inputs(mixed), side_by_side=n)) for n in (1, 2, 5)]
    assert opened[0] == opened[1] == opened[2]
    assert [p.decision == "refused" for p in opened[0]] == [path == bad for path in mixed]
    answered = [p for p in opened[0] if p.decision != "refused"]
    assert probs_of(answered) == pytest.approx(probs_of(model.predict(good)), abs=1e-6)
    assert [p.reason for p in answered] == [p.reason for p in model.predict(good)]


def test_tables_are_read_as_in_training(
    model: hilum.Model, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a.png").write_bytes((data / "clear" / "case000_0.png").read_bytes())
    (tmp_path / "x" / "notes.txt").write_text("")
    (tmp_path / "t.tsv").write_text("Path\tlabel\n x\\a.png\tclear\n./x/a.png\tclear\n")
    found = model.predict(tmp_path / "t.tsv")
    assert [(p.path, p.error) for p in found] == [("x/a.png", "")] * 2
    assert not caplog.messages
    assert len(model.predict(tmp_path / "x")) == 1
    (message,) = caplog.messages
    assert message == (
        f"{tmp_path / 'x'}: 1 file was left aside, being no images by name: 'x/notes.txt'."
    )


def test_every_kind_of_table_is_known_without_pandas() -> None:
    assert TABLE_SUFFIXES == tables.SUFFIXES
    code = (
        "import sys; from hilum.inference import find_inputs; find_inputs('a.png'); "
        "sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_rows_of_names_that_are_not_utf8_and_of_nothing_can_be_written(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    row = Prediction(name, 0, "", None, (), "refused", "why").row(["a", "b"])
    assert row["path"] == "caf\\xe9.png"
    write_rows(tmp_path / "p.csv", [row], row_columns(["a", "b"]))
    write_rows(tmp_path / "none.csv", [], row_columns(["a", "b"]))
    header = "path,frame,predicted,confidence,p_a,p_b,decision,error,prediction_set,reason\n"
    assert (tmp_path / "none.csv").read_text() == header
    assert (tmp_path / "p.csv").read_text() == f"{header}caf\\xe9.png,0,,,,,refused,why,,\n"


def test_inputs_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "t.csv").write_text("file,label\na.png,b\n")
    (tmp_path / "none.csv").write_text("path\n")
    (tmp_path / "two.csv").write_text("path,Path\na.png,b\n")
    for path, message in (
        (tmp_path / "empty", "holds no images."),
        (tmp_path / "t.csv", "has no column 'path'. Its columns are: file, label."),
        (tmp_path / "none.csv", "has no rows."),
        (
            tmp_path / "two.csv",
            "has several columns that may be the path: path, Path. Rename all but one.",
        ),
    ):
        with pytest.raises(hilum.DataError) as error:
            find_inputs(path)
        assert str(error.value) == f"{path} {message}"


def test_images_of_several_inputs_bear_names_that_tell_them_apart(
    model: hilum.Model, tmp_path: Path
) -> None:
    pixels = np.zeros((2, 20, 20), dtype=np.uint8)
    for folder in ("north", "south"):
        (tmp_path / folder).mkdir()
        arrays = {"train_images": pixels, "train_labels": np.array([0, 1])}
        np.savez(tmp_path / f"{folder}.npz", **arrays)  # type: ignore[arg-type]
        (tmp_path / folder / "t.csv").write_text("path\na.png\n")
        Image.fromarray(pixels[0]).save(tmp_path / folder / "a.png")
    (tmp_path / "one.npz").write_bytes(b"nonsense")
    names = ("north.npz", "south.npz", "north/t.csv", "south/t.csv", "north", "one.npz")
    found = model.predict([tmp_path / name for name in names])
    assert [Path(p.path).relative_to(tmp_path).as_posix() for p in found] == [
        *("north.npz/train/0", "north.npz/train/1", "south.npz/train/0", "south.npz/train/1"),
        *("north/a.png", "south/a.png", "north/a.png", "one.npz"),
    ]
    for name, path in (("north.npz", "train/0"), ("north/t.csv", "a.png")):
        assert model.predict([tmp_path / name])[0].path == path  # alone, as it is named there


def test_an_image_unlike_the_training_data_is_referred(model: hilum.Model, data: Path) -> None:
    rules = model.facts.referral
    assert rules is not None
    assert rules.strangeness is not None
    stripes = np.tile(np.array([[0, 255]], dtype=np.uint8), (20, 12))
    (found,) = model.predict(stripes)
    assert found.decision == "refer"
    assert UNLIKE in found.reason.split("; ")
    assert found.predicted in model.class_names
    honest = model.predict(data)
    assert sum(UNLIKE in p.reason for p in honest) < 0.2 * len(honest)


def test_a_model_without_rules_answers_everything(data: Path, tmp_path: Path) -> None:
    off = {"set_coverage": None, "refer_uncertain": None, "refer_unlike": None, "epochs": 1}
    run = tiny.train_tiny(data, tmp_path / "run", **off)
    assert not (run.folder / "model" / REFERENCES_FILE).exists()
    found = hilum.predict(run.folder, data)
    assert all(p.decision == p.predicted and p.prediction_set is None for p in found)
    assert run.metrics["test"]["referral"]["share_referred"]["value"] == 0
    assert "conformal" not in run.metrics["test"]


def test_sets_and_referral_are_as_the_run_wrote_them(tmp_path: Path) -> None:
    data = tiny.make_folder(tmp_path / "data", n_images=1)
    changes = {"set_coverage": 0.5, "refer_uncertain": 0.4, "val_share": 0.4}
    run = tiny.train_tiny(data, tmp_path / "run", **changes)
    with (run.folder / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    found = hilum.predict(run.folder, [data / row["path"] for row in rows])
    assert [p.row(["clear", "opacity"])["prediction_set"] for p in found] == [
        row["prediction_set"] for row in rows
    ]
    assert [(p.decision, p.reason) for p in found] == [(r["decision"], r["reason"]) for r in rows]
    for split in ("val", "test"):
        mine = [row for row in rows if row["split"] == split]
        figures = run.metrics[split]
        held = [row["label"] in row["prediction_set"].split("|") for row in mine]
        assert figures["conformal"]["coverage"]["value"] == pytest.approx(np.mean(held))
        share = np.mean([row["decision"] == "refer" for row in mine])
        assert figures["referral"]["share_referred"]["value"] == pytest.approx(share)
    rules = load_facts(run.folder / "model").referral
    assert rules is not None
    assert run.facts["referral"]["sha256"] == rules.sha256


def test_prediction_imports_no_training_libraries(run: hilum.Run, data: Path) -> None:
    code = (
        "import sys, hilum\n"
        f"hilum.predict({str(run.folder)!r}, {str(data / 'clear' / 'case000_0.png')!r})\n"
        "sys.exit(' '.join({'torch', 'pandas', 'sklearn', 'scipy', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def rewritten(run: hilum.Run, folder: Path, references: bytes | None) -> Path:
    """Write the model anew with other references, hashed as its own."""
    source = run.folder / "model"
    parts = [(source / name).read_bytes() for name in ("weights.safetensors", "model.onnx")]
    write_model(folder, load_facts(source), weights=parts[0], onnx=parts[1], references=references)
    return folder


def test_references_that_do_not_belong_are_refused(run: hilum.Run, tmp_path: Path) -> None:
    path = run.folder / "model" / REFERENCES_FILE
    tensors = safetensors.numpy.load(path.read_bytes())
    for number, (references, message) in enumerate(
        (
            (None, "is missing. Copy the whole model folder again."),
            (b"nonsense", "holds no reference images"),
            (
                safetensors.numpy.save(
                    tensors
                    | {
                        "features.vectors": np.ones((len(tensors["features.vectors"]), 5), "f4"),
                        "features.spread": np.ones(5, "f4"),
                    }
                ),
                "does not belong to model.onnx",
            ),
        )
    ):
        folder = rewritten(run, tmp_path / str(number), references)
        with pytest.raises(hilum.ModelError) as error:
            hilum.load(folder)
        assert str(error.value).startswith(str(folder / REFERENCES_FILE))
        assert message in str(error.value)
    exchanged = rewritten(run, tmp_path / "exchanged", path.read_bytes())
    (exchanged / REFERENCES_FILE).write_bytes(path.read_bytes() + b" ")
    with pytest.raises(hilum.ModelError, match="it was damaged or exchanged"):
        hilum.load(exchanged)


@pytest.mark.parametrize("fault", ["not a number", "nonsense", "wrong classes"])
def test_a_model_that_cannot_answer_is_refused_when_loaded(
    run: hilum.Run, tmp_path: Path, fault: str
) -> None:
    source = run.folder / "model"
    facts = load_facts(source)
    network = onnx.load(source / "model.onnx")
    if fault == "not a number":
        for weights in network.graph.initializer:
            values = onnx.numpy_helper.to_array(weights)
            if values.dtype == np.float32 and values.ndim == 4:
                broken = onnx.numpy_helper.from_array(np.full_like(values, np.nan), weights.name)
                weights.CopyFrom(broken)
    if fault == "wrong classes":
        point = None
        told = describe_graph(("a", "b", "c"), facts.preprocessing)
        onnx.helper.set_model_props(network, told)
        facts = facts.model_copy(
            update={
                "class_names": ("a", "b", "c"),
                "positive_class": None,
                "operating_point": point,
                "patient_pooling": None,
                "patient_point": None,
                "referral": None,
            }
        )
    data = b"nonsense" if fault == "nonsense" else network.SerializeToString()
    references = (source / REFERENCES_FILE).read_bytes()
    write_model(tmp_path / "model", facts, weights=b"", onnx=data, references=references)
    with pytest.raises(hilum.ModelError) as error:
        hilum.load(tmp_path)
    expected = "is not a model that can run" if fault == "nonsense" else "fails its self-check"
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"class_names": ("opacity", "clear")},
            'class_names is ["opacity", "clear"] in the one and ["clear", "opacity"] in the other.',
        ),
        (
            {"preprocessing": PixelSpec(height=16, width=16, resize="crop")},
            'preprocessing is {"channels": 1, "height": 16, "ranges": {}, "resize": "crop", '
            '"width": 16} in the one and {"channels": 1, "height": 16, "ranges": {}, "resize": '
            '"letterbox", "width": 16} in the other.',
        ),
    ],
)
def test_a_graph_of_other_classes_or_preprocessing_is_refused(
    run: hilum.Run, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(run.folder / "model", folder)
    changed = load_facts(folder).model_copy(update=changes)
    (folder / "model.json").write_text(changed.model_dump_json())
    with pytest.raises(hilum.ModelError) as error:
        hilum.load(folder)
    assert str(error.value) == (
        f"{folder / 'model.json'} and model.onnx do not belong together: {message} Copy the whole "
        "model folder again."
    )


def test_probabilities_that_are_no_numbers_are_no_answer(model: hilum.Model) -> None:
    class Broken:
        def run(self, *_: Any) -> list[Any]:
            return [np.array([[0.5, 0.5], [np.nan, 0.5]], np.float32), np.zeros((2, 8), np.float32)]

    broken = hilum.Model(model.facts, Broken(), model.references)
    with pytest.raises(hilum.ModelError) as error:
        broken.predict(np.zeros((2, 16, 16, 1), np.uint8))
    assert str(error.value) == (
        "The model gives probabilities that are no numbers for 1 of 2 images. Do not use it: train "
        "again, with a lower learning rate."
    )


def test_every_odd_file_is_answered_or_refused_in_its_own_row(
    run: hilum.Run, hilum_data: Path, tmp_path: Path
) -> None:
    """The same through the command line as through Python."""
    root = hilum_data / "odd-files"
    with (root / "MANIFEST.csv").open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["family"] != "model"]
    (tmp_path / "table.csv").write_text(
        "path\n" + "".join(f'"{(root / row["path"]).resolve()}"\n' for row in rows)
    )
    out = tmp_path / "predictions.csv"
    command = [sys.executable, "-m", "hilum.cli", "predict"]
    inputs = [str(run.folder), str(tmp_path / "table.csv"), "--out", str(out)]
    done = subprocess.run([*command, *inputs], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    with out.open(newline="", encoding="utf-8") as stream:
        answers: dict[str, list[dict[str, str]]] = {}
        for answer in csv.DictReader(stream):
            answers.setdefault(answer["path"], []).append(answer)
    assert len(answers) == len(rows)
    n_refused = sum(answer["decision"] == "refused" for of in answers.values() for answer in of)
    # One line for each refusal and one for the file written: nothing else is said.
    assert len(done.stderr.splitlines()) == n_refused + 1
    assert "Traceback" not in done.stderr
    wrong = {
        row["path"]
        for row in rows
        for answer in answers[str((root / row["path"]).resolve())]
        if row["expect"] in ("read", "refuse")
        and (answer["decision"] == "refused") != (row["expect"] == "refuse")
    }
    # Two whose pixel data are damaged, which the manifest's makers did not notice.
    assert wrong == {"pillow/hopper_bad_exif.jpg", "image-png/bugfixes/x_interlaced_chck.png"}


def test_odd_model_files_are_refused(hilum_data: Path) -> None:
    for path in sorted((hilum_data / "odd-files" / "synth" / "model").iterdir()):
        with pytest.raises(hilum.ModelError, match="is a file, and a model is a folder"):
            hilum.load(path)
