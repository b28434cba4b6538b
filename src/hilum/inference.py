"""Model folder and images → predictions, on ONNX Runtime, without PyTorch."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from hilum.calls import decide
from hilum.errors import DataError, ModelError, UnreadableError
from hilum.model import (
    FACTS_FILE,
    ONNX_FILE,
    REFERENCES_FILE,
    ModelFacts,
    describe_graph,
    find_model,
    load_facts,
    read_part,
)
from hilum.names import REFER, REFUSED, SET_SEPARATOR, quoted
from hilum.neighbours import Outline, References, outline, see, views_of
from hilum.pixels import Images, Opener, load_prepared
from hilum.readers import AtLeast, Facts, Picture, read
from hilum.referral import judge
from hilum.targets import members
from hilum.threads import available_cores, in_threads

BATCH_SIZE = 8
"""So few that what one layer leaves may lie in the processor's cache when the next reads it."""

SIDE_BY_SIDE = 2
"""Batches that are computed at once: while one waits for its images, the other fills the cores."""

# Those of `hilum.tables`, which brings pandas: half a second that an image need not wait.
TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")

_LOG = logging.getLogger("hilum")


class Frame(NamedTuple):
    """One frame of an input as the network sees it; without pixels where it was refused."""

    name: str
    number: int
    pixels: NDArray[np.uint8] | None
    outline: Outline | None = None
    error: str = ""


