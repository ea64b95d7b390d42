"""Three thousand mutations; `python tests/fuzz.py` does a hundred thousand."""

import pytest
import torch

import fuzz


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_nothing_is_silently_wrong(seed):
    threads = torch.get_num_threads()
    outcomes = fuzz.run(1000, seed)
    torch.set_num_threads(threads)
    refused = sum(n for (_, outcome), n in outcomes.items() if outcome != "the same")
    assert refused > 950
    assert {what for what, _ in outcomes} >= {"bit", "field", "cross", "cut", "swap"}
