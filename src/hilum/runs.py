"""The run: data → model, figures and report, in steps that can be taken up again.

`train` prepares a run folder and works through it; `resume` goes on where it stopped. Everything
that a later step needs is in the folder, so a run killed at any moment is not lost.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

import hilum
from hilum.asked_figures import Asked, add_asked, asked_before
from hilum.budget import check_minutes, overrun
from hilum.columns import Columns
from hilum.crossvalidation import check_folds, work_folds
from hilum.decoded_samples import split_samples
from hilum.errors import HilumError, RunError, SettingError
from hilum.evaluation import as_table, measure, n_openings, now, open_test, predict_split
from hilum.export import Outputs
from hilum.external import OtherData, evaluate_on
from hilum.files import read_json, write_csv, write_json
from hilum.inference import Model, load
from hilum.linear_probe import train_probe
from hilum.locks import LOCK_FILE, locked
from hilum.map_checks import check_maps
from hilum.memory import exhausted_as, give_back_pages
from hilum.networks import n_parameters
from hilum.patient_figures import pool_predictions
from hilum.pixels import Images
from hilum.preparation import DataOptions, checked_options, prepare
from hilum.pretrained import located
from hilum.progress import LogProgress, Progress
from hilum.recipes import recipe_names
from hilum.records import (
    Run,
    finished_run,
    load_prepared,
    open_run,
    read_back,
    save_prepared,
    several_models,
)
from hilum.release import Basis, make_release
from hilum.training import train_network

ROBUSTNESS_FILE = "robustness.json"
"""Figures of validation images under changes, made with the model; a part of metrics.json."""


def train(
    data: str | Path,
    out: str | Path,
    *,
    recipe: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    minutes: float | None = None,
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
        A named recipe, or the folder of a run whose plan is to be taken as it is; without one a
        plan is made from the data.
    settings : mapping, optional
        Settings that override recipe and plan, by name.
    minutes : float, optional
        Time for all of it: a training step is timed, and the epochs that fit are planned. Without
        it the plan asks for what it needs, up to about 10 minutes. Epochs that the user set
        stay.
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
    clock = Clock(time.monotonic())
    progress, folder = progress or LogProgress(), Path(out)
    request = _request(data, recipe, settings, minutes, options)
    _check_new(folder)
    try:
        with locked(folder):
            _check_new(folder)  # another process may have been faster
            run = Run(folder)
            run.save(
                hilum=hilum.__version__,
                command=list(command),
                status="reading",
                started=now(),
                elapsed_s=0.0,
                request=request,
            )
            with _time_kept(run, clock):
                try:
                    limit = _prepare(run, progress, clock)
                except HilumError:
                    # Nothing worth keeping: once the data are mended, the same command should work.
                    (folder / "run.json").unlink()
                    raise
                run = _go_on(run, progress, command, clock)
            took_s, is_given = time.monotonic() - clock.started, minutes is not None
            if late := overrun(minutes or limit, took_s, is_given=is_given):
                progress.say(late)
            return run
    except HilumError:
        with contextlib.suppress(OSError):
            folder.rmdir()  # as far as it is empty
        raise


def resume(
    folder: str | Path,
    *,
    progress: Progress | None = None,
    command: Sequence[str] = ("hilum.resume",),
) -> Run:
    """Go on with a run that was interrupted.

    Raises
    ------
    RunError
        If the folder is no run, a finished one, or in use by another process.
    """
    started = time.monotonic()
    open_run(folder)
    with locked(Path(folder)):
        run = open_run(folder)
        progress = progress or LogProgress()
        clock = Clock(started, run.facts["elapsed_s"])
        with _time_kept(run, clock):
            if run.facts["status"] == "reading":
                _prepare(run, progress, clock)
            if run.facts["status"] != "finished":
                return _go_on(run, progress, command, clock)
        if (run.folder / "report.html").exists():
            raise RunError(f"{folder} is finished. See {run.folder / 'report.html'}.")
        _report(run)
        return run


def evaluate(
    folder: str | Path,
    data: str | Path | None = None,
    *,
    name: str | None = None,
    class_map: Mapping[str, str] | None = None,
    options: DataOptions | None = None,
    skip_seen: bool = False,
    prevalences: Sequence[float] = (),
    subgroups: Sequence[str] | None = None,
    progress: Progress | None = None,
    command: Sequence[str] = ("hilum.evaluate",),
) -> Run:
    """Evaluate a finished run on other data, or anew on its own.

    Without `data`, and without `prevalences` and `subgroups`, the run's test split is opened once
    more, and the report says so; what these had added to its figures is made anew with them.

    Parameters
    ----------
    data : path, optional
        Other data, as for `train`: figures at the locked threshold go to external/NAME.json in the
        run folder, and into its report. The run's test split is not opened.
    name : str, optional
        What to call these data; the name of their file or folder by default.
    class_map : mapping, optional
        Class of the data → class of the model, where names differ.
    options : DataOptions, optional
        How these data are to be read.
    skip_seen : bool
        Leave out patients of these data with an image that the run holds already; without it
        such data are refused.
    prevalences : sequence of float in (0, 1)
        Add predictive values and net benefit at these prevalences. This, and `subgroups`, needs
        only predictions.csv: the test split is not opened for it.
    subgroups : sequence of str, optional
        Give the figures of groups by these columns of the data.

    Returns
    -------
    Run
        `metrics` holds the figures of its own data; `external` those of other data, by their name.

    Raises
    ------
    RunError
        If the folder is no run, or an unfinished one.
    SettingError
        If a prevalence is not between 0 and 1, or the data have no such column.
    """
    run = finished_run(folder)
    if run.n_folds is not None:
        raise RunError(several_models(run.folder, "evaluate"))
    progress = progress or LogProgress()
    with locked(run.folder):
        run = finished_run(folder)  # another process may have added to it
        if data is not None:
            other = OtherData(data, name, class_map or {}, checked_options(options), skip_seen)
            evaluate_on(
                run,
                other,
                prevalences=prevalences,
                subgroups=subgroups,
                progress=progress,
                command=command,
            )
        elif prevalences or subgroups:
            _measure_again(run, Asked(prevalences, subgroups or ()))
        else:
            _evaluate(run, progress, command)
        _report(run)
    return run


# -- the run's folder -----------------------------------------------------------------------------


def _check_new(folder: Path) -> None:
    if (folder / "run.json").exists():
        raise RunError(
            f"{folder} already holds a run. Go on with it by: hilum resume {folder}, or choose "
            "another folder."
        )
    if folder.exists() and (
        not folder.is_dir() or any(path.name != LOCK_FILE for path in folder.iterdir())
    ):
        raise RunError(f"{folder} exists and is not empty. Choose a new folder for the run.")


def _request(
    data: str | Path,
    recipe: str | Path | None,
    settings: Mapping[str, Any] | None,
    minutes: float | None,
    options: DataOptions | None,
) -> dict[str, Any]:
    """Write down what is asked for as run.json keeps it, and refuse what it could not keep."""
    check_minutes(minutes)
    chosen = dict(settings or {})
    for name, value in chosen.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise SettingError(
                f"The setting '{name}' is {value!r}, which no file can hold. Give what JSON knows."
            ) from None
    if isinstance(chosen.get("weights"), str):  # what it may not be is told with the settings
        chosen["weights"] = located(chosen["weights"])
    return {
        "data": str(Path(data).absolute()),
        "recipe": _as_recorded(recipe),
        "settings": chosen,
        "minutes": minutes,
        "options": asdict(checked_options(options)),
    }


def _as_recorded(recipe: str | Path | None) -> str | None:
    """Write a run folder so that it is found from elsewhere too; leave the name of a recipe."""
    if recipe is None:
        return None
    is_folder = str(recipe) not in recipe_names() and Path(recipe).is_dir()
    return str(Path(recipe).absolute()) if is_folder else str(recipe)


def _prepare(run: Run, progress: Progress, clock: Clock) -> float | None:
    """Read, check, split and plan as run.json requests, and write down what came of it.

    Returns
    -------
    float or None
        Minutes that the plan was fitted into, where there was a limit.
    """
    request = run.facts["request"]
    given = request["options"]
    options = DataOptions(
        **given
        | {
            "classes": tuple(given["classes"]) if given["classes"] else None,
            "columns": _columns(given["columns"]),
        }
    )
    prepared = prepare(
        request["data"],
        recipe=request["recipe"],
        settings=request["settings"],
        minutes=request.get("minutes"),
        options=options,
        progress=progress,
    )
    note = None
    if options.folds is not None:
        names = prepared.dataset.class_names
        note = check_folds(prepared.samples, prepared.plan.settings, options.folds, names)
        if note:
            progress.say(note)
    save_prepared(run, prepared, options, validation_note=note, elapsed_s=clock.read_s())
    return prepared.plan.minutes


def _columns(given: dict[str, Any] | None) -> Columns | None:
    """Make columns of what run.json keeps of them, where tuples are lists."""
    if given is None:
        return None
    labels = given["labels"]
    return Columns(**given | {"labels": None if labels is None else tuple(labels)})


# -- the steps -------------------------------------------------------------------------------------


class Clock(NamedTuple):
    """Tells the time that a run has taken: in this session, and in those before."""

    started: float
    before_s: float = 0.0

    def read_s(self) -> float:
        return round(self.before_s + time.monotonic() - self.started, 1)


@contextlib.contextmanager
def _time_kept(run: Run, clock: Clock) -> Iterator[None]:
    """Write down the time of a session that ends early, so that the next adds to it."""
    try:
        yield
    except (KeyboardInterrupt, Exception):
        if (run.folder / "run.json").exists():  # what failed while preparing leaves nothing
            with contextlib.suppress(OSError):  # a full disk is what may have ended it
                run.save(elapsed_s=clock.read_s())
        raise


def _go_on(run: Run, progress: Progress, command: Sequence[str], clock: Clock) -> Run:
    """Finish a run that is prepared, whether it trains once or in folds."""
    if run.n_folds is None:
        return _work(run, progress, command, clock)

    def work_fold(fold: Run) -> None:
        own = Clock(time.monotonic(), fold.facts["elapsed_s"])
        with _time_kept(fold, own):
            _work(fold, progress, command, own)
        run.save(elapsed_s=clock.read_s())

    work_folds(run, work_fold, progress)
    run.save(status="finished", finished=now(), elapsed_s=clock.read_s())
    _report(run)
    return run


def _work(run: Run, progress: Progress, command: Sequence[str], clock: Clock) -> Run:
    """Train, evaluate, report; what one step held in memory is given back before the next."""
    give_back_pages()
    known = _learn(run, progress, command, clock)
    give_back_pages()
    _evaluate(run, progress, command, known)
    del known
    # All but the report, which shows it.
    run.save(status="finished", finished=now(), elapsed_s=clock.read_s())
    give_back_pages()
    _report(run)
    return run


def _learn(run: Run, progress: Progress, command: Sequence[str], clock: Clock) -> Known | None:
    """Train and write the model; return what it gave for the validation images, if it is new."""
    dataset, samples, settings = load_prepared(run)
    # A run may be resumed on a machine that lacks the device; this tells.
    run.begin_session(command, settings.accelerator)
    train_samples, val_samples = (
        split_samples(dataset, samples, split, settings, progress) for split in ("train", "val")
    )
    too_little = RunError(
        f"There is too little memory to train on images of {settings.input_height}×"
        f"{settings.input_width}, {settings.batch_size} at a time. Start a new run with a smaller "
        "input or --set batch_size=…."
    )
    with exhausted_as(too_little):
        learn = train_probe if settings.probe else train_network
        trained = learn(
            train_samples, val_samples, settings, dataset.class_names, run.folder, progress
        )
    give_back_pages()
    known: Known | None = None
    if not (run.folder / "model" / "model.json").exists():
        basis = Basis(
            dataset,
            samples,
            train_samples,
            val_samples,
            settings,
            run.facts["positive_class"],
            run.facts["data"]["sha256"],
        )
        release = make_release(
            trained.network,
            basis,
            progress,
            n_trained=len(trained.history) * settings.n_seen(len(train_samples)),
            curves="fold" not in run.facts,  # of a fold they would take time from its training
        )
        # Before the model: once that is whole, a run that is resumed does not come here again.
        run.save(calibration=release.calibration)
        if release.robustness:
            write_json(run.folder / ROBUSTNESS_FILE, release.robustness)
        release.write(run.folder / "model")
        known = Known(val_samples.pixels, release.val)
    run.save(
        status="trained",
        best_epochs=list(trained.best_epochs),
        epochs_done=len(trained.history),
        training_note=trained.note,
        n_parameters=n_parameters(trained.network),
        explanation=check_maps(run.folder / "model", val_samples.pixels, _sizes(samples, "val")),
        elapsed_s=clock.read_s(),
    )
    return known


def _sizes(samples: pd.DataFrame, split: str) -> list[tuple[int, int]]:
    """Return height and width of the pictures of a split."""
    rows = samples[samples["split"] == split]
    # Beside an unreadable file, which has no size, a table keeps sizes as '288.0'.
    height, width = (rows[name].astype(float).astype(int) for name in ("height", "width"))
    return list(zip(height, width, strict=True))


class Known(NamedTuple):
    """What the model, just made, gave for the validation images."""

    pixels: Images
    outputs: Outputs


def _evaluate(
    run: Run, progress: Progress, command: Sequence[str], known: Known | None = None
) -> None:
    """Predict validation, then open the test split; write predictions and figures.

    Where it is known what the model gives for the validation images it is not asked again.
    """
    dataset, samples, _ = load_prepared(run)
    model = load(run.folder)
    point, points = model.facts.operating_point, model.facts.operating_points
    if known is None:
        val = predict_split(model, dataset, samples, "val", progress)
    else:
        probs, features = known.outputs.probabilities, known.outputs.features
        answers = list(model.judge(known.pixels, probs, features))
        val = as_table(model, samples[samples["split"] == "val"], answers)
    n_test = int((samples["split"] == "test").sum())
    open_test(run.folder, n_test, model.facts, command=shlex.join(command))
    test = predict_split(model, dataset, samples, "test", progress)
    predictions = pd.concat([val, test], ignore_index=True)
    write_csv(run.folder / "predictions.csv", predictions)
    if model.facts.patient_pooling is not None:
        by_patient = [pool_predictions(table, model.facts) for table in (val, test)]
        write_csv(run.folder / "patients.csv", pd.concat(by_patient, ignore_index=True))
    patients_known = dataset.patients.n_patients is not None
    metrics: dict[str, Any] = {
        "class_names": list(model.class_names),
        "positive_class": model.facts.positive_class,
    }
    for split, table in (("val", val), ("test", test)):
        rows = samples[samples["split"] == split]
        metrics[split] = measure(
            table, list(rows["group"]), model, patients_known=patients_known, columns=rows
        )
    metrics |= _robustness(run)
    metrics["n_openings"] = n_openings(run.folder)
    before = run.folder / "metrics.json"
    if before.exists():
        asked = asked_before(read_json(before), metrics)
        add_asked(metrics, asked, predictions, samples, model)
    write_json(run.folder / "metrics.json", metrics)
    rules = model.facts.referral
    run.save(
        operating_point=point.model_dump(mode="json") if point else None,
        operating_points={name: each.model_dump(mode="json") for name, each in points.items()}
        if points
        else None,
        referral=rules.model_dump(mode="json") if rules else None,
        patient_rules=_patient_rules(model),
        class_shares=model.facts.class_shares,
    )


def _robustness(run: Run) -> dict[str, Any]:
    """Return the figures made with the model; of an older run, from its figures of before."""
    for name in (ROBUSTNESS_FILE, "metrics.json"):
        if (run.folder / name).exists():
            found = read_json(run.folder / name)
            return {key: found[key] for key in ("robustness", "robustness_on") if key in found}
    return {}


def _patient_rules(model: Model) -> dict[str, Any] | None:
    """Say for run.json how patients with several images are answered."""
    facts = model.facts
    if facts.patient_pooling is None:
        return None
    points = facts.patient_points
    return {
        "pooling": facts.patient_pooling.model_dump(mode="json"),
        "point": facts.patient_point.model_dump(mode="json") if facts.patient_point else None,
        "points": {name: point.model_dump(mode="json") for name, point in points.items()}
        if points is not None
        else None,
    }


def _measure_again(run: Run, asked: Asked) -> None:
    """Add what the user asks for to metrics.json, from predictions that were made before.

    What was there by other columns, or at other prevalences where none is given now, stays.
    """
    _, samples, _ = load_prepared(run)
    predictions, metrics = read_back(run.folder / "predictions.csv"), run.metrics
    add_asked(metrics, asked, predictions, samples, load(run.folder))
    write_json(run.folder / "metrics.json", metrics)


def _report(run: Run) -> None:
    from hilum.report import write_report

    write_report(run.folder)
