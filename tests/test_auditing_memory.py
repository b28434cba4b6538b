from __future__ import annotations

import logging
import os
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from hilum.auditing.findings import Finding, Found
from hilum.auditing.memory import Memory
from hilum.cache import empty_cache
from hilum.cache_rooms import cache_folder
from hilum.progress import LogProgress

LOOKS = np.zeros((2, 64, 64), np.uint8)
calls: list[int] = []


def find_something(samples: pd.DataFrame, looks: Any, *, progress: Any) -> Found:
    calls.append(len(samples))
    progress.say("2 images are few.")
    with progress.task("Looking", 1) as task:
        task.advance()
    details = {"share": 0.5, "n": [1]}
    finding = Finding("blank", "low", 1, "One is blank.", ("a",), (("a", "b"),), details)
    return Found((finding,), {"drift": "2 images are few"}, {"n": 2})


def samples(**changes: Any) -> pd.DataFrame:
    return pd.DataFrame({"path": ["a", "b"], "sha256": ["1", "2"], "label": ["x", "y"]} | changes)


def look(table: pd.DataFrame, looks: NDArray[np.uint8] = LOOKS) -> Found:
    return Memory(table, looks).ask(find_something, LogProgress())


def test_the_same_files_are_looked_at_once(caplog: pytest.LogCaptureFixture) -> None:
    calls.clear()
    first = look(samples())
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert look(samples()) == first
    assert calls == [2]
    assert caplog.messages == ["2 images are few."]


@pytest.mark.parametrize(
    "changes", [{"sha256": ["1", "3"]}, {"label": ["y", "y"]}, {"patient": ["p", "q"]}]
)
def test_what_differs_is_looked_at_again(changes: dict[str, Any]) -> None:
    calls.clear()
    look(samples())
    look(samples(**changes))
    assert calls == [2, 2]


def test_other_pixels_of_the_same_files_are_looked_at_again() -> None:
    """As another version of a reader may give them."""
    calls.clear()
    look(samples())
    look(samples(), LOOKS + 1)
    assert calls == [2, 2]


def test_an_emptied_or_damaged_cache_is_made_anew() -> None:
    calls.clear()
    first = look(samples())
    (path,) = (cache_folder() / "findings").iterdir()
    path.write_text('{"found": {"findings": [{}]}, "said": []}')
    assert look(samples()) == first
    empty_cache()
    assert look(samples()) == first
    assert calls == [2, 2, 2]
    if os.name == "posix":
        assert (cache_folder() / "findings").stat().st_mode & 0o777 == 0o700
