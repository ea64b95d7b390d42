"""What every network of sequences and tables must keep: leaks, sites, items, gradients, distributions."""

import torch

from ardm import plan as plans
from ardm.digits import Sites
from ardm.models.build import build
from ardm.models.config import ModelConfig
from ardm.objective import Steps, bound_step, draw
from ardm.walk import score
from toys import everywhere, generator, randomise, read_by, some_data

SMALL = {"width": 8, "blocks": 2, "heads": 2, "hidden": 12, "components": 2, "cycle": 2}


def small(trunk, shape=(5,), classes=5, base=0, head="values", seed=0, **changes):
    """A model of a sequence or table with random parameters, as small as may be, in float64."""
    config = ModelConfig(
        shape=shape, classes=classes, base=base, head=head, trunk=trunk, **{**read_by(trunk, **SMALL), **changes}
    )
    return randomise(build(config), seed)


def context_for(config, batch):
    if config.labels:
        return torch.arange(batch) % config.labels
    return torch.randn(batch, config.vector, generator=generator(8), dtype=torch.double) if config.vector else None


def items(model, batch=3, seed=3):
    """Data that the columns allow."""
    x = some_data(model.digits, model.shape, batch, seed)
    limits = torch.tensor(model.body.config.limits)
    return (x.flatten(1) % limits).view_as(x)


def random_depth(model, batch=3, seed=2):
    """Steps of random plans; nothing known of the first item."""
    steps = draw(batch, len(model.digits), model.shape, generator(seed))
    known = steps.known.view(-1, *[1] * len(model.shape))
    depth = steps.stage.view(-1, *[1] * len(model.shape)) + (steps.rank < known).long()
    depth[0] = 0
    return depth


def hidden_is_not_seen(model, batch=4):
    """Other data under the same known digits change no answer and no gradient; known digits do."""
    digits, config = model.digits, model.body.config
    x, y, context = items(model, batch), items(model, batch, seed=9), context_for(config, batch)
    depth = random_depth(model, batch)
    block = digits.base ** (len(digits) - depth)
    other = x - x % block + y % block
    other = torch.where(other < torch.tensor(config.limits).view(model.shape), other, x)
    assert (other != x).any()
    one, two = digits.truncate(x, depth), digits.truncate(other, depth)
    assert torch.equal(one.value, two.value)
    # what a careless caller leaves in hidden sites of no digits is not looked at either
    dirty = type(two)(torch.where(depth == 0, other, two.value), depth)
    sites = everywhere(model, one)
    a, b = model(one, context)[sites], model(two, context)[sites]
    assert a.isfinite().any()
    assert torch.equal(a, b)
    scored = Sites(sites.index[::2], sites.sites)
    grads = []
    for state in (one, dirty if config.head == "values" and config.base == 0 and config.trunk != "wavenet" else two):
        loss = model(state, context).log_prob(scored, digits.read(x, depth, scored)).sum()
        grads.append(torch.autograd.grad(loss, list(model.parameters()), allow_unused=True))
    for g, h in zip(*grads, strict=True):
        assert (g is None and h is None) or torch.equal(g, h)
    shown = digits.truncate((x + max(config.limits) // 2) % torch.tensor(config.limits).view(model.shape), depth)
    incomplete = (depth < len(digits)).flatten(1).any(1).view(-1, *[1] * len(model.shape))
    assert ((shown.value != one.value) & incomplete).any()
    assert not torch.equal(model(one, context)[sites], model(shown, context)[sites])


def answers_belong_to_sites_and_items(model):
    """Any subset in any order gives the answers of the whole, an item alone those of a batch, and no sites none."""
    x, context = items(model, 4), context_for(model.body.config, 4)
    state = model.digits.truncate(x, random_depth(model, 4))
    prediction, sites = model(state, context), everywhere(model, state)
    whole = prediction[sites]
    pick = torch.randperm(len(sites), generator=generator(2))[: len(sites) // 2]
    torch.testing.assert_close(prediction[Sites(sites.index[pick], sites.sites)], whole[pick], rtol=1e-9, atol=1e-11)
    assert len(prediction[Sites(sites.index[:0], sites.sites)]) == 0
    plan = plans.shuffled(len(model.digits), model.shape, generator(0))
    together = score(model, plan, x, context=context)
    for i in range(4):
        alone = score(model, plan, x[i : i + 1], context=None if context is None else context[i : i + 1])
        torch.testing.assert_close(alone, together[i : i + 1], rtol=1e-9, atol=0)


def every_parameter_is_trained(model, batch=8):
    S, D = len(model.digits), len(model.body.config.limits)
    x, context = items(model, batch), context_for(model.body.config, batch)
    steps = Steps(torch.arange(batch) % S, torch.arange(batch) % D, draw(batch, S, model.shape, generator(0)).rank)
    loss = bound_step(model, x, steps, context=context).nats.sum()
    if model.body.config.labels:
        loss = loss + bound_step(model, x, steps).nats.sum()  # "no label" has a row of its own
    loss.backward()
    gradients(model)


def gradients(model):
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def nats_of_everything(model, x, context=None):
    """Along one random order, for sums over all data."""
    return score(model, plans.shuffled(len(model.digits), model.shape, generator(5)), x, context=context)
