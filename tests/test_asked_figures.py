from __future__ import annotations

from typing import Any

from hilum.asked_figures import Asked, asked_before


def figures(**changes: Any) -> dict[str, Any]:
    plain = {"ppv_npv": [{"prevalence": 0.3, "wanted": False}], "subgroups": rows("sex", "f", "m")}
    return plain | changes


def rows(column: str, *groups: str) -> list[dict[str, Any]]:
    return [{"column": column, "group": group} for group in groups]


def test_what_every_run_has_was_not_asked_for() -> None:
    plain = {"val": figures(), "test": figures()}
    assert asked_before(plain, plain) == Asked([], [])


def test_what_was_asked_for_is_found_in_both_splits() -> None:
    plain = {"val": figures(), "test": figures()}
    wanted = [{"prevalence": p, "wanted": p < 0.3} for p in (0.02, 0.1, 0.3)]
    finer = rows("sex", "f", "m") + rows("site", "a", "b")
    before = {"val": figures(ppv_npv=wanted), "test": figures(subgroups=finer)}
    assert asked_before(before, plain) == Asked([0.02, 0.1], ["site"])


def test_a_column_that_was_parted_more_finely_was_asked_for() -> None:
    plain = {"val": figures(), "test": figures(subgroups=rows("age", "to 60", "over 60"))}
    before = {"val": figures(), "test": figures(subgroups=rows("age", "to 40", "to 60", "over"))}
    assert asked_before(before, plain).subgroups == ["age"]


def test_labels_have_figures_of_their_own() -> None:
    plain = {split: {"labels": {"mass": figures()}} for split in ("val", "test")}
    asked = figures(ppv_npv=[{"prevalence": 0.05, "wanted": True}])
    before = plain | {"test": {"labels": {"mass": asked}}}
    assert asked_before(before, plain) == Asked([0.05], [])
