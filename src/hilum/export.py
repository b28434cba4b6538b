"""Network → one ONNX graph that holds resizing, normalisation, calibration and probabilities.

The graph takes uint8 images of shape (n, h, w, c) of any size and returns `logits` (calibrated),
`probabilities` (double precision), and `features`: the spatial mean of the last feature map. Its
resizing follows `pixels.resize` step by step; where `prepare` has made the images already, it
changes nothing.
"""

from __future__ import annotations

import logging
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

from hilum.calibrators import Calibrator, LabelCalibrators
from hilum.errors import ModelError
from hilum.graphs import IR_VERSION, OPSET, deciding, preparing
from hilum.inference import BATCH_SIZE
from hilum.model import describe_graph
from hilum.networks import NETWORK_SETTINGS, Classifier, build_classifier
from hilum.pixels import Images, PixelSpec, prepare, to_8_bits, to_channels, value_range
from hilum.readers import Picture
from hilum.settings import Settings

# Largest difference of a probability between PyTorch and ONNX Runtime; both compute logits in
# float32.
TOLERANCE = 1e-4

# In grey levels of 255. There is no difference where Pillow's weights are those of `graphs`; a
# build of it that rounds them to fewer bits is as good.
RESIZING_TOLERANCE = 1


def to_graph(network: Classifier, settings: Settings, n_classes: int) -> onnx.ModelProto:
    """Export a network behind the resizing of its images, up to its raw logits and features.

    Parameters
    ----------
    network : Network or Ensemble
        What `build_classifier` makes of the settings, on the CPU.
    """
    core = _core(network, settings, n_classes)
    return onnx.compose.merge_models(
        preparing(settings.pixel_spec), core, io_map=[("network_input", "images")]
    )


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
    merged = onnx.compose.merge_models(
        graph,
        deciding(len(class_names), calibrator),
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


def probabilities_of(onnx_bytes: bytes, raw_logits: NDArray[np.float32]) -> NDArray[np.float64]:
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
