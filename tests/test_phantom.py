from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hilum.dataset import load_dataset
from hilum.errors import DataError, SettingError, UnreadableError
from hilum.phantom import FLAWS, Flaw, Truth, compare, draw_chest, make_phantoms, read_truth
from hilum.readers import read


def tiny(
    out: Path, *, flaws: Collection[str] = FLAWS, n_patients: int = 60, seed: int = 3
) -> Truth:
    return make_phantoms(out, n_patients=n_patients, seed=seed, flaws=flaws, scale=0.25)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    return tiny(tmp_path_factory.mktemp("phantoms") / "set")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    return tiny(tmp_path_factory.mktemp("phantoms") / "clean", flaws=())


def samples(truth: Truth) -> pd.DataFrame:
    return pd.read_csv(truth.table, dtype=str).set_index("path")


def pixels(truth: Truth, path: str) -> np.ndarray:
    return read(truth.table.parent / path).pixels[0, :, :, 0].astype(float)


def test_a_set_is_a_table_that_the_loader_reads(truth: Truth) -> None:
    dataset = load_dataset(truth.table)
    assert dataset.class_names == ("clear", "opacity")
    assert len(dataset) == truth.n_images
    assert dataset.table["patient"].nunique() == truth.n_patients
    assert set(dataset.table["given_split"]) == {"train", "val", "test"}
    assert {path.name for path in truth.table.parent.iterdir()} == {
        "images",
        "table.csv",
        "truth.csv",
    }


def test_every_kind_of_flaw_is_planted_and_written_down(truth: Truth) -> None:
    assert {flaw.kind for flaw in truth.flaws} == set(FLAWS)
    assert read_truth(truth.table.parent) == truth
    table = samples(truth)
    for flaw in truth.flaws:
        assert set(flaw.paths) <= set(table.index)
        assert flaw.detail


def test_each_flaw_has_patients_of_its_own(truth: Truth) -> None:
    table = samples(truth)
    owners = [
        (patient, flaw)
        for flaw in truth.flaws
        for patient in set(table.loc[list(flaw.paths), "patient"])
        if flaw.kind != "shortcut"
    ]
    assert len({patient for patient, _ in owners}) == len(owners)


def test_unreadable_files_are_refused_and_no_others(truth: Truth) -> None:
    planted = {path for flaw in truth.of_kind("unreadable") for path in flaw.paths}
    refused = set()
    for path in samples(truth).index:
        try:
            read(truth.table.parent / path)
        except UnreadableError:
            refused.add(path)
    assert refused == planted


def test_exact_duplicates_are_the_only_identical_files(truth: Truth) -> None:
    owners: dict[bytes, list[str]] = {}
    for path in samples(truth).index:
        owners.setdefault((truth.table.parent / path).read_bytes(), []).append(path)
    groups = {frozenset(paths) for paths in owners.values() if len(paths) > 1}
    assert groups == {frozenset(flaw.paths) for flaw in truth.of_kind("exact_duplicates")}


def test_near_duplicates_resemble_their_original_alone(truth: Truth) -> None:
    table = samples(truth)
    for flaw in truth.of_kind("near_duplicates"):
        original, copy = (pixels(truth, path) for path in flaw.paths)
        assert table["patient"][flaw.paths[0]] != table["patient"][flaw.paths[1]]
        if "resized" in flaw.detail:
            assert original.shape != copy.shape
            continue
        assert not np.array_equal(original, copy)
        if "flipped" in flaw.detail:
            copy = copy[:, ::-1]
        if "recompressed" in flaw.detail or "flipped" in flaw.detail or "bright" in flaw.detail:
            assert np.corrcoef(original.ravel(), copy.ravel())[0, 1] > 0.99


def test_patients_across_splits_are_the_only_ones(truth: Truth) -> None:
    table = samples(truth)
    n_splits = table.groupby("patient")["split"].nunique()
    planted = {table["patient"][flaw.paths[0]] for flaw in truth.of_kind("patients_across_splits")}
    assert set(n_splits.index[n_splits > 1]) == planted


def test_label_errors_concern_all_images_of_a_patient(truth: Truth) -> None:
    table = samples(truth)
    for flaw in truth.of_kind("label_errors"):
        concerned = table.loc[list(flaw.paths)]
        assert concerned["label"].nunique() == 1
        assert set(flaw.paths) == set(table.index[table["patient"] == concerned["patient"].iloc[0]])
        assert flaw.detail.endswith(f"is labelled '{table['label'][flaw.paths[0]]}'")


