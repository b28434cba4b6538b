"""Write docs/commands.md from the commands' own --help; a test fails when it is stale."""

from __future__ import annotations

from pathlib import Path

from typer.main import get_command
from typer.testing import CliRunner

from hilum.cli import app
from hilum.fingerprint import Fingerprint
from hilum.rules import RULES

RULES_PAGE = Path(__file__).with_name("rules.md")
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


RULES_INTRODUCTION = """# Rules of planning

Made by `make reference` from `hilum.rules`. Each rule sees the facts of the data and what the rules
above it, and the user, have set. `hilum plan DATA` shows what they choose for these data, and why.

| rule | sets | stands on |
|---|---|---|
"""

# One plain set of images, to find out which settings a rule sets.
PLAIN = Fingerprint(
    n_train=1000,
    class_counts={"a": 500, "b": 500},
    median_height=224.0,
    median_width=224.0,
    median_short=224.0,
    grey=True,
    highest={"uint16": 4000.0},
)


def make_rules() -> str:
    """Return the page of rules."""
    so_far: dict[str, object] = {}
    rows = []
    for rule in RULES:
        found = rule.choose(PLAIN, so_far)
        so_far |= {name: value for name, (value, _) in found.items()}
        names = ", ".join(f"`{name}`" for name in found)
        rows.append(f"| {rule.about} | {names} | {rule.source} |")
    return RULES_INTRODUCTION + "\n".join(rows) + "\n"


if __name__ == "__main__":
    RULES_PAGE.write_text(make_rules(), encoding="utf-8")
    PAGE.write_text(make_reference(), encoding="utf-8")
