"""Runs against the installed package: `make test-torch`. On a machine with a GPU, what is marked cuda alone: `pytest tests/py -m cuda`."""
import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: threads that wait leave the processor to others

import pytest
import torch
from hypothesis import settings

import octavo.torch  # noqa: F401

settings.register_profile("octavo", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("octavo")


def gpu():
    return torch.cuda.is_available() and torch.cuda.get_device_capability()[0] == 9


def pytest_runtest_setup(item):
    if item.get_closest_marker("cuda") and not gpu():
        pytest.skip("no CUDA device of compute capability 9.0")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request):
    return request.param
