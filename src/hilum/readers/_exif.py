"""The one thing Hilum wants of EXIF: which way is up.

A parser of a few lines, because EXIF of real files is often damaged, and damage there must
neither hide the orientation nor stop the picture from being read.
"""

from __future__ import annotations

import re
import struct

ORIENTATION_TAG = 0x0112
XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=[\"']|>)\s*([1-8])\s*[\"'<]")


def exif_orientation(block: bytes) -> int:
    """Return the orientation that an EXIF block (a small TIFF) states, 0 if it states none."""
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 8:
        return 0
    (start,) = struct.unpack_from(order + "I", block, 4)
    if start + 2 > len(block):
        return 0
    (n_entries,) = struct.unpack_from(order + "H", block, start)
    for i in range(n_entries):
        at = start + 2 + 12 * i
        if at + 12 > len(block):
            return 0
        tag, kind, _, short = struct.unpack_from(order + "HHIH", block, at)
        if tag == ORIENTATION_TAG:
            if kind == 4:  # LONG, against the standard, but written by some cameras
                (short,) = struct.unpack_from(order + "I", block, at + 8)
            return short if 1 <= short <= 8 else 0
    return 0


def xmp_orientation(packet: bytes) -> int:
    """Return the orientation that an XMP packet states, 0 if it states none."""
    found = XMP_ORIENTATION.search(packet)
    return int(found.group(1)) if found else 0
