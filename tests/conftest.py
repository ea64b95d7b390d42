"""One thread a process: the networks are tiny, and pytest-xdist starts one worker for each core."""

import gc
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by PyTorch, here and in the processes that tests start

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def at_once(monkeypatch):
    """`ardm bench` without collecting garbage before each row, which with all of pytest in memory takes longer than a row."""
    monkeypatch.setattr(gc, "collect", int)
