"""Rows of samples → what networks learn from, and what they may not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hilum.dataset import load_dataset
from hilum.decoded_samples import decode_samples, split_samples
from hilum.progress import LogProgress
from hilum.scan import scan
from hilum.settings import Settings
from making import write_folder

SETTINGS = Settings(input_height=16, input_width=16, accelerator="cpu")


def test_images_come_with_their_labels_and_patients_and_no_test_image_does(tmp_path: Path) -> None:
    dataset = load_dataset(write_folder(tmp_path, {"a": 4, "b": 4}))
    samples = scan(dataset, LogProgress()).samples
    samples["group"] = [f"P{row}" for row in range(8)]
    samples["split"] = ["train", "val", "test", "train"] * 2
    train = split_samples(dataset, samples, "train", SETTINGS, LogProgress())
    assert train.groups == ("P0", "P3", "P4", "P7")
    assert train.labels.tolist() == [0, 0, 1, 1]
    rows = samples.iloc[[4, 1]]
    some = decode_samples(dataset, rows, samples, SETTINGS, LogProgress())
    assert (some.groups, some.labels.tolist()) == (("P4", "P1"), [1, 0])
    assert np.array_equal(some.pixels[0], train.pixels[2])
    for sealed in (samples.iloc[[0, 2]], samples):
        with pytest.raises(AssertionError, match="opened by evaluation alone"):
            decode_samples(dataset, sealed, samples, SETTINGS, LogProgress())
    with pytest.raises(AssertionError, match="opened by evaluation alone"):
        split_samples(dataset, samples, "test", SETTINGS, LogProgress())
