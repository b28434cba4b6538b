from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum import DataError, PatientOverlapError, load_dataset
from hilum.splits import assign, find_overlap, folds, join_groups, make_split

SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}


def cohort(n_patients: int = 60, n_classes: int = 2) -> tuple[list[str], list[str]]:
    """Return labels and groups of patients with 1 to 4 images; class k is rarer than k - 1."""
    labels, groups = [], []
    for patient in range(n_patients):
        label = next(k for k in reversed(range(n_classes)) if patient % 2**k == 0)
        for _ in range(1 + patient % 4):
            labels.append(f"c{label}")
            groups.append(f"p{patient}")
    return labels, groups


def fingerprint(parts: Iterable[str]) -> str:
    return hashlib.sha256(",".join(parts).encode()).hexdigest()[:16]


# -- assign -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "expected"),
    [(0, "6b574e96109ea394"), (1, "765f012c63eb53f3"), (2**31, "c156cba3ace12c61")],
)
def test_same_seed_same_split_on_every_machine(seed: int, expected: str) -> None:
    labels, groups = cohort(200, 4)
    assert fingerprint(assign(labels, groups, SHARES, seed=seed)) == expected


def test_split_depends_on_names_not_on_order() -> None:
    labels, groups = cohort(60, 3)
    order = np.random.default_rng(0).permutation(len(labels))
    parts = assign(labels, groups, SHARES, seed=3)
    shuffled = assign([labels[i] for i in order], [groups[i] for i in order], SHARES, seed=3)
    assert list(shuffled) == list(parts[order])


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 25)), min_size=1, max_size=120),
    st.integers(0, 1000),
)
def test_no_group_is_in_two_parts_and_every_sample_in_one(
    samples: list[tuple[int, int]], seed: int
) -> None:
    labels = [str(label) for label, _ in samples]
    groups = [str(group) for _, group in samples]
    parts = assign(labels, groups, SHARES, seed=seed)
    assert len(parts) == len(samples)
    assert set(parts) <= set(SHARES)
    home: dict[str, set[str]] = defaultdict(set)
    for group, part in zip(groups, parts, strict=True):
        home[group].add(part)
    assert all(len(where) == 1 for where in home.values())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_classes", [2, 4])
def test_every_part_has_its_share_of_every_class_within_one_patient(
    seed: int, n_classes: int
) -> None:
    labels, groups = cohort(160, n_classes)
    parts = assign(labels, groups, SHARES, seed=seed)
    largest = 4  # images of one patient
    for part, share in SHARES.items():
        here = parts == part
        assert abs(here.sum() - share * len(labels)) <= largest
        for name in set(labels):
            of_class = np.asarray(labels) == name
            assert abs((here & of_class).sum() - share * of_class.sum()) <= largest


def test_first_part_gets_every_class_even_of_one_patient() -> None:
    labels = ["a"] * 20 + ["b"]
    groups = [f"p{n}" for n in range(20)] + ["only"]
    parts = assign(labels, groups, {"train": 0.8, "val": 0.2}, seed=0)
    assert parts[-1] == "train"


def test_one_giant_patient_does_not_fill_the_small_part() -> None:
    labels = ["a"] * 100 + ["a", "b"] * 20
    groups = ["giant"] * 100 + [f"p{n}" for n in range(40)]
    parts = assign(labels, groups, {"train": 0.85, "val": 0.15}, seed=0)
    assert parts[0] == "train"


@pytest.mark.parametrize("seed", range(20))
def test_no_part_lacks_a_class_that_has_patients_for_all(seed: int) -> None:
    """Four patients of either class, a hundred images each: validation has room for one."""
    groups = [f"{name}{n}" for name in "ab" for n in range(4) for _ in range(100)]
    labels = [group[0] for group in groups]
    parts = assign(labels, groups, {"train": 0.85, "val": 0.15}, seed=seed)
    for part in ("train", "val"):
        assert set(np.asarray(labels)[parts == part]) == {"a", "b"}
    assert (parts == "val").sum() == 200
    assert all(len(set(parts[np.asarray(groups) == name])) == 1 for name in set(groups))


def test_what_lacks_least_is_taken_where_not_all_can_be_had() -> None:
    images = {"a1": "a" + 10 * "b", "c1": "c" + 10 * "b", "a2": 12 * "a", "c2": 12 * "c"}
    groups = [name for name, labels in images.items() for _ in labels]
    labels = [label for found in images.values() for label in found]
    for seed in range(5):
        parts = assign(labels, groups, {"train": 0.8, "val": 0.2}, seed=seed)
        assert set(np.asarray(labels)[parts == "train"]) == {"a", "b", "c"}


