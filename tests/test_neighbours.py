"""Distances against a slow one, strangers told from honest images, references as data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray

from hilum.errors import ModelError
from hilum.neighbours import (
    MAX_REFERENCES,
    N_NEIGHBOURS,
    VIEWS,
    References,
    choose_references,
    make_references,
    see,
)

Pixels = NDArray[np.uint8]


def honest(n: int, rng: np.random.Generator, channels: int = 1) -> Pixels:
    """Bright discs of varying size and place on a ground that is brighter above, with grain."""
    rows, columns = np.mgrid[0:40, 0:48]
    centre, radius = rng.uniform([14, 18], [20, 30], (n, 2)), rng.uniform(8, 12, (n, 1, 1))
    away = np.hypot(rows - centre[:, :1, None], columns - centre[:, 1:, None])
    grey = 40 + 40 * (rows < 12) + 100 * (away < radius) + rng.normal(0, 8, (n, 40, 48))
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], channels, axis=-1)


def fake_features(pixels: Pixels) -> NDArray[np.float32]:
    """Three numbers of an image, one that never changes."""
    flat = pixels.reshape(len(pixels), -1).astype(np.float32)
    return np.stack([flat.mean(axis=1), flat.std(axis=1), np.zeros(len(flat))], axis=1)


def views(pixels: Pixels) -> dict[str, NDArray[np.float32]]:
    return see(fake_features(pixels), pixels)


def made(channels: int = 1) -> References:
    rng = np.random.default_rng(0)
    return make_references(views(honest(200, rng, channels)), views(honest(80, rng, channels)))


@pytest.mark.parametrize("channels", [1, 3])
def test_strangers_are_stranger_than_honest_images(channels: int) -> None:
    rng = np.random.default_rng(1)
    references = made(channels)
    new = honest(80, rng, channels)
    usual = references.strangeness(views(new))
    strangers = {
        "noise": rng.integers(0, 256, new.shape, dtype=np.uint8),
        "inverted": 255 - new,
        "upside down": np.ascontiguousarray(new[:, ::-1]),
        "blank": np.full_like(new, 90),
        "blurred": np.repeat(np.repeat(new[:, ::8, ::8], 8, axis=1), 8, axis=2),
    }
    for name, pixels in strangers.items():
        assert references.strangeness(views(pixels)).min() > np.quantile(usual, 0.98), name
    assert 0.4 < np.median(usual) < 2.5


def test_distances_are_those_of_a_slow_search() -> None:
    rng = np.random.default_rng(2)
    references = made()
    seen = views(honest(5, rng))
    found = np.zeros(5)
    for view in VIEWS:
        median, scale = references.usual[view]
        for i in range(5):
            away = [
                float(np.sqrt((((row - seen[view][i]) / references.spread[view]) ** 2).sum()))
                for row in references.vectors[view].astype(np.float64)
            ]
            log = np.log(np.mean(sorted(away)[:N_NEIGHBOURS]) + 1e-6)
            found[i] += max((log - median) / scale, 0) ** 2
    assert references.strangeness(seen) == pytest.approx(np.sqrt(found), rel=1e-3, abs=1e-3)


def test_one_image_is_as_strange_as_among_others() -> None:
    references = made()
    pixels = honest(70, np.random.default_rng(3))
    together = references.strangeness(views(pixels))
    alone = [references.strangeness(views(pixels[i : i + 1]))[0] for i in (0, 64, 69)]
    assert alone == pytest.approx(together[[0, 64, 69]].tolist(), rel=1e-4)


@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 300, 3), (9, 9, 1)])
def test_any_input_size_has_its_views(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    seen = see(np.ones((3, 2)), pixels)
    assert seen["thumbnail"].shape == (3, 256 * shape[2])
    assert all(np.isfinite(array).all() for array in seen.values())
    references = make_references(seen, seen)
    assert np.isfinite(references.strangeness(seen)).all()


def test_references_are_chosen_alike_for_a_seed_and_bounded() -> None:
    assert choose_references(10, 5, seed=0).tolist() == list(range(10))
    chosen = choose_references(50_000, 256, seed=1)
    assert len(set(chosen.tolist())) == MAX_REFERENCES
    assert chosen.tolist() == choose_references(50_000, 256, seed=1).tolist()
    assert chosen.tolist() != choose_references(50_000, 256, seed=2).tolist()
    assert len(choose_references(50_000, 8192, seed=0)) == 512


def test_what_was_written_is_read_again() -> None:
    references = made()
    pixels = honest(9, np.random.default_rng(4))
    again = References.from_bytes(references.to_bytes(), "x")
    assert again.strangeness(views(pixels)) == pytest.approx(
        references.strangeness(views(pixels)), abs=1e-5
    )


def damaged(**changes: Any) -> bytes:
    tensors = safetensors.numpy.load(made().to_bytes())
    for name, value in changes.items():
        view, part = name.split("_")
        if value is None:
            del tensors[f"{view}.{part}"]
        else:
            tensors[f"{view}.{part}"] = np.asarray(value)
    return safetensors.numpy.save(tensors)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"nonsense", "holds no reference images"),
        (damaged(edges_vectors=None), "holds no reference images: 'edges.vectors'"),
        (damaged(edges_usual=[1.0]), "its scale is of shape (1,), not (2,)"),
        (damaged(edges_vectors=np.ones((200, 9), np.complex64)), "are not of real numbers"),
        (damaged(edges_usual=1.0), "its scale is of shape (), not (2,)"),
        (damaged(edges_usual=np.ones((2, 2))), "its scale is of shape (2, 2), not (2,)"),
        (damaged(edges_vectors=np.float32(1)), "views hold different numbers of images, or none"),
        (
            damaged(**{f"{view}_vectors": np.float32(1) for view in VIEWS}),
            "the shapes () and (3,) of 'features' do not fit",
        ),
        (
            damaged(edges_spread=np.float32(1)),
            "of 'edges' do not fit",
        ),
        (damaged(edges_usual=[1.0, np.nan]), "holds no reference images: its scale is not finite"),
        (damaged(edges_usual=[1.0, 0.0]), "'edges' has a spread that is not above 0"),
        (
            damaged(features_vectors=np.ones((3, 3), np.float32)),
            "its views hold different numbers of images, or none",
        ),
        (
            damaged(features_spread=np.ones(4, np.float32)),
            "the shapes (200, 3) and (4,) of 'features' do not fit",
        ),
        (damaged(features_spread=np.zeros(3, np.float32)), "'features' has a spread that is not"),
        (
            damaged(features_vectors=np.full((200, 3), np.inf, np.float32)),
            "'features' holds what is no finite number",
        ),
    ],
)
def test_damaged_references_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ModelError) as error:
        References.from_bytes(data, "references.safetensors")
    assert str(error.value).startswith("references.safetensors ")
    assert reason in str(error.value)
