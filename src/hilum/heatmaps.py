"""Heat maps: which places of an image raise the score of a class.

Two ways that know nothing of each other. Gradients of the network's last maps are quick and need
PyTorch; occlusion covers one place after another and asks the exported model, whatever it is
made of. Neither is evidence of cause: a warm place says that the score depends on it, not why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, get_args

import numpy as np
from numpy.typing import NDArray

from hilum.calibration import LEAST_PROBABILITY
from hilum.errors import SettingError, did_you_mean
from hilum.inference import Model, load
from hilum.model import load_network
from hilum.placement import Axis

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from hilum.backbones import Backbone
    from hilum.networks import Classifier, Member

Method = Literal["gradcam", "occlusion"]
METHODS: tuple[Method, ...] = get_args(Method)

NO_EVIDENCE = (
    "Heat maps show where the model's score depends on the image. They are no evidence of cause."
)

BATCH_SIZE = 32

OCCLUDED_SHARE = 0.15

N_MEASURED = 4
"""Images of noise by whose gradients the cells of a backbone from elsewhere are placed."""


@dataclass(frozen=True)
class Grid:
    """Where the cells of a map lie in the network's input, the same along rows and columns.

    Attributes
    ----------
    start : float
        Centre of the first cell, in pixels from the centre of the first pixel.
    step : float
        Pixels from one cell to the next.
    """

    start: float = 0.0
    step: float = 1.0

    def enlarged(self, factor: int) -> Grid:
        """Return where the cells lie in the image that was reduced to this one."""
        return Grid(self.start * factor + (factor - 1) / 2, self.step * factor)

    def centres(self, n_cells: int) -> NDArray[np.float64]:
        return self.start + self.step * np.arange(n_cells, dtype=np.float64)


class Mapper(Protocol):
    """Makes maps of prepared images."""

    @property
    def name(self) -> str: ...

    @property
    def grid(self) -> Grid: ...

    def maps(
        self, pixels: NDArray[np.uint8], classes: NDArray[np.int64]
    ) -> NDArray[np.float32]: ...


def make_mapper(folder: Path, method: str, *, model: Model | None = None) -> Mapper:
    """Make what makes the maps of a model.

    Parameters
    ----------
    folder : Path
        A run folder or its model folder.
    method : str
        One of `METHODS`.
    model : Model, optional
        The same model where it is loaded already.

    Raises
    ------
    SettingError
        If there is no such method.
    ModelError
        If the model is damaged.
    """
    if method == "gradcam":
        return GradientMaps(load_network(folder))
    if method == "occlusion":
        return Occlusion(model or load(folder))
    raise SettingError(
        f"There is no method '{method}' of making heat maps.{did_you_mean(method, METHODS)} "
        f"The methods are: {', '.join(METHODS)}."
    )


class GradientMaps:
    """Maps from gradients: features weighed by the gradient of a class's logit.

    Of the features that enter the last stage, which point to disease more often than the last map
    does. Of Hilum's CNNs each place is weighed by its own gradient (HiResCAM, Draelos and Carin,
    2020); of published networks, which average their last map, all places by the mean gradient
    (Grad-CAM, Selvaraju et al., 2017). Each was better where it is used (see docs/heatmaps.md).

    Parameters
    ----------
    network : Network or Ensemble
        Put into evaluation mode.
    """

    def __init__(self, network: Classifier) -> None:
        from hilum.networks import members_of

        self._watched = [_Watched(member) for member in members_of(network.eval())]
        self.grid = self._watched[0].grid  # the first network gets images whole
        self.name = " and ".join(dict.fromkeys(watched.method for watched in self._watched))

    def maps(self, pixels: NDArray[np.uint8], classes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Compute one map for each image.

        Parameters
        ----------
        pixels : uint8 array of shape (n, height, width, channels)
            As `pixels.prepare` returns them.
        classes : int array of shape (n,)
            Index of the class to explain.

        Returns
        -------
        float32 array of shape (n, map height, map width)
            Positive where the image raises the logit of the class, negative where it lowers it.
        """
        parts = [
            self._maps(pixels[i : i + BATCH_SIZE], classes[i : i + BATCH_SIZE])
            for i in range(0, len(pixels), BATCH_SIZE)
        ]
        return np.concatenate(parts)

    def _maps(self, pixels: NDArray[np.uint8], classes: NDArray[np.int64]) -> NDArray[np.float32]:
        import torch

        images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float()
        maps: list[NDArray[np.float32]] = []
        for watched in self._watched:
            with torch.enable_grad():
                features, logits = watched(images)
                scores = class_scores(logits, torch.from_numpy(classes))
                (gradient,) = torch.autograd.grad(scores.sum(), features)
            maps.append((watched.weigh(gradient) * features.detach()).sum(dim=1).numpy())
        height, width = maps[0].shape[1:]
        on_one_grid = [
            regrid(found, watched.grid, self.grid, height, width)
            for found, watched in zip(maps, self._watched, strict=True)
        ]
        # An ensemble's logit is the mean of its members', and so is the map of it.
        return np.asarray(np.mean(on_one_grid, axis=0), dtype=np.float32)


