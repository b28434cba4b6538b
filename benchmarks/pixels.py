"""From JPEGs to arrays of 224×224: our first pass against Pillow, one process, full decode.

    python -m benchmarks.pixels [FOLDER] [--size 224]

FOLDER holds class folders of large JPEGs. Each side and round is a process of its own, which times
itself after its imports: reading all files for the audit, filling an empty cache, and Pillow's
decoding in full with an antialiased bilinear resize. Files are in the page cache for both.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks._timing import DATA, Report, command_line, in_turns, itself, parser, run


def ours(folder: Path, size: int) -> dict[str, Any]:
    """Scan and decode, from an empty cache."""
    from hilum.cache import stored_images
    from hilum.dataset import load_dataset
    from hilum.pixels import PixelSpec
    from hilum.progress import LogProgress
    from hilum.scan import scan

    dataset = load_dataset(folder)
    progress = LogProgress()
    started = time.perf_counter()
    samples = scan(dataset, progress).samples
    scanned = time.perf_counter()
    readable = samples[~samples["excluded"].astype(bool)]
    spec = PixelSpec(height=size, width=size, resize="stretch")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["HILUM_CACHE"] = cache
        begun = time.perf_counter()
        stored_images(dataset, list(readable["path"]), list(readable["sha256"]), spec, progress)
        stored = time.perf_counter()
    return {"n": len(readable), "scan": scanned - started, "cache": stored - begun}


def pillow(folder: Path, size: int) -> dict[str, Any]:
    """Decode in full and resize, one file after another."""
    from PIL import Image

    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    started = time.perf_counter()
    for file in files:
        with Image.open(file) as image:
            small = image.convert("L").resize((size, size), Image.Resampling.BILINEAR)
        np.asarray(small)
    return {"n": len(files), "cache": time.perf_counter() - started}


def main() -> None:
    options = parser(__doc__, rounds=5)
    options.add_argument("folder", type=Path, nargs="?", default=DATA / "chest-xray-original")
    options.add_argument("--size", type=int, default=224)
    options.add_argument("--side", choices=("hilum", "pillow"), help="only this one, as JSON")
    arguments = options.parse_args()
    folder = arguments.folder.resolve()
    if arguments.side:
        side = ours if arguments.side == "hilum" else pillow
        print(json.dumps(side(folder, arguments.size)))
        return
    found = in_turns(
        {
            side: lambda _, side=side: (
                run(  # type: ignore[misc]
                    itself("pixels", folder, "--side", side, "--size", str(arguments.size))
                ).answer
            )
            for side in ("hilum", "pillow")
        },
        arguments.rounds,
    )
    report = Report("First pass over large JPEGs", command_line(), ("hilum", "Pillow"))
    theirs = [1000 * answer["cache"] / answer["n"] for answer in found["pillow"]]
    for what, parts, wanted in (
        ("filling the cache", ("cache",), "4 ×"),
        ("reading for the audit", ("scan",), ""),
        ("both", ("scan", "cache"), ""),
    ):
        times = [1000 * sum(a[part] for part in parts) / a["n"] for a in found["hilum"]]
        report.compare(what, times, theirs, unit="ms an image", wanted=wanted)
    report.facts = found
    report.show(arguments.json)


if __name__ == "__main__":
    main()
