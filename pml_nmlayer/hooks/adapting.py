"""Adapt a head from a loader of unlabelled items, by itself or when a trainer is done."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler
from tqdm import tqdm

from ..layers import ProgressiveHead
from ..runtime.process_group import rank_and_size, together

_BATCH_SIZE = 256  # where a dataset is given, not a loader
_MARK = "_adapts"

Getter = Callable[[Any], Any]


def adapt_head(
    trunk: nn.Module,
    head: ProgressiveHead,
    unlabelled: Any,
    *,
    labelled: Any = None,
    get_data_and_label: Getter | None = None,
    random_state: int = 0,
    progress: bool = False,
) -> None:
    """Adapt a trained head to items that will be searched, see `ProgressiveHead.adapt`.

    The trunk maps all items in eval mode, without gradients, where its parameters lie. It
    stays as it is, mode included. Trunk outputs of all items are held on the CPU. In a
    process group every process has to call it; process 0 reads and learns.

    Args:
        trunk: as in training.
        head: takes the outputs of the trunk; no DistributedDataParallel around it.
        unlabelled: a DataLoader, a dataset or a tensor of items that will be searched. Of
            batches (data, label, ...) the labels are ignored. The order is free.
        labelled: the same of items whose labels should count; None for none.
        get_data_and_label: makes (data, label) of a batch, as `data_and_label_getter` of
            PML's trainers does.
        random_state: one seed always gives the same head.
        progress: show a bar.

    Raises:
        TypeError: data that is neither a loader nor a dataset, or batches of another kind.
        ValueError: no items, labelled items without labels, trunk outputs of another width
            than the head takes, or a loader that gives process 0 a share of the items.

    Example:
        >>> trunk, head = nn.Flatten(), ProgressiveHead(12, bits=8)
        >>> database = DataLoader(torch.randn(50, 3, 2, 2), batch_size=10)
        >>> adapt_head(trunk, head, database)
        >>> head.codes(trunk(torch.randn(5, 3, 2, 2))).shape
        torch.Size([5, 8])
    """
    if not isinstance(head, ProgressiveHead):
        raise TypeError(
            f"head must be a ProgressiveHead, got {type(head).__name__}: take it out of "
            "what is around it, such as head.module of DistributedDataParallel"
        )
    x, y = torch.empty(0, head.linear.in_features), None

    def read_all() -> None:
        nonlocal x, y
        read = functools.partial(_read, trunk, head, get_data_and_label, progress)
        with _in_eval_mode(trunk):
            x, _ = read(unlabelled, "unlabelled")
            if labelled is not None:
                known, y = read(labelled, "labelled")
                y = y if y.is_floating_point() else y.long()  # no -1 in bytes and truths
                y = torch.cat([y, y.new_full((len(x), *y.shape[1:]), -1)])
                x = torch.cat([known, x])

    for data, name in ((unlabelled, "unlabelled"), (labelled, "labelled")):
        if data is not None or name == "unlabelled":
            _loader(data, name)
    together(lambda: None if rank_and_size()[0] else read_all())
    head.adapt(x, y, random_state=random_state, progress=progress)


def adapt_when_trained(
    trainer: Any,
    unlabelled: Any,
    *,
    head: ProgressiveHead | None = None,
    labelled: Any = None,
    get_data_and_label: Getter | None = None,
    random_state: int = 0,
    progress: bool = False,
) -> None:
    """Have a PML trainer adapt its head whenever `trainer.train` ends.

    It does so after the last epoch, also where HookContainer's patience ends the training
    earlier. A training that raises is not followed by it. Checkpoints of epochs hold the
    head as it was trained, so a resumed training goes on from there. If you load one when
    the training is over, call `adapt_head` after that.

    Args:
        trainer: a PML trainer.
        unlabelled: see `adapt_head`.
        head: None for the trainer's embedder.
        labelled: see `adapt_head`; `trainer.dataset`, say.
        get_data_and_label: see `adapt_head`; None for the trainer's
            `data_and_label_getter`.
        random_state: see `adapt_head`.
        progress: see `adapt_head`.

    Raises:
        TypeError: no trainer, an embedder that is no ProgressiveHead, or data of a kind
            that cannot be read.
        ValueError: a trainer that adapts already.

    Example:
        >>> from pytorch_metric_learning import losses, trainers
        >>> from pml_nmlayer.losses import NMLoss
        >>> models = {"trunk": nn.Linear(4, 6), "embedder": ProgressiveHead(6, bits=8)}
        >>> trainer = trainers.MetricLossOnly(
        ...     models=models,
        ...     optimizers={
        ...         f"{name}_optimizer": torch.optim.Adam(model.parameters())
        ...         for name, model in models.items()
        ...     },
        ...     loss_funcs={"metric_loss": NMLoss(losses.SupConLoss(), models["embedder"])},
        ...     dataset=[(torch.randn(4), label % 4) for label in range(40)],
        ...     batch_size=8,
        ...     dataloader_num_workers=0,
        ... )
        >>> adapt_when_trained(trainer, torch.randn(100, 4))  # items that will be searched
        >>> trainer.train(num_epochs=1)
    """
    models = getattr(trainer, "models", None)
    if not isinstance(models, dict) or not callable(getattr(trainer, "train", None)):
        raise TypeError(
            f"adapt_when_trained needs a PML trainer, got {type(trainer).__name__}"
        )
    if getattr(trainer.train, _MARK, False):
        raise ValueError("the trainer adapts its head already: call this once")
    found = _unwrapped(models.get("embedder")) if head is None else head
    if not isinstance(found, ProgressiveHead):
        raise TypeError(
            f"the embedder is a {type(found).__name__}: name the head that is to be "
            "adapted by head=..., a ProgressiveHead"
        )
    for data, name in ((unlabelled, "unlabelled"), (labelled, "labelled")):
        if data is not None or name == "unlabelled":
            _loader(data, name)  # says now what could not be read hours later
    train = trainer.train

    @functools.wraps(train)
    def train_and_adapt(*args: Any, **kwargs: Any) -> Any:
        result = train(*args, **kwargs)
        adapt_head(
            _unwrapped(models["trunk"]),
            found,
            unlabelled,
            labelled=labelled,
            get_data_and_label=get_data_and_label or trainer.data_and_label_getter,
            random_state=random_state,
            progress=progress,
        )
        return result

    setattr(train_and_adapt, _MARK, True)
    trainer.train = train_and_adapt


@torch.no_grad()
def _read(
    trunk: nn.Module,
    head: ProgressiveHead,
    getter: Getter | None,
    progress: bool,
    data: Any,
    name: str,
) -> tuple[Tensor, Any]:
    """Trunk outputs on the CPU, and labels where they are asked for."""
    weight = next(trunk.parameters(), head.linear.weight)
    outputs, labels = [], []
    for batch in tqdm(_loader(data, name), name, leave=False, disable=not progress):
        x, label = _parts(batch, getter, name)
        dtype = weight.dtype if x.is_floating_point() else x.dtype
        u = trunk(x.to(weight.device, dtype))
        if (
            not isinstance(u, Tensor)
            or u.ndim != 2
            or u.shape[1] != head.linear.in_features
        ):
            got = tuple(u.shape) if isinstance(u, Tensor) else type(u).__name__
            raise ValueError(
                f"the trunk must put out (B, {head.linear.in_features}), what the head "
                f"takes, got {got} for a batch of {name} items"
            )
        outputs.append(u.float().cpu())
        if name == "labelled":
            labels.append(torch.as_tensor(label).cpu())
    if not any(map(len, outputs)):
        raise ValueError(f"{name} holds no items: nothing can be learned from it")
    return torch.cat(outputs), torch.cat(labels) if labels else None


def _parts(batch: Any, getter: Getter | None, name: str) -> tuple[Tensor, Any]:
    if getter is not None and not isinstance(batch, Tensor):
        batch = getter(batch)
    data, label = batch, None
    if isinstance(batch, list | tuple) and batch:
        data, label = batch[0], batch[1] if len(batch) > 1 else None
    if not isinstance(data, Tensor):
        raise TypeError(
            f"a batch of {name} must be a tensor or (data, label, ...), got "
            f"{type(data).__name__}: get_data_and_label=lambda batch: (data, label) tells "
            "where the data is"
        )
    if name == "labelled" and label is None:
        raise ValueError("batches of labelled must be (data, label), got data alone")
    return data, label


def _loader(data: Any, name: str) -> Any:
    if isinstance(data, Tensor):
        return data.split(_BATCH_SIZE)
    if isinstance(data, Dataset):
        return DataLoader(data, _BATCH_SIZE, generator=torch.Generator())
    if not isinstance(data, DataLoader):
        raise TypeError(
            f"{name} must be a DataLoader, a dataset or a tensor, got {type(data).__name__}"
        )
    if isinstance(data.sampler, DistributedSampler) and rank_and_size()[1] > 1:
        raise ValueError(
            f"the loader of {name} has a DistributedSampler, so process 0 would learn from "
            "a share of the items: give a loader without it"
        )
    return data


@contextmanager
def _in_eval_mode(module: nn.Module) -> Iterator[None]:
    before = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in before.items():
            part.training = training


def _unwrapped(module: Any) -> Any:
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    return module.module if isinstance(module, wrappers) else module
