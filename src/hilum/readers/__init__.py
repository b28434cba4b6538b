"""One file → pixels and facts.

`read` is the only way in. Pixels come as they were stored, upright, grey or RGB, never cut and
never filled; what cannot be read whole is refused by name.
"""

from __future__ import annotations

from hilum.readers._picture import Facts, Picture
from hilum.readers._read import read

__all__ = ["Facts", "Picture", "read"]
