"""Every setting of a run in one frozen object: names, types, ranges and units.

Recipes, plans and ``--set`` speak these names and no others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hilum.errors import SettingError, did_you_mean
from hilum.operating_points import parse_rule
from hilum.pixels import PixelSpec, Resize
from hilum.targets import TargetKind

MAX_CHANNELS = 8192

WRITTEN = {
    "backbone": "it must be a library and a network of it, such as timm:resnet18 or monai:ResNet18",
    "weights_sha256": "it must be 64 digits and letters from a to f",
}
"""What is said in place of a pattern."""

OUR_WORDS = {
    "Input should be": "it must be",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
}
"""Words of the library that checks values, and what is said in their place."""

OF_ANOTHER_KIND = {
    "int": "it must be a whole number",
    "float": "it must be a number",
    "bool": "it must be true or false",
    "tuple": "it must be a list, such as [a, b]",
    "dict": "it must map names to values, such as {a: b}",
    "string": "it must be text",
}
"""What is said of a value of another kind, by the beginning of the fault's name."""

OF_ANOTHER_LENGTH = {
    "too_short": "a list of {min_length} or more is needed",
    "too_long": "a list of {max_length} at most is possible",
    "missing": "a value is missing",
}

DEFAULT_REASON = "The default"
"""How the reason begins of a setting that nothing in the data speaks for or against."""

INPUT = "network input, pixels; where one side alone is set, the other is as long"

SIDES_OF_INPUT = ("input_height", "input_width")

Kind = Literal["backbone", "network"]


class Turn(NamedTuple):
    """What a network of an ensemble is, and the factor by which it gets its images reduced."""

    kind: Kind
    reduction: int


MONITORS_LOWER_IS_BETTER = ("val_loss",)

MOST_NETWORKS = 20
"""Of an ensemble."""