class _Watched:
    """A member of an ensemble, and where the cells of its map lie in the whole image."""

    def __init__(self, member: Member) -> None:
        from hilum.backbones import Backbone

        self._member = member
        self._watch, grid = watch(member.network.backbone)
        self.grid = grid.enlarged(member.reduction)
        self.is_published = isinstance(member.network.backbone, Backbone)

    @property
    def method(self) -> str:
        return "Grad-CAM" if self.is_published else "HiResCAM"

    def weigh(self, gradient: Tensor) -> Tensor:
        """Return by what features are weighed."""
        return gradient.mean(dim=(2, 3), keepdim=True) if self.is_published else gradient

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features that enter the last stage, and the logits computed from them."""
        from hilum.networks import reduce

        network, reduction = self._member
        features, seen = self._watch(network.normalise(reduce(images, reduction)))
        return features, network.classify(seen)


def regrid(
    maps: NDArray[np.float32], grid: Grid, onto: Grid, height: int, width: int
) -> NDArray[np.float32]:
    """Bring maps (n, h, w) onto another grid of that many cells, linearly between the centres.

    What a cell adds to the score is spread over the smaller ones that lie in its place.
    """
    down, across = (
        _between(onto.centres(n), n_cells, grid)
        for n, n_cells in ((height, maps.shape[1]), (width, maps.shape[2]))
    )
    share = np.float32((onto.step / grid.step) ** 2)
    return np.asarray(share * (down @ maps @ across.T), dtype=np.float32)


def watch(backbone: nn.Module) -> tuple[Callable[[Tensor], tuple[Tensor, Tensor]], Grid]:
    """Return what gives the features that enter the last stage with the last map, and their grid.

    The map is computed from the features, so that gradients can be taken between the two.
    """
    from hilum.backbones import Backbone

    if isinstance(backbone, Backbone):
        return backbone.watched, measure_grid(backbone)
    layers = cast("nn.Sequential", backbone)
    begin = last_stage(layers)
    early, late = layers[:begin], layers[begin:]

    def watched(images: Tensor) -> tuple[Tensor, Tensor]:
        import torch

        with torch.no_grad():
            features = early(images)
        features.requires_grad_()
        return features, late(features)

    return watched, find_grid(early)


def last_stage(backbone: nn.Sequential) -> int:
    """Return the index of the layer that begins the last stage; the number of layers if one only.

    A stage is what lies between two halvings: a pooling layer ends one, a strided block begins one.
    """
    from torch import nn

    halving = [i for i, layer in enumerate(backbone) if find_grid(layer).step > 1]
    if not halving:
        return len(backbone)
    if not isinstance(backbone[halving[-1]], nn.MaxPool2d | nn.AvgPool2d | nn.Conv2d):
        return halving[-1]
    return halving[-2] + 1 if len(halving) > 1 else len(backbone)


def class_scores(logits: Tensor, classes: Tensor) -> Tensor:
    """Pick the logit of each image's class; a single logit counts for the second class.

    Parameters
    ----------
    logits : Tensor of shape (n, n_outputs)
    classes : int Tensor of shape (n,)
    """
    if logits.shape[1] == 1:
        return logits[:, 0] * (2 * classes - 1)
    return logits.gather(1, classes[:, None])[:, 0]


def find_grid(backbone: nn.Module) -> Grid:
    """Find where the cells of a backbone's map lie, from kernel, stride and padding of its layers.

    Stretching a map over the image would be wrong: convolutions without padding lose the border,
    so that the outermost cells lie well inside.
    """
    return _after(backbone, Grid())


def _after(module: nn.Module, grid: Grid) -> Grid:
    from torch import nn

    from hilum.networks import ResidualBlock

    if isinstance(module, ResidualBlock):
        main = _after(module.conv2, _after(module.conv1, grid))
        beside = _after(module.shortcut, grid)
        # The two paths can lie half a cell apart; the block adds them up.
        return Grid((main.start + beside.start) / 2, main.step)
    if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        kernel, stride, padding = _first(module.kernel_size), _first(module.stride), module.padding
        before = {"same": (kernel - 1) / 2, "valid": 0}.get(str(padding))
        before = _first(padding) if before is None else before
        return Grid(grid.start + ((kernel - 1) / 2 - before) * grid.step, grid.step * stride)
    for child in module.children():
        grid = _after(child, grid)
    return grid


def measure_grid(backbone: Backbone) -> Grid:
    """Find where the cells of a backbone lie: on which pixels two of them centre.

    Its layers cannot be followed as those of Hilum's CNNs can. The gradients of the two middle
    cells are centred on what lies behind them, whatever pads or halves between; on the input that
    is used, which a cell may see whole.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    images = torch.randn(N_MEASURED, *backbone.input_shape, generator=generator).requires_grad_()
    with torch.enable_grad():
        features, _ = backbone.watched(images)
        rows, column = features.shape[2], features.shape[3] // 2
        starts = []
        for row in {(rows - 1) // 2, rows // 2}:
            cell = features[:, :, row, column]
            # At random signs, channels that see the same place do not cancel out.
            signs = torch.randn(cell.shape, generator=generator)
            (gradient,) = torch.autograd.grad((cell * signs).sum(), images, retain_graph=True)
            energy = gradient.square().sum(dim=(0, 1, 3))
            if not float(energy.sum()) > 0:
                continue
            pixels = torch.arange(len(energy))
            centre = float((energy * pixels).sum() / energy.sum())
            starts.append(centre - row * backbone.step)
    if not starts:
        return Grid((images.shape[2] - 1 - (rows - 1) * backbone.step) / 2, backbone.step)
    return Grid(float(np.mean(starts)), backbone.step)


def _first(size: Any) -> int:
    """Return the size along the rows: PyTorch keeps one number or one for each axis."""
    return int(size[0] if isinstance(size, tuple) else size)


class Occlusion:
    """Maps of how far the log-odds of a class fall when a place is covered.

    Slow, as every place needs a prediction of its own, but it asks the exported model alone.

    Parameters
    ----------
    model : Model
    share : float
        Side of what covers, in proportion to the input's.
    """

    name = "Occlusion"

    def __init__(self, model: Model, *, share: float = OCCLUDED_SHARE) -> None:
        self.model = model
        spec = model.facts.preprocessing
        self._side = max(2, round(share * min(spec.height, spec.width)))
        self.grid = Grid(step=max(1, self._side // 2))

    def maps(self, pixels: NDArray[np.uint8], classes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Compute one map for each image: by how much covering each cell lowers the log-odds.

        Returns
        -------
        float32 array of shape (n, map height, map width)
        """
        found = [self._map(image, int(c)) for image, c in zip(pixels, classes, strict=True)]
        return np.stack(found).astype(np.float32)

    def _map(self, image: NDArray[np.uint8], index: int) -> NDArray[np.float64]:
        rows, columns = (range(0, length, int(self.grid.step)) for length in image.shape[:2])
        centres = [(row, column) for row in rows for column in columns]
        alone = self.model.facts.target == "multilabel"
        whole = log_odds(self.model.probabilities(image[None]), index, alone=alone)
        falls = []
        for i in range(0, len(centres), BATCH_SIZE):
            covered = np.stack([self._cover(image, *at) for at in centres[i : i + BATCH_SIZE]])
            there = log_odds(self.model.probabilities(covered), index, alone=alone)
            falls.append(whole - there)
        return np.concatenate(falls).reshape(len(rows), len(columns))

    def _cover(self, image: NDArray[np.uint8], row: int, column: int) -> NDArray[np.uint8]:
        """Give a square the image's mean colour: black would look like air, or like nothing."""
        half = self._side // 2
        top, left = max(0, row - half), max(0, column - half)
        covered = image.copy()
        covered[top : row + half + 1, left : column + half + 1] = image.mean(axis=(0, 1)).round()
        return covered


def log_odds(
    probs: NDArray[np.floating[Any]], index: int, *, alone: bool = False
) -> NDArray[np.float64]:
    """Return the log-odds of one class, from probabilities of shape (n, n_classes).

    Unlike a probability near 1 they still change when the evidence does.

    Parameters
    ----------
    alone : bool
        Each column is a label by itself, whatever the others are; else they add up to 1.
    """
    others = 1 - probs[:, index] if alone else np.delete(probs, index, axis=1).sum(axis=1)
    found: NDArray[np.float64] = np.log(np.maximum(probs[:, index], LEAST_PROBABILITY)) - np.log(
        np.maximum(others, LEAST_PROBABILITY)
    )
    return found


def heat_at(
    signed: NDArray[np.floating[Any]], grid: Grid, rows: Axis, columns: Axis
) -> NDArray[np.float32]:
    """Bring one map onto the picture: what raises the score, linearly between the cells' centres.

    Parameters
    ----------
    signed : array of shape (map height, map width)
    rows, columns : Axis
        As `place` finds them for the picture.

    Returns
    -------
    float32 array of the picture's height and width
        0 where the score is not raised, and where the network does not see the picture.
    """
    down = _between(rows.positions, len(signed), grid) * rows.is_seen[:, None]
    across = _between(columns.positions, signed.shape[1], grid) * columns.is_seen[:, None]
    found: NDArray[np.float32] = down @ np.maximum(signed, 0).astype(np.float32) @ across.T
    return found


def _between(positions: NDArray[np.float64], n_cells: int, grid: Grid) -> NDArray[np.float32]:
    """Weigh the cells for each position; beyond the outermost centres the outermost cell counts."""
    at = np.clip((positions - grid.start) / grid.step, 0, n_cells - 1)
    below = np.floor(at).astype(int)
    weights = np.zeros((len(at), n_cells), dtype=np.float32)
    every = np.arange(len(at))
    weights[every, below] = 1 - (at - below)
    weights[every, np.minimum(below + 1, n_cells - 1)] += at - below
    return weights
