from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import hilum
import hilum.crossvalidation
import hilum.runs
import tiny
from hilum.crossvalidation import COPIED, check_folds, fold_samples
from hilum.files import read_json
from hilum.settings import Settings
from hilum.splits import fold_name, make_folds

N_FOLDS = 2
SETTINGS = tiny.SETTINGS | {"epochs": 2}


def cross_validate(data: Path, out: Path, **options: Any) -> hilum.Run:
    return hilum.train(
        data, out, settings=SETTINGS, options=hilum.DataOptions(folds=N_FOLDS, **options)
    )


def table(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / name, dtype=str, keep_default_na=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_folder(tmp_path_factory.mktemp("data"), n_patients=15)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> hilum.Run:
    with pytest.MonkeyPatch.context() as patch:
        tiny.shorten(patch)
        return cross_validate(data, tmp_path_factory.mktemp("runs") / "cv")


def test_every_patient_is_held_out_once_and_never_trained_on_there(run: hilum.Run) -> None:
    samples = table(run.folder, "samples.csv")
    assert set(samples["split"]) == {"oof"}
    assert (samples.groupby("patient")["fold"].nunique() == 1).all()
    held_out: list[str] = []
    for fold in range(1, N_FOLDS + 1):
        own = table(run.folder / fold_name(fold), "samples.csv")
        assert (own.groupby("group")["split"].nunique() == 1).all()
        assert set(own["split"]) == {"train", "val", "test"}
        test = set(own["path"][own["split"] == "test"])
        assert test == set(samples["path"][samples["fold"] == str(fold)])
        held_out += test
        n_val, n_train = ((own["split"] == name).sum() for name in ("val", "train"))
        reasons = read_json(run.folder / fold_name(fold) / "run.json")["splits"]["reasons"]
        assert reasons[1].startswith(f"{n_val} of the {n_val + n_train} other samples (")
    assert sorted(held_out) == sorted(samples["path"])


def test_pooled_figures_follow_from_the_decisions_of_the_folds(run: hilum.Run) -> None:
    rows = pd.read_csv(run.folder / "predictions.csv")
    assert (rows["split"] == "oof").all()
    threshold = {fold["fold"]: fold["threshold"] for fold in run.metrics["folds"]}
    called = rows["p_opacity"] >= rows["fold"].map(threshold)
    ill = rows["label"] == "opacity"
    oof = run.metrics["oof"]
    assert oof["threshold"] is None
    assert oof["sensitivity"]["value"] == pytest.approx(called[ill].mean())
    assert oof["specificity"]["value"] == pytest.approx(1 - called[~ill].mean())
    assert oof["auroc"]["value"] == pytest.approx(roc_auc_score(ill, rows["p_opacity"]))
    assert oof["n_patients"] == 30
    by_fold = [
        roc_auc_score(ill[part.index], part["p_opacity"]) for _, part in rows.groupby("fold")
    ]
    spread = run.metrics["spread"]["auroc"]
    assert spread["mean"] == pytest.approx(np.mean(by_fold))
    assert spread["sd"] == pytest.approx(np.std(by_fold, ddof=1))


def test_pooled_sets_and_referral_follow_from_the_folds(run: hilum.Run) -> None:
    rows = table(run.folder, "predictions.csv")
    oof = run.metrics["oof"]
    referral = oof["referral"]
    assert referral["share_referred"]["value"] == pytest.approx((rows["reason"] != "").mean())
    kept = rows[rows["reason"] == ""]
    right = (kept["predicted"] == kept["label"]).mean() if len(kept) else None
    assert referral["accuracy_kept"]["value"] == pytest.approx(right)
    in_folds = [fold.get("conformal") for fold in run.metrics["folds"]]
    assert ("conformal" in oof) == all(in_folds)
    if "conformal" in oof:
        held = [
            label in held.split("|")
            for label, held in zip(rows["label"], rows["prediction_set"], strict=True)
        ]
        assert oof["conformal"]["coverage"]["value"] == pytest.approx(np.mean(held))


def test_the_page_and_the_lack_of_one_model_are_told(run: hilum.Run) -> None:
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "There is no single model here" in page
    assert "every image serves cross-validation" in page
    with pytest.raises(hilum.ModelError, match="holds a model for each fold and none of all data"):
        hilum.load(run.folder)
    with pytest.raises(hilum.RunError, match="is a cross-validation"):
        hilum.evaluate(run.folder)
    assert hilum.load(run.folder / "fold-1").class_names == ("clear", "opacity")
    facts = read_json(run.folder / "fold-1" / "run.json")
    assert {name: facts[name] for name in COPIED if name != "request"} == {
        name: run.facts[name] for name in COPIED if name != "request"
    }


def test_the_time_holds_that_of_all_folds_and_more(run: hilum.Run) -> None:
    folds = [read_json(run.folder / f"fold-{k}" / "run.json") for k in range(1, N_FOLDS + 1)]
    assert run.facts["elapsed_s"] > sum(fold["elapsed_s"] for fold in folds) > 0


class KilledError(Exception):
    """Stands for the power cut."""


def test_a_cross_validation_killed_again_and_again_resumes_to_the_same_end(
    run: hilum.Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.shorten(monkeypatch)
    folder = tmp_path / "killed"
    steps = (("_begin_fold", 1), ("measure_pooled", 0), ("write_json", 0))
    for name, n_calls in steps:
        original: Callable[..., Any] = getattr(hilum.crossvalidation, name)
        calls = iter(range(10_000))

        def fail(
            *args: Any,
            original: Callable[..., Any] = original,
            calls: Iterator[int] = calls,
            n_calls: int = n_calls,
            **kwargs: Any,
        ) -> Any:
            if next(calls) >= n_calls:
                raise KilledError
            return original(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(hilum.crossvalidation, name, fail)
            with pytest.raises(KilledError):
                hilum.resume(folder) if folder.exists() else cross_validate(data, folder)
    resumed = hilum.resume(folder)
    pd.testing.assert_frame_equal(
        table(run.folder, "predictions.csv"), table(resumed.folder, "predictions.csv")
    )
    assert json.dumps(resumed.metrics) == json.dumps(run.metrics)
    assert resumed.facts["status"] == "finished"


def test_a_fold_that_lacks_only_its_report_is_not_opened_again(
    run: hilum.Run, tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    shutil.copytree(run.folder, folder)
    (folder / "fold-1" / "report.html").unlink()
    facts = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(facts | {"status": "prepared"}))
    hilum.resume(folder)
    assert (folder / "fold-1" / "report.html").exists()
    opened = (folder / "fold-1" / "openings.jsonl").read_text()
    assert opened == (run.folder / "fold-1" / "openings.jsonl").read_text()


def test_a_test_split_that_came_with_the_data_is_in_no_fold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split, seed in (("train", 0), ("test", 1)):
        folder = tiny.make_folder(tmp_path / "data" / split, seed=seed, n_patients=12, n_images=1)
        if split == "test":
            for path in sorted(folder.rglob("*.png")):
                path.rename(path.with_name(path.name.replace("case", "case9")))

    def stop(*args: Any, **kwargs: Any) -> Any:
        raise KilledError

    tiny.shorten(monkeypatch)
    monkeypatch.setattr(hilum.runs, "train_network", stop)
    with pytest.raises(KilledError):
        cross_validate(tmp_path / "data", tmp_path / "run")
    samples = table(tmp_path / "run", "samples.csv")
    assert set(samples["fold"][samples["split"] == "test"]) == {""}
    assert set(samples["fold"][samples["split"] == "oof"]) == {"1", "2"}
    samples["excluded"] = samples["excluded"] == "true"
    for fold in range(1, N_FOLDS + 1):
        own = fold_samples(samples, fold, Settings(**SETTINGS), ["clear", "opacity"])
        assert len(own) == 24
        assert not own["path"].str.startswith("test/").any()
    assert not (tmp_path / "run" / "openings.jsonl").exists()


# -- validation inside a fold ----------------------------------------------------------------------


def prepared(n_patients: int, n_images: int, *, patient: bool = True) -> pd.DataFrame:
    """Samples of two classes, dealt into two folds."""
    rows = pd.DataFrame(
        [
            (f"{label}{p}_{i}", label, f"{label}{p}", str(p % 2 + 1))
            for label in "ab"
            for p in range(n_patients)
            for i in range(n_images)
        ],
        columns=["path", "label", "group", "fold"],
    )
    return rows.assign(split="oof", excluded=False, patient=rows["group"] if patient else "")


def test_few_validation_images_of_a_class_are_told() -> None:
    settings = Settings(val_share=0.2)
    assert check_folds(prepared(100, 2), settings, 2, "ab") is None  # 20 images of 10 patients
    words = (
        "Each fold has little to calibrate and to choose thresholds by: in validation {}, "
        "where 20 images of 5 patients are the least to rely on. Sensitivity and specificity may "
        "stray from fold to fold by that alone. Gather more patients, or pass --set val_share=0.3."
    )
    assert check_folds(prepared(40, 2), settings, 2, "ab") == words.format(
        "'a' with 8 images of 4 patients and 'b' with 8 images of 4 patients"
    )
    # Many images of few patients are no better.
    assert check_folds(prepared(20, 50), settings, 2, "ab") == words.format(
        "'a' with 100 images of 2 patients and 'b' with 100 images of 2 patients"
    )
    assert check_folds(prepared(40, 2, patient=False), settings, 2, "ab") == words.format(
        "'a' with 8 images and 'b' with 8 images"
    )


@pytest.mark.parametrize(
    ("n_folds", "n_patients", "message"),
    [
        (1, 9, "--folds 1 is no cross-validation: give 2 or more, such as 5."),
        (
            5,
            4,
            "--folds 5: the class 'a' comes from 4 patients outside the test split, too few to "
            "have one in each fold. Pass --folds 4 or fewer.",
        ),
        (
            2,
            2,
            "The class 'a' comes from 2 patients outside the test split, and cross-validation "
            "needs 3: one to train on, one to choose the threshold by, one to hold out. Add "
            "patients or leave the class out.",
        ),
    ],
)
def test_folds_that_cannot_be(n_folds: int, n_patients: int, message: str) -> None:
    groups = [f"{name}{n}" for name in "ab" for n in range(n_patients)]
    labels = [name[0] for name in groups]
    with pytest.raises(hilum.HilumError) as error:
        make_folds(labels, groups, [""] * len(groups), patients=groups, n_folds=n_folds)
    assert str(error.value) == message
