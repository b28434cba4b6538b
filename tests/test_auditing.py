from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import hilum
from hilum import Audit, Finding, audit
from hilum.auditing import basics, find_flaws
from hilum.auditing.basics import hanley_mcneil
from hilum.progress import LogProgress
from hilum.scan import scan
from making import medmnist, write_folder, write_image, write_npz, write_table


def finding(result: Audit, kind: str) -> Finding:
    [found] = [each for each in result.findings if each.kind == kind]
    return found


def kinds(result: Audit) -> list[str]:
    return [each.kind for each in result.findings]


def copy(root: Path, source: str, target: str) -> None:
    (root / target).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(root / source, root / target)


def test_data_without_a_flaw(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 200, "b": 200}, name="patient{seed}_0.png")
    result = audit(tmp_path)
    assert (result.n_files, result.n_read) == (400, 400)
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
        "1 group lies across splits that came with the data: where these are kept, what is tested "
        "was learnt. Remove the copies, or draw a new split with --new-split."
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


def test_many_images_of_few_patients_are_no_prevalence_shift() -> None:
    """6 of 20 training patients and 3 of 5 test patients are ill: chance, with any images each."""
    ill = [i < 6 for i in range(20)] + [i < 3 for i in range(5)]
    rows = [
        {
            "path": f"{patient}/{image}.png", "patient": patient, "label": "ill" if bad else "well",
            "given_split": "train" if k < 20 else "test",
        }
        for k, bad in enumerate(ill)
        for patient in [f"p{k}"]
        for image in range(30)
    ]  # fmt: skip
    samples = pd.DataFrame(rows)
    assert not basics._prevalence_shift(samples)
    # The same images, each of another patient.
    assert basics._prevalence_shift(samples.assign(patient=samples["path"]))
    # The same of the way of storage.
    mode = samples["given_split"]
    assert not basics._clear(mode, samples)
    assert basics._clear(mode, samples.assign(patient=samples["path"]))


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


def test_a_class_is_small_by_what_there_is_to_learn_from(tmp_path: Path) -> None:
    folders = {"train/a": 60, "train/b": 9, "test/a": 60, "test/b": 60}
    write_folder(tmp_path, folders)
    assert finding(audit(tmp_path), "small_class").message == (
        "Classes with few images outside the test split: 'b' (9). There is little to learn them "
        "from."
    )


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
    # Each was looked at: all are copies, none is of another person.
    assert finding(brain, "near_duplicates").details["n_across_classes"] == 0
    assert finding(brain, "near_duplicates").count >= 18
    assert "mixed_modes" in kinds(brain)
    assert hilum.Audit is Audit


# -- by the facts of each file ------------------------------------------------------------------


def test_blank_images(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 5, "b": 5})
    Image.new("L", (8, 8), 77).save(tmp_path / "a" / "grey.png")
    Image.fromarray(np.full((8, 8), 3000, np.uint16)).save(tmp_path / "b" / "deep.png")
    nearly = np.full((80, 80), 40, np.uint8)
    nearly[0, 0] = 44
    Image.fromarray(nearly).save(tmp_path / "b" / "nearly.png")
    found = finding(audit(tmp_path), "blank")
    assert (found.severity, found.count) == ("medium", 3)
    assert found.paths == (("a/grey.png",), ("b/deep.png",), ("b/nearly.png",))


def test_dark_deep_images_are_not_blank(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label in "ab":
        (tmp_path / label).mkdir()
        for n in range(4):
            Image.fromarray(rng.integers(0, 200, (8, 8), dtype=np.uint16)).save(
                tmp_path / label / f"{n}.png"
            )
    assert "blank" not in kinds(audit(tmp_path))


def test_extreme_sizes(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 10, "b": 10})
    write_image(tmp_path / "a" / "large.png", 901, size=60)
    Image.fromarray(np.arange(8 * 40, dtype=np.uint8).reshape(8, 40)).save(
        tmp_path / "b" / "long.png"
    )
    found = finding(audit(tmp_path), "extreme_size")
    assert (found.severity, found.count) == ("low", 2)
    assert found.examples == ("a/large.png: 60×60", "b/long.png: 40×8")


@pytest.mark.parametrize(("label", "severity"), [("a", "medium"), ("b", "low")])
def test_mixed_modes_matter_when_they_go_with_the_class(
    tmp_path: Path, label: str, severity: str
) -> None:
    write_folder(tmp_path, {"a": 20, "b": 20})
    for n in range(10):
        write_image(tmp_path / "a" / f"colour{n}.png", 900 + n, channels=3)
        if label == "b":
            write_image(tmp_path / "b" / f"colour{n}.png", 950 + n, channels=3)
    found = finding(audit(tmp_path), "mixed_modes")
    assert found.severity == severity
    assert found.message.startswith("Images are stored in 2 ways: L in grey, 8 bits (40), RGB in ")


