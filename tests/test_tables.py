"""Tables as programs write them; those that are refused stand in test_bad_input.py."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum import DataError, MissingExtraError, load_dataset
from hilum.tables import _as_text


@pytest.mark.parametrize(
    "data",
    [
        b"path,label\n0.png,ill\n1.png,well\n",
        codecs.BOM_UTF8 + b"path,label\r\n0.png,ill\r\n1.png,well\r\n",
        "path\tlabel\n0.png\till\n1.png\twell\n".encode("utf-16"),
        b"path;label\n0.png;ill\n1.png;well\n",
        b"path\tlabel\n0.png\till\n1.png\twell",
        b'"path","label"\n"0.png","ill"\n"1.png","well"\n',
        b"\n\npath,label\n\n0.png,ill\n,\n1.png,well\n\n",
        b"path,label,,\n0.png,ill,,\n1.png,well,,\n",
        b"path,label\n0.png,ill,\n1.png,well,\n",
        b" path , label \n 0.png , ill \n./1.png,well\n",
        b"Path,LABEL\n0.png,ill\n1.png,well\n",
        b"path,label\r0.png,ill\r1.png,well\r",
    ],
    ids=[
        *("plain", "excel utf-8", "utf-16", "semicolons", "tabs", "quotes", "blank rows"),
        *("empty columns", "comma at the end", "spaces", "capitals", "old mac"),
    ],
)
def test_tables_as_programs_write_them(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(data)
    dataset = load_dataset(tmp_path / "t.csv")
    assert list(dataset.table["path"]) == ["0.png", "1.png"]
    assert list(dataset.table["label"]) == ["ill", "well"]


def test_tsv_with_commas_in_cells(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("path\tlabel\tplace\n0.png\till\tGoyang, Seoul\n1.png\tb\t\n")
    assert list(load_dataset(tmp_path / "t.tsv").table["place"]) == ["Goyang, Seoul", ""]


def test_quoted_cells_with_separators_and_line_breaks(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('path,label,note\n0.png,ill,"a,\nb"\n1.png,"very ""well""",\n')
    table = load_dataset(tmp_path / "t.csv").table
    assert list(table["note"]) == ["a,\nb", ""]
    assert table["label"][1] == 'very "well"'


SOUND = b'path,label,patient,split\n0.png,a,p1,train\n1.png,b,p2,test\n"x,y.png",c,,val\n'
CHANGES = (b",", b";", b"\t", b'"', b"\n", b"\r", b"\0", b"\xff", codecs.BOM_UTF8, b"path", b"")


@settings(max_examples=150, derandomize=True, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, len(SOUND)), st.integers(0, 6), st.sampled_from(CHANGES)),
        min_size=1,
        max_size=4,
    )
)
def test_no_table_brings_anything_but_an_answer_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int, bytes]]
) -> None:
    data = SOUND
    for at, n_removed, added in changes:
        data = data[:at] + added + data[at + n_removed :]
    path = tmp_path_factory.getbasetemp() / "changed.csv"
    path.write_bytes(data)
    message = ""
    try:
        load_dataset(path)
    except DataError as error:
        message = str(error)
    assert len(message.splitlines()) <= 1


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "t.parquet").write_bytes(b"")
    with pytest.raises(MissingExtraError) as caught:
        load_dataset(tmp_path / "t.parquet")
    assert str(caught.value) == (
        "Reading a Parquet table needs the package 'pyarrow', which is not installed. Install it "
        "with: pip install 'hilum[parquet]'"
    )


def test_columns_of_any_kind_become_text() -> None:
    import numpy as np
    import pandas as pd

    assert _as_text(pd.Series([1.0, None])) == ["1", ""]
    assert _as_text(pd.Series([1.0, 1e20])) == ["1.0", "1e+20"]
    assert _as_text(pd.Series([0.5, None])) == ["0.5", ""]
    assert _as_text(pd.Series([np.array([1, 2]), None], dtype=object)) == ["[1 2]", ""]


def test_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs the extra 'parquet'")
    import pandas as pd

    table = pd.DataFrame(
        {
            "path": ["0.png", "1.png"],
            "label": [0, 1],
            "patient": [12.0, None],
            "split": pd.Categorical(["train", "train"]),
        }
    )
    table.to_parquet(tmp_path / "t.parquet")
    dataset = load_dataset(tmp_path / "t.parquet")
    assert list(dataset.table["patient"]) == ["12", ""]
    assert dataset.class_names == ("0", "1")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        load_dataset(tmp_path / "t.parquet")
