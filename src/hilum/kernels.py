"""ReLU, batch norm and 2×2 max-pooling of a training step in one sweep over memory, on a processor.

In this order, which the classic networks have, PyTorch writes the largest maps of the network
seven times and reads them twelve times a step, and that takes a third of the step. The same
function needs less:

- batch norm is monotone in each channel, so the largest of four values is the largest before it
  (the smallest, where its weight is negative): only a quarter of the map is ever normalised;
- its statistics are sums over the map, taken while the pooling reads it;
- backwards, each value gets a share that is linear in the value itself (what the statistics hand
  on), plus the gradient of its pooled value where it was the one chosen.

So the map is read once forwards, and read and written once backwards. Compiled by Numba when first
used, in a second or two; it follows Ioffe & Szegedy, Batch normalization, 2015.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar, cast

import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Array = NDArray[Any]

Kernel = TypeVar("Kernel", bound=Callable[..., None])


def compiled(function: Kernel) -> Kernel:
    """Compile a function when it is first called, and keep what came out as Python keeps its own.

    In float32 and bfloat16 alike; without the interpreter's lock, so that threads run at once.
    """
    # NaN must stay NaN, so that a training that diverges is noticed: no 'nnan' here.
    fastmath = {"contract", "reassoc", "nsz"}
    try:
        made = njit(nogil=True, error_model="numpy", fastmath=fastmath, cache=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's can be written
        made = njit(nogil=True, error_model="numpy", fastmath=fastmath)(function)
    return cast(Kernel, made)


def is_fusable(parts: list[nn.Module], maps: Tensor) -> bool:
    """Whether these layers, in training, are what `relu_norm_pool` computes for these maps."""
    if len(parts) != 3 or not maps.requires_grad:
        return False
    relu, norm, pool = parts
    return (
        isinstance(relu, nn.ReLU)
        and isinstance(norm, nn.BatchNorm2d)
        and norm.training
        and norm.affine
        and norm.momentum is not None
        and isinstance(pool, nn.MaxPool2d)
        and (pool.kernel_size, pool.stride, pool.padding, pool.dilation) == (2, 2, 0, 1)
        and maps.device.type == "cpu"
        and maps.dtype in (torch.float32, torch.bfloat16)
        and maps.is_contiguous(memory_format=torch.channels_last)
        and min(maps.shape[-2:]) >= 2
    )


def relu_norm_pool(maps: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """Apply ReLU, then batch norm by the batch's own statistics, then 2×2 max-pooling.

    Parameters
    ----------
    maps : float32 or bfloat16 tensor of shape (n, c, h, w)
        Channels last in memory, on the CPU.
    norm : BatchNorm2d
        Its running statistics are moved on, as in its own forward pass.

    Returns
    -------
    tensor of shape (n, c, h // 2, w // 2)
        Of the same type and layout.
    """
    pooled, mean, variance = cast(
        tuple[Tensor, Tensor, Tensor],
        _ReluNormPool.apply(maps, norm.weight, norm.bias, norm.eps),  # type: ignore[no-untyped-call]
    )
    if norm.track_running_stats:
        _move_on(norm, mean, variance, n=maps.numel() // maps.shape[1])
    return pooled


@torch.no_grad()
def _move_on(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, *, n: int) -> None:
    """Update the running statistics; the variance by its unbiased estimate."""
    running_mean, running_var = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    momentum = cast(float, norm.momentum)
    running_mean.lerp_(mean.to(running_mean.dtype), momentum)
    running_var.lerp_((variance * n / max(n - 1, 1)).to(running_var.dtype), momentum)
    cast(Tensor, norm.num_batches_tracked).add_(1)


class _ReluNormPool(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        n, c, height, width = maps.shape
        half = (n, height // 2, width // 2, c)
        raw, chosen = torch.empty(half, dtype=maps.dtype), torch.empty(half, dtype=torch.uint8)
        # Sums by image, added in one order whatever the number of threads.
        sums, squares = np.empty((n, c)), np.empty((n, c))
        sign = np.where(weight.detach().numpy() < 0, np.float32(-1), np.float32(1))
        _each_image(_sweep, n, _rows(maps), sign, sums, squares, _bits(raw), chosen.numpy())
        count = n * height * width
        mean = sums.sum(axis=0) / count
        variance = np.maximum(squares.sum(axis=0) / count - mean**2, 0.0)
        inverse = 1 / np.sqrt(variance + eps)
        scale = weight.detach().numpy() * inverse
        shift = bias.detach().numpy() - mean * scale
        pooled = torch.empty_like(raw)
        _each_image(_scale, n, _bits(raw), _single(scale), _single(shift), _bits(pooled))
        ctx.save_for_backward(maps, weight, raw, chosen)
        ctx.mean, ctx.inverse = mean, inverse
        found = torch.from_numpy(mean), torch.from_numpy(variance)
        ctx.mark_non_differentiable(*found)
        return pooled.permute(0, 3, 1, 2), *found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        maps, weight, raw, chosen = ctx.saved_tensors
        n, c, height, width = maps.shape
        mean, inverse = ctx.mean, ctx.inverse
        gradient = gradient.to(maps.dtype).contiguous(memory_format=torch.channels_last)
        sums, products = np.empty((n, c), np.float32), np.empty((n, c), np.float32)
        _each_image(
            _products, n, _rows(gradient), _bits(raw), _single(mean), _single(inverse), sums,
            products,
        )  # fmt: skip
        of_bias = sums.sum(axis=0, dtype=np.float64)
        of_weight = products.sum(axis=0, dtype=np.float64)
        count = n * height * width
        factor = weight.detach().numpy() * inverse
        slope = -factor * inverse * of_weight / count
        constant = -factor * of_bias / count - slope * mean
        out = torch.empty((n, height, width, c), dtype=maps.dtype)
        _each_image(
            _spread, n, _rows(maps), _rows(gradient), chosen.numpy(), _single(factor),
            _single(constant), _single(slope), _bits(out),
        )  # fmt: skip
        return (
            out.permute(0, 3, 1, 2),
            torch.from_numpy(_single(of_weight)),
            torch.from_numpy(_single(of_bias)),
            None,
        )


def _rows(maps: Tensor) -> Array:
    """View (n, c, h, w), channels last, as an array of shape (n, h, w, c)."""
    return _bits(maps.detach().permute(0, 2, 3, 1))


def _bits(tensor: Tensor) -> Array:
    """View a tensor as an array; NumPy has no bfloat16, so its bits go as uint16."""
    bits = tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor
    return bits.numpy()


def _single(values: Array) -> Array:
    return np.asarray(values, dtype=np.float32)


def _each_image(kernel: Callable[..., None], n: int, *arrays: Array) -> None:
    """Run a kernel over n images, spread over as many threads as PyTorch uses."""
    n_threads = min(torch.get_num_threads(), n)
    if n_threads == 1:
        kernel(0, n, *arrays)
        return
    edges = [n * k // n_threads for k in range(n_threads + 1)]
    (_, first), *others = itertools.pairwise(edges)
    waiting = [_pool(n_threads).submit(kernel, *edge, *arrays) for edge in others]
    kernel(0, first, *arrays)
    for part in waiting:
        part.result()


@cache
def _pool(n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads - 1, thread_name_prefix="hilum-kernels")


# -- compiled ------------------------------------------------------------------------------------


def _typed_load(_: Any, value: Any) -> Any:
    """float32 of a value: itself, or the bits of a bfloat16, which is its upper half."""

    def widen(_: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if signature.args[0] == types.float32:
            return arguments[0]
        word = ir.IntType(32)
        bits = builder.shl(builder.zext(arguments[0], word), ir.Constant(word, 16))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(value), widen


def _typed_store(_: Any, value: Any, like: Any) -> Any:
    """The value in the type of `like`: float32, or bfloat16 rounded to nearest, ties to even."""

    def narrow(_: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if signature.return_type == types.float32:
            return arguments[0]
        word = ir.IntType(32)
        number = arguments[0]
        bits = builder.bitcast(number, word)
        odd = builder.and_(builder.lshr(bits, ir.Constant(word, 16)), ir.Constant(word, 1))
        rounded = builder.add(bits, builder.add(odd, ir.Constant(word, 0x7FFF)))
        # Rounding could carry a NaN over into infinity or zero.
        is_nan = builder.fcmp_unordered("uno", number, number)
        kept = builder.select(is_nan, ir.Constant(word, 0x7FC00000), rounded)
        return builder.trunc(builder.lshr(kept, ir.Constant(word, 16)), ir.IntType(16))

    return like(value, like), narrow


# In compiled code these are called without the first argument.
_load, _store = cast(Any, intrinsic(_typed_load)), cast(Any, intrinsic(_typed_store))


@compiled
def _add_up(row: Array, total: Array, square: Array) -> None:
    """Add the values of one place that the pooling leaves out, where a side is odd."""
    zero = np.float32(0)
    for k in range(row.shape[0]):
        value = _load(row[k])
        value = zero if value <= zero else value
        total[k] += value
        square[k] += value * value


@compiled
def _sweep(
    start: int, stop: int, maps: Array, sign: Array, sums: Array, squares: Array, raw: Array,
    chosen: Array,
) -> None:  # fmt: skip
    """Sum ReLU's values and their squares, and choose the extreme of every four."""
    _, height, width, n_channels = maps.shape
    zero = np.float32(0)
    total, square = np.empty(n_channels, np.float32), np.empty(n_channels, np.float32)
    for i in range(start, stop):
        sums[i] = 0.0
        squares[i] = 0.0
        for r in range(height // 2):
            total[:] = zero
            square[:] = zero
            for q in range(width // 2):
                a, b = maps[i, 2 * r, 2 * q], maps[i, 2 * r, 2 * q + 1]
                c, d = maps[i, 2 * r + 1, 2 * q], maps[i, 2 * r + 1, 2 * q + 1]
                best_of, place_of = raw[i, r, q], chosen[i, r, q]
                for k in range(n_channels):
                    # Written so that a NaN stays one.
                    va, vb, vc, vd = _load(a[k]), _load(b[k]), _load(c[k]), _load(d[k])
                    va, vb = zero if va <= zero else va, zero if vb <= zero else vb
                    vc, vd = zero if vc <= zero else vc, zero if vd <= zero else vd
                    total[k] += (va + vb) + (vc + vd)
                    square[k] += (va * va + vb * vb) + (vc * vc + vd * vd)
                    s = sign[k]
                    best, place = va * s, np.uint8(0)
                    place, best = np.uint8(1) if vb * s > best else place, max(best, vb * s)
                    place, best = np.uint8(2) if vc * s > best else place, max(best, vc * s)
                    place, best = np.uint8(3) if vd * s > best else place, max(best, vd * s)
                    best_of[k] = _store(best * s, best_of[k])
                    place_of[k] = place
            # In double precision from row to row: the variance is a difference of two sums.
            for k in range(n_channels):
                sums[i, k] += total[k]
                squares[i, k] += square[k]
        if height % 2:
            for q in range(width):
                _add_up(maps[i, height - 1, q], sums[i], squares[i])
        if width % 2:
            for r in range(height - height % 2):
                _add_up(maps[i, r, width - 1], sums[i], squares[i])


@compiled
def _scale(start: int, stop: int, raw: Array, scale: Array, shift: Array, pooled: Array) -> None:
    for i in range(start, stop):
        for r in range(raw.shape[1]):
            for q in range(raw.shape[2]):
                given, out = raw[i, r, q], pooled[i, r, q]
                for k in range(raw.shape[3]):
                    out[k] = _store(_load(given[k]) * scale[k] + shift[k], out[k])


@compiled
def _products(
    start: int, stop: int, gradient: Array, raw: Array, mean: Array, inverse: Array, sums: Array,
    products: Array,
) -> None:  # fmt: skip
    """Sum the gradient, and the gradient times the normalised value."""
    n_channels = raw.shape[3]
    total, product = np.empty(n_channels, np.float32), np.empty(n_channels, np.float32)
    for i in range(start, stop):
        total[:] = np.float32(0)
        product[:] = np.float32(0)
        for r in range(raw.shape[1]):
            for q in range(raw.shape[2]):
                handed, value = gradient[i, r, q], raw[i, r, q]
                for k in range(n_channels):
                    g = _load(handed[k])
                    total[k] += g
                    product[k] += g * ((_load(value[k]) - mean[k]) * inverse[k])
        sums[i] = total
        products[i] = product


@compiled
def _hand_on(row: Array, constant: Array, slope: Array, out: Array) -> None:
    """Give one place that was pooled nowhere what the statistics hand on."""
    zero = np.float32(0)
    for k in range(row.shape[0]):
        value = _load(row[k])
        share = constant[k] + slope[k] * value
        out[k] = _store(zero if value <= zero else share, out[k])


@compiled
def _spread(
    start: int, stop: int, maps: Array, gradient: Array, chosen: Array, factor: Array,
    constant: Array, slope: Array, out: Array,
) -> None:  # fmt: skip
    """Give every value of the map its gradient."""
    _, height, width, n_channels = maps.shape
    zero = np.float32(0)
    for i in range(start, stop):
        for r in range(height // 2):
            for q in range(width // 2):
                handed, place = gradient[i, r, q], chosen[i, r, q]
                for j in range(4):
                    value_of = maps[i, 2 * r + j // 2, 2 * q + j % 2]
                    out_of = out[i, 2 * r + j // 2, 2 * q + j % 2]
                    for k in range(n_channels):
                        value = _load(value_of[k])
                        direct = _load(handed[k]) * factor[k] if place[k] == j else zero
                        share = direct + constant[k] + slope[k] * value
                        out_of[k] = _store(zero if value <= zero else share, out_of[k])
        if height % 2:
            for q in range(width):
                _hand_on(maps[i, height - 1, q], constant, slope, out[i, height - 1, q])
        if width % 2:
            for r in range(height - height % 2):
                _hand_on(maps[i, r, width - 1], constant, slope, out[i, r, width - 1])
