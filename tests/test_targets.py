"""From data of several labels an image, and of grades, to a model and its answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import hilum
import tiny
from hilum import Columns, DataError, DataOptions, load_dataset
from hilum.files import read_json
from hilum.splits import assign, check_strata, label_strata
from hilum.targets import joined_cells, label_columns, median_grade, members, truths
from making import medmnist, write_folder, write_npz, write_table

NAN = float("nan")
NAMES = ("effusion", "mass", "nodule")


# -- cells and arrays ------------------------------------------------------------------------------


def test_cells_and_arrays_say_the_same() -> None:
    targets = np.array([[1, 0, NAN], [0, 0, 0], [NAN, NAN, NAN], [1, 1, 1]], dtype=np.float32)
    columns = label_columns(targets, NAMES)
    assert columns == {
        "label": ["effusion", "none", "none", "effusion|mass|nodule"],
        "unknown": ["nodule", "", "effusion|mass|nodule", ""],
    }
    back = truths(pd.DataFrame(columns), NAMES, "multilabel")
    np.testing.assert_array_equal(back, targets)
    assert back.dtype == np.float32


def test_classes_and_grades_are_indices() -> None:
    table = pd.DataFrame({"label": ["b", "a", "c"]})
    for target in ("classes", "ordinal"):
        assert truths(table, ["a", "b", "c"], target).tolist() == [1, 0, 2]


def test_members_of_no_cell_and_of_an_empty_one() -> None:
    assert members([], NAMES).shape == (0, 3)
    assert not members(["", "none"], NAMES).any()
    assert joined_cells(np.zeros((2, 3), dtype=bool), NAMES) == ["none", "none"]


def test_the_median_grade_has_the_least_expected_distance() -> None:
    probs = np.random.default_rng(0).dirichlet(np.ones(5), 200)
    for row, grade in zip(probs, median_grade(probs), strict=True):
        costs = [sum(p * abs(k - g) for k, p in enumerate(row)) for g in range(5)]
        assert costs[grade] == pytest.approx(min(costs))
    assert median_grade([[0.0, 0.0, 1.0 - 1e-12]]).tolist() == [2]


# -- reading ---------------------------------------------------------------------------------------


def label_table(path: Path, rows: list[list[str]]) -> Path:
    return write_table(path, rows, n_images=len(rows) - 1)


def test_a_column_for_each_label(tmp_path: Path) -> None:
    rows = [
        ["path", "effusion", "mass", "label"],
        *(["0.png", "1", "0", "x"], ["1.png", "0.0", "1.0", "y"], ["2.png", "", "-1", "z"]),
        *(["3.png", "TRUE", "False", "z"],),
    ]
    table = label_table(tmp_path / "t.csv", rows)
    dataset = load_dataset(table, columns=Columns(labels=("mass", "effusion")))
    assert (dataset.target_kind, dataset.class_names) == ("multilabel", ("mass", "effusion"))
    assert list(dataset.table["label"]) == ["effusion", "mass", "none", "effusion"]
    assert list(dataset.table["unknown"]) == ["", "", "mass|effusion", ""]
    assert list(dataset.table["table_label"]) == ["x", "y", "z", "z"]
    assert dataset.notes == ("No label is known of 1 image: nothing is learnt of such.",)


def test_cells_that_join_labels(tmp_path: Path) -> None:
    rows = [
        ["path", "label"],
        *(["0.png", "Mass|Effusion"], ["1.png", "No Finding"], ["2.png", ""], ["3.png", "Mass "]),
    ]
    table = label_table(tmp_path / "t.csv", rows)
    dataset = load_dataset(table, target="multilabel")
    assert dataset.class_names == ("Effusion", "Mass")
    assert list(dataset.table["label"]) == ["Effusion|Mass", "none", "none", "Mass"]
    assert set(dataset.table["unknown"]) == {""}
    assert dataset.notes == (
        "2 images have none of the labels (written as an empty cell, 'No Finding').",
    )
    ordered = load_dataset(table, target="multilabel", classes=("Mass", "Effusion"))
    assert ordered.table["label"].iloc[0] == "Mass|Effusion"


@pytest.mark.parametrize(
    ("cells", "options", "message"),
    [
        (
            [["1", "2"], ["0", "1"]],
            {"columns": Columns(labels=("a", "b"))},
            "column 'b' holds '2' in row 2. With --labels a cell is 1 (present), 0 (absent), or "
            "empty or -1 (unknown). Correct the cells or leave the column out.",
        ),
        (
            [["1", "F"], ["0", "M"], ["0", "F"]],
            {"columns": Columns(labels=("a", "b"))},
            "column 'b' holds 'F' in 2 rows, such as 2, 4; column 'b' holds 'M' in row 3. With "
            "--labels a cell is 1 (present), 0 (absent), or empty or -1 (unknown). Correct the "
            "cells or leave the column out.",
        ),
        (
            [["1", "0"], ["0", ""]],
            {"columns": Columns(labels=("a", "b"))},
            "the label 'b' is known to be present in no image, so it cannot be learnt. Leave it "
            "out, or add such images.",
        ),
        (
            [["none", ""], ["", ""]],
            {"columns": Columns(label="a"), "target": "multilabel"},
            "no cell of the label column names a label; every one was taken for none. Name labels "
            "joined by '|', or give a column for each with --labels.",
        ),
    ],
)
def test_labels_that_cannot_be_read(
    tmp_path: Path, cells: list[list[str]], options: dict[str, Any], message: str
) -> None:
    rows = [["path", "a", "b"], *([f"{n}.png", *row] for n, row in enumerate(cells))]
    table = label_table(tmp_path / "t.csv", rows)
    with pytest.raises(DataError) as error:
        load_dataset(table, **options)
    assert str(error.value) == f"{table}: {message}"


@pytest.mark.parametrize("sign", [";", ",", "/", "+"])
def test_labels_joined_by_another_sign(tmp_path: Path, sign: str) -> None:
    cells = ["Mass", "Pleural effusion/fluid", "Air", f'"Air{sign} Mass"']
    rows = [["path", "label"], *([f"{n}.png", cell] for n, cell in enumerate(cells))]
    table = label_table(tmp_path / "t.csv", rows)
    with pytest.raises(DataError) as error:
        load_dataset(table, target="multilabel")
    assert str(error.value) == (
        f"{table}, row 5: 'Air{sign} Mass' joins labels by '{sign}'. Join them by '|': 'Air|Mass'."
    )


def test_labels_that_are_not_there(tmp_path: Path) -> None:
    table = label_table(tmp_path / "t.csv", [["path", "label"], ["0.png", "a"], ["1.png", "b"]])
    with pytest.raises(DataError, match=r"has no column 'c'\. Its columns are: path, label\. "):
        load_dataset(table, columns=Columns(labels=("c",)))
    with pytest.raises(DataError, match="row 2: label 'a' is not one of 'b', 'c'"):
        load_dataset(table, target="multilabel", classes=("b", "c"))
    folder = write_folder(tmp_path / "folder", {"a": 2, "b": 2})
    with pytest.raises(DataError, match=r"has one label an image\. For --target multilabel give"):
        load_dataset(folder, target="multilabel")


def test_what_a_cell_cannot_hold_is_refused(tmp_path: Path) -> None:
    rows = [["path", "label"], ["0.png", "a\x07b|c"], ["1.png", ""]]
    with pytest.raises(DataError, match="line break or control character in row 2"):
        load_dataset(label_table(tmp_path / "t.csv", rows), target="multilabel")
    # Data to evaluate on as well: what is joined could not be parted again.
    rows = [["path", "a", "none", "b|c"], ["0.png", "1", "0", "1"], ["1.png", "0", "1", "0"]]
    table = label_table(tmp_path / "u.csv", rows)
    for name, message in (("none", "the very word"), ("b|c", "stands between the classes")):
        with pytest.raises(DataError, match=message):
            load_dataset(table, columns=Columns(labels=("a", name)), min_classes=1)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            ["Mass|Effusion", "No Finding|Mass"],
            ", row 3: 'No Finding' says that there is no label, beside 'Mass'. Fix the cell.",
        ),
        (
            ["Mass|Effusion", "mass"],
            " holds the labels 'Mass' and 'mass', which differ in case alone. Give them one "
            "spelling.",
        ),
        (
            ["1|2", "2.0"],
            " holds the labels '2' and '2.0', which spell one number in two ways. Give them one "
            "spelling.",
        ),
    ],
)
def test_cells_that_contradict_themselves_are_refused(
    tmp_path: Path, cells: list[str], message: str
) -> None:
    rows = [["path", "label"], *([f"{n}.png", cell] for n, cell in enumerate(cells))]
    table = label_table(tmp_path / "t.csv", rows)
    with pytest.raises(DataError) as error:
        load_dataset(table, target="multilabel")
    assert str(error.value) == f"{table}{message}"


def test_a_label_may_not_be_called_none(tmp_path: Path) -> None:
    rows = [["path", "none", "b"], ["0.png", "1", "0"], ["1.png", "0", "1"]]
    table = label_table(tmp_path / "t.csv", rows)
    with pytest.raises(DataError, match="the very word that stands for an image with none"):
        load_dataset(table, columns=Columns(labels=("none", "b")))


def test_classes_written_as_columns_are_told(tmp_path: Path) -> None:
    images, labels = np.zeros((6, 8, 8), np.uint8), np.eye(3)[[0, 1, 2, 0, 1, 2]]
    written = write_npz(tmp_path / "x.npz", train_images=images, train_labels=labels)
    assert load_dataset(written).notes == (
        "Every image has exactly one of the labels, as of classes: if that is what they are, give "
        "the class of each image in one column.",
    )
    labels[0, 1] = 1
    other = write_npz(tmp_path / "y.npz", train_images=images, train_labels=labels)
    assert load_dataset(other).notes == ()


@pytest.mark.parametrize(("label", "shown"), [(np.inf, "inf"), (1e300, "1e+300"), (0.5, "0.5")])
def test_labels_that_are_no_numbers_of_classes_are_refused(
    tmp_path: Path, label: float, shown: str
) -> None:
    images = np.zeros((3, 8, 8), np.uint8)
    path = write_npz(tmp_path / "x.npz", train_images=images, train_labels=np.array([0, 1, label]))
    with pytest.raises(DataError) as error:
        load_dataset(path)
    assert str(error.value) == (
        f"{path}: train_labels holds {shown} in row 2; whole numbers from 0 to 999,999,999 are "
        "read."
    )


def test_grades_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for names in (["0", "2", "10"], ["KL 0", "KL 2", "KL 10"]):
        folder = write_folder(tmp_path / names[0], dict.fromkeys(names, 2))
        dataset = load_dataset(folder, target="ordinal")
        assert (dataset.target_kind, list(dataset.class_names)) == ("ordinal", names)


def test_grades_without_numbers_need_their_order(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "f", {"mild": 2, "severe": 2, "moderate": 2})
    with pytest.raises(DataError) as error:
        load_dataset(folder, target="ordinal")
    assert str(error.value) == (
        f"{folder} holds 'mild', 'moderate', 'severe', whose names do not tell their order. Give "
        "the grades from the least to the greatest with --classes a,b,c."
    )
    names = ("mild", "moderate", "severe")
    assert load_dataset(folder, target="ordinal", classes=names).class_names == names


def test_two_grades_are_classes(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "f", {"0": 2, "1": 2})
    with pytest.raises(DataError, match="has two grades, '0', '1', and two are classes"):
        load_dataset(folder, target="ordinal")


def test_an_npz_of_several_labels_is_nothing_else(tmp_path: Path) -> None:
    arrays = medmnist(4)
    for split in ("train", "val", "test"):
        arrays[f"{split}_labels"] = np.tile(np.eye(2), (2, 1))
    with pytest.raises(DataError, match="its target is 'multilabel' and cannot be 'ordinal'"):
        load_dataset(write_npz(tmp_path / "x.npz", **arrays), target="ordinal")


# -- splits ----------------------------------------------------------------------------------------


def cohort(n_patients: int = 400, seed: int = 0) -> tuple[NDArray[np.float64], list[str]]:
    """Labels of patients with 1 to 3 images; the last label is rare, some are unknown."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_patients), rng.integers(1, 4, n_patients))
    truth = (rng.random((n_patients, 3)) < [0.4, 0.2, 0.04])[groups].astype(float)
    truth[rng.random(truth.shape) < 0.1] = NAN
    return truth, [f"p{group}" for group in groups]


