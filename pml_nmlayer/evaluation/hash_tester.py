"""PML's tester as binary codes need it."""

from typing import Any

from pytorch_metric_learning.testers import BaseTester, GlobalEmbeddingSpaceTester

from .hamming_accuracy_calculator import HammingAccuracyCalculator
from .unfinished import watching


def hash_tester(
    tester: type[BaseTester] = GlobalEmbeddingSpaceTester, **kwargs: Any
) -> BaseTester:
    """Build a PML tester that leaves outputs as they are and judges them as codes.

    PML's testers scale embeddings to length 1. Signs do not notice, but everything that is
    recorded of real outputs, as how far they are from -1 and +1, does. A head whose merges
    are not done is judged with a warning; see `watching`.

    Args:
        tester: a PML tester class; `multilabel(GlobalEmbeddingSpaceTester)` for multi-hot
            labels.
        kwargs: arguments of the tester; `normalize_embeddings` is False and
            `accuracy_calculator` a HammingAccuracyCalculator unless they say otherwise.

    Returns:
        The tester.

    Raises:
        TypeError: another thing than a tester class.

    Source:   pytorch-metric-learning, GlobalEmbeddingSpaceTester.
              Differs: the two defaults.

    Example:
        >>> calculator = HammingAccuracyCalculator(include=("hamming_map_at_k",), k=100)
        >>> hash_tester(batch_size=64, accuracy_calculator=calculator).normalize_embeddings
        False
    """
    if not (isinstance(tester, type) and issubclass(tester, BaseTester)):
        raise TypeError(f"tester must be a class of PML's testers, got {tester!r}")
    kwargs.setdefault("normalize_embeddings", False)
    if kwargs.get("accuracy_calculator") is None:
        kwargs["accuracy_calculator"] = HammingAccuracyCalculator()
    return watching(tester)(**kwargs)  # type: ignore[arg-type]
