from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from hilum.fingerprint import Fingerprint, take_fingerprint


def scanned(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    usual = {
        "split": "train", "label": "a", "height": 100, "width": 80, "grey": True,
        "dtype": "uint8", "low": 0.0, "high": 255.0, "range_from": "type",
    }  # fmt: skip
    return pd.DataFrame([{**usual, **row} for row in rows])


# -- fingerprint --------------------------------------------------------------------------------


def test_fingerprint_never_looks_at_test_or_excluded_samples() -> None:
    seen = take_fingerprint(
        scanned(
            [
                {"label": "a"},
                {"label": "a"},
                {"label": "b"},
                {"split": "val", "height": 200, "high": 100.0},
                {"split": "test", "height": 9000, "grey": False, "dtype": "uint16", "high": 9e4},
                {"split": None, "height": None, "grey": None, "dtype": None, "high": None},
            ]
        )
    )
    assert seen == Fingerprint(
        n_train=3,
        class_counts={"a": 2, "b": 1},
        median_height=100.0,
        median_width=80.0,
        grey=True,
        highest={"uint8": 255.0},
        lowest={"uint8": 0.0},
    )


def test_one_colour_image_makes_the_data_coloured() -> None:
    assert not take_fingerprint(scanned([{}, {"split": "val", "grey": False}])).grey


def test_range_that_files_state_needs_none_from_the_plan() -> None:
    deep = {"dtype": "uint16", "high": 4000.0}
    stated = scanned([deep, {**deep, "range_from": "bits"}])
    assert take_fingerprint(stated).highest == {}
    assert take_fingerprint(scanned([deep, deep])).highest == {"uint16": 4000.0}