def test_every_part_has_its_share_of_every_label_and_no_patient_twice() -> None:
    truth, groups = cohort()
    strata = label_strata(truth, NAMES)
    parts = assign(strata, groups, {"train": 0.7, "val": 0.1, "test": 0.2}, seed=0)
    assert pd.Series(parts).groupby(groups).nunique().max() == 1
    for part, share in (("train", 0.7), ("val", 0.1), ("test", 0.2)):
        inside = parts == part
        assert inside.mean() == pytest.approx(share, abs=0.02)
        for k in range(3):
            n = (truth[:, k] == 1).sum()
            assert (truth[inside, k] == 1).sum() == pytest.approx(share * n, abs=2)


def test_a_label_that_cannot_be_learnt_is_named() -> None:
    truth = np.array([[1, 0], [0, 0], [1, 1], [0, 0]], dtype=float)
    strata = label_strata(truth, ["a", "b"])
    splits = np.array(["train", "train", "val", "val"])
    with pytest.raises(DataError) as error:
        check_strata(strata, splits)
    assert str(error.value) == (
        "No image of the train split is known to show 'b', so the label cannot be learnt. Add such "
        "images (from several patients) or leave the label out."
    )
    # A label that is nowhere, as where its every file is unreadable, is not passed over.
    nowhere = label_strata(np.array([[1, 0], [0, 0], [1, 0], [0, 0]], dtype=float), ["a", "b"])
    with pytest.raises(DataError, match="is known to show 'b', so the label cannot be learnt"):
        check_strata(nowhere, splits)
    # What validation alone lacks costs the threshold, and is said.
    reasons = check_strata(strata, splits[::-1])
    assert reasons == [
        "No validation image is known to show 'b': the threshold of such a label stays at 0.5."
    ]


