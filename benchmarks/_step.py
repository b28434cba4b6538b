"""A training step on one batch that stays in memory: our network, loss and optimizer, no data."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hilum.batches import MEMORY_FORMATS
from hilum.losses import make_loss
from hilum.memory import keep_pages
from hilum.networks import Network, build_network
from hilum.settings import Settings
from hilum.training import make_fabric, make_optimizer


class Step:
    """A training step on one batch in memory, as `hilum train` takes it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.fabric = make_fabric(settings)
        keep_pages()
        torch.manual_seed(0)
        layout = MEMORY_FORMATS[settings.layout]
        network = build_network(settings, 2, mean=[128.0], std=[64.0])
        self.network: Network = network.to(memory_format=layout)  # type: ignore[call-overload]
        optimizer = make_optimizer(self.network, settings)
        self.model, self.optimizer = self.fabric.setup(self.network, optimizer)
        size = (settings.input_height, settings.input_width)
        shape = (settings.batch_size, settings.channels, *size)
        images = (torch.rand(shape) * 255).contiguous(memory_format=layout)
        self.images = images.to(self.fabric.device)
        labels = torch.arange(settings.batch_size) % 2
        self.compute_loss = make_loss(settings, labels.numpy(), 2, self.fabric.device)
        self.labels = labels.to(self.fabric.device)
        self.model.train()

    def forward_and_backward(self) -> None:
        with self.fabric.autocast():
            logits = self.model(self.images)
        loss = self.compute_loss(logits.float(), self.labels)
        self.fabric.backward(loss)

    def __call__(self) -> None:
        self.forward_and_backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def operations(self) -> int:
        with FlopCounterMode(display=False) as counter:
            self.forward_and_backward()
        self.optimizer.zero_grad(set_to_none=True)
        return int(counter.get_total_flops())

    def moved_bytes(self) -> int:
        """Return what a step moves layer by layer, at the precision of its activations."""
        size = 2 if self.settings.precision == "bfloat16" else 4
        moved = [0]

        def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            weights = sum(parameter.numel() for parameter in module.parameters(recurse=False))
            moved[0] += 3 * size * (inputs[0].numel() + output.numel() + weights)

        leaves = [module for module in self.network.modules() if not list(module.children())]
        handles = [leaf.register_forward_hook(count) for leaf in leaves]
        self.model.eval()  # Layers that are computed together in training are apart here.
        with torch.no_grad(), self.fabric.autocast():
            self.model(self.images)
        self.model.train()
        for handle in handles:
            handle.remove()
        n_parameters = sum(parameter.numel() for parameter in self.network.parameters())
        # Adam reads and writes a weight and its two moments, and reads the gradient.
        return moved[0] + 7 * 4 * n_parameters

    def spent(self, times: int) -> list[tuple[str, float]]:
        """Return the share of time by operation, largest first."""
        from torch.profiler import ProfilerActivity, profile

        activities = [ProfilerActivity.CPU]
        on_gpu = self.fabric.device.type == "cuda"
        if on_gpu:
            activities.append(ProfilerActivity.CUDA)
        with profile(activities=activities) as profiler:
            for _ in range(times):
                self()
        kind = "self_device_time_total" if on_gpu else "self_cpu_time_total"
        events = {event.key: float(getattr(event, kind)) for event in profiler.key_averages()}
        total = sum(events.values())
        ranked = sorted(events.items(), key=lambda item: -item[1])
        return [(name, micros / total) for name, micros in ranked[:12]]
