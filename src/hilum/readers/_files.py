"""The content of a file, and what kind of file it is, or the reason why not."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hilum.errors import UnreadableError
from hilum.readers._limits import LIMITS, Limits, Refusal
from hilum.readers._quiet import quiet
from hilum.readers._sniff import WANTED, contradicts, sniff, why_not

T = TypeVar("T")
HEAD = 400


def with_file(
    source: str | Path | bytes, name: str | None, limits: Limits, use: Callable[[bytes, str], T]
) -> T:
    """Call `use(content, format)`; let nothing but `UnreadableError` out."""
    label = name or ("image" if isinstance(source, bytes) else str(source))
    form = "image"
    try:
        with quiet():
            data = source if isinstance(source, bytes) else load(Path(source), limits)
            if not data:
                raise Refusal("the file is empty")
            data, form = _identify(data, label, limits)
            return use(data, form)
    except Refusal as refusal:
        raise UnreadableError(label, str(refusal)) from None
    except MemoryError:
        raise UnreadableError(label, "reading it takes more memory than there is") from None
    except RecursionError:
        raise UnreadableError(label, f"damaged {form}: nested too deeply") from None
    except Exception as error:
        # A library found something that our own checks did not. Its words, cut short.
        words = " ".join(str(error).split())[:200] or type(error).__name__
        if form == "DICOM":
            words = type(error).__name__  # The words may quote the header, and so a person.
        raise UnreadableError(label, f"damaged or unsupported {form}: {words}") from None


def read_bytes(path: str | Path, *, name: str | None = None) -> bytes:
    """Return the content of a regular file of bearable size, whatever it is.

    Raises
    ------
    UnreadableError
        If there is no such file, or it cannot be read.
    """
    try:
        return load(Path(path), LIMITS)
    except Refusal as refusal:
        raise UnreadableError(name or str(path), str(refusal)) from None


def load(path: Path, limits: Limits) -> bytes:
    """Return the content of a regular file of bearable size."""
    try:
        # Pipes and devices would block; opening without waiting and asking first avoids that.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
    except OSError as error:
        raise Refusal(_plain(error)) from None
    except ValueError:
        raise Refusal("its name is not one that a file can have") from None
    try:
        state = os.fstat(handle)
        if stat.S_ISDIR(state.st_mode):
            raise Refusal("a folder, not a file")
        if not stat.S_ISREG(state.st_mode):
            raise Refusal("not a regular file")
        if state.st_size > limits.max_file_bytes:
            raise Refusal(
                f"{state.st_size / 2**20:,.0f} MiB exceed the limit of "
                f"{limits.max_file_bytes / 2**20:,.0f} MiB a file"
            )
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read()
    except OSError as error:
        raise Refusal(_plain(error)) from None
    finally:
        os.close(handle)


_BINARY = getattr(os, "O_BINARY", 0)


def _plain(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _identify(data: bytes, label: str, limits: Limits) -> tuple[bytes, str]:
    """Return (content, format), unpacked if it was a gzipped NIfTI."""
    head = data[:HEAD]
    found = sniff(head)
    if found in WANTED and (reason := contradicts(label, found)):
        raise Refusal(reason)
    if found == "gzip":
        try:
            head = zlib.decompressobj(wbits=31).decompress(data, HEAD)
        except zlib.error:
            raise Refusal("damaged gzip file") from None
        found = sniff(head)
        if found != "NIfTI" and found != "the header half of a NIfTI pair":
            raise Refusal("a gzip file; only NIfTI is read compressed (.nii.gz). Unpack it first")
        if found == "NIfTI":
            from hilum.readers._nifti import gunzip

            return gunzip(data, limits), found
    if found not in WANTED:
        raise Refusal(why_not(found, head))
    return data, found
