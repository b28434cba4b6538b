"""The page of an audit: what was found, with pictures; what was not; what is not looked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import hilum
from hilum.auditing import KINDS, NOT_LOOKED_FOR, Finding
from hilum.report.audit_page import make_audit_page
from hilum.report.findings import N_GROUPS, N_IN_GROUP, N_PICTURES, show_findings
from hilum.report.gallery import Album
from hilum.report.kinds import KIND_WORDS
from reporting import Page, figure


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes with two identical files of different labels, one broken, one with a tail."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name in ("ill", "well"):
        (folder / name).mkdir()
        for i in range(6):
            pixels = rng.integers(0, 256, (24, 20), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{name}{i}.png")
    (folder / "well" / "copy.png").write_bytes((folder / "ill" / "ill0.png").read_bytes())
    (folder / "well" / "broken.png").write_bytes(b"not an image")
    with (folder / "ill" / "ill3.png").open("ab") as file:
        file.write(b"tail")
    return folder


@pytest.fixture(scope="module")
def page(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    out = tmp_path_factory.mktemp("out") / "audit.html"
    assert hilum.write_audit(hilum.audit(data), out) == out
    text = out.read_text(encoding="utf-8")
    assert "http" not in text.replace("http-equiv", "")
    return Page(text)


def test_every_kind_has_words() -> None:
    assert set(KIND_WORDS) == set(KINDS)


def test_findings_are_shown_with_severity_effect_and_action(page: Page) -> None:
    assert "14 images, 1 could not be read; patients unknown; classes ill and well." in page.text
    assert "One image, or one patient, with different labels" in page.text
    assert "Where it is one image, at least one label is wrong" in page.text
    assert "Look at each; correct or remove what is wrong" in page.text
    assert "broken.png" in page.text  # by name, with the reason


def test_pictures_are_shown_beside_each_other(page: Page) -> None:
    images = [a for tag, a in page.tags if tag == "img"]
    assert len(images) >= 2
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in images)  # type: ignore[union-attr]
    assert all(image["alt"] for image in images)
    bundles = [a for tag, a in page.tags if a.get("class") == "bundle"]
    assert bundles


def test_it_says_what_was_not_found_and_what_is_not_looked_for(page: Page) -> None:
    assert "Looked for and not found:" in page.text
    assert "identical images with different labels" not in page.text  # that was found
    assert (
        "Could not be looked for in these data: patients in more than one split (no patient is "
        "known); classes that are more frequent in one split than in another (there is no given "
        "split into training and test); text drawn into the pixels (as the DICOM header says) (no "
        "file is DICOM)"
    ) in page.text
    for missing in NOT_LOOKED_FOR:
        assert missing in page.text


def test_every_link_leads_somewhere(page: Page) -> None:
    ids = {a["id"] for _, a in page.tags if a.get("id")}
    assert {a["href"] for _, a in page.tags if a.get("href")} <= {f"#{id_}" for id_ in ids}


def test_clean_data_say_so(tmp_path: Path) -> None:
    for name in ("ill", "well"):
        (tmp_path / name).mkdir()
        pixels = np.full((8, 8), 90 if name == "ill" else 200, np.uint8)
        Image.fromarray(pixels).save(tmp_path / name / f"{name}.png")
    audit = hilum.audit(tmp_path)
    quiet = hilum.Audit(**{**audit.__dict__, "findings": ()})
    made = make_audit_page(quiet)
    assert made.title == "Nothing wrong was found"
    left_out = set(audit.not_looked_for)
    assert left_out == {
        *("patients_across_splits", "prevalence_shift", "burned_in"),
        *("near_duplicates", "shortcut", "label_errors", "drift"),
    }
    assert made.findings.not_found == tuple(
        KIND_WORDS[kind].looked_for for kind in KINDS if kind not in left_out
    )
    assert len(made.findings.left_out) == len(left_out)
    assert "7 could not be looked for in these data" in made.paragraphs[1]


def test_what_predicts_the_class_is_shown_without_an_alarm(tmp_path: Path) -> None:
    clue = {"name": "border", "words": "the border", "auroc": figure(0.6)}
    samples = pd.DataFrame(columns=["path", "label", "patient", "split"])
    album = Album(tmp_path, "folder")
    shown = show_findings([], samples, album, clues={"clues": [clue], "picture": figure(0.9)})
    assert [row.name for row in shown.shortcuts] == [
        "The border", "The image itself, by a small model",
    ]  # fmt: skip
    assert show_findings([], samples, album).shortcuts == ()


def test_what_readers_noted_is_told(data: Path, page: Page) -> None:
    note = "1 image, ill/ill3.png: 4 bytes after the end of the PNG were ignored."
    assert hilum.audit(data).to_dict()["notes"] == (note,)
    assert f"Noted while reading {note}" in page.text


def test_json_does_not_hold_the_data_set(data: Path) -> None:
    kept = hilum.audit(data).to_dict()
    assert list(kept) == [
        "class_names", "patients", "notes", "n_files", "n_read", "unreadable", "findings",
        "not_looked_for", "clues",
    ]  # fmt: skip


def test_galleries_are_bounded(data: Path) -> None:
    audit = hilum.audit(data)
    paths = tuple((path,) * (N_IN_GROUP + 2) for path in ["ill/ill1.png"] * (N_GROUPS + 5))
    findings = [
        Finding("near_duplicates", "low", 1, "Many.", (), paths).to_dict() for _ in range(10)
    ]
    shown = show_findings(findings, audit.dataset.table, Album(data, "folder"))
    tiles = [len(group.tiles) for finding in shown.found for group in finding.groups]
    assert sum(tiles) <= N_PICTURES
    assert max(tiles) == N_IN_GROUP
    first = shown.found[0]
    assert len(first.groups) == N_GROUPS
    assert first.n_groups_more == 5
    assert first.groups[0].n_more == 2


def test_clues_in_findings_of_older_runs_name_their_labels() -> None:
    def clue(value: float) -> dict[str, Any]:
        return {"value": value, "ci_low": value, "ci_high": value, "n": 9}

    findings = [
        {
            "kind": "shortcut", "severity": "high", "count": 1, "message": "", "examples": [],
            "paths": [],
            "details": {
                "label": label, "clue": "size", "picture": clue(0.9),
                "clues": [{"name": "size", "words": "the size of the file", "auroc": clue(0.8)}],
            },
        }
        for label in ("mass", "air")
    ]  # fmt: skip
    samples = pd.DataFrame(columns=["path", "label", "patient", "split"])
    shown = show_findings(findings, samples, Album(Path("data"), "folder"))
    names = [row.name for row in shown.shortcuts]
    assert names[::2] == ["'mass': The size of the file", "'air': The size of the file"]
    assert [found.title for found in shown.found] == [
        f"“{label}”: the class can be told by the size of the file" for label in ("mass", "air")
    ]
