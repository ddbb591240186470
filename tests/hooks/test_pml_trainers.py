"""Progressive merging in each of PML's trainers, through two merges, down to 6 bits."""

import logging

import pytest
import torch
from pytorch_metric_learning import losses, miners, testers, trainers
from pytorch_metric_learning.samplers import MPerClassSampler
from torch import nn
from torch.utils.data import TensorDataset

from pml_nmlayer.classes.objectives import class_nll, codeword_nll
from pml_nmlayer.evaluation import HammingAccuracyCalculator
from pml_nmlayer.hooks import ProgressiveMerging, chain_hooks
from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.losses import CSQLoss, NMLoss
from tests.digits import digits

CPU = torch.device("cpu")
EPOCHS, BATCH = 8, 64
STEPS = 500 // BATCH  # an epoch
logging.getLogger("PML").setLevel(logging.ERROR)

# a classifier, a miner or a trunk's optimizer may be left out; PML advises to have them
pytestmark = pytest.mark.filterwarnings("ignore:.*is missing")


class NotedHead(ProgressiveHead):
    """A head that keeps what it observed in its first stage."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen = []

    def observe(self, embeddings, labels=None):
        if self.stage == 0:
            self.seen.append((embeddings, labels))
        super().observe(embeddings, labels)


class Levels(nn.Module):
    """One head a level, side by side."""

    def __init__(self, *heads):
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, x):
        return torch.cat([head(x) for head in self.heads], dim=1)


def make_trunk():
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU())


def make_trainer(trainer_class, models, loss_funcs, *args, dataset=None, **kwargs):
    train = digits()[0] if dataset is None else dataset
    return trainer_class(
        *args,
        models=models,
        optimizers={
            f"{name}_optimizer": torch.optim.Adam(model.parameters(), lr=1e-2)
            for name, model in models.items()
        },
        batch_size=BATCH,
        loss_funcs=loss_funcs,
        dataset=train,
        sampler=MPerClassSampler(train.tensors[-1], m=6, length_before_new_iter=500),
        dataloader_num_workers=0,
        data_device=CPU,
        **kwargs,
    )


def metric_loss_only(longer="snapshot", num_classes=None, **kwargs):
    head = ProgressiveHead(64, (24, 12, 6), longer=longer, num_classes=num_classes)
    trainer = make_trainer(
        trainers.MetricLossOnly,
        {"trunk": make_trunk(), "embedder": head},
        {"metric_loss": NMLoss(losses.MultiSimilarityLoss(), head)},
        mining_funcs={"tuple_miner": miners.MultiSimilarityMiner()},
        **kwargs,
    )
    return trainer, [head]


def with_centres(longer="snapshot", num_classes=10, **kwargs):
    head = ProgressiveHead(64, (24, 12, 6), longer=longer, num_classes=num_classes)
    trainer = make_trainer(
        trainers.MetricLossOnly,
        {"trunk": make_trunk(), "embedder": head},
        {"metric_loss": NMLoss(CSQLoss(10, 24, head=head), head)},
        **kwargs,
    )
    return trainer, [head]


def train_with_classifier(
    constant_width=True, longer="snapshot", num_classes=None, **kwargs
):
    options = {
        "constant_width": constant_width,
        "longer": longer,
        "num_classes": num_classes,
    }
    head = ProgressiveHead(64, (24, 12, 6), **options)
    trainer = make_trainer(
        trainers.TrainWithClassifier,
        {"trunk": make_trunk(), "embedder": head, "classifier": nn.Linear(24, 10)},
        {
            "metric_loss": NMLoss(losses.SupConLoss(), head),
            "classifier_loss": nn.CrossEntropyLoss(),
        },
        **kwargs,
    )
    return trainer, [head]


def cascaded_embeddings(
    bits=((24, 12, 4), (16, 8, 2)),
    constant_width=True,
    longer="snapshot",
    num_classes=None,
    **kwargs,
):
    options = {
        "constant_width": constant_width,
        "longer": longer,
        "num_classes": num_classes,
    }
    heads = [ProgressiveHead(64, each, **options) for each in bits]
    trainer = make_trainer(
        trainers.CascadedEmbeddings,
        {
            "trunk": make_trunk(),
            "embedder": Levels(*heads),
            "classifier_0": nn.Linear(24, 10),
        },
        {
            "metric_loss_0": NMLoss(losses.ContrastiveLoss(), heads[0]),
            "metric_loss_1": NMLoss(losses.ContrastiveLoss(), heads[-1]),
            "classifier_loss_0": nn.CrossEntropyLoss(),
        },
        (24, 16),
        mining_funcs={
            "tuple_miner_0": miners.HDCMiner(0.8),
            "tuple_miner_1": miners.HDCMiner(0.8),
        },
        **kwargs,
    )
    return trainer, heads


def deep_adversarial(
    g_alone_epochs=0,
    observe_synthetic=False,
    constant_width=True,
    longer="snapshot",
    num_classes=None,
    **kwargs,
):
    options = {
        "constant_width": constant_width,
        "longer": longer,
        "num_classes": num_classes,
    }
    head = NotedHead(64, (24, 12, 6), **options)
    synth_loss = losses.TripletMarginLoss()
    trainer = make_trainer(
        trainers.DeepAdversarialMetricLearning,
        {
            "trunk": make_trunk(),
            "embedder": head,
            "classifier": nn.Linear(24, 10),
            "generator": nn.Linear(3 * 64, 64),
        },
        {
            "metric_loss": NMLoss(losses.SupConLoss(), head),
            "classifier_loss": nn.CrossEntropyLoss(),
            "synth_loss": NMLoss(synth_loss, head) if observe_synthetic else synth_loss,
            "g_adv_loss": losses.TripletMarginLoss(),
        },
        g_alone_epochs=g_alone_epochs,
        g_triplets_per_anchor=1,
        **kwargs,
    )
    return trainer, [head]


def two_stream(longer="snapshot", num_classes=None, **kwargs):
    """The second stream holds another image of the same class."""
    x, y = digits()[0].tensors
    partners = torch.empty_like(y)
    for label in range(10):
        rows = (y == label).nonzero().squeeze(1)
        partners[rows] = rows.roll(1)
    head = ProgressiveHead(64, (24, 12, 6), longer=longer, num_classes=num_classes)
    trainer = make_trainer(
        trainers.TwoStreamMetricLoss,
        {"trunk": make_trunk(), "embedder": head},
        {"metric_loss": NMLoss(losses.ContrastiveLoss(), head)},
        dataset=TensorDataset(x, x[partners], y),
        **kwargs,
    )
    return trainer, [head]


MAKERS = [
    metric_loss_only,
    with_centres,
    train_with_classifier,
    cascaded_embeddings,
    deep_adversarial,
    two_stream,
]


def score(trainer):
    train, test = digits()
    tester = testers.GlobalEmbeddingSpaceTester(
        accuracy_calculator=HammingAccuracyCalculator(include=("hamming_map",)),
        dataloader_num_workers=0,
        data_device=CPU,
    )
    result = tester.test(
        {"train": train, "test": test},
        1,
        trainer.models["trunk"],
        trainer.models["embedder"],
        [("test", ["train"])],
    )
    return result["test"]["hamming_map_level0"]


def hooks(heads, unit, length):
    merging = [ProgressiveMerging(head, **{f"{unit}s_per_stage": length}) for head in heads]
    return [getattr(m, f"end_of_{unit}_hook") for m in merging]


@pytest.mark.parametrize("unit", ["epoch", "iteration"])
@pytest.mark.parametrize("make", MAKERS)
def test_trains_through_two_merges(make, unit):
    trainer, heads = make()
    lengths, values = [], []

    def note(trainer):
        lengths.append([head.bits for head in heads])
        parts = [v for name, v in trainer.losses.items() if name.startswith("metric_loss")]
        values.append(float(sum(parts).detach()))

    merge = hooks(heads, unit, 1 if unit == "epoch" else 10)
    if unit == "epoch":
        trainer.end_of_iteration_hook = note
        trainer.end_of_epoch_hook = chain_hooks(*merge)
        last_steps = STEPS, 2 * STEPS
    else:
        trainer.end_of_iteration_hook = chain_hooks(*merge, note)
        last_steps = 9, 19  # the length is noted after the merge
    trainer.train(num_epochs=EPOCHS)

    steps = range(EPOCHS * STEPS)
    stages = [sum(step >= last for last in last_steps) for step in steps]
    assert lengths == [[head.all_bits[stage] for head in heads] for stage in stages]
    # the loss falls over all, and from right after the last merge
    last = sum(values[-STEPS:])
    assert last < 0.95 * sum(values[:STEPS])
    assert last < 0.95 * sum(values[last_steps[1] :][:STEPS])
    assert sum(head.bits for head in heads) == 6
    assert (
        score(trainer) > 0.45
    )  # 0.1 by chance, 0.2 to 0.4 untrained and four times longer


@pytest.mark.parametrize("make", MAKERS)
def test_items_are_pulled_to_codewords_and_the_classifier_learns(make):
    enough = {"bits": ((24, 12, 6), (16, 8, 4))} if make is cascaded_embeddings else {}
    trainer, heads = make(num_classes=10, **enough)
    x, y = digits()[0].tensors

    def distances():
        features = trainer.models["trunk"](x)
        values = []
        for head in heads:  # outputs as in training, of constant width or not
            outputs = head.train().outputs(features)
            code = head.code_outputs(outputs.embeddings, head.bits)
            targets = head.classes.targets(y, head.bits)
            values.append(float(codeword_nll(code, targets, tanh=True)))
            values.append(float(class_nll(outputs.class_scores, y)))
        return values

    merged = []
    merge = chain_hooks(*hooks(heads, "epoch", 1))

    def merge_and_note(trainer):
        merge(trainer)
        if trainer.epoch == 2:
            merged.extend(distances())

    trainer.end_of_epoch_hook = merge_and_note
    trainer.train(num_epochs=EPOCHS)
    assert all(head.finished for head in heads)
    pairs = zip(distances(), merged, strict=True)
    assert all(now < 0.85 * then for now, then in pairs), (distances(), merged)


@pytest.mark.parametrize("make", MAKERS)
def test_all_lengths_trained_jointly(make):
    trainer, heads = make(longer="joint")
    trainer.end_of_epoch_hook = chain_hooks(*hooks(heads, "epoch", 1))
    trainer.train(num_epochs=3)
    x = trainer.models["trunk"](digits()[1].tensors[0])
    for head in heads:
        assert head.finished
        assert [head.codes(x, bits).shape[1] for bits in head.all_bits] == [*head.all_bits]


def test_real_embeddings_alone_make_the_graph():
    """In adversarial training: NMLoss around metric_loss, and around nothing else."""
    trainer, (head,) = deep_adversarial()
    trainer.train(num_epochs=1)
    assert [len(e) for e, _ in head.seen] == [BATCH] * STEPS
    twin = ProgressiveHead(64, head.all_bits, constant_width=True)
    for embeddings, labels in head.seen:
        twin.observe(embeddings, labels)
    torch.testing.assert_close(
        head.layers[0].graph.state_dict(), twin.layers[0].graph.state_dict()
    )


def test_synth_loss_in_nm_loss_would_let_synthetic_embeddings_in():
    trainer, (head,) = deep_adversarial(observe_synthetic=True)
    triplets = []
    trainer.models["generator"].register_forward_hook(
        lambda *args: triplets.append(len(args[-1]))
    )
    trainer.train(num_epochs=1)
    sizes = [len(embeddings) for embeddings, _ in head.seen]
    assert sizes[::2] == [BATCH] * STEPS
    assert sizes[1::2] == [3 * count for count in triplets]


def test_a_stage_of_the_generator_alone_cannot_merge():
    trainer, heads = deep_adversarial(g_alone_epochs=1)
    (trainer.end_of_epoch_hook,) = hooks(heads, "epoch", 1)
    with pytest.raises(RuntimeError, match="seen no usable batch"):
        trainer.train(num_epochs=1)


def test_synthetic_embeddings_would_enter_batch_norm():
    trainer, (head,) = deep_adversarial()
    trainer.models["embedder"] = normed = ProgressiveHead(
        64, head.all_bits, constant_width=True, batch_norm=True
    )
    trainer.train(num_epochs=1)
    assert normed.norm.num_batches_tracked == 2 * STEPS


def test_a_frozen_loss_observes_nothing():
    trainer, heads = metric_loss_only(freeze_these=("metric_loss",))
    (trainer.end_of_epoch_hook,) = hooks(heads, "epoch", 9)
    with pytest.raises(RuntimeError, match="is in eval mode"):
        trainer.train(num_epochs=1)


def test_the_adversarial_loss_itself_cannot_be_wrapped():
    trainer, (head,) = deep_adversarial()
    wrapped = {"g_adv_loss": NMLoss(losses.TripletMarginLoss(), head)}
    with pytest.raises(AssertionError):  # PML asks for a TripletMarginLoss
        trainers.DeepAdversarialMetricLearning(
            **{
                name: getattr(trainer, name)
                for name in ("models", "optimizers", "batch_size", "dataset")
            },
            loss_funcs=trainer.loss_funcs | wrapped,
        )


@pytest.mark.parametrize("make", [train_with_classifier, deep_adversarial])
def test_a_classifier_needs_constant_width(make):
    trainer, heads = make(constant_width=False)
    (trainer.end_of_epoch_hook,) = hooks(heads, "epoch", 1)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        trainer.train(num_epochs=2)


def test_one_head_cannot_serve_several_levels():
    trainer, _ = cascaded_embeddings(bits=((40, 20, 10),))
    with pytest.raises(ValueError, match=r"shape \(B, 40\).*, got \(64, 24\)"):
        trainer.train(num_epochs=1)


@pytest.mark.parametrize("bits", [((24, 12, 4), (16, 8, 2)), ((24, 12), (16, 8))])
def test_heads_of_levels_need_constant_width(bits):
    trainer, heads = cascaded_embeddings(bits=bits, constant_width=False)
    del trainer.models["classifier_0"], trainer.loss_funcs["classifier_loss_0"]
    trainer.end_of_epoch_hook = chain_hooks(*hooks(heads, "epoch", 1))
    with pytest.raises(ValueError, match=r"shape \(B, 12\), got \(64, 20\)"):
        trainer.train(num_epochs=2)
