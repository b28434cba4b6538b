from __future__ import annotations

from pathlib import Path

import pytest

from hilum.dataset import load_dataset
from hilum.errors import RunError
from hilum.progress import LogProgress
from hilum.records import Run, data_facts, load_prepared
from hilum.scan import scan
from making import write_folder, write_table


def test_the_path_of_a_linked_table_is_that_of_the_link(tmp_path: Path) -> None:
    """Images lie beside the link, as DataLad and DVC leave them."""
    data, store = tmp_path / "data", tmp_path / "store"
    store.mkdir()
    table = write_table(data / "labels.csv", [["path", "label"], ["0.png", "a"], ["1.png", "b"]])
    table.rename(store / "labels.csv")
    table.symlink_to(store / "labels.csv")
    dataset = load_dataset(table)
    samples = scan(dataset, LogProgress()).samples
    assert data_facts(dataset, samples)["path"] == str(table)


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


def test_figures_on_other_data_are_known_by_their_name(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.external == {}
    (tmp_path / "external").mkdir()
    for name in ("ward", "clinic"):
        (tmp_path / "external" / f"{name}.json").write_text(f'{{"name": "{name}"}}')
        (tmp_path / "external" / f"{name}.csv").write_text("path\n")
    assert run.external == {"clinic": {"name": "clinic"}, "ward": {"name": "ward"}}


def test_what_readers_noted_stands_in_run_json_beside_what_was_left_aside(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "a" / "notes.txt").write_text("about")
    with (tmp_path / "b" / "0.png").open("ab") as file:
        file.write(b"tail")
    dataset = load_dataset(tmp_path)
    facts = data_facts(dataset, scan(dataset, LogProgress()).samples)
    assert facts["notes"] == [
        "1 file was left aside, being no images by name: 'a/notes.txt'.",
        "1 image, b/0.png: 4 bytes after the end of the PNG were ignored.",
    ]
