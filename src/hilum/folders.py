"""Which images stand in a folder, under which class and which split: names alone, no pixels.

Whatever would be a guess is refused, with the way to say what is meant.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from hilum.errors import DataError
from hilum.names import UNWRITABLE, plain_text, quoted
from hilum.tables import SUFFIXES as TABLE_SUFFIXES

SPLIT_SPELLINGS = {
    "train": ("train", "training", "train_set", "trainset", "training_set", "trainingset"),
    "val": (
        *("val", "valid", "validation", "validate", "dev"),
        *("val_set", "valset", "valid_set", "validation_set", "validationset"),
    ),
    "test": (
        *("test", "testing", "test_set", "testset", "testing_set", "testingset"),
        *("holdout", "hold-out"),
    ),
}

# Files that stand beside images and are none; anything else is offered to the readers, which
# refuse by name what they cannot read.
NOT_IMAGES = frozenset((
    *(".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".md", ".rst", ".html", ".htm", ".pdf"),
    *(".xls", ".xlsx", ".ods", ".doc", ".docx", ".py", ".ipynb", ".yaml", ".yml", ".toml"),
    *(".ini", ".cfg", ".log", ".sqlite", ".db", ".h5", ".hdf5", ".pkl", ".pt", ".pth", ".parquet"),
    *(".sha256", ".md5", ".zip", ".tar", ".gz", ".rar", ".7z"),
))  # fmt: skip
JUNK = frozenset((
    *("thumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "system volume information"),
    *("@eadir", "lost+found", "__pycache__"),
))  # fmt: skip
IMAGE_SUFFIXES = frozenset((
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".dcm", ".dicom", ".ima", ".nii"),
    *(".bmp", ".gif", ".webp", ".jp2", ".heic"),
))  # fmt: skip

_MASK_WORDS = (
    *(r"[a-z]*masks?", r"segs?", r"segmentations?", r"overlays?", r"contours?", r"superpixels?"),
    *(r"annotat(?:ed|ions?)", r"ground[ _-]?truths?", r"gt"),
)
_MASK_FOLDER = re.compile(
    rf"(?:(?P<of>.*[^ ._-])[ ._-]+)?(?:{'|'.join(_MASK_WORDS)})", re.IGNORECASE
)
"""What folders of masks and overlays are called, such as 'lung masks'.

