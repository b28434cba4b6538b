"""The training loop of MONAI's tutorial on 2-D classification: DenseNet-121, its own augmentation.

See _peer.py for the arguments. As in the tutorial: rotation, flip, zoom, cross-entropy, Adam, and
the epoch with the best validation AUROC is kept. Unlike it: batches of 32 and a rate of 1e-4 (300
and 1e-5 there, for 47,000 images), and epochs until the time is over. Lines marked "benchmark" are
not counted as a user's.
"""

from _peer import given  # benchmark

# isort: split
import numpy as np
import torch
from monai.data import DataLoader, PILReader
from monai.metrics import ROCAUCMetric
from monai.networks.nets import DenseNet121
from monai.transforms import (
    Compose,
    EnsureChannelFirst,
    LoadImage,
    RandFlip,
    RandRotate,
    RandZoom,
    Resize,
    ScaleIntensity,
)
from monai.utils import set_determinism

MOST_EPOCHS = 60

set_determinism(seed=given.seed)
mode = "RGB" if given.colour else "L"
load = [
    LoadImage(PILReader(converter=lambda image: image.convert(mode)), image_only=True),
    EnsureChannelFirst(),
    ScaleIntensity(),
    Resize((given.side, given.side)),
]
vary = [
    RandRotate(range_x=np.pi / 12, prob=0.5, keep_size=True),
    RandFlip(spatial_axis=0, prob=0.5),
    RandZoom(min_zoom=0.9, max_zoom=1.1, prob=0.5),
]


class Images(torch.utils.data.Dataset):
    def __init__(self, split, transforms):
        self.files = sorted((given.folder / split).glob("*/*"))
        self.transforms = Compose(transforms)

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        label = given.class_names.index(self.files[i].parent.name)
        return self.transforms(self.files[i]), label


train = Images("train", load + vary)
val, test = Images("val", load), Images("test", load)
batches = DataLoader(train, batch_size=32, shuffle=True, num_workers=2)
n_classes = len(given.class_names)
model = DenseNet121(spatial_dims=2, in_channels=len(mode), out_channels=n_classes)
loss_function = torch.nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), 1e-4)


def predict(images):
    model.eval()
    with torch.no_grad():
        found = [model(x).softmax(1) for x, _ in DataLoader(images, batch_size=32, num_workers=2)]
    return torch.cat(found)


best = -1
for _ in range(MOST_EPOCHS):
    model.train()
    for images, labels in batches:
        optimizer.zero_grad()
        loss_function(model(images), labels).backward()
        optimizer.step()
        if given.seconds_left() < 0:  # benchmark
            break  # benchmark
    auroc = ROCAUCMetric()
    truth = torch.tensor([given.class_names.index(file.parent.name) for file in val.files])
    auroc(predict(val), torch.nn.functional.one_hot(truth, n_classes))
    if auroc.aggregate() > best:
        best = auroc.aggregate()
        torch.save(model.state_dict(), given.out.with_suffix(".pt"))
    if given.seconds_left() < 0:  # benchmark
        break  # benchmark

model.load_state_dict(torch.load(given.out.with_suffix(".pt")))
given.predicted(val.files, predict(val))
given.predicted(test.files, predict(test))
given.write()  # benchmark
