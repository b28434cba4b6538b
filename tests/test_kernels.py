from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from hilum.kernels import is_fusable, relu_norm_pool
from hilum.networks import ClassicBackbone

CHANNELS_LAST = torch.channels_last


def maps(shape: tuple[int, ...], dtype: torch.dtype = torch.float32, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator) * 2 + 0.3
    return values.to(dtype).contiguous(memory_format=CHANNELS_LAST).requires_grad_()


def norm(channels: int) -> nn.BatchNorm2d:
    """Weights of both signs and nought."""
    layer = nn.BatchNorm2d(channels)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(-1.5, 1.5, channels))
        layer.bias.copy_(torch.linspace(1, -1, channels))
        layer.weight[channels // 2] = 0
    return layer


def plain(given: Tensor, layer: nn.BatchNorm2d) -> Tensor:
    return nn.functional.max_pool2d(layer(torch.relu(given)), 2)


@pytest.mark.parametrize("shape", [(6, 5, 9, 7), (4, 8, 12, 10), (1, 3, 2, 2), (3, 16, 8, 5)])
def test_float32_is_what_the_layers_give_one_by_one(shape: tuple[int, ...]) -> None:
    given, same = maps(shape), maps(shape)
    layer, twin = norm(shape[1]), norm(shape[1])
    found, expected = relu_norm_pool(given, layer), plain(same, twin)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert found.is_contiguous(memory_format=CHANNELS_LAST)
    gradient = maps(tuple(expected.shape), seed=1).detach()
    found.backward(gradient)  # type: ignore[no-untyped-call]
    expected.backward(gradient)  # type: ignore[no-untyped-call]
    assert given.grad is not None
    assert same.grad is not None
    torch.testing.assert_close(given.grad, same.grad, rtol=1e-3, atol=1e-4)
    for name in ("weight", "bias"):
        one, other = getattr(layer, name).grad, getattr(twin, name).grad
        # Where the weight is 0, the four values of a window are alike after it, and each of them
        # gives a gradient of the weight that is right.
        nonzero = twin.weight != 0
        torch.testing.assert_close(one[nonzero], other[nonzero], rtol=1e-4, atol=1e-4)
    for name, value in twin.named_buffers():
        torch.testing.assert_close(layer.get_buffer(name), value)


def test_bfloat16_errs_no_more_than_the_layers_one_by_one() -> None:
    shape = (8, 16, 15, 15)
    exact = maps(shape)
    exact = exact.detach().bfloat16().float().requires_grad_()
    rounded = [exact.detach().bfloat16().requires_grad_() for _ in range(2)]
    outputs = [
        plain(exact, norm(16)), relu_norm_pool(rounded[0], norm(16)), plain(rounded[1], norm(16))
    ]  # fmt: skip
    gradient = torch.randn(outputs[0].shape, generator=torch.Generator().manual_seed(2)).bfloat16()
    for output in outputs:
        output.backward(gradient.to(output.dtype))  # type: ignore[no-untyped-call]
    ours, theirs = ((output.float() - outputs[0]).abs().mean() for output in outputs[1:])
    assert ours <= theirs * 1.05
    assert exact.grad is not None
    errors = []
    for given in rounded:
        assert given.grad is not None
        assert given.grad.dtype == torch.bfloat16
        errors.append((given.grad.float() - exact.grad).abs().mean())
    assert errors[0] <= errors[1] * 1.05


def test_the_number_of_threads_changes_no_bit() -> None:
    results = []
    before = torch.get_num_threads()
    for n_threads in (1, 2, 3):
        torch.set_num_threads(n_threads)
        given, layer = maps((7, 6, 9, 9)), norm(6)
        found = relu_norm_pool(given, layer)
        found.sum().backward()  # type: ignore[no-untyped-call]
        results.append((found.detach(), given.grad, layer.weight.grad, layer.running_var))
    torch.set_num_threads(before)
    for result in results[1:]:
        for one, other in zip(result, results[0], strict=True):
            assert one is not None
            assert other is not None
            assert torch.equal(one, other)


def test_a_small_spread_about_a_large_mean_is_kept() -> None:
    values = torch.randn(4, 2, 150, 150, generator=torch.Generator().manual_seed(0)) + 300
    given = values.contiguous(memory_format=CHANNELS_LAST).requires_grad_()
    exact = nn.functional.max_pool2d(
        nn.functional.batch_norm(values.double(), None, None, training=True), 2
    )
    found = relu_norm_pool(given, nn.BatchNorm2d(2))
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=0.01)


def test_nan_stays_nan() -> None:
    given = maps((2, 3, 4, 4)).detach()
    given[0, 1, 2, 2] = torch.nan
    found = relu_norm_pool(given.requires_grad_(), norm(3))
    assert found[:, 1].isnan().all()
    assert found[:, [0, 2]].isfinite().all()


def test_what_is_another_function_is_left_to_pytorch() -> None:
    given = maps((2, 4, 6, 6))
    layers = [nn.ReLU(), nn.BatchNorm2d(4), nn.MaxPool2d(2)]
    assert is_fusable(layers, given)
    assert not is_fusable(layers, given.detach())
    assert not is_fusable(layers, given.contiguous())
    assert not is_fusable(layers, given.double())
    assert not is_fusable(layers[:2], given)
    for place, other in (
        *((0, nn.SiLU()), (1, nn.BatchNorm2d(4).eval()), (1, nn.BatchNorm2d(4, affine=False))),
        *((2, nn.AvgPool2d(2)), (2, nn.MaxPool2d(3)), (2, nn.MaxPool2d(2, padding=1))),
    ):
        changed = [*layers[:place], other, *layers[place + 1 :]]
        assert not is_fusable(changed, given)


def test_a_backbone_trains_the_same_with_and_without() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.MaxPool2d(2), nn.Dropout(0.0)]
    backbone = ClassicBackbone(*layers).to(memory_format=CHANNELS_LAST)  # type: ignore[call-overload]
    twin = nn.Sequential(*copy.deepcopy(layers))
    images = torch.randn(5, 1, 12, 10)
    for network in (backbone, twin):
        network(images).square().sum().backward()
    for one, other in zip(backbone.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(backbone.eval()(images), twin.eval()(images))
