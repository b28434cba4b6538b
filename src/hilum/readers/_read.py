"""`read`: find out what a file is and hand it to its reader."""

from __future__ import annotations

from pathlib import Path

from hilum.readers._files import with_file
from hilum.readers._limits import LIMITS, Limits
from hilum.readers._picture import AtLeast, Picture


def read(
    source: str | Path | bytes,
    *,
    name: str | None = None,
    axis: int = 2,
    window: int | tuple[float, float] = 0,
    array: str | None = None,
    limits: Limits = LIMITS,
    at_least: AtLeast | None = None,
    verified: bool = False,
) -> Picture:
    """Read one image file.

    Parameters
    ----------
    source : path or bytes
        The file, or its content.
    name : str, optional
        What messages call it; the path by default.
    axis : int
        NIfTI: the axis, 0 to 2, along which a volume is cut into frames.
    window : int or (centre, width)
        DICOM: which of the file's windows to show, 0 the first, or one of the user's own.
    array : str, optional
        NPZ: which array to read, needed where the file holds more than one.
    limits : Limits
        What the file may ask for.
    at_least : AtLeast, optional
        JPEG: decode a picture far larger than this at a half, a quarter or an eighth of its size.
    verified : bool
        These very bytes were read before without this, so that the costliest checks may be left
        out. What is damaged all the same is still refused, or read as it was before.

    Returns
    -------
    Picture

    Raises
    ------
    UnreadableError
        Whatever is wrong with the file; the text names it and says why.

    Examples
    --------
    >>> import io
    >>> from PIL import Image
    >>> file = io.BytesIO()
    >>> Image.new("L", (3, 2), 7).save(file, "PNG")
    >>> read(file.getvalue()).pixels.shape
    (1, 2, 3, 1)
    """

    def decode(data: bytes, form: str) -> Picture:
        if form == "PNG":
            from hilum.readers._png import read_png

            return read_png(data, limits)
        if form == "JPEG":
            from hilum.readers._jpeg import read_jpeg

            return read_jpeg(data, limits, at_least=at_least, verified=verified)
        if form == "TIFF":
            from hilum.readers._tiff import read_tiff

            return read_tiff(data, limits)
        if form == "DICOM":
            from hilum.readers._dicom import read_dicom

            return read_dicom(data, limits, window=window)
        if form == "NIfTI":
            from hilum.readers._nifti import read_nifti

            return read_nifti(data, limits, axis=axis)
        from hilum.readers._arrays import read_npy, read_npz

        return read_npz(data, limits, array=array) if form == "NPZ" else read_npy(data, limits)

    return with_file(source, name, limits, decode)
