"""How near a training step comes to what the machine can do, and what the rest is spent on.

    python -m benchmarks.roofline [--recipe chest-xray] [--batch 32] [--set name=value]

Floating-point operations are counted by PyTorch for the step (forward and backward; a
multiplication and an addition are two). Bytes are those that a step moves layer by layer: each
layer's input, output and weights once forward and twice backward, and the optimizer's state; layers
that are computed together move fewer. The machine's peaks are measured: a large matrix product in
float32 and bfloat16, and a copy of an array far larger than the caches. The roof is the longer of
the times that arithmetic and memory would allow.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from benchmarks._step import Step
from benchmarks._timing import Report, command_line, parser

from hilum.hardware import find_hardware
from hilum.recipes import load_recipe
from hilum.settings import Settings, make_settings, parse_assignments

SIDE = 4096  # of the matrices
COPIED = 2**28  # float32 values, 1 GiB
WARM_UP = 5


def median_s(work: Callable[[], Any], times: int) -> float:
    """Return the median seconds of a piece of work, waiting for the device each time."""
    seconds = []
    for number in range(WARM_UP + times):
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if number >= WARM_UP:
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def peaks(device: torch.device) -> dict[str, float]:
    """Measure floating-point operations a second of both types, and bytes a second."""
    found = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a, b = (torch.randn(SIDE, SIDE, device=device).to(dtype) for _ in range(2))
        found[name] = 2 * SIDE**3 / median_s(lambda a=a, b=b: a @ b, 5)  # type: ignore[misc]
    source = torch.ones(COPIED, device=device)
    target = torch.empty_like(source)
    # A copy reads and writes.
    found["bytes"] = 2 * 4 * COPIED / median_s(lambda: target.copy_(source), 5)
    return found


def main() -> None:
    options = parser(__doc__, rounds=20)
    options.add_argument("--recipe", default="chest-xray")
    options.add_argument("--batch", type=int)
    options.add_argument("--set", action="append", default=[], help="name=value")
    arguments = options.parse_args()
    settings = wanted_settings(arguments.recipe, arguments.batch, arguments.set)
    step = Step(settings)
    operations, moved = step.operations(), step.moved_bytes()
    seconds = median_s(step, arguments.rounds)
    peak = peaks(step.fabric.device)
    precision = settings.precision
    by_arithmetic, by_memory = operations / peak[precision], moved / peak["bytes"]
    report = Report(f"Roofline of a step, {arguments.recipe}", command_line())
    report.facts = {
        "batch_size": settings.batch_size,
        "precision": precision,
        "operations": operations,
        "bytes": moved,
        "peak_operations_per_s": {name: peak[name] for name in ("float32", "bfloat16")},
        "peak_bytes_per_s": peak["bytes"],
        "step_s": seconds,
        "images_per_s": settings.batch_size / seconds,
        "arithmetic_s": by_arithmetic,
        "memory_s": by_memory,
        "share_of_peak": by_arithmetic / seconds,
        "share_of_roof": max(by_arithmetic, by_memory) / seconds,
        "spent": dict(step.spent(arguments.rounds)),
    }
    report.show(arguments.json)
    print(table(report.facts))


def wanted_settings(recipe: str, batch: int | None, given: list[str]) -> Settings:
    """Return the recipe's settings, with the precision that a plan would choose here."""
    values = {**load_recipe(recipe).settings.model_dump(), **parse_assignments(given)}
    if batch:
        values["batch_size"] = batch
    if values.get("precision", "auto") == "auto":
        values["precision"] = "bfloat16" if find_hardware().has_bfloat16 else "float32"
    return make_settings(values)


def table(facts: dict[str, Any]) -> str:
    """Write the findings as Markdown."""
    peak = facts["peak_operations_per_s"]
    intensity = facts["operations"] / facts["bytes"]
    rows = [
        ("operations of a step", f"{facts['operations'] / 1e9:.1f} GFLOP"),
        ("bytes of a step", f"{facts['bytes'] / 1e9:.2f} GB ({intensity:.0f} FLOP a byte)"),
        ("peak, float32", f"{peak['float32'] / 1e9:.0f} GFLOP/s"),
        ("peak, bfloat16", f"{peak['bfloat16'] / 1e9:.0f} GFLOP/s"),
        ("memory", f"{facts['peak_bytes_per_s'] / 1e9:.1f} GB/s"),
        ("a step could take, by arithmetic", f"{1000 * facts['arithmetic_s']:.0f} ms"),
        ("a step could take, by memory", f"{1000 * facts['memory_s']:.0f} ms"),
        ("a step takes", f"{1000 * facts['step_s']:.0f} ms ({facts['images_per_s']:.0f} images/s)"),
        (f"share of the {facts['precision']} peak", f"{facts['share_of_peak']:.0%}"),
        ("share of the roof", f"{facts['share_of_roof']:.0%}"),
    ]
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    lines += ["", "| spent on | share |", "|---|---|"]
    lines += [f"| `{name}` | {share:.0%} |" for name, share in facts["spent"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
