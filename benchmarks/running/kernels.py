"""The kernels suite: how long an operation takes, as a ratio to what one would use instead.

Both sides are timed in turn within one process of one thread, so that a slow moment of the
machine hits both. A ratio is taken for each repeat; tables show median and quartiles.
`evaluation/*` have sizes of their own: a whole database, on the threads the suite names.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
import torch

from ..results import Arrays, Record, Spec
from .contests import KERNELS
from .devices import Machine, describe_device, wait_for

_THIS = Machine()
_SAMPLE_S = 0.02  # calls are repeated until a sample takes about this long


def execute(spec: Spec, machine: Machine = _THIS) -> tuple[Record, Arrays]:
    """Time both sides of a contest in turn, after one call each to warm up.

    Args:
        spec: see `specs.plan_kernels`.
        machine: where both sides compute, peers that know the CPU alone excepted.
    """
    torch.manual_seed(spec["seed"])
    if "threads" in spec:
        torch.set_num_threads(spec["threads"])
        faiss.omp_set_num_threads(spec["threads"])
    device = machine.device
    contest = KERNELS[spec["kernel"]](spec, device)
    sides = {side: getattr(contest, side) for side in ("ours", "peer")}
    calls = {side: _calls(function, device) for side, function in sides.items()}
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(spec["repeats"]):
        for side, count in calls.items():
            seconds[side].append(_sample(sides[side], count, device) / count)
    arrays = {f"{side}_s": np.array(values) for side, values in seconds.items()}
    about = {"peer": contest.peer_label, "calls": calls, "device": describe_device(device)}
    return about, arrays


def _calls(function: Callable[[], Any], device: str) -> int:
    function()
    return max(1, math.ceil(_SAMPLE_S / _sample(function, 1, device)))


def _sample(function: Callable[[], Any], count: int, device: str) -> float:
    wait_for(device)
    start = time.perf_counter()
    for _ in range(count):
        function()
    wait_for(device)
    return time.perf_counter() - start
