from __future__ import annotations

import io
import logging

import pytest
from rich.console import Console

from hilum import console
from hilum.console import BarProgress, LineProgress, make_progress
from hilum.progress import LogProgress


def test_the_library_logs_and_prints_nothing(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, "hilum")
    progress = LogProgress()
    with progress.task("Reading", 3) as task:
        task.advance(3, note="unseen")
    progress.say("Done.")
    assert [record.message.split(" in ")[0] for record in caplog.records] == ["Reading: 3", "Done."]
    assert capsys.readouterr() == ("", "")


def test_lines_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    progress = make_progress()
    assert isinstance(progress, LineProgress)
    with progress.task("Reading", 1200) as task:
        task.advance()
    progress.say("[brackets] stay")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Reading: 1,200 in ")
    assert err.endswith("[brackets] stay\n")


def test_a_bar_shows_numbers_and_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    terminal = Console(file=stream, force_terminal=True, width=120, highlight=False)
    monkeypatch.setattr(console, "Console", lambda **_: terminal)
    progress = BarProgress()
    with progress.task("Training", 40) as task:
        task.advance(10, note="epoch 1, loss 0.5")
    progress.say("[brackets] stay")
    shown = stream.getvalue()
    assert "Training" in shown
    assert "10/40" in shown
    assert "epoch 1, loss 0.5" in shown
    assert "[brackets] stay" in shown


def test_a_bar_copes_with_an_unknown_total(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=120, highlight=False)
    monkeypatch.setattr(console, "Console", lambda **_: terminal)
    with BarProgress().task("Downloading", 0) as task:
        task.advance(5)