With a number it may be a patient ('GT01') or a part of an organ ('seg_4')."""

_MASK_FILE = re.compile(rf"{_MASK_FOLDER.pattern}[ ._-]*\(?\d*\)?", re.IGNORECASE)
"""What masks and overlays are called beside their image: 'a_mask_1' beside 'a'."""

ImageRow = tuple[Path, Path, str]
"""An image, the folder of its class, and its split or ''."""


@dataclass(frozen=True)
class Found:
    """What a folder holds.

    Attributes
    ----------
    images : list of (Path, Path, str)
        Each image with the folder of its class and its split or ''.
    notes : list of str
        What was left aside, and why.
    hint : str
        Where a table stands beside the images, the advice to give that; else ''.
    """

    images: list[ImageRow]
    notes: list[str]
    hint: str


@dataclass(frozen=True)
class _Place:
    """A folder in which images stand.

    Attributes
    ----------
    folder : Path
    class_folder : Path
        This one, or one above it.
    inner : tuple of str
        The names on the way from the class folder to this one.
    split : str
    images : list of Path
    """

    folder: Path
    class_folder: Path
    inner: tuple[str, ...]
    split: str
    images: list[Path]


def find_images(source: Path) -> Found:
    """Find the images of a folder of class folders, with splits above or inside these if any.

    Raises
    ------
    DataError
        If images stand outside class folders, a class is empty, masks stand among the images, or
        classes or splits would be a guess.
    """
    root, notes = _unwrap(source)
    hint = _table_hint(root)
    folders = _subfolders(root)
    if not folders:
        raise DataError(
            f"{root} holds no class folders. Put the images of each class into a folder named "
            f"after the class, or give a CSV table with the columns path and label.{hint}"
        )
    by_split = {folder: split_name(folder.name) for folder in folders}
    _check_loose(root)
    if any(by_split.values()):
        rows, ignored = _split_folders(root, by_split)
    else:
        _check_spellings(root, [folder.name for folder in folders], "classes")
        rows, ignored = _class_folders(root, folders, "")
    places, note = _splits_inside(root, _places(rows))
    notes += note
    if not any(place.split for place in places):
        _check_levels(root, places)
    rows = [(path, place.class_folder, place.split) for place in places for path in place.images]
    if ignored:
        number = "1 file was" if len(ignored) == 1 else f"{len(ignored):,} files were"
        notes.append(f"{number} left aside, being no images by name: {quoted(ignored)}.")
    _check_names([path.relative_to(source).as_posix() for path, _, _ in rows], source)
    _check_masks(root, places)
    rows.sort(key=lambda row: row[0].relative_to(source).as_posix())
    return Found(rows, notes, hint)


def _unwrap(source: Path) -> tuple[Path, list[str]]:
    """Step into a folder that holds one folder and nothing else, as archives often unpack."""
    root = source
    seen = {root.resolve()}
    while True:
        folders = _subfolders(root)
        if len(folders) != 1 or split_name(folders[0].name) or not _subfolders(folders[0]):
            break
        # A link back to a folder above would lead in circles.
        if _loose_images(root) or folders[0].resolve() in seen:
            break
        root = folders[0]
        seen.add(root.resolve())
    if root == source:
        return root, []
    inner = root.relative_to(source).as_posix()
    return root, [f"The folder '{inner}' inside {source.name} was taken as the data."]


def _split_folders(
    root: Path, by_split: dict[Path, str | None]
) -> tuple[list[ImageRow], list[str]]:
    others = [folder.name for folder, split in by_split.items() if split is None]
    if others:
        splits = [folder.name for folder, split in by_split.items() if split]
        raise DataError(
            f"{root} holds split folders ({', '.join(splits)}) and others beside them "
            f"({', '.join(others)}). Move the others away, or give the folder that holds the "
            "splits alone."
        )
    rows: list[ImageRow] = []
    ignored: list[str] = []
    seen: dict[str, str] = {}
    for folder, split in by_split.items():
        assert split is not None
        _check_once(root, seen, split, folder.name)
        class_folders = _subfolders(folder)
        if not class_folders:
            raise DataError(
                f"{folder} holds no class folders. Each split needs a folder for each class."
            )
        _check_loose(folder)
        more, left = _class_folders(folder, class_folders, split)
        rows += more
        ignored += left
    if "train" not in seen:
        raise DataError(
            f"{root} holds the splits {', '.join(seen.values())} but no train folder. Add one."
        )
    return rows, ignored


def _check_once(folder: Path, seen: dict[str, str], split: str, name: str) -> None:
    other = seen.setdefault(split, name)
    if other != name:
        raise DataError(
            f"{folder} holds two folders for the {split} split: '{other}' and '{name}'. Keep one."
        )


def _check_spellings(folder: Path, names: Iterable[str], what: str) -> None:
    """Refuse splits in a spelling that is not read as one."""
    words = {name: set(re.split(r"[^a-z]+", name.lower())) for name in sorted(names)}
    train = [name for name, found in words.items() if found & set(SPLIT_SPELLINGS["train"])]
    others = set(SPLIT_SPELLINGS["val"]) | set(SPLIT_SPELLINGS["test"])
    held_out = [name for name, found in words.items() if found & others]
    if train and held_out:
        raise DataError(
            f"{folder} holds '{train[0]}' and '{held_out[0]}', which look like splits and not like "
            f"{what}. Name the folders train, val and test."
        )


def _places(rows: Iterable[ImageRow]) -> list[_Place]:
    """Gather images by the folder in which they stand."""
    places: dict[Path, _Place] = {}
    for path, class_folder, split in rows:
        folder = path.parent
        if folder not in places:
            inner = folder.relative_to(class_folder).parts
            places[folder] = _Place(folder, class_folder, inner, split, [])
        places[folder].images.append(path)
    return list(places.values())


def _inner_names(places: Iterable[_Place]) -> dict[Path, set[str]]:
    """Name the folders with images in each class folder; '' where it has images itself."""
    names: dict[Path, set[str]] = {}
    for place in places:
        names.setdefault(place.class_folder, set()).add(place.inner[0] if place.inner else "")
    return names


def _splits_inside(root: Path, places: list[_Place]) -> tuple[list[_Place], list[str]]:
    """Read splits that stand inside the class folders, and say so.

    Passed over as parts of a class, they would have test images learnt from.
    """
    splits = [_inner_split(place) for place in places]
    if not any(splits):
        return places, []
    found = [place for place, split in zip(places, splits, strict=True) if split]
    left = [place for place, split in zip(places, splits, strict=True) if not split]
    if left:
        raise DataError(
            f"{root} holds splits inside its class folders, such as "
            f"'{found[0].folder.relative_to(root).as_posix()}', and images beside them, such as "
            f"'{left[0].images[0].relative_to(root).as_posix()}' "
            f"({sum(len(place.images) for place in left):,} in all). Put every image of a class "
            "into its train, val or test folder, or give a CSV table with the columns path, label "
            "and split."
        )
    names = {place.inner[0] for place in places}
    for folder, inner in _inner_names(places).items():
        seen: dict[str, str] = {}
        for name in sorted(inner):
            _check_once(folder, seen, str(split_name(name)), name)
    if "train" not in splits:
        raise DataError(
            f"{root} holds the splits {', '.join(sorted(names))} inside its class folders but no "
            "train folder. Add one to each."
        )
    given = [replace(place, split=split) for place, split in zip(places, splits, strict=True)]
    return given, [f"The folders {quoted(names)} inside the class folders were taken as splits."]


def _inner_split(place: _Place) -> str:
    """Return the split that a folder directly inside a class folder names, or ''."""
    splits = [split_name(name) or "" for name in place.inner]
    for level, split in enumerate(splits):
        if split and (level > 0 or place.split):
            folder = place.class_folder.joinpath(*place.inner[: level + 1])
            raise DataError(
                f"The folder {folder} is named like a split where none is read. Put train, val and "
                "test above the class folders or directly inside each, or rename it."
            )
    return splits[0] if splits else ""


def _check_levels(root: Path, places: Iterable[_Place]) -> None:
    """Refuse folders that cannot be taken for classes, or for parts of one, without a guess."""
    inner = _inner_names(places)
    for folder, names in inner.items():
        # More than a few are patients, whatever they are called.
        if len(names) <= len(SPLIT_SPELLINGS):
            _check_spellings(folder, names, "parts of a class")
    # Patients with the classes inside, or classes with images beside masks: the same few names
    # in every folder. Patients inside classes have many names, or differ.
    shared, *others = {frozenset(names) for names in inner.values()}
    if not others and "" not in shared and 2 <= len(shared) <= len(inner):
        raise DataError(
            f"The folders of {root} ({quoted(folder.name for folder in inner)}) all hold the same "
            f"folders ({quoted(shared)}), so which of them are classes would be a guess. Keep one "
            "level of folders, named after the classes, or give a CSV table with the columns path "
            "and label."
        )


def _check_masks(root: Path, places: Iterable[_Place]) -> None:
    """Refuse masks and overlays: learnt as images, they would tell the class by themselves."""
    what_to_do = (
        f"Move them out of {root}, rename what is no mask, or give a CSV table with the columns "
        "path and label."
    )
    apart = [place for place in places if any(map(_MASK_FOLDER.fullmatch, place.inner))]
    if apart:
        raise DataError(
            f"{root} holds images in folders named like masks or overlays inside its classes, such "
            f"as '{apart[0].images[0].relative_to(root).as_posix()}' "
            f"({sum(len(place.images) for place in apart):,} in all). {what_to_do}"
        )
    beside = [pair for place in places for pair in _masks_beside(place.images)]
    if beside:
        mask, image = (path.relative_to(root).as_posix() for path in beside[0])
        number = (
            "1 file is named like a mask or overlay of an image beside it"
            if len(beside) == 1
            else f"{len(beside):,} files are named like masks or overlays of images beside them"
        )
        raise DataError(f"{number} in {root}, such as '{mask}' of '{image}'. {what_to_do}")


def _masks_beside(images: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Pair masks with the image in the same folder whose name they extend."""
    named = [(path, _MASK_FILE.fullmatch(_stem(path))) for path in images]
    found = [(path, match["of"]) for path, match in named if match and match["of"]]
    by_stem = {_stem(path): path for path in images} if found else {}
    for path, of in found:
        if of in by_stem:
            yield path, by_stem[of]


