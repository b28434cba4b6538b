from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import hilum
from hilum import DataError, DataOptions, PatientOverlapError, SettingError
from hilum.hardware import find_hardware
from hilum.preparation import Prepared, choose_positive, prepare
from hilum.settings import Settings
from making import medmnist, write_folder, write_npz, write_plan, write_table


def in_split(prepared: Prepared, split: str) -> list[str]:
    samples = prepared.samples
    return list(samples["path"][samples["split"] == split])


def test_folder_to_plan(tmp_path: Path) -> None:
    write_folder(tmp_path, {"NORMAL": 60, "PNEUMONIA": 40})
    prepared = prepare(tmp_path, settings={"epochs": 2})
    sizes = {split: len(in_split(prepared, split)) for split in ("train", "val", "test")}
    assert sizes == {"train": 68, "val": 12, "test": 20}
    assert prepared.positive == "PNEUMONIA"
    assert prepared.plan.settings.epochs == 2
    assert [each.kind for each in prepared.found.findings][:2] == [
        "unknown_patients",
        "small_class",
    ]
    # Nothing was written.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["NORMAL", "PNEUMONIA"]


def test_what_readers_noted_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_folder(tmp_path, {"NORMAL": 60, "PNEUMONIA": 40})
    with (tmp_path / "NORMAL" / "7.png").open("ab") as file:
        file.write(b"tail")
    with caplog.at_level("INFO"):
        prepare(tmp_path, settings={"epochs": 2})
    noted = "1 image, NORMAL/7.png: 4 bytes after the end of the PNG were ignored."
    assert caplog.messages.count(noted) == 1


def test_plan_is_the_same_one(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 20, "b": 20})
    plan = hilum.plan(tmp_path, recipe="binary", settings={"seed": 3})
    assert plan == prepare(tmp_path, recipe="binary", settings={"seed": 3}).plan
    assert plan.settings.network == "classic"


def test_same_seed_same_split_and_another_seed_another(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 40, "b": 40})
    splits = [list(prepare(tmp_path, settings={"seed": s}).samples["split"]) for s in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]


def test_patients_stay_together_and_so_do_patients_with_an_identical_file(tmp_path: Path) -> None:
    write_folder(tmp_path, {f"{c}/patient{c}{n}": 2 for c in "ab" for n in range(15)})
    for n in (3, 9):
        target = tmp_path / "a" / f"patienta{n}" / "twin.png"
        shutil.copy(tmp_path / "a" / "patienta0" / "0.png", target)
    samples = prepare(tmp_path, options=DataOptions(patient_pattern=r"/(?P<patient>patient\w+)/"))
    table = samples.samples
    assert table.groupby("patient")["split"].nunique().max() == 1
    joined = table[table["patient"].isin(["patienta0", "patienta3", "patienta9"])]
    assert set(joined["group"]) == {"patienta0"}
    assert joined["split"].nunique() == 1


def test_image_without_patient_is_one_of_its_own(tmp_path: Path) -> None:
    rows = [["path", "label", "patient"]]
    rows += [[f"{n}.png", "ab"[n % 2], "" if n < 20 else f"p{n // 2}"] for n in range(40)]
    prepared = prepare(write_table(tmp_path / "t.csv", rows, n_images=40))
    groups = prepared.samples.set_index("path")["group"]
    assert groups["0.png"] == "#0.png"
    assert groups["20.png"] == groups["21.png"] == "p10"


# -- unreadable files ---------------------------------------------------------------------------


def test_unreadable_files_are_left_out_when_agreed(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 20, "b": 20})
    (tmp_path / "a" / "empty.png").write_bytes(b"")
    with pytest.raises(DataError):
        prepare(tmp_path)
    prepared = prepare(tmp_path, options=DataOptions(skip_unreadable=True))
    bad = prepared.samples[prepared.samples["excluded"]]
    assert list(bad["path"]) == ["a/empty.png"]
    assert list(bad["reason"]) == ["the file is empty"]
    assert bad["split"].isna().all()
    assert "unreadable" in [each.kind for each in prepared.found.findings]
    assert prepared.samples["split"].notna().sum() == 40


# -- given splits -------------------------------------------------------------------------------


def overlapping(root: Path) -> Path:
    """Write two splits in which case0 to case9 and case0 to case4 occur."""
    write_folder(root, {"train/a": 10, "train/b": 10}, name="case{n}.png")
    return write_folder(root, {"valid/a": 5, "valid/b": 5}, name="case{n}.png")


def test_overlap_is_refused_with_the_names(tmp_path: Path) -> None:
    with pytest.raises(PatientOverlapError) as caught:
        prepare(overlapping(tmp_path))
    assert str(caught.value) == (
        "5 patients are in more than one split (train and val): case0, case1, case2, case3, case4. "
        "Figures would be too good. Pass --new-split to draw a split by patient, or "
        "--allow-patient-overlap to train all the same; the report will say so."
    )


