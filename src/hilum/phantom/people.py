"""Who is in the set, and the images of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hilum.phantom.chest import attenuation, draw_opacities, draw_person, draw_pose, follow
from hilum.phantom.scanners import SCANNERS, Scanner, encode, expose

CLASSES = ("clear", "opacity")
IMAGES_PER_PATIENT = (0.30, 0.30, 0.22, 0.18)  # chances of 1, 2, 3, 4
PREVALENCE = 0.45
SPLIT_SHARES = (("train", 0.70), ("val", 0.15), ("test", 0.15))


@dataclass
class Sample:
    """One image on its way into the folder.

    Attributes
    ----------
    pixels : uint8 array of shape (height, width)
    data : bytes or None
        The file's content where it is not simply `pixels`, encoded.
    strength : float
        How conspicuous the opacity is; 0 where there is none.
    marked : bool
        A corner marker was added.
    """

    path: str
    label: str
    patient: str
    split: str
    scanner: str
    view: str
    sex: str
    age: int
    pixels: NDArray[np.uint8] = field(repr=False)
    data: bytes | None = field(default=None, repr=False)
    strength: float = 0.0
    marked: bool = False

    @property
    def content(self) -> bytes:
        return self.data if self.data is not None else encode(self.pixels, Path(self.path).suffix)


@dataclass(frozen=True)
class Profile:
    """What is settled of a person before anything is drawn."""

    index: int
    name: str
    label: str
    scanner: Scanner
    split: str


def draw_profiles(names: list[str], rng: np.random.Generator) -> list[Profile]:
    """Settle class, scanner and split so that none of the three tells of another."""
    n_ill = round(PREVALENCE * len(names))
    profiles = []
    for label, members in ((1, range(n_ill)), (0, range(n_ill, len(names)))):
        # Scanners alternate along each class, and so they do within every split of it.
        mixed = np.empty(len(members), int)
        mixed[::2], mixed[1::2] = rng.permutation(members[::2]), rng.permutation(members[1::2])
        places = (np.arange(len(members)) + rng.uniform()) / len(members)
        for index, place in zip(mixed.tolist(), places, strict=True):
            scanner = SCANNERS[index % 2]
            profiles.append(Profile(index, names[index], CLASSES[label], scanner, _split(place)))
    return sorted(profiles, key=lambda profile: profile.index)


def _split(place: float) -> str:
    """Cut the circle of places by the splits' shares."""
    place %= 1
    for split, share in SPLIT_SHARES:
        if place < share:
            return split
        place -= share
    return SPLIT_SHARES[-1][0]


def draw_samples(profile: Profile, seed: int, scale: float) -> Iterator[Sample]:
    """Draw all images of one person."""
    rng = np.random.default_rng([seed, 1, profile.index])
    sex, age = str(rng.choice(("F", "M"))), int(rng.integers(18, 93))
    view = str(rng.choice(("PA", "AP"), p=(0.7, 0.3)))
    person = draw_person(rng, female=sex == "F", age=age)
    shadows = draw_opacities(rng, person) if profile.label == "opacity" else ()
    scanner = profile.scanner
    size = (round(scanner.size[0] * scale), round(scanner.size[1] * scale))
    for number in range(1, 2 + int(rng.choice(4, p=IMAGES_PER_PATIENT))):
        shown = follow(shadows, rng)
        plane = attenuation(person, draw_pose(rng), shown, size, rng)
        yield Sample(
            path=f"images/{profile.name}_{number}{scanner.suffix}",
            label=profile.label,
            patient=profile.name,
            split=profile.split,
            scanner=scanner.name,
            view=view,
            sex=sex,
            age=age,
            pixels=expose(plane, scanner, rng),
            strength=max((b.depth * b.radius_u * b.radius_v for b in shown), default=0.0),
        )
