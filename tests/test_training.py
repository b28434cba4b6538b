from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

import hilum.training
from hilum.batches import Samples
from hilum.errors import RunError, SettingError
from hilum.networks import build_network, members_of
from hilum.progress import LogProgress
from hilum.settings import Settings
from hilum.targets import TargetKind
from hilum.training import (
    Trained,
    average,
    constants_of,
    make_scheduler,
    n_watched,
    network_logits,
    pixel_statistics,
    train_network,
    watched,
)

# Two threads for arrays this small only wait for each other.
torch.set_num_threads(1)

CPU = torch.device("cpu")

SETTINGS = Settings(
    input_height=16, input_width=16, conv_channels=(4, 8), epochs=4, batch_size=8,
    learning_rate=1e-2, rotation=5, noise=0.02, dense_units=(8,), dropout_dense=0.1,
    weight_averaging=0.8, accelerator="cpu", precision="float32", stem_stride=1,
)  # fmt: skip


def blobs(n: int, n_classes: int = 2, seed: int = 0) -> Samples:
    """Noise with a bright square whose corner is the class."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 120, (n, 16, 16, 1), dtype=np.uint8)
    labels = np.arange(n) % n_classes
    for image, label in zip(pixels, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[8 * row + 1 : 8 * row + 7, 8 * column + 1 : 8 * column + 7] += 120
    return Samples(pixels, labels)


def fit(folder: Path, settings: Settings = SETTINGS, n_classes: int = 2) -> Trained:
    names = [str(k) for k in range(n_classes)]
    train, val = blobs(40, n_classes), blobs(24, n_classes, seed=1)
    return train_network(train, val, settings, names, folder, LogProgress())


def weights_of(trained: Trained) -> dict[str, torch.Tensor]:
    return trained.network.state_dict()


def assert_identical(first: Trained, second: Trained) -> None:
    for name, value in weights_of(first).items():
        assert torch.equal(value, weights_of(second)[name]), name
    timeless = ["epoch", "train_loss", "val_loss", "val_auroc", "learning_rate"]
    pd.testing.assert_frame_equal(first.history[timeless], second.history[timeless])


def test_the_loss_falls_and_the_task_is_learnt(tmp_path: Path) -> None:
    trained = fit(tmp_path, SETTINGS.model_copy(update={"epochs": 20}))
    losses = trained.history["train_loss"]
    assert losses.iloc[-1] < 0.7 * losses.iloc[0]
    assert trained.history["val_auroc"].max() > 0.9
    assert trained.best_epochs[0] == 1 + int(np.argmax(trained.history["val_auroc"]))


def test_history_is_written_in_full(tmp_path: Path) -> None:
    trained = fit(tmp_path)
    written = pd.read_csv(tmp_path / "history.csv")
    pd.testing.assert_frame_equal(written, trained.history, check_dtype=False)
    assert list(written["epoch"]) == [1, 2, 3, 4]


def test_the_same_seed_gives_identical_weights_and_another_others(tmp_path: Path) -> None:
    first, second = fit(tmp_path / "a"), fit(tmp_path / "b")
    assert_identical(first, second)
    other = fit(tmp_path / "c", SETTINGS.model_copy(update={"seed": 1}))
    assert not torch.equal(weights_of(first)["head.1.weight"], weights_of(other)["head.1.weight"])


class KilledError(Exception):
    """Stands for the power cut."""


def kill_after(monkeypatch: pytest.MonkeyPatch, n_epochs: int, *, inside: str) -> None:
    """Make `inside` fail the next time it is called after `n_epochs` calls."""
    original: Callable[..., Any] = getattr(hilum.training, inside)
    calls = iter(range(10_000))

    def fail(*args: Any, **kwargs: Any) -> Any:
        if next(calls) >= n_epochs:
            raise KilledError
        return original(*args, **kwargs)

    monkeypatch.setattr(hilum.training, inside, fail)


@pytest.mark.parametrize("schedule", ["one_cycle", "plateau", "cosine", "constant"])
@pytest.mark.parametrize("inside", ["validate", "save_checkpoint"])
def test_a_killed_training_ends_as_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: str, inside: str
) -> None:
    settings = SETTINGS.model_copy(update={"schedule": schedule, "plateau_patience": 0})
    whole = fit(tmp_path / "whole", settings)
    with monkeypatch.context() as patch:
        kill_after(patch, 2, inside=inside)
        with pytest.raises(KilledError):
            fit(tmp_path / "killed", settings)
    assert_identical(whole, fit(tmp_path / "killed", settings))


def test_an_ensemble_averages_networks_that_were_trained_apart(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"members": 3})
    trained, alone = fit(tmp_path / "three", settings), fit(tmp_path / "one")
    members = [member.network for member in members_of(trained.network)]
    assert len(members) == len(trained.best_epochs) == 3
    # The first is the network that would have been trained alone, the others are not.
    for name, value in alone.network.state_dict().items():
        assert torch.equal(value, members[0].state_dict()[name]), name
    first, second = (member.state_dict()["head.1.weight"] for member in members[:2])
    assert not torch.equal(first, second)
    pixels = blobs(5, 2, seed=2).pixels
    each = [network_logits(member, pixels) for member in members]
    np.testing.assert_allclose(network_logits(trained.network, pixels), np.mean(each, 0), atol=1e-6)
    assert list(trained.history["member"]) == [1] * 4 + [2] * 4 + [3] * 4
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "three" / "history.csv"), trained.history, check_dtype=False
    )


def test_networks_of_an_ensemble_learn_from_images_reduced_in_turn(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"members": 3, "reductions": (1, 2)})
    trained, alone = fit(tmp_path / "three", settings), fit(tmp_path / "one")
    assert [member.reduction for member in members_of(trained.network)] == [1, 2, 1]
    first, second, third = (member.network for member in members_of(trained.network))
    for name, value in alone.network.state_dict().items():
        assert torch.equal(value, first.state_dict()[name]), name
    pixels = np.asarray(blobs(5, 2, seed=2).pixels)
    each = [
        network_logits(network, images)
        for network, images in ((first, pixels), (second, halved(pixels)), (third, pixels))
    ]
    np.testing.assert_allclose(network_logits(trained.network, pixels), np.mean(each, 0), atol=1e-6)


def halved(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average 2 × 2 pixels, one square after another."""
    n, height, width, channels = pixels.shape
    found = np.empty((n, height // 2, width // 2, channels), dtype=np.uint8)
    for place in np.ndindex(*found.shape):
        i, row, column, channel = place
        square = pixels[i, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2, channel]
        found[place] = round(float(square.mean()))  # to even, as everywhere
    return found


def test_an_ensemble_killed_in_its_second_member_ends_as_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SETTINGS.model_copy(update={"members": 2, "reductions": (1, 2)})
    whole = fit(tmp_path / "whole", settings)
    with monkeypatch.context() as patch:
        kill_after(patch, SETTINGS.epochs + 2, inside="validate")
        with pytest.raises(KilledError):
            fit(tmp_path / "killed", settings)
    assert_identical(whole, fit(tmp_path / "killed", settings))


def test_the_last_weights_are_kept_where_none_are_to_be_chosen(tmp_path: Path) -> None:
    trained = fit(tmp_path, SETTINGS.model_copy(update={"keep": "last"}))
    assert trained.best_epochs == (SETTINGS.epochs,)
    last = torch.load(tmp_path / "checkpoints" / "last.pt", weights_only=True)["averaged"]
    for name, value in weights_of(trained).items():
        assert torch.equal(value, last[name]), name


def test_killed_between_best_and_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit(tmp_path / "whole")
    with monkeypatch.context() as patch:
        kill_after(patch, 5, inside="write_bytes")
        with pytest.raises(KilledError):
            fit(tmp_path / "killed")
    assert_identical(whole, fit(tmp_path / "killed"))


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (Path.unlink, "is missing, and with it the weights that were kept."),
        (lambda path: path.write_bytes(b""), "cannot be read (EOFError)."),
    ],
)
def test_weights_that_are_lost_are_told(
    tmp_path: Path, damage: Callable[[Path], Any], text: str
) -> None:
    fit(tmp_path)
    checkpoints = tmp_path / "checkpoints"
    damage(checkpoints / "best.pt")
    with pytest.raises(RunError) as caught:
        fit(tmp_path)
    assert str(caught.value) == (
        f"{checkpoints / 'best.pt'} {text} Delete {checkpoints} and resume: training starts again, "
        "with the same data and plan."
    )


