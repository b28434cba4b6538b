"""EfficientNet-Lite: its padding, its size, and that the published weights make it what it was."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_image
from torch.nn import functional as F

from hilum.efficientnet import (
    ENTRANCE_STEP,
    LITE0,
    PHOTO_MEAN,
    PHOTO_STD,
    EfficientNetLite,
    SameConv,
)
from hilum.pretrained import installed_file, read_tensors


def slow_same_convolution(
    image: NDArray[np.float64], kernel: NDArray[np.float64], stride: int
) -> NDArray[np.float64]:
    """TensorFlow's "SAME": ceil(size / stride) outputs, what is missing added half and half."""
    size, side = len(image), len(kernel)
    n_out = -(-size // stride)
    missing = max((n_out - 1) * stride + side - size, 0)
    first = missing // 2
    found = np.zeros((n_out, n_out))
    for row in range(n_out):
        for column in range(n_out):
            for i in range(side):
                for j in range(side):
                    y, x = row * stride + i - first, column * stride + j - first
                    if 0 <= y < size and 0 <= x < size:
                        found[row, column] += image[y, x] * kernel[i, j]
    return found


@pytest.mark.parametrize("size", [7, 8, 9])
@pytest.mark.parametrize("side", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_padding_is_that_of_the_published_network(size: int, side: int, stride: int) -> None:
    rng = np.random.default_rng(size * side + stride)
    image, kernel = rng.normal(size=(size, size)), rng.normal(size=(side, side))
    layer = SameConv(1, 1, side, stride=stride, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(kernel))
        found = layer(torch.from_numpy(image)[None, None])[0, 0].numpy()
    assert np.allclose(found, slow_same_convolution(image, kernel, stride))


def test_sizes_are_those_of_the_paper() -> None:
    network = EfficientNetLite(3).eval()
    n_weights = sum(p.numel() for p in network.parameters())
    assert n_weights + 1280 * 1000 + 1000 == 4_652_008  # with the classifier: 4.7 million
    with torch.no_grad():
        assert network(torch.zeros(2, 3, 128, 96)).shape == (2, 1280, 4, 3)
        # What enters the last stages lies at a sixteenth of the resolution.
        before = network._blocks[: int(network.entrance.rpartition(".")[2]) + 1]
        assert before(torch.zeros(1, 32, 64, 48)).shape == (1, 112, 8, 6)


def test_first_stages_are_the_stem_and_their_blocks() -> None:
    network = EfficientNetLite(1)
    assert len(network.first_stages(1)) == 2 + 1
    assert len(network.first_stages(3)) == 2 + 1 + 2 + 2
    assert len(network.first_stages(7)) == 2 + 16


@pytest.mark.parametrize(
    ("name", "number"), [("china.jpg", 698), ("flower.jpg", 985)], ids=["palace", "daisy"]
)
def test_the_installed_weights_tell_what_a_photograph_shows(name: str, number: int) -> None:
    """Names, order of blocks, padding and constants must all be right for that."""
    path = installed_file(LITE0)
    assert path is not None
    tensors = read_tensors(path)
    network = EfficientNetLite(3).eval()
    known = {name: tensor for name, tensor in tensors.items() if not name.startswith("_fc.")}
    missing = network.load_state_dict(known, strict=False)
    assert not missing.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in missing.missing_keys)
    photograph = Image.fromarray(load_sample_image(name))
    edge = min(photograph.size)
    left, top = (math.floor((size - edge) / 2) for size in photograph.size)
    square = photograph.crop((left, top, left + edge, top + edge)).resize((224, 224))
    pixels = torch.from_numpy(np.asarray(square, dtype=np.float32)).permute(2, 0, 1)[None]
    with torch.no_grad():
        features = network((pixels - PHOTO_MEAN) / PHOTO_STD).mean(dim=(2, 3))
        scores = F.linear(features, tensors["_fc.weight"], tensors["_fc.bias"])
    assert int(scores.argmax()) == number


def test_cells_of_the_entrance_lie_as_far_apart_as_it_says() -> None:
    """By the gradients of two cells in the middle of an image that they do not fill."""
    network = EfficientNetLite(1).eval()
    images = torch.randn(4, 1, 512, 512, generator=torch.Generator().manual_seed(0))
    images.requires_grad_()
    found: list[torch.Tensor] = []
    layer = network.get_submodule(network.entrance)
    layer.register_forward_hook(lambda _, __, output: found.append(output))
    network(images)
    assert found[0].shape[2] == 512 // ENTRANCE_STEP
    centres = []
    for row in (14, 18):
        cell = found[0][:, :, row, 16].square().sum()
        (gradient,) = torch.autograd.grad(cell, images, retain_graph=True)
        energy = gradient.square().sum(dim=(0, 1, 3))
        centres.append(float((energy * torch.arange(512)).sum() / energy.sum()))
    assert abs(centres[1] - centres[0] - 4 * ENTRANCE_STEP) < 3
