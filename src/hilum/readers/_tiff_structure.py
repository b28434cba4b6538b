"""Walk through a TIFF's directories before it is parsed.

tifffile leaves out what it cannot find and says so in its log only. Here a file is refused when
anything that it refers to lies beyond its end: tags, further pages, sub-directories and pixels.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from hilum.readers._limits import Limits, Refusal

TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
              16: 8, 17: 8, 18: 8}  # fmt: skip
INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
SUB_DIRECTORIES, EXIF, GPS = 330, 34665, 34853
# Offsets and byte counts of strips, tiles and old JPEG streams.
PLACES = ((273, 279), (324, 325), (513, 514))


@dataclass
class _Walk:
    data: bytes
    limits: Limits
    order: str
    big: bool
    seen: set[int] = field(default_factory=set)

    def chain(self, at: int, depth: int) -> None:
        """Follow directories from one to the next."""
        while at:
            if at in self.seen:
                return  # A circle: every directory of it has been checked.
            if len(self.seen) >= 2 * self.limits.max_frames or depth > self.limits.max_depth:
                raise Refusal("TIFF with too many directories. Split the file")
            self.seen.add(at)
            at = self.directory(at, depth)

    def directory(self, at: int, depth: int) -> int:
        """Check one directory; return where the next one is, 0 for none."""
        (n_entries,) = self.unpack("Q" if self.big else "H", at)
        at += 8 if self.big else 2
        numbers: dict[int, tuple[int, ...]] = {}
        for _ in range(n_entries):
            tag, values = self.entry(at)
            numbers[tag] = values
            at += 20 if self.big else 12
        for offsets, counts in PLACES:
            for offset, count in zip(
                numbers.get(offsets, ()), numbers.get(counts, ()), strict=False
            ):
                self.need(offset, count)
        for tag in (SUB_DIRECTORIES, EXIF, GPS):
            for start in numbers.get(tag, ()):
                self.chain(start, depth + 1)
        return int(self.unpack("Q" if self.big else "I", at)[0])

    def entry(self, at: int) -> tuple[int, tuple[int, ...]]:
        """Return a tag and, where the walk needs them, its whole numbers."""
        tag, kind, count = self.unpack("HHQ" if self.big else "HHI", at)
        at += 12 if self.big else 8
        n_bytes = TYPE_BYTES.get(kind, 0) * count
        if n_bytes > (8 if self.big else 4):
            (at,) = self.unpack("Q" if self.big else "I", at)
            self.need(at, n_bytes)
        wanted = tag in (SUB_DIRECTORIES, EXIF, GPS) or any(tag in place for place in PLACES)
        if not wanted or kind not in INTEGERS:
            return tag, ()
        return tag, self.unpack(f"{count}{INTEGERS[kind]}", at)

    def unpack(self, form: str, at: int) -> tuple[int, ...]:
        self.need(at, struct.calcsize(self.order + form))
        return struct.unpack_from(self.order + form, self.data, at)

    def need(self, at: int, n_bytes: int) -> None:
        if at + n_bytes > len(self.data):
            raise Refusal("truncated TIFF: it refers to bytes beyond its end")


def check_structure(data: bytes, limits: Limits) -> None:
    """Refuse a TIFF that refers to anything beyond its end, or holds too many directories."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    walk = _Walk(data, limits, order, big)
    (first,) = walk.unpack("Q" if big else "I", 8 if big else 4)
    if not first:
        raise Refusal("damaged TIFF: it holds no page")
    walk.chain(first, 0)
