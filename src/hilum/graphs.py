"""Resizing, calibration and probabilities as ONNX graphs, step by step as Python computes them.

What stands here follows `pixels.resize`, `calibrators.Calibrator` and `calibration` to the last
grey level and the smallest probability; the network comes between the two.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import onnx

from hilum.calibration import LEAST_PROBABILITY, NEAR_ONE
from hilum.calibrators import Calibrator, LabelCalibrators
from hilum.pixels import PixelSpec

OPSET = 20
IR_VERSION = 10

WEIGHT_BITS = 22
"""Pillow's weights are whole numbers of which this many bits count what comes after the point."""


def preparing(spec: PixelSpec) -> onnx.ModelProto:
    """Make a graph of `pixels.resize`: `image` → `network_input`.

    (n, h, w, c) uint8 → (n, c, height, width) float; prepared images pass as they are.
    """
    return onnx.parser.parse_model(_prepare_text(spec))


def deciding(n_classes: int, calibrator: Calibrator | LabelCalibrators) -> onnx.ModelProto:
    """Make a graph of calibration: `raw_logits_in` → `logits` and `probabilities`.

    Parameters
    ----------
    n_classes : int
        Or labels, each of which gets a probability of its own.
    """
    return onnx.parser.parse_model(
        _decide_labels_text(list(calibrator.parts.values()))
        if isinstance(calibrator, LabelCalibrators)
        else _decide_text(n_classes, calibrator)
    )


def _prepare_text(spec: PixelSpec) -> str:
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
