from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

import hilum
import tiny
from hilum.columns import Columns
from hilum.errors import DataError, SettingError
from hilum.external import _own_columns, map_labels, match_classes, match_labels


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_folder(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> hilum.Run:
    with pytest.MonkeyPatch.context() as patch:
        tiny.shorten(patch)
        return tiny.train_tiny(data, tmp_path_factory.mktemp("runs") / "one", epochs=2)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    return tiny.make_folder(tmp_path / "elsewhere", seed=7, n_patients=12)


def test_figures_stand_at_the_locked_threshold_and_test_stays_closed(
    run: hilum.Run, elsewhere: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = min((elsewhere / "clear").iterdir())
    with first.open("ab") as file:
        file.write(b"tail")
    before = (run.folder / "openings.jsonl").read_bytes()
    metrics = (run.folder / "metrics.json").read_bytes()
    with caplog.at_level("INFO"):
        done = hilum.evaluate(run.folder, elsewhere)
    assert (run.folder / "openings.jsonl").read_bytes() == before
    assert (run.folder / "metrics.json").read_bytes() == metrics
    found = json.loads((run.folder / "external" / "elsewhere.json").read_text(encoding="utf-8"))
    rows = pd.read_csv(run.folder / "external" / "elsewhere.csv")
    threshold = run.facts["operating_point"]["threshold"]
    assert found["metrics"]["threshold"] == threshold
    ill = rows["label"] == "opacity"
    called = rows["p_opacity"] >= threshold
    assert found["metrics"]["sensitivity"]["value"] == pytest.approx(called[ill].mean())
    assert found["metrics"]["n"] == len(rows) == 48
    assert done.external["elsewhere"] == found
    noted = f"1 image, clear/{first.name}: 4 bytes after the end of the PNG were ignored."
    assert found["data"]["notes"] == [noted]
    assert caplog.messages.count(noted) == 1
    assert found["drift"]["message"]
    assert "elsewhere" in (run.folder / "report.html").read_text(encoding="utf-8")


def test_images_of_the_run_are_refused_or_left_out_with_their_patients(
    run: hilum.Run, data: Path, elsewhere: Path
) -> None:
    shutil.copy(data / "clear" / "case000_0.png", elsewhere / "clear" / "case003_7.png")
    with pytest.raises(hilum.DataError, match=r"1 image is in both .* pass --skip-seen to leave"):
        hilum.evaluate(run.folder, elsewhere, name="twins")
    assert not (run.folder / "external" / "twins.json").exists()
    hilum.evaluate(run.folder, elsewhere, name="twins", skip_seen=True)
    found = json.loads((run.folder / "external" / "twins.json").read_text(encoding="utf-8"))
    assert found["seen"]["n_images"] == 1
    assert found["seen"]["n_left_out"] == 3
    assert found["metrics"]["n"] == 46


def test_patients_who_are_all_seen_are_not_called_images(
    run: hilum.Run, data: Path, elsewhere: Path
) -> None:
    for number, name in enumerate(("clear", "opacity")):
        for path in list((elsewhere / name).iterdir()):
            path.rename(path.with_name(f"case99{number}_{path.stem[-4:]}.png"))
        seen = data / name / f"case{number}00_0.png"
        shutil.copy(seen, elsewhere / name / f"case99{number}_x.png")
    with pytest.raises(hilum.DataError) as caught:
        hilum.evaluate(run.folder, elsewhere, name="one", skip_seen=True)
    assert "has an image in the run already (2 of " in str(caught.value)


def test_what_is_asked_for_is_checked_before_images_are_read(
    run: hilum.Run, elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("hilum.external.scan", never)
    with pytest.raises(SettingError, match="prevalence"):
        hilum.evaluate(run.folder, elsewhere, name="asked", prevalences=[2.0])
    with pytest.raises(SettingError, match="the data have no such column"):
        hilum.evaluate(run.folder, elsewhere, name="asked", subgroups=["sexx"])
    many = tiny.make_folder(tmp_path / "many", n_patients=14)
    paths = sorted(path.relative_to(many).as_posix() for path in many.rglob("*.png"))
    rows = {"path": paths, "label": [path.split("/")[0] for path in paths]}
    table = pd.DataFrame(rows | {"site": [f"site {k}" for k in range(len(paths))]})
    table.to_csv(many / "t.csv", index=False)
    with pytest.raises(SettingError) as refused:
        hilum.evaluate(run.folder, many / "t.csv", name="asked", subgroups=["site"])
    assert str(refused.value) == (
        "--subgroup site: 56 different values are too many for groups. Put them in bands first."
    )


def test_a_name_that_is_taken_by_other_data(
    run: hilum.Run, elsewhere: Path, tmp_path: Path
) -> None:
    hilum.evaluate(run.folder, elsewhere, name="taken")
    other = tiny.make_folder(tmp_path / "other", seed=8, n_patients=12)
    with pytest.raises(hilum.RunError) as error:
        hilum.evaluate(run.folder, other, name="taken")
    assert str(error.value) == (
        f"{run.folder / 'external' / 'taken.json'} holds the figures of {elsewhere}. Pass another "
        "name by --name."
    )


def test_images_of_the_ill_alone_have_a_sensitivity(run: hilum.Run, tmp_path: Path) -> None:
    """What needs the other class is null with a reason."""
    ward = tiny.make_folder(tmp_path / "ward", seed=9, n_patients=12)
    shutil.rmtree(ward / "clear")
    hilum.evaluate(run.folder, ward)
    found = json.loads((run.folder / "external" / "ward.json").read_text(encoding="utf-8"))
    rows = pd.read_csv(run.folder / "external" / "ward.csv")
    figures = found["metrics"]
    called = rows["p_opacity"] >= run.facts["operating_point"]["threshold"]
    assert figures["sensitivity"]["value"] == pytest.approx(called.mean())
    assert figures["sensitivity"]["ci_low"] is not None
    for name in ("auroc", "specificity", "balanced_accuracy"):
        assert figures[name]["value"] is None
        assert figures[name]["reason"]


def test_classes_are_mapped_by_the_user_alone() -> None:
    ours = ("NORMAL", "PNEUMONIA")
    assert match_classes(("NORMAL", "sick"), ours, {"sick": "PNEUMONIA"}, "x") == {
        "NORMAL": "NORMAL",
        "sick": "PNEUMONIA",
    }
    with pytest.raises(hilum.DataError) as refused:
        match_classes(("Normal", "sick"), ours, {}, "x")
    assert str(refused.value) == (
        "x holds the classes 'Normal', 'sick', and the model knows 'NORMAL', 'PNEUMONIA'. Say what "
        "they are to the model, if that is so, by: --map Normal=NORMAL --map sick=CLASS"
    )
    with pytest.raises(hilum.SettingError) as unknown:
        match_classes(("NORMAL", "sick"), ours, {"sick": "PNEUMONA"}, "x")
    assert str(unknown.value) == (
        "--map sick=PNEUMONA: the model has no class 'PNEUMONA'. Did you mean 'PNEUMONIA'? "
        "Its classes are 'NORMAL', 'PNEUMONIA'."
    )


def test_labels_are_those_that_both_have() -> None:
    ours = ("Mass", "Fluid", "Air")
    found = match_labels(("Mass", "Effusion", "Bone"), ours, {"Effusion": "Fluid"}, "x")
    assert found == {"Mass": "Mass", "Effusion": "Fluid"}
    with pytest.raises(DataError, match="--map mass=Mass"):
        match_labels(("mass", "Fluid"), ours, {}, "x")
    with pytest.raises(DataError, match="holds the class 'Bone', and the model knows"):
        match_labels(("Bone",), ours, {}, "x")
    with pytest.raises(SettingError, match="has no class 'Masse'"):
        match_labels(("Mass",), ours, {"Masse": "Mass"}, "x")


def test_labels_that_the_data_lack_are_unknown() -> None:
    rows = pd.DataFrame({"label": ["a", "b", "none"], "unknown": ["", "c", "a"]})
    mapped = {"a": "X", "b": "X", "c": "Y"}
    found = map_labels(rows, ("a", "b", "c"), mapped, ("X", "Y", "Z"))
    assert found["label"] == ["X", "X", "none"]
    assert found["unknown"] == ["Z", "Y|Z", "X|Z"]


def test_columns_named_as_the_labels_of_the_model_are_taken(tmp_path: Path) -> None:
    table, ours = tmp_path / "t.csv", ("Mass", "Fluid", "Air")
    table.write_text("path,Air,Mass,sex\n")
    assert _own_columns(table, None, ours) == Columns(labels=("Mass", "Air"))
    split = Columns(patient="sex")
    assert _own_columns(table, split, ours) == Columns(patient="sex", labels=("Mass", "Air"))
    named = Columns(label="sex")
    assert _own_columns(table, named, ours) == named
    table.write_text("path,Label,Mass\n")
    assert _own_columns(table, None, ours) is None
    assert _own_columns(tmp_path, None, ours) is None
