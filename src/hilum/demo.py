"""The main job on a data set made on the spot: flaws planted, looked for, and a model trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from hilum.auditing import audit
from hilum.evaluation import figure_text
from hilum.phantom import compare, make_phantoms
from hilum.preparation import DataOptions
from hilum.progress import LogProgress, Progress
from hilum.runs import train

# Chosen on validation phantoms: enough epochs to learn them, few enough for two cores in four
# minutes; the opacities are a few pixels wide, so nothing blurs them.
SETTINGS: dict[str, object] = {
    "epochs": 60, "batch_size": 16, "input_height": 96, "input_width": 96,
    "conv_channels": (16, 32, 64, 96), "flip_horizontal": True, "contrast": 0.15,
    "gamma": 0.0, "blur": 0.0, "noise": 0.0, "low_resolution": 0.0,
}  # fmt: skip


def run_demo(
    out: Path,
    *,
    n_patients: int = 150,
    settings: dict[str, object] | None = None,
    progress: Progress | None = None,
    command: Sequence[str] = ("hilum.demo.run_demo",),
) -> Iterator[str]:
    """Make chest phantoms with planted flaws, read and check them, train, evaluate, report.

    Parameters
    ----------
    out : Path
        Gets `phantoms/` and `run/`.
    settings : dict, optional
        Settings in place of the demo's own.

    Yields
    ------
    str
        What a person should read, line by line, as it becomes known.

    Raises
    ------
    DataError, RunError
        If `out` holds a demo already.
    """
    progress = progress or LogProgress()
    truth = make_phantoms(out / "phantoms", n_patients=n_patients)
    yield (
        f"Made {truth.n_images} chest phantoms of {truth.n_patients} patients in "
        f"{out / 'phantoms'}, with flaws planted (listed in truth.csv)."
    )
    checked = audit(truth.table, progress=progress)
    # As they are, the data would be refused: patients are in two splits, and files are broken.
    options = DataOptions(new_split=True, skip_unreadable=True)
    run = train(
        truth.table,
        out / "run",
        settings=settings or SETTINGS,
        options=options,
        progress=progress,
        command=command,
    )
    yield "\nFlaws planted and found:"
    for row in compare(truth, [finding.to_dict() for finding in checked.findings]).to_dict(
        "records"
    ):
        found = f"{row['found']} of {row['planted']} found"
        if row["false_alarms"]:
            found += f", {row['false_alarms']} false alarms"
        yield f"    {row['kind']:<24} {found}"
    figures = run.metrics["test"]
    yield "\nOn test images of patients never used before:"
    for name in ("auroc", "sensitivity", "specificity"):
        figure = figures[name]
        yield f"    {name:<24} {figure_text(figure)}, n = {figure['n']}"
    yield f"\nReport: {run.folder / 'report.html'}"
