"""Chests that nobody has: smooth anatomy drawn from formulas, as a radiograph would show it.

Coordinates: u to the right and v downwards, in half image widths, from the centre of the image.
As on a radiograph the person's right is on the image's left. What is drawn is attenuation, where
more is brighter; a scanner then turns it into grey values.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Plane = NDArray[np.floating[Any]]
"""float32; the stubs do not know that a Python number leaves the type as it is."""

LUNG_WINDOW = 0.66  # share of the soft tissue's attenuation that air takes away


@dataclass(frozen=True)
class Blob:
    """A soft shadow.

    Attributes
    ----------
    u, v : float
        Centre.
    radius_u, radius_v : float
        Standard deviations of its profile.
    depth : float
        Attenuation at its centre.
    rough : float in [0, 1]
        How much of it is patchy.
    """

    u: float
    v: float
    radius_u: float
    radius_v: float
    depth: float
    rough: float = 0.0


@dataclass(frozen=True)
class Person:
    """The shape of one chest; lengths in half image widths.

    Attributes
    ----------
    width : float
        Half width of the rib cage inside.
    apex, widest : float
        Height (v) of the lungs' tips, and where the rib cage is widest.
    bases : tuple of float
        Height of the right and left dome of the diaphragm.
    roundness : float
        Exponent of the rib cage's outline.
    mediastinum : float
        Half width of what lies between the lungs.
    heart_u, heart_width, heart_height : float
    spine : float
        Half width of the vertebrae.
    rib_phase, rib_spacing, rib_slope, rib_depth : float
    clavicle_v, clavicle_slope : float
    breasts : tuple of Blob
        Broad shadows over the lower lungs, and other harmless ones.
    vessel_seed, texture_seed : int
    """

    width: float
    apex: float
    widest: float
    bases: tuple[float, float]
    roundness: float
    mediastinum: float
    heart_u: float
    heart_width: float
    heart_height: float
    spine: float
    rib_phase: float
    rib_spacing: float
    rib_slope: float
    rib_depth: float
    clavicle_v: float
    clavicle_slope: float
    breasts: tuple[Blob, ...]
    vessel_seed: int
    texture_seed: int


@dataclass(frozen=True)
class Pose:
    """How the person stood for one image.

    Attributes
    ----------
    shift_u, shift_v : float
    tilt : float
        Radians.
    zoom : float
    breath : float
        How much lower the diaphragm stands than usual.
    heart : float
        Size of the heart in proportion to usual: its phase, and the distance to the detector.
    shoulders : float
        How much higher the clavicles stand.
    """

    shift_u: float = 0.0
    shift_v: float = 0.0
    tilt: float = 0.0
    zoom: float = 1.0
    breath: float = 0.0
    heart: float = 1.0
    shoulders: float = 0.0


def draw_person(rng: np.random.Generator, *, female: bool, age: int) -> Person:
    """Draw the shape of a chest at random."""
    widest = rng.uniform(0.20, 0.38)
    right = rng.uniform(0.48, 0.66)
    return Person(
        width=rng.uniform(0.74, 0.88),
        apex=rng.uniform(-0.92, -0.80),
        widest=widest,
        bases=(right, right + rng.uniform(0.02, 0.09)),
        roundness=rng.uniform(2.0, 2.8),
        mediastinum=rng.uniform(0.12, 0.17) + 0.0004 * age,
        heart_u=rng.uniform(0.10, 0.17),
        heart_width=rng.uniform(0.25, 0.35),
        heart_height=rng.uniform(0.28, 0.36),
        spine=rng.uniform(0.075, 0.10),
        rib_phase=rng.uniform(0, 1),
        rib_spacing=rng.uniform(0.135, 0.165),
        rib_slope=rng.uniform(0.20, 0.38),
        rib_depth=rng.uniform(0.075, 0.115) * (1.1 - 0.004 * age),
        clavicle_v=rng.uniform(-0.78, -0.66),
        clavicle_slope=rng.uniform(0.10, 0.30),
        breasts=tuple(_harmless_shadows(rng, female)),
        vessel_seed=int(rng.integers(2**31)),
        texture_seed=int(rng.integers(2**31)),
    )


def draw_pose(rng: np.random.Generator) -> Pose:
    """Draw at random how a person stood."""
    return Pose(
        shift_u=rng.uniform(-0.06, 0.06),
        shift_v=rng.uniform(-0.07, 0.07),
        tilt=rng.uniform(-0.07, 0.07),
        zoom=rng.uniform(0.93, 1.07),
        breath=rng.uniform(-0.07, 0.05),
        heart=rng.uniform(0.92, 1.12),
        shoulders=rng.uniform(-0.05, 0.05),
    )


def draw_opacities(rng: np.random.Generator, person: Person) -> tuple[Blob, ...]:
    """Draw the shadows of a disease: one to three, of varied size, place and strength."""
    blobs = []
    for _ in range(rng.choice((1, 2, 3), p=(0.55, 0.3, 0.15))):
        side = int(rng.integers(2))
        v = rng.uniform(person.apex + 0.25, person.bases[side] - 0.12)
        outer = float(_cage(v, person))
        inner = person.mediastinum + 0.08
        u = (inner + (outer - inner) * rng.uniform(0.15, 0.8)) * (-1, 1)[side]
        size = rng.uniform(0.08, 0.18)
        blobs.append(
            Blob(
                u=u,
                v=v,
                radius_u=size * rng.uniform(0.8, 1.25),
                radius_v=size * rng.uniform(0.8, 1.25),
                depth=rng.uniform(0.22, 0.40) * (0.09 / size) ** 0.4,
                rough=rng.uniform(0.2, 0.6),
            )
        )
    return tuple(blobs)


def follow(blobs: tuple[Blob, ...], rng: np.random.Generator) -> tuple[Blob, ...]:
    """Change shadows a little, as disease does from one image to the next."""
    return tuple(
        replace(
            blob,
            u=blob.u + rng.normal(0, 0.015),
            v=blob.v + rng.normal(0, 0.015),
            depth=blob.depth * rng.uniform(0.85, 1.15),
        )
        for blob in blobs
    )


def attenuation(
    person: Person,
    pose: Pose,
    opacities: tuple[Blob, ...],
    size: tuple[int, int],
    rng: np.random.Generator,
) -> Plane:
    """Draw what the beam met.

    Parameters
    ----------
    size : tuple of int
        Height and width, in pixels.
    rng : Generator
        For what differs between two images of one person in one pose.

    Returns
    -------
    float32 array of shape (height, width)
        0 is air; about 1 is the thickest soft tissue.
    """
    u, v = _grid(size, pose)
    lungs, cage = _lungs(u, v, person, pose)
    heart = _heart(u, v, person, pose)
    body = _body(u, v, person)
    aerated = lungs * (1 - heart)
    patchy = texture(size, 18, np.random.default_rng(person.texture_seed))
    plane = body * (1 - LUNG_WINDOW * aerated)
    plane += body * (0.05 * heart + _spine(u, v, person))
    plane += _ribs(u, v, person) * cage * (0.35 + 0.65 * aerated)
    plane += _clavicles(u, v, person, pose) * body
    plane += 0.11 * _vessels(size, person, pose) * aerated
    plane += 0.016 * aerated * (patchy + texture(size, 34, rng))
    for blob in person.breasts:
        plane += _shadow(u, v, blob) * body
    for blob in opacities:
        dense = np.clip(1 + blob.rough * patchy, 0.3, None)
        plane += _shadow(u, v, blob) * dense * (0.15 + 0.85 * aerated)
    plane += 0.02 * texture(size, 4, rng) * body
    return plane


def texture(size: tuple[int, int], cells: int, rng: np.random.Generator) -> Plane:
    """Smooth noise of mean about 0 and standard deviation about 1, `cells` to an image width."""
    rows = max(2, round(cells * size[0] / size[1]))
    coarse = rng.standard_normal((rows, cells), dtype=np.float32)
    image = Image.fromarray(coarse).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.asarray(image) * 1.3


# -- parts --------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=8)
def _plain_grid(size: tuple[int, int]) -> tuple[Plane, Plane]:
    height, width = size
    u = (np.arange(width, dtype=np.float32) - (width - 1) / 2) / (width / 2)
    v = (np.arange(height, dtype=np.float32) - (height - 1) / 2) / (width / 2)
    return u[None, :], v[:, None]


def _grid(size: tuple[int, int], pose: Pose) -> tuple[Plane, Plane]:
    """Where each pixel lies in the person's own coordinates."""
    u, v = _plain_grid(size)
    u, v = u - pose.shift_u, v - pose.shift_v
    cosine = math.cos(pose.tilt) / pose.zoom
    sine = math.sin(pose.tilt) / pose.zoom
    return cosine * u + sine * v, cosine * v - sine * u


