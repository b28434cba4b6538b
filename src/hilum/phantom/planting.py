"""Flaws, each planted on patients that carry no other."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hilum.phantom.people import CLASSES, Sample
from hilum.phantom.scanners import SCANNERS, decode, encode, mark
from hilum.phantom.truth import FLAWS, Flaw

Pixels = NDArray[np.uint8]

SHARES = {
    "unreadable": 0.02,
    "exact_duplicates": 0.034,
    "near_duplicates": 0.08,
    "patients_across_splits": 0.02,
    "label_errors": 0.034,
    "contradictory_labels": 0.014,
    "blank": 0.014,
}
"""Files, pairs or patients with a flaw, for each patient of the set."""

MARKED_SHARE = 0.9
MARKED_SCANNER = SCANNERS[1].name
NOT_AN_IMAGE = b"<!DOCTYPE html>\n<title>Session expired</title>\n<p>Please log in again.</p>\n"


def count(kind: str, n_patients: int) -> int:
    """How many of a flaw a set of this size gets: files, pairs or patients."""
    return max(1, round(SHARES[kind] * n_patients))


def n_copies(flaws: Collection[str], n_patients: int) -> int:
    """Count the patients under whose names copies are planted."""
    kinds = {"exact_duplicates", "near_duplicates"}.intersection(flaws)
    return sum(count(kind, n_patients) for kind in kinds)


def plant(
    samples: list[Sample], names: list[str], flaws: Collection[str], rng: np.random.Generator
) -> tuple[Flaw, ...]:
    """Plant flaws into `samples`, which grows by the copies.

    Parameters
    ----------
    samples : list of Sample
    names : list of str
        Of the patients under whom copies go, as many as `n_copies` says.
    """
    field = Field.of(samples, names, rng)
    # Always in this order: the marker belongs to the acquisition, before any copy is made.
    order = ("shortcut", "label_errors", "patients_across_splits", "exact_duplicates")
    for kind in (*order, "near_duplicates", "unreadable", "contradictory_labels", "blank"):
        if kind in flaws:
            PLANTERS[kind](field)
    return tuple(sorted(field.flaws, key=lambda flaw: (FLAWS.index(flaw.kind), flaw.paths)))


@dataclass
class Field:
    """Samples by patient, and which patients are still without a flaw."""

    samples: list[Sample]
    patients: dict[str, list[Sample]]
    free: list[str]
    names: list[str]
    rng: np.random.Generator
    flaws: list[Flaw]

    @classmethod
    def of(cls, samples: list[Sample], names: list[str], rng: np.random.Generator) -> Field:
        patients: dict[str, list[Sample]] = {}
        for sample in samples:
            patients.setdefault(sample.patient, []).append(sample)
        free = [str(name) for name in rng.permutation(sorted(patients))]
        return cls(samples, patients, free, list(names), rng, [])

    @property
    def n_patients(self) -> int:
        return len(self.patients)

    def take(
        self, n: int, wanted: Callable[[list[Sample]], bool], rank: Callable[[str], float]
    ) -> list[list[Sample]]:
        """Take up to `n` free patients that fit, those of least rank first."""
        fitting = sorted((p for p in self.free if wanted(self.patients[p])), key=rank)[:n]
        self.free = [patient for patient in self.free if patient not in fitting]
        return [self.patients[patient] for patient in fitting]

    def take_any(self, n: int, wanted: Callable[[list[Sample]], bool]) -> list[list[Sample]]:
        return self.take(n, wanted, rank=lambda _: 0.0)

    def add(self, kind: str, paths: list[str], detail: str) -> None:
        self.flaws.append(Flaw(kind, tuple(paths), detail))


def _unmarked(samples: list[Sample]) -> bool:
    return not any(sample.marked for sample in samples)


def _plant_shortcut(field: Field) -> None:
    """Mark most images of one class from one scanner."""
    for sample in field.samples:
        if (sample.label, sample.scanner) == (CLASSES[1], MARKED_SCANNER) and (
            field.rng.uniform() < MARKED_SHARE
        ):
            sample.pixels, sample.marked = mark(sample.pixels), True
    paths = sorted(sample.path for sample in field.samples if sample.marked)
    field.add(
        "shortcut",
        paths,
        f"the letter L in the upper right corner of {len(paths)} images of class "
        f"'{CLASSES[1]}' from scanner {MARKED_SCANNER}",
    )


def _plant_label_errors(field: Field) -> None:
    """Give all images of a patient the other class; conspicuous opacities before faint ones."""

    def strength(patient: str) -> float:
        return min(sample.strength for sample in field.patients[patient])

    n = count("label_errors", field.n_patients)
    n_missed = (n + 1) // 2
    ill = field.take(n_missed, lambda s: s[0].label == CLASSES[1] and _unmarked(s),
                     rank=lambda patient: -strength(patient))  # fmt: skip
    well = field.take_any(n - n_missed, lambda s: s[0].label == CLASSES[0])
    for group in (*ill, *well):
        true = group[0].label
        wrong = CLASSES[1 - CLASSES.index(true)]
        for sample in group:
            sample.label = wrong
        field.add("label_errors", [s.path for s in group], f"'{true}' is labelled '{wrong}'")


def _plant_patients_across_splits(field: Field) -> None:
    """Move one of a patient's images to another split."""
    n = count("patients_across_splits", field.n_patients)
    for group in field.take_any(n, lambda samples: len(samples) > 1):
        home = group[0].split
        moved = group[int(field.rng.integers(len(group)))]
        moved.split = "test" if home == "train" else "train"
        field.add(
            "patients_across_splits",
            [sample.path for sample in group],
            f"patient {moved.patient}: {Path(moved.path).name} is in {moved.split}, "
            f"the rest in {home}",
        )


