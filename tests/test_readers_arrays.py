"""NPY, NPZ and NIfTI: plain numbers in, frames out; nothing executed, nothing guessed."""

from __future__ import annotations

import gzip
import io
import itertools
import os
import pickle
import random
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from hilum.errors import UnreadableError
from hilum.readers import read, read_arrays


def npy(array: NDArray[Any], **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def npz(**arrays: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def refusal(data: bytes, **options: Any) -> str:
    with pytest.raises(UnreadableError) as caught:
        read(data, **options)
    return caught.value.reason


def numbers(shape: tuple[int, ...], dtype: str = "uint8") -> NDArray[Any]:
    return np.random.default_rng(0).integers(0, 100, shape).astype(dtype)


# NPY and NPZ -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "frames"),
    [
        ((4, 5), (1, 4, 5, 1)),
        ((6, 4, 5), (6, 4, 5, 1)),
        ((4, 5, 3), (1, 4, 5, 3)),
        ((6, 4, 5, 3), (6, 4, 5, 3)),
        ((6, 4, 5, 1), (6, 4, 5, 1)),
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", ">u2", "int16", "int64", "float64", "bool"])
def test_shapes_and_types(shape: tuple[int, ...], frames: tuple[int, ...], dtype: str) -> None:
    array = numbers(shape) % 2 > 0 if dtype == "bool" else numbers(shape, dtype)
    for data in (npy(array), npy(np.asfortranarray(array)), npz(images=array)):
        picture = read(data)
        assert picture.pixels.shape == frames
        wanted = array * 255 if dtype == "bool" else array
        np.testing.assert_array_equal(picture.pixels.ravel(), wanted.ravel())
        assert picture.pixels.dtype.itemsize <= 4


def test_medmnist_style_archives_name_their_arrays() -> None:
    data = npz(
        train_images=numbers((3, 4, 4)), train_labels=numbers((3, 1)), val_images=numbers((2, 4, 4))
    )
    assert refusal(data) == (
        "the NPZ holds 2 arrays that may be images (of 'train_images', 'train_labels', "
        "'val_images'). Name the one wanted"
    )
    assert read(data, array="val_images").n_frames == 2
    assert set(read_arrays(data)) == {"train_images", "train_labels", "val_images"}
    assert refusal(data, array="x") == (
        "the NPZ has no array 'x'; it has 'train_images', 'train_labels', 'val_images'"
    )


def test_images_and_labels_must_be_as_many() -> None:
    data = npz(train_images=numbers((4, 4, 4)), train_labels=numbers((3, 1)))
    assert refusal(data) == "4 train_images but 3 train_labels"


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, canary: str) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.canary,)


def test_python_objects_are_never_loaded(tmp_path: Path) -> None:
    canary = str(tmp_path / "canary")
    trap = np.array([Trap(canary)], dtype=object)
    objects = "it holds Python objects (a pickle), which could run code. Save plain numbers"
    assert refusal(npy(trap, allow_pickle=True)) == objects
    assert refusal(npz(train_images=trap)) == f"array 'train_images': {objects}"
    assert refusal(pickle.dumps(Trap(canary))).startswith("a Python pickle is not a format")
    assert not Path(canary).exists()


def test_archives_that_are_no_npz() -> None:
    for member in ("../../evil.npy", "/evil.npy", "readme.txt", "a/b.npy", "c:\\evil.npy"):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("x.npy", npy(numbers((2, 2))))
            archive.writestr(member, npy(numbers((2, 2))))
        assert refusal(file.getvalue()).startswith("not an NPZ: the archive has a member")


def test_values_that_are_no_picture() -> None:
    assert refusal(npy(np.full((2, 2), np.nan))) == "4 of 4 values are not finite numbers"
    assert refusal(npy(numbers((2, 3, 4, 5, 6)))).startswith("an array of shape (2, 3, 4, 5, 6)")
    assert refusal(npy(np.array([["a"]]))) == "values of type <U1 are no picture"


@pytest.mark.parametrize("data", [npy(numbers((9, 9))), npz(images=numbers((3, 9, 9)))])
def test_each_truncation_of_arrays_is_refused(data: bytes) -> None:
    for n in range(len(data)):
        refusal(data[:n])


def test_sizes_that_are_lies() -> None:
    lie = npy(numbers((2, 2))).replace(b"(2, 2)", b"(9, 9)")
    assert refusal(lie) == ("truncated NPY: 4 bytes of values where the shape (9, 9) needs 81")
    longer = npy(numbers((2, 2))) + b"x"
    assert refusal(longer).startswith("damaged NPY: 5 bytes of values")


# NIfTI -------------------------------------------------------------------------------------------


def nifti(
    data: NDArray[Any],
    affine: NDArray[Any] | None = None,
    *,
    kind: Any = nibabel.Nifti1Image,
    slope: float | None = None,
    inter: float | None = None,
    stated: bool = True,
) -> bytes:
    image = kind(data, np.diag([-1, -1, 1, 1]) if affine is None else affine)
    image.header.set_slope_inter(slope, inter)
    data_bytes = bytes(image.to_bytes())
    if not stated:  # sform_code and qform_code of NIfTI-1
        data_bytes = data_bytes[:252] + bytes(4) + data_bytes[256:]
    return data_bytes


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("dtype", ["uint8", "int16", ">i2", "uint16", "float32", "float64"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_along_each_axis(kind: Any, dtype: str, axis: int) -> None:
    volume = numbers((3, 4, 5), dtype)
    for data in (nifti(volume, kind=kind), gzip.compress(nifti(volume, kind=kind))):
        picture = read(data, axis=axis)
        assert picture.n_frames == volume.shape[axis]
        for i, frame in enumerate(picture.pixels[..., 0]):
            stored = np.take(volume, i, axis).T
            np.testing.assert_array_equal(frame, stored if axis == 2 else stored[::-1])
        assert picture.facts.format == "NIfTI"
        assert picture.facts.spacing_mm == (1, 1)


TOWARDS = {
    "R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0),
    "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1),
}  # fmt: skip


def stored_towards(codes: Sequence[str], tilt_degrees: float = 0) -> NDArray[np.float64]:
    """Return the affine of a volume whose axes run so, the patient tilted in the scanner."""
    cos, sin = np.cos(np.radians(tilt_degrees)), np.sin(np.radians(tilt_degrees))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ np.transpose(
        [TOWARDS[code] for code in codes]
    )
    affine[:3, 3] = 5, -60, 7
    return affine


def shown_towards(affine: NDArray[np.float64], axis: int) -> str:
    """Return towards where frames, rows and columns run, by where the affine puts voxels."""
    volume = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    pixels = read(nifti(volume, affine), axis=axis).pixels[..., 0]
    voxels = np.stack(np.unravel_index(pixels, volume.shape), axis=-1)
    places = voxels @ affine[:3, :3].T + affine[:3, 3]  # (frames, rows, columns, 3)
    ways = [end - places[0, 0, 0] for end in (places[-1, 0, 0], places[0, -1, 0], places[0, 0, -1])]
    return "".join(max(TOWARDS, key=lambda code: float(way @ TOWARDS[code])) for way in ways)


@pytest.mark.parametrize("tilt_degrees", [0, 30])
@pytest.mark.parametrize(
    ("stored", "axis", "shown"),
    [
        *(("LPS", 2, "SPL"), ("RAS", 2, "SPL"), ("RAI", 2, "SPL")),  # axial
        *(("LSP", 2, "PIL"), ("RSA", 2, "PIL"), ("RIA", 2, "PIL")),  # coronal
        *(("PSL", 2, "LIP"), ("ASR", 2, "LIP"), ("AIR", 2, "LIP")),  # sagittal
        *(("LPS", 1, "PIL"), ("LPS", 0, "LIP")),  # axial, cut otherwise
        *(("RSA", 1, "SPL"), ("RSA", 0, "LPS")),  # coronal, cut otherwise; the last on its side
    ],
)
def test_slices_stand_as_in_dicom(stored: str, axis: int, shown: str, tilt_degrees: float) -> None:
    """ImageOrientationPatient of 1 0 0 0 1 0, of 1 0 0 0 0 -1 and of 0 1 0 0 0 -1."""
    assert shown_towards(stored_towards(stored, tilt_degrees), axis) == shown


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_right_front_and_head_come_first_however_a_volume_is_stored(axis: int) -> None:
    for order in itertools.permutations(("LR", "PA", "SI")):
        for stored in itertools.product(*order):
            shown = shown_towards(stored_towards(stored), axis)  # frames, rows, columns
            assert shown[1] in "LPI", stored
            # Frames from the feet up, as axial slices are numbered.
            assert {shown[0], shown[2]} <= set("LPS"), stored


@pytest.mark.parametrize("flips", list(np.ndindex(2, 2, 2)))
def test_axial_slices_are_the_same_however_they_are_stored(flips: tuple[int, ...]) -> None:
    upright = numbers((3, 4, 5), "int16")  # towards left, posterior, head
    stored, affine = upright, np.diag([-1.0, -1.0, 1.0, 1.0])
    for axis, flip in enumerate(flips):
        if flip:
            stored = np.flip(stored, axis)
            affine[axis, axis] *= -1
    picture = read(nifti(stored, affine))
    np.testing.assert_array_equal(picture.pixels[..., 0], upright.transpose(2, 1, 0))
    unstated = read(nifti(stored, affine, stated=False))
    np.testing.assert_array_equal(unstated.pixels[..., 0], stored.transpose(2, 1, 0))
    assert unstated.facts.notes == ("the header states no orientation: slices are shown as stored",)


def test_flat_and_longer_volumes() -> None:
    flat = read(nifti(numbers((6, 4))))
    assert flat.pixels.shape == (1, 4, 6, 1)
    moving = numbers((3, 4, 5, 2), "int16")
    frames = read(nifti(moving)).pixels[..., 0]
    assert frames.shape == (10, 4, 3)
    np.testing.assert_array_equal(frames[5], moving[:, :, 0, 1].T)


def test_slope_and_intercept() -> None:
    picture = read(nifti(numbers((2, 3, 4), "int16"), slope=0.5, inter=-3))
    wanted = numbers((2, 3, 4), "int16") * 0.5 - 3
    np.testing.assert_array_equal(picture.pixels[..., 0], wanted.transpose(2, 1, 0))


def test_rgb_values() -> None:
    values = np.zeros((2, 3, 1), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    values["R"], values["B"] = 200, 7
    picture = read(nifti(values))
    assert picture.pixels.shape == (1, 3, 2, 3)
    assert (picture.pixels == [200, 0, 7]).all()


def test_nan_outside_the_scan_is_dark_and_noted_but_not_everywhere() -> None:
    volume = numbers((2, 2, 2), "float32") + 1
    volume[0, 0, 0] = np.nan
    picture = read(nifti(volume))
    assert picture.pixels[0, 0, 0, 0] == np.nanmin(volume)
    assert picture.facts.notes == ("1 of 8 values are NaN and shown as the darkest",)
    assert refusal(nifti(np.full((2, 2, 2), np.nan, np.float32))).startswith("8 of 8 values")
    falling = read(nifti(volume, slope=-2, inter=0)).pixels
    assert falling[0, 0, 0, 0] == falling.min() == -2 * np.nanmax(volume)


def test_truncated_nifti_is_refused() -> None:
    plain = nifti(numbers((4, 5, 6)))
    zipped = gzip.compress(plain)
    rng = random.Random(0)
    for data in (plain, zipped):
        for n in {rng.randrange(len(data)) for _ in range(150)}:
            refusal(data[:n])
    for at in range(8 * 10, 8 * len(zipped), 101):
        broken = bytearray(zipped)
        broken[at // 8] ^= 1 << at % 8
        refusal(bytes(broken))


@pytest.mark.parametrize(
    ("stored", "shown"), [("RPI", "LPS"), ("RSA", "LIP"), ("LIP", "LIP"), ("ASR", "PIL")]
)
def test_same_slices_as_simpleitk(tmp_path: Path, stored: str, shown: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    path = tmp_path / "v.nii"
    affine = stored_towards(stored) @ np.diag([2.0, 3.0, 4.0, 1.0])
    path.write_bytes(nifti(numbers((3, 4, 5), "int16"), affine))
    theirs = sitk.GetArrayFromImage(sitk.DICOMOrient(sitk.ReadImage(str(path)), shown))
    np.testing.assert_array_equal(read(path).pixels[..., 0], theirs)
