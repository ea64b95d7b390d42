"""User input: every public function × the input it takes × the input it refuses, in one complete table."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import ardm
from ardm import inputs, likelihood, objective, walk
from ardm import plan as plans
from ardm.errors import ArdmError
from ardm.losscurve import LossCurve
from ardm.schedule import Schedule, absorbing_cost, cost
from ardm.settings import from_values
from bundles import BAYER, exact
from toys import generator, some_data, toy

K, SHAPE = 3, (2, 2, 3)


def flat(value, depth):
    """A network that prefers small values, the more so the more sites are known."""
    slope = depth.flatten(1).sum(1).double().view(-1, *[1] * depth.ndim) + 1
    return -slope * torch.arange(K, dtype=torch.double).expand(*value.shape, K) / 4


MODEL = ardm.wrap(flat, SHAPE, K)
BINARY = ardm.wrap(lambda value, depth: torch.zeros(*value.shape, 2), SHAPE, 2)
BUNDLE = ardm.Bundle(
    MODEL,
    ardm.ModelConfig(shape=SHAPE, classes=K),
    curve=LossCurve.exact(np.linspace(2, 1, math.prod(SHAPE))[None]),
)
X = some_data(MODEL.digits, SHAPE, 4)
KNOWN = torch.rand(X.shape, generator=generator(2)) < 0.6
PLAN = plans.raster(1, SHAPE)


def frozen(array):
    array.flags.writeable = False
    return array


TYPES = {
    **{f"tensor {t}": lambda x, t=t: x.to(t) for t in inputs.WHOLE if t != torch.bool},
    **{f"array {t}": lambda x, t=t: x.numpy().astype(t) for t in ("u1", "i1", "<u2", ">i2", "i4", ">u4", "i8", "u8")},
    "a view that runs backwards": lambda x: x.flip(0).numpy()[::-1],
    "an array that cannot be written": lambda x: frozen(x.numpy().copy()),
    "an array of Fortran": lambda x: np.asfortranarray(x.numpy()),
    "a part of a tensor": lambda x: torch.stack([x, x], -1)[..., 0],
}
"""Every type that whole numbers come in."""
MASKS = {
    "bool": lambda m: m,
    "uint8": lambda m: m.byte(),
    "array bool": lambda m: m.numpy(),
    "array uint8": lambda m: m.numpy().astype("u1"),
    "depths int64": lambda m: m.long(),
    "depths array int32": lambda m: m.numpy().astype("i4"),
}
"""Every type that a mask comes in; where values have one digit, depths say the same."""
REFUSED = {
    "floats": (lambda x: x.float(), r"must hold whole numbers; got torch\.float32, such as \d.*\.long\(\)"),
    "an array of floats": (lambda x: x.numpy() / 2, r"must hold whole numbers; got torch\.float64"),
    "NaN": (lambda x: x * math.nan, "must hold whole numbers; got torch.float32, such as nan"),
    "what requires grad": (lambda x: x.float().requires_grad_(), r"requires grad.*\.detach\(\)\.long\(\)"),
    "complex numbers": (lambda x: x * 1j, "whole numbers; got torch.complex64"),
    "too large": (lambda x: x + 2, r"must hold values in 0\.\.2; got 2\.\.4, first \d at"),
    "too large uint8": (lambda x: (x + 2).byte(), r"must hold values in 0\.\.2; got 2\.\.4, first \d at"),
    "negative": (lambda x: x - 2, r"must hold values in 0\.\.2; got -2\.\.0, first -\d at"),
    "truth values": (lambda x: x > 0, r"truth values, and the model has 3 classes: give values 0\.\.2"),
    "too many axes": (lambda x: x[None], r"must have the shape \(B, 2, 2, 3\), or \(2, 2, 3\) for one item; got"),
    "too few axes": (
        lambda x: x[0, 0],
        r"must have the shape \(B, 2, 2, 3\), or \(2, 2, 3\) for one item; got \(2, 3\)",
    ),
    "other channels": (lambda x: x[:, :1], r"must have the shape .* got \(4, 1, 2, 3\)"),
    "no items": (lambda x: x[:0], "must hold at least one item; got shape"),
    "a list": (lambda x: x.tolist(), "must be a tensor or a NumPy array; got list: convert it with np.asarray"),
    "None": (lambda x: None, "must be a tensor or a NumPy array; got NoneType"),
    "texts": (lambda x: x.numpy().astype(str), "must hold numbers; got an array of"),
    "objects": (lambda x: x.numpy().astype(object), "must hold numbers; got an array of object"),
    "a masked array": (lambda x: np.ma.masked_array(x.numpy()), "masked array"),
    "nothing at all": (lambda x: x.to("meta"), "must be a dense tensor; got one of device meta"),
    "sparse": (lambda x: x.to_sparse(), "must be a dense tensor; got one of layout"),
}
"""Every fault of values, and what the message says: what was wrong, the value, what to do."""

CAUSAL = ardm.build(
    ardm.preset("text-tiny", shape=SHAPE, classes=K, width=8, blocks=1, causal="any", style="classic")
).requires_grad_(False)
DRAWN = objective.draw(4, 1, SHAPE, generator(5))
TWICE = objective.draw(8, 1, SHAPE, generator(5))
VALUES = {
    "fill": lambda x: ardm.fill(BUNDLE, x, KNOWN, 5),
    "score": lambda x: ardm.score(BUNDLE, x).nats,
    "score along a plan": lambda x: ardm.score(BUNDLE, x, 4, "raster").nats,
    "likelihood.bound": lambda x: likelihood.bound(MODEL, x, 2, generator()).nats,
    "likelihood.policy_bound": lambda x: likelihood.policy_bound(MODEL, x, [0, 3], 2, generator()).nats,
    "likelihood.absorbing_bound": lambda x: likelihood.absorbing_bound(MODEL, x, 5, 2, generator()).nats,
    "likelihood.curve": lambda x: torch.from_numpy(likelihood.curve(MODEL, x, 2, generator()).total),
    "likelihood.exact": lambda x: likelihood.exact(MODEL, PLAN, x).nats,
    "likelihood.mixture": lambda x: likelihood.mixture(MODEL, [PLAN, PLAN], x).nats,
    "walk.score": lambda x: walk.score(MODEL, PLAN, x),
    "objective.bound_step": lambda x: objective.bound_step(MODEL, x, DRAWN).nats,
    "objective.rates_step": lambda x: objective.rates_step(MODEL, x, TWICE, torch.ones(X.shape[1:])).nats,
    "objective.plan_step": lambda x: objective.plan_step(MODEL, PLAN, x, torch.arange(4)).nats,
    "objective.absorbing_step": lambda x: (
        objective.absorbing_step(MODEL, x, torch.arange(4) + 1, 5, torch.rand(X.shape, generator=generator(1))).nats
    ),
    "likelihood.causal": lambda x: likelihood.causal(CAUSAL, x).nats,
    "likelihood.causal_bound": lambda x: likelihood.causal_bound(CAUSAL, x, 2, generator()).nats,
    "objective.causal_step": lambda x: objective.causal_step(CAUSAL, x).nats,
    "CausalModel": lambda x: CAUSAL.nats(x),
}
"""Every function that is given values, as a function of the values alone."""
SINGLE = [name for name in VALUES if not name.startswith("objective.")]  # steps are drawn for a batch


@pytest.mark.parametrize("name", VALUES)
def test_values_of_every_type_give_the_same(name):
    call = VALUES[name]
    wanted = call(X)
    for kind, make in TYPES.items():
        assert torch.equal(call(make(X)), wanted), kind


@pytest.mark.parametrize("name", SINGLE)
def test_one_item_is_a_batch_of_one(name):
    x, call = X[:1], VALUES[name]
    if name == "fill":
        done = ardm.fill(BUNDLE, X[0].byte(), KNOWN[0], 5)
        assert done.shape == SHAPE, "the shape that came in comes out"
        assert torch.equal(done, ardm.fill(BUNDLE, x, KNOWN[:1], 5)[0])
        return
    assert torch.equal(call(X[0]), call(x))
    assert torch.equal(call(X[0].numpy().astype("u1")), call(x))


@pytest.mark.parametrize("name", VALUES)
def test_faults_of_values_are_named(name):
    for make, words in REFUSED.values():
        with pytest.raises(ArdmError, match=words) as error:
            VALUES[name](make(X))
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 300


def test_truth_values_are_values_where_there_are_two():
    x = X[:2] > 0
    for given in (x, x.numpy(), x.byte()):
        assert torch.equal(ardm.score(BINARY, given, 3).nats, ardm.score(BINARY, x.long(), 3).nats)
        assert torch.equal(ardm.fill(BINARY, given, KNOWN[:2]), ardm.fill(BINARY, x.long(), KNOWN[:2]))


# --- masks ------------------------------------------------------------------------------------------------------------

KNOWNS = {
    "fill": lambda m: ardm.fill(BUNDLE, X, m, 5),
    "likelihood.bound": lambda m: likelihood.bound(MODEL, X, 2, generator(), given=m).nats,
    "likelihood.policy_bound": lambda m: likelihood.policy_bound(MODEL, X, [0, 3], 2, generator(), given=m).nats,
    "objective.bound_step": lambda m: objective.bound_step(MODEL, X, DRAWN, given=m).nats,
}


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("name", KNOWNS)
def test_masks_of_every_type_give_the_same(name, kind):
    call = KNOWNS[name]
    assert torch.equal(call(MASKS[kind](KNOWN)), call(KNOWN))
    one = KNOWN[1]
    assert torch.equal(call(MASKS[kind](one)), call(one.expand_as(X))), "a mask of one item serves all"


@pytest.mark.parametrize("name", KNOWNS)
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda m: m.float(), r"must be a mask of bool .*got torch\.float32: write \w+ > 0\.5"),
        (lambda m: m.byte() * 255, r"holds 0 \(unknown\) and 1 \(known\); got 0\.\.255: write \w+ > 0"),
        (lambda m: m.long() * 2, r"depths lie in (0|-1)\.\.1; got 0\.\.2"),
        (lambda m: m.long() - 2, r"depths lie in (0|-1)\.\.1; got -2\.\.-1"),
        (lambda m: m[:, :1], "the same shape; got .*a mask of one item serves all"),
        (lambda m: m[:2], "the same shape"),
        (lambda m: m.tolist(), "must be a tensor or a NumPy array; got list"),
    ],
)
def test_faults_of_masks_are_named(name, make, words):
    with pytest.raises(ArdmError, match=words):
        KNOWNS[name](make(KNOWN))


def test_masks_of_uint8_are_masks_where_values_have_digits_too():
    digits = ardm.Digits(4, 2)
    x = some_data(digits, (6,), 3)
    model, known = toy(digits, (6,)), torch.rand(3, 6, generator=generator()) < 0.5
    assert torch.equal(ardm.fill(model, x, known), ardm.fill(model, x, known.byte()))
    half = ardm.fill(model, x, known.int())  # one digit of two
    assert torch.equal(half[known] // 2, x[known] // 2)
    assert not torch.equal(half, ardm.fill(model, x, known))


# --- context, counts, models ------------------------------------------------------------------------------------------


def labelled():
    return ardm.build(ardm.preset("tiny", shape=(1, 4, 4), classes=4, width=8, blocks=1, labels=3)).eval()


def test_what_is_given_moves_to_the_device_of_the_model():
    """Meta stands for an accelerator: what is moved there has that device."""
    model = labelled().to("meta")
    x, labels = some_data(model.digits, (1, 4, 4), 2), torch.tensor([2, 0])
    assert inputs.device_of(model).type == "meta"
    assert inputs.items(x.numpy(), model).device.type == "meta"
    assert inputs.context(labels, 2, inputs.device_of(model)).device.type == "meta"
    assert inputs.device_of(MODEL) is None
    seen = []

    class Away(torch.nn.Module):
        digits, shape = model.digits, model.shape

        def __init__(self):
            super().__init__()
            self.place = torch.nn.Parameter(torch.zeros(1, device="meta"))

        def forward(self, state, context=None):
            seen.extend((state.value.device.type, state.depth.device.type, context.device.type))
            raise StopIteration

    plan = plans.raster(1, (1, 4, 4))
    with pytest.raises((StopIteration, RuntimeError)):
        walk.sample(Away(), plan, model.digits.blank(2, (1, 4, 4)), generator(), context=labels)
    assert seen == ["meta"] * 3


def test_context_of_every_type_gives_the_same():
    model, labels = labelled(), torch.tensor([2, 0])
    x = some_data(model.digits, (1, 4, 4), 2)
    for call in (
        lambda c: ardm.sample(model, 2, 4, context=c),
        lambda c: ardm.fill(model, x, x > 1, 4, context=c),
        lambda c: ardm.score(model, x, 4, context=c).nats,
    ):
        for given in (labels.byte(), labels.int(), labels.numpy(), labels.numpy().astype("u2")):
            assert torch.equal(call(given), call(labels))
        assert torch.equal(call(2), call(torch.tensor([2, 2])))
        for wrong, words in (
            (torch.tensor([1]), "one class label or vector per item, 2 in all; got"),
            (torch.tensor([1.0, math.nan]), "finite"),
            ([1, 2], "tensor or a NumPy array; got list"),
        ):
            with pytest.raises(ArdmError, match=words):
                call(wrong)


COUNTS = {
    "sample items": lambda n: ardm.sample(BUNDLE, n, 2),
    "sample calls": lambda n: ardm.sample(BUNDLE, 1, n),
    "fill calls": lambda n: ardm.fill(BUNDLE, X, KNOWN, n),
    "score calls": lambda n: ardm.score(BUNDLE, X, n).nats,
    "score passes": lambda n: ardm.score(BUNDLE, X, passes=n).nats,
    "make_plan calls": lambda n: ardm.make_plan(BUNDLE, n, "raster").when,
    "make_plan batch": lambda n: ardm.make_plan(BUNDLE, 2, generator=generator(), batch=n).when,
    "likelihood.bound passes": lambda n: likelihood.bound(MODEL, X, n, generator()).nats,
    "likelihood.exact chunk": lambda n: likelihood.exact(MODEL, PLAN, X, chunk=n).nats,
    "wrap classes": lambda n: torch.tensor(len(ardm.wrap(flat, SHAPE, n + 1).digits)),
}


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_whole_and_positive(name):
    call = COUNTS[name]
    assert torch.equal(call(np.int32(2)), call(2))
    for wrong in (0, -3, 2.0, "2", True, math.nan, None):
        if wrong is None and name in ("sample calls", "fill calls", "score calls"):
            continue  # the default
        if name == "wrap classes" and not (type(wrong) is int and wrong < 1):
            continue  # one more is asked for
        with pytest.raises(ArdmError, match=r"must be (at least|a whole number of at least) \d; got"):
            call(wrong)


@pytest.mark.parametrize("order", ["random", "confident", "raster", "bayer", "checkerboard"])
def test_calls_beyond_one_a_digit_are_one_a_digit(order):
    """As on the command line; the default of 50 was refused for items of fewer sites."""
    sites = math.prod(SHAPE)
    for beyond in (sites + 1, 10**6):
        assert torch.equal(ardm.sample(BUNDLE, 2, beyond, order), ardm.sample(BUNDLE, 2, 10 * sites, order))
        assert torch.equal(ardm.fill(BUNDLE, X, KNOWN, beyond, order), ardm.fill(BUNDLE, X, KNOWN, sites, order))
        assert torch.equal(ardm.score(BUNDLE, X, beyond, order).nats, ardm.score(BUNDLE, X, 10 * sites, order).nats)
    plan = ardm.make_plan(BUNDLE, 10**6, order, generator=generator())
    steps = plan.selection.until.unique().numel() if isinstance(plan, ardm.Adaptive) else len(plan)
    assert steps <= sites + 4
    assert torch.equal(ardm.sample(BUNDLE, 2), ardm.sample(BUNDLE, 2, sites))


def test_a_specialised_model_uses_its_own_order_by_default():
    own = ardm.Bundle(MODEL, BUNDLE.config, BAYER)
    assert torch.equal(ardm.sample(own, 2), ardm.sample(own, 2, 8, "own"))
    assert torch.equal(ardm.fill(own, X, KNOWN), ardm.fill(own, X, KNOWN, 8, "own"))


# --- the core ---------------------------------------------------------------------------------------------------------


def test_states_and_plans_take_whole_numbers_of_any_type():
    """A depth of uint8 once indexed as a mask would; now it is one, and a state alone counts."""
    digits = ardm.Digits(4, 2)
    x, depth = some_data(digits, (5,), 3), torch.tensor([[0, 1, 2, 1, 0]]).expand(3, 5)
    right = digits.truncate(x, depth)
    maps = ardm.Maps(4, [[0] * 4, [0, 0, 2, 2]])
    for kind in TYPES.values():
        known = kind(depth.contiguous())
        if known.dtype in (torch.uint8, np.uint8):
            with pytest.raises(ArdmError, match=r"mask of uint8 holds .* got 0\.\.2: .* another type of integer"):
                digits.truncate(kind(x), known)
            known = depth
        for refine in (digits, maps):
            state = refine.truncate(kind(x), known)
            assert torch.equal(state.value, right.value)
            assert torch.equal(state.depth, depth)
        assert torch.equal(ardm.Partial(kind(x), kind(depth.contiguous())).value, x)
        plan = plans.raster(2, (5,))
        assert torch.equal(ardm.Plan(kind(plan.when)).when, plan.when)
        assert torch.equal(plan.given(known).when, plan.given(depth).when)
        assert torch.equal(plans.ranked(kind(torch.arange(5)), (5,), 2).when, plan.when)
    for call in (
        lambda: digits.truncate(x.float(), depth),
        lambda: digits.truncate(x, depth.double()),
        lambda: ardm.Partial(x, depth.float()),
        lambda: ardm.Plan(plan.when.float()),
        lambda: plan.given(depth.float()),
        lambda: plans.ranked(torch.arange(5.0), (5,)),
    ):
        with pytest.raises(ArdmError, match="must hold whole numbers"):
            call()


# --- compressed files -------------------------------------------------------------------------------------------------

IMAGE = torch.randint(256, (3, 8, 8), generator=generator(4))


def test_compress_takes_images_bytes_and_paths(tmp_path):
    model = exact()
    for kind, make in TYPES.items():
        if "int8" in kind or " i1" in kind or "i2" in kind or "u2" in kind or "int16" in kind:
            continue  # these hold samples of other widths
        assert torch.equal(ardm.decompress(ardm.compress(make(IMAGE), model), model), IMAGE.byte())
    wide = IMAGE.to(torch.int32) * 257
    assert torch.equal(ardm.decompress(ardm.compress(wide.numpy().astype("<u2"), model), model), wide)
    for data in (b"", bytes(range(256)), b"\x89PNG\r\n\x1a\n", ardm.compress(b"twice")):
        for given in (data, bytearray(data), memoryview(data)):
            packed = ardm.compress(given)
            assert isinstance(packed, bytes)
            assert ardm.decompress(packed) == data
    text = b"Alice was beginning to get very tired."
    (tmp_path / "a.txt").write_bytes(text)
    packed = ardm.compress(tmp_path / "a.txt")
    assert ardm.decompress(packed) == text
    assert len(packed) < len(text), "it is coded by the model that suits it"
    (tmp_path / "a.txt.ardm").write_bytes(packed)
    assert ardm.decompress(tmp_path / "a.txt.ardm") == text


def test_a_path_is_taken_as_by_the_command_line(tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 7, (9, 8, 3), dtype=np.uint8) * 30
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels).quantize(4).save(tmp_path / "p.png")
    packed = ardm.compress(tmp_path / "a.png", exact())
    assert torch.equal(ardm.decompress(packed, exact()), torch.from_numpy(pixels.transpose(2, 0, 1)))
    shown = np.asarray(Image.open(tmp_path / "p.png").convert("RGB")).transpose(2, 0, 1)
    found = ardm.decompress(ardm.compress(tmp_path / "p.png"))
    assert isinstance(found, bytes) or torch.equal(found, torch.from_numpy(shown.copy()))
    array = np.arange(60, dtype=">i4").reshape(3, 4, 5)
    np.save(tmp_path / "a.npy", array)
    assert torch.equal(ardm.decompress(ardm.compress(tmp_path / "a.npy")), torch.from_numpy(array.astype("i4")))


@pytest.mark.parametrize(
    ("x", "words"),
    [
        ("photo.png", r"give Path\('photo\.png'\) for the file, or 'photo\.png'\.encode\(\)"),
        (Path("there-is-no-such-file"), "there-is-no-such-file"),
        ([[[1]]], "an image is a tensor or an array of integers .* got list"),
        (None, "got NoneType"),
        (IMAGE.float(), r"whole numbers; got torch\.float32.*convert it with \.long\(\) if"),
        (IMAGE > 9, "got truth values"),
        (IMAGE[0], r"\(C, H, W\).*got shape \(8, 8\): x\[None\]"),
        (IMAGE[None], "compress them one by one"),
        (IMAGE[:0], r"none of them 0; got shape \(0, 8, 8\)"),
        (IMAGE - 300, r"0\.\.65535; got -"),
    ],
    ids=str,
)
def test_compress_names_what_it_cannot_take(x, words):
    with pytest.raises(ArdmError, match=words):
        ardm.compress(x, exact())


@pytest.mark.parametrize(("data", "words"), [("a.ardm", r"Path\('a\.ardm'\)"), (IMAGE, "got Tensor"), (3, "got int")])
def test_decompress_names_what_it_cannot_take(data, words):
    with pytest.raises(ArdmError, match=words):
        ardm.decompress(data)


# --- the table ----------------------------------------------------------------------------------------------------------

TABLE = {
    "Adaptive": [
        (lambda: ardm.Adaptive("surprise"), "unknown score"),
        (lambda: ardm.sample(BUNDLE, 1, order=ardm.Adaptive("margin", 4)), "a selection is FixedNumber"),
    ],
    "ArdmError": [],
    "Bundle": [(lambda: ardm.Bundle(MODEL, BUNDLE.config).save(Path(__file__)), "is a file")],
    "CausalModel": [(lambda: VALUES["CausalModel"](X + 3), "must hold values in")],
    "CodecError": [],
    "Digits": [
        (lambda: ardm.Digits(4, 5), "got 5"),
        (lambda: ardm.Digits(4, 2).truncate(X.float(), X), "whole numbers"),
    ],
    "EntropyBudget": [(lambda: ardm.EntropyBudget(-1), "at least 0; got -1")],
    "FixedNumber": [(lambda: ardm.FixedNumber(0.5), "whole number of at least 1; got 0.5")],
    "LossCurve": [(lambda: LossCurve(1, 3).update([0.0], [1], [1.0], [1]), "stage holds integers")],
    "Maps": [(lambda: ardm.Maps(3, [[0, 1]]), "has no valid entry")],
    "Model": [(lambda: ardm.sample(torch.nn.Identity(), 1), r"give a bundle .* got Identity")],
    "ModelConfig": [(lambda: ardm.build(ardm.ModelConfig(trunk="net")), "trunk must be one of")],
    "Partial": [
        (lambda: ardm.Partial(X, X[:1]), "the same shape"),
        (lambda: ardm.Partial(X.float(), X), "whole numbers"),
    ],
    "Plan": [(lambda: ardm.Plan(torch.zeros(1, 1, 3)), "whole numbers"), (lambda: ardm.Plan([[[0]]]), "got list")],
    "Recipe": [(lambda: from_values(ardm.Recipe, {"nam": 3}), "nam")],  # codespell:ignore nam
    "Schedule": [(lambda: ardm.Schedule(((1,),), 3), r"got \[1\]")],
    "Threshold": [(lambda: ardm.Threshold(math.nan), "got nan")],
    "build": [(lambda: ardm.build(ardm.ModelConfig(shape=(0,), trunk="transformer", head="values")), "positive")],
    "Codec": [
        (lambda: ardm.Codec("nowhere"), "nowhere"),
        (lambda: ardm.Codec(check=7), "check"),
        (lambda: ardm.Codec(rate=-1), "rate"),
        (lambda: ardm.Codec().encode("x"), "encode"),
        (lambda: ardm.Codec().decode_many([b"x"]), "item 0"),
    ],
    "compress": [(lambda: ardm.compress("x"), "encode")],
    "decompress": [(lambda: ardm.decompress("x"), "Path")],
    "fill": [
        (lambda: ardm.fill(BUNDLE, X.float(), KNOWN), "whole numbers"),
        (lambda: ardm.fill("a/b", X, X), r"ardm\.load"),
    ],
    "fit": [
        (lambda: ardm.fit(X.float() + 0.5), "whole numbers"),
        (lambda: ardm.fit(X, breadth=3), "breadth"),
    ],
    "guided": [(lambda: ardm.guided(BUNDLE, math.inf), "finite number; got inf")],
    "huggingface": [(lambda: ardm.huggingface(torch.nn.Identity(), 1, 2), "vocabulary")],
    "load": [(lambda: ardm.load("no-such-model"), "no float model"), (lambda: ardm.load(3), "got int")],
    "load_recipe": [(lambda: ardm.load_recipe("no-such-recipe"), "no-such-recipe")],
    "make_plan": [(lambda: ardm.make_plan(BUNDLE, 0), "at least 1"), (lambda: ardm.make_plan(BUNDLE, 2), "generator")],
    "open_archive": [
        (lambda: ardm.open_archive(3), "a path, or its bytes; got int"),
        (lambda: ardm.open_archive(Path("nowhere.ardm")), "nowhere.ardm"),
        (lambda: ardm.open_archive(ardm.compress(b"one")), "a single file, not an archive"),
    ],
    "preset": [(lambda: ardm.preset("huge"), "unknown preset 'huge'")],
    "refine": [
        (lambda: ardm.refine(BUNDLE, X, sweeps=0), "sweeps must be at least 1; got 0"),
        (lambda: ardm.refine(BUNDLE, X, share=2), "share"),
    ],
    "sample": [
        (lambda: ardm.sample(BUNDLE, 0), "items must be at least 1; got 0"),
        (lambda: ardm.sample(None, 1), "NoneType"),
    ],
    "sample_remasked": [(lambda: ardm.sample_remasked(BUNDLE, 1, by="chance"), "confidence or random; got 'chance'")],
    "sample_speculative": [(lambda: ardm.sample_speculative(BUNDLE, 1), "order-agnostic causal model")],
    "score": [
        (lambda: ardm.score(BUNDLE, X[:0]), "at least one item"),
        (lambda: ardm.score(BUNDLE, X, seed=-1), "seed"),
    ],
    "wrap": [(lambda: ardm.wrap(3, SHAPE, 3), "got an int"), (lambda: ardm.wrap(flat, (), 3), "at least one axis")],
}
"""Of each public name, what it refuses at its own gate, and how; its values, masks and counts are tested above."""


def test_every_public_name_has_a_row():
    assert set(TABLE) == set(ardm.__all__), "say in TABLE what a new public function refuses"
    given_values = {"fill", "score", "CausalModel"}
    assert given_values <= {name.split()[0] for name in VALUES}


@pytest.mark.parametrize("name", [name for name, rows in TABLE.items() if rows])
def test_public_names_refuse_what_they_cannot_take(name):
    for call, words in TABLE[name]:
        with pytest.raises(ArdmError, match=words):
            call()


def test_every_function_of_values_in_the_core_has_a_row():
    """A function of likelihood, walk or objective that takes x has to be among VALUES."""
    import inspect

    for module in (likelihood, walk, objective):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            public = function.__module__ == module.__name__ and not name.startswith("_")
            if public and "x" in inspect.signature(function).parameters:
                row = f"{module.__name__.removeprefix('ardm.')}.{name}"
                same = {"objective.policy_step": "likelihood.policy_bound"}
                assert same.get(row, row) in VALUES, f"{row} takes values: add it to VALUES"


def test_messages_that_were_wrong():
    """The two of the issue: values in range refused as out of range, and int64 as no int64."""
    assert ardm.fill(BUNDLE, X.byte(), KNOWN, 3).shape == X.shape
    assert ardm.score(BUNDLE, X.numpy()).nats.shape == (4,)


# --- what once ended in an error of another library -------------------------------------------------------------------

LINE = (4,)
LINES = toy(ardm.Digits(3, 3), LINE)
ROW = some_data(LINES.digits, LINE)
AGAINST = {
    "uint64": (lambda: ardm.score(LINES, np.full((1, 4), 2**64 - 1, "u8")), r"below 2\*\*63; got 18446744073709551615"),
    "longdouble": (lambda: ardm.score(LINES, ROW.numpy().astype(np.longdouble)), "must hold|whole numbers"),
    "seed": (lambda: ardm.sample(LINES, 1, seed=2**64), r"seed must lie below 2\*\*64; got 18446744073709551616"),
    "label": (lambda: ardm.score(LINES, ROW, context=2**70), "context must be a class label"),
    "temperature '1'": (lambda: ardm.sample(LINES, 1, temperature="1"), "temperature must be .*; got '1'"),
    "temperature None": (lambda: ardm.sample(LINES, 1, temperature=None), "temperature must be .*; got None"),
    "temperature 1j": (lambda: ardm.sample(LINES, 1, temperature=1j), "temperature must be .*; got 1j"),
    "rank": (lambda: likelihood.causal(LINES, ROW, [0, 1, 2, 3]), "rank must be a tensor or a NumPy array; got list"),
    "one plan": (lambda: likelihood.mixture(LINES, plans.raster(1, LINE), ROW), "takes a list of plans; got Plan"),
    "no plans": (lambda: likelihood.mixture(LINES, iter([]), ROW), "at least one plan"),
    "nothing known": (lambda: ardm.fill(LINES, ROW, None), "known says what stays"),
    "a class as plan": (lambda: ardm.sample(LINES, 1, order=ardm.Adaptive), "a plan is a Plan or Adaptive.*got <class"),
    "a setting": (lambda: ardm.preset("tiny", wide=3), "unknown setting 'wide'"),
    "ranks of fewer sites": (lambda: plans.ranked(torch.arange(3), LINE), r"ranks must hold each of 0\.\.3 once"),
    "pixels": (lambda: plans.image(1, (1, 4, 4), np.arange(8).reshape(2, 4)), "pixels are the ranks .*4 x 4"),
    "a wavefront of two axes": (lambda: plans.wavefront((4, 4)), "images .* and sequences"),
    "no digits": (lambda: plans.unstaged(0, LINE, generator()), "stages must be at least 1; got 0"),
    "blocks of 0": (lambda: plans.blocks(1, LINE, 0, generator()), "size must be at least 1; got 0"),
    "blocks of -1": (lambda: plans.blocks(1, LINE, -1, generator()), "size must be at least 1; got -1"),
    "no steps": (lambda: plans.absorbing(0, LINE, 1, generator()), "steps must be at least 1; got 0"),
    "half a start": (lambda: plans.raster(1, LINE).coarsen([0, 1.5]), "starts must be a whole number.*got 1.5"),
    "half a start of a policy": (
        lambda: likelihood.policy_bound(LINES, ROW, [0, 1.5], 1, generator()),
        "starts must be a whole number.*got 1.5",
    ),
    "half a start of a schedule": (lambda: Schedule.given([[0, 1.5]], 3), "lists of whole numbers"),
    "half a start that is priced": (lambda: cost([3, 2, 1], [0, 1.5]), r"increase strictly below 3; got \[0, 1\.5\]"),
    "half a call": (lambda: Schedule.uniform(1, 4, 2.5), r"must be in 1\.\.4 here; got 2\.5"),
    "half a call, planned": (lambda: Schedule.joint([[3, 2, 1, 1]], 2.5), r"must be in 1\.\.4 here; got 2\.5"),
    "half a step": (lambda: absorbing_cost([3, 2, 1], 1.5), "at least one step.*got 1.5"),
    "mask token": (
        lambda: ardm.huggingface(MODEL, None, 4, 5),
        "mask_token_id is None: a tokenizer without a mask token",
    ),
}


@pytest.mark.parametrize("name", AGAINST)
def test_odd_inputs_are_named(name):
    call, words = AGAINST[name]
    with pytest.raises(ArdmError, match=words):
        call()


def test_a_training_step_takes_labels_of_any_type():
    """Of int32 or an array it once said that it takes int64 (3,) and got int64 (3,)."""
    model = labelled()
    x = some_data(model.digits, (1, 4, 4), 3)
    steps, labels = objective.draw(3, 1, (1, 4, 4), generator()), torch.tensor([0, 1, 2])
    right = objective.bound_step(model, x, steps, context=labels).nats
    for same in (labels.numpy(), labels.int(), labels.numpy().astype("u1")):
        assert torch.equal(objective.bound_step(model, x, steps, context=same).nats, right)


RANDOM = {
    "bound": lambda g: likelihood.bound(LINES, ROW, 1, g),
    "policy_bound": lambda g: likelihood.policy_bound(LINES, ROW, [0], 1, g),
    "absorbing_bound": lambda g: likelihood.absorbing_bound(LINES, ROW, 2, 1, g),
    "causal_bound": lambda g: likelihood.causal_bound(LINES, ROW, 1, g),
    "curve": lambda g: likelihood.curve(LINES, ROW, 1, g),
    "curve on a grid": lambda g: likelihood.curve(LINES, ROW, 1, g, grid=2),
    "spread": lambda g: objective.spread(3, g),
    "draw": lambda g: objective.draw(3, 1, LINE, g),
    "walk.sample": lambda g: walk.sample(LINES, plans.raster(1, LINE), LINES.digits.blank(1, LINE), g),
    "make_plan": lambda g: ardm.make_plan(LINES, 2, generator=g),
    "shuffled": lambda g: plans.shuffled(1, LINE, g),
    "unstaged": lambda g: plans.unstaged(1, LINE, g),
    "absorbing": lambda g: plans.absorbing(3, LINE, 1, g),
    "blocks": lambda g: plans.blocks(1, LINE, 2, g),
}


@pytest.mark.parametrize("name", RANDOM)
def test_a_seed_is_no_generator(name):
    with pytest.raises(
        ArdmError, match=r"must be a torch\.Generator; got 7: write torch\.Generator\(\)\.manual_seed\(7\)"
    ):
        RANDOM[name](7)
    with pytest.raises(ArdmError, match=r"generator.*: (write )?torch\.Generator\(\)\.manual_seed\(0\)"):
        RANDOM[name](None)


def test_large_seeds_lengths_and_iterators_are_taken():
    assert ardm.sample(LINES, 1, seed=2**64 - 1).shape == (1, 4)
    first, seed = np.int64(1), np.uint64(2**64 - 1)
    assert torch.equal(ardm.sample(LINES, 1, seed=seed, first=first), ardm.sample(LINES, 2, seed=2**64 - 1)[1:])
    assert len(ardm.make_plan(LINES, 9, "raster", shape=7)) == 7
    some = [plans.shuffled(1, LINE, generator(k)) for k in range(3)]
    assert torch.equal(likelihood.mixture(LINES, iter(some), ROW).nats, likelihood.mixture(LINES, some, ROW).nats)
    assert torch.equal(ardm.score(LINES, ROW.numpy().astype("u8")).nats, ardm.score(LINES, ROW).nats)
