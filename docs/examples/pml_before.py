"""A script of pytorch-metric-learning, before.

It trains an embedding of handwritten digits. `pml_after.py` is the same with a hash code.
"""

import torch
from pytorch_metric_learning import losses, testers, trainers
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
pixels, classes = (torch.tensor(a) for a in load_digits(return_X_y=True))
data = torch.utils.data.TensorDataset(pixels.float() / 16, classes)
train, test = torch.utils.data.random_split(data, [1500, 297])

trunk = nn.Sequential(nn.Linear(64, 128), nn.ReLU())
embedder = nn.Linear(128, 48)
models = {"trunk": trunk, "embedder": embedder}
trainer = trainers.MetricLossOnly(
    models=models,
    optimizers={
        f"{name}_optimizer": torch.optim.Adam(model.parameters(), lr=3e-3)
        for name, model in models.items()
    },
    batch_size=128,
    loss_funcs={"metric_loss": losses.SupConLoss()},
    dataset=train,
    dataloader_num_workers=0,
)
trainer.train(num_epochs=10)
tester = testers.GlobalEmbeddingSpaceTester(dataloader_num_workers=0)
splits = [("test", ["train"])]
result = tester.test({"train": train, "test": test}, 10, trunk, embedder, splits)
print(result["test"])
