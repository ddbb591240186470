"""Data in, packed codes out."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ..heads.unfinished import warn_if_unfinished
from ..layers import ProgressiveHead
from ..runtime.process_group import rank_and_size
from .batch_codes import check_outputs, codes_of_batch, warn_of_skipped
from .code_file import write_codes
from .eval_view import eval_view
from .head_layers import code_length
from .inputs import Transform, count_rows, in_order, read
from .item_reader import Batch
from .model_card import card_text, write_card
from .one_sided import SignWatch, refuse_one_sided_head
from .packed_rows import flag, whole
from .pretrained import load_head, save_head
from .serving import as_device, device_of, outputs, progress_bar, uncompiled, unwrap
from .states import FilePath, Which, checksum, load_state, read_checkpoint

Unreadable = Literal["raise", "skip"]


class HashEncoder:
    r"""Turn images or tensors into packed codes with a trained trunk and head.

    Formula:  codes = pack_codes(binarize(head(trunk(x)))), modules in eval mode.

    A ProgressiveHead is folded, as it is now: later training or merging does not reach this
    encoder. Other modules are used as they are, not copied, and only moved to the device.
    Their mode is never switched: parts in training mode are computed by a view of them in
    eval mode. So several threads may encode with one encoder, or with one trunk.

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
        unreadable: "raise", or "skip" for items that cannot be read or transformed: their
            rows keep their place and hold zeros, and a warning names them.

    Shapes:   N items -> (N, ceil(bits / 8)) uint8, on the CPU.
    Returns:  codes in the order of the items. They do not depend on the batch size, the
              number of workers or of processes, up to bits whose output lies within
              rounding of 0.
    Raises:   ValueError: options out of range, outputs of another shape, NaN outputs,
              outputs that are never negative; a trunk in training mode of which no view
              can be made. TypeError: options of another type.
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
        *,
        batch_size: int = 64,
        num_workers: int = 0,
        device: str | torch.device | None = None,
        amp: torch.dtype | None = None,
        progress: bool = False,
        unreadable: Unreadable = "raise",
    ) -> None:
        for name, module in (("trunk", trunk), ("head", head)):
            if not isinstance(module, nn.Module):
                raise TypeError(f"{name} must be a module, got {type(module).__name__}")
        if transform is not None and not callable(transform):
            raise TypeError(f"transform must be callable, got {type(transform).__name__}")
        try:
            batch_size = whole(batch_size, "batch_size")
            num_workers = whole(num_workers, "num_workers", least=0)
        except ValueError as error:
            raise ValueError(
                f"{error}; options are batch_size={batch_size}, num_workers={num_workers}"
            ) from None
        if amp not in (None, torch.float16, torch.bfloat16):
            raise ValueError(f"amp must be None, float16 or bfloat16, got {amp}")
        if unreadable not in get_args(Unreadable):
            raise ValueError(f"unreadable must be 'raise' or 'skip', got {unreadable!r}")
        trunk, head = unwrap(trunk), unwrap(uncompiled(unwrap(head)))
        warn_if_unfinished(head, "taken by HashEncoder")
        head = head.fold() if isinstance(head, ProgressiveHead) else head
        refuse_one_sided_head(head)
        self.device = device_of(trunk, head) if device is None else as_device(device)
        self.trunk, self.head = trunk.to(self.device), head.to(self.device)
        self.transform = transform
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.amp = amp
        self.progress = flag(progress, "progress")
        self.unreadable = unreadable
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

    def encode(self, data: Any, *, return_skipped: bool = False) -> Any:
        """Encode everything at once.

        Args:
            data: a tensor or array (N, ...), a sequence of items, a torch Dataset, a pandas
                Series, or an iterable of batches (a DataLoader that keeps the order). Items
                and batches may be (data, label, ...); labels are ignored.
            return_skipped: also return which items could not be read; see `unreadable`.

        Returns:
            Packed codes (N, ceil(bits / 8)) uint8; with `return_skipped`, (codes, skipped),
            where skipped has the reason by row.

        Raises:
            ValueError: as for the class; a loader that shuffles or drops rows; or no item
                at all and the code length unknown.
            TypeError: items that are neither tensors nor arrays after the transform; data
                without an order of rows.
        """
        flag(return_skipped, "return_skipped")
        skipped: dict[int, str] = {}
        packed = list(self._codes(data, None, self.progress, skipped))
        codes = torch.cat(packed) if packed else torch.empty(0, -(-self.bits // 8)).byte()
        warn_of_skipped(skipped)
        return (codes, skipped) if return_skipped else codes

    def encode_to_file(self, data: Any, path: FilePath) -> Path:
        """Encode into a .npy file, and go on where an earlier, killed call stopped.

        The file appears under its name when it is complete; `path` + ".json" tells its
        bits, its checksum, skipped items, and how far it is until then. A call for a
        complete file only compares its checksum. In a torch process group every process has
        to make the call: each encodes its share, and process 0 joins them. With an equal
        batch size the file is the same, byte for byte, however often and however many
        processes were at it.

        Args:
            data: as for `encode`, but with a length and items by number.
            path: where the codes go, on a file system that all processes share.

        Returns:
            `path`; read it with `read_codes`, or `numpy.load(path, mmap_mode="r")`.

        Raises:
            ValueError: as for `encode`; or what lies there is damaged, or has skipped items
                although `unreadable` is "raise". Or it was begun with other rows, bits,
                model (by `states.checksum`), amp or number of processes.
            TypeError: data without a length or without items by number.
            FileExistsError: `path` exists and was not written by this method.
            BlockingIOError: another process is encoding to `path`.
            OSError: the disk is full, say.
            RuntimeError: another process of the group failed.
        """
        shown = self.progress and rank_and_size()[0] == 0
        data = in_order(data)
        skipped = write_codes(
            Path(path),
            lambda: self._facts(data),
            self.batch_size,
            lambda first, stop, skipped: self._codes(
                data, range(first, stop), shown, skipped
            ),
            skip=self.unreadable == "skip",
        )
        warn_of_skipped(skipped)
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
        if self._bits is None:
            self._learn_bits(data, rows)
        return {
            "rows": rows,
            "bits": self.bits,
            "model": checksum(self.trunk, self.head),
            "amp": None if self.amp is None else str(self.amp),
        }

    def _learn_bits(self, data: Any, rows: int) -> None:
        """A first row tells the code length; without rows, `bits` raises."""
        skip, modules = (
            self.unreadable == "skip",
            (eval_view(self.trunk), eval_view(self.head)),
        )
        for row in range(rows):
            one = range(row, row + 1)
            (batch,) = read(data, 1, 0, self.transform, one, skip=skip)
            if batch.data is not None:
                self._encode_batch(modules, batch, row, SignWatch())
                return

    def save_pretrained(
        self, folder: FilePath, *, card: Mapping[str, Any] | None = None
    ) -> None:
        """Save the head and the checksum of the trunk; see `pretrained.save_head`.

        Args:
            folder: gets a config.json, a safetensors file and a model card, README.md.
            card: what the card says of data, protocol, metric, figures and what the codes
                are not for; see `model_card.write_card`. None leaves that unknown.

        Raises:
            ValueError: a head of other layers than `head_layers.LAYERS`; fields that a card
                has not, or figures without data, protocol and metric.
            TypeError: a field of the card that is no text.
            ImportError: safetensors is not installed.
        """
        card_text(bits=self._bits, kind="HashEncoder", card=card)  # refuse it beforehand
        save_head(Path(folder), self.head, self._bits, checksum(self.trunk))
        write_card(Path(folder), bits=self._bits, kind="HashEncoder", card=card)

    @classmethod
    def from_pretrained(
        cls, folder: FilePath, trunk: nn.Module, *, check_trunk: bool = True, **options: Any
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
        expected = checksum(trunk) if flag(check_trunk, "check_trunk") else None
        return cls(trunk, load_head(Path(folder), expected), **options)

    @classmethod
    def from_checkpoint(
        cls,
        trunk: nn.Module,
        head: nn.Module,
        path: FilePath | Sequence[FilePath],
        *,
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

    def _codes(
        self, data: Any, rows: range | None, shown: bool, skipped: dict[int, str]
    ) -> Iterator[Tensor]:
        data = in_order(data)
        first = 0 if rows is None else rows.start
        parts = read(
            data,
            self.batch_size,
            self.num_workers,
            self.transform,
            rows,
            pin_memory=self.device.type == "cuda",
            skip=self.unreadable == "skip",
        )
        total = count_rows(data) if rows is None else len(rows)
        modules = eval_view(self.trunk), eval_view(self.head)
        watch = SignWatch()
        with progress_bar(shown, total) as advance:
            for batch in parts:
                skipped.update({first + at: why for at, why in batch.unreadable.items()})
                yield self._encode_batch(modules, batch, first, watch)
                first += batch.size
                advance(batch.size)
        watch.finish()

    def _encode_batch(
        self,
        modules: tuple[nn.Module, nn.Module],
        batch: Batch,
        first: int,
        watch: SignWatch,
    ) -> Tensor:
        u: Any = None
        if batch.data is not None:
            x = batch.data.to(self.device, non_blocking=True)
            u = outputs(*modules, x, self.amp)
            check_outputs(u, batch, self._bits, first)
            self._bits = u.shape[1]
            watch.see(u)
        return codes_of_batch(u, batch, self._bits, first)
