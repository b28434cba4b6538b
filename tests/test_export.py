from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp

from hilum.calibrators import Calibrator, LabelCalibrators
from hilum.errors import ModelError
from hilum.export import (
    Outputs,
    check_agreement,
    check_resizing,
    probabilities_of,
    run_exported,
    run_graph,
    to_graph,
    to_onnx,
)
from hilum.files import write_csv
from hilum.metrics import auroc
from hilum.networks import (
    Classifier,
    Network,
    build_classifier,
    build_network,
    log_probabilities,
    members_of,
)
from hilum.pixels import PixelSpec, ReducedImages, resize
from hilum.readers import Facts, Picture
from hilum.records import read_back
from hilum.settings import Settings
from hilum.studies import describe_study, study_predictions
from hilum.targets import TargetKind

HALVED = Calibrator(method="temperature", slope=0.5)

SIZES = ((24, 32), (50, 50), (31, 77), (200, 90), (1, 1), (900, 7))


def smooth_image(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / (9 + c)) + np.cos(columns / (7 + c)) for c in range(channels)]
    return (255 * (np.stack(waves, axis=-1) + 2) / 4).astype(np.uint8)


def read_array(pixels: NDArray[np.uint8]) -> Picture:
    return Picture(pixels[None], (0.0, 255.0), Facts("array", "L", 8))


def make(resize_mode: str, channels: int, n_classes: int) -> tuple[Network, PixelSpec, bytes]:
    settings = Settings(
        input_height=24,
        input_width=32,
        channels=channels,
        resize=resize_mode,
        conv_channels=(4, 8),
    )
    torch.manual_seed(0)
    network = build_network(settings, n_classes, mean=[90.0] * channels, std=[60.0] * channels)
    network.eval()
    names = [f"class {i}" for i in range(n_classes)]
    data = to_onnx(
        to_graph(network, settings, n_classes), settings.pixel_spec, names, calibrator=HALVED
    )
    return network, settings.pixel_spec, data


