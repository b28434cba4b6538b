"""How unlike the training images an image is: its distance to the nearest of them, without PyTorch.

Three views are compared: what the network's last feature map holds on average, how strong edges are
at several resolutions, and the picture at 16×16 pixels. A network blind to what it never saw may
find an upside-down chest familiar; its outlines do not. benchmarks/unlike.py measures them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from PIL import Image

from hilum.errors import ModelError
from hilum.pixels import Images
from hilum.threads import one_blas_thread

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Pixels = NDArray[np.uint8]

VIEWS = ("features", "edges", "thumbnail")

N_NEIGHBOURS = 3
MAX_REFERENCES = 2000
MAX_VALUES = 1 << 22  # of one view: networks with very many features keep fewer references
ASKED_AT_ONCE = 256  # images whose distances to all references are held

THUMBNAIL_SIDE = 16
MOST_SCALES = 3
LEAST_SIDE = 4  # smaller pictures have no edges to measure

# A feature that hardly varies in training must not count for more than this many typical ones.
LEAST_SPREAD = 0.1
# Where validation images are all as far, one that is a little farther is not yet unlike.
LEAST_SCALE = 0.01

Views = dict[str, Singles]


class Outline(NamedTuple):
    """The two views of an image that need no network."""

    edges: Singles
    thumbnail: Singles


def outline(image: Pixels) -> Outline:
    """Take them of one image of shape (height, width, channels)."""
    return Outline(_edges(image), _thumbnail(image))


def see(features: NDArray[Any], pixels: Images) -> Views:
    """Take the three views of images.

    Parameters
    ----------
    features : float array of shape (n, n_features)
        Spatial mean of the network's last feature map.
    pixels : uint8 array of shape (n, height, width, channels)
        As `pixels.prepare` returns them.

    Returns
    -------
    dict
        View to float32 array of shape (n, d).
    """
    return views_of(features, [outline(image) for image in pixels])


def views_of(features: NDArray[Any], outlines: Sequence[Outline]) -> Views:
    """Put together the views of images whose outlines were taken before; see `see`."""
    return {
        "features": np.asarray(features, dtype=np.float32),
        "edges": np.stack([each.edges for each in outlines]),
        "thumbnail": np.stack([each.thumbnail for each in outlines]),
    }


def _edges(image: Pixels) -> Singles:
    """Mean absolute differences down, across and of both, at full, half, quarter resolution."""
    grey = image.mean(axis=-1, dtype=np.float32) if image.shape[-1] > 1 else image[..., 0]
    grey = grey.astype(np.float32)
    found = []
    for scale in range(MOST_SCALES):
        if min(grey.shape) < LEAST_SIDE:
            break
        down, across = grey[1:] - grey[:-1], grey[:, 1:] - grey[:, :-1]
        bent = down[1:, 1:-1] - down[:-1, 1:-1] + across[1:-1, 1:] - across[1:-1, :-1]
        # Sums of four in place of means: each scale is four times as bright.
        white = 255 * 4**scale
        parts = (down, across, bent)
        found += [np.abs(part, out=part).sum() / part.size / white for part in parts]
        height, width = grey.shape[0] // 2 * 2, grey.shape[1] // 2 * 2
        pairs = grey[0:height:2] + grey[1:height:2]
        grey = pairs[:, 0:width:2] + pairs[:, 1:width:2]
    # Logarithms: twice the contrast is as far from once as half of it.
    return np.asarray(np.log(np.array(found) + 1e-3), dtype=np.float32)


def _thumbnail(image: Pixels) -> Singles:
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    small = picture.resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32).ravel()


@dataclass(frozen=True)
class References:
    """Training images to compare with, as each view sees them.

    Attributes
    ----------
    vectors : dict
        View to float32 array of shape (n_references, d).
    spread : dict
        View to float32 array of shape (d,) by which differences are divided.
    usual : dict
        View to (median, scale) of the logarithm of validation images' distances.
    """

    vectors: Mapping[str, Singles]
    spread: Mapping[str, Singles]
    usual: Mapping[str, tuple[float, float]]

    def strangeness(self, views: Views) -> Floats:
        """Say how much farther than usual images are from the training images, (n,).

        Returns
        -------
        float array of shape (n,)
            0 for an image no farther than the median validation image in any view; 1 for one as far
            as validation images at the 84th percentile in one view.
        """
        n = len(views["features"])
        squares = np.zeros(n)
        # So little to multiply: more threads would only fight with those of the network.
        with one_blas_thread() if n > 1 else nullcontext():
            for view, (median, scale) in self.usual.items():
                excess = (self._log_distance(view, views[view]) - median) / scale
                squares += np.maximum(excess, 0) ** 2
        return np.asarray(np.sqrt(squares))

    def _log_distance(self, view: str, seen: Singles) -> Floats:
        """Logarithm of the mean distance to the nearest references."""
        middle, columns, lengths = self._scaled[view]
        asked = (seen - middle) / self.spread[view]
        k = min(N_NEIGHBOURS, len(lengths))
        # Some at a time, for memory; evenly, since one row alone would be multiplied another way.
        distance = [
            _mean_to_nearest(part, columns, lengths, k)
            for part in np.array_split(asked, max(1, math.ceil(len(asked) / ASKED_AT_ONCE)))
        ]
        return np.asarray(np.log(np.concatenate(distance).astype(np.float64) + 1e-6))

    @cached_property
    def _scaled(self) -> dict[str, tuple[Singles, Singles, Singles]]:
        """Middle of the references, twice their scaled vectors as columns, squared lengths."""
        found = {}
        for view in VIEWS:
            # Around their middle single precision loses least.
            middle = self.vectors[view].mean(axis=0)
            scaled = (self.vectors[view] - middle) / self.spread[view]
            columns = np.ascontiguousarray(2 * scaled.T)
            found[view] = (middle, columns, np.asarray((scaled**2).sum(axis=1)))
        return found

    def to_bytes(self) -> bytes:
        """Write as safetensors."""
        tensors: dict[str, NDArray[Any]] = {}
        for view in VIEWS:
            # Thumbnails are whole numbers to begin with.
            dtype = np.uint8 if view == "thumbnail" else np.float32
            tensors[f"{view}.vectors"] = np.ascontiguousarray(self.vectors[view], dtype=dtype)
            tensors[f"{view}.spread"] = np.ascontiguousarray(self.spread[view])
            tensors[f"{view}.usual"] = np.array(self.usual[view], dtype=np.float64)
        return bytes(safetensors.numpy.save(tensors))

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> References:
        """Read what `to_bytes` wrote.

        Raises
        ------
        ModelError
            If it is anything else.
        """
        try:
            found = safetensors.numpy.load(data)
            if any(array.dtype.kind not in "fu" for array in found.values()):
                raise ValueError("its tensors are not of real numbers")
            references = cls(
                {view: found[f"{view}.vectors"].astype(np.float32) for view in VIEWS},
                {view: found[f"{view}.spread"].astype(np.float32) for view in VIEWS},
                {view: _pair(found[f"{view}.usual"]) for view in VIEWS},
            )
        except (safetensors.SafetensorError, KeyError, ValueError) as error:
            raise ModelError(f"{name} holds no reference images: {error}.") from None
        fault = references._fault()
        if fault:
            raise ModelError(f"{name} cannot be used: {fault}.")
        return references

    def _fault(self) -> str:
        """Say what cannot be right in these numbers, '' if nothing."""
        n_rows = {array.shape[:1] for array in self.vectors.values()}
        if len(n_rows) != 1 or n_rows == {(0,)}:
            return "its views hold different numbers of images, or none"
        for view in VIEWS:
            vectors, spread = self.vectors[view], self.spread[view]
            if vectors.ndim != 2 or spread.shape != vectors.shape[1:]:
                return f"the shapes {vectors.shape} and {spread.shape} of '{view}' do not fit"
            numbers = (vectors, spread, np.array(self.usual[view]))
            if not all(np.isfinite(array).all() for array in numbers):
                return f"'{view}' holds what is no finite number"
            if not ((spread > 0).all() and self.usual[view][1] > 0):
                return f"'{view}' has a spread that is not above 0"
        return ""


def _mean_to_nearest(asked: Singles, columns: Singles, lengths: Singles, k: int) -> Singles:
    """Mean distance (n,) of each row to the `k` references nearest to it."""
    # |a - b|² less |a|², which does not matter for who is nearest.
    squares = lengths - asked @ columns
    nearest = np.partition(squares, k - 1, axis=1)[:, :k] + (asked**2).sum(axis=1)[:, None]
    return np.asarray(np.sqrt(np.maximum(nearest, 0)).mean(axis=1))


def make_references(train: Views, val: Views) -> References:
    """Keep training images as references, and learn from validation images what is usual.

    Parameters
    ----------
    train, val : dict
        Views of the images, as `see` gives them; of train those that `choose_references` chose.
    """
    spread = {"thumbnail": np.full(train["thumbnail"].shape[1], 255, dtype=np.float32)}
    for view in ("features", "edges"):
        found = train[view].std(axis=0)
        spread[view] = np.maximum(found, max(LEAST_SPREAD * float(found.mean()), 1e-6))
    bare = References(train, spread, {})
    usual = {}
    for view in VIEWS:
        logs = bare._log_distance(view, val[view])
        median, above = np.quantile(logs, [0.5, 0.84])
        usual[view] = (float(median), max(float(above - median), LEAST_SCALE))
    return References(train, spread, usual)


def choose_references(n_train: int, n_features: int, *, seed: int) -> NDArray[np.intp]:
    """Choose which training images to keep, rising; all where there are few."""
    most = min(MAX_REFERENCES, max(1, MAX_VALUES // max(1, n_features)))
    chosen = np.random.default_rng(seed).permutation(n_train)[:most]
    return np.sort(chosen)


def _pair(array: NDArray[Any]) -> tuple[float, float]:
    if array.shape != (2,):
        raise ValueError(f"its scale is of shape {array.shape}, not (2,)")
    median, scale = array.tolist()
    if not (math.isfinite(median) and math.isfinite(scale)):
        raise ValueError("its scale is not finite")
    return float(median), float(scale)
