"""The same results on a CUDA device, and no step that waits for it."""

import pytest
import torch

from pml_nmlayer.hamming import hamming_histograms
from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.losses import DPSHLoss, NMLoss
from pml_nmlayer.merging.scorers import SCORERS
from pml_nmlayer.ranking import tie_aware_average_precision
from tests.hamming.test_hamming import random_codes, random_labels

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("kind", ["class ids", "multi-hot"])
def test_evaluation_equals_the_cpu(kind):
    q, r = random_codes(50, 48, 1), random_codes(3000, 48, 2)
    y, z = random_labels(50, kind, 1), random_labels(3000, kind, 2)
    expected = hamming_histograms(q, y, r, z)
    items, hits = hamming_histograms(q.cuda(), y.cuda(), r.cuda(), z.cuda())
    assert torch.equal(items.cpu(), expected[0])
    assert torch.equal(hits.cpu(), expected[1])
    torch.testing.assert_close(
        tie_aware_average_precision(items, hits, 100).cpu(),
        tie_aware_average_precision(*expected, 100),
        equal_nan=True,  # a query without relevant items
    )


@pytest.mark.parametrize(
    ("scorer", "num_classes", "kind"),
    [
        *((scorer, None, "ids") for scorer in SCORERS if scorer != "codewords"),
        *((scorer, 4, kind) for scorer in SCORERS for kind in ("ids", "rows")),
    ],
)
def test_a_mixed_precision_step_does_not_wait_for_the_device(scorer, num_classes, kind):
    head = ProgressiveHead(16, (24, 12), scorer=scorer, num_classes=num_classes).cuda()
    loss = NMLoss(DPSHLoss(), head)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    x, y = torch.randn(32, 16, device="cuda"), torch.arange(32, device="cuda") % 4
    if kind == "rows":
        y = torch.nn.functional.one_hot(y, 4) | torch.nn.functional.one_hot(3 - y, 4)
    for _ in range(2):
        torch.cuda.set_sync_debug_mode("error")
        try:
            with torch.autocast("cuda", dtype=torch.float16):
                value = loss(head(x), y)
            value.backward()
            optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert torch.isfinite(value)
        if not head.finished:
            head.merge_next()
    assert head.bits == 12
