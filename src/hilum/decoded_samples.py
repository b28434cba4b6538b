"""Rows of the table of samples → decoded images with their labels, which networks learn from."""

from __future__ import annotations

import pandas as pd

from hilum.batches import Samples
from hilum.cache import stored_images
from hilum.dataset import Dataset
from hilum.progress import Progress
from hilum.settings import Settings
from hilum.targets import truths


def split_samples(
    dataset: Dataset, samples: pd.DataFrame, split: str, settings: Settings, progress: Progress
) -> Samples:
    """Decode the samples of the train or val split, or map what was decoded before."""
    rows = samples[samples["split"] == split]
    return decode_samples(dataset, rows, samples, settings, progress)


def decode_samples(
    dataset: Dataset,
    rows: pd.DataFrame,
    samples: pd.DataFrame,
    settings: Settings,
    progress: Progress,
) -> Samples:
    """Decode some of the samples, into a store that all of them share.

    Parameters
    ----------
    rows, samples : DataFrame
        Those wanted, none of them of the test split, and all, as `scan` returns them, with the
        columns `split` and `group`.
    """
    assert not (rows["split"] == "test").any(), "the test split is opened by evaluation alone"
    pixels = stored_images(
        dataset,
        list(rows["path"]),
        list(rows["sha256"]),
        settings.pixel_spec,
        progress,
        among=list(samples["sha256"][~samples["excluded"]]),
    )
    labels = truths(rows, dataset.class_names, settings.target)
    return Samples(pixels, labels, tuple(rows["group"]))
