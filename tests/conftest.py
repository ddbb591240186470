"""Where and how precisely tests run: TEST_DEVICE and TEST_DTYPES choose."""

import gc
import os

import numpy as np
import pytest
import torch
from hypothesis import settings

DEVICE = torch.device(os.environ.get("TEST_DEVICE", "cpu"))
DTYPES = [
    getattr(torch, name)
    for name in os.environ.get("TEST_DTYPES", "float32,float64").split(",")
]

collect_ignore = ["smoke"]  # scripts, which `make test-dist` runs

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture
def device():
    return DEVICE


@pytest.fixture(params=DTYPES, ids=str)
def dtype(request):
    return request.param


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002, PML's samplers draw from the global generator


@pytest.hookimpl(wrapper=True)
def pytest_collect_file():
    """Look for examples in docstrings of the package alone: those of tests have none."""
    found = yield
    return [each for each in found if type(each).__name__ != "DoctestModule"]


def pytest_collection_finish():
    """Leave thousands of tests and libraries out of every later collection of garbage."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device, none is present")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)
