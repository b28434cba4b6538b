"""Network → one ONNX graph that holds resizing, normalisation, calibration and probabilities.

The graph takes uint8 images of shape (n, h, w, c) of any size and returns `logits` (calibrated),
`probabilities` (double precision), and `features`: the spatial mean of the last feature map. Its
resizing follows `pixels.resize` step by step; where `prepare` has made the images already, it
changes nothing.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hilum.calibration import LEAST_PROBABILITY, NEAR_ONE
from hilum.calibrators import Calibrator, LabelCalibrators
from hilum.errors import ModelError
from hilum.inference import BATCH_SIZE
from hilum.model import describe_graph
from hilum.networks import NETWORK_SETTINGS, Classifier, build_classifier
from hilum.pixels import Images, PixelSpec, prepare, to_8_bits, to_channels, value_range
from hilum.readers import Picture
from hilum.settings import Settings

OPSET = 20
IR_VERSION = 10

# Largest difference of a probability between PyTorch and ONNX Runtime; both compute logits in
# float32.
TOLERANCE = 1e-4

# In grey levels of 255. There is no difference where Pillow's weights are those of `_RESAMPLE`; a
# build of it that rounds them to fewer bits is as good.
RESIZING_TOLERANCE = 1


def to_graph(network: Classifier, settings: Settings, n_classes: int) -> onnx.ModelProto:
    """Export a network behind the resizing of its images, up to its raw logits and features.

    Parameters
    ----------
    network : Network or Ensemble
        What `build_classifier` makes of the settings, on the CPU.
    """
    before = onnx.parser.parse_model(_prepare_text(settings.pixel_spec))
    core = _core(network, settings, n_classes)
    return onnx.compose.merge_models(before, core, io_map=[("network_input", "images")])


def to_onnx(
    graph: onnx.ModelProto,
    spec: PixelSpec,
    class_names: Sequence[str],
    *,
    calibrator: Calibrator | LabelCalibrators,
) -> bytes:
    """Make the whole model: what `to_graph` gave, then calibration and probabilities.

    Parameters
    ----------
    calibrator : Calibrator or LabelCalibrators
        Becomes part of the graph; of several labels each gets a probability of its own.

    Returns
    -------
    bytes
        The serialised model. Class names and preprocessing are in its metadata.
    """
    after = onnx.parser.parse_model(
        _decide_labels_text(list(calibrator.parts.values()))
        if isinstance(calibrator, LabelCalibrators)
        else _decide_text(len(class_names), calibrator)
    )
    merged = onnx.compose.merge_models(
        graph,
        after,
        io_map=[("raw_logits", "raw_logits_in")],
        outputs=["logits", "probabilities", "features"],
    )
    merged.producer_name = "hilum"
    several = isinstance(calibrator, LabelCalibrators)
    onnx.helper.set_model_props(merged, describe_graph(class_names, spec, several=several))
    onnx.checker.check_model(merged, full_check=True)
    return bytes(merged.SerializeToString())


class Seen(NamedTuple):
    """What the exported network gives for n images.

    Attributes
    ----------
    raw_logits : float array of shape (n, n_outputs)
        Before calibration.
    features : float array of shape (n, n_features)
    """

    raw_logits: NDArray[np.float32]
    features: NDArray[np.float32]


class Outputs(NamedTuple):
    """What an exported model gives for n images.

    Attributes
    ----------
    raw_logits : float array of shape (n, n_outputs)
        Before calibration; not among the model's own outputs.
    probabilities : float array of shape (n, n_classes)
    features : float array of shape (n, n_features)
    """

    raw_logits: NDArray[np.float32]
    probabilities: NDArray[np.float64]
    features: NDArray[np.float32]


def run_graph(graph: onnx.ModelProto, pixels: Images) -> Seen:
    """Run what `to_graph` exported over prepared images, as many at once as a prediction takes."""
    return Seen(*_run(_session(graph), Seen._fields, pixels))


def run_exported(onnx_bytes: bytes, pixels: Images) -> Outputs:
    """Run a whole exported model over prepared images."""
    session = _opened(onnx_bytes, "raw_logits")
    raw, probs, features = _run(session, Outputs._fields, pixels)
    return Outputs(raw, probs.astype(np.float64), features)


def predictor(onnx_bytes: bytes) -> Callable[[Images], NDArray[np.float64]]:
    """Return what gives the probabilities of a whole exported model for prepared images."""
    session = _session(onnx.load_from_string(onnx_bytes))

    def predict(pixels: Images) -> NDArray[np.float64]:
        (probs,) = _run(session, ["probabilities"], pixels)
        return probs.astype(np.float64)

    return predict


def decide(onnx_bytes: bytes, raw_logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Turn raw logits into probabilities by the part of a whole model that follows them."""
    extractor = onnx.utils.Extractor(onnx.load_from_string(onnx_bytes))
    session = _session(extractor.extract_model(["raw_logits"], ["probabilities"]))
    (probs,) = session.run(["probabilities"], {"raw_logits": raw_logits})
    return np.asarray(probs, dtype=np.float64)


