"""Published checkpoints: each architecture against an independent reference, and the laws of any-order models on all."""

import json
import math
import struct

import pytest
import torch
from safetensors.torch import save_file

import ardm
from ardm import audit, likelihood
from ardm import plan as plans
from ardm.digits import Partial, Sites
from ardm.errors import ArdmError
from ardm.models import hub
from ardm.models.published import dream
from ardm.models.published.registry import ARCHITECTURES, PICKLED
from ardm.symbols import of_values
from checkpoints import Case, case_of, dream_case, llada_case, mdlm_case
from toys import all_data, generator


@pytest.fixture(scope="module", params=ARCHITECTURES)
def loaded(request, tmp_path_factory):
    """(case, bundle of items of 4 tokens), for each architecture of the registry."""
    case = case_of(request.param)
    folder = case.write(tmp_path_factory.mktemp("published") / request.param)
    return case, ardm.load(folder, length=4)


def values(case, items, length=4, seed=0):
    """Random values that are not the mask."""
    x = torch.randint(case.classes - 1, (items, length), generator=generator(seed))
    return x + (x >= case.mask)


# --- the laws -------------------------------------------------------------------------------------------------------------


def test_logits_are_those_of_the_reference(loaded):
    """At all sites of states from blank to one hidden site, at another length too; float32 within 1e-4."""
    case, bundle = loaded
    for length in (4, 7):
        x, known = values(case, 6, length), torch.rand(6, length, generator=generator(1)) < torch.arange(6)[:, None] / 6
        wanted = case.logits(torch.where(known, x, case.mask))
        found = bundle.model(bundle.model.digits.truncate(x, known.long()))[Sites.where(torch.ones_like(known))]
        hidden = ~known.flatten()
        torch.testing.assert_close(found[hidden], wanted.flatten(0, 1)[hidden], rtol=0, atol=1e-4)
        assert wanted.isfinite().float().mean() > 0.9
        assert wanted[wanted.isfinite()].std() > 0.3, "a reference that says nothing proves nothing"


def test_nothing_leaks(loaded):
    """What is hidden changes no bit of any output; what is known changes some."""
    case, bundle = loaded
    x, depth = values(case, 2), torch.tensor([[1, 0, 1, 0], [0, 0, 0, 1]])
    sites, other = Sites.where(depth == 0), values(case, 2, seed=5)
    a, b = (bundle.model(Partial(torch.where(depth > 0, x, y), depth))[sites] for y in (x, other))
    assert torch.equal(a, b)
    c = bundle.model(Partial(torch.where(depth > 0, other, x), depth))[sites]
    assert not torch.equal(a, c)


def test_it_is_a_distribution_over_sequences(loaded):
    """Σ exp(−nats) over all pairs of values is 1 in any order, and the mask costs +∞."""
    case, bundle = loaded
    pairs = all_data(case.classes, (2,))
    nats = likelihood.exact(bundle.model, plans.shuffled(1, (2,), generator(3)), pairs).nats
    assert float(nats.neg().exp().sum()) == pytest.approx(1, abs=1e-5)
    if case.mask < case.classes:
        assert nats[(pairs == case.mask).any(1)].eq(math.inf).all()


def test_plans_samples_and_audit_work(loaded):
    """Sampling, filling, exact scores along adaptive plans, a measured curve and its schedule, and the audit."""
    case, bundle = loaded
    x = ardm.sample(bundle, 3, calls=2, seed=1)
    assert x.shape == (3, 4)
    assert not (x == case.mask).any()
    known = torch.tensor([True, False, False, True])
    assert torch.equal(ardm.fill(bundle, x, known, calls=1)[:, known], x[:, known])
    curve = likelihood.curve(bundle.model, x, 4, generator=generator(0))
    planned = ardm.Bundle(bundle.model, bundle.config, curve=curve)
    assert ardm.score(planned, x, calls=2).nats.isfinite().all()
    adaptive = ardm.Adaptive("probability", ardm.Threshold(0.5))
    drawn = ardm.sample(bundle, 3, order=adaptive, seed=2)
    assert ardm.score(bundle, drawn, order=adaptive).nats.isfinite().all()
    assert audit.report(planned, x, calls=2, streams=1).sound


def test_only_the_wanted_rows_of_the_last_layer_are_computed(loaded):
    """A step that draws one token of each item computes as many rows of logits as it has items, and no more."""
    case, bundle = loaded
    rows = []
    handle = bundle.model.head.out.register_forward_hook(lambda module, given, out: rows.append(len(out)))
    try:
        ardm.sample(bundle, 3, calls=4)
        ardm.score(bundle, values(case, 3), calls=4)
    finally:
        handle.remove()
    assert sum(rows) == 2 * 3 * 4
    assert rows[:4] == [3] * 4


