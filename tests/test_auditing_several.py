"""The audit of images with several labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import hilum
from hilum.auditing import several
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
