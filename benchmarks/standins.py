"""Stand-ins for data sets nobody here has: made on the spot, so that rules are not fitted to a few.

Each is drawn from formulas (or is scikit-learn's digits) and has patients, whose images share a
look: brightness, stain, anatomy. What tells the classes apart differs from set to set, and so do
size, colour, number of images and of classes. The same seed gives the same images. A set comes with
a test split that is larger than a real one would be, since drawing it costs nothing; with
`--no-split` only the images to learn from are written.

    python -m benchmarks.standins OUT [NAME...] [--seed 0] [--no-split]
    python -m benchmarks.standins OUT --of DATA --images 200 [--imbalance 50]

The second form takes whole patients out of real data, never out of their test split.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits

from hilum.dataset import load_dataset
from hilum.files import write_csv
from hilum.phantom.chest import attenuation, draw_opacities, draw_person, draw_pose, follow, texture
from hilum.phantom.scanners import SCANNERS, expose
from hilum.splits import assign

Pixels = NDArray[np.uint8]
Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Case:
    """One image to draw.

    Attributes
    ----------
    own : Generator
        The patient's: it starts anew for each image, so what it gives first is shared by all.
    rng : Generator
        The image's.
    """

    label: int
    own: np.random.Generator
    rng: np.random.Generator
    is_test: bool


@dataclass(frozen=True)
class Standin:
    """A set that can be drawn.

    Attributes
    ----------
    n_train, n_test : int
        Images; about, since patients are whole.
    a_patient : int
        Images of a patient, on average.
    odds : tuple of int or None
        How often each class occurs; equally where None.
    is_mixed : bool
        A patient has images of all classes.
    form : str
        'png' or 'jpg', with a table; 'npz' as MedMNIST has it, with a validation split.
    """

    about: str
    classes: tuple[str, ...]
    draw: Callable[[Case], Pixels]
    n_train: int = 400
    n_test: int = 400
    a_patient: int = 2
    odds: tuple[int, ...] | None = None
    is_mixed: bool = False
    form: str = "png"


# -- what tells the classes apart -----------------------------------------------------------------


def grain(case: Case) -> Pixels:
    """Texture alone: patients' grain sizes overlap, so that no rule exceeds an AUROC of .98."""
    size = (1.5, 2.0)[case.label] * np.exp(case.own.normal(0, 0.1))
    field = gaussian_filter(case.rng.standard_normal((64, 64)), size)
    return _lit(field / field.std() * 0.12, case)


def size(case: Case) -> Pixels:
    """A disc that is small or large: what enlarges images by chance blurs the classes."""
    radius = (11, 15)[case.label] * np.exp(case.own.normal(0, 0.12))
    plane = _disc(96, case.rng.uniform(24, 72, 2), radius, 1.5)
    return _lit(0.25 * plane + 0.05 * texture((96, 96), 12, case.rng), case)


def count(case: Case) -> Pixels:
    """Spots: 2 to 4, 5 to 7 or 8 to 10."""
    n = int(2 + 3 * case.label + case.rng.integers(3))
    plane = np.zeros((96, 96))
    for centre in _apart(n, 96, 13, case.rng):
        plane = np.maximum(plane, _disc(96, centre, case.rng.uniform(3, 5.5), 1.0))
    return _lit(0.3 * plane + 0.05 * texture((96, 96), 12, case.rng), case)


SHAPES = ("cross", "disc", "ring", "square", "triangle")


