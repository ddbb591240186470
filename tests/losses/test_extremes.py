"""Loss and gradient at inputs that a user can have, in every precision."""

import contextlib

import pytest
import torch

from tests.compatibility import build, our_classes

B, K, C = 8, 16, 4
SIGNS = torch.ones(B, K)
SIGNS[::2, ::2] = SIGNS[1::2, 1::3] = -1
POINTS = {
    "all outputs 0": (torch.zeros(B, K), torch.arange(B) % C),
    "some items 0": (SIGNS * (torch.arange(B) % 2)[:, None], torch.arange(B) % C),
    "all outputs equal": (torch.full((B, K), 0.3), torch.arange(B) % C),
    "|u| = 1": (SIGNS, torch.arange(B) % C),
    "|u| = 100": (100 * SIGNS, torch.arange(B) % C),
    "|u| = 100, all alike": (torch.full((B, K), -100.0), torch.arange(B) % C),
    "tiny": (1e-30 * SIGNS, torch.arange(B) % C),
    "one class": (0.7 * SIGNS, torch.zeros(B, dtype=torch.long)),
    "each its own class": (0.7 * SIGNS[:C], torch.arange(C)),
    "one item": (0.7 * SIGNS[:1], torch.tensor([2])),
    "no label at all": (0.7 * SIGNS, torch.zeros(B, C)),
    "every label": (0.7 * SIGNS, torch.ones(B, C)),
}
PRECISIONS = {
    "float32": (torch.float32, None),
    "float64": (torch.float64, None),
    "float16": (torch.float16, None),
    "bfloat16": (torch.bfloat16, None),
    "float16 autocast": (torch.float32, torch.float16),
    "bfloat16 autocast": (torch.float32, torch.bfloat16),
}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("cls", our_classes(), ids=lambda cls: cls.__name__)
def test_loss_and_gradient_are_finite(cls, precision):
    dtype, autocast = PRECISIONS[precision]
    for point, (outputs, labels) in POINTS.items():
        u = outputs.to(dtype, copy=True).requires_grad_()
        context = contextlib.nullcontext()
        if autocast is not None:
            context = torch.autocast("cpu", dtype=autocast)
        loss = build(cls)
        with context:
            value = loss(u, labels)
        value.backward()
        assert value.isfinite(), point
        assert u.grad.isfinite().all(), point
        # GreedyHash's cube has the largest slope: 3 · 99² λ / (B K), no other comes near.
        assert u.grad.abs().max() < 1000, point
        for weights in loss.parameters():
            assert weights.grad is None or weights.grad.isfinite().all(), point
