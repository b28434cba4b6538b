"""Names of classes, patients and files: made comparable, and quoted in messages."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

# What a decision may be beside a class, and what parts the classes of a prediction set.
REFER, REFUSED = "refer", "refused"
SET_SEPARATOR = "|"

# What is said of an image with none of several labels.
NONE = "none"

# Control characters, and what stands for bytes that are not UTF-8.
UNWRITABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def plain_text(text: str) -> str:
    """Join white space and compose accents, so that what looks equal is equal.

    A folder unpacked from a Mac's archive stores 'é' as two characters.
    """
    return " ".join(unicodedata.normalize("NFC", text).split())


def quoted(names: Iterable[str]) -> str:
    """Quote names for a message, the first five in order."""
    names = sorted(names)
    return ", ".join(f"'{name}'" for name in names[:5]) + (", …" if len(names) > 5 else "")
