"""Everything follows the device of the model: states, plans, generators, results; on a device that is only emulated."""

import warnings
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

import ardm
from ardm import api, inputs, likelihood
from ardm.adaptive import Adaptive
from ardm.bundle import Bundle
from ardm.digits import Maps
from ardm.errors import ArdmError
from ardm.heads import inverse_cdf
from ardm.losscurve import LossCurve
from ardm.models.config import ModelConfig
from ardm.objective import draw
from ardm.orders import OrderConfig
from ardm.plan import ranked, raster, shuffled
from ardm.random_numbers import RandomNumbers
from ardm.ranks import LINES, RANKS
from ardm.source import Draw, Score
from ardm.train.batch import Batch
from ardm.train.objectives import choose
from ardm.train.recipe import TrainConfig
from ardm.train.update import Update
from ardm.walk import last, walk
from emulated import GPU, HOST, MPS, Emulated, generator_on
from test_precision import EVERY, context_of
from test_precision import items as items_of
from toys import randomise

IMAGE, LINE = (2, 4, 4), (6,)
MODELS = {
    "centred": {"trunk": "centred", "shape": IMAGE, "head": "mixture", "base": 2, "levels": 2},
    "unet": {"trunk": "unet", "shape": IMAGE, "head": "values"},
    "transformer": {"trunk": "transformer", "shape": LINE, "head": "digits", "base": 2},
    "wavenet": {"trunk": "wavenet", "shape": LINE, "head": "mixture"},
    "table": {"trunk": "mlp", "shape": LINE, "head": "values"},
    "columns": {"trunk": "transformer", "shape": LINE, "head": "values", "columns": (4, 4, 4, 4, 4, 4)},
    "ending": {"trunk": "transformer", "shape": LINE, "head": "values", "end": True},
    "any": {"trunk": "transformer", "shape": LINE, "head": "values", "causal": "any"},
    "rates": {"trunk": "mlp", "shape": LINE, "head": "values", "rates": True},
}
WAVES = {
    "wavefront": {"shape": IMAGE, "head": "mixture"},
    "recurrent": {"shape": LINE, "head": "values", "hashes": (2,), "bits": 5, "row": 3},
    "lattice": {"shape": LINE, "head": "mixture"},
}
"""Of one order, along wavefronts."""
TABLE = ModelConfig(classes=4, width=8, blocks=1, **MODELS["table"])


QUICK = ("centred", "transformer", "table", "rates")


@pytest.fixture(params=[n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in MODELS])
def there(request, monkeypatch):
    """A bundle on the emulated GPU, and the emulation."""
    config = ModelConfig(classes=4, width=8, blocks=1, **MODELS[request.param])
    model = randomise(ardm.build(config)).float()
    curve = LossCurve.exact([[1.0] * config.sites] * len(config.digits))
    monkeypatch.setattr(inputs, "seeded", lambda seed, device="cpu": generator(seed, device))
    return Bundle(model, config, curve=curve), Emulated(model)


def generator(seed, device):
    found = torch.device(device)
    return generator_on(HOST if found.type == "mps" else found).manual_seed(seed)


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # autocast says that there is no such device
        yield


def pair(bundle):
    """Two items, without an end within them."""
    return torch.randint(4 - bundle.config.end, (2, *bundle.config.shape))


def orders(bundle):
    yield from ("random", "confident", *(["rates"] if bundle.config.rates else []))
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
            made = api.make_plan(bundle, 4, order, generator=generator_on(GPU).manual_seed(0), batch=2)
            steps = made.selection.until if isinstance(made, Adaptive) else made.when
            assert steps.device == GPU


@pytest.mark.parametrize("start", [HOST, GPU])
def test_what_is_given_may_lie_anywhere_and_comes_back_there(there, start):
    bundle, mode = there
    x = pair(bundle)
    known = torch.rand(x.shape) < 0.5
    for order in orders(bundle):
        with mode:
            mode.where[x], mode.where[known] = start, start
            done = api.fill(bundle, x, known, 4, order)
            assert done.device == start
            padded = api.fill(bundle, x, known, 4, order, padding=~known)
            assert padded.device == start
        assert torch.equal(done[known], x[known])
        assert torch.equal(padded, x)


@pytest.mark.parametrize("trunk", WAVES)
def test_models_along_wavefronts_stay_where_they_lie(trunk, monkeypatch):
    config = ModelConfig(classes=4, width=8, blocks=1, trunk=trunk, causal="wave", **WAVES[trunk])
    bundle = Bundle(randomise(ardm.build(config)).float(), config)
    monkeypatch.setattr(inputs, "seeded", lambda seed, device="cpu": generator(seed, device))
    x = pair(bundle)
    with Emulated(bundle.model) as mode:
        mode.where[x] = HOST
        assert api.sample(bundle, 2).device == GPU
        nats = api.score(bundle, x).nats
        assert nats.device == GPU
    assert nats.isfinite().all()


