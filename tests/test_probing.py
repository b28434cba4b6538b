from __future__ import annotations

import itertools

import pytest
import torch

from hilum import probing
from hilum.cache_rooms import cache_folder
from hilum.hardware import Hardware
from hilum.probing import probe
from hilum.settings import Settings, make_settings

OLD = Hardware("cpu", "a processor", 2, has_bfloat16=False)
NEW = Hardware("cpu", "a newer processor", 2, has_bfloat16=True)


def tiny() -> Settings:
    return make_settings(
        {"input_height": 64, "input_width": 64, "network": "classic", "conv_channels": [32]}
    )


def clock(monkeypatch: pytest.MonkeyPatch, seconds: dict[tuple[str, str], float]) -> list[str]:
    """Let every candidate take the seconds given; note which were timed."""
    timed = []

    def rate(
        settings: Settings, n_classes: int, hardware: Hardware, precision: str, layout: str
    ) -> float:
        timed.append(f"{precision}, {layout}")
        return 8 / seconds[precision, layout]

    monkeypatch.setattr(probing, "_rate", rate)
    return timed


@pytest.mark.parametrize(
    ("bfloat16", "contiguous", "expected"),
    [
        (0.5, 1.0, ("bfloat16", "channels_last")),
        (0.95, 1.0, ("float32", "channels_last")),  # too little gain for its rounding
        (0.5, 0.3, ("bfloat16", "contiguous")),
        (2.0, 0.5, ("float32", "contiguous")),
    ],
)
def test_the_fastest_is_picked(
    monkeypatch: pytest.MonkeyPatch, bfloat16: float, contiguous: float, expected: tuple[str, str]
) -> None:
    seconds = {("float32", "channels_last"): 1.0, ("bfloat16", "channels_last"): bfloat16}
    seconds |= dict.fromkeys(
        itertools.product(("float32", "bfloat16"), ("contiguous",)), contiguous
    )
    clock(monkeypatch, seconds)
    found = probe(tiny(), 2, NEW)
    assert (found.precision, found.layout) == expected
    shown = f"{expected[0]}, {expected[1].replace('_', ' ')}"
    assert found.rates[shown] == pytest.approx(8 / seconds[expected], abs=0.05)


def test_bfloat16_is_not_tried_where_it_would_be_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    layouts = ("channels_last", "contiguous")
    timed = clock(monkeypatch, {("float32", layout): 1.0 for layout in layouts})
    found = probe(tiny(), 2, OLD)
    assert timed == ["float32, channels_last", "float32, contiguous"]
    assert found.reason == (
        "The fastest of what was timed here, images a second: float32, channels last 8; "
        "float32, contiguous 8."
    )


def test_the_same_question_gets_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    first = probe(tiny(), 2, NEW)
    timed = clock(monkeypatch, {})
    assert probe(tiny(), 2, NEW) == first
    assert timed == []
    for path in (cache_folder() / "probes").iterdir():
        path.write_text("{")
    with pytest.raises(KeyError):  # a damaged answer is asked for again
        probe(tiny(), 2, NEW)


def test_what_is_timed_again_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = list(itertools.product(("float32", "bfloat16"), ("channels_last", "contiguous")))
    clock(monkeypatch, dict.fromkeys(pairs, 10.0))
    assert probe(tiny(), 2, NEW).rate == pytest.approx(0.8)
    clock(monkeypatch, dict.fromkeys(pairs, 1.0))
    assert probe(tiny(), 2, NEW).rate == pytest.approx(0.8)
    assert probe(tiny(), 2, NEW, again=True).rate == 8
    assert probe(tiny(), 2, NEW).rate == pytest.approx(0.8)


def test_timing_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    probe(tiny(), 3, NEW)
    assert torch.equal(torch.rand(2), expected)


def test_a_tiny_network_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = clock(monkeypatch, {})
    found = probe(tiny().model_copy(update={"conv_channels": (4,)}), 2, NEW)
    assert (found.precision, found.layout, timed) == ("float32", "channels_last", [])
    assert found.reason == "The network is too small for it to matter."
