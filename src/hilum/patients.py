"""Which images belong to one patient: from a column, a pattern, or a known way of naming files.

A guess is never silent: it comes with examples, the number of patients and images a patient, so
that its reader sees when it is wrong.
"""

from __future__ import annotations

import re
import shlex
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from hilum.errors import DataError, SettingError
from hilum.names import plain_text

if TYPE_CHECKING:
    import pandas as pd

Source = Literal["column", "pattern", "known_pattern", "none"]

# Each is tried on the path below the class folder, without the suffix, and believed only when it
# fits every file and finds more than one patient. Order matters: the narrow ones come first.
KNOWN_PATTERNS = (
    # Kermany et al. 2018. Bacterial and viral cases are numbered separately, so the kind is part
    # of the patient's name: `person1` alone would join two children.
    (
        "children's chest X-rays of Kermany et al.",
        r"(?:^|/)(?P<patient>person\d+_(?:bacteria|virus)|(?:NORMAL\d*-)?IM-\d+)(?:[-_]\d+)+$",
    ),
    (
        "NIH malaria cell images",
        r"(?:^|/)(?P<patient>C\d+[A-Z0-9]*?)_?[Tt]hinF?_",
    ),
    ("BIDS", r"(?:^|/)(?P<patient>sub-[A-Za-z0-9]+)(?=[_/])"),
    ("CheXpert", r"(?:^|/)(?P<patient>patient\d+)/"),
    ("TCGA barcodes", r"(?:^|/)(?P<patient>TCGA-[A-Z0-9]{2}-[A-Z0-9]{4})(?=[-._/]|$)"),
    ("NIH ChestX-ray14", r"(?:^|/)(?P<patient>000[0-3]\d{4})_\d{3}$"),
    (
        "'patient', 'subject' or 'case' with a number",
        r"(?i:(?:^|[/_-])(?P<patient>(?:patient|subject|subj|pat|case)[-_ ]?\d+)(?=[-_./ ]|$))",
    ),
)

N_EXAMPLES = 5