def _stem(path: Path) -> str:
    """Return a name without suffix, in small letters; of 'a.nii.gz' it is 'a'."""
    return os.path.splitext(path.name.lower().removesuffix(".gz"))[0]


def _class_folders(
    root: Path, folders: Iterable[Path], split: str
) -> tuple[list[ImageRow], list[str]]:
    rows: list[ImageRow] = []
    ignored: list[str] = []
    seen: dict[str, str] = {}
    for folder in folders:
        other = seen.setdefault(plain_text(folder.name), folder.name)
        if other != folder.name:
            raise DataError(
                f"{root} holds two folders for the class '{plain_text(folder.name)}': {other!a} "
                f"and {folder.name!a}. Join them."
            )
        images, left = images_below(folder)
        ignored += left
        if not images:
            raise DataError(
                f"The class folder {folder} holds no images. Add images or remove the folder."
            )
        rows += [(path, folder, split) for path in images]
    return rows, ignored


def images_below(folder: Path) -> tuple[list[Path], list[str]]:
    """List the images in a folder and all below it, sorted, and what was left aside.

    Links are followed.

    Raises
    ------
    DataError
        If a folder cannot be opened, or links lead to one folder twice.
    """
    images: list[Path] = []
    ignored: list[str] = []
    seen: set[Path] = set()
    for parent, subfolders, files in os.walk(folder, followlinks=True, onerror=_refuse_folder):
        subfolders[:] = sorted(name for name in subfolders if not _is_hidden(name))
        real = Path(parent).resolve()
        if real in seen:
            raise DataError(
                f"{parent} leads to {real}, which was read already. Remove the link on the way."
            )
        seen.add(real)
        for name in sorted(files):
            path = Path(parent) / name
            if _may_be_image(name):
                images.append(path)
            elif not _is_hidden(name):
                ignored.append(path.relative_to(folder.parent).as_posix())
    return images, ignored


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not _is_hidden(path.name))
    except OSError as error:
        _refuse_folder(error)


