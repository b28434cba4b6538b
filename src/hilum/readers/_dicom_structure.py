"""Walk through a DICOM file's elements before it is parsed.

pydicom reads what it can of a file that ends too early and warns; here such a file is refused.
Lengths are followed and nothing is interpreted, apart from the few elements that the limits need.
"""

from __future__ import annotations

import struct
import zlib

from hilum.readers._inflate import Inflation
from hilum.readers._limits import Limits, Refusal

META_START = 132
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXEL_DATA = 0x7FE00010
TRANSFER_SYNTAX = 0x00020010
UNDEFINED = 0xFFFFFFFF
LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
IMPLICIT, BIG, DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"


class Walker:
    """Follows element lengths through one encoding."""

    def __init__(self, data: bytes, limits: Limits, *, explicit: bool, big: bool) -> None:
        self.data = data
        self.max_depth = limits.max_depth
        self.explicit = explicit
        self.order = ">" if big else "<"

    def walk(self, at: int, *, depth: int = 0, inside_item: bool = False) -> int:
        """Walk over elements up to the end of the file or of an item; return where it ends."""
        if depth > self.max_depth:
            raise Refusal(f"DICOM sequences nested more than {self.max_depth} deep")
        while True:
            if not inside_item and self.is_end(at):
                return len(self.data)
            tag, vr, length, at = self.element(at)
            if inside_item and tag == ITEM_END:
                return at
            if length != UNDEFINED:
                at = self.skip(at, length)
            elif tag == PIXEL_DATA and depth == 0:
                at = self.fragments(at)
            else:
                # An unknown sequence of undefined length is encoded with implicit VR.
                explicit, self.explicit = self.explicit, self.explicit and vr != b"UN"
                at = self.sequence(at, depth)
                self.explicit = explicit

    def is_end(self, at: int) -> bool:
        """Whether nothing follows, or nothing but zeros, which some writers append."""
        return not self.data[at : at + 8].strip(b"\0") and not self.data[at:].strip(b"\0")

    def element(self, at: int) -> tuple[int, bytes, int, int]:
        """Return tag, VR, length and where the value begins."""
        self.need(at, 8)
        group, number = struct.unpack_from(self.order + "HH", self.data, at)
        tag, vr = group << 16 | number, self.data[at + 4 : at + 6]
        # Some writers mix implicit elements into explicit files.
        if not self.explicit or group == 0xFFFE or not (vr.isalpha() and vr.isupper()):
            (length,) = struct.unpack_from(self.order + "I", self.data, at + 4)
            return tag, b"", length, at + 8
        if vr not in LONG_VRS:
            (length,) = struct.unpack_from(self.order + "H", self.data, at + 6)
            return tag, vr, length, at + 8
        self.need(at, 12)
        (length,) = struct.unpack_from(self.order + "I", self.data, at + 8)
        return tag, vr, length, at + 12

    def sequence(self, at: int, depth: int) -> int:
        """Walk over the items of a sequence of undefined length."""
        while True:
            tag, _, length, at = self.element(at)
            if tag == SEQUENCE_END:
                return at
            if tag != ITEM:
                raise Refusal("damaged DICOM: a sequence holds something that is no item")
            if length == UNDEFINED:
                at = self.walk(at, depth=depth + 1, inside_item=True)
            else:
                at = self.skip(at, length)

    def fragments(self, at: int) -> int:
        """Walk over encapsulated pixel data."""
        while True:
            tag, _, length, at = self.element(at)
            if tag == SEQUENCE_END:
                return at
            if tag != ITEM or length == UNDEFINED:
                raise Refusal("damaged DICOM: its compressed pixel data are not in items")
            at = self.skip(at, length)

    def skip(self, at: int, length: int) -> int:
        self.need(at, length)
        return at + length

    def need(self, at: int, n_bytes: int) -> None:
        if at + n_bytes > len(self.data):
            raise Refusal("truncated DICOM: it stops before the end of its elements")


def check_structure(data: bytes, limits: Limits) -> str:
    """Refuse a file that ends early or nests too deeply; return its transfer syntax."""
    syntax, at = _meta(data, limits)
    if syntax == DEFLATED:
        data, at = _inflate(data[at:], limits), 0
    Walker(data, limits, explicit=syntax != IMPLICIT, big=syntax == BIG).walk(at)
    return syntax


def _meta(data: bytes, limits: Limits) -> tuple[str, int]:
    """Return the transfer syntax and where the data set begins."""
    walker = Walker(data, limits, explicit=True, big=False)
    at, syntax = META_START, ""
    while data[at : at + 2] == b"\2\0":
        tag, _, length, at = walker.element(at)
        end = walker.skip(at, length)
        if tag == TRANSFER_SYNTAX:
            syntax = data[at:end].rstrip(b"\0 ").decode("ascii", "replace")
        at = end
    if not syntax:
        raise Refusal(
            "damaged DICOM: it does not say how it is encoded (no transfer syntax). Export it again"
        )
    return syntax, at


def _inflate(data: bytes, limits: Limits) -> bytes:
    inflation, parts, size = Inflation(-zlib.MAX_WBITS), [], 0
    try:
        for part in inflation.feed(data):
            parts.append(part)
            size += len(part)
            limits.check_bytes(size, len(data))
    except zlib.error:
        raise Refusal("damaged DICOM: its compressed data set is corrupt") from None
    if not inflation.done:
        raise Refusal("truncated DICOM: its compressed data set stops early")
    return b"".join(parts)