@dataclass(frozen=True)
class Prediction:
    """What the model says of one frame of one input.

    Attributes
    ----------
    path : str
    frame : int
        0-based; 0 where there is one.
    predicted : str
        The class or grade; of several labels those called, joined by '|', or 'none'; '' where the
        input was refused.
    confidence : float or None
        Probability of that class; of several labels that of the weakest part of the answer.
    probabilities : tuple of float
        One a class, in the model's order; empty where the input was refused.
    decision : str
        The class; 'refer' where a person should decide; 'refused' where there is no answer.
    error : str
        Why the input was refused.
    prediction_set : tuple of str or None
        All classes that the image may well be of; None where the model has no prediction sets.
    reason : str
        Why the image is referred: one or more of `referral.REASONS`, joined by '; '.
    """

    path: str
    frame: int
    predicted: str
    confidence: float | None
    probabilities: tuple[float, ...]
    decision: str
    error: str = ""
    prediction_set: tuple[str, ...] | None = None
    reason: str = ""

    @property
    def set_text(self) -> str:
        """The prediction set in one cell."""
        return SET_SEPARATOR.join(self.prediction_set or ())

    def row(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Return the row of predictions.csv; a path's bytes that are not UTF-8 are escaped."""
        probs: Sequence[float | None] = self.probabilities or (None,) * len(class_names)
        path = os.fsencode(self.path).decode("utf-8", "backslashreplace")
        cells: tuple[Any, ...] = (path, self.frame, self.predicted, self.confidence, *probs)
        cells += (self.decision, self.error, self.set_text, self.reason)
        return dict(zip(row_columns(class_names), cells, strict=True))


def row_columns(class_names: Sequence[str]) -> list[str]:
    """Name the columns of predictions.csv."""
    probs = [f"p_{name}" for name in class_names]
    first = ["path", "frame", "predicted", "confidence"]
    return [*first, *probs, "decision", "error", "prediction_set", "reason"]


class Model:
    """A trained classifier.

    Made by `hilum.load`; use `predict` for pixels or paths.
    """

    def __init__(
        self,
        facts: ModelFacts,
        session: onnxruntime.InferenceSession,
        references: References | None = None,
    ) -> None:
        self.facts = facts
        self._session = session
        self.references = references

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.facts.class_names

    def predict(
        self, inputs: str | Path | NDArray[Any] | Iterable[str | Path | NDArray[Any]]
    ) -> list[Prediction]:
        """Predict paths or pixels.

        Parameters
        ----------
        inputs : path, array, or an iterable of them
            Paths may be image files, folders, tables with a column path, or NPZ files. Arrays are
            uint8 or uint16 of shape (height, width), (height, width, channels) or
            (frames, height, width, channels).

        Returns
        -------
        list of Prediction
            One a frame, in the order of the inputs. What cannot be read has its error. Images of
            a table or an NPZ have their paths there; beside other inputs these are preceded by the
            folder of the table or the path of the NPZ.
        """
        return list(self.predict_each(open_inputs(inputs)))

    def predict_each(
        self, openers: Iterable[tuple[str, Opener]], *, side_by_side: int = SIDE_BY_SIDE
    ) -> Iterator[Prediction]:
        """Predict named inputs batch by batch, reading ahead while the model computes.

        Parameters
        ----------
        side_by_side : int
            Batches to compute at once; more of them hold more images.
        """
        # One by one: a file may hold thousands of frames.
        frames = chain.from_iterable(in_threads(self._open, openers))
        batches = iter(lambda: list(islice(frames, BATCH_SIZE)), [])
        for batch, found, features in in_threads(self._run, batches, most=side_by_side):
            yield from self._answer(batch, found, features)

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Compute probabilities of prepared images.

        Parameters
        ----------
        pixels : uint8 array of shape (n, height, width, channels)
            As `pixels.prepare` returns them.

        Returns
        -------
        float array of shape (n, n_classes)
        """
        return self.run(pixels)[0]

    def run(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Compute probabilities and features, (n, n_features), of prepared images.

        Raises
        ------
        ModelError
            If a probability is not finite.
        """
        probs, features = self._session.run(["probabilities", "features"], {"image": pixels})
        n_bad = int((~np.isfinite(probs).all(axis=1)).sum())
        if n_bad:
            raise ModelError(
                f"The model gives probabilities that are no numbers for {n_bad} of {len(pixels)} "
                "images. Do not use it: train again, with a lower learning rate."
            )
        return np.asarray(probs, dtype=np.float64), features

    def strangeness(
        self, pixels: Images, features: NDArray[np.float32]
    ) -> NDArray[np.float64] | None:
        """Say how unlike the training images prepared images are, None where it is not known.

        Parameters
        ----------
        pixels : uint8 array of shape (n, height, width, channels)
        features : float array of shape (n, n_features)
            Of the same images, by `run`.

        Returns
        -------
        float array of shape (n,) or None
            As `neighbours.References.strangeness` says.
        """
        if self.references is None:
            return None
        return self.references.strangeness(see(features, pixels))

    def decide(self, probs: Sequence[float]) -> str:
        """Return the class: by the locked threshold for two classes, else the most probable.

        Of classes that were weighted, the most probable over its share; of grades the median one;
        of several labels those at their thresholds, joined by '|', or 'none'.
        """
        cuts = self.facts.thresholds
        thresholds: list[float] | None = None
        if isinstance(cuts, dict):
            thresholds = [cuts[name] for name in self.class_names]
        elif cuts is not None:
            thresholds = [cuts]
        row = np.asarray([probs], dtype=np.float64)
        return decide(row, self.class_names, self.facts.meaning, thresholds)[0]

    def confidence(self, probs: Sequence[float], predicted: str) -> float:
        """Return the probability of the class that is called.

        Of several labels it is that of the weakest part of the answer: the least, over the labels,
        of the probability that a called one is present, or that one not called is absent.
        """
        if self.facts.target != "multilabel":
            return probs[self.class_names.index(predicted)]
        called = members([predicted], self.class_names)[0]
        return min(p if is_called else 1 - p for p, is_called in zip(probs, called, strict=True))

    def _open(self, item: tuple[str, Opener]) -> list[Frame]:
        name, opener = item
        try:
            frames = load_prepared(opener, self.facts.preprocessing)
        except UnreadableError as error:
            return [Frame(name, 0, None, error=error.reason)]
        return [
            Frame(name, number, pixels, None if self.references is None else outline(pixels))
            for number, pixels in enumerate(frames)
        ]

    def _run(
        self, batch: list[Frame]
    ) -> tuple[list[Frame], NDArray[np.float64], NDArray[np.float32]]:
        """Return a batch with what `run` gives for those of it that can be read."""
        readable = [frame.pixels for frame in batch if frame.pixels is not None]
        if not readable:
            return batch, np.empty((0, len(self.class_names))), np.empty((0, 0), np.float32)
        return batch, *self.run(np.stack(readable))

    def _answer(
        self,
        batch: Sequence[Frame],
        found: NDArray[np.float64],
        features: NDArray[np.float32],
    ) -> Iterator[Prediction]:
        outlines = [frame.outline for frame in batch if frame.outline is not None]
        strangeness = None
        if self.references is not None and outlines:
            strangeness = self.references.strangeness(views_of(features, outlines))
        answers = self._judged(found, strangeness)
        for frame in batch:
            if frame.pixels is None:
                yield Prediction(frame.name, frame.number, "", None, (), REFUSED, frame.error)
            else:
                yield replace(next(answers), path=frame.name, frame=frame.number)

    def judge(
        self, pixels: Images, found: NDArray[np.float64], features: NDArray[np.float32]
    ) -> Iterator[Prediction]:
        """Answer or refer prepared images, which have no name here, by what `run` gave for them."""
        return self._judged(found, self.strangeness(pixels, features))

    def _judged(
        self, found: NDArray[np.float64], strangeness: NDArray[np.float64] | None
    ) -> Iterator[Prediction]:
        names = self.class_names
        called = [self.decide(tuple(row)) for row in found]
        one_each = self.facts.target != "multilabel"
        sets, reasons = judge(
            self.facts.referral,
            found,
            np.array([names.index(name) if one_each else 0 for name in called], dtype=np.intp),
            margins=self.facts.margins(found),
            strangeness=strangeness,
        )
        for i, (predicted, reason) in enumerate(zip(called, reasons, strict=True)):
            probs = tuple(float(p) for p in found[i])
            held = None if sets is None else sets[i]
            yield Prediction(
                path="",
                frame=0,
                predicted=predicted,
                confidence=self.confidence(probs, predicted),
                probabilities=probs,
                decision=REFER if reason else predicted,
                prediction_set=None
                if held is None
                else tuple(name for name, holds in zip(names, held, strict=True) if holds),
                reason=reason,
            )


def load(model: str | Path) -> Model:
    """Load a trained model.

    Parameters
    ----------
    model : path
        A run folder or its model folder.

    Returns
    -------
    Model

    Raises
    ------
    ModelError
        If it is missing, damaged, or fails its self-check.

    Examples
    --------
    >>> model = hilum.load("runs/cxr")  # doctest: +SKIP
    >>> model.predict("new.jpeg")[0].predicted  # doctest: +SKIP
    'PNEUMONIA'
    """
    folder = find_model(model)
    facts = load_facts(folder)
    data = read_part(folder, facts, ONNX_FILE)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cores()
    options.log_severity_level = 3
    # Threads that wait would take a core from those that read images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(
            data, sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        # ONNX Runtime raises types of its own, which share no base but Exception.
        raise ModelError(f"{folder / ONNX_FILE} is not a model that can run: {error}.") from None
    _check_description(session, facts, folder)
    references = None
    if facts.referral is not None and facts.referral.strangeness is not None:
        name = str(folder / REFERENCES_FILE)
        references = References.from_bytes(read_part(folder, facts, REFERENCES_FILE), name)
    loaded = Model(facts, session, references)
    _self_check(loaded, folder)
    return loaded


def predict(
    model: str | Path, inputs: str | Path | NDArray[Any] | Iterable[str | Path | NDArray[Any]]
) -> list[Prediction]:
    """Load a model and predict; to predict more than once, `load` it and keep it.

    Parameters and errors are those of `load` and `Model.predict`.
    """
    return load(model).predict(inputs)


def _check_description(
    session: onnxruntime.InferenceSession, facts: ModelFacts, folder: Path
) -> None:
    """Hold what the graph says of itself against model.json, which no hash guards."""
    told = session.get_modelmeta().custom_metadata_map
    several = facts.target == "multilabel"
    described = describe_graph(facts.class_names, facts.preprocessing, several=several)
    for name, wanted in described.items():
        found = told.get(name)
        if found != wanted:
            raise ModelError(
                f"{folder / FACTS_FILE} and {ONNX_FILE} do not belong together: {name} is {wanted} "
                f"in the one and {found} in the other. Copy the whole model folder again."
            )


def _self_check(model: Model, folder: Path) -> None:
    """Run one blank image: a model with NaN among its weights is found here, not at a patient."""
    spec = model.facts.preprocessing
    blank = np.zeros((1, spec.height, spec.width, spec.channels), dtype=np.uint8)
    try:
        probs, features = model.run(blank)
    except ModelError as error:
        raise ModelError(f"{folder / ONNX_FILE} fails its self-check: {error}") from None
    except Exception as error:
        raise ModelError(f"{folder / ONNX_FILE} does not run: {error}.") from None
    is_whole = (
        ((probs >= 0) & (probs <= 1)).all()
        if model.facts.target == "multilabel"
        else abs(float(probs.sum()) - 1) < 1e-3
    )
    if probs.shape != (1, len(model.class_names)) or not is_whole:
        raise ModelError(
            f"{folder / ONNX_FILE} fails its self-check: probabilities of a blank image are "
            f"{probs.ravel().tolist()} for {len(model.class_names)} classes."
        )
    try:
        strangeness = model.strangeness(blank, features)
    except ValueError as error:  # shapes that do not fit
        raise ModelError(
            f"{folder / REFERENCES_FILE} does not belong to {ONNX_FILE}: {error}."
        ) from None
    if strangeness is not None and not np.isfinite(strangeness).all():
        raise ModelError(
            f"{folder / REFERENCES_FILE} fails its self-check: the distance of a blank image is "
            "not finite."
        )


def open_inputs(
    inputs: str | Path | NDArray[Any] | Iterable[str | Path | NDArray[Any]],
) -> list[tuple[str, Opener]]:
    """Name all images of paths and arrays, each with what opens it; see `find_inputs`."""
    one = isinstance(inputs, str | Path | np.ndarray)
    items: list[Any] = [inputs] if one else list(inputs)  # type: ignore[arg-type]
    openers: list[tuple[str, Opener]] = []
    for number, item in enumerate(items):
        if isinstance(item, np.ndarray):
            openers.append((f"array {number}", partial(_picture_of, item)))
        elif len(items) == 1:
            openers += find_inputs(item)
        else:
            openers += [(name_among(item, name), opener) for name, opener in find_inputs(item)]
    return openers


def name_among(item: str | Path, name: str) -> str:
    """Name an image of one of several inputs so that it is not taken for one of another.

    Images of a table or an NPZ bear names inside it, which another may hold too.
    """
    path = Path(item)
    if path.is_dir() or name in (str(item), str(path)):
        return name
    return f"{item}/{name}" if path.suffix.lower() == ".npz" else str(path.parent / name)


def find_inputs(item: str | Path) -> list[tuple[str, Opener]]:
    """Name the images of an input: a file, a folder, a table with a column path, or an NPZ.

    Raises
    ------
    DataError
        If a folder holds no images, or a table no column path. What is missing or damaged is
        refused later, in its own row.
    """
    path = Path(item)
    if path.is_dir():
        return _folder_inputs(path)
    if path.suffix.lower() in TABLE_SUFFIXES and path.exists():
        return _table_inputs(path)
    if path.suffix.lower() == ".npz":
        return _npz_inputs(path)
    return [(str(item), partial(read, path))]


def _folder_inputs(path: Path) -> list[tuple[str, Opener]]:
    from hilum.folders import images_below

    images, left = images_below(path)
    if not images:
        raise DataError(f"{path} holds no images.")
    if left:
        # Without any set-up of logging, a warning's text goes to stderr.
        number = "1 file was" if len(left) == 1 else f"{len(left):,} files were"
        _LOG.warning("%s: %s left aside, being no images by name: %s.", path, number, quoted(left))
    return [(str(image), partial(read, image)) for image in images]


def _table_inputs(path: Path) -> list[tuple[str, Opener]]:
    from hilum.columns import plain_path, usual_columns
    from hilum.tables import read_table

    table = read_table(path)
    found = usual_columns(table, "path")
    if not found:
        raise DataError(
            f"{path} has no column 'path'. Its columns are: {', '.join(table.columns)}."
        )
    if len(found) > 1:
        raise DataError(
            f"{path} has several columns that may be the path: {', '.join(found)}. Rename all but "
            "one."
        )
    if table.empty:
        raise DataError(f"{path} has no rows.")
    names = [plain_path(name) for name in table[found[0]]]
    return [(name, partial(read, path.parent / name, name=name)) for name in names]


def _npz_inputs(path: Path) -> list[tuple[str, Opener]]:
    from hilum.dataset import open_picture
    from hilum.npz import npz_paths

    try:
        names = npz_paths(path)
    except DataError:
        # Not a data set: one image, or nothing that can be read, which reading tells.
        return [(str(path), partial(read, path))]
    return [(name, partial(open_picture, path, "npz", name)) for name in names]


def _picture_of(pixels: NDArray[Any], *, at_least: AtLeast | None = None) -> Picture:
    del at_least  # An array has the size that it has.
    shape = pixels.shape
    if pixels.ndim == 2:
        pixels = pixels[None, :, :, None]
    elif pixels.ndim == 3:
        pixels = pixels[None]
    if pixels.ndim != 4 or pixels.shape[-1] not in (1, 3) or 0 in pixels.shape:
        raise UnreadableError(
            "array",
            f"an array of shape {shape} is no image: expected (height, width), (height, width, "
            "1 or 3) or (frames, height, width, 1 or 3)",
        )
    if pixels.dtype not in (np.uint8, np.uint16):
        raise UnreadableError(
            "array", f"an array of type {pixels.dtype} has no stated range: give uint8 or uint16"
        )
    bits = pixels.dtype.itemsize * 8
    mode = "L" if pixels.shape[-1] == 1 else "RGB"
    return Picture(pixels, (0.0, float(2**bits - 1)), Facts("array", mode, bits))
