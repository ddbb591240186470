"""A plain number that follows a buffer."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Mirror:
    """Plain copy of a buffer of one element, renewed when the buffer may have changed.

    A training step must not wait for a device to learn in which phase a layer is. So in
    training the buffer is read again only after it was written to, and after any other
    mode. Averaging callbacks swap weights around a validation in ways that leave no trace;
    elsewhere the buffer is therefore read each time.
    """

    def __init__(self) -> None:
        self._seen: tuple[Tensor, int] | None = None
        self._value = 0

    def of(self, buffer: Tensor, *, training: bool, check: Callable[[], None]) -> int:
        """Tell the value.

        Args:
            buffer: the same one at each call, but for devices and copies.
            training: whether the module is in training mode.
            check: called when the buffer is read; raises if the state is unsound.
        """
        if torch.compiler.is_compiling():
            return self._value  # a constant of the graph, which is guarded
        seen = self._seen
        remembered = (
            training
            and seen is not None
            and seen[0] is buffer
            and not buffer.is_inference()  # which keeps no count of writes
            and seen[1] == buffer._version
        )
        if not remembered:
            self._value = int(buffer)
            check()
            known = training and not buffer.is_inference()
            self._seen = (buffer, buffer._version) if known else None
        return self._value

    @property
    def value(self) -> int:
        """The value when it was last read."""
        return self._value

    def set(self, value: int) -> None:
        """Take a value that was just written; it is checked when it is asked for.

        Args:
            value: of the buffer.
        """
        self._value, self._seen = value, None

    def __getstate__(self) -> dict[str, Any]:
        """For copies, whose buffer is another one."""
        return {"_seen": None, "_value": self._value}
