"""How a loss becomes part of many methods: its options, and what it asks of a head."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ..interface import Problem
from ..search import Choice, LogUniform, Space
from ..training.learner import Draw, for_labels, shuffled

LR = LogUniform(1e-4, 4e-2)
PROXY_LR = LogUniform(1e-3, 1.0)
TEMPERATURE = Choice(0.1, 0.2, 0.5, 1.0)
QUANTIZATION = Choice(0.0, 0.01, 0.03, 0.1)
# Where a network on features begins, see `learner.starting`; an option of most methods.
START: Mapping[str, Any] = {"start": "hidden"}
START_SPACE: Mapping[str, Space] = {"start": Choice("hidden", "features")}


@dataclass(frozen=True)
class Loss:
    """A loss of the benchmark.

    Args:
        label: in tables.
        build: (**options) -> loss; before them (num_classes, width) if `per_class`.
        options: default values of what `build` and `miner` take, learning rates aside.
        own_space: where tuning looks for options; at most two with the rate of proxies.
        per_class: it keeps something of the width of the embedding for each class. A head
            that is merged is then lifted back to that width.
        any_width: embeddings may get shorter while it trains, so that such a head is not
            lifted after all.
        centres: what it keeps are binary centres, for which a merged head finds others;
            a head that does is not lifted either.
        learned: that is a parameter: it has a learning rate of its own, `proxy_lr`.
        miner: (**options) -> miner, if there is one.
        tanh: whether hashing heads end in tanh; not where the loss squashes by itself.
        draw: its batches.
    """

    label: str
    build: Callable[..., nn.Module]
    options: Mapping[str, Any] = field(default_factory=dict)
    own_space: Mapping[str, Space] = field(default_factory=dict)
    per_class: bool = False
    any_width: bool = False
    centres: bool = False
    learned: bool = False
    miner: Callable[..., nn.Module] | None = None
    tanh: bool = True
    draw: Draw = shuffled

    @property
    def defaults(self) -> dict[str, Any]:
        """All options of a method of this loss."""
        rates = {"lr": 1e-3, "proxy_lr": 1e-2} if self.learned else {"lr": 1e-3}
        return {**rates, **self.options}

    @property
    def space(self) -> dict[str, Space]:
        """Where tuning looks."""
        rates = {"lr": LR, "proxy_lr": PROXY_LR} if self.learned else {"lr": LR}
        return {**rates, **self.own_space}


def parts(
    loss: Loss, problem: Problem, width: int, options: Mapping[str, Any], **more: Any
) -> dict[str, Any]:
    """Make everything of a `Learner` that depends on the loss.

    Args:
        loss: which one.
        problem: gives the classes, and whether an item may have several.
        width: of the embeddings.
        options: see `Loss.defaults`.
        more: PML's `embedding_regularizer`, the `head` of centres, and the like.

    Raises:
        Unsuited: the items have several labels, and the loss needs one.
    """
    own = {name: options[name] for name in loss.options}
    sizes = (problem.num_classes, width) if loss.per_class else ()
    return {
        "loss": for_labels(problem, loss.build(*sizes, **own, **more)),
        "lr": options["lr"],
        "loss_lr": options["proxy_lr"] if loss.learned else None,
        "miner": None if loss.miner is None else loss.miner(**own),
        "draw": loss.draw,
    }
