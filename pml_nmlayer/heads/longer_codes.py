"""What becomes of the longer codes after a merge."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

from torch import Tensor, nn

from .folding import Folded

Longer = Literal["snapshot", "joint", "drop"]


class LongerCodes(nn.ModuleDict):
    """Keep, or tell about, the codes that are longer than the present one.

    Args:
        bits: all lengths of the chain, from the longest on.
        policy: "snapshot": the head is kept, folded, as it was right before each merge.
            "joint": all lengths are computed from the same neurons. "drop": they are gone.
        empty_fold: makes what holds a fold of a length; its numbers come later.

    Raises:
        ValueError: an unknown policy.
    """

    def __init__(
        self, bits: Sequence[int], policy: Longer, empty_fold: Callable[[int], Folded]
    ) -> None:
        if policy not in get_args(Longer):
            raise ValueError(f"longer must be one of {get_args(Longer)}, got {policy!r}")
        kept = bits[:-1] if policy == "snapshot" else ()
        super().__init__({_name(length): empty_fold(length) for length in kept})
        self.bits = tuple(bits)
        self.policy = policy

    def stage_of(self, bits: int | None, stage: int) -> int:
        """Tell the stage whose code has a length.

        Args:
            bits: a code length; None for the present one.
            stage: number of merges made.

        Raises:
            ValueError: there is no code of that length.
        """
        if bits is None:
            return stage
        kept = self.bits[: stage + 1]
        kept = kept[-1:] if self.policy == "drop" else kept
        if bits not in kept:
            raise ValueError(
                f"this head has codes of {', '.join(map(str, kept))} bits, not of {bits}: "
                f"of bits={self.bits}, {stage} merges are done, and it was made with "
                f"longer={self.policy!r}"
            )
        return self.bits.index(bits)

    def snapshot(self, stage: int, now: int) -> Folded | None:
        """Return the fold that stands for a stage; None if it is computed from neurons.

        Args:
            stage: number of merges of the code that is asked for.
            now: number of merges made.
        """
        if stage == now or self.policy != "snapshot":
            return None
        return self._fold(self.bits[stage])

    def remember(self, bits: int, fold: Callable[[Folded], Folded]) -> None:
        """Keep the present code, if it is to be kept.

        Args:
            bits: its length.
            fold: writes the head's numbers into what it is given.
        """
        if self.policy == "snapshot":
            fold(self._fold(bits))

    def _fold(self, bits: int) -> Folded:
        fold = self[_name(bits)]
        assert isinstance(fold, Folded)
        return fold

    def forward(self, x: Tensor) -> Tensor:
        """Refuse: this is no layer."""
        raise NotImplementedError("LongerCodes holds codes; ask the head for them")

    def extra_repr(self) -> str:
        """Show the policy in print(model)."""
        return f"longer={self.policy!r}"


def check_reached(bits: int, reached: Sequence[int]) -> None:
    """Refuse a length that no merge has led to yet.

    Args:
        bits: a code length.
        reached: the lengths so far.

    Raises:
        ValueError: it is not among them.
    """
    if bits not in reached:
        raise ValueError(
            f"bits must be a length reached so far, {', '.join(map(str, reached))}; "
            f"got {bits}"
        )


def _name(bits: int) -> str:
    return f"bits_{bits}"  # names that begin with a digit break PML's record keeper
