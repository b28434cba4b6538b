from __future__ import annotations

from pathlib import Path

import pytest

import tiny
from hilum.demo import run_demo
from hilum.errors import DataError
from hilum.phantom import FLAWS


def test_the_demo_names_what_was_planted_and_found_and_where_the_report_is(tmp_path: Path) -> None:
    settings = tiny.SETTINGS | {"epochs": 1}
    lines = list(run_demo(tmp_path, n_patients=60, settings=settings))
    text = "\n".join(lines)
    for kind in ("unreadable", "exact_duplicates", "patients_across_splits"):
        (line,) = [line for line in lines if line.strip().startswith(kind)]
        found, planted = (int(word) for word in line.split() if word.isdecimal())
        assert found == planted > 0, line
    for kind in FLAWS:
        assert f"    {kind}" in text
    assert lines[-1].endswith(str(tmp_path / "run" / "report.html"))
    assert (tmp_path / "run" / "report.html").exists()
    with pytest.raises(DataError, match="is not empty"):
        list(run_demo(tmp_path))
