import pytest
import torch

from benchmarks.running.devices import describe_device, same_device


@pytest.mark.parametrize(
    ("stored", "device", "same"),
    [
        ("cpu", "cpu", True),
        ("cuda (A card)", "cpu", False),
        ("cuda (A card)", "cuda:1", True),
        ("cuda:1 (A card)", "cuda:0", True),
        ("cuda:1 (Another card)", "cuda:1", False),
        ("cpu", "cuda", False),
        ("mps", "cpu", False),
    ],
)
def test_a_device_is_the_same_whatever_its_number(stored, device, same, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda name: "A card")
    assert same_device(stored, device) is same
    assert same_device(describe_device(device), device)
