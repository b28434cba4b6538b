from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pandas as pd
import pytest

from hilum import HilumError
from hilum.files import (
    append_line,
    read_json,
    write_csv,
    write_json,
    write_text,
    writing,
)


def full_disk(*args: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_is_written_can_be_read_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "é.txt", "ß\n")
    assert (tmp_path / "a" / "b" / "é.txt").read_bytes() == b"\xc3\x9f\n"
    write_json(tmp_path / "x.json", {"ill": [1, None, "ü"]})
    assert read_json(tmp_path / "x.json") == {"ill": [1, None, "ü"]}
    write_csv(tmp_path / "t.csv", pd.DataFrame({"a": ["1,2"], "b": ['"']}))
    assert (tmp_path / "t.csv").read_bytes() == b'a,b\n"1,2",""""\n'
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "t.csv", "x.json"]


def test_cells_are_read_back_as_they_were(tmp_path: Path) -> None:
    """A bare carriage return would end a line."""
    cells = ["one\rtwo", "\r", "three\r\nfour", "five\nsix", "a,b", '"']
    table = pd.DataFrame({"text": cells, "other": "x"})
    write_csv(tmp_path / "t.csv", table)
    back = pd.read_csv(tmp_path / "t.csv", dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(back, table, check_dtype=False)


@pytest.mark.parametrize("culprit", ["fsync", "write"])
def test_full_disk_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, culprit: str
) -> None:
    target = tmp_path / "metrics.json"
    write_json(target, {"auroc": 0.9})
    if culprit == "fsync":
        monkeypatch.setattr(os, "fsync", full_disk)
    else:
        monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(HilumError) as caught:
        write_json(target, {"auroc": 0.8})
    assert str(caught.value) == (
        f"{target} cannot be written: No space left on device. Free some space or choose another "
        "folder."
    )
    assert json.loads(target.read_text()) == {"auroc": 0.9}
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


def test_interrupted_block_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), writing(tmp_path / "x") as partial:  # noqa: PT012
        partial.write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(HilumError, match="cannot be written"):
        write_text(tmp_path / "run" / "x.json", "{}")


def test_lines_are_added_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "openings.jsonl"
    append_line(log, '{"n": 1}')
    append_line(log, '{"n": 2}')
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(HilumError, match="No space left"):
        append_line(log, '{"n": 3}')
    assert log.read_text() == '{"n": 1}\n{"n": 2}\n'


def test_nan_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"auroc": float("nan")})
    assert list(tmp_path.iterdir()) == []
