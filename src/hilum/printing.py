"""Results as text, on standard output: what each command prints for people, or as JSON or CSV."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hilum.errors import SettingError

if TYPE_CHECKING:
    from hilum.auditing import Audit
    from hilum.inference import Prediction
    from hilum.planning import Plan
    from hilum.records import Run

MOST_REASONS = 5


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_path(path: Path, as_json: bool) -> None:
    """Print where something was written."""
    print_json({"path": str(path)}) if as_json else typer.echo(path)


def print_audit(result: Audit) -> None:
    """Print what an audit found."""
    typer.echo(f"{result.n_files:,} files, {result.n_read:,} read.")
    kinds = {"multilabel": "Labels", "ordinal": "Grades"}
    what = kinds.get(result.dataset.target_kind, "Classes")
    typer.echo(f"{what}: {', '.join(result.class_names)}.")
    for line in (*result.notes, *result.patients.lines()):
        typer.echo(line)
    if not result.findings:
        typer.echo("Nothing wrong was found.")
    for kind, why in result.not_looked_for.items():
        typer.echo(f"Not looked for: {kind}; {why}.")
    for finding in result.findings:
        typer.echo(f"\n[{finding.severity}] {finding.kind}: {finding.message}")
        for example in finding.examples[:5]:
            typer.echo(f"    {example}")


def print_plan(plan: Plan, as_json: bool) -> None:
    """Print the facts, and each setting with its reason; defaults in a line, at the end."""
    from hilum.settings import DEFAULT_REASON

    entries = plan.to_dict()
    if as_json:
        print_json(entries)
        return
    _print_facts(plan)
    left = []
    for name, entry in entries.items():
        text = f"{name} = {json.dumps(entry['value'])}"
        if entry["reason"].startswith(DEFAULT_REASON):
            left.append(text)
        else:
            typer.echo(f"{text}\n    {entry['reason']}")
    if left:
        typer.echo(f"\nDefaults, which 'hilum settings' describes: {', '.join(left)}")


def _print_facts(plan: Plan) -> None:
    """Print what was known when the plan was made; not every fact has decided something."""
    from hilum.fingerprint import facts_in_words

    if plan.fingerprint is None or plan.hardware is None:
        return
    machine = plan.hardware
    facts = facts_in_words(plan.fingerprint.to_dict()) | {
        "machine": f"{machine.device}, {machine.name}, {machine.n_cores} cores, "
        f"{'with' if machine.has_bfloat16 else 'without'} bfloat16",
    }
    typer.echo("Facts of the training and validation images")
    for name, text in facts.items():
        typer.echo(f"    {name:<14} {text}")
    typer.echo("\nPlan")


def print_run(run: Run, as_json: bool) -> None:
    """Print the figures of a finished run, why to distrust them, and where its report is."""
    if as_json:
        print_json({"run": str(run.folder), "metrics": run.metrics, "reasons": run.reasons})
        return
    metrics = run.metrics
    for split, what in (("val", "Validation"), ("test", "Test"), ("oof", "Out of fold")):
        if split not in metrics:
            continue
        _print_figures(what, metrics[split])
        if split == "oof":
            _print_spread(metrics)
    _print_reasons(run.reasons)
    typer.echo(f"Report: {run.folder / 'report.html'}")


def _print_reasons(titles: Sequence[str]) -> None:
    """Print the gravest reasons to distrust the figures, which the report explains."""
    if not titles:
        return
    typer.echo("What to distrust, the gravest first")
    for title in titles[:MOST_REASONS]:
        typer.echo(f"    {title}")
    if len(titles) > MOST_REASONS:
        typer.echo(f"    and {len(titles) - MOST_REASONS} more in the report")


def print_asked(figures: dict[str, Any], columns: Sequence[str]) -> None:
    """Print the figures at prevalences, and of groups, that the user asked for."""
    from hilum.evaluation import figure_text

    for label, own in (figures.get("labels") or {}).items():
        if columns or any(row["wanted"] for row in own.get("ppv_npv", ())):
            typer.echo(label)
            print_asked(own, columns)
    for row in figures.get("ppv_npv", ()):
        if row["wanted"]:
            typer.echo(f"Where {row['prevalence'] * 100:g} % have it, n = {figures['n']:,}")
            for name in ("ppv", "npv"):
                typer.echo(f"    {name.upper():<18} {figure_text(row[name])}")
    for row in figures.get("subgroups", ()):
        if row["column"] not in columns:
            continue
        typer.echo(f"{row['column']} {row['group']}, n = {row['n']:,}")
        _print_main(row)
    for note in figures.get("subgroup_notes", ()) if columns else ():
        typer.echo(note)


def print_external(run: Run, name: str, as_json: bool, columns: Sequence[str]) -> None:
    """Print the figures on other data."""
    path = run.folder / "external" / f"{name}.json"
    found = run.external[name]
    if as_json:
        print_json({"run": str(run.folder), "external": found})
        return
    _print_figures(name, found["metrics"])
    print_asked(found["metrics"], columns)
    typer.echo(f"Figures: {path}\nReport: {run.folder / 'report.html'}")


def _print_figures(what: str, figures: dict[str, Any]) -> None:
    from hilum.evaluation import figure_text

    typer.echo(f"{what}, n = {figures['n']:,}")
    if figures.get("labels"):
        typer.echo(f"    means over {', '.join(figures['mean_over']) or 'no label'}")
    _print_main(figures)
    for label, found in (figures.get("labels") or {}).items():
        typer.echo(f"    auroc of {label}: {figure_text(found['auroc'])}")
    by_patient = figures.get("patients")
    if by_patient:
        typer.echo(f"{what}, by patient, n = {by_patient['n']:,}")
        _print_main(by_patient)


def _print_main(figures: Mapping[str, Any]) -> None:
    from hilum.evaluation import figure_text

    shown = ["auroc", "sensitivity", "specificity", "balanced_accuracy", "accuracy"]
    graded = ["quadratic_kappa", "mean_absolute_error"]
    for name in [name for name in (*graded, *shown) if name in figures]:
        typer.echo(f"    {name.replace('_', ' '):<19} {figure_text(figures[name])}")


def _print_spread(metrics: dict[str, Any]) -> None:
    typer.echo(f"Over the {len(metrics['folds'])} folds")
    for name in ("auroc", "sensitivity", "specificity"):
        spread = metrics["spread"][name]
        text = f"not estimable: {spread.get('reason')}"
        if spread["mean"] is not None:
            text = (
                f"mean {spread['mean']:.3f}, SD {spread['sd']:.3f}, "
                f"{spread['lowest']:.3f} to {spread['highest']:.3f}"
            )
        typer.echo(f"    {name:<18} {text}")


def print_comparison(result: dict[str, Any]) -> None:
    """Print each pair of a comparison."""
    n, n_patients = result["n"], result["n_patients"]
    images = f"{n:,} test image{'' if n == 1 else 's'}"
    people = f"{n_patients:,} patient{'' if n_patients == 1 else 's'}"
    typer.echo(f"{images}, {people if n_patients else 'patients unknown'}.")
    for pair in result["comparisons"]:
        typer.echo(f"\n{pair['a']} (A) against {pair['b']} (B)")
        labels = pair.get("labels") or {}
        if labels:
            typer.echo("    Means over the labels")
        _print_differences(pair)
        for name, figures in labels.items():
            typer.echo(f"\n    {name}")
            _print_differences(figures)
        by_patient = pair.get("patients")
        if by_patient:
            means = ", means over the labels" if labels else ""
            typer.echo(f"\n    By patient, n = {by_patient['n']:,}{means}")
            _print_differences(by_patient)
    for line in (*result["warnings"], *result["notes"]):
        typer.echo(f"\n{line}")


def _print_differences(figures: Mapping[str, Any]) -> None:
    from hilum.evaluation import figure_text

    for name, parts in figures.items():
        if name in ("a", "b", "n", "labels", "patients", "patients_reason"):
            continue
        p = "" if parts["p"] is None else f", p = {parts['p']:.3g}"
        typer.echo(f"    {name.replace('_', ' ')}")
        typer.echo(f"        A      {figure_text(parts['a'])}")
        typer.echo(f"        B      {figure_text(parts['b'])}")
        typer.echo(f"        A - B  {figure_text(parts['difference'])}{p}")


def print_shares(class_names: Sequence[str], shares: Sequence[float] | None) -> None:
    """Tell beside predictions that classes are called over their shares, where they are."""
    if shares is None:
        return
    from hilum.calls import shares_in_words

    typer.echo(
        "Called is the class whose probability is greatest in proportion to its share of the "
        f"training images ({shares_in_words(class_names, shares)}); it need not be the most "
        "probable.",
        err=True,
    )


def print_predictions(
    predictions: Sequence[Prediction], rows: Sequence[dict[str, Any]], class_names: Sequence[str]
) -> None:
    """Print predictions: a line each on a terminal, else as CSV."""
    if not sys.stdout.isatty():
        from hilum.inference import row_columns

        write_csv_rows(sys.stdout, rows, row_columns(class_names))
        return
    width = max((len(row["path"]) for row in rows), default=0)
    for prediction, row in zip(predictions, rows, strict=True):
        if prediction.confidence is not None:
            shown = f"{prediction.predicted}  {prediction.confidence:.1%}"
            if prediction.reason:
                shown += f"  refer: {prediction.reason}"
            typer.echo(f"{row['path']:<{width}}  {shown}")


def check_page(path: Path) -> None:
    """Refuse to write the page of an audit over anything but such a page, or into a run folder.

    Raises
    ------
    SettingError
    """
    other = "Choose another file with --out."
    _check_no_run_folder(path, other)
    if path.is_dir():
        raise SettingError(f"{path} is a folder, and the page goes into a file. {other}")
    if path.suffix.lower() not in (".html", ".htm"):
        raise SettingError(f"{path} is no name for a page. End it in .html.")


def _check_no_run_folder(path: Path, other: str) -> None:
    folder = next((up for up in path.absolute().parents if (up / "run.json").is_file()), None)
    if folder is not None:
        raise SettingError(
            f"{path} would be inside the run folder {folder}, whose files are its record. {other}"
        )


def check_output(path: Path, columns: Sequence[str], inputs: Iterable[str]) -> None:
    """Refuse to write predictions over anything but predictions, or into a run folder.

    Parameters
    ----------
    columns : sequence of str
        Those that such a file has, without the ones of classes.
    inputs : iterable of str
        What is predicted.

    Raises
    ------
    SettingError
    """
    other = "Choose another file with --out."
    _check_no_run_folder(path, other)
    if not path.exists():
        return
    if path.is_dir():
        raise SettingError(f"{path} is a folder, and predictions go into a file. {other}")
    if any(Path(each).exists() and path.samefile(each) for each in inputs):
        raise SettingError(f"{path} is one of the inputs and would be lost. {other}")
    if [name for name in _header(path) if not name.startswith("p_")] != list(columns):
        raise SettingError(
            f"{path} exists and was not written by 'hilum predict', so it is not overwritten. "
            f"{other}"
        )


def _header(path: Path) -> list[str]:
    """Return the first row of what may be a CSV file."""
    import csv

    with path.open(encoding="utf-8", errors="replace", newline="") as stream:
        line = stream.readline(1 << 20)
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return []


def write_rows(path: Path, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Write rows as a CSV file."""
    import io

    from hilum.files import write_text

    stream = io.StringIO()
    write_csv_rows(stream, rows, columns)
    write_text(path, stream.getvalue())


def write_csv_rows(stream: Any, rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> None:
    """Write rows as CSV to a stream."""
    import csv

    writer = csv.DictWriter(stream, fieldnames=columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def print_recipe(recipe: dict[str, Any]) -> None:
    """Print one recipe with its layers and settings."""
    typer.echo(f"{recipe['title']}\nSource: {recipe['source']}\nInput: {recipe['input']}")
    typer.echo(f"Time: {recipe['time']}\nExpected: {recipe['expected']}")
    typer.echo(f"Parameters: {recipe['n_parameters']:,}\nLayers:")
    for layer in recipe["layers"]:
        typer.echo(f"    {layer}")
    typer.echo("Training:")
    for name, value in recipe["training"].items():
        typer.echo(f"    {name} = {json.dumps(value)}")
