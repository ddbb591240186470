"""Exact products of small numbers, by whichever library is faster."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

Product = Callable[[Tensor, Tensor, Tensor], None]
"""Writes a b to its third argument; the last column of a meets a row of ones."""

# Below, what it takes to look up the libraries of this process (27 ms) is not worth it.
_MANY_PAIRS = 2**28


def product_of(q: Tensor, items: int) -> Product:
    """Choose a product: NumPy's for many pairs on the CPU, torch's elsewhere.

    MKL, which torch brings, is slow on CPUs of AMD. 32 to 64 rows times 65,536 columns of
    65 numbers took 5.2 to 5.4 ns a number. With OpenBLAS, which NumPy brings, they took
    2.1 to 2.6 (processor time of one thread of an EPYC, Zen 3, that other work shared).

    Args:
        q: query codes.
        items: of the database.
    """
    if is_large(q, items):
        return numpy_product
    return torch_product if products_are_exact(q.device) else rounded_product


def is_large(q: Tensor, items: int) -> bool:
    """Tell whether there are many pairs, and they are counted on the CPU.

    Args:
        q: query codes.
        items: of the database.
    """
    return q.device.type == "cpu" and len(q) * items >= _MANY_PAIRS


@contextmanager
def on_one_thread(large: bool) -> Iterator[None]:
    """Keep NumPy's library on one thread each, where it is used.

    Args:
        large: see `is_large`.
    """
    limits = nullcontext()
    if large:
        from threadpoolctl import threadpool_limits

        limits = threadpool_limits(1, "blas")
    with limits:
        yield


def numpy_product(a: Tensor, b: Tensor, out: Tensor) -> None:
    """Multiply with NumPy, which never rounds what it multiplies.

    Args:
        a: (Q, F).
        b: (F, N).
        out: (Q, N), contiguous.
    """
    a.numpy().dot(b.numpy(), out=out.numpy())


def torch_product(a: Tensor, b: Tensor, out: Tensor) -> None:
    """Multiply with torch, where its settings do not round what it multiplies.

    Args:
        a: (Q, F).
        b: (F, N).
        out: (Q, N).
    """
    with torch.autocast(a.device.type, enabled=False), torch.no_grad():
        torch.mm(a, b, out=out)


def rounded_product(a: Tensor, b: Tensor, out: Tensor) -> None:
    """Multiply where torch rounds what it multiplies (TF32, bfloat16).

    Codes times ½ or ¼ stay exact, but constants in the last column do not: they are added.

    Args:
        a: (Q, F).
        b: (F, N), the last row ones.
        out: (Q, N).
    """
    torch_product(a[:, :-1], b[:-1], out)
    out += a[:, -1:]


def products_are_exact(device: torch.device | str = "cpu") -> bool:
    """Whether float32 products keep float32: settings of torch may round their inputs.

    Args:
        device: where they are computed.
    """
    odd = torch.full((64, 64), 2.0**20 + 1, device=device)
    with torch.autocast(odd.device.type, enabled=False):
        return bool((odd @ torch.eye(64).to(device) == odd).all())
