"""The logic of benchmarks/accuracy.py and of the stand-ins that could be wrong unnoticed."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def accuracy() -> ModuleType:
    sys.path.insert(0, str(REPOSITORY))
    return import_module("benchmarks.accuracy")


@pytest.fixture(scope="module")
def standins(accuracy: ModuleType) -> ModuleType:
    return import_module("benchmarks.standins")


def test_every_benchmark_can_be_imported(accuracy: ModuleType) -> None:
    scripts = [path.stem for path in (REPOSITORY / "benchmarks").glob("[!_]*.py")]
    assert len(scripts) > 10
    for name in scripts:
        assert callable(import_module(f"benchmarks.{name}").main)


def test_every_stage_that_is_timed_is_there(accuracy: ModuleType) -> None:
    for name in import_module("benchmarks.stages").STAGES:
        module, _, function = name.partition(".")
        assert callable(getattr(import_module(f"hilum.{module}"), function))


SAMPLES = """file,path,label,patient,split
train/no/0.png,a,no,P1,train
val/no/1.png,b,no,P2,val
val/yes/2.png,c,yes,P3,val
test/yes/3.png,d,yes,P4,test
test/no/4.png,e,no,P5,test
test/yes/5.png,f,yes,P4,test
"""
PREDICTIONS = """path,p_no,p_yes
test/yes/5.png,0.8,0.2
test/no/4.png,0.95,0.05
test/yes/3.png,0.7,0.3
val/yes/2.png,0.6,0.4
val/no/1.png,0.9,0.1
"""


def split_folder(folder: Path, predictions: str = PREDICTIONS) -> Path:
    (folder / "keras").mkdir()
    (folder / "samples.csv").write_text(SAMPLES)
    (folder / "keras" / "predictions.csv").write_text(predictions)
    return folder


def test_predictions_of_a_peer(accuracy: ModuleType, tmp_path: Path) -> None:
    found = accuracy.read_peer(split_folder(tmp_path), "keras")
    assert found.y_true.tolist() == [1, 0, 1]
    assert found.probs[:, 1].tolist() == [0.3, 0.05, 0.2]
    assert found.y_pred.tolist() == [0, 0, 0]
    # Between 0.1 and 0.4, where the two validation images part: midway.
    assert found.y_youden.tolist() == [1, 0, 0]
    assert found.patients.tolist() == ["P4", "P5", "P4"]


@pytest.mark.parametrize("change", ["missing", "twice"])
def test_predictions_that_lack_or_repeat_an_image(
    accuracy: ModuleType, tmp_path: Path, change: str
) -> None:
    lines = PREDICTIONS.splitlines()
    changed = [*lines[:-1], *([lines[1]] if change == "twice" else [])]
    folder = split_folder(tmp_path, "\n".join(changed))
    with pytest.raises(ValueError, match="validation and test together have 5"):
        accuracy.read_peer(folder, "keras")


def test_figures_pool_folds_and_patients(accuracy: ModuleType) -> None:
    def part(true: list[int], score: list[float], patients: list[str]) -> object:
        probs = np.array([[1 - p, p] for p in score])
        pred = (probs[:, 1] > 0.5).astype(int)
        return accuracy.Decided(np.array(true), pred, 1 - pred, probs, np.array(patients))

    parts = [
        part([0, 1], [0.1, 0.2], ["a", "b"]),
        part([0, 1, 1], [0.6, 0.7, 0.1], ["c", "d", "d"]),
    ]
    found = accuracy.figures(parts)
    # Positive scores .2, .7, .1 against negative .1, .6: 1 + 0, 1 + 1, ½ + 0 of 6.
    assert found["auroc"] == pytest.approx(3.5 / 6)
    assert found["auroc_of_folds"] == pytest.approx((1 + 0.5) / 2)
    # Patients: b .2 and d .4 against a .1 and c .6.
    assert found["auroc_of_patients"] == pytest.approx(2 / 4)
    assert found["accuracy"] == pytest.approx(2 / 5)
    assert found["accuracy_youden"] == pytest.approx(3 / 5)
    assert found["balanced_accuracy"] == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_only_seeds_that_are_whole_count(accuracy: ModuleType, tmp_path: Path) -> None:
    line = {"set": "s", "seed": 0, "peer": "hilum", "folder": ".", "splits": ["x", "y"]}
    row = {"set": "s", "seed": 0, "peer": "keras", "split": "x", "minutes": 1, "memory_mib": 5}
    (tmp_path / "results.jsonl").write_text(f"{json.dumps(line)}\n{json.dumps(row)}\n")
    results = accuracy.Results(tmp_path)
    assert accuracy.measure("s", line, "keras", tmp_path, results) is None


def test_table(accuracy: ModuleType) -> None:
    keys = [key for _, key, _ in accuracy.COLUMNS]
    row: dict[str, Any] = dict.fromkeys(keys, (0.9714, 0.0032))
    row |= {
        "minutes": (12.34, None),
        "memory_mib": (1234.5, 10.2),
        "ece": (1.0, 0.0),
        "auroc_of_patients": (0.5, None),
    }
    row |= {"set": "covid-cxr", "peer": "fastai", "lines": 30, "n_seeds": 3}
    assert accuracy.table_of([row]).splitlines()[-1] == (
        "| covid-cxr (AUROC of patients) | fastai ResNet-18 | .500 | .971 ± .003 | .971 ± .003 "
        "| .971 ± .003 | .971 ± .003 | 1.000 ± .000 | 12.3 | 1,234 ± 10 | 30 | 3 |"
    )


def test_lines_that_a_user_writes(accuracy: ModuleType, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text('"""Two\nlines."""\n\n# why\nimport x\nstop()  # benchmark\n\nx.fit()\n')
    assert accuracy.count_lines(script) == 2


# -- stand-ins ------------------------------------------------------------------------------------


def test_every_standin_draws_every_class(standins: ModuleType) -> None:
    for kind in standins.STANDINS.values():
        cases = {case.label: case for _, _, case in standins._cases(kind, 400, "train", 0)}
        assert sorted(cases) == list(range(len(kind.classes)))
    first = kind.draw(cases[0])
    assert first.dtype == np.uint8


def test_standins_repeat_and_keep_patients_apart(standins: ModuleType, tmp_path: Path) -> None:
    files = [standins.make_standin("chest-50", tmp_path / name, seed=3) for name in ("a", "b")]
    assert files[0].read_bytes() == files[1].read_bytes()
    table = pd.read_csv(files[0])
    image = table["path"][0]
    assert (tmp_path / "a" / image).read_bytes() == (tmp_path / "b" / image).read_bytes()
    assert (table.groupby("patient")["split"].nunique() == 1).all()
    assert set(table["split"]) == {"train", "test"}


def test_subset_takes_whole_patients_and_no_test_image(
    standins: ModuleType, tmp_path: Path
) -> None:
    source = standins.make_standin("chest-200", tmp_path / "whole")
    whole = pd.read_csv(source)
    taken = pd.read_csv(standins.make_subset(source, tmp_path / "part", 60, imbalance=5))
    assert 40 <= len(taken) <= 80
    counts = taken["label"].value_counts()
    assert 3 <= counts.max() / counts.min() <= 8
    train = whole[whole["split"] == "train"]
    assert set(taken["patient"]) <= set(train["patient"])
    for patient, rows in taken.groupby("patient"):
        assert len(rows) == (train["patient"] == patient).sum()
