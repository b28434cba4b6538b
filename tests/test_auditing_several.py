"""The audit of images with several labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

import hilum
from hilum.auditing import Finding, Found, several
from hilum.auditing.several import ask_by_label
from hilum.progress import LogProgress, Progress
from making import write_npz

NAN = float("nan")


def write(path: Path, labels: list[list[float]], *, twins: tuple[int, int] | None = None) -> Path:
    """Write noise with these labels, all in one split."""
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 8, 8), dtype=np.uint8)
    if twins:
        images[twins[1]] = images[twins[0]]
    return write_npz(path, train_images=images, train_labels=np.array(labels))


def kinds(audit: hilum.Audit) -> dict[str, str]:
    return {finding.kind: finding.message for finding in audit.findings}


def test_identical_files_contradict_each_other_in_what_is_known_alone(tmp_path: Path) -> None:
    labels = [[1.0, 0.0], [1.0, NAN], [0.0, 1.0], [0.0, 0.0]] * 3
    same = hilum.audit(write(tmp_path / "same.npz", labels, twins=(0, 1)))
    assert "contradictory_labels" not in kinds(same)
    assert "exact_duplicates" in kinds(same)
    other = hilum.audit(write(tmp_path / "other.npz", labels, twins=(2, 3)))
    assert kinds(other)["contradictory_labels"].startswith(
        "Label '1': 1 group of identical files with different labels"
    )


def test_small_labels_are_named_once_each_with_its_images(tmp_path: Path) -> None:
    labels = [[1.0, 1.0], [1.0, 0.0], [0.0, NAN], [1.0, 0.0]] * 2
    found = hilum.audit(write(tmp_path / "x.npz", labels))
    small = [finding for finding in found.findings if finding.kind == "small_class"]
    assert [finding.examples for finding in small] == [("0", "1")]
    assert "'0' (6), '1' (2)" in small[0].message


def test_what_takes_too_long_is_not_looked_for_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(several, "MOST_IMAGES", 10)
    labels = [[1.0, 0.0], [0.0, 1.0]] * 4
    found = hilum.audit(write(tmp_path / "x.npz", labels))
    assert found.not_looked_for["shortcut"] == (
        "each of 2 labels would have to be looked at by itself, which takes too long for 8 images"
    )
    assert found.not_looked_for["label_errors"] == found.not_looked_for["shortcut"]


def of_labels(samples: pd.DataFrame, looks: NDArray[np.uint8], *, progress: Progress) -> Found:
    """Look for nothing where a label is rare; else find a clue."""
    name = sorted(set(samples["label"]))[-1].removeprefix("no ")
    if (samples["label"] == name).sum() < 3:
        return Found(not_looked_for={"shortcut": "there are too few images"})
    return Found((Finding("shortcut", "low", 1, "Found.", ()),), clues={"clues": [], "picture": {}})


def test_what_is_not_looked_for_names_its_labels_and_clues_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(several, "MOST_LABELS", 2)
    samples = pd.DataFrame({"label": ["a", "a|b", "a|c", "b"], "unknown": ""})
    looks = np.zeros((4, 2, 2), dtype=np.uint8)
    detectors = [("shortcut", of_labels)]
    found = ask_by_label(detectors, samples, looks, ["a", "b", "c"], LogProgress())
    assert [finding.message for finding in found.findings] == ["Label 'a': Found."]
    assert found.not_looked_for == {
        "shortcut": "for 'b': there are too few images; for 'c': it takes too long for all but the "
        "commonest labels"
    }
    assert found.clues == {"by_label": {"a": {"clues": [], "picture": {}}}}


def test_one_reason_for_every_label_is_said_once() -> None:
    samples = pd.DataFrame({"label": ["a", "b"], "unknown": ""})
    looks = np.zeros((2, 2, 2), dtype=np.uint8)
    found = ask_by_label([("shortcut", of_labels)], samples, looks, ["a", "b"], LogProgress())
    assert found.not_looked_for == {"shortcut": "there are too few images"}
