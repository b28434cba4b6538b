from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from hilum.calls import Target
from hilum.corruptions import middle_level
from hilum.model import ModelFacts
from hilum.operating_points import choose_operating_point
from hilum.patient_figures import lock_patients, measure_patients, pool_predictions
from hilum.robust_threshold import CorruptedScores
from hilum.robustness import CorruptedPredictions
from hilum.settings import Settings

NAMES = ("clear", "opacity")
COLUMNS = ["p_clear", "p_opacity"]
TWO = Target("classes", 1)


def make_rows(
    n_patients: int, *, seed: int = 0, names: tuple[str, ...] = NAMES, split: str = "test"
) -> pd.DataFrame:
    """Predictions of one to four images of each patient, labels shared."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for patient in range(n_patients):
        k = patient % len(names)
        for image in range(int(rng.integers(1, 5))):
            z = rng.normal(size=len(names))
            z[k] += 1.0
            p = np.exp(z) / np.exp(z).sum()
            rows.append(
                {"path": f"{split}{patient}_{image}.png", "patient": f"{split}{patient}"}
                | {"split": split, "label": names[k], "predicted": names[int(p.argmax())]}
                | {f"p_{name}": value for name, value in zip(names, p, strict=True)}
            )
    table = pd.DataFrame(rows)
    return table.sample(frac=1, random_state=seed).reset_index(drop=True)


def make_facts(
    val: pd.DataFrame,
    names: tuple[str, ...] = NAMES,
    target: Target = TWO,
    **settings: Any,
) -> ModelFacts:
    """Lock the rules on some validation rows; of model.json only what patients need."""
    probs = val[[f"p_{name}" for name in names]].to_numpy(float)
    rules = lock_patients(
        val, probs, names, target, Settings(**settings), corrupted=None, now="now"
    )
    values: dict[str, Any] = {
        "class_names": names,
        "positive_class": None if target.positive is None else names[target.positive],
        "target": target.kind,
        "patient_pooling": rules.pooling,
        "patient_point": rules.point,
        "patient_points": rules.points,
    }
    return ModelFacts.model_construct(**values)


def groups_of(rows: pd.DataFrame) -> list[str]:
    return list(rows["patient"].where(rows["patient"] != "", rows["path"]))


@pytest.fixture(scope="module")
def facts() -> ModelFacts:
    return make_facts(make_rows(60, seed=1, split="val"))


def test_figures_are_those_of_a_slow_loop_over_patients(facts: ModelFacts) -> None:
    rows = make_rows(50, seed=2)
    found = measure_patients([(rows, facts)], groups_of(rows), patients_known=True)["patients"]
    assert facts.patient_point is not None
    threshold = facts.patient_point.threshold
    scores, truth = [], []
    for patient in rows["patient"].unique():
        own = rows[rows["patient"] == patient]
        logits = [math.log(p / (1 - p)) for p in own["p_opacity"]]
        scores.append(1 / (1 + math.exp(-sum(logits) / len(logits))))
        truth.append(own["label"].iloc[0] == "opacity")
    called = [score >= threshold for score in scores]
    pairs = list(zip(called, truth, strict=True))
    assert found["n"] == found["n_patients"] == 50
    assert found["n_images"] == len(rows)
    assert found["pooling"] == "mean_logits"
    assert found["threshold"] == threshold
    assert found["auroc"]["value"] == pytest.approx(roc_auc_score(truth, scores))
    assert found["sensitivity"]["value"] == pytest.approx(
        sum(c and t for c, t in pairs) / sum(truth)
    )
    assert found["sensitivity"]["n"] == sum(truth)
    assert found["specificity"]["value"] == pytest.approx(
        sum(not c and not t for c, t in pairs) / (50 - sum(truth))
    )
    assert found["brier"]["value"] == pytest.approx(
        np.mean([(s - t) ** 2 for s, t in zip(scores, truth, strict=True)])
    )
    for name in ("auroc", "sensitivity", "specificity", "ece"):
        assert found[name]["ci_low"] <= found[name]["value"] <= found[name]["ci_high"]


def test_the_threshold_is_chosen_on_validation_patients() -> None:
    val = make_rows(60, seed=1, split="val")
    probs = val[COLUMNS].to_numpy()
    for rule in ("youden", "sensitivity:0.95"):
        settings = Settings(operating_point=rule)
        rules = lock_patients(val, probs, NAMES, TWO, settings, corrupted=None, now="now")
        assert rules.pooling is not None
        assert rules.point is not None
        assert (rules.pooling.n_patients, rules.pooling.n_images) == (60, len(val))
        assert rules.point.n == 60
        assert rules.point.rule == rule
        assert "validation patients" in rules.point.reason
        assert rules.points is None
    assert rules.point is not None
    assert (rules.point.sensitivity or 0) >= 0.95


def test_the_robust_threshold_is_chosen_on_corrupted_images_pooled_by_patient() -> None:
    val = make_rows(60, seed=1, split="val")
    probs = val[COLUMNS].to_numpy()
    # Whole patients, out of order; every corruption moves the scores up.
    patients = val["patient"].unique()[10:50]
    chosen = np.flatnonzero(val["patient"].isin(patients))
    odds = probs[chosen, 1] / probs[chosen, 0]
    moved = [odds * factor / (1 + odds * factor) for factor in (5.0, 8.0)]
    corrupted = {
        name: {middle_level(name): np.stack([1 - p, p], axis=1)}
        for name, p in zip(("blur", "noise"), moved, strict=True)
    }
    predictions = CorruptedPredictions(chosen, True, "", probs[chosen], corrupted)
    settings = Settings(operating_point="robust")
    alone, held = (
        lock_patients(val, probs, NAMES, TWO, settings, corrupted=each, now="now").point
        for each in (None, predictions)
    )
    assert alone is not None
    assert held is not None
    assert held.threshold > alone.threshold
    assert "60 validation patients as they are and 40 of them under 2 changes" in held.reason

    rows = val.iloc[chosen]
    y_true = [(rows["label"][rows["patient"] == name] == "opacity").iloc[0] for name in patients]
    scores = []
    for p in moved:
        log_odds = pd.Series(np.log(p / (1 - p)), index=rows["patient"].to_numpy())
        scores.append([1 / (1 + math.exp(-log_odds[[name]].mean())) for name in patients])
    own = [1 / (1 + math.exp(-z)) for z in _pooled_log_odds(val)]
    wanted = choose_operating_point(
        [label == "opacity" for label in val.groupby("patient", sort=False)["label"].first()],
        own,
        "robust",
        corrupted=CorruptedScores(np.array(y_true, dtype=int), np.array(scores)),
    )
    assert held.threshold == pytest.approx(wanted.threshold)


def test_a_maximum_over_some_images_is_not_held_against_one_over_all() -> None:
    val = make_rows(60, seed=1, split="val")
    probs = val[COLUMNS].to_numpy()
    chosen = np.flatnonzero(~val["patient"].duplicated())
    moved = {"blur": {middle_level("blur"): probs[chosen]}}
    some = CorruptedPredictions(chosen, False, "", probs[chosen], moved)
    reasons = {}
    for method in ("maximum", "mean_logits"):
        settings = Settings(operating_point="robust", pooling=method)
        point = lock_patients(val, probs, NAMES, TWO, settings, corrupted=some, now="now").point
        assert point is not None
        reasons[point.rule] = point.reason
    assert reasons["youden"].endswith("there were 0 positive and 0 negative ones.")
    assert "60 validation patients as they are and the same under 1 changes" in reasons["robust"]


def _pooled_log_odds(rows: pd.DataFrame) -> list[float]:
    log_odds = (rows["p_opacity"] / (1 - rows["p_opacity"])).map(math.log)
    return list(log_odds.groupby(rows["patient"], sort=False).mean())


def test_test_rows_do_not_touch_the_rule() -> None:
    val, test = make_rows(40, seed=1, split="val"), make_rows(40, seed=2)
    probs = val[COLUMNS].to_numpy()
    alone = lock_patients(val, probs, NAMES, TWO, Settings(), corrupted=None, now="now")
    both = pd.concat([val, test.assign(label="opacity")], ignore_index=True)
    assert lock_patients(both, probs, NAMES, TWO, Settings(), corrupted=None, now="now") == alone


def test_rows_of_patients_keep_truth_decision_and_number_of_images(facts: ModelFacts) -> None:
    rows = make_rows(20, seed=3)
    rows.loc[rows["patient"] == "test4", "patient"] = ""
    pooled = pool_predictions(rows, facts)
    n_unnamed = int((rows["patient"] == "").sum())
    assert len(pooled) == 19 + n_unnamed
    assert pooled["n_images"].sum() == len(rows)
    assert (pooled["n_images"][pooled["patient"].str.startswith("#")] == 1).all()
    assert facts.patient_point is not None
    positive = pooled["p_opacity"] >= facts.patient_point.threshold
    assert list(pooled["predicted"]) == list(np.where(positive, "opacity", "clear"))
    for _, row in pooled[~pooled["patient"].str.startswith("#")].iterrows():
        own = rows[rows["patient"] == row["patient"]]
        assert row["n_images"] == len(own)
        assert row["label"] == own["label"].iloc[0]


def test_disease_in_one_image_makes_a_positive_patient_and_the_maximum_is_pooled() -> None:
    val = make_rows(60, seed=1, split="val")
    several = val.groupby("patient")["path"].transform("count") > 1
    first = ~val.duplicated("patient")
    val.loc[several & ~first, "label"] = "clear"  # of the ill, one image alone shows it
    facts = make_facts(val)
    assert facts.patient_pooling is not None
    assert facts.patient_pooling.method == "maximum"
    rows = val.assign(split="test")
    found = measure_patients([(rows, facts)], groups_of(rows), patients_known=True)["patients"]
    of_patient = rows.groupby("patient")
    truth = of_patient["label"].agg(lambda labels: "opacity" in set(labels))
    assert found["auroc"]["value"] == pytest.approx(
        roc_auc_score(truth, of_patient["p_opacity"].max())
    )
    n_mixed = int((of_patient["label"].nunique() > 1).sum())
    assert found["n_mixed"] == n_mixed > 0
    assert found["note"] == (
        f"{n_mixed} patients have images of different labels; a patient is positive by any "
        "positive image."
    )
    assert found["n_left_out"] == 0


def test_a_user_may_choose_how_images_are_pooled() -> None:
    facts = make_facts(make_rows(40, seed=1, split="val"), pooling="mean_probability")
    rows = make_rows(30, seed=2)
    pooled = pool_predictions(rows, facts).set_index("patient")
    means = rows.groupby("patient")["p_opacity"].mean()
    assert pooled["p_opacity"].to_dict() == pytest.approx(means.to_dict())


def test_where_there_is_nothing_to_pool_the_reason_is_said(facts: ModelFacts) -> None:
    rows = make_rows(30, seed=2)
    assert measure_patients([(rows, facts)], groups_of(rows), patients_known=False) == {
        "patients": None,
        "patients_reason": "no patient is known",
    }
    without = facts.model_copy(update={"patient_pooling": None, "patient_point": None})
    found = measure_patients([(rows, without)], groups_of(rows), patients_known=True)
    assert found["patients_reason"] == (
        "no patient was known in the training data, so that no rule was locked"
    )
    single = rows.drop_duplicates("patient").reset_index(drop=True)
    single["predicted"] = list(pool_predictions(single, facts)["predicted"])
    found = measure_patients([(single, facts)], groups_of(single), patients_known=True)
    assert found["patients_reason"] == (
        "each patient has one image: the figures by patient are those by image"
    )
    # Of one image each, but called by another threshold than images are.
    single.loc[0, "predicted"] = "opacity" if single["predicted"][0] == "clear" else "clear"
    found = measure_patients([(single, facts)], groups_of(single), patients_known=True)
    assert found["patients"]["n"] == 30


def test_classes_without_order_give_a_mixed_patient_no_label() -> None:
    names = ("a", "b", "c")
    target = Target("classes", None)
    facts = make_facts(make_rows(60, seed=1, names=names, split="val"), names, target)
    assert facts.patient_point is None
    rows = make_rows(90, seed=2, names=names)
    several = rows[rows["patient"].duplicated(keep=False)].drop_duplicates("patient").index
    few, many = rows.copy(), rows.copy()
    for table, changed in ((few, several[:2]), (many, several[:20])):
        table.loc[changed, "label"] = ["b" if x == "a" else "a" for x in table["label"][changed]]
    found = measure_patients([(few, facts)], groups_of(few), patients_known=True)["patients"]
    assert (found["n"], found["n_mixed"], found["n_left_out"]) == (88, 2, 2)
    own = few.groupby("patient")["label"].agg(["size", "nunique"])
    kept = own["size"][own["nunique"] == 1]
    assert (found["n_several"], found["n_images"]) == ((kept > 1).sum(), kept.sum())
    assert found["note"] == (
        "2 patients have images of different classes, and so no one label: left out here."
    )
    found = measure_patients([(many, facts)], groups_of(many), patients_known=True)
    assert found["patients"] is None
    assert found["patients_reason"] == (
        "20 of 90 patients have images of different classes, and no class goes before another, so "
        "that they have no one label"
    )


def test_a_graded_patient_has_the_highest_grade_and_the_median_is_called() -> None:
    names, target = ("0", "1", "2"), Target("ordinal", None)
    facts = make_facts(make_rows(60, seed=1, names=names, split="val"), names, target)
    rows = make_rows(60, seed=2, names=names)
    rows.loc[rows[rows["patient"] == "test2"].index[:1], "label"] = "1"
    pooled = pool_predictions(rows, facts)
    for _, row in pooled.iterrows():
        own = rows[rows["patient"] == row["patient"]]
        assert row["label"] == max(own["label"])
        reached = np.cumsum([row[f"p_{name}"] for name in names])
        assert row["predicted"] == names[int(np.argmax(reached >= 0.5))]
    found = measure_patients([(rows, facts)], groups_of(rows), patients_known=True)["patients"]
    assert found["quadratic_kappa"]["n"] == 60


def test_several_labels_have_a_threshold_for_patients_each() -> None:
    rng = np.random.default_rng(0)
    names, target = ("effusion", "mass"), Target("multilabel", None)

    def rows(split: str) -> pd.DataFrame:
        table = make_rows(60, seed=5, split=split)[["path", "patient", "split"]]
        has = rng.random((len(table), 2)) < 0.4
        table["label"] = ["|".join(np.array(names)[row]) or "none" for row in has]
        table["unknown"] = np.where((rng.random(len(table)) < 0.2) & ~has[:, 1], "mass", "")
        probs = np.clip(0.5 * has + 0.5 * rng.random(has.shape), 0.01, 0.99)
        table["predicted"] = ["|".join(np.array(names)[row]) or "none" for row in probs > 0.5]
        table[[f"p_{name}" for name in names]] = probs
        return table

    facts = make_facts(rows("val"), names, target)
    assert facts.patient_points is not None
    assert set(facts.patient_points) == set(names)
    test = rows("test")
    pooled = pool_predictions(test, facts)
    for _, row in pooled.iterrows():
        own = test[test["patient"] == row["patient"]]
        for name in names:
            has = own["label"].str.split("|").map(lambda cell, name=name: name in cell)
            unknown = own["unknown"].str.split("|").map(lambda cell, name=name: name in cell)
            assert (name in row["label"].split("|")) == has.any()
            assert (name in row["unknown"].split("|")) == (unknown.any() and not has.any())
            called = row[f"p_{name}"] >= facts.patient_points[name].threshold
            assert (name in row["predicted"].split("|")) == called
    found = measure_patients([(test, facts)], groups_of(test), patients_known=True)["patients"]
    assert found["n"] == 60
    truth = list(pooled["label"].str.split("|"))
    assert found["labels"]["effusion"]["auroc"]["value"] == pytest.approx(
        roc_auc_score(["effusion" in cell for cell in truth], pooled["p_effusion"])
    )
    assert found["labels"]["mass"]["n"] == int((pooled["unknown"] == "").sum())


def test_folds_are_pooled_each_by_its_own_rule_and_threshold() -> None:
    parts = []
    for fold in range(2):
        facts = make_facts(make_rows(60, seed=fold, split="val"))
        rows = make_rows(40, seed=10 + fold)
        rows["patient"] = f"fold{fold}" + rows["patient"]
        parts.append((rows, facts))
    groups = [name for rows, _ in parts for name in rows["patient"]]
    found = measure_patients(parts, groups, patients_known=True)["patients"]
    pooled = pd.concat([pool_predictions(*part) for part in parts])
    ill = pooled["label"] == "opacity"
    assert found["threshold"] is None
    assert found["n"] == 80
    assert found["sensitivity"]["value"] == pytest.approx(
        (pooled["predicted"] == "opacity")[ill].mean()
    )
    assert found["auroc"]["value"] == pytest.approx(roc_auc_score(ill, pooled["p_opacity"]))


def test_patients_who_share_a_file_are_one_in_the_intervals(facts: ModelFacts) -> None:
    rows = make_rows(40, seed=2)
    joined = ["twins" if name in ("test0", "test1") else name for name in rows["patient"]]
    found = measure_patients([(rows, facts)], joined, patients_known=True)["patients"]
    assert (found["n"], found["n_patients"]) == (40, 39)
