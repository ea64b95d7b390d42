"""A device that the program around us has set (`torch.set_default_device`) changes nothing: ours are named."""

import ast
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
import torch
from torch import nn

import ardm
from ardm import likelihood, objective
from ardm import plan as plans
from ardm import walk as walking
from ardm.api import make_plan
from ardm.bundle import Bundle
from ardm.codec.sampling import sample as sample_integers
from ardm.digits import Digits, Maps, anywhere
from ardm.exact.device import strict
from ardm.export.convert import export
from ardm.export.precision import Precision
from ardm.models.build import build
from ardm.models.config import ModelConfig, preset
from ardm.models.huggingface import huggingface
from ardm.models.wrap import wrap
from ardm.orders import OrderConfig
from ardm.ranks import bayer_ranks
from ardm.source import Decode, Encode
from ardm.train.recipe import DataConfig, Recipe, TrainConfig
from ardm.train.trainer import Trainer
from bundles import smooth, tiny
from test_precision import EVERY, context_of, items
from toys import confident, letters

ROOT = Path(ardm.__file__).parent


@contextmanager
def elsewhere():
    """Create tensors without an explicit device on "meta", which holds no values."""
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def here(*values):
    return torch.tensor(values, device="cpu")


def same(run):
    """The result of `run` does not depend on the default device."""
    wanted = run()
    with elsewhere():
        got = run()
    torch.testing.assert_close(got, wanted, rtol=0, atol=0, equal_nan=True)


# --- every device is named --------------------------------------------------------------------------------------------

MAKERS = "tensor as_tensor zeros ones full empty eye arange linspace logspace rand randn randint randperm scalar_tensor"


