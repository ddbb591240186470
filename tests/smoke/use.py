"""Use what is installed, with what every installation has: learn, train, search, judge."""

import pytorch_metric_learning
import torch
from pytorch_metric_learning import losses, testers, trainers

import pml_nmlayer
from pml_nmlayer import (
    HammingAccuracyCalculator,
    HashEncoder,
    Hasher,
    HashIndex,
    NMLoss,
    ProgressiveHead,
    ProgressiveMerging,
    mean_average_precision,
)

torch.manual_seed(0)
classes = torch.arange(240) % 6
x = torch.randn(6, 16)[classes] + 0.3 * torch.randn(240, 16)
data = torch.utils.data.TensorDataset(x, classes)

hasher = Hasher(bits=12, random_state=0).fit(x)
distances, rows = hasher.index(x).search(hasher.encode(x[:5]), k=3)
assert (classes[rows] == classes[:5, None]).all()

trunk, head = torch.nn.Identity(), ProgressiveHead(16, bits=(24, 8), num_classes=6)
trainer = trainers.MetricLossOnly(
    models={"trunk": trunk, "embedder": head},
    optimizers={"embedder_optimizer": torch.optim.Adam(head.parameters(), lr=5e-3)},
    batch_size=60,
    loss_funcs={"metric_loss": NMLoss(losses.SupConLoss(), head)},
    dataset=data,
    dataloader_num_workers=0,
    end_of_epoch_hook=ProgressiveMerging(head, epochs_per_stage=3).end_of_epoch_hook,
)
trainer.train(num_epochs=8)
tester = testers.GlobalEmbeddingSpaceTester(
    accuracy_calculator=HammingAccuracyCalculator(), dataloader_num_workers=0
)
assert tester.test({"all": data}, 8, trunk, head)["all"]["hamming_map_level0"] > 0.9

codes = HashEncoder(trunk, head).encode(x)
index = HashIndex(bits=8)
index.add(codes)
assert index.search(codes[:1], k=1)[0].item() == 0
assert (
    mean_average_precision(codes, classes, codes, classes, ref_includes_query=True, bits=8)
    > 0.9
)
print(
    f"pml-nmlayer {pml_nmlayer.__version__}, torch {torch.__version__}, "
    f"pytorch-metric-learning {pytorch_metric_learning.__version__}"
)