def shapes(case: Case) -> Pixels:
    """One of five shapes, one to four times, in any colour: twenty classes."""
    shape, n = SHAPES[case.label // 4], case.label % 4 + 1
    ground = case.own.integers(0, 90, 3)
    image = Image.new("RGB", (128, 128), tuple(map(int, ground)))
    draw = ImageDraw.Draw(image)
    for x, y in _apart(n, 128, 38, case.rng):
        colour = tuple(map(int, case.rng.integers(130, 256, 3)))
        _draw_shape(draw, shape, x, y, case.rng.uniform(12, 18), case.rng.uniform(0, 90), colour)
    noisy = np.asarray(image.reduce(2), float) + case.rng.normal(0, 12, (64, 64, 3))
    return _bytes(noisy)


def faint(case: Case, side: int = 128) -> Pixels:
    """A faint shadow anywhere, or none."""
    plane = 0.06 * texture((side, side), 5, case.own) + 0.05 * texture((side, side), 24, case.rng)
    if case.label:
        centre, radius = case.rng.uniform(0.12, 0.88, 2) * side, case.rng.uniform(0.04, 0.07) * side
        plane = plane + case.rng.uniform(0.14, 0.3) * _bump(side, centre, radius)
    return _lit(plane + 0.05 * case.rng.standard_normal((side, side)), case)


def small_faint(case: Case) -> Pixels:
    return faint(case, 64)


def tissue(case: Case) -> Pixels:
    """Stained tissue: nuclei become larger, denser and less alike; stains differ by patient."""
    side, own, rng = 96, case.own, case.rng
    blue = np.array([0.65, 0.70, 0.29]) * np.exp(own.normal(0, 0.12, 3))
    pink = np.array([0.07, 0.99, 0.11]) * np.exp(own.normal(0, 0.12, 3))
    strength, thickness = own.uniform(0.7, 1.2), own.uniform(0.2, 0.4)
    nuclei = np.zeros((side, side))
    for _ in range(rng.poisson((15, 17, 20)[case.label])):
        radius = (4.3, 4.6, 5.0)[case.label] * np.exp(rng.normal(0, (0.1, 0.15, 0.2)[case.label]))
        nuclei = np.maximum(nuclei, _disc(side, rng.uniform(0, side, 2), radius, 0.8))
    patchy = np.clip(1 + 0.35 * texture((side, side), 20, rng), 0.2, None)
    depth = (nuclei * strength * patchy)[..., None] * blue + (thickness * patchy)[..., None] * pink
    return _bytes(245 * np.exp(-depth) + rng.normal(0, 4, depth.shape))


def blood_cell(case: Case) -> Pixels:
    """A cell with one to four lobes, with granules or without, at 28 pixels: eight classes."""
    lobes, has_granules = case.label % 4 + 1, case.label >= 4
    own, rng, side = case.own, case.rng, 56
    image = np.ones((side, side, 3)) * (own.uniform(215, 240, 3))
    middle, radius = rng.uniform(25, 31, 2), rng.uniform(17, 21)
    cell = _disc(side, middle, radius, 1.5)[..., None]
    image = image * (1 - cell) + cell * own.uniform((190, 165, 185), (225, 200, 215))
    if has_granules:
        dots = gaussian_filter((rng.random((side, side)) < 0.06) * 1.0, 0.9) * 4
        image -= np.clip(dots, 0, 1)[..., None] * cell * np.array([20, 70, 30])
    turn, nucleus = rng.uniform(0, 2 * np.pi), np.zeros((side, side))
    for lobe in range(lobes):
        angle = turn + lobe * 1.5
        away = 0 if lobes == 1 else radius * 0.45
        centre = middle + away * np.array([np.sin(angle), np.cos(angle)])
        nucleus = np.maximum(nucleus, _disc(side, centre, radius * (0.5 - 0.06 * lobes), 1.0))
    dark = own.uniform((80, 40, 120), (120, 80, 160))
    image = image * (1 - nucleus[..., None]) + nucleus[..., None] * dark
    small = image.reshape(28, 2, 28, 2, 3).mean((1, 3)) + rng.normal(0, 4, (28, 28, 3))
    return _bytes(small)


def retina(case: Case) -> Pixels:
    """A fundus with ever more dark spots: five grades that overlap, the mildest the commonest."""
    side, own, rng = 96, case.own, case.rng
    n = rng.poisson((0.4, 1.5, 4.0, 8.0, 14.0)[case.label] * np.exp(own.normal(0, 0.15)))
    spots = np.zeros((side, side))
    for _ in range(n):
        away, angle = 36 * np.sqrt(rng.uniform(0, 1)), rng.uniform(0, 2 * np.pi)
        centre = 48 + away * np.array([np.sin(angle), np.cos(angle)])
        spots = np.maximum(spots, _disc(side, centre, rng.uniform(1.2, 2.6), 0.6))
    fundus = _disc(side, np.array([48.0, 48.0]), 44, 1.0)
    colour = own.uniform((150, 60, 20), (220, 110, 60))
    patchy = 1 + 0.12 * texture((side, side), 16, rng)
    image = (fundus * patchy * (1 - 0.5 * spots))[..., None] * colour
    return _bytes(image + rng.normal(0, 5, image.shape))


def mole(case: Case) -> Pixels:
    """A brown spot with an even or a ragged edge; wider than high, and lit by lamps that differ."""
    height, width, own, rng = 180, 240, case.own, case.rng
    y, x = np.mgrid[:height, :width]
    centre = np.array([height, width]) * rng.uniform(0.4, 0.6, 2)
    angle = np.arctan2(y - centre[0], x - centre[1])
    edge = np.zeros(angle.shape)
    for wave in range(2, 9):
        edge += rng.normal(0, (0.02, 0.035)[case.label]) * np.cos(wave * angle + rng.uniform(0, 7))
    radius = rng.uniform(38, 60) * (1 + edge)
    inside = 1 / (1 + np.exp((np.hypot(y - centre[0], x - centre[1]) - radius) / 3))
    skin, spot = (
        own.uniform((185, 140, 115), (235, 195, 170)),
        own.uniform((70, 40, 25), (130, 90, 70)),
    )
    patchy = 1 + 0.12 * texture((height, width), 14, rng)
    image = skin * (1 - inside[..., None]) + spot * (inside * patchy)[..., None]
    light = 1 + own.uniform(-0.25, 0.25) * (x / width - 0.5) + own.uniform(-0.2, 0.2) * (y / height)
    noisy = image * light[..., None] + rng.normal(0, 5, image.shape)
    return _bytes(noisy)


def tiny_sign(case: Case) -> Pixels:
    """1,024 pixels with harmless spots everywhere; the sign is that one of them is a ring."""
    side, rng = 1024, case.rng
    plane = 0.05 * texture((side, side), 9, case.own) + 0.03 * texture((side, side), 60, rng)
    image = Image.new("L", (side, side))
    draw = ImageDraw.Draw(image)
    places = _apart(9, side, 90, rng)
    for number, (x, y) in enumerate(places):
        r = rng.uniform(14, 20)
        box = (x - r, y - r, x + r, y + r)
        if case.label and not number:
            draw.ellipse(box, outline=255, width=6)
        else:
            draw.ellipse(box, fill=160)
    spots = np.asarray(image.filter(ImageFilter.GaussianBlur(1.5)), float) / 255
    return _lit(plane + 0.22 * spots + 0.02 * rng.standard_normal((side, side)), case)


def chest(case: Case, scanner: int | None = None, side: float = 0.5) -> Pixels:
    """A chest phantom with a disease or without, from one of two scanners."""
    own, rng = case.own, case.rng
    used = SCANNERS[int(own.integers(2)) if scanner is None else scanner]
    person = draw_person(own, female=bool(own.integers(2)), age=int(own.integers(18, 93)))
    shadows = follow(draw_opacities(own, person), rng) if case.label else ()
    shape = (round(used.size[0] * side), round(used.size[1] * side))
    return expose(attenuation(person, draw_pose(rng), shadows, shape, rng), used, rng)


def shifted_chest(case: Case) -> Pixels:
    """The same, learnt on one scanner and tested on the other."""
    return chest(case, scanner=int(case.is_test))


def mirrored_chest(case: Case) -> Pixels:
    """The heart on the usual side or on the other: what flips images by chance learns nothing."""
    plain = chest(replace(case, label=0))
    return plain[:, ::-1] if case.label else plain


STANDINS: dict[str, Standin] = {
    "grain": Standin("texture of two grain sizes", ("fine", "coarse"), grain),
    "size": Standin("a disc, small or large", ("small", "large"), size),
    "count": Standin("spots: few, some, many", ("few", "some", "many"), count, 450, a_patient=3),
    "shapes": Standin(
        "five shapes, one to four times, colour",
        tuple(f"{n}-{shape}" for shape in SHAPES for n in range(1, 5)),
        *(shapes, 1200, 600, 4),
        is_mixed=True,
    ),
    "faint": Standin("a faint shadow anywhere", ("clear", "shadow"), faint, 600),
    "rare": Standin(
        "the same at 64 pixels, one in 51", ("clear", "shadow"), small_faint, 2040, 2040, 1, (50, 1)
    ),
    "tissue": Standin(
        "stained tissue, colour", ("normal", "atypical", "tumour"), tissue, 600, 450, 10, None, True
    ),
    "blood": Standin(
        "blood cells at 28 pixels, colour, NPZ",
        tuple(str(n) for n in range(8)),
        *(blood_cell, 2000, 800, 20, None, True, "npz"),
    ),
    "grades": Standin(
        "a fundus with ever more spots, colour",
        *(tuple("01234"), retina, 1080, 400, 1, (45, 12, 19, 18, 6)),
    ),
    "mole": Standin(
        "skin, wider than high, colour", ("even", "ragged"), mole, 300, 400, 1, form="jpg"
    ),
    "tiny": Standin(
        "1,024 pixels and a tiny sign", ("none", "ring"), tiny_sign, 160, 120, form="jpg"
    ),
    "chest-50": Standin("chest phantoms", ("clear", "opacity"), chest, 50),
    "chest-200": Standin("chest phantoms", ("clear", "opacity"), chest, 200),
    "chest-1000": Standin("chest phantoms", ("clear", "opacity"), chest, 1000),
    "shift": Standin(
        "learnt on one scanner, tested on another", ("clear", "opacity"), shifted_chest, 500
    ),
    "sides": Standin(
        "chest phantoms, the heart left or right", ("usual", "mirrored"), mirrored_chest, 300
    ),
}
"""All but `digits`, which scikit-learn brings."""

NAMES = (*STANDINS, "digits")


# -- writing them ---------------------------------------------------------------------------------

PARTS = ("train", "val", "test")


def make_standin(name: str, out: Path, *, seed: int = 0, split: bool = True) -> Path:
    """Write a stand-in into a new folder and return what `hilum train` takes."""
    out.mkdir(parents=True)
    if name == "digits":
        return _write_digits(out, split)
    kind = STANDINS[name]
    wanted = {"train": kind.n_train}
    if split:
        wanted |= {"val": kind.n_train // 5} if kind.form == "npz" else {}
        wanted |= {"test": kind.n_test}
    images, rows = [], []
    for part, n_images in wanted.items():
        for path, patient, case in _cases(kind, n_images, part, seed):
            images.append(kind.draw(case))
            rows.append((path, kind.classes[case.label], patient, part))
    table = pd.DataFrame(rows, columns=["path", "label", "patient", "split"])
    if kind.form == "npz":
        return _write_npz(out, images, table, kind.classes)
    return _write_table(out, images, table if split else table.drop(columns="split"))


def _cases(kind: Standin, n_images: int, part: str, seed: int) -> Iterator[tuple[str, str, Case]]:
    """Share images out to patients, and classes by their odds."""
    place = PARTS.index(part)
    chance = np.random.default_rng([seed, place])
    classes = np.repeat(np.arange(len(kind.classes)), kind.odds or 1)
    n_patients = max(len(kind.classes), round(n_images / kind.a_patient))
    labels = chance.permutation(np.resize(classes, n_patients))
    for number in range(n_patients):
        for image in range(1 + int(chance.integers(2 * kind.a_patient - 1))):
            label = chance.choice(classes) if kind.is_mixed else labels[number]
            patient = f"P{place}{number:04d}"
            case = Case(
                int(label),
                own=np.random.default_rng([seed, place, number]),
                rng=np.random.default_rng([seed, place, number, image + 1]),
                is_test=part == "test",
            )
            yield f"images/{patient}_{image + 1}.{kind.form}", patient, case


def _write_table(out: Path, images: list[Pixels], table: pd.DataFrame) -> Path:
    (out / "images").mkdir()
    for pixels, path in zip(images, table["path"], strict=True):
        Image.fromarray(pixels).save(out / path, quality=92)  # of JPEG alone
    write_csv(out / "table.csv", table)
    return out / "table.csv"


def _write_npz(
    out: Path, images: list[Pixels], table: pd.DataFrame, classes: Sequence[str]
) -> Path:
    arrays: dict[str, NDArray[np.uint8]] = {}
    labels = table["label"].map(list(classes).index).to_numpy(np.uint8)
    for part in table["split"].unique():
        mine = np.flatnonzero(table["split"] == part)
        arrays[f"{part}_images"] = np.stack(images)[mine]
        arrays[f"{part}_labels"] = labels[mine, None]
    np.savez_compressed(out / "data.npz", allow_pickle=False, **arrays)
    return out / "data.npz"


def _write_digits(out: Path, split: bool) -> Path:
    """Write scikit-learn's digits, 8 pixels a side; the last are for testing.

    Who wrote them is not known. They are in the order of their writers, so few are on both sides.
    """
    digits = load_digits()
    n_train = round(0.7 * len(digits.target))
    table = pd.DataFrame(
        {
            "path": [f"images/{i:04d}.png" for i in range(len(digits.target))],
            "label": digits.target.astype(str),
            "split": np.where(np.arange(len(digits.target)) < n_train, "train", "test"),
        }
    )
    images = list((digits.images * 15.9).astype(np.uint8))
    if split:
        return _write_table(out, images, table)
    return _write_table(out, images[:n_train], table[:n_train].drop(columns="split"))


def make_subset(
    data: Path,
    out: Path,
    n_images: int,
    *,
    imbalance: int | None = None,
    patient_pattern: str | None = None,
    seed: int = 0,
) -> Path:
    """Write a table of some images of real data: whole patients, none of their test split.

    Parameters
    ----------
    imbalance : int, optional
        How many images of the commonest class come on one of any other.
    """
    dataset = load_dataset(data, patient_pattern=patient_pattern)
    table = dataset.table[dataset.table["given_split"] != "test"].reset_index(drop=True)
    counts = table["label"].value_counts()
    kept = [
        _some(rows, counts.max() // imbalance, seed)
        if imbalance and label != counts.index[0]
        else rows
        for label, rows in table.groupby("label")
    ]
    table = _some(pd.concat(kept), n_images, seed)
    out.mkdir(parents=True)
    if dataset.kind == "npz":
        images = [dataset.picture(path).pixels[0].squeeze() for path in table["path"]]
        table["path"] = [f"images/{i:05d}.png" for i in range(len(table))]
        return _write_table(out, images, table[["path", "label"]])
    base = data if data.is_dir() else data.parent
    table["path"] = [str((base / path).resolve()) for path in table["path"]]
    write_csv(out / "table.csv", table[["path", "label", "patient"]])
    return out / "table.csv"


def _some(rows: pd.DataFrame, n_images: int, seed: int) -> pd.DataFrame:
    """Take whole patients, every class in its share, until about so many images are taken."""
    share = n_images / len(rows)
    if share >= 1:
        return rows
    groups = rows["patient"].where(rows["patient"] != "", rows["path"])
    parts = assign(
        list(rows["label"]), list(groups), {"taken": share, "left": 1 - share}, seed=seed
    )
    taken: pd.DataFrame = rows[parts == "taken"].reset_index(drop=True)
    return taken


# -- drawing --------------------------------------------------------------------------------------


def _lit(plane: Floats, case: Case) -> Pixels:
    """Show a plane about 0 as bright, steep and evenly lit as the patient's images are."""
    own = np.random.default_rng(case.own.integers(2**32))
    middle, steepness = own.uniform(0.3, 0.55), own.uniform(0.7, 1.3)
    u, v = np.meshgrid(np.linspace(-1, 1, plane.shape[1]), np.linspace(-1, 1, plane.shape[0]))
    light = own.uniform(-0.08, 0.08) * u + own.uniform(-0.08, 0.08) * v
    grey = middle + light + steepness * plane + 0.015 * case.rng.standard_normal(plane.shape)
    return _bytes(255 * grey)


def _bytes(grey: Floats) -> Pixels:
    return np.clip(grey, 0, 255).astype(np.uint8)


def _disc(side: int, centre: Floats, radius: float, softness: float) -> Floats:
    y, x = np.ogrid[:side, :side]
    distance = np.hypot(y - centre[0], x - centre[1])
    return np.asarray(1 / (1 + np.exp(np.clip((distance - radius) / softness, -40, 40))))


def _bump(side: int, centre: Floats, radius: float) -> Floats:
    y, x = np.ogrid[:side, :side]
    return np.asarray(np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * radius**2)))


def _apart(n: int, side: int, distance: float, rng: np.random.Generator) -> list[Floats]:
    """Places that are at least so far from each other, and half as far from the edge."""
    while True:
        places: list[Floats] = []
        for place in rng.uniform(distance / 2, side - distance / 2, (20 * n, 2)):
            if all(np.hypot(*(place - other)) >= distance for other in places):
                places.append(place)
            if len(places) == n:
                return places


def _draw_shape(
    draw: ImageDraw.ImageDraw, shape: str, x: float, y: float, r: float, turn: float, colour: Any
) -> None:
    if shape == "disc":
        draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    elif shape == "ring":
        draw.ellipse((x - r, y - r, x + r, y + r), outline=colour, width=7)
    elif shape == "cross":
        for angle in np.radians((turn, turn + 90)):
            dx, dy = r * np.cos(angle), r * np.sin(angle)
            draw.line((x - dx, y - dy, x + dx, y + dy), fill=colour, width=8)
    else:
        draw.regular_polygon((x, y, r), 3 if shape == "triangle" else 4, turn, fill=colour)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(NAMES)}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-split", action="store_true")
    parser.add_argument("--of", type=Path, help="real data to take a part of")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--imbalance", type=int)
    parser.add_argument("--patient-pattern")
    given = parser.parse_args()
    if given.of:
        print(
            make_subset(
                given.of,
                given.out,
                given.images,
                imbalance=given.imbalance,
                patient_pattern=given.patient_pattern,
                seed=given.seed,
            )
        )
        return
    for name in given.names or NAMES:
        print(make_standin(name, given.out / name, seed=given.seed, split=not given.no_split))


if __name__ == "__main__":
    main()
