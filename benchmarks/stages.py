"""Where the seconds of `hilum train` go, stage by stage.

    python -m benchmarks.stages [DATA] [--epochs 1] [--images 1500] [--set name=value]

Trains on DATA, a folder of class folders, with the `chest-xray` recipe in a process of its own and
with an empty cache. Functions are timed, each without what the others inside it take. Seconds of
the clock, and of all cores together: beside other work the latter tell more.
"""

from __future__ import annotations

import functools
import importlib
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks._images import copy_classes
from benchmarks._timing import DATA, command_line, itself, machine, parser, run

# Function, by the module in which its callers look it up → stage.
STAGES = {
    "preparation.scan": "reading and hashing",
    "preparation.find_flaws": "audit: the rest",
    "preparation.make_plan": "plan",
    "decoded_samples.stored_images": "decoding into the cache",
    "runs.train_network": "training: steps and checkpoints",
    "runs.train_probe": "training: a linear model",
    "training.validate": "training: validation",
    "runs.make_release": "model: the rest",
    "release.network_logits": "model: images by PyTorch",
    "release.to_graph": "model: export",
    "release.run_graph": "model: validation and reference images",
    "release.run_exported": "model: whole model compared",
    "release.predict_corrupted": "model: corrupted images",
    "release.measure_robustness": "model: figures of corrupted images",
    "runs.check_maps": "model: heat maps checked",
    "runs._evaluate": "evaluation: the rest",
    "runs.predict_split": "evaluation: predictions",
    "runs.measure": "evaluation: figures",
    "runs._report": "report",
}
IMPORTS = "start and imports"


class Clock:
    """Seconds by stage, each counted for the innermost stage alone."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = defaultdict(float)
        self.cores: dict[str, float] = defaultdict(float)
        self._open = [IMPORTS]
        self._since = (time.perf_counter(), 0.0)

    def enter(self, stage: str) -> None:
        self._book()
        self._open.append(stage)

    def leave(self) -> None:
        self._book()
        self._open.pop()

    def _book(self) -> None:
        now, stage = (time.perf_counter(), time.process_time()), self._open[-1]
        self.wall[stage] += now[0] - self._since[0]
        self.cores[stage] += now[1] - self._since[1]
        self._since = now

    def timed(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*arguments: Any, **options: Any) -> Any:
            self.enter(stage)
            try:
                return function(*arguments, **options)
            finally:
                self.leave()

        return wrapper


def train(folder: Path, out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Train in this process; return seconds by stage."""
    clock = Clock()
    auditing = importlib.import_module("hilum.auditing")
    for name, stage in STAGES.items():
        module, _, function = name.partition(".")
        home = importlib.import_module(f"hilum.{module}")
        setattr(home, function, clock.timed(getattr(home, function), stage))
    detectors = vars(auditing)["DETECTORS"]
    timed = (clock.timed(each, f"audit: {each.__name__}") for each in detectors)
    vars(auditing)["DETECTORS"] = tuple(timed)
    runs = importlib.import_module("hilum.runs")
    clock.enter("the rest")
    runs.train(folder, out, recipe="chest-xray", settings=settings)
    clock.leave()
    return {"wall": clock.wall, "cores": clock.cores}


def main() -> None:
    options = parser(__doc__, rounds=1)
    options.add_argument("data", type=Path, nargs="?", default=DATA / "chest-xray" / "train")
    options.add_argument("--images", type=int, help="as many only")
    options.add_argument("--epochs", type=int, default=1)
    options.add_argument("--set", action="append", default=[], help="setting: name=value")
    options.add_argument("--train", type=Path, metavar="OUT", help="only this, as JSON")
    arguments = options.parse_args()
    given = dict(setting.split("=", maxsplit=1) for setting in arguments.set)
    settings = {"epochs": arguments.epochs, **given}
    if arguments.train:
        print(json.dumps(train(arguments.data, arguments.train, settings)))
        return
    wall: dict[str, float] = defaultdict(float)
    cores: dict[str, float] = defaultdict(float)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        folder = copy_classes(arguments.data, work / "images", arguments.images)
        passed = [f"--set={setting}" for setting in arguments.set]
        for number in range(arguments.rounds):
            command = itself("stages", folder, "--train", work / f"run{number}", *passed)
            done = run(
                [*command, "--epochs", str(arguments.epochs)],
                environment={"HILUM_CACHE": str(work / f"cache{number}")},
            )
            for sums, key in ((wall, "wall"), (cores, "cores")):
                for stage, seconds in done.answer[key].items():
                    sums[stage] += seconds / arguments.rounds
    if arguments.json is not None:
        facts = {"command": command_line(), "machine": machine(), "wall": wall, "cores": cores}
        arguments.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(f"```console\n$ {command_line()}\n```\n")
    print("| stage | seconds | of all cores |\n|---|---|---|")
    for stage, seconds in wall.items():
        print(f"| {stage} | {seconds:.1f} | {cores[stage]:.1f} |")
    beside = sum(seconds for stage, seconds in wall.items() if not stage.startswith("training"))
    print(f"| **whole** | {sum(wall.values()):.1f} | {sum(cores.values()):.1f} |")
    print(f"| **whole without training** | {beside:.1f} | |")


if __name__ == "__main__":
    main()