def test_likelihoods_are_computed_where_the_model_lies(there):
    bundle, mode = there
    x = pair(bundle)
    calls = [lambda: api.score(bundle, x).nats, *(lambda o=o: api.score(bundle, x, 4, o).nats for o in orders(bundle))]
    part = {"given": torch.rand(x.shape) < 0.3, "padding": torch.rand(x.shape) < 0.3}
    calls += [lambda: api.score(bundle, x, **part).nats]
    calls += [lambda o=o: api.score(bundle, x, 4, o, **part).nats for o in orders(bundle)]
    starts = [s * bundle.config.sites for s in range(len(bundle.model.digits))]
    given = torch.zeros_like(x)
    given[:, ..., 0] = 1

    def chance():
        return generator_on(GPU).manual_seed(0)

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


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_every_body_head_and_order_of_the_registry_computes_where_it_lies(name, monkeypatch):
    """A new row of `BODIES` or `HEADS` is tested without a word here; the figures are those of the host."""
    config = EVERY[name]
    model, side = randomise(ardm.build(config)).float(), context_of(config, 2)
    bundle, x = Bundle(model, config), items_of(config, 2)
    order, found = {"single": "raster", "wave": "own"}.get(config.causal), []
    monkeypatch.setattr(inputs, "seeded", lambda seed, device="cpu": generator(seed, device))
    for mode in (nullcontext(), Emulated(model)):
        with mode:
            wanted = mode.device if isinstance(mode, Emulated) else HOST
            drawn = [
                api.sample(bundle, 2, None if order else 4, order, context=side, temperature=t) for t in (1.0, 0.7)
            ]
            nats = api.score(bundle, x, None if order else 4, order, context=side).nats
            assert {v.device for v in (*drawn, nats)} == {wanted}
        assert max(int(v.max()) for v in drawn) < config.classes
        found.append(nats)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)


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


# --- Bundle.to, load -----------------------------------------------------------------------------------------------------


def parameters(bundle):
    return [*bundle.model.parameters(), *bundle.model.buffers()]


def test_a_bundle_moves_to_a_device_and_the_first_one_stays(there):
    bundle, _ = there
    with Emulated() as mode:
        moved = bundle.to("cuda")
        assert {p.device for p in parameters(moved)} == {GPU}
        assert {p.device for p in parameters(bundle)} == {HOST}
        assert api.sample(moved, 1, 4).device == GPU
        assert {p.device for p in parameters(moved.to("cpu"))} == {HOST}
    assert mode.waits
    assert bundle.identity == moved.identity == bundle.to("cpu").identity


def test_load_puts_a_model_on_a_device():
    with Emulated():
        assert {p.device for p in parameters(ardm.load("cifar10-any-order", "cuda"))} == {GPU}
        assert {p.device for p in parameters(ardm.load("cifar10-any-order"))} == {HOST}


