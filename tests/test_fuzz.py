"""Some thousand mutations; `python tests/fuzz.py` does a hundred thousand."""

import pytest
import torch

import fuzz


@pytest.mark.parametrize(
    ("count", "seed"), [(300, 0), *(pytest.param(2350, seed, marks=pytest.mark.slow) for seed in (1, 2))]
)
def test_nothing_is_silently_wrong(count, seed):
    threads = torch.get_num_threads()
    outcomes = fuzz.run(count, seed)
    torch.set_num_threads(threads)
    refused = sum(n for (_, outcome), n in outcomes.items() if outcome != "the same")
    assert refused > 0.95 * count
    assert {what for what, _ in outcomes} >= {"bit", "field", "cross", "cut", "swap"}
