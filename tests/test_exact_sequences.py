"""Networks that do not ship yet, in integers: a Transformer of text without positions, gated dilated convolutions of sound; and foreign ones."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ardm.ans import GRID
from ardm.digits import Digits
from ardm.errors import ArdmError
from ardm.exact.ask import AskedSites
from ardm.exact.backend import Backend
from ardm.export.builder import Layers, Value
from ardm.export.calibrate import watched
from ardm.export.functions import gelu, logistic, swish
from ardm.export.obstacles import unsupported
from ardm.export.precision import Precision
from exactly import ask, same, table_of
from toys import generator

L, K = 12, 16
GRIDS = np.array([float(GRID)])


def random_state(batch=7, seed=0):
    """Items (B, 1, 1, L), of which more and more is known."""
    g = generator(seed)
    depth = (torch.rand(batch, 1, 1, L, generator=g) < torch.linspace(0, 0.95, batch)[:, None, None, None]).long()
    return torch.randint(K, (batch, 1, 1, L), generator=g) * depth, depth


def randomise(model, seed=1):
    g = generator(seed)
    model = model.double()
    with torch.no_grad():
        for path, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=g, dtype=torch.double)
            unit = 1.0 if "norm" in path and path.endswith("weight") else 0.0
            p.copy_(noise / math.sqrt(p[0].numel()) if p.ndim > 1 else unit + noise * 0.1)
    return model.eval()


# --- a Transformer ----------------------------------------------------------------------------------------------------


class Layer(nn.Module):
    def __init__(self, width, norm, gated):
        super().__init__()
        self.norm1, self.norm2 = norm(width), norm(width)
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.gate = nn.Linear(width, 2 * width) if gated else None
        self.hidden = nn.Identity()  # so that what passes here is watched


class Transformer(nn.Module):
    """Token embedding, LayerNorm or RMSNorm, attention, a GELU or a gated swish perceptron."""

    def __init__(self, width=16, heads=2, depth=2, norm=nn.RMSNorm, gated=True):
        super().__init__()
        self.heads = heads
        self.embedding = nn.Embedding(K + 1, width)
        self.layers = nn.ModuleList(Layer(width, norm, gated) for _ in range(depth))
        self.norm, self.out = norm(width), nn.Linear(width, K)

    def forward(self, value, depth):
        """(B, L) → (B, L, K)."""
        h = self.embedding(torch.where(depth > 0, value, K))
        for layer in self.layers:
            a = layer.norm1(h)
            q, k, v = (f(a).unflatten(2, (self.heads, -1)).transpose(1, 2) for f in (layer.q, layer.k, layer.v))
            h = h + layer.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
            a = layer.norm2(h)
            u = F.gelu(layer.up(a)) if layer.gate is None else layer.up(a) * F.silu(layer.gate(a))
            h = h + layer.down(layer.hidden(u))
        return self.out(self.norm(h))


def stream(build, *largest):
    return np.array([2.0 ** math.floor(math.log2(build.high / sum(largest)))])


def text_program(model, bits):
    value, depth = random_state(32, 9)
    with torch.no_grad(), watched(model) as seen:
        model(value[:, 0, 0], depth[:, 0, 0])
    build = Layers(1, Digits(K, K), bits, (1, L))
    table = model.embedding.weight.detach().numpy()
    largest = max(seen.given(layer.norm2) for layer in model.layers) + seen.given(model.norm)
    scale = stream(build, 2 * largest)  # of the stream that all layers add to
    h = build.embed("embedding", build.op("known", "told", ["value", "depth"]), table, float(scale[0]))
    width, heads = table.shape[1], model.heads
    for i, layer in enumerate(model.layers):
        a = build.norm(f"{i}.norm1", h, layer.norm1, build.scale(seen.planes(layer.norm1)), build.top)
        top = build.top << 2
        sq, sk, by = build.scores(seen.made(layer.q), seen.made(layer.k), width // heads, top)
        q = build.conv(f"{i}.q", a, layer.q, sq, top)
        k = build.conv(f"{i}.k", a, layer.k, sk, top)
        v = build.conv(f"{i}.v", a, layer.v, build.scale(seen.planes(layer.v)), build.top)
        o = build.attention(f"{i}.attention", q, k, v, heads, by)
        h = build.add(f"{i}.seen", h, build.conv(f"{i}.o", o, layer.o, scale, build.high), build.high)
        a = build.norm(f"{i}.norm2", h, layer.norm2, build.scale(seen.planes(layer.norm2)), build.top)
        hidden = float(build.scale(seen.given(layer.hidden))[0])
        up = build.conv(f"{i}.up", a, layer.up, build.scale(seen.made(layer.up), build.table_top), build.table_top)
        if layer.gate is None:
            u = build.function(f"{i}.gelu", up, gelu, hidden)
        else:
            g = build.conv(
                f"{i}.gate", a, layer.gate, build.scale(seen.made(layer.gate), build.table_top), build.table_top
            )
            g = build.function(f"{i}.swish", g, swish, float(build.scale(seen.made(layer.gate))[0]))
            u = build.gate(f"{i}.gated", up, g)
        h = build.add(f"{i}.out", h, build.conv(f"{i}.down", u, layer.down, scale, build.high), build.high)
    row = build.at("row", build.norm("norm", h, model.norm, build.scale(seen.planes(model.norm), build.table_top)))
    o = build.linear(
        "output", row, model.out.weight.detach().numpy(), model.out.bias.detach().numpy(), GRIDS, 1 << 22, 12
    )
    build.op("values", "head", [o.name])
    return build.program()


# --- gated dilated convolutions ---------------------------------------------------------------------------------------


class Gated(nn.Module):
    def __init__(self, width, dilation):
        super().__init__()
        self.filter, self.gate = (nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation) for _ in range(2))
        self.more, self.skip = nn.Conv1d(width, width, 1), nn.Conv1d(width, width, 1)


class Waves(nn.Module):
    """WaveNet's blocks over both sides, for any order: tanh · σ of dilated convolutions, residual and skip paths."""

    def __init__(self, width=12, dilations=(1, 2, 4)):
        super().__init__()
        self.input = nn.Conv1d(2, width, 3, padding="same")
        self.layers = nn.ModuleList(Gated(width, d) for d in dilations)
        self.end, self.out = nn.Linear(width, width), nn.Linear(width, K)

    def forward(self, value, depth):
        """(B, L) → (B, L, K)."""
        h = self.input(torch.stack([(2.0 * value - (K - 1)) / (K - 1) * depth, depth], 1).double())
        total = 0
        for layer in self.layers:
            u = torch.tanh(layer.filter(h)) * torch.sigmoid(layer.gate(h))
            h, total = h + layer.more(u), total + layer.skip(u)
        return self.out(F.relu(self.end(F.relu(total).transpose(1, 2))))


