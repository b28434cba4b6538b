"""Findings of the audit as people read them: what, what it does to the result, what to do.

Shared by the report of a run and by the page of an audit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from hilum.auditing import KINDS, NOT_LOOKED_FOR
from hilum.report import words
from hilum.report.cohort import Sample
from hilum.report.facts import Estimate
from hilum.report.gallery import Album
from hilum.report.kinds import (
    KIND_WORDS,
    TOGETHER,
    could_not_be_looked_for,
    effect_and_action,
    title_of,
)
from hilum.report.scales import Scale, common_scale

N_GROUPS = 12  # groups of pictures shown for one finding
N_IN_GROUP = 4  # pictures of one group
N_PICTURES = 240  # of all findings together, so that the page stays light


@dataclass(frozen=True)
class Tile:
    """A picture with what is known of it."""

    sample: Sample
    label: str
    patient: str
    split: str
    note: str = ""

    @property
    def name(self) -> str:
        return self.sample.path.rsplit("/", 1)[-1]

    @property
    def alt(self) -> str:
        return f"Image labelled {self.label}" if self.label else f"Image {self.name}"


@dataclass(frozen=True)
class TileGroup:
    """Pictures that belong together, and how many more there are."""

    tiles: tuple[Tile, ...]
    n_more: int


@dataclass(frozen=True)
class ShortcutRow:
    """How well the label is told by something that is not the disease."""

    name: str
    text: str
    bounds: str
    low: float | None
    point: float | None
    high: float | None
    is_image: bool


@dataclass(frozen=True)
class ShownFinding:
    """One finding, ready for the page."""

    kind: str
    title: str
    severity: str
    count: int
    message: str
    effect: str
    action: str
    examples: tuple[str, ...]
    groups: tuple[TileGroup, ...]
    is_pairs: bool
    n_groups_more: int
    measured: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Findings:
    """All findings, the worst first, with what was not found and what was not looked for.

    `left_out` could not be looked for in these data, with the reason; `not_looked_for` is what no
    data let this version see.
    """

    found: tuple[ShownFinding, ...]
    not_found: tuple[str, ...]
    left_out: tuple[str, ...]
    not_looked_for: tuple[str, ...]
    shortcuts: tuple[ShortcutRow, ...]
    shortcut_scale: Scale

    @property
    def n_high(self) -> int:
        return sum(finding.severity == "high" for finding in self.found)


def show_findings(
    findings: Sequence[Mapping[str, Any]],
    samples: pd.DataFrame,
    album: Album,
    *,
    looked_for: Sequence[str] = KINDS,
    not_looked_for: Mapping[str, str] | None = None,
    clues: Mapping[str, Any] | None = None,
) -> Findings:
    """Make findings ready for a page.

    Parameters
    ----------
    findings : sequence of dict
        As run.json and `audit --json` hold them.
    samples : DataFrame
        With the columns path, label, patient, and split or given_split.
    looked_for : sequence of str
        Kinds that the audit knew; empty where a run of an older version does not say.
    not_looked_for, clues : dict, optional
        As `Found` has them; None where a run of an older version has none.
    """
    about = _about(samples)
    room = N_PICTURES
    shown = []
    for finding in findings:
        groups, n_more = _groups(finding, about, album, room)
        room -= sum(len(group.tiles) for group in groups)
        shown.append(_shown(finding, groups, n_more))
    present = {finding["kind"] for finding in findings}
    left_out = not_looked_for or {}
    rows = shortcut_figures(clues or _clues_of(findings))
    scale = common_scale([figure for _, figure, _ in rows])
    return Findings(
        found=tuple(shown),
        not_found=tuple(
            KIND_WORDS[kind].looked_for
            for kind in looked_for
            if kind not in present and kind in KIND_WORDS and kind not in left_out
        ),
        left_out=could_not_be_looked_for(left_out),
        not_looked_for=NOT_LOOKED_FOR,
        shortcuts=tuple(_shortcut_row(*row, scale) for row in rows),
        shortcut_scale=scale,
    )


def _shown(finding: Mapping[str, Any], groups: tuple[TileGroup, ...], n_more: int) -> ShownFinding:
    kind = str(finding["kind"])
    effect, action = effect_and_action(finding)
    return ShownFinding(
        kind=kind,
        title=title_of(finding),
        severity=str(finding["severity"]),
        count=int(finding["count"]),
        message=str(finding["message"]),
        effect=effect,
        action=action,
        examples=tuple(map(str, finding.get("examples") or ())),
        groups=groups,
        is_pairs=any(len(group.tiles) > 1 for group in groups),
        n_groups_more=n_more,
        measured=_measured(finding),
    )


def _about(samples: pd.DataFrame) -> dict[str, tuple[str, str, str]]:
    split = "split" if "split" in samples else "given_split"
    columns = samples[["path", "label", "patient", split]].fillna("").astype(str)
    return {path: (label, patient, name) for path, label, patient, name in columns.to_numpy()}


def _groups(
    finding: Mapping[str, Any],
    about: Mapping[str, tuple[str, str, str]],
    album: Album,
    room: int,
) -> tuple[tuple[TileGroup, ...], int]:
    """Show the first groups of a finding as far as there is room; also say how many are left."""
    if finding["kind"] == "unreadable":
        return (), 0
    paths = [tuple(map(str, group)) for group in finding.get("paths") or ()]
    if finding["kind"] not in TOGETHER:
        paths = [(path,) for group in paths for path in group]
    notes = _notes(finding)
    groups: list[TileGroup] = []
    for group in paths[:N_GROUPS]:
        shown = group[:N_IN_GROUP]
        if len(shown) > room:
            break
        room -= len(shown)
        tiles = tuple(
            Tile(
                Sample(path, album.thumbnail(path)),
                *about.get(path, ("", "", "")),
                note=notes.get(path, ""),
            )
            for path in shown
        )
        groups.append(TileGroup(tiles, len(group) - len(shown)))
    return tuple(groups), len(paths) - len(groups)


def _notes(finding: Mapping[str, Any]) -> dict[str, str]:
    """Say under a picture what is doubted of it."""
    suspects = (finding.get("details") or {}).get("suspects") or ()
    return {str(one["path"]): f"rather {one['suggested']}" for one in suspects}


def _measured(finding: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """Figures of a drift, for its table: name, value, interval or what chance gives."""
    if finding["kind"] != "drift":
        return ()
    details = finding.get("details") or {}
    rows = []
    for key, name in (
        ("auroc", "Test told from training, AUROC"),
        ("auroc_within_classes", "The same among images of one class"),
    ):
        if details.get(key):
            figure = Estimate.of(dict(details), key)
            text = words.estimate(figure, percent=False)
            rows.append((name, text, words.interval(figure, percent=False)))
    grey = details.get("grey_levels")
    if grey:
        chance = f"{grey['by_chance']:.1f} by chance"
        rows.append(("Distance of grey levels, of 255", f"{grey['distance']:.1f}", chance))
    for name, shares in (details.get("labels") or {}).items():
        before, after = (words.number(share, percent=True) for share in shares)
        rows.append((f"Share of {name}: training, test", before, after))
    return tuple(rows)


def _clues_of(findings: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Take the clues out of findings, of each label its own: older runs keep them there alone."""
    by_label: dict[str, Mapping[str, Any]] = {}
    for finding in findings:
        details = finding.get("details") or {}
        if finding["kind"] != "shortcut" or not details.get("clues"):
            continue
        if "label" not in details:
            return dict(details)
        by_label.setdefault(str(details["label"]), details)
    return {"by_label": by_label} if by_label else {}


def shortcut_figures(clues: Mapping[str, Any]) -> list[tuple[str, Estimate, bool]]:
    """Take what predicts the label: its name, how well, and whether it is the image itself.

    The best comes first, the image last; of several labels one label after the other.
    """
    if clues.get("by_label"):
        return [
            (f"'{label}': {name}", figure, is_image)
            for label, of_label in clues["by_label"].items()
            for name, figure, is_image in shortcut_figures(of_label)
        ]
    if not clues.get("clues"):
        return []
    rows = [
        (words.capitalised(str(clue["words"])), Estimate.of(dict(clue), "auroc"), False)
        for clue in clues["clues"]
    ]
    rows.sort(key=lambda row: -(row[1].value or 0.0))
    picture = Estimate.of({"auroc": clues["picture"]}, "auroc")
    return [*rows, ("The image itself, by a small model", picture, True)]


def _shortcut_row(name: str, figure: Estimate, is_image: bool, scale: Scale) -> ShortcutRow:
    return ShortcutRow(
        name,
        words.estimate(figure, percent=False),
        words.interval(figure, percent=False),
        scale.place(figure.ci_low),
        scale.place(figure.value),
        scale.place(figure.ci_high),
        is_image,
    )
