"""The quality with which a JPEG was saved, told from its quantisation table.

Two sources of images often saved them differently, which can give a class away.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

HEAD_BYTES = 2**18  # tables stand before the pixels, after metadata
DQT, SOS = 0xDB, 0xDA
WITHOUT_LENGTH = (0x01, *range(0xD0, 0xDA))

# Table K.1 of ITU-T T.81 (luminance), in the zigzag order of files.
STANDARD = np.array(
    (
        *(16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40),
        *(26, 24, 22, 22, 24, 49, 35, 37, 29, 40, 58, 51, 61, 60, 57, 51),
        *(56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87),
        *(95, 98, 103, 104, 103, 62, 77, 113, 121, 112, 100, 120, 92, 101, 103, 99),
    )
)


def jpeg_quality(data: bytes) -> int | str:
    """Estimate the quality, 1 to 100, on the scale of libjpeg.

    The quality whose luminance table is nearest to the file's is returned, which is exact for
    files that libjpeg saved and a fair guess for those of other encoders; '' where none is found.

    Parameters
    ----------
    data : bytes
        The file's content.
    """
    for table in _tables(data[:HEAD_BYTES]):
        return int(np.abs(_standard_tables() - table).sum(axis=1).argmin()) + 1
    return ""


@functools.cache
def _standard_tables() -> NDArray[np.int64]:
    """Tables that libjpeg writes for the qualities 1 to 100; shape (100, 64)."""
    quality = np.arange(1, 101)
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    tables: NDArray[np.int64] = (STANDARD[None] * scale[:, None] + 50) // 100
    return tables.clip(1, 255)


def _tables(head: bytes) -> Iterator[NDArray[np.int64]]:
    """Give the tables numbered 0, which are for luminance."""
    for segment in _segments(head, DQT):
        at = 0
        while at < len(segment):
            wide, number = segment[at] >> 4, segment[at] & 15
            n_bytes = 128 if wide else 64
            values = segment[at + 1 : at + 1 + n_bytes]
            if number == 0 and len(values) == n_bytes:
                yield np.frombuffer(values, ">u2" if wide else np.uint8).astype(np.int64)
            at += 1 + n_bytes


def _segments(head: bytes, wanted: int) -> Iterator[bytes]:
    at = 2
    while at + 4 <= len(head) and head[at] == 0xFF:
        marker = head[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if marker in WITHOUT_LENGTH:
            at += 2
            continue
        if marker == SOS:
            return
        length = int.from_bytes(head[at + 2 : at + 4], "big")
        if marker == wanted:
            yield head[at + 4 : at + 2 + length]
        at += 2 + length