def test_what_stands_around_changes_nothing(loaded, tmp_path):
    """Neither a default device nor a default dtype; and the global random state stays."""
    case, bundle = loaded
    folder, x = case.write(tmp_path / "again"), values(case, 2)
    wanted, before = ardm.score(bundle, x, calls=2).nats, torch.get_rng_state()
    torch.set_default_device("meta")
    torch.set_default_dtype(torch.bfloat16)
    try:
        found = ardm.score(ardm.load(folder, length=4), x, calls=2).nats
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found, wanted)
    assert torch.equal(torch.get_rng_state(), before)


# --- what is special ------------------------------------------------------------------------------------------------------


def test_letters_have_their_names(tmp_path):
    protein = ardm.load(case_of("EvoDiff").write(tmp_path / "protein"), length=5)
    assert protein.decode(protein.encode("MKVLA")) == ["MKVLA"]
    assert of_values(protein.symbols.to_values()) == protein.symbols
    with pytest.raises(ArdmError, match=r"byte 64.*none of b'ACDEF"):
        protein.encode("MK@LA")
    text = ardm.load(case_of("nanoDD").write(tmp_path / "text"))
    assert tuple(text.model.shape) == (256,)
    assert text.decode(text.encode("a" * 255 + " ")) == ["a" * 255 + " "]


def test_dreams_begin_is_the_tokenizers(tmp_path):
    """config.json of Dream names the end of a text as its begin; the tokenizer knows better."""
    case = case_of("Dream")
    assert dream.begin(case.config, case.files["tokenizer_config.json"]) == 10
    assert dream.begin(case.config, {}) == 3
    bundle = ardm.load(case.write(tmp_path / "dream"))
    assert tuple(bundle.model.shape) == (16,)
    with pytest.raises(ArdmError, match="at most 17 tokens; got 18"):
        ardm.score(bundle, values(case, 1, 17))


