"""What a Keras user writes to predict a folder of images: the peer of `hilum predict`.

    python keras_prediction.py model.keras out.csv IMAGE_OR_FOLDER...

Images are loaded one after another as the tutorials do, and predicted in batches of 32.
"""

import csv
import sys
from pathlib import Path

import keras
import numpy as np

SIDE, BATCH = 150, 32


def main():
    model = keras.saving.load_model(sys.argv[1], compile=False)
    files = []
    for name in map(Path, sys.argv[3:]):
        files += sorted(f for f in name.rglob("*") if f.is_file()) if name.is_dir() else [name]
    images = [
        keras.utils.img_to_array(
            keras.utils.load_img(
                file, color_mode="grayscale", target_size=(SIDE, SIDE), interpolation="bilinear"
            )
        )
        for file in files
    ]
    probs = model.predict(np.stack(images) / 255, batch_size=BATCH, verbose=0)
    with open(sys.argv[2], "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "probability"])
        writer.writerows((str(name), float(p)) for name, p in zip(files, probs[:, 0], strict=True))


if __name__ == "__main__":
    main()