def test_the_marker_is_in_most_images_of_one_class_from_one_scanner(truth: Truth) -> None:
    (flaw,) = truth.of_kind("shortcut")
    table = samples(truth)
    marked = table.loc[list(flaw.paths)]
    assert set(marked["scanner"]) == {"B"}
    assert set(marked["label"]) == {"opacity"}
    assert len(marked) > 0.6 * ((table["scanner"] == "B") & (table["label"] == "opacity")).sum()

    def corner(path: str) -> float:
        image = pixels(truth, path)
        height, width = image.shape
        return float(image[: height // 8, -width // 8 :].max())

    readable = [path for path in flaw.paths if path not in unreadable(truth)]
    assert min(corner(path) for path in readable) > 180


def unreadable(truth: Truth) -> set[str]:
    return {path for flaw in truth.of_kind("unreadable") for path in flaw.paths}


def test_a_clean_set_has_no_flaw_and_no_shortcut(clean: Truth) -> None:
    table = samples(clean)
    assert clean.flaws == ()
    assert table.groupby("patient")[["split", "label", "scanner"]].nunique().max().max() == 1
    by_label = pd.crosstab(table["label"], table["scanner"], normalize="index")
    assert abs(by_label["A"].diff().iloc[1]) < 0.2
    assert set(table.groupby("split")["label"].nunique()) == {2}
    ill = (table["label"] == "opacity").to_numpy()
    mean = np.array([pixels(clean, path).mean() for path in table.index])
    above = (mean[ill][:, None] > mean[~ill][None]).mean()
    assert abs(above - 0.5) < 0.15


def test_the_same_seed_writes_the_same_files(tmp_path: Path) -> None:
    first, second, other = (
        tiny(tmp_path / name, n_patients=40, seed=seed)
        for name, seed in (("first", 1), ("second", 1), ("other", 2))
    )

    def contents(truth: Truth) -> dict[str, bytes]:
        root = truth.table.parent
        files = sorted(path for path in root.rglob("*") if path.is_file())
        return {str(path.relative_to(root)): path.read_bytes() for path in files}

    assert contents(first) == contents(second)
    assert contents(first) != contents(other)


def test_planting_changes_neither_people_nor_splits(truth: Truth, clean: Truth) -> None:
    def split_of_each(which: Truth) -> dict[bytes, str]:
        split = samples(which)["split"]
        return {(which.table.parent / path).read_bytes(): split[path] for path in split.index}

    planted, without = split_of_each(truth), split_of_each(clean)
    shared = planted.keys() & without.keys()
    changed = sum(planted[content] != without[content] for content in shared)
    n_moved = len(truth.of_kind("patients_across_splits", "exact_duplicates"))
    assert len(shared) > 0.7 * clean.n_images
    assert changed <= n_moved


def test_scanners_write_their_own_formats(clean: Truth) -> None:
    table = samples(clean)
    suffixes = table.index.str.slice(-4)
    assert set(zip(suffixes, table["scanner"], strict=True)) == {(".png", "A"), (".jpg", "B")}
    shapes = {pixels(clean, path).shape for path in table.index}
    assert shapes == {(64, 64), (72, 60)}


def test_a_chest_is_darker_in_the_lungs_and_brighter_with_an_opacity() -> None:
    pairs = [
        [
            draw_chest(np.random.default_rng(seed), size=(96, 80), opacity=opacity)
            for opacity in (False, True)
        ]
        for seed in range(8)
    ]
    for clear, ill in pairs:
        assert clear.shape == ill.shape == (96, 80)
        assert clear.dtype == np.uint8
        spine, lungs = clear[40:60, 38:42].mean(), clear[40:60, 18:26].mean()
        assert spine > lungs + 30
    assert np.array_equal(pairs[0][0], draw_chest(np.random.default_rng(0), size=(96, 80)))


def test_wrong_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError) as error:
        tiny(tmp_path / "set", flaws=("near_duplicate",))
    assert str(error.value) == (
        "There is no flaw 'near_duplicate' to plant. Did you mean 'near_duplicates'? The flaws "
        "are: unreadable, exact_duplicates, near_duplicates, patients_across_splits, shortcut, "
        "label_errors, contradictory_labels, blank."
    )
    with pytest.raises(SettingError, match="n_patients is 5; a phantom set needs at least 40"):
        tiny(tmp_path / "set", n_patients=5)
    with pytest.raises(SettingError, match="scale is 0; it must lie between"):
        make_phantoms(tmp_path / "set", scale=0)
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(DataError, match="exists and is not empty"):
        tiny(tmp_path)
    with pytest.raises(DataError, match=r"holds no phantom set: table\.csv is missing"):
        read_truth(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"note.txt"}


@pytest.mark.parametrize("seed", range(4))
def test_the_smallest_sets_are_whole(tmp_path: Path, seed: int) -> None:
    truth = make_phantoms(tmp_path / "set", n_patients=40, seed=seed, scale=0.1)
    assert {flaw.kind for flaw in truth.flaws} == set(FLAWS)
    table = samples(truth)
    assert list(table.groupby("split")["label"].nunique()) == [2, 2, 2]


@pytest.mark.parametrize("kind", FLAWS)
def test_each_flaw_can_be_planted_alone(tmp_path: Path, kind: str) -> None:
    truth = tiny(tmp_path / "set", flaws=(kind,), n_patients=40)
    assert {flaw.kind for flaw in truth.flaws} == {kind}


# -- comparison with findings -------------------------------------------------------------------

PLANTED = Truth(
    Path("table.csv"),
    20,
    10,
    (
        Flaw("unreadable", ("u1",), ""),
        Flaw("exact_duplicates", ("e1", "e2"), ""),
        Flaw("near_duplicates", ("n1", "n2"), ""),
        Flaw("near_duplicates", ("n3", "n4"), ""),
        Flaw("patients_across_splits", ("p1", "p2", "p3"), ""),
        Flaw("shortcut", ("s1", "s2", "s3", "s4"), ""),
        Flaw("label_errors", ("l1", "l2"), ""),
    ),
)


def row(comparison: pd.DataFrame, kind: str) -> tuple[int, int, int, tuple[str, ...]]:
    (line,) = comparison[comparison["kind"] == kind].to_dict("records")
    return line["planted"], line["found"], line["false_alarms"], line["missed"]


def test_comparison_counts_found_missed_and_false_alarms() -> None:
    comparison = compare(
        PLANTED,
        [
            {"kind": "unreadable", "paths": [["u1"], ["x1"]]},
            {"kind": "exact_duplicates", "paths": [["e2", "e1"]]},
            {"kind": "near_duplicates", "paths": [["n1", "n2", "x2"], ["e1", "e2"], ["n3", "x3"]]},
            {"kind": "patients_across_splits", "paths": [["p1", "p3"]]},
            {"kind": "shortcut", "paths": [["s1", "s4", "x4"], ["s2", "x5", "x6"]]},
            {"kind": "label_errors", "paths": [["l1"], ["x7"], ["l1"]]},
            {"kind": "prevalence_shift", "paths": []},
        ],
    )
    assert list(comparison["kind"]) == list(FLAWS)
    assert row(comparison, "unreadable") == (1, 1, 1, ())
    assert row(comparison, "exact_duplicates") == (1, 1, 0, ())
    assert row(comparison, "near_duplicates") == (2, 1, 1, ("n4",))
    assert row(comparison, "patients_across_splits") == (1, 1, 0, ())
    assert row(comparison, "shortcut") == (1, 1, 1, ())
    assert row(comparison, "label_errors") == (2, 1, 1, ("l2",))


def test_an_audit_that_finds_nothing_misses_everything() -> None:
    comparison = compare(PLANTED, [])
    assert list(comparison["found"]) == [0] * len(FLAWS)
    assert list(comparison["false_alarms"]) == [0] * len(FLAWS)
    assert row(comparison, "label_errors")[3] == ("l1", "l2")


def test_findings_that_name_the_truth_are_perfect(truth: Truth) -> None:
    findings = [{"kind": flaw.kind, "paths": [list(flaw.paths)]} for flaw in truth.flaws]
    comparison = compare(truth, findings)
    assert list(comparison["found"]) == list(comparison["planted"])
    assert comparison["false_alarms"].sum() == 0
