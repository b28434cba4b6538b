"""Networks that can begin with weights made elsewhere: built by name, their maps laid out alike.

A backbone is named `hilum:NAME`, `timm:NAME` or `monai:NAME`. The network is kept whole, without
its classifier, so that weights made elsewhere fit it by their own names. What comes in and out is
that of Hilum's own networks: normalised images (n, c, h, w) → the last map (n, channels, h, w) →
features (n, n_features).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn

from hilum.efficientnet import (
    ENTRANCE_STEP,
    PUBLISHED,
    EfficientNetLite,
    Published,
)
from hilum.errors import MissingExtraError, SettingError, did_you_mean
from hilum.settings import Settings


class Backbone(nn.Module):
    """A network as it was published, without its classifier: images → its last map.

    Attributes
    ----------
    model : nn.Module
        The network, with the published names of its weights.
    entrance : str or None
        The part of it whose output, at a higher resolution than the last map's, enters the last
        stage; None where none is known to.
    step : float
        Pixels of the input from one cell to the next, of what enters the last stage, or of the
        last map where that is not known.
    input_shape : (channels, height, width)
    """

    def __init__(
        self,
        model: nn.Module,
        to_map: Callable[[nn.Module, Tensor], Tensor],
        *,
        entrance: str | None,
        step: float,
        input_shape: tuple[int, int, int],
    ) -> None:
        super().__init__()
        self.model = model
        self.entrance = entrance
        self.step = step
        self.input_shape = input_shape
        self._to_map = to_map

    def forward(self, images: Tensor) -> Tensor:
        return self._to_map(self.model, images)

    def watched(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return what enters the last stage, of shape (n, channels, h, w), and the last map.

        The second is computed from the first, so that gradients can be taken between them.
        """
        if self.entrance is None:
            seen = self(images)
            return seen, seen
        kept: list[Tensor] = []

        def keep(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            kept.append(output)
            return output.clone()  # what follows may change it in place

        hook = self.model.get_submodule(self.entrance).register_forward_hook(keep)
        try:
            seen = self(images)
        finally:
            hook.remove()
        return kept[-1], seen


class Gather(nn.Module):
    """The last map → features, as the published network does before its classifier."""

    def __init__(self, model: nn.Module, pool: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        # In a tuple the network is no child of this module: its weights are the backbone's.
        self._shared = (model,)
        self._pool = pool

    def forward(self, seen: Tensor) -> Tensor:
        return self._pool(self._shared[0], seen)


def parse_backbone(backbone: str) -> tuple[str, str]:
    """Part `timm:NAME` into library and name."""
    library, _, name = backbone.partition(":")
    return library, name


def check_backbone(backbone: str) -> None:
    """Refuse what cannot be built for want of its library or its name, before images are read.

    Raises
    ------
    SettingError
        If the library has no such network.
    MissingExtraError
        If the library is not installed.
    """
    library, name = parse_backbone(backbone)
    if library == "hilum":
        published_weights(name)
        return
    if library == "timm":
        timm_facts(name)
        return
    _family(name)
    if find_spec("monai") is None:  # to import it takes long
        raise MissingExtraError("monai", "monai", "A backbone of MONAI")


def build_backbone(settings: Settings) -> tuple[Backbone, nn.Module, int]:
    """Build the backbone that the settings name, with weights drawn at random.

    Returns
    -------
    backbone, gather : modules
    n_features : int
        Length of what `gather` returns.

    Raises
    ------
    SettingError
        If the library has no such network, or it cannot take the input.
    MissingExtraError
        If the library is not installed.
    """
    assert settings.backbone is not None
    library, name = parse_backbone(settings.backbone)
    build = {"hilum": _build_own, "timm": _build_timm, "monai": _build_monai}[library]
    try:
        backbone, gather = build(name, settings)
        n_features = _count_features(backbone, gather, settings)
    except (SettingError, MissingExtraError):
        raise
    except Exception as error:
        # Whatever the libraries raise for sizes that do not suit them: AssertionError, ValueError…
        raise SettingError(
            f"Setting backbone = '{settings.backbone}' cannot be used with images of "
            f"{settings.input_height}×{settings.input_width} pixels: "
            f"{' '.join(str(error).split()) or type(error).__name__}. Choose another input size or "
            "another backbone."
        ) from None
    return backbone, gather, n_features


def _count_features(backbone: Backbone, gather: nn.Module, settings: Settings) -> int:
    with torch.no_grad():
        seen = backbone.eval()(_blank(backbone, settings))
        features = gather(seen)
    backbone.train()
    if seen.ndim != 4 or features.ndim != 2:
        raise SettingError(
            f"Setting backbone = '{settings.backbone}' cannot be used: its last layer gives "
            f"{tuple(seen.shape)}, and a map of (images, channels, height, width) is needed. "
            "Choose another backbone."
        )
    return int(features.shape[1])


def _input_shape(settings: Settings) -> tuple[int, int, int]:
    return settings.channels, settings.input_height, settings.input_width


def _blank(model: nn.Module, settings: Settings) -> Tensor:
    return torch.zeros((1, *_input_shape(settings)), device=next(model.parameters()).device)


# -- EfficientNet-Lite -----------------------------------------------------------------------------


def published_weights(name: str) -> Published:
    """Return what is known of the published weights of one of Hilum's own backbones.

    Raises
    ------
    SettingError
        If there is no such backbone.
    """
    if name not in PUBLISHED:
        raise SettingError(
            f"Setting backbone = 'hilum:{name}' cannot be used: there is no such network."
            f"{did_you_mean(name, PUBLISHED)} There is: {', '.join(PUBLISHED)}."
        )
    return PUBLISHED[name]


def _build_own(name: str, settings: Settings) -> tuple[Backbone, nn.Module]:
    published_weights(name)  # refuses other names
    model = EfficientNetLite(settings.channels)
    backbone = Backbone(
        model,
        _call,
        entrance=model.entrance,
        step=ENTRANCE_STEP,
        input_shape=_input_shape(settings),
    )
    return backbone, Gather(model, _average)


def _call(model: nn.Module, images: Tensor) -> Tensor:
    return cast(Tensor, model(images))


# -- timm ------------------------------------------------------------------------------------------


def import_timm() -> ModuleType:
    """Import timm, which nothing but a backbone of it needs.

    Raises
    ------
    MissingExtraError
        If it is not installed, or its torchvision does not go with the installed PyTorch.
    """
    try:
        import timm
    except (ImportError, RuntimeError) as error:
        missing = "torchvision" if "torchvision" in str(error) else "timm"
        raise MissingExtraError(missing, "timm", "A backbone of timm") from None
    return cast(ModuleType, timm)


def timm_facts(name: str) -> Any:
    """Return timm's own description of a network: input size, mean, licence of its weights, …

    Raises
    ------
    SettingError
        If timm has no such network, or no such weights of it.
    """
    timm = import_timm()
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        known = did_you_mean(architecture, timm.list_models())
        raise SettingError(
            f"Setting backbone = 'timm:{name}' cannot be used: timm {timm.__version__} has no "
            f"network '{architecture}'.{known} timm.list_models() names all."
        )
    names = sorted(timm.models.get_arch_pretrained_cfgs(architecture))
    if tag and name not in names:
        known = did_you_mean(name, names)
        raise SettingError(
            f"Setting backbone = 'timm:{name}' cannot be used: timm {timm.__version__} knows no "
            f"weights '{tag}' of {architecture}.{known} It knows: {', '.join(names) or 'none'}."
        )
    return timm.get_pretrained_cfg(name)


def _build_timm(name: str, settings: Settings) -> tuple[Backbone, nn.Module]:
    facts, timm = timm_facts(name), import_timm()
    options: dict[str, Any] = {"in_chans": settings.channels, "num_classes": 0}
    if facts is not None and facts.fixed_input_size:
        options["img_size"] = (settings.input_height, settings.input_width)
    model = timm.create_model(name, pretrained=False, **options).eval()
    layout = _layout(model, settings)
    backbone = Backbone(
        model,
        layout.to_map,
        entrance=layout.entrance,
        step=layout.step,
        input_shape=_input_shape(settings),
    )
    return backbone, Gather(model, layout.pool)


@dataclass(frozen=True)
class Layout:
    """How a network of timm is brought to a map, its map to features, and where its stages lie."""

    to_map: Callable[[nn.Module, Tensor], Tensor]
    pool: Callable[[nn.Module, Tensor], Tensor]
    step: float
    entrance: str | None = None


def _layout(model: nn.Module, settings: Settings) -> Layout:
    """Look at what the network makes of a blank image."""
    found, sizes = _try_out(model, settings)
    height, width = settings.input_height, settings.input_width
    if isinstance(found, Tensor) and found.ndim == 4:
        if getattr(model, "output_fmt", "NCHW") == "NHWC":
            return Layout(_map_of_last, _pool_last, height / found.shape[1])
        larger = [name for name in sizes if sizes[name] > found.shape[2]]
        steps = {stage["module"]: stage["reduction"] for stage in _stages(model)}
        entrance = larger[-1] if larger else None
        last = height / found.shape[2] if not steps else [*steps.values()][-1]
        step = last if entrance is None else steps[entrance]
        return Layout(_map_of_first, _pool_first, step, entrance)
    if isinstance(found, Tensor) and found.ndim == 3:
        n_prefix = int(getattr(model, "num_prefix_tokens", 0) or 0)
        n = found.shape[1] - n_prefix
        step = math.sqrt(height * width / max(n, 1))
        grid = (round(height / step), round(width / step))
        if n > 1 and grid[0] * grid[1] == n:
            return Layout(_MapOfTokens(n_prefix, grid), _pool_tokens, height / grid[0])
    raise SettingError(
        f"Setting backbone = '{settings.backbone}' cannot be used: it ends in no map of places, "
        "which heat maps and the check for unlike images need. Choose another backbone."
    )


def _try_out(model: nn.Module, settings: Settings) -> tuple[Any, dict[str, int]]:
    """Return what the network makes of a blank image, and the height of each stage's map."""
    known, sizes = dict(model.named_modules()), dict[str, int]()

    def note(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                sizes[name] = output.shape[2]

        return hook

    names = [stage["module"] for stage in _stages(model) if stage["module"] in known]
    hooks = [known[name].register_forward_hook(note(name)) for name in names]
    with torch.no_grad():
        found = cast(Any, model).forward_features(_blank(model, settings))
    for hook in hooks:
        hook.remove()
    return found, sizes


def _stages(model: nn.Module) -> list[Mapping[str, Any]]:
    return [stage for stage in getattr(model, "feature_info", None) or [] if "module" in stage]


def _map_of_first(model: nn.Module, images: Tensor) -> Tensor:
    return cast(Tensor, cast(Any, model).forward_features(images))


def _map_of_last(model: nn.Module, images: Tensor) -> Tensor:
    return _map_of_first(model, images).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class _MapOfTokens:
    """Tokens of patches laid out as they lie in the image; a class token is left out."""

    n_prefix: int
    grid: tuple[int, int]

    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        tokens = _map_of_first(model, images)[:, self.n_prefix :]  # (n, places, channels)
        laid_out = tokens.transpose(1, 2).unflatten(2, self.grid)  # type: ignore[no-untyped-call]
        return cast(Tensor, laid_out)


def _pool_first(model: nn.Module, seen: Tensor) -> Tensor:
    return cast(Tensor, cast(Any, model).forward_head(seen, pre_logits=True)).flatten(1)


def _pool_last(model: nn.Module, seen: Tensor) -> Tensor:
    return _pool_first(model, seen.permute(0, 2, 3, 1))


def _pool_tokens(model: nn.Module, seen: Tensor) -> Tensor:
    """Average over places; some networks normalise after that and not before."""
    norm = getattr(model, "fc_norm", None)
    features = seen.mean(dim=(2, 3))
    return cast(Tensor, norm(features)) if norm is not None else features


# -- MONAI -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Family:
    """How networks of one kind of MONAI are built, and where they are cut.

    Attributes
    ----------
    make : function of (networks module, its name in MONAI, n channels) → network
    classifier : str
        The last layer, which is left out.
    entrance : str
        As in `Backbone`.
    to_map, pool : functions
    """

    make: Callable[[ModuleType, str, int], nn.Module]
    classifier: str
    entrance: str
    to_map: Callable[[Any, Tensor], Tensor]
    pool: Callable[[Any, Tensor], Tensor]


def _make_dense(nets: ModuleType, name: str, channels: int) -> nn.Module:
    return cast(nn.Module, getattr(nets, name)(2, channels, 1))


def _make_residual(nets: ModuleType, name: str, channels: int) -> nn.Module:
    # MONAI's own stride of 1 is meant for small volumes; 2 is that of the network's paper.
    model = getattr(nets, name.lower())(
        spatial_dims=2, n_input_channels=channels, num_classes=1, conv1_t_stride=2
    )
    for each in model.modules():
        if isinstance(each, nn.Conv2d) and each.bias is not None:
            nn.init.zeros_(each.bias)  # batch norm follows; weights from elsewhere lack them
    return cast(nn.Module, model)


def _make_squeezed(nets: ModuleType, name: str, channels: int) -> nn.Module:
    return cast(nn.Module, getattr(nets, name)(spatial_dims=2, in_channels=channels, num_classes=1))


def _make_efficient(nets: ModuleType, name: str, channels: int) -> nn.Module:
    model = nets.EfficientNetBN(
        name.lower(), pretrained=False, spatial_dims=2, in_channels=channels, num_classes=1
    )
    return cast(nn.Module, model)


def _dense_map(model: Any, images: Tensor) -> Tensor:
    return cast(Tensor, model.class_layers.relu(model.features(images)))


def _residual_map(model: Any, images: Tensor) -> Tensor:
    seen = model.maxpool(model.act(model.bn1(model.conv1(images))))
    return cast(Tensor, model.layer4(model.layer3(model.layer2(model.layer1(seen)))))


def _squeezed_map(model: Any, images: Tensor) -> Tensor:
    return cast(Tensor, model.features(images))


def _efficient_map(model: Any, images: Tensor) -> Tensor:
    seen = model._swish(model._bn0(model._conv_stem(model._conv_stem_padding(images))))
    seen = model._conv_head(model._conv_head_padding(model._blocks(seen)))
    return cast(Tensor, model._swish(model._bn1(seen)))


def _average(_: Any, seen: Tensor) -> Tensor:
    return seen.mean(dim=(2, 3))


_DENSE = Family(_make_dense, "class_layers.out", "features.denseblock3", _dense_map, _average)
_RESIDUAL = Family(_make_residual, "fc", "layer3", _residual_map, _average)
_SQUEEZED = Family(_make_squeezed, "last_linear", "layer3", _squeezed_map, _average)
_EFFICIENT = Family(_make_efficient, "_fc", "_blocks.4", _efficient_map, _average)

MONAI_NETWORKS: Mapping[str, Family] = {
    **{f"DenseNet{n}": _DENSE for n in (121, 169, 201, 264)},
    **{f"EfficientNet-B{n}": _EFFICIENT for n in range(9)},
    **{f"ResNet{n}": _RESIDUAL for n in (10, 18, 34, 50, 101, 152, 200)},
    **{f"SEResNet{n}": _SQUEEZED for n in (50, 101, 152)},
    **{f"SEResNext{n}": _SQUEEZED for n in (50, 101)},
    "SENet154": _SQUEEZED,
}
"""The networks of MONAI that classify images; the names are its own, those of EfficientNetBN apart,
which one class builds."""


def _family(name: str) -> Family:
    family = MONAI_NETWORKS.get(name)
    if family is None:
        raise SettingError(
            f"Setting backbone = 'monai:{name}' cannot be used: there is no such network."
            f"{did_you_mean(name, MONAI_NETWORKS)} There are: {', '.join(MONAI_NETWORKS)}."
        )
    return family


def _build_monai(name: str, settings: Settings) -> tuple[Backbone, nn.Module]:
    family = _family(name)
    try:
        from monai.networks import nets
    except ImportError:
        raise MissingExtraError("monai", "monai", "A backbone of MONAI") from None
    model = family.make(nets, name, settings.channels)
    _replace(model, family.classifier, nn.Identity())
    backbone = Backbone(
        model,
        family.to_map,
        entrance=family.entrance,
        step=16,
        input_shape=_input_shape(settings),
    )
    return backbone, Gather(model, family.pool)


def _replace(model: nn.Module, name: str, other: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, other)
