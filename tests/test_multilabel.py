"""Real PML trainers and testers on multi-hot labels."""

import numpy as np
import pytest
import torch
from pytorch_metric_learning import losses, miners, testers, trainers
from pytorch_metric_learning.utils import logging_presets
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from torch.utils.data import Dataset, TensorDataset

from pml_nmlayer.codes import binarize
from pml_nmlayer.evaluation import HammingAccuracyCalculator
from pml_nmlayer.losses import DPSHLoss, HashCrossBatchMemory, MultiLabelLoss
from pml_nmlayer.multilabel import multilabel
from pml_nmlayer.ranking import mean_average_precision
from pml_nmlayer.samplers import MultiLabelMPerClassSampler

C, D, BITS = 4, 12, 8
CPU = torch.device("cpu")


def data(count=64, seed=0):
    """Items are sums of one direction a label, beside louder noise.

    The first label is always absent: what trains or tests on column 0 alone sees one
    class and learns nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = (torch.rand(count, C, generator=generator) < 0.35).long()
    rows[:, 0] = 0
    noise = torch.randn(count, D, generator=generator)
    noise[:, :C] *= 0.1
    return rows.float() @ torch.eye(C, D) + noise, rows


def trainer_arguments(loss, dataset=None, **kwargs):
    trunk, embedder = torch.nn.Identity(), torch.nn.Linear(D, BITS)
    defaults = {
        "models": {"trunk": trunk, "embedder": embedder},
        "optimizers": {"embedder_optimizer": torch.optim.Adam(embedder.parameters(), 0.02)},
        "batch_size": 16,
        "loss_funcs": {"metric_loss": loss},
        "dataset": TensorDataset(*data()) if dataset is None else dataset,
        "data_device": CPU,
        "dataloader_num_workers": 0,
        "freeze_these": ["trunk"],
    }
    return {**defaults, **kwargs}


class Recorder(DPSHLoss):
    def forward(self, embeddings, labels=None, indices_tuple=None, *args):
        self.seen = labels, indices_tuple
        return super().forward(embeddings, labels, indices_tuple, *args)


def test_the_plain_trainer_trains_on_the_first_label_alone():
    loss = Recorder()
    with pytest.warns(UserWarning, match=r"one column of 4.*multilabel\(Trainer\)"):
        trainers.MetricLossOnly(**trainer_arguments(loss)).train()
    assert loss.seen[0].shape == (16,)
    assert not loss.seen[0].any()


class Lists(Dataset):
    """Rows as lists: the default collation makes a list of columns of them."""

    def __len__(self):
        return 64

    def __getitem__(self, item):
        x, rows = data()
        return x[item], rows[item].tolist()


class Arrays(Lists):
    def __getitem__(self, item):
        x, rows = data()
        return x[item], rows[item].numpy()


@pytest.mark.parametrize(
    "dataset", [None, Lists(), Arrays()], ids=["tensor", "list", "array"]
)
def test_whole_rows_reach_the_loss(dataset):
    loss = Recorder()
    trainer = multilabel(trainers.MetricLossOnly)(**trainer_arguments(loss, dataset))
    trainer.train()
    labels, indices = loss.seen
    assert labels.shape == (16, C)
    assert indices is None
    all_rows = {tuple(row) for row in data()[1].tolist()}
    assert {tuple(row) for row in labels.tolist()} <= all_rows


def retrieval_map(trainer):
    (u, rows), (v, more) = data(seed=1), data(200, seed=2)
    embedder = trainer.models["embedder"].eval()
    with torch.no_grad():
        codes, others = binarize(embedder(u)), binarize(embedder(v))
    return mean_average_precision(codes, rows, others, more)


MAKERS = {
    "dpsh": DPSHLoss,
    "contrastive": lambda: MultiLabelLoss(losses.ContrastiveLoss()),
    "contrastive with a miner": lambda: MultiLabelLoss(
        losses.ContrastiveLoss(), miners.PairMarginMiner()
    ),
    "memory": lambda: HashCrossBatchMemory(DPSHLoss(), BITS, 48, num_classes=C),
    "memory of contrastive": lambda: HashCrossBatchMemory(
        MultiLabelLoss(losses.ContrastiveLoss()), BITS, 48, num_classes=C
    ),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_training_improves_retrieval_by_shared_labels(make):
    trainer = multilabel(trainers.MetricLossOnly)(**trainer_arguments(make()))
    before = retrieval_map(trainer)
    trainer.train(num_epochs=12)
    assert retrieval_map(trainer) > before + 0.2


def test_the_trainer_s_miner_works_on_shared_labels():
    loss, rows = Recorder(), []

    class Miner(miners.BatchHardMiner):
        def mine(self, embeddings, labels, *args):
            rows.append(labels.rows)
            return super().mine(embeddings, labels, *args)

    arguments = trainer_arguments(loss, mining_funcs={"tuple_miner": Miner()})
    multilabel(trainers.MetricLossOnly)(**arguments).train()
    anchors, positives, negatives = loss.seen[1]
    assert len(anchors) > 0
    shared = rows[-1] @ rows[-1].T
    assert (shared[anchors, positives] > 0).all()
    assert (shared[anchors, negatives] == 0).all()


def test_with_a_sampler():
    _, rows = data()
    sampler = MultiLabelMPerClassSampler(rows, 4, 12, length_before_new_iter=60)
    loss = Recorder()
    arguments = trainer_arguments(loss, sampler=sampler, batch_size=12)
    multilabel(trainers.MetricLossOnly)(**arguments).train()
    assert (loss.seen[0].sum(0)[1:] >= 4).all()


def classifier_arguments(classifier_loss):
    classifier = torch.nn.Linear(BITS, C)
    arguments = trainer_arguments(MultiLabelLoss(losses.MultiSimilarityLoss()))
    arguments["models"]["classifier"] = classifier
    arguments["optimizers"]["classifier_optimizer"] = torch.optim.Adam(
        classifier.parameters(), 0.05
    )
    arguments["loss_funcs"]["classifier_loss"] = classifier_loss
    return arguments


@pytest.mark.parametrize(
    "classifier_loss", [torch.nn.BCEWithLogitsLoss(), torch.nn.CrossEntropyLoss()]
)
def test_train_with_classifier(classifier_loss):
    trainer = multilabel(trainers.TrainWithClassifier)(
        **classifier_arguments(classifier_loss)
    )
    trainer.train(num_epochs=25)
    x, rows = data(200, seed=2)
    with torch.no_grad():
        logits = trainer.models["classifier"](trainer.models["embedder"](x))
    present, absent = logits[rows == 1].mean(), logits[rows == 0].mean()
    assert present > absent + 1


def test_without_a_classifier_loss():
    arguments = classifier_arguments(torch.nn.BCEWithLogitsLoss())
    arguments["loss_weights"] = {"metric_loss": 1, "classifier_loss": 0}
    trainer = multilabel(trainers.TrainWithClassifier)(**arguments)
    trainer.train()


class TwoStreams(Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, item):
        x, rows = data()
        return x[item], x[item] + 0.01, rows[item]


@pytest.mark.parametrize("miner", [None, miners.TripletMarginMiner(margin=5)])
def test_two_streams(miner):
    loss = Recorder()
    funcs = {} if miner is None else {"tuple_miner": miner}
    arguments = trainer_arguments(loss, TwoStreams(), mining_funcs=funcs)
    multilabel(trainers.TwoStreamMetricLoss)(**arguments).train()
    labels, (anchors, positives, negatives) = loss.seen
    assert labels.shape == (32, C)
    shared = labels @ labels.T
    assert (anchors < 16).all()
    assert (positives >= 16).all()
    assert (shared[anchors, positives] > 0).all()
    assert (shared[anchors, negatives] == 0).all()


def test_cascaded_embeddings():
    first, second = Recorder(), Recorder()
    arguments = trainer_arguments(
        None,
        loss_funcs={"metric_loss_0": first, "metric_loss_1": second},
        mining_funcs={
            "tuple_miner_0": miners.HDCMiner(),
            "tuple_miner_1": miners.HDCMiner(),
        },
        embedding_sizes=[BITS // 2, BITS // 2],
    )
    trainer = multilabel(trainers.CascadedEmbeddings)(**arguments)
    trainer.train()
    for loss in (first, second):
        labels, (a1, p, a2, n) = loss.seen
        shared = labels @ labels.T
        assert (shared[a1, p] > 0).all()
        assert (shared[a2, n] == 0).all()
    # the second miner chooses among what the first has chosen
    assert len(second.seen[1][0]) < len(first.seen[1][0])


def make_tester(**kwargs):
    arguments = {"data_device": CPU, "dataloader_num_workers": 0, **kwargs}
    return multilabel(testers.GlobalEmbeddingSpaceTester)(**arguments)


def split(count, seed):
    return TensorDataset(*data(count, seed))


def test_tester_judges_by_shared_labels():
    embedder = torch.nn.Linear(D, BITS)
    splits = {"query": split(30, 3), "base": split(80, 4)}
    accuracies = make_tester().test(
        splits, 1, torch.nn.Identity(), embedder, [("query", ["base"]), ("base", ["base"])]
    )
    codes = {}
    with torch.no_grad():
        for name, dataset in splits.items():
            codes[name] = binarize(embedder(dataset.tensors[0])), dataset.tensors[1]
    expected = mean_average_precision(*codes["query"], *codes["base"])
    assert accuracies["query"]["hamming_map_levelall"] == pytest.approx(expected)
    alone = mean_average_precision(*codes["base"], *codes["base"], ref_includes_query=True)
    assert accuracies["base"]["hamming_map_levelall"] == pytest.approx(alone)


def test_tester_with_a_calculator_of_pml():
    def shares(a, b):
        return (a * b).sum(-1) > 0

    calculator = AccuracyCalculator(
        include=("precision_at_1",), label_comparison_fn=shares, device=CPU
    )
    accuracies = make_tester(accuracy_calculator=calculator).test(
        {"val": split(40, 3)}, 1, torch.nn.Identity()
    )
    x, rows = (t.numpy() for t in data(40, 3))
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    similarity = x @ x.T
    hits = []
    for i in range(40):
        relevant = [j for j in range(40) if j != i and (rows[i] * rows[j]).any()]
        if relevant:
            nearest = max((j for j in range(40) if j != i), key=lambda j: similarity[i][j])
            hits.append(nearest in relevant)
    assert accuracies["val"]["precision_at_1_levelall"] == pytest.approx(np.mean(hits))


def test_two_stream_tester():
    make = multilabel(testers.GlobalTwoStreamEmbeddingSpaceTester)
    two_streams = make(data_device=CPU, dataloader_num_workers=0)
    embedder = torch.nn.Linear(D, BITS)
    accuracies = two_streams.test({"val": TwoStreams()}, 1, torch.nn.Identity(), embedder)
    x, rows = data()
    with torch.no_grad():
        codes, others = binarize(embedder(x)), binarize(embedder(x + 0.01))
    expected = mean_average_precision(codes, rows, others, rows)
    assert accuracies["val"]["hamming_map_levelall"] == pytest.approx(expected)


def test_visualizer_gets_whole_rows():
    seen = []

    class Visualizer:
        def fit_transform(self, embeddings):
            return embeddings[:, :2]

    make = make_tester(
        visualizer=Visualizer(),
        visualizer_hook=lambda visualizer, x, labels, *rest: seen.append(labels),
        end_of_testing_hook=lambda _: None,
    )
    make.label_levels = []
    make.test({"val": split(20, 3)}, 1, torch.nn.Identity())
    assert seen[0].shape == (20, C)


def test_hook_container(tmp_path):
    record_keeper, _, _ = logging_presets.get_record_keeper(str(tmp_path / "records"))
    hooks = logging_presets.HookContainer(
        record_keeper, primary_metric="hamming_map", log_freq=1
    )
    judge = make_tester(end_of_testing_hook=hooks.end_of_testing_hook)
    dataset_dict = {"val": split(40, 3)}
    folder = str(tmp_path / "models")

    def make():
        return multilabel(trainers.MetricLossOnly)(
            **trainer_arguments(
                HashCrossBatchMemory(
                    MultiLabelLoss(losses.ContrastiveLoss()), BITS, 100, num_classes=C
                ),
                end_of_iteration_hook=hooks.end_of_iteration_hook,
                end_of_epoch_hook=hooks.end_of_epoch_hook(judge, dataset_dict, folder),
            )
        )

    trainer = make()
    trainer.train(num_epochs=2)
    history = hooks.get_accuracy_history(judge, "val")
    assert history["epoch"] == [1, 2]
    assert all(0 < value <= 1 for value in history["hamming_map_levelall"])
    columns = "SELECT queue_idx FROM metric_loss_HashCrossBatchMemory"
    places = record_keeper.query(columns, return_dict=True)["queue_idx"]
    assert places == [16, 32, 48, 64, 80, 96, 12, 28]

    resumed = make()
    assert hooks.load_latest_saved_models(resumed, folder, CPU) == 3
    for name, value in trainer.loss_funcs["metric_loss"].state_dict().items():
        assert torch.equal(resumed.loss_funcs["metric_loss"].state_dict()[name], value)


def test_classes_are_made_once():
    assert multilabel(trainers.MetricLossOnly) is multilabel(trainers.MetricLossOnly)
    assert issubclass(multilabel(trainers.MetricLossOnly), trainers.MetricLossOnly)


MetricLossOnly = trainers.MetricLossOnly


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: multilabel(dict), "PML trainer or tester class, got dict"),
        (
            lambda: multilabel(trainers.DeepAdversarialMetricLearning),
            "cannot work on multi-hot labels: it draws its triplets class by class",
        ),
        (
            lambda: multilabel(testers.WithSameParentLabelTester),
            "cannot work on multi-hot labels: its label columns are levels",
        ),
        (lambda: make_tester(label_hierarchy_level=0), "must be 'all', got 0"),
        (lambda: make_tester(set_min_label_to_zero=True), "would renumber the 0 and 1"),
        (
            lambda: make_tester(accuracy_calculator=AccuracyCalculator(device=CPU)),
            "AccuracyCalculator compares class ids",
        ),
        (
            lambda: multilabel(MetricLossOnly)(
                **trainer_arguments(
                    DPSHLoss(), mining_funcs={"tuple_miner": miners.DistanceWeightedMiner()}
                )
            ),
            "DistanceWeightedMiner samples class by class",
        ),
        (
            lambda: multilabel(MetricLossOnly)(
                **trainer_arguments(DPSHLoss(), TensorDataset(data()[0], data()[1][:, 1]))
            ).train(),
            r"multi-hot rows \(B, C\) of 0 and 1, got shape \(16,\)",
        ),
        (
            lambda: multilabel(MetricLossOnly)(
                **trainer_arguments(DPSHLoss(), TensorDataset(data()[0], data()[1] / 2))
            ).train(),
            "must hold 0 and 1 only; .* soft or smoothed rows",
        ),
        (
            lambda: make_tester().test(
                {"val": TensorDataset(data()[0], data()[1][:, 1])}, 1, torch.nn.Identity()
            ),
            "for class ids use PML's own class",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_default_calculator_is_ours():
    assert isinstance(make_tester().accuracy_calculator, HammingAccuracyCalculator)
    ours = HammingAccuracyCalculator(device=CPU)
    assert make_tester(accuracy_calculator=ours).accuracy_calculator is ours