def test_what_cannot_be_is_refused():
    bundle = Bundle(ardm.build(TABLE), TABLE)
    for device, why in (("abacus", "no device 'abacus'"), ("meta", "holds no values")):
        with pytest.raises(ArdmError, match=why):
            bundle.to(device)
    for dtype in (torch.long, torch.float8_e5m2, "bfloat16"):
        with pytest.raises(ArdmError, match=r"dtype is one of torch\.float32"):
            bundle.to(dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_bundled_model_in_half_precision_has_nearly_the_same_likelihood(dtype):
    """Within 0.005 bits/dim, and its nats are still float64."""
    full = ardm.load("cifar10-any-order")
    grey = torch.linspace(40, 200, 32)[:, None] + 8 * torch.randn(
        2, 3, 32, 32, generator=torch.Generator().manual_seed(0)
    )
    x = grey.round().clamp(0, 255).long()
    half = ardm.load("cifar10-any-order", dtype=dtype)
    assert {p.dtype for p in half.model.parameters()} == {dtype}
    found = [api.score(bundle, x) for bundle in (half, full)]
    assert found[0].nats.dtype == torch.double
    bits = [float(one.bits_per_dim) for one in found]
    assert 0 < abs(bits[0] - bits[1]) < 0.005
    assert (half.identity == full.identity) == (dtype == torch.bfloat16)  # the folder holds bfloat16
    assert api.sample(half, 1, 4).max() < 256


# --- mps, which has no float64 ---------------------------------------------------------------------------------------------


def test_everything_runs_without_float64(there):
    bundle, _ = there
    x = pair(bundle)
    starts = [s * bundle.config.sites for s in range(len(bundle.model.digits))]
    with Emulated(bundle.model, device=MPS) as mode:
        mode.put(x)
        assert api.sample(bundle, 2, 4).device == MPS
        assert api.fill(bundle, x, x > 1, 4, temperature=0.7).device == MPS
        found = [
            api.score(bundle, x),
            api.score(bundle, x, 4),
            api.score(bundle, x, 4, "confident"),
            likelihood.policy_bound(bundle.model, x, starts, 2, torch.Generator().manual_seed(0)),
            likelihood.policy_bound(bundle.model, x, starts, 2, generator_on(MPS).manual_seed(0)),
        ]
        likelihood.curve(bundle.model, x, 2, torch.Generator().manual_seed(0))
    wanted = [api.score(bundle, x), api.score(bundle, x, 4)]
    for one, same in zip(found, wanted, strict=False):
        assert one.nats.dtype == torch.double
        assert torch.allclose(one.nats, same.nats, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("device", [GPU, MPS])
def test_samplers_beyond_one_plan_work_where_the_model_lies(device):
    """Guidance, refinement, remasking, speculation: on the device, and the samples of the host."""
    config = ModelConfig(trunk="transformer", shape=LINE, classes=5, width=8, heads=1, blocks=1, labels=2)
    guided = ardm.guided(randomise(ardm.build(config)).float(), 1.0, negative=1)
    causal = randomise(ardm.build(replace(config, causal="any"))).float()

    def drawn():
        x = ardm.sample(guided, 2, 3, context=0, top_k=3, top_p=0.9)
        known = torch.zeros(LINE, dtype=torch.bool, device=x.device)
        refined = ardm.refine(guided, x, sweeps=2, share=0.5, known=known, context=0)
        remasked = [ardm.sample_remasked(guided, 2, 4, 0.5, by, context=0) for by in ("confidence", "random")]
        return [x, refined, *remasked, ardm.sample_speculative(causal, 2, context=1).value]

    wanted = drawn()
    with Emulated(guided.model, causal, device=device):
        found = drawn()
        assert {x.device for x in found} == {device}
    assert all(torch.equal(a, b) for a, b in zip(wanted, found, strict=True))


def test_draws_without_float64_are_those_of_the_cpu():
    """Rare symbols need float64, so that they are drawn on the CPU there; the totals of nats are float64 as well."""
    logits, u = torch.randn(50, 300) * 8, torch.rand(50, dtype=torch.double)
    with Emulated(device=MPS) as mode:
        there = logits.clone()
        mode.put(there)
        found = inverse_cdf(there, u)
        assert found.device == MPS
    assert torch.equal(found, inverse_cdf(logits, u))


# --- steps that wait for nothing -------------------------------------------------------------------------------------------

WALKED = {
    "unet": {"trunk": "unet", "head": "mixture"},
    "centred": {"trunk": "centred", "head": "mixture", "levels": 2},
    "transformer": {"trunk": "transformer", "head": "values"},
    "stages": {"trunk": "transformer", "head": "digits", "base": 2},
    "values": {"trunk": "unet", "head": "values", "base": 2, "time": True},
    "classic": {"trunk": "unet", "head": "values", "style": "classic"},
    "laplace": {"trunk": "unet", "head": "laplace"},
    "wavenet": {"trunk": "wavenet", "head": "mixture"},
    "chain": {"trunk": "wavenet", "head": "chain", "classes": 200},
    "table": {"trunk": "mlp", "head": "values"},
    "columns": {"trunk": "transformer", "head": "values", "columns": (4,) * 9},
    "columns of a table": {"trunk": "mlp", "head": "values", "columns": (4,) * 9},
    "labels": {"trunk": "transformer", "head": "values", "labels": 2},
    "any": {"trunk": "transformer", "head": "values", "causal": "any"},
    "single": {"trunk": "transformer", "head": "values", "causal": "single"},
    "single sound": {"trunk": "wavenet", "head": "mixture", "causal": "single"},
}
"""All bodies but those of wavefronts, which look up on which wavefront a step is."""


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in WALKED])
@pytest.mark.parametrize(("kind", "items"), [("draw", 1), ("score", 1), ("draw", 2)])
def test_a_walk_waits_no_more_for_more_steps(name, kind, items):
    """Along a plan of 9 calls as often as along one of 3, shared or with a row for each item."""
    source = {"draw": lambda: Draw(generator_on(GPU).manual_seed(0)), "score": lambda: Score(2, GPU)}[kind]
    settings = {"classes": 4, "width": 8, "blocks": 1, **WALKED[name]}
    shape = (1, 3, 3) if settings["trunk"] in ("unet", "centred") else (9,)
    model = randomise(ardm.build(ModelConfig(shape=shape, **settings))).float()
    stages = len(model.digits)
    fine = shuffled(stages, shape, torch.Generator().manual_seed(0), items)
    x, waits = torch.randint(settings["classes"], (2, *shape)), []
    known = torch.zeros(1, *shape, dtype=torch.long)
    if settings.get("causal") == "single":  # one site a step, so that a shorter walk begins with some of them
        fine = raster(1, shape)
        known[:, :6] = 1
    for plan in (fine.given(known) if known.any() else fine.coarsen(range(0, 9 * stages, 3)), fine):
        with Emulated(model) as mode:
            start = model.digits.truncate(x.to(GPU), plan.depth(0).expand(2, *shape).to(GPU))
            last(walk(model, plan, source(), start, truth=x), start)
            waits.append(mode.waits)
    assert waits[0] == waits[1] < 20


