"""Model folder and images → heat maps in files, each beside the answer that it belongs to.

For each frame two files: the picture with heat and legend, and the heat alone as a grey PNG of
16 bits. heatmaps.csv names them. Nothing here says why a model answers as it does.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hilum.errors import DataError, SettingError, did_you_mean
from hilum.files import write_bytes, write_text
from hilum.heatmaps import BATCH_SIZE, Mapper, heat_at, make_mapper
from hilum.inference import Model, Prediction, load, open_inputs
from hilum.map_checks import border_share
from hilum.model import find_model, load_facts
from hilum.overlays import as_png, heat_png, overlay, with_legend
from hilum.pixels import Opener, PixelSpec, prepare, to_8_bits, value_range
from hilum.placement import place
from hilum.progress import LogProgress, Progress
from hilum.readers import AtLeast, Picture
from hilum.targets import members
from hilum.threads import in_threads

INDEX_FILE = "heatmaps.csv"

COLUMNS = (
    *("path", "frame", "predicted", "explained", "probability", "border_share"),
    *("overlay", "heat", "error"),
)


@dataclass(frozen=True)
class Explanation:
    """Where one answer depends on the image, and the files that show it.

    Attributes
    ----------
    prediction : Prediction
        The answer; refused where the input cannot be read.
    explained : str
        The class whose score the heat raises; '' where the input was refused.
    probability : float or None
        Of that class.
    border_share : float or None
        Share of the heat at the border of the picture or outside it; None where no place raises
        the score.
    overlay, heat : str
        Names of the files in the folder; '' where the input was refused.
    """

    prediction: Prediction
    explained: str = ""
    probability: float | None = None
    border_share: float | None = None
    overlay: str = ""
    heat: str = ""

    def row(self) -> dict[str, Any]:
        """Return the row of heatmaps.csv."""
        answer = self.prediction
        path = os.fsencode(answer.path).decode("utf-8", "backslashreplace")
        share = None if self.border_share is None else round(self.border_share, 4)
        cells = (path, answer.frame, answer.predicted, self.explained, self.probability, share)
        return dict(zip(COLUMNS, (*cells, self.overlay, self.heat, answer.error), strict=True))


@dataclass(frozen=True)
class HeatMap:
    """One frame with its answer and its heat.

    Attributes
    ----------
    number : int
        1-based position of the input among all.
    picture : uint8 array of shape (height, width, 1 or 3)
        At its own resolution.
    heat : float32 array of shape (height, width)
        In [0, 1]; 1 is this picture's greatest, 0 throughout where no place raises the score.
    """

    number: int
    explanation: Explanation
    picture: NDArray[np.uint8]
    heat: NDArray[np.float32]
    is_one_of_many: bool


def explain(
    model: str | Path,
    inputs: str | Path | NDArray[Any] | Iterable[str | Path | NDArray[Any]],
    out: str | Path,
    *,
    method: str = "gradcam",
    class_name: str | None = None,
    progress: Progress | None = None,
) -> list[Explanation]:
    """Predict images and write heat maps: where the score of a class depends on the image.

    They are no evidence of cause.

    Parameters
    ----------
    model : path
        A run folder or its model folder.
    inputs : path, array, or an iterable of them
        As `Model.predict` takes them.
    out : path
        A new or empty folder.
    method : str
        'gradcam' (Grad-CAM or HiResCAM, as the networks are), or 'occlusion', which is slow and
        asks the exported model alone.
    class_name : str, optional
        The class to explain; without it the predicted one of each image.

    Returns
    -------
    list of Explanation
        One a frame, in the order of the inputs; heatmaps.csv in the folder holds the same. What
        cannot be read has its reason in `prediction.error`.

    Raises
    ------
    ModelError
        If the model is missing or damaged.
    DataError
        If an input holds no images, or the folder is not empty.
    SettingError
        If there is no such class or method.

    Examples
    --------
    >>> hilum.explain("runs/cxr", "new.jpeg", "maps")[0].overlay  # doctest: +SKIP
    '0001_new_overlay.png'
    """
    loaded = load(model)
    index = None if class_name is None else _class_index(loaded.class_names, class_name)
    mapper = make_mapper(find_model(model), method, model=loaded)
    openers = open_inputs(inputs)
    folder = _new_folder(Path(out))
    digits = max(4, len(str(len(openers))))
    write = partial(_write, folder, digits, mapper.name)
    found = []
    with (progress or LogProgress()).task("Explaining", len(openers)) as task:
        for explanation in in_threads(write, explain_each(loaded, mapper, openers, index=index)):
            found.append(explanation)
            task.advance(int(explanation.prediction.frame == 0))
    _write_index(folder / INDEX_FILE, found)
    return found


def explain_each(
    model: Model,
    mapper: Mapper,
    openers: Iterable[tuple[str, Opener]],
    *,
    index: int | None = None,
) -> Iterator[HeatMap | Explanation]:
    """Predict and explain named inputs one batch after another.

    Parameters
    ----------
    index : int, optional
        The class to explain; without it the predicted one, of several labels the most probable
        of those predicted.

    Yields
    ------
    HeatMap or Explanation
        One a frame; an Explanation where the input was refused.
    """
    spec = model.facts.preprocessing
    waiting: list[tuple[HeatMap, NDArray[np.uint8]] | Explanation] = []
    for number, prediction, opened in _predict_opened(model, openers):
        if opened is None:
            waiting.append(Explanation(prediction))
        else:
            chosen = _most_called(model, prediction) if index is None else index
            explanation = Explanation(
                prediction, model.class_names[chosen], prediction.probabilities[chosen]
            )
            shown, prepared = opened.frame(prediction.frame)
            blank = np.zeros(shown.shape[:2], dtype=np.float32)
            heat_map = HeatMap(number, explanation, shown, blank, opened.n_frames > 1)
            waiting.append((heat_map, prepared))
        if len(waiting) == BATCH_SIZE:
            yield from _warm(waiting, mapper, model.class_names, spec)
            waiting = []
    yield from _warm(waiting, mapper, model.class_names, spec)


def heat_thumbnails(
    model: str | Path, pictures: Iterable[Picture], classes: Sequence[str], *, side: int = 160
) -> Iterator[Image.Image | None]:
    """Draw pictures small, with the heat of a class over each and no legend.

    Parameters
    ----------
    model : path
        A run folder or its model folder.
    pictures : iterable of Picture
        Of each the first frame is drawn.
    classes : sequence of str
        The class to explain of each picture.
    side : int
        Pixels of the longer side; smaller pictures keep their size.

    Yields
    ------
    Image or None
        None where no place raises the score of the class.

    Raises
    ------
    ModelError
        If the model is missing or damaged.
    """
    folder = find_model(model)
    facts = load_facts(folder)
    mapper = make_mapper(folder, "gradcam")
    for picture, name in zip(pictures, classes, strict=True):
        opened = _Opened(picture, facts.preprocessing)
        shown, prepared = opened.frame(0)
        image = Image.fromarray(shown[..., 0] if shown.shape[-1] == 1 else shown)
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        small = np.asarray(image).reshape(image.height, image.width, -1)
        signed = mapper.maps(prepared[None], np.array([facts.class_names.index(name)]))[0]
        # The small picture lies in the input as the whole one does.
        rows, columns = (
            replace(axis, length=length, scale=axis.scale * axis.length / length)
            for axis, length in zip(
                place(shown.shape, facts.preprocessing), small.shape[:2], strict=True
            )
        )
        heat = heat_at(signed, mapper.grid, rows, columns)
        greatest = heat.max()
        yield Image.fromarray(overlay(small, heat / greatest)) if greatest > 0 else None


def _most_called(model: Model, prediction: Prediction) -> int:
    """Return the class that is called; of several labels the most probable of those called.

    Where no label is called it is the most probable of all.
    """
    if model.facts.target != "multilabel":
        return model.class_names.index(prediction.predicted)
    called = members([prediction.predicted], model.class_names)[0]
    among = called if called.any() else ~called
    return int(np.argmax(np.where(among, prediction.probabilities, -1.0)))


# -- pictures kept until they are explained --------------------------------------------------------


class _Opened:
    """A picture in 8 bits as people see it, and as the network does."""

    def __init__(self, picture: Picture, spec: PixelSpec, opener: Opener | None = None) -> None:
        self._picture, self._spec, self._opener = picture, spec, opener
        self._prepared: NDArray[np.uint8] | None = None
        self.n_frames = picture.n_frames

    def frame(self, number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return one frame at its own resolution, and prepared."""
        if self._prepared is None:
            self._prepared = prepare(self._picture, self._spec)
            if self._picture.reduction is not None and self._opener is not None:
                # Large JPEGs are decoded small for the network, and whole to be drawn on.
                self._picture = self._opener()
        low, high = value_range(self._picture, self._spec.ranges)
        return to_8_bits(self._picture.pixels[number], low, high), self._prepared[number]


