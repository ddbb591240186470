import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pml_nmlayer.heads.bi_half import BiHalf
from tests import naive


@pytest.mark.parametrize("size", [1, 2, 5, 8, 33])
def test_training_equals_loop(size, dtype, device):
    u = torch.randn(size, 7, dtype=dtype, device=device)
    b = BiHalf()(u)
    assert b.dtype == dtype
    assert b.tolist() == naive.bi_half(u.tolist())


@given(st.lists(st.integers(-2, 2), min_size=1, max_size=40))
def test_exactly_half_is_plus_one_whatever_the_ties(column):
    u = torch.tensor(column, dtype=torch.float32)[:, None].repeat(1, 2)
    b = BiHalf()(u)
    assert (b == 1).sum(0).tolist() == [len(column) // 2] * 2
    assert (b == -1).sum(0).tolist() == [len(column) - len(column) // 2] * 2
    assert b.tolist() == naive.bi_half(u.tolist())


def test_equal_rows_are_split_by_row():
    assert BiHalf()(torch.zeros(5, 1)).flatten().tolist() == [1, 1, -1, -1, -1]


def test_evaluation_is_the_sign_with_a_straight_through_gradient():
    u = torch.tensor([[-0.5, 0.0], [-0.1, -2.0]], requires_grad=True)
    b = BiHalf(gamma=6).eval()(u)
    assert b.tolist() == [[-1, 1], [-1, -1]]
    b.backward(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert u.grad.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("gamma", [0.0, 1.5])
def test_backward_adds_the_pull(gamma, dtype, device):
    u = torch.randn(5, 3, dtype=dtype, device=device, requires_grad=True)
    g = torch.randn(5, 3, dtype=dtype, device=device)
    b = BiHalf(gamma)(u)
    b.backward(g)
    for i in range(5):
        for k in range(3):
            pull = gamma * (u[i, k].item() - b[i, k].item()) / 15
            assert u.grad[i, k].item() == pytest.approx(g[i, k].item() + pull, rel=1e-6)


def test_gamma_belongs_to_the_instance():
    # a class-wide γ, as in a public port, would make the first layer use the second's
    u = torch.randn(4, 3, requires_grad=True)
    first, _second = BiHalf(0), BiHalf(100)
    first(u).sum().backward()
    assert torch.equal(u.grad, torch.ones(4, 3))
    assert repr(first) == "BiHalf(gamma=0)"


def test_the_pull_is_the_gradient_of_its_loss_term():
    u = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    b = BiHalf(2.0)(u)
    (b * 0).sum().backward()
    pull, u.grad = u.grad, None
    (0.5 * 2.0 * (u - b.detach()).square().mean()).backward()
    torch.testing.assert_close(pull, u.grad)


def test_value_of_the_authors_layer():
    # liyunqianggyn/Deep-Unsupervised-Image-Hashing, ImageHashing/Cifar10_I.py, γ = 6,
    # u_n = 1.5 sin n in rows of six, gradient of the code 0.25 everywhere
    u = (1.5 * torch.sin(torch.arange(1.0, 25))).reshape(4, 6).requires_grad_()
    b = BiHalf(6)(u)
    expected = [
        [1, -1, -1, -1, 1, 1],
        [1, 1, -1, -1, -1, 1],
        [-1, 1, 1, 1, -1, -1],
        [-1, -1, 1, 1, 1, -1],
    ]
    assert b.tolist() == expected
    b.backward(torch.full_like(b, 0.25))
    row = [0.3155516, 0.8409865, 0.5529200, 0.2161991, -0.3595966, -0.1047808]
    torch.testing.assert_close(u.grad[0], torch.tensor(row))


def test_a_batch_without_items_passes():
    u = torch.randn(0, 3, requires_grad=True)
    b = BiHalf()(u)
    b.sum().backward()
    assert b.shape == u.grad.shape == (0, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BiHalf(-1), "gamma must be >= 0, got -1"),
        (lambda: BiHalf()(torch.zeros(4)), r"shape \(B, K\), got \(4,\)"),
        (lambda: BiHalf().eval()(torch.zeros(1, 2, 3)), r"got \(1, 2, 3\)"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