def _step(distance: Plane, softness: float) -> Plane:
    """1 where `distance` is well above 0, 0 where well below."""
    step: Plane = 0.5 + 0.5 * np.tanh(distance * (0.5 / softness))
    return step


def _bump(distance: Plane, width: float) -> Plane:
    bump: Plane = np.exp(np.square(distance) * (-0.5 / width**2))
    return bump


def _shadow(u: Plane, v: Plane, blob: Blob) -> Plane:
    squared = np.square((u - blob.u) * (1 / blob.radius_u))
    squared += np.square((v - blob.v) * (1 / blob.radius_v))
    shadow: Plane = blob.depth * np.exp(-0.5 * squared)
    return shadow


def _cage(v: Plane | float, person: Person) -> Plane:
    """Half width of the rib cage at a height."""
    above = (person.widest - v) / (person.widest - person.apex)
    below = (v - person.widest) / 1.6
    t = np.clip(np.maximum(above, below), 0, 1)
    return np.asarray(person.width * np.power(1 - np.power(t, person.roundness), 0.55), np.float32)


def _lungs(u: Plane, v: Plane, person: Person, pose: Pose) -> tuple[Plane, Plane]:
    """Where there is lung, and the inside of the rib cage down to the diaphragm's edge."""
    aside = np.abs(u)
    left = _step(u, 0.02)
    base = person.bases[0] * (1 - left) + person.bases[1] * left
    dome = np.square((aside - 0.36) * (1 / 0.42))
    floor = base + pose.breath + 0.13 * dome * (aside > 0.36)
    inner = person.mediastinum + 0.05 * _bump(v + 0.12, 0.11)
    inside = _step(_cage(v, person) - aside, 0.012)
    lungs = inside * _step(aside - inner, 0.014) * _step(floor - v, 0.010)
    cage = inside * _step(floor + 0.25 - v, 0.06)
    return lungs, cage