def test_every_fold_has_a_class_of_as_many_patients() -> None:
    groups = [f"a{n}" for n in range(40) for _ in range(n + 1)] + [f"b{n}" for n in range(5)]
    found = folds([group[0] for group in groups], groups, 5, seed=0)
    assert sorted(found[-5:]) == [0, 1, 2, 3, 4]


def test_folds_share_out_groups_and_classes() -> None:
    labels, groups = cohort(100, 2)
    found = folds(labels, groups, 5, seed=0)
    assert sorted(set(found)) == [0, 1, 2, 3, 4]
    sizes = np.bincount(found)
    assert sizes.max() - sizes.min() <= 4
    assert all(len(set(found[np.asarray(groups) == name])) == 1 for name in set(groups))


# -- join_groups --------------------------------------------------------------------------------


def test_patients_with_an_identical_file_are_joined() -> None:
    groups = ["p3", "p1", "p2", "p2", "p9"]
    twins = ["x", "x", "y", "x", "z"]
    assert join_groups(groups, twins) == ["p1", "p1", "p1", "p1", "p9"]


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12)), max_size=40))
def test_joined_groups_are_the_connected_ones(pairs: list[tuple[int, int]]) -> None:
    groups, twins = [f"p{g}" for g, _ in pairs], [f"t{t}" for _, t in pairs]
    # Slowly: spread the least name over everything it touches until nothing changes.
    expected = list(groups)
    while True:
        before = list(expected)
        for i in range(len(pairs)):
            for j in range(len(pairs)):
                if groups[i] == groups[j] or twins[i] == twins[j]:
                    expected[i] = min(expected[i], expected[j])
        if before == expected:
            break
    assert join_groups(groups, twins) == expected


# -- make_split ---------------------------------------------------------------------------------


def given_cohort(**sizes: int) -> tuple[list[str], list[str], list[str]]:
    """Return labels, patients and given splits: `train=40` is 40 patients of one image each."""
    labels, patients, splits = [], [], []
    for split, size in sizes.items():
        for n in range(size):
            labels.append("ab"[n % 2])
            patients.append(f"{split}{n}")
            splits.append(split)
    return labels, patients, splits


def test_nothing_given() -> None:
    labels, patients, _ = given_cohort(train=200)
    split = make_split(labels, patients, [""] * 200, patients=patients, seed=0)
    assert split.source == "drawn"
    assert [(split.names == s).sum() for s in ("train", "val", "test")] == [136, 24, 40]
    assert split.reasons == (
        "There was no test split to keep: 40 of the 200 samples (20%), whole patients and every "
        "class in its share, were drawn and sealed.",
        "There was no validation split to keep: 24 of the 160 samples outside test (15%), whole "
        "patients, were drawn.",
    )
    assert split.overlap is None


def test_train_alone_is_as_nothing_given() -> None:
    labels, patients, given_split = given_cohort(train=200)
    nothing = make_split(labels, patients, [""] * 200, patients=patients)
    alone = make_split(labels, patients, given_split, patients=patients)
    assert list(alone.names) == list(nothing.names)
    assert alone.source == "drawn"


def test_all_given_is_kept() -> None:
    labels, patients, given_split = given_cohort(train=100, val=40, test=50)
    split = make_split(labels, patients, given_split, patients=patients)
    assert list(split.names) == given_split
    assert split.source == "given"
    assert split.reasons == (
        "The test split that came with the data was kept and sealed.",
        "The validation split that came with the data was kept.",
    )


def test_small_validation_is_merged_and_drawn_again_and_test_untouched() -> None:
    labels, patients, given_split = given_cohort(train=600, val=16, test=100)
    split = make_split(labels, patients, given_split, patients=patients)
    given_array = np.asarray(given_split)
    assert ((split.names == "test") == (given_array == "test")).all()
    assert (split.names == "val").sum() == pytest.approx(0.15 * 616, abs=1)
    assert (split.names[given_array == "val"] == "train").any()
    assert split.source == "mixed"
    assert split.reasons[1] == (
        "The validation split that came with the data has 16 images, 8 of its rarest class: too "
        "few to choose a threshold by. It was merged into training, and 92 of the 616 samples "
        "outside test (15%), whole patients, were drawn anew."
    )


def test_small_validation_of_small_data_is_kept() -> None:
    labels, patients, given_split = given_cohort(train=60, val=16, test=20)
    split = make_split(labels, patients, given_split, patients=patients)
    assert list(split.names) == given_split


def test_validation_that_lacks_a_class_is_drawn_again() -> None:
    labels, patients, given_split = given_cohort(train=200, val=60, test=40)
    labels = ["a" if s == "val" else c for c, s in zip(labels, given_split, strict=True)]
    split = make_split(labels, patients, given_split, patients=patients)
    assert set(np.asarray(labels)[split.names == "val"]) == {"a", "b"}
    assert "60 images, 0 of its rarest class" in split.reasons[1]