@dataclass(frozen=True)
class Patients:
    """How patients were recognised, in numbers that show a wrong guess.

    Attributes
    ----------
    source : str
        'column', 'pattern', 'known_pattern' or 'none'.
    description : str
        One sentence for the report.
    n_patients : int or None
        None when no patient is known.
    n_without : int
        Images without a patient; each counts as a patient of its own.
    images_per_patient : dict or None
        'median' and 'max'.
    examples : tuple of (file, patient)
    """

    source: Source
    description: str
    pattern: str | None
    column: str | None
    n_patients: int | None
    n_without: int
    images_per_patient: dict[str, float] | None
    examples: tuple[tuple[str, str], ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """Say it to a person: how, how many, and examples."""
        lines = [self.description]
        if self.images_per_patient:
            typical, most = (self.images_per_patient[key] for key in ("median", "max"))
            lines.append(f"Images a patient: {typical:.0f} as a median, {most:.0f} at most.")
        return lines + [f"    {path} → {patient}" for path, patient in self.examples]


def count_named(patients: Iterable[str]) -> int:
    """Count the patients that data name; an image of none counts in the figures alone."""
    return len({name for name in patients if name})


def patient_of_each(samples: pd.DataFrame) -> pd.Series[str]:
    """Return whose each image is; without a patient it is that of one of its own.

    Such a patient is named by the path of the image, which '#' keeps apart from real names.
    """
    return samples["patient"].where(samples["patient"] != "", "#" + samples["path"])


def recognise(
    paths: Sequence[str],
    *,
    pattern: str | None = None,
    column: Sequence[str] | None = None,
    column_name: str | None = None,
    inner: Sequence[str] | None = None,
    nearly_named: Sequence[str] = (),
) -> tuple[list[str], Patients]:
    """Give each file its patient, '' where none is known.

    Parameters
    ----------
    paths : sequence of str
        Paths inside the data folder, with forward slashes.
    pattern : str, optional
        A regular expression with a group named `patient`, searched in the path without suffix.
        It goes before a column.
    column : sequence of str, optional
        The patient of each file as a table states it.
    inner : sequence of str, optional
        The part of each path in which known patterns are sought, below the class folder.
    nearly_named : sequence of str
        Columns that may be the patient's, misspelt: asked about where no patient is known.

    Raises
    ------
    SettingError
        If the pattern is not a regular expression or lacks the group.
    DataError
        If the pattern fits some files only.
    """
    if pattern is not None:
        found = _by_user_pattern(paths, pattern)
        return found, _describe(paths, found, "pattern", "the pattern given", pattern=pattern)
    if column is not None and any(value.strip() for value in column):
        found = [plain_text(value) for value in column]
        what = f"the column '{column_name}'"
        return found, _describe(paths, found, "column", what, column=column_name)
    for name, known in KNOWN_PATTERNS:
        matches = _search(paths if inner is None else inner, re.compile(known))
        if all(matches) and len(set(matches)) > 1:
            found = [plain_text(match or "") for match in matches]
            what = f"the file names, which follow the known pattern of {name}"
            return found, _describe(paths, found, "known_pattern", what, pattern=known)
    return [""] * len(paths), _nothing_known(len(paths), column_name, nearly_named)


def _nothing_known(n_paths: int, empty_column: str | None, nearly_named: Sequence[str]) -> Patients:
    sentence = "No patient is known"
    if empty_column:
        sentence += f" (the column '{empty_column}' is empty)"
    sentence += (
        ": every image was taken for a patient of its own. If a patient has several images, "
        "figures on validation and test data are too good. Name the patients with a column or "
        "--patient-pattern."
    )
    if nearly_named:
        sentence += f" Did you mean --patient-column {shlex.quote(nearly_named[0])}?"
    return Patients("none", sentence, None, None, None, n_paths, None, ())


def _by_user_pattern(paths: Sequence[str], pattern: str) -> list[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise SettingError(
            f"--patient-pattern '{pattern}' is not a regular expression: {error}. "
            r"An example: '^(?P<patient>case\d+)_'."
        ) from None
    if "patient" not in compiled.groupindex:
        raise SettingError(
            f"--patient-pattern '{pattern}' has no group named 'patient'. Put (?P<patient>…) "
            r"around the part of the name that tells the patient, as in '^(?P<patient>case\d+)_'."
        )
    matches = _search(paths, compiled)
    found = [plain_text(match or "") for match in matches]
    missed = [path for path, patient in zip(paths, found, strict=True) if not patient]
    if missed:
        raise DataError(
            f"--patient-pattern '{pattern}' does not fit {len(missed)} of {len(paths)} files, "
            f"such as {_join(missed[:3])}. Widen the pattern, or give a table with a column "
            "'patient'."
        )
    return found


def _search(paths: Sequence[str], pattern: re.Pattern[str]) -> list[str | None]:
    """Search in the file's name first, so that `^` means the name, then in the whole path."""
    found: list[str | None] = []
    for path in paths:
        stem = re.sub(r"(\.nii\.gz|\.[A-Za-z0-9]{1,5})$", "", path)
        match = pattern.search(stem.rsplit("/", 1)[-1]) or pattern.search(stem)
        found.append(match.group("patient") if match else None)
    return found


def _describe(
    paths: Sequence[str],
    found: Sequence[str],
    source: Source,
    what: str,
    *,
    pattern: str | None = None,
    column: str | None = None,
) -> Patients:
    counts = Counter(patient for patient in found if patient)
    n_without = sum(not patient for patient in found)
    sizes = sorted(counts.values())  # never empty: a pattern fits all, a column has a value
    number = "1 patient" if len(counts) == 1 else f"{len(counts):,} patients"
    sentence = f"Patients were read from {what}: {number} in {len(paths):,} images."
    if n_without == 1:
        sentence += " 1 image has no patient and counts as one."
    elif n_without:
        sentence += f" {n_without:,} images have no patient and count as one each."
    first: dict[str, str] = {}
    for path, patient in zip(paths, found, strict=True):
        if patient:
            first.setdefault(patient, path)
    # Spread over the whole list, so that every kind of name has its chance to be shown.
    step = max(1, len(first) // N_EXAMPLES)
    examples = [(path, patient) for patient, path in first.items()][::step][:N_EXAMPLES]
    return Patients(
        source,
        sentence,
        pattern,
        column,
        len(counts),
        n_without,
        {"median": float(statistics.median(sizes)), "max": float(sizes[-1])},
        tuple(examples),
    )


def _join(items: Sequence[str]) -> str:
    return ", ".join(f"'{item}'" for item in items)
