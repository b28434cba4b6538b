"""Damage files at random and see that `read` answers each: a picture or `UnreadableError`.

    python tests/fuzz_readers.py --seconds 600 --seed 0

Runs for the stated time. Batches run in processes of their own, so that a crash or hang of a
decoder is seen and can be repeated by its seed. Anything but an answer within the time, and any
word on the terminal, counts as a failure; the exit code is then 1. Files under HILUM_DATA are
damaged too where it is set.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from hilum.errors import UnreadableError
from hilum.readers import read

CASES_A_BATCH = 100
MOST_S_A_CASE = 5.0
MOST_BYTES = 300_000


def seeds() -> dict[str, bytes]:
    """Return small whole files of every format, by name."""
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (23, 31), np.uint8)
    grey = np.sort(grey, axis=0)
    files = {}
    for mode in ("1", "L", "P", "LA", "RGB", "RGBA", "I;16"):
        image = Image.fromarray(grey).convert(mode)
        files[f"{mode}.png"] = _saved(image, "PNG")
    for mode in ("L", "RGB", "CMYK"):
        for progressive in (False, True):
            image = Image.fromarray(grey).convert(mode)
            name = f"{mode}-{progressive}.jpg"
            files[name] = _saved(image, "JPEG", progressive=progressive)
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4"):
        image = Image.fromarray(grey).convert("1" if compression == "group4" else "RGB")
        files[f"{compression}.tif"] = _saved(image, "TIFF", compression=compression)
    array = io.BytesIO()
    np.save(array, grey)
    files["array.npy"] = array.getvalue()
    archive = io.BytesIO()
    np.savez_compressed(archive, images=np.stack([grey, grey]))
    files["arrays.npz"] = archive.getvalue()
    root = os.environ.get("HILUM_DATA")
    for path in sorted((Path(root) / "odd-files").rglob("*")) if root else ():
        if path.is_file() and path.stat().st_size < MOST_BYTES and path.suffix != ".csv":
            files[str(path)] = path.read_bytes()
    return files


def _saved(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Return `data` with one to four random wounds."""
    wounded = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if not wounded:
            break
        at = rng.randrange(len(wounded))
        # Headers decide most, so half of the wounds go there.
        at = at % 400 if rng.random() < 0.5 else at
        at = min(at, len(wounded) - 1)
        kind = rng.randrange(7)
        if kind == 0:
            wounded[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            wounded[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif kind == 2:
            del wounded[at:]
        elif kind == 3:
            del wounded[at : at + rng.randint(1, 64)]
        elif kind == 4:
            wounded[at:at] = wounded[at : at + rng.randint(1, 64)]
        elif kind == 5:
            n = rng.choice((2, 4, 8))
            value = rng.choice((0, 1, 2 ** (8 * n) - 1, 2 ** (8 * n - 1), rng.randrange(2**16)))
            wounded[at : at + n] = value.to_bytes(n, rng.choice(("little", "big")))
        else:
            wounded[at : at + 16] = rng.randbytes(16)
    return bytes(wounded)


def batch(seed: int) -> dict[str, object]:
    """Read one batch of damaged files; whatever else than an answer escapes."""
    rng, files = random.Random(seed), seeds()
    names = sorted(files)
    n_read, slowest = 0, (0.0, "")
    for _ in range(CASES_A_BATCH):
        name = rng.choice(names)
        data = damaged(files[name], rng)
        start = time.perf_counter()
        try:
            picture = read(data)
            n_read += 1
            assert picture.pixels.ndim == 4
            assert picture.pixels.shape[-1] in (1, 3)
        except UnreadableError:
            pass
        slowest = max(slowest, (time.perf_counter() - start, name))
    return {"n_read": n_read, "slowest": slowest}


def run(seconds: float, first_seed: int) -> int:
    """Run batches until the time is over; return the number of failures."""
    end, seed, n_failed, n_read, slowest = time.monotonic() + seconds, first_seed, 0, 0, [0.0, ""]
    while time.monotonic() < end:
        command = [sys.executable, __file__, "--batch", str(seed)]
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=CASES_A_BATCH * MOST_S_A_CASE, check=False
            )
            lines = done.stdout.splitlines()
            noise = done.stderr + b"".join(lines[:-1])
            if done.returncode or noise or not lines:
                n_failed += 1
                sys.stdout.write(f"batch {seed}: exit {done.returncode}: {noise[-2000:]!r}\n")
            else:
                result = json.loads(lines[-1])
                n_read += result["n_read"]
                slowest = max(slowest, result["slowest"])
        except subprocess.TimeoutExpired:
            n_failed += 1
            sys.stdout.write(f"batch {seed}: took too long\n")
        seed += 1
    n = (seed - first_seed) * CASES_A_BATCH
    sys.stdout.write(
        f"{n:,} damaged files, {n_read:,} still read, {n_failed} batches failed, "
        f"slowest {slowest[0]:.2f} s ({slowest[1]})\n"
    )
    return n_failed


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, help="run this one batch only")
    arguments = parser.parse_args()
    if arguments.batch is not None:
        sys.stdout.write(json.dumps(batch(arguments.batch)) + "\n")
        return
    sys.exit(1 if run(arguments.seconds, arguments.seed) else 0)


if __name__ == "__main__":
    main()
