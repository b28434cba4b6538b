from __future__ import annotations

import json
from pathlib import Path

import pytest

from hilum.errors import SettingError
from hilum.presets import load_preset
from hilum.recipes import load_recipe
from hilum.settings import DEFAULT_REASON, Settings, make_settings
from making import write_plan


def test_a_recipe_names_its_settings() -> None:
    preset, recipe = load_preset("hospital"), load_recipe("hospital")
    assert set(preset.values) == set(preset.reasons) == set(recipe.chosen)
    assert Settings(**preset.values) == recipe.settings
    assert set(preset.reasons.values()) == {"The recipe hospital sets it."}


def test_plan_of_a_run_names_all_but_the_accelerator(tmp_path: Path) -> None:
    settings = Settings(members=3, conv_channels=(4, 8), seed=5, val_share=0.3, accelerator="cuda")
    preset = load_preset(str(write_plan(tmp_path / "run", settings)))
    assert set(Settings.model_fields) - set(preset.values) == {"accelerator"}
    assert Settings(**preset.values, accelerator="cuda") == settings


def test_reasons_say_once_whose_plan_it_was(tmp_path: Path) -> None:
    folder = write_plan(tmp_path / "run", Settings())
    plan = json.loads((folder / "plan.json").read_text())
    plan["seed"]["reason"] = f"{DEFAULT_REASON}."
    plan["epochs"]["reason"] = "By the plan of before. Well within 10 minutes."
    (folder / "plan.json").write_text(json.dumps(plan))
    reasons = load_preset(str(folder)).reasons
    assert reasons["members"] == f"By the plan of {folder}. So it was."
    assert reasons["epochs"] == "By the plan of before. Well within 10 minutes."
    assert reasons["seed"] == f"{DEFAULT_REASON}."


def test_a_recipe_goes_before_a_folder_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_plan(tmp_path / "binary", Settings(epochs=77))
    monkeypatch.chdir(tmp_path)
    assert load_preset("binary").values["epochs"] == load_recipe("binary").settings.epochs
    assert load_preset("./binary").values["epochs"] == 77


@pytest.mark.parametrize("text", ["", "[]", '{"epochs": 3}', '{"epochs": {}}'])
def test_damaged_plan_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(SettingError) as caught:
        load_preset(str(tmp_path))
    assert str(caught.value) == (
        f"{tmp_path / 'plan.json'} cannot be read as a plan. Take another run's."
    )


@pytest.mark.parametrize("change", ["lacks", "knows more"])
def test_plan_of_another_version_is_told(tmp_path: Path, change: str) -> None:
    folder = write_plan(tmp_path / "run", Settings())
    plan = json.loads((folder / "plan.json").read_text())
    name = "members" if change == "lacks" else "cleverness"
    plan = {k: v for k, v in plan.items() if k != name}
    if change != "lacks":
        plan[name] = {"value": 1, "reason": "."}
    (folder / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(SettingError, match=f"another version of Hilum: .* the setting '{name}'"):
        load_preset(str(folder))


def test_what_is_neither_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"holds no plan\.json: it is no run folder, or its run"):
        load_preset(str(tmp_path))
    with pytest.raises(SettingError, match="is no run folder, and no recipe has such a name"):
        load_preset(str(tmp_path / "nowhere"))
    with pytest.raises(SettingError, match="There is no recipe 'chestxray'"):
        load_preset("chestxray")


def test_what_belongs_to_a_backbone_goes_with_it() -> None:
    preset = load_preset("binary")
    assert preset.beside({}) == preset
    assert "normalisation" not in preset.beside({"backbone": None}).values


def test_another_backbone_is_not_held_to_the_reductions_of_the_plan(tmp_path: Path) -> None:
    """Those of others have an input of one size."""
    folder = write_plan(tmp_path / "run", Settings(members=3, reductions=(1, 2), epochs=7))
    chosen = {"backbone": "timm:resnet18"}
    preset = load_preset(folder).beside(chosen)
    settings = make_settings({**preset.values, **chosen})
    assert (settings.reductions, settings.members, settings.epochs) == ((1,), 3, 7)
