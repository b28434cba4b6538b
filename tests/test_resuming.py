"""Runs of every kind of target and network, killed again and again, come to the same end."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from PIL import Image
from safetensors.torch import load_file

import hilum
import tiny
from hilum import Columns, DataOptions
from hilum.backbones import build_backbone
from hilum.settings import make_settings

IN_TRAINING = (
    ("hilum.training", "save_checkpoint", 1),
    ("hilum.training", "write_bytes", 1),  # between the best and the last checkpoint
    ("hilum.training", "write_csv", 0),
)
IN_THE_SECOND = (*IN_TRAINING, ("hilum.training", "save_checkpoint", 2))
AFTER_IT = (
    ("hilum.runs", "prepare", 0),
    ("hilum.release", "lock_patients", 0),
    ("hilum.model", "write_bytes", 1),
    ("hilum.runs", "pool_predictions", 1),
    ("hilum.runs", "measure", 1),
)
"""Where runs are killed: module, function, calls that pass; each is a step further."""

SETTINGS = tiny.SETTINGS | {"layout": "contiguous", "epochs": 2}


Case = tuple[Path, dict[str, Any], DataOptions]
"""Data, settings, options."""


class KilledError(BaseException):
    """Stands for a process that ends at once."""


def killed_at(
    module: str, name: str, n_calls: int, work: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Have some work die when a function was called so many times."""
    original: Callable[..., Any] = getattr(importlib.import_module(module), name)
    calls: Iterator[int] = iter(range(10_000))

    def fail(*args: Any, **kwargs: Any) -> Any:
        if next(calls) >= n_calls:
            raise KilledError
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(f"{module}.{name}", fail)
        with pytest.raises(KilledError):
            work()


def squares(folder: Path) -> Path:
    """Write a table of images with any of three bright squares, two images of each patient."""
    rng = np.random.default_rng(0)
    lines = ["path,patient,split,a,b,c,grade"]
    for split, n in (("train", 24), ("val", 18), ("test", 12)):
        for k in range(n):
            pixels = rng.integers(0, 130, (16, 16), dtype=np.uint8)
            shown = [(k // 2) % 2, (k // 2) % 3 % 2, k % 4 % 2]
            for has, (top, left) in zip(shown, [(1, 1), (1, 9), (9, 1)], strict=True):
                pixels[top : top + 6, left : left + 6] += np.uint8(80 * has)
            Image.fromarray(pixels).save(folder / f"{split}{k}.png")
            cells = [str(has) for has in shown] if k else ["1", "", "0"]
            row = [f"{split}{k}.png", f"{split}-{k // 2}", split, *cells, str(sum(shown))]
            lines.append(",".join(row))
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder / "table.csv"


def folder_of_patients(path: Path) -> Path:
    return tiny.make_folder(path, n_patients=10, n_images=2)


def several_labels(folder: Path) -> Case:
    return squares(folder), {}, DataOptions(columns=Columns(labels=("a", "b", "c")))


def grades(folder: Path) -> Case:
    return squares(folder), {}, DataOptions(target="ordinal", columns=Columns(label="grade"))


def ensemble(folder: Path) -> Case:
    changes = {"members": 2, "mixup": 0.2, "weight_averaging": 0.9, "keep": "last"}
    return folder_of_patients(folder / "data"), changes, DataOptions()


def pretrained(folder: Path) -> Case:
    pytest.importorskip("monai")
    changes: dict[str, Any] = {"backbone": "monai:ResNet10", "input_height": 64, "input_width": 64}
    torch.manual_seed(0)
    backbone, _, _ = build_backbone(make_settings(SETTINGS | changes))
    weights = folder / "weights.safetensors"
    safetensors.torch.save_file(backbone.model.state_dict(), weights)
    changes |= {"weights": str(weights), "frozen_epochs": 1, "keep": "last"}
    return folder_of_patients(folder / "data"), changes, DataOptions()


def two_kinds(folder: Path) -> Case:
    changes: dict[str, Any] = {
        "backbone": "hilum:efficientnet_lite0",
        "weights": "imagenet",
        "input_height": 32,
        "input_width": 32,
        "members": 3,
        "kinds": ["backbone", "network"],
        "reductions": [1, 2],
        "frozen_stages": 3,
        "frozen_norms": True,
        "keep": "last",
    }
    return folder_of_patients(folder / "data"), changes, DataOptions()


@pytest.mark.parametrize(
    ("kind", "places"),
    [
        (several_labels, AFTER_IT),
        (grades, AFTER_IT),
        (ensemble, IN_THE_SECOND),
        (pretrained, IN_TRAINING),
        (two_kinds, IN_THE_SECOND),
    ],
)
def test_a_run_that_is_killed_again_and_again_comes_to_the_same_end(
    kind: Callable[[Path], Case],
    places: tuple[tuple[str, str, int], ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HILUM_CACHE", str(tmp_path / "cache"))
    tiny.shorten(monkeypatch, report=False)
    data, changes, options = kind(tmp_path)
    folder = tmp_path / "killed"

    def begin(out: Path = folder) -> hilum.Run:
        return hilum.train(data, out, settings=SETTINGS | changes, options=options)

    whole = begin(tmp_path / "whole")
    for module, name, n_calls in places:
        begun = (folder / "run.json").exists()
        work: Callable[[], Any] = partial(hilum.resume, folder) if begun else begin
        killed_at(module, name, n_calls, work, monkeypatch)
    resumed = hilum.resume(folder)
    first, second = (
        load_file(run.folder / "model" / "weights.safetensors") for run in (whole, resumed)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    for name in ("predictions.csv", "patients.csv", "history.csv"):
        one, other = (
            pd.read_csv(run.folder / name).drop(
                columns=["images_per_s", "elapsed_s"], errors="ignore"
            )
            for run in (whole, resumed)
        )
        pd.testing.assert_frame_equal(one, other)
    assert resumed.metrics["test"] == whole.metrics["test"]
    assert resumed.facts["calibration"] == whole.facts["calibration"]
    openings = (resumed.folder / "openings.jsonl").read_text().splitlines()
    assert json.loads(openings[-1])["command"] == "hilum.resume"
    assert not list(resumed.folder.rglob("*.tmp"))