def _predict_opened(
    model: Model, openers: Iterable[tuple[str, Opener]]
) -> Iterator[tuple[int, Prediction, _Opened | None]]:
    """Predict, and give with each answer its input's number and picture: each is opened once."""
    spec = model.facts.preprocessing
    kept: dict[int, _Opened] = {}

    def keep(number: int, opener: Opener, *, at_least: AtLeast | None = None) -> Picture:
        picture = opener(at_least=at_least)
        kept[number] = _Opened(picture, spec, opener)
        return picture

    keeping = (
        (name, partial(keep, number, opener))
        for number, (name, opener) in enumerate(openers, start=1)
    )
    number = 0
    opened: _Opened | None = None
    for prediction in model.predict_each(keeping, side_by_side=1):  # whole pictures are large
        if prediction.frame == 0:
            number += 1
            opened = kept.pop(number, None)
        yield number, prediction, None if prediction.error else opened


def _warm(
    waiting: Sequence[tuple[HeatMap, NDArray[np.uint8]] | Explanation],
    mapper: Mapper,
    class_names: Sequence[str],
    spec: PixelSpec,
) -> Iterator[HeatMap | Explanation]:
    """Add the heat to a batch."""
    read = [item for item in waiting if isinstance(item, tuple)]
    maps: Iterator[NDArray[np.float32]] = iter(())
    if read:
        classes = np.array([class_names.index(item.explanation.explained) for item, _ in read])
        maps = iter(mapper.maps(np.stack([image for _, image in read]), classes))
    for item in waiting:
        if isinstance(item, Explanation):
            yield item
            continue
        heat_map, _ = item
        signed = next(maps)
        rows, columns = place(heat_map.picture.shape, spec)
        heat = heat_at(signed, mapper.grid, rows, columns)
        share = border_share(signed, mapper.grid, rows, columns)
        if heat.max() > 0:
            heat /= heat.max()
        explanation = replace(heat_map.explanation, border_share=share)
        yield replace(heat_map, heat=heat, explanation=explanation)


