"""Where networks are trained: what `--device` and `--loaders` say."""

import re
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Machine:
    """What a run may use.

    Args:
        device: see `check_device`.
        loaders: processes beside a run's own that load images.
    """

    device: str = "cpu"
    loaders: int = 0


def check_device(name: str) -> str:
    """Return the name of a device that is there.

    Raises:
        ValueError: this machine has none of that name.
    """
    known = ["cpu"]
    if torch.cuda.is_available():
        known += ["cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        known.append("mps")
    if name not in known:
        raise ValueError(
            f"this machine has no device {name!r}, only {', '.join(known)}; choose one of "
            "these by --device"
        )
    return name


def describe_device(device: str) -> str:
    """Name a device as results do."""
    if not device.startswith("cuda"):
        return device
    return f"{device} ({torch.cuda.get_device_name(device)})"


def same_device(described: str, device: str) -> bool:
    """Tell whether a result was made on a device like this one, whatever its number.

    Args:
        described: by `describe_device`, in a result.
        device: see `check_device`.
    """
    first, second = (
        re.sub(r"^cuda:\d+", "cuda", text) for text in (described, describe_device(device))
    )
    return first == second


def wait_for(device: str) -> None:
    """Wait until a device has done all it was told, before a clock is read."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device == "mps":
        torch.mps.synchronize()
