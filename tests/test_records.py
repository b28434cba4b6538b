from __future__ import annotations

from pathlib import Path

import pytest

from hilum.errors import RunError
from hilum.records import Run, load_prepared


def test_a_device_that_is_gone_is_told_with_what_can_be_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(RunError) as error:
        Run(tmp_path).begin_session(["hilum", "resume"], "cuda")
    assert str(error.value) == (
        f"{tmp_path} was planned for the device 'cuda', and none was found. Go on where there is "
        "one, or start a new run here: 'hilum train' with another --out, and the same plan by "
        "--recipe and the folder of the whole run."
    )


def test_a_record_of_samples_without_a_column(tmp_path: Path) -> None:
    (tmp_path / "samples.csv").write_text("path,sha256,label,patient,group,split,reason\n")
    with pytest.raises(RunError) as error:
        load_prepared(Run(tmp_path))
    assert str(error.value) == (
        f"{tmp_path / 'samples.csv'} is damaged: the column 'excluded' is missing. Start a new run."
    )
