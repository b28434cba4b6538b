"""The folders of the cache, where what took time to find out is kept for the next run."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """Return where stores are kept: HILUM_CACHE, or the user's cache folder."""
    chosen = os.environ.get("HILUM_CACHE")
    if chosen:
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "hilum"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hilum"


ROOMS = ("pixels", "looks", "findings", "probes", "trials")


def cache_room(name: str) -> Path:
    """Return one of the cache's folders, made for its owner alone: it tells of patients.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    assert name in ROOMS
    folder = cache_folder() / name
    folder.mkdir(parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)
    return folder


@functools.cache
def code_digest() -> bytes:
    """Hash the code of Hilum and of what it computes with, so that no answer outlives it."""
    digest = hashlib.sha256()
    package = Path(__file__).parent
    for file in sorted(package.rglob("*.py")):
        digest.update(file.read_bytes())
    for library in ("numpy", "pandas", "scipy", "scikit-learn", "torch"):
        digest.update(importlib.metadata.version(library).encode())
    return digest.digest()