def test_a_finished_training_is_taken_up_without_another_epoch(tmp_path: Path) -> None:
    first = fit(tmp_path)
    assert_identical(first, fit(tmp_path))


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_every_optimizer_and_loss_learns_several_classes(
    tmp_path: Path, optimizer: str, loss: str
) -> None:
    rate = {"sgd": 0.2, "rmsprop": 2e-3}.get(optimizer, 1e-2)
    settings = SETTINGS.model_copy(
        update={
            "optimizer": optimizer, "loss": loss, "learning_rate": rate, "epochs": 20,
            "gradient_clip": 1.0, "class_weights": "balanced", "weight_averaging": None,
            "network": "classic",  # a residual one begins near a saddle, which SGD is slow to leave
        }
    )  # fmt: skip
    history = fit(tmp_path, settings, n_classes=4).history
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    assert history["val_auroc"].max() > 0.7


def test_early_stopping_ends_after_epochs_without_improvement(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(
        update={"epochs": 50, "early_stopping": 2, "learning_rate": 1e-9, "monitor": "val_loss",
                "schedule": "constant", "weight_averaging": None, "batch_norm": False,
                "network": "classic"}
    )  # fmt: skip
    trained = fit(tmp_path, settings)
    assert len(trained.history) == trained.best_epochs[0] + 2 < 50


def test_early_stopping_holds_where_the_last_weights_are_kept(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(
        update={"epochs": 50, "early_stopping": 2, "learning_rate": 1e-9, "monitor": "val_loss",
                "schedule": "constant", "weight_averaging": None, "batch_norm": False,
                "network": "classic", "keep": "last"}
    )  # fmt: skip
    trained = fit(tmp_path, settings)
    best = int(trained.history["val_loss"].argmin()) + 1
    assert trained.best_epochs == (len(trained.history),) == (best + 2,)
    assert best < 48


def test_plateau_lowers_the_learning_rate(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(
        update={"schedule": "plateau", "plateau_patience": 0, "plateau_factor": 0.1, "epochs": 8}
    )
    rates = fit(tmp_path, settings).history["learning_rate"]
    assert rates.iloc[-1] < rates.iloc[0]


@pytest.mark.parametrize("score", [-0.5, 0.0, 0.5])
def test_plateau_fires_on_a_score_that_does_not_move(score: float) -> None:
    """Also on a negative one, as the validation loss is when higher is better."""
    settings = SETTINGS.model_copy(update={"schedule": "plateau", "plateau_patience": 2})
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make_scheduler(optimizer, settings, n_steps=1)
    assert isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
    for _ in range(4):
        scheduler.step(score)
    assert optimizer.param_groups[0]["lr"] == settings.plateau_factor


@pytest.mark.parametrize("gradient_clip", [None, 1e30])
def test_a_loss_that_is_not_finite_is_told(tmp_path: Path, gradient_clip: float | None) -> None:
    settings = SETTINGS.model_copy(
        update={"learning_rate": 10.0, "optimizer": "sgd", "schedule": "constant", "epochs": 30,
                "network": "classic", "batch_norm": False, "momentum": 0.99,
                "gradient_clip": gradient_clip}
    )  # fmt: skip
    with pytest.raises(RunError, match="The loss is no longer finite in epoch"):
        fit(tmp_path, settings)


# -- an epoch that is a share of the images ------------------------------------------------------


@pytest.mark.parametrize("n_steps", [5, 99])
def test_as_many_steps_as_there_are_change_nothing(tmp_path: Path, n_steps: int) -> None:
    settings = SETTINGS.model_copy(update={"steps_per_epoch": n_steps})
    assert_identical(fit(tmp_path / "a"), fit(tmp_path / "b", settings))


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
def test_the_schedule_ends_with_the_steps_that_are_made(tmp_path: Path, schedule: str) -> None:
    """Held against twelve steps of PyTorch's own schedule."""
    changes = {"steps_per_epoch": 2, "epochs": 6, "schedule": schedule}
    rates = fit(tmp_path, SETTINGS.model_copy(update=changes)).history["learning_rate"]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=SETTINGS.learning_rate)
    expected = (
        OneCycleLR(optimizer, SETTINGS.learning_rate, total_steps=12, cycle_momentum=False)
        if schedule == "one_cycle"
        else CosineAnnealingLR(optimizer, 12)
    )
    for step in range(12):
        optimizer.step()
        expected.step()
        if step % 2:
            assert rates[step // 2] == pytest.approx(expected.get_last_lr()[0])


def test_a_killed_training_of_few_steps_ends_as_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 images are five steps, so that the third epoch of two goes on into another lap."""
    settings = SETTINGS.model_copy(update={"steps_per_epoch": 2, "members": 2})
    whole = fit(tmp_path / "whole", settings)
    for n_epochs in (2, 6):
        with monkeypatch.context() as patch:
            kill_after(patch, n_epochs, inside="validate")
            with pytest.raises(KilledError):
                fit(tmp_path / f"{n_epochs}", settings)
        assert_identical(whole, fit(tmp_path / f"{n_epochs}", settings))


@pytest.mark.parametrize(
    ("n_val", "n_steps", "n"),
    [(5000, None, 5000), (5000, 100, 5000), (5000, 50, 2500), (5000, 1, 1000), (900, 1, 900)],
)
def test_of_validation_images_the_share_of_an_epoch_is_watched(
    n_val: int, n_steps: int | None, n: int
) -> None:
    settings = SETTINGS.model_copy(update={"steps_per_epoch": n_steps})
    assert n_watched(803, n_val, settings) == n  # 100 steps of 8


@pytest.mark.parametrize("kind", ["classes", "multilabel"])
def test_watched_images_hold_every_class_in_its_share(kind: str) -> None:
    labels = np.array([0] * 4000 + [1] * 995 + [2] * 5)
    if kind == "multilabel":
        labels = np.array([(0, 0), (1, 0), (1, np.nan)], np.float32)[labels]
    pixels = np.arange(5000).astype(np.uint8)[:, None, None, None].repeat(16, 1).repeat(16, 2)
    val = Samples(pixels, labels, tuple(map(str, range(5000))))
    settings = SETTINGS.model_copy(update={"steps_per_epoch": 30})
    found, again = (watched(val, settings, 800) for _ in range(2))
    counts = np.unique(np.nan_to_num(found.labels, nan=9), axis=0, return_counts=True)[1]
    assert counts.tolist() == [1200, 299, 2]
    assert found.groups == again.groups
    assert found.groups is not None
    rows = np.array(found.groups, dtype=int)
    np.testing.assert_array_equal(found.labels, labels[rows])
    np.testing.assert_array_equal(found.pixels[:, 0, 0, 0], rows.astype(np.uint8))
    other = watched(val, settings.model_copy(update={"seed": 1}), 800)
    assert other.groups != found.groups


@pytest.mark.parametrize(("side", "most"), [(64, 64), (128, 64), (256, 16), (512, 4), (2048, 1)])
def test_large_images_go_through_a_network_few_at_once(side: int, most: int) -> None:
    """As many as fill the memory of 64 of 128×128 pixels."""
    taken: list[int] = []

    class Count(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            taken.append(len(images))
            return images[:, :, 0, 0] * self.weight

    n = most + 1
    pixels = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, side, side, 1))
    assert network_logits(Count(), pixels)[:, 0].tolist() == list(range(n))
    assert taken == [most, 1]


def test_average_moves_towards_new_weights() -> None:
    settings = SETTINGS.model_copy(update={"weight_averaging": 0.9})
    averaged, network = (build_network(SETTINGS, 2) for _ in range(2))
    old = averaged.head[-1].weight.clone()  # type: ignore[operator]
    new = network.head[-1].weight.clone()  # type: ignore[operator]
    average(averaged, network, settings, step=10_000)
    torch.testing.assert_close(averaged.head[-1].weight, 0.9 * old + 0.1 * new)


def test_pixels_are_not_counted_where_each_image_is_standardised() -> None:
    def count() -> tuple[list[float], list[float]]:
        return [7.0], [3.0]

    at_random = SETTINGS.model_copy(update={"normalisation": "dataset"})
    assert constants_of(at_random, count) == ([7.0], [3.0])
    by_image = SETTINGS.model_copy(update={"normalisation": "image"})
    assert constants_of(by_image, count) == (None, None)


def test_pixel_statistics_are_by_channel() -> None:
    pixels = np.zeros((5, 4, 4, 3), dtype=np.uint8)
    pixels[..., 1] = 100
    pixels[:, :2, :, 2] = 200
    mean, std = pixel_statistics(pixels)
    assert mean == [0, 100, 100]
    assert std == [1.0, 1.0, 100.0]  # never 0, by which would be divided


@pytest.mark.parametrize(
    ("target", "said"), [("ordinal", " AUROC by cut 0.900"), ("classes", " AUROC 0.900")]
)
def test_an_epoch_says_which_auroc_it_means(target: TargetKind, said: str) -> None:
    row = {"train_loss": 0.5, "val_loss": 0.6, "val_auroc": 0.9, "val_balanced_accuracy": 0.8}
    state = hilum.training.State(epoch=1, history=[row | {"images_per_s": 10.0}])
    assert said in hilum.training._epoch_line(state, Settings(target=target))


def test_that_validation_has_one_class_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="hilum")
    val = blobs(24, seed=1)
    alike = Samples(val.pixels[::2], val.labels[::2])
    names = ["cat", "dog"]
    with pytest.raises(SettingError) as refused:
        train_network(blobs(40), alike, SETTINGS, names, tmp_path, LogProgress())
    assert str(refused.value) == (
        "The AUROC on validation stays unknown (nan): all 12 validation images are cat. No epoch "
        "can be chosen by it: set monitor=val_loss."
    )
    by_loss = SETTINGS.model_copy(update={"monitor": "val_loss"})
    trained = train_network(blobs(40), alike, by_loss, names, tmp_path, LogProgress())
    told = [text for text in caplog.messages if "AUROC on validation stays unknown" in text]
    assert len(told) == 1
    assert "all 12 validation images are cat" in told[0]
    assert trained.history["val_auroc"].isna().all()
    assert trained.history["val_loss"].notna().all()
