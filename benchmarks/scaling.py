"""Does the cost of an image stay the same, and memory flat, when there are many?

    python -m benchmarks.scaling [--few 1000] [--many 50000] [--memory-few 5000] [--rounds 2]
    python -m benchmarks.scaling --only-memory [--many 50000] [--memory-few 5000] [--rounds 1]

Images are made on the spot, 64×64 JPEGs, each of another patient. `hilum train` runs as a process
of its own, whose anonymous memory (its own, not the page cache) is watched; a second process times
the audit and the filling of the cache. `--only-memory` trains for one epoch on PNGs of 16×16, which
takes a few minutes: what grows with the number of images does not depend on their size.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from benchmarks._images import make_classes
from benchmarks._timing import HILUM, Report, command_line, in_turns, itself, parser, run

SIDE, SMALL_SIDE = 64, 16


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


def training(folder: Path, *, side: int = SIDE, epochs: int = 2) -> dict[str, float]:
    """Train on images of this side; return seconds an image of the last epoch, and most memory."""
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "run"
        settings = (f"input_height={side}", f"input_width={side}", "conv_channels=[16,32]")
        options = ["--epochs", epochs, *(f"--set={setting}" for setting in settings)]
        command = [HILUM, "train", folder, "--recipe", "chest-xray", *options]
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


def compare_memory(few: int, many: int, rounds: int, report: Report) -> None:
    """Add the peak of private memory with many images against few, and what an image adds."""
    with tempfile.TemporaryDirectory() as temporary:
        folders = {
            n: make_classes(Path(temporary) / str(n), n, side=SMALL_SIDE, form="png")
            for n in (many, few)
        }

        def trained(folder: Path) -> Callable[[int], dict[str, float]]:
            return lambda _: training(folder, side=SMALL_SIDE, epochs=1)

        found = in_turns({f"{n} images": trained(path) for n, path in folders.items()}, rounds)
    peaks = [[answer["private_mb"] for answer in answers] for answers in found.values()]
    _add_memory(report, many, few, *peaks)
    growth = [(most - least) * 2**20 / (many - few) for most, least in zip(*peaks, strict=True)]
    report.facts = {**found, "bytes_an_image": growth}


def _add_memory(
    report: Report, many: int, few: int, large: Sequence[float], small: Sequence[float]
) -> None:
    what = f"peak private memory, {many:,} images against {few:,}"
    report.compare(what, large, small, unit="MiB", wanted="0.91 ×")


def main() -> None:
    options = parser(__doc__, rounds=2)
    options.add_argument("--few", type=int, default=1000)
    options.add_argument("--many", type=int, default=50_000)
    options.add_argument("--memory-few", type=int, default=5000)
    options.add_argument("--only-memory", action="store_true", help="small images, one epoch")
    options.add_argument("--audit-and-cache", type=Path, help="only this, as JSON")
    arguments = options.parse_args()
    if arguments.audit_and_cache:
        print(json.dumps(audit_and_cache(arguments.audit_and_cache)))
        return
    report = Report("From few images to many", command_line(), ("many", "few"))
    if arguments.only_memory:
        compare_memory(arguments.memory_few, arguments.many, arguments.rounds, report)
        report.show(arguments.json)
        return
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
    _add_memory(report, arguments.many, arguments.memory_few, *memory)
    report.facts = found
    report.show(arguments.json)


if __name__ == "__main__":
    main()
