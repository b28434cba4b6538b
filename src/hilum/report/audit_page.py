"""Audit → one self-contained page that says what is wrong with the data, with pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import hilum
from hilum.auditing import Audit
from hilum.files import write_text
from hilum.report import words
from hilum.report.facts import SPLIT_NAMES
from hilum.report.findings import Findings, show_findings
from hilum.report.gallery import Album
from hilum.report.page import render_template
from hilum.targets import members


@dataclass(frozen=True)
class ClassCount:
    name: str
    by_split: tuple[str, ...]
    n: str
    n_patients: str


@dataclass(frozen=True)
class AuditPage:
    """Everything that the template shows."""

    title: str
    name: str
    source: str
    paragraphs: tuple[str, ...]
    splits: tuple[str, ...]
    classes: tuple[ClassCount, ...]
    noun: str
    findings: Findings
    note: str
    patients: str
    pattern: str
    examples: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    version: str


def write_audit(audit: Audit, out: str | Path) -> Path:
    """Write an audit as one HTML file.

    Parameters
    ----------
    audit : Audit
        As `hilum.audit` returns it.
    out : path
        The file, such as audit.html.

    Returns
    -------
    Path
        The file. It holds small copies of images and the names of patients: treat it as the images
        themselves.

    Examples
    --------
    >>> found = hilum.audit("chest-xray")  # doctest: +SKIP
    >>> hilum.write_audit(found, "audit.html")  # doctest: +SKIP
    """
    path = Path(out)
    write_text(path, render_template("audit.html", page=make_audit_page(audit)))
    return path


def make_audit_page(audit: Audit) -> AuditPage:
    dataset = audit.dataset
    album = Album(dataset.source, dataset.kind)
    findings = show_findings(
        [finding.to_dict() for finding in audit.findings],
        dataset.table,
        album,
        not_looked_for=audit.not_looked_for,
        clues=audit.clues,
    )
    unreadable = {row["path"] for row in audit.unreadable}
    readable = dataset.table[~dataset.table["path"].isin(unreadable)]
    splits = [split for split in SPLIT_NAMES if (readable["given_split"] == split).any()]
    patients = audit.patients
    return AuditPage(
        title=_title(findings),
        name=dataset.source.name,
        source=str(dataset.source),
        paragraphs=(_read(audit), _weight(findings)),
        splits=tuple(SPLIT_NAMES[split].capitalize() for split in splits),
        classes=_counts(audit, readable, splits),
        noun=words.nouns(dataset.target_kind)[0],
        findings=findings,
        note=_note(album),
        patients=patients.description,
        pattern=patients.pattern or "",
        examples=tuple((str(path), str(patient)) for path, patient in patients.examples),
        notes=audit.notes,
        version=hilum.__version__,
    )


def _title(findings: Findings) -> str:
    if not findings.found:
        return "Nothing wrong was found"
    if findings.n_high:
        n = findings.n_high
        return f"{words.plural(n, 'finding')} that {'makes' if n == 1 else 'make'} figures wrong"
    return f"{words.plural(len(findings.found), 'finding')}, none of high severity"


def _read(audit: Audit) -> str:
    left = audit.n_files - audit.n_read
    bad = "all could be read" if not left else f"{words.count(left)} could not be read"
    return (
        f"{words.plural(audit.n_files, 'image')}, {bad}; "
        f"{words.people(audit.patients.n_patients)}; {words.nouns(audit.dataset.target_kind)[1]} "
        f"{words.join(audit.class_names)}."
    )


def _weight(findings: Findings) -> str:
    counts = {
        severity: sum(finding.severity == severity for finding in findings.found)
        for severity in ("high", "medium", "low")
    }
    parts = [f"{n} {severity}" for severity, n in counts.items() if n]
    found = f"By severity: {words.join(parts)}. " if parts else ""
    left_out = len(findings.left_out)
    could_not = f", {left_out} could not be looked for in these data" if left_out else ""
    return (
        f"{found}{words.plural(len(findings.not_found), 'other kind')} of flaws "
        f"{'was' if len(findings.not_found) == 1 else 'were'} looked for and not found{could_not}."
    )


def _counts(audit: Audit, readable: pd.DataFrame, splits: list[str]) -> tuple[ClassCount, ...]:
    """Count the readable images of each class, or with each label."""
    if audit.dataset.target_kind == "multilabel":
        held = members(readable["label"], audit.class_names)
        return tuple(
            _count(readable, held[:, k], name, splits) for k, name in enumerate(audit.class_names)
        )
    return tuple(
        _count(readable, (readable["label"] == name).to_numpy(bool), name, splits)
        for name in audit.class_names
    )


def _count(
    readable: pd.DataFrame, has: NDArray[np.bool_], name: str, splits: list[str]
) -> ClassCount:
    rows = readable[has]
    known = rows["patient"][rows["patient"] != ""]
    return ClassCount(
        name,
        tuple(words.count(int((rows["given_split"] == split).sum())) for split in splits),
        words.count(len(rows)),
        words.count(int(known.nunique())) if len(known) else "–",
    )


def _note(album: Album) -> str:
    if not album.missing:
        return ""
    path, reason = next(iter(album.missing.items()))
    return (
        f"{words.plural(len(album.missing), 'image')} could not be shown. The first: {path}: "
        f"{reason}."
    )
