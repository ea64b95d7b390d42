"""A walk along a shared plan asks the host for nothing once a step: on a GPU every such question would wait for it."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ardm import faults
from ardm.models.build import build
from ardm.models.config import preset
from ardm.plan import shuffled
from ardm.source import Draw, Score
from ardm.walk import last, walk

WAITING = {
    "aten::nonzero",
    "aten::_local_scalar_dense",
    "aten::masked_select",
    "aten::equal",
    "aten::_unique2",
    "aten::is_nonzero",
}


class Waits(TorchDispatchMode):
    """Counts the operations whose result the host must see."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name().split(".")[0]
        masks = name == "aten::index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        self.count += name in WAITING or masks
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "changes", [{"head": "values"}, {"head": "mixture"}, {"head": "digits", "base": 4}, {"head": "values", "base": 4}]
)
@pytest.mark.parametrize("source", ["draw", "score"])
def test_a_walk_waits_no_more_for_more_steps(changes, source, monkeypatch):
    monkeypatch.setattr(faults, "readable", lambda x: False)  # a processor looks at each step, which costs it nothing
    model = build(preset("tiny", shape=(1, 4, 4), classes=16, width=8, blocks=1, **changes)).eval()
    generator = torch.Generator().manual_seed(0)
    fine = shuffled(len(model.digits), (1, 4, 4), generator)
    x = torch.randint(16, (2, 1, 4, 4), generator=generator)
    counts = []
    for plan in (fine.coarsen([16 * s for s in range(len(model.digits))]), fine):
        told = (Draw(generator), None) if source == "draw" else (Score(2), x)
        blank = model.digits.blank(2, (1, 4, 4))
        len(plan)
        with Waits() as waits:
            last(walk(model, plan, told[0], blank, truth=told[1]), blank)
        counts.append(waits.count)
    assert counts[1] <= counts[0]


def test_the_counter_counts():
    with Waits() as waits:
        torch.ones(3).nonzero()
        torch.ones(3)[torch.ones(3) > 0]
        float(torch.ones(()))
    assert waits.count >= 3
