"""An estimator: from embeddings, with or without labels, to packed codes."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted
from torch import Tensor, nn

from .adaptation import fit_codes
from .adaptation.rows import blocks
from .codes import pack_codes, raw_sign
from .retrieval import HashIndex
from .retrieval.head_layers import code_length
from .retrieval.model_card import card_text, write_card
from .retrieval.pretrained import load_head, save_head

_TRUNK = "none: a Hasher takes embeddings"  # in the place of a trunk's checksum


class Hasher(TransformerMixin, BaseEstimator):
    """Learn binary codes for embeddings, and encode.

    Give it the items that will be searched as unlabelled rows, beside labelled ones. It
    decides by itself how far to trust labels and how far the database.

    Args:
        bits: code length.
        random_state: seed, numpy RandomState, or None for seed 0.
        verbose: show a progress bar.

    Example:
        >>> x = np.random.RandomState(0).randn(300, 16)
        >>> Hasher(bits=12).fit(x).encode(x).shape
        (300, 2)
    """

    def __init__(
        self, bits: int = 48, *, random_state: Any = None, verbose: bool = False
    ) -> None:
        self.bits = bits
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> "Hasher":
        """Learn from embeddings.

        Args:
            X: (N, D) array or tensor.
            y: None, class ids (N,) with -1 for unlabelled, or multi-hot rows (N, C) with
                rows of -1 for unlabelled.

        Returns:
            self.

        Raises:
            ValueError: bits < 1, X or y of another shape, or X not finite.
        """
        if self.bits < 1:
            raise ValueError(f"bits must be at least 1, got {self.bits}")
        X = _array(X)
        fitted = fit_codes(
            X, y, bits=self.bits, random_state=self._seed(), progress=self.verbose
        )
        self.module_ = fitted.module
        self.classes_ = fitted.classes
        self.n_features_in_ = X.shape[1]
        return self

    def outputs(self, X: Any) -> np.ndarray:
        """Map embeddings to real outputs; codes are their signs.

        Args:
            X: (N, D) array or tensor.

        Returns:
            (N, bits) float32, for asymmetric search.

        Raises:
            ValueError: another number of columns than in `fit`.
        """
        check_is_fitted(self, "module_")
        X = _array(X)
        if X.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        results = np.empty((len(X), self.bits), dtype=np.float32)
        with torch.no_grad():
            for rows, block in blocks(X):
                results[rows] = self.module_(block).numpy()
        return results

    def encode(self, X: Any) -> np.ndarray:
        """Map embeddings to packed codes.

        Args:
            X: (N, D) array or tensor.

        Returns:
            (N, ceil(bits / 8)) uint8, in the bit order of numpy.packbits.

        Raises:
            ValueError: another number of columns than in `fit`.
        """
        codes = raw_sign(torch.from_numpy(self.outputs(X)))
        return pack_codes(codes).numpy()

    def encode_blocks(self, batches: Iterable[Any]) -> Iterator[np.ndarray]:
        """Encode a stream, block by block.

        Args:
            batches: arrays or tensors (N, D), such as chunks of a file.

        Yields:
            packed codes of each block.
        """
        for block in batches:
            yield self.encode(block)

    def index(self, X: Any, ids: Any = None, *, kind: Any = "flat") -> HashIndex:
        """Encode items into an index for Hamming search.

        Args:
            X: (N, D) array or tensor.
            ids: N ids, whole numbers or strings; None for 0 to N - 1.
            kind: see `HashIndex`.

        Returns:
            the index. Ask it with `encode`, or with `outputs` in `search_asymmetric`.
        """
        index = HashIndex(self.bits, kind)
        index.add(self.encode(X), ids)
        return index

    def save(self, folder: Any, *, card: Mapping[str, Any] | None = None) -> None:
        """Write the fitted estimator: safetensors, JSON and a model card.

        The same folder may be overwritten. A crash leaves the old or the new one.

        Args:
            folder: made if it is missing.
            card: what README.md says of data, protocol, metric, figures and what the codes
                are not for; see `retrieval.model_card`. None leaves that unknown.

        Raises:
            NotFittedError: `fit` was not called.
            ValueError: fields that a card has not, or figures without data, protocol and
                metric.
        """
        check_is_fitted(self, "module_")
        card_text(bits=self.bits, kind="Hasher", card=card)  # refuse it before writing
        save_head(Path(folder), self.module_, self.bits, _TRUNK)
        write_card(Path(folder), bits=self.bits, kind="Hasher", card=card)

    @classmethod
    def load(cls, folder: Any) -> "Hasher":
        """Read what `save` wrote; it encodes and can be fitted anew.

        Args:
            folder: where it is.

        Raises:
            ValueError: there is no `Hasher`, or its files are damaged.
        """
        module = load_head(Path(folder), _TRUNK).eval().requires_grad_(False)
        bits = code_length(module)
        assert bits is not None  # load_head has compared it
        loaded = cls(bits=bits)
        loaded.module_ = module
        first = next(m for m in module.modules() if isinstance(m, nn.Linear))
        loaded.n_features_in_ = first.in_features
        return loaded

    def transform(self, X: Any) -> np.ndarray:
        """Do what `encode` does.

        Args:
            X: (N, D) array or tensor.
        """
        return self.encode(X)

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that codes are bytes, whatever comes in."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _seed(self) -> int:
        if self.random_state is None:
            return 0
        if isinstance(self.random_state, (int, np.integer)):
            return int(self.random_state)
        return int(self.random_state.randint(2**31 - 1))


def _array(X: Any) -> np.ndarray:
    """Check embeddings as scikit-learn does, without a copy where that is possible."""
    if isinstance(X, Tensor):
        X = X.detach().cpu()
        X = (X if X.dtype != torch.bfloat16 else X.float()).numpy()
    checked: np.ndarray = check_array(X)
    return checked