def _plant_exact_duplicates(field: Field) -> None:
    """Copy a file under another patient, every other one into another split."""
    n = count("exact_duplicates", field.n_patients)
    for i, group in enumerate(field.take_any(n, _unmarked)):
        original = group[0]
        copy = _copy(field, original, original.content, Path(original.path).suffix, away=i % 2 == 0)
        field.add(
            "exact_duplicates",
            [original.path, copy.path],
            f"the same file as patient {original.patient} in {original.split} and patient "
            f"{copy.patient} in {copy.split}",
        )


def _plant_near_duplicates(field: Field) -> None:
    """Change a copy as software does that makes many images of one."""
    n = count("near_duplicates", field.n_patients)
    for i, group in enumerate(field.take_any(n, _unmarked)):
        original = group[0]
        how, change = tuple(CHANGES.items())[i % len(CHANGES)]
        suffix = Path(original.path).suffix
        data = encode(change(decode(original.content), field.rng), suffix)
        away = (i + i // len(CHANGES)) % 2 == 0  # each change within a split and across, in turn
        copy = _copy(field, original, data, suffix, away=away)
        field.add(
            "near_duplicates",
            [original.path, copy.path],
            f"{how} copy of patient {original.patient} in {original.split} as patient "
            f"{copy.patient} in {copy.split}",
        )


def _copy(field: Field, original: Sample, data: bytes, suffix: str, *, away: bool) -> Sample:
    name = field.names.pop()
    split = original.split
    if away:
        split = "test" if split == "train" else "train"
    copy = replace(original, path=f"images/{name}_1{suffix}", patient=name, split=split, data=data)
    field.samples.append(copy)
    return copy


def _plant_unreadable(field: Field) -> None:
    """Break files in the ways that transfers break them."""
    n = count("unreadable", field.n_patients)
    for i, group in enumerate(field.take_any(n, lambda samples: len(samples) > 1)):
        sample = group[-1]
        whole = sample.content
        sample.data, detail = (
            (whole[: int(0.55 * len(whole))], "cut off after 55 % of its bytes"),
            (NOT_AN_IMAGE, "a web page under the name of an image"),
            (b"", "an empty file"),
        )[i % 3]
        field.add("unreadable", [sample.path], detail)


def _plant_contradictory_labels(field: Field) -> None:
    """Give one image of a patient the other class."""
    n = count("contradictory_labels", field.n_patients)
    for group in field.take_any(n, lambda samples: len(samples) > 1 and _unmarked(samples)):
        sample = group[-1]
        true, sample.label = sample.label, CLASSES[1 - CLASSES.index(sample.label)]
        field.add(
            "contradictory_labels",
            [each.path for each in group],
            f"patient {sample.patient}: {Path(sample.path).name} is '{sample.label}', the rest "
            f"'{true}'",
        )


def _plant_blank(field: Field) -> None:
    """Expose a detector without a patient, or export a window without a picture."""
    n = count("blank", field.n_patients)
    for i, group in enumerate(field.take_any(n, lambda samples: len(samples) > 1)):
        sample = group[-1]
        value = (0, 255, 128)[i % 3]
        sample.pixels = np.full_like(sample.pixels, value)
        field.add("blank", [sample.path], f"every pixel is {value}")


PLANTERS: dict[str, Callable[[Field], None]] = {
    "shortcut": _plant_shortcut,
    "label_errors": _plant_label_errors,
    "patients_across_splits": _plant_patients_across_splits,
    "exact_duplicates": _plant_exact_duplicates,
    "near_duplicates": _plant_near_duplicates,
    "unreadable": _plant_unreadable,
    "contradictory_labels": _plant_contradictory_labels,
    "blank": _plant_blank,
}


# -- changes of a copy --------------------------------------------------------------------------


def _rotated(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    angle = float(rng.choice((-1, 1)) * rng.uniform(3, 8))
    return np.asarray(Image.fromarray(pixels).rotate(angle, Image.Resampling.BILINEAR))


def _flipped(pixels: Pixels, rng: np.random.Generator) -> Pixels:  # noqa: ARG001 - one signature
    return np.ascontiguousarray(pixels[:, ::-1])


def _shifted(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    across, down = (
        round(rng.choice((-1, 1)) * rng.uniform(0.03, 0.06) * edge) for edge in pixels.shape[::-1]
    )
    moved = Image.new("L", pixels.shape[::-1])
    moved.paste(Image.fromarray(pixels), (across, down))
    return np.asarray(moved)


def _brightened(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    changed = pixels * rng.uniform(0.80, 0.95) + rng.uniform(15, 30)
    brighter: Pixels = np.clip(np.rint(changed), 0, 255).astype(np.uint8)
    return brighter


def _recompressed(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return decode(encode(pixels, ".jpg", quality=int(rng.integers(40, 70))))


def _resized(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    factor = rng.uniform(0.6, 0.85)
    size = round(pixels.shape[1] * factor), round(pixels.shape[0] * factor)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))


CHANGES: dict[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
    "rotated": _rotated,
    "flipped": _flipped,
    "recompressed": _recompressed,
    "shifted": _shifted,
    "brightened": _brightened,
    "resized": _resized,
}
