"""Inflate in small steps, so that a bomb is seen before it has grown."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

STEP_IN, STEP_OUT = 2**16, 2**20


class Inflation:
    """One deflate stream; `wbits` as for `zlib.decompressobj`.

    Attributes
    ----------
    end : int
        Where the stream ended in the last data fed, once `done`.
    """

    def __init__(self, wbits: int = zlib.MAX_WBITS) -> None:
        self._inflater = zlib.decompressobj(wbits)
        self.end = 0

    @property
    def done(self) -> bool:
        """Whether the stream has come to its end, its checksum verified."""
        return self._inflater.eof

    def feed(self, data: bytes | memoryview, start: int = 0) -> Iterator[bytes]:
        """Yield what `data` from `start` on inflates to, in pieces; raises `zlib.error`."""
        view = memoryview(data)
        for at in range(start, len(view), STEP_IN):
            # In small pieces, because zlib copies what it has not consumed at every step.
            rest: bytes | memoryview = view[at : at + STEP_IN]
            stop = at + len(rest)
            while rest and not self.done:
                yield self._inflater.decompress(rest, STEP_OUT)
                rest = self._inflater.unconsumed_tail
            if self.done:
                self.end = stop - len(self._inflater.unused_data)
                return
