"""Real PML trainers, testers, miners, samplers and HookContainer around our parts."""

import logging

import pytest
import torch
from pytorch_metric_learning import losses, miners, samplers, testers, trainers
from pytorch_metric_learning.utils import logging_presets

from pml_nmlayer.evaluation import HammingAccuracyCalculator
from pml_nmlayer.hooks import ProgressiveMerging, chain_hooks
from pml_nmlayer.losses import DPSHLoss, NMLoss
from tests.digits import digits, trunk_and_head

CPU = torch.device("cpu")
logging.getLogger("PML").setLevel(logging.ERROR)


def make_trainer(
    trunk,
    head,
    loss,
    trainer_class=trainers.MetricLossOnly,
    models=(),
    other_losses=(),
    **kwargs,
):
    train, _ = digits()
    models = {"trunk": trunk, "embedder": head, **dict(models)}
    return trainer_class(
        models=models,
        optimizers={
            f"{name}_optimizer": torch.optim.Adam(model.parameters(), lr=1e-2)
            for name, model in models.items()
        },
        batch_size=64,
        loss_funcs={"metric_loss": NMLoss(loss, head), **dict(other_losses)},
        dataset=train,
        mining_funcs=kwargs.pop("mining_funcs", {}),
        sampler=samplers.MPerClassSampler(
            train.tensors[1], m=6, length_before_new_iter=len(train)
        ),
        dataloader_num_workers=0,
        data_device=CPU,
        **kwargs,
    )


def evaluate(trunk, head, **kwargs):
    train, test = digits()
    tester = testers.GlobalEmbeddingSpaceTester(
        accuracy_calculator=HammingAccuracyCalculator(device=CPU, **kwargs),
        dataloader_num_workers=0,
        data_device=CPU,
    )
    splits = [("val", ["train"])]
    return tester.test({"train": train, "val": test}, 1, trunk, head, splits)["val"]


def test_metric_loss_only_with_hook_container(tmp_path):
    train, test = digits()
    trunk, head = trunk_and_head()
    keeper, _, _ = logging_presets.get_record_keeper(
        str(tmp_path / "csv"), str(tmp_path / "tensorboard")
    )
    hooks = logging_presets.get_hook_container(
        keeper, primary_metric="hamming_map", validation_split_name="val"
    )
    tester = testers.GlobalEmbeddingSpaceTester(
        end_of_testing_hook=hooks.end_of_testing_hook,
        accuracy_calculator=HammingAccuracyCalculator(device=CPU, k=20),
        dataloader_num_workers=0,
        data_device=CPU,
    )
    merging = ProgressiveMerging(head, epochs_per_stage=2)
    data = {"train": train, "val": test}
    folder = str(tmp_path / "models")
    test_hook = hooks.end_of_epoch_hook(
        tester, data, folder, splits_to_eval=[("val", ["train"])]
    )
    trainer = make_trainer(
        trunk,
        head,
        losses.MultiSimilarityLoss(),
        mining_funcs={"tuple_miner": miners.MultiSimilarityMiner()},
        end_of_iteration_hook=chain_hooks(
            merging.end_of_iteration_hook, hooks.end_of_iteration_hook
        ),
        end_of_epoch_hook=chain_hooks(merging.end_of_epoch_hook, test_hook),
    )
    untrained = evaluate(trunk, head)["hamming_map_level0"]
    trainer.train(num_epochs=6)
    assert head.finished
    assert head.bits == 6
    history = hooks.get_accuracy_history(tester, "val", metrics=["hamming_map"])
    assert history["epoch"] == [1, 2, 3, 4, 5, 6]
    assert history["hamming_map_level0"][-1] > untrained + 0.15

    # A fresh run loads the last checkpoint: stage, graph and weights come with it.
    new_trunk, new_head = trunk_and_head()
    resumed = make_trainer(new_trunk, new_head, losses.MultiSimilarityLoss())
    assert hooks.load_latest_saved_models(resumed, folder, device=CPU) == 7
    assert new_head.finished
    last = evaluate(new_trunk, new_head)["hamming_map_level0"]
    assert last == pytest.approx(history["hamming_map_level0"][-1])


def test_train_with_classifier():
    trunk, head = trunk_and_head(
        bits=(24, 12), constant_width=True
    )  # the classifier keeps its width
    merging = ProgressiveMerging(head, epochs_per_stage=2)
    trainer = make_trainer(
        trunk,
        head,
        DPSHLoss(),
        trainers.TrainWithClassifier,
        models={"classifier": torch.nn.Linear(24, 10)},
        other_losses={"classifier_loss": torch.nn.CrossEntropyLoss()},
        end_of_epoch_hook=merging.end_of_epoch_hook,
    )
    untrained = evaluate(trunk, head)["hamming_map_level0"]
    trainer.train(num_epochs=4)
    assert head.bits == 12
    assert evaluate(trunk, head)["hamming_map_level0"] > untrained + 0.15


def test_merging_by_iterations_in_a_trainer():
    trunk, head = trunk_and_head()
    merging = ProgressiveMerging(head, iterations_per_stage=5)
    bits = []
    trainer = make_trainer(
        trunk,
        head,
        losses.SupConLoss(),
        end_of_iteration_hook=chain_hooks(
            merging.end_of_iteration_hook, lambda trainer: bits.append(head.bits)
        ),
    )
    trainer.train(num_epochs=2)
    assert bits == [24] * 4 + [12] * 5 + [6] * 5


def test_a_loss_with_proxies_keeps_its_width_through_a_merge():
    trunk, head = trunk_and_head(bits=(24, 12))  # NMLoss switches constant width on
    loss = losses.ProxyAnchorLoss(num_classes=10, embedding_size=24)
    trainer = make_trainer(
        trunk,
        head,
        loss,
        end_of_epoch_hook=ProgressiveMerging(head, epochs_per_stage=2).end_of_epoch_hook,
    )
    trainer.optimizers["metric_loss_optimizer"] = torch.optim.Adam(
        loss.parameters(), lr=1e-2
    )
    untrained = evaluate(trunk, head)["hamming_map_level0"]
    trainer.train(num_epochs=8)
    assert evaluate(trunk, head)["hamming_map_level0"] > untrained + 0.15


def test_plain_loop():
    train, _ = digits()
    trunk, head = trunk_and_head()
    loss = NMLoss(losses.SupConLoss(), head)
    merging = ProgressiveMerging(head, epochs_per_stage=3)
    optimizer = torch.optim.Adam([*trunk.parameters(), *head.parameters()], lr=1e-2)
    untrained = evaluate(trunk, head)["hamming_map_level0"]
    for epoch in range(1, 13):
        for x, y in torch.utils.data.DataLoader(train, 64, shuffle=True):
            optimizer.zero_grad()
            loss(head(trunk(x)), y).backward()
            optimizer.step()
        merging.step(epoch)
    assert head.bits == 6
    assert evaluate(trunk, head)["hamming_map_level0"] > untrained + 0.15


def test_testers_normalising_or_not_agree():
    trunk, head = trunk_and_head()
    train, test = digits()
    results = []
    for normalize in (True, False):
        tester = testers.GlobalEmbeddingSpaceTester(
            normalize_embeddings=normalize,
            accuracy_calculator=HammingAccuracyCalculator(device=CPU),
            dataloader_num_workers=0,
            data_device=CPU,
        )
        data = {"train": train, "val": test}
        results.append(tester.test(data, 1, trunk, head, [("val", ["train", "val"])]))
    assert results[0] == results[1]
