"""Write docs/commands.md from the commands' own --help; a test fails when it is stale."""

from __future__ import annotations

from pathlib import Path

from typer.main import get_command
from typer.testing import CliRunner

from hilum.cli import app

PAGE = Path(__file__).with_name("commands.md")

INTRODUCTION = """# Commands

Made by `make reference` from each command's `--help`. Results go to stdout, progress to stderr.
Exit codes: 0 done; 1 the input is at fault, with one `Error:` line; 2 wrong usage; 130 interrupted.
"""


def make_reference() -> str:
    """Return the page."""
    parts = [INTRODUCTION, _section("hilum", [])]
    names: dict[str, object] = getattr(get_command(app), "commands")  # noqa: B009 - untyped
    parts += [_section(f"hilum {name}", [name]) for name in names]
    return "\n".join(parts)


def _section(title: str, arguments: list[str]) -> str:
    result = CliRunner().invoke(app, [*arguments, "--help"], env={"COLUMNS": "100"})
    usage = result.output.replace("Usage: root", "Usage: hilum").strip()
    return f"## `{title}`\n\n```text\n{usage}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(make_reference(), encoding="utf-8")
