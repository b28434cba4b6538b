"""How large a file may be, and the one way in which readers refuse.

Every limit is checked from a header, before memory is taken for what the header promises.
"""

from __future__ import annotations

from dataclasses import dataclass


class Refusal(Exception):  # noqa: N818 - a verdict on the file, not a fault of ours
    """Why a file is not read; `read` adds the file's name and raises `UnreadableError`."""


@dataclass(frozen=True)
class Limits:
    """What a file may ask for.

    Attributes
    ----------
    max_file_bytes : int
        Size of the file itself.
    max_edge : int
        Height or width, in pixels.
    max_pixels : int
        Height × width of one frame.
    max_frames : int
        Frames, slices or pages of one file.
    max_bytes : int
        All pixels once decoded.
    max_ratio : int
        Decoded bytes per stored byte. Only pictures beyond `free_bytes` are held to it, because
        small blank ones compress this well by right.
    free_bytes : int
        Decoded size up to which `max_ratio` is not asked.
    max_depth : int
        Sequences within sequences of a DICOM header.
    """

    max_file_bytes: int = 2**30
    max_edge: int = 100_000
    max_pixels: int = 2**26
    max_frames: int = 10_000
    max_bytes: int = 2**30
    max_ratio: int = 200
    free_bytes: int = 2**25
    max_depth: int = 32

    def check_size(
        self, height: int, width: int, *, frames: int = 1, pixel_bytes: float = 1, stored: int
    ) -> None:
        """Refuse a picture whose header promises nothing, or too much.

        Parameters
        ----------
        height, width, frames : int
            As the header states them.
        pixel_bytes : float
            Bytes of one pixel with all its channels, decoded.
        stored : int
            Bytes that the file spends on it.
        """
        if height < 1 or width < 1 or frames < 1:
            raise Refusal(
                f"the header states a size of {frames} frames of {height} × {width} pixels, "
                "which is no picture"
            )
        if max(height, width) > self.max_edge:
            raise Refusal(
                f"{height} × {width} pixels: the longer edge exceeds the limit of "
                f"{self.max_edge:,} pixels. Cut or shrink the picture"
            )
        if height * width > self.max_pixels:
            raise Refusal(
                f"{height} × {width} pixels exceed the limit of {self.max_pixels:,} pixels a "
                "frame. Shrink the picture"
            )
        if frames > self.max_frames:
            raise Refusal(
                f"{frames:,} frames exceed the limit of {self.max_frames:,}. Split the file"
            )
        self.check_bytes(int(height * width * frames * pixel_bytes), stored)

    def check_bytes(self, decoded: int, stored: int) -> None:
        """Refuse decoded sizes that are too large, or unbelievable for so few stored bytes."""
        if decoded > self.max_bytes:
            raise Refusal(
                f"{decoded / 2**20:,.0f} MiB of pixels exceed the limit of "
                f"{self.max_bytes / 2**20:,.0f} MiB. Split or shrink the file"
            )
        if decoded > self.free_bytes and decoded > self.max_ratio * max(stored, 1):
            raise Refusal(
                f"{stored:,} bytes claim to hold {decoded / 2**20:,.0f} MiB of pixels, more than "
                f"{self.max_ratio} times as much: a decompression bomb or a blank picture"
            )


LIMITS = Limits()
