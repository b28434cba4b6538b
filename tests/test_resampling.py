"""Patients drawn anew and left out, against slow loops with the same draws."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from hilum import resampling


def test_draws_repeat_with_the_seed() -> None:
    first, again, other = (resampling.draw_patients(9, 5, seed=seed) for seed in (1, 1, 2))
    assert (first[:] == again[:]).all()
    assert not (first[:] == other[:]).all()


def test_weights_of_many_patients_are_held_small_and_used_in_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(4)
    drawn = [np.bincount(rng.integers(400, size=400), minlength=400) for _ in range(30)]
    values = rng.normal(size=(400, 2))
    monkeypatch.setattr(resampling, "_CHUNK_ELEMENTS", 1500)
    counts, kept = resampling.draw_patients(400, 30, seed=4), resampling.leave_out(400, seed=0)
    assert (counts[:] == np.stack(drawn)).all()
    np.testing.assert_allclose(counts @ values, np.stack(drawn) @ values)
    np.testing.assert_allclose(kept @ values, values.sum(axis=0) - values)
    tracemalloc.start()
    many = resampling.draw_patients(20_000, 100, seed=0)
    blocks = resampling.leave_out(20_000, seed=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(many) == 100
    assert len(blocks) == 1000
    assert peak < 1.5 * 100 * 20_000  # one byte for each


def test_chunks_do_not_change_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    clusters = resampling.Clusters.of([0, 0, 1, 2], 4)
    counts = resampling.draw_patients(3, 7, seed=0)
    monkeypatch.setattr(resampling, "_WEIGHTS_AT_ONCE", 8)
    parts = list(resampling.sample_weights(counts, clusters))
    assert [rows.start for rows, _ in parts] == [0, 2, 4, 6]
    assert (np.concatenate([w for _, w in parts]) == counts[:][:, [0, 0, 1, 2]]).all()


def test_many_patients_are_left_out_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "MAX_BLOCKS", 10)
    kept = resampling.leave_out(25, seed=0)[:]
    assert kept.shape == (10, 25)
    assert sorted((kept == 0).sum(axis=1).tolist()) == [2] * 5 + [3] * 5
    assert ((kept == 0).sum(axis=0) == 1).all()


def test_few_of_each_are_evenly_spaced_and_no_patient_is_lost() -> None:
    index = np.array([2, 0, 2, 2, 2, 1, 2, 1, 2])
    assert resampling.few_of_each(index, 3).tolist() == [0, 1, 3, 5, 6, 7]
    assert resampling.few_of_each(index, 1).tolist() == [1, 3, 5]
    assert resampling.few_of_each(index, np.where(index == 2, 2, 9)).tolist() == [1, 2, 5, 6, 7]
    assert resampling.few_of_each(index, 6).tolist() == list(range(9))
    assert resampling.few_of_each([], 3).tolist() == []


def test_the_error_of_a_mean_takes_patients_for_the_unit() -> None:
    values = np.array([1.0, 1.0, 2.0, 2.0, 6.0, 6.0])
    alone = np.std(values[::2], ddof=1) / np.sqrt(3)
    assert resampling.mean_error(values[::2], ["a", "b", "c"]) == pytest.approx(alone)
    # Copies of a patient's image tell nothing new.
    assert resampling.mean_error(values, list("aabbcc")) == pytest.approx(alone)
    assert resampling.mean_error(values, ["a"] * 6) == 0
