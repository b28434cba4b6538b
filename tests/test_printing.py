"""What the commands print for people."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import hilum
from hilum.fingerprint import Fingerprint
from hilum.hardware import Hardware
from hilum.planning import Plan
from hilum.printing import MOST_REASONS, print_plan, print_run
from hilum.records import Run
from hilum.settings import Settings
from reporting import make_run


def test_a_plan_gives_its_choices_first_and_its_defaults_in_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = Settings(accelerator="cpu")
    reasons = dict.fromkeys(Settings.model_fields, "The default; of something.")
    print_plan(Plan(settings, reasons | {"epochs": "Set by the user."}), as_json=False)
    choice, defaults = capsys.readouterr().out.split("\n\n")
    assert choice == f"epochs = {settings.epochs}\n    Set by the user."
    assert defaults.startswith("Defaults, which 'hilum settings' describes: ")
    assert "epochs = " not in defaults.replace("frozen_epochs = ", "")
    print_plan(Plan(settings, reasons), as_json=True)
    assert json.loads(capsys.readouterr().out)["seed"]["reason"] == "The default; of something."


def test_facts_stand_above_the_plan_and_beside_no_setting_in_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    facts = Fingerprint(7, {"a": 4, "b": 3}, 20.0, 20.0, 20.0, grey=True, highest={})
    machine = Hardware("cpu", "a processor", 2, has_bfloat16=False)
    plan = Plan(Settings(), dict.fromkeys(Settings.model_fields, "So."), facts, machine)
    print_plan(plan, as_json=False)
    above, below = capsys.readouterr().out.split("\n\nPlan\n")
    lines = above.splitlines()
    assert lines[0] == "Facts of the training and validation images"
    assert "    classes        a 4, b 3; the largest is 1.3 times the smallest" in lines
    assert lines[-1] == "    machine        cpu, a processor, 2 cores, without bfloat16"
    assert below.startswith("target = ")
    print_plan(plan, as_json=True)
    assert set(json.loads(capsys.readouterr().out)) == set(Settings.model_fields)


def test_the_gravest_reasons_stand_beside_the_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = hilum.open_run(make_run(tmp_path))
    titles = run.reasons
    assert titles[0] == "The test is small: wide intervals"
    print_run(run, as_json=True)
    assert json.loads(capsys.readouterr().out)["reasons"] == titles
    many = [f"Reason {number}" for number in range(MOST_REASONS + 2)]
    monkeypatch.setattr(Run, "reasons", many)
    print_run(run, as_json=False)
    told = capsys.readouterr().out.split("What to distrust, the gravest first\n")[1].splitlines()
    assert told[:-1] == [
        *(f"    {title}" for title in many[:MOST_REASONS]),
        "    and 2 more in the report",
    ]
    monkeypatch.setattr(Run, "reasons", [])
    print_run(run, as_json=False)
    assert "distrust" not in capsys.readouterr().out