def unnamed(path):
    """Calls that make a tensor and name no device, but for parameters and buffers, which go where their module does."""
    tree = ast.parse(path.read_text())
    modules = {"nets", "heads", "models"} & {path.parent.name, path.stem}
    inside = {
        inner
        for node in ast.walk(tree)
        if modules and isinstance(node, ast.FunctionDef) and node.name in ("__init__", "_squares")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node in inside:
            continue
        made, named = node.func, any(k.arg == "device" for k in node.keywords)
        if isinstance(made.value, ast.Name) and made.value.id == "torch" and made.attr in MAKERS.split() and not named:
            yield f"{path.relative_to(ROOT)}:{node.lineno} torch.{made.attr}"


def test_every_tensor_is_made_on_a_device_that_is_named():
    assert [found for path in sorted(ROOT.rglob("*.py")) for found in unnamed(path)] == []


# --- and all that is public works -------------------------------------------------------------------------------------


def test_a_new_model_lies_on_the_default_device_and_a_loaded_one_does_not():
    for config in (preset("tiny", shape=(1, 4, 4), classes=4), preset("centred-tiny", shape=(1, 4, 4), classes=4)):
        with elsewhere():
            model = build(config)
        assert {p.device.type for p in [*model.parameters(), *model.buffers()]} == {"meta"}
    with elsewhere():
        model = ardm.load("cifar10-any-order").model
    assert {p.device.type for p in [*model.parameters(), *model.buffers()]} == {"cpu"}
    assert anywhere(None) == torch.device("cpu") == anywhere("cpu")
    with elsewhere():
        assert anywhere(None).type == "cpu"
        assert anywhere("meta").type == "meta"


@pytest.mark.parametrize("name", [n for n in EVERY if "any order" in n or "any" not in n])
def test_every_network_scores_and_samples(name):
    config = EVERY[name]
    x = items(config, 2)
    side = context_of(config, 2)
    S, D, shape = len(config.digits), config.sites, tuple(config.shape)

    model = build(config)

    def run():
        plan = plans.raster(S, shape)
        plan = plan if config.causal else plan.coarsen(range(0, S * D, max(D // 2, 1)))
        blank = model.digits.blank(2, shape)
        found = [likelihood.exact(model, plan, x, context=side).nats]
        found.append(walking.sample(model, plan, blank, generator(), context=side))
        if config.causal:
            found.append(likelihood.causal(model, x, context=side).nats)
        return found

    same(run)


X = torch.arange(12).view(2, 6) % 4
KNOWN = torch.arange(6).expand(2, -1) < 2


def net(value, depth):
    return torch.nn.functional.one_hot(value.cumsum(1) % 4, 4) * 1.5


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 9, device="cpu")

    def forward(self, input_ids, attention_mask):
        return self.embedding(input_ids)


def bundle(base=0):
    return Bundle(wrap(net, (6,), 4, base), ModelConfig(shape=(6,), classes=4, base=base))


def wrapped():
    return wrap(net, (6,), 4)


RASTER = plans.raster(1, (6,))
PUBLIC = {
    "sample": lambda: ardm.sample(bundle(), 2, 3),
    "sample, stages": lambda: ardm.sample(bundle(2), 2, 4),
    "sample, raster": lambda: ardm.sample(bundle(), 2, 6, "raster"),
    "sample, bayer": lambda: ardm.sample(bundle(), 2, 3, "bayer"),
    "sample, confident": lambda: ardm.sample(bundle(), 2, 3, "confident", temperature=0.5),
    "fill": lambda: ardm.fill(bundle(), X, KNOWN, 3),
    "fill, raster": lambda: ardm.fill(bundle(2), X, KNOWN, 6, "raster"),
    "score": lambda: ardm.score(bundle(), X, passes=3).nats,
    "score along a plan": lambda: ardm.score(bundle(2), X, 4).nats,
    "make_plan": lambda: make_plan(bundle(), 3, generator=generator()).when,
    "load": lambda: [p.detach() for p in ardm.load("cifar10-any-order").model.parameters()],
    "policy bound": lambda: likelihood.policy_bound(wrapped(), X, [0, 2], 3, generator()).nats,
    "absorbing bound": lambda: likelihood.absorbing_bound(wrapped(), X, 4, 3, generator()).nats,
    "mixture": lambda: likelihood.mixture(wrapped(), [RASTER, plans.shuffled(1, (6,), generator())], X).nats,
    "curve": lambda: torch.from_numpy(likelihood.curve(wrapped(), X, 9, generator()).mean()),
    "curve on a grid": lambda: torch.from_numpy(
        likelihood.curve(wrapped(), X, 2, generator(), grid=3, subset=2).mean()
    ),
    "adaptive": lambda: likelihood.exact(wrapped(), confident((0, 2), 6), X).nats,
    "subset": lambda: (
        objective.bound_step(
            wrapped(), X, objective.draw(2, 1, (6,), generator()), subset=2, generator=generator()
        ).nats
    ),
    "plans": lambda: [
        made.when
        for made in (
            plans.raster(2, (6,)),
            plans.ranked(here(2, 0, 1), (3,), 2),
            plans.shuffled(2, (6,), generator(), 3),
            plans.unstaged(2, (6,), generator()),
            plans.absorbing(4, (6,), 2, generator()),
            plans.blocks(2, (6,), 3, generator()),
            plans.image(2, (3, 4, 4), bayer_ranks(4, 4)),
            RASTER.coarsen([0, 3]).given(here([1, 0, 1, 0, 0, 0])),
        )
    ],
    "maps": lambda: letters().truncate(here([1, 2, 3]), here([0, 1, 2])).value,
    "alphabets": lambda: [a.blank(2, (3,)).value for a in (Digits(5, 2), Maps(4, [[4] * 4]))],
    "huggingface": lambda: (
        walking.sample(
            huggingface(Network().requires_grad_(False), 8, 4, vocabulary=9, never=(0,), before=(1,)),
            plans.raster(1, (4,)),
            Digits(9, 9).blank(2, (4,)),
            generator(),
            0.0,
        ).shape
    ),
    "a codec of floats": lambda: streamed(),
    "export and its samples": lambda: torch.from_numpy(
        sample_integers(export(tiny(), PICTURES.long(), Precision(10, 10)).codec, 1)
    ),
    "compress": lambda: ardm.decompress(ardm.compress(PICTURES[0])),
}


PICTURES = torch.stack([smooth(3, 8, 8, seed) for seed in range(8)])


def streamed():
    encoder, start = Encode(), wrapped().digits.blank(2, (6,))
    walking.last(walking.walk(wrapped(), RASTER, encoder, start, truth=X), start)
    decoder = Decode(encoder.finish())
    told = walking.last(walking.walk(wrapped(), RASTER, decoder, start), start).value
    assert torch.equal(told, X)
    return told


@pytest.mark.parametrize("name", PUBLIC)
def test_what_is_public_works(name):
    same(PUBLIC[name])


@pytest.mark.parametrize(
    ("size", "settings", "order"),
    [
        ("text-tiny", {}, {}),
        ("text-tiny", {"objective": "absorbing"}, {}),
        ("table", {"subset": 3}, {}),
        ("audio-tiny", {"precision": "bf16"}, {}),
        ("text-tiny", {}, {"order": "raster", "calls": (4, 8)}),
    ],
)
def test_training_works(tmp_path, size, settings, order):
    for name in ("train", "valid"):
        np.save(tmp_path / f"{name}.npy", ((np.arange(24)[:, None] + np.arange(8)) % 6).astype(np.uint8))
    model = {"width": 8, "blocks": 1, **({"head": "values"} if size == "audio-tiny" else {})}
    made = Recipe(
        "tiny",
        preset(size, **model),
        OrderConfig(**order),
        DataConfig("array", str(tmp_path), "train", "valid"),
        TrainConfig(steps=4, batch=8, valid_every=2, valid_items=4, save_every=2, **settings),
    )

    def run():
        where = tmp_path / str(torch.get_default_device())
        first = [(p.step, p.loss, p.valid or 0.0) for p in Trainer(made, where, device="cpu")]
        assert list(Trainer(made, where, resume=True, device="cpu")) == []
        loaded = ardm.load(where / "model")
        return torch.tensor(first, device="cpu", dtype=torch.double), dict(loaded.model.state_dict())

    same(run)


# --- nor does a dtype or a mode of gradients --------------------------------------------------------------------------


@contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float32)


AMBIENT = {
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "float16": lambda: default_dtype(torch.float16),
    "float64": lambda: default_dtype(torch.float64),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A recipe of a small sequence model, and the folder of its first run, which ran outside any such block."""
    folder = tmp_path_factory.mktemp("ambient")
    for name in ("train", "valid"):
        np.save(folder / f"{name}.npy", ((np.arange(24)[:, None] + np.arange(8)) % 6).astype(np.uint8))
    source, settings = DataConfig("array", str(folder), "train", "valid"), TrainConfig(**{**STEPS, "steps": 4})
    made = Recipe("tiny", preset("text-tiny", width=8, blocks=1, heads=1), OrderConfig(), source, settings)
    return made, folder / "plain", [(p.step, p.loss, p.valid) for p in Trainer(made, folder / "plain", device="cpu")]


STEPS = {"batch": 8, "valid_every": 2, "valid_items": 4, "save_every": 2}


@pytest.mark.parametrize("name", AMBIENT)
def test_training_is_the_same_in_every_block_around_it(text, tmp_path, name):
    made, plain, expected = text
    with AMBIENT[name]():
        for progress in Trainer(made, tmp_path / "run", device="cpu"):
            if progress.step == 3:
                break
        seen = [(p.step, p.loss, p.valid) for p in Trainer(made, tmp_path / "run", resume=True, device="cpu")]
        loaded = ardm.load(plain / "model")
        trained = ardm.load(tmp_path / "run" / "model")
    assert seen == expected[2:]
    for p, q in zip(loaded.model.parameters(), trained.model.parameters(), strict=True):
        assert (p.dtype, p.is_inference()) == (torch.float32, False)
        assert torch.equal(p, q)


@pytest.mark.parametrize("name", ["bfloat16", "float16", "float64"])
def test_bundled_models_load_and_answer_the_same_in_every_block(name):
    wanted = ardm.score(ardm.load("cifar10-any-order"), torch.zeros(1, 3, 32, 32, dtype=torch.long), 4).nats
    with AMBIENT[name]():
        bundle = ardm.load("cifar10-any-order")
        got = ardm.score(bundle, torch.zeros(1, 3, 32, 32, dtype=torch.long), 4).nats
    assert torch.equal(got, wanted)


# --- the precision of float32 products --------------------------------------------------------------------------------

LIBRARIES = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
PRECISIONS = {
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "high": lambda: torch.set_float32_matmul_precision("high"),
    "allow_tf32": lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
    "newer, all": lambda: setattr(torch.backends, "fp32_precision", "tf32"),
    "newer, CUDA": lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
    "newer, CPU": lambda: setattr(torch.backends.mkldnn.matmul, "fp32_precision", "bf16"),
}
"""Ways to ask PyTorch for products that are rounded."""


@pytest.fixture
def products():
    yield
    torch.backends.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    for library in LIBRARIES:
        library.fp32_precision = "none"


def precision():
    """What PyTorch says of its precision; "" where the two kinds of settings contradict each other."""
    try:
        whole = torch.get_float32_matmul_precision()
    except RuntimeError:
        whole = ""
    return whole, *(library.fp32_precision for library in LIBRARIES)


@pytest.mark.parametrize("name", PRECISIONS)
def test_integers_are_exact_whatever_precision_the_program_has_chosen(products, name):
    PRECISIONS[name]()
    before, inside = precision(), []
    for _ in range(2):
        with strict():
            inside.append(precision())
    assert inside == [("highest", "ieee", "ieee")] * 2
    assert precision() == before


def test_a_thread_that_is_done_leaves_full_precision_to_the_others(products):
    torch.set_float32_matmul_precision("medium")
    entered, left, seen = Event(), Event(), []

    def other():
        with strict():
            entered.set()
            left.wait(10)
            seen.append(precision())

    thread = Thread(target=other)
    with strict():
        thread.start()
        assert entered.wait(10)
    left.set()
    thread.join()
    assert seen == [("highest", "ieee", "ieee")]
    assert precision() == ("medium", "tf32", "bf16")
