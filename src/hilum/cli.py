"""The command line: parse, call one public function, print.

Results go to stdout, progress to stderr. Exit codes: 0 done, 1 the input is at fault, 2 wrong
usage, 130 interrupted.
"""

from __future__ import annotations

import functools
import inspect
import json
import logging
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args, get_type_hints

import typer

import hilum
from hilum.errors import HilumError, did_you_mean
from hilum.names import quoted
from hilum.printing import (
    check_output,
    check_page,
    print_asked,
    print_audit,
    print_comparison,
    print_external,
    print_json,
    print_path,
    print_plan,
    print_predictions,
    print_recipe,
    print_run,
    print_shares,
    write_csv_rows,
    write_rows,
)

if TYPE_CHECKING:
    from hilum.columns import Columns
    from hilum.inference import Model, Prediction
    from hilum.preparation import DataOptions
    from hilum.targets import TargetKind

app = typer.Typer(
    name="hilum",
    help="From a folder of medical images to a classifier you can defend.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A folder of class folders; the same under train, val, test; a CSV, TSV or Parquet "
        "table with the columns path and label; or a MedMNIST-style NPZ.",
    ),
]
ModelPath = Annotated[
    str, typer.Argument(metavar="MODEL", help="A run folder, or its model folder.")
]
Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT", help="Image files, folders, tables with a column path, or NPZs."
    ),
]
RunPath = Annotated[str, typer.Argument(metavar="RUN", help="A run folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Classes = Annotated[
    str | None, typer.Option(help="Order of the classes, as a,b,c. [default: alphabetical]")
]
Positive = Annotated[
    str | None, typer.Option(help="For two classes, the one to be found, such as the disease.")
]
PatientPattern = Annotated[
    str | None,
    typer.Option(help="Regular expression with a group (?P<patient>…), searched in file names."),
]
PathColumn = Annotated[str | None, typer.Option(help="Column of the table that holds paths.")]
LabelColumn = Annotated[str | None, typer.Option(help="Column of the table that holds labels.")]
Labels = Annotated[
    str | None,
    typer.Option(
        help="For several labels an image: the columns of the table that hold them, as a,b,c; 1 is "
        "present, 0 absent, empty or -1 unknown."
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        metavar="<classes|ordinal|multilabel>",
        help="One class an image, grades in order, or several labels an image (joined by '|' in "
        "the label column). [default: what the data show; grades are classes unless said]",
    ),
]
PatientColumn = Annotated[str | None, typer.Option(help="Column of the table that holds patients.")]
SplitColumn = Annotated[str | None, typer.Option(help="Column of the table that holds splits.")]
Recipe = Annotated[
    str | None,
    typer.Option(
        metavar="<name|run folder>",
        help="A named recipe, or an earlier run whose plan is to be taken as it is. [default: a "
        "plan made from the data]",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any setting, as name=value; see 'hilum settings'. Repeatable."),
]
Minutes = Annotated[
    str | None,
    typer.Option(
        metavar="<float>",
        help="Time for the whole command: a training step is timed, and the plan chosen that fits. "
        "[default: what the plan needs, up to about 10 minutes]",
    ),
]
Epochs = Annotated[int | None, typer.Option(help="Short for --set epochs=E.")]
Backbone = Annotated[
    str | None,
    typer.Option(
        help="A network that can begin with weights: hilum:NAME, timm:NAME or monai:NAME; 'none' "
        "for a CNN that begins at random. Short for --set backbone=…"
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        help="What the backbone begins with: 'imagenet' for what is installed with Hilum, a file, "
        "or 'hub' to fetch timm's own. Short for --set weights=…"
    ),
]
Seed = Annotated[int | None, typer.Option(help="Short for --set seed=S.")]
Folds = Annotated[
    int | None,
    typer.Option(
        help="Cross-validate: hold every patient out once, over this many folds, such as 5. A test "
        "split that came with the data stays sealed."
    ),
]
NewSplit = Annotated[
    bool, typer.Option("--new-split", help="Draw a split by patient; leave the one that came.")
]
AllowOverlap = Annotated[
    bool,
    typer.Option(
        "--allow-patient-overlap",
        help="Train although patients are in more than one split; the report says so.",
    ),
]
SkipUnreadable = Annotated[
    bool, typer.Option("--skip-unreadable", help="Go on without files that cannot be read.")
]

DicomColumns = Annotated[
    bool,
    typer.Option(
        "--dicom-columns",
        help="Take patients, study, laterality, view, modality and manufacturer from DICOM "
        "headers; patients and studies as pseudonyms.",
    ),
]


@dataclass(frozen=True)
class Request:
    """What `plan` and `train` are both told; each field is an option of both."""

    recipe: Recipe = None
    minutes: Minutes = None
    set_: Set = None
    epochs: Epochs = None
    seed: Seed = None
    backbone: Backbone = None
    weights: Weights = None
    target: Target = None
    classes: Classes = None
    positive: Positive = None
    patient_pattern: PatientPattern = None
    path_column: PathColumn = None
    label_column: LabelColumn = None
    labels: Labels = None
    patient_column: PatientColumn = None
    split_column: SplitColumn = None
    new_split: NewSplit = False
    allow_patient_overlap: AllowOverlap = False
    skip_unreadable: SkipUnreadable = False
    dicom_columns: DicomColumns = False

    def settings(self) -> dict[str, Any]:
        """Return the settings that the user gave, by name."""
        from hilum.settings import parse_assignments

        names = ("epochs", "seed", "backbone", "weights")
        short = {name: getattr(self, name) for name in names}
        given = {
            name: None if str(value).lower() == "none" else value
            for name, value in short.items()
            if value is not None
        }
        long = parse_assignments(self.set_ or ())
        for name in given.keys() & long.keys():
            if given[name] != long[name]:
                raise hilum.SettingError(
                    f"--{name} {given[name]} and --set {name}={long[name]} disagree. Give one."
                )
        return long | given

    def options(self, *, folds: int | None = None) -> DataOptions:
        """Return how the data are to be read and split."""
        return hilum.DataOptions(
            classes=_list(self.classes),
            positive=self.positive,
            patient_pattern=self.patient_pattern,
            columns=_columns(
                self.path_column,
                self.label_column,
                self.patient_column,
                self.split_column,
                self.labels,
            ),
            new_split=self.new_split,
            allow_patient_overlap=self.allow_patient_overlap,
            skip_unreadable=self.skip_unreadable,
            dicom_columns=self.dicom_columns,
            folds=folds,
            target=_target(self.target),
        )


def _with_request(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the fields of `Request` as options, where it has the parameter `request`."""
    parameters = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        if parameter.name != "request":
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        hints = get_type_hints(Request, include_extras=True)
        parameters += [
            inspect.Parameter(
                each.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=each.default,
                annotation=hints[each.name],
            )
            for each in fields(Request)
        ]

    @functools.wraps(command)
    def call(**given: Any) -> None:
        shared = {each.name: given.pop(each.name) for each in fields(Request)}
        command(request=Request(**shared), **given)

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {each.name: each.annotation for each in parameters}
    return call


def main() -> None:
    """Run the command line; the one place where errors become exit codes."""
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").addHandler(logging.NullHandler())
    try:
        app()
    except HilumError as error:
        sys.stderr.write(f"Error: {error}\n")
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"hilum {hilum.__version__}")
        raise typer.Exit


@app.command("audit")
def audit_command(
    data: Data,
    target: Target = None,
    classes: Classes = None,
    patient_pattern: PatientPattern = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    labels: Labels = None,
    patient_column: PatientColumn = None,
    split_column: SplitColumn = None,
    dicom_columns: DicomColumns = False,
    out: Annotated[
        str | None, typer.Option(help="Write a page with pictures to this HTML file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read all images and say what is wrong with the data."""
    if out is not None:
        check_page(Path(out))
    result = hilum.audit(
        data,
        classes=_list(classes),
        patient_pattern=patient_pattern,
        columns=_columns(path_column, label_column, patient_column, split_column, labels),
        target=_target(target),
        dicom_columns=dicom_columns,
        progress=_progress(),
    )
    if out is not None:
        typer.echo(f"Page: {hilum.write_audit(result, out)}", err=True)
    print_json(result.to_dict()) if as_json else print_audit(result)


@app.command("plan")
@_with_request
def plan_command(
    data: Data, request: Request, folds: Folds = None, as_json: AsJson = False
) -> None:
    """Show the settings that training would use on these data, and the reason of each choice."""
    plan = hilum.plan(
        data,
        recipe=request.recipe,
        settings=request.settings(),
        minutes=_minutes(request.minutes),
        options=request.options(folds=folds),
        progress=_progress(),
    )
    print_plan(plan, as_json)


@app.command("train")
@_with_request
def train_command(
    data: Data,
    out: Annotated[str, typer.Option(help="Folder of the run; new or empty.")],
    request: Request,
    folds: Folds = None,
    as_json: AsJson = False,
) -> None:
    """Train a classifier, evaluate it honestly, and write a run folder with a report."""
    with _resumable(out):
        run = hilum.train(
            data,
            out,
            recipe=request.recipe,
            settings=request.settings(),
            minutes=_minutes(request.minutes),
            options=request.options(folds=folds),
            progress=_progress(),
            command=["hilum", *sys.argv[1:]],
        )
    print_run(run, as_json)


@app.command("resume")
def resume_command(run: RunPath, as_json: AsJson = False) -> None:
    """Go on with a run that was interrupted, as if it never had been."""
    with _resumable(run):
        finished = hilum.resume(run, progress=_progress(), command=["hilum", *sys.argv[1:]])
    print_run(finished, as_json)


@app.command("evaluate")
def evaluate_command(
    run: RunPath,
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATA]", help="Other data. [default: the run's own validation and test splits]"
        ),
    ] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map", help="A class of DATA and what it is to the model, as other=name. Repeatable."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What to call DATA. [default: its file or folder]")
    ] = None,
    skip_seen: Annotated[
        bool,
        typer.Option(
            "--skip-seen",
            help="Leave out patients of DATA with an image that the run holds already.",
        ),
    ] = False,
    patient_pattern: PatientPattern = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    labels: Labels = None,
    patient_column: PatientColumn = None,
    skip_unreadable: SkipUnreadable = False,
    dicom_columns: DicomColumns = False,
    prevalence: Annotated[
        list[float] | None,
        typer.Option(
            help="Give predictive values and net benefit at this prevalence, such as 0.02; the "
            "test split is not opened anew for it. Repeatable."
        ),
    ] = None,
    subgroup: Annotated[
        list[str] | None,
        typer.Option(
            help="Give the figures of groups by this column of the data; the test split is not "
            "opened anew for it. Repeatable."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a finished run on other data, or anew on its own.

    Without DATA, --prevalence and --subgroup, the test split of the run is opened once more, and
    the report says so. With DATA it stays closed: figures at the locked threshold, and what
    differs from the training images, go to RUN/external and into the report.
    """
    _check_evaluation(
        data,
        {
            "--map": map_, "--name": name, "--skip-seen": skip_seen,
            "--patient-pattern": patient_pattern, "--path-column": path_column,
            "--label-column": label_column, "--labels": labels, "--patient-column": patient_column,
            "--skip-unreadable": skip_unreadable, "--dicom-columns": dicom_columns,
        },
    )  # fmt: skip
    columns = _columns(path_column, label_column, patient_column, None, labels)
    done = hilum.evaluate(
        run,
        data,
        name=name,
        class_map=_class_map(map_),
        options=hilum.DataOptions(
            patient_pattern=patient_pattern,
            columns=columns,
            skip_unreadable=skip_unreadable,
            dicom_columns=dicom_columns,
        ),
        skip_seen=skip_seen,
        prevalences=prevalence or (),
        subgroups=subgroup,
        progress=_progress(),
        command=["hilum", *sys.argv[1:]],
    )
    if data is not None:
        print_external(done, name or Path(data).resolve().stem, as_json, subgroup or ())
        return
    print_run(done, as_json)
    if not as_json:
        print_asked(done.metrics["test"], subgroup or ())


@app.command("compare")
def compare_command(
    run: RunPath,
    others: Annotated[
        list[str],
        typer.Argument(
            metavar="OTHER...",
            help="Further runs, or CSV tables of readers with the column path, and score or "
            "decision; with a column reader, of several.",
        ),
    ],
    shared: Annotated[
        bool, typer.Option("--shared", help="Compare on the images that all have, if sets differ.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare models, or a model and readers, on the same test images, in pairs.

    What the runs wrote to predictions.csv is read; no test split is opened.
    """
    result = hilum.compare(run, *others, shared_only=shared).to_dict()
    print_json(result) if as_json else print_comparison(result)


@app.command("predict")
def predict_command(
    model: ModelPath,
    inputs: Inputs,
    out: Annotated[
        str | None,
        typer.Option(
            help="Write the predictions to this CSV file: a new one, or one of predictions, which "
            "is replaced."
        ),
    ] = None,
    heatmaps: Annotated[
        str | None, typer.Option(help="Write heat maps too, to this new folder; see 'explain'.")
    ] = None,
    patients: Annotated[
        bool,
        typer.Option(
            "--patients",
            help="Pool the images of each patient into one answer; with --out p.csv they go to "
            "p-patients.csv.",
        ),
    ] = False,
    patient_pattern: PatientPattern = None,
    patient_column: PatientColumn = None,
    as_json: AsJson = False,
) -> None:
    """Predict images: class, confidence, the probability of each class, decision.

    Every input gets a row. One that cannot be read is refused with the reason, the others are
    answered all the same, and the exit code is 1. With --patients, each patient gets a row too, by
    the rule that the model was locked with; without --out only these are printed.
    """
    from hilum.inference import row_columns

    _check_patients(patients, patient_pattern, patient_column)
    if out is not None:
        _check_outputs(Path(out), inputs, patients=patients)
    loaded = hilum.load(model)
    print_shares(loaded.class_names, loaded.facts.class_shares)
    if patients:
        from hilum.patient_predictions import find_patients

        names, told = find_patients(
            loaded.facts, inputs, patient_pattern=patient_pattern, patient_column=patient_column
        )
        typer.echo(told, err=True)
    if heatmaps is None:
        predictions = loaded.predict(inputs)
    else:
        explained = hilum.explain(model, inputs, heatmaps, progress=_progress())
        predictions = [explanation.prediction for explanation in explained]
    rows = [prediction.row(loaded.class_names) for prediction in predictions]
    if out is not None:
        write_rows(Path(out), rows, row_columns(loaded.class_names))
        typer.echo(f"{len(rows):,} predictions written to {out}", err=True)
    if patients:
        _give_patients(loaded, predictions, names, rows, out, as_json)
    elif as_json:
        print_json(rows)
    elif out is None:
        print_predictions(predictions, rows, loaded.class_names)
    _exit_if_refused(predictions)


def _check_patients(patients: bool, pattern: str | None, column: str | None) -> None:
    """Refuse options that mean nothing without --patients."""
    for option, value in (("--patient-pattern", pattern), ("--patient-column", column)):
        if value and not patients:
            raise hilum.SettingError(f"{option} needs --patients here.")


def _check_outputs(out: Path, inputs: Sequence[str], *, patients: bool) -> None:
    """Refuse, before anything is predicted, files that would not be replaced but lost."""
    from hilum.inference import row_columns
    from hilum.patient_predictions import patient_columns

    check_output(out, row_columns(()), inputs)
    if patients:
        check_output(_beside(out), patient_columns(()), inputs)


def _beside(out: Path) -> Path:
    """Say where patients go when images go to `out`; no other predictions have this place."""
    return out.with_name(f"{out.stem}-patients.csv")


def _give_patients(
    loaded: Model,
    predictions: Sequence[Prediction],
    names: Sequence[str],
    images: Sequence[dict[str, Any]],
    out: str | None,
    as_json: bool,
) -> None:
    """Write or print one answer a patient."""
    from hilum.patient_predictions import patient_columns, pool_images

    pooled = pool_images(loaded, predictions, names)
    rows = [prediction.row(loaded.class_names) for prediction in pooled]
    if out is not None:
        path = _beside(Path(out))
        write_rows(path, rows, patient_columns(loaded.class_names))
        typer.echo(f"{len(rows):,} patients written to {path}", err=True)
    if as_json:
        print_json({"patients": rows, "images": images})
    elif out is None and not sys.stdout.isatty():
        write_csv_rows(sys.stdout, rows, patient_columns(loaded.class_names))
    elif out is None:
        width = max((len(row["patient"]) for row in rows), default=0)
        for each in pooled:
            shown = each.predicted or "refused"
            if each.confidence is not None:
                shown += f"  {each.confidence:.1%}"
            typer.echo(f"{each.patient:<{width}}  {shown}  {each.n_images} images")


@app.command("explain")
def explain_command(
    model: ModelPath,
    inputs: Inputs,
    out: Annotated[str, typer.Option(help="Folder for the heat maps; new or empty.")],
    method: Annotated[
        str,
        typer.Option(
            help="'gradcam', or 'occlusion', which is slow and asks the exported model alone."
        ),
    ] = "gradcam",
    class_: Annotated[
        str | None,
        typer.Option(
            "--class", metavar="NAME", help="Class to explain. [default: the predicted one]"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Draw heat maps over images: where the score of a class depends on the image.

    Heat maps are no evidence of cause. For each image the folder gets the picture with heat and
    legend, and the heat alone as a grey PNG of 16 bits; heatmaps.csv names them. What cannot be
    read is refused with the reason, and the exit code is 1.
    """
    explained = hilum.explain(
        model, inputs, out, method=method, class_name=class_, progress=_progress()
    )
    if as_json:
        print_json([explanation.row() for explanation in explained])
    else:
        typer.echo(Path(out) / "heatmaps.csv")
    _exit_if_refused([explanation.prediction for explanation in explained])


@app.command("report")
def report_command(run: RunPath, as_json: AsJson = False) -> None:
    """Write the report of a finished run anew, from what the run folder holds."""
    print_path(hilum.write_report(Path(run)), as_json)


@app.command("recipes")
def recipes_command(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="One recipe. [default: all]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the recipes, or show one with its layers and number of parameters."""
    names = [name] if name else hilum.recipe_names()
    described = [hilum.describe_recipe(each) for each in names]
    if as_json:
        print_json(described[0] if name else described)
    elif name:
        print_recipe(described[0])
    else:
        for each in described:
            typer.echo(f"{each['name']:<12} {each['title']} ({each['n_parameters']:,} parameters)")


@app.command("settings")
def settings_command(as_json: AsJson = False) -> None:
    """List every setting with its default and meaning, for --set."""
    from hilum.settings import Settings

    schema = Settings.model_json_schema()["properties"]
    if as_json:
        print_json(schema)
        return
    for name, entry in schema.items():
        about = f"  {entry['description']}" if "description" in entry else ""
        typer.echo(f"{name} = {json.dumps(entry.get('default'))}{about}")


@app.command("cache")
def cache_command(
    empty: Annotated[bool, typer.Option("--empty", help="Remove all of it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the images that are kept decoded, at each data set's input size, or remove them.

    They lie in the folder that HILUM_CACHE names, or in the user's cache folder, for their owner
    alone. What is removed is made again when it is wanted.
    """
    from hilum.cache import empty_cache, list_cache
    from hilum.cache_rooms import cache_folder

    stores = list_cache()
    removed = empty_cache() if empty else 0
    if as_json:
        listed = [store.to_dict() for store in stores]
        print_json({"folder": str(cache_folder()), "stores": listed, "n_bytes_removed": removed})
        return
    if empty:
        typer.echo(f"{removed / 2**20:,.1f} MiB removed from {cache_folder()}")
        return
    typer.echo(str(cache_folder()))
    for store in stores:
        size = f"{store.height}×{store.width}×{store.channels}"
        typer.echo(
            f"{store.n_bytes / 2**20:10,.1f} MiB  {size:<12} "
            f"{store.n_decoded:,} of {store.n_images:,} images  {store.source}"
        )


@app.command("fetch")
def fetch_command(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Such as medmnist:pneumoniamnist or kaggle:OWNER/DATASET."
        ),
    ],
    out: Annotated[str, typer.Option(help="Folder to put it into.")],
    as_json: AsJson = False,
) -> None:
    """Download a public data set and check it. Only this and --weights hub use the network."""
    print_path(hilum.fetch(name, Path(out), progress=_progress()), as_json)


@app.command("demo")
def demo_command(
    out: Annotated[str, typer.Option(help="Folder for the phantoms and the run.")] = "demo",
    as_json: AsJson = False,
) -> None:
    """Make chest phantoms with planted flaws, find the flaws, train, and write a report."""
    from hilum.demo import run_demo

    command = ["hilum", *sys.argv[1:]]
    with _resumable(str(Path(out) / "run")):
        for line in run_demo(Path(out), progress=_progress(), command=command):
            typer.echo(line, err=as_json)
    if as_json:
        print_json({"run": str(Path(out) / "run")})


# -- arguments -----------------------------------------------------------------------------------


def _progress() -> Any:
    from hilum.console import make_progress

    return make_progress()


def _list(text: str | None) -> tuple[str, ...] | None:
    return tuple(part.strip() for part in text.split(",")) if text else None


def _target(name: str | None) -> TargetKind | None:
    """Check a kind of target; what is wrong is told with what may have been meant."""
    from hilum.targets import TargetKind

    known = get_args(TargetKind)
    if name is not None and name not in known:
        raise hilum.SettingError(
            f"--target {name} is not one of {quoted(known)}.{did_you_mean(name, known)}"
        )
    return cast("TargetKind | None", name)


def _minutes(text: str | None) -> float | None:
    """Read a time, which has no unit beside it."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        number = re.match(r"\d+(\.\d+)?", text)
        raise hilum.SettingError(
            f"--minutes {text} is not a number. Write the minutes alone, such as "
            f"--minutes {number[0] if number and 'm' in text else 30}."
        ) from None


def _class_map(pairs: Sequence[str] | None) -> dict[str, str]:
    found = {}
    for pair in pairs or ():
        other, equals, own = pair.partition("=")
        if not equals:
            raise hilum.SettingError(f"--map {pair} has no '='. Write it as --map other=name.")
        found[other] = own
    return found


def _check_evaluation(data: str | None, given: dict[str, Any]) -> None:
    """Refuse options that other data alone give a meaning."""
    for option, value in given.items():
        if value and data is None:
            raise hilum.SettingError(f"{option} needs other data: hilum evaluate RUN DATA {option}")


def _columns(
    path: str | None,
    label: str | None,
    patient: str | None,
    split: str | None,
    labels: str | None = None,
) -> Columns | None:
    if not any((path, label, patient, split, labels)):
        return None
    return hilum.Columns(path, label, patient, split, _list(labels))


class _resumable:  # noqa: N801 - reads as a statement: with _resumable(out)
    """Turn an interruption into exit code 130 and the way to go on."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            begun = (Path(self._folder) / "run.json").exists()
            hint = f"Go on with: hilum resume {self._folder}" if begun else "Nothing was begun."
            typer.echo(f"Interrupted. {hint}", err=True)
            raise typer.Exit(130)


def _exit_if_refused(predictions: Sequence[Prediction]) -> None:
    """Name every input that was refused, and end with exit code 1 if there is one."""
    refused = [prediction for prediction in predictions if prediction.error]
    for prediction in refused:
        typer.echo(f"Error: {prediction.path}: {prediction.error}.", err=True)
    if refused:
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