def test_a_gap_in_a_single_order_is_reported_without_waiting():
    """On a CPU the error names the site; on a GPU the site has no distribution, which the walk reports at its end."""
    model = randomise(
        ardm.build(
            ModelConfig(classes=4, width=8, blocks=1, shape=LINE, trunk="transformer", head="values", causal="single")
        )
    )
    backwards = ranked(torch.arange(6).flip(0), LINE)
    for mode, why in (
        (nullcontext(), "site 0 before it is not known"),
        (Emulated(model), "no distribution at 2 of 2 sites in step 0"),
    ):
        with mode:
            start = model.digits.blank(2, LINE, model.head.out.weight.device)
            source = Draw(RandomNumbers(0))
            with pytest.raises(ArdmError, match=why):
                last(walk(model, backwards, source, start), start)


def test_maps_copy_their_tables_once():
    maps = Maps(4, [[4, 4, 4, 4, 4]])
    with Emulated() as mode:
        maps.blank(1, (3,), GPU)
        for _ in range(5):
            maps.truncate(
                torch.zeros(1, 3, dtype=torch.long, device=GPU), torch.ones(1, 3, dtype=torch.long, device=GPU)
            )
        assert mode.waits == 3


# --- training ---------------------------------------------------------------------------------------------------------------


class Alone:
    """What `Update` asks of accelerate, on one device."""

    process_index = 0

    def __init__(self, device):
        self.device = device

    def prepare(self, module, *others):
        return module.to(self.device), *others

    def reduce(self, value, how):
        return value

    def backward(self, loss):
        loss.backward()

    def clip_grad_norm_(self, parameters, most):
        return torch.nn.utils.clip_grad_norm_(parameters, most)

    def no_sync(self, module):
        return nullcontext()


TRAINED = {
    "steps": ({"trunk": "centred", "shape": IMAGE, "head": "mixture", "base": 2}, "adamw"),
    "muon": ({"trunk": "transformer", "shape": LINE, "head": "values"}, "muon"),
    "muon of kernels": ({"trunk": "centred", "shape": IMAGE, "head": "mixture", "levels": 2}, "muon"),
    "rates": ({"trunk": "transformer", "shape": LINE, "head": "values", "rates": True}, "adamw"),
    "diffusion": ({"trunk": "transformer", "shape": LINE, "head": "values"}, "adamw"),
    "causal": ({"trunk": "transformer", "shape": LINE, "head": "values", "causal": "single"}, "adamw"),
    "any": ({"trunk": "transformer", "shape": LINE, "head": "values", "causal": "any"}, "adamw"),
    "plan": ({"trunk": "centred", "shape": IMAGE, "head": "mixture"}, "adamw"),
}


def options_of(name):
    """The configuration, the settings and the objective of a training step."""
    kind, optimiser = TRAINED[name]
    config = ModelConfig(classes=4, width=8, blocks=1, **kind)
    order = OrderConfig("raster", (4,)) if name == "plan" else OrderConfig()
    objective = {"diffusion": "absorbing", "causal": "all", "any": "all"}.get(name, "steps")
    options = TrainConfig(objective=objective, optimiser=optimiser, batch=4)
    return config, options, choose(config, order, options)


