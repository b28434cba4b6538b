from __future__ import annotations

import math

import pytest
import torch

from hilum.augment import _sampling_grid, augment
from hilum.errors import SettingError
from hilum.settings import Settings, make_settings


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 4, height: int = 24, width: int = 32) -> torch.Tensor:
    return torch.rand(n, 1, height, width, generator=generator(9)) * 255


ALL = Settings(
    rotation=20, zoom=0.2, shift=0.1, shear=5, flip_horizontal=True, flip_vertical=True,
    brightness=0.2, contrast=0.2, gamma=0.3, noise=0.1, blur=1.5, low_resolution=0.5,
    erasing=0.3, stretch=0.1, bias_field=0.3,
)  # fmt: skip


def test_nothing_set_changes_nothing() -> None:
    batch = images()
    assert torch.equal(augment(batch, Settings(), generator()), batch)


def test_same_generator_state_gives_the_same_batch_and_another_another() -> None:
    batch = images()
    first = augment(batch, ALL, generator(1))
    assert torch.equal(first, augment(batch, ALL, generator(1)))
    assert not torch.equal(first, augment(batch, ALL, generator(2)))


@pytest.mark.parametrize("channels", [1, 3])
def test_shape_and_range_are_kept(channels: int) -> None:
    batch = images().repeat(1, channels, 1, 1)
    changed = augment(batch, ALL, generator())
    assert changed.shape == batch.shape
    assert changed.min() >= 0
    assert changed.max() <= 255


def test_flips_are_exact_mirrors() -> None:
    batch = images(16)
    changed = augment(batch, Settings(flip_horizontal=True), generator())
    flipped = [
        torch.allclose(new, old.flip(-1), atol=1e-3)
        for new, old in zip(changed, batch, strict=True)
    ]
    kept = [torch.allclose(new, old, atol=1e-3) for new, old in zip(changed, batch, strict=True)]
    assert all(a != b for a, b in zip(flipped, kept, strict=True))
    assert 0 < sum(flipped) < 16


def test_a_rotation_keeps_distances_on_images_that_are_not_square() -> None:
    """A disc stays a disc: the aspect ratio of the grid is accounted for."""
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(80.0), indexing="ij")
    disc = ((rows - 19.5) ** 2 + (columns - 39.5) ** 2 < 15**2).float()[None, None] * 255
    turned = augment(disc.repeat(8, 1, 1, 1), Settings(rotation=90), generator())
    assert (turned - disc).abs().mean() < 3


def test_rotation_by_a_known_angle() -> None:
    """A bright point moves along its circle by no more than the limit, and does move."""
    batch = torch.zeros(32, 1, 41, 61)
    batch[:, :, 20, 45] = 255.0
    turned = augment(batch, Settings(rotation=30), generator())
    angles = []
    for image in turned[:, 0]:
        row, column = divmod(int(image.argmax()), 61)
        assert math.hypot(row - 20, column - 30) == pytest.approx(15, abs=1.5)
        angles.append(math.degrees(math.atan2(row - 20, column - 30)))
    assert max(map(abs, angles)) <= 33
    assert min(angles) < -10
    assert max(angles) > 10


def test_shift_is_a_share_of_the_side() -> None:
    batch = torch.zeros(64, 1, 40, 80)
    batch[:, :, 20, 40] = 255.0
    moved = augment(batch, Settings(shift=0.1), generator())
    places = [divmod(int(image.argmax()), 80) for image in moved[:, 0]]
    assert max(abs(row - 20) for row, _ in places) in (3, 4, 5)
    assert max(abs(column - 40) for _, column in places) in (7, 8, 9)


def test_blur_keeps_the_mean_and_lowers_the_contrast() -> None:
    batch = images(8)
    blurred = augment(batch, Settings(blur=2.0), generator())
    torch.testing.assert_close(blurred.mean(), batch.mean(), rtol=0.03, atol=0)
    assert (blurred.std(dim=(1, 2, 3)) < batch.std(dim=(1, 2, 3))).all()


def test_contrast_keeps_each_mean_and_brightness_moves_it() -> None:
    batch = images(8) * 0.2 + 100
    contrasted = augment(batch, Settings(contrast=0.3), generator())
    torch.testing.assert_close(contrasted.mean(dim=(1, 2, 3)), batch.mean(dim=(1, 2, 3)))
    brightened = augment(batch, Settings(brightness=0.2), generator())
    moved = (brightened - batch).mean(dim=(1, 2, 3))
    assert moved.abs().max() <= 0.2 * 255 + 1e-3
    assert moved.min() < 0 < moved.max()