def test_overlap_that_is_allowed_is_carried(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train/a": 40, "train/b": 40}, name="case{n}.png")
    write_folder(
        tmp_path, {"valid/a": 20, "valid/b": 20, "test/a": 5, "test/b": 5}, name="case{n}.png"
    )
    prepared = prepare(tmp_path, options=DataOptions(allow_patient_overlap=True))
    overlap = prepared.split.overlap
    assert overlap is not None
    assert overlap["n_patients"] == 20
    assert overlap["splits"] == ["train", "val", "test"]
    assert "patients_across_splits" in [each.kind for each in prepared.found.findings]


def test_new_split_leaves_the_given_one_and_its_flaws(tmp_path: Path) -> None:
    prepared = prepare(overlapping(tmp_path), options=DataOptions(new_split=True))
    assert prepared.split.source == "drawn"
    assert prepared.split.overlap is None
    assert "patients_across_splits" not in [each.kind for each in prepared.found.findings]
    assert set(prepared.samples["given_split"]) == {"train", "val"}  # still on record


def test_twelve_bits_in_sixteen(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label in "ab":
        (tmp_path / label).mkdir()
        for n in range(10):
            pixels = rng.integers(0, 4096, (8, 8), dtype=np.uint16)
            Image.fromarray(pixels).save(tmp_path / label / f"{n}.png")
    assert prepare(tmp_path).plan.settings.ranges == {"uint16": (0.0, 4095.0)}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"folds": "5"}, "folds is '5'. Give a whole number."),
        ({"classes": "a,b"}, "classes is 'a,b'. Give a tuple of names."),
        ({"new_split": 1}, "new_split is 1. Give True or False."),
        ({"columns": "labels"}, "columns is 'labels'. Give hilum.Columns."),
        (
            {"target": "grades"},
            "target is 'grades'. Give one of 'classes', 'multilabel', 'ordinal'.",
        ),
    ],
)
def test_options_of_other_types_are_refused(option: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError) as error:
        DataOptions(**option)
    assert str(error.value) == f"DataOptions: {message}"


# -- the positive class -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "positive"),
    [
        (("NORMAL", "PNEUMONIA"), "PNEUMONIA"),
        (("covid", "other"), "covid"),
        (("Parasitized", "Uninfected"), "Parasitized"),
        (("no", "yes"), "yes"),
        (("0", "1"), "1"),
        (("No_finding", "Abnormal"), "Abnormal"),
        (("cat", "dog"), "dog"),
        (("normal", "healthy"), "healthy"),
        (("COVID", "non-COVID"), "COVID"),
        (("non-COVID", "COVID"), "COVID"),
        (("CT_COVID", "CT_NonCOVID"), "CT_COVID"),
        (("effusion", "no effusion"), "effusion"),
        (("EFFUSION", "No Effusion"), "EFFUSION"),
        (("mass", "without_mass"), "mass"),
        (("without_mass", "mass"), "mass"),
        (("ill", "not_ill"), "ill"),
        (("Abnormal", "NoFinding"), "Abnormal"),
        (("non-normal", "normal"), "non-normal"),
    ],
)
def test_positive_class(names: tuple[str, str], positive: str) -> None:
    found, reason = choose_positive(names, None)
    assert found == positive
    assert reason.endswith("Choose with --positive.")


def test_positive_class_by_the_user() -> None:
    assert choose_positive(("a", "b"), "a") == ("a", "Chosen by the user.")
    assert choose_positive(("a", "b", "c"), None)[0] is None
    with pytest.raises(SettingError) as caught:
        choose_positive(("normal", "pneumonia"), "pnuemonia")
    assert str(caught.value) == (
        "--positive pnuemonia is not one of the classes 'normal', 'pneumonia'. Did you mean "
        "'pneumonia'?"
    )
    with pytest.raises(SettingError) as caught:
        choose_positive(("a", "b", "c"), "a")
    assert str(caught.value) == "--positive a: with 3 classes there is none."


def on_a_device() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")


def on_a_processor() -> None:
    torch.empty(2**55, dtype=torch.uint8)


@pytest.mark.parametrize("fill", [on_a_device, on_a_processor])
def test_too_little_memory_to_plan_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fill: Callable[[], None]
) -> None:
    def full(*_: object, **__: object) -> None:
        fill()

    monkeypatch.setattr("hilum.preparation.make_plan", full)
    with pytest.raises(SettingError) as caught:
        hilum.plan(write_folder(tmp_path, {"a": 20, "b": 20}))
    assert str(caught.value) == (
        f"There is too little memory for what planning tries on {find_hardware().name}. Ask for "
        "less: --set batch_size=…, or --set input_height=…."
    )


def test_a_plan_for_another_target_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", {"a": 20, "b": 20})
    run = write_plan(tmp_path / "run", Settings(target="multilabel"))
    with pytest.raises(SettingError) as caught:
        hilum.plan(folder, recipe=str(run))
    assert str(caught.value) == (
        "The plan that is to be taken is for the target 'multilabel', and these data have the "
        "target 'classes'. Leave --recipe out, so that a plan is made for them."
    )


