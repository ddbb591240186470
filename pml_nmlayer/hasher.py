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
    decides by itself how far to trust labels and how far the database. Held-out labels say
    how far to whiten, and whether class probabilities count among neighbours. They also
    say how many unlabelled items belong to labelled classes. If few do, codes learn from
    unlabelled items alone. Labelled ones that will be searched go in once more, with -1.

    Args:
        bits: code length.
        random_state: seed, numpy RandomState, or None for seed 0.
        verbose: show progress bars, while it learns and while it encodes.

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
            X: (N, D) array, memory map or tensor; it is read in blocks.
            y: None, class ids (N,) with -1 for unlabelled, or multi-hot rows (N, C) with
                rows of -1 for unlabelled. Items that share labels get similar codes.

        Returns:
            self.

        Raises:
            ValueError: bits < 1, X or y of another shape, rows of y that hold other values
                than 0 and 1, labels that are missing (None, NaN, ''), or X not finite.
        """
        names = _column_names(X)
        self._learn(_array(X), y, None)
        if names is not None:
            self.feature_names_in_ = names
        elif hasattr(self, "feature_names_in_"):  # of an earlier fit
            del self.feature_names_in_
        return self

    def update(self, X: Any, y: Any = None) -> "Hasher":
        """Learn anew from a database that has grown or drifted, from the present codes on.

        Use it when many items are new: say, when the database has doubled, or holds classes
        that it had not. Nothing but the present map is kept from earlier calls, so give all
        that is searched now, or a sample of it, and labelled items as in `fit`.

        Encode everything anew after it. Until that is done, old codes can be searched
        beside new ones, with a loss: most bits keep their places and their meaning.

        Args:
            X: (N, D) array or tensor.
            y: as in `fit`.

        Returns:
            self.

        Raises:
            NotFittedError: `fit` was not called.
            ValueError: as in `fit`; another number of columns or of bits than in `fit`.

        Example:
            >>> x = np.random.RandomState(0).randn(300, 16)
            >>> hasher = Hasher(bits=12).fit(x[:100])
            >>> hasher.update(x).encode(x).shape
            (300, 2)
        """
        X = self._checked(X)
        return self._learn(X, y, self.module_)

    def _learn(self, X: Any, y: Any, start: Any) -> "Hasher":
        if not isinstance(self.bits, (int, np.integer)) or self.bits < 1:
            raise ValueError(f"bits must be a whole number from 1 on, got {self.bits!r}")
        fitted = fit_codes(
            X,
            y,
            bits=int(self.bits),
            random_state=self._seed(),
            start=start,
            progress=self.verbose,
        )
        self.module_ = fitted.module
        self.bits_ = int(self.bits)
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
        X = self._checked(X)
        results = np.empty((len(X), self.bits_), dtype=np.float32)
        for rows, outputs in self._outputs(X):
            results[rows] = outputs.numpy()
        return results

    def _outputs(self, X: Any) -> Iterator[tuple[slice, Tensor]]:
        for rows, block in blocks(X, "encoding" if self.verbose else None):
            if not bool(block.isfinite().all()):
                raise ValueError(
                    "X holds NaN or inf, or numbers beyond float32: such rows have no code"
                )
            yield rows, self.module_(block).detach()  # its weights take no gradient

    def encode(self, X: Any) -> np.ndarray:
        """Map embeddings to packed codes.

        Args:
            X: (N, D) array or tensor.

        Returns:
            (N, ceil(bits / 8)) uint8, in the bit order of numpy.packbits.

        Raises:
            ValueError: another number of columns than in `fit`.
        """
        X = self._checked(X)
        codes = np.empty((len(X), -(-self.bits_ // 8)), dtype=np.uint8)
        for rows, outputs in self._outputs(X):
            codes[rows] = pack_codes(raw_sign(outputs)).numpy()
        return codes

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
        codes = self.encode(X)
        index = HashIndex(self.bits_, kind)
        index.add(codes, ids)
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
        card_text(bits=self.bits_, kind="Hasher", card=card)  # refuse it before writing
        save_head(Path(folder), self.module_, self.bits_, _TRUNK)
        write_card(Path(folder), bits=self.bits_, kind="Hasher", card=card)

    @classmethod
    def load(cls, folder: Any) -> "Hasher":
        """Read what `save` wrote; it encodes and can be fitted anew.

        `classes_`, `feature_names_in_`, `random_state` and `verbose` are not kept.

        Args:
            folder: where it is.

        Raises:
            ValueError: there is no `Hasher`, or its files are damaged.
        """
        module = load_head(Path(folder), _TRUNK).eval().requires_grad_(False)
        bits = code_length(module)
        assert bits is not None  # load_head has compared it
        loaded = cls(bits=bits)
        loaded.module_, loaded.bits_ = module, bits
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

    def _checked(self, X: Any) -> Any:
        """Embeddings as wide as those of `fit`."""
        check_is_fitted(self, "module_")
        names, own = _column_names(X), getattr(self, "feature_names_in_", None)
        if names is not None and own is not None and not np.array_equal(names, own):
            raise ValueError(
                "The feature names should match those that were passed during fit, in the "
                f"same order: expected {own[:5].tolist()}..., got {names[:5].tolist()}..."
            )
        X = _array(X)
        if X.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        return X

    def _seed(self) -> int:
        if self.random_state is None:
            return 0
        if isinstance(self.random_state, np.random.RandomState):
            return int(self.random_state.randint(2**31 - 1))
        if isinstance(self.random_state, (int, np.integer)):
            return int(self.random_state)
        raise ValueError(
            "random_state must be None, a whole number or a numpy RandomState, got "
            f"{type(self.random_state).__name__}"
        )


def _column_names(X: Any) -> np.ndarray | None:
    """Names of the columns of a data frame, if they are strings."""
    names = np.asarray(getattr(X, "columns", ()), dtype=object)
    return names if len(names) and all(isinstance(n, str) for n in names) else None


def _array(X: Any) -> Any:
    """Check embeddings; arrays (memory maps, too) and tensors are never copied whole."""
    if isinstance(X, Tensor):
        X = X.detach()
        if X.ndim == 2 and X.numel() and not X.is_complex() and X.dtype != torch.bool:
            return X
        X = X.cpu().numpy()
    if type(X) in (np.ndarray, np.memmap) and X.dtype.kind in "iuf":
        if X.ndim == 2 and X.size:
            return X
    return check_array(X)
