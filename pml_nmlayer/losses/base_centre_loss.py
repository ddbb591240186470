"""What the losses with fixed class centres share: where the centres come from."""

from typing import Any

from pytorch_metric_learning.utils import common_functions as c_f
from torch import Tensor

from ..classes.codebooks import make_codebook
from ..heads.protocol import HashHead
from .base_class_hashing_loss import BaseClassHashingLoss


class BaseCentreLoss(BaseClassHashingLoss):
    r"""A loss that pulls items to a fixed centre, a binary code, of their class.

    Centres are drawn once, for the longest code. A head that is merged with `num_classes`
    finds a codeword for every class at each merge; with `head`, the centres of shorter
    codes are these. So a head need not be lifted to the width of the centres, in which
    those that were drawn for the long code are no codes of the short one.

    Args:
        num_classes: C. Class ids must lie in [0, C).
        embedding_size: code length K, in bits; with `head` the longest one.
        codebook: "auto", "hadamard", "maximin", or (C, K) centres of -1 and +1 of your
            own; see `pml_nmlayer.codebooks.make_codebook`.
        seed: of the codebook.
        head: a `ProgressiveHead` with the same `num_classes`, and without lift. It is not
            registered as a submodule. None for embeddings of constant width.
        kwargs: as of `BaseClassHashingLoss`.

    Raises:
        ValueError: a codebook that does not fit, a head of other classes or lengths, or one
            that is lifted; else as `BaseClassHashingLoss`.
    """

    codebook: Tensor

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        codebook: str | Tensor,
        seed: int,
        head: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes=num_classes, embedding_size=embedding_size, **kwargs)
        centres = make_codebook(num_classes, embedding_size, kind=codebook, seed=seed)
        self.register_buffer("codebook", centres)
        self.takes_shorter = False
        if head is not None:
            self.follow(head)

    def follow(self, head: HashHead) -> None:
        """Take the codewords of a head as centres of the codes that it has merged.

        `NMLoss` calls it for a head with classes, unless that has constant width.

        Args:
            head: a `ProgressiveHead` with the same `num_classes`, that begins with
                embedding_size bits. It is not registered as a submodule.

        Raises:
            ValueError: a head of other classes or lengths, or of constant width.
        """
        _check_head(head, self.num_classes, self.embedding_size)
        self.takes_shorter = True
        # Only the method is kept, as in NMLoss: the head belongs to the model.
        self._codewords = head.codewords

    def centres(self, like: Tensor) -> Tensor:
        """Return the centres (C, width) for embeddings (B, width), in their dtype.

        Raises:
            ValueError: another width than embedding_size, or than those of the head's
                codes so far.
        """
        width = like.shape[1]
        if width != self.embedding_size and not self.takes_shorter:
            raise ValueError(
                f"embeddings must have embedding_size={self.embedding_size} columns, got "
                f"{width}; give the loss the head that puts them out if it is merged"
            )
        own = width == self.embedding_size
        centres = self.codebook if own else self._codewords(width)
        moved: Tensor = c_f.to_device(centres, like, dtype=like.dtype)
        return moved


def _check_head(head: HashHead, num_classes: int, embedding_size: int) -> None:
    classes, lengths = getattr(head, "num_classes", None), getattr(head, "all_bits", ())
    if classes != num_classes or tuple(lengths[:1]) != (embedding_size,):
        raise ValueError(
            f"head must have num_classes={num_classes} and begin with embedding_size="
            f"{embedding_size} bits, as ProgressiveHead(in_features, bits=("
            f"{embedding_size}, ...), num_classes={num_classes}); got "
            f"num_classes={classes} and bits={tuple(lengths)}"
        )
    if head.constant_width:
        raise ValueError(
            "a head of constant_width=True puts out embeddings for which the centres stay "
            "what they are: leave head out here, or constant_width there"
        )
