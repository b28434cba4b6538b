"""fastai's `vision_learner` from scratch: ResNet-18 by `fit_one_cycle`.

See _peer.py for the arguments. One epoch is timed, then as many are trained as there is time for.
Lines marked "benchmark" are not counted as a user's.
"""

from _peer import given  # benchmark

# isort: split
import time

from fastai.vision.all import (
    ImageDataLoaders,
    Normalize,
    Resize,
    accuracy,
    aug_transforms,
    get_image_files,
    imagenet_stats,
    resnet18,
    set_seed,
    vision_learner,
)

MOST_EPOCHS = 60

set_seed(given.seed, reproducible=True)
dls = ImageDataLoaders.from_folder(
    given.folder,
    train="train",
    valid="val",
    bs=32,
    item_tfms=Resize(given.side),
    batch_tfms=[*aug_transforms(), Normalize.from_stats(*imagenet_stats)],
)


def learner():
    return vision_learner(dls, resnet18, pretrained=False, metrics=accuracy)


started = time.time()
learner().fit_one_cycle(1)
epochs = int(given.seconds_left() / (time.time() - started))
learn = learner()
learn.fit_one_cycle(min(max(epochs, 1), MOST_EPOCHS))

for split in ("val", "test"):
    files = get_image_files(given.folder / split)
    probs, _ = learn.get_preds(dl=dls.test_dl(files))
    given.predicted(files, probs)
given.write()  # benchmark
