"""Everything follows the device of the model: states, plans, generators, results; on a device that is only pretended."""

import warnings

import pytest
import torch

import ardm
from ardm import api, inputs, likelihood
from ardm.adaptive import Adaptive
from ardm.bundle import Bundle
from ardm.losscurve import LossCurve
from ardm.models.config import ModelConfig
from ardm.ranks import LINES, RANKS
from pretended import GPU, HOST, Generator, Pretended
from toys import randomise

IMAGE, LINE = (2, 4, 4), (6,)
MODELS = {
    "local": {"trunk": "local", "shape": IMAGE, "head": "mixture", "base": 2, "radius": 1, "rings": 1},
    "unet": {"trunk": "unet", "shape": IMAGE, "head": "values"},
    "transformer": {"trunk": "transformer", "shape": LINE, "head": "digits", "base": 2},
    "wavenet": {"trunk": "wavenet", "shape": LINE, "head": "mixture"},
    "window": {
        "trunk": "window",
        "shape": LINE,
        "head": "values",
        "reach": (3, 0),
        "hashes": (20,),
        "bits": 5,
        "row": 3,
    },
    "taps": {"trunk": "taps", "shape": LINE, "head": "mixture", "reach": (3, 0)},
    "table": {"trunk": "mlp", "shape": LINE, "head": "values"},
}


QUICK = ("local", "transformer", "table")


@pytest.fixture(params=[n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in MODELS])
def there(request, monkeypatch):
    """A bundle on the pretended GPU, and the mode that pretends it."""
    config = ModelConfig(classes=4, width=8, blocks=1, **MODELS[request.param])
    model = randomise(ardm.build(config)).float()
    curve = LossCurve.exact([[1.0] * config.sites] * len(config.digits))
    monkeypatch.setattr(inputs, "seeded", lambda seed, device="cpu": generator(seed, device))
    return Bundle(model, config, curve=curve), Pretended(model)


def generator(seed, device):
    assert torch.device(device).type == "cuda", "a generator on the host"
    return Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # autocast says that there is no such device
        yield


def orders(bundle):
    yield from ("random", "confident")
    yield from RANKS if len(bundle.config.shape) == 3 else LINES


def test_samples_are_drawn_where_the_model_lies(there):
    bundle, mode = there
    for order in orders(bundle):
        with mode:
            x = api.sample(bundle, 2, 4, order)
            assert x.device == GPU
        assert x.shape == (2, *bundle.config.shape)
        assert int(x.max()) < 4


def test_plans_lie_where_the_model_lies(there):
    bundle, mode = there
    with mode:
        for order in orders(bundle):
            made = api.make_plan(bundle, 4, order, generator=Generator().manual_seed(0), batch=2)
            steps = made.selection.until if isinstance(made, Adaptive) else made.when
            assert steps.device == GPU


@pytest.mark.parametrize("start", [HOST, GPU])
def test_what_is_given_may_lie_anywhere_and_comes_back_there(there, start):
    bundle, mode = there
    x = torch.randint(4, (2, *bundle.config.shape))
    known = torch.rand(x.shape) < 0.5
    for order in orders(bundle):
        with mode:
            mode.where[x], mode.where[known] = start, start
            done = api.fill(bundle, x, known, 4, order)
            assert done.device == start
        assert torch.equal(done[known], x[known])


def test_likelihoods_are_computed_where_the_model_lies(there):
    bundle, mode = there
    x = torch.randint(4, (2, *bundle.config.shape))
    calls = [lambda: api.score(bundle, x).nats, *(lambda o=o: api.score(bundle, x, 4, o).nats for o in orders(bundle))]
    starts = [s * bundle.config.sites for s in range(len(bundle.model.digits))]
    given = torch.zeros_like(x)
    given[:, ..., 0] = 1

    def chance():
        return Generator().manual_seed(0)

    calls += [
        lambda: likelihood.bound(bundle.model, x, 2, chance(), given=given).nats,
        lambda: likelihood.policy_bound(bundle.model, x, starts, 2, chance()).nats,
        lambda: torch.tensor(likelihood.curve(bundle.model, x, 2, chance()).nats(), device=GPU),
    ]
    if len(bundle.model.digits) == 1:
        calls.append(lambda: likelihood.absorbing_bound(bundle.model, x, 4, 2, chance()).nats)
    for call in calls:
        with mode:
            nats = call()
            assert nats.device == GPU
        assert nats.isfinite().all()


def test_a_generator_may_lie_on_the_host(there):
    bundle, mode = there
    chance = torch.Generator().manual_seed(0)
    with mode:
        made = api.make_plan(bundle, 4, generator=chance, batch=2)
        start = bundle.model.digits.blank(2, bundle.config.shape, GPU)
        *_, last = api.generate(bundle, made, start, chance)
        assert made.when.device == last.value.device == GPU
    wanted = api.make_plan(bundle, 4, generator=torch.Generator().manual_seed(0), batch=2)
    assert torch.equal(made.when, wanted.when)


def test_two_devices_do_not_meet():
    with Pretended():
        host, gpu = torch.zeros(2), torch.zeros(2, device=GPU)
        assert (host.device, gpu.device, (gpu + 1).device, host.to(GPU).device) == (HOST, GPU, GPU, GPU)
        with pytest.raises(RuntimeError, match="same device"):
            host + gpu
        with pytest.raises(TypeError, match="numpy"):
            gpu.numpy()
        assert torch.equal((gpu + torch.tensor(1)).cpu(), torch.ones(2))
