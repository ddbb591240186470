"""What a run takes of its machine: the most memory at any moment."""

import sys
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # see proc(5)
MIB = 2**20


def reset_peak(device: str) -> None:
    """Begin to look for the most memory anew, where the machine lets one."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        _CLEAR.write_text(_RESET_PEAK)
    except OSError:
        pass  # then the peak is that of the process since it began


def peak_mib(device: str) -> float | None:
    """Return the most MiB since `reset_peak`: of the device, or of this process.

    On a GPU it is what torch holds there; on a CPU all of the process, libraries included.
    None where neither is known.
    """
    if device.startswith("cuda"):
        return torch.cuda.max_memory_reserved(device) / MIB
    if device != "cpu":
        return None
    try:
        lines = _STATUS.read_text().splitlines()
        line = next(line for line in lines if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    except (OSError, StopIteration):
        return _since_start()


def _since_start() -> float | None:
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (MIB if sys.platform == "darwin" else 2**10)