def _refuse_folder(error: OSError) -> NoReturn:
    raise DataError(
        f"The folder {error.filename} cannot be opened: {error.strerror}. Change its permissions "
        "or move it away."
    ) from None


def _subfolders(root: Path) -> list[Path]:
    return [path for path in _entries(root) if path.is_dir()]


def _loose_images(root: Path) -> list[str]:
    """Name the images that stand in a folder of folders; a LICENSE or README is none."""
    return [
        path.name
        for path in _entries(root)
        if path.suffix.lower() in IMAGE_SUFFIXES or path.name.lower().endswith(".nii.gz")
        if not path.is_dir()
    ]


def _check_loose(root: Path) -> None:
    loose = _loose_images(root)
    if loose:
        raise DataError(
            f"{root} holds images outside its class folders, such as '{loose[0]}' "
            f"({len(loose)} in all). Move each into the folder of its class."
        )


def _check_names(paths: Sequence[str], source: Path) -> None:
    """Refuse names that no table of samples can hold."""
    bad = [path for path in paths if UNWRITABLE.search(path)]
    if bad:
        shown = bad[0].encode("unicode_escape").decode()
        number = "1 file has a name" if len(bad) == 1 else f"{len(bad):,} files have names"
        raise DataError(
            f"{number} in {source} with a line break, a control character or bytes that are not "
            f"UTF-8, such as '{shown}'. Rename each."
        )


def _table_hint(root: Path) -> str:
    tables = [path.name for path in _entries(root) if path.suffix.lower() in TABLE_SUFFIXES]
    return f" If {root / tables[0]} is the table of the images, give that." if tables else ""


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in JUNK


def _may_be_image(name: str) -> bool:
    """Whether a file is meant as an image, by its name alone."""
    if _is_hidden(name):
        return False
    return name.lower().endswith(".nii.gz") or Path(name).suffix.lower() not in NOT_IMAGES


def split_name(name: str) -> str | None:
    """Return 'train', 'val' or 'test' for any usual spelling of it, else None."""
    plain = name.strip().lower().replace(" ", "_")
    for split, spellings in SPLIT_SPELLINGS.items():
        if plain in spellings:
            return split
    return None
