"""How good is `hilum train` as it comes, beside what else a user could take, on the same splits?

    python -m benchmarks.accuracy [--sets NAME...] [--peers NAME...] [--seeds 0 1 2] [--minutes M]

Hilum goes first, with its default settings and no recipe. The split that it made, or the folds, are
then laid out as folders, and every peer gets these. Peers may use as many minutes as the set
allows, whatever Hilum took; folds share them. One process runs after another, so the machine should
be idle. Each that ends adds a line to `results.jsonl` in the folder of --work, outside the project;
started again, what has its line is not done again. Figures are computed from the predictions alone,
by the same functions for all, when the table is printed.

A set is one of the real ones (their test splits are opened by this: count it), a stand-in (see
benchmarks/standins.py), or a part of a real one without its test split, such as `chest-xray:200`.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from benchmarks._timing import DATA, HERE, HILUM, Done, command_line, machine, run
from benchmarks.standins import NAMES as STANDINS
from benchmarks.standins import make_standin, make_subset
from numpy.typing import NDArray
from PIL import Image

from hilum import metrics
from hilum.operating_points import choose_operating_point
from hilum.records import load_prepared, open_run, read_back
from hilum.splits import SPLITS, fold_name

WORK = Path.home() / ".cache" / "hilum-benchmarks"
LARGEST_SIDE = 150  # of the peers' images, as in the classic projects
SMALLEST_SIDE = 32  # four poolings and DenseNet's five leave nothing of less
STANDIN_MINUTES = 2.0
POLL_S = 1.0  # between looks at the memory: they cost the process that is looked at
OURS = "hilum"

Ints = NDArray[np.int_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class DataSet:
    """What is trained on.

    Attributes
    ----------
    minutes : float
        What peers may use for a seed, folds together.
    pools : bool
        The figure of interest is a patient's, not an image's.
    """

    source: Path
    minutes: float
    folds: int | None = None
    options: tuple[str, ...] = ()
    pools: bool = False


MALARIA_PATIENTS = r"(?:^|/)(?P<patient>C\d+[A-Z0-9]*?)_?[Tt]hin"

REAL = {
    "pneumoniamnist": DataSet(DATA / "pneumoniamnist.npz", 15),
    "chest-xray": DataSet(DATA / "chest-xray", 30),
    "brain-mri": DataSet(DATA / "brain-mri", 10, folds=5),
    "malaria-cells": DataSet(
        *(DATA / "malaria-cells", 10, 5), ("--patient-pattern", MALARIA_PATIENTS, "--new-split")
    ),
    "covid-cxr": DataSet(DATA / "covid-cxr" / "table.csv", 10, folds=5, pools=True),
}


@dataclass(frozen=True)
class Peer:
    title: str
    venv: str
    script: str

    @property
    def python(self) -> Path:
        return HERE / self.venv / "bin" / "python"


PEERS = {
    "keras": Peer("Keras CNN", ".venv-peers", "keras_cnn.py"),
    "autokeras": Peer("AutoKeras", ".venv-autokeras-peers", "autokeras_.py"),
    "monai": Peer("MONAI DenseNet-121", ".venv-torch-peers", "monai_densenet.py"),
    "fastai": Peer("fastai ResNet-18", ".venv-torch-peers", "fastai_.py"),
}


def find_set(name: str, work: Path) -> DataSet:
    """Return a set by name, made first where it is a stand-in or a part of a real one."""
    if name in REAL:
        return REAL[name]
    folder = work / "data" / name.replace(":", "-")
    if not folder.exists():
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        _make(name, partial)
        partial.rename(folder)
    files = (folder / "table.csv", folder / "data.npz")
    return DataSet(next(file for file in files if file.exists()), STANDIN_MINUTES)


def _make(name: str, folder: Path) -> None:
    whole, _, n_images = name.partition(":")
    if name in STANDINS:
        make_standin(name, folder)
    elif whole in REAL and n_images.isdigit():
        pattern = MALARIA_PATIENTS if whole == "malaria-cells" else None
        make_subset(REAL[whole].source, folder, int(n_images), patient_pattern=pattern)
    else:
        sys.exit(f"There is no set '{name}', but {', '.join((*REAL, *STANDINS))}, and SET:IMAGES.")


# -- running --------------------------------------------------------------------------------------


class Results:
    """Lines of JSON, one for each process that ended well; the last of a kind counts."""

    def __init__(self, work: Path) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self.file = work / "results.jsonl"
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def find(self, **wanted: Any) -> dict[str, Any] | None:
        """Return the last line that has these values."""
        wanted_items = wanted.items()
        return next((row for row in reversed(self.rows) if wanted_items <= row.items()), None)

    def add(self, done: Done, **facts: Any) -> dict[str, Any]:
        row = facts | {
            "minutes": round(done.seconds / 60, 3),
            "memory_mib": round(done.private_mb),
            "date": time.strftime("%Y-%m-%d %H:%M"),
        }
        with self.file.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self.rows.append(row)
        return row


def run_ours(
    name: str, seed: int, work: Path, results: Results, extra: Sequence[str], *, redo: bool
) -> dict[str, Any]:
    """Train by Hilum, unless that is done, and lay out its splits; return its line."""
    folder = work / "runs" / name.replace(":", "-") / f"seed-{seed}"
    found = results.find(set=name, seed=seed, peer=OURS)
    if found and not redo:
        return found
    data = find_set(name, work)
    shutil.rmtree(folder / OURS, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    folds = ("--folds", str(data.folds)) if data.folds else ()
    command = [HILUM, "train", data.source, "--out", folder / OURS, "--seed", str(seed)]
    with tempfile.TemporaryDirectory(dir=work) as cache:  # nothing decoded before counts
        done = run(
            [*command, *folds, *data.options, *extra],
            environment={"HILUM_CACHE": cache},
            watch_memory=True,
            poll_s=POLL_S,
        )
    runs = [folder / OURS]
    if data.folds:
        runs = [folder / OURS / fold_name(fold) for fold in range(1, data.folds + 1)]
    splits = [lay_out(one, folder) for one in runs]
    where = str(folder.relative_to(work))
    return results.add(done, set=name, seed=seed, peer=OURS, folder=where, splits=splits)


def lay_out(run_folder: Path, folder: Path) -> str:
    """Lay the splits of a run out as folders; return their name, a hash of who is where."""
    dataset, samples, _ = load_prepared(open_run(run_folder))
    samples = samples[~samples["excluded"]].reset_index(drop=True)
    text = samples[["path", "label", "split"]].sort_values("path").to_csv(index=False)
    name = hashlib.sha256(text.encode()).hexdigest()[:12]
    if (folder / name / "samples.csv").exists():
        return name
    shutil.rmtree(folder / name, ignore_errors=True)
    for split in SPLITS:
        for label in samples["label"].unique():
            (folder / name / split / label).mkdir(parents=True)
    base = dataset.source if dataset.kind == "folder" else dataset.source.parent
    files = []
    for number, (path, label, split) in enumerate(
        samples[["path", "label", "split"]].itertuples(index=False)
    ):
        suffix = ".png" if dataset.kind == "npz" else Path(path).suffix.lower()
        files.append(f"{split}/{label}/{number:05d}{suffix}")
        place = folder / name / files[-1]
        if dataset.kind == "npz":
            Image.fromarray(dataset.picture(path).pixels[0].squeeze()).save(place)
        else:
            place.symlink_to((base / path).resolve())
    samples.assign(file=files).to_csv(folder / name / "samples.csv", index=False)
    return name


def run_peer(line: dict[str, Any], split: str, peer: str, work: Path, minutes: float) -> Done:
    """Let a peer learn from a split and predict it."""
    folder = work / line["folder"] / split
    train = read_back(folder / "samples.csv").query("split == 'train'")
    short = train[["height", "width"]].astype(int).min(axis=1).median()
    side = int(min(max(short, SMALLEST_SIDE), LARGEST_SIDE))
    script = HERE / "peers" / PEERS[peer].script
    command = [PEERS[peer].python, script, folder, "--minutes", minutes, "--seed", line["seed"]]
    command += ["--side", side]
    if (train["grey"] == "false").mean() > 0.5:
        command.append("--colour")
    limit = ["timeout", str(round(60 * (3 * minutes + 5)))]  # a peer that hangs holds up nobody
    with tempfile.TemporaryDirectory(dir=work) as scratch:  # for checkpoints and trials
        out = Path(scratch) / "predictions.csv"
        done = run([*limit, *command, "--out", out], watch_memory=True, poll_s=POLL_S)
        (folder / peer).mkdir(exist_ok=True)
        out.replace(folder / peer / "predictions.csv")
    return done


def run_all(given: argparse.Namespace, results: Results) -> None:
    """Run whatever has no line yet; what fails is said, and tried again next time."""
    redo = given.redo and OURS in given.peers
    for name in given.sets:
        data = find_set(name, given.work)
        for seed in given.seeds:
            _say(f"{name}, seed {seed}: {OURS}")
            try:
                line = run_ours(name, seed, given.work, results, given.hilum.split(), redo=redo)
            except SystemExit as error:
                _say(str(error))
                continue
            minutes = (given.minutes or data.minutes) / len(line["splits"])
            for peer, split in product([one for one in given.peers if one != OURS], line["splits"]):
                key = {"set": name, "seed": seed, "peer": peer, "split": split}
                if results.find(**key) and not given.redo:
                    continue
                _say(f"{name}, seed {seed}: {peer}, {minutes:.3g} minutes")
                try:
                    done = run_peer(line, split, peer, given.work, minutes)
                except SystemExit as error:
                    _say(str(error))
                else:
                    results.add(done, **key, allowed=minutes)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# -- figures --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Decided:
    """What one side said of the test images of a split.

    Attributes
    ----------
    y_true, y_pred, y_youden : int array of shape (n_samples,)
        Class, what the tool calls it, and what Youden's threshold on its validation images would.
    probs : float array of shape (n_samples, n_classes)
    patients : str array of shape (n_samples,)
        A name of its own where the patient is not known.
    """

    y_true: Ints
    y_pred: Ints
    y_youden: Ints
    probs: Floats
    patients: NDArray[np.str_]


def read_ours(run_folder: Path, *, has_folds: bool) -> list[Decided]:
    """Read what Hilum wrote of the images it held out; its threshold is locked already."""
    table = read_back(run_folder / "predictions.csv")
    table = table[table["split"] == ("oof" if has_folds else "test")]
    parts = [part for _, part in table.groupby("fold")] if has_folds else [table]
    return [_ours(part) for part in parts]


def _ours(table: pd.DataFrame) -> Decided:
    names = class_names(table)
    pred = table["predicted"].map(names.index).to_numpy()
    return Decided(
        table["label"].map(names.index).to_numpy(),
        pred,
        pred,
        table[[f"p_{name}" for name in names]].to_numpy(float),
        _patients(table, "path"),
    )


def read_peer(split_folder: Path, peer: str) -> Decided:
    """Read a peer's predictions, and decide by them.

    Raises
    ------
    ValueError
        If an image has no prediction, or several.
    """
    samples = read_back(split_folder / "samples.csv").query("split != 'train'")
    file = split_folder / peer / "predictions.csv"
    table: pd.DataFrame = read_back(file)
    names = class_names(table)
    if sorted(table["path"]) != sorted(samples["file"]):
        raise ValueError(
            f"{file} has {len(table)} rows of {table['path'].nunique()} images, and validation and "
            f"test together have {len(samples)}. Let the peer predict each once."
        )
    ordered = table.set_index("path").loc[samples["file"], [f"p_{name}" for name in names]]
    probs = ordered.to_numpy(float).clip(0, 1)
    true = samples["label"].map(names.index).to_numpy()
    pred = youden = probs.argmax(axis=1)
    val, test = ((samples["split"] == split).to_numpy() for split in ("val", "test"))
    if len(names) == 2:
        point = choose_operating_point(true[val], probs[val, 1])
        youden = (probs[:, 1] >= point.threshold).astype(int)
    patients = _patients(samples, "file")
    return Decided(true[test], pred[test], youden[test], probs[test], patients[test])


def class_names(table: pd.DataFrame) -> list[str]:
    """Return the classes that have a column of probabilities, in the order of the columns."""
    return [str(column)[2:] for column in table.columns if str(column).startswith("p_")]


def _patients(table: pd.DataFrame, otherwise: str) -> NDArray[np.str_]:
    return table["patient"].where(table["patient"] != "", table[otherwise]).to_numpy(str)


def figures(parts: Sequence[Decided]) -> dict[str, float]:
    """Compute the figures of one seed; folds are pooled, each image decided by its own fold."""
    true, pred, youden, probs, patients = (
        np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Decided)
    )
    n_classes = probs.shape[1]
    # A patient with images of two classes counts once in each.
    pooled = pd.DataFrame(probs).groupby([patients, true]).mean()
    return {
        "auroc": _auroc(true, probs),
        "auroc_of_folds": statistics.fmean(_auroc(part.y_true, part.probs) for part in parts),
        "auroc_of_patients": _auroc(pooled.index.get_level_values(1).to_numpy(), pooled.to_numpy()),
        "balanced_accuracy": metrics.balanced_accuracy(true, pred),
        "balanced_accuracy_youden": metrics.balanced_accuracy(true, youden),
        "accuracy": metrics.accuracy(true, pred),
        "accuracy_youden": metrics.accuracy(true, youden),
        "ece": metrics.ece(true, probs[:, 1] if n_classes == 2 else probs),
        "n": len(true),
    }


def _auroc(true: Ints, probs: Floats) -> float:
    return (
        metrics.auroc(true, probs[:, 1])
        if probs.shape[1] == 2
        else metrics.macro_auroc(true, probs)
    )


def measure(
    name: str, line: dict[str, Any], peer: str, work: Path, results: Results
) -> dict[str, float] | None:
    """Return figures and cost of one seed; None where not all of its splits are done."""
    folder = work / line["folder"]
    if peer == OURS:
        has_folds = len(line["splits"]) > 1
        rows, parts = [line], read_ours(folder / OURS, has_folds=has_folds)
    else:
        key = {"set": name, "seed": line["seed"], "peer": peer}
        found = [results.find(**key, split=split) for split in line["splits"]]
        rows = [row for row in found if row]
        if len(rows) < len(found):
            return None
        parts = [read_peer(folder / split, peer) for split in line["splits"]]
    return figures(parts) | {
        "minutes": sum(row["minutes"] for row in rows),
        "memory_mib": max(row["memory_mib"] for row in rows),
    }


def summarise(given: argparse.Namespace, results: Results) -> list[dict[str, Any]]:
    """Return mean and standard deviation over the seeds, a row a set and side."""
    rows = []
    for name in given.sets:
        for peer in given.peers:
            lines = [results.find(set=name, seed=seed, peer=OURS) for seed in given.seeds]
            found = [measure(name, line, peer, given.work, results) for line in lines if line]
            seeds = [one for one in found if one]
            if not seeds:
                continue
            rows.append(
                {
                    "set": name,
                    "peer": peer,
                    "n_seeds": len(seeds),
                    "lines": 1
                    if peer == OURS
                    else count_lines(HERE / "peers" / PEERS[peer].script),
                    "seeds": seeds,
                }
                | {key: spread([one[key] for one in seeds]) for key in seeds[0]}
            )
    return rows


def spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard deviation; None where there is but one value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def count_lines(script: Path) -> int:
    """Count the lines that a user writes: no blank ones, comments, docstring, or "benchmark"."""
    text = script.read_text()
    lines = text.splitlines()
    first = ast.parse(text).body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        lines = lines[first.end_lineno :]
    return sum(
        bool(line.strip()) and not line.lstrip().startswith("#") and "# benchmark" not in line
        for line in lines
    )


COLUMNS = (
    ("AUROC", "auroc", 3),
    ("balanced accuracy", "balanced_accuracy", 3),
    ("… at Youden's threshold", "balanced_accuracy_youden", 3),
    ("accuracy", "accuracy", 3),
    ("… at Youden's", "accuracy_youden", 3),
    ("ECE", "ece", 3),
    ("minutes", "minutes", 1),
    ("peak memory, MiB", "memory_mib", 0),
)


def table_of(rows: Sequence[dict[str, Any]]) -> str:
    """Write the summary as a Markdown table."""
    heads = ["data", "tool", *(head for head, _, _ in COLUMNS), "lines", "seeds"]
    text = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in rows:
        pools = row["set"] in REAL and REAL[row["set"]].pools
        name = row["set"] + (" (AUROC of patients)" if pools else "")
        title = "Hilum" if row["peer"] == OURS else PEERS[row["peer"]].title
        keys = ["auroc_of_patients" if pools and key == "auroc" else key for _, key, _ in COLUMNS]
        cells = [cell(row[key], digits) for key, (_, _, digits) in zip(keys, COLUMNS, strict=True)]
        text.append(
            f"| {' | '.join([name, title, *cells, str(row['lines']), str(row['n_seeds'])])} |"
        )
    return "\n".join(text)


def cell(values: tuple[float, float | None], digits: int) -> str:
    """Write a mean and its deviation, as '.971 ± .003'."""
    texts = [f"{value:,.{digits}f}" for value in values if value is not None]
    return " ± ".join(text.removeprefix("0") if text[:2] == "0." else text for text in texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--sets", nargs="+", default=[*REAL], help="real ones where not given")
    parser.add_argument("--peers", nargs="+", default=[OURS, *PEERS], choices=[OURS, *PEERS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, help="of a peer on a set, folds together")
    parser.add_argument("--hilum", default="", help="options of hilum train, to try this out with")
    parser.add_argument("--redo", action="store_true", help="run again what has its line")
    parser.add_argument("--table", action="store_true", help="only print what was measured before")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of data, runs and results")
    parser.add_argument("--json", type=Path, help="write the JSON here too")
    given = parser.parse_args()
    given.work = given.work.absolute()
    results = Results(given.work)
    if not given.table:
        for peer in given.peers:
            if peer != OURS and not PEERS[peer].python.exists():
                sys.exit(
                    f"{PEERS[peer].python} does not exist: make it with 'make bench-accuracy'."
                )
        run_all(given, results)
    rows = summarise(given, results)
    whole = {"command": command_line(), "machine": machine(), "rows": rows}
    text = json.dumps(whole, indent=1, ensure_ascii=False)
    if given.json:
        given.json.write_text(text + "\n", encoding="utf-8")
    print(f"{text}\n\n```console\n$ {command_line()}\n```\n\n{table_of(rows)}")


if __name__ == "__main__":
    main()