def sound_program(model, bits, size=(0, 0)):
    value, depth = random_state(32, 9)
    with torch.no_grad(), watched(model) as seen:
        model(value[:, 0, 0], depth[:, 0, 0])
    build = Layers(1, Digits(K, K), bits, size)
    build.op("table", "seen", ["depth"], {"table": [0, K - 1]}, low=0)
    read = build.concat("planes", Value("value", np.array([K - 1.0])), Value("seen", np.array([K - 1.0])))
    scale = stream(build, seen.made(model.input), *[seen.made(layer.more) for layer in model.layers])
    other = stream(build, *[seen.made(layer.skip) for layer in model.layers])
    h = build.conv("input", read, model.input, scale, build.high, bits.first)
    total = None
    for i, layer in enumerate(model.layers):
        parts = []
        for name, conv, f in (("filter", layer.filter, np.tanh), ("gate", layer.gate, logistic)):
            made = build.conv(f"{i}.{name}", h, conv, build.scale(seen.made(conv), build.table_top), build.table_top)
            parts.append(build.function(f"{i}.{name}ed", made, f, build.top))
        u = build.gate(f"{i}.u", *parts)
        h = build.add(f"{i}.h", h, build.conv(f"{i}.more", u, layer.more, scale), build.high)
        skip = build.conv(f"{i}.skip", u, layer.skip, other)
        total = skip if total is None else build.add(f"{i}.total", total, skip, build.high)
    row = build.coarser("relu", build.at("row", total), 0, build.high)
    row = Value(build.op("shift", "relu1", [row.name], by=0, lo=0, hi=build.high), row.scale)
    end = build.scale(seen.made(model.end), build.high)
    row = build.linear("end", row, model.end.weight.detach().numpy(), model.end.bias.detach().numpy(), end, build.high)
    row = Value(build.op("shift", "relu2", [row.name], by=0, lo=0, hi=build.high), row.scale)
    o = build.linear(
        "output", row, model.out.weight.detach().numpy(), model.out.bias.detach().numpy(), GRIDS, 1 << 22, 12
    )
    build.op("values", "head", [o.name])
    return build.program()


# --- both -------------------------------------------------------------------------------------------------------------

NETS = {
    "RMSNorm, gated": (lambda: Transformer(), text_program),
    "LayerNorm, GELU": (lambda: Transformer(norm=nn.LayerNorm, gated=False), text_program),
    "waves": (lambda: Waves(), sound_program),
}


def divergence(model, program):
    """Mean KL in bits."""
    value, depth = random_state(9, 3)
    sites = AskedSites(*np.nonzero(depth.numpy() == 0))
    found = table_of(ask(Backend(program), value.numpy(), depth.numpy(), sites))[0] / 2.0**24
    with torch.no_grad():
        p = model(value[:, 0, 0], depth[:, 0, 0]).softmax(2)[sites.batch_index, sites.x].numpy()
    return (p * np.log2(p / found)).sum(1).mean()


