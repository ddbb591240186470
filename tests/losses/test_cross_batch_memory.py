import copy
import importlib
import pkgutil

import pytest
import torch
from pytorch_metric_learning import losses, miners
from pytorch_metric_learning.utils import loss_and_miner_utils as lmu

import pml_nmlayer.losses
from pml_nmlayer.losses import DPSHLoss, HashCrossBatchMemory, MultiLabelLoss
from pml_nmlayer.losses.base_hashing_loss import BaseHashingLoss

K, M, B, C = 6, 10, 4, 3  # M is no multiple of B: batches wrap around in the memory


def batches(count, size=B):
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        ids = torch.randint(C, (size,), generator=generator)
        yield torch.randn(size, K, generator=generator), ids


def one_hot(ids):
    return torch.nn.functional.one_hot(ids, C)


LOSSES = {
    "contrastive": losses.ContrastiveLoss,
    "multi similarity": losses.MultiSimilarityLoss,
    "triplet": losses.TripletMarginLoss,
    "nca": losses.NCALoss,
}
MINERS = {
    "no miner": lambda: None,
    "multi similarity": miners.MultiSimilarityMiner,
    "batch hard": miners.BatchHardMiner,
}


@pytest.mark.parametrize("make", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("miner", MINERS.values(), ids=MINERS)
@pytest.mark.parametrize("size", [B, M // 2, M])
def test_class_ids_as_in_pml(make, miner, size):
    ours = HashCrossBatchMemory(make(), K, M, miner())
    theirs = losses.CrossBatchMemory(make(), K, M, miner())
    for u, ids in batches(7, size):
        x, y = u.clone().requires_grad_(), u.clone().requires_grad_()
        expected = theirs(y, ids)
        found = ours(x, ids)
        torch.testing.assert_close(found, expected)
        expected.backward()
        found.backward()
        torch.testing.assert_close(x.grad, y.grad)
        assert torch.equal(ours.embedding_memory, theirs.embedding_memory)
        assert torch.equal(ours.label_memory, theirs.label_memory)
        assert int(ours.queue_idx) == theirs.queue_idx
        assert bool(ours.has_been_filled) == theirs.has_been_filled


@pytest.mark.parametrize("make", [losses.ContrastiveLoss, losses.MultiSimilarityLoss])
@pytest.mark.parametrize("miner", MINERS.values(), ids=MINERS)
def test_one_hot_rows_as_class_ids(make, miner):
    rows = HashCrossBatchMemory(MultiLabelLoss(make()), K, M, miner(), num_classes=C)
    plain = HashCrossBatchMemory(make(), K, M, miner())
    for u, ids in batches(7):
        torch.testing.assert_close(rows(u, one_hot(ids)), plain(u, ids))
    assert rows.label_memory.shape == (M, C)


def hashing_losses():
    """All of this package, by name."""
    for info in pkgutil.iter_modules(pml_nmlayer.losses.__path__):
        module = importlib.import_module(f"pml_nmlayer.losses.{info.name}")
        for name, thing in vars(module).items():
            if isinstance(thing, type) and issubclass(thing, BaseHashingLoss):
                yield name, thing


OURS = {
    name: loss
    for name, loss in hashing_losses()
    if name in set(HashCrossBatchMemory.supported_losses())
}


def test_hashing_losses_are_there():
    theirs = set(losses.CrossBatchMemory.supported_losses()) | {"MultiLabelLoss"}
    assert set(OURS) == set(HashCrossBatchMemory.supported_losses()) - theirs


@pytest.mark.parametrize("make", OURS.values(), ids=OURS)
def test_a_hashing_loss_takes_rows_and_class_ids(make):
    rows = HashCrossBatchMemory(make(), K, M, num_classes=C)
    plain = HashCrossBatchMemory(make(), K, M)
    for u, ids in batches(7):
        x = u.clone().requires_grad_()
        loss = rows(x, one_hot(ids))
        torch.testing.assert_close(loss, plain(u, ids))
        loss.backward()
        assert x.grad.any()


@pytest.mark.parametrize("make", OURS.values(), ids=OURS)
def test_a_hashing_loss_against_a_full_memory(make):
    memory, direct = HashCrossBatchMemory(make(), K, M), make()
    steps = list(batches(5))
    stored = torch.zeros(M, K), torch.zeros(M, dtype=torch.long)
    for step, (u, ids) in enumerate(steps):
        own = (step * B + torch.arange(B)) % M
        stored[0][own], stored[1][own] = u, ids
        filled = slice(min((step + 1) * B, M))
        same = ids[:, None] == stored[1][filled]
        other = torch.arange(M)[filled] != own[:, None]
        pairs = *torch.where(same & other), *torch.where(~same)
        expected = direct(u, ids, pairs, stored[0][filled], stored[1][filled])
        torch.testing.assert_close(memory(u, ids), expected)


def pairs_with_memory(labels, memory_labels, own):
    """Rows of both, and where the batch lies in the memory -> positives, negatives."""
    pos, neg = [], []
    for i, row in enumerate(labels):
        for j, other in enumerate(memory_labels):
            if own[i] != j:
                shares = any(a and b for a, b in zip(row, other, strict=True))
                (pos if shares else neg).append((i, j))
    return pos, neg


@pytest.mark.parametrize("miner", [None, miners.HDCMiner(1.0)], ids=["none", "all"])
def test_pairs_equal_loop_with_items_without_labels(miner):
    seen = []

    class Spy(losses.ContrastiveLoss):
        def compute_loss(self, embeddings, labels, indices_tuple, *args):
            seen.append(indices_tuple)
            return super().compute_loss(embeddings, labels, indices_tuple, *args)

    Spy.__name__ = "ContrastiveLoss"
    memory = HashCrossBatchMemory(MultiLabelLoss(Spy()), K, M, miner, num_classes=C)
    stored = torch.zeros(0, C)
    for step, (u, _) in enumerate(batches(6)):
        rows = (torch.rand(B, C) < 0.4).long()
        rows[0] = 0
        memory(u, rows)
        own = [(step * B + i) % M for i in range(B)]
        if len(stored) < M:
            stored = torch.cat([stored, torch.zeros(B, C)])[:M]
        stored[own] = rows.float()
        a1, p, a2, n = (index.tolist() for index in seen[-1])
        found = sorted(zip(a1, p, strict=True)), sorted(zip(a2, n, strict=True))
        assert found == pairs_with_memory(rows.tolist(), stored.tolist(), own)


@pytest.mark.parametrize("saved_after", range(6))
@pytest.mark.parametrize("loaded_into_after", [0, 2, 5])
def test_a_resumed_run_goes_on_where_it_was(saved_after, loaded_into_after):
    def make():
        return HashCrossBatchMemory(DPSHLoss(), K, M, num_classes=C)

    whole, resumed = make(), make()
    steps = list(batches(6))
    for u, ids in steps[:loaded_into_after]:
        resumed(u.flip(0), one_hot(ids))
    for u, ids in steps[:saved_after]:
        whole(u, one_hot(ids))
    state = copy.deepcopy(whole.state_dict())
    assert {"queue_idx", "has_been_filled"} <= state.keys()
    resumed.load_state_dict(state, strict=True)
    for u, ids in steps[saved_after:]:
        expected = whole(u, one_hot(ids))
        torch.testing.assert_close(resumed(u, one_hot(ids)), expected, rtol=0, atol=0)


def test_state_keeps_its_shapes():
    memory = HashCrossBatchMemory(DPSHLoss(), K, M, num_classes=C)
    shapes = {name: value.shape for name, value in memory.state_dict().items()}
    for u, ids in batches(5):
        memory(u, one_hot(ids))
        state = memory.state_dict()
        assert {name: value.shape for name, value in state.items()} == shapes


def test_reset_empties_the_memory():
    memory = HashCrossBatchMemory(DPSHLoss(), K, M)
    first = [memory(u, ids) for u, ids in batches(5)]
    memory.reset_queue()
    again = [memory(u, ids) for u, ids in batches(5)]
    torch.testing.assert_close(again, first, rtol=0, atol=0)


@pytest.mark.parametrize("num_classes", [None, C])
def test_pairs_within_the_batch_are_looked_up_where_the_batch_lies(num_classes):
    # in PML they would point at the first rows of the memory, at other items
    inner = DPSHLoss(quantization_weight=0, preset="paper")
    memory = HashCrossBatchMemory(inner, K, M, _Nothing(), num_classes=num_classes)
    for u, ids in batches(4):
        labels = ids if num_classes is None else one_hot(ids)
        within = lmu.get_all_pairs_indices(ids)
        found = memory(u, labels, within)
        torch.testing.assert_close(found, inner(u, ids))
        triplets = miners.TripletMarginMiner(margin=10)(u, ids)
        found = memory(u, labels, triplets)
        torch.testing.assert_close(found, inner(u, ids, triplets))


class _Nothing(torch.nn.Module):
    def forward(self, *_):
        return (torch.zeros(0, dtype=torch.long),) * 4


def test_pairs_within_the_batch_join_those_of_a_triplet_miner():
    u, ids = next(batches(1))
    within = lmu.get_all_pairs_indices(ids)
    inner = losses.TripletMarginLoss()
    memory = HashCrossBatchMemory(inner, K, M, miners.TripletMarginMiner(margin=10))
    # in the first step memory and batch are the same, so every triplet comes twice
    torch.testing.assert_close(memory(u, ids, within), inner(u, ids))


def test_enqueue_mask():
    memory = HashCrossBatchMemory(
        DPSHLoss(quantization_weight=0, preset="paper"), K, M, num_classes=C
    )
    u, ids = next(batches(1, size=7))
    mask = torch.tensor([1, 0, 1, 1, 0, 0, 1]).bool()
    found = memory(u, one_hot(ids), enqueue_mask=mask)
    expected = DPSHLoss(quantization_weight=0, preset="paper")(
        u[~mask], ids[~mask], ref_emb=u[mask], ref_labels=ids[mask]
    )
    torch.testing.assert_close(found, expected)
    assert int(memory.queue_idx) == 4


def test_nothing_enqueued_leaves_the_memory_as_it_is():
    memory = HashCrossBatchMemory(DPSHLoss(), K, M)
    (u, ids), (v, more) = batches(2)
    memory(u, ids)
    loss = memory(v, more, enqueue_mask=torch.zeros(B, dtype=torch.bool))
    assert (int(memory.queue_idx), bool(memory.has_been_filled)) == (B, False)
    expected = DPSHLoss()(v, more, ref_emb=u, ref_labels=ids)
    torch.testing.assert_close(loss, expected)


def test_a_single_item_is_not_paired_with_itself():
    memory = HashCrossBatchMemory(losses.ContrastiveLoss(), K, M)
    for _ in range(2 * M):
        u = torch.randn(1, K, requires_grad=True)
        memory(u, torch.tensor([0]))
        indices = memory.create_indices_tuple(
            u, torch.tensor([0]), memory.embedding_memory, memory.label_memory, None, True
        )
        assert len(indices[0]) == M - 1


def test_the_memory_carries_no_gradient():
    memory = HashCrossBatchMemory(DPSHLoss(), K, M)
    (u, ids), (v, more) = batches(2)
    u.requires_grad_()
    memory(u, ids)
    memory(v.requires_grad_(), more).backward()
    assert u.grad is None
    assert not memory.embedding_memory.requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(dtype):
    memory = HashCrossBatchMemory(MultiLabelLoss(losses.NTXentLoss()), K, M, num_classes=C)
    for u, ids in batches(4):
        assert torch.isfinite(memory(u.to(dtype), one_hot(ids)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for u, ids in batches(4):
            assert torch.isfinite(memory(u.bfloat16(), one_hot(ids)))


def make(loss=None, **kwargs):
    return HashCrossBatchMemory(DPSHLoss() if loss is None else loss, K, M, **kwargs)


def test_class_ids_with_a_miner_that_goes_through_classes():
    memory = make(losses.TripletMarginLoss(), miner=miners.DistanceWeightedMiner())
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        u = torch.randn(4, K, generator=generator, requires_grad=True)
        loss = memory(u, torch.tensor([0, 0, 1, 1]))
    loss.backward()
    assert loss > 0
    assert u.grad.isfinite().all()


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: make(losses.ArcFaceLoss(3, K)), "does not support ArcFaceLoss; use one"),
        (
            lambda: make(MultiLabelLoss(losses.HistogramLoss())),
            "does not support HistogramLoss",
        ),
        (
            lambda: make(MultiLabelLoss(losses.ContrastiveLoss(), miners.HDCMiner())),
            "the miner must see the memory",
        ),
        (
            lambda: make(losses.ContrastiveLoss(), num_classes=C),
            r"HashCrossBatchMemory\(MultiLabelLoss\(ContrastiveLoss",
        ),
        (
            lambda: make(miner=miners.DistanceWeightedMiner(), num_classes=C),
            "samples class by class",
        ),
        (
            lambda: make(num_classes=C)(torch.randn(2, K), torch.zeros(2)),
            r"num_classes=3 labels must be multi-hot rows \(B, 3\), got shape \(2,\)",
        ),
        (
            lambda: make()(torch.randn(2, K), torch.zeros(2, 3)),
            r"num_classes=None labels must be class ids \(B,\), got shape \(2, 3\)",
        ),
        (
            lambda: make(num_classes=C)(torch.randn(2, K), torch.full((2, C), 0.5)),
            "must hold 0 and 1 only",
        ),
        (
            lambda: make()(torch.randn(M + 1, K), torch.zeros(M + 1)),
            "cannot enqueue 11 items into a memory of 10",
        ),
    ],
)
def test_bad_input(use, message):
    with pytest.raises(ValueError, match=message):
        use()
