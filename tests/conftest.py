"""What all tests share: a cache of their own, and the way to real images."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HILUM_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def hilum_data() -> Path:
    """Return the folder of real images, or skip."""
    folder = Path(os.environ.get("HILUM_DATA") or REPOSITORY / ".." / "shared" / "data").resolve()
    if not folder.is_dir():
        pytest.skip(f"needs real images in HILUM_DATA; {folder} does not exist")
    return folder
