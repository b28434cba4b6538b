"""The child process of `read_isolated`: a request and a file on stdin, a picture on stdout.

The request is one line of JSON, the rest of stdin the file. The answer is one line of JSON,
followed by the pixels' bytes where the file was read.
"""

from __future__ import annotations

import dataclasses
import json
import sys

from hilum.errors import UnreadableError
from hilum.readers._read import read


def main() -> None:
    """Answer one request."""
    request = json.loads(sys.stdin.buffer.readline())
    _limit(request["memory_mb"], request["cpu_s"])
    window = request["window"]
    try:
        picture = read(
            sys.stdin.buffer.read(),
            name=request["name"],
            axis=request["axis"],
            window=tuple(window) if isinstance(window, list) else window,
        )
    except UnreadableError as error:
        _answer({"reason": error.reason})
        return
    answer: dict[str, object] = {
        "shape": picture.pixels.shape,
        "dtype": picture.pixels.dtype.str,
        "value_range": picture.value_range,
        "facts": dataclasses.asdict(picture.facts),
    }
    _answer(answer, picture.pixels.tobytes())


def _limit(memory_mb: int, cpu_s: int) -> None:
    """Bound what this process may take; nothing it does needs files or core dumps."""
    try:
        import resource
    except ImportError:  # Windows: the parent's time limit remains.
        return
    memory = memory_mb * 2**20
    for kind, most in (
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def _answer(head: dict[str, object], body: bytes = b"") -> None:
    sys.stdout.buffer.write(json.dumps(head).encode() + b"\n" + body)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
