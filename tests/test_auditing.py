from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import hilum
from hilum import Audit, Finding, audit
from making import medmnist, write_folder, write_npz, write_table


def finding(result: Audit, kind: str) -> Finding:
    [found] = [each for each in result.findings if each.kind == kind]
    return found


def kinds(result: Audit) -> list[str]:
    return [each.kind for each in result.findings]


def copy(root: Path, source: str, target: str) -> None:
    (root / target).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(root / source, root / target)


def test_data_without_a_flaw(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 50, "b": 50}, name="patient{seed}_0.png")
    result = audit(tmp_path)
    assert (result.n_files, result.n_read) == (100, 100)
    assert result.unreadable == ()
    assert result.findings == ()


def test_unreadable_files(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 50, "b": 50})
    (tmp_path / "a" / "x.png").write_bytes(b"")
    result = audit(tmp_path)
    assert (result.n_files, result.n_read) == (101, 100)
    assert result.unreadable == ({"path": "a/x.png", "reason": "the file is empty"},)
    found = finding(result, "unreadable")
    assert (found.severity, found.count) == ("medium", 1)
    assert found.message == (
        "1 file of 101 cannot be read. Replace or remove each, or go on without them with "
        "--skip-unreadable."
    )
    assert found.examples == ("a/x.png: the file is empty",)
    assert found.paths == (("a/x.png",),)


def test_unknown_patients(tmp_path: Path) -> None:
    found = finding(audit(write_folder(tmp_path, {"a": 2, "b": 2})), "unknown_patients")
    assert (found.severity, found.count) == ("medium", 4)
    assert found.message.startswith("No patient is known: ")


def test_some_unknown_patients(tmp_path: Path) -> None:
    rows = [["path", "label", "patient"], ["0.png", "a", "p"], ["1.png", "b", ""]]
    found = finding(audit(write_table(tmp_path / "t.csv", rows, n_images=2)), "unknown_patients")
    assert found.count == 1
    assert found.message.endswith("1 image has no patient and counts as one.")


def test_exact_duplicates_within_a_split_are_a_trifle(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 2, "b": 2})
    copy(tmp_path, "a/0.png", "a/copy.png")
    found = finding(audit(tmp_path), "exact_duplicates")
    assert (found.severity, found.count) == ("low", 1)
    assert found.message == (
        "1 group of identical files (1 copy beyond the first). Copies count twice in training and "
        "in figures. A split drawn here keeps them together."
    )
    assert found.examples == ("a/0.png = a/copy.png",)


def test_exact_duplicates_across_given_splits_are_grave(tmp_path: Path) -> None:
    write_folder(tmp_path, {f"{s}/{c}": 2 for s in ("train", "test") for c in "ab"})
    copy(tmp_path, "train/a/0.png", "test/a/again.png")
    copy(tmp_path, "train/b/0.png", "train/b/again.png")
    found = finding(audit(tmp_path), "exact_duplicates")
    assert (found.severity, found.count) == ("high", 2)
    assert found.message.endswith(
        "1 group lies across splits that came with the data: what is tested was learnt. Remove "
        "the copies, or draw a new split with --new-split."
    )
    assert found.examples == ("test/a/again.png = train/a/0.png",)
    assert len(found.paths) == 2


def test_contradictory_labels(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 2, "b": 2})
    copy(tmp_path, "a/0.png", "b/twin.png")
    found = finding(audit(tmp_path), "contradictory_labels")
    assert (found.severity, found.count) == ("high", 1)
    assert found.examples == ("a/0.png (a) = b/twin.png (b)",)


def test_patients_across_splits(tmp_path: Path) -> None:
    counts = {f"{s}/{c}": 3 for s in ("train", "valid") for c in "ab"}
    write_folder(tmp_path, counts, name="case{n}.png")
    found = finding(audit(tmp_path), "patients_across_splits")
    assert (found.severity, found.count) == ("high", 3)
    assert found.message == (
        "3 patients of the splits that came with the data are in more than one of them (train, "
        "val): figures would be too good. Draw a new split with --new-split."
    )
    assert found.examples == ("case0", "case1", "case2")
    assert [len(paths) for paths in found.paths] == [4, 4, 4]


def test_prevalence_shift(tmp_path: Path) -> None:
    counts = {"train/a": 60, "train/b": 60, "test/a": 55, "test/b": 10}
    found = finding(audit(write_folder(tmp_path, counts)), "prevalence_shift")
    assert found.message.startswith("'a' makes up 50.0% of train and 84.6% of test: ")


@pytest.mark.parametrize("counts", [(60, 60, 6, 4), (60, 60, 30, 31)])
def test_chance_is_no_shift(tmp_path: Path, counts: tuple[int, ...]) -> None:
    folders = ("train/a", "train/b", "test/a", "test/b")
    write_folder(tmp_path, dict(zip(folders, counts, strict=True)))
    assert "prevalence_shift" not in kinds(audit(tmp_path))


def test_small_class_and_a_slip_of_the_pen(tmp_path: Path) -> None:
    write_folder(tmp_path, {"benign": 51, "malignant": 50, "bening": 1})
    found = finding(audit(tmp_path), "small_class")
    assert found.message == (
        "Classes with few images: 'bening' (1). Their figures will have wide intervals. Is "
        "'bening' meant to be another? Did you mean 'benign'?"
    )
    assert found.examples == ("bening",)


def test_grades_are_no_slips(tmp_path: Path) -> None:
    write_folder(tmp_path, {"grade 1": 51, "grade 2": 2})
    assert "meant to be" not in finding(audit(tmp_path), "small_class").message


def test_the_worst_comes_first(tmp_path: Path) -> None:
    counts = {f"{s}/{c}": 3 for s in ("train", "test") for c in "ab"}
    write_folder(tmp_path, counts, name="case{n}.png")
    copy(tmp_path, "train/a/case0.png", "train/a/case7.png")
    severities = [each.severity for each in audit(tmp_path).findings]
    assert severities == sorted(severities, key=("high", "medium", "low").index)
    assert len(set(severities)) == 3


def test_audit_is_json(tmp_path: Path) -> None:
    arrays = medmnist(60)
    result = audit(write_npz(tmp_path / "x.npz", **arrays))
    told = result.to_dict()
    assert {"n_files", "n_read", "unreadable", "findings", "patients"} <= set(told)
    assert json.loads(json.dumps(told))["n_files"] == 180
    for each in told["findings"]:
        assert list(each)[:5] == ["kind", "severity", "count", "message", "examples"]


def test_known_flaws_of_real_data(hilum_data: Path) -> None:
    brain = audit(hilum_data / "brain-mri")
    assert finding(brain, "exact_duplicates").count == 22
    assert hilum.Audit is Audit
