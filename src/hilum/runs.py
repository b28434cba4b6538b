"""The run: data → model, figures and report, in steps that can be taken up again.

`train` prepares a run folder and works through it; `resume` goes on where it stopped. Everything
that a later step needs is in the folder, so a run killed at any moment is not lost.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from numpy.typing import NDArray

import hilum
from hilum.auditing import KINDS
from hilum.cache import stored_images
from hilum.calibrators import choose_calibrator
from hilum.dataset import Columns, Dataset
from hilum.errors import HilumError, RunError
from hilum.evaluation import (
    lock_operating_point,
    lock_referral,
    measure,
    n_openings,
    now,
    open_test,
    predict_split,
)
from hilum.export import agreeing_probabilities, check_resizing, run_exported, to_onnx
from hilum.files import read_json, write_csv, write_json
from hilum.hardware import find_hardware
from hilum.inference import load
from hilum.map_checks import check_maps
from hilum.model import ModelFacts, TrainingData, write_model
from hilum.neighbours import References, choose_references, make_references, see
from hilum.networks import n_parameters
from hilum.patients import Patients
from hilum.preparation import DataOptions, Prepared, prepare
from hilum.progress import LogProgress, Progress
from hilum.settings import Settings, make_settings
from hilum.splits import SPLITS
from hilum.training import Samples, Trained, network_logits, train_network

VERSIONS_OF = ("hilum", "torch", "lightning-fabric", "onnxruntime", "numpy", "pillow", "pydicom")


@dataclass
class Run:
    """A run folder.

    Attributes
    ----------
    folder : Path
    facts : dict
        Content of run.json.
    """

    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)

    def save(self, **facts: Any) -> None:
        """Add facts and write run.json; what is kept is what a later reader will find there."""
        write_json(self.folder / "run.json", self.facts | facts)
        self.facts = read_json(self.folder / "run.json")

    @property
    def metrics(self) -> dict[str, Any]:
        """Content of metrics.json."""
        metrics: dict[str, Any] = read_json(self.folder / "metrics.json")
        return metrics


def train(
    data: str | Path,
    out: str | Path,
    *,
    recipe: str | None = None,
    settings: Mapping[str, Any] | None = None,
    options: DataOptions | None = None,
    progress: Progress | None = None,
    command: Sequence[str] = ("hilum.train",),
) -> Run:
    """Train a classifier and evaluate it: data in, run folder out.

    Parameters
    ----------
    data : path
        A folder of class folders, the same under train, val, test, a table or an NPZ.
    out : path
        The run's folder; new or empty.
    recipe : str, optional
        A named recipe; without one a plan is made from the data.
    settings : mapping, optional
        Settings that override recipe and plan, by name.
    options : DataOptions, optional

    Returns
    -------
    Run

    Raises
    ------
    DataError, SettingError, RunError

    Examples
    --------
    >>> run = hilum.train("chest-xray", "runs/cxr", recipe="chest-xray")  # doctest: +SKIP
    >>> run.metrics["test"]["auroc"]["value"]  # doctest: +SKIP
    0.95
    """
    progress = progress or LogProgress()
    run = Run(_new_folder(Path(out)))
    run.save(
        hilum=hilum.__version__,
        command=list(command),
        status="reading",
        started=now(),
        elapsed_s=0.0,
        request={
            "data": str(Path(data).absolute()),
            "recipe": recipe,
            "settings": dict(settings or {}),
            "options": asdict(options or DataOptions()),
        },
    )
    try:
        _prepare(run, progress)
    except HilumError:
        # Nothing worth keeping: once the data are mended, the same command should work.
        (run.folder / "run.json").unlink()
        run.folder.rmdir()
        raise
    return _work(run, progress)


def resume(folder: str | Path, *, progress: Progress | None = None) -> Run:
    """Go on with a run that was interrupted.

    Raises
    ------
    RunError
        If the folder is no run, or a finished one.
    """
    run = open_run(folder)
    progress = progress or LogProgress()
    if run.facts["status"] == "reading":
        _prepare(run, progress)
    if run.facts["status"] != "finished":
        return _work(run, progress)
    if (run.folder / "report.html").exists():
        raise RunError(f"{folder} is finished. See {run.folder / 'report.html'}.")
    _report(run)
    return run


def evaluate(
    folder: str | Path,
    *,
    prevalences: Sequence[float] = (),
    subgroups: Sequence[str] | None = None,
    progress: Progress | None = None,
    command: Sequence[str] = ("hilum.evaluate",),
) -> Run:
    """Evaluate a finished run anew, which opens its test split once more and says so.

    Parameters
    ----------
    prevalences : sequence of float in (0, 1)
        Add predictive values and net benefit at these prevalences. This, and `subgroups`, needs
        only predictions.csv: the test split is not opened for it.
    subgroups : sequence of str, optional
        Give the figures of groups by these columns of the data.

    Raises
    ------
    RunError
        If the folder is no run, or an unfinished one.
    SettingError
        If a prevalence is not between 0 and 1, or the data have no such column.
    """
    run = open_run(folder)
    if run.facts["status"] != "finished":
        raise RunError(f"{folder} is not finished. Finish it with: hilum resume {folder}")
    if prevalences or subgroups:
        _measure_again(run, prevalences, subgroups)
        _report(run)
        return run
    _evaluate(run, progress or LogProgress(), command)
    _report(run)
    return run


def open_run(folder: str | Path) -> Run:
    """Open a run folder.

    Raises
    ------
    RunError
        If it is none, or its run.json is damaged.
    """
    path = Path(folder)
    if not (path / "run.json").is_file():
        raise RunError(f"{path} is not a run folder: there is no run.json in it.")
    facts = _read_back(path / "run.json")
    if not isinstance(facts, dict) or "status" not in facts:
        raise RunError(f"{path / 'run.json'} is not the record of a run. Start a new run.")
    return Run(path, facts)


# -- the run's folder -----------------------------------------------------------------------------


def _new_folder(folder: Path) -> Path:
    if (folder / "run.json").exists():
        raise RunError(
            f"{folder} already holds a run. Go on with it by: hilum resume {folder}, or choose "
            "another folder."
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} exists and is not empty. Choose a new folder for the run.")
    return folder


def _prepare(run: Run, progress: Progress) -> None:
    """Read, check, split and plan as run.json requests, and write down what came of it."""
    request = run.facts["request"]
    given = request["options"]
    options = DataOptions(
        **given
        | {
            "classes": tuple(given["classes"]) if given["classes"] else None,
            "columns": Columns(**given["columns"]) if given["columns"] else None,
        }
    )
    prepared = prepare(
        request["data"],
        recipe=request["recipe"],
        settings=request["settings"],
        options=options,
        progress=progress,
    )
    _save_prepared(run, prepared, options)


def _save_prepared(run: Run, prepared: Prepared, options: DataOptions) -> None:
    dataset, samples, split = prepared.dataset, prepared.samples, prepared.split
    samples["split"] = samples["split"].fillna("")
    reasons = list(split.reasons)
    if options.new_split and (samples["given_split"] != "").any():
        reasons.insert(0, "The split that came with the data was left aside, as the user asked.")
    written = samples.assign(excluded=samples["excluded"].map({True: "true", False: "false"}))
    write_csv(run.folder / "samples.csv", written)
    write_json(run.folder / "plan.json", prepared.plan.to_dict())
    settings = prepared.plan.settings
    hardware = find_hardware(settings.accelerator)
    run.save(
        status="prepared",
        data={
            "path": str(dataset.source.resolve()),
            "kind": dataset.kind,
            "sha256": data_hash(samples),
            "n_files": len(samples),
            "n_samples": int((~samples["excluded"]).sum()),
            "n_excluded": int(samples["excluded"].sum()),
            "notes": list(dataset.notes),
        },
        class_names=list(dataset.class_names),
        positive_class=prepared.positive,
        positive_reason=prepared.positive_reason,
        target_kind=dataset.target_kind,
        patients=dataset.patients.to_dict(),
        splits={
            "source": split.source,
            "reasons": reasons,
            "overlap": split.overlap,
            "allowed_overlap": options.allow_patient_overlap,
            "counts": {name: _counts(samples, name, dataset) for name in SPLITS},
        },
        findings=[finding.to_dict() for finding in prepared.findings],
        looked_for=list(KINDS),
        seed=settings.seed,
        hardware={
            "device": hardware.device,
            "precision": settings.precision,
            "cpu": hardware.name,
            "n_cores": hardware.n_cores,
        },
        versions=_versions(),
        finished=None,
    )


def data_hash(samples: pd.DataFrame) -> str:
    """Hash all readable files of a data set: their paths and contents."""
    readable = samples[~samples["excluded"]].sort_values("path")
    lines = [
        f"{digest}  {path}\n"
        for path, digest in zip(readable["path"], readable["sha256"], strict=True)
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _counts(samples: pd.DataFrame, split: str, dataset: Dataset) -> dict[str, Any]:
    rows = samples[samples["split"] == split]
    known = rows["patient"][rows["patient"] != ""]
    return {
        "n": len(rows),
        "n_patients": int(known.nunique()) if dataset.patients.n_patients else None,
        "classes": {name: int((rows["label"] == name).sum()) for name in dataset.class_names},
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in VERSIONS_OF:
        found[package] = importlib.metadata.version(package)
    return found


def _load_prepared(run: Run) -> tuple[Dataset, pd.DataFrame, Settings]:
    """Read back what `_save_prepared` wrote."""
    samples = _read_back(run.folder / "samples.csv")
    samples["excluded"] = samples["excluded"] == "true"
    plan = _read_back(run.folder / "plan.json")
    settings = make_settings({name: entry["value"] for name, entry in plan.items()})
    facts = run.facts
    source = Path(facts["data"]["path"])
    if not source.exists():
        raise RunError(f"The data of this run, {source}, are not there any more. Put them back.")
    dataset = Dataset(
        source,
        facts["data"]["kind"],
        samples,
        tuple(facts["class_names"]),
        facts["target_kind"],
        Patients(**facts["patients"]),
    )
    return dataset, samples, settings


def _read_back(path: Path) -> Any:
    """Read a JSON or CSV file that a run wrote.

    Raises
    ------
    RunError
        If it is missing or damaged.
    """
    try:
        if path.suffix == ".csv":
            return pd.read_csv(path, dtype=str, keep_default_na=False)
        return read_json(path)
    except FileNotFoundError:
        raise RunError(
            f"{path} is missing, and the run cannot go on without it. Start a new run."
        ) from None
    except (ValueError, pd.errors.ParserError, pd.errors.EmptyDataError):
        raise RunError(f"{path} is damaged: it cannot be read. Start a new run.") from None


# -- the steps -------------------------------------------------------------------------------------


def _work(run: Run, progress: Progress) -> Run:
    started, before = time.monotonic(), run.facts["elapsed_s"]
    dataset, samples, settings = _load_prepared(run)
    find_hardware(settings.accelerator)  # a run may be resumed on a machine that lacks the device
    train_samples, val_samples = (
        split_samples(dataset, samples, split, settings, progress) for split in ("train", "val")
    )
    try:
        trained = train_network(
            train_samples, val_samples, settings, dataset.class_names, run.folder, progress
        )
    except torch.OutOfMemoryError:
        raise RunError(
            f"The device has too little memory for batches of {settings.batch_size} images of "
            f"{settings.input_height}×{settings.input_width}. Start a new run with "
            "--set batch_size=… or a smaller input."
        ) from None
    if not (run.folder / "model" / "model.json").exists():
        _write_model(run, trained, train_samples, val_samples, dataset, settings, samples)
    run.save(
        status="trained",
        best_epoch=trained.best_epoch,
        epochs_done=len(trained.history),
        n_parameters=n_parameters(trained.network),
        explanation=check_maps(run.folder, val_samples.pixels, _sizes(samples, "val")),
        elapsed_s=round(before + time.monotonic() - started, 1),
    )
    _evaluate(run, progress, run.facts["command"])
    run.save(
        status="finished",
        finished=now(),
        elapsed_s=round(before + time.monotonic() - started, 1),
    )
    _report(run)
    return run


def split_samples(
    dataset: Dataset, samples: pd.DataFrame, split: str, settings: Settings, progress: Progress
) -> Samples:
    """Decode the samples of the train or val split, or map what was decoded before."""
    assert split != "test", "the test split is opened by evaluation alone"
    rows = samples[samples["split"] == split]
    pixels = stored_images(
        dataset,
        list(rows["path"]),
        list(rows["sha256"]),
        settings.pixel_spec,
        progress,
        among=list(samples["sha256"][~samples["excluded"]]),
    )
    labels = np.array([dataset.class_names.index(label) for label in rows["label"]])
    return Samples(pixels, labels.astype(np.int64))


def _sizes(samples: pd.DataFrame, split: str) -> list[tuple[int, int]]:
    """Return height and width of the pictures of a split."""
    rows = samples[samples["split"] == split]
    return list(zip(rows["height"].astype(int), rows["width"].astype(int), strict=True))


def _write_model(
    run: Run,
    trained: Trained,
    train: Samples,
    val: Samples,
    dataset: Dataset,
    settings: Settings,
    samples: pd.DataFrame,
) -> None:
    """Calibrate on validation data, export, lock threshold and rules, write the model folder."""
    names, positive = dataset.class_names, run.facts["positive_class"]
    logits = network_logits(trained.network, val.pixels)
    groups = list(samples["group"][samples["split"] == "val"])
    calibrator, why = choose_calibrator(logits, val.labels, groups, settings.calibration)
    exported = to_onnx(trained.network, settings.pixel_spec, names, calibrator=calibrator)
    found, features = run_exported(exported, val.pixels)
    probs = agreeing_probabilities(found, calibrator.probabilities(logits))
    originals = samples["path"][samples["split"] == "val"][:N_ORIGINALS]
    pictures = [dataset.picture(path) for path in originals]
    check_resizing(exported, pictures, settings.pixel_spec, probs[: len(pictures)])
    point = None
    if positive is not None:
        labels = [names[label] for label in val.labels]
        column = probs[:, names.index(positive)]
        point = lock_operating_point(labels, list(column), positive, settings.operating_point)
    references, strangeness = None, None
    if settings.refer_unlike is not None:
        views = see(features, val.pixels)
        references = _references(exported, train, views, seed=settings.seed)
        strangeness = references.strangeness(views)
    referral = lock_referral(
        val.labels,
        probs,
        groups,
        settings,
        positive=None if positive is None else names.index(positive),
        threshold=None if point is None else point.threshold,
        strangeness=strangeness,
    )
    constants = trained.network.state_dict()
    facts = ModelFacts(
        hilum=hilum.__version__,
        created=now(),
        class_names=names,
        positive_class=positive,
        preprocessing=settings.pixel_spec,
        calibration=calibrator,
        operating_point=point,
        referral=referral,
        network=settings.model_dump(mode="json", include=set(NETWORK_SETTINGS)),
        mean=tuple(constants["normalise.mean"].flatten().tolist()),
        std=tuple(constants["normalise.std"].flatten().tolist()),
        n_parameters=n_parameters(trained.network),
        training_data=TrainingData(
            sha256=run.facts["data"]["sha256"],
            n_train=int((samples["split"] == "train").sum()),
            n_val=len(val),
            n_patients=dataset.patients.n_patients,
        ),
        files={},
    )
    weights = safetensors.torch.save(constants)
    write_model(
        run.folder / "model",
        facts,
        weights=weights,
        onnx=exported,
        references=None if references is None else references.to_bytes(),
    )
    temperature = 1 / calibrator.slope if calibrator.method == "temperature" else None
    run.save(calibration={"method": calibrator.method, "temperature": temperature, "reason": why})


def _references(
    exported: bytes, train: Samples, val_views: dict[str, NDArray[np.float32]], *, seed: int
) -> References:
    """Keep training images by which images unlike them are told."""
    chosen = choose_references(len(train), val_views["features"].shape[1], seed=seed)
    pixels = train.pixels[chosen]
    features = run_exported(exported, pixels)[1]
    return make_references(see(features, pixels), val_views)


N_ORIGINALS = 8
"""Validation images, as they came, that the exported graph must resize as training did."""

NETWORK_SETTINGS = (
    *("input_height", "input_width", "channels", "network", "conv_channels", "kernel_size"),
    *("padding", "activation", "batch_norm", "pool", "dropout_conv", "dense_units"),
    *("dropout_dense", "blocks_per_stage"),
)


def _evaluate(run: Run, progress: Progress, command: Sequence[str]) -> None:
    """Predict validation, then open the test split; write predictions and figures."""
    dataset, samples, _ = _load_prepared(run)
    model = load(run.folder)
    point = model.facts.operating_point
    val = predict_split(model, dataset, samples, "val", progress)
    n_test = int((samples["split"] == "test").sum())
    open_test(run.folder, n_test, point, model.facts.referral, command=shlex.join(command))
    test = predict_split(model, dataset, samples, "test", progress)
    write_csv(run.folder / "predictions.csv", pd.concat([val, test], ignore_index=True))
    known = dataset.patients.n_patients is not None
    metrics: dict[str, Any] = {
        "class_names": list(model.class_names),
        "positive_class": model.facts.positive_class,
    }
    for split, table in (("val", val), ("test", test)):
        rows = samples[samples["split"] == split]
        metrics[split] = measure(
            table, list(rows["group"]), model, patients_known=known, columns=rows
        )
    metrics["n_openings"] = n_openings(run.folder)
    write_json(run.folder / "metrics.json", metrics)
    rules = model.facts.referral
    run.save(
        operating_point=point.model_dump(mode="json") if point else None,
        referral=rules.model_dump(mode="json") if rules else None,
    )


def _measure_again(run: Run, prevalences: Sequence[float], subgroups: Sequence[str] | None) -> None:
    """Add what the user asks for to metrics.json, from predictions that were made before."""
    _, samples, _ = _load_prepared(run)
    model, metrics = load(run.folder), run.metrics
    predictions = _read_back(run.folder / "predictions.csv")
    samples = samples.set_index("path", drop=False)
    for split in ("val", "test"):
        table = predictions[predictions["split"] == split]
        rows = samples.loc[table["path"]]
        known = metrics[split]["n_patients"] is not None
        found = measure(
            table,
            list(rows["group"]),
            model,
            patients_known=known,
            columns=rows,
            prevalences=prevalences,
            subgroups=subgroups,
        )
        asked = ("ppv_npv", "net_benefit", "subgroups", "subgroup_notes")
        metrics[split] |= {key: found[key] for key in asked if key in found}
    write_json(run.folder / "metrics.json", metrics)


def _report(run: Run) -> None:
    from hilum.report import write_report

    write_report(run.folder)