# -- from data to answers --------------------------------------------------------------------------


def several_npz(path: Path) -> Path:
    """Write images with any of three bright squares; a tenth of the labels is unknown."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, n in (("train", 96), ("val", 60), ("test", 60)):
        images = rng.integers(0, 130, (n, 16, 16), dtype=np.uint8)
        labels = (rng.random((n, 3)) < [0.5, 0.4, 0.3]).astype(float)
        for image, row in zip(images, labels, strict=True):
            for k, (top, left) in enumerate([(1, 1), (1, 9), (9, 1)]):
                image[top : top + 6, left : left + 6] += np.uint8(80 * row[k])
        labels[rng.random(labels.shape) < 0.1] = NAN
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    return write_npz(path, **arrays)


@pytest.fixture(scope="module")
def several_run(tmp_path_factory: pytest.TempPathFactory) -> hilum.Run:
    folder = tmp_path_factory.mktemp("several")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HILUM_CACHE", str(folder / "cache"))
        tiny.shorten(patch, report=False)
        return hilum.train(
            several_npz(folder / "x.npz"),
            folder / "run",
            settings=tiny.SETTINGS | {"layout": "contiguous"},
            options=DataOptions(classes=NAMES),
        )


def test_each_label_has_its_threshold_and_calibrator(several_run: hilum.Run) -> None:
    facts = hilum.load(several_run.folder).facts
    assert facts.target == "multilabel"
    assert (facts.positive_class, facts.operating_point, facts.calibration) == (None, None, None)
    assert facts.operating_points is not None
    assert facts.calibrations is not None
    assert tuple(facts.operating_points) == tuple(facts.calibrations) == NAMES
    samples = pd.read_csv(several_run.folder / "samples.csv", dtype=str, keep_default_na=False)
    known = truths(samples[samples["split"] == "val"], NAMES, "multilabel")
    for k, point in enumerate(facts.operating_points.values()):
        assert point.n == int((~np.isnan(known[:, k])).sum())
    opening = read_json(several_run.folder / "openings.jsonl")
    assert set(opening["operating_point_sha256"]) == set(NAMES)
    assert (opening["pooling_sha256"], opening["patient_point_sha256"]) == (None, None)


def test_answers_follow_the_thresholds_and_figures_the_known(several_run: hilum.Run) -> None:
    model = hilum.load(several_run.folder)
    table = pd.read_csv(
        several_run.folder / "predictions.csv", dtype={"unknown": str}, keep_default_na=False
    )
    cuts = model.facts.thresholds
    assert isinstance(cuts, dict)
    probs = table[[f"p_{name}" for name in NAMES]].to_numpy(float)
    called = probs >= [cuts[name] for name in NAMES]
    assert list(table["predicted"]) == joined_cells(called, NAMES)
    assert not np.allclose(probs.sum(axis=1), 1)
    test = (table["split"] == "test").to_numpy()
    truth = truths(table[test], NAMES, "multilabel")
    figures = several_run.metrics["test"]["labels"]
    for k, name in enumerate(NAMES):
        known = ~np.isnan(truth[:, k])
        right = called[test][known, k] == (truth[known, k] == 1)
        assert figures[name]["accuracy"]["value"] == pytest.approx(right.mean())
        assert figures[name]["accuracy"]["n"] == known.sum()
    aurocs = [figures[name]["auroc"]["value"] for name in NAMES]
    assert several_run.metrics["test"]["auroc"]["value"] == pytest.approx(np.mean(aurocs))
    assert min(aurocs) > 0.7


def test_confidence_is_that_of_the_weakest_label(several_run: hilum.Run) -> None:
    model = hilum.load(several_run.folder)
    answer = model.predict(np.full((16, 16), 90, dtype=np.uint8))[0]
    parts = [] if answer.predicted == "none" else answer.predicted.split("|")
    stated = [
        p if name in parts else 1 - p for name, p in zip(NAMES, answer.probabilities, strict=True)
    ]
    assert answer.confidence == min(stated)
    assert answer.prediction_set is None
    assert answer.decision in (answer.predicted, "refer")


def test_heat_maps_show_the_most_probable_of_the_labels_called(
    several_run: hilum.Run, tmp_path: Path
) -> None:
    pixels = np.full((16, 16), 60, dtype=np.uint8)
    pixels[1:7, 1:7] = pixels[9:15, 1:7] = 140
    (found,) = hilum.explain(several_run.folder, pixels, tmp_path / "maps")
    probs = dict(zip(NAMES, found.prediction.probabilities, strict=True))
    called = [name for name in NAMES if name in found.prediction.predicted.split("|")]
    assert found.explained == max(called or NAMES, key=lambda name: probs[name])
    assert found.probability == probs[found.explained]


def test_grades_are_called_by_the_median(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiny.make_folder(
        tmp_path / "data", classes=("grade 0", "grade 1", "grade 2"), n_patients=24, n_images=1
    )
    tiny.shorten(monkeypatch, report=False)
    run = hilum.train(
        data,
        tmp_path / "run",
        settings=tiny.SETTINGS | {"epochs": 3, "layout": "contiguous"},
        options=DataOptions(target="ordinal"),
    )
    facts = hilum.load(run.folder).facts
    assert (facts.target, facts.positive_class) == ("ordinal", None)
    table = pd.read_csv(run.folder / "predictions.csv", keep_default_na=False)
    probs = table[[f"p_{name}" for name in facts.class_names]].to_numpy(float)
    assert list(table["predicted"]) == [facts.class_names[k] for k in median_grade(probs)]
    assert {"quadratic_kappa", "mean_absolute_error"} <= set(run.metrics["test"])
    plan = read_json(run.folder / "plan.json")
    assert plan["target"] == {"value": "ordinal", "reason": "Set by the user."}