def test_few_patients_of_one_class_are_told_however_many_the_other_has(tmp_path: Path) -> None:
    rows = [["path", "label", "patient"]]
    rows += [[f"{n}.png", "benign", f"p{n}"] for n in range(80)]
    rows += [[f"{n}.png", "ill", f"q{n % 2}"] for n in range(80, 100)]
    found = finding(audit(write_table(tmp_path / "t.csv", rows, n_images=100)), "few_patients")
    assert (found.count, found.severity) == (1, "medium")
    assert "about 1 patients of class 'ill'" in found.message


def test_few_patients(tmp_path: Path) -> None:
    rows = [["path", "label", "patient", "split"]]
    rows += [
        [f"{n}.png", "ab"[n % 2], f"p{n // 4}{n % 2}", "test" if n < 80 else "train"]
        for n in range(100)
    ]
    found = finding(audit(write_table(tmp_path / "t.csv", rows, n_images=100)), "few_patients")
    # 20 patients of each class, by the worked example of Wilson's interval: 0.699 to 0.972.
    assert (found.count, found.severity) == (20, "medium" if 0.972 - 0.699 > 0.35 else "low")
    assert found.message.startswith(
        "The test split has about 20 patients of class 'a': a sensitivity of 90% would have a "
        "95 % interval from 70% to 97%, and an AUROC of 0.9 one 0.20 wide. For a width of 0.2 it "
        "takes about 37 patients of each class in the test split."
    )


def test_few_patients_of_a_cross_validation(tmp_path: Path) -> None:
    """It is not advised to those who do it; a given test split stays sealed."""
    rows = [["path", "label", "patient", "split"]]
    rows += [[f"{n}.png", "ab"[n % 2], f"p{n}", "test" if n < 60 else "train"] for n in range(100)]
    dataset = hilum.load_dataset(write_table(tmp_path / "t.csv", rows, n_images=100))
    flaws = find_flaws(dataset, scan(dataset, LogProgress()), LogProgress(), in_folds=True)
    [found] = [each for each in flaws.findings if each.kind == "few_patients"]
    assert (found.count, found.severity) == (20, "low")
    assert found.message == (
        "Cross-validation tests on 20 patients of class 'a': a sensitivity of 90% would have a "
        "95 % interval from 70% to 97%, and an AUROC of 0.9 one 0.20 wide. For a width of 0.2 "
        "it takes about 37 patients of each class. Gather more."
    )


def test_standard_error_of_auroc_holds_for_exponential_scores() -> None:
    rng = np.random.default_rng(0)
    positive, negative = rng.exponential(9, (3000, 30)), rng.exponential(1, (3000, 40))
    areas = (positive[:, :, None] > negative[:, None, :]).mean(axis=(1, 2))
    assert areas.mean() == pytest.approx(0.9, abs=0.005)
    assert hanley_mcneil(0.9, 30, 40) == pytest.approx(areas.std(), rel=0.05)


@pytest.mark.parametrize(("mixed", "severity"), [(1, "medium"), (6, "low"), (14, None)])
def test_patients_in_several_classes(tmp_path: Path, mixed: int, severity: str | None) -> None:
    rows = [["path", "label", "patient"]]
    for n in range(20):
        rows.append([f"{2 * n}.png", "ab"[n % 2], f"p{n:02d}"])
        rows.append([f"{2 * n + 1}.png", "ab"[(n + (n < mixed)) % 2], f"p{n:02d}"])
    found = [
        each
        for each in audit(write_table(tmp_path / "t.csv", rows, n_images=40)).findings
        if each.kind == "contradictory_labels"
    ]
    assert [each.severity for each in found] == ([severity] if severity else [])
    if found:
        assert found[0].count == mixed
        assert found[0].examples[0] == "p00: 1 'a', 1 'b'"


def test_what_could_not_be_looked_for_is_said(tmp_path: Path) -> None:
    found = audit(write_folder(tmp_path, {"a": 12, "b": 12}))
    few = "there are 24 images, fewer than 50"
    assert found.not_looked_for == {
        "patients_across_splits": "no patient is known",
        "prevalence_shift": "there is no given split into training and test",
        "burned_in": "no file is DICOM",
        "shortcut": few,
        "label_errors": few,
        "drift": "there is no given split into training and test",
    }


def test_given_splits_and_patients_are_looked_at(tmp_path: Path) -> None:
    counts = {f"{s}/{c}": 3 for s in ("train", "test") for c in "ab"}
    found = audit(write_folder(tmp_path, counts, name="case{n}.png"))
    assert not {"patients_across_splits", "prevalence_shift"} & set(found.not_looked_for)