def test_a_plan_is_taken_with_another_start(tmp_path: Path) -> None:
    """What belongs to the backbone or the file of a plan does not hold beside another."""
    folder = write_folder(tmp_path / "data", {"a": 20, "b": 20})
    begun = Settings(
        backbone="hilum:efficientnet_lite0", weights="imagenet", weights_sha256=64 * "0",
        frozen_stages=3, frozen_norms=True, random_rate=3, members=2, epochs=7,
        kinds=("backbone", "network"), reductions=(1, 2),
    )  # fmt: skip
    run = write_plan(tmp_path / "run", begun)
    found = hilum.plan(folder, recipe=str(run), settings={"backbone": None}).settings
    assert (found.backbone, found.weights, found.frozen_stages) == (None, None, 0)
    assert (found.members, found.epochs) == (2, 7)
    with pytest.raises(SettingError, match="is not the file of weights that was wanted"):
        hilum.plan(folder, recipe=str(run))
    found = hilum.plan(folder, recipe=str(run), settings={"weights": "imagenet"}).settings
    assert (found.frozen_stages, found.epochs) == (3, 7)


def test_a_side_alone_makes_the_input_square(tmp_path: Path) -> None:
    """Beside a plan that is made and beside one that is taken, whose input has another size."""
    folder = write_folder(tmp_path / "data", {"a": 20, "b": 20})
    oblong = write_plan(tmp_path / "run", Settings(input_height=24, input_width=16))
    for recipe in (None, str(oblong)):
        chosen = {"backbone": None, "input_width": 40, "flip_diagonal": True}
        plan = hilum.plan(folder, recipe=recipe, settings=chosen)
        assert (plan.settings.input_height, plan.settings.input_width) == (40, 40)
        assert plan.reasons["input_width"] == "Set by the user."
        assert plan.reasons["input_height"] == (
            "As long as the other side, which the user has set alone."
        )
        with pytest.raises(SettingError, match="flip_diagonal needs a square input"):
            hilum.plan(folder, recipe=recipe, settings=chosen | {"input_height": 48})


def test_slip_in_settings_is_told_before_images_are_read(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="Did you mean 'epochs'"):
        prepare(tmp_path / "nowhere", settings={"epoch": 1})


# -- real data ----------------------------------------------------------------------------------


def test_real_forms_of_data(hilum_data: Path) -> None:
    untimed = {"epochs": 1, "precision": "float32", "layout": "channels_last"}
    covid = prepare(hilum_data / "covid-cxr" / "table.csv", settings=untimed)
    assert covid.positive == "covid"
    assert covid.samples.groupby("patient")["split"].nunique().max() == 1
    options = DataOptions(classes=("normal", "pneumonia"))
    mnist = prepare(hilum_data / "pneumoniamnist.npz", settings=untimed, options=options)
    assert (mnist.split.source, mnist.positive) == ("given", "pneumonia")
    with pytest.raises(PatientOverlapError, match=r"^29 patients are in more than one split"):
        prepare(hilum_data / "malaria-cells")


def test_npz_with_several_labels_is_prepared_by_label(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arrays = medmnist(8)
    for split in ("train", "val", "test"):
        arrays[f"{split}_labels"] = np.tile(np.eye(2, 3), (4, 1))
        arrays[f"{split}_labels"][:3, 2] = [1, 1, np.nan]
    path = write_npz(tmp_path / "x.npz", **arrays)
    with caplog.at_level("INFO", "hilum"):
        prepared = prepare(path, options=DataOptions(classes=("a", "b", "c")))
    assert caplog.messages[0] == (
        "24 images, each with any of 3 labels: 'a' (in 12 of 24 known), 'b' (in 12 of 24 known), "
        "'c' (in 6 of 21 known)."
    )
    entry = prepared.plan.to_dict()["target"]
    assert entry == {
        "value": "multilabel", "reason": "The data have several labels an image.",
    }  # fmt: skip
    assert prepared.positive is None
    assert list(prepared.samples["label"][:3]) == ["a|c", "b|c", "a"]
    assert list(prepared.samples["unknown"][:3]) == ["", "", "c"]


def test_a_backbone_that_cannot_begin_is_told_before_images_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "w.safetensors"
    weights.write_text("no weights")
    wanted = {"backbone": "monai:ResNet10"}
    with pytest.raises(SettingError, match="Did you mean 'ResNet18'"):
        prepare(tmp_path / "nowhere", settings={"backbone": "monai:resnet18"})
    monkeypatch.setattr("hilum.backbones.find_spec", lambda _: object())
    with pytest.raises(SettingError, match=r"w\.safetensors is no file of weights: "):
        prepare(tmp_path / "nowhere", settings=wanted | {"weights": str(weights)})
    monkeypatch.setattr("hilum.backbones.find_spec", lambda _: None)
    with pytest.raises(hilum.MissingExtraError) as missing:
        prepare(tmp_path / "nowhere", settings=wanted)
    assert str(missing.value) == (
        "A backbone of MONAI needs the package 'monai', which is not installed. Install it with: "
        "pip install 'hilum[monai]'"
    )
