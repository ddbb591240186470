"""What works with what: every cell of the matrices is a run, not an opinion."""

import contextlib
import inspect
import math
import tempfile
from collections.abc import Callable

import torch
from pytorch_metric_learning import distances, losses, miners, reducers
from pytorch_metric_learning.losses import BaseMetricLossFunction
from pytorch_metric_learning.utils import logging_presets
from torch import nn

import pml_nmlayer.losses as our_losses
from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.losses import (
    HashCrossBatchMemory,
    HashSelfSupervisedLoss,
    MultiLabelLoss,
    NMLoss,
)
from pml_nmlayer.losses.base_hashing_loss import BaseHashingLoss
from pml_nmlayer.regularizers import QuantizationRegularizer

BATCH, BITS, CLASSES = 24, 16, 4
COLUMNS = 7  # of a table, the names of rows included


def embeddings(seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(BATCH, BITS, generator=generator, dtype=dtype).requires_grad_()


def class_ids() -> torch.Tensor:
    return torch.arange(BATCH) % CLASSES


def multi_hot() -> torch.Tensor:
    rows = torch.nn.functional.one_hot(class_ids(), CLASSES)
    rows[::3] |= rows[1::3].roll(1, 0)  # every third item has two labels
    return rows


def build(cls: type, **kwargs):
    """Construct a loss, with PML's class arguments where it wants them."""
    arguments_of_pml = (
        {},
        {"num_classes": CLASSES, "embedding_size": BITS},
        {"num_classes": CLASSES, "descriptors_dim": BITS},
        {"margin": 1.0, "Tn": 1.0},
        {"l": BITS, "K": 8},
    )
    for needed in arguments_of_pml:
        with contextlib.suppress(TypeError, KeyError):
            return cls(**needed, **kwargs)
    raise TypeError(f"cannot build {cls.__name__} with {kwargs}")


def our_classes() -> list[type]:
    return [
        thing
        for _, thing in sorted(vars(our_losses).items())
        if inspect.isclass(thing) and issubclass(thing, BaseHashingLoss)
    ]


def pml_classes() -> list[type]:
    left_out = {
        "BaseMetricLossFunction",
        "GenericPairLoss",
        "WeightRegularizerMixin",
    }
    return [
        thing
        for name, thing in sorted(vars(losses).items())
        if inspect.isclass(thing)
        and issubclass(thing, BaseMetricLossFunction)
        and name not in left_out
    ]


def check_runs(loss, u, *args, **kwargs) -> torch.Tensor:
    """Forward and backward; value and gradient are finite, and the gradient is not 0."""
    value = loss(u, *args, **kwargs)
    assert value.ndim == 0 or value.numel() == 1, f"not a scalar: {tuple(value.shape)}"
    assert math.isfinite(value.item()), f"value {value.item()}"
    (gradient,) = torch.autograd.grad(value, u, allow_unused=True)
    assert gradient is not None, "no gradient"
    assert torch.isfinite(gradient).all(), "gradient is not finite"
    assert gradient.any(), "gradient is zero"
    return value


# Features of PML, each a function of a class of ours. Refusals raise ValueError.


def with_class_ids(cls):
    check_runs(build(cls), embeddings(), class_ids())


def with_multi_hot(cls):
    check_runs(build(cls), embeddings(), multi_hot())


def with_float64(cls):
    value = check_runs(build(cls), embeddings(dtype=torch.float64), class_ids())
    assert value.dtype == torch.float64


def with_autocast(cls):
    torch.manual_seed(0)
    loss = build(cls).eval()
    expected = loss(embeddings(), class_ids())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = check_runs(loss, embeddings(), class_ids())
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


def with_miner(cls):
    u = embeddings()
    pairs = miners.MultiSimilarityMiner(epsilon=0.5)(u, class_ids())
    check_runs(build(cls), u, class_ids(), pairs)


def with_ref_emb(cls):
    kwargs = {"ref_emb": embeddings(1).detach(), "ref_labels": class_ids().flip(0)}
    check_runs(build(cls), embeddings(), class_ids(), **kwargs)


def with_reducer(cls):
    torch.manual_seed(0)
    loss = build(cls, reducer=reducers.ClassWeightedReducer(torch.full((CLASSES,), 2.0)))
    torch.manual_seed(0)
    plain = build(cls)
    loss.eval(), plain.eval()
    value = check_runs(loss, embeddings(), class_ids())
    torch.testing.assert_close(value, 2 * plain(embeddings(), class_ids()))


def with_distance(cls):
    distance = distances.DotProductSimilarity(normalize_embeddings=True)
    torch.manual_seed(0)
    value = check_runs(build(cls, distance=distance).eval(), embeddings(), class_ids())
    torch.manual_seed(0)
    plain = build(cls).eval()(embeddings(), class_ids())
    if torch.equal(value, plain):
        raise ValueError("the distance is not used")


def with_regularizer(cls):
    torch.manual_seed(0)
    loss = build(cls, embedding_regularizer=QuantizationRegularizer())
    torch.manual_seed(0)
    plain = build(cls)
    loss.eval(), plain.eval()
    value = check_runs(loss, embeddings(), class_ids())
    expected = plain(embeddings(), class_ids()) + QuantizationRegularizer()(embeddings())
    torch.testing.assert_close(value, expected)


def with_memory(cls):
    loss = HashCrossBatchMemory(build(cls), BITS, memory_size=64)
    check_runs(loss, embeddings(), class_ids())
    check_runs(loss, embeddings(1), class_ids())


def with_two_views(cls):
    loss = HashSelfSupervisedLoss(build(cls))
    check_runs(loss, embeddings(), embeddings(1))


def with_multiple_losses(cls):
    torch.manual_seed(0)
    one, other = build(cls), losses.ContrastiveLoss()
    both = losses.MultipleLosses([one, other])
    both.eval()
    value = check_runs(both, embeddings(), class_ids())
    expected = one(embeddings(), class_ids()) + other(embeddings(), class_ids())
    torch.testing.assert_close(value, expected)


def with_stats(cls):
    loss = build(cls, collect_stats=True)
    check_runs(loss, embeddings(), class_ids())
    recorded = getattr(loss, "_record_these", [])
    for name in recorded:
        getattr(loss, name)


def with_record_keeper(cls):
    """What HookContainer does after an iteration: walk through a loss and log it."""
    loss = build(cls, collect_stats=True)
    check_runs(loss, embeddings(), class_ids())
    record(loss)


def record(loss):
    with tempfile.TemporaryDirectory() as folder:
        keeper, _, _ = logging_presets.get_record_keeper(folder)
        keeper.update_records({"metric_loss": loss}, 1, recursive_types=[nn.Module, dict])
        keeper.save_records()


def with_nm_loss(cls):
    torch.manual_seed(0)
    head = ProgressiveHead(8, bits=(BITS, 8))
    loss = build(cls).eval()
    expected = loss(embeddings(), class_ids())
    wrapped = NMLoss(loss, head)
    value = check_runs(wrapped, embeddings(), class_ids())
    torch.testing.assert_close(value, expected)
    assert head.layers[0].graph.items == BATCH
    record(wrapped)


FEATURES: dict[str, Callable[[type], None]] = {
    "class ids": with_class_ids,
    "multi-hot labels": with_multi_hot,
    "float64": with_float64,
    "bfloat16 autocast": with_autocast,
    "miner": with_miner,
    "ref_emb": with_ref_emb,
    "reducer": with_reducer,
    "distance": with_distance,
    "embedding_regularizer": with_regularizer,
    "HashCrossBatchMemory": with_memory,
    "HashSelfSupervisedLoss": with_two_views,
    "MultipleLosses": with_multiple_losses,
    "collect_stats": with_stats,
    "record keeper": with_record_keeper,
    "NMLoss": with_nm_loss,
}


# Our wrappers around every loss of PML.


def alone(cls):
    """PML's loss as it is; some do not run on every version of torch."""
    try:
        check_runs(build(cls), embeddings(), *_labels_of(cls))
    except Exception as error:
        raise ValueError(f"Without any wrapper: {type(error).__name__}: {error}") from error


def nm_loss(cls):
    head = ProgressiveHead(8, bits=(BITS, 8))
    loss = build(cls)
    torch.manual_seed(0)
    value = check_runs(NMLoss(loss, head), embeddings(), *_labels_of(cls))
    torch.manual_seed(0)
    torch.testing.assert_close(value, loss(embeddings(), *_labels_of(cls)))


def multilabel_loss(cls):
    check_runs(MultiLabelLoss(build(cls)), embeddings(), multi_hot())


def multilabel_loss_with_miner(cls):
    miner = miners.MultiSimilarityMiner(epsilon=0.5)
    check_runs(MultiLabelLoss(build(cls), miner), embeddings(), multi_hot())


def multilabel_memory(cls):
    loss = MultiLabelLoss(build(cls))
    memory = HashCrossBatchMemory(loss, BITS, memory_size=64, num_classes=CLASSES)
    check_runs(memory, embeddings(), multi_hot())
    check_runs(memory, embeddings(1), multi_hot())


def lifted_head(cls):
    """Train one step before and one after a merge with the same loss object."""
    torch.manual_seed(0)
    head = ProgressiveHead(8, bits=(BITS, 8), constant_width=True)
    loss = NMLoss(build(cls), head)
    for step in range(2):
        out = head(torch.randn(BATCH, 8))
        check_runs(loss, out, *_labels_of(cls))
        if step == 0:
            if not _labels_of(cls):
                head.observe(out, class_ids())
            head.merge_next()


def _labels_of(cls):
    return () if cls.__name__ in ("VICRegLoss", "ManifoldLoss") else (class_ids(),)


WRAPPERS: dict[str, Callable[[type], None]] = {
    "alone": alone,
    "NMLoss": nm_loss,
    "NMLoss with a lifted head": lifted_head,
    "MultiLabelLoss": multilabel_loss,
    "MultiLabelLoss with a miner": multilabel_loss_with_miner,
    "HashCrossBatchMemory(MultiLabelLoss)": multilabel_memory,
}


def matrix(classes: list[type], columns: dict[str, Callable[[type], None]]) -> str:
    """Run every cell; a ValueError is a refusal and becomes a note."""
    notes: list[str] = []
    lines = [
        "| | " + " | ".join(columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for cls in classes:
        cells: list[str] = []
        for run in columns.values():
            if columns is WRAPPERS and cells and cells[0] != "yes":
                cells.append("–")
                continue
            torch.manual_seed(0)
            try:
                with contextlib.redirect_stdout(None):
                    run(cls)
                cells.append("yes")
            except AssertionError as error:
                raise AssertionError(f"{cls.__name__}, {run.__name__}: {error}") from error
            except (ValueError, NotImplementedError) as refusal:
                text = " ".join(str(refusal).replace(cls.__name__, "It").split())
                if text not in notes:
                    notes.append(text)
                cells.append(f"no ({notes.index(text) + 1})")
        lines.append(f"| {cls.__name__} | " + " | ".join(cells) + " |")
    return page_part(lines, notes)


def page_part(lines: list[str], notes: list[str]) -> str:
    """Cut a wide table into narrow ones, and put the messages of refusals below."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    tables = []
    for first in range(1, len(rows[0]), COLUMNS - 1):
        parts = [[row[0], *row[first : first + COLUMNS - 1]] for row in rows]
        parts[1] = ["---"] * len(parts[0])
        tables.append("\n".join("| " + " | ".join(part) + " |" for part in parts))
    told = "\n".join(f"{i}. {note}" for i, note in enumerate(notes, start=1))
    return "\n\n".join([*tables, f"```text\n{told}\n```"])
