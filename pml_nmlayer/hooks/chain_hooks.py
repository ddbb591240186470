"""Several hooks where PML's trainers take one."""

from collections.abc import Callable
from typing import Any

Hook = Callable[[Any], Any]


def chain_hooks(*hooks: Hook) -> Hook:
    r"""Make one hook of several.

    All hooks run, in the order given. The chain returns False if any of them returns False,
    which is PML's sign to stop, and True otherwise.

    Args:
        hooks: callables of one argument, the trainer.

    Returns:  one callable for `end_of_iteration_hook` or `end_of_epoch_hook`.
    Raises:   TypeError: something that cannot be called.
    Source:   pytorch-metric-learning, BaseTrainer.  Differs: PML takes a single hook.

    Example:
        >>> hook = chain_hooks(lambda trainer: False, lambda trainer: print("still runs"))
        >>> hook(None)
        still runs
        False
    """
    for hook in hooks:
        if not callable(hook):
            raise TypeError(f"a hook must be callable with the trainer, got {hook!r}")

    def chained(trainer: Any) -> bool:
        return not any([hook(trainer) is False for hook in hooks])

    return chained
