"""Copies, pickles and averages of a head are in the stage of the head they are taken of."""

import copy
import logging
import pickle

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, WeightAveraging
from pytorch_metric_learning.losses import SupConLoss
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

from pml_nmlayer.codes import binarize
from pml_nmlayer.hooks import ProgressiveMerging
from pml_nmlayer.hooks.lightning_callback import ProgressiveMergingCallback
from pml_nmlayer.layers import NMLayer, ProgressiveHead
from pml_nmlayer.losses import NMLoss
from pml_nmlayer.merging.scorers import Correlation

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

LABELS = torch.arange(40) % 4
X = torch.randn(40, 10, generator=torch.Generator().manual_seed(1))
BITS = (24, 12, 6)
OPTIONS = [
    {},
    {"num_classes": 4},
    {"batch_norm": True},
    {"constant_width": True},
    {"longer": "joint"},
]
AVERAGES = {"SWA": None, "EMA": get_ema_multi_avg_fn(0.5)}


def make_head(**options):
    torch.manual_seed(0)
    return ProgressiveHead(10, BITS, **options)


def observe(head):
    head.observe(head(X), LABELS)


def move(head):
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


def assert_same_stage(one, other):
    """Width, bits, groups and phase, of what the head says and of what it puts out."""
    assert (one.stage, one.bits, one.finished) == (other.stage, other.bits, other.finished)
    for mine, layer in zip(one.layers, other.layers, strict=True):
        assert (mine.phase, mine.out_bits) == (layer.phase, layer.out_bits)
        assert torch.equal(mine.groups, layer.groups)
        assert torch.equal(mine.weights, layer.weights)
    assert torch.equal(one.merge_matrix(), other.merge_matrix())
    assert one.train()(X).shape == other.train()(X).shape
    assert one.eval()(X).shape == (40, other.bits)
    one.train()
    other.train()


def assert_consistent(head):
    """Outputs, codes and folds are those of the head's own numbers."""
    head.eval()
    h = head(X)
    u = head.linear(X)
    u = (head.norm(u) if head.norm is not None else u) @ head.merge_matrix().T
    if head.classes is not None:
        u = head.classes.add(u, head.classes.scores(X))
    torch.testing.assert_close(h, torch.tanh(u), rtol=0, atol=1e-5)
    assert torch.equal(head.codes(X), binarize(h))
    torch.testing.assert_close(head.fold()(X), h, rtol=0, atol=1e-5)
    head.train()


def assert_equal_heads(one, other):
    """The same numbers in the same stage."""
    assert_same_stage(one, other)
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    assert torch.equal(copy.deepcopy(one).eval()(X), copy.deepcopy(other).eval()(X))
    for bits in BITS[: one.stage + 1]:
        assert torch.equal(one.codes(X, bits), other.codes(X, bits))