def _heart(u: Plane, v: Plane, person: Person, pose: Pose) -> Plane:
    centre_v = sum(person.bases) / 2 + pose.breath - 0.55 * person.heart_height
    du = (u - person.heart_u) * (1 / (person.heart_width * pose.heart))
    dv = (v - centre_v) * (1 / (person.heart_height * pose.heart))
    # Turned towards the left hip, as hearts lie.
    a, b = 0.87 * du + 0.5 * dv, 0.87 * dv - 0.5 * du
    return _step(1 - np.sqrt(np.square(a) * 0.8 + np.square(b) * 1.25), 0.035)


def _body(u: Plane, v: Plane, person: Person) -> Plane:
    """Thickness of soft tissue: a trunk with shoulders and a neck, thinner towards its sides."""
    shoulder = _step(v + 0.93 - 0.24 * np.abs(u), 0.045)
    outer = person.width + 0.13 + 0.25 * _step(-0.35 - v, 0.12)
    half = 0.30 + (outer - 0.30) * shoulder
    aside = np.abs(u) / half
    thick = np.sqrt(np.clip(1 - np.square(aside) * 0.75, 0, None))
    inside = _step(1 - aside, 0.016)
    return inside * (0.50 + 0.38 * thick + 0.10 * _step(v, 0.3))


def _spine(u: Plane, v: Plane, person: Person) -> Plane:
    column = _step(person.spine - np.abs(u), 0.016)
    discs = 0.5 + 0.5 * np.cos((v + person.rib_phase) * (2 * math.pi / 0.15))
    trachea = _bump(u, 0.035) * _step(-0.28 - v, 0.04)
    spine: Plane = 0.10 * column * (0.65 + 0.35 * discs) - 0.13 * trachea
    return spine


def _ribs(u: Plane, v: Plane, person: Person) -> Plane:
    """Posterior ribs fall from the spine outwards; anterior ones, fainter, fall inwards."""
    aside = np.abs(u) * (1 / person.width)
    behind = v + 0.10 * aside - person.rib_slope * aside * np.square(aside)
    front = v + 0.62 * aside - 0.28 * np.square(aside)
    posterior = _bars(behind, person.rib_spacing, person.rib_phase)
    anterior = _bars(front, person.rib_spacing * 1.18, person.rib_phase + 0.4)
    reach = _step(aside - 0.34, 0.05)
    return person.rib_depth * (posterior + 0.55 * anterior * reach)


