"""An estimator: from embeddings, with or without labels, to packed codes."""

from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from .adaptation import fit_codes
from .adaptation.rows import blocks
from .codes import pack_codes, raw_sign


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
        X = X if isinstance(X, Tensor) else np.asarray(X)
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
        X = X if isinstance(X, Tensor) else np.asarray(X)
        if X.ndim != 2 or X.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X must have shape (N, {self.n_features_in_}), got {tuple(X.shape)}"
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

    def transform(self, X: Any) -> np.ndarray:
        """Do what `encode` does.

        Args:
            X: (N, D) array or tensor.
        """
        return self.encode(X)

    def _seed(self) -> int:
        if self.random_state is None:
            return 0
        if isinstance(self.random_state, (int, np.integer)):
            return int(self.random_state)
        return int(self.random_state.randint(2**31 - 1))
