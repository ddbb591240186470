"""The class read-out: a classifier beside the code, and a codeword for every class."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..labels.checks import check_labels, class_rows
from ..runtime.process_group import as_on_first
from .codebooks import check_codebook_size, codeword_targets, maximin_codebook, tie_bits_of
from .semantic_codebook import semantic_codebook

STRENGTH = 0.6  # docs/defaults.md
SPARE_CODEWORDS = 7  # the same
_MOST_CODES = 4096  # spare ones included: choosing among more takes minutes


class ClassReadOut(nn.Module):
    r"""Add the codewords of the predicted classes to the outputs of a code.

    Formula:  u + a sum over c of p_c t_c,  p = softmax(V x + v),  a = strength sqrt(C / K),
              with t_c the codeword of class c.

    A linear map to K bits tells few more than K classes apart, however well they are coded.
    A classifier does. Where it is sure of a class, the code is the codeword. Where it is
    not, the linear outputs decide.

    Args:
        in_features: width of x, the trunk's output.
        num_classes: C.
        bits: code lengths K that have codewords.
        strength: >= 0, no unit. Its square root of C / K says that the classifier has to do
            the more, the more classes a bit has to tell apart. 0 leaves the classifier out;
            there are codewords all the same.
        spare_codewords: >= 0, codes to choose from for each class, beyond one. With spare
            ones similar classes share bits (see `semantic_codebook`). None for 7, or as
            many as leave 4,096 codes in all, where classes are more than 512.

    Shapes:   x (B, in_features), u (B, K) -> (B, K).
    Raises:   ValueError: strength or spare_codewords < 0, or more classes than codes.
    Source:   this package.  Differs: no.

    Example:
        >>> read_out = ClassReadOut(16, 10, bits=(12,))
        >>> x, u = torch.randn(5, 16), torch.zeros(5, 12)
        >>> read_out.add(u, read_out.scores(x)).shape, read_out.codewords(12).shape
        (torch.Size([5, 12]), torch.Size([10, 12]))
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        bits: Sequence[int],
        *,
        strength: float = STRENGTH,
        spare_codewords: int | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= strength < math.inf:
            raise ValueError(
                f"readout (strength) must be a number >= 0, got readout={strength}"
            )
        if spare_codewords is None:
            most = max(_MOST_CODES // max(num_classes, 1) - 1, 0)  # 0 is refused below
            spare_codewords = min(SPARE_CODEWORDS, most)
        if spare_codewords < 0:
            raise ValueError(f"spare_codewords must be >= 0, got {spare_codewords}")
        self.num_classes = num_classes
        self.lengths = tuple(bits)
        self.strength = strength
        self.spare_codewords = spare_codewords
        for length in self.lengths:
            check_codebook_size(num_classes, length)
        self.classifier = nn.Linear(in_features, num_classes) if strength > 0 else None
        for length in self.lengths:
            self.register_buffer(f"codewords_{length}", torch.zeros(num_classes, length))
            tie_bits = tie_bits_of(length)
            self.register_buffer(f"tie_bits_{length}", tie_bits, persistent=False)

    def scores(self, x: Tensor) -> Tensor | None:
        """Class scores (B, C), before softmax; None without a classifier."""
        return None if self.classifier is None else self.classifier(x)

    def scale(self, bits: int) -> float:
        """Strength a of what is added to a code.

        Args:
            bits: its length; 0 is added to one without codewords.
        """
        if self.classifier is None or bits not in self.lengths:
            return 0.0
        return self.strength * math.sqrt(self.num_classes / bits)

    def add(self, u: Tensor, scores: Tensor | None) -> Tensor:
        """Add what the classifier knows to outputs before their activation.

        Args:
            u: (B, K).
            scores: those of the same items, from `scores`.
        """
        a = self.scale(u.shape[1])
        if scores is None or a == 0:
            return u
        p, codewords = scores.softmax(1), self.codewords(u.shape[1])
        alike = u.dtype == p.dtype == codewords.dtype
        if alike and not torch.is_autocast_enabled(u.device.type):  # one operation
            return torch.addmm(u, p, codewords, alpha=a)
        return u + (a * (p @ codewords.to(p.dtype))).to(u.dtype)

    def codewords(self, bits: int) -> Tensor:
        """Codewords (C, bits) of -1 and +1; 0 before they are found.

        Args:
            bits: code length.

        Raises:
            ValueError: a length without codewords.
        """
        if bits not in self.lengths:
            raise ValueError(
                f"there are codewords of {', '.join(map(str, self.lengths))} bits, not of "
                f"{bits}: the longest code, which comes before any merge, has none"
            )
        codewords: Tensor = getattr(self, f"codewords_{bits}")
        return codewords

    @torch.no_grad()
    def set_codewords(self, codewords: Tensor) -> None:
        """Take codewords, such as those of `semantic_codebook`.

        Args:
            codewords: (C, K) of -1 and +1; K is one of the lengths.

        Raises:
            ValueError: another shape, or other values.
        """
        if codewords.ndim != 2 or len(codewords) != self.num_classes:
            raise ValueError(
                f"codewords must have shape ({self.num_classes}, bits), got "
                f"{tuple(codewords.shape)}"
            )
        if not bool((codewords.abs() == 1).all()):
            raise ValueError("codewords must be -1 and +1")
        self.codewords(codewords.shape[1]).copy_(codewords)

    def spread_codewords(self, bits: int) -> None:
        """Take codewords that are far apart, for a code whose class means nobody knows.

        Args:
            bits: code length.
        """
        self.set_codewords(maximin_codebook(self.num_classes, bits))

    def codebook_for(self, means: Tensor, bits: int) -> Tensor:
        """Find codewords (C, bits) that know which classes are alike.

        In a torch process group all get those of process 0.

        Args:
            means: class means (C, D) of codes, outputs or features.
            bits: code length.
        """
        found = semantic_codebook(means, bits, spare=self.spare_codewords)
        return as_on_first(found.to(means.device))

    def targets(self, labels: Tensor, bits: int) -> Tensor:
        """Tell which codes items should have.

        Args:
            labels: class ids (B,) or multi-hot rows (B, C).
            bits: code length.

        Returns:
            (B, bits) float32 of -1 and +1: the codeword of the class, or the vote of
            several classes (see `majority`).

        Raises:
            ValueError: labels that do not fit, or a length without codewords.
        """
        codewords = self.codewords(bits)
        check_labels(labels, len(labels))
        rows = class_rows(labels.to(codewords.device), self.num_classes)
        with torch.autocast(rows.device.type, enabled=False):
            return codeword_targets(
                labels.to(codewords.device), rows, codewords.float(), self.tie_bits(bits)
            )

    def tie_bits(self, bits: int) -> Tensor:
        """Bits (bits,) float32 that decide tied votes of several classes.

        Args:
            bits: code length with codewords.
        """
        tie_bits: Tensor = getattr(self, f"tie_bits_{bits}")
        return tie_bits.float()

    def extra_repr(self) -> str:
        """Show sizes in print(model)."""
        return (
            f"num_classes={self.num_classes}, bits={self.lengths}, strength={self.strength}"
        )
