"""Sheets made here; what is read of runs and tables is in test_comparing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hilum.errors import DataError, SettingError
from hilum.raters import Sheet, matched, with_names


def sheet(
    name: str, *, keys: str = "wxyz", folder: str = "runs", kind: str = "run", **columns: Any
) -> Sheet:
    """Images named by their keys, of a patient each; every second one is ill."""
    labels = ["ill" if key in "xz" else "well" for key in keys]
    table = pd.DataFrame(
        {"key": list(keys), "path": [f"{key}.png" for key in keys], "label": labels}
    )
    table = table.assign(group=list(keys), called=labels, p_ill=0.7, p_well=0.3).assign(**columns)
    classes = ("ill", "well")
    return Sheet(name, kind, Path(folder) / name, table, classes, "ill", True, {}, "classes")


def test_equal_names_are_told_apart_by_their_source() -> None:
    one, two = sheet("a"), sheet("a", folder="other")
    assert [each.name for each in with_names([one, two, sheet("b")])] == [
        *("runs/a", "other/a", "b")
    ]
    readers = [sheet("r", kind="reader", folder=folder) for folder in ("x", "y")]
    assert [each.name for each in with_names(readers)] == ["r (x/r)", "r (y/r)"]


def test_images_are_matched_by_key_whatever_their_order() -> None:
    table, counts = matched([sheet("a"), sheet("b", keys="zyxw")], shared_only=False)
    assert list(table["key"]) == list("wxyz")
    assert counts == {"shared": 4, "left_out": {"a": 0, "b": 0}}


def test_images_that_either_takes_for_one_patients_stay_together() -> None:
    first = sheet("a", group=["p", "p", "q", "r"])
    second = sheet("b", group=["s", "t", "t", "u"])
    table, _ = matched([first, second], shared_only=False)
    group = table.set_index("key")["group"]
    assert group["w"] == group["x"] == group["y"] != group["z"]


def test_other_images_are_refused_or_left_out_on_demand() -> None:
    sheets = [sheet("a"), sheet("b", keys="xyzv")]
    with pytest.raises(DataError, match="a has 4; b has 4; 3 are the same by content"):
        matched(sheets, shared_only=False)
    table, counts = matched(sheets, shared_only=True)
    assert list(table["key"]) == list("xyz")
    assert counts["left_out"] == {"a": 1, "b": 1}
    with pytest.raises(DataError, match="There is nothing to pair"):
        matched([sheet("a"), sheet("b", keys="st")], shared_only=True)


def test_labels_that_differ_and_a_run_given_twice_are_refused() -> None:
    with pytest.raises(DataError, match=r"w\.png is 'well' in a and 'ill' in b"):
        matched([sheet("a"), sheet("b", label=["ill", "ill", "well", "ill"])], shared_only=False)
    with pytest.raises(SettingError, match="is given twice"):
        matched([sheet("a"), sheet("a")], shared_only=False)


def test_what_was_said_comes_in_the_order_that_is_asked_for() -> None:
    said = sheet("a", p_ill=[0.1, 0.2, 0.3, 0.4], p_well=[0.9, 0.8, 0.7, 0.6])
    rater = said.rater(["z", "w"], ("well", "ill"))
    assert rater.probs is not None
    np.testing.assert_allclose(rater.probs, [[0.6, 0.4], [0.9, 0.1]])
    assert rater.called is not None
    assert rater.called.tolist() == [1, 0]
