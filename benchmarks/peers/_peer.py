"""What every peer is given and must give back; not counted among the lines its user writes.

    python PEER.py FOLDER --out predictions.csv --minutes 10 [--seed 0] [--side 150] [--colour]

FOLDER holds train, val and test, and in each a folder for every class. `predictions.csv` gets the
probability of each class for every image of val and test. Needs Linux, and NumPy alone.
"""

import argparse
import csv
import os
import random
import time
from pathlib import Path

import numpy as np

RESERVE = 0.04  # share of the time that is kept for predicting


def seconds_since_start():
    """Seconds since this process was started, imports and all."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


class Given:
    """What the command line gave.

    Attributes
    ----------
    folder, out, seed
    side : int
        Pixels a side that images are to be resized to.
    colour : bool
        Whether images are to be read in colour.
    class_names : list of str
        Names of the class folders, in order.
    """

    def __init__(self):
        parser = argparse.ArgumentParser()
        parser.add_argument("folder", type=Path)
        parser.add_argument("--out", type=Path, required=True)
        parser.add_argument("--minutes", type=float, required=True)
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument("--side", type=int, default=150)
        parser.add_argument("--colour", action="store_true")
        parser.parse_args(namespace=self)
        self.class_names = sorted(folder.name for folder in (self.folder / "train").iterdir())
        self._rows = []
        random.seed(self.seed)
        np.random.seed(self.seed)  # noqa: NPY002 - the libraries' own augmentation draws from it

    def seconds_left(self):
        """Seconds that may still be spent on training."""
        return 60 * self.minutes * (1 - RESERVE) - seconds_since_start()

    def predicted(self, files, probs):
        """Keep the probabilities of some images: an array of shape (n_images, n_classes)."""
        self._rows += [
            (Path(file).relative_to(self.folder).as_posix(), *map(float, row))
            for file, row in zip(files, probs, strict=True)
        ]

    def write(self):
        with open(self.out, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", *(f"p_{name}" for name in self.class_names)])
            writer.writerows(self._rows)


given = Given()
