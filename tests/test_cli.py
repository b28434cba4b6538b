"""The command line as a program: exit codes, streams, what each command prints."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import hilum
import tiny
from hilum.cli import Request, app
from hilum.inference import row_columns
from hilum.printing import check_page

SETS = [part for name, value in tiny.SETTINGS.items() for part in ("--set", f"{name}={value}")]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make_folder(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> hilum.Run:
    return tiny.train_tiny(data, tmp_path_factory.mktemp("runs") / "one")


def hilum_process(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hilum.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def invoke(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_train_prints_figures_on_stdout_and_progress_on_stderr(data: Path, tmp_path: Path) -> None:
    done = hilum_process("train", data, "--out", tmp_path / "run", *SETS, "--set", "epochs=1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Validation, n = ")
    assert "auroc" in done.stdout
    assert "95 % CI" in done.stdout
    reasons, report = done.stdout.split("What to distrust, the gravest first\n")[1].split(
        "Report: "
    )
    assert "    The test is small: wide intervals\n" in reasons
    assert report == f"{tmp_path / 'run' / 'report.html'}\n"
    assert "Epoch 1/1: loss" in done.stderr
    assert "Warning" not in done.stderr
    facts = hilum.open_run(tmp_path / "run").facts
    assert facts["command"][:2] == ["hilum", "train"]
    assert facts["command"][-2:] == ["--set", "epochs=1"]


def test_a_fault_of_the_input_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    done = hilum_process("train", tmp_path / "no such folder", "--out", tmp_path / "run")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        f"Error: {tmp_path / 'no such folder'} does not exist. Give a folder of class folders, a "
        "CSV table or an NPZ.\n"
    )


def test_plan_and_train_are_told_the_same() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    options = {
        name: {p.name: p.help for p in commands[name].params if p.name != "json"}
        for name in ("plan", "train")
    }
    more = {"out": options["train"].pop("out")}
    assert all(more.values())
    assert options["train"] == options["plan"]
    assert "minutes" in options["plan"]


def test_a_time_that_is_none_is_told_before_images_are_read(tmp_path: Path) -> None:
    with pytest.raises(hilum.SettingError) as caught:
        invoke("plan", tmp_path / "nowhere", "--minutes", "0")
    assert str(caught.value) == "0 minutes are no time to train in. Give a number above 0."
    for text, number in (("5min", "5"), ("2h", "30"), ("long", "30")):
        with pytest.raises(hilum.SettingError) as caught:
            invoke("plan", tmp_path / "nowhere", "--minutes", text)
        assert str(caught.value) == (
            f"--minutes {text} is not a number. Write the minutes alone, such as --minutes "
            f"{number}."
        )


def test_a_target_that_is_none(tmp_path: Path) -> None:
    for command in ("plan", "audit"):
        with pytest.raises(hilum.SettingError) as caught:
            invoke(command, tmp_path, "--target", "ordinale")
        assert str(caught.value) == (
            "--target ordinale is not one of 'classes', 'multilabel', 'ordinal'. Did you mean "
            "'ordinal'?"
        )


def test_a_setting_that_is_given_twice_must_be_the_same() -> None:
    assert Request(epochs=5, set_=["epochs=5", "noise=0.1"]).settings() == {
        "epochs": 5, "noise": 0.1,
    }  # fmt: skip
    with pytest.raises(hilum.SettingError, match="--epochs 5 and --set epochs=10 disagree"):
        Request(epochs=5, set_=["epochs=10"]).settings()


@pytest.mark.parametrize("option", [["--patient-column", "mrn"], ["--skip-unreadable"]])
def test_the_test_split_is_not_opened_where_data_were_forgotten(
    run: hilum.Run, option: list[str]
) -> None:
    before = (run.folder / "openings.jsonl").read_text()
    with pytest.raises(hilum.SettingError, match=f"{option[0]} needs other data"):
        invoke("evaluate", run.folder, *option)
    assert (run.folder / "openings.jsonl").read_text() == before


def test_the_page_of_an_audit_overwrites_no_data(tmp_path: Path, run: hilum.Run) -> None:
    table = tmp_path / "table.csv"
    table.write_text("path,label\n")
    for out, said in (
        (table, "is no name for a page"),
        (tmp_path, "is a folder"),
        (run.folder / "report.html", "would be inside the run folder"),
    ):
        with pytest.raises(hilum.SettingError, match=said):
            check_page(out)
    assert table.read_text() == "path,label\n"


def test_wrong_usage_is_exit_code_2() -> None:
    done = hilum_process("train")
    assert done.returncode == 2
    assert "Missing argument 'DATA'" in done.stderr


def test_an_interrupted_training_tells_how_to_go_on(data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hilum.cli", "train", str(data), "--out", str(tmp_path / "r")]
    process = subprocess.Popen(
        [*command, *SETS, "--set", "epochs=9999"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "r" / "history.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.decode().endswith(f"Interrupted. Go on with: hilum resume {tmp_path / 'r'}\n")
    assert (tmp_path / "r" / "checkpoints" / "last.pt").exists()


def test_predict_gives_every_input_a_row(run: hilum.Run, data: Path, tmp_path: Path) -> None:
    good = data / "clear" / "case000_0.png"
    bad = tmp_path / "broken.png"
    bad.write_bytes(good.read_bytes()[:100])
    out = tmp_path / "predictions.csv"
    done = hilum_process("predict", run.folder, good, bad, good, "--out", out)
    assert done.returncode == 1
    assert done.stderr.count("Error:") == 1
    assert f"Error: {bad}:" in done.stderr
    rows = list(csv.DictReader(io.StringIO(out.read_text(encoding="utf-8"))))
    assert list(rows[0]) == [
        "path", "frame", "predicted", "confidence", "p_clear", "p_opacity", "decision", "error",
        "prediction_set", "reason",
    ]  # fmt: skip
    assert [row["path"] for row in rows] == [str(good), str(bad), str(good)]
    assert rows[0] == rows[2]
    assert rows[1]["decision"] == "refused"
    assert rows[1]["error"]
    assert rows[1]["p_clear"] == rows[1]["predicted"] == ""


def test_predict_overwrites_nothing_but_predictions(tmp_path: Path) -> None:
    run, table, notes = tmp_path / "run", tmp_path / "t.csv", tmp_path / "notes.csv"
    run.mkdir()
    (run / "run.json").write_text("{}")
    table.write_text("path\na.png\n")
    notes.write_text('"a, b\n')
    earlier = tmp_path / "p.csv"
    earlier.write_text(",".join(row_columns(("a", "b, c"))).replace("p_b, c", '"p_b, c"') + "\n")
    patients = tmp_path / "p-patients.csv"
    patients.write_text("patient,answer\nann,ill\n")
    not_ours = "exists and was not written by 'hilum predict', so it is not overwritten."
    for inputs, out, text in (
        (table, table, f"{table} is one of the inputs and would be lost."),
        (earlier, earlier, f"{earlier} is one of the inputs and would be lost."),
        (table, tmp_path, f"{tmp_path} is a folder, and predictions go into a file."),
        (table, notes, f"{notes} {not_ours}"),
        (
            *(table, run / "more" / "new.csv"),
            f"{run / 'more' / 'new.csv'} would be inside the run folder {run}, whose files are its "
            "record.",
        ),
        (table, earlier, f"{patients} {not_ours}"),
    ):
        # The model is not looked at before.
        with pytest.raises(hilum.SettingError) as refused:
            invoke("predict", tmp_path / "no model", inputs, "--patients", "--out", out)
        assert str(refused.value) == f"{text} Choose another file with --out."
    with pytest.raises(hilum.ModelError):
        invoke("predict", tmp_path / "no model", table, "--out", earlier)


def test_predict_as_json_and_csv_on_stdout(run: hilum.Run, data: Path) -> None:
    image = data / "opacity" / "case100_0.png"
    (row,) = json.loads(invoke("predict", run.folder, image, "--json"))
    assert row["p_clear"] + row["p_opacity"] == pytest.approx(1)
    (same,) = csv.DictReader(io.StringIO(invoke("predict", run.folder / "model", image)))
    assert float(same["p_opacity"]) == pytest.approx(row["p_opacity"], abs=1e-9)


def test_predict_takes_folders_and_tables(run: hilum.Run, data: Path, tmp_path: Path) -> None:
    assert len(json.loads(invoke("predict", run.folder, data, "--json"))) == 120
    table = data / "table.csv"
    table.write_text("path\nclear/case000_0.png\nopacity/case100_1.png\n")
    rows = json.loads(invoke("predict", run.folder, table, "--json"))
    assert [row["path"] for row in rows] == ["clear/case000_0.png", "opacity/case100_1.png"]
    table.unlink()


def test_predict_imports_neither_torch_nor_pandas(run: hilum.Run, data: Path) -> None:
    image = data / "clear" / "case000_0.png"
    code = (
        "import sys, hilum; "
        f"hilum.predict({str(run.folder)!r}, {str(image)!r}); "
        "print([m for m in ('torch', 'pandas', 'matplotlib', 'scipy', 'sklearn', 'onnx') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_recipes_as_json() -> None:
    recipe = json.loads(invoke("recipes", "chest-xray", "--json"))
    assert {"name", "source", "input", "layers", "n_parameters", "training", "expected"} <= set(
        recipe
    )
    assert recipe["n_parameters"] == 1995649
    names = [each["name"] for each in json.loads(invoke("recipes", "--json"))]
    assert names == ["binary", "chest-xray", "general", "hospital", "papilloma"]


def test_plan_and_audit_as_json(data: Path) -> None:
    plan = json.loads(invoke("plan", data, "--json"))
    assert plan["input_height"]["value"] == 64
    at_random = json.loads(invoke("plan", data, "--backbone", "none", "--json"))
    assert (at_random["backbone"]["value"], at_random["input_height"]["value"]) == (None, 20)
    audit = json.loads(invoke("audit", data, "--json"))
    assert (audit["n_files"], audit["n_read"], audit["unreadable"]) == (120, 120, [])
    for finding in audit["findings"]:
        assert {"kind", "severity", "count", "message", "examples"} <= set(finding)


def test_report_is_written_anew(run: hilum.Run) -> None:
    (run.folder / "report.html").unlink()
    assert invoke("report", run.folder) == f"{run.folder / 'report.html'}\n"
    assert (run.folder / "report.html").exists()


def test_version() -> None:
    assert invoke("--version") == f"hilum {hilum.__version__}\n"