def test_train_and_test_given() -> None:
    labels, patients, given_split = given_cohort(train=200, test=50)
    split = make_split(labels, patients, given_split, patients=patients)
    assert (split.names == "val").sum() == 30
    assert [s for s in split.names if s == "test"] == ["test"] * 50
    assert (split.source, len(split.reasons)) == ("mixed", 2)


def test_train_and_val_given() -> None:
    labels, patients, given_split = given_cohort(train=200, val=100)
    split = make_split(labels, patients, given_split, patients=patients)
    assert list(split.names[200:]) == ["val"] * 100
    assert (split.names == "test").sum() == 40
    assert split.source == "mixed"
    assert split.reasons == (
        "There was no test split to keep: 40 of the 200 samples apart from validation (20%), whole "
        "patients and every class in its share, were drawn and sealed.",
        "The validation split that came with the data was kept.",
    )


def test_what_belongs_to_validation_is_not_drawn_for_test() -> None:
    labels, patients, given_split = given_cohort(train=200, val=100)
    groups = ["val0", "val1", *patients[2:]]  # two near duplicates of validation images
    split = make_split(labels, groups, given_split, patients=patients)
    assert "40 of the 198 samples apart from validation (20%)" in split.reasons[0]
    assert find_overlap(groups, ["" if name == "train" else name for name in split.names]) is None


def test_validation_that_shares_its_patients_is_sealed_in_part() -> None:
    labels, _, given_split = given_cohort(train=200, val=100)
    patients = [f"p{n % 100}" for n in range(300)]
    split = make_split(labels, patients, given_split, patients=patients, allow_overlap=True)
    assert split.overlap is not None
    assert split.overlap["splits"] == ["train", "val"]
    assert [(split.names == name).sum() for name in ("train", "val", "test")] == [160, 80, 60]
    assert split.reasons[0].startswith("There was no test split to keep: 60 of the 300 samples (20")
    assert split.reasons[1] == (
        "Of the validation split that came with the data 80 of 100 images were kept: the others "
        "are sealed, with what belongs to them."
    )


def test_samples_without_a_split_are_held_to_their_patients() -> None:
    labels, patients, given_split = given_cohort(train=600, val=150, test=200)
    given_split[:50] = [""] * 50
    split = make_split(labels, patients, given_split, patients=patients)
    assert (split.names[:50] == "train").all()
    patients[0] = "test0"
    with pytest.raises(PatientOverlapError, match=r"^1 patient is in more than one split \(train"):
        make_split(labels, patients, given_split, patients=patients)


def test_test_split_without_a_class_is_told() -> None:
    labels, patients, given_split = given_cohort(train=200, val=60, test=40)
    labels = ["a" if s == "test" else c for c, s in zip(labels, given_split, strict=True)]
    split = make_split(labels, patients, given_split, patients=patients)
    assert split.reasons[1] == (
        "The test split holds no image of 'b': figures that need it cannot be estimated."
    )


def test_overlap_is_refused_by_name_or_carried() -> None:
    labels, patients, given_split = given_cohort(train=100, val=40, test=50)
    patients[150], patients[151] = "train7", "train3"
    with pytest.raises(PatientOverlapError) as caught:
        make_split(labels, patients, given_split, patients=patients)
    assert str(caught.value) == (
        "2 patients are in more than one split (train and test): train3, train7. Figures would be "
        "too good. Pass --new-split to draw a split by patient, or --allow-patient-overlap to "
        "train all the same; the report will say so."
    )
    split = make_split(labels, patients, given_split, patients=patients, allow_overlap=True)
    assert list(split.names) == given_split
    assert split.overlap == {
        "n_patients": 2,
        "examples": ["train3", "train7"],
        "splits": ["train", "test"],
    }


def test_names_of_many_shared_patients_are_cut() -> None:
    labels, patients, given_split = given_cohort(train=100, test=100)
    patients = [name.replace("test", "train") for name in patients]
    with pytest.raises(PatientOverlapError, match=r"train3, train30, .* and 70 more\. Figures"):
        make_split(labels, patients, given_split, patients=patients)


def test_one_shared_patient() -> None:
    labels, patients, given_split = given_cohort(train=4, test=2)
    patients[4] = "train0"
    with pytest.raises(PatientOverlapError, match=r"^1 patient is in more than one split "):
        make_split(labels, patients, given_split, patients=patients)


def test_unknown_patients_never_overlap() -> None:
    assert find_overlap(["", "", "p"], ["train", "test", "train"]) is None