def _run(
    session: onnxruntime.InferenceSession, names: Sequence[str], pixels: Images
) -> list[NDArray[np.float32]]:
    """Run a session batch by batch and return what it gives under these names."""
    parts = [
        session.run(list(names), {"image": np.ascontiguousarray(pixels[i : i + BATCH_SIZE])})
        for i in range(0, len(pixels), BATCH_SIZE)
    ]
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def _opened(onnx_bytes: bytes, inner: str) -> onnxruntime.InferenceSession:
    """Open a model with one of its inner results among its outputs."""
    model = onnx.load_from_string(onnx_bytes)
    shown = onnx.helper.make_tensor_value_info(inner, onnx.TensorProto.FLOAT, None)
    model.graph.output.append(shown)
    return _session(model)


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def check_agreement(
    found: Outputs, logits: NDArray[np.floating], calibrator: Calibrator | LabelCalibrators
) -> None:
    """Compare what an exported model gives for real images with what PyTorch gives.

    The network is compared before calibration, and calibration on the logits that it was given:
    a steep calibrator would blow up differences in the last bits of a logit. What follows the
    logits is in double precision on both sides, and must agree in small probabilities too.

    Parameters
    ----------
    logits : float array of shape (n, n_outputs)
        By PyTorch.

    Raises
    ------
    ModelError
        If a probability differs by more than the tolerance, or is no number.
    """
    plain: Calibrator | LabelCalibrators = Calibrator()
    if isinstance(calibrator, LabelCalibrators):
        plain = LabelCalibrators(dict.fromkeys(calibrator.parts, Calibrator()))
    trained = plain.probabilities(found.raw_logits) - plain.probabilities(logits)
    # As a share: a graph that rounds small probabilities to 0 would leave images without an order.
    calibrated = found.probabilities / calibrator.probabilities(found.raw_logits) - 1
    # By NumPy: Python's `max` passes over NaN.
    difference = float(np.max([np.abs(trained).max(), np.abs(calibrated).max()]))
    if not difference <= TOLERANCE:
        raise ModelError(
            f"The exported model differs from the trained one by {difference:.2g} in probability "
            f"on {len(logits)} images (at most {TOLERANCE:g} is allowed), so it was not written. "
            "Please report this."
        )


def check_resizing(onnx_bytes: bytes, pictures: Sequence[Picture], spec: PixelSpec) -> None:
    """Send whole pictures through an exported model, and compare what its network is given.

    Raises
    ------
    ModelError
        If the graph's resizing differs from the pixel path's by more than one grey level.
    """
    session = _opened(onnx_bytes, "network_input")
    for picture in pictures:
        low, high = value_range(picture, spec.ranges)
        image = to_channels(to_8_bits(picture.pixels[0], low, high), spec.channels)[None]
        seen = session.run(["network_input"], {"image": image})[0].transpose(0, 2, 3, 1)
        difference = float(np.abs(seen - prepare(picture, spec)[:1]).max())
        if not difference <= RESIZING_TOLERANCE:
            raise ModelError(
                f"The exported model resizes an image of {image.shape[1]}×{image.shape[2]} pixels "
                f"otherwise than training did: by {difference:.0f} grey levels. It was not "
                "written. Please report this."
            )


