"""One of several training processes: it runs the jobs of a JSON file one after the other, and records the results.

    python distributed.py JOBS OUT     with RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT set

A job: recipe, folder, resume, until (the step after which to stop and save).
"""

import json
import os
import sys
from pathlib import Path

from ardm.errors import ArdmError
from ardm.settings import from_values
from ardm.train.recipe import Recipe
from ardm.train.sharding import local
from ardm.train.trainer import Trainer


def run(job):
    """The record of a run: its steps as (step, loss, norm, valid), and the numbers held by this process and in all."""
    trainer = Trainer(from_values(Recipe, job["recipe"]), job["folder"], job["resume"], device="cpu")
    seen = []
    for p in trainer:
        seen.append((p.step, p.loss, p.norm, p.valid))
        if p.step == job["until"]:
            trainer.save()
            break
    named = dict(trainer.model.named_parameters())
    inner = getattr(trainer.update.optimisers[0], "optimizer", trainer.update.optimisers[0])
    moments = [slots["exp_avg"] for slots in inner.state.values()]
    return {
        "seen": seen,
        "held": sum(local(p).numel() for p in named.values()),
        "moments": sum(local(m).numel() for m in moments),
        "average": sum(local(v).numel() for v in trainer.average.tensors.values()),
        "all": sum(p.numel() for p in named.values()),
        "anyone": [trainer.anyone(trainer.accelerator.process_index == 1), trainer.anyone(False)],
    }


def attempt(job):
    """Run a job; an error is a result, too."""
    try:
        return run(job)
    except ArdmError as error:
        return {"error": str(error)}


def main(jobs, out):
    """Run them all."""
    results = [attempt(job) for job in json.loads(Path(jobs).read_text())]
    Path(f"{out}-{os.environ['RANK']}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    import torch

    main(*sys.argv[1:])
    torch.distributed.barrier()
    os._exit(0)  # as ardm train ends: tearing gloo down aborts a process now and then
