"""`hilum predict` against a Keras script, whole process: many images, and one.

    python -m benchmarks.prediction [--images FOLDER] [--run RUN] [--rounds 5]

Both models are the chest-xray network, trained here for one epoch on a few images where no run is
given: what they answer does not matter, how long it takes does.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks._images import copy_classes
from benchmarks._timing import (
    DATA,
    HERE,
    HILUM,
    PEERS,
    Report,
    command_line,
    in_turns,
    need_peers,
    parser,
    run,
)

N_TRAIN = 200


def make_models(work: Path, given: Path | None) -> tuple[Path, Path]:
    """Train both for one epoch; return our run and their model."""
    folder = copy_classes(DATA / "chest-xray" / "train", work / "images", N_TRAIN)
    keras = work / "model.keras"
    run([PEERS, HERE / "peers" / "keras_training.py", folder, "--epochs", "1", "--out", keras])
    if given is not None:
        return given, keras
    command = [HILUM, "train", folder, "--recipe", "chest-xray", "--epochs", "1"]
    run([*command, "--out", work / "run"], environment={"HILUM_CACHE": str(work / "cache")})
    return work / "run", keras


def main() -> None:
    options = parser(__doc__, rounds=5)
    options.add_argument("--images", type=Path, default=DATA / "chest-xray" / "test")
    options.add_argument("--run", type=Path, help="a run of ours, to save training one")
    arguments = options.parse_args()
    need_peers()
    images = arguments.images.resolve()
    files = sorted(path for path in images.rglob("*") if path.is_file())
    report = Report("Prediction, whole process", command_line(), ("hilum", "Keras"))
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        ours, theirs = make_models(work, arguments.run and arguments.run.resolve())
        script = HERE / "peers" / "keras_prediction.py"
        for what, target in ((f"{len(files)} images", images), ("one image", files[0])):
            found = in_turns(
                {
                    "hilum": lambda number, target=target: (
                        run(  # type: ignore[misc]
                            [HILUM, "predict", ours, target, "--out", work / f"{number}.csv"]
                        ).seconds
                    ),
                    "keras": lambda _, target=target: (
                        run(  # type: ignore[misc]
                            [PEERS, script, theirs, work / "keras.csv", target]
                        ).seconds
                    ),
                },
                arguments.rounds,
                note=what,
            )
            for csv in work.glob("*.csv"):
                csv.unlink()
            wanted = "5 ×" if target == images else "5 ×, under 1 s"
            report.compare(what, found["hilum"], found["keras"], unit="s", wanted=wanted)
    report.show(arguments.json)


if __name__ == "__main__":
    main()