class _WithFeatures(nn.Module):
    """A network that returns what its last feature map holds on average beside its logits."""

    def __init__(self, network: Classifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.examine(images)


def _core(network: Classifier, settings: Settings, n_classes: int) -> onnx.ModelProto:
    """Give what is traced once for all networks of these settings the weights of this one."""
    described = settings.model_dump_json(include=set(NETWORK_SETTINGS))
    with _quiet():
        traced = _traced(described, n_classes)
        program = torch.onnx.ONNXProgram(traced.model.clone(), traced.exported_program)
        # By name. One that had none would keep a random value: `check_agreement` would tell.
        program.apply_weights(_WithFeatures(network).state_dict())
        program.optimize()
    core = program.model_proto
    _pool_before_norm(core.graph)
    # Notes of the exporter, with paths of this machine among them, are of no use in a model.
    del core.metadata_props[:]
    del core.graph.metadata_props[:]
    for node in core.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*core.graph.value_info, *core.graph.input, *core.graph.output):
        del value.metadata_props[:]
    for initializer in core.graph.initializer:
        del initializer.metadata_props[:]
    core.ir_version = IR_VERSION
    return core


@lru_cache(maxsize=1)  # the folds of a cross-validation have one network; to trace it takes seconds
def _traced(described: str, n_classes: int) -> torch.onnx.ONNXProgram:
    """Trace a network of such settings, in JSON, as a graph that is not simplified yet."""
    settings = Settings.model_validate_json(described)
    with torch.random.fork_rng():
        network = _WithFeatures(build_classifier(settings, n_classes)).eval()
    program = torch.onnx.export(
        network,
        (torch.zeros(2, settings.channels, settings.input_height, settings.input_width),),
        dynamo=True,
        optimize=False,
        opset_version=OPSET,
        input_names=["images"],
        output_names=["raw_logits", "features"],
        dynamic_shapes={"images": {0: torch.export.Dim("n")}},
        verbose=False,
    )
    assert program is not None
    return program


