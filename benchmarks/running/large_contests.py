"""What the kernels suite times at sizes of use: a million items, a trunk, compiled."""

from collections.abc import Callable
from functools import partial
from typing import Any

import faiss
import numpy as np
import torch
from torch import Tensor, nn

from pml_nmlayer.codes import pack_codes
from pml_nmlayer.losses import DPSHLoss
from pml_nmlayer.ranking import mean_average_precision

from ..results import Spec
from ..suites import MILLION
from ..training.heads import make_head, make_nm_loss
from ..training.resnet9 import NARROW, resnet9
from .contests import KERNELS, STEP_BITS, Contest, batch_labels, noisy_codes, where

_NEAR = 8  # bits; the peer counts pairs that are nearer, which costs nothing beside
_TENTH = 10


def against_popcount(spec: Spec, device: str, noise: float) -> Contest:
    """Compare mAP@all of packed codes with faiss that only compares, and few of them.

    Args:
        spec: of the kernel.
        device: where our side computes.
        noise: share of bits that differ from the code of the class; ½ is random.
    """
    q, q_labels, r, r_labels = noisy_codes(spec, device, noise)
    packed = pack_codes(q), pack_codes(r)
    few = packed[0][: max(len(q) // _TENTH, 1)]
    sides = [_padded(side.cpu().numpy()) for side in (few, packed[1])]
    found = np.zeros(1, dtype=np.uint64)

    def popcount() -> None:
        codes = [faiss.swig_ptr(side) for side in sides]
        sizes = [len(side) for side in sides]
        width = sides[0].shape[1]
        count = faiss.hamming_count_thres  # type: ignore[attr-defined]
        count(*codes, *sizes, _NEAR, width, faiss.swig_ptr(found))

    return Contest(
        lambda: mean_average_precision(
            packed[0], q_labels, packed[1], r_labels, bits=spec["bits"]
        ),
        popcount,
        f"faiss popcount alone, 1 / {_TENTH} of the queries{where(device)}",
    )


def _padded(codes: np.ndarray) -> np.ndarray:
    """Fill codes up to a length that faiss compares: 8, 16, 32 or 64 bytes."""
    width = 8
    while width < codes.shape[1]:
        width *= 2
    return np.pad(codes, ((0, 0), (0, width - codes.shape[1])))


for _name, _noise in (("random", 0.5), ("noisy", 0.25), ("trained", 0.01)):
    KERNELS.add(f"{MILLION}{_name}", partial(against_popcount, noise=_noise))


def trunk_step(
    spec: Spec, device: str, *, merged: bool, compiled: bool, side: int = 8
) -> Contest:
    """Time a step of trunk, head and loss with classes, against one without NMLayer.

    Args:
        spec: of the kernel.
        device: where to compute.
        merged: whether the head has made its only merge.
        compiled: both sides by torch.compile, with the outputs that a compiled loss takes.
        side: of the images.
    """
    bits, classes = (STEP_BITS[0], STEP_BITS[-1]), 2 * STEP_BITS[-1]
    head = make_head(64, bits, num_classes=classes)
    if merged:
        x = torch.randn(spec["batch_size"], 64)
        head.observe(head(x), torch.arange(len(x)) % classes)
        head.merge_next()
    width = bits[-1] if merged else bits[0]
    plain = nn.Sequential(nn.Linear(64, width), nn.Tanh())
    every = 1 if merged else head.current_layer.scorer.every_n_steps
    images = torch.randn(spec["batch_size"], 3, side, side).to(device)
    labels = batch_labels(spec, device)

    def steps(module: nn.Module, loss: nn.Module, read: Callable[..., Any]) -> Any:
        net = nn.Sequential(resnet9(NARROW), module).to(device)
        optimizer = torch.optim.Adam(net.parameters())

        def value(x: Tensor) -> Tensor:
            found: Tensor = loss(read(net[0](x)), labels)
            return found

        if compiled:
            value = torch.compile(value, **_how(device))

        def call() -> None:
            for _ in range(every):
                optimizer.zero_grad()
                value(images).backward()
                optimizer.step()

        return call

    read = head.outputs if compiled else head
    how = "compiled " if compiled else ""
    return Contest(
        steps(head, make_nm_loss(DPSHLoss(), head), read),
        steps(plain, DPSHLoss(), plain),
        f"{how}{every} step{'s'[: every > 1]} of the trunk, nn.Linear of {width}",
    )


def _how(device: str) -> dict[str, Any]:
    """On a device, graphs that are launched at once; on the CPU nothing is built."""
    return {"backend": "aot_eager"} if device == "cpu" else {"mode": "reduce-overhead"}


for _merged, _name in ((False, "active"), (True, "merged")):
    for _compiled, _kind in ((False, "trunk"), (True, "compiled")):
        KERNELS.add(
            f"step/{_kind}_{_name}",
            partial(trunk_step, merged=_merged, compiled=_compiled),
        )
