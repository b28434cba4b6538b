from __future__ import annotations

import importlib
import json
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

import hilum
import hilum.evaluation
import hilum.runs
import tiny
from hilum.calibrators import Calibrator
from hilum.cli import app
from hilum.model import write_model
from hilum.networks import build_network
from hilum.preparation import prepare
from hilum.readers import read_bytes
from hilum.settings import Settings
from hilum.training import train_network

RUN_FILES = (
    "run.json", "samples.csv", "plan.json", "history.csv", "checkpoints/last.pt",
    "checkpoints/best.pt", "model/model.json", "model/weights.safetensors", "model/model.onnx",
    "model/references.safetensors", "model/README.md", "data_card.md",
    "predictions.csv", "patients.csv", "robustness.json", "metrics.json", "openings.jsonl",
    "report.html",
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_folder(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> hilum.Run:
    return tiny.train_tiny(data, tmp_path_factory.mktemp("runs") / "one")


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.shorten(monkeypatch)


@pytest.fixture
def unreported(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.shorten(monkeypatch, report=False)


def predictions_of(run: hilum.Run) -> pd.DataFrame:
    return pd.read_csv(run.folder / "predictions.csv", dtype={"patient": str})


def samples_of(run: hilum.Run) -> pd.DataFrame:
    return pd.read_csv(run.folder / "samples.csv", dtype=str, keep_default_na=False)


def openings_of(run: hilum.Run) -> list[dict[str, Any]]:
    text = (run.folder / "openings.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_a_run_folder_holds_what_the_contract_names(run: hilum.Run) -> None:
    for name in RUN_FILES:
        assert (run.folder / name).stat().st_size > 0, name
    left = {str(p.relative_to(run.folder)) for p in run.folder.rglob("*") if p.is_file()}
    assert left == set(RUN_FILES)


@pytest.mark.parametrize("left", [[], ["robustness.json"]])
def test_figures_under_changes_stay_when_the_test_is_opened_again(
    run: hilum.Run, tmp_path: Path, left: list[str]
) -> None:
    """Older runs hold them in metrics.json alone."""
    folder = tmp_path / "again"
    shutil.copytree(run.folder, folder)
    for name in left:
        (folder / name).unlink()
    found = hilum.evaluate(folder).metrics
    assert found["robustness"] == run.metrics["robustness"]
    assert found["robustness_on"] == run.metrics["robustness_on"]


def test_no_patient_is_in_two_splits_and_every_sample_in_one(run: hilum.Run) -> None:
    samples = samples_of(run)
    assert (samples.groupby("patient")["split"].nunique() == 1).all()
    assert set(samples["split"]) == {"train", "val", "test"}
    assert run.facts["patients"]["source"] == "known_pattern"
    assert run.facts["patients"]["n_patients"] == 60
    learnt_from = json.loads((run.folder / "model" / "model.json").read_text())["training_data"]
    samples = pd.read_csv(run.folder / "samples.csv", dtype=str)
    seen = samples["patient"][samples["split"].isin(["train", "val"])]
    assert learnt_from["n_patients"] == seen.nunique() < 60


def test_metrics_have_the_shape_of_the_contract(run: hilum.Run) -> None:
    metrics = run.metrics
    assert metrics["class_names"] == ["clear", "opacity"]
    assert metrics["positive_class"] == "opacity"
    for split in ("val", "test"):
        for name in (
            "accuracy", "balanced_accuracy", "auroc", "average_precision", "sensitivity",
            "specificity", "precision", "f1", "brier", "ece",
        ):  # fmt: skip
            figure = metrics[split][name]
            assert {"value", "ci_low", "ci_high", "n"} <= set(figure)
            if figure["value"] is not None and figure["ci_low"] is not None:
                assert figure["ci_low"] <= figure["value"] <= figure["ci_high"]
        assert np.sum(metrics[split]["confusion_matrix"]) == metrics[split]["n"]
        assert set(metrics[split]["classes"]) == {"clear", "opacity"}


def test_metrics_follow_from_predictions_and_the_locked_threshold(run: hilum.Run) -> None:
    table = predictions_of(run)
    threshold = run.facts["operating_point"]["threshold"]
    for split in ("val", "test"):
        rows = table[table["split"] == split]
        called = rows["p_opacity"] >= threshold
        assert (rows["predicted"] == np.where(called, "opacity", "clear")).all()
        ill = rows["label"] == "opacity"
        assert run.metrics[split]["sensitivity"]["value"] == pytest.approx(called[ill].mean())
        assert run.metrics[split]["specificity"]["value"] == pytest.approx(1 - called[~ill].mean())
    counts = samples_of(run)["split"].value_counts()
    assert (table["split"] == "test").sum() == counts["test"] == run.metrics["test"]["n"]
    assert (table["split"] == "val").sum() == counts["val"]


def test_the_threshold_comes_from_validation_alone(run: hilum.Run) -> None:
    """Youden's threshold, found again slowly from the validation rows."""
    rows = predictions_of(run).query("split == 'val'")
    ill = rows["label"] == "opacity"

    def youden(cut: float) -> float:
        called = rows["p_opacity"] >= cut
        return float(called[ill].mean() - called[~ill].mean())

    best = max(youden(cut) for cut in rows["p_opacity"])
    # Smoothed, the threshold may lose a little of what can be counted.
    error = math.sqrt(0.25 / ill.sum() + 0.25 / (~ill).sum())
    assert best - error <= youden(run.facts["operating_point"]["threshold"]) <= best


def test_predict_repeats_predictions_csv(run: hilum.Run, data: Path) -> None:
    table = predictions_of(run)
    found = hilum.predict(run.folder, [data / path for path in table["path"]])
    probs = np.array([prediction.probabilities for prediction in found])
    assert probs == pytest.approx(table[["p_clear", "p_opacity"]].to_numpy(), abs=1e-6)
    assert [prediction.predicted for prediction in found] == list(table["predicted"])


def test_the_pytorch_weights_give_the_same_probabilities(run: hilum.Run, data: Path) -> None:
    facts = json.loads((run.folder / "model" / "model.json").read_text())
    network = build_network(Settings(**facts["network"]), 2).eval()
    network.load_state_dict(load_file(run.folder / "model" / "weights.safetensors"))
    spec = hilum.PixelSpec(**facts["preprocessing"])
    table = predictions_of(run)
    pixels = [hilum.prepare(hilum.read(data / path), spec)[0] for path in table["path"]]
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        raw = network(images).numpy()
    probs = Calibrator(**facts["calibration"]).probabilities(raw)
    assert probs == pytest.approx(table[["p_clear", "p_opacity"]].to_numpy(), abs=1e-4)


def test_every_setting_of_the_plan_has_its_reason(run: hilum.Run) -> None:
    plan = json.loads((run.folder / "plan.json").read_text())
    assert set(plan) == set(Settings.model_fields)
    for name, entry in plan.items():
        assert entry["reason"].endswith("."), name
    assert plan["epochs"] == {"value": tiny.SETTINGS["epochs"], "reason": "Set by the user."}


def test_the_facts_that_the_plan_was_made_from_are_kept(run: hilum.Run) -> None:
    facts, counts = run.facts["fingerprint"], run.facts["splits"]["counts"]
    assert (facts["n_train"], facts["n_val"]) == (counts["train"]["n"], counts["val"]["n"])
    assert facts["class_counts"] == counts["train"]["classes"]
    assert set(facts["sides"]) == {"horizontal", "vertical", "transpose"}
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert f"{facts['n_train']:,} to learn from, {facts['n_val']:,} to validate by" in page


# -- the seal -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unreported")
def test_training_never_opens_a_test_image(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the split on, no test image is read until the opening is on record."""
    picture = hilum.Dataset.picture
    before_opening: list[str] = []

    def note(path: str) -> None:
        if (tmp_path / "run" / "plan.json").exists() and not (
            tmp_path / "run" / "openings.jsonl"
        ).exists():
            before_opening.append(path)

    def spy_on_pictures(self: Any, path: str) -> Any:
        note(path)
        return picture(self, path)

    def spy_on_bytes(file: Path, *, name: str) -> bytes:
        note(name)
        return read_bytes(file, name=name)

    monkeypatch.setattr(hilum.Dataset, "picture", spy_on_pictures)
    monkeypatch.setattr("hilum.scan.read_bytes", spy_on_bytes)
    run = tiny.train_tiny(data, tmp_path / "run", seed=5)
    samples = samples_of(run)
    assert set(before_opening) == set(samples["path"][samples["split"] != "test"])


@pytest.mark.usefixtures("unreported")
def test_changed_test_images_change_neither_weights_nor_threshold(
    run: hilum.Run, tmp_path: Path
) -> None:
    data = tiny.make_folder(tmp_path / "test images changed")
    samples = samples_of(run)
    rng = np.random.default_rng(9)
    for path in samples["path"][samples["split"] == "test"]:
        Image.fromarray(rng.integers(0, 256, (20, 24), dtype=np.uint8)).save(data / path)
    changed = tiny.train_tiny(data, tmp_path / "run")
    first, second = (load_file(r.folder / "model" / "weights.safetensors") for r in (run, changed))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert run.facts["operating_point"]["sha256"] == changed.facts["operating_point"]["sha256"]


def test_each_opening_is_on_record(run: hilum.Run) -> None:
    lines = openings_of(run)
    before = run.metrics
    n = before["test"]["n"]
    assert [(line["n"], line["purpose"]) for line in lines] == [(n, "to report")]
    assert lines[0]["operating_point_sha256"] == run.facts["operating_point"]["sha256"]
    patients = run.facts["patient_rules"]
    assert lines[0]["pooling_sha256"] == patients["pooling"]["sha256"]
    assert lines[0]["patient_point_sha256"] == patients["point"]["sha256"]
    again = hilum.evaluate(run.folder)
    lines = openings_of(run)
    assert [line["purpose"] for line in lines] == ["to report", "to report again"]
    assert again.metrics["test"] == before["test"]
    assert again.metrics["n_openings"] == 2


# -- resuming -------------------------------------------------------------------------------------


class KilledError(Exception):
    """Stands for the power cut."""


KILL_AT = (
    ("hilum.runs", "prepare", 0),
    ("hilum.records", "write_json", 1),
    ("hilum.runs", "train_network", 0),
    ("hilum.training", "validate", 1),
    ("hilum.training", "save_checkpoint", 1),
    ("hilum.release", "to_onnx", 0),
    ("hilum.model", "write_text", 0),
    ("hilum.runs", "predict_split", 0),
    ("hilum.runs", "predict_split", 1),
    ("hilum.runs", "measure", 0),
    ("hilum.runs", "_report", 0),
)


def killed_at(
    module: str, name: str, n_calls: int, work: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begin some work and have it die when a function is called for the n-th time."""
    original: Callable[..., Any] = getattr(importlib.import_module(module), name)
    calls = iter(range(10_000))

    def fail(*args: Any, **kwargs: Any) -> Any:
        if next(calls) >= n_calls:
            raise KilledError
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(f"{module}.{name}", fail)
        with pytest.raises(KilledError):
            work()


@pytest.mark.usefixtures("short")
def test_a_run_killed_again_and_again_resumes_to_the_same_end(
    run: hilum.Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time it dies a step later, in the same folder."""
    folder = tmp_path / "killed"

    def begin() -> Any:
        return tiny.train_tiny(data, folder)

    def go_on() -> Any:
        return hilum.resume(folder, command=["hilum", "resume"])

    for module, name, n_calls in KILL_AT:
        begun = (folder / "run.json").exists()
        killed_at(module, name, n_calls, go_on if begun else begin, monkeypatch)
    resumed = hilum.resume(folder)
    first, second = (load_file(r.folder / "model" / "weights.safetensors") for r in (run, resumed))
    assert all(torch.equal(first[key], second[key]) for key in first)
    pd.testing.assert_frame_equal(predictions_of(run), predictions_of(resumed))
    assert resumed.metrics["test"] == run.metrics["test"]
    assert resumed.facts["status"] == "finished"
    assert (resumed.folder / "report.html").exists()
    assert not list(resumed.folder.rglob("*.tmp"))


@pytest.mark.usefixtures("unreported")
def test_the_plan_of_a_run_repeats_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its plan another run has the same networks, splits, weights and probabilities.

    From wherever it is started or gone on with.
    """
    settings = tiny.SETTINGS | {"members": 2, "epochs": 2, "seed": 3, "val_share": 0.25}
    first = hilum.train(data, tmp_path / "first", settings=settings)
    monkeypatch.chdir(tmp_path)
    killed_at(
        "hilum.preparation", "make_plan", 0, lambda: hilum.train(data, "again", recipe="first"),
        monkeypatch,
    )  # fmt: skip
    monkeypatch.chdir("/")
    again = hilum.resume(tmp_path / "again")
    pd.testing.assert_frame_equal(predictions_of(first), predictions_of(again))
    assert again.facts["seed"] == 3
    folds = hilum.train(
        data, tmp_path / "folds", recipe=first.folder, options=hilum.DataOptions(folds=2)
    )
    plan = json.loads((folds.folder / "plan.json").read_text())
    assert plan["members"] == {
        "value": 2, "reason": f"By the plan of {first.folder}. Set by the user.",
    }  # fmt: skip


def test_memory_that_ends_while_training_is_told(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    tiny.shorten(monkeypatch)
    monkeypatch.setattr("hilum.runs.train_network", full)
    with pytest.raises(hilum.RunError) as caught:
        tiny.train_tiny(data, tmp_path / "run")
    assert str(caught.value) == (
        "There is too little memory to train on images of 16×16, 8 at a time. Start a new run with "
        "a smaller input or --set batch_size=…."
    )


@pytest.mark.usefixtures("unreported")
def test_calibration_is_on_record_wherever_the_run_was_killed(
    run: hilum.Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_and_die(*args: Any, **kwargs: Any) -> None:
        write_model(*args, **kwargs)
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr("hilum.release.write_model", write_and_die)
        with pytest.raises(KilledError):
            tiny.train_tiny(data, tmp_path / "run")
    assert hilum.resume(tmp_path / "run").facts["calibration"] == run.facts["calibration"]


def test_what_another_process_wrote_before_the_lock_was_free_is_kept(
    run: hilum.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)

    @contextmanager
    def late(_: Path) -> Iterator[None]:
        path = folder / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"added": "meanwhile"}))
        yield

    monkeypatch.setattr("hilum.runs.locked", late)
    assert hilum.evaluate(folder, prevalences=[0.3]).facts["added"] == "meanwhile"


@pytest.mark.usefixtures("short")
def test_each_session_is_on_record(
    run: hilum.Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When work went on, by which command, on what machine, with which versions."""
    (session,) = run.facts["sessions"]
    assert session["command"] == ["hilum.train"]
    assert session["versions"] == run.facts["versions"]
    assert session["hardware"]["device"] == "cpu"
    folder = tmp_path / "killed"
    killed_at("hilum.runs", "train_network", 0, lambda: tiny.train_tiny(data, folder), monkeypatch)
    monkeypatch.setattr("hilum.records.versions", lambda: {"python": "3.99"})
    killed_at("hilum.runs", "train_network", 0, lambda: hilum.resume(folder), monkeypatch)
    facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    first, second = facts["sessions"]
    assert (first["command"], second["command"]) == (["hilum.train"], ["hilum.resume"])
    assert first["started"] <= second["started"]
    assert first["versions"] == facts["versions"]
    assert second["versions"] == {"python": "3.99"}


@pytest.mark.usefixtures("short")
def test_the_time_of_a_run_is_that_of_all_its_sessions_from_the_start_of_each(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = [0.0]
    monkeypatch.setattr("hilum.runs.time", SimpleNamespace(monotonic=lambda: sum(passed)))

    def slowly(function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
        def work(*args: Any, **kwargs: Any) -> Any:
            passed.append(seconds)
            return function(*args, **kwargs)

        return work

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hilum.runs.prepare", slowly(prepare, 100))
    monkeypatch.setattr("hilum.runs.train_network", slowly(interrupt, 1000))
    with pytest.raises(KeyboardInterrupt):
        tiny.train_tiny(data, tmp_path / "run")
    passed.append(86_400)  # until the next morning
    monkeypatch.setattr("hilum.runs.train_network", slowly(train_network, 10))
    assert hilum.resume(tmp_path / "run").facts["elapsed_s"] == 1110


def test_a_finished_run_is_not_resumed_nor_overwritten(run: hilum.Run, data: Path) -> None:
    with pytest.raises(hilum.RunError) as error:
        hilum.resume(run.folder)
    assert str(error.value) == f"{run.folder} is finished. See {run.folder / 'report.html'}."
    with pytest.raises(hilum.RunError) as error:
        tiny.train_tiny(data, run.folder)
    assert str(error.value) == (
        f"{run.folder} already holds a run. Go on with it by: hilum resume {run.folder}, or "
        "choose another folder."
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"minutes": "2"}, "minutes is '2'. Give a number above 0, such as 5."),
        ({"options": {"folds": 2}}, "options is {'folds': 2}. Give hilum.DataOptions(…)."),
        (
            {"settings": {"epochs": {3}}},
            "The setting 'epochs' is {3}, which no file can hold. Give what JSON knows.",
        ),
    ],
)
def test_arguments_of_other_types_are_refused_before_anything_is_written(
    data: Path, tmp_path: Path, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(hilum.SettingError) as error:
        hilum.train(data, tmp_path / "run", **wrong)
    assert str(error.value) == message
    assert not (tmp_path / "run").exists()


def test_a_folder_with_other_things_is_left_alone(data: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("years of work")
    with pytest.raises(hilum.RunError) as error:
        tiny.train_tiny(data, tmp_path)
    assert str(error.value) == (
        f"{tmp_path} exists and is not empty. Choose a new folder for the run."
    )
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.doc"]


def test_a_test_image_changed_after_training_is_named(run: hilum.Run, data: Path) -> None:
    samples = samples_of(run)
    changed = samples["path"][samples["split"] == "test"].iloc[0]
    other = samples["path"][samples["split"] == "train"].iloc[0]
    before = (data / changed).read_bytes()
    (data / changed).write_bytes((data / other).read_bytes())
    try:
        with pytest.raises(hilum.DataError, match=f"{changed} has changed since the data were"):
            hilum.evaluate(run.folder)
    finally:
        (data / changed).write_bytes(before)


# -- other kinds of data --------------------------------------------------------------------------


@pytest.mark.usefixtures("unreported")
def test_several_classes(tmp_path: Path) -> None:
    data = tiny.make_folder(tmp_path / "data", classes=("a", "b", "c"), n_patients=20)
    run = tiny.train_tiny(data, tmp_path / "run")
    assert run.metrics["positive_class"] is None
    assert run.facts["operating_point"] is None
    assert run.metrics["test"]["threshold"] is None
    probs = predictions_of(run)[["p_a", "p_b", "p_c"]]
    assert probs.sum(axis=1).to_numpy() == pytest.approx(1)
    assert list(predictions_of(run)["predicted"]) == [
        str(name).removeprefix("p_") for name in probs.idxmax(axis=1)
    ]


@pytest.mark.usefixtures("unreported")
def test_weighted_classes_are_called_over_their_shares(tmp_path: Path) -> None:
    data = tiny.make_folder(tmp_path / "data", classes=("a", "b", "c"), n_patients=20)
    for path in (data / "c").glob("case2[01]*"):
        if int(path.name[5:7]) > 5:
            path.unlink()
    run = tiny.train_tiny(data, tmp_path / "run", class_weights="root")
    facts = hilum.load(run.folder).facts
    trained = pd.read_csv(run.folder / "samples.csv").query("split == 'train'")["label"]
    shares = trained.value_counts(normalize=True)[["a", "b", "c"]].to_numpy()
    assert facts.class_shares == pytest.approx(shares)
    assert facts.calibration is not None
    assert np.exp(facts.calibration.priors) == pytest.approx(shares**0.5 / (shares**0.5).sum())
    (opening,) = (run.folder / "openings.jsonl").read_text().splitlines()
    assert json.loads(opening)["class_shares"] == pytest.approx(shares)
    table = predictions_of(run)
    leads = table[["p_a", "p_b", "p_c"]].div(shares, axis=1).idxmax(axis=1)
    assert list(table["predicted"]) == [str(name).removeprefix("p_") for name in leads]
    likeliest = table[["p_a", "p_b", "p_c"]].idxmax(axis=1)
    assert (likeliest != leads).any()
    patients = pd.read_csv(run.folder / "patients.csv")
    of_patients = patients[["p_a", "p_b", "p_c"]].div(shares, axis=1).idxmax(axis=1)
    assert [f"p_{name}" for name in patients["predicted"]] == of_patients.astype(str).to_list()
    test = table[table["split"] == "test"]
    counts = pd.crosstab(test["label"], test["predicted"]).reindex(
        index=["a", "b", "c"], columns=["a", "b", "c"], fill_value=0
    )
    assert run.metrics["test"]["confusion_matrix"] == counts.to_numpy().tolist()
    answered = hilum.load(run.folder).predict([data / path for path in test["path"]])
    assert [each.predicted for each in answered] == list(test["predicted"])
    image = str(data / test["path"].iloc[0])
    said = CliRunner().invoke(app, ["predict", str(run.folder), image]).stderr
    assert "Called is the class whose probability is greatest in proportion to its share" in said


@pytest.mark.usefixtures("unreported")
def test_table_with_a_patient_column_and_metadata(tmp_path: Path) -> None:
    folder = tiny.make_folder(tmp_path / "data", n_images=1)
    files = sorted(folder.rglob("*.png"))
    table = pd.DataFrame(
        {
            "path": [path.relative_to(tmp_path).as_posix() for path in files],
            "label": [path.parent.name for path in files],
            "patient": [f"{number // 3:03d}" for number in range(len(files))],
            "age": range(len(files)),
            "sex": ["F" if number % 2 else "M" for number in range(len(files))],
        }
    )
    table.to_csv(tmp_path / "table.csv", index=False)
    run = tiny.train_tiny(tmp_path / "table.csv", tmp_path / "run")
    assert run.facts["patients"]["column"] == "patient"
    assert set(samples_of(run).columns) >= {"age", "patient", "split", "sha256", "excluded"}
    assert math.isfinite(run.metrics["test"]["auroc"]["value"])
    opened, before = openings_of(run), run.metrics["test"]
    assert {row["column"] for row in before["subgroups"]} == {"age", "sex"}
    asked = hilum.evaluate(run.folder, prevalences=[0.03], subgroups=["sex"]).metrics["test"]
    assert [row["prevalence"] for row in asked["ppv_npv"] if row["wanted"]] == [0.03]
    again = hilum.evaluate(run.folder, subgroups=["age"]).metrics["test"]
    assert again["ppv_npv"] == asked["ppv_npv"]
    for found in (asked, again):
        # Groups by other columns stay, and nothing else changes.
        assert sorted(found["subgroups"], key=json.dumps) == sorted(
            before["subgroups"], key=json.dumps
        )
        assert found["subgroup_notes"] == before["subgroup_notes"]
        assert found["auroc"] == before["auroc"]
    assert openings_of(run) == opened


def table_of(folder: Path, *, of_labels: bool) -> Path:
    """Write a table with more columns than are taken unasked, of a class or of two labels."""
    files = sorted(tiny.make_folder(folder, n_images=1).rglob("*.png"))
    ill = [int(path.parent.name == "opacity") for path in files]
    columns = {"a": ill, "b": [1 - k for k in ill]} if of_labels else {"label": ill}
    columns |= {f"column {n}": [k % 2 for k in range(len(files))] for n in range(9)}
    table = pd.DataFrame({"path": [path.relative_to(folder).as_posix() for path in files]})
    table.assign(**columns).to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


@pytest.mark.usefixtures("unreported")
@pytest.mark.parametrize("of_labels", [False, True])
def test_what_was_asked_for_stays_when_the_test_is_opened_again(
    tmp_path: Path, of_labels: bool
) -> None:
    options = hilum.DataOptions(columns=hilum.Columns(labels=("a", "b") if of_labels else None))
    run = hilum.train(
        table_of(tmp_path / "data", of_labels=of_labels),
        tmp_path / "run",
        settings=tiny.SETTINGS,
        options=options,
    )
    hilum.evaluate(run.folder, prevalences=[0.03, 0.04])
    asked = hilum.evaluate(run.folder, subgroups=["column 8"]).metrics
    again = hilum.evaluate(run.folder).metrics
    for split in ("val", "test"):
        assert again[split] == asked[split]
        found = again[split]["labels"]["b"] if of_labels else again[split]
        assert [row["prevalence"] for row in found["ppv_npv"] if row["wanted"]] == [0.03, 0.04]
        assert {row["column"] for row in found["subgroups"]} == {f"column {n}" for n in range(9)}
    assert (asked["n_openings"], again["n_openings"]) == (1, 2)


@pytest.mark.usefixtures("unreported")
def test_npz(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, n in (("train", 60), ("val", 44), ("test", 40)):
        labels = np.arange(n) % 2
        arrays[f"{split}_images"] = np.stack([tiny.draw(int(label), rng) for label in labels])
        arrays[f"{split}_labels"] = labels[:, None]
    np.savez(tmp_path / "data.npz", **arrays)
    run = tiny.train_tiny(tmp_path / "data.npz", tmp_path / "run")
    assert run.facts["patients"]["n_patients"] is None
    assert run.metrics["test"]["n_patients"] is None
    table = predictions_of(run)
    found = {p.path: p for p in hilum.predict(run.folder, tmp_path / "data.npz")}
    again = [found[path].probabilities[1] for path in table["path"]]
    assert again == pytest.approx(list(table["p_1"]), abs=1e-6)


@pytest.mark.usefixtures("short")
def test_unreadable_files_are_on_record(tmp_path: Path) -> None:
    data = tiny.make_folder(tmp_path / "data")
    (data / "clear" / "case999_0.png").write_bytes(b"not an image")
    with pytest.raises(hilum.DataError, match="--skip-unreadable"):
        tiny.train_tiny(data, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    options = hilum.DataOptions(skip_unreadable=True)
    run = hilum.train(data, tmp_path / "run", settings=tiny.SETTINGS, options=options)
    samples = samples_of(run)
    (bad,) = samples[samples["excluded"] == "true"].to_dict("records")
    assert bad["path"] == "clear/case999_0.png"
    assert bad["split"] == ""
    assert bad["reason"]
    assert run.facts["data"]["n_excluded"] == 1
    assert "case999_0.png" in (run.folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("short")
def test_overlap_trains_only_when_allowed_and_is_on_the_first_page(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for split, seed in (("train", 0), ("val", 1), ("test", 2)):
        tiny.make_folder(data / split, seed=seed, n_patients=25, n_images=1)
    with pytest.raises(hilum.PatientOverlapError, match="50 patients are in more than one split"):
        tiny.train_tiny(data, tmp_path / "refused")
    options = hilum.DataOptions(allow_patient_overlap=True)
    run = hilum.train(data, tmp_path / "run", settings=tiny.SETTINGS, options=options)
    assert run.facts["splits"]["overlap"]["n_patients"] == 50
    report = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "50 patients" in report
    options = hilum.DataOptions(new_split=True)
    assert prepare(data, settings=tiny.SETTINGS, options=options).split.overlap is None
