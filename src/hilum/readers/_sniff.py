"""What a file is, by its first bytes and never by its name."""

from __future__ import annotations

import re

WANTED = ("PNG", "JPEG", "TIFF", "DICOM", "NIfTI", "NPZ", "NPY")

# (bytes, where they stand, what they mean)
SIGNATURES = (
    (b"DICM", 128, "DICOM"),  # first: its preamble may be a TIFF header
    (b"\x89PNG\r\n\x1a\n", 0, "PNG"),
    (b"\xff\xd8\xff", 0, "JPEG"),
    (b"II*\0", 0, "TIFF"),
    (b"MM\0*", 0, "TIFF"),
    (b"II+\0", 0, "TIFF"),
    (b"MM\0+", 0, "TIFF"),
    (b"n+1\0", 344, "NIfTI"),
    (b"n+2\0\r\n\x1a\n", 4, "NIfTI"),
    (b"ni1\0", 344, "the header half of a NIfTI pair"),
    (b"ni2\0\r\n\x1a\n", 4, "the header half of a NIfTI pair"),
    (b"\x93NUMPY", 0, "NPY"),
    (b"PK\x03\x04", 0, "NPZ"),
    (b"PK\x05\x06", 0, "an empty ZIP archive"),
    (b"\x1f\x8b", 0, "gzip"),
    (b"GIF8", 0, "GIF"),
    (b"BM", 0, "BMP"),
    (b"WEBP", 8, "WebP"),
    (b"\0\0\0\x0cjP  ", 0, "JPEG 2000"),
    (b"\xff\x4f\xff\x51", 0, "JPEG 2000"),
    (b"\xff\x0a", 0, "JPEG XL"),
    (b"\0\0\0\x0cJXL ", 0, "JPEG XL"),
    (b"ftypavif", 4, "AVIF"),
    (b"ftypavis", 4, "AVIF"),
    (b"ftyphei", 4, "HEIF"),
    (b"ftypmif1", 4, "HEIF"),
    (b"ftyp", 4, "MP4 video"),
    (b"8BPS", 0, "Photoshop"),
    (b"\0\0\1\0", 0, "ICO"),
    (b"DDS ", 0, "DDS"),
    (b"\x01\xda", 0, "SGI"),
    (b"%PDF", 0, "PDF"),
    (b"%!PS", 0, "PostScript"),
    (b"\xc5\xd0\xd3\xc6", 0, "PostScript"),
    (b"\x89HDF", 0, "HDF5"),
    (b"CDF\x01", 0, "NetCDF or MINC"),
    (b"SIMPLE  =", 0, "FITS"),
    (b"TRACK\0", 0, "TrackVis tractography"),
    (b"NRRD0", 0, "NRRD"),
    (b"\x80\x04", 0, "a Python pickle"),
    (b"\x80\x05", 0, "a Python pickle"),
    (b"BZh", 0, "bzip2"),
    (b"\xfd7zXZ\0", 0, "xz"),
    (b"7z\xbc\xaf\x27\x1c", 0, "7-Zip"),
    (b"Rar!", 0, "RAR"),
)
PROMISES = (((".dcm", ".dicom"), "DICOM"), ((".nii", ".nii.gz"), "NIfTI"))
MARKUP = re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*<(\?xml|!doctype|html|svg|head|body)", re.IGNORECASE)
NETPBM = re.compile(rb"P[1-7fF]\s")
# The first element of a DICOM data set without its file header: group 2 or 8, a low element.
BARE_DICOM = re.compile(rb"[\x02\x08]\0[\0-\x20]\0(?:[A-Z]{2}|.{2}\0\0)|\0[\x02\x08]\0.[A-Z]{2}")


def sniff(head: bytes) -> str:
    """Name the format of a file from its first 400 bytes; '' when nothing is recognised."""
    for signature, at, name in SIGNATURES:
        if head[at : at + len(signature)] == signature:
            return name
    if MARKUP.match(head):
        return "SVG or HTML"
    if NETPBM.match(head):
        return "Netpbm (PBM, PGM, PPM)"
    if BARE_DICOM.match(head):
        return "DICOM without its file header"
    return ""


def contradicts(name: str, found: str) -> str:
    """Say why a file's name forbids to read its content; '' where it does not.

    Names of pictures are mixed up harmlessly, PNG under `.jpg` for one. But who names a file DICOM
    or NIfTI relies on a header (windows, polarity, orientation) that a plain picture lacks.
    """
    for suffixes, promised in PROMISES:
        if name.lower().endswith(suffixes) and found != promised:
            return (
                f"named as {promised}, but its content is {found}. "
                f"Export it again, or rename it if {found} is right"
            )
    return ""


def why_not(found: str, head: bytes) -> str:
    """Say why a file that is none of the wanted formats is refused, and what to do."""
    if found == "the header half of a NIfTI pair":
        return "the header half of a NIfTI pair (.hdr with .img). Convert both to one .nii file"
    if found == "DICOM without its file header":
        return (
            "looks like DICOM without its file header (128 bytes and 'DICM'), so how it is "
            "encoded is unknown. Export it again as DICOM Part 10"
        )
    if found:
        return f"{found} is not a format that Hilum reads. Convert it to PNG, TIFF or DICOM"
    if not head.strip(b"\0"):
        return "nothing but zero bytes, as after a power failure or a failed copy"
    return "not an image in any format that Hilum reads (" + ", ".join(WANTED) + ")"