class Settings(BaseModel):
    """Settings of one run. None switches a thing off."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # Target
    target: TargetKind = Field(
        "classes", description="one class an image, several labels, or grades in order"
    )

    # Pixels
    input_height: int = Field(128, ge=8, le=2048, description=INPUT)
    input_width: int = Field(128, ge=8, le=2048, description=INPUT)
    channels: Literal[1, 3] = Field(1, description="1 grey, 3 RGB")
    resize: Resize = Field("letterbox", description="how images get to the input size")
    ranges: dict[str, tuple[float, float]] = Field(
        default_factory=dict, description="(black, white) by pixel type, in place of the file's"
    )

    # Network
    normalisation: Literal["dataset", "image"] = Field(
        "dataset",
        description="mean and deviation taken off: the training images', or each its own; hilum: "
        "backbones take off constants",
    )
    network: Literal["classic", "residual"] = Field("residual", description="kind of CNN")
    conv_channels: tuple[int, ...] = Field(
        (32, 64, 128, 256), min_length=1, max_length=32, description="channels of each block"
    )
    kernel_size: Literal[1, 3, 5, 7] = Field(3, description="pixels, classic networks")
    padding: Literal["valid", "same"] = Field("same", description="classic networks")
    activation: Literal["relu", "leaky_relu", "elu", "gelu", "silu"] = "relu"
    batch_norm: bool = Field(True, description="after the activation in classic networks")
    pool: Literal["max", "average"] = Field("max", description="2×2, closes each classic block")
    dropout_conv: float = Field(0.0, ge=0, lt=1, description="share, after each classic block")
    dense_units: tuple[int, ...] = Field(
        (), max_length=32, description="hidden dense layers before the output"
    )
    dropout_dense: float = Field(0.0, ge=0, lt=1, description="share, before each dense layer")
    blocks_per_stage: int = Field(1, ge=1, le=8, description="residual networks")
    stem_stride: Literal[1, 2] = Field(
        2, description="residual networks; 1 keeps the resolution of the input, 2 halves it"
    )

    # A network that can begin with weights
    backbone: str | None = Field(
        None,
        pattern=r"^(hilum|timm|monai):[A-Za-z0-9_\-]+(\.[A-Za-z0-9_\-]+)?$",
        description="hilum:NAME, timm:NAME or monai:NAME, in place of the network above",
    )
    weights: str | None = Field(
        None,
        description="what the backbone begins with: 'imagenet' for what is installed with Hilum, a "
        "file, or 'hub' to fetch timm's",
    )
    weights_sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="of the file of weights; any other is refused"
    )
    frozen_epochs: int = Field(
        0, ge=0, le=10_000, description="epochs at first in which the head alone learns"
    )
    frozen_stages: int = Field(
        0, ge=0, le=7, description="first stages of a backbone of Hilum's that never learn"
    )
    frozen_norms: bool = Field(
        False,
        description="batch norm of a backbone keeps the statistics of its weights",
    )
    backbone_rate: float = Field(
        1.0, gt=0, le=1, description="the backbone's learning rate, share of the head's"
    )
    random_rate: float = Field(
        1.0,
        gt=0,
        le=10,
        description="times the learning rate, for networks that begin at random beside a backbone",
    )
    probe: bool = Field(
        False, description="fit a linear model on the features of a backbone that does not learn"
    )
    probe_passes: int = Field(
        0, ge=0, le=20, description="augmented copies of each image to fit it on as well"
    )

    # Training
    epochs: int = Field(20, ge=1, le=10_000)
    steps_per_epoch: int | None = Field(
        None,
        ge=1,
        description="steps of an epoch at most, which then sees other images than those before it "
        "until all were seen; all images by default",
    )
    batch_size: int = Field(32, ge=2, le=4096, description="images")
    optimizer: Literal["adam", "adamw", "sgd", "rmsprop"] = "adamw"
    learning_rate: float = Field(1e-3, gt=0, le=10)
    weight_decay: float = Field(0.0, ge=0, le=1)
    momentum: float = Field(0.9, ge=0, lt=1, description="sgd and rmsprop")
    schedule: Literal["constant", "plateau", "one_cycle", "cosine"] = "one_cycle"
    plateau_patience: int = Field(3, ge=0, description="epochs")
    plateau_factor: float = Field(0.2, gt=0, lt=1)
    loss: Literal["cross_entropy", "binary_cross_entropy"] = "cross_entropy"
    class_weights: Literal["none", "root", "balanced"] = "none"
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    gradient_clip: float | None = Field(None, gt=0, description="largest norm of the gradient")
    mixup: float = Field(
        0.0, ge=0, le=10, description="shape of the beta distribution that images are blended by"
    )
    members: int = Field(
        1, ge=1, le=MOST_NETWORKS, description="networks trained apart, whose logits are averaged"
    )
    reductions: tuple[Literal[1, 2, 4, 8], ...] = Field(
        (1,),
        min_length=1,
        max_length=MOST_NETWORKS,
        description="by how much these networks get their images reduced, in turn; 1 at first",
    )
    kinds: tuple[Kind, ...] = Field(
        ("backbone",),
        min_length=1,
        max_length=MOST_NETWORKS,
        description="what these networks are where there is a backbone, in turn: that, or the CNN "
        "described by `network`; the backbone at first",
    )
    weight_averaging: float | None = Field(
        None, gt=0, lt=1, description="decay of the moving average of the weights, a step"
    )
    early_stopping: int | None = Field(None, ge=1, description="epochs without improvement")
    keep: Literal["best", "last"] = Field(
        "best", description="weights kept: of the best epoch by `monitor`, or of the last one"
    )
    monitor: Literal["val_loss", "val_auroc", "val_balanced_accuracy"] = Field(
        "val_auroc", description="chooses the best epoch, stops early, lowers the learning rate"
    )

    # Augmentation; each is drawn anew for every image and epoch, low_resolution for every batch
    augmented_share: float = Field(
        1.0, gt=0, le=1, description="share of the images that each kind of change is made to"
    )
    rotation: float = Field(0.0, ge=0, le=180, description="degrees, either way")
    zoom: float = Field(0.0, ge=0, lt=1, description="share, in or out")
    shift: float = Field(0.0, ge=0, lt=1, description="share of the side, either way")
    stretch: float = Field(0.0, ge=0, lt=1, description="share, one axis against the other")
    shear: float = Field(0.0, ge=0, le=45, description="degrees, either way")
    flip_horizontal: bool = False
    flip_vertical: bool = False
    flip_diagonal: bool = Field(False, description="rows and columns exchanged; square inputs")
    brightness: float = Field(0.0, ge=0, lt=1, description="share of the range, either way")
    contrast: float = Field(0.0, ge=0, lt=1, description="share, either way")
    gamma: float = Field(
        0.0, ge=0, lt=1, description="exponent, log-uniform from 1 - this to 1 / (1 - this)"
    )
    bias_field: float = Field(
        0.0, ge=0, le=1, description="standard deviation of a smooth field's logarithm"
    )
    noise: float = Field(0.0, ge=0, lt=1, description="largest standard deviation, of the range")
    blur: float = Field(0.0, ge=0, le=5, description="largest sigma, pixels")
    low_resolution: float = Field(0.0, ge=0, lt=1, description="largest loss of resolution, share")
    erasing: float = Field(0.0, ge=0, lt=1, description="largest side of a patch erased, share")

    # Decision
    calibration: Literal["auto", "temperature", "platt", "isotonic", "none"] = Field(
        "auto", description="platt, isotonic: two classes; auto: as cross-validation prefers"
    )
    operating_point: str = Field(
        "youden",
        description="rule that sets the threshold: youden, robust, sensitivity:0.95, "
        "specificity:0.9, cost:5:1 or fixed:0.5",
    )
    pooling: Literal["auto", "mean_logits", "mean_probability", "maximum"] = Field(
        "auto", description="how the images of a patient become one score; auto: by the labels"
    )
    set_coverage: float | None = Field(
        0.95, ge=0.5, lt=1, description="share of prediction sets to hold the true class"
    )
    refer_uncertain: float | None = Field(
        0.05, gt=0, le=0.5, description="share of images to refer for low confidence, at most"
    )
    refer_unlike: float | None = Field(
        0.02, gt=0, le=0.5, description="share of honest images to refer as unlike, at most"
    )

    # Splits
    val_share: float = Field(0.15, gt=0, lt=0.5, description="of the samples outside test")
    test_share: float = Field(
        0.2, gt=0, lt=0.8, description="of all samples, or those apart from validation"
    )

    # Machine
    seed: int = Field(0, ge=0, le=2**31)
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of a training step; auto: the fastest, timed"
    )
    layout: Literal["auto", "channels_last", "contiguous"] = Field(
        "auto", description="of images in memory; auto: the fastest, timed"
    )
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name in ("conv_channels", "dense_units"):
            for number in getattr(self, name):
                if not 1 <= number <= MAX_CHANNELS:
                    raise ValueError(f"{name} holds {number}; 1 to {MAX_CHANNELS} is possible")
        if self.backbone is None and self.weights is not None:
            raise ValueError("weights belong to a backbone, and none is set")
        if self.backbone is None and self.random_rate != 1:
            raise ValueError("random_rate is for networks beside a backbone, and none is set")
        if self.weights is None and self.weights_sha256 is not None:
            raise ValueError("weights_sha256 belongs to weights, and none are set")
        held = ("probe", "frozen_epochs", "frozen_stages", "frozen_norms")
        for name in held if self.weights is None else ():
            if getattr(self, name):
                raise ValueError(
                    f"{name} holds a backbone still, which makes sense only with weights"
                )
        if self.frozen_stages and not self.is_own:
            raise ValueError("frozen_stages are known of Hilum's own backbones alone")
        if self.probe and self.dense_units:
            raise ValueError("probe fits one linear layer, so dense_units must be empty")
        if self.probe and self.steps_per_epoch is not None:
            raise ValueError("probe goes over all images once, so leave steps_per_epoch")
        if self.probe and self.members > 1:
            raise ValueError("probe fits one model, since each would be the same: leave members 1")
        if self.reductions[0] != 1:
            raise ValueError("reductions must begin with 1: the first network gets images whole")
        if self.kinds[0] != "backbone":
            raise ValueError("kinds must begin with backbone: the first network is the backbone")
        if self.backbone is not None and not self.is_own and self.reductions != (1,):
            raise ValueError("such a backbone has an input of one size, so leave reductions [1]")
        for factor in self.reductions:
            if self.input_height % factor or self.input_width % factor:
                raise ValueError(
                    f"reductions holds {factor}, which does not divide the input of "
                    f"{self.input_height}×{self.input_width} pixels"
                )
        if self.flip_diagonal and self.input_height != self.input_width:
            raise ValueError(
                f"flip_diagonal needs a square input, and this is {self.input_height}×"
                f"{self.input_width}"
            )
        for dtype, (black, white) in self.ranges.items():
            if black >= white:
                raise ValueError(
                    f"ranges of {dtype} is ({black:g}, {white:g}); black must be below white"
                )
        return self

    @property
    def is_own(self) -> bool:
        """Whether the network is one of Hilum's, which can be built for an input of any size."""
        return self.backbone is None or self.backbone.startswith("hilum:")

    def turn(self, number: int) -> Turn:
        """Return what a network of the ensemble, from 1, is, and how its images are reduced."""
        kind = self.kinds[(number - 1) % len(self.kinds)]
        reduction = self.reductions[(number - 1) % len(self.reductions)]
        return Turn("network" if self.backbone is None else kind, reduction)

    def turns(self, members: int | None = None) -> list[Turn]:
        """Return the turns of so many networks, all of the ensemble by default."""
        return [self.turn(number) for number in range(1, (members or self.members) + 1)]

    def of(self, turn: Turn) -> Self:
        """Return what one network of the ensemble is built from and learns by."""
        changes: dict[str, Any] = {"members": 1, "reductions": (1,), "kinds": ("backbone",)}
        changes |= {"random_rate": 1.0}
        if turn.kind == "network":
            changes |= {"learning_rate": self.random_rate * self.learning_rate}
            changes |= dict.fromkeys(("backbone", "weights", "weights_sha256"))
            changes |= {"frozen_epochs": 0, "frozen_stages": 0, "frozen_norms": False}
            changes |= {"backbone_rate": 1.0}
        return self.model_copy(update=changes)._reduced(turn.reduction)

    def _reduced(self, factor: int) -> Self:
        """Fit a single network to reduced images.

        What few pixels are left it works on as they are: where the whole images meet a stem that
        halves them, it has a stage at full resolution more, of half as many channels.
        """
        if factor == 1:
            return self
        changes: dict[str, Any] = {
            "input_height": self.input_height // factor,
            "input_width": self.input_width // factor,
            "blur": self.blur / factor,
        }
        if self.backbone is None and self.network == "residual" and self.stem_stride == 2:
            channels = (max(1, self.conv_channels[0] // 2), *self.conv_channels)
            changes |= {"stem_stride": 1, "conv_channels": channels}
        return self.model_copy(update=changes)

    def n_steps(self, n_images: int) -> int:
        """Return the steps of an epoch, where there are so many images."""
        whole = self.steps_of_all(n_images)
        return min(whole, self.steps_per_epoch or whole)

    def steps_of_all(self, n_images: int) -> int:
        """Return the steps in which so many images are seen once; a smaller last batch is left."""
        return n_images // self.batch_size or 1

    def n_seen(self, n_images: int) -> int:
        """Return how many of so many images an epoch sees; it leaves out a last, smaller batch."""
        return self.n_steps(n_images) * min(self.batch_size, n_images)

    @property
    def trimmed(self) -> int:
        """How many rows and columns a convolution of a classic network takes off."""
        return self.kernel_size - 1 if self.padding == "valid" else 0

    @property
    def pixel_spec(self) -> PixelSpec:
        return PixelSpec(
            height=self.input_height,
            width=self.input_width,
            channels=self.channels,
            resize=self.resize,
            ranges=self.ranges,
        )


def make_settings(values: Mapping[str, Any]) -> Settings:
    """Check values and make settings of them.

    Raises
    ------
    SettingError
        For the first unknown name or impossible value, with what would be possible.
    """
    for name in values:
        if name not in Settings.model_fields:
            raise SettingError(
                f"Unknown setting '{name}'.{did_you_mean(name, Settings.model_fields)} "
                "See all settings with: hilum settings"
            )
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise SettingError(_explain(error)) from None
    _check_rule(settings.operating_point)
    return settings


def some_settings(values: Mapping[str, Any], *names: str) -> Settings:
    """Make settings of the values of these names, where there are any; the rest by default."""
    return make_settings({name: values[name] for name in names if name in values})


def default_reason(name: str) -> str:
    """Return the reason of a setting that is left at its default: what it means."""
    about = Settings.model_fields[name].description
    return f"{DEFAULT_REASON}; {about}." if about else f"{DEFAULT_REASON}."


def with_both_sides(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Make an input square of which the user has set one side alone."""
    said = [chosen[name] for name in SIDES_OF_INPUT if name in chosen]
    return dict.fromkeys(SIDES_OF_INPUT, said[0]) | dict(chosen) if said else dict(chosen)


def _check_rule(rule: str) -> None:
    """Parse the rule, so that a slip is told before training."""
    try:
        parse_rule(rule)
    except SettingError as error:
        raise SettingError(f"Setting operating_point = '{rule}' cannot be used: {error}") from None


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """Read ``key=value`` pairs; values are YAML, so ``1e-6``, ``[32, 64]`` and ``null`` work.

    Raises
    ------
    SettingError
        If a pair has no '=', or the value is not YAML.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise SettingError(f"--set {assignment} has no '='. Write it as --set name=value.")
        name = name.strip().replace("-", "_")
        values[name] = _value(name, text.strip(), assignment)
    return values


def _value(name: str, text: str, assignment: str) -> Any:
    if text.lower() == "none":
        field = Settings.model_fields.get(name)
        is_optional = field is not None and type(None) in get_args(field.annotation)
        return None if is_optional else "none"
    # YAML takes 1e-6 for a word: its floats need a point.
    if re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", text):
        return float(text)
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise SettingError(f"--set {assignment}: '{text}' is not a value.") from None


def _explain(error: ValidationError) -> str:
    fault = error.errors()[0]
    name = str(fault["loc"][0]) if fault["loc"] else ""
    problem = fault["msg"].removeprefix("Value error, ")
    for theirs, ours in OUR_WORDS.items():
        problem = problem.replace(theirs, ours)
    is_optional = bool(name) and type(None) in get_args(Settings.model_fields[name].annotation)
    kind, _, what = fault["type"].partition("_")
    if fault["type"] == "string_pattern_mismatch":
        problem = WRITTEN[name]
    elif kind in OF_ANOTHER_KIND and what in ("parsing", "type", "from_float"):
        problem = OF_ANOTHER_KIND[kind] + (", or null" if is_optional else "")
    elif fault["type"] in OF_ANOTHER_LENGTH:
        problem = OF_ANOTHER_LENGTH[fault["type"]].format(**fault.get("ctx", {}))
    problem = problem[:1].lower() + problem[1:]
    if not name:
        return f"The settings do not fit together: {problem}."
    hint = Settings.model_fields[name].description
    about = f" ({hint})" if hint else ""
    near = ""
    if fault["type"] == "literal_error":
        choices = map(str, get_args(Settings.model_fields[name].annotation))
        near = did_you_mean(str(fault["input"]), choices)
    value = repr(fault["input"])
    if len(fault["loc"]) > 1:  # one item of a list
        return f"Setting {name} cannot hold {value}: {problem}{about}.{near}"
    return f"Setting {name} = {value} cannot be used: {problem}{about}.{near}"
