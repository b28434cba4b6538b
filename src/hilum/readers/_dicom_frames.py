"""The frames of a DICOM file, decoded to stored values.

Compressed frames are compared with the header, and seen to be whole, before a decoder gets them.
"""

from __future__ import annotations

from typing import Any

import imagecodecs
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import generate_frames
from pydicom.pixels.processing import convert_color_space
from pydicom.pixels.utils import pixel_array

from hilum.readers._jpeg import check_complete, parse_jpeg
from hilum.readers._limits import Refusal

BASELINE_JPEG, EXTENDED_JPEG = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"
LOSSLESS_JPEG = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
JPEG_SYNTAXES = (BASELINE_JPEG, EXTENDED_JPEG, *LOSSLESS_JPEG)
JPEG_2000_SYNTAXES = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 201, 202, 203))
JPEG_LS_SYNTAXES = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (80, 81))
# One decoder for each syntax, so that a refusal by one is not turned into a picture by another.
DECODERS = {
    BASELINE_JPEG: "pillow",
    EXTENDED_JPEG: "pillow",
    **dict.fromkeys(JPEG_2000_SYNTAXES, "pylibjpeg"),
    **dict.fromkeys(JPEG_LS_SYNTAXES, "pyjpegls"),
    "1.2.840.10008.1.2.5": "pydicom",
}


def check_streams(ds: pydicom.Dataset) -> None:
    """Compare each compressed frame with the header, and see that it is whole."""
    syntax = str(ds.file_meta.TransferSyntaxUID)
    if not ds.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    if syntax not in JPEG_SYNTAXES + JPEG_2000_SYNTAXES + JPEG_LS_SYNTAXES:
        return
    try:
        frames = list(generate_frames(ds.PixelData, number_of_frames=_n_frames(ds)))
    except Exception as error:
        raise Refusal(
            f"damaged DICOM: its frames cannot be told apart ({type(error).__name__})"
        ) from None
    for frame in frames:
        if syntax in JPEG_SYNTAXES:
            jpeg = parse_jpeg(frame)
            check_complete(jpeg)
            size = jpeg.height, jpeg.width
        elif syntax in JPEG_2000_SYNTAXES:
            size = _jpeg_2000_size(frame)
        else:
            size = _jpeg_ls_size(frame)
        if size != (int(ds.Rows), int(ds.Columns)):
            raise Refusal(
                f"damaged DICOM: a compressed frame of {size[0]} × {size[1]} pixels where the "
                f"header states {ds.Rows} × {ds.Columns}"
            )


def _n_frames(ds: pydicom.Dataset) -> int:
    return int(ds.get("NumberOfFrames") or 1)


def _jpeg_2000_size(frame: bytes) -> tuple[int, int]:
    """Return (height, width) of a codestream whose tile parts are all there."""
    start = frame.find(b"\xff\x4f\xff\x51")
    if start < 0 or start + 24 > len(frame):
        raise Refusal("damaged DICOM: a JPEG 2000 frame has no header")
    width, height, left, top = (
        int.from_bytes(frame[start + at : start + at + 4], "big") for at in (8, 12, 16, 20)
    )
    at = start + 2
    while True:
        marker, length = frame[at : at + 2], int.from_bytes(frame[at + 2 : at + 4], "big")
        if marker == b"\xff\xd9":
            break
        if marker == b"\xff\x90" and at + 12 <= len(frame):  # SOT: Psot covers the tile part
            length = int.from_bytes(frame[at + 6 : at + 10], "big") - 2
            if length == -2:  # up to the end of the codestream
                break
        if len(marker) < 2 or length < 2 or at + 2 + length > len(frame):
            if marker in (b"", b"\0") or not frame[at:].strip(b"\0"):
                break  # All tile parts were whole; only the end marker is missing.
            raise Refusal("truncated DICOM: a JPEG 2000 frame stops early")
        at += 2 + length
    return height - top, width - left


def _jpeg_ls_size(frame: bytes) -> tuple[int, int]:
    """Return (height, width) of a JPEG-LS stream that has its end marker."""
    at = frame.find(b"\xff\xf7")
    if at < 0 or b"\xff\xd9" not in frame[-16:]:
        raise Refusal("truncated DICOM: a JPEG-LS frame has no header or no end")
    return int.from_bytes(frame[at + 5 : at + 7], "big"), int.from_bytes(
        frame[at + 7 : at + 9], "big"
    )


def stored_values(ds: pydicom.Dataset) -> NDArray[Any]:
    """Decode all frames; colour comes as RGB."""
    syntax = str(ds.file_meta.TransferSyntaxUID)
    try:
        if syntax in LOSSLESS_JPEG or (syntax == EXTENDED_JPEG and int(ds.BitsStored) > 8):
            values = _by_libjpeg(ds)
        else:
            values = pixel_array(ds, raw=False, decoding_plugin=DECODERS.get(syntax, ""))
    except Refusal:
        raise
    except Exception as error:
        words = " ".join(str(error).split())[:160]
        raise Refusal(f"its pixel data cannot be decoded: {words}") from None
    shape = (_n_frames(ds), int(ds.Rows), int(ds.Columns), int(ds.SamplesPerPixel))
    if values.size != np.prod(shape):
        raise Refusal("damaged DICOM: it holds more or fewer pixels than its header states")
    values = values.reshape(shape)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _by_libjpeg(ds: pydicom.Dataset) -> NDArray[Any]:
    """Decode 12-bit and lossless JPEG.

    Of pydicom's decoders under a permissive licence only GDCM knows the lossless kind and none
    the other; GDCM also writes to the terminal.
    """
    frames = [
        imagecodecs.jpeg8_decode(
            parse_jpeg(frame).whole,
            colorspace="GRAYSCALE" if ds.SamplesPerPixel == 1 else "RGB",
            outcolorspace="GRAYSCALE" if ds.SamplesPerPixel == 1 else "RGB",
        )
        for frame in generate_frames(ds.PixelData, number_of_frames=_n_frames(ds))
    ]
    values = np.stack(frames)
    if str(ds.PhotometricInterpretation) == "YBR_FULL":
        return convert_color_space(values, "YBR_FULL", "RGB")
    if int(ds.get("PixelRepresentation") or 0) == 0:
        return values
    bits = int(ds.BitsStored)
    sign = 1 << (bits - 1)
    return np.asarray(((values.astype(np.int32) & (2**bits - 1)) ^ sign) - sign, np.int16)
