from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
from typer.main import get_command

import hilum
from hilum.cli import app

ROOT = Path(__file__).parents[1]


def test_the_command_reference_is_what_the_commands_say() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_reference.py"))["make_reference"]()
    written = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert written == made, "docs/commands.md is stale: run `make reference`"


def test_the_page_of_rules_is_what_the_rules_say() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_rules.py"))["make_rules"]()
    written = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    assert written == made, "docs/rules.md is stale: run `make reference`"


def test_every_command_has_help_and_a_place_in_the_reference() -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert len(commands) >= 10
    for name, command in commands.items():
        assert command.help, name
        assert f"## `hilum {name}`" in page
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name} {parameter.name}"


def test_every_module_has_its_phrase_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "src" / "hilum").iterdir():
        if path.suffix == ".py" and not path.name.startswith("__"):
            assert re.search(rf"^ +{path.name} +\S", readme, re.MULTILINE), path.name
        elif path.is_dir() and not path.name.startswith("__"):
            assert re.search(rf"^ +{path.name}/ +\S", readme, re.MULTILINE), path.name


def test_links_in_the_documents_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")):
        for target, place in re.findall(
            r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8")
        ):
            other = page.parent / target if target else page
            assert other.exists(), f"{page.name}: {target}"
            assert not place or place in _places(other), f"{page.name}: {target}#{place}"


def _places(page: Path) -> set[str]:
    """Return the names under which GitHub has the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


def test_every_public_name_can_be_imported_and_is_described() -> None:
    assert hilum.__all__ == sorted(hilum.__all__)
    for name in hilum.__all__:
        assert getattr(hilum, name).__doc__, name


def test_an_unknown_name_is_told() -> None:
    with pytest.raises(AttributeError, match="module 'hilum' has no attribute 'tarin'"):
        hilum.tarin  # noqa: B018
