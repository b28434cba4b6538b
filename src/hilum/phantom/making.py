"""The folder that holds a phantom set."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hilum.errors import DataError, HilumError, SettingError, did_you_mean
from hilum.phantom.chest import attenuation, draw_opacities, draw_person, draw_pose
from hilum.phantom.people import Sample, draw_profiles, draw_samples
from hilum.phantom.planting import n_copies, plant
from hilum.phantom.scanners import SCANNERS, expose
from hilum.phantom.truth import FLAWS, Truth

LEAST_PATIENTS = 40
COLUMNS = ("path", "label", "patient", "split", "scanner", "view", "sex", "age")


def make_phantoms(
    out: Path,
    *,
    n_patients: int = 150,
    seed: int = 0,
    flaws: Collection[str] = FLAWS,
    scale: float = 1.0,
) -> Truth:
    """Write a folder of chest phantoms: `table.csv`, `images/` and, about the flaws, `truth.csv`.

    The table names path, label ('clear' or 'opacity'), patient, split, scanner, view, sex and age.
    A patient has 1 to 4 images, all of one class and from one scanner; neither scanner nor any
    other column tells the class. Each flaw is planted on patients of its own.

    Parameters
    ----------
    out : Path
        A folder that does not exist yet, or is empty.
    n_patients : int
        At least 40; copies planted under further patients come on top.
    seed : int
        The same seed gives the same people, poses, splits and flaws everywhere; grey values can
        differ by one between machines that compute exponentials differently.
    flaws : collection of str
        Kinds out of `FLAWS` to plant; none for a clean set.
    scale : float
        Size of the images in proportion to the scanners' own (256×256 and 288×240).

    Returns
    -------
    Truth

    Raises
    ------
    SettingError
        If a flaw is unknown or there are too few patients.
    DataError
        If `out` holds something already.

    Examples
    --------
    >>> truth = make_phantoms(Path("phantoms"), n_patients=60)  # doctest: +SKIP
    >>> [flaw.paths for flaw in truth.of_kind("unreadable")]  # doctest: +SKIP
    [('images/P017_1.png',)]
    """
    _check(n_patients, flaws, scale)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} exists and is not empty. Name a new folder, or remove this one.")
    # Streams of their own, so that what is planted changes neither people nor splits.
    order = np.random.default_rng([seed, 3]).permutation(n_patients + n_copies(flaws, n_patients))
    numbers = [f"P{i + 1:03d}" for i in order]
    profiles = draw_profiles(numbers[:n_patients], np.random.default_rng([seed, 0]))
    samples = [sample for person in profiles for sample in draw_samples(person, seed, scale)]
    planted = plant(samples, numbers[n_patients:], flaws, np.random.default_rng([seed, 2]))
    samples.sort(key=lambda sample: sample.path)
    n_named = len({sample.patient for sample in samples})
    truth = Truth(out / "table.csv", len(samples), n_named, planted)
    _write(out, samples, truth)
    return truth


def draw_chest(
    rng: np.random.Generator, *, size: tuple[int, int] = (128, 128), opacity: bool = False
) -> NDArray[np.uint8]:
    """Draw one chest phantom, for tests that need an image with something in it.

    Parameters
    ----------
    size : tuple of int
        Height and width, in pixels.
    opacity : bool
        Whether the lungs show a disease.

    Returns
    -------
    uint8 array of shape `size`
    """
    person = draw_person(rng, female=bool(rng.integers(2)), age=int(rng.integers(20, 90)))
    shadows = draw_opacities(rng, person) if opacity else ()
    return expose(attenuation(person, draw_pose(rng), shadows, size, rng), SCANNERS[0], rng)


def _check(n_patients: int, flaws: Collection[str], scale: float) -> None:
    for kind in flaws:
        if kind not in FLAWS:
            raise SettingError(
                f"There is no flaw '{kind}' to plant.{did_you_mean(kind, FLAWS)} "
                f"The flaws are: {', '.join(FLAWS)}."
            )
    if n_patients < LEAST_PATIENTS:
        raise SettingError(
            f"n_patients is {n_patients}; a phantom set needs at least {LEAST_PATIENTS}, so that "
            "every split has both classes."
        )
    if not 0.1 <= scale <= 8:
        raise SettingError(f"scale is {scale}; it must lie between 0.1 and 8.")


def _write(out: Path, samples: list[Sample], truth: Truth) -> None:
    """Write the folder beside its place, then move it there."""
    partial = out.with_name(f".{out.name}.{secrets.token_hex(4)}.tmp")
    try:
        (partial / "images").mkdir(parents=True)
        for sample in samples:
            (partial / sample.path).write_bytes(sample.content)
        rows = [[getattr(sample, name) for name in COLUMNS] for sample in samples]
        pd.DataFrame(rows, columns=[*COLUMNS]).to_csv(partial / "table.csv", index=False)
        Truth(partial / "table.csv", truth.n_images, truth.n_patients, truth.flaws).write()
        if out.exists():
            out.rmdir()
        partial.replace(out)
    except OSError as error:
        raise HilumError(
            f"{out} cannot be written: {error.strerror or error}. "
            "Free some space or choose another folder."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
