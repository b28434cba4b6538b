from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hilum.hardware import find_hardware


def test_the_processor_is_found_where_there_is_nothing_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    found = find_hardware()
    assert found.device == "cpu"
    assert found.name
    assert found.n_cores >= 1


def test_a_gpu_goes_before_the_processor_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA Test")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert find_hardware().to_dict()["name"] == "NVIDIA Test"
    assert find_hardware("cpu").device == "cpu"


@pytest.mark.parametrize(("flags", "has"), [("fpu avx512_bf16 sse", True), ("fpu avx2", False)])
def test_bfloat16_is_read_from_the_processor_s_own_flags(
    monkeypatch: pytest.MonkeyPatch, flags: str, has: bool
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: f"flags\t: {flags}\n")
    assert find_hardware("cpu").has_bfloat16 is has
