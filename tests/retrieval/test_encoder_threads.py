"""One trunk, several threads, also while its owner has it in training mode."""

import functools
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from pml_nmlayer.codes import binarize, pack_codes
from pml_nmlayer.layers import ProgressiveHead
from pml_nmlayer.retrieval import HashEncoder


class Watched(nn.Sequential):
    """Notes each mode that it is put into."""

    def train(self, mode=True):
        self.__dict__.setdefault("modes", []).append(mode)
        return super().train(mode)


def trunk():
    torch.manual_seed(0)
    layers = (nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.5))
    module = Watched(*layers)
    module(torch.randn(50, 6))
    return module


def expected_codes(module, head, x):
    codes = pack_codes(binarize(head.eval()(module.eval()(x))))
    module.train()
    head.train()
    return codes


def test_threads_share_a_trunk_in_training_mode():
    module, head = trunk(), nn.Sequential(nn.Dropout(0.3), nn.Linear(6, 16))
    x = torch.randn(64, 6)
    expected = expected_codes(module, head, x)
    module.modes.clear()
    state = {name: value.clone() for name, value in module.state_dict().items()}
    encoders = [HashEncoder(module, head, batch_size=size) for size in (4, 8, 64)]
    with ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(encoders[i % 3].encode, x) for i in range(400)]
        modes = [part.training for _ in range(300) for part in module.modules()]
        results = [job.result() for job in jobs]
    assert all(torch.equal(codes, expected) for codes in results)
    assert all(modes)
    assert module.modes == []
    for name, value in module.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_training_and_encoding_at_the_same_time_keep_apart():
    """Statistics are those of the training alone, and its mode is never lost."""
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
    alone, shared = trunk(), trunk()
    torch.manual_seed(3)
    for _ in range(50):
        alone(x)
    encoder = HashEncoder(shared, nn.Linear(6, 16), batch_size=8)
    with ThreadPoolExecutor(2) as pool:
        job = pool.submit(lambda: [encoder.encode(x) for _ in range(30)])
        for _ in range(50):
            assert all(part.training for part in shared.modules())
            shared(x)
        job.result()
    for name, value in alone.state_dict().items():
        assert torch.equal(value, shared.state_dict()[name]), name


def test_later_training_of_the_trunk_reaches_the_encoder():
    module, head, x = trunk(), nn.Linear(6, 16), torch.randn(20, 6)
    encoder = HashEncoder(module, head)
    encoder.encode(x)
    with torch.no_grad():
        module[0].weight.add_(torch.randn(6, 6))
    module[1] = nn.BatchNorm1d(6)
    assert torch.equal(encoder.encode(x), expected_codes(module, head, x))


def test_parts_that_are_used_twice_stay_one():
    shared = nn.Sequential(nn.Linear(6, 6), nn.Dropout())
    module, head, x = (
        nn.Sequential(shared, nn.ReLU(), shared),
        nn.Linear(6, 9),
        torch.ones(2, 6),
    )
    assert torch.equal(HashEncoder(module, head).encode(x), expected_codes(module, head, x))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("kind", ["script", "method", "partial", "hook"])
def test_a_module_that_cannot_be_viewed_is_refused_in_training_mode(kind):
    module = nn.Sequential(nn.Linear(6, 6), nn.Dropout())
    if kind == "script":
        module = torch.jit.script(module)
    elif kind == "method":
        module.forward = module.forward
    elif kind == "partial":
        module[1].forward = functools.partial(nn.Dropout.forward, module[1])
    else:
        module[0].register_forward_hook(module[1].extra_repr)
    encoder, x = HashEncoder(module, nn.Linear(6, 16)), torch.randn(5, 6)
    with pytest.raises(ValueError, match=r"in training mode cannot be served.*\.eval\(\)"):
        encoder.encode(x)
    assert module.training
    if kind != "hook":
        assert encoder.trunk.eval() is module
        encoder.head.eval()
        assert encoder.encode(x).shape == (5, 2)


def test_a_compiled_trunk():
    module = trunk()
    head, x = ProgressiveHead(6, (16,)), torch.randn(20, 6)
    expected = HashEncoder(module, head).encode(x)
    compiled = torch.compile(module, backend="eager")
    head_compiled = torch.compile(head, backend="eager")
    for wrapped in (compiled, nn.DataParallel(module)):
        encoder = HashEncoder(wrapped, head_compiled)
        assert encoder.bits == 16
        assert torch.equal(encoder.encode(x), expected)
        module.eval()
        assert torch.equal(encoder.encode(x), expected)
        module.train()
