"""A Keras CNN as the classic projects for X-rays train it, for images of any kind.

Four convolutions (32, 64, 128, 256), each with ReLU, batch norm and pooling, a dense layer of 128;
`ImageDataGenerator` with rotation, zoom, shift and flip; Adam, 20 epochs, the best one kept. Batch
norm's momentum is .9: by Keras's own .99 its averages need some 700 steps, and on 900 images the
classic network called every validation image the same for 13 epochs. See _peer.py for the
arguments. Lines marked "benchmark" are not counted as a user's.
"""

from _peer import given  # benchmark

# isort: split
import keras
import tensorflow as tf
from keras import layers

keras.utils.set_random_seed(given.seed)
ImageDataGenerator = tf.keras.preprocessing.image.ImageDataGenerator
varied = ImageDataGenerator(
    rescale=1 / 255,
    rotation_range=30,
    zoom_range=0.2,
    width_shift_range=0.1,
    height_shift_range=0.1,
    horizontal_flip=True,
)
plain = ImageDataGenerator(rescale=1 / 255)
shared = {
    "target_size": (given.side, given.side),
    "color_mode": "rgb" if given.colour else "grayscale",
    "batch_size": 32,
}
train = varied.flow_from_directory(given.folder / "train", **shared)
val = plain.flow_from_directory(given.folder / "val", shuffle=False, **shared)
test = plain.flow_from_directory(given.folder / "test", shuffle=False, **shared)

model = keras.Sequential([layers.Input(train.image_shape)])
for channels in (32, 64, 128, 256):
    model.add(layers.Conv2D(channels, 3, padding="same", activation="relu"))
    model.add(layers.BatchNormalization(momentum=0.9))
    model.add(layers.MaxPooling2D(2))
model.add(layers.Flatten())
model.add(layers.Dense(128, activation="relu"))
model.add(layers.Dropout(0.2))
model.add(layers.Dense(train.num_classes, activation="softmax"))
model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])


class Deadline(keras.callbacks.Callback):  # benchmark
    def on_train_batch_end(self, *_, **__):  # benchmark
        self.model.stop_training = given.seconds_left() < 0  # benchmark


callbacks = [
    keras.callbacks.ModelCheckpoint(given.out.with_suffix(".keras"), save_best_only=True),
    Deadline(),  # benchmark
]
model.fit(train, validation_data=val, epochs=20, callbacks=callbacks, verbose=2)

model = keras.models.load_model(given.out.with_suffix(".keras"))
given.predicted(val.filepaths, model.predict(val, verbose=0))
given.predicted(test.filepaths, model.predict(test, verbose=0))
given.write()  # benchmark
