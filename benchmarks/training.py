"""Training from JPEGs, whole process: `hilum train` against the Keras tutorial; and the bare step.

    python -m benchmarks.training [--images 600] [--order pool-first --set …] [--rounds 3]

Both sides get one folder of two classes and 3 epochs of the same network, batch and optimizer.

- ours, whole process: start, reading, hashing and auditing every file, splitting by patient,
  decoding into an empty cache, training with rotation, zoom, shift, flip, gamma, contrast and
  brightness, validation and a checkpoint after each epoch, calibration, export to ONNX and its
  checks, evaluation of the test split, the report;
- theirs, whole process: start, listing the files, training with rotation, zoom, shift and flip
  from `ImageDataGenerator.flow_from_directory`, validation after each epoch, saving the model.

Images a second of a whole process are those trained on, times the epochs, by all its seconds; of
training, by the seconds of the epochs from the second on, without validation. The bare step is our
network, loss and optimizer on one batch that stays in memory.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
from benchmarks._images import copy_classes
from benchmarks._timing import (
    DATA,
    HERE,
    HILUM,
    PEERS,
    Report,
    command_line,
    in_turns,
    itself,
    need_peers,
    parser,
    run,
)

STEPS, WARM_UP = 60, 10


def bare_step(run_folder: Path) -> dict[str, Any]:
    """Take steps on one batch in memory, as the run was set; return images a second."""
    import torch
    from benchmarks._step import Step

    from hilum.settings import make_settings

    plan = json.loads((run_folder / "plan.json").read_text())
    settings = make_settings({name: entry["value"] for name, entry in plan.items()})
    step = Step(settings)
    seconds = []
    for _ in range(WARM_UP + STEPS):
        started = time.perf_counter()
        step()
        if step.fabric.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    # The mean, as that of an epoch is: a step that waits for memory counts.
    return {"images_per_s": settings.batch_size / statistics.mean(seconds[WARM_UP:])}


def ours(folder: Path, work: Path, number: int, arguments: Any) -> dict[str, Any]:
    """Train from nothing, the cache too; the run folder stays for the bare step."""
    out, cache = work / f"run{number}", work / f"cache{number}"
    options = [f"--set={setting}" for setting in arguments.set]
    command = [HILUM, "train", folder, "--recipe", "chest-xray", "--epochs", arguments.epochs]
    done = run([*command, *options, "--out", out], environment={"HILUM_CACHE": str(cache)})
    shutil.rmtree(cache)
    samples = pd.read_csv(out / "samples.csv", keep_default_na=False)
    n_train = int((samples["split"] == "train").sum())
    rates = list(pd.read_csv(out / "history.csv")["images_per_s"])
    return {
        "seconds": done.seconds,
        "whole": n_train * len(rates) / done.seconds,
        "training": statistics.mean(rates[1:] or rates),
        "n_train": n_train,
    }


def theirs(folder: Path, work: Path, arguments: Any) -> dict[str, Any]:
    script = HERE / "peers" / "keras_training.py"
    options = ["--order", arguments.order, "--epochs", arguments.epochs]
    done = run([PEERS, script, folder, *options, "--out", work / "model.keras"])
    rates = done.answer["images_per_s"]
    n_train = done.answer["n_train"]
    return {
        "seconds": done.seconds,
        "whole": n_train * len(rates) / done.seconds,
        "training": statistics.mean(rates[1:] or rates),
        **done.answer,
    }


def main() -> None:
    options = parser(__doc__, rounds=3)
    options.add_argument("--data", type=Path, default=DATA / "chest-xray" / "train")
    options.add_argument("--images", type=int, help="as many only, for development")
    options.add_argument("--epochs", type=int, default=3)
    options.add_argument("--order", choices=("classic", "pool-first"), default="classic")
    options.add_argument("--set", action="append", default=[], help="setting of ours: name=value")
    options.add_argument("--bare-step", type=Path, metavar="RUN", help="only this, as JSON")
    arguments = options.parse_args()
    if arguments.bare_step:
        print(json.dumps(bare_step(arguments.bare_step)))
        return
    need_peers()
    report = Report(f"Training, {arguments.order} order", command_line(), ("hilum", "peer"))
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        folder = copy_classes(arguments.data, work / "images", arguments.images)
        found = in_turns(
            {
                "hilum": lambda number: ours(folder, work, number, arguments),
                "keras": lambda _: theirs(folder, work, arguments),
                "bare step": lambda number: (
                    run(itself("training", "--bare-step", work / f"run{number}")).answer
                ),
            },
            arguments.rounds,
        )
    for what, key, wanted in (
        ("training, whole process", "whole", "3.5 ×" if arguments.order == "classic" else "2 ×"),
        ("training, epochs alone", "training", ""),
    ):
        a, b = ([answer[key] for answer in found[side]] for side in ("hilum", "keras"))
        report.compare(what, a, b, unit="images/s", wanted=wanted, higher_is_better=True)
    report.compare(
        "epochs alone against the bare step",
        [answer["training"] for answer in found["hilum"]],
        [answer["images_per_s"] for answer in found["bare step"]],
        unit="images/s",
        wanted="0.95 ×",
        higher_is_better=True,
    )
    report.facts = found
    report.show(arguments.json)


if __name__ == "__main__":
    main()
