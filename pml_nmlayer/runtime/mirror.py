"""A plain number that follows a buffer."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Mirror:
    """Plain copy of a buffer of one element, renewed when the buffer was written to.

    A training step must not wait for a device to learn in which phase a layer is. Merges,
    loaded states, averaged models and the broadcast of DistributedDataParallel write to the
    buffer, and only then is it read.
    """

    def __init__(self) -> None:
        self._seen: tuple[Tensor, int] | None = None
        self._value = 0

    def of(self, buffer: Tensor, check: Callable[[], None] | None = None) -> int:
        """Tell the value.

        Args:
            buffer: the same one at each call, but for devices and copies.
            check: called when the buffer was written to; raises if the state is unsound.
        """
        if torch.compiler.is_compiling():
            return self._value  # a constant of the graph, which is guarded
        if buffer.is_inference():  # keeps no count of writes
            return int(buffer)
        seen = self._seen
        if seen is None or seen[0] is not buffer or seen[1] != buffer._version:
            self._value = int(buffer)
            if check is not None:
                check()
            self._seen = buffer, buffer._version
        return self._value

    def __getstate__(self) -> dict[str, Any]:
        """For copies, whose buffer is another one."""
        return {"_seen": None, "_value": self._value}