@pytest.mark.parametrize("name", NETS)
def test_sequences_are_close_and_the_same_everywhere(name):
    make, program = NETS[name]
    for seed in range(5, 0, -1):
        model = randomise(make(), seed)
        rough, fine = program(model, Precision(8, 8)), program(model, Precision(12, 12))
        assert 0 <= divergence(model, fine) < 6e-4
        assert divergence(model, fine) < divergence(model, rough) < 1e-3
    value, depth = (x.numpy() for x in random_state())
    sites = AskedSites(*np.nonzero(depth == 0))
    every = same(rough, value, depth, sites)[0]
    same(fine, value[:2], depth[:2], AskedSites(*np.nonzero(depth[:2] == 0)))
    for n in range(len(value)):
        sites_n = AskedSites(*np.nonzero(depth[n : n + 1] == 0))
        alone = ask(Backend(rough), value[n : n + 1], depth[n : n + 1], sites_n)
        assert (table_of(alone)[0] == every[sites.batch_index == n]).all()


def test_convolutions_serve_any_length():
    program = sound_program(randomise(Waves()), Precision(8, 8))
    rng = np.random.default_rng(0)
    for length in (1, 3, 100):
        depth = rng.integers(0, 2, (2, 1, 1, length))
        value = rng.integers(0, K, depth.shape) * depth
        same(program, value, depth, AskedSites(*np.nonzero(depth == 0)))


# --- foreign networks -------------------------------------------------------------------------------------------------


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))


def test_what_cannot_be_exported_is_named():
    trunk = nn.Sequential()
    trunk.add_module("conv", nn.Conv2d(3, 4, 3, padding=1))
    trunk.add_module("act3", nn.GLU())
    trunk.add_module("down", nn.Conv2d(4, 4, 3, stride=2, padding=1))
    trunk.add_module("bn", nn.BatchNorm2d(4))
    trunk.add_module("odd", Odd())
    trunk.add_module("mha", nn.MultiheadAttention(4, 2))
    trunk.add_module("pool", nn.AvgPool2d(3))
    trunk.add_module("up", nn.Upsample(scale_factor=2, mode="bilinear"))
    body = nn.Module()
    body.trunk = trunk
    model = nn.Module()
    model.body = body
    found = unsupported(model)
    assert [line.split(":")[0] for line in found] == [
        f"body.trunk.{name}" for name in ("act3", "down", "bn", "odd", "mha", "pool", "up")
    ]
    assert found[0] == "body.trunk.act3: GLU is not supported; use SiLU, ReLU or GELU, and a product"
    assert "stride (2, 2)" in found[1]
    assert "GroupNorm" in found[2]
    assert "Odd is not supported" in found[3]
    assert "scaled_dot_product_attention" in found[4]
    assert all("; use" in line or "; build" in line for line in found)


@pytest.mark.parametrize("layer", [nn.LSTM(3, 3), nn.PReLU(), nn.Mish(), nn.MaxPool2d(2), nn.ConvTranspose2d(3, 3, 2),
                                   nn.Conv1d(4, 4, 3, groups=2, padding=1), nn.Conv2d(3, 3, 3),
                                   nn.Conv1d(3, 3, 3, padding=1, padding_mode="circular")])  # fmt: skip
def test_each_of_these_is_named(layer):
    (line,) = unsupported(nn.Sequential(nn.Identity(), layer))
    assert line.startswith(f"1: {type(layer).__name__} ")


def test_ours_can_be_exported():
    assert unsupported(Transformer()) == []
    assert unsupported(Waves()) == []
    assert unsupported(nn.Sequential()) == []
    from toys import tiny_image

    assert unsupported(tiny_image("unet", attention="all", levels=2, embedding=2, time=True).body) == []


def test_what_does_not_fit_says_so():
    build = Layers(1, Digits(K, K), Precision(8, 8), (1, L))
    a = Value("value", np.array([1.0]))
    with pytest.raises(ArdmError, match="stride"):
        build.conv("c", a, nn.Conv2d(1, 1, 3, stride=2, padding=1), np.ones(1))
    square = build.op("product", "square", ["value", "value"])
    wide = build.op("gate", "wide", [square, square], by=0)
    wider = build.op("gate", "wider", [wide, wide], by=0)
    with pytest.raises(ArdmError, match="clamp it first"):
        build.function("f", Value(wider, np.array([1.0])), swish, 1.0)
    with pytest.raises(ArdmError, match="different scales"):
        build.norm("n", Value("value", np.array([1.0, 2.0])), nn.LayerNorm(2), np.ones(1))
    tall = Layers(1, Digits(K, K), Precision(8, 8), (1 << 12, 1 << 12))
    huge = tall.op("table", "t", ["value"], {"table": [1 << 40]}, low=0)
    with pytest.raises(ArdmError, match="use fewer bits"):
        tall.norm("n", Value(huge, np.ones(1)), nn.GroupNorm(1, 1), np.ones(1))
    with pytest.raises(ArdmError, match="power of two"):
        build.add("sum", a, Value("value", np.array([3.0])))
