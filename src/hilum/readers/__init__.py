"""One file → pixels and facts.

`read` is the only way in. Pixels come as they were stored, upright, grey or RGB, never cut and
never filled; what cannot be read whole is refused by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hilum.readers._arrays import read_arrays
from hilum.readers._files import read_bytes
from hilum.readers._isolated import read_isolated
from hilum.readers._limits import LIMITS, Limits
from hilum.readers._picture import AtLeast, Facts, Picture, Reduction
from hilum.readers._read import read

__all__ = [
    "LIMITS",
    "AtLeast",
    "Facts",
    "Limits",
    "Picture",
    "Reduction",
    "dicom_columns",
    "read",
    "read_arrays",
    "read_bytes",
    "read_header",
    "read_isolated",
]


def dicom_columns(source: str | Path | bytes, *, name: str | None = None) -> dict[str, str]:
    """Read patient, study, laterality, view, modality and manufacturer; '' where absent.

    For tables of samples, where the user asks for these columns: they may identify a person.

    Raises
    ------
    UnreadableError
        If the file is no DICOM, or damaged.
    """
    # pydicom takes a third of a second to import, which no PNG should wait for.
    from hilum.readers import _dicom

    return _dicom.dicom_columns(source, name=name)


def read_header(
    source: str | Path | bytes, fields: Sequence[str], *, name: str | None = None
) -> dict[str, str]:
    """Read the named header fields of a DICOM file, such as 'PatientID'; '' where absent.

    They may identify a person. `read` returns no such field.

    Raises
    ------
    UnreadableError
        If the file is no DICOM, or damaged.
    """
    from hilum.readers import _dicom

    return _dicom.read_header(source, fields, name=name)
