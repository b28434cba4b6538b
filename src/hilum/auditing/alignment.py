"""Laying one look over another, and saying how well they agree.

A copy differs from its original by a rotation, a flip, a zoom and a shift. They are found roughly
by correlation of spectra over a few angles, then finely by Gauss-Newton steps on the pixels.
Agreement is measured tile by tile on what remains without coarse shading, so that two images of
the same kind (two chests) do not pass for one, and a filled border or an added letter does not
hide a copy.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft2
from scipy.ndimage import gaussian_filter1d

from hilum.looks import LOOK_SIDE, averaged

Floats = NDArray[np.float32]

ANGLES = tuple(math.radians(angle) for angle in (-8, -4, 0, 4, 8))
MOST_SHIFT = 0.19  # of the side
MOST_ZOOM = 0.2  # logarithm
MOST_STEP_ANGLE = np.deg2rad(6.0)
MOST_STEP_SHIFT = 0.08
FIRST_SIDE = LOOK_SIDE // 2
TILES_ACROSS = 8
TILES_NEEDED = 16


def _half_turn() -> NDArray[np.complex64]:
    """What turns a conjugate spectrum into that of the image turned by 180 degrees."""
    down = np.exp(2j * np.pi * np.fft.fftfreq(FIRST_SIDE)).astype(np.complex64)
    both: NDArray[np.complex64] = np.outer(down, down[: FIRST_SIDE // 2 + 1])
    return both


HALF_TURN = _half_turn()

REACH = int(MOST_SHIFT * FIRST_SIDE)
NEAR = np.r_[0 : REACH + 1, -REACH:0]  # shifts that are looked at


def _waves() -> tuple[NDArray[np.complex64], Floats]:
    """What turns the columns, then the rows, of a half spectrum into values at the near shifts."""
    turns = 2 * np.pi / FIRST_SIDE
    down = np.exp(1j * turns * np.outer(NEAR, np.arange(FIRST_SIDE))) / FIRST_SIDE
    half = np.arange(FIRST_SIDE // 2 + 1)
    # The columns but the first and last stand for their mirror images too.
    twice = np.where((half == 0) | (half == half[-1]), 1.0, 2.0)[:, None] / FIRST_SIDE
    right = turns * np.outer(half, NEAR)
    # The real part of a product, as one product of real and imaginary parts in turns.
    both = np.stack([np.cos(right) * twice, -np.sin(right) * twice], axis=1)
    return down.astype(np.complex64), both.reshape(2 * len(half), -1).astype(np.float32)


WAVES_DOWN, WAVES_RIGHT = _waves()


def _near_heights(product: NDArray[np.complex64]) -> Floats:
    """Transform half spectra (n, side, side // 2 + 1) back, at the near shifts alone."""
    columns = np.matmul(WAVES_DOWN, product)  # (n, n_near, side // 2 + 1)
    heights: Floats = columns.view(np.float32) @ WAVES_RIGHT
    return heights


@dataclass(frozen=True)
class Motion:
    """How each output point finds its place in the input, for n images.

    Lengths are in image heights, from the centre; every attribute is an array of length n.

    Attributes
    ----------
    angle : radians
    zoom : natural logarithm
    shift : shape (n, 2), down and right
    flipped : bool
        Left and right exchanged.
    aspect : width / height of the picture, as looks are stretched to squares.
    """

    angle: NDArray[np.float64]
    zoom: NDArray[np.float64]
    shift: NDArray[np.float64]
    flipped: NDArray[np.bool_]
    aspect: NDArray[np.float64]

    def take(self, places: NDArray[np.int64] | NDArray[np.bool_]) -> Motion:
        chosen = {
            field.name: getattr(self, field.name)[places] for field in dataclasses.fields(self)
        }
        return Motion(**chosen)

    def put(self, places: NDArray[np.int64], other: Motion) -> Motion:
        """Return these motions, with those at `places` replaced."""
        changed = {}
        for field in dataclasses.fields(self):
            changed[field.name] = getattr(self, field.name).copy()
            changed[field.name][places] = getattr(other, field.name)
        return Motion(**changed)

    def words(self, place: int) -> str:
        """Say one motion to a person."""
        angle = (math.degrees(self.angle[place]) + 180) % 360 - 180
        percent = 100 * (math.exp(-self.zoom[place]) - 1)
        found = ["flipped"] if self.flipped[place] else []
        if abs(angle) >= 1:
            found.append(f"turned by {abs(angle):.0f}°")
        if abs(percent) >= 1:
            found.append(f"{'enlarged' if percent > 0 else 'reduced'} by {abs(percent):.0f} %")
        if np.abs(self.shift[place]).max() >= 0.01:
            found.append("shifted")
        return ", ".join(found) or "same place"

    def linear(self) -> NDArray[np.float64]:
        """Return matrices of shape (n, 2, 2) for (down, right) in looks."""
        scale, sign = np.exp(self.zoom), np.where(self.flipped, -1.0, 1.0)
        cosine, sine = scale * np.cos(self.angle), scale * np.sin(self.angle)
        rows = [[cosine, -sine * sign * self.aspect], [sine / self.aspect, cosine * sign]]
        return np.array(rows).transpose(2, 0, 1)

    def places(self, side: int) -> Floats:
        """Return where each output pixel lies in the input; shape (n, 2, side, side), pixels."""
        axis = (np.arange(side) - (side - 1) / 2) / side
        linear = (self.linear() * side).astype(np.float32)[..., None]  # (n, 2, 2, 1)
        middle = (self.shift * side + (side - 1) / 2).astype(np.float32)[..., None, None]
        line = axis.astype(np.float32)
        by_row, by_column = linear[:, :, 0] * line, linear[:, :, 1] * line
        places: Floats = (by_row[..., None] + middle) + by_column[:, :, None, :]
        return places


def joined(motions: list[Motion]) -> Motion:
    """Join motions into one object."""
    names = [field.name for field in dataclasses.fields(Motion)]
    return Motion(**{n: np.concatenate([getattr(each, n) for each in motions]) for n in names})


def moved(images: Floats, motion: Motion) -> Floats:
    """Move images of shape (n, side, side); beyond the border, its pixels go on."""
    return _sampled(images, motion.places(images.shape[-1]))


def _sampled(images: Floats, places: Floats) -> Floats:
    """Sample (n, side, side) at places (n, 2, side, side), bilinearly."""
    n, side, _ = images.shape
    down, right = (np.clip(places[:, axis], 0, side - 1.001) for axis in (0, 1))
    row, column = down.astype(np.int32), right.astype(np.int32)
    down -= row
    right -= column
    row *= side
    row += column
    row += np.arange(0, n * side * side, side * side, dtype=np.int32)[:, None, None]
    flat = images.reshape(-1)
    corners = [flat[offset:].take(row) for offset in (0, 1, side, side + 1)]
    upper, lower = corners[1] - corners[0], corners[3] - corners[2]
    upper *= right
    upper += corners[0]
    lower *= right
    lower += corners[2]
    lower -= upper
    lower *= down
    lower += upper
    sampled: Floats = lower
    return sampled


def within(places: Floats) -> NDArray[np.bool_]:
    """Tell which places lie in the input; shape (n, side, side)."""
    inside = (places >= 0) & (places <= places.shape[-1] - 1)
    found: NDArray[np.bool_] = inside[:, 0] & inside[:, 1]
    return found


# -- roughly ------------------------------------------------------------------------------------


def spectral_weights(looks: NDArray[np.uint8]) -> Floats:
    """Learn weights that give every spatial frequency an equal say.

    Returns
    -------
    array of shape (FIRST_SIDE, FIRST_SIDE // 2 + 1)
    """
    power = np.square(np.abs(rfft2(_faded(averaged(looks, 2))))).mean(axis=0)
    down = np.fft.fftfreq(FIRST_SIDE, 1 / FIRST_SIDE)[:, None]
    radius = np.hypot(down, np.arange(FIRST_SIDE // 2 + 1))
    band = (radius > 1.5) * np.exp(-((radius / 9) ** 4))
    weights: Floats = (band / np.sqrt(power + 1e-4 * power.mean() + 1e-9)).astype(np.float32)
    return weights


def lay_roughly(
    firsts: Floats,
    owner: NDArray[np.int64],
    seconds: Floats,
    aspects: NDArray[np.float64],
    weights: Floats,
) -> tuple[Motion, Floats]:
    """Find for each pair how the first must be moved to lie on the second.

    Parameters
    ----------
    firsts, aspects : arrays of length n_firsts
        Images of shape (FIRST_SIDE, FIRST_SIDE) and the aspect ratios of their pictures.
    owner : int array of length n
        Which of the firsts each second is held against.
    seconds : array of shape (n, FIRST_SIDE, FIRST_SIDE)

    Returns
    -------
    Motion, array of shape (n,)
        The motion, and the height of the correlation's peak, 1 for equal images.
    """
    pairs = np.arange(len(seconds))
    peaks, heights = [], []
    target = np.conj(_spectra(seconds, weights))
    for angle in ANGLES:
        turned = moved(firsts, _still(angle, False, aspects))
        for image in (turned, turned[:, :, ::-1]):
            spectra = _spectra(image, weights)
            for each in (spectra, np.conj(spectra) * HALF_TURN):
                near = _near_heights(each[owner] * target).reshape(-1, len(NEAR) ** 2)
                peaks.append(near.argmax(axis=1))
                heights.append(near[pairs, peaks[-1]])
    best = np.argmax(heights, axis=0)
    rows, columns = np.divmod(np.array(peaks)[best, pairs], len(NEAR))
    which, upside_down = np.divmod(best, 2)
    which, flipped = np.divmod(which, 2)
    angles = np.array(ANGLES)[which] + np.pi * upside_down
    motion = _still(angles, flipped.astype(bool), aspects[owner])
    shift = motion.linear() @ (
        np.stack([NEAR[rows], NEAR[columns]], axis=1)[..., None] / FIRST_SIDE
    )
    return dataclasses.replace(motion, shift=shift[:, :, 0]), np.array(heights)[best, pairs]


def _still(
    angle: float | NDArray[np.float64],
    flipped: bool | NDArray[np.bool_],
    aspects: NDArray[np.float64],
) -> Motion:
    """Return motions without zoom and shift."""
    n = len(aspects)
    return Motion(
        angle=np.broadcast_to(angle, n),
        zoom=np.zeros(n),
        shift=np.zeros((n, 2)),
        flipped=np.broadcast_to(flipped, n),
        aspect=aspects,
    )


def _spectra(images: Floats, weights: Floats) -> NDArray[np.complex64]:
    """Return weighted spectra of which the product's inverse is at most 1."""
    spectra = rfft2(_faded(images)) * weights
    twice = np.full(spectra.shape[-1], 2.0, np.float32)
    twice[[0, -1]] = 1  # the other columns stand for their mirror images too
    power = (np.square(np.abs(spectra)) * twice).sum(axis=(1, 2), keepdims=True)
    scaled: NDArray[np.complex64] = spectra * (images.shape[-1] / np.sqrt(power + 1e-12))
    return scaled


def _faded(images: Floats) -> Floats:
    edge = np.sqrt(np.hanning(images.shape[-1] + 2)[1:-1]).astype(np.float32)
    window = np.outer(edge, edge)
    mean = (images * window).sum(axis=(1, 2), keepdims=True) / window.sum()
    faded: Floats = (images - mean) * window
    return faded


# -- finely -------------------------------------------------------------------------------------


def detail(images: Floats, fine: float, coarse: float) -> Floats:
    """Leave away what is finer or coarser than two widths (standard deviations in pixels)."""
    one, other = (_blur(images.shape[-1], sigma) for sigma in (fine, coarse))
    return np.asarray(one @ images @ one.T - other @ images @ other.T)


@cache
def _blur(side: int, sigma: float) -> Floats:
    """Return what blurs along one axis as a matrix product: quicker than to filter small images."""
    rows = gaussian_filter1d(np.eye(side), sigma, axis=0, mode="nearest", truncate=3.0)
    return np.asarray(rows, np.float32)


class Laying:
    """Improves motions by Gauss-Newton steps on the difference of what `detail` left.

    The second image is taken for a moved first one, times a contrast. The steps are found as
    motions of the second, whose slopes need to be worked out only once (inverse compositional
    alignment, Baker and Matthews 2004).

    Parameters
    ----------
    firsts, seconds : arrays of shape (n, side, side)
    motion : Motion
        Where the search begins, and near which it stays.
    """

    def __init__(self, firsts: Floats, seconds: Floats, motion: Motion) -> None:
        side, n = firsts.shape[-1], len(firsts)
        axis = ((np.arange(side) - (side - 1) / 2) / side).astype(np.float32)
        y, x = axis[:, None], axis
        down, right = (each * side for each in np.gradient(seconds, axis=(1, 2)))
        aspect = motion.aspect[:, None, None].astype(np.float32)
        slopes = (right * (y / aspect) - down * (x * aspect), down * y + right * x, down, right)
        self._firsts, self._seconds = firsts, seconds
        self._start, self._motion = motion, motion
        self._jacobian = np.stack(slopes, axis=1).reshape(n, 4, side * side)
        self._solver = _solver(self._jacobian)

    def take(self, chosen: NDArray[np.bool_]) -> Laying:
        """Return the search of some of the pairs, as far as it has come."""
        part = copy.copy(self)
        part._firsts, part._seconds = self._firsts[chosen], self._seconds[chosen]
        part._start, part._motion = self._start.take(chosen), self._motion.take(chosen)
        part._jacobian, part._solver = self._jacobian[chosen], self._solver[chosen]
        return part

    def go_on(self, n_steps: int) -> Motion:
        """Take more steps, and return where they led."""
        n = len(self._firsts)
        for _ in range(n_steps if n else 0):
            places = self._motion.places(self._firsts.shape[-1])
            inside = within(places)
            shown = _sampled(self._firsts, places) * inside
            product = (shown * self._seconds).sum(axis=(1, 2))
            power = np.square(shown).sum(axis=(1, 2))
            contrast = np.clip(product / (power + 1e-6), 0.2, 5)[:, None, None].astype(np.float32)
            error = (contrast * shown - self._seconds) * inside
            # Filled borders and letters differ much and must not pull (Cauchy's weights).
            square = np.square(error)
            error /= 1 + square / (square.mean(axis=(1, 2), keepdims=True) + 1e-6)
            steps = self._solver @ (self._jacobian @ error.reshape(n, -1, 1))
            self._motion = _stepped(self._motion, self._start, steps[:, :, 0])
        return self._motion


def _solver(jacobian: Floats) -> NDArray[np.float64]:
    """Return damped inverses of shape (n, 4, 4) for least-squares steps."""
    product = (jacobian @ jacobian.transpose(0, 2, 1)).astype(np.float64)
    scale = np.sqrt(np.einsum("nii->ni", product)) + 1e-9
    both = scale[:, :, None] * scale[:, None, :]
    inverse: NDArray[np.float64] = np.linalg.inv(product / both + 1e-3 * np.eye(4)) / both
    return inverse


def _stepped(motion: Motion, start: Motion, steps: NDArray[np.float64]) -> Motion:
    """Undo a motion of the second image, none too large, and stay near where the search began."""
    back = np.clip(steps[:, 2:], -0.03, 0.03)[:, :, None]
    turn = np.clip(steps[:, 0], -0.07, 0.07) * np.where(motion.flipped, -1, 1)
    turned = motion.angle - start.angle - turn
    shift = motion.shift - start.shift - (motion.linear() @ back)[:, :, 0]
    return dataclasses.replace(
        motion,
        angle=start.angle + np.clip(turned, -MOST_STEP_ANGLE, MOST_STEP_ANGLE),
        zoom=np.clip(motion.zoom - np.clip(steps[:, 1], -0.05, 0.05), -MOST_ZOOM, MOST_ZOOM),
        shift=start.shift + np.clip(shift, -MOST_STEP_SHIFT, MOST_STEP_SHIFT),
    )


# -- agreement ----------------------------------------------------------------------------------


def agreement(firsts: Floats, seconds: Floats, motion: Motion, share: float) -> Floats:
    """Correlate tile by tile and return what all but a share of the tiles reach.

    Parameters
    ----------
    firsts, seconds : arrays of shape (n, side, side)
        What `detail` left.
    share : float
        Share of the tiles that may agree less: filled borders, letters.

    Returns
    -------
    array of shape (n,)
        At most 1; -1 where too few tiles can be compared.
    """
    if not len(firsts):
        return np.empty(0, np.float32)
    places = motion.places(firsts.shape[-1])
    inside = within(places)
    shown = _sampled(firsts, places)
    weight = _tiles(inside.astype(np.float32))
    means = [_tiles(each * inside) / np.maximum(weight, 1e-6) for each in (shown, seconds)]
    product = _tiles(shown * seconds * inside) - weight * means[0] * means[1]
    powers = [
        _tiles(np.square(each) * inside) - weight * np.square(mean)
        for each, mean in zip((shown, seconds), means, strict=True)
    ]
    least = [0.1 * power.mean(axis=1, keepdims=True) + 1e-6 for power in powers]
    judged = (weight > 0.6) & ((powers[0] > least[0]) | (powers[1] > least[1]))
    cosine = product / np.sqrt(np.maximum(powers[0] * powers[1], 1e-12))
    cosine = np.sort(np.where(judged, cosine, np.inf), axis=1)
    n_judged = judged.sum(axis=1)
    found = cosine[np.arange(len(cosine)), (share * n_judged).astype(int)]
    enough: Floats = np.where(n_judged >= TILES_NEEDED, found, -1).astype(np.float32)
    return enough


def _tiles(images: Floats) -> Floats:
    """Average over tiles; shape (n, n_tiles)."""
    across = _across(images.shape[-1])
    mean: Floats = np.asarray(across.T @ images @ across)
    return mean.reshape(len(images), -1)


@cache
def _across(side: int) -> Floats:
    """Return what averages a line of pixels over the tiles across it, (side, TILES_ACROSS)."""
    tile = side // TILES_ACROSS
    return np.repeat(np.eye(TILES_ACROSS, dtype=np.float32), tile, axis=0) / np.float32(tile)