@pytest.mark.parametrize(
    ("given_split", "text"),
    [
        (
            ["train"] * 6 + ["test"] * 6,
            "The class 'b' has no image in the train split, so it cannot be learnt. Add images "
            "(from several patients) or leave the class out.",
        ),
        (
            ["test"] * 12,
            "The class 'a' has no image in the train split, so it cannot be learnt. Add images "
            "(from several patients) or leave the class out.",
        ),
    ],
)
def test_class_that_cannot_be_learnt(given_split: list[str], text: str) -> None:
    labels = ["a"] * 6 + ["b"] * 6
    names = [f"p{n}" for n in range(12)]
    with pytest.raises(DataError) as caught:
        make_split(labels, names, given_split, patients=names)
    assert str(caught.value) == text


ALL_THREE = (
    "Each class needs 3 at least, one to train on, one to choose the threshold by, one to test on."
)


@pytest.mark.parametrize(
    ("owners", "given_test", "text"),
    [
        (
            ["a0", "b0"],
            0,
            "There are too few patients to split: 1 of class 'a', 1 of class 'b'. "
            f"{ALL_THREE} Add patients.",
        ),
        (
            [*(f"{name}{n}" for name in "ac" for n in range(9)), *["b0"] * 5],
            0,
            "There are too few patients to split: 1 of class 'b'. "
            f"{ALL_THREE} Add patients or leave such classes out.",
        ),
        (
            ["a0", "b0", *(f"{name}{n}" for name in "ab" for n in range(1, 9))],
            16,
            "There are too few patients to split outside test: 1 of class 'a', 1 of class 'b'. "
            "Each class needs 2 at least, one to train on, one to choose the threshold by. Add "
            "patients.",
        ),
    ],
)
def test_too_few_patients_of_a_class(owners: list[str], given_test: int, text: str) -> None:
    given_split = [""] * (len(owners) - given_test) + ["test"] * given_test
    labels = [owner[0] for owner in owners]
    with pytest.raises(DataError) as caught:
        make_split(labels, owners, given_split, patients=owners)
    assert str(caught.value) == text
    with pytest.raises(DataError, match=r"^There are too few images to split.* Add images"):
        make_split(labels, owners, given_split, patients=[""] * len(owners))


@pytest.mark.parametrize(("n_patients", "given_test"), [(3, False), (2, True)])
def test_as_many_patients_as_are_asked_for_do(n_patients: int, given_test: bool) -> None:
    owners = [f"{name}{n}" for name in "ab" for n in range(n_patients)]
    owners += ["a9", "b9"] if given_test else []
    labels = [owner[0] for owner in owners]
    given_split = ["test" if owner.endswith("9") else "" for owner in owners]
    for seed in range(20):
        split = make_split(labels, owners, given_split, patients=owners, seed=seed)
        for name in ("train", "val", "test"):
            assert set(np.asarray(labels)[split.names == name]) == {"a", "b"}


def test_chest_xray_split(hilum_data: Path) -> None:
    table = load_dataset(hilum_data / "chest-xray").table
    columns = [list(table[name]) for name in ("label", "patient", "given_split")]
    split = make_split(*columns, patients=columns[1])
    assert "has 16 images, 8 of its rarest class" in split.reasons[1]
    assert fingerprint(split.names) == "e8acbaa944de091a"
    assert split.overlap is None
    val = np.asarray(columns[0])[split.names == "val"]
    rest = np.asarray(columns[0])[split.names != "test"]
    assert (val == "NORMAL").mean() == pytest.approx((rest == "NORMAL").mean(), abs=0.005)


def test_whole_patients_are_not_said_where_none_is_known() -> None:
    labels = ["a", "b"] * 100
    split = make_split(labels, [str(i) for i in range(200)], [""] * 200, patients=[""] * 200)
    assert split.reasons == (
        "There was no test split to keep: 40 of the 200 samples (20%), every class in its share, "
        "were drawn and sealed.",
        "There was no validation split to keep: 24 of the 160 samples outside test (15%) were "
        "drawn.",
    )


@pytest.mark.parametrize(("known", "whole"), [(True, ", whole patients,"), (False, "")])
def test_what_few_patients_make_of_a_share_is_said(known: bool, whole: str) -> None:
    owners = [f"{name}{n}" for name in "ab" for n in range(3) for _ in range(2)]
    labels = [owner[0] for owner in owners]
    patients = owners if known else [""] * len(owners)
    split = make_split(labels, owners, [""] * len(owners), patients=patients)
    assert (split.names == "val").sum() == 4
    assert split.reasons[1] == (
        "There was no validation split to keep: 4 of the 8 samples outside test (50% where 15% was "
        "wanted: what belongs together stays so, and every class is to be "
        f"there){whole} were drawn."
    )
