"""A real GPU: `python -m pytest -m gpu`, where there is one.  The same laws run everywhere on an emulated one (test_device)."""

from importlib import resources
from pathlib import Path

import pytest
import torch

import ardm
from ardm import api, likelihood
from ardm.bundle import Bundle
from ardm.codec import encode, registry
from ardm.content import Content, Kind
from ardm.exact.model import fingerprint
from ardm.losscurve import LossCurve
from ardm.media.pictures import read_image
from ardm.models.config import ModelConfig
from ardm.plan import Plan, shuffled
from ardm.random_numbers import RandomNumbers
from ardm.ranks import LINES, RANKS
from ardm.source import Draw, Score
from ardm.train.batch import Batch
from ardm.train.update import Update
from ardm.walk import last, walk
from test_device import MODELS, TRAINED, WALKED, Alone, options_of
from toys import randomise

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
GPU = "cuda"


def both(name):
    """A model with random weights, on the CPU and on the GPU."""
    config = ModelConfig(classes=4, width=8, blocks=1, **MODELS[name])
    curve = LossCurve.exact([[1.0] * config.sites] * len(config.digits))
    bundle = Bundle(randomise(ardm.build(config)).float(), config, curve=curve)
    return bundle, bundle.to(GPU)


def chance():
    """The same random numbers for both."""
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("name", MODELS)
def test_likelihoods_are_those_of_the_cpu(name):
    host, gpu = both(name)
    x = torch.randint(4, (3, *host.config.shape), generator=chance())
    bounds = [likelihood.bound(b.model, x, 4, chance()).nats.cpu() for b in (host, gpu)]
    torch.testing.assert_close(*bounds, rtol=1e-4, atol=1e-4)
    for order in ("confident", *(RANKS if len(host.config.shape) == 3 else LINES)):
        exact = [api.score(b, x, 4, order).nats.cpu() for b in (host, gpu)]
        torch.testing.assert_close(*exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_plans_and_draws_from_one_generator_are_those_of_the_cpu(name):
    host, gpu = both(name)
    found = []
    for bundle in (host, gpu):
        random = chance()
        plan = api.make_plan(bundle, 4, generator=random, batch=8)
        start = bundle.model.digits.blank(8, bundle.config.shape)
        assert isinstance(plan, Plan)
        found.append((plan.when.cpu(), last(api.generate(bundle, plan, start, random), start).value.cpu()))
    assert torch.equal(found[0][0], found[1][0])
    assert (found[0][1] == found[1][1]).float().mean() > 0.95  # a draw at the edge of two symbols may differ


@pytest.mark.parametrize("name", MODELS)
def test_samples_and_completions_lie_on_the_gpu(name):
    _, gpu = both(name)
    x = torch.randint(4, (2, *gpu.config.shape), generator=chance())
    assert api.sample(gpu, 2, 4).is_cuda
    done = api.fill(gpu, x, x > 1, 4)
    assert not done.is_cuda
    assert torch.equal(done[x > 1], x[x > 1])


@pytest.mark.parametrize("name", WALKED)
@pytest.mark.parametrize("items", [1, 2])
def test_no_step_after_the_first_waits(name, items):
    """PyTorch itself raises where the host would wait."""
    settings = {"classes": 4, "width": 8, "blocks": 1, **WALKED[name]}
    shape = (1, 5, 5) if settings["trunk"] in ("unet", "centred") else (25,)
    model = randomise(ardm.build(ModelConfig(shape=shape, **settings))).float().to(GPU)
    plan = shuffled(len(model.digits), shape, chance(), items)
    x = torch.randint(settings["classes"], (2, *shape), generator=chance())
    for source in (Draw(torch.Generator(GPU).manual_seed(0)), Score(2, GPU)):
        states = walk(model, plan, source, model.digits.blank(2, shape, GPU), truth=x)
        next(states)
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(20):
                next(states)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    x = torch.randint(256, (2, 3, 32, 32), generator=chance()) // 8 + 100
    bits = [
        likelihood.bound(ardm.load("cifar10-any-order", GPU, kind).model, x, 4, chance()).bits_per_dim
        for kind in (None, dtype)
    ]
    assert abs(bits[0] - bits[1]) < 0.01
    assert api.sample(ardm.load("cifar10-any-order", GPU, dtype), 1, 4).max() < 256


# --- integer models ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", registry.bundled())
@pytest.mark.parametrize("backend", ["float32", "float64", "int64"])
def test_integer_models_give_the_golden_frequencies(name, backend):
    model = registry.model(name)
    assert fingerprint(model, registry._made(model, backend, GPU)) == model.golden


def test_pictures_compress_to_the_same_bytes():
    demo = Path(str(resources.files("ardm") / "assets" / "demo"))
    content = Content(Kind.IMAGE, read_image(demo / "tiles.png").numpy()[:, :32, :32].copy())
    files = [
        encode.compress(content, registry.coder("pictures-small", backend="float32", device=device))[0]
        for device in ("cpu", GPU)
    ]
    assert files[0] == files[1]


# --- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRAINED)
def test_a_training_step_has_the_gradient_of_the_cpu(name):
    config, options, objective = options_of(name)
    x = torch.randint(4, (4, *config.shape), generator=chance())
    draws, found = objective.draw(4, chance()), []
    for device in ("cpu", "cuda:0"):
        model = randomise(ardm.build(config)).float().requires_grad_()
        update = Update(model, objective, options, Alone(torch.device(device)), False, {})
        found.append(update(Batch(x, draws, None), 0))
    assert found[0].norm == pytest.approx(found[1].norm, rel=1e-3)
    assert found[0].bits == pytest.approx(found[1].bits, rel=1e-4)


def test_random_numbers_are_those_of_the_cpu_to_the_bit():
    for seed in (0, 2**63, 2**64 - 1):
        numbers = RandomNumbers(seed, first=3)
        assert torch.equal(numbers.grid(50, 3, 400, GPU).cpu(), numbers.grid(50, 3, 400))
        assert torch.equal(numbers.child(1).grid(50, 3, 400, GPU).cpu(), numbers.child(1).grid(50, 3, 400))
