from __future__ import annotations

from pathlib import Path

import pytest

from hilum.errors import RunError
from hilum.records import Run, load_prepared


def test_a_record_of_samples_without_a_column(tmp_path: Path) -> None:
    (tmp_path / "samples.csv").write_text("path,sha256,label,patient,group,split,reason\n")
    with pytest.raises(RunError) as error:
        load_prepared(Run(tmp_path))
    assert str(error.value) == (
        f"{tmp_path / 'samples.csv'} is damaged: the column 'excluded' is missing. Start a new run."
    )
