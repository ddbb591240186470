"""Data in, packed codes out."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..codes.convention import raw_sign
from ..codes.packing import pack_codes
from ..layers import ProgressiveHead
from ..runtime.process_group import rank_and_size
from .code_file import write_codes
from .head_layers import code_length
from .inputs import Transform, batches, count_rows
from .pretrained import load_head, save_head
from .serving import device_of, outputs, progress_bar, unwrap
from .states import FilePath, Which, checksum, load_state, read_checkpoint


class HashEncoder:
    r"""Turn images or tensors into packed codes with a trained trunk and head.

    Formula:  codes = pack_codes(binarize(head(trunk(x)))), modules in eval mode.

    A ProgressiveHead is folded, as it is now: later training or merging does not reach this
    encoder. Other modules are used as they are, not copied, and only moved to the device;
    whether they are in training mode is restored after each call.

    Args:
        trunk: any module; `nn.Identity()` if there is none.
        head: a ProgressiveHead, or any module with outputs (B, bits) before sign.
        transform: turns the data of one item (an image, say) into a tensor or array.
        batch_size: rows a forward pass.
        num_workers: processes that read items and transform them.
        device: where to compute; None for where the parameters are.
        amp: torch.float16 or torch.bfloat16 for the trunk, by autocast; the head always
            runs in its own precision. None for no autocast.
        progress: show a progress bar (tqdm).

    Shapes:   N items -> (N, ceil(bits / 8)) uint8, on the CPU.
    Returns:  codes in the order of the items. They do not depend on the batch size, the
              number of workers or of processes, up to bits whose output lies within
              rounding of 0.
    Raises:   ValueError: options out of range, outputs of another shape, NaN outputs.
    Source:   this package; `pack_codes` for the layout.
              Differs: numpy.packbits of `u > 0` gives 0 for outputs of exactly 0.

    Example:
        >>> encoder = HashEncoder(nn.Flatten(), nn.Linear(12, 20), batch_size=2)
        >>> encoder.encode(torch.randn(5, 3, 2, 2)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        trunk: nn.Module,
        head: nn.Module,
        transform: Transform | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        device: str | torch.device | None = None,
        amp: torch.dtype | None = None,
        progress: bool = False,
    ) -> None:
        if batch_size < 1 or num_workers < 0:
            raise ValueError(
                "batch_size must be >= 1 and num_workers >= 0, got "
                f"batch_size={batch_size}, num_workers={num_workers}"
            )
        if amp not in (None, torch.float16, torch.bfloat16):
            raise ValueError(f"amp must be None, float16 or bfloat16, got {amp}")
        trunk, head = unwrap(trunk), unwrap(head)
        head = head.fold() if isinstance(head, ProgressiveHead) else head
        self.device = device_of(trunk, head) if device is None else torch.device(device)
        self.trunk, self.head = trunk.to(self.device), head.to(self.device)
        self.transform = transform
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.amp = amp
        self.progress = progress
        self._bits = code_length(head)

    @property
    def bits(self) -> int:
        """Code length.

        Raises:
            ValueError: it takes a first batch to know it, since the head holds
                other layers than `head_layers.LAYERS`, or no Linear.
        """
        if self._bits is None:
            raise ValueError(
                "the code length of this head is known after its first batch only: encode "
                "something first"
            )
        return self._bits

    def encode(self, data: Any) -> Tensor:
        """Encode everything at once.

        Args:
            data: a tensor or array (N, ...), a sequence of items, a torch Dataset, or an
                iterable of batches (a DataLoader). Items and batches may be
                (data, label, ...); labels are ignored.

        Returns:
            Packed codes (N, ceil(bits / 8)) uint8.

        Raises:
            ValueError: as for the class; or no item at all and the code length unknown.
            TypeError: items that are neither tensors nor arrays after the transform.
        """
        packed = list(self._codes(data, None, self.progress))
        return torch.cat(packed) if packed else torch.empty(0, -(-self.bits // 8)).byte()

    def encode_to_file(self, data: Any, path: FilePath) -> Path:
        """Encode into a .npy file, and go on where an earlier, killed call stopped.

        The file appears under its name when it is complete; `path` + ".json" tells its
        bits, and how far it is until then. A call for a complete file does nothing. In a
        torch process group every process has to make the call: each encodes its share, and
        process 0 joins them. With an equal batch size the file is the same, byte for byte,
        however often and however many processes were at it.

        Args:
            data: as for `encode`, but with a length and items by number.
            path: where the codes go, on a file system that all processes share.

        Returns:
            `path`; read it with `numpy.load(path, mmap_mode="r")`.

        Raises:
            ValueError: as for `encode`; or what lies there was begun with other rows, bits,
                model (by `states.checksum`), amp or number of processes.
            TypeError: data without a length or without items by number.
            FileExistsError: `path` exists and was not written by this method.
            RuntimeError: another process of the group failed.
        """
        shown = self.progress and rank_and_size()[0] == 0
        write_codes(
            Path(path),
            lambda: self._facts(data),
            self.batch_size,
            lambda first, stop: self._codes(data, range(first, stop), shown),
        )
        return Path(path)

    def _facts(self, data: Any) -> dict[str, Any]:
        """What decides the codes, as far as it can be told."""
        rows = count_rows(data)
        if rows is None:
            raise TypeError(
                "encode_to_file needs a length and items by number, to go on where it "
                f"stopped; got {type(data).__name__}: pass a map-style dataset (for a "
                "DataLoader, loader.dataset)"
            )
        if self._bits is None and rows > 0:  # a first row tells; without rows, bits raises
            next(self._codes(data, range(1), False))
        return {
            "rows": rows,
            "bits": self.bits,
            "model": checksum(self.trunk, self.head),
            "amp": None if self.amp is None else str(self.amp),
        }

    def save_pretrained(self, folder: FilePath) -> None:
        """Save the head and the checksum of the trunk; see `pretrained.save_head`.

        Args:
            folder: gets a config.json and a safetensors file.

        Raises:
            ValueError: a head of other layers than `head_layers.LAYERS`.
            ImportError: safetensors is not installed.
        """
        save_head(Path(folder), self.head, self._bits, checksum(self.trunk))

    @classmethod
    def from_pretrained(
        cls, folder: FilePath, trunk: nn.Module, check_trunk: bool = True, **options: Any
    ) -> "HashEncoder":
        """Load what `save_pretrained` wrote; nothing is ever downloaded.

        Args:
            folder: a local folder.
            trunk: the trunk, in the state it had when the head was saved.
            check_trunk: refuse a trunk of another checksum; switch off for a trunk that was
                converted (quantised, compiled, another dtype) since.
            options: of the constructor.

        Raises:
            ValueError: another trunk, a damaged file, another format or code convention.
            ImportError: safetensors is not installed.
        """
        trunk = unwrap(trunk)
        expected = checksum(trunk) if check_trunk else None
        return cls(trunk, load_head(Path(folder), expected), **options)

    @classmethod
    def from_checkpoint(
        cls,
        trunk: nn.Module,
        head: nn.Module,
        path: FilePath | Sequence[FilePath],
        which: Which = "latest",
        **options: Any,
    ) -> "HashEncoder":
        """Load the states of a checkpoint into trunk and head, strictly, and serve them.

        Args:
            trunk: of the same architecture as in training; loaded in place.
            head: likewise, a ProgressiveHead say, whose stage the state brings along.
            path: a HookContainer folder, two files or one: see `states.read_checkpoint`.
            which: "latest" or "best", in a folder.
            options: of the constructor.

        Raises:
            ValueError: no checkpoint there, or one that does not fit.
        """
        trunk, head = unwrap(trunk), unwrap(head)
        trunk_state, head_state = read_checkpoint(path, which)
        load_state(trunk, trunk_state, "trunk")
        load_state(head, head_state, "head")
        return cls(trunk, head, **options)

    def _codes(self, data: Any, rows: range | None, shown: bool) -> Iterator[Tensor]:
        first = 0 if rows is None else rows.start
        parts = batches(
            data,
            self.batch_size,
            self.num_workers,
            self.transform,
            rows,
            pin_memory=self.device.type == "cuda",
        )
        total = count_rows(data) if rows is None else len(rows)
        with progress_bar(shown, total) as advance:
            for batch in parts:
                yield self._encode_batch(batch, first)
                first += len(batch)
                advance(len(batch))

    def _encode_batch(self, batch: Tensor, first: int) -> Tensor:
        x = batch.to(self.device, non_blocking=True)
        u = outputs(self.trunk, self.head, x, self.amp)
        if self._bits is None and u.ndim == 2:
            self._bits = u.shape[1]
        if u.shape != (len(batch), self._bits):
            raise ValueError(
                f"the head must return ({len(batch)}, {self._bits or 'bits'}) for this "
                f"batch, got {tuple(u.shape)}"
            )
        if bool(torch.isnan(u.sum())):  # a cheap sign of NaN; infinities may cause it too
            _refuse_nan(u, first)
        return pack_codes(raw_sign(u)).cpu()


def _refuse_nan(u: Tensor, first: int) -> None:
    nan = torch.isnan(u).any(1)
    if bool(nan.any()):
        row = first + int(nan.nonzero()[0])
        raise ValueError(f"the output for row {row} holds NaN, which has no sign")
