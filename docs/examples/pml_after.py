"""A script of pytorch-metric-learning, after.

It trains a hash code of handwritten digits. Compare it with `pml_before.py`: the embedder,
the loss and the hook are what changed.
"""

import torch
from pytorch_metric_learning import losses, testers, trainers
from sklearn.datasets import load_digits
from torch import nn

from pml_nmlayer import (
    HammingAccuracyCalculator,
    NMLoss,
    ProgressiveHead,
    ProgressiveMerging,
)

torch.manual_seed(0)
pixels, classes = (torch.tensor(a) for a in load_digits(return_X_y=True))
data = torch.utils.data.TensorDataset(pixels.float() / 16, classes)
train, test = torch.utils.data.random_split(data, [1500, 297])

trunk = nn.Sequential(nn.Linear(64, 128), nn.ReLU())
embedder = ProgressiveHead(128, bits=(96, 12), num_classes=10)
models = {"trunk": trunk, "embedder": embedder}
trainer = trainers.MetricLossOnly(
    models=models,
    optimizers={
        f"{name}_optimizer": torch.optim.Adam(model.parameters(), lr=3e-3)
        for name, model in models.items()
    },
    batch_size=128,
    loss_funcs={"metric_loss": NMLoss(losses.SupConLoss(), embedder)},
    dataset=train,
    dataloader_num_workers=0,
    end_of_epoch_hook=ProgressiveMerging(embedder, epochs_per_stage=2).end_of_epoch_hook,
)
trainer.train(num_epochs=10)
tester = testers.GlobalEmbeddingSpaceTester(
    accuracy_calculator=HammingAccuracyCalculator(), dataloader_num_workers=0
)
splits = [("test", ["train"])]
result = tester.test({"train": train, "test": test}, 10, trunk, embedder, splits)
print(result["test"])
