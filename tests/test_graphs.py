"""Graphs against the functions that they follow; tests of whole models are in test_export."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from hilum.calibrators import Calibrator, LabelCalibrators
from hilum.graphs import deciding, preparing
from hilum.pixels import PixelSpec, Resize, resize

CURVE = Calibrator(method="isotonic", knots=((-6.0, -4.0), (-0.9, 0.5), (2.0, 0.6), (9.0, 5.0)))
LINE = Calibrator(method="platt", slope=0.7, intercept=-1.3)
WEIGHTED = Calibrator(method="temperature", slope=0.7, priors=(-0.1, -2.5, -6.0))


def run(
    graph: onnx.ModelProto, inputs: dict[str, NDArray[np.generic]]
) -> list[NDArray[np.float64]]:
    onnx.checker.check_model(graph, full_check=True)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    return [np.asarray(each) for each in session.run(None, inputs)]


@pytest.mark.parametrize(
    ("n_classes", "calibrator"),
    [
        *((2, each) for each in (Calibrator(), LINE, CURVE)),
        *((3, each) for each in (Calibrator(), WEIGHTED)),
        (2, LabelCalibrators({"a": LINE, "b": CURVE})),
    ],
)
def test_logits_are_calibrated_as_by_python(
    n_classes: int, calibrator: Calibrator | LabelCalibrators
) -> None:
    n_outputs = 1 if n_classes == 2 and isinstance(calibrator, Calibrator) else n_classes
    raw = (np.random.default_rng(0).normal(size=(60, n_outputs)) * 20).astype(np.float32)
    logits, probs = run(deciding(n_classes, calibrator), {"raw_logits_in": raw})
    np.testing.assert_allclose(logits, calibrator.logits(raw), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(probs, calibrator.probabilities(raw), rtol=1e-9)


@pytest.mark.parametrize("how", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("size", [(24, 32), (31, 77), (200, 90), (1, 1)])
def test_images_are_resized_as_by_pillow(how: Resize, size: tuple[int, int]) -> None:
    spec = PixelSpec(height=24, width=32, channels=3, resize=how)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    (found,) = run(preparing(spec), {"image": image[None]})
    np.testing.assert_array_equal(found[0].transpose(1, 2, 0), resize(image, spec))
