"""Say that a head is used before its last merge is made."""

import warnings
from collections.abc import MutableMapping, MutableSet
from weakref import WeakKeyDictionary, WeakSet

from torch import nn

from .staged import Staged

# By the object, so that nothing of it enters states, copies or pickles
_warned_in_stage: MutableMapping[Staged, int] = WeakKeyDictionary()
_expecting: MutableSet[nn.Module] = WeakSet()


class UnfinishedHeadWarning(UserWarning):
    """A head is folded, encoded with or judged before its last merge is made."""


def warn_if_unfinished(module: nn.Module, what: str) -> None:
    """Warn of heads whose code is longer than the one that they are made for.

    A head is spoken of once in each of its stages.

    Args:
        module: a head, or what holds heads.
        what: what is done with the head, "folded" say.
    """
    for head in module.modules():
        if not isinstance(head, Staged) or head.finished:
            continue
        if _warned_in_stage.get(head) == head.stage:
            continue
        _warned_in_stage[head] = head.stage
        wanted, merges = head.merges.all_bits[-1], len(head.layers)
        warnings.warn(
            f"a head of {head.bits} bits is {what}, but it is made for {wanted} bits: "
            f"{head.stage} of {merges} merges are done. Call head.merge_next() after "
            "training, or give the trainer the hook of ProgressiveMerging "
            "(end_of_epoch_hook), or train longer or with shorter stages. If this length "
            f"is what you want, use head.fold(bits={head.bits})",
            UnfinishedHeadWarning,
            stacklevel=3,
        )


def expect_merges(head: nn.Module) -> None:
    """Note that something will merge this head in time.

    Args:
        head: the head.
    """
    _expecting.add(head)


def merges_expected(module: nn.Module) -> bool:
    """Tell whether something is in charge of all heads that are not finished.

    Args:
        module: a head, or what holds heads.
    """
    heads = [each for each in module.modules() if isinstance(each, Staged)]
    return all(head.finished or head in _expecting for head in heads)