# -- files -----------------------------------------------------------------------------------------


def _class_index(names: Sequence[str], name: str) -> int:
    if name not in names:
        raise SettingError(
            f"The model has no class '{name}'.{did_you_mean(name, names)} "
            f"Its classes are: {', '.join(names)}."
        )
    return names.index(name)


def _new_folder(folder: Path) -> Path:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} exists and is not empty. Choose a new folder for the heat maps.")
    return folder


def _write(folder: Path, digits: int, method_name: str, item: HeatMap | Explanation) -> Explanation:
    """Write the two files of a frame; its number keeps names apart, whatever the inputs' are."""
    if isinstance(item, Explanation):
        return item
    frame = item.explanation.prediction.frame
    base = f"{item.number:0{digits}d}_{_plain_stem(item.explanation.prediction.path)}"
    base += f"_frame{frame:04d}" if item.is_one_of_many else ""
    found = replace(item.explanation, overlay=f"{base}_overlay.png", heat=f"{base}_heat.png")
    drawn = with_legend(item.picture, item.heat, _legend(item, method_name))
    write_bytes(folder / found.overlay, as_png(drawn))
    write_bytes(folder / found.heat, heat_png(item.heat))
    return found


def _plain_stem(path: str) -> str:
    """Return the file's name with nothing in it that a file system could take amiss."""
    stem = re.sub(r"[^A-Za-z0-9-]+", "_", PurePath(path.replace("\\", "/")).stem)
    return stem.strip("_")[:60] or "image"


def _legend(item: HeatMap, method_name: str) -> list[str]:
    explanation = item.explanation
    name, predicted = explanation.explained, explanation.prediction.predicted
    what = f"{method_name} for {name}, probability {explanation.probability:.3f}"
    what += "." if name == predicted else f"; the answer is {predicted}."
    if not item.heat.any():
        return [what, f"No place raises the score of {name}.", CAUTION]
    return [what, "Heat in proportion to its greatest here; the line is at half of that.", CAUTION]


CAUTION = "Shows what the score depends on; no evidence of cause."


def _write_index(path: Path, explanations: Sequence[Explanation]) -> None:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(explanation.row() for explanation in explanations)
    write_text(path, stream.getvalue())