def test_sampling_grid_is_that_of_affine_grid() -> None:
    theta = torch.randn(5, 2, 3, generator=generator())
    expected = torch.nn.functional.affine_grid(theta, [5, 1, 24, 32], align_corners=False)
    edge = torch.tensor([1 - 1 / 32, 1 - 1 / 24])
    found = _sampling_grid(theta, 24, 32)
    torch.testing.assert_close(found, torch.minimum(torch.maximum(expected, -edge), edge))


def test_erasing_fills_a_rectangle_with_the_mean() -> None:
    batch = images(64)
    changed = augment(batch, Settings(erasing=0.5), generator())
    different = (changed != batch)[:, 0]
    touched = different.flatten(1).any(dim=1)
    assert touched.sum() > 48  # the least rectangles hold no pixel's centre
    for place, mean, new in zip(
        different[touched], batch[touched].mean(dim=(1, 2, 3)), changed[touched], strict=True
    ):
        rows, columns = place.any(dim=1).nonzero(), place.any(dim=0).nonzero()
        assert rows.max() - rows.min() <= 12  # half of the side
        assert columns.max() - columns.min() <= 16
        patch = new[0, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        torch.testing.assert_close(patch, mean.expand_as(patch))


def test_each_change_is_made_to_a_share_of_the_images() -> None:
    batch = images(400)
    before = batch.clone()
    for one in ({"rotation": 20}, {"blur": 3.0}, {"noise": 0.3}, {"brightness": 0.5}):
        changed = augment(batch, Settings(augmented_share=0.3, **one), generator())
        touched = (changed != batch).flatten(1).any(dim=1)
        assert 85 <= touched.sum() <= 155, one  # 120, four standard deviations either way
    assert torch.equal(batch, before)


def test_changes_of_a_share_are_drawn_apart() -> None:
    """A third blurred and a third noisy are not the same third."""
    batch = images(400)
    both = Settings(augmented_share=0.3, blur=3.0, noise=0.3)
    touched = (augment(batch, both, generator()) != batch).flatten(1).any(dim=1)
    assert 165 <= touched.sum() <= 243  # 0.51 of 400


def test_mirroring_is_exact_whatever_the_share() -> None:
    batch = images(64, 24, 24)
    settings = Settings(
        augmented_share=0.1, flip_horizontal=True, flip_vertical=True, flip_diagonal=True
    )
    changed = augment(batch, settings, generator())
    seen = set()
    for new, old in zip(changed, batch, strict=True):
        mirrors = [old.flip(axes) for axes in ([], [-1], [-2], [-1, -2])]
        mirrors += [mirror.transpose(-1, -2) for mirror in mirrors]
        (which,) = [i for i, mirror in enumerate(mirrors) if torch.equal(new, mirror)]
        seen.add(which)
    assert len(seen) == 8


def test_rows_and_columns_are_exchanged_on_square_inputs_only() -> None:
    with pytest.raises(SettingError, match="needs a square input, and this is 24×32"):
        make_settings({"flip_diagonal": True, "input_height": 24, "input_width": 32})


def test_a_bias_field_is_smooth_and_the_image_shows_through() -> None:
    flat = torch.full((8, 1, 48, 48), 100.0)
    field = augment(flat, Settings(bias_field=0.3), generator())
    assert (field.flatten(1).std(dim=1) > 3).all()
    steps = (field[..., 1:] - field[..., :-1]).abs().amax(dim=(1, 2, 3))
    assert (steps < 0.15 * (field.amax(dim=(1, 2, 3)) - field.amin(dim=(1, 2, 3)))).all()


def test_stretch_changes_one_axis_against_the_other() -> None:
    """A disc becomes an ellipse of about the same area."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    disc = (((x - 31.5) ** 2 + (y - 31.5) ** 2) < 15**2).float() * 255
    changed = augment(disc.expand(16, 1, 64, 64), Settings(stretch=0.3), generator())
    width = (changed > 127)[:, 0].any(dim=1).sum(dim=1).float()
    height = (changed > 127)[:, 0].any(dim=2).sum(dim=1).float()
    assert (width / height).max() > 1.3
    assert (width / height).min() < 0.77
    torch.testing.assert_close(width * height, torch.full((16,), 900.0), rtol=0.1, atol=0)