def _bars(position: Plane, spacing: float, phase: float) -> Plane:
    """Bars at even spacing with bright edges, as hollow bones look."""
    turn = 2 * math.pi * (position * (1 / spacing) + phase)
    wave = np.cos(turn)
    bar = _step(wave - 0.05, 0.09)
    bars: Plane = bar * (1.25 - 0.55 * np.clip(wave, 0, None))
    return bars


def _clavicles(u: Plane, v: Plane, person: Person, pose: Pose) -> Plane:
    aside = np.abs(u)
    line = person.clavicle_v - pose.shoulders - person.clavicle_slope * (aside - 0.12)
    line = line + 0.045 * np.sin(7.0 * (aside - 0.1))
    distance = np.abs(v - line)
    reach = _step(aside - 0.10, 0.02) * _step(0.86 - aside, 0.05)
    bone = _step(0.036 - distance, 0.006)
    return 0.11 * bone * reach * (0.75 + 9 * distance)


def _vessels(size: tuple[int, int], person: Person, pose: Pose) -> Plane:
    """Branches from each hilum outwards, thinner with every fork."""
    height, width = size
    cosine, sine = math.cos(pose.tilt) * pose.zoom, math.sin(pose.tilt) * pose.zoom

    def pixel(u: float, v: float) -> tuple[float, float]:
        across = cosine * u - sine * v + pose.shift_u
        down = sine * u + cosine * v + pose.shift_v
        return across * width + (width - 0.5), down * width + (height - 0.5)

    # Twice as fine, so that halving smooths the lines.
    image = Image.new("L", (2 * width, 2 * height))
    draw = ImageDraw.Draw(image)
    for points, thickness, shade in _branches(person):
        draw.line(
            [pixel(u, v) for u, v in points],
            fill=shade,
            width=max(1, round(thickness * width)),
            joint="curve",
        )
    return np.asarray(image.reduce(2), np.float32) * (1 / 255)


@functools.lru_cache(maxsize=4)
def _branches(person: Person) -> tuple[tuple[list[tuple[float, float]], float, int], ...]:
    rng = np.random.default_rng(person.vessel_seed)
    branches = []
    for side in (-1, 1):
        start = (side * (person.mediastinum + 0.01), -0.10 + 0.03 * side)
        for angle in np.linspace(-1.3, 1.4, 7):
            heading = angle + rng.normal(0, 0.12)
            branches += list(_branch(start, heading, side, rng.uniform(0.3, 0.5), 0.040, 2, rng))
    return tuple(branches)


def _branch(
    start: tuple[float, float],
    heading: float,
    side: int,
    length: float,
    thickness: float,
    forks: int,
    rng: np.random.Generator,
) -> Iterator[tuple[list[tuple[float, float]], float, int]]:
    points = [start]
    for _ in range(4):
        heading += rng.normal(0, 0.10)
        u, v = points[-1]
        across, down = side * math.cos(heading) * length / 4, math.sin(heading) * length / 4
        points.append((u + across, v + down))
    yield points, thickness, 90 + 60 * forks
    if forks:
        for turn in (-0.45, 0.35):
            fork = points[int(rng.integers(2, 5))]
            yield from _branch(
                fork,
                heading + turn + rng.normal(0, 0.12),
                side,
                length * rng.uniform(0.55, 0.8),
                thickness * 0.62,
                forks - 1,
                rng,
            )


def _harmless_shadows(rng: np.random.Generator, female: bool) -> Iterator[Blob]:
    """Breasts, skin folds and small calcified spots: they say nothing of disease."""
    soft = rng.uniform(0.05, 0.14) if female else rng.uniform(0.0, 0.05)
    for side in (-1, 1):
        yield Blob(
            u=side * rng.uniform(0.38, 0.48),
            v=rng.uniform(0.18, 0.32),
            radius_u=rng.uniform(0.18, 0.26),
            radius_v=rng.uniform(0.14, 0.22),
            depth=soft * rng.uniform(0.85, 1.15),
        )
    for _ in range(rng.poisson(0.7)):
        spot = rng.uniform(0.010, 0.018)
        yield Blob(
            u=int(rng.choice((-1, 1))) * rng.uniform(0.2, 0.6),
            v=rng.uniform(-0.6, 0.4),
            radius_u=spot,
            radius_v=spot,
            depth=rng.uniform(0.12, 0.3),
        )