def _pool_before_norm(graph: onnx.GraphProto) -> None:
    """Let max-pooling go before a batch norm that nothing else reads, where scales are positive.

    The norm then sweeps over a quarter of the values. It is the same function: a line that rises
    sends the greatest value to the greatest. Where ONNX Runtime rounds by where a value stands, as
    it does for few channels, the last bit may differ.
    """
    weights = {each.name: each for each in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    n_readers = Counter(name for node in graph.node for name in node.input)
    shown = {output.name for output in graph.output}
    for pool in graph.node:
        norm = makers.get(pool.input[0]) if pool.op_type == "MaxPool" else None
        if norm is None or norm.op_type != "BatchNormalization" or n_readers[pool.input[0]] > 1:
            continue
        if norm.output[0] in shown or norm.input[1] not in weights:
            continue
        if not (onnx.numpy_helper.to_array(weights[norm.input[1]]) > 0).all():
            continue
        first, second = onnx.NodeProto(), onnx.NodeProto()
        first.CopyFrom(pool)
        second.CopyFrom(norm)
        first.input[0], second.output[0] = norm.input[0], pool.output[0]
        second.input[0] = first.output[0] = norm.output[0]
        # Nodes stand in an order in which they can be computed.
        norm.CopyFrom(first)
        pool.CopyFrom(second)
        for value in [each for each in graph.value_info if each.name == second.input[0]]:
            graph.value_info.remove(value)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks on packages that are not needed here off the terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _prepare_text(spec: PixelSpec) -> str:
    """Write `pixels.resize` as a graph: (n, h, w, c) uint8 → (n, c, height, width) float."""
    steps = {"stretch": _STRETCH, "letterbox": _LETTERBOX, "crop": _CROP}[spec.resize]
    return f"""
    <ir_version: {IR_VERSION}, opset_import: ["" : {OPSET}]>
    prepare (uint8[n, h, w, {spec.channels}] image)
        => (float[n, {spec.channels}, {spec.height}, {spec.width}] network_input)
        <{_constants(spec)}>
    {{
        channels_first = Transpose <perm = [0, 3, 1, 2]> (image)
        whole_size = Shape <start = 1, end = 3> (image)
        same_sides = Equal (whole_size, target)
        as_numbers = Cast <to = 7> (same_sides)
        fewest = ReduceMin <keepdims = 0> (as_numbers)
        is_prepared = Cast <to = 9> (fewest)
        fitted = If (is_prepared) <
            then_branch = as_it_is () => (float[n1, c1, h1, w1] kept) {{
                kept = Cast <to = 1> (channels_first)
            }},
            else_branch = resized () => (float[n2, c2, h2, w2] made) {{
                double_size = Cast <to = 11> (whole_size)
                double_target = Cast <to = 11> (target)
                {steps}
                made = Cast <to = 1> (placed)
            }}
        >
        network_input = Reshape (fitted, output_shape)
    }}
    """


def _constants(spec: PixelSpec) -> str:
    """Declare what the steps of this kind of resizing use, and nothing else."""
    whole = "double[2] nowhere = {0.0, 0.0},"
    kept = "int64[2] one = {1, 1}, int64[2] two = {2, 2},"
    letterbox = f"{whole} {kept} int64[2] zeros = {{0, 0}},"
    only = {"stretch": whole, "letterbox": letterbox, "crop": kept}[spec.resize]
    return f"""
        {only}
        int64[2] target = {{{spec.height}, {spec.width}}},
        int64[4] output_shape = {{0, {spec.channels}, {spec.height}, {spec.width}}},
        int64 axis_0 = {{0}}, int64 axis_1 = {{1}}, int64[1] in_row = {{1}},
        double double_zero = {{0.0}}, double double_one = {{1.0}}, double double_half = {{0.5}},
        double white = {{255.0}}, double weight_one = {{{2.0**WEIGHT_BITS}}}"""


WEIGHT_BITS = 22
"""Pillow's weights are whole numbers of which this many bits count what comes after the point."""


def _weights_text(axis: str, place: str) -> str:
    """Write the weights by which Pillow's triangle filter resizes along an axis, (n_out, n_in).

    Of `begins`, `ends` (of the box, float32 as Pillow holds it), `double_size` and `inner`, which
    give the two axes. Sums of these whole numbers are exact in double precision.
    """
    return f"""
        {axis}_n_in = Gather (whole_size, {place})
        {axis}_n_out = Gather (inner, {place})
        {axis}_begin32 = Gather (begins, {place})
        {axis}_end32 = Gather (ends, {place})
        {axis}_span32 = Sub ({axis}_end32, {axis}_begin32)
        {axis}_span = Cast <to = 11> ({axis}_span32)
        {axis}_begin = Cast <to = 11> ({axis}_begin32)
        {axis}_out = Cast <to = 11> ({axis}_n_out)
        {axis}_scale = Div ({axis}_span, {axis}_out)
        {axis}_reach = Max ({axis}_scale, double_one)
        {axis}_narrow = Div (double_one, {axis}_reach)
        {axis}_columns = Range (axis_0, {axis}_n_in, axis_1)
        {axis}_pixels = Cast <to = 11> ({axis}_columns)
        {axis}_rows = Range (axis_0, {axis}_n_out, axis_1)
        {axis}_row_numbers = Cast <to = 11> ({axis}_rows)
        {axis}_row_middles = Add ({axis}_row_numbers, double_half)
        {axis}_from_begin = Mul ({axis}_row_middles, {axis}_scale)
        {axis}_flat_centres = Add ({axis}_begin, {axis}_from_begin)
        {axis}_centres = Unsqueeze ({axis}_flat_centres, in_row)
        {axis}_apart = Sub ({axis}_pixels, {axis}_centres)
        {axis}_middles_apart = Add ({axis}_apart, double_half)
        {axis}_scaled_apart = Mul ({axis}_middles_apart, {axis}_narrow)
        {axis}_distances = Abs ({axis}_scaled_apart)
        {axis}_slopes = Sub (double_one, {axis}_distances)
        {axis}_triangles = Max ({axis}_slopes, double_zero)
        {axis}_sums = ReduceSum <keepdims = 1> ({axis}_triangles, in_row)
        {axis}_shares = Div ({axis}_triangles, {axis}_sums)
        {axis}_fine = Mul ({axis}_shares, weight_one)
        {axis}_risen = Add ({axis}_fine, double_half)
        {axis}_weights = Floor ({axis}_risen)
    """


def _rounded_text(before: str, after: str) -> str:
    """Write how Pillow turns weighted sums into grey levels, after each of its two passes."""
    return f"""
        {after}_shares = Div ({before}, weight_one)
        {after}_risen = Add ({after}_shares, double_half)
        {after}_whole = Floor ({after}_risen)
        {after} = Min ({after}_whole, white)
    """


_RESAMPLE = (
    _weights_text("vertical", "axis_0")
    + _weights_text("horizontal", "axis_1")
    + """
        double_image = Cast <to = 11> (channels_first)
        horizontal_columns_out = Transpose <perm = [1, 0]> (horizontal_weights)
        across_sums = MatMul (double_image, horizontal_columns_out)
    """
    + _rounded_text("across_sums", "across")
    + "down_sums = MatMul (vertical_weights, across)"
    + _rounded_text("down_sums", "resampled")
)

_WHOLE_BOX = """
        begins = Cast <to = 1> (nowhere)
        ends = Cast <to = 1> (double_size)
"""

# In double precision, as Python computes it, so that both round to the same size.
_INNER = """
        scales = Div (double_target, double_size)
        scale = REDUCE <keepdims = 1> (scales)
        scaled = Mul (double_size, scale)
        rounded = Round (scaled)
        rounded_whole = Cast <to = 7> (rounded)
        fitting = Max (rounded_whole, one)
"""

_STRETCH = "inner = Identity (target)" + _WHOLE_BOX + _RESAMPLE + "placed = Identity (resampled)"

_LETTERBOX = (
    _INNER.replace("REDUCE", "ReduceMin")
    + "inner = Identity (fitting)"
    + _WHOLE_BOX
    + _RESAMPLE
    + """
        room = Sub (target, inner)
        before = Div (room, two)
        after = Sub (room, before)
        pads = Concat <axis = 0> (zeros, before, zeros, after)
        placed = Pad <mode = "edge"> (resampled, pads)
"""
)

_CROP = (
    _INNER.replace("REDUCE", "ReduceMax")
    + """
        inner = Identity (target)
        double_fitting = Cast <to = 11> (fitting)
        steps = Div (double_size, double_fitting)
        excess = Sub (fitting, target)
        cut = Div (excess, two)
        double_cut = Cast <to = 11> (cut)
        double_begins = Mul (double_cut, steps)
        double_spans = Mul (double_target, steps)
        reached = Add (double_begins, double_spans)
        double_ends = Min (reached, double_size)
        begins = Cast <to = 1> (double_begins)
        ends = Cast <to = 1> (double_ends)
"""
    + _RESAMPLE
    + "placed = Identity (resampled)"
)


def _decide_text(n_classes: int, calibrator: Calibrator) -> str:
    """Write calibration and probabilities as a graph."""
    n_outputs = 1 if n_classes == 2 else n_classes
    constants, steps = _calibrate_text(calibrator)
    constants = f"{constants}, {_CERTAINTY}"
    if n_classes > 2:
        constants = f"{constants}, {_AMONG_CLASSES}"
    return f"""
    <ir_version: {IR_VERSION}, opset_import: ["" : {OPSET}]>
    decide (float[n, {n_outputs}] raw_logits_in)
        => (float[n, {n_outputs}] logits, double[n, {n_classes}] probabilities)
        <{constants}>
    {{
        {steps}
        logits = Cast <to = 1> (calibrated)
        {_SIGMOIDS_OF_TWO if n_classes == 2 else _SOFTMAX}
    }}
    """


def _decide_labels_text(calibrators: Sequence[Calibrator]) -> str:
    """Write the calibration of each label's logits, and its probability, as a graph."""
    n = len(calibrators)
    parts = [_calibrate_text(calibrator) for calibrator in calibrators]
    constants = ", ".join(_numbered(text, k) for k, (text, _) in enumerate(parts))
    steps = "\n".join(_numbered(text, k) for k, (_, text) in enumerate(parts))
    columns = ", ".join(_numbered("raw_logits_in", k) for k in range(n))
    calibrated = ", ".join(_numbered("calibrated", k) for k in range(n))
    return f"""
    <ir_version: {IR_VERSION}, opset_import: ["" : {OPSET}]>
    decide (float[n, {n}] raw_logits_in)
        => (float[n, {n}] logits, double[n, {n}] probabilities)
        <{constants}, {_CERTAINTY}>
    {{
        {columns} = Split <axis = 1, num_outputs = {n}> (raw_logits_in)
        {steps}
        log_odds = Concat <axis = 1> ({calibrated})
        logits = Cast <to = 1> (log_odds)
        {_SIGMOIDS}
    }}
    """


# What follows is `calibration.class_probabilities` and `calibration.sigmoid`, in double precision
# too. ONNX Runtime's own Sigmoid takes small probabilities off 1, so that they round to 0.
_CERTAINTY = f"""
        double near_one = {{{NEAR_ONE!r}}}, double least = {{{LEAST_PROBABILITY!r}}},
        double certain = {{1.0}}, double impossible = {{0.0}}"""

_AMONG_CLASSES = "double even = {0.5}, int64[1] across_classes = {1}"

_BELOW_ONE = """
        small_rest = Min (rest, near_one)
        times_smaller = Div (near_one, small_rest)
        log_times = Log (times_smaller)
        fall = Add (log_times, certain)
        kept_apart = Div (near_one, fall)
        is_room = Greater (rest, near_one)
        missing = Where (is_room, rest, kept_apart)
        from_one = Sub (certain, missing)
"""

_SIGMOIDS = (
    """
        size = Abs (log_odds)
        minus_size = Neg (size)
        odds = Exp (minus_size)
        both_odds = Add (odds, certain)
        share = Div (odds, both_odds)
        rest = Max (share, least)
    """
    + _BELOW_ONE
    + """
        is_likely = Greater (log_odds, impossible)
        probabilities = Where (is_likely, from_one, rest)
    """
)

_SIGMOIDS_OF_TWO = (
    """
        minus = Neg (calibrated)
        log_odds = Concat <axis = 1> (minus, calibrated)
    """
    + _SIGMOIDS
)

_SOFTMAX = (
    """
        exact_shares = Softmax <axis = 1> (calibrated)
        shares = Max (exact_shares, least)
        is_top = Greater (shares, even)
        of_others = Where (is_top, impossible, shares)
        rest = ReduceSum <keepdims = 1> (of_others, across_classes)
    """
    + _BELOW_ONE
    + """
        is_near = Less (rest, near_one)
        is_moved = And (is_top, is_near)
        probabilities = Where (is_moved, from_one, shares)
    """
)


_NAMES = re.compile(
    r"\b(raw_logits_in|slope|intercept|sharpened|places|amounts|tail_slope|at_zero|raw_double|"
    r"beyond|positive_part|bent|sloped|based|calibrated)\b"
)


def _numbered(text: str, number: int) -> str:
    """Give what belongs to one label names of its own."""
    return _NAMES.sub(rf"\1_{number}", text)


def _calibrate_text(calibrator: Calibrator) -> tuple[str, str]:
    """Write `Calibrator.logits` as constants and steps.

    In double precision: logits of a network must not fall together by being sharpened, and where
    steep and flat parts of a curve cancel, single would leave their rounding.
    """
    if calibrator.method != "isotonic":
        added = np.atleast_1d(calibrator.added).tolist()
        each = ", ".join(map(repr, added))
        return (
            f"double slope = {{{calibrator.slope!r}}}, double[{len(added)}] intercept = {{{each}}}",
            """raw_double = Cast <to = 11> (raw_logits_in)
        sharpened = Mul (raw_double, slope)
        calibrated = Add (sharpened, intercept)""",
        )
    n = len(calibrator.knots)
    bends = calibrator.bends
    first, level = calibrator.knots[0]
    places = ", ".join(repr(at) for at, _ in bends)
    amounts = ", ".join(repr(bend) for _, bend in bends)
    return (
        f"""double[{n}] places = {{{places}}}, double[{n}, 1] amounts = {{{amounts}}},
        double tail_slope = {{{calibrator.tail_slope!r}}},
        double at_zero = {{{level - calibrator.tail_slope * first!r}}}""",
        """raw_double = Cast <to = 11> (raw_logits_in)
        beyond = Sub (raw_double, places)
        positive_part = Relu (beyond)
        bent = MatMul (positive_part, amounts)
        sloped = Mul (raw_double, tail_slope)
        based = Add (sloped, at_zero)
        calibrated = Add (based, bent)""",
    )
