"""Read a file from a stranger in a process that may crash, hang or grow without harm to ours."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from hilum.errors import UnreadableError
from hilum.readers._files import load
from hilum.readers._limits import LIMITS, Refusal
from hilum.readers._picture import Facts, Picture

CHILD = (sys.executable, "-P", "-m", "hilum.readers._child")


def read_isolated(
    source: str | Path | bytes,
    *,
    name: str | None = None,
    timeout_s: float = 10,
    memory_mb: int = 1024,
    axis: int = 2,
    window: int | tuple[float, float] = 0,
) -> Picture:
    """Read one image file as `read` does, in a child process with limits.

    Parameters
    ----------
    source, name, axis, window
        As for `read`.
    timeout_s : float
        Seconds after which the child is killed, its start of about half a second included.
    memory_mb : int
        Memory that the child may take, in MiB (Linux and macOS; elsewhere only time is limited).

    Raises
    ------
    UnreadableError
        As `read` does, and when the child crashes or exceeds a limit.
    """
    label = name or ("image" if isinstance(source, bytes) else str(source))
    try:
        data = source if isinstance(source, bytes) else load(Path(source), LIMITS)
    except Refusal as refusal:
        raise UnreadableError(label, str(refusal)) from None
    request = {
        "name": label,
        "axis": axis,
        "window": window,
        "memory_mb": memory_mb,
        "cpu_s": int(timeout_s) + 1,
    }
    try:
        done = subprocess.run(
            CHILD,
            input=json.dumps(request).encode() + b"\n" + data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UnreadableError(label, f"reading it took longer than {timeout_s:g} s") from None
    head, newline, pixels = done.stdout.partition(b"\n")
    if done.returncode != 0 or not newline:
        raise UnreadableError(
            label, "reading it crashed or ran out of memory in a separate process"
        )
    answer = json.loads(head)
    if "reason" in answer:
        raise UnreadableError(label, answer["reason"])
    return _picture(answer, pixels)


def _picture(answer: dict[str, Any], pixels: bytes) -> Picture:
    facts = answer["facts"]
    facts["notes"] = tuple(facts["notes"])
    if facts["spacing_mm"] is not None:
        facts["spacing_mm"] = tuple(facts["spacing_mm"])
    # A copy, so that the pixels are writable as `read`'s are.
    array = np.frombuffer(pixels, answer["dtype"]).reshape(answer["shape"]).copy()
    low, high = answer["value_range"]
    return Picture(array, (low, high), Facts(**facts))
