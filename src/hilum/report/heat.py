"""Heat maps beside the mistakes, and what was found when they were checked."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hilum.errors import HilumError
from hilum.heatmaps import NO_EVIDENCE
from hilum.report.facts import RunFacts
from hilum.report.gallery import SIDE, Album, Thumbnail, as_thumbnail

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Heat:
    """What is to be known of heat maps before one looks at them.

    Attributes
    ----------
    method : str
        What the maps are called.
    checks : tuple of str
        One plain sentence for each check; empty where none was made.
    """

    method: str
    caution: str
    checks: tuple[str, ...]


def make_heat(facts: RunFacts) -> Heat:
    found = (
        facts.explanation.get(key) for key in ("randomisation_check", "border", "outside_body")
    )
    return Heat(
        facts.map_method, NO_EVIDENCE, tuple(text for part in found if (text := _text(part)))
    )


def _text(part: Any) -> str:
    return str(part.get("text") or "") if isinstance(part, Mapping) else ""


def heat_maps(folder: Path, album: Album, cases: Sequence[tuple[str, str]]) -> dict[str, Thumbnail]:
    """Draw where the score of the given answer comes from.

    Parameters
    ----------
    folder : Path
        The run, with its model.
    cases : sequence of (path, class)

    Returns
    -------
    dict
        Picture by path; without those that are gone, and empty where the model cannot be used.
    """
    opened = [(path, name, album.picture(path)) for path, name in cases]
    known = [(path, name, picture) for path, name, picture in opened if picture is not None]
    if not known or not (folder / "model" / "weights.safetensors").is_file():
        return {}
    # Only here, because it needs PyTorch.
    from hilum.explanation import heat_thumbnails

    try:
        images = list(
            heat_thumbnails(
                folder,
                [picture for _, _, picture in known],
                [name for _, name, _ in known],
                side=SIDE,
            )
        )
    except HilumError as error:
        logger.info("The report has no heat maps: %s", error)
        return {}
    return {
        path: as_thumbnail(image)
        for (path, _, _), image in zip(known, images, strict=True)
        if image is not None
    }
