"""One process at a time in a folder.

The operating system holds the lock and frees it when the process ends, however it ends: a file
that a killed process left behind locks nothing. What the file holds tells who is at work.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from hilum.errors import HilumError, RunError

LOCK_FILE = ".lock"

FAR = 1 << 20
"""Byte that is locked on Windows, where what is locked cannot be read: far behind the text."""


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Work alone in a folder, which is made where it is missing.

    Raises
    ------
    RunError
        If another process is at work there.
    HilumError
        If the folder cannot be written to.
    """
    path = folder / LOCK_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = _take(path)
    except OSError as error:
        raise HilumError(
            f"{path} cannot be written: {error.strerror or error}. Choose another folder."
        ) from error
    if stream is None:
        raise RunError(
            f"{folder} is in use{_holder(path)}. Wait until that ends, or end it; then start again."
        )
    try:
        yield
    finally:
        # Removed while it is held, so that nobody takes a file that is about to go.
        with contextlib.suppress(OSError):
            path.unlink()
        stream.close()
        # Windows removes no open file.
        with contextlib.suppress(OSError):
            if sys.platform == "win32":
                path.unlink()


def _take(path: Path) -> BinaryIO | None:
    """Lock the file and write down who holds it; None where another process does."""
    while True:
        stream = path.open("a+b")
        if not _lock(stream):
            stream.close()
            return None
        if _is_there(path, stream):
            break
        stream.close()  # its last holder removed it just now
    stream.truncate(0)
    stream.write(json.dumps(_me()).encode())
    stream.flush()
    return stream


def _is_there(path: Path, stream: BinaryIO) -> bool:
    """Say whether the open file still is the one at `path`."""
    try:
        return os.path.samestat(path.stat(), os.fstat(stream.fileno()))
    except OSError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _lock(stream: BinaryIO) -> bool:
        stream.seek(FAR)
        try:
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _lock(stream: BinaryIO) -> bool:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _me() -> dict[str, str | int]:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since}


def _holder(path: Path) -> str:
    """Say who holds the lock, as far as that can be read."""
    try:
        found = json.loads(path.read_bytes())
        return f" by process {found['pid']} on {found['host']} since {found['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return " by another process"
