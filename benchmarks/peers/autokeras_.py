"""AutoKeras's image classifier, searching until the time is over.

See _peer.py for the arguments. AutoKeras knows a number of trials, not of minutes: when these are
over, the trial under way ends after its epoch and is the last. Lines marked "benchmark" are not
counted as a user's. No pretrained weights can be fetched offline; trials that want them fail, and
AutoKeras goes on with others.
"""

from _peer import given  # benchmark

# isort: split
import autokeras as ak
import keras
import numpy as np


def load(split):
    data = keras.utils.image_dataset_from_directory(
        given.folder / split,
        color_mode="rgb" if given.colour else "grayscale",
        image_size=(given.side, given.side),
        shuffle=False,
    )
    batches = list(data.as_numpy_iterator())
    images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return data.file_paths, images.astype("uint8"), labels


class Deadline(keras.callbacks.Callback):  # benchmark
    def on_train_batch_end(self, *_, **__):  # benchmark
        if given.seconds_left() < 0:  # benchmark
            self.model.stop_training = True  # benchmark
            classifier.tuner.oracle.max_trials = 1  # benchmark


_, x_train, y_train = load("train")
val_files, x_val, y_val = load("val")
test_files, x_test, _ = load("test")
folder = given.out.parent / "autokeras"
classifier = ak.ImageClassifier(max_trials=100, directory=folder, overwrite=True, seed=given.seed)
try:
    classifier.fit(
        *(x_train, y_train),
        validation_data=(x_val, y_val),
        callbacks=[Deadline()],  # benchmark
        verbose=2,
    )
    model = classifier.export_model()
except RuntimeError:  # too many trials in a row that failed
    model = classifier.tuner.get_best_model()


def predict(images):
    probs = model.predict(images, verbose=0)
    return probs if probs.shape[1] > 1 else np.hstack([1 - probs, probs])


given.predicted(val_files, predict(x_val))
given.predicted(test_files, predict(x_test))
given.write()  # benchmark