def torch_logits(network: Classifier, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    with torch.no_grad():
        logits = network(torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float())
    found: NDArray[np.float32] = logits.numpy()
    return found


def torch_probabilities(network: Network, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    images = torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        return log_probabilities(network(images) / 2).exp().double().numpy()


@pytest.mark.parametrize(
    ("mode", "channels", "n_classes"), [("letterbox", 1, 2), ("stretch", 3, 5), ("crop", 1, 3)]
)
def test_the_graph_resizes_and_decides_as_the_library_does(
    mode: str, channels: int, n_classes: int
) -> None:
    network, spec, data = make(mode, channels, n_classes)
    model = onnx.load_from_string(data)
    probe = onnx.helper.make_tensor_value_info("network_input", onnx.TensorProto.FLOAT, None)
    model.graph.output.append(probe)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for height, width in SIZES:
        image = smooth_image(height, width, channels)
        pair = np.stack([image, 255 - image])
        probs, seen = session.run(["probabilities", "network_input"], {"image": pair})
        ours = np.stack([resize(each, spec) for each in pair])
        assert np.array_equal(seen.transpose(0, 2, 3, 1), ours)
        assert probs == pytest.approx(torch_probabilities(network, ours), abs=1e-5)
        assert probs.sum(axis=1) == pytest.approx(1)


def test_prepared_images_pass_unchanged_in_any_number() -> None:
    network, _, data = make("letterbox", 1, 2)
    for n in (1, 3, 70):
        pixels = np.random.default_rng(n).integers(0, 256, (n, 24, 32, 1), dtype=np.uint8)
        expected = torch_probabilities(network, pixels)
        found = run_exported(data, pixels)
        assert found.probabilities == pytest.approx(expected, abs=1e-5)
        check_agreement(found, torch_logits(network, pixels), HALVED)
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
        with torch.no_grad():
            seen = network.feature_map(images).mean(dim=(2, 3))
        assert found.features == pytest.approx(seen.numpy(), abs=1e-4)


def test_networks_of_an_ensemble_get_their_images_reduced_in_the_graph_as_in_training() -> None:
    torch.manual_seed(0)
    settings = Settings(
        input_height=24, input_width=32, conv_channels=(4, 8), members=3, reductions=(1, 2, 4)
    )
    ensemble = build_classifier(settings, 2).eval()
    graph = to_graph(ensemble, settings, 2)
    pixels = np.random.default_rng(0).integers(0, 256, (7, 24, 32, 1), dtype=np.uint8)
    logits, features = [], []
    for network, factor in members_of(ensemble):
        reduced = ReducedImages(pixels, factor)[:] if factor > 1 else pixels
        with torch.no_grad():
            found = network.examine(torch.from_numpy(reduced.copy()).permute(0, 3, 1, 2).float())
        logits.append(found[0].numpy())
        features.append(found[1].numpy())
    seen = run_graph(graph, pixels)
    assert seen.raw_logits == pytest.approx(np.mean(logits, axis=0), abs=1e-5)
    assert seen.features == pytest.approx(np.concatenate(features, axis=1), abs=1e-4)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_parts_of_a_model_give_what_the_whole_gives(n_classes: int) -> None:
    settings = Settings(input_height=24, input_width=32, conv_channels=(4, 8))
    torch.manual_seed(1)
    network = build_network(settings, n_classes, mean=[90.0], std=[60.0]).eval()
    graph = to_graph(network, settings, n_classes)
    names = [f"class {i}" for i in range(n_classes)]
    data = to_onnx(graph, settings.pixel_spec, names, calibrator=HALVED)
    pixels = np.random.default_rng(0).integers(0, 256, (70, 24, 32, 1), dtype=np.uint8)
    seen, whole = run_graph(graph, pixels), run_exported(data, pixels)
    np.testing.assert_array_equal(seen.raw_logits, whole.raw_logits)
    np.testing.assert_array_equal(seen.features, whole.features)
    np.testing.assert_array_equal(probabilities_of(data, seen.raw_logits), whole.probabilities)


@pytest.mark.parametrize("falling", [False, True])
def test_pooling_goes_before_a_batch_norm_that_rises(
    falling: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(
        network="classic", input_height=24, input_width=32, channels=1, conv_channels=(4, 8)
    )
    torch.manual_seed(0)
    network = build_network(settings, 3, mean=[90.0], std=[60.0]).eval()
    norms = [each for each in network.modules() if isinstance(each, torch.nn.BatchNorm2d)]
    for norm in norms:
        for name, values in norm.state_dict().items():
            if values.ndim:
                low = 0.1 if name in ("weight", "running_var") else -1
                torch.nn.init.uniform_(values, low, 2)
    if falling:
        torch.nn.init.constant_(norms[0].state_dict()["weight"][1:2], -0.5)
    graph = to_graph(network, settings, 3)
    with monkeypatch.context() as patch:
        patch.setattr("hilum.export._pool_before_norm", lambda _: None)
        plain = to_graph(network, settings, 3)

    def order(model: onnx.ModelProto) -> list[str]:
        kinds = ("BatchNormalization", "MaxPool")
        return [node.op_type for node in model.graph.node if node.op_type in kinds]

    assert order(plain) == ["BatchNormalization", "MaxPool"] * 2
    swapped = ["MaxPool", "BatchNormalization"]
    # Where a scale is negative, the greatest value becomes the least: there the order stays.
    assert order(graph) == (order(plain)[:2] if falling else swapped) + swapped
    pixels = np.random.default_rng(0).integers(0, 256, (5, 24, 32, 1), dtype=np.uint8)
    for one, other in zip(run_graph(graph, pixels), run_graph(plain, pixels), strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_disagreement_is_refused() -> None:
    network, _, data = make("letterbox", 1, 2)
    pixels = np.zeros((2, 24, 32, 1), dtype=np.uint8)
    found, logits = run_exported(data, pixels), torch_logits(network, pixels)
    with pytest.raises(ModelError, match=r"differs from the trained one by 0\.0\d* in probability"):
        check_agreement(found, logits + 0.2, HALVED)
    with pytest.raises(ModelError, match="in probability on 2 images"):
        check_agreement(found, logits, Calibrator(method="platt", slope=0.5, intercept=0.1))


def test_what_is_no_number_is_refused() -> None:
    _, _, data = make("letterbox", 1, 2)
    pixels = np.zeros((2, 24, 32, 1), dtype=np.uint8)
    found = run_exported(data, pixels)
    broken = found._replace(probabilities=np.full((2, 2), np.nan))
    with pytest.raises(ModelError, match="by nan in probability on 2 images"):
        check_agreement(broken, found.raw_logits, HALVED)


def test_small_probabilities_that_are_rounded_to_none_are_refused() -> None:
    raw = np.array([[40.0], [50.0]], dtype=np.float32)
    found = Outputs(raw, HALVED.probabilities(raw), np.zeros((2, 1), np.float32))
    check_agreement(found, raw, HALVED)
    rounded = found.probabilities.astype(np.float32).round(6).astype(np.float64)
    with pytest.raises(ModelError, match="in probability on 2 images"):
        check_agreement(found._replace(probabilities=rounded), raw, HALVED)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_what_is_no_number_stays_none(n_classes: int) -> None:
    """Kept from 0 and from 1, it would pass for a probability."""
    _, _, data = make("letterbox", 1, n_classes)
    raw = np.zeros((70, 1 if n_classes == 2 else n_classes), dtype=np.float32)
    raw[::3, 0] = np.nan
    is_whole = np.isfinite(probabilities_of(data, raw)).all(axis=1)
    assert np.array_equal(is_whole, np.isfinite(raw).all(axis=1))


def drawn(n_outputs: int) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Logits of images that another scanner moved to where a sharpened model is sure of all."""
    rng = np.random.default_rng(0)
    y = np.arange(400) % max(2, n_outputs)
    shifted = rng.normal(4, 1.5, (400, n_outputs)) + 2 * (y[:, None] > 0)
    if n_outputs > 2:
        shifted = rng.normal(0, 9, (400, n_outputs)) + 4 * np.eye(n_outputs)[y]
    return shifted.astype(np.float32), y


@pytest.mark.parametrize("kind", ["two", "several classes", "grades", "labels"])
def test_no_ranking_is_lost_from_logits_to_predictions(kind: str, tmp_path: Path) -> None:
    """The steepest temperature once left images with different logits at exactly 1."""
    names = ["a", "b"] if kind == "two" else ["a", "b", "c"]
    raw, y = drawn(1 if kind == "two" else 3)
    steep = Calibrator(method="temperature", slope=4.0)
    calibrator = LabelCalibrators(dict.fromkeys(names, steep)) if kind == "labels" else steep
    target: TargetKind = {"grades": "ordinal", "labels": "multilabel"}.get(kind, "classes")  # type: ignore[assignment]
    settings = Settings(input_height=16, input_width=16, conv_channels=(4,), target=target)
    network = build_network(settings, len(names), mean=[90.0], std=[60.0]).eval()
    graph = to_graph(network, settings, len(names))
    probs = probabilities_of(to_onnx(graph, settings.pixel_spec, names, calibrator=calibrator), raw)
    np.testing.assert_allclose(probs, calibrator.probabilities(raw), rtol=1e-9)

    table = pd.DataFrame({f"p_{name}": probs[:, k] for k, name in enumerate(names)})
    labels = [names[k] for k in y]
    table = table.assign(label=labels, unknown="none", predicted=labels)
    write_csv(tmp_path / "predictions.csv", table)
    read = read_back(tmp_path / "predictions.csv")
    study = study_predictions(
        read,
        names,
        target,
        positive=1 if kind == "two" else None,
        groups=np.arange(len(y)),
        patients_known=False,
    )
    z = 4 * raw.astype(np.float64)
    if kind == "two":
        expected = [auroc(y == 1, z[:, 0])]
    elif kind == "labels":
        expected = [auroc(y == k, z[:, k]) for k in range(3)]
    else:
        odds = [z[:, k] - logsumexp(np.delete(z, k, axis=1), axis=1) for k in range(3)]
        expected = [auroc(y == k, odds[k]) for k in range(3)]
    found = describe_study(study, dict.fromkeys(names, 0.5) if kind == "labels" else 0.5)
    assert found["auroc"]["value"] == pytest.approx(np.mean(expected), abs=1e-12)
    assert found["auroc"]["value"] < 0.95
    if kind == "grades":
        for cut, row in enumerate(found["auroc_by_cut"], start=1):
            above = logsumexp(z[:, cut:], axis=1) - logsumexp(z[:, :cut], axis=1)
            assert row["value"] == pytest.approx(auroc(y >= cut, above), abs=1e-12)


def test_a_steep_calibrator_does_not_turn_the_last_bits_into_a_disagreement() -> None:
    steep = Calibrator(method="isotonic", knots=((0.0, -4.0), (1e-5, 4.0)))
    raw = np.array([[0.0], [1e-5]], dtype=np.float32)
    found = Outputs(raw, steep.probabilities(raw), np.zeros((2, 1), np.float32))
    check_agreement(found, raw + np.float32(5e-6), steep)


def test_a_graph_that_resizes_otherwise_is_refused() -> None:
    _, spec, data = make("letterbox", 1, 2)
    picture = read_array(smooth_image(50, 90, 1))
    check_resizing(data, [picture], spec)
    with pytest.raises(ModelError, match=r"an image of 50×90 pixels .* by \d+ grey levels"):
        check_resizing(data, [picture], spec.model_copy(update={"resize": "crop"}))


def test_the_graph_knows_its_classes_and_nothing_of_this_machine() -> None:
    _, _, data = make("letterbox", 1, 2)
    model = onnx.load_from_string(data)
    properties = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(properties["class_names"]) == ["class 0", "class 1"]
    assert {opset.domain for opset in model.opset_import} == {""}
    assert b"site-packages" not in data
    assert b".py" not in data


FEW = ((-6.0, -4.0), (-1.0, -3.9), (-0.9, 0.5), (2.0, 0.6), (9.0, 5.0))
MANY = tuple((i / 50, i / 60 + (i % 3) / 200) for i in range(-400, 400))


@pytest.mark.parametrize(
    "calibrator",
    [
        Calibrator(),
        Calibrator(method="platt", slope=0.7, intercept=-1.3),
        Calibrator(
            method="isotonic",
            knots=((-6.0, -4.0), (-1.0, -3.9), (-0.9, 0.5), (2.0, 0.6), (9.0, 5.0)),
        ),
        Calibrator(
            method="isotonic",
            knots=tuple((i / 50, i / 60 + (i % 3) / 200) for i in range(-400, 400)),
        ),
    ],
)
def test_every_calibrator_is_in_the_graph(calibrator: Calibrator) -> None:
    settings = Settings(input_height=16, input_width=16, conv_channels=(4,))
    torch.manual_seed(0)
    network = build_network(settings, 2, mean=[90.0], std=[20.0]).eval()
    with torch.no_grad():
        for parameter in network.head.parameters():
            parameter.mul_(20)
    data = to_onnx(
        to_graph(network, settings, 2),
        settings.pixel_spec,
        ["a", "b"],
        calibrator=calibrator,
    )
    pixels = np.random.default_rng(0).integers(0, 256, (40, 1, 1, 1), dtype=np.uint8)
    pixels = np.broadcast_to(pixels, (40, 16, 16, 1)).copy()
    with torch.no_grad():
        raw = network(torch.from_numpy(pixels).permute(0, 3, 1, 2).float()).numpy()
    assert raw.max() - raw.min() > 5
    found = run_exported(data, pixels)
    assert found.probabilities == pytest.approx(calibrator.probabilities(raw), abs=1e-5)
    check_agreement(found, raw, calibrator)


def test_the_graph_gives_each_label_a_probability_of_its_own() -> None:
    settings = Settings(target="multilabel", input_height=16, input_width=16, conv_channels=(4, 8))
    torch.manual_seed(0)
    network = build_network(settings, 3, mean=[90.0], std=[60.0]).eval()
    calibrators = LabelCalibrators(
        {
            "a": Calibrator(method="platt", slope=0.5, intercept=0.1),
            "b": Calibrator(method="isotonic", knots=((-1.0, -2.0), (0.0, 0.5), (1.0, 0.6))),
            "c": Calibrator(),
        }
    )
    data = to_onnx(
        to_graph(network, settings, 3),
        settings.pixel_spec,
        ["a", "b", "c"],
        calibrator=calibrators,
    )
    pixels = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 1), dtype=np.uint8)
    found, raw = run_exported(data, pixels), torch_logits(network, pixels)
    check_agreement(found, raw, calibrators)
    for k, calibrator in enumerate(calibrators.parts.values()):
        expected = 1 / (1 + np.exp(-calibrator.logits(raw[:, k])))
        np.testing.assert_allclose(found.probabilities[:, k], expected, atol=1e-5)
    told = onnx.load_from_string(data).metadata_props
    assert {p.key: p.value for p in told}["probabilities"] == "of each label by itself"
    with pytest.raises(ModelError, match="differs from the trained one"):
        check_agreement(found, raw, LabelCalibrators(dict.fromkeys("abc", Calibrator())))


def test_a_second_network_of_the_same_settings_is_not_traced_again_and_has_its_own_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = Settings(
        input_height=24, input_width=32, conv_channels=(4, 8), members=2, reductions=(1, 2)
    )
    torch.manual_seed(0)
    one, other = (build_classifier(settings, 3).eval() for _ in range(2))
    for norm in (each for each in other.modules() if isinstance(each, torch.nn.BatchNorm2d)):
        torch.nn.init.uniform_(norm.running_mean, -1, 1)  # type: ignore[arg-type]
        torch.nn.init.uniform_(norm.weight, 0.5, 2)
    for member in members_of(other):
        torch.nn.init.constant_(member.network.normalise.get_buffer("mean"), 70.0)
    before = torch.get_rng_state()
    graphs = [to_graph(one, settings, 3)]
    with monkeypatch.context() as patch:
        patch.setattr("torch.onnx.export", None)
        graphs.append(to_graph(other, settings, 3))
    graphs.append(to_graph(one, settings, 3))
    assert torch.equal(torch.get_rng_state(), before)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 24, 32, 1), dtype=np.uint8)
    seen = [run_graph(graph, pixels).raw_logits for graph in graphs]
    for network, found in zip((one, other, one), seen, strict=True):
        assert found == pytest.approx(torch_logits(network, pixels), abs=1e-5)
    assert np.abs(seen[0] - seen[1]).max() > 0.01
