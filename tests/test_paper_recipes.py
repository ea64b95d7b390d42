"""Every recipe of the paper takes steps and is validated: smaller networks on smaller items, all else as it stands."""

import numpy as np
import pytest

from ardm.train.recipe import load_recipe, shipped
from ardm.train.trainer import Trainer

SMALL = ("model.width=16", "model.blocks=2", "train.steps=2", "train.batch=2", "train.valid_every=2")
PAPER = [name for name in shipped() if name.startswith("paper/")]


@pytest.mark.parametrize("name", PAPER)
def test_every_recipe_of_the_paper_takes_steps(name, tmp_path):
    told = load_recipe(name)
    shape = (3, 4, 4) if len(told.model.shape) == 3 else (16,)
    small = [f"model.shape={list(shape)}", *(["model.heads=2"] if told.model.trunk == "transformer" else [])]
    if told.model.embedding:
        small.append("model.embedding=4")
    rng = np.random.default_rng(0)
    for split in ("train", "valid"):
        items = rng.integers(told.model.classes, size=(4, *shape))
        np.save(tmp_path / f"{split}.npy", items.astype(np.uint8 if told.model.classes <= 256 else np.uint16))
    data = (
        "data.name=array", f"data.folder={tmp_path}", f"data.classes={told.model.classes}", "data.train=train",
        "data.valid=valid", "data.length=0", "data.flip=false", "data.rotate=false", "train.valid_items=4",
    )  # fmt: skip
    trainer = Trainer(load_recipe(name, [*SMALL, *small, *data]), tmp_path / "run", device="cpu")
    last = list(trainer)[-1]
    assert last.step == 2
    assert last.valid is not None
    assert last.valid > 0
    assert last.estimator == ("exact" if told.model.causal == "single" else "any-order bound")