def test_tied_weights_in_several_files(tmp_path):
    """A tied output layer is the embedding, and an index names the files of the weights."""
    case = dream_case(tied=True)
    folder = case.write(tmp_path / "tied")
    names = sorted(case.weights)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, held in parts.items():
        save_file({name: case.weights[name].contiguous() for name in held}, folder / file)
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {name: file for file, held in parts.items() for name in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    model = ardm.load(folder, length=4).model
    x = values(case, 2)
    found = model(model.digits.blank(2, (4,)))[Sites(torch.arange(8), 4)]
    torch.testing.assert_close(found, case.logits(torch.full_like(x, case.mask)).flatten(0, 1), rtol=0, atol=1e-4)
    assert model.head.out.weight is model.body.trunk.embedding.weight
    (folder / "b.safetensors").unlink()
    with pytest.raises(ArdmError, match=r"not complete: it has no b\.safetensors"):
        ardm.load(folder)


def test_a_large_vocabulary(tmp_path):
    """Beyond the size up to which a model without weights is real: LLaDA lost its forbidden tokens there."""
    for make in (lambda: mdlm_case(6000), lambda: llada_case(6000)):
        case = make()
        bundle = ardm.load(case.write(tmp_path / case.config["model_type"]), length=2)
        assert not any(t.is_meta for t in (*bundle.model.parameters(), *bundle.model.buffers()))
        found = bundle.model(bundle.model.digits.blank(1, (2,)))[Sites(torch.tensor([0, 1]), 2)]
        torch.testing.assert_close(found, case.logits(torch.full((1, 2), case.mask))[0], rtol=0, atol=1e-4)


def test_half_precision_keeps_its_dtype_and_its_ends(tmp_path):
    case = case_of("LLaDA")
    half = Case(case.config, {k: v.bfloat16() for k, v in case.weights.items()}, case.logits, case.mask, case.classes)
    bundle = ardm.load(half.write(tmp_path / "half"), length=4)
    sites = Sites(torch.arange(4), 4)
    found = bundle.model(bundle.model.digits.blank(1, (4,)))[sites]
    assert {p.dtype for p in bundle.model.parameters()} == {torch.bfloat16}
    assert found.dtype == torch.float32
    wanted = case.logits(torch.full((1, 4), case.mask))[0]
    keep = wanted.isfinite()
    assert float((found - wanted)[keep].abs().max()) < 0.1 * float(wanted[keep].abs().max())


def broken(config=None, weights=None, **changes):
    """A case of MDLM with changes."""
    case = case_of("MDLM")
    return Case({**case.config, **(config or {}), **changes}, weights or case.weights, None, 0, 0)


WRONG = {
    "time": (broken(time_conditioning=True), "time_conditioning is true"),
    "missing": (broken(n_heads=None), r"config\.json has no n_heads"),
    "type": (broken(n_heads="two"), r"n_heads must be of type int; got 'two'"),
    "heads": (broken(n_heads=3), "3 heads, 1 of keys, do not fit a width of 8"),
    "shape": (broken(cond_dim=5), "do not fit its configuration"),
    "layers": (broken(n_blocks=1 << 20), r"n_blocks is 1048576, and may be at most \d\d$"),
    "more": (broken(weights={**case_of("MDLM").weights, "odd": torch.zeros(1)}), r"do not fit.*odd"),
    "two of one name": (
        broken(weights={**case_of("MDLM").weights, "vocab_embed.embedding": torch.zeros(12, 8)}),
        r"do not fit.*vocab_embed\.embedding",
    ),
    "nothing": (broken(hidden_dim=0), "do not fit a width of 0"),
    "no length": (broken(model_length=0), "the length must be at least 1"),
    "dtype": (broken(weights={k: v.to(torch.int8) for k, v in case_of("MDLM").weights.items()}), "quantised"),
    "other": (broken(model_type="bert"), r"of type 'bert'; .*MDLM, LLaDA.*ardm\.huggingface"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_refused(what, tmp_path):
    case, message = WRONG[what]
    with pytest.raises(ArdmError, match=message):
        ardm.load(case.write(tmp_path / "wrong"))


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [("Dream", "block_size", 32), ("Dream", "rope_scaling", {"type": "yarn"}), ("LLaDA", "alibi", True),
     ("LLaDA", "multi_query_attention", True), ("EvoDiff", "rank", 4)],
)  # fmt: skip
def test_networks_of_another_kind_are_refused(name, setting, value, tmp_path):
    case = case_of(name)
    changed = Case({**case.config, setting: value}, case.weights, None, 0, 0, case.files)
    with pytest.raises(ArdmError, match=rf"{setting} is .*ardm does not compute"):
        ardm.load(changed.write(tmp_path / "other"))


def test_lengths_that_do_not_fit_are_refused(tmp_path):
    folder = broken().write(tmp_path / "mdlm")
    with pytest.raises(ArdmError, match="at most 16 tokens; got 17"):
        ardm.load(folder, length=17)
    with pytest.raises(ArdmError, match="length must be at least 1"):
        ardm.load(folder, length=0)
    with pytest.raises(ArdmError, match="leave length out"):
        ardm.load("cifar10-any-order", length=5)
    with pytest.raises(ArdmError, match="take no context"):
        ardm.sample(ardm.load(folder, length=2), 1, context=1)


def test_pickles_are_never_read(tmp_path, monkeypatch):
    """Neither one in a folder, nor one on the hub; one line says what to do, and nothing is downloaded."""
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("a pickle was read"))
    monkeypatch.setattr(hub, "download", lambda *a, **k: pytest.fail("something was downloaded"))
    folder = broken().write(tmp_path / "mdlm")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ArdmError, match=r"no weights as safetensors, but a pickle \(pytorch_model\.bin\): convert"):
        ardm.load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ArdmError, match=r"as a pickle \(pytorch_model\.bin\), which can run code"):
        ardm.load(folder)
    for name in PICKLED:
        with pytest.raises(ArdmError, match=r"pickle only \(ckpt\.pt\).*safetensors"):
            ardm.load(name)


def test_a_name_on_the_hub(tmp_path, monkeypatch):
    """What the hub has is loaded from its folder, under its name; code beside it is not looked at."""
    folder = broken().write(tmp_path / "snapshot")
    (folder / "modeling_mdlm.py").write_text("raise SystemExit('code of others was run')")
    monkeypatch.setattr(hub, "download", lambda name, revision: folder)
    bundle = ardm.load("kuleshov-group/mdlm-owt", revision="main")
    assert (bundle.name, tuple(bundle.model.shape)) == ("kuleshov-group/mdlm-owt", (16,))
    with pytest.raises(ArdmError, match="cannot be saved"):
        bundle.save(tmp_path / "saved")


def test_a_hostile_header_costs_nothing(tmp_path):
    folder = broken().write(tmp_path / "mdlm")
    header = json.dumps({"backbone.x": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ArdmError, match="claims 4398046511104 bytes"):
        ardm.load(folder)
