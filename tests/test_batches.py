from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from hilum.batches import Samples, Source, batches, make_source, mixed
from hilum.settings import Settings

CPU = torch.device("cpu")

SETTINGS = Settings(input_height=16, input_width=16, batch_size=8, rotation=5, noise=0.02)


def test_mixup_blends_images_and_their_losses_alike() -> None:
    generator = torch.Generator().manual_seed(3)
    images = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 1, 2, 2) * 10
    batch = mixed(images, torch.arange(6), Settings(mixup=0.5), generator)
    assert 0 < batch.share < 1
    for row in range(6):
        blended = batch.share * batch.labels[row] + (1 - batch.share) * batch.others[row]
        np.testing.assert_allclose(batch.images[row].numpy(), 10 * float(blended), rtol=1e-5)
    logits = torch.randn(6, 6, generator=generator)
    loss = batch.loss(functional.cross_entropy, logits)
    both = [functional.cross_entropy(logits, y) for y in (batch.labels, batch.others)]
    assert float(loss) == pytest.approx(
        float(batch.share * both[0] + (1 - batch.share) * both[1]), rel=1e-6
    )


def test_without_mixup_images_stay_as_they_are() -> None:
    images, labels = torch.rand(4, 1, 2, 2), torch.arange(4)
    batch = mixed(images, labels, Settings(), torch.Generator())
    assert batch.images is images
    assert batch.share == 1


def test_samples_copied_to_the_device_give_the_same_batches() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (20, 16, 12, 1), dtype=np.uint8)
    mapped = make_source(Samples(pixels, rng.integers(0, 2, 20)), CPU)
    copied = Source(torch.from_numpy(pixels), mapped.labels, mapped.device)
    both = (batches(source, SETTINGS, 1, 3) for source in (mapped, copied))
    for one, other in zip(*both, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


def test_batches_hold_each_sample_at_most_once_an_epoch_in_a_new_order() -> None:
    plain = SETTINGS.model_copy(update={"rotation": 0.0, "noise": 0.0, "batch_size": 7})
    pixels = np.arange(30, dtype=np.uint8)[:, None, None, None].repeat(16, 1).repeat(16, 2)
    source = make_source(Samples(pixels, np.arange(30)), CPU)
    epochs = [
        torch.cat([batch.labels for batch in batches(source, plain, 1, epoch)]) for epoch in (0, 1)
    ]
    for labels in epochs:
        assert len(labels) == 28
        assert len(set(labels.tolist())) == 28
    assert not torch.equal(*epochs)
    for batch in batches(source, plain, 1, 0):
        assert torch.equal(batch.images[:, 0, 0, 0].long(), batch.labels)


def numbered(n: int) -> Source:
    """Images whose label is their number."""
    return make_source(Samples(np.zeros((n, 16, 16, 1), np.uint8), np.arange(n)), CPU)


def shown(n: int, settings: Settings, epochs: int, member: int = 1) -> list[list[int]]:
    """List the images of each batch, epoch after epoch."""
    made = (batches(numbered(n), settings, member, epoch) for epoch in range(epochs))
    return [batch.labels.tolist() for epoch in made for batch in epoch]


@pytest.mark.parametrize("n_steps", [1, 2, 3, 4])
def test_epochs_of_few_steps_show_every_image_before_any_comes_again(n_steps: int) -> None:
    """Held against going through the images lap after lap: 29 are four batches of 7, and one."""
    few = SETTINGS.model_copy(update={"batch_size": 7, "steps_per_epoch": n_steps})
    whole = few.model_copy(update={"steps_per_epoch": None})
    found = shown(29, few, epochs=12)
    assert len(found) == 12 * n_steps
    assert found == shown(29, whole, epochs=12)[: len(found)]
    for lap in range(3 * n_steps):
        seen = [image for batch in found[4 * lap : 4 * lap + 4] for image in batch]
        assert len(set(seen)) == len(seen) == 28
    assert shown(29, few, epochs=2, member=2) != found[: 2 * n_steps]


def test_images_that_come_again_are_changed_anew() -> None:
    few = SETTINGS.model_copy(update={"steps_per_epoch": 1, "noise": 0.1, "augmented_share": 1.0})
    samples = Samples(np.full((8, 16, 16, 1), 99, np.uint8), np.arange(8))
    first, second = (
        next(iter(batches(make_source(samples, CPU), few, 1, epoch))).images for epoch in (0, 1)
    )
    assert not torch.equal(first, second)


def test_an_epoch_of_all_images_is_shuffled_by_its_seed_alone() -> None:
    """So that plans of before give the same weights."""
    settings = SETTINGS.model_copy(update={"batch_size": 7, "seed": 3})
    for epoch in range(3):
        generator = torch.Generator().manual_seed(3 * 1_000_003 + 10_007 + epoch)
        order = torch.randperm(29, generator=generator)
        made = list(batches(numbered(29), settings, 2, epoch))
        for step, batch in enumerate(made):
            assert batch.labels.tolist() == sorted(order[7 * step : 7 * step + 7].tolist())
        assert len(made) == 4
