from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hilum.fingerprint import Fingerprint, facts_in_words, take_fingerprint


def scanned(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    usual = {
        "split": "train", "label": "a", "height": 100, "width": 80, "grey": True,
        "dtype": "uint8", "low": 0.0, "high": 255.0, "range_from": "type",
    }  # fmt: skip
    return pd.DataFrame([{**usual, **row} for row in rows])


# -- fingerprint --------------------------------------------------------------------------------


def test_fingerprint_never_looks_at_test_or_excluded_samples() -> None:
    seen = take_fingerprint(
        scanned(
            [
                {"label": "a"},
                {"label": "a"},
                {"label": "b"},
                {"split": "val", "height": 200, "high": 100.0},
                {"split": "test", "height": 9000, "grey": False, "dtype": "uint16", "high": 9e4},
                {"split": None, "height": None, "grey": None, "dtype": None, "high": None},
            ]
        )
    )
    assert seen == Fingerprint(
        n_train=3,
        class_counts={"a": 2, "b": 1},
        median_height=100.0,
        median_width=80.0,
        median_short=80.0,
        grey=True,
        highest={"uint8": 255.0},
        lowest={"uint8": 0.0},
        n_val=1,
        min_height=100.0,
        max_height=200.0,
        min_width=80.0,
        max_width=80.0,
        median_aspect=0.8,
        min_aspect=0.4,
        max_aspect=0.8,
    )


def test_one_colour_image_makes_the_data_coloured() -> None:
    assert not take_fingerprint(scanned([{}, {"split": "val", "grey": False}])).grey


def test_range_that_files_state_needs_none_from_the_plan() -> None:
    deep = {"dtype": "uint16", "high": 4000.0}
    stated = {**deep, "high": 60000.0, "range_from": "bits"}
    assert take_fingerprint(scanned([stated, stated])).highest == {}
    assert take_fingerprint(scanned([deep, deep])).highest == {"uint16": 4000.0}
    assert take_fingerprint(scanned([deep, stated])).highest == {"uint16": 4000.0}


def test_the_shorter_side_is_that_of_each_image() -> None:
    shapes = [(100, 300)] * 4 + [(300, 100)] * 3 + [(300, 300)] * 3
    found = take_fingerprint(scanned([{"height": h, "width": w} for h, w in shapes]))
    assert (found.median_height, found.median_width, found.median_short) == (300, 300, 100)


def test_patients_that_are_not_named_are_not_counted() -> None:
    named = [{"patient": "p1"}, {"patient": "p1"}, {"patient": ""}, {"patient": ""}]
    assert take_fingerprint(scanned(named)).n_patients == 1
    assert take_fingerprint(scanned([{"patient": ""}] * 3)).n_patients is None
    assert take_fingerprint(scanned([{}])).n_patients is None


def test_labels_of_several_are_counted_one_by_one() -> None:
    rows = [
        {"label": "a|b", "unknown": ""},
        {"label": "b", "unknown": "a"},
        {"label": "none", "unknown": ""},
    ]
    found = take_fingerprint(scanned(rows))
    assert found.class_counts == {"b": 2, "a": 1}
    assert found.imbalance == 2


def test_bits_modalities_and_spacings_where_they_are_known() -> None:
    rows = [
        {"bits": 8, "modality": "CT", "spacing_mm": 0.5},
        {"bits": 12, "modality": "CT", "spacing_mm": 0.7},
        {"bits": 12, "modality": "", "spacing_mm": ""},
        {"bits": 16, "modality": "MR", "spacing_mm": 9.0, "split": "test"},
    ]
    found = take_fingerprint(scanned(rows))
    assert found.bits == {"12": 2, "8": 1}
    assert found.modalities == {"CT": 2}
    assert found.spacings_mm == pytest.approx((0.5, 0.6, 0.7))
    assert found.share_spaced == pytest.approx(2 / 3)
    silent = take_fingerprint(scanned([{}]))
    assert (silent.spacings_mm, silent.share_spaced) == (None, 0)


def test_looks_of_training_images_alone_are_read() -> None:
    rng = np.random.default_rng(0)
    looks = rng.integers(0, 256, (30, 64, 64)).astype(np.uint8)
    samples = scanned(
        [{"split": ("train", "val", "test")[k % 3], "path": f"{k}"} for k in range(30)]
    )
    found = take_fingerprint(samples, looks)
    assert set(found.sides) == {"horizontal", "vertical", "transpose"}
    train = looks[::3] / 255
    means, contrasts = train.mean(axis=(1, 2)), train.std(axis=(1, 2))
    assert found.intensity is not None
    assert vars(found.intensity) == pytest.approx(
        {
            "mean": means.mean(),
            "mean_spread": means.std(),
            "contrast": contrasts.mean(),
            "contrast_spread": contrasts.std(),
        }
    )
    others = looks.copy()
    others[1::3], others[2::3] = 0, 255
    assert take_fingerprint(samples, others) == found
    assert json.dumps(found.to_dict())


# -- in words -----------------------------------------------------------------------------------


def test_facts_are_put_into_words() -> None:
    rows = [{"label": "ill", "patient": "p1"}] * 3 + [
        {"label": "well", "patient": "p2", "height": 300, "grey": False, "bits": 12},
        {"label": "well", "split": "val", "modality": "CR", "spacing_mm": 0.14},
    ]
    assert facts_in_words(take_fingerprint(scanned(rows)).to_dict()) == {
        "images": "4 to learn from, 1 to validate by",
        "patients": "2 to learn from",
        "classes": "ill 3, well 1; the largest is 3.0 times the smallest",
        "height": "100 to 300, median 100 pixels",
        "width": "80 pixels",
        "shorter side": "median 80 pixels",
        "width / height": "0.27 to 0.80, median 0.80",
        "channels": "20% of the images have colours",
        "bits a value": "12 in 1 images",
        "values": "uint8 0 to 255",
        "modality": "CR in 1 images",
        "pixel spacing": "0.14 to 0.14 mm, median 0.14",
    }


def test_what_is_not_known_is_said_and_many_classes_are_not_listed() -> None:
    rows = [{"label": f"{k}", "range_from": "bits"} for k in range(10)]
    told = facts_in_words(take_fingerprint(scanned(rows)).to_dict())
    assert told["images"] == "10 to learn from, in turn"  # in folds
    assert told["patients"] == "not known"
    assert told["classes"].endswith("7 1 and 2 more; the largest is 1.0 times the smallest")
    assert told["channels"] == "all images are grey"
    assert told["values"] == "in the range that each file states"
    assert told["modality"] == told["pixel spacing"] == "not stated"


def test_looks_are_put_into_words_as_a_run_keeps_them() -> None:
    samples = scanned([{"path": f"{k}"} for k in range(30)])
    looks = np.random.default_rng(0).integers(0, 256, (30, 64, 64)).astype(np.uint8)
    kept = json.loads(json.dumps(take_fingerprint(samples, looks).to_dict()))
    told = facts_in_words(kept)
    assert told["brightness"] == "50% of the range, differing by 0% between images"
    assert told["contrast"] == "29% of the range, differing by 0% between images"
    assert [part.rsplit(" ", 1)[0] for part in told["symmetry"].split(", ")] == [
        "left to right",
        "top to bottom",
        "rows to columns",
    ]
