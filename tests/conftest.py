"""One thread a process: the networks are tiny, and pytest-xdist starts one worker for each core."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by PyTorch, here and in the processes that tests start

import torch

torch.set_num_threads(1)
