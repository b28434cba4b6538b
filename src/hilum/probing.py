"""Time a training step: which precision and memory layout are fastest on this machine.

Measured and not assumed: whether bfloat16 pays depends on the processor, the network and the
installed PyTorch. What was measured once is kept, so that the same machine answers the same way
and the same seed gives the same weights.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from hilum.cache_rooms import cache_folder
from hilum.errors import HilumError
from hilum.files import read_json, write_json
from hilum.fine_tuning import freeze
from hilum.hardware import Hardware, keep_to_cores
from hilum.losses import make_loss
from hilum.memory import keep_pages
from hilum.networks import NETWORK_SETTINGS, build_network
from hilum.settings import Settings
from hilum.training import make_optimizer

HELD_STILL = ("weights_sha256", "frozen_stages", "frozen_norms")
"""Settings of what does not learn, which costs less."""

Precision = Literal["float32", "bfloat16"]
Layout = Literal["channels_last", "contiguous"]

# Images a timed step; the order of the candidates is the same at 8 and at 32.
N_IMAGES = 8
N_STEPS = 3
SLOW_RATE = 1000.0
"""Images a second of networks too small to be timed, at the least."""

# By how much another precision or layout must be faster; below, it buys nothing.
LEAST_GAIN = 1.1
# Floating-point operations of a forward pass on one image. A network with less waits for PyTorch
# and not for arithmetic: what little its timing says is chance.
LEAST_WORK = 2e6


@dataclass(frozen=True)
class Probe:
    """What was picked, and images a second of every candidate that was timed.

    Attributes
    ----------
    rates : dict
        By 'precision, layout'; empty for a network too small to be timed.
    """

    precision: Precision
    layout: Layout
    rates: dict[str, float]

    @property
    def rate(self) -> float:
        """Images a second of what is fastest; of a network too small to be timed the least."""
        return max(self.rates.values(), default=SLOW_RATE)

    @property
    def reason(self) -> str:
        """Say what was timed, for the plan."""
        if not self.rates:
            return "The network is too small for it to matter."
        shown = "; ".join(f"{name} {rate:,.0f}" for name, rate in self.rates.items())
        return f"The fastest of what was timed here, images a second: {shown}."


def _name(precision: str, layout: str) -> str:
    return f"{precision}, {layout.replace('_', ' ')}"


def probe(settings: Settings, n_classes: int, hardware: Hardware, *, again: bool = False) -> Probe:
    """Time a few training steps in each precision, then in each layout, and pick the fastest.

    Parameters
    ----------
    settings : Settings
        Of the network and the optimizer; precision and layout may be 'auto'.
    hardware : Hardware
    again : bool
        Time it though that was done before, and keep nothing of it: the same machine is to pick
        the same the next time.

    Returns
    -------
    Probe
        From the cache where this machine was asked the same before.
    """
    keep_to_cores()
    if _work(settings, n_classes) < LEAST_WORK:
        return Probe("float32", "channels_last", {})
    path = cache_folder() / "probes" / f"{_key(settings, n_classes, hardware)}.json"
    if again:
        return _measure(settings, n_classes, hardware)
    known = _recall(path)
    if known is not None:
        return known
    found = _measure(settings, n_classes, hardware)
    with contextlib.suppress(HilumError):  # a cache that cannot be written costs a second
        write_json(path, vars(found))
    return found


def _recall(path: Path) -> Probe | None:
    with contextlib.suppress(OSError, ValueError, TypeError):
        known = Probe(**read_json(path))
        if known.precision in get_args(Precision) and known.layout in get_args(Layout):
            return known
    return None


def _work(settings: Settings, n_classes: int) -> int:
    """Count the operations of a forward pass on one image, without doing them."""
    with torch.device("meta"):
        network = build_network(settings, n_classes)
        image = torch.empty(1, settings.channels, settings.input_height, settings.input_width)
    with FlopCounterMode(display=False) as counter:
        network.eval()(image)
    return int(counter.get_total_flops())


def _key(settings: Settings, n_classes: int, hardware: Hardware) -> str:
    facts = {
        "settings": settings.model_dump(
            mode="json",
            include={*NETWORK_SETTINGS, *HELD_STILL, "batch_size", "optimizer"},
        ),
        "n_classes": n_classes,
        "hardware": hardware.to_dict(),
        "torch": torch.__version__,
        "n_threads": torch.get_num_threads(),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _measure(settings: Settings, n_classes: int, hardware: Hardware) -> Probe:
    rates: dict[str, float] = {}

    def rate(precision: Precision, layout: Layout) -> float:
        found = _rate(settings, n_classes, hardware, precision, layout)
        rates[_name(precision, layout)] = round(found, 1)
        return found

    keep_pages()
    precision: Precision = "float32"
    plain = rate("float32", "channels_last")
    if hardware.has_bfloat16 and rate("bfloat16", "channels_last") > LEAST_GAIN * plain:
        precision = "bfloat16"
    layout: Layout = "channels_last"
    if rate(precision, "contiguous") > LEAST_GAIN * rates[_name(precision, layout)]:
        layout = "contiguous"
    return Probe(precision, layout, rates)


def _rate(
    settings: Settings, n_classes: int, hardware: Hardware, precision: Precision, layout: Layout
) -> float:
    """Return images a second of the fastest of a few steps on made-up images."""
    n = min(settings.batch_size, N_IMAGES)
    with torch.random.fork_rng():  # the run's own numbers must not depend on a timing
        torch.manual_seed(0)
        network = build_network(settings, n_classes).to(hardware.device)
        size = (n, settings.channels, settings.input_height, settings.input_width)
        images = torch.rand(size, device=hardware.device) * 255
    if layout == "channels_last":
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = images.contiguous(memory_format=torch.channels_last)
    classes = np.arange(n) % n_classes
    several = (np.arange(n)[:, None] % 2).repeat(n_classes, axis=1).astype(np.float32)
    known = several if settings.target == "multilabel" else classes
    optimizer = make_optimizer(network, settings)
    compute_loss = make_loss(settings, known, n_classes, torch.device(hardware.device))
    labels = torch.from_numpy(known).to(hardware.device)
    freeze(network.train(), settings.frozen_epochs, settings)  # as in all epochs but the first

    def step() -> Tensor:
        autocast = torch.autocast(hardware.device, torch.bfloat16, precision == "bfloat16")
        with autocast:
            logits = network(images)
        loss = compute_loss(logits.float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss

    step().item()  # the first one allocates
    times = []
    for _ in range(N_STEPS):
        started = time.perf_counter()
        step().item()  # waits for the device
        times.append(time.perf_counter() - started)
    return n / min(times)
