"""What this machine can do: the device to train on and what it is called."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from hilum.errors import SettingError
from hilum.threads import available_cores

Device = Literal["cpu", "cuda", "mps"]


@dataclass(frozen=True)
class Hardware:
    """The machine as the plan sees it."""

    device: Device
    name: str
    n_cores: int
    has_bfloat16: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def find_hardware(wanted: str = "auto") -> Hardware:
    """Find the fastest device, or describe the wanted one ('cpu', 'cuda', 'mps').

    Raises
    ------
    SettingError
        If the wanted one is not there.
    """
    n_cores = available_cores()
    is_there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not is_there.get(wanted, True):
        raise SettingError(
            f"Setting accelerator = '{wanted}' cannot be used: no such device was found. Leave it "
            "at auto, or use cpu."
        )
    if wanted == "cuda" or (wanted == "auto" and is_there["cuda"]):
        name = torch.cuda.get_device_name()
        return Hardware("cuda", name, n_cores, torch.cuda.is_bf16_supported())
    if wanted == "mps" or (wanted == "auto" and is_there["mps"]):
        return Hardware("mps", "the Apple GPU", n_cores, False)
    return Hardware("cpu", _cpu_name(), n_cores, _cpu_has_bfloat16())


def keep_to_cores() -> None:
    """Let PyTorch take no more threads than there are cores that this process may use.

    Under the quota of a container, which it does not know, more would be halted in turns. It holds
    for the whole process from then on.
    """
    torch.set_num_threads(min(torch.get_num_threads(), available_cores()))


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself; emulated, it is slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
