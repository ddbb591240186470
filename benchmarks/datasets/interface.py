"""What a labelled set is, and who plays which part in a split of it."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

Purpose = Literal["report", "tune"]


@dataclass(frozen=True)
class ImageFiles:
    """Images that are still files: names below a folder, one an item."""

    root: Path
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)


Items = Tensor | ImageFiles


@dataclass(frozen=True)
class Collection:
    """A labelled set before it is split.

    Args:
        items: features (N, D) float32, or image files.
        labels: class ids (N,), or multi-hot rows (N, C) of 0 and 1.
        parts: ids by "train", "test", "validation", "database", as far as the source itself
            says who is what; an item may be in two parts.
        coarse_labels: superclass ids (N,), where there are such. Nothing is trained by
            them; codes are judged by them, too.

    Raises:
        ValueError: labels of another form or number, or features that are not finite.
    """

    items: Items
    labels: Tensor
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    coarse_labels: Tensor | None = None

    def __post_init__(self) -> None:
        count = len(self.items)
        if self.labels.ndim not in (1, 2) or len(self.labels) != count or not count:
            raise ValueError(
                "labels must be class ids (N,) or multi-hot rows (N, C) of as many items "
                f"as there are, at least one; got {tuple(self.labels.shape)} for {count}"
            )
        if self.labels.dtype.is_floating_point or int(self.labels.min()) < 0:
            raise ValueError(
                f"labels must be integers from 0 on, got {self.labels.dtype} from "
                f"{self.labels.min():g} on"
            )
        if self.multi_label and int(self.labels.max()) > 1:
            raise ValueError("multi-hot labels must hold 0 and 1 only")
        if self.coarse_labels is not None and self.coarse_labels.shape != (count,):
            raise ValueError(
                f"coarse_labels must be superclass ids ({count},), got shape "
                f"{tuple(self.coarse_labels.shape)}"
            )
        if isinstance(self.items, Tensor) and (
            self.items.ndim != 2 or not bool(self.items.isfinite().all())
        ):
            raise ValueError(
                "features must be finite numbers of shape (N, D), got shape "
                f"{tuple(self.items.shape)}"
            )

    @property
    def multi_label(self) -> bool:
        return self.labels.ndim == 2


@dataclass(frozen=True)
class Split:
    """Items, labels, and the ids (ascending, int64) that play each part.

    `test` is empty in a tuning split. No query of a split is in its `database`. Where it
    is not `labelled`, methods see no label. A `mixed` one has queries of classes that were
    trained on, and of others. With `search_training` codes are judged a second time, with
    the training items in the database.
    """

    features: Items
    labels: Tensor
    train: Tensor
    validation: Tensor
    test: Tensor
    database: Tensor
    purpose: Purpose
    protocol: str
    coarse_labels: Tensor | None = None
    labelled: bool = True
    mixed: bool = False
    search_training: bool = False

    @property
    def queries(self) -> Tensor:
        """Ids of the items that search: test items in a report, validation in tuning."""
        return self.test if self.purpose == "report" else self.validation

    @property
    def multi_label(self) -> bool:
        return self.labels.ndim == 2

    @property
    def num_classes(self) -> int:
        return self.labels.shape[1] if self.multi_label else int(self.labels.max()) + 1

    def parts(self) -> dict[str, Tensor]:
        names = ("train", "validation", "test", "database")
        return {name: getattr(self, name) for name in names}

    def checksum(self) -> str:
        """SHA-256 of the data and of who plays which part; image files go in by name."""
        digest = hashlib.sha256(self.purpose.encode())
        values = [self.labels, *self.parts().values()]
        if isinstance(self.features, Tensor):
            values = [self.features, *values]
        else:
            digest.update("\n".join(self.features.names).encode())
        for tensor in values:
            digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()


def ids_of(mask: Tensor) -> Tensor:
    """Return the positions where a mask (N,) holds, ascending."""
    return torch.where(mask)[0]
