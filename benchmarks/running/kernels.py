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

_SAMPLE_S = 0.02  # calls are repeated until a sample takes about this long


def execute(spec: Spec) -> tuple[Record, Arrays]:
    """Time both sides of a contest in turn, after one call each to warm up."""
    torch.manual_seed(spec["seed"])
    if "threads" in spec:
        torch.set_num_threads(spec["threads"])
        faiss.omp_set_num_threads(spec["threads"])
    contest = KERNELS[spec["kernel"]](spec)
    calls = {side: _calls(getattr(contest, side)) for side in ("ours", "peer")}
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(spec["repeats"]):
        for side, count in calls.items():
            seconds[side].append(_sample(getattr(contest, side), count) / count)
    arrays = {f"{side}_s": np.array(values) for side, values in seconds.items()}
    return {"peer": contest.peer_label, "calls": calls}, arrays


def _calls(function: Callable[[], Any]) -> int:
    function()
    return max(1, math.ceil(_SAMPLE_S / _sample(function, 1)))


def _sample(function: Callable[[], Any], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        function()
    return time.perf_counter() - start
