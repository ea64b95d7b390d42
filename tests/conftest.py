"""One thread a process: the networks are tiny, and pytest-xdist starts one worker for each core."""

import gc
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by PyTorch, here and in the processes that tests start

import pytest
import torch

from ardm.codec import encode

torch.set_num_threads(1)


@pytest.fixture
def at_once(monkeypatch):
    """`ardm bench` without collecting garbage before each row, which with all of pytest in memory takes longer than a row."""
    monkeypatch.setattr(gc, "collect", int)


@pytest.fixture
def cut(monkeypatch):
    """Regions of 32, or 32×32, so that small contents have several."""
    monkeypatch.setattr(encode, "span_of", lambda content, model: 5)