# Copies


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda head: pickle.loads(pickle.dumps(head))],
    ids=["deepcopy", "pickle"],
)
@pytest.mark.parametrize("asked", [False, True], ids=["unasked", "asked"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_copy_is_in_the_same_stage_and_goes_its_own_way(copied, asked, options):
    head = make_head(**options)
    for stage in range(3):
        if asked:
            assert head.stage == stage  # the head knows it before it is copied
        other = copied(head)
        assert_equal_heads(other, head)
        if stage == 2:
            break
        before = copied(head)
        observe(other)
        other.merge_next()
        assert (other.stage, head.stage) == (stage + 1, stage)
        assert_equal_heads(before, head)  # which is left alone
        assert_consistent(other)
        observe(head)
        head.merge_next()
        assert_same_stage(other, head)
        move(head)


def test_head_and_loss_are_copied_together_right_after_a_pass():
    for options in OPTIONS:
        head = make_head(**options)
        loss = NMLoss(SupConLoss(), head)
        loss(head(X), LABELS)
        head.merge_next()
        h = head(X)
        twin, its_loss = copy.deepcopy((head, loss))
        assert its_loss.head is twin
        assert loss(h, LABELS) == its_loss(twin(X), LABELS)
        twin.merge_next()
        assert (twin.bits, head.bits) == (6, 12)


def test_a_state_that_replaces_the_buffers_is_seen():
    merged = make_head()
    observe(merged)
    merged.merge_next()
    for assign in (False, True):
        head = make_head()
        assert head.stage == 0
        head.load_state_dict(copy.deepcopy(merged.state_dict()), assign=assign)
        assert_equal_heads(head, merged)


# Averages


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("in_a_model", [False, True])
def test_an_average_of_parameters_follows_the_head_through_merges(
    average, options, in_a_model
):
    head = make_head(**options)
    model = nn.Sequential(nn.Identity(), head) if in_a_model else head
    averaged = AveragedModel(model, multi_avg_fn=AVERAGES[average], use_buffers=False)
    mine = averaged.module[1] if in_a_model else averaged.module
    for stage in range(3):
        for _ in range(3):
            move(head)
            observe(head)
            averaged.update_parameters(model)
            assert_same_stage(mine, head)
        assert_consistent(mine)
        assert averaged.eval()(X).shape == (40, BITS[stage])
        averaged.train()
        if stage < 2:
            head.merge_next()
            assert mine.stage == stage  # nothing has told it yet
            averaged.update_parameters(model)
            assert_same_stage(mine, head)
            assert_consistent(mine)
            for bits in BITS[: stage + 2]:
                assert mine.codes(X, bits).shape == mine.fold(bits)(X).shape == (40, bits)


def test_parameters_are_averaged_and_groups_are_not():
    head = make_head()
    averaged = AveragedModel(head, use_buffers=False)
    weights = []
    for step in range(4):
        move(head)
        observe(head)
        if step == 2:
            head.merge_next()
        averaged.update_parameters(head)
        weights.append(head.linear.weight.detach().clone())
    mean = torch.stack(weights).mean(0)
    torch.testing.assert_close(averaged.module.linear.weight.detach(), mean)
    expected = torch.tanh(
        (X @ mean.T + averaged.module.linear.bias) @ head.merge_matrix().T
    )
    torch.testing.assert_close(averaged.eval()(X), expected, rtol=0, atol=1e-5)


USES = {
    "forward": lambda head: head(X),
    "eval": lambda head: head.eval()(X),
    "codes": lambda head: head.codes(X),
    "fold": lambda head: head.fold(),
    "observe": lambda head: observe(head),
    "merge_next": lambda head: head.merge_next(),
    "bits": lambda head: head.bits,
    "merge_matrix": lambda head: head.merge_matrix(),
    "a copy": lambda head: copy.deepcopy(head).codes(X),
    "a pickle": lambda head: pickle.loads(pickle.dumps(head)).codes(X),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("decay", [0.5, 0.9])
@pytest.mark.parametrize("stage", [0, 1])
def test_averaged_buffers_are_refused_at_the_first_use(use, decay, stage):
    head = make_head()
    for _ in range(stage):
        observe(head)
        head.merge_next()
    averaged = AveragedModel(
        head, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True
    )
    for _ in range(2):
        observe(head)
        averaged.update_parameters(head)
    head.merge_next()
    averaged.update_parameters(head)
    with pytest.raises(RuntimeError, match="use_buffers=False"):
        USES[use](averaged.module)
    with pytest.raises(RuntimeError, match="use_buffers=False"):  # and at each later one
        USES[use](averaged.module)
    assert head.codes(X).shape == (40, BITS[stage + 1])  # the head itself is sound


def test_plain_averages_of_buffers_are_refused_in_words():
    head = make_head()
    averaged = AveragedModel(head, use_buffers=True)
    observe(head)
    averaged.update_parameters(head)
    head.merge_next()
    with pytest.raises(RuntimeError, match="use_buffers=False"):  # noqa: PT012
        averaged.update_parameters(head)
        averaged(X)


def test_averaged_buffers_of_a_layer_alone_are_refused():
    a, b = (torch.randint(2, (60, 1)) * 2.0 - 1 for _ in range(2))
    layer = NMLayer(4, 2, scorer=Correlation(weighting="equal"))
    averaged = AveragedModel(
        layer, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True
    )
    layer.observe(torch.cat([a, b, -a, b], 1))
    averaged.update_parameters(layer)
    layer.freeze()
    averaged.update_parameters(layer)  # from [0, 1, 2, 3] and [0, 1, 0, 1]
    with pytest.raises(RuntimeError, match="use_buffers=False"):
        averaged(torch.ones(1, 4))


def test_a_state_of_averaged_buffers_is_refused_too():
    head = make_head()
    averaged = AveragedModel(head, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    for _ in range(2):
        observe(head)
        averaged.update_parameters(head)
    head.merge_next()
    averaged.update_parameters(head)
    other = make_head()
    with pytest.raises(RuntimeError, match="use_buffers=False"):  # noqa: PT012
        other.load_state_dict(averaged.module.state_dict())
        other.codes(X)


def test_what_was_written_past_the_version_counter_is_seen():
    """As Lightning's WeightAveraging does around every validation."""
    head, other = make_head(), make_head()
    observe(head)
    head.merge_next()

    def swap():
        ours, theirs = ([*each.parameters(), *each.buffers()] for each in (head, other))
        for mine, its in zip(ours, theirs, strict=True):
            kept = mine.data.clone()
            mine.data.copy_(its.data)
            its.data.copy_(kept)

    swap()
    assert head.eval()(X).shape == (40, 24)
    swap()
    assert head.train()(X).shape == (40, 12)
    assert (head.bits, head.stage) == (12, 1)


# Lightning's callbacks


class Module(LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.head = ProgressiveHead(10, (12, 6), num_classes=4)
        self.loss = NMLoss(SupConLoss(), self.head)
        self.validated = []

    def training_step(self, batch, batch_idx):
        x, y = batch
        return self.loss(self.head(x), y)

    def validation_step(self, batch, batch_idx):
        assert_consistent(self.head)
        self.head.eval()
        self.validated.append(self.head(batch[0]).shape[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


class Watch(Callback):
    def __init__(self):
        self.bits = []

    def on_train_epoch_end(self, trainer, module):
        self.bits.append(module.head.bits)


lightning = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*but have no .val_dataloader.",
    "ignore:.*LeafSpec.* is deprecated:FutureWarning",
)
CALLBACKS = {
    "SWA": WeightAveraging,
    "EMA": lambda **options: EMAWeightAveraging(decay=0.5, **options),
    "EMA, now and then": lambda **options: EMAWeightAveraging(
        decay=0.5, update_every_n_steps=3, **options
    ),
}


def fit(averaging, averaging_first, validate=True):
    module, watch = Module(), Watch()
    merging = ProgressiveMergingCallback(
        ProgressiveMerging(module.head, epochs_per_stage=2)
    )
    callbacks = [averaging, merging] if averaging_first else [merging, averaging]
    loader = DataLoader(TensorDataset(X, LABELS), batch_size=20)
    Trainer(
        accelerator="cpu",
        max_epochs=4,
        callbacks=[*callbacks, watch],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=1 if validate else 0,
    ).fit(module, loader, loader if validate else None)
    return module, watch


@lightning
@pytest.mark.parametrize("callback", CALLBACKS)
@pytest.mark.parametrize(
    ("averaging_first", "validate"),
    [
        (False, False),
        (True, False),
        (False, True),
        pytest.param(True, True),  # validates the average of before the merge
    ],
)
def test_lightnings_averages_of_parameters_train_through_a_merge(
    callback, averaging_first, validate
):
    averaging = CALLBACKS[callback](use_buffers=False)
    module, watch = fit(averaging, averaging_first, validate)
    assert watch.bits == [12, 6, 6, 6]
    assert module.head.bits == 6  # now with averaged parameters
    assert_consistent(module.head)


@lightning
@pytest.mark.parametrize(
    ("callback", "validate"),
    [
        pytest.param("SWA", False),
        pytest.param("SWA", True),
        pytest.param("EMA", False),
        ("EMA", True),
        pytest.param("EMA, now and then", False),
        ("EMA, now and then", True),
    ],
)
def test_lightnings_default_is_refused(callback, validate):
    with pytest.raises(RuntimeError, match="use_buffers=False"):  # noqa: PT012
        module, _ = fit(CALLBACKS[callback](), averaging_first=False, validate=validate)
        module.head.codes(X)
