"""One thread: the networks here are tiny, and two processes of tests share two cores."""

import torch

torch.set_num_threads(1)