@pytest.mark.parametrize("device", [GPU, MPS])
@pytest.mark.parametrize("name", TRAINED)
def test_a_training_step_moves_the_weights_on_the_device(name, device, monkeypatch):
    """Every objective and optimiser, with the gradient that the CPU finds."""
    config, options, objective = options_of(name)
    monkeypatch.setattr(Update, "_dropout", lambda self, step: nullcontext())  # seeds the generators of a real GPU
    x, draws = torch.randint(4, (4, *config.shape)), objective.draw(4, torch.Generator().manual_seed(0))
    norms = []
    for there in (HOST, device):
        torch.manual_seed(0)
        model = randomise(ardm.build(config)).float().requires_grad_()
        before = [p.detach().clone() for p in model.parameters()]
        with Emulated(device=device):
            update = Update(model, objective, options, Alone(there), False, {})
            norms.append(update(Batch(x, draws, None), 0).norm)
            assert {p.device for p in model.parameters()} == {there}
        assert any(not torch.equal(p, q) for p, q in zip(before, model.parameters(), strict=True))
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_steps_move():
    drawn = draw(2, 1, (3,), torch.Generator().manual_seed(0))
    with Emulated():
        moved = drawn.to(GPU)
        assert {moved.stage.device, moved.known.device, moved.rank.device} == {GPU}
        assert drawn.rank.device == HOST
    assert moved.stages == 1


# --- the emulation ------------------------------------------------------------------------------------------------------------


def test_two_devices_do_not_meet():
    with Emulated():
        host, gpu = torch.zeros(2), torch.zeros(2, device=GPU)
        assert (host.device, gpu.device, (gpu + 1).device, host.to(GPU).device) == (HOST, GPU, GPU, GPU)
        for mixed in (
            lambda: host + gpu,
            lambda: gpu[torch.tensor([0])],
            lambda: host[torch.tensor([0], device=GPU)],
            lambda: torch.cat([host, gpu]),
            lambda: torch.where(host > 0, gpu, gpu),
        ):
            with pytest.raises(RuntimeError, match="same device"):
                mixed()
        with pytest.raises(RuntimeError, match="expected a generator"):
            torch.rand(2, device=GPU, generator=torch.Generator())
        with pytest.raises(TypeError, match="numpy"):
            gpu.numpy()
        assert torch.equal((gpu + torch.tensor(1)).cpu(), torch.ones(2))


def test_mps_holds_no_float64():
    with Emulated(device=MPS):
        one = torch.ones(2, device=MPS)
        for wide in (
            one.double,
            lambda: torch.zeros(2, dtype=torch.double, device="mps"),
            lambda: torch.rand(2).double().to(MPS),
        ):
            with pytest.raises(TypeError, match="float64"):
                wide()
        assert one.cpu().double().sum() == 2


def test_modules_move():
    layer = torch.nn.Linear(2, 2)
    with Emulated():
        assert layer.to(GPU).weight.device == layer(torch.ones(1, 2, device=GPU)).device == GPU
        with pytest.raises(RuntimeError, match="same device"):
            layer(torch.ones(1, 2))


WAITS = {
    "item": lambda x: x.sum().item(),
    "float": lambda x: float(x[0]),
    "bool": lambda x: bool((x > 0).any()),
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "to": lambda x: x.to("cpu"),
    "nonzero": lambda x: x.nonzero(),
    "mask": lambda x: x[x > 0],
    "unique": lambda x: x.unique(),
    "tensor": lambda x: torch.tensor([1, 2], device=x.device),
    "list": lambda x: x[[0, 1]],
    "from the host": lambda x: torch.ones(3).to(x.device),
    "repeat": lambda x: x.repeat_interleave(x.long()),
    "masked_select": lambda x: x.masked_select(x > 0),
}
FREE = {
    "sum": lambda x: x.sum(),
    "any": lambda x: (x > 0).any(),
    "arange": lambda x: torch.arange(3, device=x.device),
    "index": lambda x: x[torch.arange(3, device=x.device)],
    "where": lambda x: torch.where(x > 0, 0.0, x),
    "masked_fill": lambda x: x.masked_fill(x > 0, 1.0),
    "searchsorted": lambda x: torch.searchsorted(x, x),
    "power": lambda x: torch.pow(2, x.long()),
    "asynchronous": lambda x: x.to("cpu", non_blocking=True),
}


@pytest.mark.parametrize("name", WAITS)
def test_waiting_is_counted(name):
    with Emulated() as mode:
        x = torch.ones(3, device=GPU)
        before = mode.waits
        WAITS[name](x)
        assert mode.waits == before + 1


@pytest.mark.parametrize("name", FREE)
def test_what_does_not_wait_is_not_counted(name):
    with Emulated() as mode:
        x = torch.ones(3, device=GPU)
        FREE[name](x)
        WAITS["item"](torch.ones(3))
        assert mode.waits == 0
