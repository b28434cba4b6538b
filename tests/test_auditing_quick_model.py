from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hilum.auditing import quick_model
from hilum.auditing.quick_model import (
    QUICK,
    Area,
    Encoder,
    Projection,
    Study,
    area,
    make_study,
    out_of_fold,
    picture_features,
    shrink,
)
from hilum.metrics import macro_auroc
from hilum.resampling import Clusters
from looks_made import make_looks, make_samples


def study_of(samples: pd.DataFrame, most: int | None = None) -> Study:
    study = make_study(samples, samples["label"], most=most)
    assert isinstance(study, Study)
    return study


def random_probs(n: int, n_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(n_classes, size=n)
    scores = rng.normal(size=(n, n_classes)).round(1) + 0.8 * np.eye(n_classes)[y]
    powers = np.exp(scores)
    return y.astype(np.intp), powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_area_is_the_macro_auroc(n_classes: int) -> None:
    y, probs = random_probs(150, n_classes)
    found = area(y, probs, Clusters.of(None, 150))
    assert found.value == pytest.approx(macro_auroc(y, probs))
    assert found.ci_low < found.value < found.ci_high
    assert found.n == 150


def test_area_has_the_error_of_leaving_out_patients() -> None:
    y, probs = random_probs(400, 2)
    patients = Clusters.of([i // 4 for i in range(400)], 400)
    slow = []
    for patient in range(patients.n):
        kept = patients.index != patient
        slow.append(macro_auroc(y[kept], probs[kept]))
    jackknife = np.sqrt((100 - 1) / 100 * np.sum((np.array(slow) - np.mean(slow)) ** 2))
    assert area(y, probs, patients).error == pytest.approx(jackknife, rel=0.03)


def test_area_of_classes_that_do_not_overlap() -> None:
    y = np.repeat([0, 1], 20).astype(np.intp)
    found = area(y, np.eye(2)[y], Clusters.of(None, 40))
    assert (found.value, found.ci_high) == (1.0, 1.0)
    assert 0.8 < found.ci_low < 0.9
    assert found.is_clear


def test_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        effect = np.repeat(rng.normal(size=60), 3)
        y = np.repeat(np.arange(60) % 2, 3).astype(np.intp)
        score = effect + 0.5 * rng.normal(size=180) + 0.9 * y
        probs = 1 / (1 + np.exp(-score))
        patients = Clusters.of([i // 3 for i in range(180)], 180)
        found = area(y, np.stack([1 - probs, probs], axis=1), patients)
        # The difference of two images is normal with variance 2 (1 + 0.25) and mean 0.9.
        truth = 0.7154
        held += found.ci_low <= truth <= found.ci_high
    assert 0.92 <= held / 400 <= 0.98


def test_a_study_keeps_patients_in_one_fold() -> None:
    samples, _, _ = make_looks(40, n_images=3)
    study = study_of(samples)
    for patient in range(study.clusters.n):
        assert len(set(study.fold[study.clusters.index == patient])) == 1
    assert study.names == ("class 0", "class 1")
    assert not study.is_sample
    assert study.sampled() == ""


def test_identical_files_count_as_one_patient() -> None:
    samples, _, _ = make_looks(40, n_images=2)
    samples["sha256"] = ["0", "1", "0", *samples["sha256"][3:]]
    assert study_of(samples).clusters.n == 39


def test_a_sample_keeps_whole_patients_and_shares() -> None:
    patient = np.repeat(np.arange(600), 5)
    y = (patient % 4 == 0).astype(int)
    samples = make_samples(patient, y)
    study = study_of(samples, most=1000)
    assert 1000 <= len(study) <= 1010
    assert study.n_all == 3000
    chosen = samples.iloc[study.rows]
    assert (chosen.groupby("patient").size() == 5).all()
    assert (chosen["label"] == "class 1").mean() == pytest.approx(0.25, abs=0.01)
    assert study.sampled() == (
        f" (Looked at: {len(study):,} of 3,000 images, whole patients, drawn.)"
    )
    assert list(study.rows) == list(study_of(samples, most=1000).rows)


def test_patients_of_both_classes_are_drawn_up_to_the_number_wanted() -> None:
    samples = make_samples(np.repeat(np.arange(100), 40), np.arange(4000) % 2)
    assert 1000 <= len(study_of(samples, most=1000)) <= 1040


@pytest.mark.parametrize("seed", range(5))
def test_whole_patients_are_drawn_until_each_class_has_its_share(seed: int) -> None:
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(400), rng.integers(1, 30, 400))
    samples = make_samples(patient, (patient % 5 == 0).astype(int))
    study = make_study(samples, samples["label"], most=1000, seed=seed)
    assert isinstance(study, Study)
    names = sorted(set(samples["patient"]))
    left = {label: n * 1000 / len(samples) for label, n in samples["label"].value_counts().items()}
    expected: list[int] = []
    for place in np.random.default_rng(seed).permutation(len(names)):
        theirs = samples[samples["patient"] == names[place]]
        label = theirs["label"].iloc[0]
        if left[label] > 0:
            expected += list(theirs.index)
            left[label] -= len(theirs)
    assert list(study.rows) == sorted(expected)
    assert study.n_in_part == 0


def split_of(study: Study) -> tuple[list[int], list[int]]:
    """Count patients by class, and the classes that the folds beside each leave to learn from."""
    patients = [len(np.unique(study.clusters.index[study.y == k])) for k in np.unique(study.y)]
    learnt = [len(np.unique(study.y[study.fold != k])) for k in np.unique(study.fold)]
    return patients, learnt


def test_patients_of_very_many_images_are_drawn_in_part() -> None:
    patient = np.repeat(np.arange(6), 1600)
    study = study_of(make_samples(patient, patient % 2), most=3000)
    assert split_of(study) == ([3, 3], [2, 2, 2])
    assert len(study) == 3000
    for k in range(6):
        theirs = study.rows[patient[study.rows] == k]
        assert set(np.diff(theirs)) <= {3, 4}  # 500 of 1,600, evenly
    assert study.sampled() == (
        " (Looked at: 3,000 of 9,600 images, whole patients but for 6 with very many images, "
        "drawn.)"
    )
    features = np.random.default_rng(0).normal(size=(len(study), 5)).astype(np.float32)
    assert out_of_fold(features, study.y, study.fold, 2).sum(axis=1) == pytest.approx(1)


def test_one_patient_of_very_many_images_is_not_all_of_its_class() -> None:
    patient = np.r_[np.zeros(9000, int), 1 + np.arange(2000) // 20]
    samples = make_samples(patient, (patient % 2 == 0).astype(int))
    study = study_of(samples, most=3000)
    patients, learnt = split_of(study)
    assert min(patients) >= 5
    assert learnt == [2] * 5
    assert study.n_in_part == 1
    assert (patient[study.rows] == 0).sum() < len(study) / 3


def test_a_split_of_few_patients_with_many_images_is_told_from_another() -> None:
    patient = np.r_[np.repeat(np.arange(100), 100), np.repeat(np.arange(100, 103), 600)]
    samples = make_samples(patient, patient % 2)
    which = pd.Series(np.where(patient < 100, "train", "test"))
    study = make_study(samples, which, most=2000)
    assert isinstance(study, Study)
    patients, learnt = split_of(study)
    assert patients[0] == 3
    assert learnt == [2, 2, 2]


def test_a_class_of_few_among_patients_of_another_is_drawn() -> None:
    patient = np.repeat(np.arange(300), 20)
    y = (np.arange(6000) % 20 == 19) & (patient < 8)
    samples = make_samples(patient, y.astype(int))
    for seed in range(10):
        study = make_study(samples, samples["label"], most=300, seed=seed)
        assert isinstance(study, Study)
        patients, learnt = split_of(study)
        assert patients[1] >= 5
        assert learnt == [2] * 5


def test_a_patient_drawn_in_part_keeps_each_class() -> None:
    y = np.r_[np.arange(8000) % 2, np.full(8, 2), np.arange(400) % 3]
    patient = np.r_[np.zeros(8008, int), 1 + np.arange(400) // 10]
    study = study_of(make_samples(patient, y), most=1000)
    theirs = study.y[patient[study.rows] == 0]
    assert np.bincount(theirs)[:2] == pytest.approx(len(theirs) / 2, abs=2)
    assert 2 in theirs


def test_why_nothing_can_be_learnt() -> None:
    few = make_samples(np.arange(40), np.arange(40) % 2)
    assert make_study(few, few["label"], most=None) == "there are 40 images, fewer than 50"
    two = make_samples(np.arange(60) % 2, np.arange(60) % 2)
    assert make_study(two, two["label"], most=None) == "fewer than two classes have 3 patients"
    many = make_samples(np.arange(90), np.arange(90) % 30)
    assert make_study(many, many["label"], most=None) == "there are more than 20 classes"


def test_classes_of_few_patients_are_left_out() -> None:
    samples = make_samples(np.arange(62), np.r_[np.arange(60) % 2, 2, 2])
    study = study_of(samples)
    assert study.names == ("class 0", "class 1")
    assert len(study) == 60


def test_shrink_averages() -> None:
    looks = np.random.default_rng(0).integers(0, 256, (2, 64, 64), dtype=np.uint8)
    small = shrink(looks, 16)
    assert small.shape == (2, 16, 16)
    assert small[1, 2, 3] == pytest.approx(looks[1, 8:12, 12:16].mean() / 255)


def test_components_are_those_of_scikit_learn() -> None:
    from sklearn.decomposition import PCA

    features = np.random.default_rng(0).normal(size=(80, 30)).astype(np.float32)
    features[:, :4] += np.arange(80)[:, None] / 10
    standard = (features - features.mean(axis=0)) / features.std(axis=0)
    expected = PCA(5, whiten=True).fit_transform(standard)
    found = Projection.of(features, 5)(features)
    for i in range(5):
        sign = np.sign(found[:, i] @ expected[:, i])
        assert sign * found[:, i] == pytest.approx(expected[:, i], rel=0.02, abs=0.02)


def test_features_do_not_depend_on_how_many_are_taken_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, looks, _ = make_looks(30)
    encoder = Encoder.of(looks, QUICK)
    whole = encoder(looks)
    monkeypatch.setattr(quick_model, "_CHUNK", 7)
    assert encoder(looks) == pytest.approx(whole, abs=1e-3)
    mirror = np.ascontiguousarray(looks[:, :, ::-1])
    assert encoder(looks, mirrored=True) == pytest.approx(encoder(mirror), abs=1e-3)


@pytest.mark.parametrize("n_classes", [2, 5])
def test_the_model_learns_what_pictures_show(n_classes: int) -> None:
    samples, looks, _ = make_looks(100, n_classes=n_classes, contrast=100)
    study = study_of(samples)
    probs = out_of_fold(picture_features(looks), study.y, study.fold, n_classes)
    assert probs.sum(axis=1) == pytest.approx(1)
    assert area(study.y, probs, study.clusters).value > 0.9


def test_pictures_all_alike_teach_nothing() -> None:
    samples, _, _ = make_looks(40)
    study = study_of(samples)
    looks = np.full((80, 64, 64), 90, np.uint8)
    probs = out_of_fold(picture_features(looks), study.y, study.fold, 2)
    assert not area(study.y, probs, study.clusters).is_clear


def test_a_figure_near_1_keeps_what_is_left_to_doubt() -> None:
    assert str(Area(0.8412, 0.7861, 0.8844, 0.02, 150)) == "0.84 (95 % 0.79 to 0.88)"
    assert str(Area(0.9981, 0.9958, 0.9993, 0.001, 150)) == "0.998 (95 % 0.996 to 0.999)"
