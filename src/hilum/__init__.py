"""Hilum: from a folder of medical images to a classifier you can defend."""

from __future__ import annotations

__version__ = "0.1.0"
