"""The data section: from files to patients to splits, and what the images look like."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from hilum.report import words
from hilum.report.facts import RunFacts
from hilum.report.gallery import Album, Thumbnail

SPLITS = (("train", "Training"), ("val", "Validation"), ("test", "Test"))

N_SAMPLES_PER_CLASS = 6
N_REASONS = 6


@dataclass(frozen=True)
class SplitBox:
    """One end of the flow diagram."""

    name: str
    n: str
    patients: str
    use: str
    classes: tuple[tuple[str, str, str], ...]  # name, n, share


@dataclass(frozen=True)
class Flow:
    """From the files found to the three splits."""

    n_files: str
    n_excluded: int
    excluded: tuple[tuple[str, str], ...]  # reason, n
    n_read: str
    patients: str
    splits: tuple[SplitBox, ...]

    @property
    def in_words(self) -> str:
        """The diagram for those who do not see it."""
        ends = "; ".join(f"{box.name}: {box.n}, {box.patients}" for box in self.splits)
        return (
            f"{self.n_files} found, {words.plural(self.n_excluded, 'file')} left out, "
            f"{self.n_read} read, {self.patients}. {ends}."
        )


@dataclass(frozen=True)
class Sample:
    path: str
    image: Thumbnail | None


@dataclass(frozen=True)
class Cohort:
    """The data section."""

    flow: Flow
    images: str
    patients: str
    pattern: str
    per_patient: str
    examples: tuple[tuple[str, str], ...]
    split_reasons: tuple[str, ...]
    positive: str
    notes: tuple[str, ...]
    samples: tuple[tuple[str, tuple[Sample, ...]], ...]
    note: str


def make_cohort(facts: RunFacts, album: Album) -> Cohort:
    patients = facts.run["patients"]
    samples = tuple(
        (name, tuple(Sample(path, album.thumbnail(path)) for path in _choose(facts, name)))
        for name in facts.class_names
    )
    return Cohort(
        flow=_flow(facts),
        images=_images(facts.samples[~facts.samples["excluded"]]),
        patients=str(patients["description"]),
        pattern=str(patients.get("pattern") or ""),
        per_patient=_per_patient(patients.get("images_per_patient")),
        examples=tuple((str(path), str(patient)) for path, patient in patients["examples"]),
        split_reasons=tuple(map(str, facts.run["splits"]["reasons"])),
        positive=_positive(facts),
        notes=tuple(map(str, facts.run["data"].get("notes", ()))),
        samples=samples,
        note=missing_note(album, [s for _, row in samples for s in row]),
    )


def missing_note(album: Album, samples: list[Sample]) -> str:
    """Say how many images could not be shown, and why, or nothing."""
    gone = [sample.path for sample in samples if sample.image is None]
    if not gone:
        return ""
    return (
        f"{words.plural(len(gone), 'image')} could not be shown. The first: {gone[0]}: "
        f"{album.missing[gone[0]]}."
    )


def _flow(facts: RunFacts) -> Flow:
    excluded = facts.samples[facts.samples["excluded"]]
    reasons = excluded["reason"].replace("", "no reason given").value_counts()
    shown = [(str(reason), words.count(int(n))) for reason, n in reasons.items()]
    if len(shown) > N_REASONS:
        rest = int(reasons.iloc[N_REASONS - 1 :].sum())
        shown = [*shown[: N_REASONS - 1], ("other reasons", words.count(rest))]
    return Flow(
        n_files=words.plural(int(facts.run["data"]["n_files"]), "file"),
        n_excluded=len(excluded),
        excluded=tuple(shown),
        n_read=words.plural(len(facts.samples) - len(excluded), "image"),
        patients=words.people(facts.run["patients"]["n_patients"]),
        splits=tuple(_box(facts, split, name) for split, name in SPLITS),
    )


USES = {
    "train": "the network learns from these",
    "val": "calibration and threshold",
    "test": "sealed until all was decided",
}


def _box(facts: RunFacts, split: str, name: str) -> SplitBox:
    counts = facts.run["splits"]["counts"][split]
    n = int(counts["n"])
    use = USES[split]
    if split == "val" and facts.is_multilabel:
        use = "calibrations and thresholds"
    elif split == "val" and facts.positive_class is None:
        use = "calibration"
    if split == "val" and facts.epoch_is_chosen:
        use = f"best epoch, {use}"
    return SplitBox(
        name,
        words.plural(n, "image"),
        words.people(counts["n_patients"]),
        use,
        tuple(_share(facts.about(label), split, label) for label in facts.class_names),
    )


def _share(facts: RunFacts, split: str, name: str) -> tuple[str, str, str]:
    """Say how many images of a split have a class: its name, their number, and the share."""
    counts = facts.run["splits"]["counts"][split]
    n, k = int(counts["n"]), int(counts["classes"].get(name, 0))
    return name, words.count(k), words.number(k / n, percent=True, digits=0) if n else "–"


def _images(read: pd.DataFrame) -> str:
    """Describe formats and sizes in one sentence."""
    if "format" not in read or "height" not in read or read.empty:
        return ""
    formats = read["format"].value_counts()
    kinds = words.join([f"{name or 'unknown'} ({n:,})" for name, n in formats.items()])
    sizes = (read["height"] + " × " + read["width"]).value_counts()
    if len(sizes) == 1:
        return f"Formats: {kinds}. All are {sizes.index[0]} pixels (height × width)."
    heights, widths = (pd.to_numeric(read[c], errors="coerce") for c in ("height", "width"))
    return (
        f"Formats: {kinds}. Sizes from {heights.min():.0f} × {widths.min():.0f} to "
        f"{heights.max():.0f} × {widths.max():.0f} pixels (height × width), "
        f"{heights.median():.0f} × {widths.median():.0f} in the median."
    )


def _positive(facts: RunFacts) -> str:
    """Say which class a positive answer means, and why it is that one."""
    if facts.positive_class is None:
        return ""
    reason = str(facts.run.get("positive_reason") or "")
    return f"The positive class, the one to be found, is {facts.positive_class}. {reason}".strip()


def _per_patient(sizes: dict[str, float] | None) -> str:
    if not sizes:
        return ""
    return f"Images a patient: {sizes['median']:g} in the median, {int(sizes['max']):,} at most."


def _choose(facts: RunFacts, name: str) -> list[str]:
    """Choose training images of a class, spread over its patients in the order of their names."""
    train = facts.about(name).used("train")
    rows = train[train["label"] == name].sort_values("path")
    one_each = rows[(rows["patient"] == "") | ~rows["patient"].duplicated()]
    rows = one_each if len(one_each) >= N_SAMPLES_PER_CLASS else rows
    paths = list(rows["path"])
    step = max(1, len(paths) // N_SAMPLES_PER_CLASS)
    return [str(path) for path in paths[step // 2 :: step][:N_SAMPLES_PER_CLASS]]
