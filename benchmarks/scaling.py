"""Does the cost of an image stay the same, and memory flat, when there are many?

    python -m benchmarks.scaling [--few 1000] [--many 50000] [--memory-few 5000] [--rounds 2]

Images are made on the spot, 64×64 JPEGs, each of another patient. `hilum train` runs as a process
of its own, whose anonymous memory (its own, not the page cache) is watched; a second process times
the audit and the filling of the cache.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
from benchmarks._images import make_classes
from benchmarks._timing import HILUM, Report, command_line, in_turns, itself, parser, run

SIDE = 64
SETTINGS = (f"input_height={SIDE}", f"input_width={SIDE}", "conv_channels=[16,32]")


def audit_and_cache(folder: Path) -> dict[str, float]:
    """Return seconds an image."""
    from hilum.auditing import find_flaws
    from hilum.cache import stored_images
    from hilum.dataset import load_dataset
    from hilum.pixels import PixelSpec
    from hilum.progress import LogProgress
    from hilum.scan import scan

    progress = LogProgress()
    started = time.perf_counter()
    dataset = load_dataset(folder)
    scanned = scan(dataset, progress)
    read = time.perf_counter()
    find_flaws(dataset, scanned, progress)
    audited = time.perf_counter()
    samples = scanned.samples
    spec = PixelSpec(height=SIDE // 2, width=SIDE // 2)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["HILUM_CACHE"] = cache
        stored_images(dataset, list(samples["path"]), list(samples["sha256"]), spec, progress)
    n = len(samples)
    return {
        "reading": (read - started) / n,
        "audit": (audited - read) / n,
        "cache": (time.perf_counter() - audited) / n,
    }


def training(folder: Path) -> dict[str, float]:
    """Train for two epochs; return seconds an image of the second, and the most memory."""
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "run"
        options = [f"--set={setting}" for setting in SETTINGS]
        command = [HILUM, "train", folder, "--recipe", "chest-xray", "--epochs", "2", *options]
        done = run(
            [*command, "--out", out],
            environment={"HILUM_CACHE": str(Path(temporary) / "cache")},
            watch_memory=True,
        )
        samples = pd.read_csv(out / "samples.csv", keep_default_na=False)
        history = pd.read_csv(out / "history.csv")
    n_seen = int(samples["split"].isin(["train", "val"]).sum())
    epoch_s = float(history["elapsed_s"].iloc[-1])
    return {
        "private_mb": done.private_mb,
        "epoch": epoch_s / n_seen,
        "whole": done.seconds / len(samples),
    }


def main() -> None:
    options = parser(__doc__, rounds=2)
    options.add_argument("--few", type=int, default=1000)
    options.add_argument("--many", type=int, default=50_000)
    options.add_argument("--memory-few", type=int, default=5000)
    options.add_argument("--audit-and-cache", type=Path, help="only this, as JSON")
    arguments = options.parse_args()
    if arguments.audit_and_cache:
        print(json.dumps(audit_and_cache(arguments.audit_and_cache)))
        return
    report = Report("From few images to many", command_line(), ("many", "few"))
    with tempfile.TemporaryDirectory() as temporary:
        folders = {
            n: make_classes(Path(temporary) / str(n), n, side=SIDE)
            for n in {arguments.few, arguments.memory_few, arguments.many}
        }
        few, middle, many = (
            folders[n] for n in (arguments.few, arguments.memory_few, arguments.many)
        )

        def one(folder: Path) -> dict[str, Any]:
            timed = run(itself("scaling", "--audit-and-cache", folder)).answer
            return {**timed, **training(folder)}

        found = in_turns(
            {
                f"{arguments.few} images": lambda _: one(few),
                f"{arguments.memory_few} images": lambda _: one(middle),
                f"{arguments.many} images": lambda _: one(many),
            },
            arguments.rounds,
        )
    small, medium, large = found.values()
    for part in ("reading", "audit", "cache", "epoch", "whole"):
        a, b = ([1000 * answer[part] for answer in answers] for answers in (large, small))
        what = f"{part}, {arguments.many:,} images against {arguments.few:,}"
        report.compare(what, a, b, unit="ms an image", wanted="0.83 ×")
    memory = ([answer["private_mb"] for answer in answers] for answers in (large, medium))
    what = f"peak private memory, {arguments.many:,} images against {arguments.memory_few:,}"
    report.compare(what, *memory, unit="MiB", wanted="0.91 ×")
    report.facts = found
    report.show(arguments.json)


if __name__ == "__main__":
    main()
