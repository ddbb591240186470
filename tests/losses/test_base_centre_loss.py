import copy

import pytest
import torch
from torch.nn import functional as F

from pml_nmlayer.classes.terms import ClassTerms
from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.losses import CSQLoss, DPNLoss, NMLoss, OrthoHashLoss

CLASSES = pytest.mark.parametrize(
    "cls", [CSQLoss, DPNLoss, OrthoHashLoss], ids=lambda cls: cls.__name__
)
LABELS = torch.arange(32) % 4
ROWS = F.one_hot(LABELS, 4) | F.one_hot(LABELS // 2, 4)


def a_head(**options):
    torch.manual_seed(0)
    return ProgressiveHead(6, bits=(16, 8, 4), num_classes=4, **options)


@CLASSES
@pytest.mark.parametrize("labels", [LABELS, ROWS], ids=["ids", "multi-hot"])
def test_centres_are_the_codewords_of_the_merge(cls, labels, device):
    head = a_head().to(device)
    loss, x, labels = cls(4, 16, head=head), torch.randn(32, 6), labels.to(device)
    assert not list(loss.parameters())  # the head is the model's
    for stage, bits in enumerate((16, 8, 4)):
        h = head(x.to(device))
        own = loss.codebook if stage == 0 else head.classes.codewords(bits)
        alone = cls(4, bits, codebook=own.cpu())
        if cls is CSQLoss:  # the first of its tie bits
            alone.tie_bits.copy_(loss.tie_bits[:bits])
        torch.testing.assert_close(loss(h, labels), alone(h, labels))
        head.observe(h, labels)
        if not head.finished:
            head.merge_next()
    assert torch.equal(loss.centres(torch.zeros(1, 16)), loss.codebook)


@CLASSES
@pytest.mark.parametrize("longer", ["drop", "joint"])
@pytest.mark.parametrize(
    "given",
    [lambda head: {"head": head}, lambda _: {}],
    ids=["with head", "NMLoss binds it"],
)
def test_it_trains_through_merges_also_jointly_with_longer_codes(cls, longer, given):
    head = a_head(longer=longer)
    loss = NMLoss(cls(4, 16, **given(head)), head, class_terms=ClassTerms(label_weight=0))
    optimizer = torch.optim.Adam(head.parameters(), lr=0.01)
    x = F.one_hot(LABELS, 6).float() + 0.1 * torch.randn(32, 6)
    for step in range(150):
        value = loss(head(x), LABELS)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if step in (10, 20):
            head.merge_next()
    right = (head.codes(x) == head.codewords()[LABELS]).float().mean()
    assert right == 1 if longer == "drop" else right > 0.9


def test_a_copy_follows_the_head_that_is_copied_with_it():
    head = a_head()
    loss = NMLoss(CSQLoss(4, 16, head=head), head)
    loss(head(torch.randn(32, 6)), LABELS)
    copied, loss = copy.deepcopy((head, loss))
    copied.merge_next()
    assert loss(copied(torch.randn(32, 6)), LABELS) > 0
    assert head.stage == 0


@CLASSES
def test_at_constant_width_the_centres_stay_what_they_are(cls):
    for head, options in (
        (a_head(constant_width=True), {}),
        (a_head(), {"constant_width": True}),
        (ProgressiveHead(6, bits=(16, 8, 4)), {}),  # which knows no codewords
    ):
        loss = cls(4, 16)
        wrapped, x = NMLoss(loss, head, **options), torch.randn(32, 6)
        assert head.constant_width
        assert not loss.takes_shorter
        for _ in range(2):
            h = head(x)
            assert h.shape == (32, 16)
            expected = loss(h, LABELS)
            torch.testing.assert_close(wrapped.terms(h, LABELS)["loss"], expected)
            head.merge_next()


@CLASSES
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda cls: cls(4, 16, head=a_head())(torch.zeros(32, 8), LABELS), "got 8"),
        (lambda cls: cls(4, 16)(torch.zeros(32, 8), LABELS), "embedding_size=16 columns"),
        (lambda cls: cls(4, 16).centres(torch.zeros(32, 8)), "16 columns, got 8; give"),
        (lambda cls: cls(4, 8, head=a_head()), r"embedding_size=8 .*bits=\(16, 8, 4\)"),
        (lambda cls: cls(3, 16, head=a_head()), "num_classes=3 .* got num_classes=4"),
        (
            lambda cls: cls(4, 16, head=ProgressiveHead(6, bits=(16, 8))),
            "got num_classes=None",
        ),
        (
            lambda cls: cls(4, 16, head=a_head(constant_width=True)),
            "constant_width=True .* leave head out",
        ),
        (
            lambda cls: NMLoss(cls(4, 8), a_head()),
            r"embedding_size=8 .*bits=\(16, 8, 4\)",
        ),
        (lambda cls: NMLoss(cls(3, 16), a_head()), "num_classes=3 .* got num_classes=4"),
        (lambda cls: cls(4, 16, head=torch.nn.Linear(6, 16)), "got num_classes=None"),
    ],
)
def test_bad_input(cls, call, message):
    with pytest.raises(ValueError, match=message):
        call(cls)
