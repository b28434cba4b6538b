"""The classic Keras tutorial for chest X-rays: the peer of `hilum train --recipe chest-xray`.

    python keras_training.py FOLDER --order classic|pool-first --epochs 3 --out model.keras

FOLDER holds a folder for each of two classes. Images come from `ImageDataGenerator` with rotation,
zoom, shift and flip by `flow_from_directory`, in batches of 32; 15 % of them validate each epoch.
The last line printed is JSON.
"""

import argparse
import json
import time

import keras
import tensorflow as tf
from keras import layers

SIDE, BATCH = 150, 32
ImageDataGenerator = tf.keras.preprocessing.image.ImageDataGenerator


class Clock(keras.callbacks.Callback):
    """Seconds of training in each epoch, validation left out."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, *_):
        self.started, self.open = time.perf_counter(), True

    def on_test_begin(self, *_):
        if self.open:
            self.seconds.append(time.perf_counter() - self.started)
            self.open = False


def network(order):
    inputs = layers.Input((SIDE, SIDE, 1))
    x = inputs
    for channels in (32, 64, 128, 256):
        x = layers.Conv2D(channels, 3, padding="valid")(x)
        if order == "pool-first":
            x = layers.MaxPooling2D(2)(x)
        x = layers.ReLU()(x)
        x = layers.BatchNormalization()(x)
        if order == "classic":
            x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(128, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--order", choices=("classic", "pool-first"), default="classic")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out")
    arguments = parser.parse_args()
    varied = ImageDataGenerator(
        rescale=1 / 255,
        rotation_range=30,
        zoom_range=0.2,
        width_shift_range=0.1,
        height_shift_range=0.1,
        horizontal_flip=True,
        validation_split=0.15,
    )
    plain = ImageDataGenerator(rescale=1 / 255, validation_split=0.15)
    shared = {
        "directory": arguments.folder,
        "target_size": (SIDE, SIDE),
        "color_mode": "grayscale",
        "class_mode": "binary",
        "batch_size": BATCH,
        "seed": 0,
    }
    train = varied.flow_from_directory(subset="training", **shared)
    val = plain.flow_from_directory(subset="validation", shuffle=False, **shared)
    model = network(arguments.order)
    model.compile(keras.optimizers.Adam(1e-4), "binary_crossentropy", metrics=["accuracy"])
    clock = Clock()
    model.fit(train, validation_data=val, epochs=arguments.epochs, verbose=0, callbacks=[clock])
    if arguments.out:
        model.save(arguments.out)
    answer = {
        "n_train": train.samples,
        "n_val": val.samples,
        "n_parameters": model.count_params(),
        "epoch_s": clock.seconds,
        "images_per_s": [train.samples / seconds for seconds in clock.seconds],
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
